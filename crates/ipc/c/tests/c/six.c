/* A program of the time when ipc_wait_event had six arguments. */
#define LIBIPC_WAIT_EVENT_6
#include "libipc.h"

#include "check.h"

int main(void) {
    void *ctx;
    char type, buffer[10];
    size_t index, len = sizeof buffer;
    int fd;
    CHECK(ipc_context_init(&ctx) == 0);
    ipc_context_timer(ctx, 1);
    CHECK(ipc_wait_event(ctx, &type, &index, &fd, buffer, &len) == 0 && type == TIMER);
    ipc_context_deinit(&ctx);
    return report();
}
