//! Calls that take many things at once.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use common::*;
use coquic::*;

fn datagrams(result: &QueryResult) -> Vec<Vec<u8>> {
    let sent = result.effects().filter_map(|effect| match effect {
        Effect::SendDatagram { bytes, .. } => Some(bytes.to_vec()),
        _ => None,
    });
    sent.collect()
}

#[test]
fn data_for_many_streams_goes_in_one_datagram() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    network.run_for(1_000_000);
    let now = network.now;
    let inputs = [0, 4, 8, 12]
        .map(|stream_id| (client, SendStreamData { stream_id, bytes: b"data", fin: true, priority: 0 }));
    let result = network.sides[CLIENT].send_streams(inputs, now).unwrap();
    assert_eq!(result.local_error(), Ok(None));
    assert_eq!(datagrams(&result).len(), 1);
    network.take(CLIENT, &result);
    for stream in [0, 4, 8, 12] {
        network.run_until(|network| network.received(SERVER, server, stream) == (b"data".to_vec(), true));
    }
}

#[test]
fn of_many_refusals_the_first_is_told_and_the_rest_goes() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    let now = network.now;
    let data = |stream_id| SendStreamData { stream_id, bytes: b"data", fin: true, priority: 0 };
    // A stream that only the server can open; a good one; one of no connection.
    let inputs = [(client, data(3)), (client, data(0)), (client + 1, data(0))];
    let result = network.sides[CLIENT].send_streams(inputs, now).unwrap();
    let error =
        LocalError { connection: Some(client), code: LocalErrorCode::InvalidStreamId, stream_id: Some(3) };
    assert_eq!(result.local_error(), Ok(Some(error)));
    network.take(CLIENT, &result);
    network.run_until(|network| network.received(SERVER, server, 0) == (b"data".to_vec(), true));
}

#[test]
fn datagrams_that_come_together_are_acknowledged_together() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    network.run_for(1_000_000);
    let now = network.now;
    let input = SendStreamData { stream_id: 0, bytes: &[7; 10_000], fin: true, priority: 0 };
    let sent = network.sides[CLIENT].connection_send_stream(client, input, now).unwrap();
    let sent = datagrams(&sent);
    assert!(sent.len() > 6);
    let inputs = sent.iter().map(|bytes| InboundDatagram {
        bytes,
        route_handle: Some(1),
        address_validation_identity: &[],
        ecn: EcnCodepoint::NotEct,
    });
    let result = network.sides[SERVER].input_datagrams(inputs, now).unwrap();
    assert_eq!(datagrams(&result).len(), 1);
    network.take(SERVER, &result);
    assert_eq!(network.received(SERVER, server, 0), (vec![7; 10_000], true));
}

#[test]
fn effects_come_in_two_parts_too() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, _) = network.connected();
    let now = network.now;
    let input = SendStreamData { stream_id: 0, bytes: &[7; 10_000], fin: true, priority: 0 };
    let result = network.sides[CLIENT].connection_send_stream(client, input, now).unwrap();
    let cut: Vec<Vec<u8>> = result
        .transmits()
        .flat_map(|transmit| transmit.bytes.chunks(transmit.segment_size).map(<[u8]>::to_vec))
        .collect();
    assert!(result.transmits().count() < cut.len());
    assert_eq!(cut, datagrams(&result));
    assert_eq!(result.transmits().map(|transmit| transmit.connection).max(), Some(client));
    assert_eq!(result.effect_count(), cut.len() + result.events().count());
}
