//! A library of one's own, as C loads it: a callback that panics, beside everything in `ffi.h`. `tests/c/panics.c`
//! checks that the release build, too, turns the panic into an error.

use ffi_bridge::register_callback;

/// Registers a callback named `panics`.
#[unsafe(no_mangle)]
pub extern "C" fn set_up() -> i32 {
    register_callback("panics", |input| panic!("{} bytes were too many", input.len)).map_or(-1, |()| 0)
}
