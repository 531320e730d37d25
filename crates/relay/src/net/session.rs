//! One connection: frames in, answers and deliveries out.
//!
//! In its turn a session takes what has come, hands each request to the service, and holds the answer until its position is
//! durable. Answers leave in their order, deliveries against credit in between. A peer that does not read has its own
//! answers pile up, and then its own requests unread, and holds nobody else up.

use super::bulk::Bulk;
use super::hub::{Durable, Hub, SessionId};
use super::server::Shared;
use crate::service::Caller;
use bytes::Bytes;
use qpc_journal::Position;
use qpc_proto::frame::{self, Decoder};
use qpc_proto::limits::{MAX_CONTROL_FRAME, MAX_CREDIT, MAX_PIPELINE};
use qpc_proto::message::{
    ClientFrame, Delivery, Error, ErrorCode, Notice, NoticeKind, RelayFrame, Reply, Request,
};
use qpc_proto::signing::EXPORTER_LABEL;
use qpc_proto::wire::{Message, Text};
use qpc_transport::driver::Next;
use quinn_proto::{Connection, Dir, Event, SendStream, StreamEvent, StreamId, VarInt, WriteError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Why the relay ends a connection.
pub(super) struct Close {
    code: u32,
    reason: &'static str,
}

impl Close {
    pub(super) fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code: code.into(), reason }
    }

    /// The peer has broken off.
    fn broken() -> Self {
        Self::new(ErrorCode::Internal, "")
    }
}

/// What is kept for a connection.
pub(crate) struct Session(Phase);

enum Phase {
    /// The handshake has time until then.
    Handshake(Instant),
    Open(Box<Open>),
    /// All there is to be done is QUIC's.
    Closed,
}

impl Session {
    pub(super) fn new(handshake_until: Instant) -> Self {
        Self(Phase::Handshake(handshake_until))
    }

    /// See [`qpc_transport::driver::Application::turn`].
    pub(super) fn turn(
        &mut self,
        id: SessionId,
        connection: &mut Connection,
        shared: &mut Shared,
        now: Instant,
    ) -> Next {
        let close = match self.work(id, connection, shared, now) {
            Ok(next) => return next,
            Err(close) => close,
        };
        self.end(shared);
        connection.close(now, VarInt::from_u32(close.code), Bytes::from_static(close.reason.as_bytes()));
        Next::default()
    }

    fn work(
        &mut self,
        id: SessionId,
        connection: &mut Connection,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<Next, Close> {
        while let Some(event) = connection.poll() {
            match (event, &mut self.0) {
                (Event::Connected, Phase::Handshake(_)) => {
                    let open = Open::new(id, connection, now + shared.bounds.login_time)?;
                    shared.gate.leave();
                    shared.hub.connections += 1;
                    self.0 = Phase::Open(Box::new(open));
                }
                (Event::ConnectionLost { .. }, _) => self.end(shared),
                (Event::Stream(event), Phase::Open(open)) => open.event(&event, connection)?,
                _ => {}
            }
        }
        match &mut self.0 {
            Phase::Open(open) => open.turn(connection, shared, now),
            Phase::Handshake(until) if now < *until => Ok(Next { soon: false, deadline: Some(*until) }),
            Phase::Handshake(_) => Err(Close { code: 0, reason: "" }),
            Phase::Closed => Ok(Next::default()),
        }
    }

    /// Gives back what it had of what all share.
    pub(super) fn end(&mut self, shared: &mut Shared) {
        match std::mem::replace(&mut self.0, Phase::Closed) {
            Phase::Handshake(_) => shared.gate.leave(),
            Phase::Open(open) => {
                shared.hub.close(&open.caller, open.id);
                open.bulk.into_iter().for_each(|bulk| bulk.end(shared));
                shared.places.forget(open.id);
                shared.offer_place();
            }
            Phase::Closed => {}
        }
    }
}

/// A connection behind its handshake.
struct Open {
    id: SessionId,
    caller: Caller,
    /// When to close it unless it has logged in.
    login_until: Option<Instant>,
    /// The first stream that the peer opened.
    control: Option<Control>,
    bulk: Vec<Bulk>,
    deliveries: Deliveries,
}

impl Open {
    fn new(id: SessionId, connection: &Connection, login_until: Instant) -> Result<Self, Close> {
        let mut exporter = [0; 32];
        let exported = connection.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, b"");
        exported.map_err(|_| Close::new(ErrorCode::Internal, "no exporter"))?;
        Ok(Self {
            id,
            caller: Caller::new(exporter, connection.remote_address().ip()),
            login_until: Some(login_until),
            control: None,
            bulk: Vec::new(),
            deliveries: Deliveries::default(),
        })
    }

    fn event(&mut self, event: &StreamEvent, connection: &mut Connection) -> Result<(), Close> {
        let control = self.control.as_mut();
        match event {
            StreamEvent::Opened { .. } => {
                while let Some(stream) = connection.streams().accept(Dir::Bi) {
                    match &self.control {
                        None => self.control = Some(Control::new(stream)),
                        Some(_) => self.bulk.push(Bulk::new(stream)),
                    }
                }
            }
            StreamEvent::Readable { id } => match control.filter(|control| control.stream == *id) {
                Some(control) => control.readable = true,
                None => self.bulk.iter_mut().for_each(|bulk| bulk.readable(*id)),
            },
            StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. } => {
                if let Some(control) = control.filter(|control| control.stream == *id) {
                    // The last word has arrived, or nobody listens any more.
                    return Err(control
                        .farewell
                        .take()
                        .map_or_else(Close::broken, |farewell| farewell.close));
                }
            }
            // Whoever was blocked tries again in every turn.
            StreamEvent::Writable { .. } | StreamEvent::Available { .. } => {}
        }
        Ok(())
    }

    fn turn(
        &mut self,
        connection: &mut Connection,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<Next, Close> {
        if shared.closing {
            return Err(Close { code: 0, reason: "the relay is restarting" });
        }
        if self.login_until.is_some_and(|until| until <= now) {
            if !self.caller.authenticated() {
                return Err(Close::new(ErrorCode::NotAuthenticated, "log in sooner"));
            }
            self.login_until = None;
        }
        let mut peer = Peer { id: self.id, caller: &mut self.caller, deliveries: &mut self.deliveries };
        let mut soon = false;
        let mut deadline = self.login_until;
        if let Some(control) = &mut self.control {
            soon = control.turn(&mut peer, connection, &mut shared.hub, now)?;
            deadline = earliest(deadline, control.farewell.as_ref().map(|farewell| farewell.until));
        }
        let mut index = 0;
        while let Some(bulk) = self.bulk.get_mut(index) {
            if bulk.turn(&mut peer, connection, shared, now)? {
                self.bulk.swap_remove(index).end(shared);
            } else {
                deadline = earliest(deadline, bulk.until());
                index += 1;
            }
        }
        Ok(Next { soon, deadline })
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Who is at the other end, for the streams of a connection.
pub(super) struct Peer<'a> {
    pub(super) id: SessionId,
    pub(super) caller: &'a mut Caller,
    deliveries: &'a mut Deliveries,
}

/// Deliveries as far as they are granted and sent.
#[derive(Default)]
struct Deliveries {
    /// Granted and not sent.
    credit: u32,
    sent: u64,
    /// Durable.
    ready: u64,
}

impl Peer<'_> {
    /// Has the service answer a request, and does what follows for this connection.
    pub(super) fn request(&mut self, hub: &mut Hub, frame: &ClientFrame) -> Option<Answer> {
        let (outcome, position) = hub.handle(self.caller, frame);
        self.deliveries.credit = (self.deliveries.credit + outcome.credit).min(MAX_CREDIT);
        if let Some(device) = outcome.opened {
            *self.deliveries = Deliveries::default();
            if let Some(Reply::Session(session)) = &outcome.reply {
                self.deliveries.ready = session.next_delivery.saturating_sub(1);
            }
            hub.open_mailbox(device, self.id);
        }
        // Acknowledgements speak of nothing that could be lost.
        let lazy = matches!(frame.request, Some(Request::Ack(_)));
        let position = if lazy { Position::default() } else { position };
        outcome.reply.map(|reply| Answer::new(frame.id, reply, position, outcome.close))
    }

    /// The next delivery, as a frame, if it is granted.
    fn next_delivery(&mut self, hub: &mut Hub) -> Option<Vec<u8>> {
        let deliveries = &mut self.deliveries;
        deliveries.ready = deliveries.ready.max(hub.ready(self.id).unwrap_or(0));
        if deliveries.credit == 0 || deliveries.sent >= deliveries.ready {
            return None;
        }
        let next = self.caller.device().and_then(|device| hub.next_delivery(device, deliveries.sent));
        let Some((seq, entry)) = next.filter(|(seq, _)| *seq <= deliveries.ready) else {
            // Expired meanwhile.
            deliveries.sent = deliveries.ready;
            return None;
        };
        deliveries.sent = seq;
        deliveries.credit -= 1;
        Some(if entry.len() + DELIVERY_OVERHEAD > MAX_CONTROL_FRAME {
            let too_large = u32::try_from(entry.len()).unwrap_or(u32::MAX);
            let delivery = Delivery { seq, too_large, entry: None };
            frame::encode(&RelayFrame { id: 0, reply: Some(delivery.into()) })
        } else {
            frame::encode_delivery(seq, &entry)
        })
    }
}

/// An answer on its way.
pub(super) struct Answer {
    id: u32,
    frame: Vec<u8>,
    /// It may be told once the store is durable up to here.
    pub(super) position: Position,
    /// Close the connection after it.
    close: bool,
}

impl Answer {
    fn new(id: u32, reply: Reply, position: Position, close: bool) -> Self {
        Self { id, frame: frame::encode(&RelayFrame { id, reply: Some(reply) }), position, close }
    }

    fn malformed(hub: &Hub, reason: &str) -> Self {
        let error = Error { code: ErrorCode::Malformed, reason: Text::new(reason), detail: 0 };
        Self::new(0, error.into(), hub.durable().position, true)
    }

    /// As a frame; one whose batch could not be made durable says that instead.
    pub(super) fn into_frame(self, durable: Durable) -> Vec<u8> {
        if self.position <= durable.position {
            return self.frame;
        }
        let reason = Text::new("the relay's disk failed; ask again once it is repaired");
        let error = Error { code: ErrorCode::StorageFailed, reason, detail: 0 };
        frame::encode(&RelayFrame { id: self.id, reply: Some(error.into()) })
    }
}

/// The control stream.
struct Control {
    stream: StreamId,
    /// There may be something to read.
    readable: bool,
    decoder: Decoder,
    answers: VecDeque<Answer>,
    /// An answer that closes the connection is on its way: nothing behind its request is read.
    deaf: bool,
    out: Bytes,
    farewell: Option<Farewell>,
}

/// The last word is said; the connection is closed once it has arrived.
struct Farewell {
    close: Close,
    until: Instant,
    finished: bool,
}

impl Control {
    fn new(stream: StreamId) -> Self {
        Self {
            stream,
            readable: true,
            decoder: Decoder::new(MAX_CONTROL_FRAME),
            answers: VecDeque::new(),
            deaf: false,
            out: Bytes::new(),
            farewell: None,
        }
    }

    /// Does a bounded piece of work. Whether there is more that could be done at once.
    fn turn(
        &mut self,
        peer: &mut Peer<'_>,
        connection: &mut Connection,
        hub: &mut Hub,
        now: Instant,
    ) -> Result<bool, Close> {
        if self.farewell.as_ref().is_some_and(|farewell| farewell.until <= now) {
            return Err(self.farewell.take().map_or_else(Close::broken, |farewell| farewell.close));
        }
        let unread = self.read(peer, connection, hub)?;
        let unwritten = self.write(peer, connection, hub, now)?;
        let full = self.answers.len() >= MAX_PIPELINE;
        if self.answers.front().is_some_and(|answer| !hub.durable().decided(answer.position)) {
            hub.wake_when_durable(peer.id);
        }
        // What a long frame or many answers took is not kept for a connection that is quiet again.
        if self.decoder.is_empty() {
            self.decoder = Decoder::new(MAX_CONTROL_FRAME);
        }
        if self.answers.is_empty() {
            self.answers = VecDeque::new();
        }
        Ok(unread && !full || unwritten)
    }

    /// Has requests answered, as long as there is room for answers. Whether more may have come.
    fn read(
        &mut self,
        peer: &mut Peer<'_>,
        connection: &mut Connection,
        hub: &mut Hub,
    ) -> Result<bool, Close> {
        for _ in 0..TURN_FRAMES {
            if self.deaf || self.farewell.is_some() {
                return Ok(false);
            }
            if self.answers.len() >= MAX_PIPELINE {
                return Ok(true);
            }
            let request = loop {
                match self.decoder.next_frame() {
                    Ok(Some(frame)) => break ClientFrame::decode(frame).map_err(|error| error.to_string()),
                    Err(error) => break Err(error.to_string()),
                    Ok(None) => {}
                }
                if !self.fill(connection)? {
                    return Ok(false);
                }
            };
            let answer = match request {
                Ok(request) => peer.request(hub, &request),
                Err(reason) => Some(Answer::malformed(hub, &reason)),
            };
            self.deaf = answer.as_ref().is_some_and(|answer| answer.close);
            self.answers.extend(answer);
        }
        Ok(true)
    }

    /// Takes a piece of the stream. Whether there was one.
    fn fill(&mut self, connection: &mut Connection) -> Result<bool, Close> {
        if !self.readable {
            return Ok(false);
        }
        let mut stream = connection.recv_stream(self.stream);
        let mut chunks = stream.read(true).map_err(|_| Close::broken())?;
        match chunks.next(MAX_CONTROL_FRAME) {
            Ok(Some(chunk)) => self.decoder.feed(&chunk.bytes),
            Err(quinn_proto::ReadError::Blocked) => self.readable = false,
            // The peer ends the stream, and with it the session.
            Ok(None) | Err(quinn_proto::ReadError::Reset(_)) => return Err(Close::broken()),
        }
        // Whatever it says, the driver sends what there is to be sent.
        let _ = chunks.finalize();
        Ok(self.readable)
    }

    /// Writes what may be told, as long as the stream takes it. Whether it could go on at once.
    fn write(
        &mut self,
        peer: &mut Peer<'_>,
        connection: &mut Connection,
        hub: &mut Hub,
        now: Instant,
    ) -> Result<bool, Close> {
        let mut stream = connection.send_stream(self.stream);
        let mut written = 0;
        loop {
            write(&mut stream, &mut self.out).map_err(|_| Close::broken())?;
            if !self.out.is_empty() || written >= TURN_BYTES {
                return Ok(self.out.is_empty());
            }
            let mut out = Vec::new();
            while out.len() < TURN_BYTES
                && let Some(frame) = self.next_frame(peer, hub, now)
            {
                match out.is_empty() {
                    true => out = frame,
                    false => out.extend_from_slice(&frame),
                }
            }
            if out.is_empty() {
                break;
            }
            written += out.len();
            self.out = out.into();
        }
        if let Some(farewell) = self.farewell.as_mut().filter(|farewell| !farewell.finished) {
            farewell.finished = true;
            stream.finish().map_err(|_| Close::broken())?;
        }
        Ok(false)
    }

    /// What is to be said next: an answer that is durable, a notice, a delivery.
    fn next_frame(&mut self, peer: &mut Peer<'_>, hub: &mut Hub, now: Instant) -> Option<Vec<u8>> {
        if self.farewell.is_some() {
            return None;
        }
        let durable = hub.durable();
        if let Some(answer) = self.answers.pop_front_if(|answer| durable.decided(answer.position)) {
            if answer.close {
                self.say_farewell(ErrorCode::Malformed, now);
            }
            return Some(answer.into_frame(durable));
        }
        if let Some(kind) = hub.next_notice(peer.id) {
            if matches!(kind, NoticeKind::Replaced | NoticeKind::Revoked | NoticeKind::Closing) {
                self.say_farewell(ErrorCode::Internal, now);
            }
            return Some(frame::encode(&RelayFrame { id: 0, reply: Some(Notice { kind }.into()) }));
        }
        peer.next_delivery(hub)
    }

    fn say_farewell(&mut self, code: ErrorCode, now: Instant) {
        self.farewell = Some(Farewell { close: Close::new(code, ""), until: now + GOODBYE, finished: false });
    }
}

/// Writes as much as the stream takes, and leaves the rest.
pub(super) fn write(stream: &mut SendStream<'_>, out: &mut Bytes) -> Result<(), WriteError> {
    while !out.is_empty() {
        match stream.write_chunks(std::slice::from_mut(out)) {
            Ok(_) => {}
            Err(WriteError::Blocked) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a delivery's frame has besides the entry, at most.
const DELIVERY_OVERHEAD: usize = 64;
/// How long a last word may take to arrive.
const GOODBYE: Duration = Duration::from_secs(1);
/// Requests of one connection in one turn.
const TURN_FRAMES: usize = 32;
/// Bytes after which a connection writes on in its next turn.
const TURN_BYTES: usize = 16 * 1024;
