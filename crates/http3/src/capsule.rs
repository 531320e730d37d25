//! Capsules (RFC 9297, section 3): what the content of an extended CONNECT carries when its protocol says so.

use crate::error::{Code, Failure};
use crate::frame::{self, FrameReader, Payload, Piece};

/// The type of a capsule that carries a datagram reliably.
pub const DATAGRAM: u64 = 0x00;

/// Appends a capsule.
pub fn write(out: &mut Vec<u8>, ty: u64, value: &[u8]) {
    frame::write(out, ty, value);
}

/// Cuts content into capsules as it comes.
#[derive(Debug, Default)]
pub struct Reader {
    // A capsule has the layout of a frame.
    frames: FrameReader,
}

impl Reader {
    /// Takes bytes from `input` up to the end of the next capsule, its type and value; `None` when more have to come. Of types that
    /// `is_known` does not know, nothing is kept. One longer than `most` is an error of the message.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        most: u64,
        is_known: impl Fn(u64) -> bool,
    ) -> Result<Option<(u64, Vec<u8>)>, Code> {
        let judge = |ty| Ok(if is_known(ty) { Payload::Whole(most) } else { Payload::Skip });
        match self.frames.next(input, judge) {
            Ok(Some(Piece::Whole(ty, value))) => Ok(Some((ty, value))),
            Ok(_) => Ok(None),
            Err(Failure::Stream(code)) => Err(code),
            Err(Failure::Connection(error)) => Err(error.code),
        }
    }

    /// Whether content may end here: not within a capsule, which would be malformed.
    pub fn is_between_capsules(&self) -> bool {
        self.frames.is_between_frames()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capsules_come_out_whole() {
        let mut content = Vec::new();
        write(&mut content, DATAGRAM, b"one");
        write(&mut content, 0x17, b"of a type nobody knows");
        write(&mut content, DATAGRAM, b"");
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for mut piece in content.chunks(4) {
            while let Some(capsule) = reader.next(&mut piece, 3, |ty| ty == DATAGRAM).unwrap() {
                found.push(capsule);
            }
        }
        assert_eq!(found, [(DATAGRAM, b"one".to_vec()), (DATAGRAM, vec![])]);
        assert!(reader.is_between_capsules());
        assert_eq!(reader.next(&mut &[0, 4][..], 3, |_| true), Err(Code::H3_EXCESSIVE_LOAD));
    }
}
