//! The driver on a real socket, with an application that sends back what it gets, and one that fails.

#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags};
use qpc_transport::connection::{Connection as Client, StreamError};
use qpc_transport::driver::{Admission, Application, Driver, Next};
use qpc_transport::executor::{block_on, wait};
use qpc_transport::tls;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, Dir, EndpointConfig, Event, Incoming,
    ReadError, ServerConfig, StreamEvent, StreamId, WriteError,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use ring::hmac;
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
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

    fn gone(&mut self, _: Streams, _: Option<Connection>) {
        self.0.gone.fetch_add(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    client: ClientConfig,
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
        Self { address, client: ClientConfig::new(Arc::new(client)), counts, thread }
    }

    async fn connect(&self) -> Client {
        let mut client = Client::connect(self.client.clone(), self.address, "localhost").unwrap();
        client.established().await.unwrap();
        client
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
        let look = now + Duration::from_millis(10);
        wait(&mut fds, Some(driver.deadline(now).map_or(look, |time| time.min(look)))).unwrap();
        let flags = fds[0].revents().unwrap();
        let (readable, writable) = (flags.contains(PollFlags::POLLIN), flags.contains(PollFlags::POLLOUT));
        driver.turn(&mut echo, readable, writable, Instant::now());
    }
}

/// Sends a text and reads it at the same time.
async fn echo(client: &mut Client, text: &[u8]) -> Result<Vec<u8>, StreamError> {
    let stream = client.open().await?;
    let (mut sent, mut received) = (0, Vec::new());
    let echoed = client.drive(|connection| {
        let mut send = connection.send_stream(stream);
        while sent < text.len() {
            match send.write(&text[sent..]) {
                Ok(count) => sent += count,
                Err(WriteError::Blocked) => break,
                Err(_) => return Poll::Ready(Err(StreamError::GivenUp)),
            }
            if sent == text.len() {
                send.finish().unwrap();
            }
        }
        let mut recv = connection.recv_stream(stream);
        let mut chunks = recv.read(true).unwrap();
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => received.extend_from_slice(&chunk.bytes),
                Ok(None) => return Poll::Ready(Ok(())),
                Err(ReadError::Blocked) => return Poll::Pending,
                Err(ReadError::Reset(_)) => return Poll::Ready(Err(StreamError::GivenUp)),
            }
        }
    });
    echoed.await??;
    Ok(received)
}

#[test]
fn what_goes_in_comes_out() {
    let server = Server::start();
    block_on(async {
        let mut client = server.connect().await;
        // More than any window, and many small ones at a time.
        let long: Vec<u8> = (0..20_000_000u32).map(|n| b'a' + (n % 23) as u8).collect();
        assert!(echo(&mut client, &long).await.unwrap() == long);
        for _ in 0..6 {
            let mut streams = Vec::new();
            for _ in 0..50 {
                streams.push(client.open().await.unwrap());
            }
            for &stream in &streams {
                client.write_all(stream, b"short").await.unwrap();
                client.finish(stream);
            }
            for stream in streams {
                assert_eq!(client.read(stream).await.unwrap().unwrap(), "short");
                assert_eq!(client.read(stream).await.unwrap(), None);
            }
        }
    });
}

#[test]
fn a_connection_that_panics_goes_alone() {
    let server = Server::start();
    block_on(async {
        let mut unlucky = server.connect().await;
        let mut other = server.connect().await;
        assert_eq!(echo(&mut other, b"before").await.unwrap(), b"before");
        assert!(echo(&mut unlucky, b"! fail").await.is_err());
        assert_eq!(
            unlucky.ended().await,
            ConnectionError::Reset,
            "its peer learns that nobody knows it any more"
        );
        assert_eq!(echo(&mut other, b"after").await.unwrap(), b"after");
        assert_eq!(server.counts.gone.load(Ordering::SeqCst), 1);
        // Its place is there for others.
        let mut third = server.connect().await;
        assert_eq!(echo(&mut third, b"new").await.unwrap(), b"new");
    });
}

#[test]
fn connections_that_are_gone_leave_nothing() {
    let server = Server::start();
    block_on(async {
        for _ in 0..20 {
            let mut client = server.connect().await;
            assert_eq!(echo(&mut client, b"hello").await.unwrap(), b"hello");
            client.close(0u32.into(), b"");
            client.gone().await;
        }
    });
    while server.counts.gone.load(Ordering::SeqCst) < 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.counts.begun.load(Ordering::SeqCst), 20);
}

#[test]
fn a_connection_that_is_dropped_is_closed() {
    let server = Server::start();
    drop(block_on(server.connect()));
    // Long before it would have been dropped for its silence.
    while server.counts.gone.load(Ordering::SeqCst) < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_came_can_be_read_after_the_end() {
    let server = Server::start();
    block_on(async {
        let mut client = server.connect().await;
        let stream = client.open().await.unwrap();
        client.write_all(stream, b"hello").await.unwrap();
        client.finish(stream);
        let come = client.drive(|connection| match connection.stats().frame_rx.stream {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        });
        come.await.unwrap();
        client.close(0u32.into(), b"");
        client.gone().await;
        assert_eq!(client.lost(), Some(&ConnectionError::LocallyClosed));
        assert_eq!(client.read(stream).await.unwrap().unwrap(), "hello");
        assert!(client.open().await.is_err());
    });
}
