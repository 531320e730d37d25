//! The frames of `coquic-perf/1`: type, length, payload; all numbers big-endian.

use std::time::Duration;

/// The version that this speaks.
pub(crate) const VERSION: u32 = 3;
/// Has no flags, and milliseconds.
const VERSION_1: u32 = 1;
/// Has flags, and milliseconds. No server takes it.
const VERSION_2: u32 = 2;

/// The client's first stream.
pub(crate) const CONTROL_STREAM: u64 = 0;
/// What payload consists of.
pub(crate) const PAYLOAD: u8 = 0x5a;
/// No frame is longer: the longest have a text in them.
pub(crate) const MAX_FRAME: usize = 4096;

const HEADER: usize = 5;
const START: u8 = 1;
const READY: u8 = 2;
const ERROR: u8 = 3;
const COMPLETE: u8 = 4;
const HAS_TOTAL_BYTES: u8 = 0x01;
const HAS_REQUESTS: u8 = 0x02;

/// The kinds of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// As many bytes as possible.
    Bulk,
    /// Requests, each on a stream of its own.
    Rr,
    /// Requests, each on a connection of its own.
    Crr,
    /// Requests, all on one stream of each connection.
    PersistentRr,
}

impl Mode {
    pub(crate) const ALL: [(Self, &str); 4] =
        [(Self::Bulk, "bulk"), (Self::Rr, "rr"), (Self::Crr, "crr"), (Self::PersistentRr, "persistent-rr")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Where the bytes of [`Mode::Bulk`] go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    /// To the server.
    Upload,
    /// To the client.
    Download,
}

impl Direction {
    pub(crate) const ALL: [(Self, &str); 2] = [(Self::Upload, "upload"), (Self::Download, "download")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Work {
    pub(crate) mode: Mode,
    pub(crate) direction: Direction,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    pub(crate) requests: Option<u64>,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) streams: u64,
    pub(crate) connections: u64,
    pub(crate) requests_in_flight: u64,
}

impl Work {
    /// The bytes of one of the streams that share [`Work::total_bytes`].
    pub(crate) fn share(&self, total: u64, stream: u64) -> u64 {
        total / self.streams + u64::from(stream < total % self.streams)
    }
}

/// What one side counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counters {
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) requests_completed: u64,
}

/// A frame on the control stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    Start { version: u32, work: Work },
    Ready { version: u32 },
    Error { reason: String },
    Complete(Counters),
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[0] = match self {
            Self::Start { version, work } => {
                encode_start(*version, work, &mut out);
                START
            }
            Self::Ready { version } => {
                out.extend(version.to_be_bytes());
                READY
            }
            Self::Error { reason } => {
                out.extend((reason.len() as u32).to_be_bytes());
                out.extend(reason.as_bytes());
                ERROR
            }
            Self::Complete(Counters { bytes_sent, bytes_received, requests_completed }) => {
                for number in [bytes_sent, bytes_received, requests_completed] {
                    out.extend(number.to_be_bytes());
                }
                COMPLETE
            }
        };
        let length = (out.len() - HEADER) as u32;
        out[1..HEADER].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// Exactly one frame.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match Self::split(bytes)? {
            Some((message, [])) => Ok(message),
            _ => Err(Malformed),
        }
    }

    /// The first frame, if it is complete, and what comes after it.
    pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME - HEADER {
            return Err(Malformed);
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let mut payload = Reader(payload);
        let message = match kind {
            START => decode_start(&mut payload)?,
            READY => Self::Ready { version: payload.u32()? },
            ERROR => {
                let length = payload.u32()? as usize;
                let text = payload.0.split_off(..length).ok_or(Malformed)?;
                Self::Error { reason: std::str::from_utf8(text).map_err(|_| Malformed)?.to_owned() }
            }
            COMPLETE => Self::Complete(Counters {
                bytes_sent: payload.u64()?,
                bytes_received: payload.u64()?,
                requests_completed: payload.u64()?,
            }),
            _ => return Err(Malformed),
        };
        if payload.0.is_empty() { Ok(Some((message, rest))) } else { Err(Malformed) }
    }

    /// Why a server does not do what it was asked for.
    pub(crate) fn objection(version: u32, work: &Work) -> Option<&'static str> {
        if version != VERSION && version != VERSION_1 {
            Some("unsupported protocol version")
        } else if work.streams == 0 {
            Some("streams must be greater than zero")
        } else if work.connections == 0 {
            Some("connections must be greater than zero")
        } else if work.requests_in_flight == 0 {
            Some("requests_in_flight must be greater than zero")
        } else if work.mode == Mode::PersistentRr && (work.request_bytes == 0 || work.response_bytes == 0) {
            Some("persistent-rr requires nonzero request and response bytes")
        } else {
            None
        }
    }
}

fn encode_start(version: u32, work: &Work, out: &mut Vec<u8>) {
    let unit = |time: Duration| {
        let units = if version == VERSION { time.as_micros() } else { time.as_millis() };
        u64::try_from(units).unwrap_or(u64::MAX)
    };
    out.extend(version.to_be_bytes());
    out.extend([work.mode as u8, work.direction as u8]);
    out.extend(work.request_bytes.to_be_bytes());
    out.extend(work.response_bytes.to_be_bytes());
    if version != VERSION_1 {
        let total = if work.total_bytes.is_some() { HAS_TOTAL_BYTES } else { 0 };
        let requests = if work.requests.is_some() { HAS_REQUESTS } else { 0 };
        out.push(total | requests);
    }
    for number in [
        work.total_bytes.unwrap_or(0),
        work.requests.unwrap_or(0),
        unit(work.warmup),
        unit(work.duration),
        work.streams,
        work.connections,
        work.requests_in_flight,
    ] {
        out.extend(number.to_be_bytes());
    }
}

fn decode_start(payload: &mut Reader<'_>) -> Result<Message, Malformed> {
    let version = payload.u32()?;
    let mode = payload.one_of(&Mode::ALL)?;
    let direction = payload.one_of(&Direction::ALL)?;
    let (request_bytes, response_bytes) = (payload.u64()?, payload.u64()?);
    let flags = match version {
        VERSION | VERSION_2 => Some(payload.u8()?),
        VERSION_1 => None,
        _ => return Err(Malformed),
    };
    let optional = |flag: u8, number: u64| match flags {
        Some(flags) => (flags & flag != 0).then_some(number),
        None => (number != 0).then_some(number),
    };
    let total_bytes = optional(HAS_TOTAL_BYTES, payload.u64()?);
    let requests = optional(HAS_REQUESTS, payload.u64()?);
    let time = if version == VERSION { Duration::from_micros } else { Duration::from_millis };
    let work = Work {
        mode,
        direction,
        request_bytes,
        response_bytes,
        total_bytes,
        requests,
        warmup: time(payload.u64()?),
        duration: time(payload.u64()?),
        streams: payload.u64()?,
        connections: payload.u64()?,
        requests_in_flight: payload.u64()?,
    };
    Ok(Message::Start { version, work })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// By its place in the list.
    fn one_of<T: Copy>(&mut self, list: &[(T, &str)]) -> Result<T, Malformed> {
        let place = self.u8()?;
        list.get(usize::from(place)).map(|(value, _)| *value).ok_or(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work {
            mode: Mode::PersistentRr,
            direction: Direction::Download,
            request_bytes: 32,
            response_bytes: 0x0102_0304_0506_0708,
            total_bytes: None,
            requests: Some(10),
            warmup: Duration::from_millis(250),
            duration: Duration::from_secs(2),
            streams: 4,
            connections: 2,
            requests_in_flight: 3,
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn session_start_of_version_3() {
        let bytes = hex("01 0000004f 00000003 03 01 0000000000000020 0102030405060708 02
                         0000000000000000 000000000000000a 000000000003d090 00000000001e8480
                         0000000000000004 0000000000000002 0000000000000003");
        let message = Message::Start { version: 3, work: work() };
        assert_eq!(bytes.len(), 5 + 79);
        assert_eq!(message.encode(), bytes);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn session_start_of_version_1_has_no_flags_and_milliseconds() {
        let bytes = hex("01 0000004e 00000001 03 01 0000000000000020 0102030405060708
                         0000000000000000 000000000000000a 00000000000000fa 00000000000007d0
                         0000000000000004 0000000000000002 0000000000000003");
        let message = Message::Start { version: 1, work: work() };
        assert_eq!(message.encode(), bytes);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn session_start_of_version_2_is_read_and_refused() {
        let bytes = hex("01 0000004f 00000002 00 00 0000000000000000 0000000000000001 01
                         0000000000000000 0000000000000007 0000000000000001 0000000000000002
                         0000000000000001 0000000000000001 0000000000000001");
        let Ok(Message::Start { version, work }) = Message::decode(&bytes) else { panic!("not read") };
        assert_eq!((work.mode, work.direction), (Mode::Bulk, Direction::Upload));
        // A total of 0 bytes is a total; the requests have no flag.
        assert_eq!((work.total_bytes, work.requests), (Some(0), None));
        assert_eq!((work.warmup.as_millis(), work.duration.as_millis()), (1, 2));
        assert_eq!(Message::objection(version, &work), Some("unsupported protocol version"));
    }

    #[test]
    fn answers() {
        let ready = hex("02 00000004 00000003");
        assert_eq!(Message::Ready { version: 3 }.encode(), ready);
        assert_eq!(Message::decode(&ready), Ok(Message::Ready { version: 3 }));
        let error = hex("03 00000006 00000002 6e6f");
        assert_eq!(Message::Error { reason: "no".into() }.encode(), error);
        assert_eq!(Message::decode(&error), Ok(Message::Error { reason: "no".into() }));
        let complete = hex("04 00000018 0000000000000001 0000000000000200 0000000000030000");
        let counters = Counters { bytes_sent: 1, bytes_received: 0x200, requests_completed: 0x30000 };
        assert_eq!(Message::Complete(counters).encode(), complete);
        assert_eq!(Message::decode(&complete), Ok(Message::Complete(counters)));
    }

    #[test]
    fn frames_are_consumed_exactly() {
        for bytes in [
            // More payload than the frame has fields.
            "02 00000005 00000003 00",
            // Less.
            "02 00000003 000003",
            // A text longer than its frame, and shorter.
            "03 00000006 00000003 6e6f",
            "03 00000006 00000001 6e6f",
            // No UTF-8.
            "03 00000005 00000001 ff",
            // Something behind the frame.
            "02 00000004 00000003 00",
            // No such type, version, mode, direction.
            "05 00000000",
            "01 00000004 00000004",
            "01 00000006 00000003 0400",
            "01 00000006 00000003 0002",
            // Too long.
            "03 7fffffff 7ffffffb",
        ] {
            assert_eq!(Message::decode(&hex(bytes)), Err(Malformed), "{bytes}");
        }
    }

    #[test]
    fn frames_are_split_off_when_complete() {
        let bytes = hex("02 00000004 00000003 04 00000018 0000");
        let (first, rest) = Message::split(&bytes).unwrap().unwrap();
        assert_eq!(first, Message::Ready { version: 3 });
        assert_eq!(Message::split(rest), Ok(None));
        for cut in 0..bytes.len() - rest.len() {
            assert_eq!(Message::split(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn objections_in_their_order() {
        let fine = work();
        assert_eq!(Message::objection(3, &fine), None);
        assert_eq!(Message::objection(1, &fine), None);
        let none = Work { streams: 0, connections: 0, requests_in_flight: 0, request_bytes: 0, ..fine };
        assert_eq!(Message::objection(3, &none), Some("streams must be greater than zero"));
        let none = Work { streams: 1, ..none };
        assert_eq!(Message::objection(3, &none), Some("connections must be greater than zero"));
        let none = Work { connections: 1, ..none };
        assert_eq!(Message::objection(3, &none), Some("requests_in_flight must be greater than zero"));
        let none = Work { requests_in_flight: 1, ..none };
        let text = "persistent-rr requires nonzero request and response bytes";
        assert_eq!(Message::objection(3, &none), Some(text));
    }

    #[test]
    fn the_first_streams_get_the_remainder() {
        let work = Work { streams: 3, ..work() };
        assert_eq!([0, 1, 2].map(|stream| work.share(11, stream)), [4, 4, 3]);
    }
}
