/* quicprochat.h - end-to-end-encrypted messaging for C programs.
 *
 * Link with -lquicprochat_ffi -lpthread -ldl -lm, or ask pkg-config for quicprochat_ffi.
 *
 * Strings. Every const char * parameter is NUL-terminated UTF-8, is read during the call only, and must not be NULL
 * unless its description says so; NULL or invalid UTF-8 gives an error code, not a crash.
 *
 * Threads. A handle may be used from any thread, but by one at a time. Calls on different handles do not block each
 * other. The library starts no thread that outlives a call, except while the system's resolver is still busy with a name
 * for which a call had no more time; it installs no signal handler and never exits the process.
 *
 * State. Keys and conversations are kept, encrypted, in $QPC_STATE_DIR, or else $XDG_STATE_HOME/quicprochat, or else
 * ~/.local/state/quicprochat, in one folder for each relay and user. One process at a time can be logged in from a
 * folder; a second one gets QPC_ERROR and a message that says so. If a copy of the folder is used elsewhere, the later
 * login has the session: calls on the other handle give QPC_ERROR until it logs in again.
 */
#ifndef QUICPROCHAT_H
#define QUICPROCHAT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Status codes. */
#define QPC_OK            0 /* success */
#define QPC_ERROR         1 /* see qpc_last_error */
#define QPC_AUTH_FAILED   2 /* unknown user or wrong password: which of the two, nobody is told */
#define QPC_TIMEOUT       3 /* no message came in time */
#define QPC_NOT_CONNECTED 4 /* the handle is NULL, or not logged in */

/* A connection to a relay. Made by qpc_connect, freed by qpc_disconnect. */
typedef struct QpqHandle QpqHandle;

/* Connects to a relay and asks it how it is.
 *
 * server       "host:port", for example "127.0.0.1:7000" or "[::1]:7000"
 * ca_cert      path of the relay's CA certificate, DER or PEM (ca.der in the relay's data directory)
 * server_name  the name in the relay's certificate, for example "localhost"
 *
 * Returns a handle, or NULL: qpc_last_connect_error then says why. */
QpqHandle *qpc_connect(const char *server, const char *ca_cert, const char *server_name);

/* Why the last qpc_connect of this thread returned NULL, or NULL if it did not. Valid until the thread's next
 * qpc_connect; not to be freed. */
const char *qpc_last_connect_error(void);

/* Registers a new account at the relay and logs in.
 *
 * username  1 to 64 of a-z 0-9 . _ -
 * password  not empty; never leaves this machine
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if the handle is NULL, or QPC_ERROR (name taken, registration closed or by invite,
 * relay gone, ...). */
int32_t qpc_register(QpqHandle *handle, const char *username, const char *password);

/* As qpc_register, with the code that `qpc-relay invite` printed. */
int32_t qpc_register_with_invite(QpqHandle *handle, const char *username, const char *password, const char *invite);

/* Logs in (OPAQUE: the relay never sees the password). On a machine without this user's state it makes a new device of
 * the account, which sends and receives from now on. If the user or the password is wrong, whoever was logged in on the
 * handle before still is.
 *
 * Returns QPC_OK, QPC_AUTH_FAILED, QPC_NOT_CONNECTED if the handle is NULL, or QPC_ERROR. */
int32_t qpc_login(QpqHandle *handle, const char *username, const char *password);

/* Sends a text to a user; it is encrypted for that user's devices and for no one else.
 *
 * recipient    user name
 * message      UTF-8, at most 49152 bytes, not NUL-terminated
 * message_len  its length in bytes
 *
 * QPC_OK means that the relay has stored it on disk. Returns QPC_NOT_CONNECTED if not logged in, or QPC_ERROR (unknown
 * recipient, not UTF-8, too long, relay gone, ...). */
int32_t qpc_send(QpqHandle *handle, const char *recipient, const uint8_t *message, size_t message_len);

/* Waits up to timeout_ms milliseconds for messages and takes all that are there.
 *
 * out_json  receives a JSON array of the texts, oldest first, such as ["hello","world"]; free it with qpc_free_string.
 *           NULL is stored unless QPC_OK is returned. Messages that are not UTF-8 text are left out.
 *
 * Messages count as taken at the next qpc_receive or at qpc_disconnect: a program that is killed in between gets them
 * again.
 *
 * Returns QPC_OK, QPC_TIMEOUT, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_receive(QpqHandle *handle, uint32_t timeout_ms, char **out_json);

/* Ends the connection and frees the handle. NULL is ignored. */
void qpc_disconnect(QpqHandle *handle);

/* What went wrong in the last call on this handle, or NULL if nothing did. Valid until the next call on the handle; not
 * to be freed. */
const char *qpc_last_error(const QpqHandle *handle);

/* Frees what qpc_receive stored in out_json. NULL is ignored. */
void qpc_free_string(char *ptr);

#ifdef __cplusplus
}
#endif

#endif
