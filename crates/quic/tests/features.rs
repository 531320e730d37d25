//! What a connection can do besides carrying data, and what it refuses.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use common::*;
use coquic::*;

fn refused(error: Option<LocalError>) -> LocalErrorCode {
    error.unwrap().code
}

fn send(id: u64) -> ConnectionInput<'static> {
    ConnectionInput::SendStream(SendStreamData { stream_id: id, bytes: b"data", fin: false, priority: 0 })
}

fn close(code: u64) -> ConnectionInput<'static> {
    ConnectionInput::Close(CloseConnection { application_error_code: code, reason_phrase: b"" })
}

fn migrate(route: u64) -> ConnectionInput<'static> {
    let input = RequestConnectionMigration { route_handle: route, ..Default::default() };
    ConnectionInput::RequestMigration(input)
}

/// Data goes both ways on a stream of its own.
fn echo(network: &mut Network, (client, server): (u64, u64), stream: u64) {
    network.send(CLIENT, client, stream, b"there", true);
    network.run_until(|network| network.received(SERVER, server, stream) == (b"there".to_vec(), true));
    network.send(SERVER, server, stream, b"and back", true);
    network.run_until(|network| network.received(CLIENT, client, stream) == (b"and back".to_vec(), true));
}

#[test]
fn before_an_address_is_proved_three_times_as_much_is_sent_at_most() {
    // A certificate that fills more packets than may be sent.
    let mut certificate = identity().certificate_pem.clone();
    certificate.extend((0..20).flat_map(|_| identity().certificate_pem.clone()));
    let identity = TlsIdentity { certificate_pem: certificate, ..identity().clone() };
    let server = EndpointConfig { identity: Some(identity), ..server_config() };
    let mut network = Network::on(&client_config(), &server);
    network.open(client_connection(1));
    network.step();
    let received = network.sent[CLIENT];
    network.weather.loss = 100;
    network.run_for(20_000_000);
    assert_eq!(network.sides[SERVER].connection_count(), 1);
    assert!(network.sent[SERVER] > received && network.sent[SERVER] <= 3 * received, "{:?}", network.sent);
    // And who does not come back is forgotten.
    network.run_for(20_000_000);
    assert_eq!(network.sides[SERVER].connection_count(), 0);
    assert_eq!(network.sides[SERVER].next_wakeup(), None);
    assert!(network.failed(SERVER, 1) && network.closed(SERVER, 1));
}

#[test]
fn a_flood_of_handshakes_is_asked_for_its_addresses() {
    // The bound on machines like routers, and elsewhere.
    let without_proof: u32 = if cfg!(target_pointer_width = "32") { 16 } else { 1024 };
    let mut network = Network::on(&client_config(), &server_config());
    network.weather.loss = 0;
    for number in 0..without_proof + 76 {
        let mut config = client_connection(0);
        config.source_connection_id[1..5].copy_from_slice(&number.to_be_bytes());
        config.initial_destination_connection_id[1..5].copy_from_slice(&number.to_be_bytes());
        network.open(config);
    }
    // What the server says does not arrive.
    network.dead_route = Some(1);
    network.run_for(10_000);
    assert_eq!(network.sides[SERVER].connection_count(), without_proof as usize);
    assert_eq!(network.stateless, 76, "the others got a Retry");
    network.weather.loss = 100;
    network.run_for(60_000_000);
    assert_eq!(network.sides[SERVER].connection_count(), 0);
}

#[test]
fn a_server_takes_so_many_connections() {
    let server = EndpointConfig { max_server_connections: 1, ..server_config() };
    let mut network = Network::on(&client_config(), &server);
    let first = network.connected();
    let second = network.open(client_connection(2));
    network.run_until(|network| network.closed(CLIENT, second));
    assert!(network.failed(CLIENT, second));
    echo(&mut network, first, 0);
}

#[test]
fn the_name_in_the_certificate_counts() {
    let mut network = Network::on(&client_config(), &server_config());
    let other = ClientConnectionConfig { server_name: b"other.example".to_vec(), ..client_connection(1) };
    let connection = network.open(other.clone());
    network.run_until(|network| network.closed(CLIENT, connection));
    assert!(network.failed(CLIENT, connection));
    let careless = EndpointConfig { verify_peer: false, trusted_certificates_pem: None, ..client_config() };
    let mut network = Network::on(&careless, &server_config());
    let connection = network.open(other);
    network.run_until(|network| network.is(CLIENT, connection, StateChange::HandshakeConfirmed));
}

#[test]
fn another_protocol_is_refused() {
    let client = EndpointConfig { application_protocol: b"other".to_vec(), ..client_config() };
    let mut network = Network::on(&client, &server_config());
    let connection = network.open(client_connection(1));
    network.run_until(|network| network.closed(CLIENT, connection));
    assert!(network.failed(CLIENT, connection));
}

#[test]
fn a_client_goes_another_way_and_the_server_follows() {
    let mut network = Network::on(&client_config(), &server_config());
    let both = network.connected();
    echo(&mut network, both, 0);
    assert_eq!(network.command(CLIENT, both.0, migrate(2)), None);
    echo(&mut network, both, 4);
    assert_eq!(network.routes, [Some(2), Some(2)]);
    // A NAT that forgot: the client knows nothing of it.
    network.rebound = Some(3);
    echo(&mut network, both, 8);
    assert_eq!(network.routes, [Some(2), Some(3)]);
    network.run_for(5_000_000);
    network.rebound = None;
    echo(&mut network, both, 12);
    assert_eq!(network.routes, [Some(2), Some(2)]);
    assert_eq!(refused(network.command(SERVER, both.1, migrate(2))), LocalErrorCode::UnsupportedOperation);
    let preferred =
        RequestConnectionMigration { reason: MigrationReason::PreferredAddress, ..Default::default() };
    let preferred = network.command(CLIENT, both.0, ConnectionInput::RequestMigration(preferred));
    assert_eq!(refused(preferred), LocalErrorCode::UnsupportedOperation);
}

#[test]
fn who_diverts_a_datagram_does_not_get_the_connection() {
    let mut network = Network::on(&client_config(), &server_config());
    let both = network.connected();
    network.run_for(1_000_000);
    // One datagram comes from an address that never answers.
    (network.rebound, network.dead_route) = (Some(9), Some(9));
    network.send(CLIENT, both.0, 0, b"diverted", false);
    network.run_for(10_000);
    assert_eq!(network.received(SERVER, both.1, 0).0, b"diverted");
    network.rebound = None;
    network.send(CLIENT, both.0, 0, b", but only once", true);
    network.run_for(5_000_000);
    assert_eq!(network.routes[SERVER], Some(1));
    echo(&mut network, both, 4);
    assert_eq!(network.received(SERVER, both.1, 0), (b"diverted, but only once".to_vec(), true));
}

#[test]
fn a_server_that_forbids_it_is_not_followed_by_other_addresses() {
    let server = EndpointConfig { allow_peer_address_change: false, ..server_config() };
    let mut network = Network::on(&client_config(), &server);
    let both = network.connected();
    echo(&mut network, both, 0);
    network.rebound = Some(3);
    network.send(CLIENT, both.0, 4, b"lost", true);
    network.run_for(1_000_000);
    assert_eq!(network.received(SERVER, both.1, 4), (Vec::new(), false));
    network.rebound = None;
    network.run_until(|network| network.received(SERVER, both.1, 4).1);
}

#[test]
fn a_token_spares_the_retry_once_and_to_its_address_only() {
    let server = EndpointConfig { retry_enabled: true, ..server_config() };
    let mut network = Network::on(&client_config(), &server);
    network.connected();
    let mut retries = network.stateless;
    assert_eq!(retries, 1);
    let token = |network: &Network, of| {
        let token = network.got[CLIENT].iter().find_map(|got| match got {
            Got::Token(connection, token) if *connection == of => Some(token.clone()),
            _ => None,
        });
        token.unwrap()
    };
    let first = token(&network, 1);
    let mut again = |network: &mut Network, number: u8, token: &[u8]| {
        let config = ClientConnectionConfig { retry_token: token.to_vec(), ..client_connection(number) };
        let connection = network.open(config);
        network.run_until(|network| network.is(CLIENT, connection, StateChange::HandshakeConfirmed));
        let new = network.stateless - retries;
        retries = network.stateless;
        new
    };
    assert_eq!(again(&mut network, 2, &first), 0);
    assert_eq!(again(&mut network, 3, &first), 1, "used before");
    assert_eq!(again(&mut network, 4, b"no token"), 1);
    let second = token(&network, 2);
    // The route is in use, and keeps its address: another one is needed.
    network.rebound = Some(77);
    assert_eq!(again(&mut network, 5, &second), 1, "of another address");
    let third = token(&network, 3);
    network.rebound = Some(1);
    network.run_for(25 * 60 * 60 * 1_000_000);
    assert_eq!(again(&mut network, 6, &third), 1, "too old");
}

#[test]
fn without_an_identity_there_are_no_tokens() {
    let mut network = Network::on(&client_config(), &server_config());
    network.identity = |_| Vec::new();
    let both = network.connected();
    echo(&mut network, both, 0);
    assert!(!network.got[CLIENT].iter().any(|got| matches!(got, Got::Token(..))));
}

/// A connection, its session, and what becomes of the next that resumes it.
fn resume(server: &EndpointConfig, restart: bool, context: &[u8], attempt: bool) -> Vec<ZeroRttStatus> {
    let mut network = Network::on(&client_config(), server);
    let (first, _) = network.connected();
    network.run_until(|network| network.got[CLIENT].iter().any(|got| matches!(got, Got::Session(..))));
    let session = network.got[CLIENT].iter().find_map(|got| match got {
        Got::Session(_, session) => Some(session.clone()),
        _ => None,
    });
    network.command(CLIENT, first, close(0));
    network.run_for(1_000_000);
    if restart {
        network.sides[SERVER] = Endpoint::new(server).unwrap();
    }
    let connection = network.open(ClientConnectionConfig {
        resumption_state: session.map(|serialized| ResumptionState { serialized }),
        zero_rtt: ZeroRttConfig { attempt, application_context: context.to_vec(), ..Default::default() },
        ..client_connection(2)
    });
    let early = network.got[CLIENT].contains(&Got::Early(connection, ZeroRttStatus::Attempted));
    let input = SendStreamData { stream_id: 0, bytes: b"early", fin: true, priority: 0 };
    let refusal = network.command(CLIENT, connection, ConnectionInput::SendStream(input));
    assert_eq!(refusal.is_none(), early);
    network.run_until(|network| network.is(CLIENT, connection, StateChange::HandshakeConfirmed));
    let got: Vec<_> = network.got[CLIENT]
        .iter()
        .filter_map(|got| match got {
            Got::Early(of, status) if *of == connection => Some(*status),
            _ => None,
        })
        .collect();
    if got.last() != Some(&ZeroRttStatus::Accepted) {
        network.send(CLIENT, connection, 0, b"early", true);
    }
    let at_server = *network.accepted().last().unwrap();
    network.run_until(|network| network.received(SERVER, at_server, 0) == (b"early".to_vec(), true));
    got
}

#[test]
fn sessions_are_resumed_with_early_data_where_that_is_allowed() {
    use ZeroRttStatus::*;
    let allowed =
        EndpointConfig { zero_rtt: ZeroRttConfig { allow: true, ..Default::default() }, ..server_config() };
    assert_eq!(resume(&allowed, false, b"", true), [Attempted, Accepted]);
    assert_eq!(resume(&allowed, true, b"", true), [Attempted, Rejected]);
    assert_eq!(resume(&allowed, false, b"", false), [NotAttempted]);
    assert_eq!(resume(&allowed, false, b"another", true), [Unavailable]);
    assert_eq!(resume(&server_config(), false, b"", true), [Unavailable]);
}

#[test]
fn a_server_that_forgot_a_connection_resets_it() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    network.run_for(1_000_000);
    network.weather.loss = 100;
    network.command(SERVER, server, close(1));
    network.run_for(5_000_000);
    network.weather.loss = 0;
    assert!(!network.closed(CLIENT, client));
    network.send(CLIENT, client, 0, &[7; 100], true);
    network.run_for(1_000_000);
    assert!(network.failed(CLIENT, client) && network.closed(CLIENT, client));
    assert_eq!(network.stateless, 1);
}

#[test]
fn an_answer_to_nobody_is_no_larger_than_every_path_takes() {
    let mut server =
        Endpoint::new(&EndpointConfig { random_seed: Some([1; 32]), ..server_config() }).unwrap();
    let mut largest = 0;
    for n in 1..100_u64 {
        let datagram = InboundDatagram::new(&[0x40; 60_000]);
        // Not too often: it could be a loop.
        let result = server.input_datagram(datagram, n * 1_000_000).unwrap();
        let Some(Effect::SendDatagram { connection: 0, bytes, .. }) = result.effects().next() else {
            panic!("no reset");
        };
        assert_eq!(bytes[0] & 0xc0, 0x40);
        largest = largest.max(bytes.len());
    }
    assert_eq!(largest, 1200);
}

#[test]
fn silence_ends_a_connection() {
    let transport = TransportConfig { max_idle_timeout: 2000, ..Default::default() };
    let client = EndpointConfig { transport, ..client_config() };
    let mut network = Network::on(&client, &server_config());
    let (client, server) = network.connected();
    network.run_for(1_500_000);
    assert!(!network.closed(CLIENT, client));
    network.run_for(2_000_000);
    assert!(network.failed(CLIENT, client) && network.closed(CLIENT, client));
    assert!(network.closed(SERVER, server), "both know of the time");
}

#[test]
fn a_close_reaches_the_peer() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    assert_eq!(network.command(SERVER, server, close(3)), None);
    assert!(network.closed(SERVER, server) && network.sides[SERVER].connection_count() == 0);
    network.run_until(|network| network.closed(CLIENT, client));
    assert!(!network.failed(CLIENT, client) && !network.failed(SERVER, server));
    network.run_for(10_000_000);
    assert_eq!([0, 1].map(|side| network.sides[side].next_wakeup()), [None; 2]);
}

#[test]
fn commands_for_what_is_not_there_are_refused() {
    use LocalErrorCode::*;
    let mut network = Network::on(&client_config(), &server_config());
    let early = network.open(client_connection(1));
    let error = network.command(CLIENT, early, send(0));
    assert_eq!(error, Some(LocalError { connection: Some(1), code: InvalidStreamId, stream_id: Some(0) }));
    network.run_until(|network| network.is(CLIENT, early, StateChange::HandshakeConfirmed));
    let reset = |id| ConnectionInput::ResetStream(ResetStream { stream_id: id, application_error_code: 9 });
    let stop = |id| ConnectionInput::StopSending(StopSending { stream_id: id, application_error_code: 9 });
    for (input, code) in [
        (send(1), InvalidStreamId),
        (send(3), InvalidStreamId),
        (stop(2), InvalidStreamDirection),
        (reset(1), InvalidStreamId),
        (stop(1), InvalidStreamId),
        (send(1 << 62), InvalidStreamId),
        (send(1 << 40), InvalidStreamId),
    ] {
        assert_eq!(refused(network.command(CLIENT, early, input)), code, "{input:?}");
    }
    network.send(CLIENT, early, 0, b"all", true);
    assert_eq!(refused(network.command(CLIENT, early, send(0))), SendSideClosed);
    assert_eq!(network.command(CLIENT, early, stop(0)), None);
    assert_eq!(refused(network.command(CLIENT, early, stop(0))), ReceiveSideClosed);
    network.send(CLIENT, early, 4, b"some", false);
    assert_eq!(network.command(CLIENT, early, reset(4)), None);
    assert_eq!(refused(network.command(CLIENT, early, send(4))), SendSideClosed);
    assert_eq!(refused(network.command(CLIENT, early, reset(4))), SendSideClosed);
    network.run_for(100_000);
    assert!(network.got[SERVER].contains(&Got::Reset { connection: 1, id: 4, code: 9, size: 4 }));
    // The peer's stream in one direction.
    network.send(SERVER, 1, 3, b"one way", false);
    network.run_for(100_000);
    assert_eq!(refused(network.command(CLIENT, early, send(3))), InvalidStreamDirection);
    assert_eq!(network.command(CLIENT, early, stop(3)), None);
    network.run_for(100_000);
    assert!(network.got[SERVER].contains(&Got::Stop { connection: 1, id: 3, code: 9 }));
    assert_eq!(refused(network.command(SERVER, 1, send(3))), SendSideClosed);
    network.command(CLIENT, early, close(0));
    for input in [send(0), reset(0), stop(0), close(0), migrate(2), ConnectionInput::RequestKeyUpdate] {
        let error = network.command(CLIENT, early, input);
        assert_eq!(
            error,
            Some(LocalError { connection: Some(1), code: UnsupportedOperation, stream_id: None })
        );
    }
}

#[test]
fn streams_wait_until_the_peer_allows_them() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    let streams: Vec<u64> = (0..40).map(|n| 4 * n + 2).collect();
    for id in &streams {
        network.send(CLIENT, client, *id, &id.to_be_bytes(), *id != 102);
    }
    // One that waits is abandoned; the peer hears of it in its turn.
    let reset = ResetStream { stream_id: 102, application_error_code: 4 };
    assert_eq!(network.command(CLIENT, client, ConnectionInput::ResetStream(reset)), None);
    for input in [ConnectionInput::ResetStream(reset), send(102)] {
        assert_eq!(refused(network.command(CLIENT, client, input)), LocalErrorCode::SendSideClosed);
    }
    assert!(network.sides[CLIENT].has_pending_stream_send());
    network.run_for(1_000_000);
    for id in streams {
        let expected = if id == 102 { (Vec::new(), false) } else { (id.to_be_bytes().to_vec(), true) };
        assert_eq!(network.received(SERVER, server, id), expected, "{id}");
    }
    assert!(network.got[SERVER].contains(&Got::Reset { connection: server, id: 102, code: 4, size: 0 }));
    assert!(!network.sides[CLIENT].has_pending_stream_send());
}

#[test]
fn datagrams_go_if_both_want_them() {
    let mut network = Network::on(&client_config(), &server_config());
    let (client, server) = network.connected();
    let datagram = |bytes| ConnectionInput::SendDatagram(SendDatagramData { bytes, priority: 0 });
    assert_eq!(network.command(CLIENT, client, datagram(b"quick")), None);
    assert_eq!(
        refused(network.command(CLIENT, client, datagram(&[0; 3000]))),
        LocalErrorCode::DatagramTooLarge
    );
    network.run_until(|network| network.got[SERVER].contains(&Got::Datagram(server, b"quick".to_vec())));
    let transport = TransportConfig { max_datagram_frame_size: 0, ..Default::default() };
    let without = EndpointConfig { transport, ..server_config() };
    let mut network = Network::on(&client_config(), &without);
    let (client, _) = network.connected();
    assert_eq!(
        refused(network.command(CLIENT, client, datagram(b"x"))),
        LocalErrorCode::DatagramNotSupported
    );
}

#[test]
fn datagrams_become_larger_and_smaller_with_the_path() {
    let mut network = Network::on(&client_config(), &server_config());
    network.weather.mtu = 1400;
    let both = network.connected();
    network.run_for(10_000_000);
    network.send(CLIENT, both.0, 2, &[1; 50_000], true);
    network.run_until(|network| network.received(SERVER, both.1, 2).1);
    assert!(network.probes > 0 && network.largest[CLIENT] > 1350 && network.largest[CLIENT] <= 1400);
    network.weather.mtu = 1250;
    let update = PathMtuUpdate { route_handle: Some(1), max_udp_payload_size: 1250, quoted_packet: vec![] };
    let result = network.sides[CLIENT].update_path_mtu(&update, network.now).unwrap();
    network.take(CLIENT, &result);
    network.largest = [0; 2];
    network.send(CLIENT, both.0, 6, &[1; 50_000], true);
    network.run_until(|network| network.received(SERVER, both.1, 6).1);
    assert!(network.largest[CLIENT] <= 1250, "{:?}", network.largest);
    // Of another path, or impossible.
    for (route, size) in [(2, 1250), (1, 1199)] {
        let update =
            PathMtuUpdate { route_handle: Some(route), max_udp_payload_size: size, ..update.clone() };
        let result = network.sides[CLIENT].update_path_mtu(&update, network.now).unwrap();
        assert_eq!(result.effect_count(), 0);
    }
}

#[test]
fn marks_are_sent_and_congestion_slows_down() {
    let long = |congestion| {
        let mut network = Network::on(&client_config(), &server_config());
        network.weather.congestion = congestion;
        let both = network.connected();
        let begun = network.now;
        network.send(CLIENT, both.0, 2, &[1; 500_000], true);
        network.run_until(|network| network.received(SERVER, both.1, 2).1);
        (network.marks[SERVER], network.now - begun)
    };
    let ((marked, quick), (_, slow)) = (long(0), long(10));
    assert!(marked > 100 && slow > 2 * quick, "{marked} {quick} {slow}");
}

#[test]
fn keys_are_changed_in_the_middle() {
    let mut network = Network::on(&client_config(), &server_config());
    let both = network.connected();
    for round in 0..5 {
        let side = round % 2;
        let connection = [both.0, both.1][side];
        assert_eq!(network.command(side, connection, ConnectionInput::RequestKeyUpdate), None);
        echo(&mut network, both, 4 * round as u64);
        network.run_for(1_000_000);
    }
}

#[test]
fn every_congestion_control_that_there_is_carries_data() {
    use CongestionControl::*;
    for congestion_control in [NewReno, Cubic, Bbr] {
        let transport = TransportConfig { congestion_control, ..Default::default() };
        let config = EndpointConfig { transport: transport.clone(), ..client_config() };
        let server = EndpointConfig { transport, ..server_config() };
        let mut network = Network::new(&config, &server, 5, Weather { loss: 3, ..Weather::fine() });
        let (client, server) = network.connected();
        network.send(CLIENT, client, 2, &[1; 200_000], true);
        network.run_until(|network| network.received(SERVER, server, 2).1);
    }
    for congestion_control in [Copa, Pcc, PccVivace] {
        let transport = TransportConfig { congestion_control, ..Default::default() };
        let config = EndpointConfig { transport, ..client_config() };
        assert_eq!(Endpoint::new(&config).err(), Some(Status::InvalidArgument));
    }
}

#[test]
fn what_there_is_not_is_refused() {
    let with = |change: fn(&mut EndpointConfig)| {
        let mut config = client_config();
        change(&mut config);
        Endpoint::new(&config).err()
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|config| config.transport.initial_max_streams_bidi = 65_536), None);
    let changes: [fn(&mut EndpointConfig); 13] = [
        |config| config.supported_versions = vec![0x6b33_43cf],
        |config| config.enable_packet_inspection = true,
        |config| config.enable_reserved_version_probe = true,
        |config| config.enable_long_header_stateless_reset = true,
        |config| config.retry_handshake_validation_policy = RetryHandshakeValidationPolicy::Discard,
        |config| config.transport.ecn_policy = EcnPolicy::Rfc8311Ect1,
        |config| config.max_outbound_datagram_size = 1199,
        |config| config.transport.max_udp_payload_size = 65_536,
        |config| config.transport.initial_max_data = u64::MAX,
        |config| config.transport.initial_max_streams_bidi = 65_537,
        |config| config.transport.initial_max_streams_uni = 65_537,
        |config| config.role = Role::Server,
        |config| config.trusted_certificates_pem = Some(b"nobody".to_vec()),
    ];
    for change in changes {
        assert_eq!(with(change), Some(Status::InvalidArgument));
    }
}

#[test]
fn what_the_first_packet_calls_the_peer_is_drawn() {
    let first = |random_seed, chosen: &[u8]| {
        let mut endpoint = Endpoint::new(&EndpointConfig { random_seed, ..client_config() }).unwrap();
        let connection = ClientConnectionConfig {
            initial_destination_connection_id: chosen.to_vec(),
            ..client_connection(1)
        };
        let result =
            endpoint.open_connection(&OpenConnection { connection, ..Default::default() }, 1).unwrap();
        let Some(Effect::SendDatagram { bytes, .. }) = result.effects().next() else { panic!("no datagram") };
        bytes[6..][..usize::from(bytes[5])].to_vec()
    };
    for (chosen, length) in [(&[][..], 8), (&[7; 8], 8), (&[7; 20], 20)] {
        let drawn = first(None, chosen);
        assert_eq!(drawn.len(), length);
        assert_ne!(drawn, chosen);
        assert_ne!(drawn, first(None, chosen));
    }
    assert_eq!(first(Some([1; 32]), &[7; 9]), [7; 9]);
}

#[test]
fn ids_of_the_shortest_lengths_are_taken_where_the_engine_can_count_them() {
    for length in 1..=5 {
        let mut network = Network::on(&client_config(), &server_config());
        let connection =
            ClientConnectionConfig { source_connection_id: vec![0xc1; length], ..client_connection(1) };
        let open = OpenConnection { connection, ..Default::default() };
        let (_, result) = network.sides[CLIENT].quic_connect(&open, network.now).unwrap();
        let expected = (length == 4 && cfg!(target_pointer_width = "32"))
            .then_some(LocalErrorCode::UnsupportedOperation);
        assert_eq!(result.local_error().unwrap().map(|error| error.code), expected);
    }
}

#[test]
fn without_connection_ids_there_is_one_connection() {
    let mut network = Network::on(&client_config(), &server_config());
    let none = ClientConnectionConfig::default();
    let first = network.open(none.clone());
    network.run_until(|network| network.is(CLIENT, first, StateChange::HandshakeConfirmed));
    echo(&mut network, (first, 1), 0);
    let open = OpenConnection { connection: none.clone(), ..Default::default() };
    let (handle, result) = network.sides[CLIENT].quic_connect(&open, network.now).unwrap();
    assert_eq!((handle, refused(result.local_error().unwrap())), (0, LocalErrorCode::UnsupportedOperation));
    network.command(CLIENT, first, close(0));
    let second = network.open(none);
    network.run_until(|network| network.is(CLIENT, second, StateChange::HandshakeConfirmed));
    echo(&mut network, (second, 2), 0);
}

#[test]
fn time_may_be_anything() {
    for now in [0, 1, u64::MAX / 2, u64::MAX] {
        let mut network = Network::on(&client_config(), &server_config());
        network.now = now;
        let connection = network.open(client_connection(1));
        for _ in 0..100 {
            network.step();
        }
        if now < u64::MAX {
            assert!(network.is(CLIENT, connection, StateChange::HandshakeConfirmed));
        }
    }
    // Beyond the end of time nothing is ever due, and one call does not wait for it.
    let mut network = Network::on(&client_config(), &server_config());
    let (client, _) = network.connected();
    network.send(CLIENT, client, 0, b"not confirmed", false);
    let result = network.sides[CLIENT].timer_expired(u64::MAX).unwrap();
    assert!(result.next_wakeup().is_some());
    // Backwards it does not run.
    let mut network = Network::on(&client_config(), &server_config());
    network.connected();
    network.now = 0;
    let result = network.sides[CLIENT].timer_expired(0).unwrap();
    network.take(CLIENT, &result);
}

#[test]
fn handles_of_an_endpoint_that_is_gone_are_of_no_use() {
    let config = quic::EndpointConfig { core: client_config() };
    let mut endpoint = quic::Endpoint::new(&config).unwrap();
    let client = quic::ClientConfig::new([1; 8], [2; 8]);
    let quic::ConnectResult { connection, result } = endpoint.connect(client, 5).unwrap();
    let stream = connection.stream(0);
    assert!(connection.is_valid() && stream.is_valid() && (stream.id(), connection.handle()) == (0, 1));
    assert_eq!(endpoint.connection_count(), 1);
    let error = stream.send(b"x", false, 6).unwrap().local_error().unwrap().unwrap();
    assert_eq!(error.code, LocalErrorCode::InvalidStreamId);
    drop(endpoint);
    assert!(!connection.is_valid() && !stream.is_valid());
    assert_eq!(stream.finish(7).err(), Some(Status::InvalidArgument));
    assert_eq!(connection.request_key_update(7).err(), Some(Status::InvalidArgument));
    assert!(result.effect_count() == 2, "the result stays");
}
