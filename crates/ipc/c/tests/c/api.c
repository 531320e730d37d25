/* Every function of libipc.h, used well and badly, against peers that know no more than the wire. What leaks or is
 * freed twice, valgrind and AddressSanitizer say. */
#define _POSIX_C_SOURCE 200809L
#include "libipc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* The signatures of the seed page. */
static int (*const init)(void **) = ipc_context_init;
static void (*const deinit)(void **) = ipc_context_deinit;
static void (*const timer)(void *, int) = ipc_context_timer;
static int (*const service_init)(void *, int *, const char *, uint16_t) = ipc_service_init;
static int (*const connect_service)(void *, int *, const char *, uint16_t) = ipc_connect_service;
static int (*const write_message)(void *, int, const char *, size_t) = ipc_write;
static int (*const schedule)(void *, int, const char *, size_t) = ipc_schedule;
static int (*const read_fd)(void *, int, char *, size_t *) = ipc_read_fd;
static int (*const read_index)(void *, size_t, char *, size_t *) = ipc_read;
static int (*const wait_event)(void *, char *, size_t *, int *, int *, char *, size_t *) = ipc_wait_event;
static int (*const close_fd)(void *, int) = ipc_close_fd;
static int (*const close_index)(void *, size_t) = ipc_close;
static int (*const close_all)(void *) = ipc_close_all;
static int (*const add_external)(void *, int) = ipc_add_external;
static int (*const add_switch)(void *, int, int) = ipc_add_switch;
typedef char (*input)(int, char *, size_t *);
typedef char (*output)(int, const char *, size_t);
static int (*const set_switch_callbacks)(void *, int, input, output) = ipc_set_switch_callbacks;

_Static_assert(ERROR == 0 && CONNECTION == 1 && DISCONNECTION == 2 && MESSAGE_RX == 3 && MESSAGE_TX == 4, "events");
_Static_assert(TIMER == 5 && EXTERNAL == 6 && SWITCH_RX == 7 && SWITCH_TX == 8, "events");
_Static_assert(CB_NO_ERROR == 0 && CB_ERROR == 1 && CB_FD_CLOSING == 2 && CB_IGNORE == 3, "callbacks");

static void *ctx;
static char buffer[IPC_BASE_SIZE];

/* The last event. */
static char type;
static size_t event_index, len;
static int originfd, newfd;

static int next(void) {
    len = sizeof buffer;
    REQUIRE(wait_event(ctx, &type, &event_index, &originfd, &newfd, buffer, &len) == 0);
    return type;
}

static int says(const char *text) {
    return len == strlen(text) && memcmp(buffer, text, len) == 0;
}

static int raw_connect(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", getenv("RUNDIR"), name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void put(int fd, const void *bytes, size_t count) {
    REQUIRE(write(fd, bytes, count) == (ssize_t)count);
}

static int gets(int fd, const void *bytes, size_t count) {
    char got[64];
    REQUIRE(count <= sizeof got);
    return recv(fd, got, count, MSG_WAITALL) == (ssize_t)count && memcmp(got, bytes, count) == 0;
}

static int at_end(int fd) {
    char byte;
    return read(fd, &byte, 1) == 0;
}

static void bad_arguments(void) {
    void *none = NULL;
    int fd = 77;
    size_t index = 77;
    CHECK(init(NULL) == -1);
    deinit(NULL);
    deinit(&none);
    timer(NULL, 1);
    CHECK(service_init(NULL, &fd, "a", 1) == -1 && connect_service(NULL, &fd, "a", 1) == -1);
    CHECK(write_message(NULL, 0, "a", 1) == -1 && schedule(NULL, 0, "a", 1) == -1);
    CHECK(read_fd(NULL, 0, buffer, &index) == -1 && read_index(NULL, 0, buffer, &index) == -1);
    CHECK(wait_event(NULL, &type, &index, &fd, &fd, buffer, &index) == -1);
    CHECK(close_fd(NULL, 0) == -1 && close_index(NULL, 0) == -1 && close_all(NULL) == -1);
    CHECK(add_external(NULL, 0) == -1 && add_switch(NULL, 0, 1) == -1);
    CHECK(set_switch_callbacks(NULL, 0, NULL, NULL) == -1);

    CHECK(service_init(ctx, NULL, "a", 1) == -1 && service_init(ctx, &fd, NULL, 1) == -1);
    CHECK(service_init(ctx, &fd, "a/b", 3) == -1 && service_init(ctx, &fd, "a", 0) == -1);
    CHECK(connect_service(ctx, &fd, "nobody", 6) == -1 && fd == 77);
    CHECK(write_message(ctx, 12345, "a", 1) == -1 && schedule(ctx, 12345, "a", 1) == -1);
    CHECK(read_fd(ctx, 12345, buffer, &index) == -1 && read_index(ctx, 5, buffer, &index) == -1);
    CHECK(wait_event(ctx, NULL, &index, &fd, &fd, buffer, &index) == -1);
    CHECK(wait_event(ctx, &type, &index, &fd, &fd, buffer, NULL) == -1);
    CHECK(wait_event(ctx, &type, &index, &fd, &fd, NULL, &index) == -1 && index == 77);
    CHECK(close_fd(ctx, 12345) == -1 && close_index(ctx, 5) == -1);
    CHECK(add_external(ctx, -1) == -1 && add_external(ctx, 12345) == -1);
    CHECK(add_switch(ctx, 1, 2) == -1);
    CHECK(set_switch_callbacks(ctx, 1, NULL, NULL) == -1);
}

static void messages(void) {
    int service, again;
    struct stat info;
    char path[200];
    CHECK(service_init(ctx, &service, "api", 3) == 0);
    CHECK(service_init(ctx, &again, "api", 3) == -1);
    CHECK(stat(getenv("RUNDIR"), &info) == 0 && (info.st_mode & 07777) == 0770);
    snprintf(path, sizeof path, "%s/api", getenv("RUNDIR"));
    CHECK(stat(path, &info) == 0 && S_ISSOCK(info.st_mode) && (info.st_mode & 07777) == 0660);
    CHECK(write_message(ctx, service, "a", 1) == -1 && schedule(ctx, service, "a", 1) == -1);

    int raw = raw_connect("api");
    CHECK(next() == CONNECTION && originfd == service && event_index == 1 && newfd != service && len == 0);
    int fd = newfd;
    put(raw, "\0\0\0\005hello\0\0\0\0\0\0\0", 16);
    CHECK(next() == MESSAGE_RX && originfd == fd && newfd == -1 && event_index == 1 && says("hello"));
    CHECK(next() == MESSAGE_RX && says(""));
    put(raw, "\002hi", 3);
    CHECK(next() == MESSAGE_RX && says("hi"));

    CHECK(write_message(ctx, fd, "hello", 5) == 0 && gets(raw, "\0\0\0\005hello", 9));
    CHECK(schedule(ctx, fd, "one", 3) == 0 && schedule(ctx, fd, NULL, 0) == 0 && schedule(ctx, fd, "three", 5) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(next() == MESSAGE_TX && originfd == fd && len == 0);
    CHECK(gets(raw, "\0\0\0\003one\0\0\0\0\0\0\0\005three", 20));

    static char big[IPC_MAX_MESSAGE_SIZE + 1];
    CHECK(write_message(ctx, fd, big, sizeof big) == -1 && schedule(ctx, fd, big, sizeof big) == -1);
    CHECK(write_message(ctx, fd, "a", (size_t)-1) == -1 && schedule(ctx, fd, "a", (size_t)-1) == -1);
    CHECK(write_message(ctx, fd, NULL, 1) == -1);
    CHECK(write_message(ctx, fd, "sane", 4) == 0 && gets(raw, "\0\0\0\004sane", 8));

    /* A queue is bounded. */
    int status;
    size_t queued = 0;
    while ((status = schedule(ctx, fd, big, sizeof big - 1)) == 0)
        queued++;
    CHECK(status == -2 && queued > 30);

    /* So is what all peers hold. */
    ipc_context_memory(NULL, 1);
    ipc_context_memory(ctx, 1 << 20);
    while (next() != DISCONNECTION)
        REQUIRE(type == MESSAGE_TX);
    CHECK(originfd == fd);
    close(raw);
    ipc_context_memory(ctx, 8 << 20);
    raw = raw_connect("api");
    CHECK(next() == CONNECTION);
    fd = newfd;
    CHECK(schedule(ctx, fd, big, sizeof big - 1) == 0);

    /* A buffer that is too small. */
    int other = raw_connect("api");
    while (next() != CONNECTION)
        REQUIRE(type == MESSAGE_TX);
    int other_fd = newfd;
    CHECK(close_fd(ctx, fd) == 0 && close_fd(ctx, fd) == -1);
    close(raw);
    put(other, "\0\0\0\005hello\0\0\0\003one\0\0\0\003two", 23);
    memset(buffer, '-', sizeof buffer);
    len = 2;
    CHECK(wait_event(ctx, &type, &event_index, &originfd, NULL, buffer, &len) == -4);
    CHECK(type == MESSAGE_RX && originfd == other_fd && len == 5 && memcmp(buffer, "he-", 3) == 0);
    len = 2;
    CHECK(read_fd(ctx, other_fd, buffer, &len) == -3 && len == 3);
    CHECK(read_fd(ctx, other_fd, buffer, &len) == 0 && says("one"));
    CHECK(read_index(ctx, event_index, buffer, &len) == 0 && says("two"));

    /* A peer that breaks the protocol, and one that goes. */
    int bad = raw_connect("api");
    CHECK(next() == CONNECTION);
    int bad_fd = newfd;
    put(bad, "\377\377\377\377", 4);
    CHECK(next() == DISCONNECTION && originfd == bad_fd && len == 0);
    CHECK(at_end(bad));
    close(bad);
    close(other);
    CHECK(read_fd(ctx, other_fd, buffer, &(size_t){sizeof buffer}) == -2);
    CHECK(write_message(ctx, other_fd, "x", 1) == -1);
    CHECK(next() == DISCONNECTION && originfd == other_fd);

    timer(ctx, 1);
    CHECK(next() == TIMER && event_index == 0 && originfd == 0 && len == 0);
    timer(ctx, -1);
    CHECK(close_index(ctx, 0) == 0);
    CHECK(stat(path, &info) == -1 && errno == ENOENT);
}

static void two_contexts(void) {
    int service, client_fd;
    void *client;
    CHECK(service_init(ctx, &service, "two", 3) == 0);
    CHECK(init(&client) == 0 && connect_service(client, &client_fd, "two", 3) == 0);
    CHECK(next() == CONNECTION);
    CHECK(write_message(client, client_fd, "ping", 4) == 0);
    CHECK(next() == MESSAGE_RX && says("ping"));
    CHECK(write_message(ctx, originfd, "pong", 4) == 0);
    len = sizeof buffer;
    CHECK(read_fd(client, client_fd, buffer, &len) == 0 && says("pong"));
    deinit(&client);
    CHECK(client == NULL);
    CHECK(next() == DISCONNECTION);
    CHECK(close_all(ctx) == 0);
}

static void externals(void) {
    int pair[2], out[2];
    char byte;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(out) == 0);
    CHECK(add_external(ctx, pair[0]) == 0 && add_external(ctx, pair[0]) == -1);
    put(pair[1], "x", 1);
    CHECK(next() == EXTERNAL && originfd == pair[0] && len == 0);
    CHECK(read(pair[0], &byte, 1) == 1 && byte == 'x');
    close(pair[1]);
    CHECK(next() == DISCONNECTION && originfd == pair[0]);
    CHECK(fcntl(pair[0], F_GETFD) == -1);

    /* Of a pipe no flag holds SIGPIPE back. */
    CHECK(add_external(ctx, out[1]) == 0);
    close(out[0]);
    CHECK(write_message(ctx, out[1], "x", 1) == -1);
    CHECK(next() == DISCONNECTION);

    /* What cannot be waited for stays the caller's. */
    int file = open(getenv("RUNDIR"), O_RDONLY);
    CHECK(add_external(ctx, file) == -1 && close(file) == 0);
}

static int inner_status;

/* One byte of the other protocol is a message. */
static char in(int fd, char *payload, size_t *mlen) {
    char byte;
    inner_status = ipc_close_all(ctx);
    if (*mlen != IPC_BASE_SIZE || read(fd, &byte, 1) != 1)
        return CB_FD_CLOSING;
    if (byte == '#')
        return CB_IGNORE;
    if (byte == '!')
        return CB_ERROR;
    memcpy(payload, "\0\0\0\001", 4);
    payload[4] = byte;
    *mlen = byte == '+' ? IPC_BASE_SIZE + 1 : 5;
    return CB_NO_ERROR;
}

/* Declared as the seed page reads by the letter; what counts is the lowest byte. */
static char *out(int fd, const char *payload, size_t mlen) {
    if (payload[4] == '#')
        return (char *)(uintptr_t)(0x7f00 | CB_IGNORE);
    put(fd, payload + 4, mlen - 4);
    return (char *)(uintptr_t)(0x7f00 | CB_NO_ERROR);
}

static void switches(void) {
    const char ends[] = "!+";
    for (size_t i = 0; i <= strlen(ends); i++) {
        int plain[2], framed[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, plain) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, framed) == 0);
        CHECK(add_external(ctx, plain[0]) == 0 && add_external(ctx, framed[0]) == 0);
        CHECK(add_switch(ctx, plain[0], framed[0]) == 0 && add_switch(ctx, plain[0], framed[0]) == -1);
        CHECK(set_switch_callbacks(ctx, plain[0], in, (output)(void (*)(void))out) == 0);
        put(plain[1], "#a", 2);
        CHECK(next() == SWITCH_RX && originfd == plain[0] && says("a") && inner_status == -1);
        CHECK(next() == SWITCH_TX && originfd == framed[0] && len == 0);
        CHECK(gets(framed[1], "\0\0\0\001a", 5));
        put(framed[1], "\0\0\0\001#\0\0\0\002ok", 11);
        int received = 0, sent = 0;
        while (sent == 0) {
            next();
            received += type == SWITCH_RX && originfd == framed[0];
            sent += type == SWITCH_TX && originfd == plain[0];
        }
        CHECK(received == 2 && gets(plain[1], "ok", 2));
        if (ends[i] == '\0') {
            close(plain[1]);
            CHECK(next() == DISCONNECTION && originfd == plain[0]);
        } else {
            put(plain[1], &ends[i], 1);
            CHECK(next() == ERROR && originfd == plain[0]);
            CHECK(at_end(plain[1]));
            close(plain[1]);
        }
        CHECK(at_end(framed[1]));
        close(framed[1]);
        CHECK(close_fd(ctx, plain[0]) == -1 && close_fd(ctx, framed[0]) == -1);
    }
    /* NULL is the library's own way. */
    int a[2], b[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0);
    REQUIRE(add_external(ctx, a[0]) == 0 && add_external(ctx, b[0]) == 0 && add_switch(ctx, a[0], b[0]) == 0);
    CHECK(set_switch_callbacks(ctx, a[0], in, NULL) == 0);
    CHECK(set_switch_callbacks(ctx, a[0], NULL, NULL) == 0);
    put(a[1], "\0\0\0\002ok", 6);
    CHECK(next() == SWITCH_RX && next() == SWITCH_TX && gets(b[1], "\0\0\0\002ok", 6));
    close(a[1]);
    close(b[1]);
    CHECK(close_all(ctx) == 0);
}

/* The lowest number that is free, which a leak moves. */
static int free_fd(void) {
    int fd = dup(0);
    REQUIRE(close(fd) == 0);
    return fd;
}

/* A daemon that says no, and hands over two file descriptors, where there is room for one. */
static void a_hostile_daemon(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/ipc", getenv("RUNDIR"));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        union {
            struct cmsghdr header;
            char room[CMSG_SPACE(2 * sizeof(int))];
        } control = {.header = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
        memcpy(CMSG_DATA(&control.header), (int[]){0, 0}, 2 * sizeof(int));
        struct iovec part = {"no", 2};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        int asker = accept(listener, NULL, NULL);
        _exit(recv(asker, buffer, sizeof buffer, 0) <= 0 || sendmsg(asker, &message, 0) != 2);
    }
    /* Only now, or valgrind takes it for lost in the child. */
    REQUIRE(init(&ctx) == 0);
    int before = free_fd(), status;
    struct rlimit limit, few;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    few = limit;
    few.rlim_cur = (rlim_t)before + 2;
    REQUIRE(setenv("IPC_NETWORK", "far tcp://192.0.2.1/far", 1) == 0 && setrlimit(RLIMIT_NOFILE, &few) == 0);
    CHECK(connect_service(ctx, &fd, "far", 3) == -1);
    REQUIRE(unsetenv("IPC_NETWORK") == 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
    /* The first number was the connection's to the daemon, the second that of what it handed over. */
    CHECK(fcntl(before, F_GETFD) == -1 && fcntl(before + 1, F_GETFD) == -1);
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    close(listener);
    deinit(&ctx);
}

int main(void) {
    char dir[] = "/tmp/libipc.XXXXXX", run[64], command[128];
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(run, sizeof run, "%s/run", dir);
    REQUIRE(setenv("RUNDIR", run, 1) == 0);
    int before = free_fd();
    CHECK(init(&ctx) == 0);
    bad_arguments();
    messages();
    two_contexts();
    externals();
    switches();
    deinit(&ctx);
    CHECK(ctx == NULL);
    deinit(&ctx);
    CHECK(free_fd() == before);
    a_hostile_daemon();
    CHECK(free_fd() == before);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    CHECK(system(command) == 0);
    return report();
}
