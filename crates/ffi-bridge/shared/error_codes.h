/* error_codes.h - the error codes of ffi-bridge, for whoever needs nothing else; ffi.h includes it.
 *
 * Generated from crates/ffi-bridge/src by `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers`. */
#ifndef FFI_BRIDGE_ERROR_CODES_H
#define FFI_BRIDGE_ERROR_CODES_H

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong, as a number. They are stable: none is ever renumbered or removed. */
typedef enum FfiErrorCode {
    FFI_OK = 0,                      /* Success. */
    FFI_ERR_NULL_POINTER = 1,        /* A pointer that must not be NULL was. */
    FFI_ERR_BUFFER_TOO_SMALL = 2,    /* A buffer is smaller than it needs to be. */
    FFI_ERR_INVALID_UTF8 = 3,        /* Text is not valid UTF-8. */
    FFI_ERR_SERIALIZATION = 4,       /* A value could not be written as JSON, or JSON not be read. */
    FFI_ERR_PANIC = 5,               /* A panic was caught at the boundary. */
    FFI_ERR_TIMEOUT = 6,             /* The time for it ran out. */
    FFI_ERR_NOT_FOUND = 7,           /* There is nothing of that name. */
    FFI_ERR_LOCK_POISONED = 8,       /* A panic came while the table of callbacks was being changed. */
    FFI_ERR_UNKNOWN = 99,            /* Anything else. */
} FfiErrorCode;

/* A word or two about a code. */
static inline const char *ffi_error_code_str(FfiErrorCode code) {
    switch (code) {
    case FFI_OK: return "ok";
    case FFI_ERR_NULL_POINTER: return "null pointer";
    case FFI_ERR_BUFFER_TOO_SMALL: return "buffer too small";
    case FFI_ERR_INVALID_UTF8: return "invalid utf-8";
    case FFI_ERR_SERIALIZATION: return "serialization error";
    case FFI_ERR_PANIC: return "panic at ffi boundary";
    case FFI_ERR_TIMEOUT: return "timeout";
    case FFI_ERR_NOT_FOUND: return "not found";
    case FFI_ERR_LOCK_POISONED: return "lock poisoned";
    case FFI_ERR_UNKNOWN: return "unknown error";
    default: return "unrecognized error code";
    }
}

#ifdef __cplusplus
}
#endif

#endif
