//! Events of a router as messages, few of them however often something happens.
//!
//! Events are told apart by recipient and kind. The first of a kind is a message at once. Those that follow within the
//! window are counted, and at its end there is one message that says how many there were and what the last one was; that
//! message opens the next window. The time is handed in, and messages are handed out: what is here does nothing itself.

use qpc_client::UserName;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Recipients and kinds that are told apart at a time.
pub const MAX_KINDS: usize = 64;

/// There are too many kinds of events to keep count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyKinds;

/// What has happened of late.
#[derive(Debug)]
pub struct Events {
    window: Duration,
    open: BTreeMap<(UserName, String), Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    until: Instant,
    held: u32,
    last: String,
}

impl Events {
    /// With windows that are so long.
    pub fn new(window: Duration) -> Self {
        Self { window, open: BTreeMap::new() }
    }

    /// Notes an event: the message to send at once, or none if the event waits for its summary. It opens a window only
    /// while fewer than `most` are open.
    pub fn note(
        &mut self,
        recipient: &UserName,
        kind: &str,
        text: &str,
        most: usize,
        now: Instant,
    ) -> Result<Option<String>, TooManyKinds> {
        let key = (recipient.clone(), kind.to_owned());
        if let Some(window) = self.open.get_mut(&key) {
            window.held = window.held.saturating_add(1);
            text.clone_into(&mut window.last);
            return Ok(None);
        }
        if self.open.len() >= most {
            return Err(TooManyKinds);
        }
        self.open.insert(key, Window { since: now, until: now + self.window, held: 0, last: String::new() });
        Ok(Some(if text.is_empty() { kind } else { text }.to_owned()))
    }

    /// Takes back that a message was sent, which was not.
    pub fn undo(&mut self, recipient: &UserName, kind: &str) {
        self.open.remove(&(recipient.clone(), kind.to_owned()));
    }

    /// When there may be something to send.
    pub fn due(&self) -> Option<Instant> {
        self.open.values().map(|window| window.until).min()
    }

    /// Events that wait for their summary.
    pub fn held(&self) -> u64 {
        self.open.values().map(|window| u64::from(window.held)).sum()
    }

    /// Hands the summaries that are due to `send`, which says whether it has taken them; those it has not wait for
    /// another window.
    pub fn summarise(&mut self, now: Instant, send: impl FnMut(&UserName, &str) -> bool) {
        self.end(now, false, send);
    }

    /// The same with all, due or not: the end has come.
    pub fn flush(&mut self, now: Instant, send: impl FnMut(&UserName, &str) -> bool) {
        self.end(now, true, send);
    }

    fn end(&mut self, now: Instant, all: bool, mut send: impl FnMut(&UserName, &str) -> bool) {
        self.open.retain(|(recipient, kind), window| {
            if now < window.until && !all {
                return true;
            }
            if window.held == 0 {
                return false;
            }
            let Window { held, last, .. } = window;
            let time = in_words(now.saturating_duration_since(window.since));
            let colon = if last.is_empty() { "" } else { "; the last: " };
            if send(recipient, &format!("{kind}: {held} more in {time}{colon}{last}")) {
                (window.since, window.held, window.last) = (now, 0, String::new());
            }
            window.until = now + self.window;
            true
        });
    }
}

/// Whole minutes, or seconds where there are few.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn bob() -> UserName {
        UserName::new("bob").unwrap()
    }

    fn due(events: &mut Events, now: Instant) -> Vec<String> {
        let mut sent = Vec::new();
        events.summarise(now, |recipient, text| {
            sent.push(format!("{recipient}: {text}"));
            true
        });
        sent
    }

    #[test]
    fn a_flapping_link_sends_a_message_a_window() {
        let (mut events, start) = (Events::new(WINDOW), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(events.note(&bob(), "wan", "WAN down", MAX_KINDS, start), Ok(Some("WAN down".into())));
        for n in 1..=37 {
            let text = if n % 2 == 0 { "WAN down" } else { "WAN up" };
            assert_eq!(events.note(&bob(), "wan", text, MAX_KINDS, at(n)), Ok(None));
        }
        assert_eq!((events.held(), events.due()), (37, Some(at(300))));
        assert!(due(&mut events, at(299)).is_empty());
        assert_eq!(due(&mut events, at(300)), ["bob: wan: 37 more in 5 min; the last: WAN up"]);
        // It goes on: one message for each window, not one at once and one at its end.
        assert_eq!(events.note(&bob(), "wan", "WAN down", MAX_KINDS, at(301)), Ok(None));
        assert_eq!(due(&mut events, at(600)), ["bob: wan: 1 more in 5 min; the last: WAN down"]);
        // It is over, and what comes then comes at once.
        assert!(due(&mut events, at(900)).is_empty());
        assert_eq!(events.due(), None);
        assert_eq!(events.note(&bob(), "wan", "WAN down", MAX_KINDS, at(901)), Ok(Some("WAN down".into())));
    }

    #[test]
    fn kinds_and_recipients_do_not_hold_each_other_up() {
        let (mut events, now) = (Events::new(WINDOW), Instant::now());
        let carol = UserName::new("carol").unwrap();
        for (who, kind) in [(&bob(), "wan"), (&bob(), "ssh"), (&carol, "wan")] {
            assert_eq!(events.note(who, kind, "x", MAX_KINDS, now), Ok(Some("x".into())));
        }
        assert_eq!(events.note(&carol, "wan", "", MAX_KINDS, now), Ok(None));
        assert_eq!(due(&mut events, now + WINDOW), ["carol: wan: 1 more in 5 min"]);
        assert_eq!(events.note(&carol, "boot", "", MAX_KINDS, now), Ok(Some("boot".into())));
    }

    #[test]
    fn what_cannot_be_sent_is_summarised_later_and_the_end_leaves_nothing() {
        let (mut events, now) = (Events::new(WINDOW), Instant::now());
        let _ = events.note(&bob(), "wan", "down", MAX_KINDS, now);
        let _ = events.note(&bob(), "wan", "up", MAX_KINDS, now);
        events.summarise(now + WINDOW, |_, _| false);
        assert_eq!((events.held(), events.due()), (1, Some(now + WINDOW * 2)));
        let mut last = Vec::new();
        events.flush(now + WINDOW + Duration::from_secs(90), |_, text| {
            last.push(text.to_owned());
            true
        });
        assert_eq!(last, ["wan: 1 more in 6 min; the last: up"]);
        assert_eq!(events.held(), 0);
        // One that could not go out at once is as if it had not been.
        events.undo(&bob(), "wan");
        assert!(events.note(&bob(), "wan", "down", MAX_KINDS, now).unwrap().is_some());
    }

    #[test]
    fn times_are_in_words() {
        for (seconds, words) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn kinds_are_bounded() {
        let (mut events, now) = (Events::new(WINDOW), Instant::now());
        for n in 0..MAX_KINDS {
            assert!(events.note(&bob(), &n.to_string(), "x", MAX_KINDS, now).is_ok());
        }
        assert_eq!(events.note(&bob(), "one more", "x", MAX_KINDS, now), Err(TooManyKinds));
        assert!(events.note(&bob(), "7", "x", 1, now).is_ok());
    }
}
