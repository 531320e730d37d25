//! Ed25519 (RFC 8032) and X25519 (RFC 7748), once for TLS, MLS and everything else.
//!
//! Over curve25519-dalek, which OPAQUE brings along: ring's second implementation is 90 KB of a program for MIPS, and takes
//! more instructions. Nothing here is generic, so the optimisation level of this crate and dalek's is what counts.

#![forbid(unsafe_code)]

use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::{Signature, Signer, Verifier, VerifyingKey};
use zeroize::Zeroizing;

/// Bytes of every key.
pub const LENGTH: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_LENGTH: usize = 64;

/// A private key of Ed25519. Forgotten when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: &[u8; LENGTH]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The key in a PKCS #8 document (RFC 8410), with its public key or without; `None` if it is none, or the two do not belong
    /// together.
    pub fn from_pkcs8(document: &[u8]) -> Option<Self> {
        let (head, rest) = document.split_at_checked(PKCS8_HEAD.len())?;
        let (seed, rest) = rest.split_first_chunk()?;
        let key = Self::from_seed(seed);
        let matches = match rest {
            [] => head == PKCS8_V1_HEAD,
            rest => head == PKCS8_HEAD && rest.strip_prefix(&PKCS8_PUBLIC) == Some(&key.public()),
        };
        matches.then_some(key)
    }

    /// As a PKCS #8 document with the public key.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_HEAD[..], self.seed(), &PKCS8_PUBLIC, &self.public()].concat())
    }

    /// The random bytes it follows from.
    pub fn seed(&self) -> &[u8; LENGTH] {
        self.0.as_bytes()
    }

    /// Its public key.
    pub fn public(&self) -> [u8; LENGTH] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Whether a signature over `message` was made with the private key of `public`.
pub fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = public.try_into().ok().and_then(|public| VerifyingKey::from_bytes(public).ok());
    match (key, Signature::from_slice(signature)) {
        (Some(key), Ok(signature)) => key.verify(message, &signature).is_ok(),
        _ => false,
    }
}

/// The X25519 public key of a secret one.
pub fn x25519_public(secret: &[u8; LENGTH]) -> [u8; LENGTH] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// The X25519 secret shared with a peer; `None` if the peer's key has low order, which no honest key has.
pub fn x25519(secret: &[u8; LENGTH], peer: &[u8; LENGTH]) -> Option<Zeroizing<[u8; LENGTH]>> {
    let shared = Zeroizing::new(MontgomeryPoint(*peer).mul_clamped(*secret).to_bytes());
    // Every bit is looked at before the branch.
    (shared.iter().fold(0, |all, byte| all | byte) != 0).then_some(shared)
}

const PKCS8_HEAD: [u8; 16] = *b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PKCS8_V1_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PKCS8_PUBLIC: [u8; 3] = *b"\x81\x21\x00";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{self, Ed25519KeyPair, KeyPair};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn key(text: &str) -> [u8; LENGTH] {
        hex(text).try_into().unwrap()
    }

    /// RFC 8032 section 7.1, test 2.
    #[test]
    fn ed25519_vector() {
        let signer =
            SigningKey::from_seed(&key("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
        let public = key("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert_eq!((signer.public(), signer.sign(&[0x72]).to_vec()), (public, signature.clone()));
        assert!(verify(&public, &[0x72], &signature));
        assert!(!verify(&public, &[0x73], &signature));
        assert!(!verify(&public[1..], &[0x72], &signature));
        assert!(!verify(&public, &[0x72], &signature[1..]));
        // The same signature with the group's order added to its second half.
        let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut malleable = signature;
        let mut carry = 0;
        for (byte, more) in malleable[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert!(!verify(&public, &[0x72], &malleable));
    }

    /// RFC 7748 section 5.2.
    #[test]
    fn x25519_vector() {
        let scalar = key("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
        let point = key("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        let shared = key("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
        assert_eq!(*x25519(&scalar, &point).unwrap(), shared);
        let mut nine = [0; LENGTH];
        nine[0] = 9;
        assert_eq!(x25519_public(&scalar), *x25519(&scalar, &nine).unwrap());
        assert!(x25519(&scalar, &[0; LENGTH]).is_none());
    }

    #[test]
    fn pkcs8_is_what_ring_and_openssl_write() {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(document.as_ref()).unwrap();
        assert_eq!(key.to_pkcs8().as_slice(), document.as_ref());
        let seed = &document.as_ref()[PKCS8_HEAD.len()..][..LENGTH];
        let short = [&PKCS8_V1_HEAD, seed].concat(); // of `openssl genpkey -algorithm ed25519 -outform DER`
        assert_eq!(SigningKey::from_pkcs8(&short).unwrap().public(), key.public());
        for n in 0..document.as_ref().len() {
            assert!(SigningKey::from_pkcs8(&document.as_ref()[..n]).is_none(), "{n} bytes");
            let mut damaged = document.as_ref().to_vec();
            damaged[n] ^= 1;
            assert!(SigningKey::from_pkcs8(&damaged).is_none(), "byte {n}");
        }
    }

    proptest! {
        /// ring comes to the same results.
        #[test]
        fn agrees_with_ring(seed: [u8; 32], message: Vec<u8>, flip in 0..512usize) {
            let (ours, theirs) = (SigningKey::from_seed(&seed), Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
            prop_assert_eq!(&ours.public(), theirs.public_key().as_ref());
            let mut signature = ours.sign(&message);
            prop_assert_eq!(signature.to_vec(), theirs.sign(&message).as_ref().to_vec());
            prop_assert!(verify(&ours.public(), &message, &signature));
            signature[flip / 8] ^= 1 << (flip % 8);
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, ours.public());
            prop_assert_eq!(
                verify(&ours.public(), &message, &signature),
                key.verify(&message, &signature).is_ok()
            );
        }

        /// Two secrets agree.
        #[test]
        fn both_ends_share_a_secret(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(x25519(&a, &x25519_public(&b)), x25519(&b, &x25519_public(&a)));
        }
    }
}
