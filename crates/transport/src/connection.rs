//! A connection with a socket of its own, kept going by whoever waits for it.
//!
//! Nothing works in the background. Every future here, whenever the [executor](crate::executor) polls it, does all there
//! is to do for the connection, and then looks whether what it waits for is there. It can be dropped at any time.

use crate::driver::{Admission, Application, Driver, Next};
use crate::executor::{wait_for, wait_until};
use bytes::Bytes;
use nix::poll::PollFlags;
use quinn_proto::{
    ClientConfig, ConnectionError, ConnectionHandle, Dir, EndpointConfig, Event, Incoming, ReadError,
    ServerConfig, StreamId, VarInt, WriteError,
};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Instant;

/// See the module's documentation.
pub struct Connection {
    driver: Driver<()>,
    state: State,
}

struct State {
    /// The connection is the first that comes.
    awaited: bool,
    lost: Option<ConnectionError>,
    /// What it has brought can still be read.
    remains: Option<Box<quinn_proto::Connection>>,
}

/// Why nothing more goes over a stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// The other end has given the stream up, or this one has.
    #[error("the stream was given up")]
    GivenUp,
    /// Nor over any other.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
}

impl Connection {
    /// Begins a connection.
    pub fn connect(config: ClientConfig, remote: SocketAddr, server_name: &str) -> io::Result<Self> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let mut driver = Driver::client(any, EndpointConfig::default())?;
        driver.connect(config, remote, server_name, (), Instant::now()).map_err(io::Error::other)?;
        Ok(Self { driver, state: State { awaited: false, lost: None, remains: None } })
    }

    /// Takes the first connection that comes to an address, and no other.
    pub fn listen(local: SocketAddr, config: ServerConfig) -> io::Result<Self> {
        let driver = Driver::listen(local, EndpointConfig::default(), config)?;
        Ok(Self { driver, state: State { awaited: true, lost: None, remains: None } })
    }

    /// The address at this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.driver.local_addr()
    }

    /// Why the connection is no more.
    pub fn lost(&self) -> Option<&ConnectionError> {
        self.state.lost.as_ref()
    }

    /// Closes the connection, with a reason for the other end. What it has brought can still be read.
    pub fn close(&mut self, code: VarInt, reason: &[u8]) {
        let now = Instant::now();
        self.turn(now, &mut |connection| connection.close(now, code, Bytes::copy_from_slice(reason)));
        self.state.lost.get_or_insert(ConnectionError::LocallyClosed);
    }

    /// Keeps the connection going until `work`, at one of its turns, is done or the connection is lost.
    pub async fn drive<T>(
        &mut self,
        mut work: impl FnMut(&mut quinn_proto::Connection) -> Poll<T>,
    ) -> Result<T, ConnectionError> {
        poll_fn(|_| {
            let mut done = Poll::Pending;
            self.turn(Instant::now(), &mut |connection| done = work(connection));
            match (std::mem::replace(&mut done, Poll::Pending), &self.state.lost) {
                (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
                (Poll::Pending, Some(lost)) => Poll::Ready(Err(lost.clone())),
                (Poll::Pending, None) => self.wait(),
            }
        })
        .await
    }

    /// Waits for the end of the handshake.
    pub async fn established(&mut self) -> Result<(), ConnectionError> {
        self.drive(|connection| match connection.is_handshaking() || connection.is_closed() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await
    }

    /// Bytes that only the two ends know; `None` before they agree on them.
    pub fn export(&mut self, label: &[u8]) -> Option<[u8; 32]> {
        let mut exported = None;
        self.turn(Instant::now(), &mut |connection| {
            let mut bytes = [0; 32];
            let result = connection.crypto_session().export_keying_material(&mut bytes, label, b"");
            exported = result.is_ok().then_some(bytes);
        });
        exported
    }

    /// Opens a stream.
    pub async fn open(&mut self) -> Result<StreamId, ConnectionError> {
        self.drive(|connection| connection.streams().open(Dir::Bi).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Takes the next stream that the other end has opened.
    pub async fn accept(&mut self) -> Result<StreamId, ConnectionError> {
        self.drive(|connection| connection.streams().accept(Dir::Bi).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Writes all of this. If the future is dropped, a part of it may be on its way.
    pub async fn write_all(&mut self, stream: StreamId, mut bytes: &[u8]) -> Result<(), StreamError> {
        let written = self.drive(|connection| {
            let mut stream = connection.send_stream(stream);
            while !bytes.is_empty() {
                match stream.write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(WriteError::Blocked) => return Poll::Pending,
                    Err(_) => return Poll::Ready(Err(StreamError::GivenUp)),
                }
            }
            Poll::Ready(Ok(()))
        });
        written.await?
    }

    /// Nothing more is written.
    pub fn finish(&mut self, stream: StreamId) {
        self.turn(Instant::now(), &mut |connection| drop(connection.send_stream(stream).finish()));
    }

    /// Reads what there is, or what comes next; `None` at the end.
    pub async fn read(&mut self, stream: StreamId) -> Result<Option<Bytes>, StreamError> {
        let read = self.drive(|connection| {
            let mut stream = connection.recv_stream(stream);
            let next = match stream.read(true) {
                Ok(mut chunks) => chunks.next(usize::MAX),
                Err(_) => return Poll::Ready(Err(StreamError::GivenUp)),
            };
            match next {
                Ok(chunk) => Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes))),
                Err(ReadError::Blocked) => Poll::Pending,
                Err(ReadError::Reset(_)) => Poll::Ready(Err(StreamError::GivenUp)),
            }
        });
        read.await?
    }

    /// Waits for the connection's end.
    pub async fn ended(&mut self) -> ConnectionError {
        match self.drive(|_| Poll::<ConnectionError>::Pending).await {
            Ok(lost) | Err(lost) => lost,
        }
    }

    /// Once it is lost: waits until the other end knows or cannot be reached.
    pub async fn gone(&mut self) {
        poll_fn(|_| {
            self.turn(Instant::now(), &mut |_| {});
            if self.driver.is_empty() { Poll::Ready(()) } else { self.wait() }
        })
        .await;
    }

    /// Does all that there is to do, `work` included.
    fn turn(&mut self, now: Instant, work: &mut dyn FnMut(&mut quinn_proto::Connection)) {
        if let Some(connection) = &mut self.state.remains {
            return work(connection);
        }
        self.driver.wake_all();
        self.driver.turn(&mut Turn { state: &mut self.state, work }, true, true, now);
    }

    /// Waits for whatever moves the connection.
    fn wait<T>(&self) -> Poll<T> {
        let write = if self.driver.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        wait_for(self.driver.socket(), PollFlags::POLLIN | write);
        self.driver.deadline(Instant::now()).into_iter().for_each(wait_until);
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.state.lost.is_none() {
            self.close(VarInt::from_u32(0), b"");
        }
    }
}

/// One turn of the one connection.
struct Turn<'a> {
    state: &'a mut State,
    work: &'a mut dyn FnMut(&mut quinn_proto::Connection),
}

impl Application for Turn<'_> {
    type Session = ();

    fn admit(&mut self, _: &Incoming, _: Instant) -> Admission<()> {
        if std::mem::take(&mut self.state.awaited) { Admission::Accept(()) } else { Admission::Ignore }
    }

    fn turn(
        &mut self,
        _: ConnectionHandle,
        connection: &mut quinn_proto::Connection,
        (): &mut (),
        _: Instant,
    ) -> Next {
        while let Some(event) = connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                self.state.lost.get_or_insert(reason);
            }
        }
        (self.work)(connection);
        Next::default()
    }

    fn gone(&mut self, (): (), remains: Option<quinn_proto::Connection>) {
        // Without an event of it, serving it has failed here.
        self.state.lost.get_or_insert(ConnectionError::LocallyClosed);
        self.state.remains = remains.map(Box::new);
    }
}
