//! Only some accounts may send. Settings: `{"senders": ["<identity key, 64 hexadecimal digits>", ...]}`; the audit log's example writes down the key of each new account.
//!
//! ```sh
//! cargo build --release -p quicprochat-plugin-api --example allow_list    # target/release/examples/liballow_list.so
//! ```

use quicprochat_plugin_api::{ABI_VERSION, CMessageEvent, HOOK_CONTINUE, HOOK_REJECT, HookVTable, PLUGIN_OK};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

type Key = [u8; 32];

/// From the settings, for init.
static SENDERS: Mutex<Option<Vec<Key>>> = Mutex::new(None);

const WRONG_SETTINGS: i32 = -1;
const NO_SETTINGS: i32 = -2;

/// Reads the settings.
///
/// # Safety
///
/// `json` is a NUL-terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_plugin_configure(json: *const c_char) -> i32 {
    // SAFETY: the caller's contract.
    let Ok(json) = unsafe { CStr::from_ptr(json) }.to_str() else { return WRONG_SETTINGS };
    let Some(list) = json.strip_prefix("{\"senders\":[").and_then(|rest| rest.strip_suffix("]}")) else {
        return if json == "{}" { PLUGIN_OK } else { WRONG_SETTINGS };
    };
    let texts = list.split(',').filter(|text| !text.is_empty());
    let senders: Option<Vec<Key>> = texts.map(|text| key(text.trim_matches('"'))).collect();
    let (Some(senders), Ok(mut kept)) = (senders, SENDERS.lock()) else { return WRONG_SETTINGS };
    *kept = Some(senders);
    PLUGIN_OK
}

/// What this was made for.
#[unsafe(no_mangle)]
pub extern "C" fn qpc_plugin_abi_version() -> u32 {
    ABI_VERSION
}

/// Fills the table.
///
/// # Safety
///
/// `vtable` is a table that may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_plugin_init(vtable: *mut HookVTable) -> i32 {
    let Some(senders) = SENDERS.lock().ok().and_then(|mut senders| senders.take()) else {
        return NO_SETTINGS;
    };
    // SAFETY: the caller's contract.
    let vtable = unsafe { &mut *vtable };
    vtable.user_data = Box::into_raw(Box::new(senders)).cast();
    vtable.on_message_enqueue = Some(on_message_enqueue);
    vtable.error_message = Some(error_message);
    vtable.destroy = Some(destroy);
    PLUGIN_OK
}

unsafe extern "C" fn on_message_enqueue(user_data: *mut c_void, event: *const CMessageEvent) -> i32 {
    // SAFETY: what init made, and an event that is valid during the call.
    let (senders, event) = unsafe { (&*user_data.cast::<Vec<Key>>(), &*event) };
    if event.sender_identity.is_null() || event.sender_identity_len != size_of::<Key>() {
        return HOOK_REJECT;
    }
    // SAFETY: so many bytes are there.
    let sender = unsafe { *event.sender_identity.cast::<Key>() };
    if senders.contains(&sender) { HOOK_CONTINUE } else { HOOK_REJECT }
}

unsafe extern "C" fn error_message(_: *mut c_void) -> *const u8 {
    c"this account may not send; ask the relay's owner".as_ptr().cast()
}

unsafe extern "C" fn destroy(user_data: *mut c_void) {
    // SAFETY: what init made, and the last call.
    drop(unsafe { Box::from_raw(user_data.cast::<Vec<Key>>()) });
}

fn key(hex: &str) -> Option<Key> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(key)
}
