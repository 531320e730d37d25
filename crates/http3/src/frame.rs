//! Frames (RFC 9114, section 7), cut out of a stream as its bytes come.

use crate::error::{Code, ConnectionError, Failure};
use crate::varint;

pub(crate) const DATA: u64 = 0x00;
pub(crate) const HEADERS: u64 = 0x01;
pub(crate) const CANCEL_PUSH: u64 = 0x03;
pub(crate) const SETTINGS: u64 = 0x04;
pub(crate) const PUSH_PROMISE: u64 = 0x05;
pub(crate) const GOAWAY: u64 = 0x07;
pub(crate) const MAX_PUSH_ID: u64 = 0x0d;
/// RFC 9218, section 7.2.
pub(crate) const PRIORITY_UPDATE_REQUEST: u64 = 0xf0700;
pub(crate) const PRIORITY_UPDATE_PUSH: u64 = 0xf0701;

/// Types that HTTP/2 had and that must not come (section 7.2.8).
pub(crate) const fn is_of_http2(ty: u64) -> bool {
    matches!(ty, 0x02 | 0x06 | 0x08 | 0x09)
}

/// Appends a frame.
pub(crate) fn write(out: &mut Vec<u8>, ty: u64, payload: &[u8]) {
    write_header(out, ty, payload.len());
    out.extend_from_slice(payload);
}

pub(crate) fn write_header(out: &mut Vec<u8>, ty: u64, length: usize) {
    varint::write(out, ty);
    varint::write(out, length as u64);
}

/// What is to become of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Handed over as it comes.
    Pieces,
    Skip,
    /// Kept until it is whole, if it is not longer than this.
    Whole(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Of a frame that is handed over as it comes.
    Part(&'a [u8]),
    /// A frame.
    Whole(u64, Vec<u8>),
}

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    state: State,
}

#[derive(Debug)]
enum State {
    /// In a header, of which these bytes have come.
    Header {
        bytes: [u8; 16],
        count: usize,
    },
    Pieces(u64),
    Skip(u64),
    Whole {
        ty: u64,
        left: u64,
        payload: Vec<u8>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Header { bytes: [0; 16], count: 0 }
    }
}

impl FrameReader {
    /// Whether the last frame is whole.
    pub(crate) fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header { count: 0, .. })
    }

    /// Takes bytes from `input` up to the next thing to handle; `None` when more have to come. `judge` says what to do with a frame.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        mut judge: impl FnMut(u64) -> Result<Payload, ConnectionError>,
    ) -> Result<Option<Piece<'a>>, Failure> {
        loop {
            match &mut self.state {
                State::Header { bytes, count } => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    bytes[*count] = byte;
                    *count += 1;
                    let mut header = &bytes[..*count];
                    let Some(ty) = varint::read(&mut header) else { continue };
                    let Some(left) = varint::read(&mut header) else { continue };
                    self.state = match judge(ty)? {
                        Payload::Pieces => State::Pieces(left),
                        Payload::Skip => State::Skip(left),
                        Payload::Whole(most) if left <= most => {
                            State::Whole { ty, left, payload: Vec::new() }
                        }
                        Payload::Whole(_) => return Err(Failure::Stream(Code::H3_EXCESSIVE_LOAD)),
                    };
                }
                State::Pieces(0) | State::Skip(0) => self.state = State::default(),
                State::Whole { ty, left: 0, payload } => {
                    let frame = Piece::Whole(*ty, std::mem::take(payload));
                    self.state = State::default();
                    return Ok(Some(frame));
                }
                State::Pieces(left) => {
                    let part = take(input, left);
                    return Ok((!part.is_empty()).then_some(Piece::Part(part)));
                }
                State::Skip(left) => {
                    if take(input, left).is_empty() {
                        return Ok(None);
                    }
                }
                State::Whole { left, payload, .. } => {
                    let part = take(input, left);
                    if part.is_empty() {
                        return Ok(None);
                    }
                    payload.extend_from_slice(part);
                }
            }
        }
    }
}

/// Takes of `input` what belongs to a payload with `left` bytes to come.
fn take<'a>(input: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    let (part, rest) = input.split_at(count);
    *input = rest;
    *left -= count as u64;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ty: u64) -> Result<Payload, ConnectionError> {
        match ty {
            DATA => Ok(Payload::Pieces),
            HEADERS => Ok(Payload::Whole(5)),
            ty if is_of_http2(ty) => Err(ConnectionError { code: Code::H3_FRAME_UNEXPECTED, reason: "" }),
            _ => Ok(Payload::Skip),
        }
    }

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        write(&mut stream, HEADERS, b"");
        write(&mut stream, 0x21, b"nobody knows this");
        write(&mut stream, HEADERS, b"five!");
        write(&mut stream, DATA, b"");
        write(&mut stream, DATA, b"some data");
        write(&mut stream, 0x3fff_ffff_ffff, b"");
        for size in 1..=stream.len() {
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            let mut data = Vec::new();
            for mut piece in stream.chunks(size) {
                while let Some(piece) = reader.next(&mut piece, judge).unwrap() {
                    match piece {
                        Piece::Part(part) => data.extend_from_slice(part),
                        Piece::Whole(ty, payload) => frames.push((ty, payload)),
                    }
                }
                assert!(piece.is_empty());
            }
            assert!(reader.is_between_frames());
            assert_eq!(frames, [(HEADERS, vec![]), (HEADERS, b"five!".to_vec())]);
            assert_eq!(data, b"some data");
        }
    }

    #[test]
    fn what_is_too_long_or_unwanted_fails_at_its_header() {
        let mut reader = FrameReader::default();
        assert_eq!(reader.next(&mut &[1, 6][..], judge), Err(Failure::Stream(Code::H3_EXCESSIVE_LOAD)));
        let mut reader = FrameReader::default();
        let unexpected = Failure::connection(Code::H3_FRAME_UNEXPECTED, "");
        assert_eq!(reader.next(&mut &[6, 0][..], judge), Err(unexpected));
        let mut reader = FrameReader::default();
        assert_eq!(reader.next(&mut &[1, 5, 0][..], judge), Ok(None));
        assert!(!reader.is_between_frames());
    }
}
