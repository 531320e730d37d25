//! The server: does what each connection's `session_start` asks for.

use crate::options::Alpn;
use crate::peer::{Action, Event, Peer, Send, Time};
use crate::protocol::{CONTROL_STREAM, Counters, Direction, MAX_FRAME, Message, Mode, VERSION, Work};
use std::collections::HashMap;

/// When a server ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exit {
    /// When the last connection has gone.
    pub(crate) on_idle_empty: bool,
    /// When every session is complete.
    pub(crate) on_session_complete: bool,
    /// At this time.
    pub(crate) at: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Server {
    alpn: Alpn,
    exit: Exit,
    sessions: HashMap<u64, Session>,
    /// There has been a session.
    accepted: bool,
    finished: bool,
}

#[derive(Debug, Default)]
struct Session {
    control: Vec<u8>,
    work: Option<Work>,
    counters: Counters,
    complete: bool,
    /// Of streams that go on: bytes of a request that is not complete.
    partial: HashMap<u64, Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: u64,
    /// Of `perf`: how many bytes are wanted.
    wanted: u64,
}

/// The length of the number with which streams of `perf` begin.
const WANTED: u64 = 8;

impl Server {
    pub(crate) fn new(alpn: Alpn, exit: Exit) -> Self {
        Self { alpn, exit, sessions: HashMap::new(), accepted: false, finished: false }
    }
}

impl Peer for Server {
    fn handle(&mut self, event: Event<'_>, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Ready { connection } => {
                self.accepted = true;
                self.sessions.insert(connection, Session::default());
            }
            Event::Data { connection, stream, bytes, fin } => {
                // Streams of one direction have no answer.
                if let Some(session) = self.sessions.get_mut(&connection)
                    && stream & 2 == 0
                {
                    let mut session = Turn { session, connection, stream, actions };
                    match self.alpn {
                        Alpn::Perf => session.perf(bytes, fin),
                        Alpn::CoquicPerf if stream == CONTROL_STREAM => session.control(bytes, fin),
                        Alpn::CoquicPerf => session.data(bytes.len() as u64, fin),
                    }
                }
            }
            Event::Reset { connection, stream } => {
                if let Some(session) = self.sessions.get_mut(&connection) {
                    session.partial.remove(&stream);
                }
            }
            Event::Closed { connection, .. } => {
                self.sessions.remove(&connection);
            }
            Event::Tick | Event::Progress | Event::Stop => {}
        }
        let complete =
            self.exit.on_session_complete && self.sessions.values().all(|session| session.complete);
        let empty = self.exit.on_idle_empty && self.sessions.is_empty();
        let stopped = matches!(event, Event::Stop) || self.exit.at.is_some_and(|at| now >= at);
        if stopped {
            for connection in self.sessions.keys().copied() {
                actions.push(Action::Close { connection, reason: "the server stops" });
            }
        }
        self.finished |= stopped || (self.accepted && (complete || empty));
    }

    fn deadline(&self) -> Option<Time> {
        self.exit.at
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

/// A session that got data on one of its streams.
struct Turn<'a> {
    session: &'a mut Session,
    connection: u64,
    stream: u64,
    actions: &'a mut Vec<Action>,
}

impl Turn<'_> {
    fn control(&mut self, bytes: &[u8], fin: bool) {
        let control = &mut self.session.control;
        // Of what is too long to be a frame it is enough to know that it is.
        control.extend_from_slice(&bytes[..bytes.len().min(MAX_FRAME + 1 - control.len())]);
        if !fin || self.session.work.is_some() {
            return;
        }
        match Message::decode(&std::mem::take(control)) {
            Ok(Message::Start { version, work }) => match Message::objection(version, &work) {
                Some(reason) => self.refuse(reason),
                None => {
                    self.session.work = Some(work);
                    self.say(&Message::Ready { version: VERSION }, false);
                }
            },
            _ => self.refuse("expected session_start"),
        }
    }

    fn data(&mut self, bytes: u64, fin: bool) {
        let Some(work) = &self.session.work else { return };
        let counters = &mut self.session.counters;
        counters.bytes_received += bytes;
        let (mode, requests) = (work.mode, work.requests);
        if mode == Mode::PersistentRr {
            let partial = self.session.partial.entry(self.stream).or_default();
            partial.bytes += bytes;
            let left =
                requests.map_or(u64::MAX, |requests| requests.saturating_sub(counters.requests_completed));
            let count = (partial.bytes / work.request_bytes).min(left);
            partial.bytes -= count * work.request_bytes;
            if fin {
                self.session.partial.remove(&self.stream);
            }
            if count > 0 {
                counters.requests_completed += count;
                let payload = count.saturating_mul(work.response_bytes);
                self.answer(payload, false);
                self.complete_after(requests);
            }
        } else if fin {
            let stream = counters.requests_completed;
            counters.requests_completed += 1;
            let payload = match (mode, work.direction, work.total_bytes) {
                // Everything is there; that the stream ends tells the client so.
                (Mode::Bulk, Direction::Upload, _) => 0,
                (Mode::Bulk, Direction::Download, Some(total)) => work.share(total, stream),
                _ => work.response_bytes,
            };
            let target = match mode {
                Mode::Bulk => work.total_bytes.and(Some(work.streams)),
                Mode::Rr => requests,
                Mode::Crr | Mode::PersistentRr => None,
            };
            self.answer(payload, true);
            self.complete_after(target);
        }
    }

    /// `perf`: a number, anything, the end; then so many bytes go back.
    fn perf(&mut self, bytes: &[u8], fin: bool) {
        let partial = self.session.partial.entry(self.stream).or_default();
        for byte in bytes.iter().take(WANTED.saturating_sub(partial.bytes) as usize) {
            partial.wanted = partial.wanted << 8 | u64::from(*byte);
        }
        partial.bytes += bytes.len() as u64;
        if fin && let Some(Partial { bytes, wanted }) = self.session.partial.remove(&self.stream) {
            self.answer(if bytes < WANTED { 0 } else { wanted }, true);
        }
    }

    fn answer(&mut self, payload: u64, fin: bool) {
        let counters = &mut self.session.counters;
        counters.bytes_sent = counters.bytes_sent.saturating_add(payload);
        let (connection, stream) = (self.connection, self.stream);
        self.actions.push(Action::Send(Send { connection, stream, head: Vec::new(), payload, fin }));
    }

    fn complete_after(&mut self, requests: Option<u64>) {
        let counters = self.session.counters;
        if !self.session.complete && requests.is_some_and(|requests| counters.requests_completed >= requests)
        {
            self.session.complete = true;
            self.say(&Message::Complete(counters), true);
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.say(&Message::Error { reason: reason.into() }, true);
    }

    fn say(&mut self, message: &Message, fin: bool) {
        self.actions.push(Action::Send(Send {
            connection: self.connection,
            stream: CONTROL_STREAM,
            head: message.encode(),
            payload: 0,
            fin,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn server() -> Server {
        let mut server = Server::new(Alpn::CoquicPerf, Exit::default());
        server.handle(Event::Ready { connection: 1 }, 0, &mut Vec::new());
        server
    }

    fn data(server: &mut Server, stream: u64, bytes: &[u8], fin: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        server.handle(Event::Data { connection: 1, stream, bytes, fin }, 0, &mut actions);
        actions
    }

    fn work(mode: Mode, direction: Direction) -> Work {
        Work {
            mode,
            direction,
            request_bytes: 10,
            response_bytes: 20,
            total_bytes: None,
            requests: None,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            streams: 3,
            connections: 1,
            requests_in_flight: 1,
        }
    }

    fn start(server: &mut Server, work: Work) {
        let frame = Message::Start { version: VERSION, work }.encode();
        assert_eq!(data(server, 0, &frame[..7], false), []);
        let ready = Message::Ready { version: 3 }.encode();
        assert_eq!(data(server, 0, &frame[7..], true), [sent(0, ready, 0, false)]);
    }

    fn sent(stream: u64, head: Vec<u8>, payload: u64, fin: bool) -> Action {
        Action::Send(Send { connection: 1, stream, head, payload, fin })
    }

    fn complete(bytes_sent: u64, bytes_received: u64, requests_completed: u64) -> Action {
        let counters = Counters { bytes_sent, bytes_received, requests_completed };
        sent(0, Message::Complete(counters).encode(), 0, true)
    }

    #[test]
    fn what_is_no_start_is_refused() {
        let refused = |reason: &str| sent(0, Message::Error { reason: reason.into() }.encode(), 0, true);
        let none = Message::Ready { version: 3 }.encode();
        for bytes in [&b""[..], b"GET / HTTP/1.0\r\n", &none, &[0; 100_000]] {
            assert_eq!(data(&mut server(), 0, bytes, true), [refused("expected session_start")]);
        }
        let version_2 = Message::Start { version: 2, work: work(Mode::Rr, Direction::Download) };
        let actions = data(&mut server(), 0, &version_2.encode(), true);
        assert_eq!(actions, [refused("unsupported protocol version")]);
    }

    #[test]
    fn data_before_the_start_is_not_answered() {
        assert_eq!(data(&mut server(), 4, b"abc", true), []);
    }

    #[test]
    fn bulk_download_shares_the_total() {
        let mut server = server();
        start(&mut server, Work { total_bytes: Some(11), ..work(Mode::Bulk, Direction::Download) });
        assert_eq!(data(&mut server, 4, b"", true), [sent(4, Vec::new(), 4, true)]);
        // In the order in which they end.
        assert_eq!(data(&mut server, 12, b"", true), [sent(12, Vec::new(), 4, true)]);
        assert_eq!(data(&mut server, 8, b"", true), [sent(8, Vec::new(), 3, true), complete(11, 0, 3)]);
    }

    #[test]
    fn bulk_upload_is_counted() {
        let mut server = server();
        start(&mut server, Work { total_bytes: Some(11), streams: 1, ..work(Mode::Bulk, Direction::Upload) });
        assert_eq!(data(&mut server, 4, b"12345", false), []);
        assert_eq!(data(&mut server, 4, b"678901", true), [sent(4, Vec::new(), 0, true), complete(0, 11, 1)]);
    }

    #[test]
    fn timed_bulk_is_never_complete() {
        let mut server = server();
        start(&mut server, work(Mode::Bulk, Direction::Download));
        for stream in 1..10 {
            assert_eq!(data(&mut server, stream * 4, b"", true), [sent(stream * 4, Vec::new(), 20, true)]);
        }
    }

    #[test]
    fn requests_are_counted() {
        let mut server = server();
        start(&mut server, Work { requests: Some(2), ..work(Mode::Rr, Direction::Download) });
        assert_eq!(data(&mut server, 4, &[0; 10], true), [sent(4, Vec::new(), 20, true)]);
        let last = data(&mut server, 8, &[0; 10], true);
        assert_eq!(last, [sent(8, Vec::new(), 20, true), complete(40, 20, 2)]);
    }

    #[test]
    fn requests_on_one_stream_are_cut_by_their_length() {
        let mut server = server();
        start(&mut server, Work { requests: Some(4), ..work(Mode::PersistentRr, Direction::Download) });
        assert_eq!(data(&mut server, 4, &[0; 9], false), []);
        assert_eq!(data(&mut server, 4, &[0; 12], false), [sent(4, Vec::new(), 40, false)]);
        // Those beyond the number are not answered.
        let last = data(&mut server, 4, &[0; 29], true);
        assert_eq!(last, [sent(4, Vec::new(), 40, false), complete(80, 50, 4)]);
    }

    #[test]
    fn perf_streams_begin_with_the_wanted_number() {
        let mut server = Server::new(Alpn::Perf, Exit::default());
        server.handle(Event::Ready { connection: 1 }, 0, &mut Vec::new());
        assert_eq!(data(&mut server, 0, &[0, 0, 0, 0, 0], false), []);
        assert_eq!(data(&mut server, 0, &[1, 2, 3, 99, 99], false), []);
        assert_eq!(data(&mut server, 0, &[99], true), [sent(0, Vec::new(), 0x01_02_03, true)]);
        // One that is too short wants nothing, one of a single direction has no answer.
        assert_eq!(data(&mut server, 4, &[1], true), [sent(4, Vec::new(), 0, true)]);
        assert_eq!(data(&mut server, 2, &[0; 8], true), []);
    }

    #[test]
    fn ends_when_told_to() {
        let mut server = server();
        server.exit.on_session_complete = true;
        start(&mut server, Work { requests: Some(1), ..work(Mode::Rr, Direction::Download) });
        assert!(!server.finished());
        data(&mut server, 4, &[0; 10], true);
        assert!(server.finished());

        let mut server = self::server();
        server.exit.on_idle_empty = true;
        data(&mut server, 4, b"", true);
        assert!(!server.finished());
        server.handle(Event::Closed { connection: 1, failed: false }, 0, &mut Vec::new());
        assert!(server.finished());

        let mut server = Server::new(Alpn::CoquicPerf, Exit { at: Some(7), ..Exit::default() });
        server.handle(Event::Tick, 6, &mut Vec::new());
        assert!(!server.finished());
        server.handle(Event::Tick, 7, &mut Vec::new());
        assert!(server.finished());
    }
}
