//! Two endpoints and a network between them, all in one thread: a seed decides what gets lost.

#![allow(dead_code, unreachable_pub, reason = "a module of several tests, which do not need everything")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "for tests")]

use coquic::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

pub fn identity() -> &'static TlsIdentity {
    static IDENTITY: OnceLock<TlsIdentity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        TlsIdentity {
            certificate_pem: made.cert.pem().into(),
            private_key_pem: made.signing_key.serialize_pem().into(),
        }
    })
}

pub fn client_config() -> EndpointConfig {
    EndpointConfig {
        trusted_certificates_pem: Some(identity().certificate_pem.clone()),
        ..EndpointConfig::default()
    }
}

pub fn server_config() -> EndpointConfig {
    EndpointConfig { role: Role::Server, identity: Some(identity().clone()), ..EndpointConfig::default() }
}

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub fn seed(&mut self) -> [u8; 32] {
        self.bytes(32).try_into().unwrap()
    }
}

/// Per cent of datagrams to which something happens, and microseconds.
#[derive(Clone, Debug)]
pub struct Weather {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    pub corruption: u64,
    pub delay: u64,
    /// Larger datagrams get lost.
    pub mtu: usize,
    /// Mark this many of those that may be.
    pub congestion: u64,
}

impl Weather {
    pub fn fine() -> Self {
        Self { loss: 0, duplication: 0, reordering: 0, corruption: 0, delay: 5_000, mtu: 1500, congestion: 0 }
    }
}

/// What came out of an endpoint, besides datagrams.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Got {
    Stream { connection: u64, id: u64, offset: u64, bytes: Vec<u8>, size: Option<u64> },
    Datagram(u64, Vec<u8>),
    Reset { connection: u64, id: u64, code: u64, size: u64 },
    Stop { connection: u64, id: u64, code: u64 },
    State(u64, StateChange),
    Lifecycle(u64, Lifecycle),
    Session(u64, Vec<u8>),
    Early(u64, ZeroRttStatus),
    Token(u64, Vec<u8>),
}

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

#[derive(Debug)]
pub struct Network {
    pub sides: [Endpoint; 2],
    pub now: u64,
    pub random: Random,
    pub weather: Weather,
    pub got: [Vec<Got>; 2],
    pub sent: [u64; 2],
    pub sent_datagrams: [u64; 2],
    pub probes: usize,
    pub marks: [usize; 2],
    /// Where each last sent to.
    pub routes: [Option<u64>; 2],
    /// The client's datagrams come to the server by this one.
    pub rebound: Option<u64>,
    /// What is sent there gets lost.
    pub dead_route: Option<u64>,
    /// Answers that belong to no connection.
    pub stateless: usize,
    /// The largest datagram that was no probe.
    pub largest: [usize; 2],
    /// What the server is told of the sender's address, by route.
    pub identity: fn(u64) -> Vec<u8>,
    flying: BinaryHeap<Reverse<Flying>>,
    number: u64,
}

/// When, which, to whom, by which route, how marked, what.
type Flying = (u64, u64, usize, Option<u64>, u8, Vec<u8>);

pub fn identity_of_route(route: u64) -> Vec<u8> {
    vec![4, 192, 0, 2, route as u8, 17, 92]
}

impl Network {
    pub fn new(client: &EndpointConfig, server: &EndpointConfig, seed: u64, weather: Weather) -> Self {
        let mut random = Random(seed);
        let mut make = |config: &EndpointConfig| {
            let config = EndpointConfig { random_seed: Some(random.seed()), ..config.clone() };
            Endpoint::new(&config).unwrap()
        };
        Self {
            sides: [make(client), make(server)],
            now: 1_000_000,
            random,
            weather,
            got: [Vec::new(), Vec::new()],
            sent: [0; 2],
            sent_datagrams: [0; 2],
            probes: 0,
            marks: [0; 2],
            routes: [None; 2],
            rebound: None,
            dead_route: None,
            stateless: 0,
            largest: [0; 2],
            identity: identity_of_route,
            flying: BinaryHeap::new(),
            number: 0,
        }
    }

    pub fn on(client: &EndpointConfig, server: &EndpointConfig) -> Self {
        Self::new(client, server, 1, Weather::fine())
    }

    pub fn open(&mut self, config: ClientConnectionConfig) -> u64 {
        let open =
            OpenConnection { connection: config, initial_route_handle: 1, ..OpenConnection::default() };
        let (handle, result) = self.sides[CLIENT].quic_connect(&open, self.now).unwrap();
        self.take(CLIENT, &result);
        handle
    }

    /// A connection that is ready on both sides: their handles.
    pub fn connected(&mut self) -> (u64, u64) {
        let client = self.open(client_connection(1));
        self.run_until(|network| {
            network.is(CLIENT, client, StateChange::HandshakeConfirmed) && !network.accepted().is_empty()
        });
        (client, *self.accepted().last().unwrap())
    }

    pub fn accepted(&self) -> Vec<u64> {
        let accepted = |got: &Got| match got {
            Got::Lifecycle(connection, Lifecycle::Accepted) => Some(*connection),
            _ => None,
        };
        self.got[SERVER].iter().filter_map(accepted).collect()
    }

    pub fn is(&self, side: usize, connection: u64, change: StateChange) -> bool {
        self.got[side].contains(&Got::State(connection, change))
    }

    pub fn failed(&self, side: usize, connection: u64) -> bool {
        self.is(side, connection, StateChange::Failed)
    }

    pub fn closed(&self, side: usize, connection: u64) -> bool {
        self.got[side].contains(&Got::Lifecycle(connection, Lifecycle::Closed))
    }

    /// Runs a command and takes what it gives; a refusal is returned.
    pub fn command(
        &mut self,
        side: usize,
        connection: u64,
        input: ConnectionInput<'_>,
    ) -> Option<LocalError> {
        let result = self.sides[side].connection_advance(connection, input, self.now).unwrap();
        self.take(side, &result);
        result.local_error().unwrap()
    }

    pub fn send(&mut self, side: usize, connection: u64, id: u64, bytes: &[u8], fin: bool) {
        let input = SendStreamData { stream_id: id, bytes, fin, priority: 0 };
        assert_eq!(self.command(side, connection, ConnectionInput::SendStream(input)), None);
    }

    /// What came on a stream, in its order, and whether that is all.
    pub fn received(&self, side: usize, of: u64, stream: u64) -> (Vec<u8>, bool) {
        let (mut all, mut size) = (Vec::new(), None);
        for got in &self.got[side] {
            if let Got::Stream { connection, id, offset, bytes, size: end } = got
                && (*connection, *id) == (of, stream)
            {
                let end_of_this = *offset as usize + bytes.len();
                if all.len() < end_of_this {
                    all.resize(end_of_this, 0);
                }
                all[*offset as usize..end_of_this].copy_from_slice(bytes);
                size = size.or(*end);
            }
        }
        let complete = size == Some(all.len() as u64);
        (all, complete)
    }

    pub fn take(&mut self, side: usize, result: &QueryResult) {
        let mut last = 0;
        for effect in result.effects() {
            // The order that is promised.
            let (rank, got) = match effect {
                Effect::SendDatagram { connection, bytes, route_handle, ecn, is_pmtu_probe } => {
                    self.probes += usize::from(is_pmtu_probe);
                    if !is_pmtu_probe {
                        self.largest[side] = self.largest[side].max(bytes.len());
                    }
                    self.stateless += usize::from(connection == 0);
                    self.routes[side] = route_handle;
                    self.fly(1 - side, route_handle, ecn, bytes);
                    (0, None)
                }
                Effect::ReceiveStreamData { connection, stream_id: id, offset, bytes, fin, final_size } => {
                    assert_eq!(fin, final_size.is_some());
                    let bytes = bytes.to_vec();
                    (1, Some(Got::Stream { connection, id, offset, bytes, size: final_size }))
                }
                Effect::ReceiveDatagramData { connection, bytes } => {
                    (2, Some(Got::Datagram(connection, bytes.to_vec())))
                }
                Effect::PeerResetStream {
                    connection,
                    stream_id: id,
                    application_error_code: code,
                    final_size,
                } => (3, Some(Got::Reset { connection, id, code, size: final_size })),
                Effect::PeerStopSending { connection, stream_id: id, application_error_code: code } => {
                    (4, Some(Got::Stop { connection, id, code }))
                }
                Effect::StateEvent { connection, change } => (5, Some(Got::State(connection, change))),
                Effect::ResumptionStateAvailable { connection, serialized } => {
                    (6, Some(Got::Session(connection, serialized.to_vec())))
                }
                Effect::ZeroRttStatusEvent { connection, status } => {
                    (7, Some(Got::Early(connection, status)))
                }
                Effect::NewTokenAvailable { connection, token } => {
                    (8, Some(Got::Token(connection, token.to_vec())))
                }
                Effect::ConnectionLifecycleEvent { connection, event } => {
                    (9, Some(Got::Lifecycle(connection, event)))
                }
                other => panic!("what is {other:?}?"),
            };
            assert!(last <= rank, "effects out of order: {result:?}");
            last = rank;
            self.got[side].extend(got);
        }
        if result.send_continuation_pending() {
            assert!(result.next_wakeup().is_some_and(|wakeup| wakeup <= self.now));
        }
        assert_eq!(result.next_wakeup(), self.sides[side].next_wakeup());
    }

    /// Delivers the next datagram or lets the next timer expire. False: nothing will happen any more.
    pub fn step(&mut self) -> bool {
        let arrival = self.flying.peek().map(|Reverse(next)| next.0);
        let wakeups = [0, 1].map(|side| self.sides[side].next_wakeup());
        let Some(next) = [arrival, wakeups[0], wakeups[1]].into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let Reverse((_, _, side, route, ecn, bytes)) = self.flying.pop().unwrap();
            let ecn = [EcnCodepoint::NotEct, EcnCodepoint::Ect0, EcnCodepoint::Ce][usize::from(ecn)];
            self.marks[side] += usize::from(ecn == EcnCodepoint::Ect0);
            let route = if side == SERVER { self.rebound.or(route) } else { route };
            let identity = if side == SERVER { (self.identity)(route.unwrap_or(0)) } else { Vec::new() };
            let datagram = InboundDatagram {
                bytes: &bytes,
                route_handle: route,
                address_validation_identity: &identity,
                ecn,
            };
            let result = self.sides[side].input_datagram(datagram, self.now).unwrap();
            self.take(side, &result);
        } else {
            let side = usize::from(wakeups[CLIENT] != Some(next));
            let result = self.sides[side].timer_expired(self.now).unwrap();
            self.take(side, &result);
        }
        true
    }

    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_000_000 {
            if done(self) {
                return;
            }
            assert!(self.step(), "nothing happens any more at {}: {:?}", self.now, self.got);
        }
        panic!("it does not come to an end: {:?}", self.got);
    }

    pub fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while let Some(next) = self.next()
            && next <= end
            && self.step()
        {}
        self.now = end;
    }

    fn next(&self) -> Option<u64> {
        let arrival = self.flying.peek().map(|Reverse(next)| next.0);
        [arrival, self.sides[0].next_wakeup(), self.sides[1].next_wakeup()].into_iter().flatten().min()
    }

    /// Datagrams on their way get lost.
    pub fn lose_all(&mut self) {
        self.flying.clear();
    }

    fn fly(&mut self, to: usize, route: Option<u64>, ecn: EcnCodepoint, bytes: &[u8]) {
        self.sent[1 - to] += bytes.len() as u64;
        self.sent_datagrams[1 - to] += 1;
        assert!(!bytes.is_empty());
        let hit = |random: &mut Random, per_cent| per_cent > 0 && random.below(100) < per_cent;
        let dead = self.dead_route.is_some() && route == self.dead_route;
        if dead || hit(&mut self.random, self.weather.loss) || bytes.len() > self.weather.mtu {
            return;
        }
        let copies = 1 + usize::from(hit(&mut self.random, self.weather.duplication));
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if hit(&mut self.random, self.weather.corruption) {
                let place = self.random.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << self.random.below(8);
            }
            let mut arrival = self.now.saturating_add(self.weather.delay);
            if hit(&mut self.random, self.weather.reordering) {
                arrival = arrival.saturating_add(self.random.below(4 * self.weather.delay + 1));
            }
            let ecn = match ecn {
                EcnCodepoint::Ect0 if hit(&mut self.random, self.weather.congestion) => 2,
                EcnCodepoint::Ect0 => 1,
                _ => 0,
            };
            self.number += 1;
            self.flying.push(Reverse((arrival, self.number, to, route, ecn, bytes)));
        }
    }
}

/// Each with ids of its own.
pub fn client_connection(number: u8) -> ClientConnectionConfig {
    ClientConnectionConfig {
        source_connection_id: vec![0xc1, 0, 0, 0, 0, 0, 0, number],
        initial_destination_connection_id: vec![0x83, 0, 0, 0, 0, 0, 0, number],
        ..ClientConnectionConfig::default()
    }
}
