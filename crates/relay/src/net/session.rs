//! One connection: frames in, answers and deliveries out.
//!
//! In its turn a session takes what has come, hands each request to the service, and holds the answer until its position is
//! durable. Answers leave in their order, deliveries against credit in between. A peer that does not read has its own
//! answers pile up, and then its own requests unread, and holds nobody else up.

use super::bulk::Bulk;
use super::control_stream::Control;
use super::hub::{Durable, Hub, SessionId};
use super::server::Shared;
use crate::service::Caller;
use bytes::Bytes;
use qpc_journal::Position;
use qpc_proto::frame::{self, DELIVERY_OVERHEAD};
use qpc_proto::limits::{MAX_CONTROL_FRAME, MAX_CREDIT};
use qpc_proto::message::{ClientFrame, Delivery, Error, ErrorCode, RelayFrame, Reply, Request};
use qpc_proto::signing::EXPORTER_LABEL;
use qpc_proto::wire::Text;
use qpc_transport::driver::Next;
use quinn_proto::{Connection, Dir, Event, StreamEvent, VarInt};
use std::time::Instant;

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
    pub(super) fn broken() -> Self {
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
        if shared.closing && !matches!(self.0, Phase::Closed) {
            return Err(Close { code: 0, reason: "the relay is restarting" });
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
                    return Err(control.over());
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
            deadline = earliest(deadline, control.until());
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
            let up_to = match &outcome.reply {
                Some(Reply::Session(session)) => session.next_delivery.saturating_sub(1),
                _ => 0,
            };
            hub.open_mailbox(device, self.id, up_to);
        }
        // Acknowledgements speak of nothing that could be lost.
        let lazy = matches!(frame.request, Some(Request::Ack(_)));
        let position = if lazy { Position::default() } else { position };
        outcome.reply.map(|reply| Answer::new(frame.id, reply, position, outcome.close))
    }

    /// The next delivery, as a frame, if it is granted.
    pub(super) fn next_delivery(&mut self, hub: &mut Hub) -> Result<Option<Vec<u8>>, Close> {
        let deliveries = &mut self.deliveries;
        deliveries.ready = deliveries.ready.max(hub.ready(self.id).unwrap_or(0));
        let Some(device) = self.caller.device() else { return Ok(None) };
        if deliveries.credit == 0 || deliveries.sent >= deliveries.ready {
            return Ok(None);
        }
        // To go on behind what cannot be read would lose it: the client acknowledges all that came before.
        let next = hub.next_delivery(device, deliveries.sent);
        let next = next.map_err(|_| Close::new(ErrorCode::StorageFailed, "the relay's disk failed"))?;
        let Some((seq, entry)) = next.filter(|(seq, _)| *seq <= deliveries.ready) else {
            // Expired meanwhile.
            deliveries.sent = deliveries.ready;
            return Ok(None);
        };
        deliveries.sent = seq;
        deliveries.credit -= 1;
        Ok(Some(if entry.len() + DELIVERY_OVERHEAD > MAX_CONTROL_FRAME {
            let too_large = u32::try_from(entry.len()).unwrap_or(u32::MAX);
            let delivery = Delivery { seq, too_large, entry: None };
            frame::encode(&RelayFrame { id: 0, reply: Some(delivery.into()) })
        } else {
            frame::encode_delivery(seq, &entry)
        }))
    }
}

/// An answer on its way.
pub(super) struct Answer {
    id: u32,
    frame: Vec<u8>,
    /// It may be told once the store is durable up to here.
    pub(super) position: Position,
    /// Close the connection after it.
    pub(super) close: bool,
}

impl Answer {
    fn new(id: u32, reply: Reply, position: Position, close: bool) -> Self {
        Self { id, frame: frame::encode(&RelayFrame { id, reply: Some(reply) }), position, close }
    }

    pub(super) fn malformed(hub: &Hub, reason: &str) -> Self {
        let error = Error { code: ErrorCode::Malformed, reason: Text::new(reason), detail: 0 };
        Self::new(0, error.into(), hub.durable().position, true)
    }

    /// One that is too long for the control stream says that instead.
    pub(super) fn for_control(self) -> Self {
        if self.frame.len() <= MAX_CONTROL_FRAME + 4 {
            return self;
        }
        let reason = Text::new("the answer is too long for this stream; ask on one of its own");
        let error = Error { code: ErrorCode::TooLarge, reason, detail: 0 };
        Self::new(self.id, error.into(), self.position, self.close)
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

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::wire::Message;

    #[test]
    fn an_answer_too_long_for_the_control_stream_says_so() {
        let answer = |len| Answer { id: 9, frame: vec![0; len], position: Position::default(), close: false };
        let longest = MAX_CONTROL_FRAME + 4;
        assert_eq!(answer(longest).for_control().frame, vec![0; longest]);
        let refused = answer(longest + 1).for_control().frame;
        let refused = RelayFrame::decode(&refused[4..]).unwrap();
        assert_eq!(refused.id, 9);
        assert!(matches!(refused.reply, Some(Reply::Error(Error { code: ErrorCode::TooLarge, .. }))));
    }
}
