//! The link against a QUIC server that does what a test says, and not always what a relay should.

use super::*;
use qpc_proto::id::ConversationId;
use qpc_proto::message::{Accepted, Durability, Entry, ListDevices, Notice, SendMessage, SubmitCommit, Tree};
use qpc_proto::wire::{Blob, put_bytes};
use qpc_transport::executor::block_on;
use quinn_proto::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use std::pin::pin;

#[test]
fn a_request_that_is_given_up_half_written_ends_the_connection() {
    block_on(async {
        for long in [false, true] {
            // So little room that a request cannot be written while the relay does not read.
            let (mut link, mut relay) = connected(1024).await;
            let written = async {
                match long {
                    false => link.exchange(1, &message(50_000)).await,
                    true => link.exchange(1, &Request::from(too_long_for_control())).await,
                }
            };
            assert!(timeout(Duration::from_millis(20), written).await.is_none());
            assert!(link.is_closed());
            assert!(ask(&mut link).await.is_err_and(|error| error.is_of_the_link()));
            // Not even the beginning of another request has come behind the half one.
            assert!(relay.next_request().await.is_none());
        }
    });
}

#[test]
fn an_address_that_leads_nowhere_does_not_use_up_the_time() {
    block_on(async {
        let (waiting, relay) = server(64 * 1024);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = vec![silent.local_addr().unwrap(), waiting.local_addr().unwrap()];
        let options = options();
        let opened = timeout(Duration::from_secs(10), Link::open_any(addresses, &relay, &options));
        let (opened, _relay) = both(opened, accept(waiting)).await;
        assert!(opened.unwrap().is_ok());
    });
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_the_next() {
    block_on(async {
        let (mut link, mut relay) = connected(64 * 1024).await;
        let stalled = timeout(Duration::from_millis(20), ask(&mut link));
        assert!(stalled.await.is_none());
        let (answered, ()) = both(ask(&mut link), async {
            let (first, second) = (relay.next_request().await.unwrap(), relay.next_request().await.unwrap());
            relay.say(first.id, Accepted { epoch: 1 }).await;
            relay.say(second.id, Accepted { epoch: 2 }).await;
        })
        .await;
        assert_eq!(answered.unwrap(), Accepted { epoch: 2 }.into());
    });
}

#[test]
fn what_is_no_frame_is_no_answer() {
    block_on(async {
        let garbage: [&[u8]; 4] = [
            // A field that ends beyond the frame; a wire type there is none of; more than a frame may have, twice.
            &[0, 0, 0, 2, 0x82, 0x80],
            &[0, 0, 0, 2, 0x0f, 1],
            &[0, 1, 0, 1],
            &[0xff; 64],
        ];
        for bytes in garbage {
            let (mut link, mut relay) = connected(64 * 1024).await;
            let (answered, _) = both(ask(&mut link), relay.connection.write_all(relay.control, bytes)).await;
            assert!(matches!(answered, Err(Error::Protocol)), "{bytes:x?}: {answered:?}");
            assert!(link.is_closed(), "what follows cannot be read");
        }
    });
}

#[test]
fn half_a_frame_is_aconnection_that_broke() {
    block_on(async {
        for close in [false, true] {
            let (mut link, mut relay) = connected(64 * 1024).await;
            let (answered, ()) = both(ask(&mut link), async {
                relay.connection.write_all(relay.control, &[0, 0, 0, 9, 8, 1]).await.unwrap();
                relay.connection.finish(relay.control);
                if close {
                    relay.connection.close(VarInt::from_u32(0), b"");
                }
            })
            .await;
            assert!(answered.is_err_and(|error| error.is_of_the_link()));
        }
    });
}

/// A later version has fields, messages, notices and choices that this one does not know.
#[test]
fn a_later_version_is_understood_as_far_as_it_can_be() {
    block_on(async {
        let (mut link, mut relay) = connected(64 * 1024).await;
        let (answered, ()) = both(ask(&mut link), async {
            let id = relay.next_request().await.unwrap().id;
            let mut unknown_push = Vec::new();
            put_bytes(1999, b"a push of a later version", &mut unknown_push);
            relay.say_raw(&unknown_push).await;
            relay.say(0, Notice { kind: NoticeKind::Unknown(77) }).await;
            let unknown_entry = Entry {
                conversation: ConversationId([3; 16]),
                sender: None,
                time: 0,
                age: 0,
                durability: Durability::Durable,
                kind: None,
            };
            relay.say(0, Delivery { seq: 1, too_large: 0, entry: Some(unknown_entry) }).await;
            let mut answer = RelayFrame { id, reply: Some(Accepted { epoch: 3 }.into()) }.encode();
            put_bytes(2000, b"and more", &mut answer);
            relay.say_raw(&answer).await;
        })
        .await;
        assert_eq!(answered.unwrap(), Accepted { epoch: 3 }.into());
        assert!(matches!(link.take_pushed(), Some(Push::Notice(NoticeKind::Unknown(77)))));
        assert!(matches!(link.take_pushed(), Some(Push::Delivery(Delivery { seq: 1, .. }))));
        assert!(link.take_pushed().is_none());

        // An answer of a kind that is not known is none; the connection goes on.
        let (answered, ()) = both(ask(&mut link), async {
            let mut frame = RelayFrame { id: relay.next_request().await.unwrap().id, reply: None }.encode();
            put_bytes(1999, b"an answer of a later version", &mut frame);
            relay.say_raw(&frame).await;
        })
        .await;
        assert!(matches!(answered, Err(Error::Protocol)));
        let (answered, ()) = both(ask(&mut link), async {
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
        })
        .await;
        assert!(matches!(answered, Ok(Reply::Error(error)) if error.code == ErrorCode::Unknown(999)));
    });
}

#[test]
fn a_relay_that_pushes_more_than_was_granted_is_not_listened_to() {
    block_on(async {
        let (mut link, mut relay) = connected(64 * 1024).await;
        let (answered, ()) = both(ask(&mut link), async {
            let id = relay.next_request().await.unwrap().id;
            for seq in 1..=MAX_PUSHED as u64 {
                relay.say(0, Delivery { seq, too_large: 0, entry: None }).await;
            }
            relay.say(id, Accepted { epoch: 1 }).await;
        })
        .await;
        assert!(answered.is_ok());
        let (answered, _) = both(ask(&mut link), async {
            let frame = frame::encode(&RelayFrame {
                id: 0,
                reply: Some(Delivery { seq: 99, too_large: 0, entry: None }.into()),
            });
            relay.connection.write_all(relay.control, &frame).await
        })
        .await;
        assert!(matches!(answered, Err(Error::Protocol)) && link.is_closed());
    });
}

#[test]
fn the_last_word_is_heard_after_the_end() {
    block_on(async {
        let (mut link, mut relay) = connected(64 * 1024).await;
        relay.say(0, Notice { kind: NoticeKind::Replaced }).await;
        relay.connection.finish(relay.control);
        let (ended, ()) = both(link.connection.ended(), async {
            let all_arrived =
                relay.connection.drive(|connection| match connection.streams().send_streams() {
                    0 => Poll::Ready(()),
                    _ => Poll::Pending,
                });
            all_arrived.await.unwrap();
            relay.connection.close(VarInt::from_u32(0), b"");
        })
        .await;
        assert!(matches!(ended, ConnectionError::ApplicationClosed(_)) && link.is_closed());
        link.connection.gone().await;
        assert_eq!(link.last_notice().await, Some(NoticeKind::Replaced));
    });
}

#[test]
fn a_relay_that_refuses_or_is_another_one_says_so() {
    block_on(async {
        let (mut link, mut relay) = connected(64 * 1024).await;
        relay.connection.close(VarInt::from_u32(ErrorCode::Busy.into()), b"come back");
        let refused = ask(&mut link).await;
        assert!(
            matches!(&refused, Err(Error::Refused { code: ErrorCode::Busy, reason, .. }) if reason == "come back"),
            "{refused:?}"
        );

        for other in [None, Some(server(1024).1.fingerprint())] {
            let (mut waiting, _) = server(64 * 1024);
            let port = waiting.local_addr().unwrap().port();
            let fingerprint = other.unwrap_or(Fingerprint([1; 32]));
            let wrong = RelayAddress { host: "127.0.0.1".into(), port, fingerprint }.into();
            let (opened, _) =
                both(Link::open(&wrong, &options(), Duration::from_secs(10)), waiting.established()).await;
            assert!(matches!(opened, Err(Error::Untrusted(_))));
        }
    });
}

#[test]
fn a_certificate_that_was_verified_is_known_again() {
    let ((leaf, _, ca), (other_leaf, _, other_ca)) = (certificates(), certificates());
    let verifier = Verifier::new(Trust::Fingerprint(spki_fingerprint(&ca).unwrap()));
    let verified = |leaf, chain: &[_]| {
        let name = ServerName::try_from("localhost").unwrap();
        verifier.verify_server_cert(leaf, chain, &name, &[], UnixTime::now()).is_ok()
    };
    assert!(!verified(&leaf, &[]), "nothing vouches for it");
    assert!(verified(&leaf, std::slice::from_ref(&ca)));
    assert!(verified(&leaf, &[]));
    assert!(!verified(&other_leaf, &[ca]), "another CA's");
    assert!(!verified(&other_leaf, &[other_ca]), "another CA");
    let verifier = Verifier::new(Trust::Fingerprint(spki_fingerprint(&leaf).unwrap()));
    let verified = |leaf, chain: &[_]| {
        let name = ServerName::try_from("localhost").unwrap();
        verifier.verify_server_cert(leaf, chain, &name, &[], UnixTime::now()).is_ok()
    };
    assert!(verified(&leaf, &[]), "its own key");
    assert!(!verified(&other_leaf, std::slice::from_ref(&leaf)), "no CA");
}

#[test]
fn a_host_is_found() {
    let port = 7000;
    for (host, address) in [("192.0.2.1", "192.0.2.1:7000"), ("2001:db8::1", "[2001:db8::1]:7000")] {
        assert_eq!(block_on(resolve(host, port)).unwrap(), [address.parse().unwrap()]);
    }
    let found = block_on(resolve("localhost", port)).unwrap();
    assert!(found.iter().any(|address| address.ip().is_loopback() && address.port() == port));
    assert!(block_on(resolve("no..host", port)).is_err());
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
pub(crate) struct Relay {
    pub(crate) connection: Connection,
    control: StreamId,
    decoder: Decoder,
}

impl Relay {
    /// The next whole request on the control stream; `None` once there is none to come.
    pub(crate) async fn next_request(&mut self) -> Option<ClientFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(ClientFrame::decode(frame).unwrap());
            }
            let bytes = self.connection.read(self.control).await.ok()??;
            self.decoder.feed(&bytes);
        }
    }

    pub(crate) async fn say_raw(&mut self, message: &[u8]) {
        let len = u32::try_from(message.len()).unwrap();
        let frame = [&len.to_be_bytes(), message].concat();
        self.connection.write_all(self.control, &frame).await.unwrap();
    }

    pub(crate) async fn say(&mut self, id: u32, reply: impl Into<Reply>) {
        let frame = frame::encode(&RelayFrame { id, reply: Some(reply.into()) });
        self.connection.write_all(self.control, &frame).await.unwrap();
    }
}

fn options() -> Options {
    Options::from_environment()
}

/// A link and the other end of it, whose control stream takes `window` bytes that are not read.
pub(crate) async fn connected(window: u32) -> (Link, Relay) {
    let (waiting, relay) = server(window);
    let options = options();
    let opened = Link::open(&relay, &options, Duration::from_secs(10));
    let (link, relay) = both(opened, accept(waiting)).await;
    (link.unwrap(), relay)
}

pub(crate) async fn accept(mut connection: Connection) -> Relay {
    let control = connection.accept().await.unwrap();
    let mut relay = Relay { connection, control, decoder: Decoder::new(MAX_CONTROL_FRAME) };
    let hello = relay.next_request().await.unwrap();
    relay.say(hello.id, empty_hello()).await;
    relay
}

/// What two futures give.
pub(crate) async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            halves => {
                (first, second) = halves;
                Poll::Pending
            }
        }
    })
    .await
}

/// The end of a connection that waits for the other, and where it is.
pub(crate) fn server(window: u32) -> (Connection, RelayEndpoint) {
    let (leaf, key, ca) = certificates();
    let fingerprint = spki_fingerprint(&ca).unwrap();
    let mut crypto = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf, ca],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    crypto.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::with_initial(Arc::new(crypto), tls::initial_suite().unwrap()).unwrap();
    let mut config = quinn_proto::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window));
    config.transport_config(Arc::new(transport));
    let waiting = Connection::listen("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let port = waiting.local_addr().unwrap().port();
    (waiting, RelayAddress { host: "127.0.0.1".into(), port, fingerprint }.into())
}

/// A certificate, its key, and the certificate of the CA that has signed it.
fn certificates() -> (CertificateDer<'static>, KeyPair, CertificateDer<'static>) {
    let ca_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    (leaf.der().clone(), key, ca_certificate.der().clone())
}
