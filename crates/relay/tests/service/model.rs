//! Random requests of several devices against a small model, with power cuts and repeated requests anywhere.

use crate::support::*;
use proptest::prelude::*;
use qpc_proto::id::ConversationId;
use qpc_proto::message::*;
use qpc_proto::wire::Message;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        who: usize,
        behind: u64,
    },
    Commit {
        who: usize,
        behind: u64,
    },
    /// Asks the last request again, as after a lost answer.
    Repeat {
        who: usize,
    },
    /// Acknowledges some of what is there.
    Ack {
        who: usize,
        count: usize,
    },
    Sync,
    /// Cuts the power; each unsynced piece is kept or lost by a bit of `keep`.
    PowerCut {
        keep: u64,
    },
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3usize;
    prop_oneof![
        6 => (who.clone(), 0..6u64).prop_map(|(who, behind)| Step::Send { who, behind }),
        4 => (who.clone(), 0..2u64).prop_map(|(who, behind)| Step::Commit { who, behind }),
        3 => who.clone().prop_map(|who| Step::Repeat { who }),
        3 => (who, 1..6usize).prop_map(|(who, count)| Step::Ack { who, count }),
        2 => Just(Step::Sync),
        2 => any::<u64>().prop_map(|keep| Step::PowerCut { keep }),
        1 => Just(Step::Tick),
    ]
}

/// One device and what it must see.
struct Device {
    client: Client,
    /// The request in flight: answered durably, or to be asked again.
    pending: Option<(u64, Request)>,
    last: Option<(u64, Request, Reply)>,
    /// The highest delivery the device has stored.
    seen: u64,
    received: Vec<(u64, Vec<u8>)>,
}

struct Model {
    relay: Relay,
    id: ConversationId,
    devices: Vec<Device>,
    /// Answers given but not yet durable: who, and what.
    waiting: Vec<(usize, u64, Request, Reply)>,
    /// Texts whose acceptance was answered durably, and all that were ever sent.
    accepted: BTreeSet<Vec<u8>>,
    sent: BTreeSet<Vec<u8>>,
    /// The commit accepted for each epoch.
    commits: BTreeMap<u64, Vec<u8>>,
    epoch: u64,
    texts: u64,
}

impl Model {
    fn new() -> Self {
        let mut relay = Relay::with_policy(|policy| policy.bounds.login_by_peer.burst = 1_000_000);
        let mut clients: Vec<Client> = ["alice", "bob", "carol"].map(|name| relay.join(name)).into();
        let id = ConversationId([1; 16]);
        let restore = RestoreGroup {
            conversation: id,
            epoch: 1,
            members: qpc_proto::wire::List::new(clients.iter().map(|client| client.device).collect())
                .unwrap(),
            accounts: qpc_proto::wire::List::new(clients.iter().map(|client| client.user.clone()).collect())
                .unwrap(),
            group_info: bytes(b"info"),
            tree: tree(5, &[(0, "leaf")]),
        };
        clients[0].submit(&mut relay, restore).unwrap();
        let device = |client| Device { client, pending: None, last: None, seen: 0, received: Vec::new() };
        let devices = clients.into_iter().map(device).collect();
        Self {
            relay,
            id,
            devices,
            waiting: Vec::new(),
            accepted: BTreeSet::new(),
            sent: BTreeSet::new(),
            commits: BTreeMap::new(),
            epoch: 1,
            texts: 0,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send { who, behind } => {
                self.texts += 1;
                let text = format!("text {}", self.texts);
                self.submit(who, message(self.id, self.epoch.saturating_sub(behind), &text).into());
            }
            Step::Commit { who, behind } => {
                self.texts += 1;
                let commit = SubmitCommit {
                    commit: bytes(format!("commit {}", self.texts).as_bytes()),
                    ..commit(self.id, self.epoch.saturating_sub(behind))
                };
                self.submit(who, commit.into());
            }
            Step::Repeat { who } => {
                if let Some((number, request, reply)) = self.devices[who].last.clone() {
                    let again = self.ask(who, number, request);
                    assert_eq!(again, reply, "the first answer");
                }
            }
            Step::Ack { who, count } => {
                self.receive(who);
                let device = &self.devices[who];
                let mut left = device.client.deliveries(&self.relay);
                left.retain(|(seq, _)| *seq <= device.seen);
                let Some((up_to, _)) = left.get(count.min(left.len()).wrapping_sub(1)) else { return };
                self.ask(who, 0, Ack { up_to: *up_to }.into());
            }
            Step::Sync => self.sync(),
            Step::PowerCut { keep } => self.power_cut(keep),
            Step::Tick => {
                self.relay.advance(60);
                self.relay.service.tick(self.relay.now, 4096);
            }
        }
    }

    /// A new request, or first the one whose answer was lost.
    fn submit(&mut self, who: usize, request: Request) {
        let device = &mut self.devices[who];
        let (number, request) = device.pending.clone().unwrap_or_else(|| {
            device.client.number += 1;
            (device.client.number, request)
        });
        device.pending = Some((number, request.clone()));
        if let Request::SendMessage(message) = &request {
            self.sent.insert(message.payload.to_vec());
        }
        if self.waiting.iter().any(|(waiting, ..)| *waiting == who) {
            return;
        }
        let reply = self.ask(who, number, request.clone());
        self.waiting.push((who, number, request, reply));
    }

    fn ask(&mut self, who: usize, number: u64, request: Request) -> Reply {
        let frame = ClientFrame { id: 1, number, request: Some(request) };
        let frame = ClientFrame::decode(&frame.encode()).unwrap();
        let caller = &mut self.devices[who].client.caller;
        self.relay.service.handle(self.relay.now, caller, &frame).reply.unwrap()
    }

    /// Everything the relay has said becomes durable, and so reaches the clients.
    fn sync(&mut self) {
        self.relay.sync();
        for (who, number, request, reply) in std::mem::take(&mut self.waiting) {
            let device = &mut self.devices[who];
            device.pending = None;
            match (&request, &reply) {
                (Request::SendMessage(message), Reply::Stored(stored)) => {
                    assert_eq!(stored.devices, 2);
                    assert!(self.accepted.insert(message.payload.to_vec()));
                }
                (Request::SubmitCommit(commit), Reply::Accepted(accepted)) => {
                    assert_eq!(accepted.epoch, commit.epoch + 1);
                    let first = self.commits.insert(commit.epoch, commit.commit.to_vec());
                    assert_eq!(first, None, "two commits for epoch {}", commit.epoch);
                }
                (_, Reply::Error(error)) => {
                    assert_eq!(error.code, ErrorCode::WrongEpoch);
                    continue;
                }
                other => panic!("{other:?}"),
            }
            device.last = Some((number, request, reply));
        }
        (0..3).for_each(|who| self.receive(who));
        self.epoch = self.devices[0].client.list(&mut self.relay)[0].epoch;
    }

    /// Takes what is in a queue, without acknowledging it. Only what is durable may be seen.
    fn receive(&mut self, who: usize) {
        if self.relay.service.store().durable() < self.relay.service.store().journal().appended() {
            return;
        }
        let device = &mut self.devices[who];
        for (seq, entry) in device.client.deliveries(&self.relay) {
            if seq <= device.seen {
                continue;
            }
            assert_eq!(seq, device.seen + 1, "no gaps");
            device.seen = seq;
            let body = match entry.kind.unwrap() {
                EntryKind::Message(message) => message.payload.to_vec(),
                EntryKind::Commit(commit) => commit.commit.to_vec(),
                other => panic!("{other:?}"),
            };
            device.received.push((seq, body));
        }
    }

    fn power_cut(&mut self, keep: u64) {
        let mut bits = keep;
        let disk = self.relay.disk.power_cut(|| {
            bits = bits.rotate_left(1);
            bits & 1 == 1
        });
        self.waiting.clear();
        let generation = self.relay.service.generation();
        self.relay.restart(disk);
        for device in &mut self.devices {
            let answered = device.last.as_ref().map_or(0, |(number, ..)| *number);
            let session = device.client.open_knowing(&mut self.relay, answered, device.seen).unwrap();
            assert!(session.last_number >= answered);
            assert!(session.next_delivery > device.seen);
        }
        self.relay.sync();
        assert_eq!(self.relay.service.generation(), generation, "a power cut takes nothing back");
        self.epoch = self.devices[0].client.list(&mut self.relay)[0].epoch;
    }

    fn finish(mut self) {
        // Whoever is unsure asks again until all is answered.
        for _ in 0..2 {
            for who in 0..3 {
                if let Some((_, request)) = self.devices[who].pending.clone() {
                    self.submit(who, request);
                }
            }
            self.sync();
        }
        let committed: BTreeSet<&Vec<u8>> = self.commits.values().collect();
        for (who, device) in self.devices.iter().enumerate() {
            let bodies: Vec<&Vec<u8>> = device.received.iter().map(|(_, body)| body).collect();
            let distinct: BTreeSet<&Vec<u8>> = bodies.iter().copied().collect();
            assert_eq!(distinct.len(), bodies.len(), "device {who} got something twice");
            for body in &bodies {
                assert!(self.accepted.contains(*body) || committed.contains(*body), "never accepted");
            }
        }
        // Everything accepted is with everybody but its sender.
        for body in self.accepted.iter().chain(committed) {
            let have =
                self.devices.iter().filter(|device| device.received.iter().any(|(_, other)| other == body));
            assert_eq!(have.count(), 2);
        }
        assert_eq!(self.epoch, 1 + self.commits.len() as u64);
        assert!(self.commits.keys().copied().eq(1..self.epoch), "an epoch without a commit");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn everything_accepted_arrives_once(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
        }
        model.finish();
    }
}
