use super::*;
use crate::error::{Error, Malformed};
use crate::qpack::FieldRef;

/// An end that is fed by hand, with what it did so far.
struct Bench {
    connection: Connection,
    /// The peer's encoder, which uses the static table only.
    qpack: Encoder,
}

const SETTINGS: &[u8] = &[0x00, 0x04, 0x00];

/// How an encoder stream begins that has a table of 4096 bytes.
const ENCODER: &[u8] = &[0x02, 0x3f, 0xe1, 0x1f];

fn push_settings() -> Settings {
    Settings { enable_connect_protocol: true, h3_datagram: true, ..Settings::default() }
}

impl Bench {
    fn new(role: Role) -> Self {
        Self::with(role, Config { settings: push_settings(), ..Config::default() })
    }

    fn with(role: Role, config: Config) -> Self {
        let mut bench = Self { connection: Connection::new(role, config), qpack: Encoder::new(0) };
        let control = bench.peers_control();
        // The peer offers everything.
        let mut settings = vec![0x00];
        frame::write(&mut settings, frame::SETTINGS, &push_settings().encode(None));
        bench.connection.on_stream_data(control, &settings, false);
        assert_eq!(bench.events(), [Event::Settings(push_settings())]);
        bench.sends();
        bench
    }

    fn server() -> Self {
        Self::new(Role::Server)
    }

    fn client() -> Self {
        let mut bench = Self::new(Role::Client);
        bench.connection.allow_pushes(3).unwrap();
        bench.sends();
        bench
    }

    fn peers_control(&self) -> u64 {
        if self.connection.role() == Role::Client { 3 } else { 2 }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.connection.poll_action()).collect()
    }

    fn sends(&mut self) -> Vec<(u64, Vec<u8>, bool)> {
        let mut all = Vec::new();
        while let Some(Send { stream, data, fin }) = self.connection.next_send() {
            let (data, count) = (data.to_vec(), data.len());
            self.connection.sent(stream, count);
            all.push((stream, data, fin));
        }
        all
    }

    fn section(&mut self, fields: &str) -> Vec<u8> {
        let fields: Vec<_> = fields
            .split_whitespace()
            .map(|field| {
                let (name, value) = field.split_once('=').unwrap();
                FieldRef { name: name.as_bytes(), value: value.as_bytes(), sensitive: false }
            })
            .collect();
        self.qpack.encode(0, &fields, false)
    }

    fn headers(&mut self, fields: &str) -> Vec<u8> {
        let section = self.section(fields);
        frame_of(frame::HEADERS, &section)
    }

    fn data(&mut self, stream: u64, parts: &[&[u8]], fin: bool) {
        self.connection.on_stream_data(stream, &parts.concat(), fin);
    }

    /// What the connection was closed with.
    fn close_code(&mut self) -> Option<Code> {
        let closed = self.events().into_iter().find_map(|event| match event {
            Event::Closed(error) => Some(error),
            _ => None,
        })?;
        assert_eq!(self.actions(), [Action::Close(closed.clone())]);
        assert!(self.connection.has_ended());
        assert_eq!(self.connection.next_send(), None);
        Some(closed.code)
    }

    /// What a stream failed with, by this end.
    fn failure(&mut self, id: u64) -> Option<Code> {
        assert!(!self.connection.has_ended());
        self.events().into_iter().find_map(|event| match event {
            Event::Failed { stream, code, by_peer: false } if stream == id => Some(code),
            _ => None,
        })
    }
}

fn frame_of(ty: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, ty, payload);
    out
}

const GET: &str = ":method=GET :scheme=https :authority=router :path=/";
const POST: &str = ":method=POST :scheme=https :authority=router :path=/";

fn get() -> RequestHead {
    RequestHead::get("router", "/")
}

#[test]
fn a_connection_begins_with_its_three_streams() {
    for (role, ids) in [(Role::Client, [2, 6, 10]), (Role::Server, [3, 7, 11])] {
        let mut bench =
            Bench { connection: Connection::new(role, Config::default()), qpack: Encoder::new(0) };
        let settings = frame_of(frame::SETTINGS, &Settings::default().encode(None));
        let expected = [[&[0][..], &settings].concat(), vec![2], vec![3]];
        let sends = bench.sends();
        for ((send, id), bytes) in sends.iter().zip(ids).zip(expected) {
            assert_eq!(*send, (id, bytes, false));
        }
        assert_eq!(sends.len(), 3);
    }
}

#[test]
fn grease_is_sent_and_understood() {
    let mut bench = Bench::with(Role::Server, Config { grease: Some(12345), ..Config::default() });
    let mut client = Connection::new(Role::Client, Config { grease: Some(u64::MAX), ..Config::default() });
    while let Some(Send { stream, data, fin }) = client.next_send() {
        let (data, count) = (data.to_vec(), data.len());
        client.sent(stream, count);
        // The bench's control stream has been opened.
        if stream != 2 {
            bench.connection.on_stream_data(stream, &data, fin);
        } else {
            bench.connection.on_stream_data(stream, &data[data.len() - 9..], fin);
        }
    }
    assert_eq!(bench.close_code(), None);
}

#[test]
fn a_request_and_its_response() {
    let mut bench = Bench::server();
    let head = bench.headers(&format!("{POST} content-length=5"));
    let trailers = bench.headers("x=1");
    bench.data(
        0,
        &[&head, &frame_of(0x21, b"?"), &frame_of(0, b"he"), &frame_of(0, b"llo"), &trailers],
        true,
    );
    let head = RequestHead {
        method: b"POST".to_vec(),
        content_length: Some(5),
        fields: vec![Field::new("content-length", "5")],
        ..get()
    };
    let expected = [
        Event::Request { stream: 0, head },
        Event::Body { stream: 0, data: b"he".to_vec() },
        Event::Body { stream: 0, data: b"llo".to_vec() },
        Event::Trailers { stream: 0, fields: vec![Field::new("x", "1")] },
        Event::End { stream: 0 },
    ];
    assert_eq!(bench.events(), expected);
    bench.connection.send_response(0, &ResponseHead::new(103), false).unwrap();
    let head = ResponseHead { content_length: Some(2), ..ResponseHead::new(200) };
    bench.connection.send_response(0, &head, false).unwrap();
    assert_eq!(bench.connection.send_body(0, b"ok", false), Ok(2));
    bench.connection.send_trailers(0, &[Field::new("y", "2")], true).unwrap();
    assert_eq!(bench.connection.open_streams(), 0);
    let sent = bench.sends();
    let (stream, response, fin) = sent.last().unwrap();
    assert_eq!((*stream, *fin), (0, true));

    let mut client = Bench::client();
    assert_eq!(client.connection.send_request(&get(), true), Ok(0));
    for (id, data, fin) in &sent {
        if *id == 7 {
            client.data(7, &[ENCODER, data], *fin);
        }
    }
    client.data(0, &[response], true);
    let expected = [
        Event::Interim { stream: 0, head: ResponseHead::new(103) },
        Event::Response {
            stream: 0,
            head: ResponseHead {
                content_length: Some(2),
                fields: vec![Field::new("content-length", "2")],
                status: 200,
            },
        },
        Event::Body { stream: 0, data: b"ok".to_vec() },
        Event::Trailers { stream: 0, fields: vec![Field::new("y", "2")] },
        Event::End { stream: 0 },
    ];
    assert_eq!(client.events(), expected);
    assert_eq!(client.connection.open_streams(), 0);
}

/// RFC 9114, section 4.1 and 7.2: which frames end the connection on a request's stream.
#[test]
fn frames_out_of_place_on_a_request() {
    let settings = frame_of(frame::SETTINGS, &[]);
    for wrong in [
        frame_of(frame::DATA, b"before the head"),
        settings,
        frame_of(frame::GOAWAY, &[0]),
        frame_of(frame::MAX_PUSH_ID, &[0]),
        frame_of(frame::CANCEL_PUSH, &[0]),
        frame_of(frame::PUSH_PROMISE, &[0, 0, 0]),
        frame_of(frame::PRIORITY_UPDATE_REQUEST, &[0]),
        frame_of(0x02, &[]),
        frame_of(0x06, &[]),
        frame_of(0x08, &[]),
        frame_of(0x09, &[]),
    ] {
        let mut bench = Bench::server();
        bench.data(0, &[&wrong], false);
        assert_eq!(bench.close_code(), Some(Code::H3_FRAME_UNEXPECTED), "{wrong:x?}");
    }
    // Behind trailers, and in a tunnel.
    for (head, behind) in [(GET, true), (":method=CONNECT :authority=router:1", false)] {
        for wrong in [frame_of(frame::DATA, b"x"), frame_of(frame::HEADERS, &[0, 0])] {
            let mut bench = Bench::server();
            let head = bench.headers(head);
            let trailers = if behind { bench.headers("x=1") } else { vec![] };
            bench.data(0, &[&head, &trailers, &wrong], false);
            let is_allowed = !behind && wrong[0] == 0;
            assert_eq!(bench.close_code(), (!is_allowed).then_some(Code::H3_FRAME_UNEXPECTED));
        }
    }
}

#[test]
fn streams_that_end_too_early() {
    let mut bench = Bench::server();
    let head = bench.headers(GET);
    bench.data(0, &[&head[..head.len() - 1]], true);
    assert_eq!(bench.close_code(), Some(Code::H3_FRAME_ERROR));

    let mut bench = Bench::server();
    bench.data(0, &[&frame_of(0x21, &[])], true);
    assert_eq!(bench.failure(0), Some(Code::H3_REQUEST_INCOMPLETE));
    assert_eq!(bench.actions(), [Action::Reset { stream: 0, code: Code::H3_REQUEST_INCOMPLETE }]);

    let mut bench = Bench::client();
    bench.connection.send_request(&get(), true).unwrap();
    let interim = bench.headers(":status=100");
    bench.data(0, &[&interim], true);
    assert_eq!(bench.failure(0), Some(Code::H3_MESSAGE_ERROR));
}

#[test]
fn malformed_messages_end_their_stream_only() {
    let cases: [(&str, &[&[u8]], bool); 5] = [
        (":method=GET", &[], false),
        (":method=POST :scheme=https :authority=router :path=/ content-length=2", &[b"abc"], false),
        (":method=POST :scheme=https :authority=router :path=/ content-length=2", &[b"a"], true),
        (":method=POST :scheme=https :authority=router :path=/ content-length=2", &[], true),
        (":method=POST :scheme=https :authority=router :path=/ connection=close", &[], true),
    ];
    for (fields, content, fin) in cases {
        let mut bench = Bench::server();
        let head = bench.headers(fields);
        let content: Vec<u8> = content.iter().flat_map(|content| frame_of(frame::DATA, content)).collect();
        bench.data(4, &[&head, &content], fin);
        let code = Code::H3_MESSAGE_ERROR;
        assert_eq!(bench.failure(4), Some(code), "{fields}");
        let actions = bench.actions();
        assert_eq!(actions[0], Action::Reset { stream: 4, code });
        // What still comes is ignored, and the next request is served.
        bench.data(4, &[b"anything"], true);
        let head = bench.headers(GET);
        bench.data(0, &[&head], true);
        assert!(matches!(bench.events()[..], [Event::Request { stream: 0, .. }, Event::End { stream: 0 }]));
    }
    let mut bench = Bench::server();
    let head = bench.headers(GET);
    let trailers = bench.headers(":path=/");
    bench.data(0, &[&head, &trailers], false);
    assert_eq!(bench.failure(0), Some(Code::H3_MESSAGE_ERROR));
}

#[test]
fn responses_without_content() {
    let head = RequestHead { method: b"HEAD".to_vec(), ..get() };
    for (request, status, content, is_valid) in [
        (&head, 200, "", true),
        (&head, 200, "ab", false),
        (&get(), 304, "", true),
        (&get(), 204, "a", false),
        (&get(), 200, "ab", true),
        (&get(), 200, "", false),
    ] {
        let mut bench = Bench::client();
        bench.connection.send_request(request, true).unwrap();
        let response = bench.headers(&format!(":status={status} content-length=2"));
        let content = if content.is_empty() { vec![] } else { frame_of(frame::DATA, content.as_bytes()) };
        bench.data(0, &[&response, &content], true);
        assert_eq!(bench.failure(0), (!is_valid).then_some(Code::H3_MESSAGE_ERROR));
    }
}

/// RFC 9114, section 6.2 and 7.2.4.
#[test]
fn control_streams_have_rules() {
    let client = |frames: &[Vec<u8>]| (Role::Client, frames.concat());
    let server = |frames: &[Vec<u8>]| (Role::Server, frames.concat());
    let cases = [
        (server(&[frame_of(frame::SETTINGS, &[])]), Code::H3_FRAME_UNEXPECTED),
        (server(&[frame_of(frame::DATA, &[])]), Code::H3_FRAME_UNEXPECTED),
        (server(&[frame_of(frame::HEADERS, &[])]), Code::H3_FRAME_UNEXPECTED),
        (server(&[frame_of(frame::PUSH_PROMISE, &[])]), Code::H3_FRAME_UNEXPECTED),
        (server(&[frame_of(0x06, &[])]), Code::H3_FRAME_UNEXPECTED),
        (client(&[frame_of(frame::MAX_PUSH_ID, &[1])]), Code::H3_FRAME_UNEXPECTED),
        (client(&[frame_of(frame::PRIORITY_UPDATE_REQUEST, &[0])]), Code::H3_FRAME_UNEXPECTED),
        (server(&[frame_of(frame::GOAWAY, &[])]), Code::H3_FRAME_ERROR),
        (server(&[frame_of(frame::GOAWAY, &[0, 0])]), Code::H3_FRAME_ERROR),
        (server(&[frame_of(frame::MAX_PUSH_ID, &[0x40])]), Code::H3_FRAME_ERROR),
        (
            server(&[frame_of(frame::MAX_PUSH_ID, &[2]), frame_of(frame::MAX_PUSH_ID, &[1])]),
            Code::H3_ID_ERROR,
        ),
        (server(&[frame_of(frame::GOAWAY, &[1]), frame_of(frame::GOAWAY, &[2])]), Code::H3_ID_ERROR),
        (client(&[frame_of(frame::GOAWAY, &[1])]), Code::H3_ID_ERROR),
        (client(&[frame_of(frame::GOAWAY, &[4]), frame_of(frame::GOAWAY, &[8])]), Code::H3_ID_ERROR),
        (client(&[frame_of(frame::CANCEL_PUSH, &[4])]), Code::H3_ID_ERROR),
        (server(&[frame_of(frame::CANCEL_PUSH, &[0])]), Code::H3_ID_ERROR),
        (server(&[frame_of(frame::PRIORITY_UPDATE_REQUEST, &[2])]), Code::H3_ID_ERROR),
        (server(&[frame_of(frame::PRIORITY_UPDATE_PUSH, &[0])]), Code::H3_ID_ERROR),
        (server(&[frame_of(frame::GOAWAY, &[0; 5000])]), Code::H3_EXCESSIVE_LOAD),
    ];
    for ((role, bytes), code) in cases {
        let mut bench = if role == Role::Client { Bench::client() } else { Bench::server() };
        let control = bench.peers_control();
        for byte in bytes.chunks(1) {
            bench.data(control, &[byte], false);
        }
        assert_eq!(bench.close_code(), Some(code), "{:x?}", &bytes[..bytes.len().min(9)]);
    }
}

#[test]
fn a_control_stream_begins_with_settings_and_never_ends() {
    let server =
        || Bench { connection: Connection::new(Role::Server, Config::default()), qpack: Encoder::new(0) };
    let mut bench = server();
    bench.data(2, &[&[0], &frame_of(0x21, &[])], false);
    assert_eq!(bench.close_code(), Some(Code::H3_MISSING_SETTINGS));
    let mut bench = server();
    bench.data(2, &[SETTINGS], true);
    assert_eq!(bench.close_code(), Some(Code::H3_CLOSED_CRITICAL_STREAM));
    for ty in [0, 2, 3] {
        let mut bench = server();
        bench.data(6, &[&[ty]], false);
        bench.connection.on_reset(6, 0);
        assert_eq!(bench.close_code(), Some(Code::H3_CLOSED_CRITICAL_STREAM));
        let mut bench = server();
        bench.data(6, &[&[ty]], false);
        bench.data(10, &[&[ty]], false);
        assert_eq!(bench.close_code(), Some(Code::H3_STREAM_CREATION_ERROR));
        let mut bench = server();
        bench.connection.on_stop_sending(3 + 4 * u64::from(ty.saturating_sub(1)), 0);
        assert_eq!(bench.close_code(), Some(Code::H3_CLOSED_CRITICAL_STREAM));
    }
}

#[test]
fn streams_the_peer_may_not_open() {
    let mut bench = Bench::server();
    bench.data(6, &[&[1]], false);
    assert_eq!(bench.close_code(), Some(Code::H3_STREAM_CREATION_ERROR));
    let mut bench = Bench::client();
    bench.data(1, &[&[0]], false);
    assert_eq!(bench.close_code(), Some(Code::H3_STREAM_CREATION_ERROR));
    // Of a type nobody knows: it is let go.
    let mut bench = Bench::server();
    bench.data(6, &[&[0x40]], false);
    assert!(bench.actions().is_empty());
    bench.data(6, &[&[0x21, 1, 2, 3]], false);
    assert_eq!(bench.actions(), [Action::StopSending { stream: 6, code: Code::H3_STREAM_CREATION_ERROR }]);
    bench.data(6, &[&[0]], true);
    bench.connection.on_reset(6, 0);
    assert_eq!(bench.close_code(), None);
}

#[test]
fn a_server_shuts_down() {
    let mut bench = Bench::server();
    let head = bench.headers(GET);
    bench.data(0, &[&head], true);
    bench.data(8, &[&head], true);
    bench.events();
    bench.connection.announce_shutdown().unwrap();
    bench.connection.shutdown().unwrap();
    let goaways =
        [frame_of(frame::GOAWAY, &[0xff, 255, 255, 255, 255, 255, 255, 252]), frame_of(frame::GOAWAY, &[12])];
    assert_eq!(bench.sends(), [(3, goaways.concat(), false)]);
    // 4 was on its way before 8; 12 is too late.
    bench.data(4, &[&head], true);
    bench.data(12, &[&head], true);
    assert!(matches!(bench.events()[..], [Event::Request { stream: 4, .. }, Event::End { stream: 4 }]));
    let code = Code::H3_REQUEST_REJECTED;
    assert_eq!(
        bench.actions(),
        [Action::Reset { stream: 12, code }, Action::StopSending { stream: 12, code }]
    );

    let mut bench = Bench::client();
    for _ in 0..3 {
        bench.connection.send_request(&get(), true).unwrap();
    }
    bench.data(3, &[&frame_of(frame::GOAWAY, &[4])], false);
    let failed = |stream| Event::Failed { stream, code, by_peer: true };
    assert_eq!(bench.events(), [Event::GoAway { id: 4 }, failed(4), failed(8)]);
    assert_eq!(bench.connection.open_streams(), 1);
    assert_eq!(bench.connection.send_request(&get(), true), Err(Error::GoingAway));
}

#[test]
fn too_many_requests_are_rejected() {
    let mut bench = Bench::with(Role::Server, Config { max_requests: 1, ..Config::default() });
    let head = bench.headers(GET);
    bench.data(0, &[&head], true);
    bench.data(4, &[&head], true);
    let code = Code::H3_REQUEST_REJECTED;
    assert_eq!(bench.actions(), [Action::Reset { stream: 4, code }, Action::StopSending { stream: 4, code }]);
    bench.connection.send_response(0, &ResponseHead::new(200), true).unwrap();
    bench.data(8, &[&head], true);
    assert!(matches!(bench.events()[2..], [Event::Request { stream: 8, .. }, Event::End { stream: 8 }]));

    let mut bench = Bench::with(Role::Client, Config { max_requests: 1, ..Config::default() });
    bench.connection.send_request(&get(), true).unwrap();
    assert_eq!(bench.connection.send_request(&get(), true), Err(Error::TooManyRequests));
}

#[test]
fn sections_that_are_too_large() {
    let settings = Settings { max_field_section_size: Some(300), ..Settings::default() };
    let mut bench = Bench::with(Role::Server, Config { settings, ..Config::default() });
    let large = bench.headers(&format!("{GET} x={}", "~".repeat(200)));
    bench.data(0, &[&large], false);
    assert_eq!(bench.failure(0), Some(Code::H3_EXCESSIVE_LOAD));
    // Refused when the length has come.
    bench.data(4, &[&[1, 0x7f, 0xff]], false);
    assert_eq!(bench.failure(4), Some(Code::H3_EXCESSIVE_LOAD));

    let mut bench = Bench::client();
    let head = RequestHead::get("router", format!("/{}", "x".repeat(70_000)));
    assert_eq!(bench.connection.send_request(&head, true), Err(Error::TooLarge));
    assert!(bench.sends().is_empty());
}

#[test]
fn a_section_that_waits_holds_what_comes_behind_it_up_to_a_bound() {
    let config = Config { max_held: 1000, ..Config::default() };
    let mut bench = Bench::with(Role::Server, config.clone());
    // Needs one insertion: x: y.
    let head = bench.section(GET);
    let waits = [&[2, 0, 0x80], &head[2..]].concat();
    // Pseudo-header fields come first.
    let waits = [&waits[..2], &waits[3..], &waits[2..3]].concat();
    let request = [frame_of(frame::HEADERS, &waits), frame_of(frame::DATA, b"content")].concat();
    bench.data(0, &[&request], true);
    assert!(bench.events().is_empty());
    bench.data(6, &[ENCODER, b"\x41x"], false);
    assert!(bench.events().is_empty());
    bench.data(6, &[b"\x01y"], false);
    let head = RequestHead { fields: vec![Field::new("x", "y")], ..get() };
    let expected = [
        Event::Request { stream: 0, head },
        Event::Body { stream: 0, data: b"content".to_vec() },
        Event::End { stream: 0 },
    ];
    assert_eq!(bench.events(), expected);
    assert_eq!(bench.sends(), [(11, vec![0x80], false)]);

    let mut bench = Bench::with(Role::Server, config);
    bench.data(0, &[&frame_of(frame::HEADERS, &waits)], false);
    assert!(bench.connection.wants_data(0));
    bench.data(0, &[&[0; 1000]], false);
    assert!(!bench.connection.wants_data(0));
    assert_eq!(bench.failure(0), None);
    bench.data(0, &[&[0; 1]], false);
    assert_eq!(bench.failure(0), Some(Code::H3_EXCESSIVE_LOAD));
    assert_eq!(bench.sends(), [(11, vec![0x40], false)]);
}

#[test]
fn qpack_errors_end_the_connection() {
    let mut bench = Bench::server();
    bench.data(0, &[&frame_of(frame::HEADERS, &[0, 0, 0x80])], false);
    assert_eq!(bench.close_code(), Some(Code::QPACK_DECOMPRESSION_FAILED));
    let mut bench = Bench::server();
    bench.data(6, &[&[2, 0x00]], false);
    assert_eq!(bench.close_code(), Some(Code::QPACK_ENCODER_STREAM_ERROR));
    let mut bench = Bench::server();
    bench.data(6, &[&[3, 0x80]], false);
    assert_eq!(bench.close_code(), Some(Code::QPACK_DECODER_STREAM_ERROR));
    // More streams wait than were allowed.
    let mut bench = Bench::server();
    for stream in 0..17 {
        assert!(!bench.connection.has_ended());
        bench.data(stream * 4, &[&frame_of(frame::HEADERS, &[2, 0, 0x80])], false);
    }
    assert_eq!(bench.close_code(), Some(Code::QPACK_DECOMPRESSION_FAILED));
}

#[test]
fn a_peer_that_does_not_listen_is_let_go() {
    let mut bench = Bench::server();
    let mut streams = 0;
    while !bench.connection.has_ended() {
        bench.connection.on_reset(streams * 4, 0);
        streams += 1;
        while bench.connection.poll_action().is_some_and(|action| !matches!(action, Action::Close(_))) {}
    }
    // Every cancellation has a few bytes.
    assert!((1 << 14..1 << 16).contains(&streams), "{streams}");
    let closed = bench.events().pop();
    assert!(matches!(closed, Some(Event::Closed(ConnectionError { code: Code::H3_EXCESSIVE_LOAD, .. }))));
}

#[test]
fn resets_and_stops() {
    // The client gives up while it sends: half a request is of no use.
    let mut bench = Bench::server();
    let head = bench.headers(POST);
    bench.data(0, &[&head], false);
    bench.connection.on_reset(0, Code::H3_REQUEST_CANCELLED.0);
    let failed = Event::Failed { stream: 0, code: Code::H3_REQUEST_CANCELLED, by_peer: true };
    assert_eq!(bench.events().pop(), Some(failed.clone()));
    assert_eq!(bench.actions(), [Action::Reset { stream: 0, code: Code::H3_REQUEST_CANCELLED }]);
    assert_eq!(bench.connection.send_response(0, &ResponseHead::new(200), true), Err(Error::Unknown));
    // It does not want the response.
    let mut bench = Bench::server();
    bench.data(0, &[&head], true);
    bench.connection.on_stop_sending(0, Code::H3_REQUEST_CANCELLED.0);
    assert_eq!(bench.events().pop(), Some(failed));
    // The server does not want the rest of the request, but answers.
    let mut bench = Bench::client();
    let head = RequestHead { method: b"POST".to_vec(), ..get() };
    bench.connection.send_request(&head, false).unwrap();
    bench.connection.send_body(0, b"unsent", false).unwrap();
    bench.connection.on_stop_sending(0, Code::H3_NO_ERROR.0);
    assert_eq!(bench.events(), [Event::Stopped { stream: 0, code: Code::H3_NO_ERROR }]);
    assert_eq!(bench.actions(), [Action::Reset { stream: 0, code: Code::H3_NO_ERROR }]);
    assert!(bench.connection.send_body(0, b"more", false).is_err());
    let response = bench.headers(":status=413");
    bench.data(0, &[&response], true);
    assert_eq!(bench.events().pop(), Some(Event::End { stream: 0 }));
    assert_eq!(bench.connection.open_streams(), 0);
    // The server gives up.
    let mut bench = Bench::client();
    bench.connection.send_request(&get(), false).unwrap();
    bench.connection.on_reset(0, Code::H3_INTERNAL_ERROR.0);
    assert_eq!(bench.events(), [Event::Failed { stream: 0, code: Code::H3_INTERNAL_ERROR, by_peer: true }]);
    assert_eq!(bench.actions(), [Action::Reset { stream: 0, code: Code::H3_REQUEST_CANCELLED }]);
    // We do: the table's entries the response may refer to are free again.
    let mut bench = Bench::client();
    bench.connection.send_request(&get(), true).unwrap();
    bench.sends();
    bench.connection.cancel(0, Code::H3_REQUEST_CANCELLED);
    assert_eq!(bench.actions(), [Action::StopSending { stream: 0, code: Code::H3_REQUEST_CANCELLED }]);
    assert_eq!(bench.sends(), [(10, vec![0x40], false)]);
}

#[test]
fn what_is_complete_but_not_sent_can_be_given_up() {
    type GiveUp = fn(&mut Connection, Code);
    let by_peer: GiveUp = |connection, code| connection.on_stop_sending(0, code.0);
    let here: GiveUp = |connection, code| connection.cancel(0, code);
    for give_up in [by_peer, here] {
        let mut bench = Bench::server();
        let head = bench.headers(GET);
        bench.data(0, &[&head], true);
        bench.events();
        bench.connection.send_response(0, &ResponseHead::new(200), false).unwrap();
        bench.connection.send_body(0, b"unsent", true).unwrap();
        assert_eq!(bench.connection.open_streams(), 0);
        give_up(&mut bench.connection, Code::H3_REQUEST_CANCELLED);
        assert_eq!(bench.actions(), [Action::Reset { stream: 0, code: Code::H3_REQUEST_CANCELLED }]);
        assert!(bench.sends().iter().all(|(stream, ..)| *stream != 0));
        // Once is enough.
        give_up(&mut bench.connection, Code::H3_REQUEST_CANCELLED);
        assert_eq!(bench.actions(), []);
    }
    // The streams without which there is no connection are not the program's.
    let mut bench = Bench::server();
    bench.connection.shutdown().unwrap();
    bench.connection.cancel(3, Code::H3_REQUEST_CANCELLED);
    assert_eq!((bench.actions(), bench.sends().len()), (vec![], 1));
}

#[test]
fn tunnels() {
    let connect =
        RequestHead { method: b"CONNECT".to_vec(), authority: b"router:443".to_vec(), ..Default::default() };
    let mut bench = Bench::client();
    bench.connection.send_request(&connect, false).unwrap();
    let accepted = bench.headers(":status=200 content-length=1");
    bench.data(0, &[&accepted, &frame_of(frame::DATA, b"any length")], false);
    assert_eq!(bench.connection.send_body(0, b"and back", false), Ok(8));
    assert!(matches!(bench.events()[..], [Event::Response { .. }, Event::Body { .. }]));
    assert!(bench.connection.send_trailers(0, &[], true).is_err());
    bench.connection.abort_connect(0).unwrap();
    let code = Code::H3_CONNECT_ERROR;
    assert_eq!(bench.actions(), [Action::Reset { stream: 0, code }, Action::StopSending { stream: 0, code }]);
    // A refusal is a response like any other.
    bench.connection.send_request(&connect, false).unwrap();
    let refused = bench.headers(":status=403 content-length=1");
    bench.data(4, &[&refused], true);
    assert_eq!(bench.failure(4), Some(Code::H3_MESSAGE_ERROR));
    bench.connection.send_request(&get(), false).unwrap();
    assert!(bench.connection.abort_connect(8).is_err());
}

#[test]
fn extended_connect_needs_the_servers_consent() {
    let head = RequestHead { method: b"CONNECT".to_vec(), protocol: Some(b"websocket".to_vec()), ..get() };
    let mut client = Connection::new(Role::Client, Config::default());
    assert_eq!(client.send_request(&head, false), Err(Error::NotEnabled("extended CONNECT")));
    let mut bench = Bench::client();
    assert_eq!(bench.connection.send_request(&head, false), Ok(0));
    let fields = ":method=CONNECT :scheme=https :authority=router :path=/ :protocol=websocket";
    for is_enabled in [true, false] {
        let settings = Settings { enable_connect_protocol: is_enabled, ..Settings::default() };
        let mut bench = Bench::with(Role::Server, Config { settings, ..Config::default() });
        let request = bench.headers(fields);
        bench.data(0, &[&request], false);
        if is_enabled {
            assert_eq!(bench.events(), [Event::Request { stream: 0, head: head.clone() }]);
        } else {
            assert_eq!(bench.failure(0), Some(Code::H3_MESSAGE_ERROR));
        }
    }
}

#[test]
fn datagrams_belong_to_open_requests() {
    let mut bench = Bench::server();
    let head = bench.headers(POST);
    bench.connection.on_datagram(&[1, b'a']);
    bench.data(4, &[&head], false);
    bench.events();
    bench.connection.on_datagram(&[1, b'b']);
    assert_eq!(bench.events(), [Event::Datagram { stream: 4, payload: b"b".to_vec() }]);
    bench.connection.send_datagram(4, b"c").unwrap();
    assert_eq!(bench.actions(), [Action::Datagram(vec![1, b'c'])]);
    assert_eq!(bench.connection.send_datagram(0, b"c"), Err(Error::Unknown));
    bench.data(4, &[], true);
    bench.events();
    bench.connection.on_datagram(&[1, b'd']);
    assert!(bench.events().is_empty());
    for wrong in [&[][..], &[0x40], &[0xd0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut bench = Bench::server();
        bench.connection.on_datagram(wrong);
        assert_eq!(bench.close_code(), Some(Code::H3_DATAGRAM_ERROR), "{wrong:x?}");
    }
    // Neither is sent nor taken without consent.
    let mut server = Connection::new(Role::Server, Config::default());
    server.on_stream_data(0, &head, false);
    assert_eq!(server.send_datagram(0, b"x"), Err(Error::NotEnabled("datagrams")));
    server.on_datagram(&[]);
    assert!(!server.has_ended());
}

#[test]
fn a_push_comes_with_its_promise_or_before() {
    for promise_first in [true, false] {
        let mut server = Bench::server();
        let request = server.headers(GET);
        server.data(0, &[&request], true);
        assert_eq!(server.connection.promise_push(0, &get()), Err(Error::PushLimit));
        server.data(2, &[&frame_of(frame::MAX_PUSH_ID, &[0])], false);
        let pushed = RequestHead::get("router", "/style");
        assert_eq!(server.connection.promise_push(0, &pushed), Ok(0));
        assert_eq!(server.connection.promise_push(0, &pushed), Err(Error::PushLimit));
        let stream = server.connection.open_push_stream(0).unwrap();
        assert_eq!((stream, server.connection.push_stream(0)), (15, Some(15)));
        assert!(server.connection.open_push_stream(0).is_err());
        server.connection.send_response(stream, &ResponseHead::new(200), false).unwrap();
        server.connection.send_body(stream, b"body {}", true).unwrap();
        server.connection.send_response(0, &ResponseHead::new(200), true).unwrap();
        assert_eq!(server.connection.open_streams(), 0);
        let mut sends = server.sends();

        let mut client = Bench::client();
        client.connection.send_request(&get(), true).unwrap();
        sends.sort_by_key(|(id, ..)| if promise_first { *id } else { u64::MAX - *id });
        for (id, data, fin) in sends.iter().filter(|(id, ..)| [0, 15].contains(id)) {
            client.data(*id, &[data], *fin);
        }
        for (id, data, fin) in sends.iter().filter(|(id, ..)| *id == 7) {
            client.data(*id, &[ENCODER, data], *fin);
        }
        let events = client.events();
        let promise = Event::Promise { stream: 0, push: 0, head: pushed };
        for event in [
            promise,
            Event::Push { push: 0, stream: 15 },
            Event::End { stream: 15 },
            Event::End { stream: 0 },
        ] {
            assert!(events.contains(&event), "{events:?}");
        }
        assert_eq!(client.connection.open_streams(), 0);
        assert!(client.connection.pushes.is_empty());
        // Nobody may send it again.
        client.data(19, &[&[1, 0]], false);
        assert_eq!(client.close_code(), Some(Code::H3_ID_ERROR));
    }
}

#[test]
fn pushes_have_rules() {
    let mut bench = Bench::client();
    bench.data(15, &[&[1, 4]], false);
    assert_eq!(bench.close_code(), Some(Code::H3_ID_ERROR));

    let cases = [(4, GET, Code::H3_ID_ERROR), (0, "", Code::H3_FRAME_ERROR)];
    for (push, fields, code) in cases {
        let mut bench = Bench::client();
        bench.connection.send_request(&get(), true).unwrap();
        let wrong = if fields.is_empty() {
            frame_of(frame::PUSH_PROMISE, &[])
        } else {
            promise(&mut bench, push, fields)
        };
        bench.data(0, &[&wrong], false);
        assert_eq!(bench.close_code(), Some(code));
    }
    let mut bench = Bench::client();
    bench.connection.send_request(&get(), true).unwrap();
    let wrong = promise(&mut bench, 0, POST);
    bench.data(0, &[&wrong], false);
    assert_eq!(bench.failure(0), Some(Code::H3_MESSAGE_ERROR));

    // The same promise may come with two requests, but it has to be the same.
    let mut bench = Bench::client();
    for _ in 0..3 {
        bench.connection.send_request(&get(), true).unwrap();
    }
    let first = promise(&mut bench, 0, GET);
    let other = promise(&mut bench, 0, ":method=GET :scheme=https :authority=router :path=/other");
    bench.data(0, &[&first], false);
    bench.data(4, &[&first], false);
    assert_eq!(bench.close_code(), None);
    bench.data(8, &[&other], false);
    assert_eq!(bench.close_code(), Some(Code::H3_GENERAL_PROTOCOL_ERROR));

    // A push has no pushes.
    let mut bench = Bench::client();
    bench.data(15, &[&[1, 0], &first], false);
    assert_eq!(bench.close_code(), Some(Code::H3_FRAME_UNEXPECTED));
}

fn promise(bench: &mut Bench, push: u8, fields: &str) -> Vec<u8> {
    let section = bench.section(fields);
    frame_of(frame::PUSH_PROMISE, &[&[push], &section[..]].concat())
}

#[test]
fn pushes_are_cancelled_from_both_ends() {
    let cancel = frame_of(frame::CANCEL_PUSH, &[0]);
    let mut bench = Bench::client();
    bench.connection.send_request(&get(), true).unwrap();
    let promised = promise(&mut bench, 0, GET);
    assert_eq!(bench.connection.cancel_push(0), Err(Error::Unknown), "it has not been promised");
    bench.data(0, &[&promised], false);
    bench.sends();
    bench.events();
    bench.connection.cancel_push(0).unwrap();
    assert_eq!(bench.sends(), [(2, cancel.clone(), false)]);
    let code = Code::H3_REQUEST_CANCELLED;
    bench.data(15, &[&[1, 0]], false);
    assert_eq!(bench.actions(), [Action::StopSending { stream: 15, code }]);
    bench.data(19, &[&[1, 1]], false);
    assert_eq!(bench.events(), [Event::Push { push: 1, stream: 19 }]);
    bench.connection.cancel_push(1).unwrap();
    assert_eq!(bench.actions(), [Action::StopSending { stream: 19, code }]);
    assert_eq!(bench.connection.cancel_push(4), Err(Error::Unknown));
    bench.data(3, &[&frame_of(frame::CANCEL_PUSH, &[2])], false);
    assert!(bench.events().is_empty(), "of a push nobody heard of");

    let mut bench = Bench::server();
    let request = bench.headers(GET);
    bench.data(0, &[&request], true);
    bench.data(2, &[&frame_of(frame::MAX_PUSH_ID, &[9])], false);
    for _ in 0..3 {
        bench.connection.promise_push(0, &get()).unwrap();
    }
    bench.sends();
    bench.events();
    bench.connection.cancel_push(0).unwrap();
    assert_eq!(bench.sends(), [(3, cancel, false)]);
    let stream = bench.connection.open_push_stream(1).unwrap();
    bench.data(2, &[&frame_of(frame::CANCEL_PUSH, &[1])], false);
    assert_eq!(bench.events(), [Event::PushCancelled { push: 1 }]);
    assert_eq!(bench.actions(), [Action::Reset { stream, code }]);
    assert_eq!(bench.connection.open_streams(), 1);
    assert_eq!(bench.connection.cancel_push(1), Err(Error::Unknown));
}

#[test]
fn priorities_go_to_the_server() {
    let mut client = Bench::client();
    client.connection.send_request(&get(), true).unwrap();
    let promised = promise(&mut client, 3, GET);
    client.data(0, &[&promised], false);
    client.sends();
    client.connection.update_priority(Target::Request(0), b"u=1").unwrap();
    client.connection.update_priority(Target::Push(3), b"i").unwrap();
    for wrong in [Target::Request(4), Target::Request(1), Target::Push(2), Target::Push(4)] {
        assert_eq!(client.connection.update_priority(wrong, b"u=1"), Err(Error::Unknown));
    }
    let sends = client.sends();
    let request = frame_of(frame::PRIORITY_UPDATE_REQUEST, b"\0u=1");
    assert_eq!(
        sends,
        [(2, [request.clone(), frame_of(frame::PRIORITY_UPDATE_PUSH, b"\x03i")].concat(), false)]
    );
    let mut server = Bench::server();
    assert!(matches!(server.connection.update_priority(Target::Request(0), b""), Err(Error::WrongState(_))));
    server.data(2, &[&request], false);
    assert_eq!(server.events(), [Event::Priority { target: Target::Request(0), value: b"u=1".to_vec() }]);
}

#[test]
fn content_is_as_long_as_it_says_when_sent() {
    let mut bench = Bench::server();
    let request = bench.headers(GET);
    bench.data(0, &[&request], true);
    let head = ResponseHead { content_length: Some(3), ..ResponseHead::new(200) };
    assert_eq!(bench.connection.send_response(0, &head, true), Err(Error::ContentLength));
    assert!(bench.connection.send_body(0, b"x", false).is_err());
    bench.connection.send_response(0, &head, false).unwrap();
    assert!(bench.connection.send_response(0, &head, false).is_err());
    assert_eq!(bench.connection.send_body(0, b"four", false), Err(Error::ContentLength));
    assert_eq!(bench.connection.send_body(0, b"it", true), Err(Error::ContentLength));
    assert_eq!(bench.connection.send_body(0, b"it", false), Ok(2));
    assert_eq!(bench.connection.finish(0, true), Err(Error::ContentLength));
    assert_eq!(bench.connection.send_trailers(0, &[], true), Err(Error::ContentLength));
    assert_eq!(
        bench.connection.send_trailers(0, &[Field::new("Upper", "1")], false),
        Err(Error::Malformed(Malformed("an invalid field name")))
    );
    bench.connection.finish(0, false).unwrap();
    assert_eq!(bench.connection.finish(0, false), Err(Error::Unknown));
}

#[test]
fn unsent_content_is_bounded() {
    let mut bench = Bench::with(Role::Server, Config { max_unsent: 100, ..Config::default() });
    let request = bench.headers(GET);
    bench.data(0, &[&request], true);
    bench.events();
    bench.connection.send_response(0, &ResponseHead::new(200), false).unwrap();
    let taken = bench.connection.send_body(0, &[b'x'; 200], true).unwrap();
    assert!(taken < 100);
    assert_eq!(bench.connection.send_body(0, &[b'x'; 200], true), Ok(0));
    assert!(bench.events().is_empty());
    let (stream, data) = bench.connection.next_send().map(|send| (send.stream, send.data.len())).unwrap();
    bench.connection.sent(stream, 10);
    assert!(bench.connection.next_send().is_none(), "the transport is full");
    bench.connection.on_writable(0);
    assert_eq!(bench.connection.next_send().map(|send| send.data.len()), Some(data - 10));
    bench.sends();
    assert_eq!(bench.events(), [Event::Writable { stream: 0 }]);
}

#[test]
fn remembered_settings_hold_until_the_servers_come() {
    let remembered = push_settings();
    let connect = RequestHead { method: b"CONNECT".to_vec(), protocol: Some(b"x".to_vec()), ..get() };
    let mut bench =
        Bench { connection: Connection::new(Role::Client, Config::default()), qpack: Encoder::new(0) };
    bench.connection.remember(remembered);
    bench.connection.send_request(&connect, false).unwrap();
    assert!(bench.sends().iter().any(|(id, data, _)| *id == 6 && data.len() > 1), "the table is used");
    assert_eq!(bench.connection.peer_settings(), None);
    let smaller = Settings { qpack_blocked_streams: 1, ..remembered };
    bench.data(3, &[&[0], &frame_of(frame::SETTINGS, &smaller.encode(None))], false);
    assert_eq!(bench.close_code(), Some(Code::H3_SETTINGS_ERROR));
}

#[test]
fn nothing_is_possible_after_the_end() {
    let mut bench = Bench::client();
    bench.connection.send_request(&get(), false).unwrap();
    bench.connection.close(Code::H3_NO_ERROR, "done");
    bench.connection.close(Code::H3_NO_ERROR, "done");
    assert_eq!(bench.actions(), [Action::Close(ConnectionError { code: Code::H3_NO_ERROR, reason: "done" })]);
    assert_eq!(bench.connection.send_request(&get(), true), Err(Error::Closed));
    assert_eq!(bench.connection.allow_pushes(9), Err(Error::Closed));
    assert!(bench.connection.send_body(0, b"x", true).is_err());
    bench.data(0, &[b"\x01\x02"], true);
    bench.data(1, &[b"x"], true);
    bench.connection.on_reset(0, 0);
    bench.connection.on_stop_sending(2, 0);
    bench.connection.on_datagram(&[]);
    assert!(bench.events().is_empty() && bench.actions().is_empty() && bench.sends().is_empty());
}
