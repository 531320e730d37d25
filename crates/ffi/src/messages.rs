//! Messages with all that belongs to them, sent and received.

use crate::handle::{
    Failure, QPC_TIMEOUT, QPC_UNCONFIRMED, QpqHandle, bytes, c_string, call, text, user_name,
};
use qpc_client::executor::block_on;
use qpc_client::{Durability, ErrorKind, Kind, Message, envelope};
use std::ffi::{CString, c_char};
use std::time::Duration;

/// The body is bytes without a meaning to this library.
pub const QPC_KIND_BINARY: u32 = 0;
/// The body is UTF-8.
pub const QPC_KIND_TEXT: u32 = 1;
/// The body is the ids of messages, 16 bytes each, that the device which sent this has stored.
pub const QPC_KIND_RECEIPT: u32 = 2;

/// The relay keeps it on disk.
pub const QPC_DURABLE: u32 = 0;
/// The relay keeps it in memory, by its owner's choice: a power cut there may lose it.
pub const QPC_VOLATILE: u32 = 1;

/// Ask the recipient's devices for a receipt: each that has stored the message says so, see QPC_EVENT_RECEIPT.
pub const QPC_SEND_RECEIPT: u32 = 1;
/// Do not wait: qpc_next_event sends the message and tells what became of it. Until QPC_EVENT_SENT it is in memory only.
pub const QPC_SEND_QUEUED: u32 = 2;

/// A message to send. The caller makes it and it stays the caller's; what is not set is 0, as by = {sizeof(QpcSend)}.
#[repr(C)]
pub struct QpcSend {
    /// sizeof(QpcSend), set by the caller.
    pub size: usize,
    /// QPC_KIND_TEXT or QPC_KIND_BINARY.
    pub kind: u32,
    /// QPC_SEND_... or-ed together.
    pub flags: u32,
    /// At most 49152 bytes; not NULL.
    pub body: *const u8,
    /// How many.
    pub body_len: usize,
    /// Set by the call: the message's id.
    pub id: [u8; 16],
    /// Set by the call: QPC_DURABLE or QPC_VOLATILE.
    pub durability: u32,
    /// 0.
    pub reserved: u32,
}

/// A message that was received. All of it is the library's, and read only.
#[repr(C)]
pub struct QpcMessage {
    /// Bytes of this struct in the library: what is behind them is not there.
    pub size: usize,
    /// User name of who sent it.
    pub sender: *const c_char,
    /// The bytes, followed by a NUL that is not counted.
    pub body: *const u8,
    /// How many.
    pub body_len: usize,
    /// When the relay took it, in seconds since 1970; 0 if it had no clock.
    pub relay_time: u64,
    /// When it was sent by the sender's clock; 0 if that had none.
    pub sender_time: u64,
    /// QPC_KIND_..., or another number of a later version.
    pub kind: u32,
    /// QPC_DURABLE or QPC_VOLATILE.
    pub durability: u32,
    /// Its id, which the sender knows too.
    pub id: [u8; 16],
    /// The conversation it is in.
    pub conversation: [u8; 16],
    /// The sender's device.
    pub device: [u8; 16],
}

/// Messages, oldest first.
#[repr(C)]
pub struct QpcMessages {
    /// Bytes of this struct in the library.
    pub size: usize,
    /// How many messages.
    pub count: usize,
    /// One pointer each.
    pub messages: *const *const QpcMessage,
}

/// Sends a message to a user; it is encrypted for that user's devices and for no one else.
///
/// Without QPC_SEND_QUEUED it waits for the relay, and QPC_OK means that the relay has it. With it QPC_OK means that the
/// message waits to be sent by qpc_next_event, behind those queued before; at most 64 can wait.
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, QPC_UNCONFIRMED if the relay has not confirmed it but it goes out
/// with the next connection, or QPC_ERROR (wrong size, unknown kind, flag or recipient, text that is not UTF-8, too
/// long, relay gone, ...): then it is not sent. After QPC_UNCONFIRMED id is set too, but for what qpc_connect_agent says.
///
/// # Safety
/// `handle` is NULL or from this library; `recipient` is NULL or a NUL-terminated string; `message` is NULL or points to
/// as many bytes as its `size` says, and its body to as many as `body_len` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_send_message(
    handle: *mut QpqHandle,
    recipient: *const c_char,
    message: *mut QpcSend,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let recipient = text(recipient, "recipient")?;
            if message.is_null() {
                return Err(Failure::error("message is NULL"));
            }
            check_size(message)?;
            // SAFETY: it is as large as this version's, and the caller's promise.
            let message = &mut *message;
            let body = bytes(message.body, message.body_len, "body")?;
            let outgoing = Outgoing { kind: message.kind, flags: message.flags, body };
            message.durability = outgoing.send(handle, recipient, message.id.as_mut_ptr())?;
            Ok(())
        })
    }
}

/// Sends bytes to a user, as qpc_send_message does with QPC_KIND_BINARY. id has room for the message's 16 bytes of id, or
/// is NULL.
///
/// Returns what qpc_send_message does.
///
/// # Safety
/// `handle` is NULL or from this library; `recipient` is NULL or a NUL-terminated string; `body` is NULL or has `body_len`
/// readable bytes; `id` is NULL or has 16 writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_send_bytes(
    handle: *mut QpqHandle,
    recipient: *const c_char,
    body: *const u8,
    body_len: usize,
    id: *mut u8,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let recipient = text(recipient, "recipient")?;
            let body = bytes(body, body_len, "body")?;
            let outgoing = Outgoing { kind: QPC_KIND_BINARY, flags: 0, body };
            outgoing.send(handle, recipient, id).map(drop)
        })
    }
}

/// Waits up to timeout_ms milliseconds for messages and takes all that are there: texts, bytes and receipts.
///
/// out  receives the messages; free them with qpc_messages_free. NULL is stored unless QPC_OK is returned.
///
/// Messages count as taken at the next call that takes messages or at qpc_disconnect: a program that is killed in between
/// gets them again.
///
/// Returns QPC_OK, QPC_TIMEOUT, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR.
///
/// # Safety
/// `handle` is NULL or from this library; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_receive_messages(
    handle: *mut QpqHandle,
    timeout_ms: u32,
    out: *mut *mut QpcMessages,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if !out.is_null() {
            *out = std::ptr::null_mut();
        }
        call(handle, |handle| {
            if out.is_null() {
                return Err(Failure::error("out is NULL"));
            }
            handle.confirm()?;
            let timeout = Duration::from_millis(timeout_ms.into());
            let messages = receive(handle, timeout)?;
            let Some(last) = messages.last() else {
                return Err(Failure::new(QPC_TIMEOUT, "no message came in time"));
            };
            handle.hand_out(last.position);
            *out = OwnedMessages::into_raw(messages);
            Ok(())
        })
    }
}

/// Frees messages. NULL is ignored.
///
/// # Safety
/// `messages` is NULL or from `qpc_receive_messages`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_messages_free(messages: *mut QpcMessages) {
    if !messages.is_null() {
        // SAFETY: the caller's promise: made by `OwnedMessages::into_raw`.
        drop(unsafe { Box::from_raw(messages.cast::<OwnedMessages>()) });
    }
}

struct Outgoing<'a> {
    kind: u32,
    flags: u32,
    body: &'a [u8],
}

impl Outgoing<'_> {
    /// How the relay keeps it.
    ///
    /// # Safety
    /// `id`, for the message's id, is NULL or has 16 writable bytes.
    unsafe fn send(&self, handle: &mut QpqHandle, recipient: &str, id: *mut u8) -> Result<u32, Failure> {
        if handle.agent()?.is_none() {
            handle.logged_in()?;
        }
        let recipient = user_name(recipient)?;
        let kind = match self.kind {
            QPC_KIND_BINARY => Kind::Binary,
            QPC_KIND_TEXT if std::str::from_utf8(self.body).is_ok() => Kind::Text,
            QPC_KIND_TEXT => return Err(Failure::error("the message is not valid UTF-8")),
            _ => return Err(Failure::error("a message is sent as QPC_KIND_TEXT or QPC_KIND_BINARY")),
        };
        if self.flags & !(QPC_SEND_RECEIPT | QPC_SEND_QUEUED) != 0 {
            return Err(Failure::error("flags has bits that are none of QPC_SEND_..."));
        }
        let queued = self.flags & QPC_SEND_QUEUED != 0;
        if let Some(agent) = handle.agent()? {
            if self.flags & QPC_SEND_RECEIPT != 0 {
                return Err(Failure::error("an agent asks for no receipts"));
            }
            if !id.is_null() {
                // SAFETY: the caller's promise. What the agent has not said is not left to chance.
                unsafe { id.write_bytes(0, 16) };
            }
            let sent = agent.send(&recipient, kind, self.body, !queued)?;
            if !id.is_null() {
                // SAFETY: the caller's promise.
                unsafe { id.copy_from_nonoverlapping(sent.id.0.as_ptr(), sent.id.0.len()) };
            }
            return match sent.confirmed || queued {
                true => Ok(durability(sent.durability)),
                false => Err(unconfirmed()),
            };
        }
        let client = handle.logged_in()?;
        let envelope = envelope(kind, self.body, self.flags & QPC_SEND_RECEIPT != 0)?;
        if !id.is_null() {
            // SAFETY: the caller's promise.
            unsafe { id.copy_from_nonoverlapping(envelope.id.0.as_ptr(), envelope.id.0.len()) };
        }
        if queued {
            client.queue(&recipient, envelope)?;
            return Ok(QPC_VOLATILE);
        }
        match block_on(client.send_envelope(&recipient, &envelope)) {
            Ok(sent) => Ok(durability(sent.durability)),
            Err(error) if error.kind() == ErrorKind::Queued => {
                Err(Failure::new(QPC_UNCONFIRMED, error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// # Safety
/// `message` points to as many bytes as its `size` says, and at least to that.
/// The messages that are there, or else come in time.
pub(crate) fn receive(handle: &mut QpqHandle, timeout: Duration) -> Result<Vec<Message>, Failure> {
    match handle.agent()? {
        Some(agent) => agent.receive(timeout),
        None => Ok(block_on(handle.client()?.receive(timeout))?),
    }
}

/// It waits in the agent's journal.
pub(crate) fn unconfirmed() -> Failure {
    Failure::new(QPC_UNCONFIRMED, qpc_client::Error::Unconfirmed.to_string())
}

unsafe fn check_size(message: *const QpcSend) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    match unsafe { (*message).size } {
        SEND_SIZE => Ok(()),
        size => Err(Failure::error(format!("QpcSend.size is {size}, and sizeof(QpcSend) {SEND_SIZE}"))),
    }
}

const SEND_SIZE: usize = size_of::<QpcSend>();

pub(crate) fn durability(durability: Durability) -> u32 {
    match durability {
        Durability::Durable => QPC_DURABLE,
        _ => QPC_VOLATILE,
    }
}

/// A message and what its pointers point to.
#[repr(C)]
pub(crate) struct OwnedMessage {
    public: QpcMessage,
    _sender: CString,
    _body: Vec<u8>,
}

impl OwnedMessage {
    pub(crate) fn new(message: Message) -> Self {
        let (sender, mut body) = (c_string(message.sender.as_str()), message.body);
        let body_len = body.len();
        body.push(0);
        let public = QpcMessage {
            size: size_of::<QpcMessage>(),
            sender: sender.as_ptr(),
            body: body.as_ptr(),
            body_len,
            relay_time: message.relay_time,
            sender_time: message.sender_time,
            kind: message.kind.into(),
            durability: durability(message.durability),
            id: message.id.0,
            conversation: message.conversation.0,
            device: message.device.0,
        };
        Self { public, _sender: sender, _body: body }
    }

    pub(crate) fn public(&self) -> *const QpcMessage {
        &raw const self.public
    }
}

/// Messages and what their pointers point to.
#[repr(C)]
struct OwnedMessages {
    public: QpcMessages,
    _pointers: Vec<*const QpcMessage>,
    _messages: Vec<OwnedMessage>,
}

impl OwnedMessages {
    fn into_raw(messages: Vec<Message>) -> *mut QpcMessages {
        let messages: Vec<_> = messages.into_iter().map(OwnedMessage::new).collect();
        let pointers: Vec<_> = messages.iter().map(OwnedMessage::public).collect();
        let public = QpcMessages {
            size: size_of::<QpcMessages>(),
            count: pointers.len(),
            messages: pointers.as_ptr(),
        };
        Box::into_raw(Box::new(Self { public, _pointers: pointers, _messages: messages })).cast()
    }
}
