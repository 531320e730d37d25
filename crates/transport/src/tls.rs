//! The cryptography of TLS, and no more of it than is used.
//!
//! Both ends are ours, so there is nothing to negotiate: TLS 1.3, X25519, ChaCha20-Poly1305 (five times as fast as
//! AES-GCM where the processor has no AES), Ed25519. A whole provider would bring P-256, P-384, RSA and AES-256 into
//! every program. Ciphers and hashes are ring's, the curve is [`qpc_curve`]'s.

use qpc_curve::{LENGTH, verify, x25519, x25519_public};
use ring::rand::SystemRandom;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    OutboundOpaqueMessage, OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::ring::cipher_suite;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, alg_id,
};
use rustls::sign::{Signer, SigningKey};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, Error, NamedGroup, PeerMisbehaved, SignatureAlgorithm,
    SignatureScheme, SupportedCipherSuite, Tls13CipherSuite, quic,
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// For `rustls`.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(&SUITE)],
        kx_groups: vec![&X25519],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &System,
    })
}

/// ring's suite, without what would seal TLS records: QUIC has packets instead (RFC 9001 section 4), but rustls keeps keys for both.
static SUITE: Tls13CipherSuite = {
    let SupportedCipherSuite::Tls13(ring) = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: ring.common.suite,
            hash_provider: ring.common.hash_provider,
            confidentiality_limit: ring.common.confidentiality_limit,
        },
        hkdf_provider: ring.hkdf_provider,
        aead_alg: &NoRecords,
        quic: ring.quic,
    }
};

struct NoRecords;

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Self)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Self)
    }

    fn key_len(&self) -> usize {
        32
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl MessageEncrypter for NoRecords {
    fn encrypt(&mut self, _: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for NoRecords {
    fn decrypt<'a>(&mut self, _: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

/// QUIC's first packets are sealed with AES-128-GCM, whatever TLS agrees on (RFC 9001 section 5.2).
pub fn initial_suite() -> Option<quic::Suite> {
    cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()
}

/// The signatures that certificates and handshakes may have.
pub const SIGNATURES: WebPkiSupportedAlgorithms =
    WebPkiSupportedAlgorithms { all: &[&Ed25519], mapping: &[(SignatureScheme::ED25519, &[&Ed25519])] };

#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        ring::rand::SecureRandom::fill(&SystemRandom::new(), buf).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match qpc_curve::SigningKey::from_pkcs8(key.secret_der()) {
            Some(key) => Ok(Arc::new(Ed25519Key(Arc::new(key)))),
            None => Err(Error::General("not an Ed25519 key".into())),
        }
    }
}

#[derive(Clone, Debug)]
struct Ed25519Key(Arc<qpc_curve::SigningKey>);

impl SigningKey for Ed25519Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Ed25519Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[derive(Debug)]
struct Ed25519;

impl SignatureVerificationAlgorithm for Ed25519 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        verify(key, message, signature).then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }
}

#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; LENGTH]);
        System.fill(&mut *secret)?;
        Ok(Box::new(KeyExchange { public: x25519_public(&secret), secret }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct KeyExchange {
    secret: Zeroizing<[u8; LENGTH]>,
    public: [u8; LENGTH],
}

impl ActiveKeyExchange for KeyExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let shared = peer.try_into().ok().and_then(|peer| x25519(&self.secret, peer));
        let shared = shared.ok_or(PeerMisbehaved::InvalidKeyShare)?;
        Ok(SharedSecret::from(shared.as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
