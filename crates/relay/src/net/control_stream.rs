//! The control stream of a connection: requests in, and out what may be told.

use super::hub::Hub;
use super::session::{Answer, Close, Peer};
use bytes::Bytes;
use qpc_proto::frame::{self, Decoder};
use qpc_proto::limits::{MAX_CONTROL_FRAME, MAX_PIPELINE};
use qpc_proto::message::{ClientFrame, ErrorCode, Notice, NoticeKind, RelayFrame};
use qpc_proto::wire::Message;
use quinn_proto::{Connection, ReadError, SendStream, StreamId, WriteError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The control stream.
pub(super) struct Control {
    pub(super) stream: StreamId,
    /// There may be something to read.
    pub(super) readable: bool,
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
    pub(super) fn new(stream: StreamId) -> Self {
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

    /// When the connection is closed, whether the last word has arrived or not.
    pub(super) fn until(&self) -> Option<Instant> {
        self.farewell.as_ref().map(|farewell| farewell.until)
    }

    /// The last word has arrived, or nobody listens any more.
    pub(super) fn over(&mut self) -> Close {
        self.farewell.take().map_or_else(Close::broken, |farewell| farewell.close)
    }

    /// Does a bounded piece of work. Whether there is more that could be done at once.
    pub(super) fn turn(
        &mut self,
        peer: &mut Peer<'_>,
        connection: &mut Connection,
        hub: &mut Hub,
        now: Instant,
    ) -> Result<bool, Close> {
        if self.until().is_some_and(|until| until <= now) {
            return Err(self.over());
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
                Ok(request) => peer.request(hub, &request).map(Answer::for_control),
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
            Err(ReadError::Blocked) => self.readable = false,
            // The peer ends the stream, and with it the session.
            Ok(None) | Err(ReadError::Reset(_)) => return Err(Close::broken()),
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
                && let Some(frame) = self.next_frame(peer, hub, now)?
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
    fn next_frame(
        &mut self,
        peer: &mut Peer<'_>,
        hub: &mut Hub,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, Close> {
        if self.farewell.is_some() {
            return Ok(None);
        }
        let durable = hub.durable();
        if let Some(answer) = self.answers.pop_front_if(|answer| durable.decided(answer.position)) {
            if answer.close {
                self.say_farewell(ErrorCode::Malformed, now);
            }
            return Ok(Some(answer.into_frame(durable)));
        }
        if let Some(kind) = hub.next_notice(peer.id) {
            if matches!(kind, NoticeKind::Replaced | NoticeKind::Revoked | NoticeKind::Closing) {
                self.say_farewell(ErrorCode::Internal, now);
            }
            return Ok(Some(frame::encode(&RelayFrame { id: 0, reply: Some(Notice { kind }.into()) })));
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

/// How long a last word may take to arrive.
const GOODBYE: Duration = Duration::from_secs(1);
/// Requests of one connection in one turn.
const TURN_FRAMES: usize = 32;
/// Bytes after which a connection writes on in its next turn.
const TURN_BYTES: usize = 16 * 1024;
