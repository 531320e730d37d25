//! The link against a QUIC server that does what a test says, and not always what a relay should.

use super::*;
use qpc_proto::message::{ListDevices, SendMessage};
use qpc_proto::wire::Blob;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};

#[tokio::test]
async fn a_request_that_is_given_up_half_written_ends_the_connection() {
    for long in [false, true] {
        // So little room that a request cannot be written while the relay does not read.
        let (mut link, mut relay) = connected(1024).await;
        let written = async {
            match long {
                false => link.exchange(1, &message(50_000)).await,
                true => link.exchange(1, &Request::from(too_long_for_control())).await,
            }
        };
        assert!(timeout(Duration::from_millis(20), written).await.is_err());
        assert!(link.is_closed());
        assert!(link.exchange(0, &ListDevices {}.into()).await.is_err_and(|error| error.is_of_the_link()));
        // Not even the beginning of another request has come behind the half one.
        assert!(relay.next_request().await.is_none());
    }
}

#[tokio::test]
async fn an_address_that_leads_nowhere_does_not_use_up_the_time() {
    let (endpoint, relay) = server(64 * 1024);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = vec![silent.local_addr().unwrap(), endpoint.local_addr().unwrap()];
    let opened = timeout(Duration::from_secs(10), Link::open_any(addresses, &relay, "test"));
    let (opened, _relay) = tokio::join!(opened, accept(endpoint));
    assert!(opened.unwrap().is_ok());
}

/// A request that does not fit the control stream's frames.
fn too_long_for_control() -> qpc_proto::message::SubmitCommit {
    qpc_proto::message::SubmitCommit {
        conversation: qpc_proto::id::ConversationId([1; 16]),
        epoch: 0,
        commit: Blob::new(vec![7; 100_000]).unwrap(),
        added: Default::default(),
        removed: Default::default(),
        welcome: Blob::default(),
        group_info: Blob::default(),
        tree: qpc_proto::message::Tree { width: 1, nodes: Default::default() },
        external: false,
    }
}

fn message(len: usize) -> Request {
    SendMessage {
        conversation: qpc_proto::id::ConversationId([1; 16]),
        epoch: 1,
        payload: Blob::new(vec![7; len]).unwrap(),
        submitter: None,
    }
    .into()
}

/// The relay's end of a connection.
struct Relay {
    /// Ends with it.
    _endpoint: Endpoint,
    _connection: Connection,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl Relay {
    /// The next whole request on the control stream; `None` once there is none to come.
    async fn next_request(&mut self) -> Option<ClientFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(ClientFrame::decode(frame).unwrap());
            }
            let chunk = self.recv.read_chunk(MAX_CONTROL_FRAME, true).await.ok()??;
            self.decoder.feed(&chunk.bytes);
        }
    }

    async fn say(&mut self, id: u32, reply: impl Into<Reply>) {
        self.send.write_all(&frame::encode(&RelayFrame { id, reply: Some(reply.into()) })).await.unwrap();
    }
}

/// A link and the other end of it, whose control stream takes `window` bytes that are not read.
async fn connected(window: u32) -> (Link, Relay) {
    let (endpoint, relay) = server(window);
    let (link, relay) = tokio::join!(Link::open(&relay, "test", Duration::from_secs(10)), accept(endpoint));
    (link.unwrap(), relay)
}

async fn accept(endpoint: Endpoint) -> Relay {
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (send, recv) = connection.accept_bi().await.unwrap();
    let decoder = Decoder::new(MAX_CONTROL_FRAME);
    let mut relay = Relay { _endpoint: endpoint, _connection: connection, send, recv, decoder };
    let hello = relay.next_request().await.unwrap();
    relay.say(hello.id, empty_hello()).await;
    relay
}

/// A server on a free loopback port, and where it is.
fn server(window: u32) -> (Endpoint, RelayEndpoint) {
    let ca_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let fingerprint = spki_fingerprint(ca_certificate.der()).unwrap();
    let mut crypto = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ca_certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    crypto.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::with_initial(Arc::new(crypto), tls::initial_suite().unwrap()).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    (endpoint, RelayAddress { host: "127.0.0.1".into(), port, fingerprint }.into())
}
