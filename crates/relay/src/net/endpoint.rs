//! What QUIC is told: keys, the certificate, bounds.

use super::session::Session;
use crate::bounds::NetBounds;
use crate::keys::Identity;
use qpc_proto::ALPN;
use qpc_transport::driver::Driver;
use qpc_transport::tls;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{EndpointConfig, HashedConnectionIdGenerator, ServerConfig};
use ring::hmac;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

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

/// Binds a socket and speaks QUIC on it.
pub(crate) fn listen(
    address: SocketAddr,
    identity: &Identity,
    bounds: &NetBounds,
    secret: &[u8],
) -> Result<Driver<Session>, ListenError> {
    let server = server_config(identity, bounds)?;
    // The same keys after a restart: clients of the old process learn that their connection is gone as soon as they send.
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"qpc/1 connection ids");
    let cid_key = derived.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    if endpoint.max_udp_payload_size(bounds.mtu).is_err() {
        log::warn!("the packet size {} is not possible", bounds.mtu);
    }
    Driver::listen(address, endpoint, server).map_err(|source| ListenError::Bind { address, source })
}

/// What an endpoint shows new connections.
pub(crate) fn server_config(identity: &Identity, bounds: &NetBounds) -> Result<ServerConfig, ListenError> {
    let provider = tls::provider();
    let key = provider.key_provider.load_private_key(identity.key.clone_key())?;
    // Not with_single_cert, which would parse the certificate we made to see that it is for the key we made.
    let certified = SingleCertAndKey::from(CertifiedKey::new(vec![identity.certificate.clone()], key));
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
