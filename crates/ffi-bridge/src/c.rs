//! The exported symbols. `shared/ffi.h` is made of this file's documentation and signatures.

use crate::callback::{self, status};
use crate::errors::{FfiError, FfiErrorCode, FfiResult};
use crate::memory::{self, FfiBuffer, FfiString};
use crate::{bridge, types};
use ffi_bridge_guard::guard;
use std::ffi::{c_char, c_void};
use std::panic::AssertUnwindSafe;

/// An [`FfiResult`] as C hands it in, whose error code may be any number.
#[repr(C)]
struct AnyResult {
    error_code: i32,
    error_message: FfiString,
    payload: FfiBuffer,
}

const _: () = {
    assert!(size_of::<AnyResult>() == size_of::<FfiResult>());
    assert!(std::mem::offset_of!(AnyResult, payload) == std::mem::offset_of!(FfiResult, payload));
};

impl From<AnyResult> for FfiResult {
    fn from(any: AnyResult) -> Self {
        let AnyResult { error_code: number, error_message, payload } = any;
        if let Some(error_code) = FfiErrorCode::from_number(number) {
            return Self { error_code, error_message, payload };
        }
        let error_message = if error_message.len > 0 {
            error_message
        } else {
            FfiString::new(&FfiError::Unknown(format!("error code {number}")).message())
        };
        Self { error_code: FfiErrorCode::Unknown, error_message, payload }
    }
}

// "C-unwind": an exception of C++ that comes out of one ends the program instead of being undefined behaviour.

/// What is called by name.
type AnyCallback = extern "C-unwind" fn(input: FfiBuffer) -> AnyResult;

/// The same with what its registrant wanted to have with it; see ffi_register_user_callback.
type AnyUserCallback = extern "C-unwind" fn(user: *mut c_void, input: FfiBuffer) -> AnyResult;

/// Frees that.
type FreeUser = extern "C-unwind" fn(user: *mut c_void);

/// What a callback's registrant wants to have with it.
struct User {
    pointer: *mut c_void,
    free: Option<FreeUser>,
}

// SAFETY: the header says that it is used from all threads that call the callback.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            free(self.pointer);
        }
    }
}

/// What C gets if a panic was caught. Nothing but a callback can panic, and what calls those says so itself; this is
/// for mistakes of ours, and for callbacks that panic when they are dropped.
trait AfterPanic {
    fn after_panic(message: String) -> Self;
}

impl AfterPanic for () {
    fn after_panic(_: String) {}
}

impl AfterPanic for i32 {
    fn after_panic(_: String) -> Self {
        -2
    }
}

impl AfterPanic for usize {
    fn after_panic(_: String) -> Self {
        0
    }
}

impl AfterPanic for FfiBuffer {
    fn after_panic(_: String) -> Self {
        Self::null()
    }
}

impl AfterPanic for FfiString {
    fn after_panic(_: String) -> Self {
        Self::null()
    }
}

impl AfterPanic for FfiResult {
    fn after_panic(message: String) -> Self {
        Self::err(FfiError::Panic(message))
    }
}

/// Runs what C called. Nothing it works on is left half changed by a panic: tables change in one step.
fn guarded<T: AfterPanic>(run: impl FnOnce() -> T) -> T {
    guard(AssertUnwindSafe(run)).unwrap_or_else(T::after_panic)
}

/// Allocates a buffer of `capacity` bytes, all of them 0, with `len` 0. The caller writes into `data`, sets `len`,
/// and frees it with ffi_buffer_free. Returns the empty buffer (all fields 0) if `capacity` is 0 or there is no
/// memory.
#[unsafe(no_mangle)]
extern "C" fn ffi_buffer_alloc(capacity: usize) -> FfiBuffer {
    guarded(|| memory::ffi_buffer_alloc(capacity))
}

/// Frees a buffer that this library made. Does nothing if `data` is NULL or `capacity` is 0, and nothing to what a
/// callback that runs in this thread got as its input.
#[unsafe(no_mangle)]
extern "C" fn ffi_buffer_free(buf: FfiBuffer) {
    guarded(|| memory::ffi_buffer_free(buf));
}

/// Copies `len` bytes of UTF-8. The caller frees the copy with ffi_string_free. Returns the empty string if `str` is
/// NULL, `len` is 0, the bytes are not UTF-8, or there is no memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn ffi_string_alloc(str: *const c_char, len: usize) -> FfiString {
    // SAFETY: the caller's promise: NULL or that many bytes.
    guarded(|| unsafe { memory::ffi_string_alloc(str.cast(), len) })
}

/// Frees a string that this library made. Does nothing if `data` is NULL.
#[unsafe(no_mangle)]
extern "C" fn ffi_string_free(str: FfiString) {
    guarded(|| memory::ffi_string_free(str));
}

/// Frees message and payload of a result, whatever its error code is. Whoever keeps one of them sets it to zero in
/// the result first.
#[unsafe(no_mangle)]
extern "C" fn ffi_result_free(result: AnyResult) {
    guarded(|| {
        memory::ffi_string_free(result.error_message);
        memory::ffi_buffer_free(result.payload);
    });
}

/// Gives a callback a name, in place of whatever had that name. Returns 0, or -1 if `name` is NULL or not UTF-8 or
/// `cb` is NULL, or -2 if the lock of the table is poisoned.
#[unsafe(no_mangle)]
unsafe extern "C" fn ffi_register_callback(name: *const c_char, cb: Option<AnyCallback>) -> i32 {
    guarded(|| {
        let Some(cb) = cb else { return -1 };
        // SAFETY: the caller's promise: NULL or a NUL-terminated string.
        let name = unsafe { types::text(name) };
        status(name.and_then(|name| callback::register_callback(name, move |input| cb(input).into())))
    })
}

/// Calls the callback of this name with `input`, which stays the caller's, and returns what it returned. Besides the
/// callback's own errors: FFI_ERR_NOT_FOUND if there is none of that name; FFI_ERR_NULL_POINTER if `name` is NULL, or
/// `input` has a `len` but no `data`; FFI_ERR_INVALID_UTF8 if `name` is not UTF-8; FFI_ERR_BUFFER_TOO_SMALL if `len`
/// is over a `capacity` that is not 0; FFI_ERR_PANIC if the callback is written in Rust and panicked.
#[unsafe(no_mangle)]
unsafe extern "C" fn ffi_invoke_callback(name: *const c_char, input: FfiBuffer) -> FfiResult {
    // SAFETY: the caller's promise: NULL or a NUL-terminated string.
    guarded(|| unsafe { callback::ffi_invoke_callback(name, input) })
}

/// Takes a callback out; calls of it that have begun, in other threads or further up in this one, run to their end.
/// Returns 0, or -1 if there is none of that name or `name` is NULL or not UTF-8, or -2 if the lock of the table is
/// poisoned.
#[unsafe(no_mangle)]
unsafe extern "C" fn ffi_unregister_callback(name: *const c_char) -> i32 {
    // SAFETY: the caller's promise: NULL or a NUL-terminated string.
    guarded(|| unsafe { callback::ffi_unregister_callback(name) })
}

/// Returns how many callbacks are registered, or 0 if the lock of the table is poisoned.
#[unsafe(no_mangle)]
extern "C" fn ffi_callback_count() -> usize {
    guarded(callback::ffi_callback_count)
}

/// Returns a copy of `input`, which stays the caller's. Errors are those of ffi_invoke_callback that are about
/// `input`.
#[unsafe(no_mangle)]
extern "C" fn ffi_echo(input: FfiBuffer) -> FfiResult {
    guarded(|| bridge::ffi_echo(input))
}

/// Returns the version of this library, "1.0.0" for example, without a NUL. The caller frees it with ffi_buffer_free.
#[unsafe(no_mangle)]
extern "C" fn ffi_version() -> FfiBuffer {
    guarded(bridge::ffi_version)
}

/// An addition to the functions above: as ffi_register_callback, for a callback that gets `user` with every call.
/// Once nothing can call it any more (it was unregistered or replaced, and the last call of it is over; or it could
/// not be registered) `free_user`, unless NULL, is called with `user`, once, in the thread in which that came about.
#[unsafe(no_mangle)]
unsafe extern "C" fn ffi_register_user_callback(
    name: *const c_char,
    cb: Option<AnyUserCallback>,
    user: *mut c_void,
    free_user: Option<FreeUser>,
) -> i32 {
    let user = User { pointer: user, free: free_user };
    guarded(move || {
        let Some(cb) = cb else { return -1 };
        let run = move |input| {
            // The whole of it, not its pointer alone, lives as long as this closure.
            let User { pointer, .. } = &user;
            cb(*pointer, input).into()
        };
        // SAFETY: the caller's promise: NULL or a NUL-terminated string.
        let name = unsafe { types::text(name) };
        status(name.and_then(|name| callback::register_callback(name, run)))
    })
}
