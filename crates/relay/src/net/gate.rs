//! How many may come in, and how many may do at a time what takes much memory.

use super::hub::SessionId;
use crate::bounds::{Bucket, NetBounds};
use quinn_proto::Incoming;
use std::collections::VecDeque;
use std::time::Instant;

/// Handshakes, within bounds.
#[derive(Debug)]
pub(super) struct Gate {
    half_open: usize,
    handshakes: TokenBucket,
}

/// What a first packet is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Worth {
    Handshake,
    /// An answer that shows whether the address is the sender's.
    Retry,
    Nothing,
}

impl Gate {
    pub(super) fn new(bounds: &NetBounds, now: Instant) -> Self {
        Self { half_open: 0, handshakes: TokenBucket::new(bounds.handshakes, now) }
    }

    /// Counts the handshake if it is to be one; [`Gate::leave`] when it ends.
    pub(super) fn enter(&mut self, incoming: &Incoming, bounds: &NetBounds, now: Instant) -> Worth {
        if self.half_open >= bounds.half_open {
            return Worth::Nothing;
        }
        if self.half_open >= bounds.half_open_unproved && !incoming.remote_address_validated() {
            return Worth::Retry;
        }
        if !self.handshakes.take(now) {
            return Worth::Nothing;
        }
        self.half_open += 1;
        Worth::Handshake
    }

    pub(super) fn leave(&mut self) {
        self.half_open -= 1;
    }
}

#[derive(Debug)]
struct TokenBucket {
    bucket: Bucket,
    tokens: u32,
    filled: Instant,
}

impl TokenBucket {
    fn new(bucket: Bucket, now: Instant) -> Self {
        Self { bucket, tokens: bucket.burst, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let back = now.duration_since(self.filled).as_nanos() / self.bucket.every.as_nanos().max(1);
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(back).min(self.bucket.burst);
            self.filled = now;
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}

/// A number of places, given out in the order they were asked for.
#[derive(Debug)]
pub(super) struct Places {
    free: usize,
    queue: VecDeque<SessionId>,
}

impl Places {
    pub(super) fn new(free: usize) -> Self {
        Self { free, queue: VecDeque::new() }
    }

    /// A place, or one in the queue: whoever is to ask again is named by [`Places::next`].
    pub(super) fn take(&mut self, session: SessionId) -> bool {
        if self.free > 0 && self.queue.front().is_none_or(|first| *first == session) {
            self.queue.pop_front();
            self.free -= 1;
            return true;
        }
        if !self.queue.contains(&session) {
            self.queue.push_back(session);
        }
        false
    }

    pub(super) fn give_back(&mut self) {
        self.free += 1;
    }

    /// Takes a session out of the queue.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.queue.retain(|other| *other != session);
    }

    /// The session that can have a place now.
    pub(super) fn next(&self) -> Option<SessionId> {
        self.queue.front().copied().filter(|_| self.free > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn_proto::ConnectionHandle;
    use std::time::Duration;

    #[test]
    fn places_are_given_in_the_order_they_were_asked_for() {
        let session = |n| SessionId { listener: 0, connection: ConnectionHandle(n) };
        let mut places = Places::new(1);
        assert!(places.take(session(1)));
        assert!(!places.take(session(2)) && !places.take(session(3)) && !places.take(session(2)));
        assert_eq!(places.next(), None);
        places.give_back();
        assert_eq!(places.next(), Some(session(2)));
        assert!(!places.take(session(3)), "not before the other");
        places.forget(session(2));
        assert_eq!(places.next(), Some(session(3)));
        assert!(places.take(session(3)));
    }

    #[test]
    fn a_bucket_gives_what_is_in_it_and_fills_again() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Bucket { burst: 2, every: Duration::from_secs(1) }, start);
        assert!(bucket.take(start) && bucket.take(start) && !bucket.take(start));
        let later = start + Duration::from_millis(1500);
        assert!(bucket.take(later) && !bucket.take(later));
    }
}
