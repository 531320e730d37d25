//! What is inside an MLS application message.

use crate::id::MessageId;
use crate::limits::{MAX_BODY, MAX_PAYLOAD, MIN_PADDED};
use crate::wire::{Blob, Message, code, message, put_bytes};

/// Version of [`Envelope`] written by this crate.
pub const ENVELOPE_VERSION: u32 = 1;

message! {
    /// The plaintext of an application message.
    pub struct Envelope {
        /// [`ENVELOPE_VERSION`]; a reader takes higher ones too and skips fields it does not know.
        1 version: u32,
        /// Random; the same when a message is sent again.
        2 id: MessageId,
        /// Seconds since 1970 by the sender's clock, 0 where that is not believable.
        3 time: u64,
        /// What the body is.
        4 kind: Kind,
        /// The body.
        5 body: Blob<MAX_BODY>,
        /// Whoever stores it is asked for a [`Kind::Receipt`].
        6 receipt: bool,
        /// Zeros that bring the encoding to a size of [`padded_len`]; ignored.
        15 padding: Blob<MAX_PAYLOAD>,
    }
}

code! {
    /// What the body of an envelope is.
    pub enum Kind {
        /// Bytes without a meaning to the messenger.
        Binary = 0,
        /// UTF-8 text.
        Text = 1,
        /// Ids of messages, 16 bytes each, that the device which sent this has stored. Never itself answered by a receipt.
        Receipt = 2,
    }
}

impl Envelope {
    /// An envelope of the current version, not yet padded.
    pub fn new(id: MessageId, time: u64, kind: Kind, body: Blob<MAX_BODY>) -> Self {
        Self { version: ENVELOPE_VERSION, id, time, kind, body, receipt: false, padding: Blob::default() }
    }

    /// That these messages were stored.
    pub fn receipt(id: MessageId, time: u64, messages: &[MessageId]) -> Option<Self> {
        let body = messages.iter().flat_map(|id| id.0).collect();
        Some(Self::new(id, time, Kind::Receipt, Blob::new(body).ok()?))
    }

    /// The encoding, padded so that its length says little about the body's.
    pub fn encode_padded(&self) -> Vec<u8> {
        let mut out = self.encode();
        let mut target = padded_len(out.len());
        while target > out.len() {
            if let Some(zeros) = padding_for(target - out.len()) {
                put_bytes(15, &vec![0; zeros], &mut out);
                break;
            }
            target = padded_len(target + 1);
        }
        out
    }
}

/// How many zeros a padding field has that takes `gap` bytes in all, with one byte of tag and a varint of length;
/// `None` where no number fits exactly.
fn padding_for(gap: usize) -> Option<usize> {
    [(0..0x80, 2), (0x80..0x4000, 3), (0x4000..0x20_0000, 4)]
        .into_iter()
        .find_map(|(range, overhead)| gap.checked_sub(overhead).filter(|zeros| range.contains(zeros)))
}

/// The next size of padding at or above `len`: the "Padmé" sizes (Nikitin et al., PETS 2019), at least
/// [`MIN_PADDED`]. They leak O(log log len) bits of the length and cost at most 12 %.
pub fn padded_len(len: usize) -> usize {
    if len <= MIN_PADDED {
        return MIN_PADDED;
    }
    let exponent = len.ilog2();
    let precision = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - precision)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_padded_exactly_and_reads_back() {
        for len in (0..3000).chain([MAX_BODY - 1, MAX_BODY]) {
            let body = Blob::new(vec![b'x'; len]).unwrap();
            let envelope = Envelope::new(MessageId([7; 16]), 1_800_000_000, Kind::Text, body.clone());
            let bytes = envelope.encode_padded();
            assert_eq!(bytes.len(), padded_len(bytes.len()), "body of {len}");
            assert!(bytes.len() + 600 < MAX_PAYLOAD, "no room for MLS framing");
            let read = Envelope::decode(&bytes).unwrap();
            assert_eq!((read.version, read.id, read.kind, &read.body), (1, envelope.id, Kind::Text, &body));
        }
    }

    #[test]
    fn sizes_are_few() {
        let sizes: std::collections::BTreeSet<_> = (0..MAX_BODY).map(padded_len).collect();
        assert!(sizes.len() < 140, "{} sizes", sizes.len());
        assert_eq!(padded_len(1), MIN_PADDED);
        assert_eq!(padded_len(1025), 1088);
    }
}
