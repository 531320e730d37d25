//! TLS: certificates and keys from PEM, who is trusted, sessions to resume. [`provider`] and [`verifier`] are for who compares
//! this with plain quinn, and wants the same of both.

use crate::bounds::SESSIONS;
use crate::types::*;
use bytes::Bytes;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{TimeSource, TokenStore};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, ServerSessionMemoryCache};
use rustls::time_provider::TimeProvider;
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The caller's time in seconds, for what asks a clock: tickets and tokens.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU32);

impl Clock {
    pub(crate) fn set(&self, now: TimeUs) {
        self.0.store(u32::try_from(now / 1_000_000).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn since_epoch(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed).into())
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_epoch()
    }
}

/// What every connection of a client has in common.
#[derive(Debug)]
pub(crate) struct Client {
    config: ClientConfig,
    sessions: VecDeque<([u8; 16], Session)>,
}

#[derive(Debug)]
struct Session {
    context: Vec<u8>,
    value: Tls13ClientSessionValue,
}

impl Client {
    pub(crate) fn new(config: &EndpointConfig, clock: &Arc<Clock>) -> Option<Self> {
        let provider = Arc::new(provider());
        let verifier = verifier(config, &provider)?;
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        tls.alpn_protocols = alpn(config);
        tls.time_provider = Arc::clone(clock) as Arc<dyn TimeProvider>;
        Some(Self { config: tls, sessions: VecDeque::new() })
    }

    /// TLS for one connection, and what it will receive for later ones.
    pub(crate) fn connection(
        &mut self,
        config: &ClientConnectionConfig,
    ) -> Option<(Arc<QuicClientConfig>, Arc<Mailbox>, ZeroRttStatus)> {
        let name = config.resumption_state.as_ref().map(|state| &state.serialized[..]);
        // Once: two connections by one ticket could be seen to be the same client's.
        let session = name
            .and_then(|name| self.sessions.iter().position(|(id, _)| id == name))
            .and_then(|place| self.sessions.remove(place))
            .map(|(_, session)| session);
        let early = match &session {
            Some(session) if session.value.max_early_data_size() > 0 => match config.zero_rtt.attempt {
                true if session.context == config.zero_rtt.application_context => ZeroRttStatus::Attempted,
                true => ZeroRttStatus::Unavailable,
                false => ZeroRttStatus::NotAttempted,
            },
            _ => ZeroRttStatus::Unavailable,
        };
        let mailbox = Arc::new(Mailbox {
            full: AtomicBool::new(false),
            content: Mutex::new(Content {
                session: session.map(|session| session.value),
                token: (!config.retry_token.is_empty()).then(|| Bytes::copy_from_slice(&config.retry_token)),
                ..Content::default()
            }),
        });
        let mut tls = self.config.clone();
        tls.enable_early_data = early == ZeroRttStatus::Attempted;
        tls.resumption = Resumption::store(Arc::clone(&mailbox) as Arc<dyn ClientSessionStore>);
        Some((Arc::new(QuicClientConfig::try_from(tls).ok()?), mailbox, early))
    }

    /// Keeps a session, and names it.
    pub(crate) fn remember(&mut self, value: Tls13ClientSessionValue, context: &[u8]) -> Option<[u8; 16]> {
        let mut name = [0; 16];
        random(&mut name)?;
        if self.sessions.len() == SESSIONS {
            self.sessions.pop_front();
        }
        self.sessions.push_back((name, Session { context: context.to_vec(), value }));
        Some(name)
    }
}

/// TLS for a server; nothing if it has no usable certificate and key.
pub(crate) fn server(config: &EndpointConfig, clock: &Arc<Clock>) -> Option<Arc<QuicServerConfig>> {
    let identity = config.identity.as_ref()?;
    let chain =
        CertificateDer::pem_slice_iter(&identity.certificate_pem).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&identity.private_key_pem).ok()?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .ok()?;
    tls.alpn_protocols = alpn(config);
    tls.max_early_data_size = if config.zero_rtt.allow { u32::MAX } else { 0 };
    // Kept here and not sealed into the ticket: a session is resumed once, so that early data cannot be played back.
    tls.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    tls.send_tls13_tickets = 1;
    tls.time_provider = Arc::clone(clock) as Arc<dyn TimeProvider>;
    Some(Arc::new(QuicServerConfig::try_from(tls).ok()?))
}

/// Fills with random bytes.
pub(crate) fn random(bytes: &mut [u8]) -> Option<()> {
    use ring::rand::{SecureRandom, SystemRandom};
    SystemRandom::new().fill(bytes).ok()
}

/// *ring*'s, with the suite first that is fastest here.
pub fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let first = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        CipherSuite::TLS13_AES_128_GCM_SHA256
    } else {
        // There are no instructions for AES.
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    };
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    provider
}

fn alpn(config: &EndpointConfig) -> Vec<Vec<u8>> {
    match &config.application_protocol {
        none if none.is_empty() => Vec::new(),
        protocol => vec![protocol.clone()],
    }
}

/// What TLS and QUIC give a client for later connections, and what it was given from earlier ones.
#[derive(Debug)]
pub(crate) struct Mailbox {
    full: AtomicBool,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    session: Option<Tls13ClientSessionValue>,
    token: Option<Bytes>,
    new_sessions: Vec<Tls13ClientSessionValue>,
    new_tokens: Vec<Bytes>,
}

impl Mailbox {
    /// Sessions and tokens that have come.
    pub(crate) fn take(&self) -> Option<(Vec<Tls13ClientSessionValue>, Vec<Bytes>)> {
        if !self.full.load(Ordering::Relaxed) {
            return None;
        }
        self.full.store(false, Ordering::Relaxed);
        let mut content = self.content();
        Some((std::mem::take(&mut content.new_sessions), std::mem::take(&mut content.new_tokens)))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Mailbox {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.content().new_sessions.push(value);
        self.full.store(true, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.content().session.take()
    }
}

impl TokenStore for Mailbox {
    fn insert(&self, _: &str, token: Bytes) {
        self.content().new_tokens.push(token);
        self.full.store(true, Ordering::Relaxed);
    }

    fn take(&self, _: &str) -> Option<Bytes> {
        self.content().token.take()
    }
}

/// What a client judges servers' certificates by; nothing if it is to verify them and there is no list of whom to trust.
pub fn verifier(
    config: &EndpointConfig,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ServerCertVerifier>> {
    let trusted = match config.verify_peer {
        true => Some(trusted(config.trusted_certificates_pem.as_deref())?),
        false => None,
    };
    Some(Arc::new(Verifier { trusted, algorithms: provider.signature_verification_algorithms }))
}

/// Where systems keep who they trust.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The certificates in this file, or in the system's; nothing if there are none.
fn trusted(pem: Option<&[u8]>) -> Option<RootCertStore> {
    let of_system;
    let pem = match pem {
        Some(pem) => pem,
        None => {
            let named = std::env::var_os("SSL_CERT_FILE").map(Into::into);
            let mut files = named.into_iter().chain(TRUSTED.map(std::path::PathBuf::from));
            of_system = files.find_map(|file| std::fs::read(file).ok())?;
            &of_system
        }
    };
    let mut roots = RootCertStore::empty();
    // Some systems trust certificates that cannot be read here; the others count.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    (!roots.is_empty()).then_some(roots)
}

/// Takes certificates of those who are trusted, or every one, if the peer has its key. rustls's own has lists of revoked certificates
/// besides, which nobody gives it here.
#[derive(Debug)]
struct Verifier {
    trusted: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            // This is the one place where the wall clock is read: whether a certificate is valid today is no question of the
            // caller's time, which may begin anywhere.
            let now = UnixTime::now();
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, trusted, intermediates, now, algorithms)?;
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
