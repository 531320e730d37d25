//! Bytes that wait for the transport, stream by stream.

use std::collections::VecDeque;

use crate::map::Map;

/// Bytes for one stream, to be sent in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Send<'a> {
    /// The stream, which the first bytes open.
    pub stream: u64,
    /// The bytes; there may be none if the stream only ends.
    pub data: &'a [u8],
    /// Whether the stream ends behind them.
    pub fin: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queues: Map<Queue>,
    /// Streams that have something to send and may, in turn.
    ready: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    data: Vec<u8>,
    sent: usize,
    fin: bool,
    is_blocked: bool,
}

impl Outbox {
    /// Bytes that a stream has waiting.
    pub(crate) fn unsent(&self, stream: u64) -> usize {
        self.queues.get(&stream).map_or(0, |queue| queue.data.len() - queue.sent)
    }

    pub(crate) fn contains(&self, stream: u64) -> bool {
        self.queues.contains_key(&stream)
    }

    pub(crate) fn push(&mut self, stream: u64, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.queue(stream, false).data);
    }

    /// As `push`, ahead of other streams.
    pub(crate) fn push_urgent(&mut self, stream: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.queue(stream, true).data.extend_from_slice(bytes);
        }
    }

    pub(crate) fn finish(&mut self, stream: u64) {
        self.queue(stream, false).fin = true;
    }

    /// Forgets what a stream has waiting.
    pub(crate) fn discard(&mut self, stream: u64) {
        if self.queues.remove(&stream).is_some() {
            self.ready.retain(|other| *other != stream);
        }
    }

    pub(crate) fn next(&self) -> Option<Send<'_>> {
        let stream = *self.ready.front()?;
        let queue = self.queues.get(&stream)?;
        Some(Send { stream, data: &queue.data[queue.sent..], fin: queue.fin })
    }

    /// Notes that the transport took so many bytes of what `next` gave.
    pub(crate) fn sent(&mut self, stream: u64, count: usize) {
        let Some(queue) = self.queues.get_mut(&stream) else { return };
        queue.sent += count.min(queue.data.len() - queue.sent);
        if queue.sent == queue.data.len() {
            self.discard(stream);
        } else {
            queue.is_blocked = true;
            self.ready.retain(|other| *other != stream);
            // Moving what is left costs less than what was sent before it.
            if queue.sent > queue.data.len() / 2 {
                queue.data.drain(..queue.sent);
                queue.sent = 0;
            }
        }
    }

    /// The transport takes bytes of that stream again.
    pub(crate) fn unblock(&mut self, stream: u64) {
        if let Some(queue) = self.queues.get_mut(&stream)
            && queue.is_blocked
        {
            queue.is_blocked = false;
            self.ready.push_back(stream);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn queue(&mut self, stream: u64, first: bool) -> &mut Queue {
        self.queues.entry(stream).or_insert_with(|| {
            if first {
                self.ready.push_front(stream);
            } else {
                self.ready.push_back(stream);
            }
            Box::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, stream: u64, bytes: &[u8]) {
        outbox.push(stream, |data| data.extend_from_slice(bytes));
    }

    #[test]
    fn streams_take_turns_and_wait_when_the_transport_is_full() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 0, b"abc");
        push(&mut outbox, 4, b"def");
        outbox.push_urgent(2, b"!");
        outbox.finish(4);
        assert_eq!(outbox.next(), Some(Send { stream: 2, data: b"!", fin: false }));
        outbox.sent(2, 1);
        assert_eq!(outbox.next(), Some(Send { stream: 0, data: b"abc", fin: false }));
        outbox.sent(0, 2);
        assert_eq!(outbox.unsent(0), 1);
        assert_eq!(outbox.next(), Some(Send { stream: 4, data: b"def", fin: true }));
        outbox.sent(4, 3);
        push(&mut outbox, 0, b"d");
        assert_eq!(outbox.next(), None);
        outbox.unblock(0);
        outbox.unblock(0);
        outbox.finish(0);
        assert_eq!(outbox.next(), Some(Send { stream: 0, data: b"cd", fin: true }));
        outbox.sent(0, 2);
        assert_eq!(outbox.next(), None);
        assert!(!outbox.contains(0));
    }
}
