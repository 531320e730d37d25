//! Frames on a stream: a 32-bit big-endian length, then that many bytes of message.

use crate::wire::Message;

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
    let mut out = vec![0; 4];
    message.encode_into(&mut out);
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
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
    fn an_over_long_frame_is_refused_by_its_length_alone() {
        let mut decoder = Decoder::new(1024);
        decoder.feed(&[0xff; 4]);
        assert_eq!(decoder.next_frame(), Err(FrameTooLarge { len: 0xffff_ffff, limit: 1024 }));
    }
}
