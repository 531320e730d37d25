//! A client or server of one connection, and its updates, which keep what views point to.

use super::builtin;
use super::types::*;
use super::view::{self, Arrays, view};
use crate::functions::status;
use crate::input::Given;
use crate::types::*;
use coquic::{Effect, Lifecycle, LocalErrorCode, Output, StateChange, Status, ZeroRttStatus};
use ffi_bridge_guard::guard;
use http3::whole::{self, Input};
use http3::{Code, Config, Connection, Error, ResponseHead, Settings};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

/// Content that one connection keeps of messages that are not complete: QUIC takes twice that at a time on machines like routers.
pub(super) const MAX_KEPT: usize = if cfg!(target_pointer_width = "32") { 4 << 20 } else { 16 << 20 };

/// What C calls a client, and a server. Where a panic left one borrowed, it can only be destroyed.
pub(super) type Client = RefCell<ClientState>;
pub(super) type Server = RefCell<ServerState>;

/// Either of the two.
pub(super) trait Side {
    type Update;

    fn connection(&mut self) -> &mut Connection;
    fn link(&mut self) -> &mut Link;
    fn update(&mut self, handled_local_error: bool) -> Self::Update;

    /// What has become of 0-RTT.
    fn early(&mut self, _: ZeroRttStatus) {}

    /// Hands in what a QUIC result has for this connection. Whether it had a local error.
    fn take_in(&mut self, result: &Output) -> bool {
        let effects = || (0..result.effect_count()).filter_map(|index| result.effect(index).ok());
        // The event that a connection begins comes last.
        for effect in effects() {
            if let Effect::ConnectionLifecycleEvent { connection, event } = effect
                && matches!(event, Lifecycle::Created | Lifecycle::Accepted)
            {
                self.link().is_ours(connection);
            }
        }
        // Where 0-RTT was refused, what came is of other streams than those known here.
        for effect in effects() {
            if let Effect::ZeroRttStatusEvent { connection, status } = effect
                && self.link().is_ours(connection)
            {
                self.early(status);
            }
        }
        for effect in effects() {
            self.take_effect(&effect);
        }
        let Some(error) = result.local_error else { return false };
        if error.connection.is_some_and(|connection| !self.link().is_ours(connection)) {
            return false;
        }
        match error.stream_id {
            // The peer has ended it meanwhile, which its effects say.
            _ if matches!(error.code, LocalErrorCode::SendSideClosed | LocalErrorCode::ReceiveSideClosed) => {
            }
            // There is too much to be sent already. That a stream ends can still be told.
            Some(stream) if error.code == LocalErrorCode::FlowControlViolation => {
                self.connection().on_refused(stream);
            }
            // What a critical stream has lost cannot be made up for.
            Some(stream) if stream & 2 != 0 && !self.connection().is_open(stream) => {
                self.connection().close(Code::H3_INTERNAL_ERROR, "QUIC refused a critical stream");
            }
            Some(stream) => self.connection().on_reset(stream, Code::H3_INTERNAL_ERROR.0),
            None => {}
        }
        true
    }

    fn take_effect(&mut self, effect: &Effect<'_>) {
        match *effect {
            Effect::StateEvent { connection, change } if self.link().is_ours(connection) => match change {
                StateChange::HandshakeReady => self.link().is_ready = true,
                StateChange::Failed => self.connection().on_closed(),
                _ => {}
            },
            Effect::ReceiveStreamData { connection, stream_id, bytes, fin, .. }
                if self.link().is_ours(connection) =>
            {
                self.connection().on_stream_data(stream_id, bytes, fin);
            }
            Effect::ReceiveDatagramData { connection, bytes } if self.link().is_ours(connection) => {
                self.connection().on_datagram(bytes);
            }
            Effect::PeerResetStream { connection, stream_id, application_error_code, .. }
                if self.link().is_ours(connection) =>
            {
                self.connection().on_reset(stream_id, application_error_code);
            }
            Effect::PeerStopSending { connection, stream_id, application_error_code }
                if self.link().is_ours(connection) =>
            {
                self.link().stopped.insert(stream_id);
                self.connection().on_stop_sending(stream_id, application_error_code);
            }
            Effect::ConnectionLifecycleEvent { connection, event: Lifecycle::Closed }
                if self.link().is_ours(connection) =>
            {
                self.connection().on_closed();
            }
            _ => {}
        }
    }

    /// What is to be told to QUIC, of what HTTP/3 wants.
    fn inputs(&mut self, mut inputs: Vec<Input>) -> Vec<Input> {
        let stopped = std::mem::take(&mut self.link().stopped);
        // QUIC has answered STOP_SENDING itself.
        inputs.retain(|input| !matches!(input, Input::Reset { stream, .. } if stopped.contains(stream)));
        inputs
    }
}

/// What ties a side to a connection of QUIC.
#[derive(Default)]
pub(super) struct Link {
    /// The connection that began in the first result, or else that of its first effect.
    handle: Option<coquic_connection_handle_t>,
    /// Streams may be used.
    is_ready: bool,
    /// Streams that QUIC has reset since the last update because the peer asked.
    stopped: BTreeSet<u64>,
}

impl Link {
    fn is_ours(&mut self, connection: coquic_connection_handle_t) -> bool {
        *self.handle.get_or_insert(connection) == connection
    }
}

pub(super) struct ClientState {
    client: whole::Client,
    /// What the server's settings were. Without them nothing is sent in 0-RTT.
    remembered: Option<Settings>,
    link: Link,
}

impl ClientState {
    pub(super) fn new(settings: Settings, remembered: Option<Settings>) -> Self {
        // What a client asks for is its program's choice; pushes come only as it allows them.
        let config = Config { settings, max_requests: usize::MAX, ..Config::default() };
        Self { client: whole::Client::new(config, MAX_KEPT), remembered, link: Link::default() }
    }

    /// The server's settings in this connection.
    pub(super) fn peer_settings(&mut self) -> Option<Settings> {
        self.client.connection().peer_settings()
    }

    pub(super) fn submit_request(&mut self, request: whole::Request) -> Result<u64, Error> {
        self.client.submit_request(request)
    }

    pub(super) fn cancel_push(&mut self, push: u64) -> Result<(), Error> {
        self.client.cancel_push(push)
    }
}

impl Side for ClientState {
    type Update = ClientUpdate;

    fn connection(&mut self) -> &mut Connection {
        self.client.connection()
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn early(&mut self, status: ZeroRttStatus) {
        let Some(remembered) = self.remembered else { return };
        match status {
            ZeroRttStatus::Attempted => {
                self.client.connection().remember(remembered);
                self.link.is_ready = true;
            }
            ZeroRttStatus::Rejected => self.client.start_over(),
            _ => {}
        }
    }

    fn update(&mut self, handled_local_error: bool) -> ClientUpdate {
        let terminal_failure = self.client.has_ended();
        if !self.link.is_ready && !terminal_failure {
            let flags =
                Flags { has_pending_work: self.client.is_waiting(), terminal_failure, handled_local_error };
            return ClientUpdate::new(whole::ClientUpdate::default(), flags);
        }
        let mut update = self.client.update();
        update.inputs = self.inputs(update.inputs);
        let terminal_failure = self.client.has_ended();
        ClientUpdate::new(update, Flags { has_pending_work: false, terminal_failure, handled_local_error })
    }
}

pub(super) struct ServerState {
    pub(super) server: whole::Server,
    /// The program answers requests; else the built-in routes do.
    pub(super) takes_requests: bool,
    link: Link,
}

impl ServerState {
    pub(super) fn new(settings: Settings) -> Self {
        let config = Config { settings, ..Config::default() };
        let server = whole::Server::new(config, MAX_KEPT);
        Self { server, takes_requests: false, link: Link::default() }
    }

    /// The stream of a push that was begun.
    pub(super) fn push_stream(&mut self, push: u64) -> Result<u64, Error> {
        self.server.connection().push_stream(push).ok_or(Error::Unknown)
    }

    pub(super) fn push_head(&mut self, push: u64, head: &ResponseHead) -> Result<(), Error> {
        let connection = self.server.connection();
        let stream = match connection.push_stream(push) {
            Some(stream) => stream,
            None => connection.open_push_stream(push)?,
        };
        connection.send_response(stream, head, false)
    }

    pub(super) fn send_body(&mut self, stream: u64, body: &[u8], fin: bool) -> Result<(), Error> {
        // There is no bound: it takes all.
        self.server.connection().send_body(stream, body, fin).map(|_| ())
    }
}

impl Side for ServerState {
    type Update = ServerUpdate;

    fn connection(&mut self) -> &mut Connection {
        self.server.connection()
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn update(&mut self, handled_local_error: bool) -> ServerUpdate {
        let terminal_failure = self.server.has_ended();
        if !self.link.is_ready && !terminal_failure {
            self.server.take_early();
            let flags = Flags { has_pending_work: false, terminal_failure, handled_local_error };
            return ServerUpdate::new(whole::ServerUpdate::default(), flags);
        }
        let mut update = self.server.update();
        if !self.takes_requests {
            for (stream, request) in std::mem::take(&mut update.requests) {
                // If it cannot be answered, its client has given it up or takes no answer of that size.
                let _ = self.server.submit_response(stream, &builtin::answer(&request));
            }
            update.inputs.append(&mut self.server.update().inputs);
        }
        update.inputs = self.inputs(update.inputs);
        let terminal_failure = self.server.has_ended();
        ServerUpdate::new(update, Flags { has_pending_work: false, terminal_failure, handled_local_error })
    }
}

#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub(super) has_pending_work: bool,
    pub(super) terminal_failure: bool,
    pub(super) handled_local_error: bool,
}

/// An update of a client as C sees it.
pub(super) struct ClientUpdate {
    pub(super) connection_inputs: Vec<coquic_connection_input_t>,
    pub(super) responses: Vec<coquic_http3_client_response_event_t>,
    pub(super) request_errors: Vec<coquic_http3_client_request_error_event_t>,
    pub(super) push_responses: Vec<coquic_http3_client_push_response_event_t>,
    pub(super) push_errors: Vec<coquic_http3_client_push_error_event_t>,
    /// Always empty: PRIORITY_UPDATE goes to servers only.
    pub(super) priority_updates: Vec<coquic_http3_priority_update_event_t>,
    pub(super) datagrams: Vec<coquic_http3_datagram_event_t>,
    pub(super) flags: Flags,
    /// What all of these point into.
    _kept: (whole::ClientUpdate, Arrays),
}

impl ClientUpdate {
    fn new(update: whole::ClientUpdate, flags: Flags) -> Self {
        let mut arrays = Arrays::default();
        let responses = update.responses.iter().map(|event| coquic_http3_client_response_event_t {
            stream_id: event.stream,
            request: arrays.request(&event.request),
            response: arrays.response(&event.response),
        });
        let responses = responses.collect();
        let request_errors =
            update.request_errors.iter().map(|event| coquic_http3_client_request_error_event_t {
                stream_id: event.stream,
                request: arrays.request(&event.request),
                application_error_code: event.code.0,
            });
        let request_errors = request_errors.collect();
        let push_responses =
            update.push_responses.iter().map(|event| coquic_http3_client_push_response_event_t {
                request_stream_id: event.request_stream,
                push_id: event.push,
                request: arrays.request_head(&event.request),
                response: arrays.response(&event.response),
            });
        let push_responses = push_responses.collect();
        let push_errors = update.push_errors.iter().map(|event| coquic_http3_client_push_error_event_t {
            push_id: event.push,
            has_request: event.request.is_some().into(),
            request: arrays.request_head(event.request.as_ref().unwrap_or(&http3::RequestHead::default())),
            application_error_code: event.code.0,
        });
        let push_errors = push_errors.collect();
        Self {
            connection_inputs: update.inputs.iter().map(view::connection_input).collect(),
            responses,
            request_errors,
            push_responses,
            push_errors,
            priority_updates: Vec::new(),
            datagrams: view::datagrams(&update.datagrams),
            flags,
            _kept: (update, arrays),
        }
    }
}

/// An update of a server as C sees it.
pub(super) struct ServerUpdate {
    pub(super) connection_inputs: Vec<coquic_connection_input_t>,
    pub(super) requests: Vec<coquic_http3_server_request_event_t>,
    pub(super) cancelled: Vec<coquic_http3_server_request_cancelled_event_t>,
    pub(super) priority_updates: Vec<coquic_http3_priority_update_event_t>,
    pub(super) datagrams: Vec<coquic_http3_datagram_event_t>,
    pub(super) flags: Flags,
    /// What all of these point into.
    _kept: (whole::ServerUpdate, Arrays),
}

impl ServerUpdate {
    fn new(update: whole::ServerUpdate, flags: Flags) -> Self {
        let mut arrays = Arrays::default();
        let requests = update.requests.iter().map(|(stream, request)| coquic_http3_server_request_event_t {
            stream_id: *stream,
            request: arrays.request(request),
        });
        let requests = requests.collect();
        let cancelled = update.cancelled.iter().map(|event| {
            let (trailers, trailers_count) = arrays.fields(&event.trailers);
            coquic_http3_server_request_cancelled_event_t {
                stream_id: event.stream,
                has_head: event.head.is_some().into(),
                head: arrays.request_head(event.head.as_ref().unwrap_or(&http3::RequestHead::default())),
                body: view(&event.body),
                trailers,
                trailers_count,
                application_error_code: event.code.0,
            }
        });
        let cancelled = cancelled.collect();
        Self {
            connection_inputs: update.inputs.iter().map(view::connection_input).collect(),
            requests,
            cancelled,
            priority_updates: update
                .priorities
                .iter()
                .map(|(target, value)| view::priority(*target, value))
                .collect(),
            datagrams: view::datagrams(&update.datagrams),
            flags,
            _kept: (update, arrays),
        }
    }
}

/// Runs something on a client or server.
///
/// # Safety
/// NULL, or what the type says.
pub(super) unsafe fn with<S>(
    object: *mut RefCell<S>,
    run: impl FnOnce(&mut S) -> Given<()>,
) -> coquic_status_t {
    status(|| {
        // SAFETY: as above.
        let object = unsafe { object.as_ref() }.ok_or(Status::InvalidArgument)?;
        // Only a panic has left it borrowed, and it stays so.
        let mut object = object.try_borrow_mut().map_err(|_| Status::InternalError)?;
        match guard(AssertUnwindSafe(|| run(&mut object))) {
            Ok(result) => result,
            Err(_) => {
                std::mem::forget(object);
                Err(Status::InternalError)
            }
        }
    })
}

/// # Safety
/// NULL, or an update.
pub(super) unsafe fn count<U, T>(update: *const U, list: impl FnOnce(&U) -> &Vec<T>) -> usize {
    // SAFETY: as above.
    unsafe { update.as_ref() }.map_or(0, |update| list(update).len())
}

/// # Safety
/// NULL, or an update; NULL, or room for one.
pub(super) unsafe fn get<U, T: Copy>(
    update: *const U,
    index: usize,
    out: *mut T,
    list: impl FnOnce(&U) -> &Vec<T>,
) -> coquic_status_t {
    // SAFETY: as above.
    match unsafe { update.as_ref() }.and_then(|update| list(update).get(index)) {
        Some(item) if !out.is_null() => {
            // SAFETY: as above.
            unsafe { out.write(*item) };
            COQUIC_STATUS_OK
        }
        _ => COQUIC_STATUS_INVALID_ARGUMENT,
    }
}
