//! A client and a server over a transport in memory that cuts streams anywhere, delivers them in any order to each other, takes only part of
//! what it is given and cuts requests off; seeded, so that what fails can be repeated.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use http3::{
    Action, Code, Config, Connection, Error, Event, Field, RequestHead, ResponseHead, Role, Settings,
};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What one end has sent and the other has not got.
#[derive(Default)]
struct Wire {
    streams: BTreeMap<u64, Pipe>,
    stops: VecDeque<(u64, Code)>,
    datagrams: VecDeque<Vec<u8>>,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    fin: bool,
    reset: Option<Code>,
    /// The receiver wants no more.
    is_stopped: bool,
    has_ended: bool,
}

impl Wire {
    /// Takes what `from` has to say, in part.
    fn take(&mut self, from: &mut Connection, random: &mut Random) {
        while let Some(action) = from.poll_action() {
            match action {
                Action::Close(error) => panic!("closed: {error}"),
                Action::Datagram(datagram) => self.datagrams.push_back(datagram),
                Action::Reset { stream, code } => {
                    let pipe = self.streams.entry(stream).or_default();
                    pipe.reset = Some(code);
                    pipe.bytes.clear();
                }
                Action::StopSending { stream, code } => self.stops.push_back((stream, code)),
            }
        }
        let mut full = Vec::new();
        while let Some(send) = from.next_send() {
            let stream = send.stream;
            let room = if random.one_in(3) { random.below(200) as usize } else { usize::MAX };
            let count = send.data.len().min(room);
            let pipe = self.streams.entry(stream).or_default();
            assert!(!pipe.fin && pipe.reset.is_none(), "stream {stream} goes on after its end");
            pipe.bytes.extend(&send.data[..count]);
            pipe.fin = send.fin && count == send.data.len();
            if count < send.data.len() {
                full.push(stream);
            }
            from.sent(stream, count);
        }
        for stream in full {
            from.on_writable(stream);
        }
    }

    /// Delivers something, if there is anything.
    fn deliver(&mut self, to: &mut Connection, back: &mut Self, random: &mut Random) {
        if let Some((stream, code)) = self.stops.pop_front() {
            back.streams.entry(stream).or_default().is_stopped = true;
            to.on_stop_sending(stream, code.0);
            return;
        }
        if random.one_in(4)
            && let Some(datagram) = self.datagrams.pop_front()
        {
            to.on_datagram(&datagram);
            return;
        }
        let waiting: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, pipe)| {
                !pipe.has_ended && (pipe.fin || pipe.reset.is_some() || !pipe.bytes.is_empty())
            })
            .map(|(stream, _)| *stream)
            .collect();
        if waiting.is_empty() {
            if let Some(datagram) = self.datagrams.pop_front() {
                to.on_datagram(&datagram);
            }
            return;
        }
        let stream = waiting[random.below(waiting.len() as u64) as usize];
        let Some(pipe) = self.streams.get_mut(&stream) else { return };
        if let Some(code) = pipe.reset {
            pipe.has_ended = true;
            to.on_reset(stream, code.0);
            return;
        }
        let most = if random.one_in(3) { 3 } else { 300 };
        let count = pipe.bytes.len().min(1 + random.below(most) as usize);
        let bytes: Vec<u8> = pipe.bytes.drain(..count).collect();
        pipe.has_ended = pipe.fin && pipe.bytes.is_empty();
        // Some transports deliver what comes after STOP_SENDING, some do not.
        if !pipe.is_stopped || random.one_in(2) {
            to.on_stream_data(stream, &bytes, pipe.has_ended);
        }
    }
}

/// A message as it is to arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    interim: Vec<u16>,
    status: u16,
    fields: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    has_ended: bool,
}

/// What one end still has to send of a message.
struct Outgoing {
    body: Vec<u8>,
    trailers: Vec<Field>,
}

fn send(connection: &mut Connection, unsent: &mut BTreeMap<u64, Outgoing>, stream: u64) {
    let Some(Outgoing { body, trailers }) = unsent.get_mut(&stream) else { return };
    let fin = trailers.is_empty();
    let taken = match connection.send_body(stream, body, fin) {
        Ok(taken) => taken,
        // The event that it failed comes behind the one that is being handled.
        Err(Error::Unknown) => return,
        Err(error) => panic!("{error}"),
    };
    body.drain(..taken);
    if body.is_empty() {
        if !fin {
            connection.send_trailers(stream, trailers, true).unwrap();
        }
        unsent.remove(&stream);
    }
}

fn fields(random: &mut Random) -> Vec<Field> {
    let names = [
        "user-agent",
        "accept",
        "x-request",
        "authorization",
        "x-router",
        "etag",
        "cookie",
        "x-long-name-of-a-field",
    ];
    (0..random.below(6))
        .map(|_| {
            let name = names[random.below(names.len() as u64) as usize];
            // Few enough that they come again, many enough to push others out.
            Field::new(name, "value".repeat(random.below(12) as usize))
        })
        .filter(|field| field.name != b"cookie" || !field.value.is_empty())
        .collect()
}

fn received(fields: &[Field]) -> Vec<Field> {
    let mut fields = fields.to_vec();
    // One cookie field comes out, and secrets are marked.
    let cookies: Vec<_> =
        fields.iter().filter(|field| field.name == b"cookie").map(|field| field.value.clone()).collect();
    let mut joined = false;
    fields.retain_mut(|field| {
        field.sensitive = field.name == b"authorization" || field.name == b"cookie";
        if field.name != b"cookie" {
            return true;
        }
        field.value = cookies.join(&b"; "[..]);
        !std::mem::replace(&mut joined, true)
    });
    fields
}

fn unmarked(mut fields: Vec<Field>) -> Vec<Field> {
    // The static table has a line for an empty authorization, and an indexed line carries no mark.
    fields.iter_mut().for_each(|field| field.sensitive = false);
    fields
}

fn run(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let settings = |random: &mut Random| Settings {
        qpack_max_table_capacity: [0, 100, 300, 4096][random.below(4) as usize],
        qpack_blocked_streams: random.below(4),
        max_field_section_size: None,
        enable_connect_protocol: true,
        h3_datagram: true,
    };
    let config = |random: &mut Random| Config {
        settings: settings(random),
        max_unsent: 400,
        grease: Some(random.below(1 << 40)),
        ..Config::default()
    };
    let mut client = Connection::new(Role::Client, config(&mut random));
    let mut server = Connection::new(Role::Server, config(&mut random));
    let (mut up, mut down) = (Wire::default(), Wire::default());
    let requests = 1 + random.below(12);
    let mut made = 0;
    let mut client_unsent = BTreeMap::new();
    let mut server_unsent = BTreeMap::new();
    // What was sent, and what has arrived, by stream.
    let mut sent_requests: BTreeMap<u64, Message> = BTreeMap::new();
    let mut sent_responses: BTreeMap<u64, Message> = BTreeMap::new();
    let mut got_requests: BTreeMap<u64, Message> = BTreeMap::new();
    let mut got_responses: BTreeMap<u64, Message> = BTreeMap::new();
    let mut cut_off = Vec::new();
    let mut failed = Vec::new();
    let mut is_idle = false;
    while !is_idle || made < requests {
        if made < requests && random.one_in(4) {
            made += 1;
            let mut head = RequestHead::get("router.lan", format!("/{}", random.below(3)));
            head.fields = fields(&mut random);
            let body = vec![b'q'; random.below(1500) as usize];
            let trailers = if random.one_in(3) { vec![Field::new("x-sum", "1")] } else { vec![] };
            head.content_length = random.one_in(2).then_some(body.len() as u64);
            let stream = client.send_request(&head, false).unwrap();
            let message = Message {
                fields: received(&head.fields),
                body: body.clone(),
                trailers: trailers.clone(),
                has_ended: true,
                ..Message::default()
            };
            sent_requests.insert(stream, message);
            client_unsent.insert(stream, Outgoing { body, trailers });
            send(&mut client, &mut client_unsent, stream);
        }
        if random.one_in(60)
            && let Some(&stream) = sent_requests.keys().nth(random.below(12) as usize)
            && !got_responses.get(&stream).is_some_and(|response| response.has_ended)
            && !cut_off.contains(&stream)
        {
            cut_off.push(stream);
            client_unsent.remove(&stream);
            client.cancel(stream, Code::H3_REQUEST_CANCELLED);
        }
        up.take(&mut client, &mut random);
        down.take(&mut server, &mut random);
        if random.one_in(2) {
            up.deliver(&mut server, &mut down, &mut random);
        } else {
            down.deliver(&mut client, &mut up, &mut random);
        }
        while let Some(event) = server.poll_event() {
            match event {
                Event::Request { stream, head } => {
                    let fields =
                        head.fields.into_iter().filter(|field| field.name != b"content-length").collect();
                    got_requests.insert(stream, Message { fields, ..Message::default() });
                }
                Event::Body { stream, data } => got_requests.get_mut(&stream).unwrap().body.extend(data),
                Event::Trailers { stream, fields } => {
                    got_requests.get_mut(&stream).unwrap().trailers = fields
                }
                Event::End { stream } => {
                    got_requests.get_mut(&stream).unwrap().has_ended = true;
                    let mut response = Message { status: 200, has_ended: true, ..Message::default() };
                    while random.one_in(3) {
                        response.interim.push(103);
                        server.send_response(stream, &ResponseHead::new(103), false).unwrap();
                    }
                    let head = ResponseHead { fields: fields(&mut random), ..ResponseHead::new(200) };
                    server.send_response(stream, &head, false).unwrap();
                    response.fields = unmarked(head.fields);
                    response.body = vec![b'r'; random.below(1500) as usize];
                    if random.one_in(3) {
                        response.trailers = vec![Field::new("x-sum", "2")];
                    }
                    let _ = server.send_datagram(stream, b"on the way");
                    let body = response.body.clone();
                    server_unsent.insert(stream, Outgoing { body, trailers: response.trailers.clone() });
                    sent_responses.insert(stream, response);
                    send(&mut server, &mut server_unsent, stream);
                }
                Event::Failed { stream, by_peer, code } => {
                    assert!(by_peer && cut_off.contains(&stream), "seed {seed}: {code}");
                    server_unsent.remove(&stream);
                }
                Event::Writable { stream } => send(&mut server, &mut server_unsent, stream),
                Event::Settings(_) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Interim { stream, head } => {
                    got_responses.entry(stream).or_default().interim.push(head.status);
                }
                Event::Response { stream, head } => {
                    let response = got_responses.entry(stream).or_default();
                    (response.status, response.fields) = (head.status, unmarked(head.fields));
                }
                Event::Body { stream, data } => got_responses.get_mut(&stream).unwrap().body.extend(data),
                Event::Trailers { stream, fields } => {
                    got_responses.get_mut(&stream).unwrap().trailers = fields
                }
                Event::End { stream } => got_responses.get_mut(&stream).unwrap().has_ended = true,
                Event::Failed { stream, .. } => failed.push(stream),
                Event::Writable { stream } => send(&mut client, &mut client_unsent, stream),
                Event::Datagram { payload, .. } => assert_eq!(payload, b"on the way"),
                Event::Settings(_) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        is_idle =
            up.is_idle() && down.is_idle() && client.next_send().is_none() && server.next_send().is_none();
    }
    assert!(failed.is_empty(), "seed {seed}: {failed:?}");
    for (stream, request) in &sent_requests {
        if cut_off.contains(stream) {
            continue;
        }
        let mut got = got_requests.remove(stream).unwrap_or_default();
        got.fields = unmarked(got.fields);
        let request = Message { fields: unmarked(request.fields.clone()), ..request.clone() };
        assert_eq!(got, request, "seed {seed}: request {stream}");
        assert_eq!(got_responses.get(stream), sent_responses.get(stream), "seed {seed}: response {stream}");
    }
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0), "seed {seed}");
}

impl Wire {
    fn is_idle(&self) -> bool {
        self.stops.is_empty()
            && self.datagrams.is_empty()
            && self
                .streams
                .values()
                .all(|pipe| pipe.has_ended || (pipe.bytes.is_empty() && !pipe.fin && pipe.reset.is_none()))
    }
}

#[test]
fn every_message_arrives_whole_over_any_transport() {
    // More with HTTP3_SEEDS, as ci/test --all does.
    let seeds = std::env::var("HTTP3_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2000);
    for seed in 0..seeds {
        run(seed);
    }
}
