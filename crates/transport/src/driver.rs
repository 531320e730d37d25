//! QUIC over one UDP socket, on one thread, without a runtime.
//!
//! `quinn_proto` is the protocol without sockets and clocks; the driver gives it both. Whoever owns it waits for the
//! [socket](Driver::as_fd) with poll(2) and calls [`Driver::turn`], in which data flows one way: datagrams and timers go
//! into connections; each connection that something happened to has its turn at the [`Application`], which reads and
//! writes streams; what came of it leaves as packets. A turn does a bounded piece of work and never blocks.
//!
//! A connection is one allocation besides what `quinn_proto` makes, and has at most one entry among the timers.

use crate::socket::{Sent, Socket, ecn};
use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, ConnectError, Connection, ConnectionEvent, ConnectionHandle, DatagramEvent, Endpoint,
    EndpointConfig, EndpointEvent, Incoming, ServerConfig, Transmit,
};
use quinn_udp::RecvMeta;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// What connections are for.
pub trait Application {
    /// What is kept for each connection.
    type Session;

    /// Decides what a first packet is worth, before anything is spent on it.
    fn admit(&mut self, incoming: &Incoming, now: Instant) -> Admission<Self::Session>;

    /// Gives a connection its turn: takes all its [events](Connection::poll), reads and writes its streams. It comes after
    /// every packet and timeout, after [`Driver::wake`], and at the deadline it asked for last.
    fn turn(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        session: &mut Self::Session,
        now: Instant,
    ) -> Next;

    /// The connection is no more. What it had brought can still be read from what remains of it, if it ended in order.
    fn gone(&mut self, session: Self::Session, remains: Option<Connection>);
}

/// What becomes of a first packet.
#[derive(Debug)]
pub enum Admission<S> {
    /// The handshake begins.
    Accept(S),
    /// The peer is told that there is no room.
    Refuse,
    /// The peer has to show first that its address is its own. One that has is ignored.
    Retry,
    /// Nobody is told anything.
    Ignore,
}

/// When a connection wants its next turn, whatever the network does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Next {
    /// As soon as all others had theirs.
    pub soon: bool,
    /// At this time.
    pub deadline: Option<Instant>,
}

/// See the module's documentation.
pub struct Driver<S> {
    port: Port,
    endpoint: Endpoint,
    /// By handle.
    slots: Vec<Option<Box<Slot<S>>>>,
    timers: BTreeSet<(Instant, ConnectionHandle)>,
    /// Connections that want a turn.
    ready: VecDeque<ConnectionHandle>,
    /// Connections that had packets when the socket took no more, each once.
    stalled: Vec<ConnectionHandle>,
    received: Box<[u8]>,
}

/// A connection and what belongs to it.
struct Slot<S> {
    connection: Connection,
    session: S,
    /// Its entry among the timers. It may be too early, which costs a turn with nothing to do; moving it with every packet
    /// would cost more.
    timer: Option<Instant>,
    ready: bool,
    stalled: bool,
}

impl<S> Driver<S> {
    /// Binds a socket and takes connections there.
    pub fn listen(local: SocketAddr, endpoint: EndpointConfig, server: ServerConfig) -> io::Result<Self> {
        Self::bind(local, endpoint, Some(Arc::new(server)))
    }

    /// Binds a socket for connections to others, and takes none.
    pub fn client(local: SocketAddr, endpoint: EndpointConfig) -> io::Result<Self> {
        Self::bind(local, endpoint, None)
    }

    fn bind(
        local: SocketAddr,
        endpoint: EndpointConfig,
        server: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let socket = Socket::bind(local)?;
        let room =
            usize::try_from(endpoint.get_max_udp_payload_size()).unwrap_or(usize::MAX).min(MAX_DATAGRAM);
        Ok(Self {
            endpoint: Endpoint::new(Arc::new(endpoint), server, !socket.may_fragment(), None),
            port: Port { socket, packets: Vec::new(), unsent: None },
            slots: Vec::new(),
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            stalled: Vec::new(),
            received: vec![0; room * BATCH].into(),
        })
    }

    /// Begins a connection to somebody else.
    pub fn connect(
        &mut self,
        config: ClientConfig,
        remote: SocketAddr,
        server_name: &str,
        session: S,
        now: Instant,
    ) -> Result<ConnectionHandle, ConnectError> {
        let (handle, connection) = self.endpoint.connect(now, config, remote, server_name)?;
        self.insert(handle, connection, session);
        Ok(handle)
    }

    /// The socket, to be waited for by who cannot borrow the driver meanwhile.
    pub fn socket(&self) -> Arc<UdpSocket> {
        self.port.socket.share()
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.socket.local_addr()
    }

    /// Shows new connections something else from now on.
    pub fn set_server_config(&mut self, config: ServerConfig) {
        self.endpoint.set_server_config(Some(Arc::new(config)));
    }

    /// Whether a turn is to follow once the socket is writable.
    pub fn wants_to_write(&self) -> bool {
        self.port.unsent.is_some()
    }

    /// When the next turn is due at the latest; a time that has passed if there is work now.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.ready.is_empty() { self.timers.first().map(|(time, _)| *time) } else { Some(now) }
    }

    /// Whether there are no connections, not even such that are just going.
    pub fn is_empty(&self) -> bool {
        self.endpoint.open_connections() == 0
    }

    /// Has a connection get a turn.
    pub fn wake(&mut self, handle: ConnectionHandle) {
        if let Some(slot) = slot(&mut self.slots, handle) {
            slot.wake(handle, &mut self.ready);
        }
    }

    /// Has every connection get a turn.
    pub fn wake_all(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) = slot {
                slot.wake(ConnectionHandle(index), &mut self.ready);
            }
        }
    }

    /// Does a piece of what there is to do; `readable` and `writable` is what poll(2) says of the socket.
    pub fn turn<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        readable: bool,
        writable: bool,
        now: Instant,
    ) {
        if writable && self.port.flush() == Sent::Done {
            let mut stalled = std::mem::take(&mut self.stalled);
            // The first may fill the socket again: next time another one is first.
            let first = stalled.len().min(1);
            stalled.rotate_left(first);
            for handle in stalled {
                if let Some(slot) = slot(&mut self.slots, handle) {
                    slot.stalled = false;
                    slot.wake(handle, &mut self.ready);
                }
            }
        }
        if readable {
            self.receive(app, now);
        }
        while let Some(&(_, handle)) = self.timers.first().filter(|(time, _)| *time <= now) {
            self.timers.pop_first();
            if let Some(slot) = slot(&mut self.slots, handle) {
                slot.timer = None;
                slot.wake(handle, &mut self.ready);
            }
        }
        // Not those that want another turn already.
        for _ in 0..self.ready.len() {
            if let Some(handle) = self.ready.pop_front() {
                self.serve(app, handle, now);
            }
        }
    }

    /// Takes datagrams, but not so many that timers and other sockets would wait for long.
    fn receive<A: Application<Session = S>>(&mut self, app: &mut A, now: Instant) {
        let mut received = std::mem::take(&mut self.received);
        let room = received.len() / BATCH;
        let mut budget = BURST;
        while budget > 0 {
            let mut parts = received.chunks_mut(room);
            let mut buffers: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            let mut meta = [RecvMeta::default(); BATCH];
            let count = self.port.socket.receive(&mut buffers, &mut meta);
            for (meta, buffer) in meta.iter().zip(&buffers).take(count) {
                let cost = self.datagram(app, meta, BytesMut::from(&buffer[..meta.len]), now);
                budget = budget.saturating_sub(cost);
            }
            if count < BATCH {
                break;
            }
        }
        self.received = received;
    }

    /// Takes one datagram. What that cost, compared with others.
    fn datagram<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        meta: &RecvMeta,
        data: BytesMut,
        now: Instant,
    ) -> usize {
        // An answer to port 0 is an error by which quinn_udp takes GSO for broken.
        if meta.addr.port() == 0 {
            return 1;
        }
        let mut answer = Vec::new();
        match self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn(meta), data, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.packet(app, handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => return self.admit(app, incoming, now),
            Some(DatagramEvent::Response(transmit)) => self.port.answer(&transmit, &answer),
            None => {}
        }
        1
    }

    fn packet<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        handle: ConnectionHandle,
        event: ConnectionEvent,
    ) {
        let Some(slot) = slot(&mut self.slots, handle) else { return };
        match catch_unwind(AssertUnwindSafe(|| slot.connection.handle_event(event))) {
            Ok(()) => slot.wake(handle, &mut self.ready),
            Err(_) => self.lose(app, handle),
        }
    }

    fn admit<A: Application<Session = S>>(&mut self, app: &mut A, incoming: Incoming, now: Instant) -> usize {
        let mut answer = Vec::new();
        let response = match app.admit(&incoming, now) {
            Admission::Accept(session) => {
                match self.endpoint.accept(incoming, now, &mut answer, None) {
                    Ok((handle, connection)) => self.insert(handle, connection, session),
                    Err(error) => {
                        app.gone(session, None);
                        error.response.iter().for_each(|response| self.port.answer(response, &answer));
                    }
                }
                return HANDSHAKE_COST;
            }
            Admission::Refuse => Some(self.endpoint.refuse(incoming, &mut answer)),
            Admission::Retry => match self.endpoint.retry(incoming, &mut answer) {
                Ok(retry) => Some(retry),
                Err(error) => {
                    self.endpoint.ignore(error.into_incoming());
                    None
                }
            },
            Admission::Ignore => {
                self.endpoint.ignore(incoming);
                None
            }
        };
        response.iter().for_each(|response| self.port.answer(response, &answer));
        1
    }

    fn insert(&mut self, handle: ConnectionHandle, connection: Connection, session: S) {
        if self.slots.len() <= handle.0 {
            self.slots.resize_with(handle.0 + 1, || None);
        }
        self.slots[handle.0] =
            Some(Box::new(Slot { connection, session, timer: None, ready: false, stalled: false }));
        self.wake(handle);
    }

    /// Gives a connection its turn, and sends what it has to send.
    fn serve<A: Application<Session = S>>(&mut self, app: &mut A, handle: ConnectionHandle, now: Instant) {
        let Self { port, endpoint, slots, timers, ready, stalled, .. } = self;
        let Some(slot) = slot(slots, handle) else { return };
        slot.ready = false;
        let worked = catch_unwind(AssertUnwindSafe(|| slot.turn(app, handle, endpoint, port, now)));
        match worked {
            Ok(Turn::Over) => {
                if let Some(slot) = self.remove(handle) {
                    app.gone(slot.session, Some(slot.connection));
                }
            }
            Ok(Turn::Goes { next, sent }) => {
                match sent {
                    Progress::All if next.soon => slot.wake(handle, ready),
                    Progress::All => {}
                    Progress::Some => slot.wake(handle, ready),
                    Progress::Blocked if !slot.stalled => {
                        slot.stalled = true;
                        stalled.push(handle);
                    }
                    Progress::Blocked => {}
                }
                let due = [slot.connection.poll_timeout(), next.deadline].into_iter().flatten().min();
                slot.arm(handle, due, timers);
            }
            Err(_) => self.lose(app, handle),
        }
    }

    /// Drops a connection whose state nobody knows any more. Its peer gets a stateless reset when it sends next.
    fn lose<A: Application<Session = S>>(&mut self, app: &mut A, handle: ConnectionHandle) {
        log::error!("a connection was dropped: serving it failed");
        self.endpoint.handle_event(handle, EndpointEvent::drained());
        if let Some(slot) = self.remove(handle) {
            app.gone(slot.session, None);
        }
    }

    fn remove(&mut self, handle: ConnectionHandle) -> Option<Box<Slot<S>>> {
        let slot = self.slots.get_mut(handle.0)?.take()?;
        if let Some(time) = slot.timer {
            self.timers.remove(&(time, handle));
        }
        Some(slot)
    }
}

impl<S> AsFd for Driver<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.socket.as_fd()
    }
}

fn slot<S>(slots: &mut [Option<Box<Slot<S>>>], handle: ConnectionHandle) -> Option<&mut Slot<S>> {
    slots.get_mut(handle.0)?.as_deref_mut()
}

/// What came of a turn.
enum Turn {
    Goes {
        next: Next,
        sent: Progress,
    },
    /// The connection is no more.
    Over,
}

/// How much of what a connection has to send was sent.
enum Progress {
    All,
    Some,
    Blocked,
}

impl<S> Slot<S> {
    fn wake(&mut self, handle: ConnectionHandle, ready: &mut VecDeque<ConnectionHandle>) {
        if !self.ready {
            self.ready = true;
            ready.push_back(handle);
        }
    }

    fn arm(
        &mut self,
        handle: ConnectionHandle,
        due: Option<Instant>,
        timers: &mut BTreeSet<(Instant, ConnectionHandle)>,
    ) {
        let Some(due) = due.filter(|due| self.timer.is_none_or(|timer| *due < timer)) else { return };
        if let Some(later) = self.timer.replace(due) {
            timers.remove(&(later, handle));
        }
        timers.insert((due, handle));
    }

    fn turn<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        handle: ConnectionHandle,
        endpoint: &mut Endpoint,
        port: &mut Port,
        now: Instant,
    ) -> Turn {
        let connection = &mut self.connection;
        if connection.poll_timeout().is_some_and(|time| time <= now) {
            connection.handle_timeout(now);
        }
        let next = app.turn(handle, connection, &mut self.session, now);
        while let Some(event) = connection.poll_endpoint_events() {
            let over = event.is_drained();
            if let Some(event) = endpoint.handle_event(handle, event) {
                connection.handle_event(event);
            }
            if over {
                return Turn::Over;
            }
        }
        Turn::Goes { next, sent: port.transmit(connection, now) }
    }
}

/// The socket, and what is on its way out.
struct Port {
    socket: Socket,
    packets: Vec<u8>,
    /// `packets` are these, and the socket did not take them.
    unsent: Option<Transmit>,
}

impl Port {
    /// Sends an answer of the endpoint itself, if the socket takes it now: whoever is answered asks again.
    fn answer(&mut self, transmit: &Transmit, packet: &[u8]) {
        if self.unsent.is_none() {
            self.socket.send(transmit, packet);
        }
    }

    /// Sends what was left.
    fn flush(&mut self) -> Sent {
        let Some(transmit) = self.unsent.take() else { return Sent::Done };
        let sent = self.socket.send(&transmit, &self.packets[..transmit.size]);
        if sent == Sent::Blocked {
            self.unsent = Some(transmit);
        }
        sent
    }

    /// Sends what a connection has to send, up to a bound.
    fn transmit(&mut self, connection: &mut Connection, now: Instant) -> Progress {
        let mut left = MAX_TRANSMIT;
        while left > 0 {
            if self.unsent.is_some() {
                return Progress::Blocked;
            }
            self.packets.clear();
            let segments = self.socket.max_segments();
            self.unsent = connection.poll_transmit(now, segments, &mut self.packets);
            let Some(transmit) = &self.unsent else { return Progress::All };
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            left = left.saturating_sub(transmit.size.div_ceil(size));
            self.flush();
        }
        Progress::Some
    }
}

/// Datagrams taken with one system call.
const BATCH: usize = 8;
/// Datagrams taken in one turn.
const BURST: usize = 64;
/// A handshake's share of that: its key exchange and signature take as long as many packets.
const HANDSHAKE_COST: usize = 16;
/// Packets of one connection sent in one turn.
const MAX_TRANSMIT: usize = 20;
/// Bytes of the largest UDP datagram.
const MAX_DATAGRAM: usize = 65_527;
