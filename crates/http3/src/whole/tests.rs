use super::*;
use crate::settings::Settings;

struct Pair {
    client: Client,
    server: Server,
    /// What the ends were told to send when they told something else.
    unsent: [Vec<Input>; 2],
}

fn pair(max_kept: usize) -> Pair {
    let settings = Settings { enable_connect_protocol: true, h3_datagram: true, ..Settings::default() };
    let config = Config { settings, ..Config::default() };
    let (client, server) = (Client::new(config.clone(), max_kept), Server::new(config, max_kept));
    Pair { client, server, unsent: Default::default() }
}

impl Pair {
    fn up(&mut self) -> ServerUpdate {
        self.unsent[0].append(&mut self.client.update().inputs);
        hand_in(self.server.connection(), &std::mem::take(&mut self.unsent[0]));
        let mut update = self.server.update();
        self.unsent[1].append(&mut update.inputs);
        update
    }

    fn down(&mut self) -> ClientUpdate {
        self.unsent[1].append(&mut self.server.update().inputs);
        hand_in(self.client.connection(), &std::mem::take(&mut self.unsent[1]));
        let mut update = self.client.update();
        self.unsent[0].append(&mut update.inputs);
        update
    }
}

fn hand_in(connection: &mut Connection, inputs: &[Input]) {
    for input in inputs {
        match input {
            Input::Close(_) => connection.on_closed(),
            Input::Datagram(datagram) => connection.on_datagram(datagram),
            Input::Reset { stream, code } => connection.on_reset(*stream, code.0),
            Input::Send { stream, data, fin } => connection.on_stream_data(*stream, data, *fin),
            Input::StopSending { stream, code } => connection.on_stop_sending(*stream, code.0),
        }
    }
}

fn request(body: &[u8]) -> Request {
    let head = RequestHead { method: b"POST".to_vec(), ..RequestHead::get("router", "/") };
    Request { head, body: body.to_vec(), trailers: vec![Field::new("x-sum", "1")] }
}

fn response(body: &[u8]) -> Response {
    Response {
        interim: vec![ResponseHead::new(103)],
        head: ResponseHead::new(200),
        body: body.to_vec(),
        trailers: vec![Field::new("x-sum", "2")],
    }
}

#[test]
fn requests_and_responses_come_whole() {
    let mut pair = pair(100);
    assert_eq!(pair.client.submit_request(request(b"question")), Ok(0));
    assert!(pair.client.is_waiting());
    let update = pair.up();
    assert_eq!(update.requests, [(0, request(b"question"))]);
    pair.server.submit_response(0, &response(b"answer")).unwrap();
    let update = pair.down();
    let expected = Answered { stream: 0, request: request(b"question"), response: response(b"answer") };
    assert_eq!(update.responses, [expected]);
    assert!(!pair.client.is_waiting());
    assert!(pair.server.requests.is_empty());
    assert_eq!((pair.client.kept.count, pair.server.kept.count), (0, 0));
}

#[test]
fn content_beyond_the_bound_is_refused() {
    let mut pair = pair(100);
    pair.client.submit_request(request(&[b'x'; 101])).unwrap();
    pair.client.submit_request(request(&[b'x'; 100])).unwrap();
    let update = pair.up();
    assert_eq!(update.cancelled.len(), 1);
    assert_eq!(update.requests, [(4, request(&[b'x'; 100]))]);
    let errors = pair.down().request_errors;
    assert_eq!((errors[0].stream, errors[0].code), (0, Code::H3_EXCESSIVE_LOAD));
    pair.server.submit_response(4, &response(&[b'x'; 101])).unwrap();
    let update = pair.down();
    assert_eq!(
        (update.request_errors[0].stream, update.request_errors[0].code),
        (4, Code::H3_EXCESSIVE_LOAD)
    );
    assert_eq!((pair.client.kept.count, pair.server.kept.count), (0, 0));
}

#[test]
fn what_comes_behind_content_beyond_the_bound_is_not_counted() {
    let mut pair = pair(100);
    let parts = [60, 60, 30];
    let stream = pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    pair.server.connection().send_response(stream, &ResponseHead::new(200), false).unwrap();
    for part in parts {
        pair.server.connection().send_body(stream, &vec![b'x'; part], false).unwrap();
    }
    assert_eq!(pair.down().request_errors[0].code, Code::H3_EXCESSIVE_LOAD);
    assert_eq!(pair.client.kept.count, 0);

    let head = RequestHead { method: b"POST".to_vec(), ..RequestHead::get("router", "/") };
    let stream = pair.client.connection().send_request(&head, false).unwrap();
    for part in parts {
        pair.client.connection().send_body(stream, &vec![b'x'; part], false).unwrap();
    }
    let cancelled = pair.up().cancelled;
    assert_eq!(cancelled.last().unwrap().code, Code::H3_EXCESSIVE_LOAD);
    assert_eq!(pair.server.kept.count, 0);
}

#[test]
fn what_cannot_be_sent_leaves_nothing_behind() {
    let mut pair = pair(100);
    let mut wrong = request(b"four");
    wrong.head.content_length = Some(3);
    assert_eq!(pair.client.submit_request(wrong), Err(Error::ContentLength));
    let mut wrong = request(b"four");
    wrong.trailers = vec![Field::new("Upper", "")];
    assert!(pair.client.submit_request(wrong).is_err());
    pair.client.submit_request(request(b"")).unwrap();
    let update = pair.up();
    assert_eq!(update.requests.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [4]);
    assert_eq!(pair.server.submit_response(8, &response(b"")), Err(Error::Unknown));
}

#[test]
fn cancelled_requests_are_told_with_what_had_come() {
    let mut pair = pair(100);
    pair.client.submit_request(request(b"question")).unwrap();
    assert_eq!(pair.up().requests.len(), 1);
    pair.client.connection().cancel(0, Code::H3_REQUEST_CANCELLED);
    let update = pair.up();
    let head = Some(request(b"").head);
    let code = Code::H3_REQUEST_CANCELLED;
    assert_eq!(update.cancelled, [Cancelled { stream: 0, head, body: vec![], trailers: vec![], code }]);
    assert_eq!(pair.server.submit_response(0, &response(b"")), Err(Error::Unknown));
}

#[test]
fn what_the_program_gives_up_is_forgotten() {
    let mut pair = pair(100);
    pair.client.connection().allow_pushes(5).unwrap();
    for _ in 0..2 {
        pair.client.submit_request(request(b"")).unwrap();
    }
    pair.up();
    for stream in [0, 4] {
        pair.server.connection().send_response(stream, &ResponseHead::new(200), false).unwrap();
        pair.server.connection().send_body(stream, b"half", false).unwrap();
    }
    pair.server.connection().promise_push(0, &RequestHead::get("router", "/style")).unwrap();
    pair.down();
    assert_eq!(pair.client.kept.count, 8);
    pair.client.connection().cancel(0, Code::H3_REQUEST_CANCELLED);
    pair.client.cancel_push(0).unwrap();
    let mut update = pair.client.update();
    pair.unsent[0].append(&mut update.inputs);
    assert!(update.request_errors.is_empty() && update.push_errors.is_empty());
    assert_eq!((pair.client.kept.count, pair.client.requests.len(), pair.client.pushes.len()), (4, 1, 0));
    pair.server.connection().cancel(4, Code::H3_INTERNAL_ERROR);
    pair.up();
    assert!(pair.server.requests.is_empty());
}

#[test]
fn tunnels_are_told_at_once_and_their_content_as_it_comes() {
    let mut pair = pair(100);
    let head = RequestHead {
        method: b"CONNECT".to_vec(),
        authority: b"router:443".to_vec(),
        ..RequestHead::default()
    };
    let connect = Request { head, ..Request::default() };
    pair.client.submit_request(connect.clone()).unwrap();
    assert_eq!(pair.up().requests, [(0, connect.clone())]);
    let accepted = Response { head: ResponseHead::new(200), ..Response::default() };
    pair.server.submit_response(0, &accepted).unwrap();
    assert_eq!(pair.down().responses[0].response, accepted);
    pair.client.connection().send_body(0, b"up", false).unwrap();
    assert_eq!(pair.up().requests, [(0, Request { body: b"up".to_vec(), ..connect.clone() })]);
    pair.server.connection().send_body(0, b"down", true).unwrap();
    let told = pair.down().responses;
    assert_eq!(told.iter().map(|told| &told.response.body[..]).collect::<Vec<_>>(), [&b"down"[..], b""]);
    pair.client.connection().send_datagram(0, b"lost").unwrap();
    assert_eq!(pair.up().datagrams, [(0, b"lost".to_vec())]);
    pair.client.connection().finish(0, true).unwrap();
    assert_eq!(pair.up().requests, [(0, connect)]);
    assert!(pair.server.requests.is_empty() && pair.client.requests.is_empty());
}

#[test]
fn pushes_come_with_their_promise() {
    let mut pair = pair(100);
    pair.client.connection().allow_pushes(5).unwrap();
    pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    let promised = RequestHead::get("router", "/style");
    for push in 0..2 {
        assert_eq!(pair.server.connection().promise_push(0, &promised), Ok(push));
    }
    let stream = pair.server.connection().open_push_stream(0).unwrap();
    pair.server.connection().send_response(stream, &ResponseHead::new(200), false).unwrap();
    pair.server.connection().send_body(stream, b"body {}", true).unwrap();
    pair.server.connection().cancel_push(1).unwrap();
    pair.unsent[1].append(&mut pair.server.update().inputs);
    let update = pair.down();
    let head = ResponseHead::new(200);
    let response = Response { head, body: b"body {}".to_vec(), ..Response::default() };
    let pushed = Pushed { request_stream: 0, push: 0, request: promised.clone(), response };
    assert_eq!(update.push_responses, [pushed]);
    let code = Code::H3_REQUEST_CANCELLED;
    assert_eq!(update.push_errors, [PushFailed { push: 1, request: Some(promised), code }]);
}

#[test]
fn a_push_is_over_once() {
    let mut pair = pair(100);
    pair.client.connection().allow_pushes(5).unwrap();
    for _ in 0..2 {
        pair.client.submit_request(request(b"")).unwrap();
    }
    pair.up();
    let promised = RequestHead::get("router", "/style");
    pair.server.connection().promise_push(0, &promised).unwrap();
    pair.server.connection().promise_push(0, &promised).unwrap();
    let stream = pair.server.connection().open_push_stream(1).unwrap();
    pair.server.connection().send_response(stream, &ResponseHead::new(200), true).unwrap();
    let promises = pair.server.update().inputs;
    // The cancellation overtakes the promise, and both promises come once more.
    pair.server.connection().cancel_push(0).unwrap();
    pair.unsent[1].append(&mut pair.server.update().inputs);
    assert!(pair.down().push_errors.is_empty());
    pair.unsent[1] = promises.clone();
    let update = pair.down();
    assert_eq!((update.push_errors.len(), update.push_responses.len()), (1, 1));
    pair.unsent[1] = promises
        .into_iter()
        .filter_map(|input| match input {
            Input::Send { stream: 0, data, fin } => Some(Input::Send { stream: 4, data, fin }),
            _ => None,
        })
        .collect();
    assert_eq!(pair.unsent[1].len(), 1);
    let update = pair.down();
    assert!(update.push_errors.is_empty() && update.push_responses.is_empty());
    assert!(pair.client.pushes.is_empty());
}

#[test]
fn a_server_sends_only_so_many_interim_responses() {
    let mut pair = pair(100);
    let stream = pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    for _ in 0..=MAX_INTERIM {
        pair.server.connection().send_response(stream, &ResponseHead::new(103), false).unwrap();
    }
    assert_eq!(pair.down().request_errors[0].code, Code::H3_EXCESSIVE_LOAD);
    assert!(pair.client.requests.is_empty());
}

#[test]
fn a_wrong_response_leaves_the_request_to_a_right_one() {
    let mut pair = pair(100);
    let stream = pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    let mut wrong = response(b"answer");
    wrong.interim.push(ResponseHead::new(200));
    assert!(matches!(pair.server.submit_response(stream, &wrong), Err(Error::WrongState(_))));
    let mut wrong = response(b"answer");
    wrong.head.status = 103;
    assert!(matches!(pair.server.submit_response(stream, &wrong), Err(Error::WrongState(_))));
    for part in 0..2 {
        let mut wrong = response(b"answer");
        let fields = if part == 0 { &mut wrong.head.fields } else { &mut wrong.trailers };
        fields.push(Field::new("Upper", ""));
        assert!(pair.server.submit_response(stream, &wrong).is_err());
    }
    pair.server.submit_response(stream, &response(b"answer")).unwrap();
    assert!(pair.server.submit_response(stream, &response(b"answer")).is_err());
    assert_eq!(pair.down().responses[0].response, response(b"answer"));
}

#[test]
fn what_comes_in_0_rtt_counts_and_waits() {
    let mut pair = pair(100);
    pair.client.submit_request(request(&[b'x'; 60])).unwrap();
    pair.client.submit_request(request(&[b'x'; 60])).unwrap();
    let inputs = pair.client.update().inputs;
    hand_in(pair.server.connection(), &inputs);
    pair.server.take_early();
    assert_eq!(pair.server.kept.count, 60);
    let update = pair.server.update();
    assert_eq!(update.requests, [(0, request(&[b'x'; 60]))]);
    assert_eq!(pair.server.kept.count, 0);
}

#[test]
fn what_quic_does_not_take_is_reset_and_told() {
    let mut pair = pair(100);
    let stream = pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    pair.server.submit_response(stream, &response(b"answer")).unwrap();
    pair.server.update();
    pair.server.connection().on_refused(stream);
    let update = pair.server.update();
    let code = Code::H3_INTERNAL_ERROR;
    assert_eq!(update.inputs, [Input::Reset { stream, code }]);
    assert_eq!((update.cancelled[0].stream, update.cancelled[0].code), (stream, code));
    pair.client.connection().on_refused(2);
    assert!(pair.client.has_ended());
}

#[test]
fn the_end_of_the_connection_is_the_end_of_its_requests() {
    let mut pair = pair(100);
    pair.client.submit_request(request(b"")).unwrap();
    pair.up();
    pair.client.connection().on_stream_data(3, &[0, 0, 0], false);
    let update = pair.client.update();
    assert_eq!(update.request_errors[0].code, Code::H3_MISSING_SETTINGS);
    assert!(matches!(update.inputs[..], [Input::Close(_)]));
    assert!(pair.client.has_ended());
    pair.client.connection().on_closed();
    assert!(pair.client.update().request_errors.is_empty());
    pair.server.connection().on_stream_data(2, &[4, 0], false);
    assert_eq!(pair.server.update().cancelled[0].code, Code::H3_FRAME_UNEXPECTED);
    assert!(pair.server.has_ended());
}
