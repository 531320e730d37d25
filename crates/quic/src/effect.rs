//! What a call gives back: effects in their order, in memory that is used again by later calls.

use crate::types::*;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What the caller has to do, or to know.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Effect<'a> {
    /// A datagram to be sent.
    SendDatagram {
        /// Whose it is, or 0.
        connection: ConnectionHandle,
        /// Which way.
        route_handle: Option<RouteHandle>,
        /// The UDP payload.
        bytes: &'a [u8],
        /// How to mark it.
        ecn: EcnCodepoint,
        /// It must not be fragmented, and its loss is no harm.
        is_pmtu_probe: bool,
    },
    /// Data of a stream.
    ReceiveStreamData {
        /// The connection.
        connection: ConnectionHandle,
        /// The stream.
        stream_id: StreamId,
        /// Where in the stream it belongs.
        offset: u64,
        /// The data.
        bytes: &'a [u8],
        /// Nothing comes after it.
        fin: bool,
        /// With `fin`: the length of the stream.
        final_size: Option<u64>,
    },
    /// A datagram of the peer's.
    ReceiveDatagramData {
        /// The connection.
        connection: ConnectionHandle,
        /// The payload.
        bytes: &'a [u8],
    },
    /// The peer abandoned its sending side.
    PeerResetStream {
        /// The connection.
        connection: ConnectionHandle,
        /// The stream.
        stream_id: StreamId,
        /// Why.
        application_error_code: u64,
        /// How much of it was received.
        final_size: u64,
    },
    /// The peer does not want more; the sending side has been reset.
    PeerStopSending {
        /// The connection.
        connection: ConnectionHandle,
        /// The stream.
        stream_id: StreamId,
        /// Why.
        application_error_code: u64,
    },
    /// A connection has got further, or failed.
    StateEvent {
        /// The connection.
        connection: ConnectionHandle,
        /// How far.
        change: StateChange,
    },
    /// A connection begins or ends.
    ConnectionLifecycleEvent {
        /// The connection.
        connection: ConnectionHandle,
        /// Which.
        event: Lifecycle,
    },
    /// A session that a later connection can resume.
    ResumptionStateAvailable {
        /// The connection.
        connection: ConnectionHandle,
        /// Names the session, for [`ResumptionState`].
        serialized: &'a [u8],
    },
    /// What becomes of early data.
    ZeroRttStatusEvent {
        /// The connection.
        connection: ConnectionHandle,
        /// What.
        status: ZeroRttStatus,
    },
    /// A token that spares a later connection the proof of its address.
    NewTokenAvailable {
        /// The connection.
        connection: ConnectionHandle,
        /// For [`ClientConnectionConfig::retry_token`].
        token: &'a [u8],
    },
    /// Of a kind that this version does not know.
    Unknown(u8),
}

/// Datagrams for one peer: each is `segment_size` long, the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Whose they are, or 0.
    pub connection: ConnectionHandle,
    /// Which way.
    pub route_handle: Option<RouteHandle>,
    /// The UDP payloads, one behind the other.
    pub bytes: &'a [u8],
    /// Where one ends and the next begins.
    pub segment_size: usize,
    /// How to mark them.
    pub ecn: EcnCodepoint,
    /// They must not be fragmented, and their loss is no harm.
    pub is_pmtu_probe: bool,
}

/// What a call gave.
#[derive(Debug)]
pub struct QueryResult(Option<Box<Output>>);

impl QueryResult {
    /// How many effects there are.
    pub fn effect_count(&self) -> usize {
        self.output().effect_count()
    }

    /// The effect at a position.
    pub fn effect(&self, index: usize) -> Result<Effect<'_>, Status> {
        self.output().effect(index)
    }

    /// All of them, in their order.
    pub fn effects(&self) -> Effects<'_> {
        Effects { result: self, next: 0 }
    }

    /// The datagrams to be sent as they lie in memory: those of one size together, as `UDP_SEGMENT` wants them.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        let output = self.output();
        output.sends.chunk_by(|one, next| one.buffer == next.buffer).map(|sends| {
            let Send { connection, route, ecn, is_pmtu_probe, len, .. } = sends[0];
            Transmit {
                connection,
                route_handle: route,
                bytes: &output.buffers[sends[0].buffer as usize],
                segment_size: len as usize,
                ecn,
                is_pmtu_probe,
            }
        })
    }

    /// All effects but [`Effect::SendDatagram`], in their order.
    pub fn events(&self) -> impl Iterator<Item = Effect<'_>> {
        self.output().others.iter().map(Other::effect)
    }

    /// When [`Endpoint::timer_expired`](crate::Endpoint::timer_expired) is to be called.
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.output().next_wakeup()
    }

    /// Why the command was refused, if it was.
    pub fn local_error(&self) -> Result<Option<LocalError>, Status> {
        Ok(self.output().local_error)
    }

    /// There is more to be sent at once: `timer_expired` gives it.
    pub fn send_continuation_pending(&self) -> bool {
        self.output().send_continuation_pending
    }

    /// What it is made of, for a library that hands it on as a pointer.
    #[doc(hidden)]
    #[inline]
    pub fn into_output(mut self) -> Box<Output> {
        self.0.take().unwrap_or_default()
    }

    #[doc(hidden)]
    #[inline]
    pub fn from_output(output: Box<Output>) -> Self {
        Self(Some(output))
    }

    fn output(&self) -> &Output {
        // It is there until the end.
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl Drop for QueryResult {
    #[inline]
    fn drop(&mut self) {
        if let Some(output) = self.0.take() {
            Pool::put(output);
        }
    }
}

/// The effects of a [`QueryResult`].
#[derive(Clone, Debug)]
pub struct Effects<'a> {
    result: &'a QueryResult,
    next: usize,
}

impl<'a> Iterator for Effects<'a> {
    type Item = Effect<'a>;

    fn next(&mut self) -> Option<Effect<'a>> {
        let effect = self.result.effect(self.next).ok()?;
        self.next += 1;
        Some(effect)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.result.effect_count() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Effects<'_> {}

static EMPTY: Output = Output {
    sends: Vec::new(),
    others: Vec::new(),
    buffers: Vec::new(),
    used: 0,
    wakeup: None,
    local_error: None,
    send_continuation_pending: false,
    home: None,
};

/// What becomes a [`QueryResult`].
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Output {
    sends: Vec<Send>,
    others: Vec<Other>,
    /// What the sends are slices of, and behind those used ones for later.
    buffers: Vec<Vec<u8>>,
    used: usize,
    /// When it is, and when the caller's time 0 was.
    pub(crate) wakeup: Option<(Instant, Instant)>,
    #[doc(hidden)]
    pub local_error: Option<LocalError>,
    #[doc(hidden)]
    pub send_continuation_pending: bool,
    home: Option<Arc<Pool>>,
}

#[derive(Debug)]
struct Send {
    connection: ConnectionHandle,
    route: Option<RouteHandle>,
    buffer: u32,
    start: u32,
    len: u32,
    ecn: EcnCodepoint,
    is_pmtu_probe: bool,
}

impl Send {
    fn effect<'a>(&self, buffers: &'a [Vec<u8>]) -> Effect<'a> {
        let start = self.start as usize;
        Effect::SendDatagram {
            connection: self.connection,
            route_handle: self.route,
            bytes: &buffers[self.buffer as usize][start..start + self.len as usize],
            ecn: self.ecn,
            is_pmtu_probe: self.is_pmtu_probe,
        }
    }
}

#[derive(Debug)]
struct Other {
    connection: ConnectionHandle,
    what: What,
}

/// In the order in which they come in a result.
#[derive(Debug)]
pub(crate) enum What {
    Stream { id: StreamId, offset: u64, bytes: Bytes, fin: bool },
    Datagram(Bytes),
    Reset { id: StreamId, code: u64, size: u64 },
    Stop { id: StreamId, code: u64 },
    State(StateChange),
    Resumption([u8; 16]),
    ZeroRtt(ZeroRttStatus),
    Token(Bytes),
    Lifecycle(Lifecycle),
}

impl What {
    fn rank(&self) -> u8 {
        match self {
            Self::Stream { .. } => 0,
            Self::Datagram(_) => 1,
            Self::Reset { .. } => 2,
            Self::Stop { .. } => 3,
            Self::State(_) => 4,
            Self::Resumption(_) => 5,
            Self::ZeroRtt(_) => 6,
            Self::Token(_) => 7,
            Self::Lifecycle(_) => 8,
        }
    }
}

impl Other {
    fn effect(&self) -> Effect<'_> {
        let connection = self.connection;
        match &self.what {
            What::Stream { id, offset, bytes, fin } => Effect::ReceiveStreamData {
                connection,
                stream_id: *id,
                offset: *offset,
                bytes,
                fin: *fin,
                final_size: fin.then(|| offset + bytes.len() as u64),
            },
            What::Datagram(bytes) => Effect::ReceiveDatagramData { connection, bytes },
            What::Reset { id, code, size } => Effect::PeerResetStream {
                connection,
                stream_id: *id,
                application_error_code: *code,
                final_size: *size,
            },
            What::Stop { id, code } => {
                Effect::PeerStopSending { connection, stream_id: *id, application_error_code: *code }
            }
            What::State(change) => Effect::StateEvent { connection, change: *change },
            What::Resumption(name) => Effect::ResumptionStateAvailable { connection, serialized: name },
            What::ZeroRtt(status) => Effect::ZeroRttStatusEvent { connection, status: *status },
            What::Token(token) => Effect::NewTokenAvailable { connection, token },
            What::Lifecycle(event) => Effect::ConnectionLifecycleEvent { connection, event: *event },
        }
    }
}

/// How the datagrams of one buffer are to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) connection: ConnectionHandle,
    pub(crate) route: Option<RouteHandle>,
    pub(crate) ecn: EcnCodepoint,
    pub(crate) is_pmtu_probe: bool,
}

impl Output {
    #[doc(hidden)]
    #[inline]
    pub fn effect_count(&self) -> usize {
        self.sends.len() + self.others.len()
    }

    #[doc(hidden)]
    #[inline]
    pub fn effect(&self, index: usize) -> Result<Effect<'_>, Status> {
        if let Some(send) = self.sends.get(index) {
            return Ok(send.effect(&self.buffers));
        }
        let other = self.others.get(index - self.sends.len()).ok_or(Status::InvalidArgument)?;
        Ok(other.effect())
    }

    #[doc(hidden)]
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.wakeup.map(|(at, start)| microseconds(at, start))
    }

    pub(crate) fn datagrams(&self) -> usize {
        self.sends.len()
    }

    /// Something empty to write datagrams into, for [`Output::send`].
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffers.len() == self.used {
            self.buffers.push(Vec::new());
        }
        let buffer = &mut self.buffers[self.used];
        buffer.clear();
        buffer
    }

    /// Sends what was written into the buffer: datagrams of `segment` bytes each, the last may be shorter.
    pub(crate) fn send(&mut self, sending: Sending, segment: usize) {
        let Sending { connection, route, ecn, is_pmtu_probe } = sending;
        let number = self.used as u32;
        let end = self.buffers[self.used].len();
        let mut start = 0;
        while start < end {
            let len = segment.min(end - start);
            self.sends.push(Send {
                connection,
                route,
                buffer: number,
                start: start as u32,
                len: len as u32,
                ecn,
                is_pmtu_probe,
            });
            start += len;
        }
        self.used += 1;
    }

    pub(crate) fn push(&mut self, connection: ConnectionHandle, what: What) {
        self.others.push(Other { connection, what });
    }

    /// Marks the last effect as the end of a stream, if it is data of that stream.
    pub(crate) fn finish_stream(&mut self, connection: ConnectionHandle, stream: StreamId) -> bool {
        match self.others.last_mut() {
            Some(Other { connection: of, what: What::Stream { id, fin, .. } })
                if *of == connection && *id == stream =>
            {
                *fin = true;
                true
            }
            _ => false,
        }
    }

    /// Puts the effects into the order that is promised.
    #[inline]
    pub(crate) fn sort(&mut self) {
        if self.others.len() > 1 {
            self.others.sort_by_key(|other| other.what.rank());
        }
    }
}

/// Used outputs.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "they travel in their boxes")]
pub(crate) struct Pool(Mutex<Vec<Box<Output>>>);

/// More results than that at a time are made and freed.
const KEPT: usize = 4;
/// Buffers larger than that are freed, and so many are kept with each.
const KEPT_BUFFERS: usize = 4;
const KEPT_BYTES: usize = 32 * 1024;
const KEPT_EFFECTS: usize = 128;

/// Rounded up: not a microsecond before it is due.
pub(crate) fn microseconds(at: Instant, start: Instant) -> TimeUs {
    let after = at.duration_since(start);
    after.as_secs().saturating_mul(1_000_000).saturating_add(after.subsec_nanos().div_ceil(1000).into())
}

impl Pool {
    pub(crate) fn take(self: &Arc<Self>) -> Box<Output> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut output = used.unwrap_or_default();
        output.home = Some(Arc::clone(self));
        output
    }

    fn put(mut output: Box<Output>) {
        let Some(home) = output.home.take() else { return };
        let Output { sends, others, buffers, used, .. } = &mut *output;
        sends.clear();
        others.clear();
        // A large result was an exception.
        let is_large = buffers.first().is_some_and(|buffer| buffer.capacity() > KEPT_BYTES);
        if *used > 1 || is_large || others.capacity() > KEPT_EFFECTS {
            sends.shrink_to(KEPT_EFFECTS);
            others.shrink_to(KEPT_EFFECTS);
            buffers.retain(|buffer| buffer.capacity() <= KEPT_BYTES);
            buffers.truncate(KEPT_BUFFERS);
        }
        *used = 0;
        output.local_error = None;
        let mut kept = home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(output);
        }
    }
}
