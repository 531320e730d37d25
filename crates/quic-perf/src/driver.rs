//! Runs a [`Peer`] over the sans-I/O library: one task, one socket, one timer. What has come is taken in before anything is
//! sent.

use crate::peer::{Action, Event, Peer, Send, Time};
use crate::protocol::PAYLOAD;
use crate::socket::{Inbox, Outbox, Socket};
use coquic::quic::{ClientConfig, Endpoint};
use coquic::{
    Effect, InboundDatagram, Lifecycle, LocalError, LocalErrorCode, QueryResult, RouteHandle, SendStreamData,
    StateChange, Status,
};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Payload is handed over in pieces of that size...
const PIECE: usize = 64 * 1024;
/// ... and of each connection so much before it was sent.
const AHEAD: u64 = 128 * 1024;
/// Of a full datagram, this much may be something else than payload.
const OVERHEAD: usize = 64;
/// Peers that are remembered.
const ROUTES: usize = if cfg!(target_pointer_width = "32") { 4096 } else { 65_536 };
/// The longest to wait for what was said last to be heard.
const GOODBYE: Time = 2_000_000;
/// Rounds of sending between two of receiving.
const ROUNDS: usize = 4;

static PIECES: [u8; PIECE] = [PAYLOAD; PIECE];

/// Where a client connects to.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: String,
}

/// Runs until the peer is finished, or told to stop.
pub(crate) async fn run<P: Peer>(
    endpoint: Endpoint,
    socket: Socket,
    target: Option<Target>,
    peer: &mut P,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut driver = Driver {
        endpoint,
        socket,
        target,
        peer,
        start: Instant::now(),
        inbox: Inbox::new(),
        outbox: Outbox::default(),
        routes: Routes::default(),
        uploads: HashMap::new(),
        actions: Vec::new(),
        sends: Vec::new(),
        came: Vec::new(),
        goodbye: None,
    };
    driver.run(pin!(stop)).await
}

struct Driver<'a, P> {
    endpoint: Endpoint,
    socket: Socket,
    target: Option<Target>,
    peer: &'a mut P,
    start: Instant,
    inbox: Inbox,
    outbox: Outbox,
    routes: Routes,
    /// Connections with payload that the endpoint was not given yet.
    uploads: HashMap<u64, Upload>,
    actions: Vec<Action>,
    /// To be handed over.
    sends: Vec<Send>,
    /// Which way each item of the inbox came.
    came: Vec<RouteHandle>,
    /// When to end, once the peer is finished.
    goodbye: Option<Time>,
}

#[derive(Debug, Default)]
struct Upload {
    sends: VecDeque<Send>,
    /// Bytes that were handed over and, as far as one can see, not sent.
    ahead: u64,
}

/// What ends waiting.
enum Woken {
    Received,
    Due,
    Stopped,
}

impl<P: Peer> Driver<'_, P> {
    async fn run(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), String> {
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut now = self.now();
        self.tell(Event::Tick, now)?;
        loop {
            // The endpoint's work can be endless, so others get their turn.
            for _ in 0..ROUNDS {
                if self.endpoint.next_wakeup().is_none_or(|due| due > now) {
                    break;
                }
                let result = self.endpoint.timer_expired(now).map_err(defect)?;
                self.take(&result, now);
                self.act(now)?;
            }
            if !self.peer.finished() && self.peer.deadline().is_some_and(|due| due <= now) {
                self.tell(Event::Tick, now)?;
            }
            self.upload(now)?;
            self.flush().await?;
            if self.peer.finished() {
                // What was sent last may get lost; the client goes when it has everything.
                let goodbye = *self.goodbye.get_or_insert(now + GOODBYE);
                if self.endpoint.connection_count() == 0 || now >= goodbye {
                    return Ok(());
                }
            }
            match poll_fn(|context| self.poll(context, sleep.as_mut(), stop.as_mut())).await {
                Woken::Received => {
                    now = self.now();
                    self.receive(now)?;
                }
                Woken::Due => now = self.now(),
                Woken::Stopped => {
                    now = self.now();
                    self.tell(Event::Stop, now)?;
                }
            }
        }
    }

    fn now(&self) -> Time {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Woken> {
        // There is nothing to be done about an error but to try again.
        if self.socket.poll_receive(context, &mut self.inbox).is_ready() {
            return Poll::Ready(Woken::Received);
        }
        if stop.poll(context).is_ready() {
            return Poll::Ready(Woken::Stopped);
        }
        let dues = [self.endpoint.next_wakeup(), self.goodbye.or_else(|| self.peer.deadline())];
        let due = dues.into_iter().flatten().min();
        let Some(due) = due else { return Poll::Pending };
        let due = self.start + Duration::from_micros(due);
        loop {
            // Times mostly move on: a timer that goes off too early costs less than setting it each time.
            if sleep.deadline() > due.into() || sleep.is_elapsed() {
                if due <= Instant::now() {
                    return Poll::Ready(Woken::Due);
                }
                sleep.as_mut().reset(due.into());
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn receive(&mut self, now: Time) -> Result<(), String> {
        let inbox = std::mem::take(&mut self.inbox);
        self.came.clear();
        self.came.extend(inbox.received().map(|received| self.routes.of(received.from)));
        let datagrams = inbox.received().zip(&self.came).flat_map(|(received, route)| {
            let identity = self.routes.identity(*route);
            received.datagrams.map(move |bytes| InboundDatagram {
                bytes,
                route_handle: Some(*route),
                address_validation_identity: identity,
                ecn: received.ecn,
            })
        });
        let result = self.endpoint.receive_datagrams(datagrams, now).map_err(defect)?;
        self.take(&result, now);
        self.inbox = inbox;
        self.tell(Event::Progress, now)
    }

    fn tell(&mut self, event: Event<'_>, now: Time) -> Result<(), String> {
        self.peer.handle(event, now, &mut self.actions);
        self.act(now)
    }

    /// Takes what a call gave.
    fn take(&mut self, result: &QueryResult, now: Time) {
        if let Ok(Some(LocalError { connection: Some(connection), code, .. })) = result.local_error()
            && code == LocalErrorCode::FlowControlViolation
        {
            // Other refusals follow from what the peer did, of which there is an event.
            self.actions.push(Action::Close { connection, reason: "too much waits to be sent" });
        }
        for transmit in result.transmits() {
            if let Some(upload) = self.uploads.get_mut(&transmit.connection) {
                let overhead = transmit.bytes.len().div_ceil(transmit.segment_size) * OVERHEAD;
                upload.ahead =
                    upload.ahead.saturating_sub(transmit.bytes.len().saturating_sub(overhead) as u64);
            }
            self.outbox.push(&self.socket, &transmit, |route| self.routes.address(route));
        }
        // The data that came with the end of a handshake is in front of it, but the peer wants to hear of a connection first.
        for effect in result.events() {
            if let Effect::StateEvent { connection, change: StateChange::HandshakeReady } = effect {
                self.peer.handle(Event::Ready { connection }, now, &mut self.actions);
            }
        }
        for effect in result.events() {
            let event = match effect {
                Effect::ReceiveStreamData { connection, stream_id, bytes, fin, .. } => {
                    Event::Data { connection, stream: stream_id, bytes, fin }
                }
                Effect::PeerResetStream { connection, stream_id, .. }
                | Effect::PeerStopSending { connection, stream_id, .. } => {
                    Event::Reset { connection, stream: stream_id }
                }
                Effect::StateEvent { connection, change: StateChange::Failed } => {
                    Event::Closed { connection, failed: true }
                }
                Effect::ConnectionLifecycleEvent { connection, event: Lifecycle::Closed } => {
                    self.uploads.remove(&connection);
                    Event::Closed { connection, failed: false }
                }
                _ => continue,
            };
            self.peer.handle(event, now, &mut self.actions);
        }
    }

    /// Does what the peer wants, and what it wants then.
    fn act(&mut self, now: Time) -> Result<(), String> {
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                match action {
                    Action::Send(send)
                        if send.payload <= PIECE as u64 && !self.uploads.contains_key(&send.connection) =>
                    {
                        self.sends.push(send);
                    }
                    // In order, behind what waits already.
                    Action::Send(send) => {
                        self.uploads.entry(send.connection).or_default().sends.push_back(send);
                    }
                    Action::Connect { connection } => self.connect(connection, now)?,
                    Action::Close { connection, reason } => {
                        self.send_all(now)?;
                        self.uploads.remove(&connection);
                        let result = self.endpoint.connection(connection).close(0, reason.as_bytes(), now);
                        self.take(&result.map_err(defect)?, now);
                    }
                }
            }
            self.send_all(now)?;
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
        Ok(())
    }

    /// Hands over what is in `sends`.
    fn send_all(&mut self, now: Time) -> Result<(), String> {
        if self.sends.is_empty() {
            return Ok(());
        }
        let inputs = self.sends.iter_mut().map(|send| {
            let payload = &PIECES[..send.payload as usize];
            let bytes = if send.head.is_empty() {
                payload
            } else {
                send.head.extend_from_slice(payload);
                &send.head
            };
            let data = SendStreamData { stream_id: send.stream, bytes, fin: send.fin, priority: 0 };
            (send.connection, data)
        });
        let result = self.endpoint.send_streams(inputs, now).map_err(defect)?;
        self.sends.clear();
        self.take(&result, now);
        Ok(())
    }

    fn connect(&mut self, connection: u64, now: Time) -> Result<(), String> {
        let Some(target) = &self.target else { return Ok(()) };
        let mut id = connection.to_be_bytes();
        id[0] = 0xc1;
        // The server's first id is left to the library: it must be different with every client.
        let mut config = ClientConfig::new(id, Vec::new());
        config.core.server_name = target.server_name.clone().into();
        config.initial_route_handle = self.routes.of(target.address);
        let connected = self.endpoint.connect(config, now).map_err(defect)?;
        if connected.connection.handle() != connection {
            return Err("client core did not open a connection".into());
        }
        self.take(&connected.result, now);
        Ok(())
    }

    /// Hands over payload, as much as there is room for.
    fn upload(&mut self, now: Time) -> Result<(), String> {
        if self.uploads.is_empty() {
            return Ok(());
        }
        if !self.endpoint.has_pending_stream_send() {
            self.uploads.values_mut().for_each(|upload| upload.ahead = 0);
        }
        let connections: Vec<u64> = self.uploads.keys().copied().collect();
        for connection in connections {
            while !self.outbox.is_full()
                && let Some(upload) = self.uploads.get_mut(&connection)
                && upload.ahead < AHEAD
            {
                let Some(send) = upload.sends.front_mut() else {
                    self.uploads.remove(&connection);
                    break;
                };
                let payload = send.payload.min(PIECE as u64);
                send.payload -= payload;
                upload.ahead += payload;
                let (stream, head) = (send.stream, std::mem::take(&mut send.head));
                let last = send.payload == 0;
                let fin = last && send.fin;
                if last {
                    upload.sends.pop_front();
                }
                self.sends.push(Send { connection, stream, head, payload, fin });
                self.send_all(now)?;
            }
        }
        self.act(now)
    }

    async fn flush(&mut self) -> Result<(), String> {
        let routes = &self.routes;
        let sent = self.socket.send(&mut self.outbox, |route| routes.address(route)).await;
        sent.map_err(|error| format!("cannot send: {error}"))
    }
}

/// Peers' addresses by number. The oldest is forgotten when there are too many: it gets another number when it is heard again.
#[derive(Debug, Default)]
struct Routes {
    peers: VecDeque<Route>,
    numbers: HashMap<SocketAddr, RouteHandle>,
    forgotten: u64,
    last: Option<(SocketAddr, RouteHandle)>,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    address: SocketAddr,
    identity: [u8; 19],
    identity_length: usize,
}

impl Routes {
    fn of(&mut self, address: SocketAddr) -> RouteHandle {
        if let Some((last, route)) = self.last
            && last == address
        {
            return route;
        }
        let route = match self.numbers.get(&address) {
            Some(route) => *route,
            None => self.add(address),
        };
        self.last = Some((address, route));
        route
    }

    fn address(&self, route: RouteHandle) -> Option<SocketAddr> {
        self.get(route).map(|route| route.address)
    }

    /// What stands for the address.
    fn identity(&self, route: RouteHandle) -> &[u8] {
        self.get(route).map_or(&[], |route| &route.identity[..route.identity_length])
    }

    fn get(&self, route: RouteHandle) -> Option<&Route> {
        self.peers.get(usize::try_from(route.checked_sub(self.forgotten + 1)?).ok()?)
    }

    fn add(&mut self, address: SocketAddr) -> RouteHandle {
        if self.peers.len() == ROUTES
            && let Some(oldest) = self.peers.pop_front()
        {
            self.numbers.remove(&oldest.address);
            self.forgotten += 1;
        }
        let (identity, identity_length) = identity(address);
        self.peers.push_back(Route { address, identity, identity_length });
        let route = self.forgotten + self.peers.len() as u64;
        self.numbers.insert(address, route);
        route
    }
}

/// What stands for an address, and its length.
fn identity(address: SocketAddr) -> ([u8; 19], usize) {
    let mut identity = [0; 19];
    let length = match address.ip() {
        IpAddr::V4(ip) => {
            identity[0] = 4;
            identity[1..5].copy_from_slice(&ip.octets());
            7
        }
        IpAddr::V6(ip) => {
            identity[0] = 6;
            identity[1..17].copy_from_slice(&ip.octets());
            19
        }
    };
    identity[length - 2..length].copy_from_slice(&address.port().to_be_bytes());
    (identity, length)
}

fn defect(status: Status) -> String {
    format!("the library refuses: {status}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let (bytes, length) = identity("127.0.0.1:4433".parse().unwrap());
        assert_eq!(bytes[..length], [4, 127, 0, 0, 1, 0x11, 0x51]);
        let (bytes, length) = identity("[1::2]:256".parse().unwrap());
        assert_eq!(bytes[..length], [6, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0]);
    }

    #[test]
    fn the_oldest_route_is_forgotten() {
        let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], (n >> 16) as u16));
        let mut routes = Routes::default();
        for n in 0..ROUTES {
            assert_eq!(routes.of(address(n)), n as u64 + 1);
        }
        assert_eq!(routes.of(address(0)), 1);
        assert_eq!(routes.address(1), Some(address(0)));
        assert_eq!(routes.of(address(ROUTES)), ROUTES as u64 + 1);
        assert_eq!((routes.address(1), routes.address(2)), (None, Some(address(1))));
        assert_eq!(routes.of(address(0)), ROUTES as u64 + 2);
        assert_eq!((routes.address(0), routes.address(ROUTES as u64 + 3)), (None, None));
    }
}
