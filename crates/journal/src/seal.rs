//! Sealing: ChaCha20-Poly1305 under a key of its own for each segment.
//!
//! The key of a segment is HMAC-SHA256(journal key, label and the segment's random seed); each sealed part carries a random nonce, so that
//! none repeats even where a torn tail is cut and written again. The associated data is the part's place in the segment: what was sealed
//! for one place does not open at another.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;

/// The key that seals a journal. Wiped from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Wraps the key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key of the segment with this seed, and what the segment's header stores to tell a wrong key from damage.
    pub(crate) fn segment(&self, seed: &[u8; 16]) -> Result<(SegmentKey, [u8; 8]), Error> {
        let derive = |label: &[u8]| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
            context.update(label);
            context.update(seed);
            context.sign()
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, derive(b"qpcj segment\0").as_ref())
            .map_err(|_| Error::Random)?;
        let mut check = [0; 8];
        check.copy_from_slice(&derive(b"qpcj check\0").as_ref()[..8]);
        Ok((SegmentKey(LessSafeKey::new(key)), check))
    }
}

impl From<[u8; 32]> for SealKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Seals and opens the parts of one segment.
#[derive(Debug)]
pub(crate) struct SegmentKey(LessSafeKey);

impl SegmentKey {
    /// Appends nonce, ciphertext and tag; `place` is where in the segment they will stand.
    pub(crate) fn seal(&self, plain: &[u8], place: u32, out: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = random::<NONCE_LEN>()?;
        out.extend(nonce);
        let start = out.len();
        out.extend(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, aad(place), &mut out[start..])
            .map_err(|_| Error::Random)?;
        out.extend(tag.as_ref());
        Ok(())
    }

    /// The plain bytes, or `None` if this is not what was sealed at this place.
    pub(crate) fn open(&self, mut stored: Vec<u8>, place: u32) -> Option<Vec<u8>> {
        let nonce = Nonce::assume_unique_for_key(*stored.first_chunk::<NONCE_LEN>()?);
        let len = self.0.open_within(nonce, aad(place), &mut stored, NONCE_LEN..).ok()?.len();
        stored.truncate(len);
        Some(stored)
    }
}

fn aad(place: u32) -> Aad<[u8; 4]> {
    Aad::from(place.to_be_bytes())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// How much longer a sealed part is.
pub(crate) const SEALED_OVERHEAD: usize = NONCE_LEN + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_opens_only_where_it_was_sealed() {
        let key = SealKey::new([7; 32]);
        let (segment, check) = key.segment(&[1; 16]).unwrap();
        let mut sealed = Vec::new();
        segment.seal(b"secret", 44, &mut sealed).unwrap();
        assert_eq!(sealed.len(), 6 + SEALED_OVERHEAD);
        assert_eq!(segment.open(sealed.clone(), 44).unwrap(), b"secret");
        assert_eq!(segment.open(sealed.clone(), 45), None);
        assert_eq!(segment.open(sealed[..20].to_vec(), 44), None);
        let (other, other_check) = key.segment(&[2; 16]).unwrap();
        assert_eq!(other.open(sealed.clone(), 44), None);
        assert_ne!(check, other_check);
        assert_eq!(SealKey::new([8; 32]).segment(&[1; 16]).unwrap().0.open(sealed, 44), None);
    }
}
