//! The cryptography openmls asks for, for exactly one suite.
//!
//! `MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519` over ring and [`qpc_curve`], with HPKE in [`super::hpke`]. openmls'
//! own RustCrypto provider links P-256, P-384, AES and more that this program never uses; every other algorithm is
//! refused here with the error the trait has for it.

use std::sync::Arc;

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext, HpkeConfig,
    HpkeKdfType, HpkeKemType, HpkeKeyPair, KemOutput, SignatureScheme,
};
use qpc_curve::SigningKey;
use ring::{aead, digest, hmac, rand::SecureRandom};
use thiserror::Error;
use tls_codec::SecretVLBytes;
use zeroize::Zeroizing;

use super::hpke;

/// The one suite this program speaks.
pub(crate) const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

/// Where random bytes come from. The engine is handed one, so that a test can replay a run.
pub trait Entropy: Send + Sync {
    /// Fills `out` with unpredictable bytes.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomnessError>;
}

/// The operating system's random number generator.
#[derive(Debug)]
pub struct SystemEntropy(ring::rand::SystemRandom);

impl SystemEntropy {
    /// A handle on the generator.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomnessError> {
        self.0.fill(out).map_err(|_| RandomnessError)
    }
}

/// The random number generator failed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the system has no random numbers")]
pub struct RandomnessError;

/// openmls' cryptography and randomness.
#[derive(Clone)]
pub(crate) struct Crypto {
    entropy: Arc<dyn Entropy>,
}

impl Crypto {
    /// Cryptography that draws on `entropy`.
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy }
    }

    fn random_secret(&self) -> Result<hpke::Secret, CryptoError> {
        let mut secret = hpke::Secret::default();
        self.entropy.fill(&mut *secret).map_err(|_| CryptoError::InsufficientRandomness)?;
        Ok(secret)
    }
}

impl OpenMlsRand for Crypto {
    type Error = RandomnessError;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], RandomnessError> {
        let mut out = [0; N];
        self.entropy.fill(&mut out)?;
        Ok(out)
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, RandomnessError> {
        let mut out = vec![0; len];
        self.entropy.fill(&mut out)?;
        Ok(out)
    }
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        match ciphersuite {
            CIPHERSUITE => Ok(()),
            _ => Err(CryptoError::UnsupportedCiphersuite),
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![CIPHERSUITE]
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.hmac(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Ok(hmac::sign(&key, message).as_ref().into())
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        let mut okm = vec![0; okm_len];
        hkdf_expand(prk, &[info], &mut okm).ok_or(CryptoError::HkdfOutputLengthInvalid)?;
        Ok(okm.into())
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_hash(hash)?;
        Ok(digest::digest(&digest::SHA256, data).as_ref().into())
    }

    fn aead_encrypt(
        &self,
        algorithm: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let (key, nonce) = aead_parameters(algorithm, key, nonce)?;
        key.seal(nonce, aad, data).ok_or(CryptoError::TooMuchData)
    }

    fn aead_decrypt(
        &self,
        algorithm: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let (key, nonce) = aead_parameters(algorithm, key, nonce)?;
        key.open(nonce, aad, ct_tag).ok_or(CryptoError::AeadDecryptionError)
    }

    fn signature_key_gen(&self, scheme: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        check_signature(scheme)?;
        let seed = self.random_secret()?;
        Ok((seed.to_vec(), SigningKey::from_seed(&seed).public().into()))
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        check_signature(scheme)?;
        match qpc_curve::verify(pk, data, signature) {
            true => Ok(()),
            false => Err(CryptoError::InvalidSignature),
        }
    }

    fn sign(&self, scheme: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_signature(scheme)?;
        let seed = key.try_into().map_err(|_| CryptoError::SigningError)?;
        Ok(SigningKey::from_seed(seed).sign(data).into())
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        check_hpke(&config)?;
        let ephemeral = self.random_secret()?;
        let (context, enc) =
            hpke::Context::sender(pk_r, info, &ephemeral).ok_or(CryptoError::InvalidPublicKey)?;
        let ciphertext = context.seal(aad, ptxt).ok_or(CryptoError::HpkeEncryptionError)?;
        Ok(HpkeCiphertext { kem_output: enc.to_vec().into(), ciphertext: ciphertext.into() })
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        check_hpke(&config)?;
        hpke::Context::receiver(input.kem_output.as_slice(), sk_r, info)
            .and_then(|context| context.open(aad, input.ciphertext.as_slice()))
            .ok_or(CryptoError::HpkeDecryptionError)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        check_hpke(&config)?;
        let ephemeral = self.random_secret()?;
        let (context, enc) =
            hpke::Context::sender(pk_r, info, &ephemeral).ok_or(CryptoError::SenderSetupError)?;
        let secret = context.export(exporter_context, exporter_length).ok_or(CryptoError::ExporterError)?;
        Ok((enc.to_vec(), secret.to_vec().into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        check_hpke(&config)?;
        let context = hpke::Context::receiver(enc, sk_r, info).ok_or(CryptoError::ReceiverSetupError)?;
        let secret = context.export(exporter_context, exporter_length).ok_or(CryptoError::ExporterError)?;
        Ok(secret.to_vec().into())
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        check_hpke(&config)?;
        let (secret, public) = hpke::derive_key_pair(ikm);
        Ok(HpkeKeyPair { private: secret.as_slice().into(), public: public.to_vec() })
    }
}

/// A ChaCha20-Poly1305 key.
pub(crate) struct AeadKey(aead::LessSafeKey);

impl AeadKey {
    /// `None` if `key` has not 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).ok()?;
        Some(Self(aead::LessSafeKey::new(key)))
    }

    /// Ciphertext and tag; `None` if there is more data than the cipher takes.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_LENGTH], aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut data = Vec::with_capacity(plaintext.len() + aead::MAX_TAG_LEN);
        data.extend_from_slice(plaintext);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut data).ok()?;
        Some(data)
    }

    /// The plaintext; `None` if the ciphertext is not genuine.
    pub(crate) fn open(&self, nonce: [u8; NONCE_LENGTH], aad: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let mut data = ciphertext.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let length = self.0.open_in_place(nonce, aead::Aad::from(aad), &mut data).ok()?.len();
        data.truncate(length);
        Some(data)
    }
}

/// `HKDF-Expand` with SHA-256 and an `info` given in parts; `None` if more is asked than HKDF gives.
pub(crate) fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) -> Option<()> {
    if out.len() > HKDF_MAX_OUTPUT {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, prk);
    let mut previous = Zeroizing::new(Vec::with_capacity(digest::SHA256_OUTPUT_LEN));
    for (block, counter) in out.chunks_mut(digest::SHA256_OUTPUT_LEN).zip(1..=u8::MAX) {
        let mut context = hmac::Context::with_key(&key);
        context.update(&previous);
        info.iter().for_each(|part| context.update(part));
        context.update(&[counter]);
        let tag = context.sign();
        block.copy_from_slice(&tag.as_ref()[..block.len()]);
        previous.clear();
        previous.extend_from_slice(tag.as_ref());
    }
    Some(())
}

fn aead_parameters(
    algorithm: AeadType,
    key: &[u8],
    nonce: &[u8],
) -> Result<(AeadKey, [u8; NONCE_LENGTH]), CryptoError> {
    if algorithm != AeadType::ChaCha20Poly1305 {
        return Err(CryptoError::UnsupportedAeadAlgorithm);
    }
    let key = AeadKey::new(key).ok_or(CryptoError::InvalidLength)?;
    Ok((key, nonce.try_into().map_err(|_| CryptoError::InvalidLength)?))
}

fn check_hash(hash: HashType) -> Result<(), CryptoError> {
    match hash {
        HashType::Sha2_256 => Ok(()),
        _ => Err(CryptoError::UnsupportedHashAlgorithm),
    }
}

fn check_signature(scheme: SignatureScheme) -> Result<(), CryptoError> {
    match scheme {
        SignatureScheme::ED25519 => Ok(()),
        _ => Err(CryptoError::UnsupportedSignatureScheme),
    }
}

fn check_hpke(config: &HpkeConfig) -> Result<(), CryptoError> {
    match config {
        HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::ChaCha20Poly1305) => {
            Ok(())
        }
        _ => Err(CryptoError::UnsupportedCiphersuite),
    }
}

/// Of ChaCha20-Poly1305.
pub(crate) const NONCE_LENGTH: usize = aead::NONCE_LEN;

const HKDF_MAX_OUTPUT: usize = 255 * digest::SHA256_OUTPUT_LEN;

#[cfg(test)]
pub(crate) mod tests {
    use openmls_rust_crypto::RustCrypto;

    use super::*;

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    pub(crate) fn crypto() -> Crypto {
        Crypto::new(Arc::new(SystemEntropy::new()))
    }

    fn config() -> HpkeConfig {
        HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::ChaCha20Poly1305)
    }

    /// RFC 5869 appendix A.1 and A.3.
    #[test]
    fn hkdf_vectors() {
        let ikm = [0x0b; 22];
        let prk =
            crypto().hkdf_extract(HashType::Sha2_256, &hex("000102030405060708090a0b0c"), &ikm).unwrap();
        assert_eq!(prk.as_slice(), hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"));
        let okm = crypto()
            .hkdf_expand(HashType::Sha2_256, prk.as_slice(), &hex("f0f1f2f3f4f5f6f7f8f9"), 42)
            .unwrap();
        assert_eq!(
            okm.as_slice(),
            hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        );

        let prk = crypto().hkdf_extract(HashType::Sha2_256, b"", &ikm).unwrap();
        let okm = crypto().hkdf_expand(HashType::Sha2_256, prk.as_slice(), b"", 42).unwrap();
        assert_eq!(
            okm.as_slice(),
            hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
        );
        assert!(crypto().hkdf_expand(HashType::Sha2_256, prk.as_slice(), b"", HKDF_MAX_OUTPUT).is_ok());
        assert!(crypto().hkdf_expand(HashType::Sha2_256, prk.as_slice(), b"", HKDF_MAX_OUTPUT + 1).is_err());
    }

    /// What one provider seals, the other opens; what follows from a secret is the same in both.
    #[test]
    fn agrees_with_rustcrypto() {
        let (ours, theirs) = (crypto(), RustCrypto::default());
        let pair = ours.derive_hpke_keypair(config(), b"input key material").unwrap();
        let same = theirs.derive_hpke_keypair(config(), b"input key material").unwrap();
        assert_eq!((&*pair.private, &pair.public), (&*same.private, &same.public));

        let sealed = ours.hpke_seal(config(), &pair.public, b"info", b"aad", b"text").unwrap();
        assert_eq!(theirs.hpke_open(config(), &sealed, &pair.private, b"info", b"aad").unwrap(), b"text");
        let sealed = theirs.hpke_seal(config(), &pair.public, b"info", b"aad", b"text").unwrap();
        assert_eq!(ours.hpke_open(config(), &sealed, &pair.private, b"info", b"aad").unwrap(), b"text");
        assert_eq!(
            ours.hpke_open(config(), &sealed, &pair.private, b"info", b"daa"),
            Err(CryptoError::HpkeDecryptionError)
        );

        let (enc, secret) =
            ours.hpke_setup_sender_and_export(config(), &pair.public, b"info", b"exporter", 48).unwrap();
        let exported = theirs
            .hpke_setup_receiver_and_export(config(), &enc, &pair.private, b"info", b"exporter", 48)
            .unwrap();
        assert_eq!(*secret, *exported);

        let (key, nonce) = ([1; 32], [2; 12]);
        let aead = AeadType::ChaCha20Poly1305;
        let ciphertext = ours.aead_encrypt(aead, &key, b"data", &nonce, b"aad").unwrap();
        assert_eq!(theirs.aead_encrypt(aead, &key, b"data", &nonce, b"aad").unwrap(), ciphertext);
        assert_eq!(ours.aead_decrypt(aead, &key, &ciphertext, &nonce, b"aad").unwrap(), b"data");
        assert_eq!(
            ours.aead_decrypt(aead, &key, &ciphertext[1..], &nonce, b"aad"),
            Err(CryptoError::AeadDecryptionError)
        );

        let (secret, public) = theirs.signature_key_gen(SignatureScheme::ED25519).unwrap();
        let signature = ours.sign(SignatureScheme::ED25519, b"data", &secret).unwrap();
        theirs.verify_signature(SignatureScheme::ED25519, b"data", &public, &signature).unwrap();
        let hash = HashType::Sha2_256;
        assert_eq!(ours.hash(hash, b"data").unwrap(), theirs.hash(hash, b"data").unwrap());
        assert_eq!(
            ours.hmac(hash, &[3; 200], b"data").unwrap().as_slice(),
            theirs.hmac(hash, &[3; 200], b"data").unwrap().as_slice()
        );
    }

    #[test]
    fn other_algorithms_are_refused() {
        let crypto = crypto();
        let other = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
        assert_eq!(crypto.supports(other), Err(CryptoError::UnsupportedCiphersuite));
        assert_eq!(crypto.hash(HashType::Sha2_512, b""), Err(CryptoError::UnsupportedHashAlgorithm));
        assert_eq!(
            crypto.aead_encrypt(AeadType::Aes128Gcm, &[0; 16], b"", &[0; 12], b""),
            Err(CryptoError::UnsupportedAeadAlgorithm)
        );
        assert_eq!(
            crypto.signature_key_gen(SignatureScheme::ECDSA_SECP256R1_SHA256).err(),
            Some(CryptoError::UnsupportedSignatureScheme)
        );
        let p256 =
            HpkeConfig(HpkeKemType::DhKemP256, HpkeKdfType::HkdfSha256, HpkeAeadType::ChaCha20Poly1305);
        assert!(crypto.derive_hpke_keypair(p256, b"ikm").is_err());
    }
}
