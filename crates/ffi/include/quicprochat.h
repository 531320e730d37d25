/* quicprochat.h - end-to-end-encrypted messaging for C programs.
 *
 * Link with -lquicprochat_ffi -lpthread -ldl -lm, or ask pkg-config for quicprochat_ffi.
 *
 * Generated from crates/ffi/src by `UPDATE_HEADERS=1 cargo test -p quicprochat-ffi headers`.
 *
 * Strings. Every const char * parameter is NUL-terminated UTF-8, is read during the call only, and must not be NULL
 * unless its description says so; NULL or invalid UTF-8 gives an error code, not a crash.
 *
 * Ownership. What a function stores through its last parameter is the caller's until it is given back, once, to the
 * function that its description names; free() is not for it. It stays good when the handle is gone.
 *
 * Errors. A function that returns int32_t returns one of the status codes, and qpc_last_error says more, unless its
 * description says otherwise. Nothing takes effect by halves: a call that fails has done nothing, or says what it has.
 *
 * Threads. A handle may be used from any thread, but by one at a time: a second call gets QPC_ERROR, and a handle that was
 * given back QPC_NOT_CONNECTED as long as no other has its address. Calls on different handles do not block each
 * other. The library starts no thread that outlives a call, except while the system's resolver is still busy with a name
 * for which a call had no more time; it installs no signal handler and never exits the process.
 *
 * State. Keys and conversations are kept, encrypted, in $QPC_STATE_DIR, or else $XDG_STATE_HOME/quicprochat, or else
 * ~/.local/state/quicprochat, in one folder for each relay and user. One process at a time can be logged in from a
 * folder; a second one gets QPC_ERROR and a message that says so. If a copy of the folder is used elsewhere, the later
 * login has the session: calls on the other handle give QPC_ERROR until it logs in again.
 *
 * Structs begin with their size. Those that the caller makes have it set by the caller; those that the library makes can
 * be larger in a later version, and never mean something else. */
#ifndef QUICPROCHAT_H
#define QUICPROCHAT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Success. */
#define QPC_OK 0
/* Something else went wrong: see qpc_last_error. */
#define QPC_ERROR 1
/* Unknown user or wrong password: which of the two, nobody is told. */
#define QPC_AUTH_FAILED 2
/* Nothing came in time. */
#define QPC_TIMEOUT 3
/* The handle is NULL, was given back, or is not logged in. */
#define QPC_NOT_CONNECTED 4
/* The relay has not confirmed the message. It waits here and goes out, once, with the next connection: do not send it
 * again. With an agent there is one exception, see qpc_connect_agent. */
#define QPC_UNCONFIRMED 5

/* A connection to a relay. Made by qpc_connect, qpc_connect_address, qpc_open and qpc_connect_agent, freed by
 * qpc_disconnect. */
typedef struct QpqHandle QpqHandle;

/* Is told what goes on inside: level is 1 for an error, 2 for a warning, 3 for what happens in the normal course; text is
 * one line without a newline, valid during the call; user is what qpc_options_set_log was given. It runs in the thread
 * of the call it belongs to, and must not call functions on that call's handle, nor be left by longjmp; an exception of
 * C++ that leaves it ends the program. */
typedef void (*QpcLog)(int32_t level, const char *text, void *user);

/* How a connection is to behave. Made by qpc_options_new, freed by qpc_options_free; a function that takes one reads it
 * during the call only. One thread at a time. */
typedef struct QpcOptions QpcOptions;

/* Options with their defaults, which are those of qpc_connect. Free them with qpc_options_free. NULL only if something
 * inside has failed. */
QpcOptions *qpc_options_new(void);

/* Frees options. NULL is ignored. */
void qpc_options_free(QpcOptions *options);

/* Where state folders are, instead of what the environment says; see "State" above. Like all that set an option it
 * returns QPC_OK, or QPC_ERROR if an argument is NULL, not UTF-8 or out of its range, and then changes nothing. */
int32_t qpc_options_set_state_dir(QpcOptions *options, const char *path);

/* How this device is called in qpc_devices, if a login makes it a new one: at most 64 bytes, the rest is cut off. */
int32_t qpc_options_set_device_label(QpcOptions *options, const char *label);

/* Whether a login keeps a key file (mode 0600) in the state folder, so that qpc_open needs no password: 0 for no, which
 * is the default, 1 for yes. Whoever has the folder then has the device. */
int32_t qpc_options_set_key_file(QpcOptions *options, int32_t on);

/* How long a call may wait for the relay, in milliseconds: 100 to 600000, 10000 by default; an agent waits at most 60000.
 * qpc_receive and qpc_receive_messages have a time of their own for messages. */
int32_t qpc_options_set_timeout(QpcOptions *options, uint32_t milliseconds);

/* How often a connection on which nothing happens is kept from being forgotten by the routers on its way, in seconds:
 * 1 to 60, 25 by default. It takes effect only while calls are made. */
int32_t qpc_options_set_keep_alive(QpcOptions *options, uint32_t seconds);

/* Whether senders who ask for a receipt get one when their message is stored here: 1 for yes, which is the default, 0 for
 * no. */
int32_t qpc_options_set_receipts(QpcOptions *options, int32_t on);

/* What is told what goes on inside the calls on the handle; NULL for nothing. It and what user points to must live until
 * qpc_disconnect of each handle made with these options. */
int32_t qpc_options_set_log(QpcOptions *options, QpcLog log, void *user);

/* What this header declares. It grows with every addition; what was there before stays as it is. */
#define QPC_ABI_VERSION 2

/* The QPC_ABI_VERSION of the library that is in use. A program that was compiled against a higher one must not run with
 * it. */
uint32_t qpc_abi_version(void);

/* Connects to a relay and asks it how it is.
 *
 * server       "host:port", for example "127.0.0.1:7000" or "[::1]:7000"
 * ca_cert      path of the relay's CA certificate, DER or PEM (ca.der in the relay's data directory)
 * server_name  the name in the relay's certificate, for example "localhost"
 *
 * Returns a handle, or NULL: qpc_last_connect_error then says why. */
QpqHandle *qpc_connect(const char *server, const char *ca_cert, const char *server_name);

/* Connects to a relay by its address, "qpc://host:port/#fingerprint" as `qpc-relay address` prints it: it needs no
 * certificate file. options may be NULL.
 *
 * Returns a handle, or NULL: qpc_last_connect_error then says why. */
QpqHandle *qpc_connect_address(const char *address, const QpcOptions *options);

/* A handle that is logged in as the user's device here, by the key file that an earlier login has kept
 * (qpc_options_set_key_file). It does not wait for the relay: the connection is made when a call needs one, or by
 * qpc_next_event, which tries until there is one. This is how a program starts that must run while the line is down.
 * options may be NULL.
 *
 * Returns a handle, or NULL: qpc_last_connect_error then says why. */
QpqHandle *qpc_open(const char *address, const char *username, const QpcOptions *options);

/* Goes through the agent of this machine (`qpc agent`), which holds an account's session: there is nothing to log in, and
 * no state folder.
 *
 * run_dir  the agent's run directory; NULL for $QPC_RUN_DIR, or else /var/run/qpc-agent
 * options  NULL for the default ones. Of them, qpc_options_set_timeout says how long to wait for the relay to confirm a
 *          message, and qpc_options_set_log holds; the others are the agent's matter.
 *
 * All calls work with the handle, as far as the agent gives this user the right, but for these, which return QPC_ERROR:
 * qpc_register, qpc_register_with_invite, qpc_login, qpc_change_password, qpc_revoke_device, and sending with
 * QPC_SEND_RECEIPT. A message that the relay has not confirmed in time waits in the agent's journal: QPC_UNCONFIRMED, also
 * from qpc_send. So does one sent with QPC_SEND_QUEUED, which is good when the call returns; what becomes of it no event
 * tells but a QPC_EVENT_NOTE. If the agent is killed, or silent for 90 seconds, while it is asked to send, it may have the
 * message or not: that is QPC_UNCONFIRMED too, with an id of zeros, and sent again the message could come twice. After
 * QPC_ERROR it is not sent. Messages are those that no program of the machine has read. QPC_EVENT_CONNECTED and
 * QPC_EVENT_DISCONNECTED tell of the agent: one that is restarted is connected to again.
 *
 * Returns a handle, or NULL; then qpc_last_connect_error says why. */
QpqHandle *qpc_connect_agent(const char *run_dir, const QpcOptions *options);

/* Why the last qpc_connect, qpc_connect_address, qpc_open or qpc_connect_agent of this thread returned NULL, or NULL if it
 * did not. Valid until the thread's next of them; not to be freed. */
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
 * recipient, not UTF-8, too long, relay gone, ...). A message that was encrypted when the relay was lost waits in the
 * state folder and goes out, once, with the next connection; that is a QPC_ERROR too, and qpc_last_error says so. A
 * program that sends again after errors uses qpc_send_message, which tells it apart. */
int32_t qpc_send(QpqHandle *handle, const char *recipient, const uint8_t *message, size_t message_len);

/* Waits up to timeout_ms milliseconds for messages and takes all that are there.
 *
 * out_json  receives a JSON array of the texts, oldest first, such as ["hello","world"]; free it with qpc_free_string.
 *           NULL is stored unless QPC_OK is returned. Messages that are not UTF-8 text are left out.
 *
 * Messages count as taken at the next call that takes messages or at qpc_disconnect: a program that is killed in between
 * gets them again.
 *
 * Returns QPC_OK, QPC_TIMEOUT, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_receive(QpqHandle *handle, uint32_t timeout_ms, char **out_json);

/* Ends the connection and frees the handle. NULL is ignored. */
void qpc_disconnect(QpqHandle *handle);

/* What went wrong in the last call on this handle, or NULL if nothing did. Valid until the next call on the handle; not
 * to be freed. */
const char *qpc_last_error(const QpqHandle *handle);

/* Frees a string that another function of this library has stored for the caller. NULL is ignored. It is not for what
 * qpc_last_error and qpc_last_connect_error return. */
void qpc_free_string(char *ptr);

/* The body is bytes without a meaning to this library. */
#define QPC_KIND_BINARY 0
/* The body is UTF-8. */
#define QPC_KIND_TEXT 1
/* The body is the ids of messages, 16 bytes each, that the device which sent this has stored. */
#define QPC_KIND_RECEIPT 2
/* The relay keeps it on disk. */
#define QPC_DURABLE 0
/* The relay keeps it in memory, by its owner's choice: a power cut there may lose it. */
#define QPC_VOLATILE 1
/* Ask the recipient's devices for a receipt: each that has stored the message says so, see QPC_EVENT_RECEIPT. */
#define QPC_SEND_RECEIPT 1
/* Do not wait: qpc_next_event sends the message and tells what became of it. Until QPC_EVENT_SENT it is in memory only. */
#define QPC_SEND_QUEUED 2

/* A message to send. The caller makes it and it stays the caller's; what is not set is 0, as by = {sizeof(QpcSend)}. */
typedef struct QpcSend {
    size_t size;                     /* sizeof(QpcSend), set by the caller. */
    uint32_t kind;                   /* QPC_KIND_TEXT or QPC_KIND_BINARY. */
    uint32_t flags;                  /* QPC_SEND_... or-ed together. */
    const uint8_t *body;             /* At most 49152 bytes; not NULL. */
    size_t body_len;                 /* How many. */
    uint8_t id[16];                  /* Set by the call: the message's id. */
    uint32_t durability;             /* Set by the call: QPC_DURABLE or QPC_VOLATILE. */
    uint32_t reserved;               /* 0. */
} QpcSend;

/* A message that was received. All of it is the library's, and read only. */
typedef struct QpcMessage {
    size_t size;                     /* Bytes of this struct in the library: what is behind them is not there. */
    const char *sender;              /* User name of who sent it. */
    const uint8_t *body;             /* The bytes, followed by a NUL that is not counted. */
    size_t body_len;                 /* How many. */
    uint64_t relay_time;             /* When the relay took it, in seconds since 1970; 0 if it had no clock. */
    uint64_t sender_time;            /* When it was sent by the sender's clock; 0 if that had none. */
    uint32_t kind;                   /* QPC_KIND_..., or another number of a later version. */
    uint32_t durability;             /* QPC_DURABLE or QPC_VOLATILE. */
    uint8_t id[16];                  /* Its id, which the sender knows too. */
    uint8_t conversation[16];        /* The conversation it is in. */
    uint8_t device[16];              /* The sender's device. */
} QpcMessage;

/* Messages, oldest first. */
typedef struct QpcMessages {
    size_t size;                     /* Bytes of this struct in the library. */
    size_t count;                    /* How many messages. */
    const QpcMessage *const *messages; /* One pointer each. */
} QpcMessages;

/* Sends a message to a user; it is encrypted for that user's devices and for no one else.
 *
 * Without QPC_SEND_QUEUED it waits for the relay, and QPC_OK means that the relay has it. With it QPC_OK means that the
 * message waits to be sent by qpc_next_event, behind those queued before; at most 64 can wait.
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, QPC_UNCONFIRMED if the relay has not confirmed it but it goes out
 * with the next connection, or QPC_ERROR (wrong size, unknown kind, flag or recipient, text that is not UTF-8, too
 * long, relay gone, ...): then it is not sent. After QPC_UNCONFIRMED id is set too, but for what qpc_connect_agent says. */
int32_t qpc_send_message(QpqHandle *handle, const char *recipient, QpcSend *message);

/* Sends bytes to a user, as qpc_send_message does with QPC_KIND_BINARY. id has room for the message's 16 bytes of id, or
 * is NULL.
 *
 * Returns what qpc_send_message does. */
int32_t qpc_send_bytes(QpqHandle *handle, const char *recipient, const uint8_t *body, size_t body_len, uint8_t *id);

/* Waits up to timeout_ms milliseconds for messages and takes all that are there: texts, bytes and receipts.
 *
 * out  receives the messages; free them with qpc_messages_free. NULL is stored unless QPC_OK is returned.
 *
 * Messages count as taken at the next call that takes messages or at qpc_disconnect: a program that is killed in between
 * gets them again.
 *
 * Returns QPC_OK, QPC_TIMEOUT, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_receive_messages(QpqHandle *handle, uint32_t timeout_ms, QpcMessages **out);

/* Frees messages. NULL is ignored. */
void qpc_messages_free(QpcMessages *messages);

/* A device of the account. */
typedef struct QpcDevice {
    size_t size;                     /* Bytes of this struct in the library: what is behind them is not there. */
    const char *label;               /* What it was called at its first login, perhaps nothing. */
    uint64_t queued;                 /* Messages and the like that wait for it at the relay. */
    uint8_t id[16];                  /* Its id. */
    int32_t online;                  /* 1 if it is connected now, otherwise 0. */
    int32_t own;                     /* 1 if it is the one that asks, otherwise 0. */
} QpcDevice;

/* Devices. All of it is the library's, and read only. */
typedef struct QpcDevices {
    size_t size;                     /* Bytes of this struct in the library. */
    size_t count;                    /* How many devices. */
    const QpcDevice *const *devices; /* One pointer each. */
} QpcDevices;

/* Sixty digits in twelve groups that are the same for both accounts, unless somebody stands between them: two people
 * compare them by another way. For a user whose identity has changed they are those of the new one. It does not ask the
 * relay; nothing is known of a user before the first message.
 *
 * out  receives the digits; free them with qpc_free_string. NULL is stored unless QPC_OK is returned.
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_safety_number(QpqHandle *handle, const char *user, char **out);

/* Trusts the identity that a user has now, after QPC_EVENT_IDENTITY_CHANGED and once the safety number was compared.
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR, also if there is nothing to accept. */
int32_t qpc_accept_identity(QpqHandle *handle, const char *user);

/* Asks the relay for the account's devices.
 *
 * out  receives them; free them with qpc_devices_free. NULL is stored unless QPC_OK is returned.
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_devices(QpqHandle *handle, QpcDevices **out);

/* Frees devices. NULL is ignored. */
void qpc_devices_free(QpcDevices *devices);

/* Removes a device from the account, by the 16 bytes of its id: it gets nothing that is sent from then on. A handle that
 * revokes its own device is no good afterwards.
 *
 * Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR (no such device, relay gone, ...). */
int32_t qpc_revoke_device(QpqHandle *handle, const uint8_t *device);

/* Replaces the account's password. Its devices stay logged in, and each can log in with the new one. Either all of it
 * happens or nothing: if the relay's answer is lost, which qpc_last_error then says, one of the two is the password.
 *
 * Returns QPC_OK, QPC_AUTH_FAILED if the old password is wrong, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR. */
int32_t qpc_change_password(QpqHandle *handle, const char *old_password, const char *new_password);

/* There is a connection. */
#define QPC_EVENT_CONNECTED 1
/* There is none any more; qpc_next_event tries for another. text says why. */
#define QPC_EVENT_DISCONNECTED 2
/* A message came: message. */
#define QPC_EVENT_MESSAGE 3
/* A device has stored a message that asked for a receipt: id, conversation, user and device. Believe it for ids you sent. */
#define QPC_EVENT_RECEIPT 4
/* The relay has a queued message: id, user (the recipient) and durability. */
#define QPC_EVENT_SENT 5
/* A message that was queued, or was not confirmed when it was sent, does not go out: id, user (the recipient, or NULL if
 * it is not known any more), and text says why. */
#define QPC_EVENT_NOT_SENT 6
/* A device came into a conversation: conversation, user and device. */
#define QPC_EVENT_DEVICE_ADDED 7
/* A device left a conversation: conversation, user and device. */
#define QPC_EVENT_DEVICE_REMOVED 8
/* This account has a new device: device. If it is not yours, revoke it and change the password. */
#define QPC_EVENT_OWN_DEVICE_ADDED 9
/* A device of this account is gone: device. */
#define QPC_EVENT_OWN_DEVICE_REMOVED 10
/* user has another identity; messages are refused until qpc_accept_identity. Compare qpc_safety_number before. */
#define QPC_EVENT_IDENTITY_CHANGED 11
/* Messages were lost or cannot be read: conversation, and text says why. With id, user and device it is a message of
 * this user's that one device does not get. */
#define QPC_EVENT_LOST 12
/* Something else that a person may want to read: text. */
#define QPC_EVENT_NOTE 13

/* Something that happened. All of it is the library's, and read only. What a kind does not name is NULL or 0. A program
 * ignores kinds it does not know. */
typedef struct QpcEvent {
    size_t size;                     /* Bytes of this struct in the library: what is behind them is not there. */
    int32_t kind;                    /* QPC_EVENT_... */
    uint32_t durability;             /* QPC_DURABLE or QPC_VOLATILE. */
    const char *user;                /* A user name. */
    const char *text;                /* A sentence for people. */
    const QpcMessage *message;       /* A message that came. */
    uint8_t id[16];                  /* Of a message that was sent. */
    uint8_t conversation[16];        /* A conversation. */
    uint8_t device[16];              /* A device. */
} QpcEvent;

/* A descriptor to wait for with poll, epoll or uloop: when it is readable, call qpc_next_event until that returns
 * QPC_TIMEOUT. It is readable from the first, and again when a packet has come, when a time has run out, and after other
 * calls on the handle. It is the handle's: do not read from it or close it, and do not use it after qpc_disconnect.
 *
 * Returns the descriptor, or -1 if the handle is NULL or the system has none left. */
int32_t qpc_event_fd(QpqHandle *handle);

/* Does what there is to do, without waiting for anything: takes what has come, sends what was queued, keeps the
 * connection, makes a new one if it is lost. Then gives the next thing that has happened.
 *
 * out  receives the event; free it with qpc_event_free. NULL is stored unless QPC_OK is returned.
 *
 * The messages it has given count as taken when it has given all there were and is called again, or at qpc_disconnect: a
 * program that is killed before gets them again. Other calls on the handle may be made in between; those that wait for
 * the relay do so, with the time that qpc_options_set_timeout allows.
 *
 * Returns QPC_OK; QPC_TIMEOUT if there is nothing now; QPC_NOT_CONNECTED if not logged in; or QPC_ERROR if calling it
 * again will not help: another program has this device's session, the device was revoked, the state folder fails. The
 * descriptor is not readable then. */
int32_t qpc_next_event(QpqHandle *handle, QpcEvent **out);

/* Frees an event. NULL is ignored. */
void qpc_event_free(QpcEvent *event);

#ifdef __cplusplus
}
#endif

#endif
