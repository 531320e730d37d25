/* Writes what happens to the system log, as daemon.info: who logs in and who fails to, new accounts, new channels, messages by sizes and
 * numbers. Settings: {"stderr": true} writes it to standard error as well.
 *
 *     cc -shared -fPIC -O2 -Icrates/plugin-api/include -o audit_log.so crates/plugin-api/examples/audit_log.c
 */
#define _DEFAULT_SOURCE
#include "qpc_plugin.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

static int options = LOG_PID | LOG_NDELAY;

/* The first bytes of a key or an id, which tell it from others in a log. */
struct brief {
    char text[17];
};

static struct brief brief(const uint8_t *bytes, size_t len)
{
    struct brief brief = {"sealed"};
    for (size_t i = 0; bytes && i < len && i < sizeof brief.text / 2; i++)
        snprintf(brief.text + 2 * i, 3, "%02x", bytes[i]);
    return brief;
}

static void on_batch_enqueue(void *user_data, const CMessageEvent *events, size_t count)
{
    (void)user_data;
    for (const CMessageEvent *event = events; event < events + count; event++)
        syslog(LOG_INFO, "message of %zu bytes from %s to %s in %s, number %llu", event->payload_len,
               brief(event->sender_identity, event->sender_identity_len).text,
               brief(event->recipient_key, event->recipient_key_len).text,
               brief(event->channel_id, event->channel_id_len).text, (unsigned long long)event->seq);
}

static void on_auth(void *user_data, const CAuthEvent *event)
{
    (void)user_data;
    const char *user = event->username_len ? (const char *)event->username : "somebody";
    if (event->success)
        syslog(LOG_INFO, "%s logged in", user);
    else
        syslog(LOG_NOTICE, "%s did not log in: %s", user, (const char *)event->failure_reason);
}

static void on_channel_created(void *user_data, const CChannelEvent *event)
{
    (void)user_data;
    if (event->was_new)
        syslog(LOG_INFO, "channel %s made by %s with %s", brief(event->channel_id, event->channel_id_len).text,
               brief(event->initiator_key, event->initiator_key_len).text,
               brief(event->peer_key, event->peer_key_len).text);
}

static void on_fetch(void *user_data, const CFetchEvent *event)
{
    (void)user_data;
    syslog(LOG_INFO, "%zu messages of %s reached %s", event->message_count,
           brief(event->channel_id, event->channel_id_len).text,
           brief(event->recipient_key, event->recipient_key_len).text);
}

static void on_user_registered(void *user_data, const uint8_t *username, size_t username_len, const uint8_t *key,
                               size_t key_len)
{
    (void)user_data;
    char hex[65] = "";
    for (size_t i = 0; i < key_len && i < sizeof hex / 2; i++)
        snprintf(hex + 2 * i, 3, "%02x", key[i]);
    syslog(LOG_INFO, "account %.*s with identity key %s", (int)username_len, (const char *)username, hex);
}

static void on_shutdown(void *user_data)
{
    (void)user_data;
    syslog(LOG_INFO, "the relay is going down");
}

static void destroy(void *user_data)
{
    (void)user_data;
    closelog();
}

int32_t qpc_plugin_configure(const char *json)
{
    if (strstr(json, "\"stderr\":true"))
        options |= LOG_PERROR;
    return PLUGIN_OK;
}

uint32_t qpc_plugin_abi_version(void)
{
    return QPC_PLUGIN_ABI_VERSION;
}

int32_t qpc_plugin_init(HookVTable *vtable)
{
    /* The time zone's file is out of reach in the relay's sandbox; the log's socket is not. */
    tzset();
    openlog("qpc-relay-audit", options, LOG_DAEMON);
    vtable->on_batch_enqueue = on_batch_enqueue;
    vtable->on_auth = on_auth;
    vtable->on_channel_created = on_channel_created;
    vtable->on_fetch = on_fetch;
    vtable->on_user_registered = on_user_registered;
    vtable->on_shutdown = on_shutdown;
    vtable->destroy = destroy;
    return PLUGIN_OK;
}
