//! Options of a connection.

use crate::handle::{QPC_ERROR, QPC_OK, guard, text};
use crate::logging::{Logger, QpcLog};
use qpc_client::Options;
use std::ffi::{c_char, c_void};
use std::time::Duration;

/// How a connection is to behave. Made by qpc_options_new, freed by qpc_options_free; a function that takes one reads it
/// during the call only. One thread at a time.
pub struct QpcOptions {
    pub(crate) options: Options,
    pub(crate) logger: Option<Logger>,
}

impl QpcOptions {
    pub(crate) fn defaults() -> Self {
        Self { options: Options::from_environment(), logger: None }
    }
}

/// Options with their defaults, which are those of qpc_connect. Free them with qpc_options_free. NULL only if something
/// inside has failed.
#[unsafe(no_mangle)]
pub extern "C" fn qpc_options_new() -> *mut QpcOptions {
    guard(|| Ok(Box::into_raw(Box::new(QpcOptions::defaults())))).unwrap_or(std::ptr::null_mut())
}

/// Frees options. NULL is ignored.
///
/// # Safety
/// `options` is NULL or from `qpc_options_new`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_free(options: *mut QpcOptions) {
    if !options.is_null() {
        // SAFETY: the caller's promise: made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(options) });
    }
}

/// Where state folders are, instead of what the environment says; see "State" above. Like all that set an option it
/// returns QPC_OK, or QPC_ERROR if an argument is NULL, not UTF-8 or out of its range, and then changes nothing.
///
/// # Safety
/// `options` is NULL or from `qpc_options_new`; `path` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_state_dir(options: *mut QpcOptions, path: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            options.options.state_root = text(path, "path").ok().filter(|path| !path.is_empty())?.into();
            Some(())
        })
    }
}

/// How this device is called in qpc_devices, if a login makes it a new one: at most 64 bytes, the rest is cut off.
///
/// # Safety
/// As for [`qpc_options_set_state_dir`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_device_label(options: *mut QpcOptions, label: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            options.options.label = text(label, "label").ok()?.to_owned();
            Some(())
        })
    }
}

/// Whether a login keeps a key file (mode 0600) in the state folder, so that qpc_open needs no password: 0 for no, which
/// is the default, 1 for yes. Whoever has the folder then has the device.
///
/// # Safety
/// As for [`qpc_options_free`], but that the options stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_key_file(options: *mut QpcOptions, on: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            options.options.keep_key = flag(on)?;
            Some(())
        })
    }
}

/// How long a call may wait for the relay, in milliseconds: 100 to 600000, 10000 by default; an agent waits at most 60000.
/// qpc_receive and qpc_receive_messages have a time of their own for messages.
///
/// # Safety
/// As for [`qpc_options_set_key_file`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_timeout(options: *mut QpcOptions, milliseconds: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            let range = (100..=600_000).contains(&milliseconds);
            options.options.patience = range.then(|| Duration::from_millis(milliseconds.into()))?;
            Some(())
        })
    }
}

/// How often a connection on which nothing happens is kept from being forgotten by the routers on its way, in seconds:
/// 1 to 60, 25 by default. It takes effect only while calls are made.
///
/// # Safety
/// As for [`qpc_options_set_key_file`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_keep_alive(options: *mut QpcOptions, seconds: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            let range = (1..=60).contains(&seconds);
            options.options.keep_alive = range.then(|| Duration::from_secs(seconds.into()))?;
            Some(())
        })
    }
}

/// Whether senders who ask for a receipt get one when their message is stored here: 1 for yes, which is the default, 0 for
/// no.
///
/// # Safety
/// As for [`qpc_options_set_key_file`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_receipts(options: *mut QpcOptions, on: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            options.options.receipts = flag(on)?;
            Some(())
        })
    }
}

/// What is told what goes on inside the calls on the handle; NULL for nothing. It and what user points to must live until
/// qpc_disconnect of each handle made with these options.
///
/// # Safety
/// As for [`qpc_options_set_key_file`]; `log` can be called as its type says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_options_set_log(
    options: *mut QpcOptions,
    log: Option<QpcLog>,
    user: *mut c_void,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        set(options, |options| {
            options.logger = log.map(|call| Logger { call, user });
            Some(())
        })
    }
}

/// # Safety
/// `options` is NULL or from `qpc_options_new`.
unsafe fn set(options: *mut QpcOptions, set: impl FnOnce(&mut QpcOptions) -> Option<()>) -> i32 {
    // SAFETY: the caller's promise.
    let Some(options) = (unsafe { options.as_mut() }) else { return QPC_ERROR };
    match guard(|| Ok(set(options))) {
        Ok(Some(())) => QPC_OK,
        _ => QPC_ERROR,
    }
}

fn flag(on: i32) -> Option<bool> {
    match on {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
