/* A program with a loop of its own: it answers every text with the same text, and never waits but in epoll_wait.
 *
 *   qpc_epoll qpc://HOST:PORT/#FINGERPRINT USER [PASSWORD]
 *
 * With the password it logs in, or registers, and keeps a key file; later it starts without, also while the relay is away.
 * A line on standard input ends it. */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <quicprochat.h>

static QpqHandle *log_in(const char *address, const char *user, const char *password)
{
    QpcOptions *options = qpc_options_new();
    qpc_options_set_key_file(options, 1);
    QpqHandle *handle = password ? qpc_connect_address(address, options) : qpc_open(address, user, options);
    qpc_options_free(options);
    if (!handle) {
        fprintf(stderr, "%s\n", qpc_last_connect_error());
        return NULL;
    }
    if (password && qpc_login(handle, user, password) == QPC_AUTH_FAILED)
        qpc_register(handle, user, password);
    if (qpc_last_error(handle)) {
        fprintf(stderr, "%s\n", qpc_last_error(handle));
        qpc_disconnect(handle);
        return NULL;
    }
    return handle;
}

static void answer(QpqHandle *handle, const QpcMessage *message)
{
    QpcSend send = {.size = sizeof send, .kind = message->kind, .flags = QPC_SEND_QUEUED,
                    .body = message->body, .body_len = message->body_len};
    if (message->kind == QPC_KIND_TEXT && qpc_send_message(handle, message->sender, &send) != QPC_OK)
        fprintf(stderr, "%s\n", qpc_last_error(handle));
}

/* Takes what has happened; 0 if there is no use in going on. */
static int events(QpqHandle *handle)
{
    QpcEvent *event;
    int32_t rc;
    while ((rc = qpc_next_event(handle, &event)) == QPC_OK) {
        switch (event->kind) {
        case QPC_EVENT_CONNECTED:
            printf("connected\n");
            break;
        case QPC_EVENT_DISCONNECTED:
            printf("disconnected: %s\n", event->text);
            break;
        case QPC_EVENT_MESSAGE:
            printf("%s wrote %zu bytes\n", event->message->sender, event->message->body_len);
            answer(handle, event->message);
            break;
        case QPC_EVENT_NOT_SENT:
            printf("%s did not get an answer: %s\n", event->user, event->text);
            break;
        case QPC_EVENT_IDENTITY_CHANGED:
            printf("%s has another identity and gets no answers\n", event->user);
            break;
        }
        qpc_event_free(event);
    }
    fflush(stdout);
    if (rc != QPC_TIMEOUT)
        fprintf(stderr, "%s\n", qpc_last_error(handle));
    return rc == QPC_TIMEOUT;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s ADDRESS USER [PASSWORD]\n", argv[0]);
        return 2;
    }
    QpqHandle *handle = log_in(argv[1], argv[2], argv[3]);
    if (!handle)
        return 1;
    int loop = epoll_create1(EPOLL_CLOEXEC), fds[] = {qpc_event_fd(handle), STDIN_FILENO}, going = 1;
    for (int i = 0; i < 2; i++)
        epoll_ctl(loop, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLIN, .data.fd = fds[i]});
    while (going) {
        struct epoll_event ready;
        if (epoll_wait(loop, &ready, 1, -1) == 1)
            going = ready.data.fd == fds[0] && events(handle);
    }
    close(loop);
    qpc_disconnect(handle);
    return 0;
}
