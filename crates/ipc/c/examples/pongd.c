/* A service that sends back what it gets: pongd [TIMERS]. It ends after so many timer events, two seconds each; by
 * itself it does not. The environment's SERVICE is its name, "pong" if there is none. */
#include <libipc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *name = getenv("SERVICE") ? getenv("SERVICE") : "pong";
    long timers = argc > 1 ? strtol(argv[1], NULL, 10) : -1;
    static char message[IPC_MAX_MESSAGE_SIZE];
    void *ctx;
    int service;
    if (ipc_context_init(&ctx) != 0) {
        fprintf(stderr, "pongd: no memory or file descriptor for a context\n");
        return 1;
    }
    if (ipc_service_init(ctx, &service, name, (uint16_t)strlen(name)) != 0) {
        fprintf(stderr, "pongd: cannot open the service %s: does it run already? Can RUNDIR be written to?\n", name);
        ipc_context_deinit(&ctx);
        return 1;
    }
    ipc_context_timer(ctx, 2000);
    int status = 0;
    while (timers != 0) {
        char type;
        size_t index, len = sizeof message;
        int fd, newfd;
        if (ipc_wait_event(ctx, &type, &index, &fd, &newfd, message, &len) != 0) {
            status = 1;
            break;
        }
        if (type == TIMER && timers > 0)
            timers--;
        /* Who does not read the answers gets no more of them. */
        if (type == MESSAGE_RX && ipc_schedule(ctx, fd, message, len) != 0)
            ipc_close_fd(ctx, fd);
    }
    ipc_context_deinit(&ctx);
    return status;
}
