//! Messages that come in.

use super::send::Sending;
use super::{Action, Connection, Event, Method, Push, Role, Stream};
use crate::error::{Code, ConnectionError, Failure, Malformed};
use crate::frame::{self, FrameReader, Payload, Piece};
use crate::message::{RequestHead, ResponseHead, check_trailers};
use crate::qpack::{Decoded, Field};
use crate::varint;

/// The receiving side of a message's stream.
#[derive(Debug)]
pub(super) struct Receiving {
    phase: Phase,
    frames: FrameReader,
    /// How much content has still to come, if content-length said.
    remaining: Option<u64>,
    /// A section that waits for entries of the dynamic table, and what came behind it.
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    /// Behind the trailers.
    Trailers,
    /// Of CONNECT: nothing but data comes.
    Tunnel,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Head,
    Promise(u64),
    Trailers,
}

#[derive(Debug)]
struct Waiting {
    section: Section,
    encoded: Vec<u8>,
    behind: Vec<u8>,
    fin: bool,
}

impl Receiving {
    pub(super) fn expecting() -> Self {
        Self { phase: Phase::Head, frames: FrameReader::default(), remaining: None, waiting: None }
    }

    /// For a stream the peer cannot send on.
    pub(super) fn nothing() -> Self {
        Self { phase: Phase::Done, ..Self::expecting() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Bytes that are kept.
    pub(super) fn held(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.behind.len())
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Done;
        self.waiting = None;
    }
}

impl Connection {
    /// Makes sure that a request's stream is there, if it is to be: not if it is over.
    pub(super) fn open_request(&mut self, id: u64) -> Result<bool, ConnectionError> {
        if self.role == Role::Client || self.streams.contains_key(&id) {
            return Ok(self.streams.contains_key(&id));
        }
        let too_many =
            ConnectionError { code: Code::H3_EXCESSIVE_LOAD, reason: "too many streams were left out" };
        if !self.seen_requests.is_new(id / 4).ok_or(too_many)? {
            return Ok(false);
        }
        let stream =
            Stream { push: None, method: Method::Other, send: Sending::head(), recv: Receiving::expecting() };
        if self.streams.len() >= self.config.max_requests || self.goaway_sent.is_some_and(|first| id >= first)
        {
            self.abandon(id, &stream, Code::H3_REQUEST_REJECTED);
            return Ok(false);
        }
        self.streams.insert(id, Box::new(stream));
        Ok(true)
    }

    pub(super) fn open_push(&mut self, id: u64, push: u64) {
        let known = self.pushes.entry(push).or_default();
        known.stream = Some(id);
        let method = known.promise.as_ref().map_or(Method::Other, Method::of);
        let stream =
            Stream { push: Some(push), method, send: Sending::nothing(), recv: Receiving::expecting() };
        self.streams.insert(id, Box::new(stream));
        self.events.push_back(Event::Push { push, stream: id });
    }

    pub(super) fn feed(&mut self, id: u64, data: &[u8], fin: bool) {
        if let Some(mut stream) = self.streams.remove(&id) {
            let result = self.read(id, &mut stream, data, fin);
            self.put_back(id, stream, result);
        }
    }

    /// Goes on with streams that waited for entries of the dynamic table.
    pub(super) fn feed_unblocked(&mut self) {
        for id in self.decoder.unblocked() {
            let Some(mut stream) = self.streams.remove(&id) else { continue };
            if let Some(Waiting { section, encoded, behind, fin }) = stream.recv.waiting.take() {
                let result = match self.section(id, &mut stream, section, encoded) {
                    Ok(()) => self.read(id, &mut stream, &behind, fin),
                    Err(failure) => Err(failure),
                };
                self.put_back(id, stream, result);
            }
            if self.has_ended {
                return;
            }
        }
    }

    pub(super) fn on_message_reset(&mut self, id: u64, code: Code) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if stream.recv.is_done() {
            self.streams.insert(id, stream);
            return;
        }
        self.decoder.cancel(id);
        stream.recv.end();
        // Half a request cannot be answered, and without the response there is no use in the request.
        self.abandon(id, &stream, Code::H3_REQUEST_CANCELLED);
        self.events.push_back(Event::Failed { stream: id, code, by_peer: true });
    }

    pub(super) fn on_message_stopped(&mut self, id: u64, code: Code) {
        let Some(mut stream) = self.streams.remove(&id) else { return self.abandon_unsent(id, code) };
        if self.role == Role::Server {
            self.abandon(id, &stream, Code::H3_REQUEST_CANCELLED);
            self.events.push_back(Event::Failed { stream: id, code, by_peer: true });
            return;
        }
        // The response may be on its way all the same.
        self.abandon_sending(id, &stream, code);
        stream.send = Sending::nothing();
        self.events.push_back(Event::Stopped { stream: id, code });
        self.put_back(id, stream, Ok(()));
    }

    /// Handles bytes of a stream that was taken out.
    fn read(&mut self, id: u64, stream: &mut Stream, mut data: &[u8], fin: bool) -> Result<(), Failure> {
        if stream.recv.is_done() {
            return Ok(());
        }
        if let Some(waiting) = &mut stream.recv.waiting {
            waiting.behind.extend_from_slice(data);
            waiting.fin |= fin;
        } else {
            let (role, is_push) = (self.role, stream.push.is_some());
            let longest = self.decoder.max_section();
            while let Some(piece) = {
                let phase = stream.recv.phase;
                stream.recv.frames.next(&mut data, |ty| judge(role, is_push, phase, longest, ty))?
            } {
                match piece {
                    Piece::Part(part) => self.body(id, stream, part)?,
                    Piece::Whole(ty, payload) => self.whole_frame(id, stream, ty, payload)?,
                }
                if let Some(waiting) = &mut stream.recv.waiting {
                    waiting.behind = data.to_vec();
                    waiting.fin = fin;
                    break;
                }
            }
        }
        match &stream.recv.waiting {
            Some(waiting) if waiting.behind.len() > self.config.max_held => {
                Err(Failure::Stream(Code::H3_EXCESSIVE_LOAD))
            }
            Some(_) => Ok(()),
            None if fin => self.message_end(id, stream),
            None => Ok(()),
        }
    }

    fn whole_frame(
        &mut self,
        id: u64,
        stream: &mut Stream,
        ty: u64,
        payload: Vec<u8>,
    ) -> Result<(), Failure> {
        if ty == frame::HEADERS {
            let is_head = stream.recv.phase == Phase::Head;
            return self.section(
                id,
                stream,
                if is_head { Section::Head } else { Section::Trailers },
                payload,
            );
        }
        let mut section = &payload[..];
        let truncated = Failure::connection(Code::H3_FRAME_ERROR, "a promise without a push id");
        let push = varint::read(&mut section).ok_or(truncated)?;
        if self.max_push.is_none_or(|max| push > max) {
            return Err(Failure::connection(Code::H3_ID_ERROR, "a promise beyond the limit"));
        }
        let section = section.to_vec();
        self.section(id, stream, Section::Promise(push), section)
    }

    fn section(
        &mut self,
        id: u64,
        stream: &mut Stream,
        section: Section,
        encoded: Vec<u8>,
    ) -> Result<(), Failure> {
        match self.decoder.decode(id, &encoded)? {
            Decoded::Fields(fields) => self.fields(id, stream, section, fields),
            Decoded::TooLarge => Err(Failure::Stream(Code::H3_EXCESSIVE_LOAD)),
            Decoded::Blocked => {
                stream.recv.waiting = Some(Waiting { section, encoded, behind: Vec::new(), fin: false });
                Ok(())
            }
        }
    }

    fn fields(
        &mut self,
        id: u64,
        stream: &mut Stream,
        section: Section,
        fields: Vec<Field>,
    ) -> Result<(), Failure> {
        let event = match section {
            Section::Trailers => {
                stream.recv.phase = Phase::Trailers;
                Event::Trailers { stream: id, fields: check_trailers(fields)? }
            }
            Section::Promise(push) => return self.promise(id, push, RequestHead::from_fields(fields)?),
            Section::Head if self.role == Role::Server => {
                let head = RequestHead::from_fields(fields)?;
                if head.protocol.is_some() && !self.config.settings.enable_connect_protocol {
                    return Err(Malformed("extended CONNECT is not enabled").into());
                }
                stream.method = Method::of(&head);
                stream.recv.remaining = head.content_length;
                stream.recv.phase =
                    if stream.method == Method::Connect { Phase::Tunnel } else { Phase::Body };
                Event::Request { stream: id, head }
            }
            Section::Head => {
                let head = ResponseHead::from_fields(fields)?;
                if head.is_interim() {
                    Event::Interim { stream: id, head }
                } else {
                    let is_tunnel = stream.method == Method::Connect && (200..300).contains(&head.status);
                    stream.recv.phase = if is_tunnel { Phase::Tunnel } else { Phase::Body };
                    stream.recv.remaining = content_of(stream.method, &head);
                    Event::Response { stream: id, head }
                }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn promise(&mut self, id: u64, push: u64, head: RequestHead) -> Result<(), Failure> {
        // A promised request has to be safe and without content (RFC 9114, section 4.6).
        if ![&b"GET"[..], b"HEAD"].contains(&&head.method[..])
            || head.content_length.is_some_and(|length| length > 0)
        {
            return Err(Malformed("a promise of what cannot be pushed").into());
        }
        let is_over = self.seen_pushes.has(push) && !self.pushes.contains_key(&push);
        if is_over || self.unwanted.contains(&push) {
            return Ok(());
        }
        if self.cancelled.remove(&push) {
            self.unwanted.insert(push);
            self.events.push_back(Event::Promise { stream: id, push, head });
            self.events.push_back(Event::PushCancelled { push });
            return Ok(());
        }
        let known: &mut Push = self.pushes.entry(push).or_default();
        match &known.promise {
            Some(other) if *other != head => {
                let code = Code::H3_GENERAL_PROTOCOL_ERROR;
                return Err(Failure::connection(code, "two promises of one push differ"));
            }
            _ => known.promise = Some(head.clone()),
        }
        if known.has_ended {
            self.pushes.remove(&push);
        }
        self.events.push_back(Event::Promise { stream: id, push, head });
        Ok(())
    }

    fn body(&mut self, id: u64, stream: &mut Stream, part: &[u8]) -> Result<(), Failure> {
        if let Some(remaining) = &mut stream.recv.remaining {
            let beyond = Malformed("more content than content-length says");
            *remaining = remaining.checked_sub(part.len() as u64).ok_or(beyond)?;
        }
        self.events.push_back(Event::Body { stream: id, data: part.to_vec() });
        Ok(())
    }

    fn message_end(&mut self, id: u64, stream: &mut Stream) -> Result<(), Failure> {
        if !stream.recv.frames.is_between_frames() {
            return Err(Failure::connection(Code::H3_FRAME_ERROR, "a stream ends within a frame"));
        }
        if stream.recv.phase == Phase::Head {
            let is_request = self.role == Role::Server;
            stream.recv.end();
            return Err(Failure::Stream(if is_request {
                Code::H3_REQUEST_INCOMPLETE
            } else {
                Code::H3_MESSAGE_ERROR
            }));
        }
        stream.recv.end();
        if stream.recv.remaining.is_some_and(|remaining| remaining > 0) {
            return Err(Malformed("less content than content-length says").into());
        }
        self.events.push_back(Event::End { stream: id });
        Ok(())
    }

    /// A client gives up requests that the server will not process.
    pub(super) fn reject_from(&mut self, first: u64) {
        let rejected: Vec<u64> = self
            .streams
            .range(first..)
            .filter(|(_, stream)| stream.push.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in rejected {
            if let Some(stream) = self.streams.remove(&id) {
                self.abandon(id, &stream, Code::H3_REQUEST_CANCELLED);
                let code = Code::H3_REQUEST_REJECTED;
                self.events.push_back(Event::Failed { stream: id, code, by_peer: true });
            }
        }
    }

    /// Wants no more of a message; what was to be sent is still sent.
    pub fn stop_receiving(&mut self, id: u64, code: Code) {
        if let Some(mut stream) = self.streams.remove(&id) {
            if !stream.recv.is_done() {
                self.actions.push_back(Action::StopSending { stream: id, code });
                self.decoder.cancel(id);
                stream.recv.end();
            }
            self.put_back(id, stream, Ok(()));
            self.settle(Ok(()));
        }
    }

    /// Gives up a request with its response, or a push.
    pub fn cancel(&mut self, id: u64, code: Code) {
        match self.streams.remove(&id) {
            Some(stream) => self.abandon(id, &stream, code),
            None if self.is_own_critical(id) => {}
            None => self.abandon_unsent(id, code),
        }
        self.settle(Ok(()));
    }
}

/// How much content a response has, if that is known.
pub(super) fn content_of(method: Method, head: &ResponseHead) -> Option<u64> {
    match (method, head.status) {
        (Method::Head, _) | (_, 204 | 304) => Some(0),
        (Method::Connect, 200..300) => None,
        _ => head.content_length,
    }
}

/// Whether a frame has its place on a message's stream (RFC 9114, sections 4.1 and 7.2).
fn judge(role: Role, is_push: bool, phase: Phase, longest: u64, ty: u64) -> Result<Payload, ConnectionError> {
    let unexpected = Err(ConnectionError {
        code: Code::H3_FRAME_UNEXPECTED,
        reason: "a frame that has no place on this stream",
    });
    match (ty, phase) {
        (frame::DATA, Phase::Body | Phase::Tunnel) => Ok(Payload::Pieces),
        (frame::HEADERS, Phase::Head | Phase::Body) => Ok(Payload::Whole(longest.saturating_add(PREFIX))),
        (frame::PUSH_PROMISE, Phase::Head | Phase::Body | Phase::Trailers)
            if role == Role::Client && !is_push =>
        {
            Ok(Payload::Whole(longest.saturating_add(PREFIX)))
        }
        (
            frame::DATA
            | frame::HEADERS
            | frame::PUSH_PROMISE
            | frame::CANCEL_PUSH
            | frame::SETTINGS
            | frame::GOAWAY
            | frame::MAX_PUSH_ID
            | frame::PRIORITY_UPDATE_REQUEST
            | frame::PRIORITY_UPDATE_PUSH,
            _,
        ) => unexpected,
        _ if frame::is_of_http2(ty) => unexpected,
        _ => Ok(Payload::Skip),
    }
}

/// What an encoded section may have beyond the size of its fields: the prefix, and the id of a push.
const PREFIX: u64 = 32;
