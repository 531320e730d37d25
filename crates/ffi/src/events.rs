//! For programs that have a loop of their own.

use crate::handle::{Failure, QPC_TIMEOUT, QpqHandle, Told, c_string, call};
use crate::messages::{OwnedMessage, QpcMessage, durability};
use qpc_client::{ConversationId, DeviceId, Event, Update};
use std::ffi::{CString, c_char};
use std::os::fd::{AsFd, AsRawFd};

/// There is a connection.
pub const QPC_EVENT_CONNECTED: i32 = 1;
/// There is none any more; qpc_next_event tries for another. text says why.
pub const QPC_EVENT_DISCONNECTED: i32 = 2;
/// A message came: message.
pub const QPC_EVENT_MESSAGE: i32 = 3;
/// A device has stored a message that asked for a receipt: id, conversation, user and device. Believe it for ids you sent.
pub const QPC_EVENT_RECEIPT: i32 = 4;
/// The relay has a queued message: id, user (the recipient) and durability.
pub const QPC_EVENT_SENT: i32 = 5;
/// A message that was queued, or was not confirmed when it was sent, does not go out: id, user (the recipient, or NULL if
/// it is not known any more), and text says why.
pub const QPC_EVENT_NOT_SENT: i32 = 6;
/// A device came into a conversation: conversation, user and device.
pub const QPC_EVENT_DEVICE_ADDED: i32 = 7;
/// A device left a conversation: conversation, user and device.
pub const QPC_EVENT_DEVICE_REMOVED: i32 = 8;
/// This account has a new device: device. If it is not yours, revoke it and change the password.
pub const QPC_EVENT_OWN_DEVICE_ADDED: i32 = 9;
/// A device of this account is gone: device.
pub const QPC_EVENT_OWN_DEVICE_REMOVED: i32 = 10;
/// user has another identity; messages are refused until qpc_accept_identity. Compare qpc_safety_number before.
pub const QPC_EVENT_IDENTITY_CHANGED: i32 = 11;
/// Messages were lost or cannot be read: conversation, and text says why. With id, user and device it is a message of
/// this user's that one device does not get.
pub const QPC_EVENT_LOST: i32 = 12;
/// Something else that a person may want to read: text.
pub const QPC_EVENT_NOTE: i32 = 13;

/// Something that happened. All of it is the library's, and read only. What a kind does not name is NULL or 0. A program
/// ignores kinds it does not know.
#[repr(C)]
pub struct QpcEvent {
    /// Bytes of this struct in the library: what is behind them is not there.
    pub size: usize,
    /// QPC_EVENT_...
    pub kind: i32,
    /// QPC_DURABLE or QPC_VOLATILE.
    pub durability: u32,
    /// A user name.
    pub user: *const c_char,
    /// A sentence for people.
    pub text: *const c_char,
    /// A message that came.
    pub message: *const QpcMessage,
    /// Of a message that was sent.
    pub id: [u8; 16],
    /// A conversation.
    pub conversation: [u8; 16],
    /// A device.
    pub device: [u8; 16],
}

/// A descriptor to wait for with poll, epoll or uloop: when it is readable, call qpc_next_event until that returns
/// QPC_TIMEOUT. It is readable from the first, and again when a packet has come, when a time has run out, and after other
/// calls on the handle. It is the handle's: do not read from it or close it, and do not use it after qpc_disconnect.
///
/// Returns the descriptor, or -1 if the handle is NULL or the system has none left.
///
/// # Safety
/// `handle` is NULL or from this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_event_fd(handle: *mut QpqHandle) -> i32 {
    let mut descriptor = -1;
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            descriptor = handle.reactor()?.as_fd().as_raw_fd();
            Ok(())
        });
    }
    descriptor
}

/// Does what there is to do, without waiting for anything: takes what has come, sends what was queued, keeps the
/// connection, makes a new one if it is lost. Then gives the next thing that has happened.
///
/// out  receives the event; free it with qpc_event_free. NULL is stored unless QPC_OK is returned.
///
/// The messages it has given count as taken when it has given all there were and is called again, or at qpc_disconnect: a
/// program that is killed before gets them again. Other calls on the handle may be made in between; those that wait for
/// the relay do so, with the time that qpc_options_set_timeout allows.
///
/// Returns QPC_OK; QPC_TIMEOUT if there is nothing now; QPC_NOT_CONNECTED if not logged in; or QPC_ERROR if calling it
/// again will not help: another program has this device's session, the device was revoked, the state folder fails. The
/// descriptor is not readable then.
///
/// # Safety
/// `handle` is NULL or from this library; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_next_event(handle: *mut QpqHandle, out: *mut *mut QpcEvent) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if !out.is_null() {
            *out = std::ptr::null_mut();
        }
        call(handle, |handle| {
            if out.is_null() {
                return Err(Failure::error("out is NULL"));
            }
            match handle.next()? {
                Some(Told::Update(update)) => *out = OwnedEvent::into_raw(Parts::of(update)),
                Some(Told::Note(text)) => *out = OwnedEvent::into_raw(Parts::new(QPC_EVENT_NOTE).text(text)),
                None => return Err(Failure::new(QPC_TIMEOUT, "nothing has happened")),
            }
            Ok(())
        })
    }
}

/// Frees an event. NULL is ignored.
///
/// # Safety
/// `event` is NULL or from `qpc_next_event`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_event_free(event: *mut QpcEvent) {
    if !event.is_null() {
        // SAFETY: the caller's promise: made by `OwnedEvent::into_raw`.
        drop(unsafe { Box::from_raw(event.cast::<OwnedEvent>()) });
    }
}

/// An event as this library has it.
#[derive(Default)]
struct Parts {
    kind: i32,
    durability: u32,
    user: Option<CString>,
    text: Option<CString>,
    message: Option<Box<OwnedMessage>>,
    id: [u8; 16],
    conversation: [u8; 16],
    device: [u8; 16],
}

impl Parts {
    fn of(update: Update) -> Self {
        match update {
            Update::Connected => Self::new(QPC_EVENT_CONNECTED),
            Update::Disconnected { reason } => Self::new(QPC_EVENT_DISCONNECTED).text(reason),
            Update::Event(event) => Self::of_event(event),
            Update::Message(message) => {
                Self { message: Some(Box::new(OwnedMessage::new(message))), ..Self::new(QPC_EVENT_MESSAGE) }
            }
            Update::NotSent { id, recipient, error } => {
                let event = Self::new(QPC_EVENT_NOT_SENT).user(recipient.as_str()).text(error.to_string());
                Self { id: id.0, ..event }
            }
            Update::Receipt { id, conversation, user, device } => {
                let event = Self::new(QPC_EVENT_RECEIPT).user(user.as_str()).about(&conversation);
                Self { id: id.0, device: device.0, ..event }
            }
            Update::Sent { recipient, sent } => {
                let event = Self::new(QPC_EVENT_SENT).user(recipient.as_str());
                Self { id: sent.id.0, durability: durability(sent.durability), ..event }
            }
            _ => Self::new(QPC_EVENT_NOTE),
        }
    }

    fn of_event(event: Event) -> Self {
        match event {
            Event::DeviceAdded { conversation, user, device } => {
                Self::new(QPC_EVENT_DEVICE_ADDED).user(user.as_str()).about(&conversation).device(&device)
            }
            Event::DeviceRemoved { conversation, user, device } => {
                Self::new(QPC_EVENT_DEVICE_REMOVED).user(user.as_str()).about(&conversation).device(&device)
            }
            Event::OwnDeviceAdded { device } => Self::new(QPC_EVENT_OWN_DEVICE_ADDED).device(&device),
            Event::OwnDeviceRemoved { device } => Self::new(QPC_EVENT_OWN_DEVICE_REMOVED).device(&device),
            Event::IdentityChanged { user, .. } => Self::new(QPC_EVENT_IDENTITY_CHANGED).user(user.as_str()),
            Event::NotSent { conversation, id, recipient, device, reason } => {
                let kind = if device.is_none() { QPC_EVENT_NOT_SENT } else { QPC_EVENT_LOST };
                let event = Self::new(kind).about(&conversation).text(reason);
                let user = recipient.map(|user| c_string(user.as_str()));
                Self { id: id.0, user, device: device.map_or([0; 16], |device| device.0), ..event }
            }
            Event::Refused { conversation } => Self::new(QPC_EVENT_LOST)
                .about(&conversation)
                .text("this device's queue at the relay was full"),
            Event::Undecryptable { conversation, reason, .. } => {
                Self::new(QPC_EVENT_LOST).about(&conversation).text(reason.to_string())
            }
            Event::CommitUnusable { conversation, .. } => {
                Self::new(QPC_EVENT_NOTE).about(&conversation).text("the conversation is being repaired")
            }
            Event::Damaged { conversation } => Self::new(QPC_EVENT_NOTE)
                .about(&conversation)
                .text("the state of the conversation is damaged; joining it anew"),
            Event::Joined { conversation } => {
                Self::new(QPC_EVENT_NOTE).about(&conversation).text("joined a conversation")
            }
            Event::Removed { conversation } => {
                Self::new(QPC_EVENT_NOTE).about(&conversation).text("removed from a conversation")
            }
            _ => Self::new(QPC_EVENT_NOTE),
        }
    }

    fn new(kind: i32) -> Self {
        Self { kind, ..Self::default() }
    }

    fn user(self, user: &str) -> Self {
        Self { user: Some(c_string(user)), ..self }
    }

    fn text(self, text: impl Into<String>) -> Self {
        Self { text: Some(c_string(text)), ..self }
    }

    fn about(self, conversation: &ConversationId) -> Self {
        Self { conversation: conversation.0, ..self }
    }

    fn device(self, device: &DeviceId) -> Self {
        Self { device: device.0, ..self }
    }
}

/// An event and what its pointers point to.
#[repr(C)]
struct OwnedEvent {
    public: QpcEvent,
    _parts: Parts,
}

impl OwnedEvent {
    fn into_raw(parts: Parts) -> *mut QpcEvent {
        let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let public = QpcEvent {
            size: size_of::<QpcEvent>(),
            kind: parts.kind,
            durability: parts.durability,
            user: pointer(&parts.user),
            text: pointer(&parts.text),
            message: parts.message.as_ref().map_or(std::ptr::null(), |message| message.public()),
            id: parts.id,
            conversation: parts.conversation,
            device: parts.device,
        };
        Box::into_raw(Box::new(Self { public, _parts: parts })).cast()
    }
}
