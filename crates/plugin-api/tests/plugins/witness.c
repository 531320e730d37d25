/* Writes every call of a hook, with all that it is told, to the file in $WITNESS; refuses what $WITNESS_REFUSE says. Made from the
 * seed's page alone: it declares the ABI itself. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *sender_identity;
    size_t sender_identity_len;
    const uint8_t *recipient_key;
    size_t recipient_key_len;
    const uint8_t *channel_id;
    size_t channel_id_len;
    size_t payload_len;
    uint64_t seq;
} CMessageEvent;
typedef struct {
    const uint8_t *username;
    size_t username_len;
    int32_t success;
    const uint8_t *failure_reason;
    size_t failure_reason_len;
} CAuthEvent;
typedef struct {
    const uint8_t *channel_id;
    size_t channel_id_len;
    const uint8_t *initiator_key;
    size_t initiator_key_len;
    const uint8_t *peer_key;
    size_t peer_key_len;
    int32_t was_new;
} CChannelEvent;
typedef struct {
    const uint8_t *recipient_key;
    size_t recipient_key_len;
    const uint8_t *channel_id;
    size_t channel_id_len;
    size_t message_count;
} CFetchEvent;
typedef struct {
    void *user_data;
    int32_t (*on_message_enqueue)(void *, const CMessageEvent *);
    void (*on_batch_enqueue)(void *, const CMessageEvent *, size_t);
    void (*on_auth)(void *, const CAuthEvent *);
    void (*on_channel_created)(void *, const CChannelEvent *);
    void (*on_fetch)(void *, const CFetchEvent *);
    void (*on_user_registered)(void *, const uint8_t *, size_t, const uint8_t *, size_t);
    const uint8_t *(*error_message)(void *);
    void (*destroy)(void *);
    void (*on_shutdown)(void *);
} HookVTable;

static FILE *out;
static int state;

static void hex(const char *name, const uint8_t *bytes, size_t len)
{
    fprintf(out, " %s=", name);
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%02x", bytes[i]);
}

static void begin(void *user_data, const char *hook)
{
    fprintf(out, "%s%s", user_data == &state ? "" : "WRONG user_data in ", hook);
}

static void end(void)
{
    fputc('\n', out);
    fflush(out);
}

static void message(const CMessageEvent *event)
{
    if (event->sender_identity)
        hex("sender", event->sender_identity, event->sender_identity_len);
    hex("recipient", event->recipient_key, event->recipient_key_len);
    hex("channel", event->channel_id, event->channel_id_len);
    fprintf(out, " len=%zu seq=%llu", event->payload_len, (unsigned long long)event->seq);
}

static int32_t on_message_enqueue(void *user_data, const CMessageEvent *event)
{
    const char *refuse = getenv("WITNESS_REFUSE");
    begin(user_data, "enqueue");
    message(event);
    end();
    return refuse ? -7 : 0;
}

static void on_batch_enqueue(void *user_data, const CMessageEvent *events, size_t count)
{
    begin(user_data, "batch");
    fprintf(out, " count=%zu", count);
    for (size_t i = 0; i < count; i++)
        message(&events[i]);
    end();
}

static void on_auth(void *user_data, const CAuthEvent *event)
{
    begin(user_data, "auth");
    fprintf(out, " user=%s/%zu success=%d reason=%s/%zu", (const char *)event->username,
            event->username_len, event->success != 0, (const char *)event->failure_reason,
            event->failure_reason_len);
    end();
}

static void on_channel_created(void *user_data, const CChannelEvent *event)
{
    begin(user_data, "channel");
    hex("channel", event->channel_id, event->channel_id_len);
    hex("initiator", event->initiator_key, event->initiator_key_len);
    hex("peer", event->peer_key, event->peer_key_len);
    fprintf(out, " new=%d", event->was_new != 0);
    end();
}

static void on_fetch(void *user_data, const CFetchEvent *event)
{
    begin(user_data, "fetch");
    hex("recipient", event->recipient_key, event->recipient_key_len);
    hex("channel", event->channel_id, event->channel_id_len);
    fprintf(out, " count=%zu", event->message_count);
    end();
}

static void on_user_registered(void *user_data, const uint8_t *username, size_t len, const uint8_t *key, size_t key_len)
{
    begin(user_data, "registered");
    fprintf(out, " user=%s/%zu", (const char *)username, len);
    hex("key", key, key_len);
    end();
}

static const uint8_t *error_message(void *user_data)
{
    (void)user_data;
    return (const uint8_t *)getenv("WITNESS_REFUSE");
}

static void destroy(void *user_data)
{
    begin(user_data, "destroy");
    end();
}

static void on_shutdown(void *user_data)
{
    begin(user_data, "shutdown");
    end();
}

int32_t qpc_plugin_init(HookVTable *vtable)
{
    static const HookVTable zeroed;
    const HookVTable table = {
        &state, on_message_enqueue, on_batch_enqueue, on_auth, on_channel_created, on_fetch, on_user_registered,
        error_message, destroy, on_shutdown,
    };
    /* As a later version might: slots behind those of today. */
    char later[128];
    if (memcmp(vtable, &zeroed, sizeof zeroed) != 0)
        return -1;
    out = fopen(getenv("WITNESS"), "a");
    *vtable = table;
    memset(later, 0x55, sizeof later);
    memcpy(vtable + 1, later, sizeof later);
    return out ? 0 : -2;
}
