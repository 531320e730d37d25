/* Plugins that do not work, each by a macro of its own. */
#define _POSIX_C_SOURCE 200809L
#include "qpc_plugin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef NO_INIT
static int32_t on_message_enqueue(void *user_data, const CMessageEvent *event)
{
    (void)user_data, (void)event;
#if defined CRASHES_LATER
    abort();
#elif defined HANGS_LATER
    for (;;)
        pause();
#elif defined REASON
    return 2;
#endif
    return HOOK_CONTINUE;
}

#ifdef REASON
static const uint8_t *error_message(void *user_data)
{
    /* Neither short, nor UTF-8, nor fit for a terminal. */
    static char text[1024];
    (void)user_data;
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "no \x1b[31m\xff", 9);
    return (const uint8_t *)text;
}
#endif

#ifdef HANGS_IN_EVENT
static void on_auth(void *user_data, const CAuthEvent *event)
{
    (void)user_data, (void)event;
    for (;;)
        pause();
}
#endif

#ifdef OTHER_VERSION
uint32_t qpc_plugin_abi_version(void)
{
    return 0x00020000;
}
#endif

#ifdef REFUSES_SETTINGS
int32_t qpc_plugin_configure(const char *json)
{
    return strcmp(json, "{\"good\":true}") == 0 ? PLUGIN_OK : -3;
}
#endif

#ifdef UNDEFINED
void nowhere_to_be_found(void);
#endif

int32_t qpc_plugin_init(HookVTable *vtable)
{
#if defined FAILS
    return -42;
#elif defined CRASHES
    abort();
#elif defined EXITS
    exit(0);
#elif defined HANGS
    for (;;)
        pause();
#elif defined UNDEFINED
    nowhere_to_be_found();
#elif defined WILD
    /* Readable, and no code. */
    static char data[64];
    void *address = data;
    memcpy(&vtable->on_fetch, &address, sizeof address);
#elif defined HANGS_IN_EVENT
    vtable->on_auth = on_auth;
#endif
#ifdef REASON
    vtable->error_message = error_message;
#endif
#ifdef HANGS_IN_EVENT
    (void)on_message_enqueue;
#else
    vtable->on_message_enqueue = on_message_enqueue;
#endif
    return PLUGIN_OK;
}
#endif
