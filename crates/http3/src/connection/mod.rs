//! A connection, which knows what may come when.

mod control;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use crate::error::{Code, ConnectionError, Failure};
use crate::frame;
use crate::map::Map;
use crate::message::{RequestHead, ResponseHead};
use crate::outbox::{Outbox, Send};
use crate::qpack::{Decoder, Encoder, Field};
use crate::seen::Seen;
use crate::settings::{Config, Settings, reserved};
use crate::varint;
use control::Incoming;
use receive::Receiving;
use send::Sending;

const STREAM_CONTROL: u64 = 0;
const STREAM_PUSH: u64 = 1;
const STREAM_ENCODER: u64 = 2;
const STREAM_DECODER: u64 = 3;

/// Decoder's instructions that may wait to be sent.
const MAX_UNSENT_INSTRUCTIONS: usize = 1 << 16;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends requests.
    Client,
    /// Answers them.
    Server,
}

/// Something the application learns. Streams are named by their number in QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A piece of a message's content.
    Body {
        /// Of the message.
        stream: u64,
        /// Never empty.
        data: Vec<u8>,
    },
    /// The connection has ended, by an error of the peer or of this end. No event follows.
    Closed(ConnectionError),
    /// A datagram that belongs to a request.
    Datagram {
        /// Of the request.
        stream: u64,
        /// What the datagram carries.
        payload: Vec<u8>,
    },
    /// A message is complete. Of a request whose response was not sent yet, only the receiving half has ended.
    End {
        /// Of the message.
        stream: u64,
    },
    /// A request, with its response, or a push came to nothing. No event about the stream follows.
    Failed {
        /// Of the request or push.
        stream: u64,
        /// Why.
        code: Code,
        /// Whether the peer ended it, or else this end for what the peer sent.
        by_peer: bool,
    },
    /// The peer will not process requests (if it is a server) or pushes (if it is a client) from this number on.
    GoAway {
        /// A stream of a request, or a push.
        id: u64,
    },
    /// The head of an interim response; the response is still to come.
    Interim {
        /// Of the request.
        stream: u64,
        /// Its status is 1xx.
        head: ResponseHead,
    },
    /// The client allows pushes up to this number.
    MaxPushId(u64),
    /// The client's wish how to send a response (RFC 9218).
    Priority {
        /// Which response.
        target: Target,
        /// A dictionary of structured fields, as it came.
        value: Vec<u8>,
    },
    /// The server promises the response to a request that was not sent.
    Promise {
        /// Of the request it came with.
        stream: u64,
        /// Which push.
        push: u64,
        /// The request.
        head: RequestHead,
    },
    /// A promised response begins. It, or its end, may come before the promise.
    Push {
        /// Which push.
        push: u64,
        /// Where the response comes.
        stream: u64,
    },
    /// The peer cancelled a push.
    PushCancelled {
        /// Which push.
        push: u64,
    },
    /// The head of a request.
    Request {
        /// On which to answer.
        stream: u64,
        /// The head.
        head: RequestHead,
    },
    /// The head of a response.
    Response {
        /// Of the request, or the push.
        stream: u64,
        /// Its status is not 1xx.
        head: ResponseHead,
    },
    /// The peer's settings.
    Settings(Settings),
    /// The server wants no more of the request's content; the response goes on.
    Stopped {
        /// Of the request.
        stream: u64,
        /// Why.
        code: Code,
    },
    /// The trailers of a message.
    Trailers {
        /// Of the message.
        stream: u64,
        /// In order.
        fields: Vec<Field>,
    },
    /// A stream on which [`Connection::send_body`] did not take everything takes more.
    Writable {
        /// Of the message that is being sent.
        stream: u64,
    },
}

/// What a priority is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The response to the request on that stream.
    Request(u64),
    /// That push.
    Push(u64),
}

/// Something the transport is to do, besides sending what [`Connection::next_send`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Close the connection. Nothing else is left to do.
    Close(ConnectionError),
    /// Send a datagram.
    Datagram(Vec<u8>),
    /// End our side of a stream by RESET_STREAM.
    Reset {
        /// Which.
        stream: u64,
        /// With which code.
        code: Code,
    },
    /// Ask by STOP_SENDING that the peer's side ends. What still comes need not be handed in.
    StopSending {
        /// Which.
        stream: u64,
        /// With which code.
        code: Code,
    },
}

/// An HTTP/3 connection without the QUIC below it.
///
/// What QUIC receives goes in by `on_...`; after each of these, and after calls that send, everything that
/// [`poll_event`](Self::poll_event), [`poll_action`](Self::poll_action) and [`next_send`](Self::next_send) have is to be fetched, in this
/// order of the last two. Streams are numbered as QUIC numbers them (RFC 9000, section 2.1), under the assumption that nobody else opens
/// streams; those of one kind are to be opened in the order of their numbers.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    /// The peer's settings, or what we go by until they come.
    peer: Settings,
    /// Those that what was sent in 0-RTT relies on.
    remembered: Option<Settings>,
    has_settings: bool,
    encoder: Encoder,
    decoder: Decoder,
    /// Requests and pushes.
    streams: Map<Stream>,
    /// The peer's unidirectional streams but pushes.
    incoming: Map<Incoming>,
    /// Which of the critical streams the peer has opened, by type.
    critical: BTreeSet<u64>,
    seen_requests: Seen,
    seen_unidirectional: Seen,
    next_request: u64,
    next_unidirectional: u64,
    outbox: Outbox,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    goaway_sent: Option<u64>,
    goaway_received: Option<u64>,
    /// The largest push the client allows.
    max_push: Option<u64>,
    /// The next push, at a server.
    next_push: u64,
    pushes: Map<Push>,
    seen_pushes: Seen,
    /// Pushes whose streams have not come and are no matter to this client any more.
    unwanted: BTreeSet<u64>,
    /// Pushes that the server has cancelled and not promised yet.
    cancelled: BTreeSet<u64>,
    has_ended: bool,
}

/// A request with its response, or a push.
#[derive(Debug)]
struct Stream {
    push: Option<u64>,
    method: Method,
    send: Sending,
    recv: Receiving,
}

/// What of a request's method matters to its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Connect,
    Head,
    Other,
}

impl Method {
    fn of(head: &RequestHead) -> Self {
        match &head.method[..] {
            b"CONNECT" => Self::Connect,
            b"HEAD" => Self::Head,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Default)]
struct Push {
    /// The client's: the promised request, when it has come.
    promise: Option<RequestHead>,
    stream: Option<u64>,
    has_ended: bool,
}

impl Connection {
    /// One end of a new connection.
    pub fn new(role: Role, config: Config) -> Self {
        let settings = &config.settings;
        let max_section = settings.max_field_section_size.unwrap_or(u64::MAX).min(config.max_field_section);
        let mut connection = Self {
            role,
            peer: Settings::INITIAL,
            remembered: None,
            has_settings: false,
            encoder: Encoder::new(config.encoder_capacity),
            decoder: Decoder::new(
                settings.qpack_max_table_capacity,
                settings.qpack_blocked_streams,
                max_section,
            ),
            streams: Map::new(),
            incoming: Map::new(),
            critical: BTreeSet::new(),
            seen_requests: Seen::default(),
            seen_unidirectional: Seen::default(),
            next_request: 0,
            next_unidirectional: if role == Role::Client { 2 } else { 3 },
            outbox: Outbox::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            goaway_sent: None,
            goaway_received: None,
            max_push: None,
            next_push: 0,
            pushes: Map::new(),
            seen_pushes: Seen::default(),
            unwanted: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            has_ended: false,
            config,
        };
        connection.open_critical_streams();
        connection
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The peer's SETTINGS, once they have come: what a client may remember for 0-RTT.
    pub fn peer_settings(&self) -> Option<Settings> {
        self.has_settings.then_some(self.peer)
    }

    /// At a client that sends in 0-RTT: what the server's SETTINGS were in the connection that is resumed. They hold until its own come. If
    /// the server refuses 0-RTT, the connection has to be made anew without them.
    pub fn remember(&mut self, settings: Settings) {
        self.remembered = Some(settings);
        self.go_by(settings);
    }

    /// The same end of a connection that is begun anew.
    pub(crate) fn anew(&self) -> Self {
        let mut new = Self::new(self.role, self.config.clone());
        if let Some(max) = self.max_push.filter(|_| self.role == Role::Client) {
            // A new connection takes what the old one took.
            let _ = new.allow_pushes(max);
        }
        new
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// How many requests and pushes are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether a request or push is not over.
    pub fn is_open(&self, stream: u64) -> bool {
        self.streams.contains_key(&stream)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing the transport is to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What to send next. The same again until [`sent`](Self::sent) is called.
    pub fn next_send(&self) -> Option<Send<'_>> {
        self.outbox.next()
    }

    /// The transport took `count` bytes of what [`next_send`](Self::next_send) gave, and its end if it took all. If it did not, because flow
    /// control or the number of streams allows no more, the stream waits for [`on_writable`](Self::on_writable).
    pub fn sent(&mut self, stream: u64, count: usize) {
        self.outbox.sent(stream, count);
        let unsent = self.outbox.unsent(stream);
        if let Some(Stream { send, .. }) = self.streams.get_mut(&stream).map(|stream| &mut **stream)
            && send.was_refused
            && unsent <= self.config.max_unsent / 2
        {
            send.was_refused = false;
            self.events.push_back(Event::Writable { stream });
        }
    }

    /// The transport takes bytes of a stream again.
    pub fn on_writable(&mut self, stream: u64) {
        self.outbox.unblock(stream);
    }

    /// Whether to hand in more of a stream now. A transport that cannot hold data back need not ask; beyond the limit the stream fails.
    pub fn wants_data(&self, stream: u64) -> bool {
        self.streams.get(&stream).is_none_or(|stream| stream.recv.held() <= self.config.max_held / 2)
    }

    /// Bytes of a stream, in order.
    pub fn on_stream_data(&mut self, id: u64, data: &[u8], fin: bool) {
        if self.has_ended {
            return;
        }
        let result = if self.is_request(id) {
            self.open_request(id).map(|is_open| {
                if is_open {
                    self.feed(id, data, fin);
                }
            })
        } else if self.is_peers_unidirectional(id) {
            if self.streams.contains_key(&id) {
                self.feed(id, data, fin);
                Ok(())
            } else {
                self.on_unidirectional(id, data, fin)
            }
        } else {
            self.refuse_stream(id)
        };
        self.settle(result);
    }

    /// RESET_STREAM of the peer.
    pub fn on_reset(&mut self, id: u64, code: u64) {
        if self.has_ended {
            return;
        }
        let result = if self.is_request(id) {
            self.open_request(id).map(|_| self.on_message_reset(id, Code(code)))
        } else if self.is_peers_unidirectional(id) {
            self.on_unidirectional_reset(id, Code(code))
        } else {
            self.refuse_stream(id)
        };
        self.settle(result);
    }

    /// STOP_SENDING of the peer.
    pub fn on_stop_sending(&mut self, id: u64, code: u64) {
        if self.has_ended {
            return;
        }
        let result = if self.is_own_critical(id) {
            Err(ConnectionError {
                code: Code::H3_CLOSED_CRITICAL_STREAM,
                reason: "a critical stream was stopped",
            })
        } else {
            self.on_message_stopped(id, Code(code));
            Ok(())
        };
        self.settle(result);
    }

    /// The transport has not taken what was to be sent on a stream, and will not: a message is lost with it.
    pub fn on_refused(&mut self, id: u64) {
        if self.has_ended {
            return;
        }
        let code = Code::H3_INTERNAL_ERROR;
        if self.is_own_critical(id) {
            return self.close(code, "a critical stream was refused");
        }
        self.outbox.discard(id);
        self.actions.push_back(Action::Reset { stream: id, code });
        if let Some(mut stream) = self.streams.remove(&id) {
            stream.send = Sending::nothing();
            self.abandon(id, &stream, code);
        }
        self.events.push_back(Event::Failed { stream: id, code, by_peer: false });
        self.settle(Ok(()));
    }

    /// A datagram of the peer.
    pub fn on_datagram(&mut self, mut datagram: &[u8]) {
        if self.has_ended || !self.config.settings.h3_datagram {
            return;
        }
        let id = varint::read(&mut datagram).filter(|quarter| *quarter < 1 << 60).map(|quarter| quarter * 4);
        let result = match id {
            None => Err(ConnectionError {
                code: Code::H3_DATAGRAM_ERROR,
                reason: "a datagram without a valid stream",
            }),
            // A datagram may come before its request or after it; then it is lost.
            Some(stream) => {
                if self.streams.get(&stream).is_some_and(|stream| !stream.recv.is_done()) {
                    self.events.push_back(Event::Datagram { stream, payload: datagram.to_vec() });
                }
                Ok(())
            }
        };
        self.settle(result);
    }

    /// Closes the connection.
    pub fn close(&mut self, code: Code, reason: &'static str) {
        if !self.has_ended {
            self.end();
            self.actions.push_back(Action::Close(ConnectionError { code, reason }));
        }
    }

    /// The transport's connection has ended.
    pub fn on_closed(&mut self) {
        if !self.has_ended {
            self.end();
        }
    }

    fn open_critical_streams(&mut self) {
        let mut control = Vec::new();
        varint::write(&mut control, STREAM_CONTROL);
        frame::write(&mut control, frame::SETTINGS, &self.config.settings.encode(self.config.grease));
        if let Some(grease) = self.config.grease {
            frame::write(&mut control, reserved(grease), &[]);
        }
        for first in [control, vec![STREAM_ENCODER as u8], vec![STREAM_DECODER as u8]] {
            let id = self.open_unidirectional();
            self.outbox.push(id, |out| out.extend_from_slice(&first));
        }
    }

    fn open_unidirectional(&mut self) -> u64 {
        let id = self.next_unidirectional;
        self.next_unidirectional += 4;
        id
    }

    fn control_stream(&self) -> u64 {
        if self.role == Role::Client { 2 } else { 3 }
    }

    fn encoder_stream(&self) -> u64 {
        self.control_stream() + 4
    }

    fn decoder_stream(&self) -> u64 {
        self.control_stream() + 8
    }

    fn is_own_critical(&self, id: u64) -> bool {
        [self.control_stream(), self.encoder_stream(), self.decoder_stream()].contains(&id)
    }

    fn send_control(&mut self, ty: u64, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, ty, payload);
        self.outbox.push_urgent(self.control_stream(), &bytes);
    }

    fn is_request(&self, id: u64) -> bool {
        id & 3 == 0
    }

    fn is_peers_unidirectional(&self, id: u64) -> bool {
        id & 3 == if self.role == Role::Client { 3 } else { 2 }
    }

    /// Handles input on a stream that the peer has no business to send on.
    fn refuse_stream(&self, id: u64) -> Result<(), ConnectionError> {
        let is_servers_bidirectional = id & 3 == 1;
        if self.role == Role::Client && is_servers_bidirectional {
            let code = Code::H3_STREAM_CREATION_ERROR;
            return Err(ConnectionError { code, reason: "a bidirectional stream of the server" });
        }
        Ok(())
    }

    /// Ends the connection if handling input failed, and sends what QPACK has to say otherwise.
    fn settle(&mut self, result: Result<(), ConnectionError>) {
        if let Err(error) = result {
            self.fail(error);
        }
        if !self.has_ended {
            let instructions = self.decoder.take_instructions();
            self.outbox.push_urgent(self.decoder_stream(), &instructions);
            // A peer that makes us say something has to listen, too.
            if self.outbox.unsent(self.decoder_stream()) > MAX_UNSENT_INSTRUCTIONS {
                let reason = "the decoder stream is not read";
                self.fail(ConnectionError { code: Code::H3_EXCESSIVE_LOAD, reason });
            }
        }
    }

    fn fail(&mut self, error: ConnectionError) {
        self.end();
        self.actions.push_back(Action::Close(error.clone()));
        self.events.push_back(Event::Closed(error));
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.streams.clear();
        self.incoming.clear();
        self.pushes.clear();
        self.outbox.clear();
        self.actions.clear();
    }

    /// Puts a stream back that was taken out to handle something, or ends what failed.
    fn put_back(&mut self, id: u64, stream: Box<Stream>, result: Result<(), Failure>) {
        match result {
            Ok(()) if stream.recv.is_done() && stream.send.is_done() => self.forget_push(&stream),
            Ok(()) => {
                self.streams.insert(id, stream);
            }
            Err(Failure::Stream(code)) => {
                self.abandon(id, &stream, code);
                self.events.push_back(Event::Failed { stream: id, code, by_peer: false });
            }
            Err(Failure::Connection(error)) => self.fail(error),
        }
    }

    /// Ends both sides of a stream that was taken out.
    fn abandon(&mut self, id: u64, stream: &Stream, code: Code) {
        self.abandon_sending(id, stream, code);
        if !stream.recv.is_done() {
            self.actions.push_back(Action::StopSending { stream: id, code });
            self.decoder.cancel(id);
        }
        self.forget_push(stream);
    }

    fn abandon_sending(&mut self, id: u64, stream: &Stream, code: Code) {
        if !stream.send.is_done() || self.outbox.contains(id) {
            self.outbox.discard(id);
            self.actions.push_back(Action::Reset { stream: id, code });
        }
    }

    /// Ends a stream whose message is over, if not all of it was sent.
    fn abandon_unsent(&mut self, id: u64, code: Code) {
        if self.outbox.contains(id) {
            self.outbox.discard(id);
            self.actions.push_back(Action::Reset { stream: id, code });
        }
    }

    fn forget_push(&mut self, stream: &Stream) {
        let Some(push) = stream.push else { return };
        if let Some(known) = self.pushes.get_mut(&push) {
            known.has_ended = true;
            // The client waits for the promise, which may come later.
            if self.role == Role::Server || known.promise.is_some() {
                self.pushes.remove(&push);
            }
        }
    }
}
