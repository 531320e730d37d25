//! One connection: the engine's state and what the interface promises beyond it. The caller's data is taken whole, streams
//! are named by number, effects come of events.

use crate::bounds;
use crate::effect::{Output, Sending, What};
use crate::ids::FastMap;
use crate::tls::{Client, Mailbox};
use crate::types::*;
use bytes::Bytes;
use quinn_proto::{
    ConnectionError, Dir, Event, FinishError, ReadError, SendDatagramError, Side, StreamEvent, VarInt,
    WriteError,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) handle: ConnectionHandle,
    pub(crate) engine: quinn_proto::Connection,
    path: Path,
    /// Where a client came from before it moved: it is asked whether it still is there.
    previous_path: Option<Path>,
    early: Option<Early>,
    ordered: bool,
    /// Streams that were opened, by direction: ours and the peer's.
    opened: [u64; 2],
    accepted: [u64; 2],
    queued: BTreeMap<StreamId, Queued>,
    queued_bytes: usize,
    /// Bytes that came on streams which go on.
    received: Received,
    pub(crate) progress: Progress,
    /// The handle is not valid any more; the engine answers late packets.
    pub(crate) ended: bool,
    /// When the handshake must be done.
    pub(crate) patience: Instant,
    /// Until when the endpoint sleeps for it, and until when it could.
    pub(crate) wakeup: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
    /// It is in the endpoint's queue of those that had more to send than went into a result.
    pub(crate) continues: bool,
    /// It is counted among the handshakes that peers began.
    pub(crate) half_open: bool,
    /// It got something in this call.
    pub(crate) touched: bool,
    /// Some stream was given a priority.
    prioritised: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Progress {
    Handshake,
    Ready,
    Confirmed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) address: SocketAddr,
    pub(crate) route: Option<RouteHandle>,
}

/// What a client's connection has to do with others.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) context: Vec<u8>,
    pub(crate) status: ZeroRttStatus,
}

/// Data that the engine does not take yet.
#[derive(Debug, Default)]
struct Queued {
    chunks: VecDeque<Bytes>,
    fin: bool,
    reset: Option<VarInt>,
    priority: i32,
}

type Refused = Result<(), LocalErrorCode>;

impl Connection {
    pub(crate) fn new(
        handle: ConnectionHandle,
        engine: quinn_proto::Connection,
        path: Path,
        early: Option<Early>,
        ordered: bool,
        patience: Instant,
    ) -> Self {
        Self {
            handle,
            engine,
            path,
            previous_path: None,
            early,
            ordered,
            opened: [0; 2],
            accepted: [0; 2],
            queued: BTreeMap::new(),
            queued_bytes: 0,
            received: Received::default(),
            progress: Progress::Handshake,
            ended: false,
            patience,
            wakeup: None,
            deadline: None,
            continues: false,
            half_open: false,
            touched: false,
            prioritised: false,
        }
    }

    /// Stream data: all of it is taken, or nothing.
    pub(crate) fn send_stream(&mut self, input: &SendStreamData<'_>) -> Refused {
        let id = self.sendable(input.stream_id)?;
        if let Some(queued) = self.queued.get(&input.stream_id)
            && (queued.fin || queued.reset.is_some())
        {
            return Err(LocalErrorCode::SendSideClosed);
        }
        if self.queued_bytes.saturating_add(input.bytes.len()) > bounds::QUEUED {
            return Err(LocalErrorCode::FlowControlViolation);
        }
        let mut left = input.bytes;
        if self.is_open(id) && !self.queued.contains_key(&input.stream_id) {
            let mut stream = self.engine.send_stream(id);
            // Otherwise the first bytes tell.
            if left.is_empty() && !matches!(stream.stopped(), Ok(None)) {
                return Err(LocalErrorCode::SendSideClosed);
            }
            if input.priority != 0 || self.prioritised {
                self.prioritised = true;
                stream.set_priority(input.priority).map_err(|_| LocalErrorCode::SendSideClosed)?;
            }
            while !left.is_empty() {
                match stream.write(left) {
                    Ok(count) => left = &left[count..],
                    Err(WriteError::Blocked) => break,
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                        return Err(LocalErrorCode::SendSideClosed);
                    }
                }
            }
            if left.is_empty() {
                return match input.fin.then(|| stream.finish()) {
                    None | Some(Ok(())) => Ok(()),
                    Some(Err(FinishError::Stopped(_) | FinishError::ClosedStream)) => {
                        Err(LocalErrorCode::SendSideClosed)
                    }
                };
            }
        }
        let queued = self.queued.entry(input.stream_id).or_default();
        if !left.is_empty() {
            queued.chunks.push_back(Bytes::copy_from_slice(left));
        }
        queued.fin = input.fin;
        queued.priority = input.priority;
        self.queued_bytes += left.len();
        Ok(())
    }

    pub(crate) fn send_datagram(&mut self, input: &SendDatagramData<'_>) -> Refused {
        if self.engine.is_handshaking() && !self.engine.has_0rtt() {
            return Err(LocalErrorCode::UnsupportedOperation);
        }
        match self.engine.datagrams().send(Bytes::copy_from_slice(input.bytes), true) {
            Ok(()) => Ok(()),
            Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                Err(LocalErrorCode::DatagramNotSupported)
            }
            // It is never blocked: older ones make room.
            Err(SendDatagramError::TooLarge | SendDatagramError::Blocked(_)) => {
                Err(LocalErrorCode::DatagramTooLarge)
            }
        }
    }

    pub(crate) fn reset_stream(&mut self, input: &ResetStream) -> Refused {
        let id = self.sendable(input.stream_id)?;
        let code = VarInt::from_u64(input.application_error_code).unwrap_or(VarInt::MAX);
        if self.queued.get(&input.stream_id).is_some_and(|queued| queued.reset.is_some()) {
            return Err(LocalErrorCode::SendSideClosed);
        }
        self.drop_queued(input.stream_id);
        if !self.is_open(id) {
            // Later ones open it, too, and then the peer must not wait for its data.
            self.queued.entry(input.stream_id).or_default().reset = Some(code);
            return Ok(());
        }
        self.engine.send_stream(id).reset(code).map_err(|_| LocalErrorCode::SendSideClosed)
    }

    pub(crate) fn stop_sending(&mut self, input: &StopSending) -> Refused {
        let id = self.known(input.stream_id)?;
        if id.dir() == Dir::Uni && self.is_ours(id) {
            return Err(LocalErrorCode::InvalidStreamDirection);
        }
        if !self.is_open(id) {
            return Err(LocalErrorCode::InvalidStreamId);
        }
        let code = VarInt::from_u64(input.application_error_code).unwrap_or(VarInt::MAX);
        self.engine.recv_stream(id).stop(code).map_err(|_| LocalErrorCode::ReceiveSideClosed)?;
        self.received.end(input.stream_id);
        Ok(())
    }

    pub(crate) fn update_keys(&mut self) -> Refused {
        if self.progress < Progress::Confirmed {
            return Err(LocalErrorCode::UnsupportedOperation);
        }
        self.engine.force_key_update();
        Ok(())
    }

    /// A client goes another way.
    pub(crate) fn migrate(&mut self, input: &RequestConnectionMigration<'_>, now: Instant) -> Refused {
        let possible = self.engine.side() == Side::Client
            && self.progress == Progress::Confirmed
            && input.reason == MigrationReason::Active;
        if !possible {
            return Err(LocalErrorCode::UnsupportedOperation);
        }
        self.path.route = Some(input.route_handle);
        // What is known of the old path says nothing of the new one.
        self.engine.path_changed(now);
        self.engine.local_address_changed();
        Ok(())
    }

    pub(crate) fn update_path_mtu(&mut self, route: Option<RouteHandle>, size: usize, now: Instant) -> bool {
        let concerned =
            (route.is_none() || route == self.path.route) && size < self.engine.current_mtu().into();
        if concerned {
            self.engine.path_changed(now);
        }
        concerned
    }

    /// Notices that the engine follows its peer along the path that a datagram came; gives the paths begun and left.
    #[inline]
    pub(crate) fn follow(&mut self, came: Path) -> Option<(Path, Option<Path>)> {
        let address = self.engine.remote_address();
        if address == self.path.address {
            if came.route != self.path.route && came.address == address {
                // The same peer, by another number.
                let left = std::mem::replace(&mut self.path, came);
                return Some((came, Some(left)));
            }
            return None;
        }
        let begun = match self.previous_path {
            // The new path could not be proved.
            Some(previous) if previous.address == address => previous,
            _ => came,
        };
        let left = self.previous_path.replace(self.path);
        self.path = begun;
        Some((begun, left))
    }

    /// The paths for which it counts.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> + use<> {
        [Some(self.path), self.previous_path].into_iter().flatten()
    }

    /// The engine's events, as effects. `Some` when the connection has ended, with whether that was a failure.
    pub(crate) fn events(&mut self, client: Option<&mut Client>, output: &mut Output) -> Option<bool> {
        let handle = self.handle;
        let mut ended = None;
        while let Some(event) = self.engine.poll() {
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => self.connected(output),
                Event::ConnectionLost { reason } => {
                    ended = Some(!matches!(reason, ConnectionError::ApplicationClosed(_)));
                }
                Event::DatagramReceived => {
                    while let Some(bytes) = self.engine.datagrams().recv() {
                        output.push(handle, What::Datagram(bytes));
                    }
                }
                Event::Stream(event) => self.stream_event(event, output),
            }
        }
        if self.progress == Progress::Ready && self.engine.stats().frame_rx.handshake_done > 0 {
            self.progress = Progress::Confirmed;
            output.push(handle, What::State(StateChange::HandshakeConfirmed));
        }
        if let (Some(client), Some(early)) = (client, &self.early)
            && let Some((sessions, tokens)) = early.mailbox.take()
        {
            for session in sessions {
                if let Some(name) = client.remember(session, &early.context) {
                    output.push(handle, What::Resumption(name));
                }
            }
            for token in tokens {
                output.push(handle, What::Token(token));
            }
        }
        ended
    }

    /// Datagrams, as far as there is room in the result; gives whether there may be more.
    #[inline]
    pub(crate) fn transmit(&mut self, now: Instant, output: &mut Output) -> bool {
        loop {
            let room = bounds::DATAGRAMS.saturating_sub(output.datagrams());
            if room == 0 {
                return true;
            }
            let buffer = output.buffer();
            let Some(transmit) = self.engine.poll_transmit(now, room.min(bounds::BATCH), buffer) else {
                return false;
            };
            let route = match self.previous_path {
                Some(previous) if previous.address == transmit.destination => previous.route,
                _ => self.path.route,
            };
            let sending = Sending {
                connection: self.handle,
                route,
                ecn: ecn(transmit.ecn),
                is_pmtu_probe: transmit.segment_size.is_none()
                    && transmit.size > self.engine.current_mtu().into(),
            };
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            output.send(sending, segment);
        }
    }

    pub(crate) fn has_more_to_send(&self) -> bool {
        !self.ended && (!self.queued.is_empty() || self.engine.has_pending_retransmits())
    }

    fn connected(&mut self, output: &mut Output) {
        output.push(self.handle, What::State(StateChange::HandshakeReady));
        self.progress = Progress::Ready;
        if self.engine.side() == Side::Server {
            self.progress = Progress::Confirmed;
            output.push(self.handle, What::State(StateChange::HandshakeConfirmed));
        }
        if let Some(early) = &self.early
            && early.status == ZeroRttStatus::Attempted
        {
            let status = if self.engine.accepted_0rtt() {
                ZeroRttStatus::Accepted
            } else {
                // The engine has forgotten the streams, and so does this.
                self.opened = [0; 2];
                self.queued.clear();
                self.queued_bytes = 0;
                ZeroRttStatus::Rejected
            };
            output.push(self.handle, What::ZeroRtt(status));
        }
        // The server may allow more than it did when the session began.
        self.open_queued(Dir::Bi);
        self.open_queued(Dir::Uni);
    }

    fn stream_event(&mut self, event: StreamEvent, output: &mut Output) {
        match event {
            StreamEvent::Opened { dir } => {
                while let Some(id) = self.engine.streams().accept(dir) {
                    self.accepted[dir as usize] += 1;
                    self.read(id, output);
                }
            }
            StreamEvent::Readable { id } => self.read(id, output),
            StreamEvent::Writable { id } => self.write_queued(id),
            StreamEvent::Available { dir } => self.open_queued(dir),
            StreamEvent::Stopped { id, error_code } => {
                self.drop_queued(id.into());
                // RFC 9000, 3.5: the answer is a reset. It may have been reset before.
                let _ = self.engine.send_stream(id).reset(error_code);
                output.push(self.handle, What::Stop { id: id.into(), code: error_code.into_inner() });
            }
            StreamEvent::Finished { .. } => {}
        }
    }

    fn read(&mut self, id: quinn_proto::StreamId, output: &mut Output) {
        let (handle, number) = (self.handle, u64::from(id));
        let mut stream = self.engine.recv_stream(id);
        // An error: it was stopped or has been read completely.
        let Ok(mut chunks) = stream.read(self.ordered) else { return };
        let (mut end, mut last) = (None, None);
        let mut goes_on = false;
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    last = Some(chunk.offset + chunk.bytes.len() as u64);
                    end = end.max(last);
                    let what =
                        What::Stream { id: number, offset: chunk.offset, bytes: chunk.bytes, fin: false };
                    output.push(handle, what);
                }
                Ok(None) => {
                    let size = end.max(self.received.end(number)).unwrap_or(0);
                    // Out of order, the last piece may have come before others.
                    if last != Some(size) || !output.finish_stream(handle, number) {
                        let what = What::Stream { id: number, offset: size, bytes: Bytes::new(), fin: true };
                        output.push(handle, what);
                    }
                    break;
                }
                Err(ReadError::Reset(code)) => {
                    let size = end.max(self.received.end(number)).unwrap_or(0);
                    output.push(handle, What::Reset { id: number, code: code.into_inner(), size });
                    break;
                }
                Err(ReadError::Blocked) => {
                    goes_on = true;
                    break;
                }
            }
        }
        // What there is to be sent is asked for anyway.
        let _ = chunks.finalize();
        if let (true, Some(end)) = (goes_on, end) {
            self.received.note(number, end);
        }
    }

    /// Streams that wait for the peer's permission.
    fn open_queued(&mut self, dir: Dir) {
        let ours = self.engine.side();
        let waiting: Vec<_> = self
            .queued
            .keys()
            .map(|id| stream_id(*id))
            .filter(|id| id.initiator() == ours && id.dir() == dir && !self.is_open(*id))
            .collect();
        for id in waiting {
            if !self.open(id) {
                break;
            }
            self.write_queued(id);
        }
    }

    fn write_queued(&mut self, id: quinn_proto::StreamId) {
        let number = u64::from(id);
        let Some(queued) = self.queued.get_mut(&number) else { return };
        let mut stream = self.engine.send_stream(id);
        if let Some(code) = queued.reset {
            // It has just been opened.
            let _ = stream.reset(code);
            self.queued.remove(&number);
            return;
        }
        // An error shows in what follows.
        let _ = stream.set_priority(queued.priority);
        while let Some(chunk) = queued.chunks.front_mut() {
            match stream.write_chunks(std::slice::from_mut(chunk)) {
                Ok(written) => {
                    self.queued_bytes -= written.bytes;
                    if chunk.is_empty() {
                        queued.chunks.pop_front();
                    }
                }
                Err(WriteError::Blocked) => return,
                // It is told of by an event.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return self.drop_queued(number),
            }
        }
        if queued.fin {
            // It was neither finished before, nor stopped: that is seen above.
            let _ = stream.finish();
        }
        self.queued.remove(&number);
    }

    fn drop_queued(&mut self, id: StreamId) {
        if let Some(queued) = self.queued.remove(&id) {
            self.queued_bytes -= queued.chunks.iter().map(Bytes::len).sum::<usize>();
        }
    }

    /// A stream on which this side may send.
    fn sendable(&mut self, number: StreamId) -> Result<quinn_proto::StreamId, LocalErrorCode> {
        let id = self.known(number)?;
        if id.dir() == Dir::Uni && !self.is_ours(id) {
            return Err(LocalErrorCode::InvalidStreamDirection);
        }
        Ok(id)
    }

    /// A stream that there is, or that is opened if the peer allows it.
    fn known(&mut self, number: StreamId) -> Result<quinn_proto::StreamId, LocalErrorCode> {
        let id = VarInt::from_u64(number).map_err(|_| LocalErrorCode::InvalidStreamId)?.into();
        if self.engine.is_handshaking() && !self.engine.has_0rtt() {
            return Err(LocalErrorCode::InvalidStreamId);
        }
        let known = match self.is_ours(id) {
            true => {
                self.is_open(id)
                    || self.open(id)
                    || id.index() < self.opened[id.dir() as usize] + bounds::STREAMS_AHEAD
            }
            false => self.is_open(id),
        };
        if known { Ok(id) } else { Err(LocalErrorCode::InvalidStreamId) }
    }

    /// Opens a stream of ours and all before it.
    fn open(&mut self, id: quinn_proto::StreamId) -> bool {
        let opened = &mut self.opened[id.dir() as usize];
        if id.index() >= *opened + bounds::STREAMS_AHEAD {
            return false;
        }
        while *opened <= id.index() && self.engine.streams().open(id.dir()).is_some() {
            *opened += 1;
        }
        *opened > id.index()
    }

    fn is_open(&self, id: quinn_proto::StreamId) -> bool {
        let count = if self.is_ours(id) { self.opened } else { self.accepted };
        id.index() < count[id.dir() as usize]
    }

    fn is_ours(&self, id: quinn_proto::StreamId) -> bool {
        id.initiator() == self.engine.side()
    }
}

/// How far streams have come. The one that came last is apart: in a long transfer it is always the same.
#[derive(Debug, Default)]
struct Received {
    last: Option<(StreamId, u64)>,
    others: FastMap<StreamId, u64>,
}

impl Received {
    fn note(&mut self, stream: StreamId, end: u64) {
        match &mut self.last {
            Some((last, before)) if *last == stream => *before = end.max(*before),
            _ => {
                let before = self.others.remove(&stream).unwrap_or(0);
                if let Some((last, end)) = self.last.replace((stream, end.max(before))) {
                    self.others.insert(last, end);
                }
            }
        }
    }

    /// The stream is over.
    fn end(&mut self, stream: StreamId) -> Option<u64> {
        match self.last {
            Some((last, end)) if last == stream => {
                self.last = None;
                Some(end)
            }
            // Most streams come in one piece.
            _ if self.others.is_empty() => None,
            _ => self.others.remove(&stream),
        }
    }
}

/// Of a number that has been looked at before.
fn stream_id(number: StreamId) -> quinn_proto::StreamId {
    VarInt::from_u64(number).unwrap_or(VarInt::MAX).into()
}

pub(crate) fn ecn(codepoint: Option<quinn_proto::EcnCodepoint>) -> EcnCodepoint {
    match codepoint {
        None => EcnCodepoint::NotEct,
        Some(quinn_proto::EcnCodepoint::Ect0) => EcnCodepoint::Ect0,
        Some(quinn_proto::EcnCodepoint::Ect1) => EcnCodepoint::Ect1,
        Some(quinn_proto::EcnCodepoint::Ce) => EcnCodepoint::Ce,
    }
}
