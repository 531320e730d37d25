//! The link against a QUIC server that does what a test says, and not always what a relay should.

use super::*;
use qpc_proto::id::ConversationId;
use qpc_proto::message::{Accepted, Entry, ListDevices, Notice, SendMessage, SubmitCommit, Tree};
use qpc_proto::wire::{Blob, put_bytes};
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
        assert!(ask(&mut link).await.is_err_and(|error| error.is_of_the_link()));
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

#[tokio::test]
async fn an_answer_that_comes_late_is_not_taken_for_the_next() {
    let (mut link, mut relay) = connected(64 * 1024).await;
    let stalled = timeout(Duration::from_millis(20), ask(&mut link));
    assert!(stalled.await.is_err());
    let (answered, ()) = tokio::join!(ask(&mut link), async {
        let (first, second) = (relay.next_request().await.unwrap(), relay.next_request().await.unwrap());
        relay.say(first.id, Accepted { epoch: 1 }).await;
        relay.say(second.id, Accepted { epoch: 2 }).await;
    });
    assert_eq!(answered.unwrap(), Accepted { epoch: 2 }.into());
}

#[tokio::test]
async fn what_is_no_frame_is_no_answer() {
    let garbage: [&[u8]; 4] = [
        // A field that ends beyond the frame; a wire type there is none of; more than a frame may have, twice.
        &[0, 0, 0, 2, 0x82, 0x80],
        &[0, 0, 0, 2, 0x0f, 1],
        &[0, 1, 0, 1],
        &[0xff; 64],
    ];
    for bytes in garbage {
        let (mut link, mut relay) = connected(64 * 1024).await;
        let (answered, _) = tokio::join!(ask(&mut link), relay.send.write_all(bytes));
        assert!(matches!(answered, Err(Error::Protocol)), "{bytes:x?}: {answered:?}");
        assert!(link.is_closed(), "what follows cannot be read");
    }
}

#[tokio::test]
async fn half_a_frame_is_aconnection_that_broke() {
    for close in [false, true] {
        let (mut link, mut relay) = connected(64 * 1024).await;
        let (answered, ()) = tokio::join!(ask(&mut link), async {
            relay.send.write_all(&[0, 0, 0, 9, 8, 1]).await.unwrap();
            relay.send.finish().unwrap();
            if close {
                relay.connection.close(VarInt::from_u32(0), b"");
            }
        });
        assert!(answered.is_err_and(|error| error.is_of_the_link()));
    }
}

/// A later version has fields, messages, notices and choices that this one does not know.
#[tokio::test]
async fn a_later_version_is_understood_as_far_as_it_can_be() {
    let (mut link, mut relay) = connected(64 * 1024).await;
    let (answered, ()) = tokio::join!(ask(&mut link), async {
        let id = relay.next_request().await.unwrap().id;
        let mut unknown_push = Vec::new();
        put_bytes(1999, b"a push of a later version", &mut unknown_push);
        relay.say_raw(&unknown_push).await;
        relay.say(0, Notice { kind: NoticeKind::Unknown(77) }).await;
        let unknown_entry =
            Entry { conversation: ConversationId([3; 16]), sender: None, time: 0, age: 0, kind: None };
        relay.say(0, Delivery { seq: 1, too_large: 0, entry: Some(unknown_entry) }).await;
        let mut answer = RelayFrame { id, reply: Some(Accepted { epoch: 3 }.into()) }.encode();
        put_bytes(2000, b"and more", &mut answer);
        relay.say_raw(&answer).await;
    });
    assert_eq!(answered.unwrap(), Accepted { epoch: 3 }.into());
    assert!(matches!(link.take_pushed(), Some(Push::Notice(NoticeKind::Unknown(77)))));
    assert!(matches!(link.take_pushed(), Some(Push::Delivery(Delivery { seq: 1, .. }))));
    assert!(link.take_pushed().is_none());

    // An answer of a kind that is not known is none; the connection goes on.
    let (answered, ()) = tokio::join!(ask(&mut link), async {
        let mut frame = RelayFrame { id: relay.next_request().await.unwrap().id, reply: None }.encode();
        put_bytes(1999, b"an answer of a later version", &mut frame);
        relay.say_raw(&frame).await;
    });
    assert!(matches!(answered, Err(Error::Protocol)));
    let (answered, ()) = tokio::join!(ask(&mut link), async {
        let id = relay.next_request().await.unwrap().id;
        relay
            .say(
                id,
                qpc_proto::message::Error {
                    code: ErrorCode::Unknown(999),
                    reason: Text::new("new"),
                    detail: 0,
                },
            )
            .await;
    });
    assert!(matches!(answered, Ok(Reply::Error(error)) if error.code == ErrorCode::Unknown(999)));
}

#[tokio::test]
async fn the_last_word_is_heard_after_the_end() {
    let (mut link, mut relay) = connected(64 * 1024).await;
    relay.say(0, Notice { kind: NoticeKind::Replaced }).await;
    relay.send.finish().unwrap();
    relay.send.stopped().await.unwrap();
    relay.connection.close(VarInt::from_u32(0), b"");
    let closed = link.connection.closed().await;
    assert!(matches!(closed, ConnectionError::ApplicationClosed(_)) && link.is_closed());
    assert_eq!(link.last_notice().await, Some(NoticeKind::Replaced));
}

#[tokio::test]
async fn a_relay_that_refuses_or_is_another_one_says_so() {
    let (mut link, relay) = connected(64 * 1024).await;
    relay.connection.close(VarInt::from_u32(ErrorCode::Busy.into()), b"come back");
    let refused = ask(&mut link).await;
    assert!(
        matches!(&refused, Err(Error::Refused { code: ErrorCode::Busy, reason, .. }) if reason == "come back"),
        "{refused:?}"
    );

    let (endpoint, _) = server(64 * 1024);
    let port = endpoint.local_addr().unwrap().port();
    for fingerprint in [Fingerprint([1; 32]), server(1024).1.fingerprint()] {
        let wrong = RelayAddress { host: "127.0.0.1".into(), port, fingerprint }.into();
        let (opened, _) = tokio::join!(Link::open(&wrong, "test", Duration::from_secs(10)), async {
            endpoint.accept().await.unwrap().await
        });
        assert!(matches!(opened, Err(Error::Untrusted(_))));
    }
}

/// A request that does not fit the control stream's frames.
fn too_long_for_control() -> SubmitCommit {
    SubmitCommit {
        conversation: ConversationId([1; 16]),
        epoch: 0,
        commit: Blob::new(vec![7; 100_000]).unwrap(),
        added: Default::default(),
        removed: Default::default(),
        welcome: Blob::default(),
        group_info: Blob::default(),
        tree: Tree { width: 1, nodes: Default::default() },
        external: false,
    }
}

async fn ask(link: &mut Link) -> Result<Reply, Error> {
    link.exchange(0, &ListDevices {}.into()).await
}

fn message(len: usize) -> Request {
    SendMessage {
        conversation: ConversationId([1; 16]),
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
    connection: Connection,
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

    async fn say_raw(&mut self, message: &[u8]) {
        let len = u32::try_from(message.len()).unwrap();
        self.send.write_all(&[&len.to_be_bytes(), message].concat()).await.unwrap();
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
    let mut relay = Relay { _endpoint: endpoint, connection, send, recv, decoder };
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
