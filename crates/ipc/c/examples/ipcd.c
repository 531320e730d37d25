/* The network daemon: ipcd. A program whose environment has IPC_NETWORK asks it, service "ipc" of the run directory, for
 * its connections: "SERVICE;IPC_NETWORK", where IPC_NETWORK is "SERVICE URI; SERVICE URI; ...". The answer is "ok",
 * without a header, with the connection, or "no".
 *
 * A service without a URI, or with unix://NAME (unix:// alone is its own name), is one of this run directory. For any
 * other scheme there is a daemon, which is the service that is named like it: it gets the URI as a message, and
 * answers with the message "ok", then "ok" without a header and with the connection. It may take its time; nobody else
 * waits for it.
 *
 * SIGHUP, SIGTERM and SIGINT end it. */
#define _GNU_SOURCE
#include "daemon.h"

/* Who is asking at the same time; more are sent away. */
#define ASKERS 256
/* Seconds that one may take, with all that is done for it. */
#define PATIENCE 15
/* The longest request. */
#define REQUEST 4096

/* What a daemon answers, both times. */
static const char done[8] = "\0\0\0\2okok";

struct asker {
    /* -1 if this place is free. */
    int fd;
    /* The daemon's connection, if that was asked, and what it said. */
    int daemon;
    size_t said;
    int seconds;
};

static void *ctx;
static struct asker askers[ASKERS];
static int asking;

static struct asker *find(int fd) {
    for (size_t i = 0; i < ASKERS; i++)
        if (askers[i].fd == fd || (fd >= 0 && askers[i].fd >= 0 && askers[i].daemon == fd))
            return &askers[i];
    return NULL;
}

static void admit(int fd) {
    struct asker *asker = find(-1);
    if (asker == NULL) {
        ipc_close_fd(ctx, fd);
        return;
    }
    *asker = (struct asker){.fd = fd, .daemon = -1, .seconds = PATIENCE};
    if (asking++ == 0)
        ipc_context_timer(ctx, 1000);
}

/* What the library has closed already it does not know any more. */
static void forget(struct asker *asker) {
    ipc_close_fd(ctx, asker->fd);
    if (asker->daemon >= 0)
        ipc_close_fd(ctx, asker->daemon);
    asker->fd = -1;
    if (--asking == 0)
        ipc_context_timer(ctx, -1);
}

/* Answers with a connection, which is closed here, or refuses. */
static void answer(struct asker *asker, int fd) {
    if (fd < 0)
        send(asker->fd, "no", 2, MSG_DONTWAIT | MSG_NOSIGNAL);
    else {
        hand_over(asker->fd, fd);
        close(fd);
    }
    forget(asker);
}

/* The URI of a service in "SERVICE;NAME URI; NAME URI ...", or "". */
static const char *uri_of(char *request, const char **service) {
    char *rest, *words;
    *service = strtok_r(request, ";", &rest);
    for (char *entry; *service != NULL && (entry = strtok_r(NULL, ";", &rest)) != NULL;) {
        const char *name = strtok_r(entry, " ", &words), *uri = strtok_r(NULL, " ", &words);
        if (name != NULL && uri != NULL && strcmp(name, *service) == 0)
            return uri;
    }
    return "";
}

static void ask(struct asker *asker, char *request) {
    const char *service, *uri = uri_of(request, &service), *scheme_end = strstr(uri, "://");
    if (service == NULL || asker->daemon >= 0 || (*uri != '\0' && scheme_end == NULL)) {
        answer(asker, -1);
        return;
    }
    if (*uri == '\0' || strncmp(uri, "unix://", 7) == 0) {
        const char *name = *uri == '\0' ? "" : uri + 7 + strspn(uri + 7, "/");
        if (*name == '\0')
            name = service;
        answer(asker, connect_local(name, strlen(name)));
        return;
    }
    int daemon = connect_local(uri, (size_t)(scheme_end - uri));
    if (daemon < 0 || send_framed(daemon, uri, strlen(uri)) != 0 || ipc_add_external(ctx, daemon) != 0) {
        if (daemon >= 0)
            close(daemon);
        answer(asker, -1);
        return;
    }
    asker->daemon = daemon;
}

/* A daemon says something. */
static void hear(struct asker *asker) {
    char bytes[sizeof done];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec into = {.iov_base = bytes, .iov_len = sizeof done - asker->said};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(asker->daemon, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int fd = -1;
    /* There is room for one header. That for one file descriptor may be room for two, because of its alignment. */
    const struct cmsghdr *header = count >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        for (size_t at = 0; CMSG_LEN(at + sizeof fd) <= header->cmsg_len; at += sizeof fd) {
            if (fd >= 0)
                close(fd);
            memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
        }
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int right = count > 0 && memcmp(bytes, done + asker->said, (size_t)count) == 0;
    if (right)
        asker->said += (size_t)count;
    /* With the connection it is complete, and without it at its end. */
    if (right && fd < 0 && asker->said < sizeof done)
        return;
    if (!right && fd >= 0) {
        close(fd);
        fd = -1;
    }
    answer(asker, fd);
}

int main(void) {
    static char request[REQUEST + 1];
    int service, status = 0;
    for (size_t i = 0; i < ASKERS; i++)
        askers[i].fd = -1;
    if (ipc_context_init(&ctx) != 0)
        return 1;
    if (catch_signals(ctx, (const int[]){SIGHUP, SIGTERM, SIGINT}, 3) != 0 ||
        ipc_service_init(ctx, &service, "ipc", 3) != 0) {
        fprintf(stderr, "ipcd: cannot open the service ipc: does it run already? Can RUNDIR be written to?\n");
        ipc_context_deinit(&ctx);
        return 1;
    }
    ipc_context_memory(ctx, 1 << 20);
    for (;;) {
        char type;
        size_t index, len = REQUEST;
        int fd, newfd, waited = ipc_wait_event(ctx, &type, &index, &fd, &newfd, request, &len);
        if (waited == -1) {
            status = 1;
            break;
        }
        if (type == EXTERNAL && fd == signal_pipe[0]) {
            if (has_to_end())
                break;
            continue;
        }
        struct asker *asker = type == TIMER ? NULL : find(fd);
        if (type == CONNECTION)
            admit(newfd);
        else if (type == MESSAGE_RX && asker != NULL) {
            /* Longer than the buffer, or not a string. */
            if (waited != 0 || memchr(request, '\0', len) != NULL)
                answer(asker, -1);
            else {
                request[len] = '\0';
                ask(asker, request);
            }
        } else if (type == EXTERNAL && asker != NULL)
            hear(asker);
        else if (type == DISCONNECTION && asker != NULL) {
            if (fd == asker->daemon)
                answer(asker, -1);
            else
                forget(asker);
        } else if (type == TIMER)
            for (size_t i = 0; i < ASKERS; i++)
                if (askers[i].fd >= 0 && --askers[i].seconds <= 0)
                    answer(&askers[i], -1);
    }
    ipc_context_deinit(&ctx);
    close(signal_pipe[1]);
    return status;
}
