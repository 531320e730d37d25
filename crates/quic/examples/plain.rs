//! `quinn-proto` driven without anything between: what `c/tests/cost` compares the C API with. The same work, clock, settings
//! and network as in `c/tests/c/drive.c`: change both together.
//!
//! `plain FOLDER bulk|rr`, where FOLDER has cert.pem and key.pem.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "for measuring")]

use bytes::BytesMut;
use quinn_proto::congestion::NewRenoConfig;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig,
    Event, MtuDiscoveryConfig, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOTAL: usize = 16 << 20;
const PIECE: usize = 64 << 10;
const REQUESTS: u64 = 4000;
const SLOTS: usize = 16384;

/// A queue of datagrams that makes none of its own.
struct Queue {
    slots: Vec<[u8; 2048]>,
    about: Vec<(usize, Option<EcnCodepoint>)>,
    first: usize,
    count: usize,
}

impl Queue {
    fn push(&mut self, bytes: &[u8], ecn: Option<EcnCodepoint>) {
        assert!(self.count < SLOTS);
        let slot = (self.first + self.count) % SLOTS;
        self.about[slot] = (bytes.len(), ecn);
        self.slots[slot][..bytes.len()].copy_from_slice(bytes);
        self.count += 1;
    }
}

struct Side {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    peer: SocketAddr,
    buffer: Vec<u8>,
    /// As of the last time something happened: a program has to set its timer then.
    timeout: Option<Instant>,
    received: usize,
    finished: u64,
    /// The server answers requests, after what came with them has been acted on, as with effects.
    answers: bool,
    requests: Vec<StreamId>,
}

struct Run {
    sides: [Side; 2],
    queues: [Queue; 2],
    start: Instant,
    now: u64,
    datagrams: u64,
    ready: bool,
}

impl Side {
    fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().unwrap().1
    }
}

impl Run {
    fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    fn input(&mut self, side: usize) {
        let now = self.instant();
        let queue = &mut self.queues[side];
        let (length, ecn) = queue.about[queue.first];
        let data = BytesMut::from(&queue.slots[queue.first][..length]);
        queue.first = (queue.first + 1) % SLOTS;
        queue.count -= 1;
        let this = &mut self.sides[side];
        let mut answer = std::mem::take(&mut this.buffer);
        let event = this.endpoint.handle(now, this.peer, None, ecn, data, &mut answer);
        answer.clear();
        this.buffer = answer;
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                this.connection().handle_event(event);
                self.drive(side);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                this.connection = this.endpoint.accept(incoming, now, &mut Vec::new(), None).ok();
                self.drive(side);
            }
            Some(DatagramEvent::Response(_)) => panic!("an answer without a connection"),
            None => {}
        }
    }

    fn drive(&mut self, side: usize) {
        let now = self.instant();
        let Side { endpoint, connection, buffer, timeout, received, finished, answers, requests, .. } =
            &mut self.sides[side];
        let (handle, connection) = connection.as_mut().unwrap();
        loop {
            while let Some(event) = connection.poll() {
                match event {
                    Event::Connected => self.ready = true,
                    Event::Stream(StreamEvent::Opened { dir }) => {
                        while let Some(id) = connection.streams().accept(dir) {
                            finish(read(connection, id, received), finished, requests);
                        }
                    }
                    Event::Stream(StreamEvent::Readable { id }) => {
                        finish(read(connection, id, received), finished, requests);
                    }
                    _ => {}
                }
            }
            let mut told = false;
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                    told = true;
                }
            }
            if !told {
                break;
            }
        }
        while let Some(transmit) = connection.poll_transmit(now, 16, buffer) {
            for bytes in buffer.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                self.queues[1 - side].push(bytes, transmit.ecn);
                self.datagrams += 1;
            }
            buffer.clear();
        }
        *timeout = connection.poll_timeout();
        if *answers && !requests.is_empty() {
            for id in requests.drain(..) {
                let mut stream = connection.send_stream(id);
                stream.write(&[0x5a; 64]).unwrap();
                stream.finish().unwrap();
            }
            self.drive(side);
        }
    }

    /// Delivers in turns; where there is nothing, a timer expires.
    fn step(&mut self) {
        let mut idle = true;
        for side in 0..2 {
            if self.queues[side].count > 0 {
                self.now += 20;
                self.input(side);
                idle = false;
            }
        }
        if idle {
            let [client, server] = &self.sides;
            let (side, at) = [client.timeout, server.timeout]
                .into_iter()
                .enumerate()
                .filter_map(|(side, at)| Some((side, at?)))
                .min_by_key(|(_, at)| *at)
                .unwrap();
            let due = u64::try_from((at - self.start).as_nanos().div_ceil(1000)).unwrap();
            self.now = self.now.max(due);
            let now = self.instant();
            self.sides[side].connection().handle_timeout(now);
            self.drive(side);
        }
    }
}

/// Reads what is there; the stream if that is all of it.
fn read(connection: &mut Connection, id: StreamId, received: &mut usize) -> Option<StreamId> {
    let mut stream = connection.recv_stream(id);
    let mut chunks = stream.read(true).ok()?;
    let done = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => *received += chunk.bytes.len(),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let _ = chunks.finalize();
    done.then_some(id)
}

fn finish(stream: Option<StreamId>, finished: &mut u64, requests: &mut Vec<StreamId>) {
    *finished += u64::from(stream.is_some());
    requests.extend(stream);
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(1452);
    transport
        .max_idle_timeout(None)
        .max_concurrent_bidi_streams(16u32.into())
        .max_concurrent_uni_streams(16u32.into())
        .stream_receive_window((16u32 << 20).into())
        .receive_window((32u32 << 20).into())
        .send_window(16 << 20)
        .allow_spin(false)
        .datagram_receive_buffer_size(Some(65535))
        .congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        .initial_mtu(1200)
        .mtu_discovery_config(Some(discovery));
    Arc::new(transport)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let bulk = arguments.next().as_deref() == Some("bulk");
    let file = |name| std::fs::read(format!("{folder}/{name}")).unwrap();
    let certificate = CertificateDer::from_pem_slice(&file("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&file("key.pem")).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    let first = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    let provider = Arc::new(provider);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"coquic".to_vec()];
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    server.alpn_protocols = vec![b"coquic".to_vec()];
    server.send_tls13_tickets = 1;
    let key = |bytes: u8| Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[bytes; 32]));
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&[3; 32]);
    let config = |bytes: u8| {
        let mut config = EndpointConfig::new(key(bytes));
        config.max_udp_payload_size(65527).unwrap().grease_quic_bit(false).supported_versions(vec![1]);
        Arc::new(config)
    };
    let mut accepts =
        ServerConfig::new(Arc::new(QuicServerConfig::try_from(server).unwrap()), Arc::new(token_key));
    accepts.transport_config(transport());
    let side = |endpoint, peer: &str, answers| Side {
        endpoint,
        connection: None,
        peer: peer.parse().unwrap(),
        buffer: Vec::new(),
        timeout: None,
        received: 0,
        finished: 0,
        answers,
        requests: Vec::new(),
    };
    let queue = || Queue { slots: vec![[0; 2048]; SLOTS], about: vec![(0, None); SLOTS], first: 0, count: 0 };
    let mut run = Run {
        sides: [
            side(Endpoint::new(config(1), None, true, None), "[100::2]:1", false),
            side(Endpoint::new(config(2), Some(Arc::new(accepts)), true, None), "[100::1]:1", !bulk),
        ],
        queues: [queue(), queue()],
        start: Instant::now(),
        now: 1,
        datagrams: 0,
        ready: false,
    };
    let mut connect = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    connect.transport_config(transport());
    let now = run.instant();
    let server = run.sides[0].peer;
    run.sides[0].connection = run.sides[0].endpoint.connect(now, connect, server, "localhost").ok();
    run.drive(0);
    while !run.ready {
        run.step();
    }
    let data = vec![0x5a; PIECE];
    if bulk {
        let mut id = None;
        let mut sent = 0;
        while run.sides[1].finished == 0 {
            let connection = run.sides[0].connection();
            if sent < TOTAL && !connection.has_pending_retransmits() {
                let id = *id.get_or_insert_with(|| connection.streams().open(Dir::Bi).unwrap());
                assert_eq!(connection.send_stream(id).write(&data).unwrap(), PIECE);
                sent += PIECE;
                if sent == TOTAL {
                    connection.send_stream(id).finish().unwrap();
                }
                run.drive(0);
            }
            run.step();
        }
        assert_eq!(run.sides[1].received, TOTAL);
    } else {
        for request in 1..=REQUESTS {
            let connection = run.sides[0].connection();
            let id = connection.streams().open(Dir::Bi).unwrap();
            assert_eq!(u64::from(VarInt::from(id)), 4 * (request - 1));
            connection.send_stream(id).write(&data[..64]).unwrap();
            connection.send_stream(id).finish().unwrap();
            run.drive(0);
            while run.sides[0].finished < request {
                run.step();
            }
        }
    }
    println!("{} datagrams", run.datagrams);
}
