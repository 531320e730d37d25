//! Datagrams as they come, as they are made up, and as they are changed on their way, between two endpoints in the middle of a
//! connection: no panic, and nothing that was changed is taken for what was sent.

#![no_main]

use coquic::*;
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::sync::OnceLock;

struct Pair {
    sides: [Endpoint; 2],
    to: [VecDeque<Vec<u8>>; 2],
    received: Vec<u8>,
    now: u64,
}

fn identity() -> &'static TlsIdentity {
    static IDENTITY: OnceLock<TlsIdentity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        TlsIdentity {
            certificate_pem: made.cert.pem().into(),
            private_key_pem: made.signing_key.serialize_pem().into(),
        }
    })
}

impl Pair {
    fn new() -> Self {
        let client = EndpointConfig { verify_peer: false, ..EndpointConfig::default() };
        let server =
            EndpointConfig { role: Role::Server, identity: Some(identity().clone()), ..EndpointConfig::default() };
        let sides = [&client, &server].map(|config| Endpoint::new(config).unwrap());
        Self { sides, to: Default::default(), received: Vec::new(), now: 1 }
    }

    fn take(&mut self, side: usize, result: QueryResult) {
        for effect in result.effects() {
            match effect {
                Effect::SendDatagram { bytes, .. } => self.to[1 - side].push_back(bytes.to_vec()),
                Effect::ReceiveStreamData { bytes, offset, .. } if side == 1 => {
                    assert_eq!(offset, self.received.len() as u64);
                    self.received.extend(bytes);
                }
                _ => {}
            }
        }
    }

    fn input(&mut self, side: usize, bytes: &[u8], route: u64) {
        let datagram = InboundDatagram { route_handle: Some(route), ..InboundDatagram::new(bytes) };
        let result = self.sides[side].input_datagram(datagram, self.now).unwrap();
        self.take(side, result);
    }

    fn expire(&mut self, side: usize) {
        if let Some(due) = self.sides[side].next_wakeup() {
            self.now = self.now.max(due);
            let result = self.sides[side].timer_expired(self.now).unwrap();
            self.take(side, result);
        }
    }

    fn send(&mut self) {
        let input = SendStreamData { stream_id: 0, bytes: b"sent", fin: false, priority: 0 };
        let result = self.sides[0].connection_send_stream(1, input, self.now).unwrap();
        self.take(0, result);
    }
}

fuzz_target!(|input: (u8, Vec<(u8, u16, Vec<u8>)>)| {
    let (quiet, steps) = input;
    let mut pair = Pair::new();
    let open = OpenConnection {
        connection: ClientConnectionConfig { source_connection_id: vec![1; 8], ..Default::default() },
        ..Default::default()
    };
    let (_, result) = pair.sides[0].quic_connect(&open, pair.now).unwrap();
    pair.take(0, result);
    // So far undisturbed.
    for _ in 0..quiet % 8 {
        for side in 0..2 {
            while let Some(datagram) = pair.to[side].pop_front() {
                pair.input(side, &datagram, 1);
            }
        }
        pair.send();
    }
    for (what, place, bytes) in steps {
        let side = usize::from(what & 1);
        let route = u64::from(what >> 1 & 3);
        match what >> 3 & 7 {
            0 | 1 => {
                if let Some(datagram) = pair.to[side].pop_front() {
                    pair.input(side, &datagram, route);
                }
            }
            2 => pair.input(side, &bytes, route),
            3 | 4 => {
                if let Some(mut datagram) = pair.to[side].front().cloned() {
                    let place = usize::from(place) % datagram.len();
                    for (there, change) in datagram[place..].iter_mut().zip(&bytes) {
                        *there ^= change;
                    }
                    pair.input(side, &datagram, route);
                }
            }
            5 => {
                if let Some(datagram) = pair.to[side].pop_front() {
                    pair.input(side, &datagram[..usize::from(place) % datagram.len()], route);
                }
            }
            6 => pair.expire(side),
            _ => pair.send(),
        }
    }
    assert!(pair.received.chunks(4).all(|piece| b"sent".starts_with(piece)));
});
