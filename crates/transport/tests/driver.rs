//! The driver on a real socket, with an application that sends back what it gets, and one that fails.

#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qpc_transport::driver::{Admission, Application, Driver, Next};
use qpc_transport::tls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    Connection, ConnectionHandle, Dir, EndpointConfig, Event, Incoming, ReadError, ServerConfig, StreamEvent,
    StreamId, WriteError,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use ring::hmac;
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Sends back what it gets. What begins with `!` makes it panic.
struct Echo(Arc<Counts>);

#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    gone: AtomicUsize,
    stop: AtomicBool,
}

/// What is to be sent back, by stream, and whether that is all.
type Streams = BTreeMap<StreamId, (Vec<Bytes>, bool)>;

impl Application for Echo {
    type Session = Streams;

    fn admit(&mut self, _: &Incoming, _: Instant) -> Admission<Streams> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Admission::Accept(Streams::new())
    }

    fn turn(
        &mut self,
        _: ConnectionHandle,
        connection: &mut Connection,
        streams: &mut Streams,
        _: Instant,
    ) -> Next {
        while let Some(event) = connection.poll() {
            if let Event::Stream(StreamEvent::Opened { .. }) = event {
                while let Some(stream) = connection.streams().accept(Dir::Bi) {
                    streams.insert(stream, Default::default());
                }
            }
        }
        streams.retain(|&id, (pieces, end)| {
            if !*end && let Ok(mut chunks) = connection.recv_stream(id).read(true) {
                loop {
                    match chunks.next(usize::MAX) {
                        Ok(Some(chunk)) => pieces.push(chunk.bytes),
                        Ok(None) => break *end = true,
                        Err(ReadError::Blocked) => break,
                        Err(ReadError::Reset(_)) => return false,
                    }
                }
                assert!(!pieces.first().is_some_and(|piece| piece.starts_with(b"!")), "as the test wants it");
            }
            let mut stream = connection.send_stream(id);
            while let Some(piece) = pieces.first_mut() {
                match stream.write_chunks(std::slice::from_mut(piece)) {
                    Ok(_) if piece.is_empty() => drop(pieces.remove(0)),
                    Ok(_) => {}
                    Err(WriteError::Blocked) => return true,
                    Err(_) => return false,
                }
            }
            if *end {
                let _ = stream.finish();
            }
            !*end
        });
        Next::default()
    }

    fn gone(&mut self, _: Streams) {
        self.0.gone.fetch_add(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    client: quinn::ClientConfig,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let tls13 = &[&rustls::version::TLS13];
        let server = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls13)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls13)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let initial = || tls::initial_suite().unwrap();
        let server = QuicServerConfig::with_initial(Arc::new(server), initial()).unwrap();
        let client = QuicClientConfig::with_initial(Arc::new(client), initial()).unwrap();

        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, b"reset");
        let endpoint = EndpointConfig::new(Arc::new(reset_key));
        let any = "127.0.0.1:0".parse().unwrap();
        let driver = Driver::listen(any, endpoint, ServerConfig::with_crypto(Arc::new(server))).unwrap();
        let address = driver.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let echo = Echo(Arc::clone(&counts));
        let thread = Some(std::thread::spawn(move || drive(driver, echo)));
        Self { address, client: quinn::ClientConfig::new(Arc::new(client)), counts, thread }
    }

    async fn connect(&self) -> (quinn::Endpoint, quinn::Connection) {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(self.client.clone());
        let connection = endpoint.connect(self.address, "localhost").unwrap().await.unwrap();
        (endpoint, connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn drive(mut driver: Driver<Streams>, mut echo: Echo) {
    while !echo.0.stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        let write = if driver.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut fds = [PollFd::new(driver.as_fd(), PollFlags::POLLIN | write)];
        let wait = driver.deadline(now).map_or(10, |time| (time - now).as_millis().min(9) + 1);
        poll(&mut fds, PollTimeout::from(wait as u8)).unwrap();
        let flags = fds[0].revents().unwrap();
        let (readable, writable) = (flags.contains(PollFlags::POLLIN), flags.contains(PollFlags::POLLOUT));
        driver.turn(&mut echo, readable, writable, Instant::now());
    }
}

async fn echo(connection: &quinn::Connection, text: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let (sent, received) = tokio::join!(
        async {
            send.write_all(text).await?;
            send.finish()?;
            Ok::<_, Box<dyn std::error::Error>>(())
        },
        recv.read_to_end(usize::MAX)
    );
    sent?;
    Ok(received?)
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let server = Server::start();
    let (_endpoint, connection) = server.connect().await;
    // More than any window, and many small ones at a time.
    let long: Vec<u8> = (0..20_000_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    assert!(echo(&connection, &long).await.unwrap() == long);
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(connection.open_bi().await);
        if streams.len() == 50 {
            for stream in streams.drain(..) {
                let (mut send, mut recv) = stream.unwrap();
                send.write_all(b"short").await.unwrap();
                send.finish().unwrap();
                assert_eq!(recv.read_to_end(10).await.unwrap(), b"short");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_panics_goes_alone() {
    let server = Server::start();
    let (_one, unlucky) = server.connect().await;
    let (_two, other) = server.connect().await;
    assert_eq!(echo(&other, b"before").await.unwrap(), b"before");
    assert!(echo(&unlucky, b"! fail").await.is_err());
    assert!(
        matches!(unlucky.closed().await, quinn::ConnectionError::Reset),
        "its peer learns that nobody knows it any more"
    );
    assert_eq!(echo(&other, b"after").await.unwrap(), b"after");
    assert_eq!(server.counts.gone.load(Ordering::SeqCst), 1);
    // Its place is there for others.
    let (_three, third) = server.connect().await;
    assert_eq!(echo(&third, b"new").await.unwrap(), b"new");
}

#[tokio::test]
async fn connections_that_are_gone_leave_nothing() {
    let server = Server::start();
    for _ in 0..20 {
        let (endpoint, connection) = server.connect().await;
        assert_eq!(echo(&connection, b"hello").await.unwrap(), b"hello");
        connection.close(0u32.into(), b"");
        endpoint.wait_idle().await;
    }
    while server.counts.gone.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.counts.begun.load(Ordering::SeqCst), 20);
}
