//! Calling hooks: events as C has them.

use crate::MAX_REASON;
use crate::event::{Event, Hook, Message};
use crate::library::Table;
use quicprochat_plugin_api::{CAuthEvent, CChannelEvent, CFetchEvent, CMessageEvent, HOOK_CONTINUE};
use std::ffi::CString;
use std::ptr;

// SAFETY of every call below: the slot was checked to point to code, and the plugin's author says that it is the function of that slot.
// What events point to lives until the call returns, and `user_data` is handed back as it came.
impl Table {
    /// Whether the plugin has a hook.
    pub(crate) fn has(self, hook: Hook) -> bool {
        let table = self.0;
        match hook {
            Hook::MessageEnqueue => table.on_message_enqueue.is_some(),
            Hook::BatchEnqueue => table.on_batch_enqueue.is_some(),
            Hook::Auth => table.on_auth.is_some(),
            Hook::ChannelCreated => table.on_channel_created.is_some(),
            Hook::Fetch => table.on_fetch.is_some(),
            Hook::UserRegistered => table.on_user_registered.is_some(),
            Hook::Shutdown => table.on_shutdown.is_some(),
            Hook::Destroy => table.destroy.is_some(),
        }
    }

    /// Asks for each recipient, until one is refused: then the reason, which may be empty.
    pub(crate) fn ask(self, messages: &[Message]) -> Result<(), String> {
        let Some(hook) = self.0.on_message_enqueue else { return Ok(()) };
        for message in messages {
            // SAFETY: see above.
            if unsafe { hook(self.0.user_data, &c_message(message)) } != HOOK_CONTINUE {
                return Err(self.reason());
            }
        }
        Ok(())
    }

    pub(crate) fn tell(self, event: &Event) {
        let (table, data) = (self.0, self.0.user_data);
        match event {
            Event::Stored(messages) => {
                let events: Vec<CMessageEvent> = messages.iter().map(c_message).collect();
                if let Some(hook) = table.on_batch_enqueue {
                    // SAFETY: see above.
                    unsafe { hook(data, events.as_ptr(), events.len()) };
                }
            }
            Event::Auth { user, failure } => {
                let (user, reason) = (c_text(user), c_text(failure.as_deref().unwrap_or_default()));
                let event = CAuthEvent {
                    username: user.as_ptr().cast(),
                    username_len: user.count_bytes(),
                    success: failure.is_none().into(),
                    failure_reason: reason.as_ptr().cast(),
                    failure_reason_len: reason.count_bytes(),
                };
                if let Some(hook) = table.on_auth {
                    // SAFETY: see above.
                    unsafe { hook(data, &event) };
                }
            }
            Event::Channel { channel, initiator, peer, new } => {
                let event = CChannelEvent {
                    channel_id: channel.as_ptr(),
                    channel_id_len: channel.len(),
                    initiator_key: initiator.as_ptr(),
                    initiator_key_len: initiator.len(),
                    peer_key: peer.as_ptr(),
                    peer_key_len: peer.len(),
                    was_new: (*new).into(),
                };
                if let Some(hook) = table.on_channel_created {
                    // SAFETY: see above.
                    unsafe { hook(data, &event) };
                }
            }
            Event::Fetched { recipient, channel, count } => {
                let event = CFetchEvent {
                    recipient_key: recipient.as_ptr(),
                    recipient_key_len: recipient.len(),
                    channel_id: channel.as_ptr(),
                    channel_id_len: channel.len(),
                    message_count: *count,
                };
                if let Some(hook) = table.on_fetch {
                    // SAFETY: see above.
                    unsafe { hook(data, &event) };
                }
            }
            Event::Registered { user, identity_key: key } => {
                let user = c_text(user);
                let (name, len) = (user.as_ptr().cast(), user.count_bytes());
                if let Some(hook) = table.on_user_registered {
                    // SAFETY: see above.
                    unsafe { hook(data, name, len, key.as_ptr(), key.len()) };
                }
            }
        }
    }

    pub(crate) fn shut_down(self) {
        if let Some(hook) = self.0.on_shutdown {
            // SAFETY: see above.
            unsafe { hook(self.0.user_data) };
        }
    }

    pub(crate) fn destroy(self) {
        if let Some(hook) = self.0.destroy {
            // SAFETY: see above; the host calls nothing of this plugin afterwards.
            unsafe { hook(self.0.user_data) };
        }
    }

    /// As much of the reason as fits, without what would move a terminal's cursor.
    fn reason(self) -> String {
        let Some(hook) = self.0.error_message else { return String::new() };
        // SAFETY: see above.
        let text = unsafe { hook(self.0.user_data) };
        if text.is_null() {
            return String::new();
        }
        let mut bytes = Vec::new();
        while bytes.len() < MAX_REASON {
            // SAFETY: the text ends in a NUL, and none was found before this byte.
            match unsafe { *text.add(bytes.len()) } {
                0 => break,
                byte => bytes.push(byte),
            }
        }
        String::from_utf8_lossy(&bytes).replace(char::is_control, " ")
    }
}

fn c_message(message: &Message) -> CMessageEvent {
    CMessageEvent {
        sender_identity: message.sender.as_ref().map_or(ptr::null(), |key| key.as_ptr()),
        sender_identity_len: message.sender.map_or(0, |key| key.len()),
        recipient_key: message.recipient.as_ptr(),
        recipient_key_len: message.recipient.len(),
        channel_id: message.channel.as_ptr(),
        channel_id_len: message.channel.len(),
        payload_len: message.payload_len,
        seq: message.seq,
    }
}

/// With a NUL behind it, and none in it.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
