//! One connection to a relay: QUIC, whom to trust, frames, requests and their answers.
//!
//! A link is used by one task. It sends a request and reads frames until the answer is there; what the relay pushes
//! meanwhile is kept in the order it came.

mod resolve;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

use crate::error::Error;
use crate::session::Options;
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
use qpc_transport::connection::{Connection, StreamError};
use qpc_transport::executor::{timeout, timeout_at};
use qpc_transport::tls;
use quinn_proto::congestion::NewRenoConfig;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, ConnectionError, StreamId, TransportConfig, VarInt};
use resolve::resolve;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trust::{Trust, Verifier, spki_fingerprint};

/// Where a relay is, and by what it is known.
#[derive(Clone, Debug)]
pub struct RelayEndpoint {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    verifier: Arc<Verifier>,
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
        let verifier = Arc::new(Verifier::new(Trust::Ca(der)));
        Ok(Self { host: host.to_owned(), port, server_name: name, verifier })
    }

    /// The key that identifies the relay.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        match &self.verifier.trust {
            // Checked where it was read.
            Trust::Ca(der) => spki_fingerprint(der).unwrap_or(Fingerprint([0; 32])),
            Trust::Fingerprint(fingerprint) => *fingerprint,
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn unreachable(&self, reason: &str) -> Error {
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
            verifier: Arc::new(Verifier::new(Trust::Fingerprint(address.fingerprint))),
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
    connection: Connection,
    /// The stream of everything short.
    control: StreamId,
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
        options: &Options,
        patience: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + patience;
        let unresolved = |source| Error::Resolve { host: relay.host.clone(), source };
        let mut addresses = timeout_at(deadline, resolve(&relay.host, relay.port))
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unresolved)?;
        addresses.truncate(MAX_ADDRESSES);
        match timeout_at(deadline, Self::open_any(addresses, relay, options)).await {
            Some(opened) => opened,
            None => Err(relay.unreachable("it does not answer")),
        }
    }

    /// Connects to whichever address answers first. They are tried in their order, each a moment after the one before:
    /// behind many a router one of two address families leads nowhere.
    async fn open_any(
        addresses: Vec<SocketAddr>,
        relay: &RelayEndpoint,
        options: &Options,
    ) -> Result<Self, Error> {
        let config = client_config(&relay.verifier, options.keep_alive)?;
        let mut last = relay.unreachable("it has no address");
        let mut attempts = Vec::new();
        let mut addresses = addresses.into_iter();
        loop {
            let wait = match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(Self::open_at(address, relay, config.clone(), &options.software)));
                    STAGGER
                }
                None if attempts.is_empty() => return Err(last),
                // Whoever waits for this has a deadline.
                None => Duration::MAX,
            };
            match timeout(wait, first(&mut attempts)).await {
                Some(Err(error)) if !matches!(error, Error::Untrusted(_) | Error::Refused { .. }) => {
                    last = error;
                }
                Some(done) => return done,
                None => {}
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
        let name = match &relay.server_name {
            ServerName::DnsName(name) => name.as_ref(),
            _ => &relay.host,
        };
        let mut connection = Connection::connect(config, remote, name)
            .map_err(|error| relay.unreachable(&error.to_string()))?;
        connection.established().await.map_err(|error| lost(&address, error))?;
        let exporter = connection.export(EXPORTER_LABEL).ok_or(Error::Protocol)?;
        let control = connection.open().await.map_err(|error| lost(&address, error))?;
        let mut link = Self {
            connection,
            control,
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
            self.keep(frame)?;
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
            self.keep(frame)?;
        }
        Ok(())
    }

    /// Waits for the connection's end.
    pub(crate) async fn ended(&mut self) {
        self.connection.ended().await;
    }

    /// As [`Link::is_closed`], also of what has happened since the connection was last used: it is only kept going while
    /// somebody waits for it.
    pub(crate) async fn has_ended(&mut self) -> bool {
        timeout(Duration::ZERO, self.ended()).await.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.lost().is_some()
    }

    /// Closes the connection. What it has brought can still be read.
    pub(crate) fn abandon(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }

    /// The last thing the relay let know before the connection was closed.
    pub(crate) async fn last_notice(&mut self) -> Option<NoticeKind> {
        while let Ok(frame) = self.read().await
            && self.keep(frame).is_ok()
        {}
        self.pushed.iter().rev().find_map(|push| match push {
            Push::Notice(kind) => Some(*kind),
            Push::Delivery(_) => None,
        })
    }

    /// Closes the connection and gives the relay a moment to notice.
    pub(crate) async fn close(mut self) {
        self.connection.finish(self.control);
        self.abandon();
        timeout(Duration::from_millis(200), self.connection.gone()).await;
    }

    async fn exchange_in_bulk(&mut self, id: u32, frame: &[u8]) -> Result<Reply, Error> {
        if frame.len() - 4 > MAX_BULK_FRAME {
            return Err(crate::engine::EngineError::TooLarge.into());
        }
        let address = &self.address;
        let broken =
            |error: StreamError| Error::Unreachable { address: address.clone(), reason: error.to_string() };
        // Also if only the answer is not waited for: to the relay that is a stream that broke.
        let unfinished = Unfinished(&mut self.connection);
        let connection = &mut *unfinished.0;
        let stream = connection.open().await.map_err(|error| lost(address, error))?;
        connection.write_all(stream, frame).await.map_err(broken)?;
        connection.finish(stream);
        let mut decoder = Decoder::new(MAX_BULK_FRAME);
        let mut room = MAX_BULK_FRAME + 4;
        while let Some(bytes) = connection.read(stream).await.map_err(broken)? {
            room = room.checked_sub(bytes.len()).ok_or(Error::Protocol)?;
            decoder.feed(&bytes);
        }
        unfinished.finish();
        let frame = decoder.next_frame().ok().flatten().ok_or(Error::Protocol)?;
        let frame = RelayFrame::decode(frame).map_err(|_| Error::Protocol)?;
        frame.reply.filter(|_| frame.id == id).ok_or(Error::Protocol)
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), Error> {
        let unfinished = Unfinished(&mut self.connection);
        let written = unfinished.0.write_all(self.control, frame).await;
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
            match self.connection.read(self.control).await {
                Ok(Some(bytes)) => self.decoder.feed(&bytes),
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

    fn keep(&mut self, frame: RelayFrame) -> Result<(), Error> {
        let push = match frame.reply {
            Some(Reply::Delivery(delivery)) => Push::Delivery(delivery),
            Some(Reply::Notice(notice)) => Push::Notice(notice.kind),
            // The answer to a request that was given up, or a push of a later version.
            _ => return Ok(()),
        };
        if self.pushed.len() == MAX_PUSHED {
            self.connection.close(VarInt::from_u32(ErrorCode::Malformed.into()), b"");
            return Err(Error::Protocol);
        }
        self.pushed.push_back(push);
        Ok(())
    }

    /// Why nothing comes or goes any more.
    fn broken(&self, reason: String) -> Error {
        match self.connection.lost() {
            Some(error) => lost(&self.address, error.clone()),
            None => Error::Unreachable { address: self.address.clone(), reason },
        }
    }
}

/// What comes of the first of these that comes to an end, and takes it away.
async fn first<T>(futures: &mut Vec<Pin<Box<impl Future<Output = T>>>>) -> T {
    poll_fn(|context| {
        for index in 0..futures.len() {
            if let Poll::Ready(output) = futures[index].as_mut().poll(context) {
                drop(futures.swap_remove(index));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// Something that a future does in several steps. If the future is dropped between them the connection is closed: what
/// comes next would go on in the middle of it.
struct Unfinished<'a>(&'a mut Connection);

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

/// Deliveries granted at a time.
pub(crate) const CREDIT: u32 = 64;
/// What a relay can have pushed while its answer is waited for: all that was granted, and a few notices.
const MAX_PUSHED: usize = CREDIT as usize + 16;
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
fn client_config(verifier: &Arc<Verifier>, keep_alive: Duration) -> Result<ClientConfig, Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| Error::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
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
        // Cubic calculates with floating-point numbers, which routers have no instructions for.
        .congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        // Each probe for larger packets costs as much as a message, and a whole conversation is a few packets.
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(keep_alive))
        .max_idle_timeout(Some(VarInt::from_u32(120_000).into()));
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
