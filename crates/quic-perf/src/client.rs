//! The client: gives the work and measures how it is done.

use crate::options::Alpn;
use crate::peer::{Action, Event, Peer, Send, Time};
use crate::protocol::{CONTROL_STREAM, Counters, Direction, MAX_FRAME, Message, Mode, VERSION, Work};
use crate::report::Measured;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Without a sign of the server for that time, it is given up.
const IDLE: Duration = Duration::from_millis(1000);
/// The same while there are handshakes: the first packets are repeated after 1 s, 3 s and 7 s.
const IDLE_IN_HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest that streams under way at the end are waited for.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Client {
    work: Work,
    alpn: Alpn,
    connections: HashMap<u64, Connection>,
    /// Connections that were begun.
    connected: u64,
    phase: Phase,
    /// Connections whose handshake is under way.
    handshakes: u64,
    progress: Time,
    begun: Time,
    measured: Measured,
    outcome: Option<Result<(), String>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Before the first session.
    Waiting,
    Warmup {
        until: Time,
    },
    /// Without an end if the work is bounded.
    Measure {
        until: Option<Time>,
    },
    Drain {
        until: Option<Time>,
    },
}

#[derive(Debug, Default)]
struct Connection {
    established: bool,
    control: Vec<u8>,
    /// The server has taken the work.
    ready: bool,
    /// The server has done it.
    done: bool,
    closing: bool,
    closed: bool,
    /// Requests under way, by stream; in [`Mode::Bulk`] streams.
    streams: HashMap<u64, Request>,
    /// In [`Mode::PersistentRr`]: requests under way, and bytes that came of the first's response.
    queue: VecDeque<Request>,
    partial: u64,
    next_stream: u64,
    /// How many requests it may send, and has sent.
    limit: Option<u64>,
    requested: u64,
    fin_sent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    sent: Time,
    counts: bool,
}

impl Client {
    pub(crate) fn new(work: Work, alpn: Alpn) -> Self {
        let bounded = match work.mode {
            Mode::Bulk => work.total_bytes.is_some(),
            _ => work.requests.is_some(),
        };
        Self {
            work,
            alpn,
            connections: HashMap::new(),
            connected: 0,
            phase: if bounded { Phase::Measure { until: None } } else { Phase::Waiting },
            handshakes: 0,
            progress: 0,
            begun: 0,
            measured: Measured::default(),
            outcome: None,
        }
    }

    /// What was measured, and whether it went well.
    pub(crate) fn result(self) -> (Measured, Result<(), String>) {
        (self.measured, self.outcome.unwrap_or(Err("interrupted".into())))
    }

    fn fail(&mut self, reason: impl Into<String>) {
        self.outcome.get_or_insert(Err(reason.into()));
    }

    fn bounded(&self) -> bool {
        self.phase == Phase::Measure { until: None }
    }

    fn draining(&self) -> bool {
        matches!(self.phase, Phase::Drain { .. })
    }

    fn tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Warmup { until } if now >= until => self.measure(now),
            Phase::Measure { until: Some(until) } if now >= until => self.drain(now, until, actions),
            Phase::Drain { until: Some(until) } if now >= until => {
                for connection in self.connections.values_mut() {
                    connection.streams.clear();
                }
                self.close_drained(actions);
            }
            _ => {}
        }
        if self.idle_at().is_some_and(|at| now >= at) {
            self.fail("client timed out waiting for progress");
        }
    }

    /// When to give up: not while there is a time at which to go on anyway.
    fn idle_at(&self) -> Option<Time> {
        match self.phase {
            Phase::Waiting | Phase::Measure { until: None } | Phase::Drain { until: None } => {
                let patience = if self.handshakes > 0 { IDLE_IN_HANDSHAKE } else { IDLE };
                Some(self.progress + micros(patience))
            }
            _ => None,
        }
    }

    /// Begins connections, as many as there should be now.
    fn connect(&mut self, actions: &mut Vec<Action>) {
        let work = &self.work;
        let (wanted, limit) = match (work.mode, work.requests) {
            (Mode::Crr, requests) => (work.connections, requests.unwrap_or(u64::MAX)),
            (Mode::Rr | Mode::PersistentRr, Some(requests)) => {
                (work.connections.min(requests), work.connections)
            }
            _ => (work.connections, work.connections),
        };
        while (self.connections.len() as u64) < wanted && self.connected < limit && !self.draining() {
            let limit = match (work.mode, work.requests) {
                (Mode::Rr | Mode::PersistentRr, Some(requests)) => {
                    Some(requests / wanted + u64::from(self.connected < requests % wanted))
                }
                _ => None,
            };
            self.connected += 1;
            self.handshakes += 1;
            self.connections.insert(self.connected, Connection { limit, ..Connection::default() });
            actions.push(Action::Connect { connection: self.connected });
        }
    }

    fn ready(&mut self, key: u64, now: Time, actions: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        self.handshakes -= u64::from(!std::mem::replace(&mut connection.established, true));
        if connection.closing {
            return;
        }
        match self.alpn {
            Alpn::Perf => self.begin(key, now, actions),
            Alpn::CoquicPerf => {
                connection.next_stream = CONTROL_STREAM + 4;
                let requests = connection.limit.or(self.work.requests);
                let start = Message::Start { version: VERSION, work: Work { requests, ..self.work.clone() } };
                let head = start.encode();
                let stream = CONTROL_STREAM;
                actions.push(Action::Send(Send { connection: key, stream, head, payload: 0, fin: true }));
            }
        }
    }

    /// The server takes requests.
    fn begin(&mut self, key: u64, now: Time, actions: &mut Vec<Action>) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.ready = true;
        }
        if self.phase == Phase::Waiting {
            self.phase = Phase::Warmup { until: now + micros(self.work.warmup) };
            self.tick(now, actions);
        }
        self.request(key, now, actions);
    }

    fn control(&mut self, key: u64, bytes: &[u8], fin: bool, now: Time, actions: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let mut control = std::mem::take(&mut connection.control);
        control.extend_from_slice(bytes);
        let mut rest = &control[..];
        while self.outcome.is_none() {
            match Message::split(rest) {
                Ok(None) => break,
                Err(_) => self.fail("invalid control message"),
                Ok(Some((message, after))) => {
                    rest = after;
                    match message {
                        Message::Start { .. } => self.fail("client received unexpected session_start"),
                        Message::Ready { .. } => self.begin(key, now, actions),
                        Message::Error { reason } => self.fail(reason),
                        Message::Complete(counters) => self.complete(key, &counters),
                    }
                }
            }
        }
        if fin && !rest.is_empty() {
            self.fail("incomplete control frame at FIN");
        }
        debug_assert!(rest.len() < MAX_FRAME);
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.control = rest.to_vec();
        }
    }

    fn complete(&mut self, key: u64, counters: &Counters) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if !std::mem::replace(&mut connection.done, true) {
            let server = &mut self.measured.server;
            server.bytes_sent += counters.bytes_sent;
            server.bytes_received += counters.bytes_received;
            server.requests_completed += counters.requests_completed;
            if self.work.mode == Mode::Bulk {
                self.measured.client.requests_completed = server.requests_completed;
            }
        }
    }

    /// Sends what may be sent now.
    fn request(&mut self, key: u64, now: Time, actions: &mut Vec<Action>) {
        let (bounded, draining) = (self.bounded(), self.draining());
        let counts = matches!(self.phase, Phase::Measure { .. });
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if !connection.ready || connection.done || connection.closing || draining {
            return;
        }
        let work = &self.work;
        let in_flight = match work.mode {
            // All of them at once, and no more.
            Mode::Bulk if bounded && connection.requested > 0 => 0,
            Mode::Bulk => work.streams,
            Mode::Rr | Mode::PersistentRr => work.requests_in_flight,
            Mode::Crr => 1,
        };
        let limit = connection.limit.unwrap_or(match work.mode {
            Mode::Crr => 1,
            _ => u64::MAX,
        });
        let persistent = work.mode == Mode::PersistentRr;
        let free = in_flight.saturating_sub((connection.streams.len() + connection.queue.len()) as u64);
        let count = free.min(limit - connection.requested);
        let sent = &mut self.measured.client.bytes_sent;
        for _ in 0..if persistent { 0 } else { count } {
            let number = connection.requested;
            let (payload, wanted) = match (work.mode, work.direction, work.total_bytes) {
                (Mode::Bulk, Direction::Download, None) => (0, work.response_bytes),
                (Mode::Bulk, Direction::Download, Some(total)) => (0, work.share(total, number)),
                (Mode::Bulk, Direction::Upload, None) => (work.request_bytes.max(work.response_bytes), 0),
                (Mode::Bulk, Direction::Upload, Some(total)) => (work.share(total, number), 0),
                _ => (work.request_bytes, work.response_bytes),
            };
            let stream = connection.next_stream;
            connection.next_stream += 4;
            connection.requested += 1;
            connection.streams.insert(stream, Request { sent: now, counts });
            *sent += if counts { payload } else { 0 };
            let head = match self.alpn {
                Alpn::Perf => wanted.to_be_bytes().to_vec(),
                Alpn::CoquicPerf => Vec::new(),
            };
            actions.push(Action::Send(Send { connection: key, stream, head, payload, fin: true }));
        }
        if persistent && !connection.fin_sent {
            connection.queue.extend((0..count).map(|_| Request { sent: now, counts }));
            connection.requested += count;
            let payload = count * work.request_bytes;
            *sent += if counts { payload } else { 0 };
            connection.fin_sent = connection.requested == limit;
            if count > 0 {
                let (stream, fin) = (connection.next_stream, connection.fin_sent);
                actions.push(Action::Send(Send { connection: key, stream, head: Vec::new(), payload, fin }));
            }
        }
    }

    fn data(&mut self, key: u64, stream: u64, bytes: u64, fin: bool, now: Time, actions: &mut Vec<Action>) {
        let bounded = self.bounded();
        let within = matches!(self.phase, Phase::Measure { .. });
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let counters = &mut self.measured.client;
        if self.work.mode == Mode::PersistentRr {
            connection.partial += bytes;
            while connection.partial >= self.work.response_bytes
                && let Some(request) = connection.queue.pop_front()
            {
                connection.partial -= self.work.response_bytes;
                if request.counts {
                    counters.bytes_received += self.work.response_bytes;
                    counters.requests_completed += 1;
                    self.measured.latencies.push(latency(request, now));
                }
            }
        } else {
            let Some(request) = connection.streams.get(&stream).copied() else { return };
            let counts = match self.work.mode {
                // What comes late does not count, however early it was asked for.
                Mode::Bulk => request.counts && within && self.work.direction == Direction::Download,
                _ => request.counts,
            };
            if counts {
                counters.bytes_received += bytes;
            }
            if !fin {
                return;
            }
            connection.streams.remove(&stream);
            match self.work.mode {
                // The server says how many it had, if there is a control stream.
                Mode::Bulk if bounded && self.alpn == Alpn::Perf => counters.requests_completed += 1,
                Mode::Bulk => {}
                _ if request.counts => {
                    counters.requests_completed += 1;
                    self.measured.latencies.push(latency(request, now));
                }
                _ => {}
            }
            if self.alpn == Alpn::Perf && bounded && connection.streams.is_empty() {
                let more = match self.work.mode {
                    Mode::Bulk => false,
                    _ => connection.limit.is_some_and(|limit| connection.requested < limit),
                };
                connection.done = !more;
            }
            if self.work.mode == Mode::Crr {
                return close(key, connection, "done", actions);
            }
        }
        if self.draining() {
            self.close_drained(actions);
        } else {
            self.request(key, now, actions);
        }
    }

    fn measure(&mut self, now: Time) {
        self.phase = Phase::Measure { until: Some(now + micros(self.work.duration)) };
        self.begun = now;
        self.measured = Measured::default();
        let counts = self.work.mode == Mode::Bulk;
        for connection in self.connections.values_mut() {
            for request in connection.streams.values_mut().chain(&mut connection.queue) {
                request.counts = counts;
            }
        }
    }

    fn drain(&mut self, now: Time, end: Time, actions: &mut Vec<Action>) {
        self.measured.elapsed = Duration::from_micros(end - self.begun);
        let until = match self.work.mode {
            Mode::Bulk => Some(now + micros(self.work.duration.min(DRAIN))),
            _ => None,
        };
        self.phase = Phase::Drain { until };
        if self.work.mode == Mode::PersistentRr {
            for (key, connection) in &mut self.connections {
                if connection.ready && !std::mem::replace(&mut connection.fin_sent, true) {
                    let (connection, stream) = (*key, connection.next_stream);
                    let send = Send { connection, stream, head: Vec::new(), payload: 0, fin: true };
                    actions.push(Action::Send(send));
                }
            }
        }
        self.close_drained(actions);
    }

    /// Closes connections on which nothing is waited for any more.
    fn close_drained(&mut self, actions: &mut Vec<Action>) {
        for (key, connection) in &mut self.connections {
            match self.work.mode {
                Mode::Rr => close(*key, connection, "timed rr drain complete", actions),
                Mode::Crr => close(*key, connection, "timed crr drain complete", actions),
                Mode::PersistentRr if connection.queue.is_empty() => {
                    close(*key, connection, "persistent rr drain complete", actions);
                }
                Mode::Bulk if connection.streams.is_empty() => {
                    close(*key, connection, "timed bulk drain complete", actions);
                }
                Mode::PersistentRr | Mode::Bulk => {}
            }
        }
    }

    fn closed(&mut self, key: u64, failed: bool) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.closed = true;
        self.handshakes -= u64::from(!std::mem::replace(&mut connection.established, true));
        if !connection.closing && (failed || !connection.done) {
            self.fail(match failed {
                true => format!("client core state failed connection={key}"),
                false => format!("the server closed connection {key}"),
            });
        }
        if self.work.mode == Mode::Crr {
            self.connections.remove(&key);
        }
    }

    /// Whether everything is done.
    fn complete_yet(&self) -> bool {
        let counters = &self.measured.client;
        let mut connections = self.connections.values();
        if self.draining() {
            return connections.all(|connection| connection.closing);
        }
        if !self.bounded() || self.connected == 0 {
            return false;
        }
        let enough = self.work.requests.is_none_or(|requests| counters.requests_completed >= requests);
        match self.work.mode {
            Mode::Bulk => {
                let bytes = match self.work.direction {
                    Direction::Upload => counters.bytes_sent,
                    Direction::Download => counters.bytes_received,
                };
                let total = self.work.total_bytes.unwrap_or(0).saturating_mul(self.work.connections);
                connections.all(|connection| connection.done) && bytes >= total
            }
            Mode::Rr | Mode::PersistentRr => {
                enough
                    && connections.all(|connection| {
                        connection.done && connection.streams.is_empty() && connection.queue.is_empty()
                    })
            }
            Mode::Crr => enough && self.connections.is_empty(),
        }
    }

    fn finish(&mut self, now: Time) {
        if self.draining() {
            let work = &self.work;
            if work.mode != Mode::Bulk {
                let Counters { bytes_sent, bytes_received, requests_completed } = self.measured.client;
                self.measured.server =
                    Counters { bytes_sent: bytes_received, bytes_received: bytes_sent, requests_completed };
            } else if work.direction == Direction::Download
                && work.response_bytes > 0
                && self.measured.client.bytes_received == 0
            {
                return self.fail("timed bulk download measured zero bytes");
            }
        } else {
            self.measured.elapsed = Duration::from_micros(now - self.begun);
        }
        self.outcome = Some(Ok(()));
    }
}

impl Peer for Client {
    fn handle(&mut self, event: Event<'_>, now: Time, actions: &mut Vec<Action>) {
        if self.outcome.is_some() {
            return;
        }
        if !matches!(event, Event::Tick) {
            self.progress = now;
        }
        self.tick(now, actions);
        match event {
            Event::Tick | Event::Progress => {}
            Event::Ready { connection } => self.ready(connection, now, actions),
            Event::Data { connection, stream, bytes, fin } => {
                if stream == CONTROL_STREAM && self.alpn == Alpn::CoquicPerf {
                    self.control(connection, bytes, fin, now, actions);
                } else {
                    self.data(connection, stream, bytes.len() as u64, fin, now, actions);
                }
            }
            Event::Reset { connection, stream } => {
                self.fail(format!("the server reset stream {stream} of connection {connection}"));
            }
            Event::Closed { connection, failed } => self.closed(connection, failed),
            Event::Stop => self.fail("stopped"),
        }
        self.connect(actions);
        if self.outcome.is_none() && self.complete_yet() {
            self.finish(now);
        }
        if let Some(outcome) = &self.outcome {
            let reason = if outcome.is_ok() { "done" } else { "failed" };
            for (key, connection) in &mut self.connections {
                close(*key, connection, reason, actions);
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Warmup { until } => Some(until),
            Phase::Measure { until: Some(until) } | Phase::Drain { until: Some(until) } => Some(until),
            _ => self.idle_at(),
        }
    }

    fn finished(&self) -> bool {
        self.outcome.is_some()
    }
}

fn close(key: u64, connection: &mut Connection, reason: &'static str, actions: &mut Vec<Action>) {
    if !std::mem::replace(&mut connection.closing, true) && !connection.closed {
        actions.push(Action::Close { connection: key, reason });
    }
}

fn latency(request: Request, now: Time) -> u32 {
    u32::try_from(now - request.sent).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> Time {
    // Far enough away, and sums do not overflow.
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}
