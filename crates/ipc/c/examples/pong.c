/* Sends a message to a service and prints the answer: pong [MESSAGE]. The environment's SERVICE is the service's name,
 * "pong" if there is none. */
#include <libipc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *name = getenv("SERVICE") ? getenv("SERVICE") : "pong";
    const char *message = argc > 1 ? argv[1] : "hello";
    static char answer[IPC_MAX_MESSAGE_SIZE];
    void *ctx;
    int service, status = 1;
    if (ipc_context_init(&ctx) != 0)
        return 1;
    if (ipc_connect_service(ctx, &service, name, (uint16_t)strlen(name)) != 0)
        fprintf(stderr, "pong: no service %s\n", name);
    else if (ipc_schedule(ctx, service, message, strlen(message)) != 0)
        fprintf(stderr, "pong: the message cannot be sent\n");
    else
        for (;;) {
            char type;
            size_t index, len = sizeof answer;
            int fd, newfd;
            if (ipc_wait_event(ctx, &type, &index, &fd, &newfd, answer, &len) != 0)
                break;
            if (type == MESSAGE_RX) {
                printf("%.*s\n", (int)len, answer);
                status = 0;
                break;
            }
            if (type != MESSAGE_TX) {
                fprintf(stderr, "pong: %s went away\n", name);
                break;
            }
        }
    ipc_context_deinit(&ctx);
    return status;
}
