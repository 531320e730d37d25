//! What is shown. Texts from others are data: nothing in them reaches the terminal as a control character.

use data_encoding::BASE64;
use qpc_client::{DeviceInfo, Event, Kind, Message};
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
        Event::OwnDevices { added, removed } => {
            format!(
                "this account has {} new devices and lost {}; `qpc devices` lists them",
                added.len(),
                removed.len()
            )
        }
        Event::Refused { .. } => "messages were lost: this device's queue at the relay was full".into(),
        Event::Removed { .. } => "this device was removed from a conversation".into(),
        Event::Undecryptable { reason, .. } => format!("a message cannot be read ({reason:?})"),
        other => format!("{other:?}"),
    }
}

fn escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || is_bidirectional(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// Characters that turn the direction of what follows, and so can make a line look like another.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_told_what_to_do() {
        let mut out = String::new();
        escaped("a\tb\x1b[2J\r\n\\\u{202e}\u{20ac}", &mut out);
        assert_eq!(out, "a\tb\\u{1b}[2J\\r\\n\\\\\\u{202e}\u{20ac}");
    }
}
