//! One end of a connection with lines of text in place of QUIC, for a peer in another language: `lines client` or `lines server`.
//!
//! Of the peer come lines `data STREAM FIN BYTES`, `reset STREAM CODE`, `stop STREAM CODE` and `datagram BYTES`; to it go the same, and
//! `close CODE`. `.` ends what one line has led to. Bytes are in hexadecimal, with `-` before them; fields are `-NAME:-VALUE,`.
//! The client does what lines `request FIELDS BODY TRAILERS` say and tells what comes; the server sends back what it is sent.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use http3::{Action, Config, Connection, Event, Field, RequestHead, ResponseHead, Role, Settings};

fn main() {
    let role = if std::env::args().nth(1).as_deref() == Some("client") { Role::Client } else { Role::Server };
    let settings = Settings { enable_connect_protocol: true, h3_datagram: true, ..Settings::default() };
    let mut end = End {
        connection: Connection::new(
            role,
            Config { settings, max_unsent: usize::MAX, grease: Some(7), ..Config::default() },
        ),
        requests: BTreeMap::new(),
        out: String::new(),
    };
    if role == Role::Client {
        end.connection.allow_pushes(8).unwrap();
    }
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        end.handle(&line.unwrap());
        writeln!(stdout, "{}.", end.out).unwrap();
        stdout.flush().unwrap();
        end.out.clear();
    }
}

struct End {
    connection: Connection,
    /// The server's: what has come of each.
    requests: BTreeMap<u64, (RequestHead, Vec<u8>, Vec<Field>)>,
    out: String,
}

impl End {
    fn handle(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["data", stream, fin, data] => {
                self.connection.on_stream_data(stream.parse().unwrap(), &bytes(data), fin == "1");
            }
            ["reset", stream, code] => {
                self.connection.on_reset(stream.parse().unwrap(), code.parse().unwrap())
            }
            ["stop", stream, code] => {
                self.connection.on_stop_sending(stream.parse().unwrap(), code.parse().unwrap());
            }
            ["datagram", data] => self.connection.on_datagram(&bytes(data)),
            ["request", head, body, trailers] => self.request(&fields(head), &bytes(body), &fields(trailers)),
            ["send-datagram", stream, data] => {
                self.connection.send_datagram(stream.parse().unwrap(), &bytes(data)).unwrap();
            }
            // What was written is to be fetched.
            _ => {}
        }
        while let Some(event) = self.connection.poll_event() {
            match self.connection.role() {
                Role::Client => self.tell(event),
                Role::Server => self.answer(event),
            }
        }
        while let Some(action) = self.connection.poll_action() {
            let line = match action {
                Action::Close(error) => format!("close {} {error}\n", error.code.0),
                Action::Datagram(data) => format!("datagram {}\n", hex(&data)),
                Action::Reset { stream, code } => format!("reset {stream} {}\n", code.0),
                Action::StopSending { stream, code } => format!("stop {stream} {}\n", code.0),
            };
            self.out += &line;
        }
        while let Some(send) = self.connection.next_send() {
            let (stream, count) = (send.stream, send.data.len());
            self.out += &format!("data {stream} {} {}\n", u8::from(send.fin), hex(send.data));
            self.connection.sent(stream, count);
        }
    }

    fn request(&mut self, fields: &[Field], body: &[u8], trailers: &[Field]) {
        let mut head = RequestHead::default();
        for field in fields {
            match &field.name[..] {
                b":method" => head.method = field.value.clone(),
                b":scheme" => head.scheme = field.value.clone(),
                b":authority" => head.authority = field.value.clone(),
                b":path" => head.path = field.value.clone(),
                b":protocol" => head.protocol = Some(field.value.clone()),
                _ => head.fields.push(field.clone()),
            }
        }
        let stream = self.connection.send_request(&head, false).unwrap();
        self.send(stream, body, trailers, head.method == b"CONNECT");
    }

    fn send(&mut self, stream: u64, body: &[u8], trailers: &[Field], stays_open: bool) {
        self.connection.send_body(stream, body, false).unwrap();
        if !trailers.is_empty() {
            self.connection.send_trailers(stream, trailers, true).unwrap();
        } else if !stays_open {
            self.connection.finish(stream, true).unwrap();
        }
    }

    fn tell(&mut self, event: Event) {
        let line = match event {
            Event::Response { stream, head } => {
                format!("response {stream} {} {}\n", head.status, hex_fields(&head.fields))
            }
            Event::Interim { stream, head } => {
                format!("interim {stream} {} {}\n", head.status, hex_fields(&head.fields))
            }
            Event::Body { stream, data } => format!("body {stream} {}\n", hex(&data)),
            Event::Trailers { stream, fields } => format!("trailers {stream} {}\n", hex_fields(&fields)),
            Event::End { stream } => format!("end {stream}\n"),
            Event::Promise { stream, push, head } => format!("promise {stream} {push} {}\n", hex(&head.path)),
            Event::Push { push, stream } => format!("push {push} {stream}\n"),
            Event::Datagram { stream, payload } => format!("payload {stream} {}\n", hex(&payload)),
            Event::Failed { stream, code, .. } => format!("failed {stream} {}\n", code.0),
            _ => return,
        };
        self.out += &line;
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Request { stream, head } => {
                if head.method == b"CONNECT" {
                    self.connection.send_response(stream, &ResponseHead::new(200), false).unwrap();
                }
                self.requests.insert(stream, (head, Vec::new(), Vec::new()));
            }
            Event::Body { stream, data } => {
                let (head, body, _) = self.requests.get_mut(&stream).unwrap();
                if head.method == b"CONNECT" {
                    self.connection.send_body(stream, &data, false).unwrap();
                } else {
                    body.extend(data);
                }
            }
            Event::Trailers { stream, fields } => self.requests.get_mut(&stream).unwrap().2 = fields,
            Event::Datagram { stream, payload } => self.connection.send_datagram(stream, &payload).unwrap(),
            Event::End { stream } => {
                let (head, body, trailers) = self.requests.remove(&stream).unwrap();
                if head.method == b"CONNECT" {
                    return self.connection.finish(stream, true).unwrap();
                }
                if head.path == b"/push" {
                    let promise = RequestHead::get(head.authority, "/pushed");
                    let push = self.connection.promise_push(stream, &promise).unwrap();
                    let pushed = self.connection.open_push_stream(push).unwrap();
                    self.connection.send_response(pushed, &ResponseHead::new(200), false).unwrap();
                    self.send(pushed, b"pushed", &[], false);
                }
                self.connection.send_response(stream, &ResponseHead::new(103), false).unwrap();
                let head = ResponseHead { fields: head.fields, ..ResponseHead::new(200) };
                self.connection.send_response(stream, &head, false).unwrap();
                self.send(stream, &body, &trailers, false);
            }
            Event::Failed { stream, .. } => {
                self.requests.remove(&stream);
            }
            _ => {}
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = &text[1..];
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("-"), |text, byte| text + &format!("{byte:02x}"))
}

fn fields(text: &str) -> Vec<Field> {
    text.split_terminator(',')
        .filter_map(|field| field.split_once(':'))
        .map(|(name, value)| Field::new(bytes(name), bytes(value)))
        .collect()
}

fn hex_fields(fields: &[Field]) -> String {
    let text: String =
        fields.iter().map(|field| format!("{}:{},", hex(&field.name), hex(&field.value))).collect();
    if text.is_empty() { ",".to_owned() } else { text }
}
