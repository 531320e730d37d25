/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Plugins of qpc-relay. A plugin is a shared library that exports
 *
 *     int32_t qpc_plugin_init(HookVTable *vtable);
 *
 * The relay hands it a zeroed table. The plugin fills the slots it cares about and returns PLUGIN_OK, or a negative number
 * if it cannot work. What it leaves NULL is not called.
 *
 * Ownership: events, and all they point to, are the relay's and valid until the hook returns. Texts end in a NUL that
 * their length does not count. What error_message returns is the plugin's and must stay valid until the next call on the
 * same user_data.
 *
 * Threads: init and configure run on the main thread before there is any other, once in a forked child to see whether
 * they return (which then ends by _exit) and once for good. All hooks of all plugins run on one thread, one at a time, so
 * a plugin that starts no threads of its own needs no locks. A hook that does not return in time is abandoned together
 * with its thread, and its plugin is called no more.
 *
 * No exception or longjmp may leave a hook. A hook that corrupts memory takes the relay down.
 */
#ifndef QPC_PLUGIN_H
#define QPC_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Init succeeded. */
#define PLUGIN_OK 0
/* The operation may go on. */
#define HOOK_CONTINUE 0
/* The operation is refused, and error_message says why. Any other value but HOOK_CONTINUE refuses too. */
#define HOOK_REJECT 1

/* What qpc_plugin_abi_version returns in a plugin made with this header: major in the upper half, minor in the lower. */
#define QPC_PLUGIN_ABI_VERSION 0x00010000u

/* Before what a plugin exports, where the compiler hides symbols (-fvisibility=hidden). */
#if defined(__GNUC__)
#define QPC_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define QPC_PLUGIN_EXPORT
#endif

/* A message on its way to one account. */
typedef struct CMessageEvent {
    const uint8_t *sender_identity; /* Ed25519 identity key, 32 bytes; NULL if the sender is sealed */
    size_t sender_identity_len;     /* 0 if that is NULL */
    const uint8_t *recipient_key;   /* 32 bytes */
    size_t recipient_key_len;
    const uint8_t *channel_id; /* 16 bytes */
    size_t channel_id_len;
    size_t payload_len; /* of the encrypted payload */
    uint64_t seq;       /* the number the server gives the message in the recipient's queue */
} CMessageEvent;

/* An attempt to log in. */
typedef struct CAuthEvent {
    const uint8_t *username; /* the name that was given, NUL-terminated */
    size_t username_len;
    int32_t success;               /* not 0 if it succeeded */
    const uint8_t *failure_reason; /* NUL-terminated; empty if it succeeded */
    size_t failure_reason_len;
} CAuthEvent;

/* A channel was made or looked up. */
typedef struct CChannelEvent {
    const uint8_t *channel_id; /* 16 bytes */
    size_t channel_id_len;
    const uint8_t *initiator_key; /* of who asked for it, 32 bytes */
    size_t initiator_key_len;
    const uint8_t *peer_key; /* of the other side, 32 bytes */
    size_t peer_key_len;
    int32_t was_new; /* not 0 if it was made just now */
} CChannelEvent;

/* Messages reached a recipient. */
typedef struct CFetchEvent {
    const uint8_t *recipient_key; /* 32 bytes */
    size_t recipient_key_len;
    const uint8_t *channel_id; /* 16 bytes */
    size_t channel_id_len;
    size_t message_count;
} CFetchEvent;

/* What a plugin fills in. */
typedef struct HookVTable {
    /* The plugin's own state; every hook gets it first. */
    void *user_data;
    /* Before a message is stored, once for each recipient. HOOK_CONTINUE or HOOK_REJECT; one that is refused for one
     * recipient is stored for none. */
    int32_t (*on_message_enqueue)(void *user_data, const CMessageEvent *event);
    /* After a message was stored: an event for each recipient. */
    void (*on_batch_enqueue)(void *user_data, const CMessageEvent *events, size_t count);
    /* After an attempt to log in. */
    void (*on_auth)(void *user_data, const CAuthEvent *event);
    /* After a channel was made or looked up. */
    void (*on_channel_created)(void *user_data, const CChannelEvent *event);
    /* After messages reached a recipient. */
    void (*on_fetch)(void *user_data, const CFetchEvent *event);
    /* After an account was registered. The name is NUL-terminated. */
    void (*on_user_registered)(void *user_data, const uint8_t *username, size_t username_len,
                               const uint8_t *identity_key, size_t identity_key_len);
    /* Asked after a hook has refused: a NUL-terminated reason, or NULL. */
    const uint8_t *(*error_message)(void *user_data);
    /* The last call, once. */
    void (*destroy)(void *user_data);
    /* The server is going down, and its connections are still open. */
    void (*on_shutdown)(void *user_data);
} HookVTable;

/* Every plugin exports this. */
QPC_PLUGIN_EXPORT int32_t qpc_plugin_init(HookVTable *vtable);

/* A plugin with settings exports this too. It is called before init with a JSON object, "{}" if nothing is configured,
 * valid during the call. Returns PLUGIN_OK, or a negative number if the settings are wrong. */
QPC_PLUGIN_EXPORT int32_t qpc_plugin_configure(const char *json);

/* A plugin may export this: { return QPC_PLUGIN_ABI_VERSION; }. A relay refuses a plugin of another major version. */
QPC_PLUGIN_EXPORT uint32_t qpc_plugin_abi_version(void);

/* The layout, counted in pointers; only seq may need padding before it. */
#if defined(__cplusplus) ? __cplusplus >= 201103L : __STDC_VERSION__ >= 201112L
#ifdef __cplusplus
#define QPC_PLUGIN_AT(type, field, at) static_assert(offsetof(type, field) == (at), #type "." #field)
#define QPC_PLUGIN_SIZE(type, size) static_assert(sizeof(type) == (size), #type)
#define QPC_PLUGIN_ALIGN alignof(CMessageEvent)
#else
#define QPC_PLUGIN_AT(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field)
#define QPC_PLUGIN_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#define QPC_PLUGIN_ALIGN _Alignof(CMessageEvent)
#endif
#define QPC_PLUGIN_P sizeof(void *)
#define QPC_PLUGIN_SEQ ((7 * QPC_PLUGIN_P + QPC_PLUGIN_ALIGN - 1) / QPC_PLUGIN_ALIGN * QPC_PLUGIN_ALIGN)
QPC_PLUGIN_AT(CMessageEvent, sender_identity, 0);
QPC_PLUGIN_AT(CMessageEvent, sender_identity_len, QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, recipient_key, 2 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, recipient_key_len, 3 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, channel_id, 4 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, channel_id_len, 5 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, payload_len, 6 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CMessageEvent, seq, QPC_PLUGIN_SEQ);
QPC_PLUGIN_SIZE(CMessageEvent, QPC_PLUGIN_SEQ + 8);
QPC_PLUGIN_AT(CAuthEvent, username, 0);
QPC_PLUGIN_AT(CAuthEvent, username_len, QPC_PLUGIN_P);
QPC_PLUGIN_AT(CAuthEvent, success, 2 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CAuthEvent, failure_reason, 3 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CAuthEvent, failure_reason_len, 4 * QPC_PLUGIN_P);
QPC_PLUGIN_SIZE(CAuthEvent, 5 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, channel_id, 0);
QPC_PLUGIN_AT(CChannelEvent, channel_id_len, QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, initiator_key, 2 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, initiator_key_len, 3 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, peer_key, 4 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, peer_key_len, 5 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CChannelEvent, was_new, 6 * QPC_PLUGIN_P);
QPC_PLUGIN_SIZE(CChannelEvent, 7 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CFetchEvent, recipient_key, 0);
QPC_PLUGIN_AT(CFetchEvent, recipient_key_len, QPC_PLUGIN_P);
QPC_PLUGIN_AT(CFetchEvent, channel_id, 2 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CFetchEvent, channel_id_len, 3 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(CFetchEvent, message_count, 4 * QPC_PLUGIN_P);
QPC_PLUGIN_SIZE(CFetchEvent, 5 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, user_data, 0);
QPC_PLUGIN_AT(HookVTable, on_message_enqueue, QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_batch_enqueue, 2 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_auth, 3 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_channel_created, 4 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_fetch, 5 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_user_registered, 6 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, error_message, 7 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, destroy, 8 * QPC_PLUGIN_P);
QPC_PLUGIN_AT(HookVTable, on_shutdown, 9 * QPC_PLUGIN_P);
QPC_PLUGIN_SIZE(HookVTable, 10 * QPC_PLUGIN_P);
#undef QPC_PLUGIN_AT
#undef QPC_PLUGIN_SIZE
#undef QPC_PLUGIN_ALIGN
#undef QPC_PLUGIN_P
#undef QPC_PLUGIN_SEQ
#endif

#ifdef __cplusplus
}
#endif

#endif
