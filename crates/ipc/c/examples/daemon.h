/* What ipcd and tcpd share: they end by a signal, connect to services without waiting, and hand file descriptors over. */
#include <libipc.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Signals arrive as a byte each in a pipe, which is an external file descriptor of the context. */
static int signal_pipe[2];

static void on_signal(int number) {
    int before = errno;
    /* If the pipe is full there is enough in it. */
    if (write(signal_pipe[1], &(char){(char)number}, 1) < 0) {
    }
    errno = before;
}

static int catch_signals(void *ctx, const int *numbers, size_t count) {
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0 || ipc_add_external(ctx, signal_pipe[0]) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        if (sigaction(numbers[i], &action, NULL) != 0)
            return -1;
    }
    return 0;
}

/* Whether a signal came that ends the program: any but SIGCHLD. */
static int has_to_end(void) {
    char number;
    while (read(signal_pipe[0], &number, 1) == 1)
        if (number != SIGCHLD)
            return 1;
    return 0;
}

/* A connection to a service of the run directory. It does not wait: a service that hangs, and has as many connections
 * waiting as the kernel keeps, is an error as one is that does not run. */
static int connect_local(const char *name, size_t len) {
    const char *dir = getenv("RUNDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (len == 0 || memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL)
        return -1;
    int room = (int)sizeof address.sun_path, name_len = len < (size_t)room ? (int)len : room;
    if (dir == NULL || *dir == '\0')
        dir = "/tmp/.libipc-run";
    int used = snprintf(address.sun_path, sizeof address.sun_path, "%s/%.*s", dir, name_len, name);
    if (used < 0 || used >= room)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Whoever gets it may count on calls that wait. */
    if (fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || fcntl(fd, F_SETFL, 0) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A short message with its header, to a peer that has room for it. */
static int send_framed(int to, const char *message, size_t len) {
    char frame[IPC_HEADER_SIZE + 1024] = {0, 0, (char)(len >> 8), (char)len};
    if (len > sizeof frame - IPC_HEADER_SIZE)
        return -1;
    memcpy(frame + IPC_HEADER_SIZE, message, len);
    len += IPC_HEADER_SIZE;
    return send(to, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

/* "ok" without a header, and with it a file descriptor. */
static int hand_over(int to, int fd) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec ok = {.iov_base = "ok", .iov_len = 2};
    struct msghdr message = {
        .msg_iov = &ok, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 2 ? 0 : -1;
}
