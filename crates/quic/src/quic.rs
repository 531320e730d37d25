//! The facade: an endpoint that is shared with light handles of its connections and streams.
//!
//! Every call borrows the endpoint while it runs. If the endpoint is gone, or is in a call already, the answer is
//! [`Status::InvalidArgument`].

use crate::types::*;
use crate::{Endpoint as Core, QueryResult};
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// An endpoint's settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointConfig {
    /// All of them.
    pub core: crate::EndpointConfig,
}

/// A connection's settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientConfig {
    /// The connection.
    pub core: ClientConnectionConfig,
    /// The path to the server.
    pub initial_route_handle: RouteHandle,
    /// What stands for the server's address.
    pub address_validation_identity: Vec<u8>,
}

impl ClientConfig {
    /// With defaults, and these connection ids; of the second only the length counts, as
    /// [`initial_destination_connection_id`](ClientConnectionConfig::initial_destination_connection_id) says.
    pub fn new(
        source_connection_id: impl Into<Vec<u8>>,
        initial_destination_connection_id: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            core: ClientConnectionConfig {
                source_connection_id: source_connection_id.into(),
                initial_destination_connection_id: initial_destination_connection_id.into(),
                ..ClientConnectionConfig::default()
            },
            ..Self::default()
        }
    }
}

/// What [`Endpoint::connect`] gives.
#[derive(Debug)]
pub struct ConnectResult {
    /// The connection.
    pub connection: Connection,
    /// The first datagrams.
    pub result: QueryResult,
}

/// One side of QUIC.
#[derive(Debug)]
pub struct Endpoint {
    shared: Rc<RefCell<Core>>,
}

impl Endpoint {
    /// See [`crate::Endpoint::new`].
    pub fn new(config: &EndpointConfig) -> Result<Self, Status> {
        Ok(Self { shared: Rc::new(RefCell::new(Core::new(&config.core)?)) })
    }

    /// Begins a connection.
    pub fn connect(&mut self, config: ClientConfig, now: TimeUs) -> Result<ConnectResult, Status> {
        let ClientConfig { core: connection, initial_route_handle, address_validation_identity } = config;
        let open = OpenConnection { connection, initial_route_handle, address_validation_identity };
        let (handle, result) = self.with(|core| core.quic_connect(&open, now))?;
        Ok(ConnectResult { connection: self.connection(handle), result })
    }

    /// The connection of that handle, which is not looked at.
    pub fn connection(&self, handle: ConnectionHandle) -> Connection {
        Connection { endpoint: Rc::downgrade(&self.shared), handle }
    }

    /// Takes a datagram.
    pub fn receive_datagram(
        &mut self,
        datagram: InboundDatagram<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.with(|core| core.input_datagram(datagram, now))
    }

    /// Takes datagrams that came together; see [`crate::Endpoint::input_datagrams`].
    pub fn receive_datagrams<'a>(
        &mut self,
        datagrams: impl IntoIterator<Item = InboundDatagram<'a>>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.with(|core| core.input_datagrams(datagrams, now))
    }

    /// Sends data on streams of any connections; see [`crate::Endpoint::send_streams`].
    pub fn send_streams<'a>(
        &mut self,
        inputs: impl IntoIterator<Item = (ConnectionHandle, SendStreamData<'a>)>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.with(|core| core.send_streams(inputs, now))
    }

    /// Takes what a router said about the size of datagrams.
    pub fn update_path_mtu(&mut self, update: &PathMtuUpdate, now: TimeUs) -> Result<QueryResult, Status> {
        self.with(|core| core.update_path_mtu(update, now))
    }

    /// Does what is due.
    pub fn timer_expired(&mut self, now: TimeUs) -> Result<QueryResult, Status> {
        self.with(|core| core.timer_expired(now))
    }

    /// Connections whose handles are valid.
    pub fn connection_count(&self) -> usize {
        self.shared.try_borrow().map_or(0, |core| core.connection_count())
    }

    /// When [`Endpoint::timer_expired`] is to be called.
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.shared.try_borrow().ok()?.next_wakeup()
    }

    /// There is more to be sent at once: [`Endpoint::timer_expired`] gives it.
    pub fn has_send_continuation_pending(&self) -> bool {
        self.shared.try_borrow().is_ok_and(|core| core.has_send_continuation_pending())
    }

    /// Some connection has data that was not sent yet.
    pub fn has_pending_stream_send(&self) -> bool {
        self.shared.try_borrow().is_ok_and(|core| core.has_pending_stream_send())
    }

    fn with<T>(&self, run: impl FnOnce(&mut Core) -> Result<T, Status>) -> Result<T, Status> {
        run(&mut *self.shared.try_borrow_mut().map_err(|_| Status::InvalidArgument)?)
    }
}

/// A connection of an endpoint.
#[derive(Clone, Debug)]
pub struct Connection {
    endpoint: Weak<RefCell<Core>>,
    handle: ConnectionHandle,
}

impl Connection {
    /// Its handle, as in effects.
    pub fn handle(&self) -> ConnectionHandle {
        self.handle
    }

    /// Whether its endpoint is still there, and the handle not 0.
    pub fn is_valid(&self) -> bool {
        self.handle != 0 && self.endpoint.strong_count() > 0
    }

    /// One of its streams, which is not looked at.
    pub fn stream(&self, stream_id: StreamId) -> Stream {
        Stream { connection: self.clone(), id: stream_id }
    }

    /// Any of the commands.
    pub fn advance(&self, input: ConnectionInput<'_>, now: TimeUs) -> Result<QueryResult, Status> {
        let endpoint = self.endpoint.upgrade().ok_or(Status::InvalidArgument)?;
        let mut core = endpoint.try_borrow_mut().map_err(|_| Status::InvalidArgument)?;
        core.connection_advance(self.handle, input, now)
    }

    /// Sends data on a stream.
    pub fn send_stream(
        &self,
        stream_id: StreamId,
        bytes: &[u8],
        fin: bool,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let input = SendStreamData { stream_id, bytes, fin, priority: 0 };
        self.advance(ConnectionInput::SendStream(input), now)
    }

    /// Sends a datagram.
    pub fn send_datagram(&self, bytes: &[u8], now: TimeUs) -> Result<QueryResult, Status> {
        self.advance(ConnectionInput::SendDatagram(SendDatagramData { bytes, priority: 0 }), now)
    }

    /// Abandons the sending side of a stream.
    pub fn reset_stream(
        &self,
        stream_id: StreamId,
        application_error_code: u64,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.advance(ConnectionInput::ResetStream(ResetStream { stream_id, application_error_code }), now)
    }

    /// Tells the peer that nothing more is wanted on a stream.
    pub fn stop_sending(
        &self,
        stream_id: StreamId,
        application_error_code: u64,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.advance(ConnectionInput::StopSending(StopSending { stream_id, application_error_code }), now)
    }

    /// Ends the connection.
    pub fn close(
        &self,
        application_error_code: u64,
        reason_phrase: &[u8],
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let input = CloseConnection { application_error_code, reason_phrase };
        self.advance(ConnectionInput::Close(input), now)
    }

    /// Changes the keys.
    pub fn request_key_update(&self, now: TimeUs) -> Result<QueryResult, Status> {
        self.advance(ConnectionInput::RequestKeyUpdate, now)
    }

    /// Goes another way.
    pub fn request_migration(
        &self,
        migration: RequestConnectionMigration<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.advance(ConnectionInput::RequestMigration(migration), now)
    }
}

/// A stream of a connection.
#[derive(Clone, Debug)]
pub struct Stream {
    connection: Connection,
    id: StreamId,
}

impl Stream {
    /// Its id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether its connection is.
    pub fn is_valid(&self) -> bool {
        self.connection.is_valid()
    }

    /// Sends data.
    pub fn send(&self, bytes: &[u8], fin: bool, now: TimeUs) -> Result<QueryResult, Status> {
        self.connection.send_stream(self.id, bytes, fin, now)
    }

    /// Says that nothing comes after what was sent.
    pub fn finish(&self, now: TimeUs) -> Result<QueryResult, Status> {
        self.send(&[], true, now)
    }

    /// Abandons the sending side.
    pub fn reset(&self, application_error_code: u64, now: TimeUs) -> Result<QueryResult, Status> {
        self.connection.reset_stream(self.id, application_error_code, now)
    }

    /// Tells the peer that nothing more is wanted.
    pub fn stop_sending(&self, application_error_code: u64, now: TimeUs) -> Result<QueryResult, Status> {
        self.connection.stop_sending(self.id, application_error_code, now)
    }
}
