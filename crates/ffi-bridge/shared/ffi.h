/* ffi.h - buffers, results and callbacks by name, over a C boundary.
 *
 * Link with -lffi_bridge, or ask pkg-config for ffi_bridge.
 *
 * Generated from crates/ffi-bridge/src by `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers`.
 *
 * Ownership. What this library makes, it frees, once: a buffer by ffi_buffer_free, a string by ffi_string_free, a
 * result, with all that is in it, by ffi_result_free. free() is not for them. A buffer that goes into a call stays
 * the caller's, and only has to be readable until the call is over; its memory may be of any kind.
 *
 * Callbacks. The input is borrowed: it is not to be freed or kept. What a callback returns belongs to the caller from
 * then on, so its message comes from ffi_string_alloc and its payload from ffi_buffer_alloc; or the payload is the
 * input or a part of it, of which the caller gets a copy, or memory that is always there, with a `capacity` of 0. On
 * success the caller sees no message, on error no payload. An error code that is none of FfiErrorCode reaches the
 * caller as FFI_ERR_UNKNOWN, with the message it came with. An empty input arrives as all zeros. A callback is not
 * left by longjmp or by an exception.
 *
 * Threads. Every function may be called from every thread. A callback runs in the thread that calls it, in several at
 * once, and holds up no other; it may register, call and unregister callbacks, also the one it is. Memory may be
 * freed in another thread than it was made in.
 *
 * Errors. No function lets a panic out. None ends the process, but for lack of memory for a message or a name. */
#ifndef FFI_BRIDGE_H
#define FFI_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#include "error_codes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes on their way over the boundary, made by this library and freed by it, once. `data` and `capacity` are to be
 * read only; whoever writes into the memory sets `len`. One with a `capacity` of 0 owns nothing: freeing it does
 * nothing. */
typedef struct FfiBuffer {
    uint8_t *data;                   /* The bytes, or NULL. */
    size_t len;                      /* How many of them are in use. */
    size_t capacity;                 /* How many were allocated. */
} FfiBuffer;

/* UTF-8 text on its way over the boundary, made by this library and freed by it, once and unchanged. A NUL that
 * `len` does not count follows the text, for readers that forget to look at `len`. */
typedef struct FfiString {
    char *data;                      /* The text, or NULL. */
    size_t len;                      /* Its bytes. */
} FfiString;

/* What a call gives: on success a payload, otherwise an error code and a message. It is freed by ffi_result_free,
 * once, whatever it is. */
typedef struct FfiResult {
    FfiErrorCode error_code;         /* What went wrong, or that nothing did. */
    FfiString error_message;         /* A sentence about it; empty on success. */
    FfiBuffer payload;               /* What was asked for; empty on error. */
} FfiResult;

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(FfiErrorCode) == 4, "compile without -fshort-enums");
#endif

/* What is called by name. */
typedef FfiResult (*FfiCallback)(FfiBuffer input);

/* The same with what its registrant wanted to have with it; see ffi_register_user_callback. */
typedef FfiResult (*FfiUserCallback)(void *user, FfiBuffer input);

/* Frees that. */
typedef void (*FfiFreeUser)(void *user);

/* Allocates a buffer of `capacity` bytes, all of them 0, with `len` 0. The caller writes into `data`, sets `len`,
 * and frees it with ffi_buffer_free. Returns the empty buffer (all fields 0) if `capacity` is 0 or there is no
 * memory. */
FfiBuffer ffi_buffer_alloc(size_t capacity);

/* Frees a buffer that this library made. Does nothing if `data` is NULL or `capacity` is 0, and nothing to what a
 * callback that runs in this thread got as its input. */
void ffi_buffer_free(FfiBuffer buf);

/* Copies `len` bytes of UTF-8. The caller frees the copy with ffi_string_free. Returns the empty string if `str` is
 * NULL, `len` is 0, the bytes are not UTF-8, or there is no memory. */
FfiString ffi_string_alloc(const char *str, size_t len);

/* Frees a string that this library made. Does nothing if `data` is NULL. */
void ffi_string_free(FfiString str);

/* Frees message and payload of a result, whatever its error code is. Whoever keeps one of them sets it to zero in
 * the result first. */
void ffi_result_free(FfiResult result);

/* Gives a callback a name, in place of whatever had that name. Returns 0, or -1 if `name` is NULL or not UTF-8 or
 * `cb` is NULL, or -2 if the lock of the table is poisoned. */
int32_t ffi_register_callback(const char *name, FfiCallback cb);

/* Calls the callback of this name with `input`, which stays the caller's, and returns what it returned. Besides the
 * callback's own errors: FFI_ERR_NOT_FOUND if there is none of that name; FFI_ERR_NULL_POINTER if `name` is NULL, or
 * `input` has a `len` but no `data`; FFI_ERR_INVALID_UTF8 if `name` is not UTF-8; FFI_ERR_BUFFER_TOO_SMALL if `len`
 * is over a `capacity` that is not 0; FFI_ERR_PANIC if the callback is written in Rust and panicked. */
FfiResult ffi_invoke_callback(const char *name, FfiBuffer input);

/* Takes a callback out; calls of it that have begun, in other threads or further up in this one, run to their end.
 * Returns 0, or -1 if there is none of that name or `name` is NULL or not UTF-8, or -2 if the lock of the table is
 * poisoned. */
int32_t ffi_unregister_callback(const char *name);

/* Returns how many callbacks are registered, or 0 if the lock of the table is poisoned. */
size_t ffi_callback_count(void);

/* Returns a copy of `input`, which stays the caller's. Errors are those of ffi_invoke_callback that are about
 * `input`. */
FfiResult ffi_echo(FfiBuffer input);

/* Returns the version of this library, "1.0.0" for example, without a NUL. The caller frees it with ffi_buffer_free. */
FfiBuffer ffi_version(void);

/* An addition to the functions above: as ffi_register_callback, for a callback that gets `user` with every call.
 * Once nothing can call it any more (it was unregistered or replaced, and the last call of it is over; or it could
 * not be registered) `free_user`, unless NULL, is called with `user`, once, in the thread in which that came about. */
int32_t ffi_register_user_callback(const char *name, FfiUserCallback cb, void *user, FfiFreeUser free_user);

#ifdef __cplusplus
}
#endif

#endif
