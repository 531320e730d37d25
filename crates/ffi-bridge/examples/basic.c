/* A callback by name, from C: cc basic.c $(pkg-config --cflags --libs ffi_bridge) */
#include <ffi.h>
#include <stdio.h>

/* Adds up its input's bytes, and counts its calls where `user` points to. */
static FfiResult sum(void *user, FfiBuffer input) {
    FfiResult result = {.error_code = FFI_OK};
    ++*(unsigned *)user;
    result.payload = ffi_buffer_alloc(32);
    if (result.payload.data == NULL) {
        result.error_code = FFI_ERR_UNKNOWN;
        result.error_message = ffi_string_alloc("no memory", 9);
        return result;
    }
    unsigned total = 0;
    for (size_t n = 0; n < input.len; n++) total += input.data[n];
    result.payload.len = (size_t)snprintf((char *)result.payload.data, result.payload.capacity, "%u", total);
    return result;
}

static void show(const char *name, FfiBuffer input) {
    FfiResult result = ffi_invoke_callback(name, input);
    if (result.error_code == FFI_OK)
        printf("%s: %.*s\n", name, (int)result.payload.len, (const char *)result.payload.data);
    else
        printf("%s: %s: %.*s\n", name, ffi_error_code_str(result.error_code), (int)result.error_message.len,
               result.error_message.data);
    ffi_result_free(result);
}

int main(void) {
    unsigned calls = 0;
    if (ffi_register_user_callback("sum", sum, &calls, NULL) != 0) return 1;
    uint8_t bytes[] = {20, 22};
    show("sum", (FfiBuffer){bytes, sizeof bytes, sizeof bytes});
    show("product", (FfiBuffer){bytes, sizeof bytes, sizeof bytes});
    ffi_unregister_callback("sum");
    printf("%u call\n", calls);
    return 0;
}
