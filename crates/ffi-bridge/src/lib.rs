//! What it takes to hand bytes, text, errors and callbacks over a C boundary, and to keep panics from crossing it.
//!
//! C and Go see eleven functions and three structs, passed by value ([`FfiBuffer`], [`FfiString`], [`FfiResult`]),
//! described in `shared/ffi.h`; that header is generated from the module `c`, which holds every exported symbol and
//! is the only place where a value made by C comes in. The functions of the same names that this crate offers to Rust
//! are what those symbols call.
//!
//! A call by name goes: `c` -> [`ffi_invoke_callback`] -> `registry`, which hands out a share of the callback and is
//! unlocked again -> `lent`, which remembers what the callback only borrows -> the callback -> [`FfiResult`], put in
//! order for whoever frees it.
//!
//! A library of your own is made of [`BridgeCall`], for functions that turn a buffer into a result, and
//! [`register_callback`]:
//!
//! ```
//! use ffi_bridge::{BridgeCall, FfiBuffer, FfiError, FfiResult, register_callback};
//!
//! fn total(numbers: Vec<i64>) -> Result<i64, FfiError> {
//!     numbers.iter().try_fold(0_i64, |sum, n| sum.checked_add(*n)).ok_or(FfiError::Unknown("too large".into()))
//! }
//!
//! #[unsafe(no_mangle)]
//! pub extern "C" fn my_total(input: FfiBuffer) -> FfiResult {
//!     BridgeCall::new(input).run_json(total)
//! }
//!
//! // The same by name, for callers that are not linked against it.
//! register_callback("my.total", |input| BridgeCall::new(input).run_json(total))?;
//! # Ok::<(), FfiError>(())
//! ```

pub use bridge::{BridgeCall, ffi_echo, ffi_version};
pub use callback::{
    FfiCallback, callback_count, ffi_callback_count, ffi_invoke_callback, ffi_register_callback,
    ffi_unregister_callback, register_callback, unregister_callback,
};
pub use errors::{FfiError, FfiErrorCode, FfiResult, catch_panic, ffi_result_free};
pub use memory::{
    FfiBuffer, FfiString, ffi_buffer_alloc, ffi_buffer_free, ffi_string_alloc, ffi_string_free,
};
pub use types::{BridgeValue, FfiBufferResult, check_not_null, check_not_null_mut, cstr_to_string};

mod bridge;
mod c;
mod callback;
mod errors;
#[cfg(test)]
mod headers;
mod lent;
mod memory;
mod registry;
mod types;

/// What the registry is made of; its loom tests put loom's in the place.
mod sync {
    pub(crate) use std::sync::{Arc, Mutex};
}
