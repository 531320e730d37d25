//! The cryptography of TLS, and no more of it than is used.
//!
//! Both ends are ours, so there is nothing to negotiate: TLS 1.3, X25519, ChaCha20-Poly1305 (five times as fast as
//! AES-GCM where the processor has no AES), Ed25519. A whole provider would bring P-256, P-384, RSA and AES-256 into
//! every program.

use rustls::crypto::ring::{cipher_suite, kx_group, sign};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme, quic};
use std::sync::Arc;

/// For `rustls`.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![kx_group::X25519],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &System,
    })
}

/// QUIC's first packets are sealed with AES-128-GCM, whatever TLS agrees on (RFC 9001 section 5.2).
pub fn initial_suite() -> Option<quic::Suite> {
    cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()
}

/// The signatures that certificates and handshakes may have.
pub const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), buf).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match key {
            PrivateKeyDer::Pkcs8(key) => sign::any_eddsa_type(&key),
            _ => Err(Error::General("not an Ed25519 key".into())),
        }
    }
}
