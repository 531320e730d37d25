/* A callback in Rust that panics, in a release build: examples/panics.rs. */
#include "ffi.h"

#include "check.h"

int set_up(void);

int main(void) {
    CHECK(set_up() == 0);
    for (int n = 0; n < 2; n++) {
        FfiResult result = ffi_invoke_callback("panics", (FfiBuffer){(uint8_t *)"seven", 5, 5});
        CHECK(result.error_code == FFI_ERR_PANIC && result.payload.data == NULL);
        /* NUL-terminated, though only len is promised to those who look. */
        CHECK(strcmp(result.error_message.data, "panic caught at FFI boundary: 5 bytes were too many") == 0);
        ffi_result_free(result);
    }
    return report();
}
