//! The wire: a message is its length, as four bytes with the highest first, and its bytes. Nothing else.

use crate::Error;
use std::collections::VecDeque;

/// What comes before a message's bytes: their number.
pub const HEADER: usize = 4;

/// The longest message, as all implementations have it.
pub const MAX_PAYLOAD: usize = 99_992;

/// The longest message with its header.
pub const MAX_FRAME: usize = HEADER + MAX_PAYLOAD;

/// How much may be read with a frame of what follows it; the rest of many small ones stays in the kernel.
const AHEAD: usize = 4096;

/// How many places an empty queue keeps: as many as the first allocation has.
const KEPT: usize = 4;

/// The message as it goes over the wire.
pub fn frame(message: &[u8]) -> Result<Vec<u8>, Error> {
    let mut frame = Vec::with_capacity(HEADER + message.len().min(MAX_PAYLOAD));
    frame.extend_from_slice(&header(message.len())?);
    frame.extend_from_slice(message);
    Ok(frame)
}

fn header(len: usize) -> Result<[u8; HEADER], Error> {
    match u32::try_from(len) {
        Ok(number) if len <= MAX_PAYLOAD => Ok(number.to_be_bytes()),
        _ => Err(Error::TooLong(len)),
    }
}

/// The length of the frame these bytes begin with, once all of it is there.
pub(crate) fn first_frame(bytes: &[u8]) -> Result<Option<usize>, Error> {
    Ok(announced(bytes)?.filter(|frame| *frame <= bytes.len()))
}

/// The same, once its header is there.
fn announced(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
    if len > MAX_PAYLOAD {
        return Err(Error::TooLong(len));
    }
    Ok(Some(HEADER + len))
}

/// What came of a peer and was not delivered yet: at most one frame of the longest kind. It grows with what arrives,
/// never with what a header announces, and takes no memory when it is empty.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// A message was taken out since somebody asked.
    moved: bool,
}

impl Inbox {
    /// How much is to be read next, if nothing in it is ready.
    pub(crate) fn wants(&self) -> usize {
        self.lacks().max(AHEAD.saturating_sub(self.waiting().len()))
    }

    /// How much there is to be read of the first frame, or of its header, and of nothing that follows.
    pub(crate) fn lacks(&self) -> usize {
        let waiting = self.waiting();
        let known = announced(waiting).ok().flatten().unwrap_or(HEADER);
        known.saturating_sub(waiting.len())
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            // Twice as much each time, but never more than the longest frame.
            let capacity = needed.max((2 * self.bytes.capacity()).min(MAX_FRAME));
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The memory it takes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it got shorter since the last time this was asked.
    pub(crate) fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is something to be done about it without reading more.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.first(), Ok(None))
    }

    /// The length of the first frame, once it is whole.
    pub(crate) fn first(&self) -> Result<Option<usize>, Error> {
        first_frame(self.waiting())
    }

    /// Moves the first message, without its header, to `message`; false if there is none yet.
    pub(crate) fn pop(&mut self, message: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(len) = self.first()? else { return Ok(false) };
        message.clear();
        message.extend_from_slice(&self.bytes[self.start + HEADER..self.start + len]);
        self.start += len;
        if self.waiting().is_empty() {
            self.clear();
        }
        self.moved = true;
        Ok(true)
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Frames on their way to a peer, first in, first out.
#[derive(Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Vec<u8>>,
    /// How much of the first is written.
    written: usize,
    cost: usize,
    /// A frame was taken off since somebody asked.
    moved: bool,
}

impl Outbox {
    /// The memory it takes, about.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether it got shorter since the last time this was asked.
    pub(crate) fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.cost += cost(&frame);
        self.frames.push_back(frame);
    }

    /// What is left of the first frame.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(|frame| &frame[self.written..])
    }

    /// Whether some of the first frame was written.
    pub(crate) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// So much of the first frame was written; true if that was all of it.
    pub(crate) fn advance(&mut self, written: usize) -> bool {
        self.written += written;
        let whole = self.frames.front().is_some_and(|frame| self.written >= frame.len());
        if whole {
            self.pop();
        }
        whole
    }

    /// Takes the first frame off.
    pub(crate) fn pop(&mut self) {
        self.written = 0;
        if let Some(frame) = self.frames.pop_front() {
            self.cost -= cost(&frame);
        }
        if self.frames.is_empty() {
            self.frames.shrink_to(KEPT);
        }
        self.moved = true;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A frame, and what the queue and the allocator add.
pub(crate) fn cost(frame: &[u8]) -> usize {
    frame.len() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_length_and_bytes() {
        assert_eq!(frame(b"hello").unwrap(), b"\0\0\0\x05hello");
        assert_eq!(frame(b"").unwrap(), [0; 4]);
        let longest = frame(&vec![7; MAX_PAYLOAD]).unwrap();
        assert_eq!((longest.len(), &longest[..4]), (MAX_FRAME, &[0x00, 0x01, 0x86, 0x98][..]));
        assert!(matches!(frame(&vec![7; MAX_PAYLOAD + 1]), Err(Error::TooLong(99_993))));
    }

    #[test]
    fn an_inbox_gives_the_same_messages_however_they_were_cut() {
        let sent: [&[u8]; 4] = [b"one", b"", &[9; 3000], b"two"];
        let wire: Vec<u8> = sent.iter().flat_map(|message| frame(message).unwrap()).collect();
        for step in [1, 2, 3, 5, 7, 1000, wire.len()] {
            let (mut inbox, mut message, mut got) = (Inbox::default(), Vec::new(), Vec::new());
            for piece in wire.chunks(step) {
                inbox.push(piece);
                while inbox.pop(&mut message).unwrap() {
                    got.push(message.clone());
                }
            }
            assert_eq!(got, sent, "in pieces of {step}");
            assert_eq!(inbox.cost(), 0);
        }
    }

    #[test]
    fn an_inbox_wants_the_rest_of_a_frame_and_little_more() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.wants(), AHEAD);
        inbox.push(&[0]);
        assert_eq!((inbox.wants(), inbox.lacks()), (AHEAD - 1, HEADER - 1));
        inbox.push(&[0, 0, 9]);
        assert_eq!((inbox.wants(), inbox.lacks()), (AHEAD - HEADER, 9));
        let longest = frame(&vec![7; MAX_PAYLOAD]).unwrap();
        let mut inbox = Inbox::default();
        for piece in longest.chunks(1000) {
            inbox.push(piece);
            assert!(inbox.cost() <= MAX_FRAME);
        }
        let mut inbox = Inbox::default();
        inbox.push(&longest[..5000]);
        assert_eq!((inbox.wants(), inbox.lacks()), (MAX_FRAME - 5000, MAX_FRAME - 5000));
    }

    #[test]
    fn a_header_of_too_much_is_an_error_and_takes_no_memory() {
        for announced in [99_993_u32, u32::MAX] {
            let mut inbox = Inbox::default();
            inbox.push(&announced.to_be_bytes());
            assert!(inbox.is_ready());
            assert!(matches!(inbox.pop(&mut Vec::new()), Err(Error::TooLong(_))));
            assert_eq!(inbox.cost(), HEADER);
        }
    }

    #[test]
    fn an_outbox_is_first_in_first_out_in_pieces_and_costs_nothing_when_empty() {
        let mut outbox = Outbox::default();
        for number in 0..100 {
            outbox.push(vec![number; 3]);
        }
        for number in 0..100 {
            assert_eq!(outbox.front().unwrap(), [number; 3]);
            assert!(!outbox.advance(2));
            assert_eq!(outbox.front().unwrap(), [number; 1]);
            assert!(outbox.advance(1));
        }
        assert!(outbox.is_empty());
        assert_eq!(outbox.cost(), 0);
    }
}
