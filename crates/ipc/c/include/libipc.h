/* libipc.h - services of one machine that exchange messages over Unix sockets.
 *
 * Link with -lipc, or ask pkg-config for libipc.
 *
 * A program makes a context, opens a service (ipc_service_init) or connects to one (ipc_connect_service), and calls
 * ipc_wait_event in a loop; each call is one event. Messages go out by ipc_schedule. At the end come ipc_close_all
 * and ipc_context_deinit.
 *
 * Services are sockets in the run directory: the environment's RUNDIR, or /tmp/.libipc-run/, which anyone can make
 * first; a service that must not be impersonated has a directory of its own. On the wire a message is its length,
 * four bytes with the highest first, and its bytes; IPC_MAX_MESSAGE_SIZE is the longest. It may be empty, but the first
 * implementation takes an empty one for the end of the connection.
 *
 * Results. 0 is success, -1 an error; other numbers are said where they may come. A
 * connection is known by its file descriptor; its index changes when another one is closed. The library closes the
 * file descriptors it has, and nobody else does.
 *
 * Threads. A context is used by one thread at a time, and not by the callbacks it calls, in which every function
 * returns -1. Nothing here raises SIGPIPE. A signal does not end ipc_wait_event: a pipe that the handler writes to,
 * and whose other end is an external file descriptor, does. After fork() a context belongs to one of the two processes;
 * the other does nothing with it. */
#ifndef LIBIPC
#define LIBIPC

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_VERSION 1
#define IPC_HEADER_SIZE 4

/* What a buffer for any message, and its header, has. */
#define IPC_BASE_SIZE 100000

/* The longest message. */
#define IPC_MAX_MESSAGE_SIZE 99992

/* Event types: what ipc_wait_event puts into `t`. */
enum event_types {
    ERROR = 0,         /* A service has no file descriptors left for more connections, or a switch had to end. */
    CONNECTION = 1,    /* A new connection. */
    DISCONNECTION = 2, /* A peer is gone; its connection is closed. */
    MESSAGE_RX = 3,    /* A message came. */
    MESSAGE_TX = 4,    /* A scheduled message is written. */
    TIMER = 5,         /* The timer; index and originfd are 0. */
    EXTERNAL = 6,      /* An external file descriptor has something to read, or is at the end of it. */
    SWITCH_RX = 7,     /* A message came from one end of a switch, and goes to the other. */
    SWITCH_TX = 8      /* A message was written to an end of a switch. */
};

/* What a switch callback returns, as a char. */
enum cb_event_types {
    CB_NO_ERROR = 0,   /* A message was read or written. */
    CB_ERROR = 1,      /* The switch ends, with an ERROR. */
    CB_FD_CLOSING = 2, /* The switch ends, with a DISCONNECTION. */
    CB_IGNORE = 3      /* No message, or one that is not to be sent; no event. */
};

/* Makes a context; *ptr is what the other functions get as `ctx`. */
int ipc_context_init(void **ptr);

/* Closes all that is in the context, frees it and makes *ctx NULL. */
void ipc_context_deinit(void **ctx);

/* From now on there is a TIMER every `timer` milliseconds, however much else happens; below 0 there is none, and at 0
 * every other event is one, and all are when nothing else happens. */
void ipc_context_timer(void *ctx, int timer);

/* How many bytes all peers of the context may hold together, 8 MiB by default: messages that are scheduled for them, and
 * the beginnings of messages that are not whole yet. When it is more, the connection in which nothing moved for the
 * longest time is closed, with a DISCONNECTION: a peer that only holds memory does not keep it from those that work.
 * (The first implementation has no such function.) */
void ipc_context_memory(void *ctx, size_t bytes);

/* Opens a service. An error if another process runs it. */
int ipc_service_init(void *ctx, int *servicefd, const char *service_name, uint16_t service_name_len);

/* Connects to a service. If the environment has IPC_NETWORK, the service "ipc" of the run directory is asked to make
 * the connection, and nothing else is tried: it gets the message "NAME;" and the value, which may be, for example,
 * "pong tls://host:port/pong", and answers "ok", without a header, with the file descriptor. */
int ipc_connect_service(void *ctx, int *servicefd, const char *service_name, uint16_t service_name_len);

/* Writes a message, after those that are scheduled for the same peer, and waits until the kernel has it. That is for
 * as long as the peer does not read; a service, which has others to attend to, uses ipc_schedule. */
int ipc_write(void *ctx, int servicefd, const char *mcontent, size_t mlen);

/* Has a message written by ipc_wait_event, which says so by MESSAGE_TX. -2 if 4 MiB wait for this peer already, or it is
 * the one that would be closed for the memory of the context. */
int ipc_schedule(void *ctx, int servicefd, const char *mcontent, size_t mlen);

/* Wait for the next message of one connection, and read it. *buflen is how long the buffer is, and then how long the
 * message is. -2 if the peer is gone; -3 if the buffer is too small: the message stays, and *buflen is its length. */
int ipc_read_fd(void *ctx, int fd, char *buffer, size_t *buflen);
int ipc_read(void *ctx, size_t index, char *buffer, size_t *buflen);

/* Waits for an event. `t` is its type (enum event_types), `index` and `originfd` are the connection's; of a
 * CONNECTION, `index` is the new one's, `originfd` the service's, and `newfd` the new file descriptor. For other
 * events *newfd is -1; `newfd` may be NULL. *buflen is how long the buffer is, and then how long the message is that
 * was copied to it, 0 if there is none. -4 if the buffer was too small: it has the beginning of the message, *buflen
 * is its whole length, and the other outputs are as ever. */
int ipc_wait_event(void *ctx, char *t, size_t *index, int *originfd, int *newfd, char *buffer, size_t *buflen);

/* Programs written for the older form of ipc_wait_event, which had no `newfd`, are compiled with LIBIPC_WAIT_EVENT_6
 * defined. */
#ifdef LIBIPC_WAIT_EVENT_6
#define ipc_wait_event(ctx, t, index, originfd, buffer, buflen) \
    (ipc_wait_event)((ctx), (t), (index), (originfd), NULL, (buffer), (buflen))
#endif

/* Close a connection, with what is scheduled for it, or a service, by file descriptor or by index. What it was
 * switched with stays; but what was read of an external one for the switch, and not passed on, is lost. */
int ipc_close_fd(void *ctx, int fd);
int ipc_close(void *ctx, size_t index);

/* Closes all of them. */
int ipc_close_all(void *ctx);

/* Adds a file descriptor of any protocol. The program reads and writes it itself; the library reports what there is to
 * read and that the peer is gone, and closes it. When a peer has only sent all it will (a TCP peer that is gone looks the
 * same), there are EXTERNALs, of which the program reads 0 bytes, until it closes the file descriptor. An error if it is
 * in the context already, or poll has no use for it, as for regular files; it stays the caller's then. */
int ipc_add_external(void *ctx, int newfd);

/* From now on, messages of each of two connections, external ones too, go to the other. While one of them takes
 * nothing, the other is not read. When one goes, so does the other, once it has got what was on the way to it; the
 * first is reported. */
int ipc_add_switch(void *ctx, int fd1, int fd2);

/* How a connection is read and written while it is switched. NULL stands for the library's own way, which is frames
 * as they are on the wire.
 *
 * `in` is called when there is something to read: it puts header and message into `payload`, for which there are
 * *mlen bytes of room, and sets *mlen to their number. `out` is called when there is room to write, and gets header
 * and message. What the library had read of the connection before, and the rest of a message that it had read in part,
 * it takes as frames first; and it ends a message that it has begun to write. They return an enum cb_event_types as a char. (The page this header follows has `char (*in (...))`,
 * which is a function that returns a pointer; its text says char. Of what is returned the lowest 8 bits count, so a
 * program that took it by the letter only needs a cast.) */
int ipc_set_switch_callbacks(void *ctx, int fd, char (*in)(int orig, char *payload, size_t *mlen),
                             char (*out)(int dest, const char *payload, size_t mlen));

#ifdef __cplusplus
}
#endif

#endif
