use crate::errors::{FfiError, FfiResult};
use crate::lent;
use crate::memory::FfiBuffer;
use crate::registry::Registry;
use crate::sync::Mutex;
use crate::types::text;
use ffi_bridge_guard::guard;
use std::collections::BTreeMap;
use std::ffi::c_char;
use std::panic::AssertUnwindSafe;

/// A callback without a closure, as [`ffi_register_callback`] takes it.
pub type FfiCallback = extern "C" fn(FfiBuffer) -> FfiResult;

type Callback = Box<dyn Fn(FfiBuffer) -> FfiResult + Send + Sync>;

static CALLBACKS: Registry<Callback> = Registry(Mutex::new(BTreeMap::new()));

/// Gives `callback` a name under which C, Go and Rust can call it, in place of whatever had that name.
///
/// It runs in the thread of whoever calls it, in several at once, without a lock held: it may register, call and
/// unregister callbacks, itself too. Its input stays the caller's; it may give it back as its payload, which makes a
/// copy. A panic in it becomes an error.
pub fn register_callback<F>(name: &str, callback: F) -> Result<(), FfiError>
where
    F: Fn(FfiBuffer) -> FfiResult + Send + Sync + 'static,
{
    Ok(CALLBACKS.insert(name, Box::new(callback))?)
}

/// Takes a callback out and says whether it was there. Calls of it that have begun run to their end.
pub fn unregister_callback(name: &str) -> Result<bool, FfiError> {
    Ok(CALLBACKS.remove(name)?)
}

/// How many callbacks are registered; 0 if nobody can say, because the lock is poisoned.
pub fn callback_count() -> usize {
    CALLBACKS.len().unwrap_or(0)
}

fn invoke(name: &str, input: &FfiBuffer) -> Result<FfiResult, FfiError> {
    input.check()?;
    let callback = CALLBACKS.share(name)?.ok_or_else(|| FfiError::NotFound(name.to_owned()))?;
    // SAFETY: a callback's promise, settled while it can be told what was lent to it.
    Ok(lent::lend(input, |input| unsafe { callback(input).settled() }))
}

/// [`register_callback`] for a function: 0 if it is registered, -1 if the name is NULL or not UTF-8, -2 if the lock
/// is poisoned.
///
/// # Safety
/// `name` is NULL or a NUL-terminated string.
pub unsafe fn ffi_register_callback(name: *const c_char, callback: FfiCallback) -> i32 {
    // SAFETY: the caller's promise.
    status(unsafe { text(name) }.and_then(|name| register_callback(name, move |input| callback(input))))
}

/// Calls what is registered under this name.
///
/// # Safety
/// `name` is NULL or a NUL-terminated string; `input` can be read until the call is over.
pub unsafe fn ffi_invoke_callback(name: *const c_char, input: FfiBuffer) -> FfiResult {
    let call = AssertUnwindSafe(|| {
        let call = &input;
        // SAFETY: the caller's promise.
        unsafe { text(name) }.and_then(|name| invoke(name, call))
    });
    guard(call).unwrap_or_else(|message| Err(FfiError::Panic(message))).unwrap_or_else(FfiResult::err)
}

/// [`unregister_callback`]: 0 if it was there, -1 if not or if the name is NULL or not UTF-8, -2 if the lock is
/// poisoned.
///
/// # Safety
/// `name` is NULL or a NUL-terminated string.
pub unsafe fn ffi_unregister_callback(name: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    status(unsafe { text(name) }.and_then(|name| match unregister_callback(name)? {
        true => Ok(()),
        false => Err(FfiError::NotFound(name.to_owned())),
    }))
}

/// See [`callback_count`].
pub fn ffi_callback_count() -> usize {
    callback_count()
}

pub(crate) fn status(result: Result<(), FfiError>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(FfiError::LockPoisoned) => -2,
        Err(_) => -1,
    }
}
