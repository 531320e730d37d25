//! The endpoint: commands in, effects out.

use crate::bounds;
use crate::connection::{Connection, Early, Path, Progress, ecn};
use crate::effect::{Output, Pool, QueryResult, Sending, What, microseconds};
use crate::ids::{ConnectionIds, FastMap, Routes, SERVER, UsedTokens};
use crate::tls::{self, Client, Clock};
use crate::types::*;
use bytes::BytesMut;
use quinn_proto::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn_proto::{
    AckFrequencyConfig, DatagramEvent, EndpointEvent, IdleTimeout, Incoming, MtuDiscoveryConfig,
    ServerConfig, TokenStore, Transmit, ValidationTokenConfig, VarInt,
};
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// QUIC without sockets, threads and clocks: one side, and all its connections.
///
/// Every call takes the time, and gives a [`QueryResult`]: datagrams to be sent, data that came, and when to call
/// [`Endpoint::timer_expired`].
#[derive(Debug)]
pub struct Endpoint {
    engine: quinn_proto::Endpoint,
    role: Role,
    ordered: bool,
    /// For tests.
    is_repeatable: bool,
    /// What the caller's time 0 is for the engine.
    start: Instant,
    now: TimeUs,
    /// The same for the engine.
    instant: Instant,
    clock: Arc<Clock>,
    ids: ConnectionIds,
    /// As a client.
    client: Option<Client>,
    transport: Arc<quinn_proto::TransportConfig>,
    /// As a server: for addresses with an identity, and for those without, which get no tokens for later.
    server: Option<[Arc<ServerConfig>; 2]>,
    retry: bool,
    max_connections: usize,
    /// By the engine's numbers for them.
    connections: Vec<Option<Box<Connection>>>,
    handles: FastMap<ConnectionHandle, usize>,
    last_handle: ConnectionHandle,
    half_open: usize,
    /// Ended, the oldest first.
    closing: VecDeque<(ConnectionHandle, usize)>,
    /// For every connection with a deadline one that is not later; others are left behind.
    wakeups: BinaryHeap<Reverse<(Instant, ConnectionHandle, usize)>>,
    /// Connections with more to send than went into a result.
    continuing: VecDeque<usize>,
    /// Connections that got something in this call.
    touched: Vec<usize>,
    routes: Routes,
    /// Room for a few datagrams, used again if nothing was kept of the last.
    input: BytesMut,
    /// For an answer that belongs to no connection: there seldom is one.
    answer: Vec<u8>,
    pool: Arc<Pool>,
}

/// The room for datagrams, once for an endpoint: five of Ethernet's size before it is begun anew.
const INPUT: usize = 8192;

/// What every path takes that QUIC works on.
const SMALLEST_MTU: usize = 1200;

impl Endpoint {
    /// An endpoint. [`Status::InvalidArgument`]: the settings want what there is not, or lack a usable certificate.
    pub fn new(config: &EndpointConfig) -> Result<Self, Status> {
        let supported = (config.supported_versions.is_empty() || config.supported_versions.contains(&1))
            && !config.enable_packet_inspection
            && !config.enable_reserved_version_probe
            && !config.enable_long_header_stateless_reset
            && config.retry_handshake_validation_policy != RetryHandshakeValidationPolicy::Discard
            && config.transport.ecn_policy == EcnPolicy::Rfc9000Ect0;
        if !supported {
            return Err(Status::InvalidArgument);
        }
        let clock = Arc::new(Clock::default());
        let ids = ConnectionIds::new();
        let transport = Arc::new(transport(config).ok_or(Status::InvalidArgument)?);
        let mut keys = [0; 64];
        tls::random(&mut keys).ok_or(Status::InternalError)?;
        let (reset_key, token_key) = keys.split_at(32);
        let mut endpoint = quinn_proto::EndpointConfig::new(Arc::new(ring::hmac::Key::new(
            ring::hmac::HMAC_SHA256,
            reset_key,
        )));
        let max_payload = u16::try_from(config.transport.max_udp_payload_size).ok();
        endpoint
            .max_udp_payload_size(max_payload.ok_or(Status::InvalidArgument)?)
            .map_err(|_| Status::InvalidArgument)?;
        let generator = ids.clone();
        endpoint
            .supported_versions(vec![1])
            .grease_quic_bit(config.transport.grease_quic_bit)
            .rng_seed(config.random_seed)
            .cid_generator(move || Box::new(generator.clone()));
        let (mut client, mut server) = (None, None);
        match config.role {
            Role::Client => client = Some(Client::new(config, &clock).ok_or(Status::InvalidArgument)?),
            Role::Server => {
                let crypto = tls::server(config, &clock).ok_or(Status::InvalidArgument)?;
                let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(token_key);
                let mut tokens = ValidationTokenConfig::default();
                tokens.lifetime(bounds::TOKEN_TIME).log(Arc::new(UsedTokens::default())).sent(1);
                let mut with_tokens = ServerConfig::new(crypto, Arc::new(token_key));
                with_tokens
                    .transport_config(Arc::clone(&transport))
                    .migration(config.allow_peer_address_change && !config.transport.disable_active_migration)
                    .validation_token_config(tokens)
                    .max_incoming(bounds::HALF_OPEN)
                    .incoming_buffer_size(0)
                    .incoming_buffer_size_total(0)
                    .time_source(Arc::clone(&clock) as Arc<dyn quinn_proto::TimeSource>);
                let mut without_tokens = with_tokens.clone();
                without_tokens.validation_token_config(ValidationTokenConfig::default());
                server = Some([Arc::new(with_tokens), Arc::new(without_tokens)]);
            }
        }
        let accepts = server.as_ref().map(|[with_tokens, _]| Arc::clone(with_tokens));
        let engine = quinn_proto::Endpoint::new(Arc::new(endpoint), accepts, true, None);
        let start = Instant::now();
        Ok(Self {
            engine,
            role: config.role,
            ordered: !config.enable_out_of_order_receive,
            is_repeatable: config.random_seed.is_some(),
            start,
            now: 0,
            instant: start,
            clock,
            ids,
            client,
            transport,
            server,
            retry: config.retry_enabled,
            max_connections: match config.max_server_connections {
                0 => usize::MAX,
                max => max,
            },
            connections: Vec::new(),
            handles: FastMap::default(),
            last_handle: 0,
            half_open: 0,
            closing: VecDeque::new(),
            wakeups: BinaryHeap::new(),
            continuing: VecDeque::new(),
            touched: Vec::new(),
            routes: Routes::default(),
            input: BytesMut::with_capacity(INPUT),
            answer: Vec::new(),
            pool: Arc::new(Pool::default()),
        })
    }

    /// Begins a connection; its handle is in the effect [`Lifecycle::Created`].
    pub fn open_connection(&mut self, input: &OpenConnection, now: TimeUs) -> Result<QueryResult, Status> {
        self.quic_connect(input, now).map(|(_, result)| result)
    }

    /// Takes a datagram.
    pub fn input_datagram(&mut self, input: InboundDatagram<'_>, now: TimeUs) -> Result<QueryResult, Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        if let Some(number) = self.input(input, now, &mut output) {
            self.drive(number, now, &mut output);
        }
        Ok(self.finish(output))
    }

    /// Takes datagrams that came together: their connections answer after the last, with fewer datagrams.
    pub fn input_datagrams<'a>(
        &mut self,
        inputs: impl IntoIterator<Item = InboundDatagram<'a>>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        for input in inputs {
            if let Some(number) = self.input(input, now, &mut output) {
                self.touch(number);
            }
        }
        self.drive_touched(now, &mut output);
        Ok(self.finish(output))
    }

    /// Takes a datagram; gives the connection that it was for and that is to be driven.
    #[inline]
    fn input(&mut self, input: InboundDatagram<'_>, now: Instant, output: &mut Output) -> Option<usize> {
        let path = match self.role {
            Role::Client => Path { address: SERVER, route: input.route_handle },
            Role::Server => Path {
                address: self.routes.address(input.route_handle, input.address_validation_identity),
                route: input.route_handle,
            },
        };
        let mark = match input.ecn {
            EcnCodepoint::Unavailable | EcnCodepoint::NotEct => None,
            EcnCodepoint::Ect0 => Some(quinn_proto::EcnCodepoint::Ect0),
            EcnCodepoint::Ect1 => Some(quinn_proto::EcnCodepoint::Ect1),
            EcnCodepoint::Ce => Some(quinn_proto::EcnCodepoint::Ce),
        };
        let data = self.copy(input.bytes);
        self.answer.clear();
        match self.engine.handle(now, path.address, None, mark, data, &mut self.answer) {
            None => {}
            Some(DatagramEvent::ConnectionEvent(number, event)) => {
                let connection = self.connections.get_mut(number.0)?.as_deref_mut()?;
                connection.engine.handle_event(event);
                // A client knows its server by one address.
                if self.role == Role::Server {
                    self.follow(number.0, path);
                }
                return Some(number.0);
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(path.route, &transmit, output),
            Some(DatagramEvent::NewConnection(incoming)) => {
                let identified = !input.address_validation_identity.is_empty();
                self.accept(incoming, path, identified, now, output);
            }
        }
        None
    }

    /// Takes what a router said about the size of datagrams.
    pub fn update_path_mtu(&mut self, input: &PathMtuUpdate, now: TimeUs) -> Result<QueryResult, Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        if input.max_udp_payload_size >= SMALLEST_MTU {
            for number in 0..self.connections.len() {
                let Some(connection) = self.connection(number) else { continue };
                if connection.update_path_mtu(input.route_handle, input.max_udp_payload_size, now) {
                    self.drive(number, now, &mut output);
                }
            }
        }
        Ok(self.finish(output))
    }

    /// Does what is due: also before its time, and also late.
    pub fn timer_expired(&mut self, now: TimeUs) -> Result<QueryResult, Status> {
        let instant = self.advance(now);
        let mut output = self.pool.take();
        for _ in 0..self.continuing.len() {
            if output.datagrams() >= bounds::DATAGRAMS {
                break;
            }
            let Some(number) = self.continuing.pop_front() else { break };
            if let Some(connection) = self.connection(number) {
                connection.continues = false;
                self.drive(number, instant, &mut output);
            }
        }
        // Those that have no room left are due still, and so is who wants to be called again at once: it must not keep the caller here.
        for _ in 0..self.wakeups.len() {
            if output.datagrams() >= bounds::DATAGRAMS {
                break;
            }
            let Some((_, number)) = self.next_due().filter(|(due, _)| *due <= instant) else { break };
            let Some(connection) = self.connection(number) else { break };
            if connection.progress == Progress::Handshake
                && connection.patience <= instant
                && !connection.ended
            {
                self.end(number, true, &mut output);
                self.forget(number);
                continue;
            }
            connection.engine.handle_timeout(instant);
            // Whatever it wants next: it is later, or it is asked for again at once.
            connection.deadline = None;
            self.drive(number, instant, &mut output);
        }
        Ok(self.finish(output))
    }

    /// Sends data on a stream.
    pub fn connection_send_stream(
        &mut self,
        connection: ConnectionHandle,
        input: SendStreamData<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, Some(input.stream_id), now, |connection, _| connection.send_stream(&input))
    }

    /// Sends a datagram.
    pub fn connection_send_datagram(
        &mut self,
        connection: ConnectionHandle,
        input: SendDatagramData<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, None, now, |connection, _| connection.send_datagram(&input))
    }

    /// Abandons the sending side of a stream.
    pub fn connection_reset_stream(
        &mut self,
        connection: ConnectionHandle,
        input: &ResetStream,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, Some(input.stream_id), now, |connection, _| connection.reset_stream(input))
    }

    /// Tells the peer that nothing more is wanted on a stream.
    pub fn connection_stop_sending(
        &mut self,
        connection: ConnectionHandle,
        input: &StopSending,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, Some(input.stream_id), now, |connection, _| connection.stop_sending(input))
    }

    /// Ends a connection; its handle is not valid any more.
    pub fn connection_close(
        &mut self,
        connection: ConnectionHandle,
        input: CloseConnection<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let code = VarInt::from_u64(input.application_error_code).map_err(|_| Status::InvalidArgument)?;
        let reason = bytes::Bytes::copy_from_slice(input.reason_phrase);
        let number = self.handles.get(&connection).copied();
        let now = self.advance(now);
        let mut output = self.pool.take();
        match number.and_then(|number| Some((number, self.connection(number)?))) {
            None => refuse(&mut output, connection, LocalErrorCode::UnsupportedOperation, None),
            Some((number, state)) => {
                state.engine.close(now, code, reason);
                self.drive(number, now, &mut output);
                self.end(number, false, &mut output);
            }
        }
        Ok(self.finish(output))
    }

    /// Changes the keys of a connection.
    pub fn connection_request_key_update(
        &mut self,
        connection: ConnectionHandle,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, None, now, |connection, _| connection.update_keys())
    }

    /// Lets a connection go another way.
    pub fn connection_request_migration(
        &mut self,
        connection: ConnectionHandle,
        input: RequestConnectionMigration<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.command(connection, None, now, |connection, now| connection.migrate(&input, now))
    }

    /// Any of the commands.
    pub fn connection_advance(
        &mut self,
        connection: ConnectionHandle,
        input: ConnectionInput<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        match input {
            ConnectionInput::SendStream(input) => self.connection_send_stream(connection, input, now),
            ConnectionInput::SendDatagram(input) => self.connection_send_datagram(connection, input, now),
            ConnectionInput::ResetStream(input) => self.connection_reset_stream(connection, &input, now),
            ConnectionInput::StopSending(input) => self.connection_stop_sending(connection, &input, now),
            ConnectionInput::Close(input) => self.connection_close(connection, input, now),
            ConnectionInput::RequestKeyUpdate => self.connection_request_key_update(connection, now),
            ConnectionInput::RequestMigration(input) => {
                self.connection_request_migration(connection, input, now)
            }
        }
    }

    /// Sends data on streams: their connections send after the last, with fewer datagrams. Of those that are refused, the
    /// first is told.
    pub fn send_streams<'a>(
        &mut self,
        inputs: impl IntoIterator<Item = (ConnectionHandle, SendStreamData<'a>)>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        for (handle, input) in inputs {
            let number = self.handles.get(&handle).copied();
            let taken = match number.and_then(|number| Some((number, self.connection(number)?))) {
                None => Err(LocalErrorCode::UnsupportedOperation),
                Some((number, connection)) => {
                    let taken = connection.send_stream(&input);
                    self.touch(number);
                    taken
                }
            };
            if let (Err(code), None) = (taken, output.local_error) {
                refuse(&mut output, handle, code, Some(input.stream_id));
            }
        }
        self.drive_touched(now, &mut output);
        Ok(self.finish(output))
    }

    /// Begins a connection and gives its handle, which is 0 if the result is a local error.
    pub fn quic_connect(
        &mut self,
        input: &OpenConnection,
        now: TimeUs,
    ) -> Result<(ConnectionHandle, QueryResult), Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        let handle = match self.connect(input, now, &mut output)? {
            Ok(handle) => handle,
            Err(code) => {
                output.local_error = Some(LocalError { connection: None, code, stream_id: None });
                0
            }
        };
        Ok((handle, self.finish(output)))
    }

    /// Connections whose handles are valid.
    pub fn connection_count(&self) -> usize {
        self.handles.len()
    }

    /// There is more to be sent at once: [`Endpoint::timer_expired`] gives it.
    pub fn has_send_continuation_pending(&self) -> bool {
        !self.continuing.is_empty()
    }

    /// Some connection has stream data or other frames that were not sent yet: the path or the peer does not take more.
    pub fn has_pending_stream_send(&self) -> bool {
        self.connections.iter().flatten().any(|connection| connection.has_more_to_send())
    }

    /// When [`Endpoint::timer_expired`] is to be called.
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.wakeup().map(|at| microseconds(at, self.start))
    }

    fn wakeup(&self) -> Option<Instant> {
        if !self.continuing.is_empty() {
            return Some(self.instant);
        }
        // Every call left the earliest on top.
        self.wakeups.peek().map(|Reverse((due, _, _))| *due)
    }

    fn connect(
        &mut self,
        input: &OpenConnection,
        now: Instant,
        output: &mut Output,
    ) -> Result<Result<ConnectionHandle, LocalErrorCode>, Status> {
        let config = &input.connection;
        let (ours, theirs) = (&config.source_connection_id, &config.initial_destination_connection_id);
        if self.client.is_none() {
            return Ok(Err(LocalErrorCode::UnsupportedOperation));
        }
        let supported = config.original_destination_connection_id.is_none()
            && config.retry_source_connection_id.is_none()
            && !config.reacted_to_version_negotiation
            // The engine counts how many ids of up to four bytes there are, in an integer that does not hold 2^32 then.
            && !(cfg!(target_pointer_width = "32") && ours.len() == 4)
            && [config.original_version, config.initial_version].iter().all(|version| *version <= 1);
        if !supported {
            return Ok(Err(LocalErrorCode::UnsupportedOperation));
        }
        if ours.len() > 20 || theirs.len() > 20 || (1..8).contains(&theirs.len()) {
            return Err(Status::InvalidArgument);
        }
        // Short headers do not say how long an id is: it is one length for all. Without one, there is one connection.
        if ours.is_empty() || ours.len() != self.ids.len() {
            if !self.handles.is_empty() {
                return Ok(Err(LocalErrorCode::UnsupportedOperation));
            }
            while let Some((_, number)) = self.closing.pop_front() {
                self.forget(number);
            }
        }
        let name = std::str::from_utf8(&config.server_name).map_err(|_| Status::InvalidArgument)?;
        let theirs = match theirs {
            chosen if self.is_repeatable && !chosen.is_empty() => quinn_proto::ConnectionId::new(chosen),
            // What is not drawn comes again, and a server that has not forgotten the last time takes it for that connection.
            chosen => {
                let mut id = [0; 20];
                let id = &mut id[..if chosen.is_empty() { 8 } else { chosen.len() }];
                tls::random(id).ok_or(Status::InternalError)?;
                quinn_proto::ConnectionId::new(id)
            }
        };
        let tls = self.client.as_mut().and_then(|client| client.connection(config));
        let (tls, mailbox, status) = tls.ok_or(Status::InternalError)?;
        self.ids.choose(ours);
        let mut engine = quinn_proto::ClientConfig::new(tls);
        engine
            .transport_config(Arc::clone(&self.transport))
            .token_store(Arc::clone(&mailbox) as Arc<dyn TokenStore>)
            .initial_dst_cid_provider(Arc::new(move || theirs));
        let (number, connection) =
            self.engine.connect(now, engine, SERVER, name).map_err(|_| Status::InvalidArgument)?;
        let asked = config.zero_rtt.attempt || config.resumption_state.is_some();
        let early = Early { mailbox, context: config.zero_rtt.application_context.clone(), status };
        let path = Path { address: SERVER, route: Some(input.initial_route_handle) };
        let handle = self.add(number.0, connection, path, Some(early), now);
        self.drive(number.0, now, output);
        if asked {
            output.push(handle, What::ZeroRtt(status));
        }
        output.push(handle, What::Lifecycle(Lifecycle::Created));
        Ok(Ok(handle))
    }

    fn accept(
        &mut self,
        incoming: Incoming,
        path: Path,
        identified: bool,
        now: Instant,
        output: &mut Output,
    ) {
        if self.half_open >= bounds::HALF_OPEN {
            return self.engine.ignore(incoming);
        }
        if self.handles.len() >= self.max_connections {
            let transmit = self.engine.refuse(incoming, &mut self.answer);
            return self.respond(path.route, &transmit, output);
        }
        if (self.retry || self.half_open >= bounds::HALF_OPEN_UNPROVED)
            && !incoming.remote_address_validated()
        {
            match self.engine.retry(incoming, &mut self.answer) {
                Ok(transmit) => self.respond(path.route, &transmit, output),
                // A peer whose address is not proved has not been asked before.
                Err(error) => self.engine.ignore(error.into_incoming()),
            }
            return;
        }
        // A token says that its owner was at that address, which a route alone does not tell.
        let config = self.server.as_ref().filter(|_| !identified).map(|[_, plain]| Arc::clone(plain));
        match self.engine.accept(incoming, now, &mut self.answer, config) {
            Ok((number, connection)) => {
                self.routes.enter(path.route, path.address);
                let handle = self.add(number.0, connection, path, None, now);
                self.half_open += 1;
                if let Some(connection) = self.connection(number.0) {
                    connection.half_open = true;
                }
                self.drive(number.0, now, output);
                output.push(handle, What::Lifecycle(Lifecycle::Accepted));
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(path.route, &transmit, output);
                }
            }
        }
    }

    fn add(
        &mut self,
        number: usize,
        engine: quinn_proto::Connection,
        path: Path,
        early: Option<Early>,
        now: Instant,
    ) -> ConnectionHandle {
        self.last_handle += 1;
        let handle = self.last_handle;
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        let connection =
            Connection::new(handle, engine, path, early, self.ordered, now + bounds::HANDSHAKE_TIME);
        self.connections[number] = Some(Box::new(connection));
        self.handles.insert(handle, number);
        handle
    }

    /// Notices that a connection goes another way.
    fn follow(&mut self, number: usize, came: Path) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { return };
        if let Some((begun, left)) = connection.follow(came) {
            self.routes.enter(begun.route, begun.address);
            if let Some(left) = left {
                self.routes.leave(left.route);
            }
        }
    }

    /// Runs a command for a connection.
    fn command(
        &mut self,
        handle: ConnectionHandle,
        stream: Option<StreamId>,
        now: TimeUs,
        run: impl FnOnce(&mut Connection, Instant) -> Result<(), LocalErrorCode>,
    ) -> Result<QueryResult, Status> {
        let now = self.advance(now);
        let mut output = self.pool.take();
        let number = self.handles.get(&handle).copied();
        match number.and_then(|number| Some((number, self.connection(number)?))) {
            None => refuse(&mut output, handle, LocalErrorCode::UnsupportedOperation, None),
            Some((number, connection)) => {
                if let Err(code) = run(connection, now) {
                    refuse(&mut output, handle, code, stream);
                }
                self.drive(number, now, &mut output);
            }
        }
        Ok(self.finish(output))
    }

    /// Has [`Endpoint::drive_touched`] drive a connection.
    fn touch(&mut self, number: usize) {
        if let Some(connection) = self.connection(number)
            && !std::mem::replace(&mut connection.touched, true)
        {
            self.touched.push(number);
        }
    }

    fn drive_touched(&mut self, now: Instant, output: &mut Output) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            if let Some(connection) = self.connection(number) {
                connection.touched = false;
            }
            self.drive(number, now, output);
        }
        self.touched = touched;
    }

    /// Gets everything out of a connection.
    fn drive(&mut self, number: usize, now: Instant, output: &mut Output) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_deref_mut) else {
            return;
        };
        let mut ended = None;
        loop {
            ended = ended.or(connection.events(self.client.as_mut(), output));
            if connection.half_open && connection.progress > Progress::Handshake {
                connection.half_open = false;
                self.half_open -= 1;
            }
            let mut told = false;
            while let Some(event) = connection.engine.poll_endpoint_events() {
                if event.is_drained() {
                    self.end(number, ended.unwrap_or(true), output);
                    return self.forget(number);
                }
                if let Some(event) = self.engine.handle_event(quinn_proto::ConnectionHandle(number), event) {
                    connection.engine.handle_event(event);
                    told = true;
                }
            }
            if !told {
                break;
            }
        }
        if connection.transmit(now, output) && !std::mem::replace(&mut connection.continues, true) {
            self.continuing.push_back(number);
        }
        let mut deadline = connection.engine.poll_timeout();
        if connection.progress == Progress::Handshake && !connection.ended {
            deadline =
                Some(deadline.map_or(connection.patience, |deadline| deadline.min(connection.patience)));
        }
        connection.deadline = deadline;
        if let Some(deadline) = deadline
            && connection.wakeup.is_none_or(|wakeup| deadline < wakeup)
        {
            connection.wakeup = Some(deadline);
            let entry = Reverse((deadline, connection.handle, number));
            // Often the earliest is its own: that becomes earlier still.
            if let Some(mut top) = self.wakeups.peek_mut().filter(|top| top.0.1 == connection.handle) {
                *top = entry;
            } else {
                self.wakeups.push(entry);
            }
        }
        if let Some(failed) = ended {
            self.end(number, failed, output);
        }
    }

    /// The connection to be woken first; what is left behind before it goes.
    fn next_due(&mut self) -> Option<(Instant, usize)> {
        while let Some(mut top) = self.wakeups.peek_mut() {
            let Reverse((due, handle, number)) = *top;
            let connection = self
                .connections
                .get_mut(number)
                .and_then(Option::as_mut)
                .filter(|connection| connection.handle == handle && connection.wakeup == Some(due));
            let Some(connection) = connection else {
                PeekMut::pop(top);
                continue;
            };
            if connection.deadline == Some(due) {
                return Some((due, number));
            }
            connection.wakeup = connection.deadline;
            match connection.deadline {
                Some(deadline) => *top = Reverse((deadline, handle, number)),
                None => drop(PeekMut::pop(top)),
            }
        }
        None
    }

    /// Tells the caller that a connection is over. What the engine keeps answers late packets.
    fn end(&mut self, number: usize, failed: bool, output: &mut Output) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut connection.ended, true) {
            return;
        }
        let handle = connection.handle;
        if failed {
            output.push(handle, What::State(StateChange::Failed));
        }
        output.push(handle, What::Lifecycle(Lifecycle::Closed));
        self.half_open -= usize::from(std::mem::replace(&mut connection.half_open, false));
        self.handles.remove(&handle);
        self.closing.push_back((handle, number));
        if self.closing.len() > bounds::CLOSING
            && let Some((handle, number)) = self.closing.pop_front()
            && self.connection(number).is_some_and(|connection| connection.handle == handle)
        {
            self.forget(number);
        }
    }

    /// Lets the engine forget a connection, if there is one of that number.
    fn forget(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::take) else { return };
        self.engine.handle_event(quinn_proto::ConnectionHandle(number), EndpointEvent::drained());
        self.continuing.retain(|other| *other != number);
        if self.role == Role::Server {
            for path in connection.paths() {
                self.routes.leave(path.route);
            }
        }
    }

    fn connection(&mut self, number: usize) -> Option<&mut Connection> {
        self.connections.get_mut(number)?.as_deref_mut()
    }

    /// Sends an answer that belongs to no connection.
    fn respond(&mut self, route: Option<RouteHandle>, transmit: &Transmit, output: &mut Output) {
        // What it has is empty, and serves for the next.
        let answer = output.buffer();
        std::mem::swap(answer, &mut self.answer);
        // A stateless reset is padded to any length below that of what it answers, which need not fit the way back. Only its
        // end and its first byte mean something.
        if answer.len() > SMALLEST_MTU {
            answer.drain(1..answer.len() - (SMALLEST_MTU - 1));
        }
        let sending = Sending { connection: 0, route, ecn: ecn(transmit.ecn), is_pmtu_probe: false };
        let length = answer.len();
        output.send(sending, length);
    }

    /// A copy for the engine, which decrypts in place and keeps what it cannot hand over yet.
    fn copy(&mut self, bytes: &[u8]) -> BytesMut {
        let has_room = bytes.len() <= self.input.capacity() || self.input.try_reclaim(INPUT);
        if has_room && bytes.len() <= INPUT {
            self.input.extend_from_slice(bytes);
            return self.input.split();
        }
        // What is kept must not hold more memory than its datagram.
        BytesMut::from(bytes)
    }

    fn advance(&mut self, now: TimeUs) -> Instant {
        if now > self.now {
            self.now = now;
            self.instant = self.start + Duration::from_micros(now);
            self.clock.set(now);
        }
        self.instant
    }

    #[inline]
    fn finish(&mut self, mut output: Box<Output>) -> QueryResult {
        output.sort();
        self.next_due();
        output.send_continuation_pending = self.has_send_continuation_pending();
        output.wakeup = self.wakeup().map(|at| (at, self.start));
        QueryResult::from_output(output)
    }
}

fn refuse(output: &mut Output, connection: ConnectionHandle, code: LocalErrorCode, stream: Option<StreamId>) {
    output.local_error = Some(LocalError { connection: Some(connection), code, stream_id: stream });
}

/// The engine's settings; nothing if there is a value that it cannot follow.
fn transport(config: &EndpointConfig) -> Option<quinn_proto::TransportConfig> {
    let from = &config.transport;
    let congestion: Arc<dyn ControllerFactory + Send + Sync> = match from.congestion_control {
        CongestionControl::NewReno => Arc::new(NewRenoConfig::default()),
        CongestionControl::Cubic => Arc::new(CubicConfig::default()),
        CongestionControl::Bbr => Arc::new(BbrConfig::default()),
        CongestionControl::Copa | CongestionControl::Pcc | CongestionControl::PccVivace => return None,
    };
    let number = |value| VarInt::from_u64(value).ok();
    let streams = |count| number(count).filter(|_| count <= bounds::STREAMS);
    let size = |value: usize| u16::try_from(value).ok().filter(|size| *size >= 1200);
    let outbound = size(config.max_outbound_datagram_size)?;
    let idle = match from.max_idle_timeout {
        0 => None,
        milliseconds => Some(IdleTimeout::from(number(milliseconds)?)),
    };
    let window = from
        .initial_max_stream_data_bidi_local
        .max(from.initial_max_stream_data_bidi_remote)
        .max(from.initial_max_stream_data_uni);
    let mut to = quinn_proto::TransportConfig::default();
    to.max_idle_timeout(idle)
        .max_concurrent_bidi_streams(streams(from.initial_max_streams_bidi)?)
        .max_concurrent_uni_streams(streams(from.initial_max_streams_uni)?)
        .stream_receive_window(number(window)?)
        .receive_window(number(from.initial_max_data)?)
        .send_window(bounds::SEND_WINDOW)
        .send_fairness(from.send_stream_fairness)
        .allow_spin(from.enable_latency_spin_bit)
        .crypto_buffer_size(bounds::CRYPTO)
        .datagram_receive_buffer_size(match from.max_datagram_frame_size {
            0 => None,
            size => Some(usize::try_from(size.min(65535)).ok()?),
        })
        .datagram_send_buffer_size(bounds::DATAGRAMS_OUT)
        .congestion_controller_factory(congestion);
    if from.pmtud_enabled {
        let base = size(from.pmtud_base_datagram_size)?;
        let largest = match from.pmtud_max_datagram_size {
            0 => outbound.max(1452),
            largest => size(largest)?,
        };
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(largest);
        to.initial_mtu(base.min(largest)).mtu_discovery_config(Some(discovery));
    } else {
        to.initial_mtu(outbound).mtu_discovery_config(None);
    }
    if from.ack_eliciting_threshold > 2 {
        let mut frequency = AckFrequencyConfig::default();
        frequency.ack_eliciting_threshold(number(from.ack_eliciting_threshold - 1)?);
        to.ack_frequency_config(Some(frequency));
    }
    Some(to)
}
