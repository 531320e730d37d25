//! Taking connections, within bounds.

use super::hub::Hub;
use super::session;
use crate::bounds::{Bucket, NetBounds};
use crate::keys::Identity;
use crate::tasks::spawn;
use qpc_proto::ALPN;
use qpc_transport::{socket, tls};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Why the relay cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot use the certificate: {0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS has no cipher for QUIC's first packets")]
    NoInitialCipher,
}

/// What all listeners share.
pub(crate) struct Listeners {
    pub(crate) hub: Rc<Hub>,
    pub(crate) bounds: NetBounds,
    pub(crate) max_connections: usize,
    pub(crate) bulk: Arc<Semaphore>,
    half_open: Cell<usize>,
    handshakes: RefCell<TokenBucket>,
}

impl Listeners {
    pub(crate) fn new(hub: Rc<Hub>, bounds: NetBounds, max_connections: usize) -> Rc<Self> {
        let bulk = Arc::new(Semaphore::new(bounds.bulk_requests));
        let handshakes = RefCell::new(TokenBucket::new(bounds.handshakes));
        Rc::new(Self { hub, bounds, max_connections, bulk, half_open: Cell::new(0), handshakes })
    }

    /// Serves an endpoint until it is closed.
    pub(crate) async fn serve(self: Rc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            self.admit(incoming);
        }
    }

    /// Decides what a first packet is worth, before anything is spent on it.
    fn admit(self: &Rc<Self>, incoming: Incoming) {
        if self.hub.connections.get() >= self.max_connections {
            return incoming.refuse();
        }
        let half_open = self.half_open.get();
        if half_open >= self.bounds.half_open {
            return incoming.ignore();
        }
        if half_open >= self.bounds.half_open_unproved && !incoming.remote_address_validated() {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return;
        }
        if !self.handshakes.borrow_mut().take() {
            return incoming.ignore();
        }
        self.half_open.set(half_open + 1);
        let listeners = Rc::clone(self);
        spawn(async move {
            let handshake = Counted::new(&listeners.half_open);
            let connected =
                timeout(listeners.bounds.handshake_time, async { incoming.accept()?.await }).await;
            drop(handshake);
            if let Ok(Ok(connection)) = connected {
                listeners.hub.connections.set(listeners.hub.connections.get() + 1);
                let _counted = Counted::new(&listeners.hub.connections);
                session::serve(&listeners, connection).await;
            }
        });
    }
}

/// Binds a socket and speaks QUIC on it.
pub(crate) fn listen(
    address: SocketAddr,
    identity: &Identity,
    bounds: &NetBounds,
    secret: &[u8],
) -> Result<Endpoint, ListenError> {
    let config = server_config(identity, bounds)?;
    let bound = socket::bind(address).map_err(|source| ListenError::Bind { address, source })?;
    // The same keys after a restart: clients of the old process learn that their connection is gone as soon as they send.
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"qpc/1 connection ids");
    let cid_key = derived.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    if endpoint.max_udp_payload_size(bounds.mtu).is_err() {
        log::warn!("the packet size {} is not possible", bounds.mtu);
    }
    Endpoint::new_with_abstract_socket(endpoint, Some(config), bound, Arc::new(TokioRuntime))
        .map_err(|source| ListenError::Bind { address, source })
}

/// What an endpoint shows new connections.
pub(crate) fn server_config(identity: &Identity, bounds: &NetBounds) -> Result<ServerConfig, ListenError> {
    let provider = tls::provider();
    let key = provider.key_provider.load_private_key(identity.key.clone_key())?;
    // Not with_single_cert, which would parse the certificate we made to see that it is for the key we made.
    let certified = SingleCertAndKey::from(CertifiedKey::new(identity.chain.clone(), key));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resumption would save two signatures and cost memory for every client that ever came.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let initial = tls::initial_suite().ok_or(ListenError::NoInitialCipher)?;
    let crypto = QuicServerConfig::with_initial(Arc::new(config), initial)
        .map_err(|_| ListenError::NoInitialCipher)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(bounds.transport()))
        .max_incoming(bounds.incoming)
        .incoming_buffer_size(bounds.incoming_bytes)
        .incoming_buffer_size_total(bounds.incoming_bytes_total)
        .migration(true);
    Ok(config)
}

/// The application error code and text of a close.
pub(crate) fn close(connection: &quinn::Connection, code: qpc_proto::message::ErrorCode, reason: &str) {
    connection.close(VarInt::from_u32(code.into()), reason.as_bytes());
}

/// Takes one off a counter when dropped.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(counter: &'a Cell<usize>) -> Self {
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

struct TokenBucket {
    bucket: Bucket,
    tokens: u32,
    filled: Instant,
}

impl TokenBucket {
    fn new(bucket: Bucket) -> Self {
        Self { bucket, tokens: bucket.burst, filled: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let back = self.filled.elapsed().as_nanos() / self.bucket.every.as_nanos().max(1);
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(back).min(self.bucket.burst);
            self.filled = Instant::now();
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}
