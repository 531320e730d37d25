//! Whatever a network does to datagrams, what arrives is what was sent.

mod common;

use common::*;
use coquic::*;

/// Streams both ways, large and small, over a network that a seed makes bad. False: the handshake took too long.
fn exchange(seed: u64) -> bool {
    let mut random = Random(seed ^ 0x00c0_ffee);
    let retry = random.below(4) == 0;
    let weather = Weather {
        loss: random.below(15),
        duplication: random.below(20),
        reordering: random.below(40),
        // quinn-proto 0.11 takes no Retry after one that was damaged, for which it counts as a packet of the handshake.
        corruption: if retry { 0 } else { random.below(6) },
        delay: 100 + random.below(50_000),
        mtu: 1200 + random.below(400) as usize,
        congestion: random.below(10),
    };
    let ordered = random.below(2) == 0;
    let client = EndpointConfig { enable_out_of_order_receive: !ordered, ..client_config() };
    let server = EndpointConfig { retry_enabled: retry, ..server_config() };
    let mut network = Network::new(&client, &server, seed, weather);
    let connection = network.open(client_connection(1));
    network.run_until(|network| {
        failed(network)
            || network.is(CLIENT, connection, StateChange::HandshakeConfirmed)
                && !network.accepted().is_empty()
    });
    if failed(&network) {
        return false;
    }

    let streams: Vec<(u64, Vec<u8>)> = (0..1 + random.below(4))
        .map(|n| {
            let len = random.below(6) * random.below(2000);
            (4 * n + 2 * random.below(2), random.bytes(len as usize))
        })
        .collect();
    for (id, data) in &streams {
        // In two pieces; the end with the last or alone.
        let (first, second) = data.split_at(data.len() / 2);
        network.send(CLIENT, connection, *id, first, false);
        let fin = random.below(2) == 0;
        network.send(CLIENT, connection, *id, second, fin);
        if !fin {
            network.send(CLIENT, connection, *id, b"", true);
        }
    }
    let at_server = network.accepted()[0];
    for (id, data) in &streams {
        network.run_until(|network| network.received(SERVER, at_server, *id).1);
        assert_eq!(&network.received(SERVER, at_server, *id).0, data, "seed {seed}, stream {id}");
        if id & 2 == 0 {
            network.send(SERVER, at_server, *id, data, true);
        }
    }
    for (id, data) in streams.iter().filter(|(id, _)| id & 2 == 0) {
        network.run_until(|network| network.received(CLIENT, connection, *id).1);
        assert_eq!(&network.received(CLIENT, connection, *id).0, data, "seed {seed}, stream {id}");
    }
    let close = CloseConnection { application_error_code: 7, reason_phrase: b"done" };
    assert_eq!(network.command(CLIENT, connection, ConnectionInput::Close(close)), None);
    assert!(network.closed(CLIENT, connection));
    assert_eq!(network.sides[CLIENT].connection_count(), 0);
    true
}

fn failed(network: &Network) -> bool {
    network.got.iter().flatten().any(|got| matches!(got, Got::State(_, StateChange::Failed)))
}

#[test]
fn what_arrives_is_what_was_sent() {
    let seeds = std::env::var("COQUIC_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1000_u64);
    let failed = (0..seeds).filter(|seed| !exchange(*seed)).count();
    assert!(failed as u64 * 100 <= seeds, "{failed} of {seeds} handshakes failed");
}
