//! What is shown. Texts from others are data: nothing in them reaches the terminal as a control character.

use data_encoding::BASE64;
use qpc_agent::protocol::Status;
use qpc_client::{Contact, DeviceId, DeviceInfo, Event, HelloReply, Kind, Message, Registration, UserName};
use serde_json::json;
use std::fmt::Write;

/// One message, as a line.
pub(crate) fn message(message: &Message, as_json: bool, out: &mut String) {
    let text = (message.kind == Kind::Text).then(|| std::str::from_utf8(&message.body).ok()).flatten();
    if as_json {
        let time = |seconds: u64| (seconds != 0).then_some(seconds);
        let mut object = json!({
            "sender": message.sender.as_str(),
            "conversation": message.conversation.to_string(),
            "time": time(message.relay_time),
            "sent": time(message.sender_time),
            "id": message.id.to_string(),
            "cursor": message.position,
        });
        match text {
            Some(text) => object["body"] = text.into(),
            None => {
                object["body"] = BASE64.encode(&message.body).into();
                object["encoding"] = "base64".into();
            }
        }
        let _ = writeln!(out, "{object}");
    } else {
        let _ = write!(out, "{}: ", message.sender);
        match text {
            Some(text) => escaped(text, out),
            None => drop(write!(out, "[{} bytes]", message.body.len())),
        }
        out.push('\n');
    }
}

/// One device of the account, as a line.
pub(crate) fn device(device: &DeviceInfo, here: bool, out: &mut String) {
    let _ = write!(out, "{}", device.device);
    if here {
        out.push_str(" (this one)");
    } else if device.online {
        out.push_str(" (online)");
    }
    if device.queued > 0 {
        let _ = write!(out, " {} waiting", device.queued);
    }
    if !device.label.is_empty() {
        out.push(' ');
        escaped(&device.label, out);
    }
    out.push('\n');
}

/// One user that is known, as a line: name, state, and the identity keys.
pub(crate) fn contact(contact: &Contact, out: &mut String) {
    let Contact { user, identity, changed } = contact;
    let _ = match changed {
        None => writeln!(out, "{user} trusted {identity}"),
        Some(changed) => writeln!(out, "{user} changed {identity} {changed}"),
    };
}

/// What a relay says of itself, as a line.
pub(crate) fn relay(relay: &HelloReply, out: &mut String) {
    let registration = match relay.registration {
        Registration::Open => "open",
        Registration::Invite => "invite",
        Registration::Closed => "closed",
        Registration::Unknown(_) => "unknown",
    };
    escaped(&relay.software, out);
    let _ = writeln!(out, ", protocol {}, registration {registration}", relay.version);
}

/// How an agent is, as JSON.
pub(crate) fn status(status: &Status, out: &mut String) {
    let counters = &status.counters;
    let trouble = (!status.trouble.is_empty()).then_some(&*status.trouble);
    let object = json!({
        "state": if status.connected { "connected" } else { "disconnected" },
        "connected_for": status.connected.then_some(status.connected_for),
        "trouble": trouble,
        "relay": &*status.relay,
        "user": status.user.as_str(),
        "device": status.device.to_string(),
        "software": &*status.software,
        "uptime": status.uptime,
        "queued": status.queued,
        "held_events": status.held_events,
        "memory": status.memory,
        "programs": status.programs,
        "inbox": {
            "first": status.inbox_first,
            "next": status.inbox_next,
            "read": status.inbox_read,
            "bytes": status.inbox_bytes,
        },
        "counters": {
            "requests": counters.requests,
            "denied": counters.denied,
            "accepted": counters.accepted,
            "confirmed": counters.confirmed,
            "failed": counters.failed,
            "received": counters.received,
            "dropped": counters.dropped,
            "events": counters.events,
            "summarised": counters.summarised,
            "connections": counters.connections,
        },
    });
    let _ = writeln!(out, "{object}");
}

/// What happened, in a sentence.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::CommitUnusable { .. } => {
            "a change of a conversation cannot be read; it is being repaired".into()
        }
        Event::Damaged { .. } => "the state of a conversation is damaged; joining it anew".into(),
        Event::DeviceAdded { user, device, .. } => format!("{user} has a new device, {device}"),
        Event::DeviceRemoved { user, device, .. } => format!("{user}'s device {device} is gone"),
        Event::IdentityChanged { user, .. } => format!(
            "{user} has a new identity; messages from {user} are refused until you have made sure that it is really \
             {user}, and say `qpc accept {user}`"
        ),
        Event::Joined { conversation } => format!("joined conversation {conversation}"),
        Event::NotSent { recipient, device, reason, .. } => {
            let recipient = recipient.as_ref().map_or("somebody", UserName::as_str);
            match device {
                None => format!("a message to {recipient} that waited here was not sent: {reason}"),
                Some(device) => format!("{recipient}'s device {device} does not get a message: {reason}"),
            }
        }
        Event::OwnDeviceAdded { device } => format!(
            "this account has a new device, {device}; if it is not yours say `qpc revoke {device}` and `qpc passwd`"
        ),
        Event::OwnDeviceRemoved { device } => format!("this account's device {device} is gone"),
        Event::Refused { .. } => "messages were lost: this device's queue at the relay was full".into(),
        Event::Removed { .. } => "this device was removed from a conversation".into(),
        Event::Undecryptable { reason, .. } => format!("a message cannot be read: {reason}"),
        _ => "something happened that this version of qpc has no words for".into(),
    }
}

pub(crate) fn stopped(index: usize, lines: usize) -> String {
    format!("stopped at line {} of {lines}; those after it are not sent", index + 1)
}

pub(crate) fn full_queue(recipient: &UserName, device: &DeviceId) -> String {
    format!("the queue of {recipient}'s device {device} is full, it does not get the message")
}

pub(crate) fn new_identity(user: &UserName) -> String {
    format!("{user} has a new identity; if the number is right say `qpc accept {user}`")
}

/// A text of our own that may hold some of another's.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| push(c, &mut out));
    out
}

/// A text of another. Backslashes are doubled, so that it can be told from what was escaped.
fn escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c => push(c, out),
        }
    }
}

fn push(c: char, out: &mut String) {
    match c {
        '\t' => out.push(c),
        c if c.is_control() || moves_others(c) => out.extend(c.escape_default()),
        c => out.push(c),
    }
}

/// Characters that turn the direction of others or begin a new line, and so can make a line look like another.
fn moves_others(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_told_what_to_do() {
        let mut out = String::new();
        escaped("a\tb\x1b[2J\r\n\\\u{202e}\u{20ac}", &mut out);
        assert_eq!(out, "a\tb\\u{1b}[2J\\r\\n\\\\\\u{202e}\u{20ac}");
        for c in "\x07\x7f\u{85}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{2066}\u{2069}".chars()
        {
            let (mut text, harmless) = (String::new(), harmless(&c.to_string()));
            escaped(&c.to_string(), &mut text);
            assert_eq!((text, harmless), (c.escape_default().to_string(), c.escape_default().to_string()));
        }
        assert_eq!(harmless("C:\\x\n"), "C:\\x\\n");
    }
}
