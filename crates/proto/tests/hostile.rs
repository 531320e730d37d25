//! Whatever bytes arrive, decoding ends with a message or an error, and never allocates more than the bytes justify.

#![allow(clippy::unwrap_used, missing_docs)]

mod samples;

use proptest::prelude::*;
use qpc_proto::limits::{MAX_DEVICES, MAX_PAYLOAD};
use qpc_proto::message::{Account, ClientFrame, RelayFrame, SendMessage, UploadKeyPackages};
use qpc_proto::wire::{Blob, DecodeError, List, Message};
use samples::{Sample, samples};

/// Decoding what was encoded gives the same, so one round normalises and a second changes nothing.
fn is_stable<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(M::decode(&message.encode()).unwrap(), message);
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        is_stable::<ClientFrame>(&bytes);
        is_stable::<RelayFrame>(&bytes);
    }

    #[test]
    fn mutated_vectors(index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let samples = samples();
        let Sample { bytes, again, .. } = &samples[index.index(samples.len())];
        if !bytes.is_empty() {
            let mut bytes = bytes.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = again(&bytes);
            let _ = again(&bytes[..at]);
        }
    }
}

/// A field that is empty is left out; an item that is empty is not, or the list would be another.
#[test]
fn a_list_keeps_its_empty_items() {
    let items = [vec![], vec![1], vec![]].map(|bytes| Blob::new(bytes).unwrap());
    let message = UploadKeyPackages {
        replace: false,
        one_time: List::new(items.to_vec()).unwrap(),
        last_resort: Blob::default(),
    };
    assert_eq!(message.encode(), [0x12, 0, 0x12, 1, 1, 0x12, 0]);
    assert_eq!(UploadKeyPackages::decode(&message.encode()), Ok(message));
}

#[test]
fn limits_are_errors_that_name_the_field() {
    let mut long = vec![0x0a, 16];
    long.extend([0; 16]);
    long.extend([0x1a]);
    let len = MAX_PAYLOAD + 1;
    long.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8 & 0x7f | 0x80, (len >> 14) as u8]);
    long.extend(vec![0; len]);
    assert_eq!(SendMessage::decode(&long), Err(DecodeError::Limit(3)));

    let mut many = vec![0x0a, 32];
    many.extend([0; 32]);
    for _ in 0..=MAX_DEVICES {
        many.extend([0x1a, 18, 0x0a, 16]);
        many.extend([0; 16]);
    }
    assert_eq!(Account::decode(&many), Err(DecodeError::Limit(3)));

    // A length that runs past the end, and one that does not fit a machine word.
    assert_eq!(SendMessage::decode(&[0x1a, 0x05, 1]), Err(DecodeError::Truncated));
    let huge = [0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(SendMessage::decode(&huge), Err(DecodeError::Truncated));
    assert_eq!(SendMessage::decode(&[0xff; 11]), Err(DecodeError::Malformed));
    assert_eq!(SendMessage::decode(&[0x0b]), Err(DecodeError::Malformed), "groups do not exist");
    assert_eq!(SendMessage::decode(&[0x08, 1]), Err(DecodeError::WireType(1)));
    assert_eq!(SendMessage::decode(&[]), Err(DecodeError::Missing(1)));
}
