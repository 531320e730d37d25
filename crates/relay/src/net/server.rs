//! All listeners and what they serve, as one thing that is waited for with poll(2).

use super::gate::{Gate, Places, Worth};
use super::hub::{Hub, SessionId};
use super::session::Session;
use crate::bounds::NetBounds;
use nix::poll::{PollFd, PollFlags};
use qpc_transport::driver::{Admission, Application, Driver, Next};
use quinn_proto::{Connection, ConnectionHandle, Incoming, ServerConfig};
use std::os::fd::AsFd;
use std::time::Instant;

/// What all connections share.
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) bounds: NetBounds,
    pub(super) gate: Gate,
    /// For bulk requests.
    pub(super) places: Places,
    max_connections: usize,
    /// Every connection is to be closed, and none to be taken.
    pub(super) closing: bool,
}

impl Shared {
    /// Has whoever is to have a free place come for it.
    pub(super) fn offer_place(&mut self) {
        if let Some(session) = self.places.next() {
            self.hub.wake(session);
        }
    }
}

/// See the module's documentation.
pub(crate) struct Server {
    listeners: Vec<Driver<Session>>,
    shared: Shared,
}

impl Server {
    pub(crate) fn new(
        hub: Hub,
        listeners: Vec<Driver<Session>>,
        bounds: NetBounds,
        max_connections: usize,
    ) -> Self {
        let gate = Gate::new(&bounds, Instant::now());
        let places = Places::new(bounds.bulk_requests);
        let shared = Shared { hub, bounds, gate, places, max_connections, closing: false };
        Self { listeners, shared }
    }

    pub(crate) fn hub(&mut self) -> &mut Hub {
        &mut self.shared.hub
    }

    /// Shows new connections something else from now on.
    pub(crate) fn set_config(&mut self, config: &ServerConfig) {
        self.listeners.iter_mut().for_each(|listener| listener.set_server_config(config.clone()));
    }

    /// Adds what is to be waited for.
    pub(crate) fn wait_for<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(self.shared.hub.as_fd(), PollFlags::POLLIN));
        for listener in &self.listeners {
            let write = if listener.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN | write));
        }
    }

    /// When the next turn is due at the latest.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let woken = self.shared.hub.anyone_woken().then_some(now);
        self.listeners.iter().filter_map(|listener| listener.deadline(now)).chain(woken).min()
    }

    /// Does a bounded piece of what there is to do; `ready` is what poll(2) said of what [`Server::wait_for`] added.
    pub(crate) fn turn(&mut self, ready: &[PollFlags], now: Instant) {
        let [synced, sockets @ ..] = ready else { return };
        if !synced.is_empty() {
            self.shared.hub.finish_sync();
        }
        self.wake();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let flags = sockets.get(index).copied().unwrap_or(PollFlags::empty());
            let readable = flags.intersects(!PollFlags::POLLOUT);
            let writable = flags.intersects(!PollFlags::POLLIN);
            listener.turn(&mut Listener { shared: &mut self.shared, index }, readable, writable, now);
        }
        self.wake();
    }

    /// Lets every connection go.
    pub(crate) fn close(&mut self) {
        self.shared.closing = true;
        self.listeners.iter_mut().for_each(Driver::wake_all);
    }

    /// Whether all have gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.iter().all(Driver::is_empty)
    }

    fn wake(&mut self) {
        for session in self.shared.hub.take_woken() {
            if let Some(listener) = self.listeners.get_mut(session.listener) {
                listener.wake(session.connection);
            }
        }
    }
}

/// Connections of one listener.
struct Listener<'a> {
    shared: &'a mut Shared,
    index: usize,
}

impl Application for Listener<'_> {
    type Session = Session;

    fn admit(&mut self, incoming: &Incoming, now: Instant) -> Admission<Session> {
        let shared = &mut *self.shared;
        if shared.closing || shared.hub.connections >= shared.max_connections {
            return Admission::Refuse;
        }
        match shared.gate.enter(incoming, &shared.bounds, now) {
            Worth::Handshake => Admission::Accept(Session::new(now + shared.bounds.handshake_time)),
            Worth::Retry => Admission::Retry,
            Worth::Nothing => Admission::Ignore,
        }
    }

    fn turn(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        session: &mut Session,
        now: Instant,
    ) -> Next {
        let id = SessionId { listener: self.index, connection: handle };
        session.turn(id, connection, self.shared, now)
    }

    fn gone(&mut self, mut session: Session, _: Option<Connection>) {
        session.end(self.shared);
    }
}
