/* Every function of ffi.h, used well and badly. What leaks or is freed twice, valgrind and AddressSanitizer say. */
#define _POSIX_C_SOURCE 200809L
#include "ffi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "check.h"

_Static_assert(sizeof(FfiBuffer) == 3 * sizeof(void *), "FfiBuffer");
_Static_assert(offsetof(FfiBuffer, len) == sizeof(void *), "FfiBuffer.len");
_Static_assert(offsetof(FfiBuffer, capacity) == 2 * sizeof(void *), "FfiBuffer.capacity");
_Static_assert(sizeof(FfiString) == 2 * sizeof(void *), "FfiString");
_Static_assert(offsetof(FfiString, len) == sizeof(void *), "FfiString.len");
_Static_assert(sizeof(FfiResult) == 6 * sizeof(void *), "FfiResult");
_Static_assert(offsetof(FfiResult, error_message) == sizeof(void *), "FfiResult.error_message");
_Static_assert(offsetof(FfiResult, payload) == 3 * sizeof(void *), "FfiResult.payload");

/* A buffer of the caller's own memory, as an input may be. */
static FfiBuffer input(const char *text) {
    return (FfiBuffer){(uint8_t *)text, strlen(text), strlen(text)};
}

static FfiBuffer buffer(const char *text) {
    FfiBuffer made = ffi_buffer_alloc(strlen(text));
    memcpy(made.data, text, made.capacity);
    made.len = made.capacity;
    return made;
}

static FfiResult ok(FfiBuffer payload) {
    return (FfiResult){.error_code = FFI_OK, .payload = payload};
}

static FfiResult failed(int code, const char *message) {
    return (FfiResult){.error_code = (FfiErrorCode)code, .error_message = ffi_string_alloc(message, strlen(message))};
}

static bool says(FfiString string, const char *text) {
    return string.len == strlen(text) && (string.len == 0 || memcmp(string.data, text, string.len) == 0);
}

static bool is_null(FfiBuffer buf) {
    return buf.data == NULL && buf.len == 0 && buf.capacity == 0;
}

/* Calls, compares, frees. */
static bool gives(const char *name, FfiBuffer in, const char *text) {
    FfiResult result = ffi_invoke_callback(name, in);
    bool so = result.error_code == FFI_OK && result.error_message.data == NULL && result.payload.len == strlen(text) &&
              (result.payload.len == 0 || memcmp(result.payload.data, text, result.payload.len) == 0);
    ffi_result_free(result);
    return so;
}

static bool fails(const char *name, FfiBuffer in, FfiErrorCode code, const char *message) {
    FfiResult result = ffi_invoke_callback(name, in);
    bool so = result.error_code == code && says(result.error_message, message) && is_null(result.payload);
    ffi_result_free(result);
    return so;
}

static void buffers(void) {
    FfiBuffer buf = ffi_buffer_alloc(128);
    CHECK(buf.data != NULL && buf.len == 0 && buf.capacity == 128);
    uint8_t zeros[128] = {0};
    CHECK(memcmp(buf.data, zeros, 128) == 0);
    ffi_buffer_free(buf);
    CHECK(is_null(ffi_buffer_alloc(0)));
    CHECK(is_null(ffi_buffer_alloc(SIZE_MAX)));
    CHECK(is_null(ffi_buffer_alloc(SIZE_MAX / 2)));
    ffi_buffer_free((FfiBuffer){0});
    ffi_buffer_free((FfiBuffer){(uint8_t *)zeros, 128, 0});
    ffi_buffer_free((FfiBuffer){(uint8_t *)zeros, 128, SIZE_MAX});

    FfiBuffer version = ffi_version();
    CHECK(version.len == 5 && memcmp(version.data, "1.0.0", 5) == 0);
    ffi_buffer_free(version);
}

static void strings(void) {
    FfiString str = ffi_string_alloc("h\xc3\xa9llo", 6);
    CHECK(says(str, "h\xc3\xa9llo") && str.data[6] == '\0');
    ffi_string_free(str);
    str = ffi_string_alloc("a\0b", 3);
    CHECK(str.len == 3 && memcmp(str.data, "a\0b", 4) == 0);
    ffi_string_free(str);
    CHECK(ffi_string_alloc(NULL, 3).data == NULL);
    CHECK(ffi_string_alloc("x", 0).data == NULL);
    CHECK(ffi_string_alloc("x", SIZE_MAX).data == NULL);
    CHECK(ffi_string_alloc("\xff", 1).data == NULL);
    ffi_string_free((FfiString){0});
}

static void results(void) {
    FfiResult copy = ffi_echo(input("echo"));
    CHECK(copy.error_code == FFI_OK && copy.payload.len == 4 && memcmp(copy.payload.data, "echo", 4) == 0);
    ffi_result_free(copy);
    copy = ffi_echo((FfiBuffer){0});
    CHECK(copy.error_code == FFI_OK && copy.payload.len == 0);
    ffi_result_free(copy);
    copy = ffi_echo((FfiBuffer){NULL, 4, 4});
    CHECK(copy.error_code == FFI_ERR_NULL_POINTER && says(copy.error_message, "null pointer received"));
    ffi_result_free(copy);
    copy = ffi_echo((FfiBuffer){(uint8_t *)"echo", 5, 4});
    CHECK(copy.error_code == FFI_ERR_BUFFER_TOO_SMALL);
    CHECK(says(copy.error_message, "buffer too small: need 5 bytes, have 4"));
    ffi_result_free(copy);
    ffi_result_free((FfiResult){0});
    ffi_result_free(failed(1234, "a code that is none"));
    FfiResult kept = ffi_echo(input("kept"));
    FfiBuffer payload = kept.payload;
    kept.payload = (FfiBuffer){0};
    ffi_result_free(kept);
    CHECK(memcmp(payload.data, "kept", 4) == 0);
    ffi_buffer_free(payload);
}

static void codes(void) {
    const char *text[] = {"ok",          "null pointer",         "buffer too small", "invalid utf-8", "serialization error",
                          "panic at ffi boundary", "timeout", "not found",        "lock poisoned"};
    for (int code = 0; code < 9; code++) CHECK(strcmp(ffi_error_code_str((FfiErrorCode)code), text[code]) == 0);
    CHECK(strcmp(ffi_error_code_str((FfiErrorCode)99), "unknown error") == 0);
    CHECK(strcmp(ffi_error_code_str((FfiErrorCode)98), "unrecognized error code") == 0);
    CHECK(FFI_OK == 0 && FFI_ERR_NULL_POINTER == 1 && FFI_ERR_BUFFER_TOO_SMALL == 2 && FFI_ERR_INVALID_UTF8 == 3);
    CHECK(FFI_ERR_SERIALIZATION == 4 && FFI_ERR_PANIC == 5 && FFI_ERR_TIMEOUT == 6 && FFI_ERR_NOT_FOUND == 7);
    CHECK(FFI_ERR_LOCK_POISONED == 8 && FFI_ERR_UNKNOWN == 99);
}

static FfiResult upper(FfiBuffer in) {
    FfiBuffer out = ffi_buffer_alloc(in.len);
    for (; out.len < in.len; out.len++) {
        uint8_t byte = in.data[out.len];
        out.data[out.len] = byte >= 'a' && byte <= 'z' ? byte - 0x20 : byte;
    }
    return ok(out);
}
static FfiResult lower(FfiBuffer in) {
    (void)in;
    return ok(buffer("lower"));
}

static void names(void) {
    CHECK(ffi_register_callback(NULL, upper) == -1);
    CHECK(ffi_register_callback("\xff", upper) == -1);
    CHECK(ffi_register_callback("case", NULL) == -1);
    CHECK(ffi_callback_count() == 0);
    CHECK(fails("case", input("x"), FFI_ERR_NOT_FOUND, "not found: case"));
    CHECK(fails(NULL, input("x"), FFI_ERR_NULL_POINTER, "null pointer received"));
    FfiResult result = ffi_invoke_callback("\xff", input("x"));
    CHECK(result.error_code == FFI_ERR_INVALID_UTF8);
    ffi_result_free(result);
    CHECK(ffi_register_callback("case", upper) == 0);
    CHECK(ffi_register_callback("", upper) == 0);
    CHECK(ffi_callback_count() == 2);
    CHECK(gives("case", input("abc"), "ABC"));
    CHECK(gives("", input("abc"), "ABC"));
    CHECK(fails("case", (FfiBuffer){NULL, 1, 1}, FFI_ERR_NULL_POINTER, "null pointer received"));
    CHECK(fails("case", (FfiBuffer){(uint8_t *)"x", 2, 1}, FFI_ERR_BUFFER_TOO_SMALL,
                "buffer too small: need 2 bytes, have 1"));
    CHECK(ffi_register_callback("case", lower) == 0);
    CHECK(ffi_callback_count() == 2);
    CHECK(gives("case", input("abc"), "lower"));
    CHECK(ffi_unregister_callback("case") == 0);
    CHECK(ffi_unregister_callback("case") == -1);
    CHECK(ffi_unregister_callback(NULL) == -1);
    CHECK(ffi_unregister_callback("\xff") == -1);
    CHECK(ffi_unregister_callback("") == 0);
    CHECK(ffi_callback_count() == 0);
}

/* Returns what the test put together. */
static FfiResult (*make)(FfiBuffer in);
static FfiResult made(FfiBuffer in) {
    return make(in);
}
static FfiResult known(FfiBuffer in) {
    (void)in;
    return failed(FFI_ERR_TIMEOUT, "no answer from row 7");
}
static FfiResult silent(FfiBuffer in) {
    (void)in;
    return (FfiResult){.error_code = FFI_ERR_SERIALIZATION};
}
static FfiResult unknown(FfiBuffer in) {
    (void)in;
    return failed(1234, "a code of our own");
}
static FfiResult unknown_silent(FfiBuffer in) {
    (void)in;
    return (FfiResult){.error_code = (FfiErrorCode)-7};
}
static FfiResult not_utf8(FfiBuffer in) {
    (void)in;
    FfiResult result = failed(FFI_ERR_TIMEOUT, "x");
    result.error_message.data[0] = '\xff';
    return result;
}
static FfiResult both(FfiBuffer in) {
    (void)in;
    FfiResult result = failed(FFI_ERR_NOT_FOUND, "and a payload");
    result.payload = buffer("nobody wants this");
    return result;
}
static FfiResult ok_with_message(FfiBuffer in) {
    (void)in;
    FfiResult result = failed(FFI_OK, "nobody wants this");
    result.payload = buffer("payload");
    return result;
}

static void errors(void) {
    CHECK(ffi_register_callback("made", made) == 0);
    make = known;
    CHECK(fails("made", input("x"), FFI_ERR_TIMEOUT, "no answer from row 7"));
    make = silent;
    CHECK(fails("made", input("x"), FFI_ERR_SERIALIZATION, ""));
    make = unknown;
    CHECK(fails("made", input("x"), FFI_ERR_UNKNOWN, "a code of our own"));
    make = unknown_silent;
    CHECK(fails("made", input("x"), FFI_ERR_UNKNOWN, "unknown error: error code -7"));
    make = not_utf8;
    CHECK(fails("made", input("x"), FFI_ERR_TIMEOUT, "\xef\xbf\xbd"));
    make = both;
    CHECK(fails("made", input("x"), FFI_ERR_NOT_FOUND, "and a payload"));
    make = ok_with_message;
    CHECK(gives("made", input("x"), "payload"));
}

static FfiResult identity(FfiBuffer in) {
    return ok(in);
}
static FfiResult tail(FfiBuffer in) {
    return ok((FfiBuffer){in.data + 4, in.len - 4, in.len - 4});
}
static FfiResult in_place(FfiBuffer in) {
    in.data[0] = 'X';
    return ok(in);
}
static FfiResult identity_in_an_error(FfiBuffer in) {
    return (FfiResult){FFI_ERR_TIMEOUT, {(char *)in.data, in.len}, in};
}
static FfiResult frees_it(FfiBuffer in) {
    ffi_buffer_free(in);
    ffi_result_free(ok(in));
    return upper(in);
}
static FfiResult constant(FfiBuffer in) {
    (void)in;
    return ok((FfiBuffer){(uint8_t *)"always there", 12, 0});
}
static FfiResult impossible(FfiBuffer in) {
    (void)in;
    return ok((FfiBuffer){NULL, 4, 4});
}
static FfiResult too_long(FfiBuffer in) {
    (void)in;
    FfiBuffer payload = buffer("four");
    payload.len = 5;
    return ok(payload);
}
static FfiResult empty(FfiBuffer in) {
    REQUIRE(is_null(in));
    return ok(in);
}

static void ownership(void) {
    FfiBuffer in = buffer("the same");
    make = identity;
    CHECK(gives("made", in, "the same"));
    make = tail;
    CHECK(gives("made", in, "same"));
    make = identity_in_an_error;
    CHECK(fails("made", in, FFI_ERR_TIMEOUT, "the same"));
    make = frees_it;
    CHECK(gives("made", in, "THE SAME"));
    make = in_place;
    CHECK(gives("made", in, "Xhe same"));
    CHECK(memcmp(in.data, "Xhe same", 8) == 0);
    ffi_buffer_free(in);
    make = constant;
    CHECK(gives("made", input("x"), "always there"));
    make = impossible;
    CHECK(fails("made", input("x"), FFI_ERR_NULL_POINTER, "null pointer received"));
    make = too_long;
    CHECK(fails("made", input("x"), FFI_ERR_BUFFER_TOO_SMALL, "buffer too small: need 5 bytes, have 4"));

    /* As the seed page has it, which frees the buffer before the call. */
    make = empty;
    FfiBuffer buf = ffi_buffer_alloc(128);
    ffi_buffer_free(buf);
    FfiResult result = ffi_invoke_callback("made", buf);
    CHECK(result.error_code == FFI_OK);
    ffi_result_free(result);
    make = lower;
    buf = ffi_buffer_alloc(5);
    ffi_buffer_free(buf);
    CHECK(gives("made", buf, "lower"));
    CHECK(ffi_unregister_callback("made") == 0);
}

static FfiResult countdown(FfiBuffer in) {
    if (in.len == 0) return ok(buffer("done"));
    return ffi_invoke_callback("countdown", (FfiBuffer){in.data, in.len - 1, 0});
}
static FfiResult busy(FfiBuffer in) {
    REQUIRE(ffi_unregister_callback("busy") == 0);
    REQUIRE(ffi_register_callback("other", upper) == 0);
    REQUIRE(ffi_register_callback("busy", lower) == 0);
    REQUIRE(gives("busy", in, "lower"));
    return ffi_invoke_callback("other", in);
}

static void reentrance(void) {
    CHECK(ffi_register_callback("countdown", countdown) == 0);
    CHECK(gives("countdown", input("100 deep, or nearly so"), "done"));
    CHECK(ffi_register_callback("busy", busy) == 0);
    CHECK(gives("busy", input("abc"), "ABC"));
    CHECK(gives("busy", input("abc"), "lower"));
    CHECK(ffi_callback_count() == 3);
    CHECK(ffi_unregister_callback("countdown") == 0 && ffi_unregister_callback("busy") == 0);
    CHECK(ffi_unregister_callback("other") == 0);
}

typedef struct {
    atomic_int calls, freed;
} User;

static FfiResult with_user(void *user, FfiBuffer in) {
    REQUIRE(((User *)user)->freed == 0);
    ((User *)user)->calls++;
    return upper(in);
}
static FfiResult takes_itself_out(void *user, FfiBuffer in) {
    REQUIRE(ffi_unregister_callback("user") == 0);
    return with_user(user, in);
}
static void free_user(void *user) {
    ((User *)user)->freed++;
    ffi_callback_count(); /* not locked out */
}

static void users(void) {
    User first = {0}, second = {0}, third = {0};
    CHECK(ffi_register_user_callback("user", with_user, &first, free_user) == 0);
    CHECK(gives("user", input("abc"), "ABC") && first.calls == 1 && first.freed == 0);
    CHECK(ffi_register_user_callback("user", takes_itself_out, &second, free_user) == 0);
    CHECK(first.freed == 1);
    CHECK(gives("user", input("abc"), "ABC") && second.calls == 1 && second.freed == 1);
    CHECK(ffi_callback_count() == 0);
    CHECK(ffi_register_user_callback(NULL, with_user, &third, free_user) == -1 && third.freed == 1);
    CHECK(ffi_register_user_callback("\xff", with_user, &third, free_user) == -1 && third.freed == 2);
    CHECK(ffi_register_user_callback("user", NULL, &third, free_user) == -1 && third.freed == 3);
    User fourth = {0};
    CHECK(ffi_register_user_callback("user", with_user, &fourth, NULL) == 0);
    CHECK(gives("user", input("abc"), "ABC") && ffi_unregister_callback("user") == 0 && fourth.freed == 0);
}

static pthread_barrier_t meeting;
static FfiResult meets(FfiBuffer in) {
    pthread_barrier_wait(&meeting); /* nobody gets past this unless all are in the callback at once */
    return upper(in);
}
static void *go_to_meeting(void *nothing) {
    REQUIRE(gives("meets", input("abc"), "ABC"));
    return nothing;
}
static void *call_what_is_there(void *user) {
    (void)user;
    for (int n = 0; n < 2000; n++) {
        FfiResult result = ffi_invoke_callback("comes and goes", input("abc"));
        REQUIRE(result.error_code == FFI_OK || result.error_code == FFI_ERR_NOT_FOUND);
        ffi_result_free(result);
    }
    return NULL;
}
static void *come_and_go(void *user) {
    for (int n = 0; n < 2000; n++) {
        User *fresh = calloc(1, sizeof(User));
        (void)user;
        REQUIRE(ffi_register_user_callback("comes and goes", with_user, fresh, free) == 0);
        if (n % 2) REQUIRE(ffi_unregister_callback("comes and goes") == 0);
    }
    return NULL;
}

static void threads(void) {
    pthread_t thread[4];
    pthread_barrier_init(&meeting, NULL, 4);
    CHECK(ffi_register_callback("meets", meets) == 0);
    for (int n = 0; n < 4; n++) REQUIRE(pthread_create(&thread[n], NULL, go_to_meeting, NULL) == 0);
    for (int n = 0; n < 4; n++) CHECK(pthread_join(thread[n], NULL) == 0);
    CHECK(ffi_unregister_callback("meets") == 0);
    for (int n = 0; n < 4; n++)
        REQUIRE(pthread_create(&thread[n], NULL, n ? call_what_is_there : come_and_go, NULL) == 0);
    for (int n = 0; n < 4; n++) CHECK(pthread_join(thread[n], NULL) == 0);
    CHECK(ffi_callback_count() == 0);
}

/* 100,000 rounds of everything that allocates, every kind of end included. */
static void rounds(void) {
    REQUIRE(ffi_register_callback("made", made) == 0);
    FfiResult (*kinds[])(FfiBuffer) = {upper, identity, known, unknown, both, ok_with_message, identity_in_an_error, too_long};
    const FfiErrorCode ends[] = {FFI_OK, FFI_OK,          FFI_ERR_TIMEOUT, FFI_ERR_UNKNOWN, FFI_ERR_NOT_FOUND,
                                 FFI_OK, FFI_ERR_TIMEOUT, FFI_ERR_BUFFER_TOO_SMALL};
    unsigned long calls = 0;
    for (unsigned n = 0; n < 100000; n++) {
        FfiBuffer in = ffi_buffer_alloc(64);
        in.len = n % 64;
        make = kinds[n % 8];
        FfiResult result = ffi_invoke_callback("made", in);
        REQUIRE(result.error_code == ends[n % 8]);
        ffi_result_free(result);
        ffi_result_free(ffi_invoke_callback("nobody", in));
        ffi_result_free(ffi_echo(in));
        ffi_buffer_free(ffi_version());
        ffi_string_free(ffi_string_alloc("text", 4));
        ffi_buffer_free(in);
        REQUIRE(ffi_register_callback("made", made) == 0);
        calls += 10;
    }
    CHECK(calls == 1000000);
    CHECK(ffi_unregister_callback("made") == 0);
}

int main(void) {
    buffers();
    strings();
    results();
    codes();
    names();
    errors();
    ownership();
    reentrance();
    users();
    threads();
    rounds();
    return report();
}
