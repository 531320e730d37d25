//! What the application sends.

use super::receive::{Receiving, content_of};
use super::{Action, Connection, Method, Push, Role, STREAM_PUSH, Stream, Target};
use crate::error::{Code, Error};
use crate::frame;
use crate::message::{RequestHead, ResponseHead, trailers_to_fields};
use crate::qpack::{Field, FieldRef, size_of};
use crate::varint;

/// While this much of our encoder stream is unsent, nothing is inserted.
const MAX_UNSENT_INSERTIONS: usize = 4096;

/// The sending side of a message's stream.
#[derive(Debug)]
pub(super) struct Sending {
    phase: Phase,
    /// How much content has still to be sent, if content-length said.
    remaining: Option<u64>,
    /// Not all of some content was taken.
    pub(super) was_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    /// Behind the trailers.
    Trailers,
    /// Of CONNECT: nothing but data goes.
    Tunnel,
    Done,
}

impl Sending {
    pub(super) fn head() -> Self {
        Self { phase: Phase::Head, remaining: None, was_refused: false }
    }

    /// For a stream on which nothing, or nothing more, is sent.
    pub(super) fn nothing() -> Self {
        Self { phase: Phase::Done, ..Self::head() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }
}

impl Connection {
    /// Sends a request's head, and with `fin` that is all. Returns its stream.
    pub fn send_request(&mut self, head: &RequestHead, fin: bool) -> Result<u64, Error> {
        self.expect_role(Role::Client, "only clients send requests")?;
        if self.goaway_received.is_some() {
            return Err(Error::GoingAway);
        }
        if head.protocol.is_some() && !self.peer.enable_connect_protocol {
            return Err(Error::NotEnabled("extended CONNECT"));
        }
        if self.streams.len() >= self.config.max_requests {
            return Err(Error::TooManyRequests);
        }
        if fin && head.content_length.is_some_and(|length| length > 0) {
            return Err(Error::ContentLength);
        }
        let id = self.next_request;
        let mut text = String::new();
        self.send_section(id, frame::HEADERS, &[], &head.to_fields(&mut text)?)?;
        self.next_request += 4;
        let method = Method::of(head);
        let phase = if method == Method::Connect { Phase::Tunnel } else { Phase::Body };
        let send = Sending { phase, remaining: head.content_length, was_refused: false };
        self.streams.insert(id, Box::new(Stream { push: None, method, send, recv: Receiving::expecting() }));
        if fin {
            self.finish(id, true)?;
        }
        Ok(id)
    }

    /// Sends a response's head on the stream of its request or push; one of an interim response if its status is 1xx. With `fin` that is all.
    pub fn send_response(&mut self, id: u64, head: &ResponseHead, fin: bool) -> Result<(), Error> {
        self.expect_role(Role::Server, "only servers send responses")?;
        let stream = self.streams.get(&id).ok_or(Error::Unknown)?;
        if stream.send.phase != Phase::Head {
            return Err(Error::WrongState("the response was sent"));
        }
        let method = stream.method;
        let remaining = content_of(method, head);
        if fin && (head.is_interim() || remaining.is_some_and(|remaining| remaining > 0)) {
            return Err(Error::ContentLength);
        }
        let mut texts = Default::default();
        self.send_section(id, frame::HEADERS, &[], &head.to_fields(&mut texts)?)?;
        if !head.is_interim()
            && let Some(stream) = self.streams.get_mut(&id)
        {
            let is_tunnel = method == Method::Connect && (200..300).contains(&head.status);
            stream.send.phase = if is_tunnel { Phase::Tunnel } else { Phase::Body };
            stream.send.remaining = remaining;
        }
        if fin {
            self.finish(id, true)?;
        }
        Ok(())
    }

    /// Sends content, and with `fin` that is all. Returns how much was taken: if less than all, which then does not end the message,
    /// [`Event::Writable`](super::Event::Writable) says when there is room again.
    pub fn send_body(&mut self, id: u64, data: &[u8], fin: bool) -> Result<usize, Error> {
        let room = self.config.max_unsent.saturating_sub(self.outbox.unsent(id));
        let send = &mut self.streams.get_mut(&id).ok_or(Error::Unknown)?.send;
        if !matches!(send.phase, Phase::Body | Phase::Tunnel) {
            return Err(Error::WrongState("no content can be sent now"));
        }
        let count = data.len().min(room);
        let is_all = count == data.len();
        if let Some(remaining) = &mut send.remaining {
            let left = remaining.checked_sub(data.len() as u64).ok_or(Error::ContentLength)?;
            if fin && left > 0 {
                return Err(Error::ContentLength);
            }
            *remaining -= count as u64;
        }
        send.was_refused = !is_all;
        if count > 0 {
            self.outbox.push(id, |out| {
                frame::write_header(out, frame::DATA, count);
                out.extend_from_slice(&data[..count]);
            });
        }
        if fin && is_all {
            self.finish(id, true)?;
        }
        Ok(count)
    }

    /// Sends trailers, and with `fin` that is all.
    pub fn send_trailers(&mut self, id: u64, trailers: &[Field], fin: bool) -> Result<(), Error> {
        let send = &self.streams.get(&id).ok_or(Error::Unknown)?.send;
        if send.phase != Phase::Body {
            return Err(Error::WrongState("no trailers can be sent now"));
        }
        if fin && send.remaining.is_some_and(|remaining| remaining > 0) {
            return Err(Error::ContentLength);
        }
        self.send_section(id, frame::HEADERS, &[], &trailers_to_fields(trailers)?)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.phase = Phase::Trailers;
        }
        if fin {
            self.finish(id, true)?;
        }
        Ok(())
    }

    /// Ends a message; with `check`, only if its content is as long as it said.
    pub fn finish(&mut self, id: u64, check: bool) -> Result<(), Error> {
        let send = &mut self.streams.get_mut(&id).ok_or(Error::Unknown)?.send;
        if matches!(send.phase, Phase::Head | Phase::Done) {
            return Err(Error::WrongState("there is no message to end"));
        }
        if check && send.remaining.is_some_and(|remaining| remaining > 0) {
            return Err(Error::ContentLength);
        }
        send.phase = Phase::Done;
        self.outbox.finish(id);
        if let Some(stream) = self.streams.remove(&id) {
            self.put_back(id, stream, Ok(()));
        }
        Ok(())
    }

    /// Sends a datagram that belongs to a request (RFC 9297).
    pub fn send_datagram(&mut self, id: u64, payload: &[u8]) -> Result<(), Error> {
        if !self.config.settings.h3_datagram || !self.peer.h3_datagram {
            return Err(Error::NotEnabled("datagrams"));
        }
        let stream = self.streams.get(&id).filter(|stream| stream.push.is_none()).ok_or(Error::Unknown)?;
        if stream.send.is_done() {
            return Err(Error::WrongState("the stream has ended"));
        }
        let mut datagram = Vec::with_capacity(payload.len() + 8);
        varint::write(&mut datagram, id / 4);
        datagram.extend_from_slice(payload);
        self.actions.push_back(Action::Datagram(datagram));
        Ok(())
    }

    /// Ends both sides of a CONNECT request because what it leads to broke.
    pub fn abort_connect(&mut self, id: u64) -> Result<(), Error> {
        let stream = self.streams.get(&id).ok_or(Error::Unknown)?;
        if stream.method != Method::Connect {
            return Err(Error::WrongState("not a CONNECT request"));
        }
        self.cancel(id, Code::H3_CONNECT_ERROR);
        Ok(())
    }

    /// Lets the server push, up to this number.
    pub fn allow_pushes(&mut self, max: u64) -> Result<(), Error> {
        self.expect_role(Role::Client, "only clients allow pushes")?;
        if max > varint::MAX || self.max_push.is_some_and(|before| max < before) {
            return Err(Error::WrongState("the limit only grows"));
        }
        self.max_push = Some(max);
        self.send_control(frame::MAX_PUSH_ID, &number(max));
        Ok(())
    }

    /// Promises the response to a request that the client did not send. Returns the number of the push.
    pub fn promise_push(&mut self, request: u64, head: &RequestHead) -> Result<u64, Error> {
        self.expect_role(Role::Server, "only servers push")?;
        let stream = self.streams.get(&request).ok_or(Error::Unknown)?;
        if stream.push.is_some() || stream.send.is_done() || stream.send.phase == Phase::Tunnel {
            return Err(Error::WrongState("no promise can be sent on this stream"));
        }
        let push = self.next_push;
        if self.max_push.is_none_or(|max| push > max) {
            return Err(Error::PushLimit);
        }
        if self.goaway_received.is_some_and(|first| push >= first) {
            return Err(Error::GoingAway);
        }
        if ![&b"GET"[..], b"HEAD"].contains(&&head.method[..])
            || head.content_length.is_some_and(|length| length > 0)
        {
            return Err(Error::WrongState("only GET and HEAD can be promised"));
        }
        let mut text = String::new();
        self.send_section(request, frame::PUSH_PROMISE, &number(push), &head.to_fields(&mut text)?)?;
        self.next_push += 1;
        self.pushes.insert(push, Box::new(Push { promise: Some(head.clone()), ..Push::default() }));
        Ok(push)
    }

    /// Opens the stream of a promised response, which is then sent like any other.
    pub fn open_push_stream(&mut self, push: u64) -> Result<u64, Error> {
        self.expect_role(Role::Server, "only servers push")?;
        let known = self.pushes.get(&push).ok_or(Error::Unknown)?;
        if known.stream.is_some() {
            return Err(Error::WrongState("the push has its stream"));
        }
        let method = known.promise.as_ref().map_or(Method::Other, Method::of);
        let id = self.open_unidirectional();
        if let Some(known) = self.pushes.get_mut(&push) {
            known.stream = Some(id);
        }
        self.outbox.push(id, |out| {
            varint::write(out, STREAM_PUSH);
            varint::write(out, push);
        });
        let stream = Stream { push: Some(push), method, send: Sending::head(), recv: Receiving::nothing() };
        self.streams.insert(id, Box::new(stream));
        Ok(id)
    }

    /// The stream of a push, if it was opened and is not over.
    pub fn push_stream(&self, push: u64) -> Option<u64> {
        self.pushes.get(&push)?.stream
    }

    /// Gives up a push: the server will not send it, the client does not want it.
    pub fn cancel_push(&mut self, push: u64) -> Result<(), Error> {
        self.expect_open()?;
        // A server that has not promised a push ends the connection when a client names it.
        let stream = self.pushes.remove(&push).ok_or(Error::Unknown)?.stream;
        if stream.is_none() {
            self.send_control(frame::CANCEL_PUSH, &number(push));
            if self.role == Role::Client {
                self.unwanted.insert(push);
            }
        }
        if let Some(stream) = stream {
            self.cancel(stream, Code::H3_REQUEST_CANCELLED);
        }
        Ok(())
    }

    /// Tells the server how to send a response (RFC 9218); `value` is a dictionary of structured fields.
    pub fn update_priority(&mut self, target: Target, value: &[u8]) -> Result<(), Error> {
        self.expect_role(Role::Client, "only clients send PRIORITY_UPDATE (RFC 9218, section 7.2)")?;
        let (ty, id) = match target {
            Target::Request(id) if id % 4 == 0 && id < self.next_request => {
                (frame::PRIORITY_UPDATE_REQUEST, id)
            }
            Target::Push(id) if self.pushes.contains_key(&id) => (frame::PRIORITY_UPDATE_PUSH, id),
            _ => return Err(Error::Unknown),
        };
        if !value.is_ascii() {
            return Err(Error::WrongState("a priority is ASCII"));
        }
        let mut payload = number(id);
        payload.extend_from_slice(value);
        self.send_control(ty, &payload);
        Ok(())
    }

    /// Announces that the connection will end: a server's client is to send no more requests, but those on their way are still answered.
    /// [`shutdown`](Self::shutdown) follows after a round trip or more.
    pub fn announce_shutdown(&mut self) -> Result<(), Error> {
        self.goaway(if self.role == Role::Server { varint::MAX - 3 } else { varint::MAX })
    }

    /// Takes no request (or push) that has not come by now. What is open goes on.
    pub fn shutdown(&mut self) -> Result<(), Error> {
        self.goaway(if self.role == Role::Server {
            self.seen_requests.next() * 4
        } else {
            self.seen_pushes.next()
        })
    }

    fn goaway(&mut self, first: u64) -> Result<(), Error> {
        self.expect_open()?;
        if self.goaway_sent.is_some_and(|before| first >= before) {
            return Ok(());
        }
        self.goaway_sent = Some(first);
        self.send_control(frame::GOAWAY, &number(first));
        Ok(())
    }

    /// Encodes fields and puts them on a stream, in a frame whose payload begins with `prefix`.
    fn send_section(
        &mut self,
        id: u64,
        ty: u64,
        prefix: &[u8],
        fields: &[FieldRef<'_>],
    ) -> Result<(), Error> {
        let size: u64 = fields.iter().map(|field| size_of(field.name, field.value)).sum();
        if self.peer.max_field_section_size.is_some_and(|most| size > most) {
            return Err(Error::TooLarge);
        }
        let may_insert = self.outbox.unsent(self.encoder_stream()) < MAX_UNSENT_INSERTIONS;
        let section = self.encoder.encode(id, fields, may_insert);
        self.outbox.push_urgent(self.encoder_stream(), &self.encoder.take_instructions());
        self.outbox.push(id, |out| {
            frame::write_header(out, ty, prefix.len() + section.len());
            out.extend_from_slice(prefix);
            out.extend_from_slice(&section);
        });
        Ok(())
    }

    fn expect_role(&self, role: Role, otherwise: &'static str) -> Result<(), Error> {
        self.expect_open()?;
        if self.role == role { Ok(()) } else { Err(Error::WrongState(otherwise)) }
    }

    fn expect_open(&self) -> Result<(), Error> {
        if self.has_ended { Err(Error::Closed) } else { Ok(()) }
    }
}

fn number(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::write(&mut bytes, value);
    bytes
}
