#include "ctest.h"

#include <malloc.h>
#include <string.h>

#include "ffi.h"

/* What AddressSanitizer has in malloc's place; not there otherwise. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

size_t allocated(void) {
    if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static FfiResult identity(FfiBuffer input) {
    return (FfiResult){.error_code = FFI_OK, .payload = input};
}

static FfiResult large(FfiBuffer input) {
    FfiBuffer payload = ffi_buffer_alloc(64 * 1024);
    payload.len = payload.capacity;
    memset(payload.data, input.len ? input.data[0] : 0, payload.len);
    return (FfiResult){.error_code = FFI_OK, .payload = payload};
}

static FfiResult late(FfiBuffer input) {
    (void)input;
    return (FfiResult){.error_code = FFI_ERR_TIMEOUT, .error_message = ffi_string_alloc("no answer from row 7", 20)};
}

static FfiResult unknown(FfiBuffer input) {
    (void)input;
    return (FfiResult){.error_code = (FfiErrorCode)1234, .error_message = ffi_string_alloc("a code of our own", 17)};
}

int register_all(void) {
    return ffi_register_callback("ctest.identity", identity) | ffi_register_callback("ctest.large", large) |
           ffi_register_callback("ctest.late", late) | ffi_register_callback("ctest.unknown", unknown);
}
