//! One connection to a relay: QUIC, whom to trust, frames, requests and their answers.
//!
//! A link is used by one task. It sends a request and reads frames until the answer is there; what the relay pushes
//! meanwhile is kept in the order it came.

mod socket;
#[cfg(test)]
mod tests;

use crate::error::Error;
use qpc_proto::address::{DEFAULT_PORT, RelayAddress, split_host_port};
use qpc_proto::frame::{self, Decoder};
use qpc_proto::id::Fingerprint;
use qpc_proto::limits::{MAX_BULK_FRAME, MAX_CONTROL_FRAME};
use qpc_proto::message::{
    ClientFrame, Delivery, ErrorCode, Hello, HelloReply, NoticeKind, RelayFrame, Reply, Request,
};
use qpc_proto::signing::{EXPORTER_LABEL, Exporter};
use qpc_proto::wire::{Message, Text};
use qpc_proto::{ALPN, VERSION};
use qpc_transport::tls;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream,
    TokioRuntime, TransportConfig, VarInt,
};
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, PeerIncompatible, SignatureScheme};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Where a relay is, and by what it is known.
#[derive(Clone, Debug)]
pub struct RelayEndpoint {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    trust: Trust,
}

#[derive(Clone, Debug)]
enum Trust {
    /// Path validation against this certificate, with the server's name.
    Ca(CertificateDer<'static>),
    /// A CA with this key, whatever the names and dates.
    Fingerprint(Fingerprint),
}

impl RelayEndpoint {
    /// A relay by `HOST:PORT`, a file with its CA certificate (DER or PEM) and the name in its certificate.
    pub fn with_ca(server: &str, ca: &Path, server_name: &str) -> Result<Self, Error> {
        let invalid = || Error::Server(server.to_owned());
        let (host, port) = split_host_port(server).ok_or_else(invalid)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(invalid)?,
        };
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| Error::ServerName(server_name.to_owned()))?;
        let bytes = std::fs::read(ca).map_err(|source| Error::CaFile { path: ca.to_owned(), source })?;
        let der = CertificateDer::from_pem_slice(&bytes).unwrap_or_else(|_| CertificateDer::from(bytes));
        if spki_fingerprint(&der).is_none() {
            return Err(Error::CaFormat(ca.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port, server_name: name, trust: Trust::Ca(der) })
    }

    /// The key that identifies the relay.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        match &self.trust {
            // Checked where it was read.
            Trust::Ca(der) => spki_fingerprint(der).unwrap_or(Fingerprint([0; 32])),
            Trust::Fingerprint(fingerprint) => *fingerprint,
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable { address: self.address(), reason: reason.to_owned() }
    }
}

impl From<RelayAddress> for RelayEndpoint {
    fn from(address: RelayAddress) -> Self {
        // Only sent, never judged: the fingerprint is what is trusted.
        let server_name = ServerName::try_from(address.host.clone())
            .unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        Self {
            host: address.host,
            port: address.port,
            server_name,
            trust: Trust::Fingerprint(address.fingerprint),
        }
    }
}

/// Something the relay said without being asked.
#[derive(Debug)]
pub(crate) enum Push {
    Delivery(Delivery),
    Notice(NoticeKind),
}

/// An open connection whose versions are agreed.
pub(crate) struct Link {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
    next_id: u32,
    pushed: VecDeque<Push>,
    address: String,
    pub(crate) exporter: Exporter,
    pub(crate) hello: HelloReply,
}

impl Link {
    /// Connects and says hello; all of it, the search for the address included, within `patience`.
    pub(crate) async fn open(
        relay: &RelayEndpoint,
        software: &str,
        patience: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + patience;
        let unresolved = |source| Error::Resolve { host: relay.host.clone(), source };
        let addresses = timeout_at(deadline, lookup_host((relay.host.as_str(), relay.port)))
            .await
            .map_err(|_| unresolved(io::ErrorKind::TimedOut.into()))?
            .map_err(unresolved)?
            .take(MAX_ADDRESSES)
            .collect();
        match timeout_at(deadline, Self::open_any(addresses, relay, software)).await {
            Ok(opened) => opened,
            Err(_) => Err(relay.unreachable("it does not answer")),
        }
    }

    /// Connects to whichever address answers first. They are tried in their order, each a moment after the one before:
    /// behind many a router one of two address families leads nowhere.
    async fn open_any(
        addresses: Vec<SocketAddr>,
        relay: &RelayEndpoint,
        software: &str,
    ) -> Result<Self, Error> {
        let config = client_config(&relay.trust)?;
        let mut last = relay.unreachable("it has no address");
        let mut attempts = JoinSet::new();
        let mut addresses = addresses.into_iter();
        loop {
            let wait = match addresses.next() {
                Some(address) => {
                    let (relay, config, software) = (relay.clone(), config.clone(), software.to_owned());
                    attempts.spawn(async move { Self::open_at(address, &relay, config, &software).await });
                    STAGGER
                }
                // Whoever waits for this has a deadline.
                None => Duration::MAX,
            };
            match timeout(wait, attempts.join_next()).await {
                Ok(None) => return Err(last),
                Ok(Some(Ok(Err(error)))) if !matches!(error, Error::Untrusted(_) | Error::Refused { .. }) => {
                    last = error;
                }
                Ok(Some(Ok(done))) => return done,
                Ok(Some(Err(panicked))) => last = relay.unreachable(&panicked.to_string()),
                Err(_) => {}
            }
        }
    }

    async fn open_at(
        remote: SocketAddr,
        relay: &RelayEndpoint,
        config: ClientConfig,
        software: &str,
    ) -> Result<Self, Error> {
        let address = relay.address();
        let unreachable = |reason: String| Error::Unreachable { address: address.clone(), reason };
        let local = if remote.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let local: SocketAddr = local.parse().map_err(|_| Error::Protocol)?;
        let bound = socket::bind(local).and_then(|socket| {
            Endpoint::new_with_abstract_socket(
                EndpointConfig::default(),
                None,
                socket,
                Arc::new(TokioRuntime),
            )
        });
        let endpoint = bound.map_err(|error| unreachable(error.to_string()))?;
        let name = match &relay.server_name {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            _ => relay.host.clone(),
        };
        let connecting =
            endpoint.connect_with(config, remote, &name).map_err(|error| unreachable(error.to_string()))?;
        let connection = connecting.await.map_err(|error| lost(&address, error))?;
        let mut exporter = [0; 32];
        connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").map_err(|_| Error::Protocol)?;
        let (send, recv) = connection.open_bi().await.map_err(|error| lost(&address, error))?;
        let mut link = Self {
            endpoint,
            connection,
            send,
            recv,
            decoder: Decoder::new(MAX_CONTROL_FRAME),
            next_id: 1,
            pushed: VecDeque::new(),
            address,
            exporter,
            hello: empty_hello(),
        };
        let hello = Hello { min_version: VERSION, max_version: VERSION, software: Text::new(software) };
        let Reply::Hello(hello) = link.request(0, hello.into()).await? else { return Err(Error::Protocol) };
        link.hello = hello;
        Ok(link)
    }

    /// Sends a request and returns its answer; a refusal is an answer too.
    pub(crate) async fn exchange(&mut self, number: u64, request: &Request) -> Result<Reply, Error> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let frame = frame::encode(&ClientFrame { id, number, request: Some(request.clone()) });
        // What may be answered at length goes on a stream of its own, as does what is long itself.
        let bulk = matches!(request, Request::FetchGroup(_) | Request::FetchDelivery(_));
        if bulk || frame.len() - 4 > MAX_CONTROL_FRAME {
            return self.exchange_in_bulk(id, &frame).await;
        }
        self.write(&frame).await?;
        loop {
            let frame = self.read().await?;
            if frame.id == id {
                return frame.reply.ok_or(Error::Protocol);
            }
            self.keep(frame);
        }
    }

    /// As [`Link::exchange`], but a refusal is an error.
    pub(crate) async fn request(&mut self, number: u64, request: Request) -> Result<Reply, Error> {
        match self.exchange(number, &request).await? {
            Reply::Error(error) => Err(refused(error)),
            reply => Ok(reply),
        }
    }

    /// Sends a request that has no answer.
    pub(crate) async fn tell(&mut self, request: Request) -> Result<(), Error> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.write(&frame::encode(&ClientFrame { id, number: 0, request: Some(request) })).await
    }

    /// What the relay has pushed and was not taken yet.
    pub(crate) fn take_pushed(&mut self) -> Option<Push> {
        self.pushed.pop_front()
    }

    /// Waits for something to be pushed. Dropping the future loses nothing.
    pub(crate) async fn wait_for_push(&mut self) -> Result<(), Error> {
        while self.pushed.is_empty() {
            let frame = self.read().await?;
            self.keep(frame);
        }
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Closes the connection. What it has brought can still be read.
    pub(crate) fn abandon(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }

    /// The last thing the relay let know before the connection was closed.
    pub(crate) async fn last_notice(&mut self) -> Option<NoticeKind> {
        while let Ok(frame) = self.read().await {
            self.keep(frame);
        }
        self.pushed.iter().rev().find_map(|push| match push {
            Push::Notice(kind) => Some(*kind),
            Push::Delivery(_) => None,
        })
    }

    /// Closes the connection and gives the relay a moment to notice.
    pub(crate) async fn close(mut self) {
        let _ = self.send.finish();
        self.connection.close(VarInt::from_u32(0), b"");
        let _ = timeout(Duration::from_millis(200), self.endpoint.wait_idle()).await;
    }

    async fn exchange_in_bulk(&mut self, id: u32, frame: &[u8]) -> Result<Reply, Error> {
        if frame.len() - 4 > MAX_BULK_FRAME {
            return Err(crate::engine::EngineError::TooLarge.into());
        }
        let unreachable = |reason: String| Error::Unreachable { address: self.address.clone(), reason };
        // Also if only the answer is not waited for: to the relay that is a stream that broke.
        let unfinished = Unfinished(&self.connection);
        let (mut send, mut recv) =
            self.connection.open_bi().await.map_err(|error| lost(&self.address, error))?;
        send.write_all(frame).await.map_err(|error| unreachable(error.to_string()))?;
        send.finish().map_err(|error| unreachable(error.to_string()))?;
        let bytes =
            recv.read_to_end(MAX_BULK_FRAME + 4).await.map_err(|error| unreachable(error.to_string()))?;
        unfinished.finish();
        let mut decoder = Decoder::new(MAX_BULK_FRAME);
        decoder.feed(&bytes);
        let frame = decoder.next_frame().ok().flatten().ok_or(Error::Protocol)?;
        let frame = RelayFrame::decode(frame).map_err(|_| Error::Protocol)?;
        frame.reply.filter(|_| frame.id == id).ok_or(Error::Protocol)
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), Error> {
        let unfinished = Unfinished(&self.connection);
        let written = self.send.write_all(frame).await;
        unfinished.finish();
        written.map_err(|error| self.broken(error.to_string()))
    }

    async fn read(&mut self) -> Result<RelayFrame, Error> {
        let frame = loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => break RelayFrame::decode(frame).ok(),
                Ok(None) => {}
                Err(_) => break None,
            }
            match self.recv.read_chunk(MAX_CONTROL_FRAME, true).await {
                Ok(Some(chunk)) => self.decoder.feed(&chunk.bytes),
                Ok(None) => return Err(self.broken("it closed the connection".into())),
                Err(error) => return Err(self.broken(error.to_string())),
            }
        };
        frame.ok_or_else(|| {
            // What comes behind something that is no frame is none either.
            self.connection.close(VarInt::from_u32(ErrorCode::Malformed.into()), b"");
            Error::Protocol
        })
    }

    fn keep(&mut self, frame: RelayFrame) {
        match frame.reply {
            Some(Reply::Delivery(delivery)) => self.pushed.push_back(Push::Delivery(delivery)),
            Some(Reply::Notice(notice)) => self.pushed.push_back(Push::Notice(notice.kind)),
            // The answer to a request that was given up, or a push of a later version.
            _ => {}
        }
    }

    /// Why nothing comes or goes any more.
    fn broken(&self, reason: String) -> Error {
        match self.connection.close_reason() {
            Some(error) => lost(&self.address, error),
            None => Error::Unreachable { address: self.address.clone(), reason },
        }
    }
}

/// Something that a future does in several steps. If the future is dropped between them the connection is closed: what
/// comes next would go on in the middle of it.
struct Unfinished<'a>(&'a Connection);

impl Unfinished<'_> {
    fn finish(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

/// An [`Error`] that says what the relay said.
pub(crate) fn refused(error: qpc_proto::message::Error) -> Error {
    match error.code {
        ErrorCode::AuthFailed => Error::AuthFailed,
        code => {
            let reason = if error.reason.is_empty() {
                format!("error {}", u32::from(code))
            } else {
                error.reason.to_string()
            };
            Error::Refused { code, reason, detail: error.detail }
        }
    }
}

/// Seconds since 1970 where the clock is believable, 0 where it is not.
pub(crate) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < BUILT { 0 } else { now }
}

/// How long an address has before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of a relay that are tried.
const MAX_ADDRESSES: usize = 8;

/// No clock is right that is behind this: 2026-11-01.
const BUILT: u64 = 1_793_491_200;

fn lost(address: &str, error: ConnectionError) -> Error {
    match error {
        ConnectionError::TransportError(error) if (0x100..0x200).contains(&u64::from(error.code)) => {
            match error.reason.strip_prefix(VERDICT) {
                Some(reason) => Error::Untrusted(reason.to_owned()),
                None => Error::Unreachable { address: address.to_owned(), reason: error.code.to_string() },
            }
        }
        ConnectionError::ApplicationClosed(closed) => {
            let code =
                u32::try_from(closed.error_code.into_inner()).map_or(ErrorCode::Internal, ErrorCode::from);
            let reason = String::from_utf8_lossy(&closed.reason).into_owned();
            match code {
                ErrorCode::Internal => {
                    Error::Unreachable { address: address.to_owned(), reason: closed_text(reason) }
                }
                code => Error::Refused { code, reason: closed_text(reason), detail: 0 },
            }
        }
        ConnectionError::TimedOut => {
            Error::Unreachable { address: address.to_owned(), reason: "it does not answer".into() }
        }
        error => Error::Unreachable { address: address.to_owned(), reason: error.to_string() },
    }
}

/// What rustls puts before the text of a [`Distrust`].
const VERDICT: &str = "unexpected error: ";

fn closed_text(reason: String) -> String {
    if reason.is_empty() { "it closed the connection".into() } else { reason }
}

fn empty_hello() -> HelloReply {
    HelloReply {
        version: 0,
        generation: qpc_proto::id::Generation([0; 16]),
        software: Text::default(),
        time: 0,
        registration: qpc_proto::message::Registration::Open,
        idle_seconds: 0,
    }
}

/// All bounds of QUIC, small enough for a router.
fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| Error::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(trust.clone())))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let initial = tls::initial_suite().ok_or(Error::Protocol)?;
    let quic = QuicClientConfig::with_initial(Arc::new(config), initial).map_err(|_| Error::Protocol)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(128 * 1024))
        .receive_window(VarInt::from_u32(256 * 1024))
        .send_window(256 * 1024)
        .crypto_buffer_size(16 * 1024)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(Duration::from_secs(25)))
        .max_idle_timeout(Some(VarInt::from_u32(120_000).into()));
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Checks the relay's certificate. Not rustls's own verifier, which brings revocation lists along.
#[derive(Debug)]
struct Verifier(Trust);

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Distrust> {
        // A router that has just booted believes that it is 1970.
        let built = UnixTime::since_unix_epoch(Duration::from_secs(BUILT));
        let (ca, now) = match &self.0 {
            Trust::Ca(der) => (der, now.max(built)),
            Trust::Fingerprint(wanted) => {
                let known = |der: &&CertificateDer<'_>| spki_fingerprint(der) == Some(*wanted);
                (std::iter::once(leaf).chain(chain).find(known).ok_or(Distrust::OtherKey)?, built)
            }
        };
        let anchor = anchor_from_trusted_cert(ca)?;
        let certificate = EndEntityCert::try_from(leaf)?;
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(tls::SIGNATURES.all, &[anchor], chain, now, usage, None, None)?;
        match self.0 {
            Trust::Ca(_) => Ok(certificate.verify_is_valid_for_subject_name(name)?),
            Trust::Fingerprint(_) => Ok(()),
        }
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
fn spki_fingerprint(der: &CertificateDer<'_>) -> Option<Fingerprint> {
    let certificate = EndEntityCert::try_from(der).ok()?;
    let hash = digest::digest(&digest::SHA256, &certificate.subject_public_key_info());
    Some(Fingerprint(hash.as_ref().try_into().ok()?))
}
