/* Asks somebody and prints the answer, through the agent of this machine (`qpc agent`): with the router's account, but without
 * its password, keys or the relay's address.
 *
 *   qpc_ask WHO "open the gate?"
 *
 * The answer is the next text of WHO's within a minute, printed as it is. The run directory is QPC_RUN_DIR's, or else
 * /var/run/qpc-agent; who may, says the agent's owner (send and receive).
 *
 * Messages that nobody has read yet count as read: use it where no other program waits for the account's messages.
 *
 * Exit status: 0 answered; 1 not asked; 2 usage; 3 no answer in time; 4 nor has the relay confirmed the question, which waits in
 * the agent's journal and goes out by itself. Only after 1 is it to be asked again. An agent that is started again meanwhile is
 * waited for. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <quicprochat.h>

enum { PATIENCE = 60 };

static time_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* What came before the question is no answer to it. */
static int32_t forget(QpqHandle *handle)
{
    QpcMessages *messages;
    int32_t rc;
    while ((rc = qpc_receive_messages(handle, 0, &messages)) == QPC_OK)
        qpc_messages_free(messages);
    return rc == QPC_TIMEOUT ? QPC_OK : rc;
}

static int print_answer(QpqHandle *handle, const char *who)
{
    int found = 0;
    for (time_t left, end = now() + PATIENCE; !found && (left = end - now()) > 0;) {
        QpcMessages *messages;
        int32_t rc = qpc_receive_messages(handle, (uint32_t)left * 1000, &messages);
        if (rc != QPC_OK) {
            if (rc != QPC_TIMEOUT)
                sleep(1);
            continue;
        }
        for (size_t i = 0; !found && i < messages->count; i++) {
            const QpcMessage *message = messages->messages[i];
            found = message->kind == QPC_KIND_TEXT && strcmp(message->sender, who) == 0;
            if (found)
                printf("%s\n", message->body);
        }
        qpc_messages_free(messages);
    }
    return found;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s WHO QUESTION\n", argv[0]);
        return 2;
    }
    QpqHandle *handle = qpc_connect_agent(NULL, NULL);
    if (!handle) {
        fprintf(stderr, "%s\n", qpc_last_connect_error());
        return 1;
    }
    int32_t rc = forget(handle);
    if (rc == QPC_OK)
        rc = qpc_send(handle, argv[1], (const uint8_t *)argv[2], strlen(argv[2]));
    int status = 1;
    if (rc == QPC_OK || rc == QPC_UNCONFIRMED)
        status = print_answer(handle, argv[1]) ? 0 : rc == QPC_OK ? 3 : 4;
    if (status != 0)
        fprintf(stderr, "%s\n", qpc_last_error(handle));
    qpc_disconnect(handle);
    return status;
}
