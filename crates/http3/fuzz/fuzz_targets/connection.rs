//! Any bytes on any streams, in any pieces, at either end, between what an application does: no panic, and after the end silence.

#![no_main]

use http3::{Action, Code, Config, Connection, Event, RequestHead, ResponseHead, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Vec<(u8, u8, &[u8])>)| {
    let (is_client, steps) = input;
    let role = if is_client { Role::Client } else { Role::Server };
    let mut connection =
        Connection::new(role, Config { max_requests: 4, max_held: 100, ..Config::default() });
    if is_client {
        let _ = connection.allow_pushes(3);
    }
    for (what, stream, bytes) in steps {
        let stream = u64::from(stream);
        match what % 16 {
            0 => connection.on_reset(stream, 7),
            1 => connection.on_stop_sending(stream, 7),
            2 => connection.on_datagram(bytes),
            3 => connection.cancel(stream, Code::H3_REQUEST_CANCELLED),
            4 => connection.stop_receiving(stream, Code::H3_NO_ERROR),
            5 => drop(connection.send_request(&RequestHead::get("a", "/"), stream % 2 == 0)),
            6 => drop(connection.send_response(stream, &ResponseHead::new(200), false)),
            7 => drop(connection.send_body(stream, bytes, true)),
            8 => drop(connection.promise_push(stream, &RequestHead::get("a", "/"))),
            9 => drop(connection.open_push_stream(stream)),
            10 => drop(connection.cancel_push(stream)),
            11 => drop(connection.shutdown()),
            // Whole or byte by byte, with an end or without.
            12 => bytes.chunks(1).for_each(|byte| connection.on_stream_data(stream, byte, false)),
            what => connection.on_stream_data(stream, bytes, what == 13),
        }
        let mut has_ended = false;
        while let Some(event) = connection.poll_event() {
            assert!(!has_ended, "nothing follows the end");
            has_ended = matches!(event, Event::Closed(_));
        }
        while let Some(action) = connection.poll_action() {
            assert!(!connection.has_ended() || matches!(action, Action::Close(_)));
        }
        while let Some(send) = connection.next_send() {
            assert!(!connection.has_ended());
            let (stream, count) = (send.stream, send.data.len());
            connection.sent(stream, count);
        }
        assert!(!is_client || connection.open_streams() <= 4);
    }
});
