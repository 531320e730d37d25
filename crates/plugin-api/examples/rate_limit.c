/* So many messages in so much time for each sender. Settings: {"messages": 30, "seconds": 60}, which are the defaults.
 *
 *     cc -shared -fPIC -O2 -Icrates/plugin-api/include -o rate_limit.so crates/plugin-api/examples/rate_limit.c
 */
#define _POSIX_C_SOURCE 200809L
#include "qpc_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Senders that are remembered; who comes when all are taken gets the place of who was quiet for the longest. */
#define SENDERS 256

struct sender {
    uint8_t key[32];
    time_t since; /* when its time began; 0: a free place */
    long messages;
};

struct limit {
    long messages;
    long seconds;
    struct sender senders[SENDERS];
    char reason[96];
};

static struct limit limit = {.messages = 30, .seconds = 60};

/* Sealed senders have no key: they are limited together. */
static const uint8_t nobody[32];

static struct sender *find(const uint8_t *key)
{
    struct sender *oldest = limit.senders;
    for (struct sender *sender = limit.senders; sender < limit.senders + SENDERS; sender++) {
        if (sender->since != 0 && memcmp(sender->key, key, sizeof sender->key) == 0)
            return sender;
        if (sender->since < oldest->since)
            oldest = sender;
    }
    memcpy(oldest->key, key, sizeof oldest->key);
    oldest->since = 0;
    return oldest;
}

static int32_t on_message_enqueue(void *user_data, const CMessageEvent *event)
{
    (void)user_data;
    /* Not the wall clock, which may jump. */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct sender *sender = find(event->sender_identity ? event->sender_identity : nobody);
    if (sender->since == 0 || now.tv_sec - sender->since >= limit.seconds) {
        /* The clock may begin at 0, which is a free place's. */
        sender->since = now.tv_sec ? now.tv_sec : 1;
        sender->messages = 0;
    }
    if (sender->messages >= limit.messages) {
        snprintf(limit.reason, sizeof limit.reason, "at most %ld messages in %ld seconds", limit.messages,
                 limit.seconds);
        return HOOK_REJECT;
    }
    sender->messages++;
    return HOOK_CONTINUE;
}

static const uint8_t *error_message(void *user_data)
{
    (void)user_data;
    return (const uint8_t *)limit.reason;
}

/* The number behind "name": in a JSON object of numbers. 0 if it is wrong; *out stays as it is if there is none. */
static int number(const char *json, const char *name, long *out)
{
    char key[32];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *found = strstr(json, key);
    if (!found)
        return 1;
    char *end;
    *out = strtol(found + strlen(key), &end, 10);
    return *out > 0 && (*end == ',' || *end == '}');
}

int32_t qpc_plugin_configure(const char *json)
{
    /* The relay gives it without spaces. */
    return number(json, "messages", &limit.messages) && number(json, "seconds", &limit.seconds) ? PLUGIN_OK : -1;
}

uint32_t qpc_plugin_abi_version(void)
{
    return QPC_PLUGIN_ABI_VERSION;
}

int32_t qpc_plugin_init(HookVTable *vtable)
{
    vtable->on_message_enqueue = on_message_enqueue;
    vtable->error_message = error_message;
    return PLUGIN_OK;
}
