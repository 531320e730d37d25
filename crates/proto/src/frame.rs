//! Frames on a stream: a 32-bit big-endian length, then that many bytes of message.

use crate::wire::{Field, Message, ROOM, put_bytes, put_nested};

/// A frame announces more bytes than its stream allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a frame of {len} bytes is over this stream's limit of {limit}")]
pub struct FrameTooLarge {
    /// Announced.
    pub len: usize,
    /// Allowed.
    pub limit: usize,
}

/// Encodes a message as a frame.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROOM);
    out.extend([0; 4]);
    message.encode_into(&mut out);
    finish(out)
}

/// Encodes a [`Delivery`](crate::message::Delivery) as a frame of the relay's, around an entry that is encoded already.
pub fn encode_delivery(seq: u64, entry: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.len() + DELIVERY_OVERHEAD);
    out.extend([0; 4]);
    put_nested(DELIVERY, &mut out, |out| {
        seq.put(1, out);
        put_bytes(3, entry, out);
    });
    finish(out)
}

/// What a delivery's frame has besides the entry, at most.
pub const DELIVERY_OVERHEAD: usize = 32;

/// The number of [`Reply::Delivery`](crate::message::Reply::Delivery).
const DELIVERY: u32 = 22;

fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}

/// Puts frames together from whatever pieces a stream delivers. It holds at most one frame of `limit` bytes and the
/// piece given last.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// A decoder for a stream whose frames have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), read: 0 }
    }

    /// Takes a piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole frame's message bytes, if they are there. After an error the stream cannot be read on.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameTooLarge> {
        let rest = &self.buffer[self.read..];
        let Some((prefix, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > self.limit {
            return Err(FrameTooLarge { len, limit: self.limit });
        }
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.read + 4;
        self.read = start + len;
        Ok(Some(&self.buffer[start..start + len]))
    }

    /// Whether the stream may end here without cutting a frame.
    pub fn is_empty(&self) -> bool {
        self.read == self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConversationId;
    use crate::message::{Delivery, Durability, Entry, MessageEntry, RelayFrame};
    use crate::wire::Blob;

    #[test]
    fn frames_come_out_whole_however_they_come_in() {
        let stream = [0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        for size in 1..=stream.len() {
            let mut decoder = Decoder::new(2);
            let mut frames = Vec::new();
            for piece in stream.chunks(size) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [vec![1, 2], vec![], vec![9]], "pieces of {size}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_delivery_is_encoded_alike_around_an_encoded_entry() {
        for size in [0, 1, 100, 127, 128, 16_000, 16_384] {
            let kind = MessageEntry { payload: Blob::new(vec![7; size]).unwrap() };
            let conversation = ConversationId([1; 16]);
            let entry = Entry {
                conversation,
                sender: None,
                time: 9,
                age: 300,
                durability: Durability::Durable,
                kind: Some(kind.into()),
            };
            for seq in [1, u64::MAX] {
                let delivery = Delivery { seq, too_large: 0, entry: Some(entry.clone()) };
                let whole = encode(&RelayFrame { id: 0, reply: Some(delivery.into()) });
                assert_eq!(encode_delivery(seq, &entry.encode()), whole);
                assert!(whole.len() <= entry.encode().len() + DELIVERY_OVERHEAD);
            }
        }
    }

    #[test]
    fn an_over_long_frame_is_refused_by_its_length_alone() {
        let mut decoder = Decoder::new(1024);
        decoder.feed(&[0xff; 4]);
        assert_eq!(decoder.next_frame(), Err(FrameTooLarge { len: 0xffff_ffff, limit: 1024 }));
    }
}
