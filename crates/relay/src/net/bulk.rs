//! A stream of its own for one request that is too large for the control stream, or its answer.

use super::control_stream::write;
use super::server::Shared;
use super::session::{Answer, Close, Peer};
use bytes::Bytes;
use qpc_proto::frame::Decoder;
use qpc_proto::limits::MAX_BULK_FRAME;
use qpc_proto::message::{ClientFrame, ErrorCode};
use qpc_proto::wire::Message;
use quinn_proto::{Connection, ReadError, StreamId};
use std::time::Instant;

/// One request and its answer.
pub(super) struct Bulk {
    stream: StreamId,
    state: State,
    /// There may be something to read.
    readable: bool,
}

enum State {
    /// The request stays in the network until there is a place for it.
    Queued,
    Placed {
        /// When it has to be done.
        until: Instant,
        work: Work,
    },
}

enum Work {
    Reading(Vec<u8>),
    Waiting(Answer),
    Writing(Bytes),
}

impl Bulk {
    pub(super) fn new(stream: StreamId) -> Self {
        Self { stream, state: State::Queued, readable: true }
    }

    pub(super) fn readable(&mut self, stream: StreamId) {
        self.readable |= stream == self.stream;
    }

    /// When it has to be done.
    pub(super) fn until(&self) -> Option<Instant> {
        match &self.state {
            State::Queued => None,
            State::Placed { until, .. } => Some(*until),
        }
    }

    /// Does what can be done. Whether that was all.
    pub(super) fn turn(
        &mut self,
        peer: &mut Peer<'_>,
        connection: &mut Connection,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<bool, Close> {
        let malformed = || Close::new(ErrorCode::Malformed, "a bulk request was not one");
        if peer.caller.device().is_none() {
            return Err(malformed());
        }
        if let State::Queued = self.state {
            // A place for each request that is held in memory, of all connections.
            if !shared.places.take(peer.id) {
                return Ok(false);
            }
            shared.offer_place();
            let until = now + shared.bounds.login_time;
            self.state = State::Placed { until, work: Work::Reading(Vec::new()) };
        }
        let State::Placed { until, work } = &mut self.state else { return Ok(false) };
        if *until <= now {
            return Err(malformed());
        }
        if let Work::Reading(request) = work {
            if !self.readable || !read(connection, self.stream, request).ok_or_else(malformed)? {
                self.readable = false;
                return Ok(false);
            }
            let answer = decode(request).and_then(|request| peer.request(&mut shared.hub, &request));
            *work = Work::Waiting(answer.ok_or_else(malformed)?);
        }
        if let Work::Waiting(answer) = work {
            let durable = shared.hub.durable();
            if !durable.decided(answer.position) {
                shared.hub.wake_when_durable(peer.id);
                return Ok(false);
            }
            let answer = std::mem::replace(work, Work::Writing(Bytes::new()));
            if let Work::Waiting(answer) = answer {
                *work = Work::Writing(answer.into_frame(durable).into());
            }
        }
        let Work::Writing(out) = work else { return Ok(false) };
        let mut stream = connection.send_stream(self.stream);
        write(&mut stream, out).map_err(|_| malformed())?;
        if !out.is_empty() {
            return Ok(false);
        }
        stream.finish().map_err(|_| malformed())?;
        Ok(true)
    }

    /// Gives its place to the next.
    pub(super) fn end(self, shared: &mut Shared) {
        if let State::Placed { .. } = self.state {
            shared.places.give_back();
            shared.offer_place();
        }
    }
}

/// Takes what has come of a request. Whether that was the end of it; `None` if it is too long, or broken off.
fn read(connection: &mut Connection, stream: StreamId, request: &mut Vec<u8>) -> Option<bool> {
    let mut stream = connection.recv_stream(stream);
    let mut chunks = stream.read(true).ok()?;
    let end = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) if request.len() + chunk.bytes.len() > MAX_BULK_FRAME + 4 => break None,
            Ok(Some(chunk)) => request.extend_from_slice(&chunk.bytes),
            Ok(None) => break Some(true),
            Err(ReadError::Blocked) => break Some(false),
            Err(ReadError::Reset(_)) => break None,
        }
    };
    let _ = chunks.finalize();
    end
}

fn decode(request: &[u8]) -> Option<ClientFrame> {
    let mut decoder = Decoder::new(MAX_BULK_FRAME);
    decoder.feed(request);
    ClientFrame::decode(decoder.next_frame().ok()??).ok()
}
