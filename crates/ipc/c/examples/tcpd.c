/* Services over TCP: tcpd. The environment's ADDRESS, 127.0.0.1:9000 if there is none, is where it listens, and
 * IPC_SERVICE_NAME, "tcp" if there is none, is its own service.
 *
 * From outside: a TCP client says the name of a service and nothing else, gets "ok", both without a header, and is
 * switched to that service of the run directory. So whoever reaches ADDRESS reaches every service there, but for this
 * one and ipcd's.
 *
 * To the outside: the service gets a URI as a message, tcp://HOST[:PORT]/SERVICE, mostly from ipcd. A child connects,
 * says the service's name, waits for "ok", answers with the message "ok" and hands the connection over by "ok" without
 * a header; or it answers with the message "no". It is a child, and not this process, because names can take long to
 * resolve.
 *
 * SIGHUP, SIGTERM and SIGINT end it. Port 0 is any that is free; where it listens it says on the standard output. */
#define _GNU_SOURCE
#include "daemon.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Connections of all kinds. For one more, the oldest TCP client goes that has not said its service yet. */
#define PEERS 512
/* Children at the same time; more requests wait. */
#define CHILDREN 16
/* Seconds in which a client has to say its service, or its URI. */
#define PATIENCE 5
/* Seconds for a connection to another machine, and for each step of it. */
#define DIAL 10
#define DIAL_STEP 3
/* The longest URI or name. */
#define TEXT 256
/* Seconds after which a TCP peer counts as gone that does not take what is sent to it. */
#define STALLED 300

enum kind {
    FREE,
    /* A TCP client that has not said its service, or not all of its name. */
    GREETING,
    /* A TCP client and a service. */
    SWITCHED,
    /* Has not said its URI. */
    ASKING,
    /* Has, and waits for a child. */
    WAITING
};

struct peer {
    enum kind kind;
    int fd;
    /* What it is switched with. */
    int other;
    int seconds;
    /* How many came before it. */
    unsigned long number;
    size_t len;
    char text[TEXT];
};

static void *ctx;
static struct peer peers[PEERS];
static int children;
static const char *own_name = "tcp";

static struct peer *find(int fd) {
    for (size_t i = 0; i < PEERS; i++)
        if (peers[i].kind != FREE && (peers[i].fd == fd || (peers[i].kind == SWITCHED && peers[i].other == fd)))
            return &peers[i];
    return NULL;
}

static void drop(struct peer *peer) {
    ipc_close_fd(ctx, peer->fd);
    peer->kind = FREE;
}

static void admit(enum kind kind, int fd) {
    static unsigned long admitted;
    struct peer *place = NULL;
    for (size_t i = 0; i < PEERS && (place == NULL || place->kind != FREE); i++)
        if (peers[i].kind == FREE ||
            (peers[i].kind == GREETING && (place == NULL || peers[i].number < place->number)))
            place = &peers[i];
    if (place == NULL) {
        ipc_close_fd(ctx, fd);
        return;
    }
    if (place->kind != FREE)
        drop(place);
    place->kind = kind;
    place->fd = fd;
    place->seconds = PATIENCE;
    place->number = admitted++;
    place->len = 0;
}

/* For messages of their own, and for peers that went without a word. */
static void tune(int fd) {
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},    {SOL_SOCKET, SO_KEEPALIVE, 1},  {IPPROTO_TCP, TCP_KEEPIDLE, STALLED / 2},
        {IPPROTO_TCP, TCP_KEEPINTVL, 30}, {IPPROTO_TCP, TCP_KEEPCNT, 5}, {IPPROTO_TCP, TCP_USER_TIMEOUT, STALLED * 1000},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

static void accept_client(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        /* The client is still there if the system is out of something: not to be asked again at once. */
        if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            poll(NULL, 0, 100);
        return;
    }
    tune(fd);
    if (ipc_add_external(ctx, fd) == 0)
        admit(GREETING, fd);
    else
        close(fd);
}

/* A client says its service. There is no end to the name but that it waits then: when it came in pieces, there is no
 * service of that name yet. */
static void greet(struct peer *peer) {
    ssize_t count = recv(peer->fd, peer->text + peer->len, sizeof peer->text - peer->len, MSG_DONTWAIT);
    if (count <= 0) {
        if (count == 0 || (errno != EAGAIN && errno != EINTR))
            drop(peer);
        return;
    }
    peer->len += (size_t)count;
    const char *name = peer->text + (peer->text[0] == '/');
    size_t len = peer->len - (peer->text[0] == '/');
    int forbidden = (len == 3 && memcmp(name, "ipc", 3) == 0) ||
                    (len == strlen(own_name) && memcmp(name, own_name, len) == 0);
    int service = forbidden ? -1 : connect_local(name, len);
    if (service < 0) {
        if (peer->len == sizeof peer->text)
            drop(peer);
        return;
    }
    if (ipc_add_external(ctx, service) != 0) {
        close(service);
        drop(peer);
    } else if (send(peer->fd, "ok", 2, MSG_DONTWAIT | MSG_NOSIGNAL) != 2 ||
               ipc_add_switch(ctx, peer->fd, service) != 0) {
        ipc_close_fd(ctx, service);
        drop(peer);
    } else {
        peer->kind = SWITCHED;
        peer->other = service;
    }
}

/* Takes "HOST[:PORT]", "[HOST]:PORT" apart. */
static void split(char *address, char **host, char **port) {
    *host = address;
    *port = "9000";
    if (*address == '[') {
        *host = ++address;
        address = strchr(address, ']');
        if (address == NULL)
            return;
        *address++ = '\0';
    }
    char *colon = strchr(address, ':');
    if (colon != NULL) {
        *colon = '\0';
        *port = colon + 1;
    }
}

static struct addrinfo *resolve(char *address, int flags) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
    char *host, *port;
    split(address, &host, &port);
    return getaddrinfo(host, port, &hints, &found) == 0 ? found : NULL;
}

/* Calls that wait for ever if `seconds` is 0. */
static void limit_steps(int fd, long seconds) {
    struct timeval time = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

/* A connection to the service of a URI. */
static int dial(char *uri) {
    char *address = strstr(uri, "://"), ok[2];
    if (address == NULL)
        return -1;
    address += 3;
    size_t host_len = strcspn(address, "/");
    char *name = address + host_len + strspn(address + host_len, "/");
    address[host_len] = '\0';
    size_t len = strlen(name);
    struct addrinfo *found = len > 0 ? resolve(address, 0) : NULL;
    int fd = -1;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        limit_steps(fd, DIAL_STEP);
        tune(fd);
        if (connect(fd, at->ai_addr, at->ai_addrlen) != 0 || send(fd, name, len, MSG_NOSIGNAL) != (ssize_t)len ||
            recv(fd, ok, sizeof ok, MSG_WAITALL) != sizeof ok || memcmp(ok, "ok", sizeof ok) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (found != NULL)
        freeaddrinfo(found);
    if (fd >= 0)
        limit_steps(fd, 0);
    return fd;
}

/* What a child does: it has nothing of the parent's but the connection to whoever asks. */
static void serve(int asker, char *uri) {
    for (long fd = sysconf(_SC_OPEN_MAX) - 1; fd > STDERR_FILENO; fd--)
        if (fd != asker)
            close((int)fd);
    /* Whatever it waits for, it ends. */
    alarm(DIAL);
    int fd = dial(uri);
    if (fd < 0)
        send_framed(asker, "no", 2);
    else if (send_framed(asker, "ok", 2) == 0)
        hand_over(asker, fd);
    _exit(0);
}

static void start_children(void) {
    while (children > 0 && waitpid(-1, NULL, WNOHANG) > 0)
        children--;
    while (children < CHILDREN) {
        struct peer *first = NULL;
        for (size_t i = 0; i < PEERS; i++)
            if (peers[i].kind == WAITING && (first == NULL || peers[i].number < first->number))
                first = &peers[i];
        if (first == NULL)
            return;
        pid_t child = fork();
        if (child == 0)
            serve(first->fd, first->text);
        if (child > 0)
            children++;
        drop(first);
    }
}

static void tick(void) {
    for (size_t i = 0; i < PEERS; i++)
        if (peers[i].kind != FREE && peers[i].kind != SWITCHED && --peers[i].seconds <= 0)
            drop(&peers[i]);
}

/* A socket that listens, in the context. */
static int listen_at(const char *where) {
    char address[TEXT], host[NI_MAXHOST], port[NI_MAXSERV];
    if (strlen(where) >= sizeof address)
        return -1;
    strcpy(address, where);
    struct addrinfo *found = resolve(address, AI_PASSIVE);
    if (found == NULL)
        return -1;
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
             bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 64) == 0 &&
             getsockname(fd, (struct sockaddr *)&bound, &len) == 0 &&
             getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
                         NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
             ipc_add_external(ctx, fd) == 0;
    freeaddrinfo(found);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    printf(strchr(host, ':') != NULL ? "[%s]:%s\n" : "%s:%s\n", host, port);
    fflush(stdout);
    return fd;
}

int main(void) {
    /* For URIs; of longer messages, those that are switched, nothing is looked at. */
    static char message[TEXT];
    const char *where = getenv("ADDRESS") ? getenv("ADDRESS") : "127.0.0.1:9000";
    int service, listener, status = 0;
    if (getenv("IPC_SERVICE_NAME") != NULL)
        own_name = getenv("IPC_SERVICE_NAME");
    /* A child goes through all numbers there may be. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * PEERS + 64) {
        files.rlim_cur = 2 * PEERS + 64;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (ipc_context_init(&ctx) != 0)
        return 1;
    if (catch_signals(ctx, (const int[]){SIGHUP, SIGTERM, SIGINT, SIGCHLD}, 4) != 0 ||
        ipc_service_init(ctx, &service, own_name, (uint16_t)strlen(own_name)) != 0) {
        fprintf(stderr, "tcpd: cannot open the service %s: does it run already? Can RUNDIR be written to?\n", own_name);
        ipc_context_deinit(&ctx);
        return 1;
    }
    listener = listen_at(where);
    if (listener < 0) {
        fprintf(stderr, "tcpd: cannot listen at %s\n", where);
        ipc_context_deinit(&ctx);
        return 1;
    }
    ipc_context_timer(ctx, 1000);
    for (;;) {
        char type;
        size_t index, len = sizeof message - 1;
        int fd, newfd, waited = ipc_wait_event(ctx, &type, &index, &fd, &newfd, message, &len);
        if (waited == -1) {
            status = 1;
            break;
        }
        struct peer *peer = type == TIMER || type == CONNECTION ? NULL : find(fd);
        if (type == EXTERNAL && fd == signal_pipe[0]) {
            if (has_to_end())
                break;
        } else if (type == EXTERNAL && fd == listener)
            accept_client(listener);
        else if (type == EXTERNAL && peer != NULL && peer->kind == GREETING)
            greet(peer);
        else if (type == CONNECTION)
            admit(ASKING, newfd);
        else if (type == MESSAGE_RX && peer != NULL) {
            if (peer->kind == ASKING && waited == 0 && memchr(message, '\0', len) == NULL) {
                peer->kind = WAITING;
                peer->seconds = PATIENCE;
                memcpy(peer->text, message, len);
                peer->text[len] = '\0';
            } else
                drop(peer);
        } else if ((type == DISCONNECTION || type == ERROR) && peer != NULL) {
            /* The library closes both ends of a switch, the other once it has got what is on the way to it. */
            if (type == DISCONNECTION || peer->kind == SWITCHED)
                peer->kind = FREE;
            else
                drop(peer);
        } else if (type == TIMER)
            tick();
        start_children();
    }
    ipc_context_deinit(&ctx);
    close(signal_pipe[1]);
    return status;
}
