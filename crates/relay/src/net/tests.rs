//! A server on a real socket, with bounds that a test can reach, and clients that do what they should not.

use super::endpoint::listen;
use super::hub::Hub;
use super::server::Server;
use crate::bounds::{Bucket, NetBounds};
use crate::clock::Clock;
use crate::keys::{DataDir, local_names};
use crate::service::{Origin, Policy, Service, ServiceKeys};
use crate::store::JournalStore;
use nix::poll::PollFlags;
use qpc_journal::{Directory, Options};
use qpc_proto::frame::{self, Decoder};
use qpc_proto::limits::MAX_CONTROL_FRAME;
use qpc_proto::message::{ClientFrame, ErrorCode, Hello, ListDevices, RelayFrame, Reply, Request};
use qpc_proto::wire::{Message, Text};
use qpc_proto::{ALPN, VERSION};
use qpc_transport::connection::Connection;
use qpc_transport::executor::{block_on, sleep, timeout, wait};
use qpc_transport::tls;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, ConnectionError, StreamId, TransportConfig, WriteError};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Command = Box<dyn FnOnce(&mut Server) + Send>;

/// A hub with an empty store.
pub(super) fn hub(dir: &Path) -> Hub {
    let store = Directory::open(dir.join("store")).unwrap();
    let (store, _) = JournalStore::open(store, Options::default()).unwrap();
    let mut rng: crate::service::Rng = Box::new(rand_core::OsRng);
    let keys = ServiceKeys::generate(&mut rng);
    let clock = Clock::new(None);
    let service = Service::new(store, keys, Policy::default(), rng, Origin::default(), clock.now()).unwrap();
    Hub::new(service, clock).unwrap()
}

/// A relay without its program, on a thread of its own.
struct Relay {
    address: SocketAddr,
    ca: CertificateDer<'static>,
    /// Its end is the thread's.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(bounds: NetBounds, max_connections: usize) -> Self {
        let (commands, incoming) = mpsc::channel::<Command>();
        let (started, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let keys = DataDir::create(&dir.path().join("keys")).unwrap();
            let identity = keys.identity(&local_names(&[])).unwrap();
            let ca = std::fs::read(keys.path("ca.der")).unwrap().into();
            let any = "127.0.0.1:0".parse().unwrap();
            let listener = listen(any, &identity, &bounds, b"secret").unwrap();
            started.send((listener.local_addr().unwrap(), ca)).unwrap();
            serve(Server::new(hub(dir.path()), vec![listener], bounds, max_connections), &incoming);
        });
        let (address, ca) = wait.recv().unwrap();
        Self { address, ca, commands: Some(commands), thread: Some(thread) }
    }

    /// Asks the server something.
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut Server) -> T + Send + 'static) -> T {
        let (sender, answer) = mpsc::channel();
        let command: Command = Box::new(move |server| drop(sender.send(question(server))));
        self.commands.as_ref().unwrap().send(command).unwrap();
        answer.recv().unwrap()
    }

    fn connections(&self) -> usize {
        self.ask(|server| server.hub().connections)
    }

    fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::with_initial(Arc::new(tls), tls::initial_suite().unwrap()).unwrap();
        ClientConfig::new(Arc::new(crypto))
    }

    /// A client whose streams take `window` bytes that are not read.
    async fn try_connect(&self, window: u32) -> Result<Client, ConnectionError> {
        let mut config = self.client_config();
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(window.into());
        config.transport_config(Arc::new(transport));
        let mut connection = Connection::connect(config, self.address, "localhost").unwrap();
        let control = connection.open().await?;
        Ok(Client { connection, control, decoder: Decoder::new(MAX_CONTROL_FRAME) })
    }

    async fn connect(&self) -> Client {
        self.try_connect(64 * 1024).await.unwrap()
    }

    /// First packets of clients that will say nothing more.
    fn client_hellos(&self, count: usize) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let mut endpoint = quinn_proto::Endpoint::new(Arc::default(), None, true, None);
        let hello = |_| {
            let (_, mut connection) =
                endpoint.connect(now, self.client_config(), self.address, "localhost").unwrap();
            let mut packet = Vec::new();
            assert!(connection.poll_transmit(now, 1, &mut packet).is_some());
            packet
        };
        (0..count).map(hello).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.commands.take();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn serve(mut server: Server, commands: &mpsc::Receiver<Command>) {
    loop {
        let mut fds = Vec::new();
        server.wait_for(&mut fds);
        let now = Instant::now();
        let look = now + TURN;
        wait(&mut fds, Some(server.deadline(now).map_or(look, |time| time.min(look)))).unwrap();
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap()).collect();
        server.turn(&ready, Instant::now());
        match commands.try_recv() {
            Ok(command) => command(&mut server),
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return,
        }
    }
}

/// Bounds that leave a client on a busy machine its time.
fn unhurried() -> NetBounds {
    NetBounds { handshake_time: HOUR, login_time: HOUR, ..NetBounds::default() }
}

const HOUR: Duration = Duration::from_secs(3600);

/// How often the thread looks for commands.
const TURN: Duration = Duration::from_millis(10);

struct Client {
    connection: Connection,
    control: StreamId,
    decoder: Decoder,
}

impl Client {
    /// The next frame, unless the stream has ended.
    async fn next(&mut self) -> Option<RelayFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(RelayFrame::decode(frame).unwrap());
            }
            let bytes = self.connection.read(self.control).await.ok()??;
            self.decoder.feed(&bytes);
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.connection.write_all(self.control, bytes).await.unwrap();
    }

    async fn hello(&mut self, id: u32) {
        self.say(&hello(id)).await;
        let answer = self.next().await.unwrap();
        assert!(answer.id == id && matches!(answer.reply, Some(Reply::Hello(_))));
    }

    async fn closed(&mut self) -> (u64, String) {
        match self.connection.ended().await {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("{other}"),
        }
    }
}

fn request(id: u32, request: impl Into<Request>) -> Vec<u8> {
    frame::encode(&ClientFrame { id, number: 0, request: Some(request.into()) })
}

fn hello(id: u32) -> Vec<u8> {
    request(id, Hello { min_version: VERSION, max_version: VERSION, software: Text::new("test") })
}

fn code(code: ErrorCode) -> u64 {
    u32::from(code).into()
}

#[test]
fn requests_are_answered_in_their_order() {
    block_on(async {
        let relay = Relay::start(unhurried(), 10);
        let mut client = relay.connect().await;
        let all: Vec<u8> = (1..=500).flat_map(hello).collect();
        // In pieces that frames do not care about.
        let (mut sent, mut next) = (0, 1);
        while next <= 500 {
            if sent < all.len() {
                let end = all.len().min(sent + 777);
                client.say(&all[sent..end]).await;
                sent = end;
            }
            assert_eq!(client.next().await.unwrap().id, next);
            next += 1;
        }
        assert_eq!(relay.connections(), 1);
    });
}

#[test]
fn a_peer_that_does_not_read_holds_itself_up_and_nobody_else() {
    block_on(async {
        let relay = Relay::start(unhurried(), 10);
        let mut silent = relay.try_connect(1024).await.unwrap();
        let hellos: Vec<u8> = (0..1000).flat_map(|_| hello(7)).collect();
        let mut written = 0;
        let control = silent.control;
        let write =
            |connection: &mut quinn_proto::Connection| match connection.send_stream(control).write(&hellos) {
                Err(WriteError::Blocked) => Poll::Pending,
                wrote => Poll::Ready(wrote.unwrap()),
            };
        while let Some(wrote) = timeout(Duration::from_millis(500), silent.connection.drive(write)).await {
            written += wrote.unwrap();
            assert!(written < 4 * 1024 * 1024, "the relay reads on and on");
        }
        let mut other = relay.connect().await;
        other.hello(1).await;
        let asked = relay.ask(|server| server.hub().service().counters().requests);
        // It goes on where it stopped. Its last request may be half written.
        let whole = written / hello(7).len();
        assert!((asked as usize) < whole, "{asked} of {whole} requests were taken");
        for _ in 0..whole {
            assert_eq!(silent.next().await.unwrap().id, 7);
        }
        other.hello(2).await;
    });
}

#[test]
fn who_does_not_log_in_is_shown_out() {
    block_on(async {
        let bounds = NetBounds { login_time: Duration::from_secs(1), ..unhurried() };
        let relay = Relay::start(bounds, 10);
        let mut talks = relay.connect().await;
        talks.hello(1).await;
        assert_eq!(talks.closed().await, (code(ErrorCode::NotAuthenticated), "log in sooner".into()));
        let mut says_nothing = relay.connect().await;
        assert_eq!(says_nothing.closed().await.0, code(ErrorCode::NotAuthenticated));
        assert_eq!(relay.connections(), 0);
    });
}

#[test]
fn a_handshake_that_is_not_finished_frees_its_place() {
    block_on(async {
        for patient in [true, false] {
            let time = if patient { HOUR } else { Duration::from_secs(1) };
            let bounds =
                NetBounds { half_open: 1, half_open_unproved: 1, handshake_time: time, ..unhurried() };
            let relay = Relay::start(bounds, 10);
            let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
            silent.connect(relay.address).unwrap();
            silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let hellos = relay.client_hellos(2);
            let mut answer = [0; 1500];
            silent.send(&hellos[0]).unwrap();
            silent.recv(&mut answer).unwrap();
            if patient {
                // There is no other place: the next hello gets no answer, but the packet behind it does.
                let other = UdpSocket::bind("127.0.0.1:0").unwrap();
                other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                other.connect(relay.address).unwrap();
                other.send(&hellos[1]).unwrap();
                other.send(&unknown_version()).unwrap();
                let len = other.recv(&mut answer).unwrap();
                assert_eq!(answer[1..5], [0; 4], "not a version negotiation: {:x?}", &answer[..len]);
            } else {
                relay.connect().await.hello(1).await;
            }
        }
    });
}

/// The first packet of a version there is none of, which is answered with those there are.
fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1];
    packet.resize(1200, 0);
    packet
}

#[test]
fn under_load_an_address_has_to_be_proved() {
    block_on(async {
        let bounds = NetBounds { half_open_unproved: 0, ..unhurried() };
        let relay = Relay::start(bounds, 10);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 1500];
        socket.send_to(&relay.client_hellos(1)[0], relay.address).unwrap();
        socket.recv(&mut answer).unwrap();
        assert_eq!(answer[0] & 0xf0, 0xf0, "not a Retry");
        relay.connect().await.hello(1).await;
    });
}

#[test]
fn broken_packets_disturb_nobody() {
    block_on(async {
        // As many handshakes as come.
        let handshakes = Bucket { burst: 1_000_000, every: Duration::from_millis(1) };
        let bounds = NetBounds { handshakes, ..unhurried() };
        let relay = Relay::start(bounds, 10);
        let mut client = relay.connect().await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let hellos = relay.client_hellos(8);
        for (n, hello) in hellos.iter().cycle().take(200).enumerate() {
            let mut packet = hello.clone();
            match n % 3 {
                0 => packet.truncate(n * packet.len() / 200),
                1 => packet[n * 7 % 60] ^= 1 << (n % 8),
                _ => packet.extend_from_slice(&hello[..n]),
            }
            socket.send_to(&packet, relay.address).unwrap();
            if n % 20 == 0 {
                client.hello(n as u32).await;
            }
        }
        relay.connect().await.hello(1).await;
        client.hello(1).await;
    });
}

#[test]
fn what_is_no_request_is_answered_and_ends_the_connection() {
    block_on(async {
        let relay = Relay::start(unhurried(), 10);
        let mut client = relay.connect().await;
        let garbage: &[u8] = &[0, 0, 0, 1, 0xff];
        client.say(&[&hello(1), garbage, &hello(2)].concat()).await;
        assert_eq!(client.next().await.unwrap().id, 1);
        let refusal = client.next().await.unwrap();
        assert!(matches!(refusal.reply, Some(Reply::Error(error)) if error.code == ErrorCode::Malformed));
        assert!(client.next().await.is_none(), "nothing behind it is answered");
        assert_eq!(client.closed().await.0, code(ErrorCode::Malformed));
        // Somebody without an account has nothing to say on streams of its own.
        let mut client = relay.connect().await;
        client.hello(1).await;
        let bulk = client.connection.open().await.unwrap();
        client.connection.write_all(bulk, &request(1, ListDevices {})).await.unwrap();
        assert_eq!(client.closed().await.0, code(ErrorCode::Malformed));
    });
}

#[test]
fn a_full_relay_refuses_until_somebody_leaves() {
    block_on(async {
        let relay = Relay::start(unhurried(), 1);
        let mut first = relay.connect().await;
        first.hello(1).await;
        let refused = relay.try_connect(1024).await.err();
        assert!(
            matches!(&refused, Some(ConnectionError::ConnectionClosed(close)) if close.error_code == quinn_proto::TransportErrorCode::CONNECTION_REFUSED),
            "{refused:?}"
        );
        first.hello(2).await;
        first.connection.close(0u32.into(), b"");
        while relay.connections() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        relay.connect().await.hello(1).await;
    });
}

#[test]
fn at_the_end_everybody_is_told() {
    block_on(async {
        let relay = Relay::start(unhurried(), 10);
        let mut client = relay.connect().await;
        client.hello(1).await;
        relay.ask(Server::close);
        assert_eq!(client.closed().await, (0, "the relay is restarting".into()));
        while !relay.ask(|server| server.is_empty()) {}
        assert!(relay.try_connect(1024).await.is_err());
    });
}

#[test]
fn who_does_not_listen_is_let_go() {
    block_on(async {
        let relay = Relay::start(unhurried(), 10);
        let mut client = relay.connect().await;
        let control = client.control;
        // In one packet: the relay may close as soon as it sees the first.
        let stop_and_ask = client.connection.drive(|connection| {
            connection.recv_stream(control).stop(0u32.into()).unwrap();
            let asked = connection.send_stream(control).write(&hello(1));
            Poll::Ready(asked.unwrap())
        });
        assert_eq!(stop_and_ask.await.unwrap(), hello(1).len());
        assert_eq!(client.closed().await.0, code(ErrorCode::Internal));
    });
}
