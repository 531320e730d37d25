/* libquicprochat_ffi.a and libffi_bridge.a in one program: two copies of Rust's standard library that must not meet. */
#include "ffi.h"
#include "quicprochat.h"

#include "check.h"

int main(void) {
    CHECK(qpc_connect("127.0.0.1:1", "/nonexistent/ca.der", "localhost") == NULL);
    FfiBuffer said = {(uint8_t *)qpc_last_connect_error(), strlen(qpc_last_connect_error()), 0};
    CHECK(said.len > 0);
    FfiResult copy = ffi_echo(said);
    CHECK(copy.error_code == FFI_OK && copy.payload.len == said.len && memcmp(copy.payload.data, said.data, said.len) == 0);
    ffi_result_free(copy);
    CHECK(qpc_login(NULL, "alice", "secret") == QPC_NOT_CONNECTED);
    return report();
}
