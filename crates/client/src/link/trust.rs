//! Whether a certificate is the relay's.

use super::BUILT;
use qpc_proto::id::Fingerprint;
use qpc_transport::tls;
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, PeerIncompatible, SignatureScheme};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What a certificate is judged by.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// Path validation against this certificate, with the server's name.
    Ca(CertificateDer<'static>),
    /// A relay or its CA with this key, whatever the names and dates.
    Fingerprint(Fingerprint),
}

/// Checks the relay's certificate. Not rustls's own verifier, which brings revocation lists along.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    /// The certificate that a CA known by its fingerprint was found to vouch for last, so that a connection made anew costs one
    /// signature less. It has no other condition that time could change.
    known: Mutex<Option<CertificateDer<'static>>>,
}

impl Verifier {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, known: Mutex::default() }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Distrust> {
        // A router that has just booted believes that it is 1970.
        let built = UnixTime::since_unix_epoch(Duration::from_secs(BUILT));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (ca, now) = match &self.trust {
            Trust::Ca(der) => (der, now.max(built)),
            Trust::Fingerprint(_) if known.as_ref() == Some(leaf) => return Ok(()),
            // The handshake proves that the relay has this key.
            Trust::Fingerprint(wanted) if spki_fingerprint(leaf) == Some(*wanted) => return Ok(()),
            Trust::Fingerprint(wanted) => {
                let is_wanted = |der: &&CertificateDer<'_>| spki_fingerprint(der) == Some(*wanted);
                (chain.iter().find(is_wanted).ok_or(Distrust::OtherKey)?, built)
            }
        };
        let anchor = anchor_from_trusted_cert(ca)?;
        let certificate = EndEntityCert::try_from(leaf)?;
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(tls::SIGNATURES.all, &[anchor], chain, now, usage, None, None)?;
        match self.trust {
            Trust::Ca(_) => certificate.verify_is_valid_for_subject_name(name)?,
            Trust::Fingerprint(_) => *known = Some(leaf.clone().into_owned()),
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &tls::SIGNATURES).map_err(|_| Distrust::Signature.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::SIGNATURES.supported_schemes()
    }
}

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Distrust {
    #[error("it has expired")]
    Expired,
    #[error("it cannot be verified")]
    Invalid,
    #[error("it is for another name")]
    OtherName,
    #[error("it has another key than the address says")]
    OtherKey,
    #[error("it was signed by another CA")]
    OtherCa,
    #[error("the relay does not have its key")]
    Signature,
}

impl From<webpki::Error> for Distrust {
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidForName(_) => Self::OtherName,
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Self::OtherCa,
            _ => Self::Invalid,
        }
    }
}

impl From<Distrust> for rustls::Error {
    fn from(distrust: Distrust) -> Self {
        Self::General(distrust.to_string())
    }
}

/// SHA-256 of a certificate's public key info; `None` if it is no certificate.
pub(super) fn spki_fingerprint(der: &CertificateDer<'_>) -> Option<Fingerprint> {
    let certificate = EndEntityCert::try_from(der).ok()?;
    let hash = digest::digest(&digest::SHA256, &certificate.subject_public_key_info());
    Some(Fingerprint(hash.as_ref().try_into().ok()?))
}
