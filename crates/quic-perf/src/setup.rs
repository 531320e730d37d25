//! The settings of both backends, which are the same as far as they have the same.

use crate::options::Options;
use crate::protocol::Mode;
use crate::server::Exit;
use coquic::quic::{Endpoint, EndpointConfig};
use coquic::tls::{provider, verifier};
use coquic::{CongestionControl, TlsIdentity, TransportConfig};
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CONNECTION_WINDOW: u32 = 32 << 20;
const STREAM_WINDOW: u32 = 16 << 20;
/// Streams that a client may have at a time, and a server, which needs none.
const STREAMS: [u32; 2] = [4096, 16];
/// A peer that is not heard for that time is gone. The original waits for ever.
const IDLE: Duration = Duration::from_secs(30);
/// Datagrams after which a peer has to acknowledge; where few answers are wanted and many bytes come, fewer do.
const ACK_AFTER: u64 = 2;
const ACK_AFTER_IN_BULK: u64 = 64;

const DEFAULT_CHAIN: &str = "tests/fixtures/quic-server-cert.pem";
const DEFAULT_KEY: &str = "tests/fixtures/quic-server-key.pem";

/// When a server is to end, as the environment has it.
pub(crate) fn exit() -> Exit {
    let variable = |name: &str| {
        let value = std::env::var(format!("COQUIC_PERF_SERVER_EXIT_{name}")).unwrap_or_default();
        (!value.is_empty() && value != "0").then_some(value)
    };
    Exit {
        on_idle_empty: variable("ON_IDLE_EMPTY").is_some(),
        on_session_complete: variable("ON_SESSION_COMPLETE").is_some(),
        at: variable("AFTER_MS")
            .and_then(|value| value.parse::<u64>().ok())
            .map(|ms| ms.saturating_mul(1000)),
    }
}

/// A server's certificate and key.
pub(crate) struct Identity {
    certificate_pem: Vec<u8>,
    private_key_pem: Vec<u8>,
}

impl Identity {
    /// The one of the options, or that of the original's tests, or else one that nobody vouches for.
    pub(crate) fn find(options: &Options) -> Result<Self, String> {
        let named = options.certificate_chain.is_some() || options.private_key.is_some();
        if !named && !Path::new(DEFAULT_CHAIN).exists() {
            let made = rcgen::generate_simple_self_signed([options.server_name.clone()]);
            let made = made.map_err(|error| format!("cannot make a certificate: {error}"))?;
            let private_key_pem = made.signing_key.serialize_pem().into();
            return Ok(Self { certificate_pem: made.cert.pem().into(), private_key_pem });
        }
        let chain = options.certificate_chain.as_deref().unwrap_or(Path::new(DEFAULT_CHAIN));
        let key = options.private_key.as_deref().unwrap_or(Path::new(DEFAULT_KEY));
        Ok(Self { certificate_pem: read(chain)?, private_key_pem: read(key)? })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))
}

pub(crate) fn coquic_client(options: &Options) -> Result<Endpoint, String> {
    coquic(options, coquic::Role::Client, None)
}

pub(crate) fn coquic_server(options: &Options, identity: Identity) -> Result<Endpoint, String> {
    let Identity { certificate_pem, private_key_pem } = identity;
    coquic(options, coquic::Role::Server, Some(TlsIdentity { certificate_pem, private_key_pem }))
}

fn coquic(options: &Options, role: coquic::Role, identity: Option<TlsIdentity>) -> Result<Endpoint, String> {
    let bulk = options.work.mode == Mode::Bulk;
    let loss_based =
        matches!(options.congestion_control, CongestionControl::NewReno | CongestionControl::Cubic);
    let server = role == coquic::Role::Server;
    let core = coquic::EndpointConfig {
        role,
        verify_peer: options.verify_peer,
        application_protocol: options.alpn.name().into(),
        identity,
        max_outbound_datagram_size: options.max_outbound_datagram_size.into(),
        emit_shared_receive_stream_data: true,
        transport: TransportConfig {
            max_idle_timeout: IDLE.as_millis() as u64,
            pmtud_max_datagram_size: options.pmtud_max_datagram_size.into(),
            ack_eliciting_threshold: if bulk && loss_based { ACK_AFTER_IN_BULK } else { ACK_AFTER },
            initial_max_data: CONNECTION_WINDOW.into(),
            initial_max_stream_data_bidi_local: STREAM_WINDOW.into(),
            initial_max_stream_data_bidi_remote: STREAM_WINDOW.into(),
            initial_max_streams_bidi: STREAMS[usize::from(!server)].into(),
            congestion_control: options.congestion_control,
            enable_hystart_plus_plus: !(bulk && loss_based),
            send_stream_fairness: !bulk,
            ..TransportConfig::default()
        },
        ..coquic::EndpointConfig::default()
    };
    let endpoint = Endpoint::new(&EndpointConfig { core });
    endpoint.map_err(|_| "these settings, or this certificate, are not supported".into())
}

pub(crate) fn quinn_client(options: &Options) -> Result<quinn::ClientConfig, String> {
    let provider = Arc::new(provider());
    let peer =
        coquic::EndpointConfig { verify_peer: options.verify_peer, ..coquic::EndpointConfig::default() };
    let verifier = verifier(&peer, &provider).ok_or("there is no list of trusted certificates")?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![options.alpn.name().into()];
    // Every handshake is a full one, as with the other backend.
    tls.resumption = Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(unusable)?));
    config.transport_config(Arc::new(transport(options, false)?));
    Ok(config)
}

pub(crate) fn quinn_server(options: &Options, identity: &Identity) -> Result<quinn::ServerConfig, String> {
    let chain = CertificateDer::pem_slice_iter(&identity.certificate_pem).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(&identity.private_key_pem).map_err(unusable)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(unusable)?, key)
        .map_err(unusable)?;
    tls.alpn_protocols = vec![options.alpn.name().into()];
    let crypto = Arc::new(QuicServerConfig::try_from(tls).map_err(unusable)?);
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    config.transport_config(Arc::new(transport(options, true)?));
    Ok(config)
}

fn transport(options: &Options, server: bool) -> Result<quinn::TransportConfig, String> {
    let congestion: Arc<dyn ControllerFactory + Send + Sync> = match options.congestion_control {
        CongestionControl::NewReno => Arc::new(NewRenoConfig::default()),
        CongestionControl::Cubic => Arc::new(CubicConfig::default()),
        CongestionControl::Bbr => Arc::new(BbrConfig::default()),
        _ => return Err("these settings, or this certificate, are not supported".into()),
    };
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(match options.pmtud_max_datagram_size {
        0 => options.max_outbound_datagram_size.max(1452),
        size => size,
    });
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(Some(IDLE.try_into().map_err(unusable)?))
        .receive_window(CONNECTION_WINDOW.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .send_window(STREAM_WINDOW.into())
        .max_concurrent_bidi_streams(STREAMS[usize::from(!server)].into())
        .max_concurrent_uni_streams(STREAMS[1].into())
        .send_fairness(options.work.mode != Mode::Bulk)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(congestion);
    Ok(config)
}

fn unusable(error: impl std::fmt::Display) -> String {
    format!("cannot be used: {error}")
}
