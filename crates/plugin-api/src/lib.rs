//! The C ABI between the relay and its plugins; for C the same is in `include/qpc_plugin.h`.
//!
//! A plugin is a shared library that exports [`INIT`], an [`Init`]. The relay hands it a zeroed [`HookVTable`]; it fills the slots it cares about
//! and returns [`PLUGIN_OK`], or a negative number if it cannot work. What it leaves null is not called.
//!
//! Beside it a plugin may export [`CONFIGURE`], which is called before it, and [`ABI_VERSION_QUERY`]. The table itself never changes
//! meaning; a longer one of a later version begins with this one, and the relay hands out more zeroed memory than it knows slots, so that a
//! plugin made for a later table loads.
//!
//! # Ownership
//!
//! Events, and all they point to, are the relay's and valid until the hook returns. Texts end in a NUL that their length does not
//! count. What `error_message` returns is the plugin's and must stay valid until the next call on the same `user_data`.
//!
//! # Threads
//!
//! Init and configure run on the main thread before there is any other, once in a forked child to see whether they return and
//! once for good. All hooks of all plugins run on one thread, one at a time, so a plugin that starts no threads needs no locks. That
//! thread may be another one than last time: a hook that does not return in time is abandoned with its thread, and its plugin is called no
//! more. Other hosts may call hooks from several threads at once; a plugin for those guards its state.
//!
//! # What must not happen
//!
//! No panic, exception or `longjmp` may leave a hook. A hook that corrupts memory takes the relay down.

#![no_std]

use core::ffi::{CStr, c_char, c_void};
use core::mem::{align_of, offset_of, size_of};

/// Init succeeded.
pub const PLUGIN_OK: i32 = 0;

/// The operation may go on.
pub const HOOK_CONTINUE: i32 = 0;

/// The operation is refused, and [`HookVTable::error_message`] says why. Any other value but [`HOOK_CONTINUE`] refuses too.
pub const HOOK_REJECT: i32 = 1;

/// What [`AbiVersion`] returns in a plugin made for this table: major in the upper half, minor in the lower. A relay loads any minor version of
/// its major one.
pub const ABI_VERSION: u32 = 0x0001_0000;

/// Name of the symbol every plugin exports, an [`Init`].
pub const INIT: &CStr = c"qpc_plugin_init";

/// Name of the symbol a plugin with settings exports, a [`Configure`].
pub const CONFIGURE: &CStr = c"qpc_plugin_configure";

/// Name of the symbol by which a plugin says what it was made for, an [`AbiVersion`].
pub const ABI_VERSION_QUERY: &CStr = c"qpc_plugin_abi_version";

/// Fills the table. Returns [`PLUGIN_OK`] or a negative number.
pub type Init = unsafe extern "C" fn(vtable: *mut HookVTable) -> i32;

/// Takes the plugin's settings: a NUL-terminated JSON object, `{}` if none are configured, valid during the call. Called before [`Init`]. Returns
/// [`PLUGIN_OK`] or a negative number if the settings are wrong.
pub type Configure = unsafe extern "C" fn(json: *const c_char) -> i32;

/// Returns the [`ABI_VERSION`] the plugin was made for.
pub type AbiVersion = unsafe extern "C" fn() -> u32;

/// A message on its way to one account.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CMessageEvent {
    /// The sender's Ed25519 identity key (32 bytes); null if the sender is sealed.
    pub sender_identity: *const u8,
    /// Length of `sender_identity`; 0 if that is null.
    pub sender_identity_len: usize,
    /// The recipient's Ed25519 identity key (32 bytes).
    pub recipient_key: *const u8,
    /// Length of `recipient_key`.
    pub recipient_key_len: usize,
    /// The channel (16 bytes).
    pub channel_id: *const u8,
    /// Length of `channel_id`.
    pub channel_id_len: usize,
    /// Length of the encrypted payload.
    pub payload_len: usize,
    /// The number the server gives the message in the recipient's queue.
    pub seq: u64,
}

/// An attempt to log in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CAuthEvent {
    /// The name that was given, NUL-terminated.
    pub username: *const u8,
    /// Length of `username`.
    pub username_len: usize,
    /// Not 0 if it succeeded.
    pub success: i32,
    /// Why it failed, NUL-terminated; empty if it succeeded.
    pub failure_reason: *const u8,
    /// Length of `failure_reason`.
    pub failure_reason_len: usize,
}

/// A channel was made or looked up.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CChannelEvent {
    /// The channel (16 bytes).
    pub channel_id: *const u8,
    /// Length of `channel_id`.
    pub channel_id_len: usize,
    /// Identity key of who asked for it (32 bytes).
    pub initiator_key: *const u8,
    /// Length of `initiator_key`.
    pub initiator_key_len: usize,
    /// Identity key of the other side (32 bytes).
    pub peer_key: *const u8,
    /// Length of `peer_key`.
    pub peer_key_len: usize,
    /// Not 0 if it was made just now.
    pub was_new: i32,
}

/// Messages reached a recipient.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CFetchEvent {
    /// The recipient's identity key (32 bytes).
    pub recipient_key: *const u8,
    /// Length of `recipient_key`.
    pub recipient_key_len: usize,
    /// The channel (16 bytes).
    pub channel_id: *const u8,
    /// Length of `channel_id`.
    pub channel_id_len: usize,
    /// How many.
    pub message_count: usize,
}

/// What a plugin fills in. Every slot may stay null; hooks get `user_data` first.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HookVTable {
    /// The plugin's own state.
    pub user_data: *mut c_void,
    /// Before a message is stored, once for each recipient: [`HOOK_CONTINUE`] or [`HOOK_REJECT`]. One that is refused for one recipient is stored for none.
    pub on_message_enqueue:
        Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const CMessageEvent) -> i32>,
    /// After a message was stored: an event for each recipient.
    pub on_batch_enqueue:
        Option<unsafe extern "C" fn(user_data: *mut c_void, events: *const CMessageEvent, count: usize)>,
    /// After an attempt to log in.
    pub on_auth: Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const CAuthEvent)>,
    /// After a channel was made or looked up.
    pub on_channel_created: Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const CChannelEvent)>,
    /// After messages reached a recipient.
    pub on_fetch: Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const CFetchEvent)>,
    /// After an account was registered. The name is NUL-terminated.
    pub on_user_registered: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            username: *const u8,
            username_len: usize,
            identity_key: *const u8,
            identity_key_len: usize,
        ),
    >,
    /// Asked after a hook has refused: a NUL-terminated reason, or null.
    pub error_message: Option<unsafe extern "C" fn(user_data: *mut c_void) -> *const u8>,
    /// The last call, once.
    pub destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    /// The server is going down, and its connections are still open.
    pub on_shutdown: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

// SAFETY: the pointers are the plugin's, and its contract is to be callable from any thread (see the crate's documentation); the functions
// are plain addresses.
unsafe impl Send for HookVTable {}
// SAFETY: as above.
unsafe impl Sync for HookVTable {}

/// The layout, counted in pointers; only `seq` may need padding before it.
const _: () = {
    const P: usize = size_of::<usize>();
    assert!(P == 4 || P == 8);

    const SEQ: usize = (7 * P).next_multiple_of(align_of::<u64>());
    assert!(offset_of!(CMessageEvent, sender_identity) == 0);
    assert!(offset_of!(CMessageEvent, sender_identity_len) == P);
    assert!(offset_of!(CMessageEvent, recipient_key) == 2 * P);
    assert!(offset_of!(CMessageEvent, recipient_key_len) == 3 * P);
    assert!(offset_of!(CMessageEvent, channel_id) == 4 * P);
    assert!(offset_of!(CMessageEvent, channel_id_len) == 5 * P);
    assert!(offset_of!(CMessageEvent, payload_len) == 6 * P);
    assert!(offset_of!(CMessageEvent, seq) == SEQ);
    assert!(size_of::<CMessageEvent>() == SEQ + 8);
    assert!(P == 4 || size_of::<CMessageEvent>() == 64);

    assert!(offset_of!(CAuthEvent, username) == 0);
    assert!(offset_of!(CAuthEvent, username_len) == P);
    assert!(offset_of!(CAuthEvent, success) == 2 * P);
    assert!(offset_of!(CAuthEvent, failure_reason) == 3 * P);
    assert!(offset_of!(CAuthEvent, failure_reason_len) == 4 * P);
    assert!(size_of::<CAuthEvent>() == 5 * P);

    assert!(offset_of!(CChannelEvent, channel_id) == 0);
    assert!(offset_of!(CChannelEvent, channel_id_len) == P);
    assert!(offset_of!(CChannelEvent, initiator_key) == 2 * P);
    assert!(offset_of!(CChannelEvent, initiator_key_len) == 3 * P);
    assert!(offset_of!(CChannelEvent, peer_key) == 4 * P);
    assert!(offset_of!(CChannelEvent, peer_key_len) == 5 * P);
    assert!(offset_of!(CChannelEvent, was_new) == 6 * P);
    assert!(size_of::<CChannelEvent>() == 7 * P);

    assert!(offset_of!(CFetchEvent, recipient_key) == 0);
    assert!(offset_of!(CFetchEvent, recipient_key_len) == P);
    assert!(offset_of!(CFetchEvent, channel_id) == 2 * P);
    assert!(offset_of!(CFetchEvent, channel_id_len) == 3 * P);
    assert!(offset_of!(CFetchEvent, message_count) == 4 * P);
    assert!(size_of::<CFetchEvent>() == 5 * P);

    assert!(offset_of!(HookVTable, user_data) == 0);
    assert!(offset_of!(HookVTable, on_message_enqueue) == P);
    assert!(offset_of!(HookVTable, on_batch_enqueue) == 2 * P);
    assert!(offset_of!(HookVTable, on_auth) == 3 * P);
    assert!(offset_of!(HookVTable, on_channel_created) == 4 * P);
    assert!(offset_of!(HookVTable, on_fetch) == 5 * P);
    assert!(offset_of!(HookVTable, on_user_registered) == 6 * P);
    assert!(offset_of!(HookVTable, error_message) == 7 * P);
    assert!(offset_of!(HookVTable, destroy) == 8 * P);
    assert!(offset_of!(HookVTable, on_shutdown) == 9 * P);
    assert!(size_of::<HookVTable>() == 10 * P);
};
