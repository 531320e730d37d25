//! Several engines and a relay that follows the rules, without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, Generation, MessageId, UserName};
use qpc_proto::limits::{MAX_DEVICES, PAST_EPOCHS};
use qpc_proto::message::*;
use qpc_proto::wire::{Blob, List, Text};

use super::disk::{self, Disk};
use crate::engine::*;
use crate::mls::{DeviceSecret, IdentitySecret, SystemEntropy};
use qpc_journal::fault::Faults;

/// A relay.
pub(super) struct Relay {
    pub(super) generation: Generation,
    pub(super) queues: BTreeMap<DeviceId, Vec<Entry>>,
    pub(super) groups: BTreeMap<ConversationId, GroupAtRelay>,
    accounts: BTreeMap<UserName, AccountAtRelay>,
    packages: BTreeMap<DeviceId, (Vec<Vec<u8>>, Vec<u8>)>,
    answers: BTreeMap<(DeviceId, u64), Reply>,
    next_id: u8,
}

#[derive(Clone)]
pub(super) struct AccountAtRelay {
    identity: PublicKey,
    pub(super) devices: Vec<DeviceId>,
}

#[derive(Clone, Default)]
pub(super) struct GroupAtRelay {
    pub(super) epoch: u64,
    pub(super) accounts: BTreeSet<UserName>,
    pub(super) members: BTreeSet<DeviceId>,
    pub(super) group_info: Vec<u8>,
    width: u32,
    nodes: BTreeMap<u32, Vec<u8>>,
    pub(super) resync: bool,
}

impl Relay {
    fn new() -> Self {
        Self {
            generation: Generation([1; 16]),
            queues: BTreeMap::new(),
            groups: BTreeMap::new(),
            accounts: BTreeMap::new(),
            packages: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_id: 1,
        }
    }

    pub(super) fn push(&mut self, to: DeviceId, entry: Entry) {
        self.queues.entry(to).or_default().push(entry);
    }

    /// Answers a numbered request; one that was answered before gets the same answer.
    pub(super) fn submit(&mut self, device: DeviceId, outgoing: &Outgoing) -> Reply {
        if let Some(reply) = self.answers.get(&(device, outgoing.number)) {
            return reply.clone();
        }
        let reply = match &outgoing.request {
            Request::UploadKeyPackages(upload) => self.upload(device, upload),
            Request::SubmitCommit(commit) => self.commit(device, commit),
            Request::SendMessage(message) => self.message(device, message),
            Request::RestoreGroup(restore) => self.restore(device, restore),
            Request::RevokeDevice(revoke) => self.revoke(revoke.device),
            other => panic!("{other:?} has no number"),
        };
        if !matches!(reply, Reply::Error(_)) {
            self.answers.insert((device, outgoing.number), reply.clone());
        }
        reply
    }

    fn upload(&mut self, device: DeviceId, upload: &UploadKeyPackages) -> Reply {
        let packages = self.packages.entry(device).or_default();
        if upload.replace {
            packages.0.clear();
        }
        packages.0.extend(upload.one_time.iter().map(|package| package.to_vec()));
        packages.1 = upload.last_resort.to_vec();
        Reply::Done(Done {})
    }

    fn commit(&mut self, device: DeviceId, commit: &SubmitCommit) -> Reply {
        let Some(group) = self.groups.get_mut(&commit.conversation) else {
            return refusal(ErrorCode::UnknownConversation, 0);
        };
        if commit.epoch != group.epoch {
            return refusal(ErrorCode::WrongEpoch, group.epoch);
        }
        if !group.members.contains(&device) && !commit.external && group.epoch > 0 {
            return refusal(ErrorCode::NotMember, 0);
        }
        let audience: Vec<DeviceId> =
            group.members.iter().copied().filter(|member| *member != device).collect();
        group.epoch += 1;
        group.members.insert(device);
        group.members.extend(commit.added.iter().map(|added| added.device));
        group.members.retain(|member| !commit.removed.contains(member));
        group.group_info = commit.group_info.to_vec();
        group.apply_tree(&commit.tree);
        let epoch = group.epoch;
        let entry = CommitEntry { epoch: commit.epoch, commit: commit.commit.clone() };
        for member in audience {
            self.push(member, from(device, commit.conversation, entry.clone().into()));
        }
        if !commit.external {
            for added in commit.added.iter() {
                let welcome = WelcomeEntry { epoch, welcome: commit.welcome.clone() };
                self.push(added.device, from(device, commit.conversation, welcome.into()));
            }
        }
        Reply::Accepted(Accepted { epoch })
    }

    fn message(&mut self, device: DeviceId, message: &SendMessage) -> Reply {
        let Some(group) = self.groups.get(&message.conversation) else {
            return refusal(ErrorCode::UnknownConversation, 0);
        };
        if !group.members.contains(&device) {
            return refusal(ErrorCode::NotMember, 0);
        }
        if message.epoch > group.epoch || message.epoch + PAST_EPOCHS < group.epoch {
            return refusal(ErrorCode::WrongEpoch, group.epoch);
        }
        let to: Vec<DeviceId> = group.members.iter().copied().filter(|member| *member != device).collect();
        for member in &to {
            let entry = MessageEntry { payload: message.payload.clone() };
            self.push(*member, from(device, message.conversation, entry.into()));
        }
        Reply::Stored(Stored {
            durability: Durability::Durable,
            time: 1,
            refused: List::default(),
            devices: to.len() as u32,
        })
    }

    fn restore(&mut self, device: DeviceId, restore: &RestoreGroup) -> Reply {
        let group = self.groups.entry(restore.conversation).or_default();
        if !(group.resync && restore.epoch <= group.epoch || group.epoch < restore.epoch) {
            return refusal(ErrorCode::WrongEpoch, group.epoch);
        }
        assert!(restore.members.contains(&device));
        group.epoch = restore.epoch;
        group.members = restore.members.iter().copied().collect();
        group.accounts.extend(restore.accounts.iter().cloned());
        group.group_info = restore.group_info.to_vec();
        group.nodes.clear();
        group.apply_tree(&restore.tree);
        group.resync = false;
        Reply::Accepted(Accepted { epoch: restore.epoch })
    }

    fn revoke(&mut self, device: DeviceId) -> Reply {
        let (user, account) =
            self.accounts.iter_mut().find(|(_, account)| account.devices.contains(&device)).unwrap();
        let user = user.clone();
        account.devices.retain(|other| *other != device);
        let own = account.devices.clone();
        let devices =
            DevicesEntry { user, added: List::default(), removed: List::new(vec![device]).unwrap() };
        for (id, group) in self.groups.clone() {
            if self.groups.get_mut(&id).unwrap().members.remove(&device) {
                for member in group.members.iter().filter(|member| **member != device) {
                    self.push(*member, by_relay(id, devices.clone().into()));
                }
            }
        }
        for other in own {
            self.push(other, by_relay(ConversationId([0; 16]), devices.clone().into()));
        }
        self.packages.remove(&device);
        self.queues.remove(&device);
        Reply::Done(Done {})
    }

    pub(super) fn report(&mut self, id: ConversationId, epoch: u64) {
        let group = self.groups.get_mut(&id).unwrap();
        if group.epoch == epoch + 1 && !group.resync {
            group.resync = true;
            for member in group.members.clone() {
                self.push(member, by_relay(id, ResyncEntry { epoch }.into()));
            }
        }
    }

    pub(super) fn fetch_group(&self, id: ConversationId) -> Option<Group> {
        let group = self.groups.get(&id).filter(|group| group.epoch > 0)?;
        let nodes = group
            .nodes
            .iter()
            .map(|(index, node)| TreeNode { index: *index, node: Blob::new(node.clone()).unwrap() })
            .collect();
        Some(Group {
            epoch: group.epoch,
            group_info: Blob::new(group.group_info.clone()).unwrap(),
            tree: Tree { width: group.width, nodes: List::new(nodes).unwrap() },
        })
    }

    pub(super) fn key_packages(&mut self, asker: DeviceId, user: &UserName) -> KeyPackages {
        self.all_key_packages(asker, user).remove(0)
    }

    /// Key packages of accounts with more devices than accounts can have.
    fn all_key_packages(&mut self, asker: DeviceId, user: &UserName) -> Vec<KeyPackages> {
        let account = self.accounts[user].clone();
        let (mut packages, mut without) = (Vec::new(), Vec::new());
        for device in account.devices.iter().copied().filter(|device| *device != asker) {
            let Some((one_time, last_resort)) = self.packages.get_mut(&device) else {
                without.push(device);
                continue;
            };
            let (lease, package) = match one_time.is_empty() {
                true => (0, last_resort.clone()),
                false => (1, one_time.remove(0)),
            };
            packages.push(LeasedKeyPackage { device, key_package: Blob::new(package).unwrap(), lease });
        }
        let answer = |packages: &[LeasedKeyPackage]| KeyPackages {
            identity_key: account.identity,
            packages: List::new(packages.to_vec()).unwrap(),
            without: List::new(without.clone()).unwrap(),
        };
        match packages.is_empty() {
            true => vec![answer(&[])],
            false => packages.chunks(MAX_DEVICES).map(answer).collect(),
        }
    }

    /// The one conversation of two accounts.
    pub(super) fn open_direct(&mut self, device: DeviceId, users: [&UserName; 2]) -> Conversation {
        let accounts: BTreeSet<UserName> = users.into_iter().cloned().collect();
        let found = self.groups.iter().find(|(_, group)| group.accounts == accounts).map(|(id, _)| *id);
        let id = found.unwrap_or_else(|| {
            self.next_id += 1;
            ConversationId([self.next_id; 16])
        });
        let group = self
            .groups
            .entry(id)
            .or_insert_with(|| GroupAtRelay { accounts: accounts.clone(), ..Default::default() });
        Conversation {
            id,
            epoch: group.epoch,
            created: found.is_none(),
            member: group.members.contains(&device),
            accounts: List::new(accounts.into_iter().collect()).unwrap(),
            resync: group.resync,
        }
    }
}

impl GroupAtRelay {
    fn apply_tree(&mut self, tree: &Tree) {
        self.width = tree.width;
        self.nodes.retain(|index, _| *index < tree.width);
        for TreeNode { index, node } in tree.nodes.iter() {
            match node.is_empty() {
                true => self.nodes.remove(index),
                false => self.nodes.insert(*index, node.to_vec()),
            };
        }
    }
}

pub(super) fn from(device: DeviceId, conversation: ConversationId, kind: EntryKind) -> Entry {
    Entry {
        conversation,
        sender: Some(device),
        time: 5,
        age: 5,
        durability: Durability::Durable,
        kind: Some(kind),
    }
}

pub(super) fn by_relay(conversation: ConversationId, kind: EntryKind) -> Entry {
    Entry { conversation, sender: None, time: 5, age: 5, durability: Durability::Durable, kind: Some(kind) }
}

pub(super) fn refusal(code: ErrorCode, detail: u64) -> Reply {
    Reply::Error(Error { code, reason: Text::default(), detail })
}

/// A device with its disk.
pub(super) struct Peer {
    pub(super) disk: Disk,
    pub(super) engine: Engine<Disk>,
    pub(super) events: Vec<Event>,
    pub(super) answers: Vec<Answered>,
}

/// Devices and their relay.
pub(super) struct World {
    pub(super) relay: Relay,
    pub(super) peers: Vec<Peer>,
    identities: BTreeMap<UserName, IdentitySecret>,
    next_message: u64,
    power_cuts: u32,
}

impl World {
    /// One device for each name; the same name again is another device of the account.
    pub(super) fn new(users: &[&str]) -> Self {
        let mut world = Self {
            relay: Relay::new(),
            peers: Vec::new(),
            identities: BTreeMap::new(),
            next_message: 0,
            power_cuts: 0,
        };
        for user in users {
            world.add(user);
        }
        world
    }

    pub(super) fn add(&mut self, user: &str) -> usize {
        let entropy = SystemEntropy::new();
        let user = UserName::new(user).unwrap();
        let identity = self
            .identities
            .entry(user.clone())
            .or_insert_with(|| IdentitySecret::generate(&entropy).unwrap());
        let device = DeviceSecret::generate(&entropy).unwrap();
        let certificate = device.certify(&user, identity);
        let account = AccountAtRelay { identity: identity.public(), devices: Vec::new() };
        let disk = Disk::default();
        let engine = Engine::create(disk::journal(&disk), Arc::new(entropy), device, certificate).unwrap();
        self.relay.accounts.entry(user).or_insert(account).devices.push(engine.account().device);
        self.peers.push(Peer { disk, engine, events: Vec::new(), answers: Vec::new() });
        let index = self.peers.len() - 1;
        self.open_session(index);
        self.run_one(index);
        index
    }

    pub(super) fn identity(&self, user: &str) -> &IdentitySecret {
        &self.identities[&UserName::new(user).unwrap()]
    }

    pub(super) fn device(&self, peer: usize) -> DeviceId {
        self.peers[peer].engine.account().device
    }

    pub(super) fn open_session(&mut self, peer: usize) {
        let device = self.device(peer);
        let session = Session {
            device,
            last_number: self
                .relay
                .answers
                .keys()
                .filter(|key| key.0 == device)
                .map(|key| key.1)
                .max()
                .unwrap_or(0),
            next_delivery: self.relay.queues.get(&device).map_or(0, Vec::len) as u64 + 1,
            key_packages: self.relay.packages.get(&device).map_or(0, |packages| packages.0.len()) as u32,
            last_resort: self.relay.packages.contains_key(&device),
            generation: self.relay.generation,
        };
        self.peers[peer].engine.session_opened(&session).unwrap();
    }

    /// Cuts the power and opens the journal again. Every other time what was not synced happens to be on the disk.
    pub(super) fn crash(&mut self, peer: usize) {
        self.power_cuts += 1;
        let lucky = self.power_cuts.is_multiple_of(2);
        let Peer { disk, engine, .. } = &mut self.peers[peer];
        *disk = disk.power_cut(|| lucky);
        *engine = disk::open(disk).unwrap();
    }

    /// Both peers learn of their conversation; nobody makes the group yet.
    pub(super) fn open_direct(&mut self, peers: &[usize]) -> ConversationId {
        let users: BTreeSet<UserName> =
            peers.iter().map(|peer| self.peers[*peer].engine.account().user.clone()).collect();
        let [a, b]: [UserName; 2] = users.into_iter().collect::<Vec<_>>().try_into().unwrap();
        let mut id = None;
        for peer in peers {
            let device = self.device(*peer);
            let conversation = self.relay.open_direct(device, [&a, &b]);
            let engine = &mut self.peers[*peer].engine;
            let other = if engine.account().user == a { &b } else { &a };
            engine.conversation_opened(other, &conversation).unwrap();
            id = Some(conversation.id);
        }
        id.unwrap()
    }

    pub(super) fn packages(&mut self, peer: usize, id: ConversationId) -> Vec<(UserName, KeyPackages)> {
        let device = self.device(peer);
        let users = self.relay.groups[&id].accounts.clone();
        users
            .into_iter()
            .flat_map(|user| {
                let packages = self.relay.all_key_packages(device, &user);
                packages.into_iter().map(move |packages| (user.clone(), packages))
            })
            .collect()
    }

    pub(super) fn create_group(&mut self, peer: usize, id: ConversationId) -> Outgoing {
        let packages = self.packages(peer, id);
        self.peers[peer].engine.create_group(id, &packages).unwrap()
    }

    /// A conversation that everybody is in.
    pub(super) fn talk(&mut self, peers: &[usize]) -> ConversationId {
        let id = self.open_direct(peers);
        self.create_group(peers[0], id);
        self.run();
        for peer in peers {
            assert!(self.peers[*peer].engine.conversations().any(|c| c.conversation == id && c.joined));
        }
        id
    }

    pub(super) fn envelope(&mut self, text: &str) -> Envelope {
        self.next_message += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_message.to_be_bytes());
        Envelope::new(MessageId(id), 7, Kind::Text, Blob::new(text.as_bytes().to_vec()).unwrap())
    }

    pub(super) fn send(&mut self, peer: usize, id: ConversationId, text: &str) -> Outgoing {
        let envelope = self.envelope(text);
        self.peers[peer].engine.send(id, &envelope).unwrap()
    }

    /// Sends and delivers everything until nobody has anything to do.
    pub(super) fn run(&mut self) {
        for _ in 0..100 {
            let mut busy = false;
            for peer in 0..self.peers.len() {
                busy |= self.run_one(peer);
            }
            if !busy {
                return;
            }
        }
        panic!("never quiet: {:?}", self.peers.iter().map(|peer| peer.engine.wants()).collect::<Vec<_>>());
    }

    /// What a session does, once through. Says whether there was anything.
    pub(super) fn run_one(&mut self, peer: usize) -> bool {
        let wanted = self.want(peer);
        let sent = self.flush(peer);
        self.deliver(peer) || sent || wanted
    }

    /// Sends what is in the outbox.
    pub(super) fn flush(&mut self, peer: usize) -> bool {
        let device = self.device(peer);
        let Peer { engine, answers, .. } = &mut self.peers[peer];
        let outbox = engine.outbox().unwrap();
        for outgoing in &outbox {
            let reply = self.relay.submit(device, outgoing);
            answers.push(engine.answered(outgoing.number, &reply).unwrap());
        }
        !outbox.is_empty()
    }

    pub(super) fn deliver(&mut self, peer: usize) -> bool {
        let device = self.device(peer);
        let Peer { engine, events, .. } = &mut self.peers[peer];
        let mut busy = false;
        for (entry, seq) in self.relay.queues.entry(device).or_default().iter().zip(1..) {
            if seq > engine.delivered() {
                events.extend(engine.deliver(seq, entry).unwrap());
                busy = true;
            }
        }
        busy
    }

    fn want(&mut self, peer: usize) -> bool {
        let mut busy = false;
        for want in self.peers[peer].engine.wants() {
            let engine = &mut self.peers[peer].engine;
            busy |= want != Want::Ack;
            match want {
                Want::Ack => drop(engine.ack().unwrap()),
                Want::Join(id) => match self.relay.fetch_group(id) {
                    Some(group) => drop(engine.join_external(id, &group)),
                    None => engine.reconcile(id, None).unwrap(),
                },
                Want::Reconcile(id) => {
                    engine.reconcile(id, self.relay.groups.get(&id).map(|group| group.epoch)).unwrap();
                }
                Want::RemoveDevices(id) => drop(engine.remove_devices(id).unwrap()),
                Want::Report { conversation, epoch } => {
                    self.relay.report(conversation, epoch);
                    engine.reported(conversation).unwrap();
                }
                Want::Receipt(id) => {
                    let message = self.envelope("").id;
                    drop(self.peers[peer].engine.send_receipt(id, message, 7).unwrap());
                }
                Want::Restore(id) => drop(engine.restore(id).unwrap()),
                Want::Retry(number) => drop(engine.retry_message(number).unwrap()),
                Want::UploadKeyPackages => drop(engine.upload_key_packages().unwrap()),
            }
        }
        busy
    }

    /// Runs an operation with each of its writes and reads failing once, until it succeeds: whenever it fails, nothing
    /// has changed, in memory or on the disk.
    pub(super) fn failing<T>(
        &mut self,
        peer: usize,
        mut operation: impl FnMut(&mut Engine<Disk>) -> Result<T, EngineError>,
    ) -> T {
        let before = view(&mut self.peers[peer].engine);
        for (reads, n) in (0..4).map(|n| (false, n)).chain((0..).map(|n| (true, n))) {
            // Nothing in memory, so that it has to be read.
            self.peers[peer].engine = disk::open(&self.peers[peer].disk).unwrap();
            let Peer { engine, disk, .. } = &mut self.peers[peer];
            disk.set_faults(disk::fault(reads, n));
            let result = operation(engine);
            disk.set_faults(Faults::default());
            match result {
                // With a write that fails too late the operation is done; it began with reads, which were fine.
                Ok(done) => return done,
                Err(error) => assert!(matches!(error, EngineError::Journal(_)), "{error:?}"),
            }
            assert_eq!(view(engine), before);
            assert_eq!(view(&mut disk::open(disk).unwrap()), before);
        }
        unreachable!()
    }

    /// Sends the first request of the outbox; the disk fails at first when its answer comes.
    pub(super) fn flush_failing(&mut self, peer: usize) {
        let outgoing = self.peers[peer].engine.outbox().unwrap().remove(0);
        let reply = self.relay.submit(self.device(peer), &outgoing);
        self.failing(peer, |engine| engine.answered(outgoing.number, &reply));
    }

    /// Delivers; the disk fails at first with every entry.
    pub(super) fn deliver_failing(&mut self, peer: usize) {
        let entries = self.relay.queues[&self.device(peer)].clone();
        for (entry, seq) in entries.iter().zip(1..) {
            if seq > self.peers[peer].engine.delivered() {
                self.failing(peer, |engine| engine.deliver(seq, entry));
            }
        }
    }

    /// Takes the texts out of a peer's inbox.
    pub(super) fn read(&mut self, peer: usize) -> Vec<String> {
        let engine = &mut self.peers[peer].engine;
        let inbox = engine.inbox(1000).unwrap();
        if let Some(last) = inbox.last() {
            engine.take_inbox(last.position).unwrap();
        }
        inbox.into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
    }

    pub(super) fn ask_receipt(&mut self, peer: usize, id: ConversationId, text: &str) -> MessageId {
        let envelope = Envelope { receipt: true, ..self.envelope(text) };
        self.peers[peer].engine.send(id, &envelope).unwrap();
        envelope.id
    }

    /// Takes the receipts at the end of a peer's inbox out of it.
    pub(super) fn receipts(&mut self, peer: usize) -> Vec<(DeviceId, Vec<MessageId>)> {
        let engine = &mut self.peers[peer].engine;
        let inbox = engine.inbox(1000).unwrap();
        let receipts: Vec<_> = inbox.into_iter().filter(|message| message.kind == Kind::Receipt).collect();
        if let Some(last) = receipts.last() {
            engine.take_inbox(last.position).unwrap();
        }
        let ids = |body: &[u8]| body.as_chunks().0.iter().map(|id| MessageId(*id)).collect();
        receipts.iter().map(|message| (message.device, ids(&message.body))).collect()
    }

    /// Everybody writes, everybody else reads it.
    pub(super) fn assert_talks(&mut self, id: ConversationId, peers: &[usize]) {
        for peer in peers {
            self.read(*peer);
        }
        for sender in peers {
            let text = format!("from {sender}");
            self.send(*sender, id, &text);
            self.run();
            for reader in peers.iter().filter(|reader| *reader != sender) {
                assert_eq!(self.read(*reader), [text.as_str()], "at {reader}");
            }
        }
        let epochs: BTreeSet<u64> = peers
            .iter()
            .flat_map(|peer| self.peers[*peer].engine.conversations())
            .filter(|conversation| conversation.conversation == id)
            .map(|conversation| conversation.epoch)
            .collect();
        assert_eq!(epochs, BTreeSet::from([self.relay.groups[&id].epoch]));
    }
}

/// What can be seen of an engine.
fn view(engine: &mut Engine<Disk>) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        engine.outbox().unwrap(),
        engine.conversations().collect::<Vec<_>>(),
        engine.contacts().collect::<Vec<_>>(),
        engine.inbox(1000).unwrap(),
        engine.wants().into_iter().filter(|want| *want != Want::Ack).collect::<Vec<_>>(),
        engine.delivered(),
    )
}
