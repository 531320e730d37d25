//! Whether the cryptography works on this processor as it was built, and whether a panic can be caught, which both depend on compiler and
//! linker: for the tests of packagers.

use qpc_curve::SigningKey;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest;
use std::panic::{catch_unwind, resume_unwind};

/// What does not work.
pub(crate) fn run() -> Result<(), &'static str> {
    let works = [
        ("SHA-256", digest::digest(&digest::SHA256, b"abc").as_ref() == SHA256_ABC),
        ("Ed25519", ed25519()),
        ("ChaCha20-Poly1305", chacha20_poly1305() == Some(true)),
        // Not `panic!`, which would say so on stderr.
        ("catching a panic", catch_unwind(|| resume_unwind(Box::new(()))).is_err()),
    ];
    works.iter().find(|(_, works)| !works).map_or(Ok(()), |(name, _)| Err(name))
}

/// RFC 8032 section 7.1, test 1.
fn ed25519() -> bool {
    let key = SigningKey::from_seed(&SEED);
    key.sign(b"") == SIGNATURE && qpc_curve::verify(&key.public(), b"", &SIGNATURE)
}

/// Three blocks of ChaCha20 under a tag; the answer is from another implementation.
fn chacha20_poly1305() -> Option<bool> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &SEED).ok()?);
    let mut text = [7; 150];
    let nonce = Nonce::assume_unique_for_key([9; 12]);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(b"self-test"), &mut text).ok()?;
    Some(tag.as_ref() == TAG)
}

const SHA256_ABC: [u8; 32] = hex(b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
const SEED: [u8; 32] = hex(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
const SIGNATURE: [u8; 64] = hex(b"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
const TAG: [u8; 16] = hex(b"193f18095df3bf3fc2dddf09ddc621a1");

const fn hex<const N: usize>(digits: &[u8]) -> [u8; N] {
    assert!(digits.len() == 2 * N);
    let mut bytes = [0; N];
    let mut at = 0;
    while at < digits.len() {
        let digit = if digits[at] > b'9' { digits[at] - b'a' + 10 } else { digits[at] - b'0' };
        bytes[at / 2] = bytes[at / 2] << 4 | digit;
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn works_here() {
        assert_eq!(super::run(), Ok(()));
    }
}
