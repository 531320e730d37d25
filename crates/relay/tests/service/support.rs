//! A relay without sockets over a disk in memory, and clients that do everything but MLS.

use opaque_ke::argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::{
    ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialResponse, Identifiers, RegistrationResponse,
};
use qpc_curve::SigningKey;
use qpc_journal::Options;
use qpc_journal::fault::Disk;
use qpc_proto::id::{ConversationId, DeviceId, PublicKey, UserName};
use qpc_proto::message::*;
use qpc_proto::signing;
use qpc_proto::wire::{Blob, List, Message, Text};
use qpc_relay::service::{Caller, Now, Origin, Outcome, Policy, Service, ServiceKeys, Suite};
use qpc_relay::store::JournalStore;
use rand_core::{OsRng, RngCore};
use ring::digest;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub(crate) struct Relay {
    pub(crate) service: Service<JournalStore<Disk>>,
    pub(crate) disk: Disk,
    pub(crate) now: Now,
    pub(crate) policy: Policy,
    keys: Vec<u8>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self::with_policy(|_| {})
    }

    pub(crate) fn with_policy(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::default();
        change(&mut policy);
        let keys = ServiceKeys::generate(&mut (Box::new(OsRng) as _)).to_bytes().to_vec();
        let now = Now { uptime: Duration::from_secs(1000), wall: Some(1_800_000_000) };
        let disk = Disk::new();
        let service = open(&disk, &keys, &policy, now, Origin::default());
        Self { service, disk, now, policy, keys }
    }

    /// Starts the relay again on what is on the disk, with or without a power cut before.
    pub(crate) fn restart(&mut self, disk: Disk) {
        self.restart_at(disk, Origin::default());
    }

    pub(crate) fn restart_at(&mut self, disk: Disk, origin: Origin) {
        self.disk = disk;
        self.now.uptime = Duration::from_secs(5);
        self.service = open(&self.disk, &self.keys, &self.policy, self.now, origin);
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        self.now.uptime += Duration::from_secs(seconds);
    }

    pub(crate) fn sync(&mut self) {
        let store = self.service.store_mut();
        if let Some(job) = store.start_sync() {
            store.finish_sync(job.run()).unwrap();
        }
    }

    pub(crate) fn handle(&mut self, caller: &mut Caller, number: u64, request: Request) -> Outcome {
        let frame = ClientFrame { id: 1, number, request: Some(request) };
        // What goes over the wire must fit through it.
        let frame = ClientFrame::decode(&frame.encode()).unwrap();
        let outcome = self.service.handle(self.now, caller, &frame);
        if let Some(reply) = &outcome.reply {
            let frame = RelayFrame { id: 1, reply: Some(reply.clone()) };
            assert_eq!(RelayFrame::decode(&frame.encode()).unwrap(), frame);
        }
        if outcome.needs_sync {
            self.sync();
        }
        outcome
    }

    /// A new account with one device, online.
    pub(crate) fn join(&mut self, name: &str) -> Client {
        let mut client = Client::new(name);
        client.register(self, "").unwrap();
        client.enrol(self).unwrap();
        client
    }

    /// Another device of an account, online.
    pub(crate) fn second(&mut self, first: &Client) -> Client {
        let mut client = first.other_device();
        client.login(self).unwrap();
        client.enrol(self).unwrap();
        client
    }
}

fn open(
    disk: &Disk,
    keys: &[u8],
    policy: &Policy,
    now: Now,
    mut origin: Origin,
) -> Service<JournalStore<Disk>> {
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    let (store, report) = JournalStore::open(disk.clone(), options).unwrap();
    origin.damaged = origin.damaged.max(report.damaged);
    let keys = ServiceKeys::from_bytes(keys).unwrap();
    let mut service = Service::new(store, keys, policy.clone(), Box::new(OsRng), origin, now).unwrap();
    let store = service.store_mut();
    if let Some(job) = store.start_sync() {
        store.finish_sync(job.run()).unwrap();
    }
    service
}

pub(crate) struct Client {
    pub(crate) user: UserName,
    pub(crate) password: Vec<u8>,
    identity: [u8; 32],
    device_seed: [u8; 32],
    pub(crate) device: DeviceId,
    pub(crate) caller: Caller,
    pub(crate) number: u64,
    pub(crate) exporter: [u8; 32],
    pub(crate) last: Outcome,
}

impl Client {
    pub(crate) fn new(name: &str) -> Self {
        let identity = random();
        Self::with(name, identity)
    }

    pub(crate) fn other_device(&self) -> Self {
        let mut client = Self::with(self.user.as_str(), self.identity);
        client.password = self.password.clone();
        client
    }

    fn with(name: &str, identity: [u8; 32]) -> Self {
        let device_seed = random();
        let hash = digest::digest(&digest::SHA256, &signing::device_id(&public(&device_seed)));
        let mut client = Self {
            user: UserName::new(name).unwrap(),
            password: b"correct horse".to_vec(),
            identity,
            device_seed,
            device: DeviceId(hash.as_ref()[..16].try_into().unwrap()),
            caller: Caller::new([0; 32], LOCALHOST),
            number: 0,
            exporter: [0; 32],
            last: Outcome::default(),
        };
        client.connect();
        client
    }

    /// A new connection.
    pub(crate) fn connect(&mut self) {
        self.connect_from(LOCALHOST);
    }

    pub(crate) fn connect_from(&mut self, peer: IpAddr) {
        self.exporter = random();
        self.caller = Caller::new(self.exporter, peer);
    }

    pub(crate) fn identity_key(&self) -> PublicKey {
        public(&self.identity)
    }

    /// Asks, without a number.
    pub(crate) fn ask(&mut self, relay: &mut Relay, request: impl Into<Request>) -> Result<Reply, Error> {
        self.ask_numbered(relay, 0, request)
    }

    /// Asks with the next number.
    pub(crate) fn submit(&mut self, relay: &mut Relay, request: impl Into<Request>) -> Result<Reply, Error> {
        self.number += 1;
        self.ask_numbered(relay, self.number, request)
    }

    pub(crate) fn ask_numbered(
        &mut self,
        relay: &mut Relay,
        number: u64,
        request: impl Into<Request>,
    ) -> Result<Reply, Error> {
        self.last = relay.handle(&mut self.caller, number, request.into());
        match self.last.reply.clone().expect("an answer") {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    pub(crate) fn register(&mut self, relay: &mut Relay, invite: &str) -> Result<Reply, Error> {
        let finish = self.register_half(relay, invite)?;
        self.ask(relay, finish)
    }

    pub(crate) fn register_half(&mut self, relay: &mut Relay, invite: &str) -> Result<RegisterFinish, Error> {
        let (user, invite) = (self.user.clone(), Text::new(invite));
        let start = |request: &[u8]| RegisterStart { user, request: bytes(request), invite }.into();
        let record = self.password_record(relay, start)?;
        Ok(RegisterFinish {
            record: bytes(&record),
            ksf: KsfProfile::Router,
            identity_key: self.identity_key(),
            sealed_identity: bytes(b"sealed"),
            proof: sign(&self.identity, &signing::registration(&self.exporter, &self.user)),
        })
    }

    /// After a login: everything up to another password, under which this device's slot says so.
    pub(crate) fn change_half(
        &mut self,
        relay: &mut Relay,
        password: &str,
        devices: &[DeviceId],
    ) -> Result<ChangePasswordFinish, Error> {
        self.password = password.into();
        let record =
            self.password_record(relay, |request| ChangePasswordStart { request: bytes(request) }.into())?;
        let slots = devices
            .iter()
            .map(|device| DeviceSlot { device: *device, state_slot: bytes(password.as_bytes()) });
        Ok(ChangePasswordFinish {
            record: bytes(&record),
            ksf: KsfProfile::Router,
            sealed_identity: bytes(password.as_bytes()),
            devices: List::new(slots.collect()).unwrap(),
        })
    }

    fn password_record(
        &mut self,
        relay: &mut Relay,
        start: impl FnOnce(&[u8]) -> Request,
    ) -> Result<Vec<u8>, Error> {
        let started = ClientRegistration::<Suite>::start(&mut OsRng, &self.password).unwrap();
        let Reply::Opaque(reply) = self.ask(relay, start(&started.message.serialize()))? else { panic!() };
        let name = self.user.as_str().to_owned();
        let parameters = ClientRegistrationFinishParameters::new(identifiers(&name), Some(&*KSF));
        let response = RegistrationResponse::deserialize(&reply.response).unwrap();
        let finished = started.state.finish(&mut OsRng, &self.password, response, parameters).unwrap();
        Ok(finished.message.serialize().to_vec())
    }

    pub(crate) fn login(&mut self, relay: &mut Relay) -> Result<Account, Error> {
        let finish = self.login_half(relay)?;
        match self.ask(relay, finish)? {
            Reply::Account(account) => Ok(account),
            other => panic!("{other:?}"),
        }
    }

    /// Everything up to KE3, which is garbage where the password is wrong.
    pub(crate) fn login_half(&mut self, relay: &mut Relay) -> Result<LoginFinish, Error> {
        let (state, reply) = self.login_start(relay)?;
        let name = self.user.as_str().to_owned();
        let context = signing::opaque_context(&self.exporter, reply.ksf.into());
        let parameters = ClientLoginFinishParameters::new(Some(&context), identifiers(&name), Some(&*KSF));
        let response = CredentialResponse::deserialize(&reply.response).unwrap();
        let finished = state.finish(&mut OsRng, &self.password, response, parameters);
        Ok(LoginFinish {
            finalization: finished.map_or(bytes(&[7; 64]), |finished| bytes(&finished.message.serialize())),
        })
    }

    pub(crate) fn login_start(
        &mut self,
        relay: &mut Relay,
    ) -> Result<(ClientLogin<Suite>, OpaqueReply), Error> {
        let started = ClientLogin::<Suite>::start(&mut OsRng, &self.password).unwrap();
        let start = LoginStart { user: self.user.clone(), request: bytes(&started.message.serialize()) };
        match self.ask(relay, start)? {
            Reply::Opaque(reply) => Ok((started.state, reply)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn certificate(&self) -> DeviceCertificate {
        let device_key = public(&self.device_seed);
        DeviceCertificate {
            user: self.user.clone(),
            identity_key: self.identity_key(),
            device_key,
            signature: sign(&self.identity, &signing::device_certificate(&self.user, &device_key)),
        }
    }

    pub(crate) fn enrolment(&self) -> EnrolDevice {
        EnrolDevice {
            certificate: self.certificate(),
            label: Text::new("phone"),
            state_slot: bytes(b"slot"),
            proof: self.proof(),
        }
    }

    pub(crate) fn enrol(&mut self, relay: &mut Relay) -> Result<Session, Error> {
        let request = self.enrolment();
        match self.ask(relay, request)? {
            Reply::Session(session) => Ok(session),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn proof(&self) -> Signature {
        sign(&self.device_seed, &signing::session(&self.exporter, &public(&self.device_seed)))
    }

    /// Connects anew and opens the session.
    pub(crate) fn open(&mut self, relay: &mut Relay) -> Result<Session, Error> {
        self.open_knowing(relay, 0, 0)
    }

    pub(crate) fn open_knowing(
        &mut self,
        relay: &mut Relay,
        answered: u64,
        delivered: u64,
    ) -> Result<Session, Error> {
        self.connect();
        let request = OpenSession { device: self.device, proof: self.proof(), answered, delivered };
        match self.ask(relay, request)? {
            Reply::Session(session) => Ok(session),
            other => panic!("{other:?}"),
        }
    }

    /// Everything delivered and not acknowledged.
    pub(crate) fn deliveries(&self, relay: &Relay) -> Vec<(u64, Entry)> {
        let mut after = 0;
        let mut found = Vec::new();
        while let Some((seq, bytes)) = relay.service.next_delivery(self.device, after).unwrap() {
            found.push((seq, Entry::decode(&bytes).unwrap()));
            after = seq;
        }
        found
    }

    /// Takes and acknowledges everything.
    pub(crate) fn drain(&mut self, relay: &mut Relay) -> Vec<EntryKind> {
        let found = self.deliveries(relay);
        if let Some((seq, _)) = found.last() {
            self.ask(relay, Ack { up_to: *seq }).unwrap();
        }
        found.into_iter().map(|(_, entry)| entry.kind.unwrap()).collect()
    }

    pub(crate) fn upload(
        &mut self,
        relay: &mut Relay,
        count: usize,
        last_resort: &[u8],
    ) -> Result<Reply, Error> {
        let one_time = (0..count).map(|i| bytes(format!("{} {i}", self.device).as_bytes())).collect();
        let request = UploadKeyPackages {
            replace: false,
            one_time: List::new(one_time).unwrap(),
            last_resort: bytes(last_resort),
        };
        self.submit(relay, request)
    }

    pub(crate) fn fetch(&mut self, relay: &mut Relay, user: &UserName) -> Result<KeyPackages, Error> {
        match self.ask(relay, FetchKeyPackages { user: user.clone() })? {
            Reply::KeyPackages(packages) => Ok(packages),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn direct(&mut self, relay: &mut Relay, peer: &UserName) -> Result<Conversation, Error> {
        match self.ask(relay, OpenDirect { peer: peer.clone() })? {
            Reply::Conversation(conversation) => Ok(conversation),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(
        &mut self,
        relay: &mut Relay,
        id: ConversationId,
        epoch: u64,
        text: &str,
    ) -> Result<Stored, Error> {
        match self.submit(relay, message(id, epoch, text))? {
            Reply::Stored(stored) => Ok(stored),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&mut self, relay: &mut Relay) -> Vec<Conversation> {
        match self.ask(relay, ListConversations { after: None }).unwrap() {
            Reply::Conversations(found) => found.conversations.into_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn group(&mut self, relay: &mut Relay, id: ConversationId) -> Result<Group, Error> {
        match self.ask(relay, FetchGroup { conversation: id })? {
            Reply::Group(group) => Ok(group),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn message(conversation: ConversationId, epoch: u64, text: &str) -> SendMessage {
    SendMessage {
        conversation,
        epoch,
        payload: bytes(text.as_bytes()),
        submitter: Some(Submitter::ThisDevice(ThisDevice {})),
    }
}

/// A commit without members coming or going.
pub(crate) fn commit(conversation: ConversationId, epoch: u64) -> SubmitCommit {
    SubmitCommit {
        conversation,
        epoch,
        commit: bytes(format!("commit {epoch}").as_bytes()),
        added: List::default(),
        removed: List::default(),
        welcome: Blob::default(),
        group_info: bytes(format!("info {}", epoch + 1).as_bytes()),
        tree: tree(3, &[(0, "leaf"), (1, "root")]),
        external: false,
    }
}

pub(crate) fn adding(conversation: ConversationId, epoch: u64, devices: &[(DeviceId, u64)]) -> SubmitCommit {
    let added = devices.iter().map(|&(device, lease)| AddedDevice { device, lease }).collect();
    SubmitCommit {
        added: List::new(added).unwrap(),
        welcome: bytes(b"welcome"),
        ..commit(conversation, epoch)
    }
}

pub(crate) fn external(conversation: ConversationId, epoch: u64, device: DeviceId) -> SubmitCommit {
    SubmitCommit { welcome: Blob::default(), external: true, ..adding(conversation, epoch, &[(device, 0)]) }
}

pub(crate) fn tree(width: u32, nodes: &[(u32, &str)]) -> Tree {
    let nodes = nodes.iter().map(|&(index, node)| TreeNode { index, node: bytes(node.as_bytes()) });
    Tree { width, nodes: List::new(nodes.collect()).unwrap() }
}

pub(crate) fn bytes<const MAX: usize>(bytes: &[u8]) -> Blob<MAX> {
    Blob::new(bytes.to_vec()).unwrap()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    let error = result.unwrap_err();
    assert!(!error.reason.is_empty(), "{:?} says nothing to people", error.code);
    error.code
}

/// Two accounts with a device each, in one group at epoch 1.
pub(crate) fn pair(relay: &mut Relay) -> (Client, Client, ConversationId) {
    let mut alice = relay.join("alice");
    let mut bob = relay.join("bob");
    bob.upload(relay, 10, b"last").unwrap();
    let id = alice.direct(relay, &bob.user).unwrap().id;
    let lease = alice.fetch(relay, &bob.user).unwrap().packages[0].lease;
    alice.submit(relay, adding(id, 0, &[(bob.device, lease)])).unwrap();
    let kinds = bob.drain(relay);
    assert!(matches!(kinds[..], [EntryKind::Welcome(_)]), "{kinds:?}");
    (alice, bob, id)
}

fn identifiers(name: &str) -> Identifiers<'_> {
    Identifiers { client: Some(name.as_bytes()), server: Some(signing::OPAQUE_SERVER) }
}

fn public(seed: &[u8; 32]) -> PublicKey {
    PublicKey(SigningKey::from_seed(seed).public())
}

fn sign(seed: &[u8; 32], message: &[u8]) -> Signature {
    SigningKey::from_seed(seed).sign(message)
}

pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Cheap: what it costs to stretch a password is no concern of the relay's.
static KSF: std::sync::LazyLock<Argon2<'static>> = std::sync::LazyLock::new(|| {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap())
});
