//! HPKE (RFC 9180) in base mode for the one suite we use: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305.
//!
//! Single shot only: MLS seals one plaintext, or exports one secret, per encapsulation.

use qpc_curve::{x25519, x25519_public};
use ring::hmac;
use zeroize::Zeroizing;

use super::crypto::{self, AeadKey};

/// A secret scalar or derived key.
pub(crate) type Secret = Zeroizing<[u8; LENGTH]>;

/// `DeriveKeyPair`: the secret and the public key that follow from `ikm`.
pub(crate) fn derive_key_pair(ikm: &[u8]) -> (Secret, [u8; LENGTH]) {
    let prk = labeled_extract(&KEM_SUITE, b"", b"dkp_prk", ikm);
    let secret = labeled_expand_key(&KEM_SUITE, &prk, b"sk", b"");
    let public = x25519_public(&secret);
    (secret, public)
}

/// The sender's or the receiver's half of one HPKE context.
pub(crate) struct Context {
    schedule: Secret,
    schedule_context: [u8; 1 + 2 * LENGTH],
}

impl Context {
    /// `SetupBaseS` with the given ephemeral secret; also the encapsulated key. `None` for a degenerate `pk_r`.
    pub(crate) fn sender(pk_r: &[u8], info: &[u8], ephemeral: &Secret) -> Option<(Self, [u8; LENGTH])> {
        let pk_r: [u8; LENGTH] = pk_r.try_into().ok()?;
        let enc = x25519_public(ephemeral);
        let shared = shared_secret(ephemeral, &pk_r, &enc, &pk_r)?;
        Some((Self::new(&shared, info), enc))
    }

    /// `SetupBaseR`. `None` for a degenerate `enc` or a secret key of the wrong length.
    pub(crate) fn receiver(enc: &[u8], sk_r: &[u8], info: &[u8]) -> Option<Self> {
        let enc: [u8; LENGTH] = enc.try_into().ok()?;
        let sk_r = Zeroizing::new(<[u8; LENGTH]>::try_from(sk_r).ok()?);
        let pk_r = x25519_public(&sk_r);
        let shared = shared_secret(&sk_r, &enc, &enc, &pk_r)?;
        Some(Self::new(&shared, info))
    }

    /// Seals the context's first and only plaintext.
    pub(crate) fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        let (key, nonce) = self.message_key();
        AeadKey::new(&*key)?.seal(nonce, aad, plaintext)
    }

    /// Opens the context's first and only ciphertext.
    pub(crate) fn open(&self, aad: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let (key, nonce) = self.message_key();
        AeadKey::new(&*key)?.open(nonce, aad, ciphertext)
    }

    /// Exports `length` bytes under `exporter_context`.
    pub(crate) fn export(&self, exporter_context: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
        let exporter = labeled_expand_key(&SUITE, &self.schedule, b"exp", &self.schedule_context);
        let mut out = Zeroizing::new(vec![0; length]);
        labeled_expand(&SUITE, &exporter, b"sec", exporter_context, &mut out)?;
        Some(out)
    }

    fn new(shared: &Secret, info: &[u8]) -> Self {
        let psk_id_hash = labeled_extract(&SUITE, b"", b"psk_id_hash", b"");
        let info_hash = labeled_extract(&SUITE, b"", b"info_hash", info);
        let mut schedule_context = [MODE_BASE; 1 + 2 * LENGTH];
        schedule_context[1..=LENGTH].copy_from_slice(&*psk_id_hash);
        schedule_context[1 + LENGTH..].copy_from_slice(&*info_hash);
        Self { schedule: labeled_extract(&SUITE, &**shared, b"secret", b""), schedule_context }
    }

    fn message_key(&self) -> (Secret, [u8; crypto::NONCE_LENGTH]) {
        let key = labeled_expand_key(&SUITE, &self.schedule, b"key", &self.schedule_context);
        let mut nonce = [0; crypto::NONCE_LENGTH];
        // A nonce's length is within what HKDF gives.
        let _ = labeled_expand(&SUITE, &self.schedule, b"base_nonce", &self.schedule_context, &mut nonce);
        (key, nonce)
    }
}

/// The KEM's shared secret, or `None` if the peer's key has low order (RFC 9180 section 7.1.4).
fn shared_secret(
    secret: &Secret,
    peer: &[u8; LENGTH],
    enc: &[u8; LENGTH],
    pk_r: &[u8; LENGTH],
) -> Option<Secret> {
    let dh = x25519(secret, peer)?;
    let prk = labeled_extract(&KEM_SUITE, b"", b"eae_prk", &*dh);
    Some(labeled_expand_key(&KEM_SUITE, &prk, b"shared_secret", &[*enc, *pk_r].concat()))
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Secret {
    let mut extract = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    for part in [VERSION, suite, label, ikm] {
        extract.update(part);
    }
    let mut out = Secret::default();
    out.copy_from_slice(extract.sign().as_ref());
    out
}

fn labeled_expand(suite: &[u8], prk: &Secret, label: &[u8], info: &[u8], out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    crypto::hkdf_expand(&**prk, &[&length, VERSION, suite, label, info], out)
}

fn labeled_expand_key(suite: &[u8], prk: &Secret, label: &[u8], info: &[u8]) -> Secret {
    let mut out = Secret::default();
    // One block of the hash is within what HKDF gives.
    let _ = labeled_expand(suite, prk, label, info, &mut *out);
    out
}

/// Of private keys, public keys and the hash.
pub(crate) const LENGTH: usize = 32;

const VERSION: &[u8] = b"HPKE-v1";
const KEM_SUITE: [u8; 5] = *b"KEM\x00\x20";
const SUITE: [u8; 10] = *b"HPKE\x00\x20\x00\x01\x00\x03";
const MODE_BASE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mls::crypto::tests::hex;

    /// RFC 9180 appendix A.2.1.
    #[test]
    fn rfc_9180_vector() {
        let ephemeral_ikm = hex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b");
        let receiver_ikm = hex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df");
        let info = hex("4f6465206f6e2061204772656369616e2055726e");
        let (ephemeral, enc) = derive_key_pair(&ephemeral_ikm);
        let (receiver, receiver_public) = derive_key_pair(&receiver_ikm);
        assert_eq!(enc.as_slice(), hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"));
        assert_eq!(
            receiver_public.as_slice(),
            hex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
        );

        let (sender, sent) = Context::sender(&receiver_public, &info, &ephemeral).unwrap();
        assert_eq!(sent, enc);
        let receiver = Context::receiver(&enc, &*receiver, &info).unwrap();
        let (key, nonce) = receiver.message_key();
        assert_eq!(key.as_slice(), hex("ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"));
        assert_eq!(nonce.as_slice(), hex("5c4d98150661b848853b547f"));

        let (aad, plaintext) = (b"Count-0", b"Beauty is truth, truth beauty");
        let ciphertext = sender.seal(aad, plaintext).unwrap();
        assert_eq!(
            ciphertext,
            hex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
        );
        assert_eq!(receiver.open(aad, &ciphertext).unwrap(), plaintext);
        assert!(receiver.open(b"Count-1", &ciphertext).is_none());
        assert_eq!(
            *receiver.export(b"", 32).unwrap(),
            hex("4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e")
        );
    }

    #[test]
    fn degenerate_keys_are_refused() {
        let (secret, public) = derive_key_pair(b"any");
        assert!(Context::sender(&[0; LENGTH], b"", &secret).is_none());
        assert!(Context::receiver(&[0; LENGTH], &*secret, b"").is_none());
        assert!(Context::sender(&public[1..], b"", &secret).is_none());
        assert!(Context::receiver(&public, &secret[1..], b"").is_none());
    }
}
