//! The service: decides what a request means, synchronously and without doing I/O of its own. Time, randomness and
//! storage are handed in.
//!
//! A request becomes a change: an answer, one batch for the store, and who is to be told. Handlers only read the
//! store; [`Service::handle`] applies the change, so that nothing in memory is ever ahead of the store.

mod admin;
mod api;
mod auth;
mod caller;
mod change;
mod commits;
mod conversations;
mod devices;
mod hooks;
mod keys;
mod limits;
mod messages;
mod queues;
mod refusal;
mod sessions;

pub use admin::{AdminDevice, AdminRefusal, AdminReply, AdminRequest, AdminUser};
pub use api::{Counters, Now, Origin, Outcome, Policy, Rng, SecureRng, Summary};
pub use auth::{ServiceKeys, Suite};
pub use caller::Caller;
pub use hooks::{Hooks, NoHooks};

use crate::records::{
    AccountRow, AccountsRow, AgeRow, ConversationRow, DeviceRow, GenerationRow, MAX_PLACE, MembersRow,
    deliveries, key,
};
use crate::store::{Batch, Store, StoreError};
use caller::{Progress, Session};
use change::Change;
use limits::Limiter;
use qpc_proto::id::{ConversationId, DeviceId, Generation, UserName};
use qpc_proto::limits::MAX_CREDIT;
use qpc_proto::message::{
    ClientFrame, Durability, Entry, EntryKind, ErrorCode, Hello, HelloReply, NoticeKind, Reply, Request,
};
use qpc_proto::wire::{Blob, List, Message, Text};
use refusal::Refusal;
use sessions::Sessions;
use std::rc::Rc;
use std::time::Duration;

/// The relay without its sockets.
pub struct Service<S> {
    store: S,
    keys: ServiceKeys,
    policy: Policy,
    rng: Rng,
    generation: Generation,
    /// When a client's claim last brought about a new generation.
    generation_claimed: Option<Duration>,
    /// The relay's age at `started`, and as last written.
    age_base: u64,
    age_written: u64,
    started: Duration,
    sessions: Sessions,
    limits: Limits,
    sweep: queues::Sweep,
    /// The group of the last message: the next one mostly is for the same. Forgotten when any row changes.
    group: Option<Rc<messages::Group>>,
    hooks: Box<dyn Hooks>,
    /// The words in which a hook has refused: refusals only have fixed ones.
    reason: Option<String>,
    counters: Counters,
}

struct Limits {
    login_by_user: Limiter<UserName>,
    login_by_peer: Limiter<[u8; 8]>,
    login_global: Limiter<()>,
    fetch_by_device: Limiter<u32>,
    create_by_account: Limiter<UserName>,
}

impl<S: Store> Service<S> {
    /// Takes over a store. Writes to it if it is new, was damaged or was moved.
    pub fn new(
        store: S,
        keys: ServiceKeys,
        policy: Policy,
        rng: Rng,
        origin: Origin,
        now: Now,
    ) -> Result<Self, StoreError> {
        let bounds = &policy.bounds;
        let limits = Limits {
            login_by_user: Limiter::new(bounds.login_by_user, bounds.limited_keys),
            login_by_peer: Limiter::new(bounds.login_by_peer, bounds.limited_keys),
            login_global: Limiter::new(bounds.login_global, 1),
            fetch_by_device: Limiter::new(bounds.fetch_by_device, bounds.limited_keys),
            create_by_account: Limiter::new(bounds.create_by_account, bounds.limited_keys),
        };
        let mut service = Self {
            store,
            keys,
            policy,
            rng,
            generation: Generation([0; 16]),
            generation_claimed: None,
            age_base: 0,
            age_written: 0,
            started: now.uptime,
            sessions: Sessions::default(),
            limits,
            sweep: queues::Sweep::default(),
            group: None,
            hooks: Box::new(NoHooks),
            reason: None,
            counters: Counters::default(),
        };
        let age: Option<AgeRow> = service.row(key::AGE)?;
        service.age_base = age.map_or(0, |row| row.seconds);
        service.age_written = service.age_base;
        service.begin_life(origin)?;
        Ok(service)
    }

    /// Handles one request.
    pub fn handle(&mut self, now: Now, caller: &mut Caller, frame: &ClientFrame) -> Outcome {
        self.counters.requests += 1;
        let decided =
            self.decide(now, caller, frame).and_then(|change| self.apply(now, Some(caller), change));
        decided.unwrap_or_else(|refusal| {
            self.counters.refused += 1;
            self.counters.rate_limited += u64::from(refusal.code == ErrorCode::RateLimited);
            let answered = !matches!(frame.request, Some(Request::Credit(_)));
            let mut error: qpc_proto::message::Error = refusal.into();
            if let Some(reason) = self.reason.take() {
                error.reason = Text::new(&reason);
            }
            Outcome { reply: answered.then_some(Reply::Error(error)), ..Outcome::default() }
        })
    }

    /// The connection is gone. Does nothing if a newer one has taken over its session.
    pub fn session_closed(&mut self, caller: &Caller) {
        self.tell_broken_off(caller);
        if let Ok(session) = self.session(caller) {
            self.sessions.close(&session.device);
        }
    }

    /// The store's generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the store holds.
    pub fn summary(&self) -> Summary {
        let queues = || {
            let keys = self.store.keys(key::DEVICE_NUMBERS).into_iter();
            keys.filter_map(|key| self.store.queue(deliveries(key::number_of(&key)?)))
        };
        Summary {
            generation: self.generation,
            accounts: self.store.count(key::ACCOUNTS),
            devices: self.store.count(key::DEVICES),
            conversations: self.store.count(key::CONVERSATIONS),
            sessions: self.sessions.len(),
            queued_messages: queues().map(|queue| queue.len()).sum(),
            queued_bytes: queues().map(|queue| queue.bytes).sum(),
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for syncing.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Turns a request into a change.
    fn decide(&mut self, now: Now, caller: &mut Caller, frame: &ClientFrame) -> Result<Change, Refusal> {
        let request = frame.request.as_ref().ok_or(ErrorCode::Unsupported)?;
        match request {
            Request::Hello(request) => return self.hello(now, request),
            Request::RegisterStart(request) => return self.register_start(now, caller, request),
            Request::RegisterFinish(request) => return self.register_finish(now, caller, request),
            Request::LoginStart(request) => {
                let started = self.login_start(now, caller, request);
                return match started {
                    Ok(change) => Ok(change),
                    failed => self.attempted(&request.user, failed),
                };
            }
            Request::LoginFinish(request) => {
                let user = caller.logging_in().cloned().ok_or(Refusal::invalid(NO_LOGIN))?;
                let finished = self.login_finish(caller, request);
                return self.attempted(&user, finished);
            }
            Request::EnrolDevice(request) => return self.enrol_device(now, caller, request),
            Request::OpenSession(request) => {
                let opened = self.open_session(now, caller, request);
                return self.attempted_by(&request.device, opened);
            }
            Request::ChangePasswordStart(request) => return self.change_password_start(now, caller, request),
            Request::ChangePasswordFinish(request) => return self.change_password_finish(caller, request),
            _ => {}
        }
        let session = self.session(caller)?;
        let number = frame.number;
        match request {
            Request::Credit(request) => {
                Ok(Change { credit: request.deliveries.min(MAX_CREDIT), ..Change::default() })
            }
            Request::Ack(request) => self.ack(session, request),
            Request::FetchDelivery(request) => self.fetch_delivery(session, request),
            Request::FetchKeyPackages(request) => self.fetch_key_packages(now, session, request),
            Request::ResolveUser(request) => self.resolve_user(now, session, request),
            Request::OpenDirect(request) => self.open_direct(now, session, request),
            Request::ListConversations(request) => self.list_conversations(session, request),
            Request::FetchGroup(request) => self.fetch_group(session, request),
            Request::ReportCommit(request) => self.report_commit(now, session, request),
            Request::ListDevices(_) => self.list_devices(session),
            Request::UploadKeyPackages(request) => {
                self.numbered(session, number, |service| service.upload_key_packages(session, request))
            }
            Request::SubmitCommit(request) => {
                self.numbered(session, number, |service| service.submit_commit(now, session, request))
            }
            Request::SendMessage(request) => {
                self.numbered(session, number, |service| service.send_message(now, session, request))
            }
            Request::RestoreGroup(request) => {
                self.numbered(session, number, |service| service.restore_group(now, session, request))
            }
            Request::RevokeDevice(request) => {
                self.numbered(session, number, |service| service.revoke_device(now, session, request))
            }
            Request::Hello(_)
            | Request::RegisterStart(_)
            | Request::RegisterFinish(_)
            | Request::LoginStart(_)
            | Request::LoginFinish(_)
            | Request::EnrolDevice(_)
            | Request::ChangePasswordStart(_)
            | Request::ChangePasswordFinish(_)
            | Request::OpenSession(_) => Err(ErrorCode::Internal.into()),
        }
    }

    /// Makes a change: first in the store, then in memory.
    fn apply(
        &mut self,
        now: Now,
        caller: Option<&mut Caller>,
        mut change: Change,
    ) -> Result<Outcome, Refusal> {
        let writes = !change.batch.is_empty();
        if writes {
            let age = self.age(now);
            // Not in lazy changes: those only remove things, and a full store must be able to take them.
            let write_age = !change.lazy && age >= self.age_written + self.policy.bounds.age_interval;
            if write_age {
                change.batch.put(key::AGE.to_vec(), AgeRow { seconds: age }.encode());
            }
            if change.batch.changes_rows() {
                self.group = None;
            }
            if let Err(error) = self.store.apply(change.batch) {
                self.counters.store_errors += 1;
                return Err(error.into());
            }
            if write_age {
                self.age_written = age;
            }
        }
        let mut notices = change.notices;
        for device in change.gone {
            if self.sessions.get(&device).is_some() {
                notices.push((device, NoticeKind::Revoked));
            }
        }
        if let Some(generation) = change.generation {
            log::warn!("generation {generation}");
            self.generation = generation;
            self.generation_claimed = Some(now.uptime);
            self.counters.generations += 1;
            let opened = change.opened.as_ref().map(|opened| opened.device);
            let others = self.sessions.devices().filter(|device| Some(**device) != opened);
            notices.extend(others.map(|&device| (device, NoticeKind::GenerationChanged)));
        }
        notices.retain(|(device, _)| self.sessions.get(device).is_some());
        for (device, kind) in &notices {
            if *kind == NoticeKind::Revoked {
                self.sessions.close(device);
            }
        }
        let mut outcome = Outcome {
            reply: change.reply,
            wake: self.wake(change.grown),
            notices,
            opened: None,
            credit: change.credit,
            close: change.close,
            needs_sync: writes && !change.lazy,
        };
        if let Some((device, number)) = change.answered {
            self.sessions.answered(&device, number);
        }
        if let Some(opened) = change.opened {
            let number = opened.online.number;
            let token = self.sessions.open(opened.device, opened.online);
            outcome.opened = Some(opened.device);
            change.progress =
                Some(Progress::Device(Session { device: opened.device, number, user: opened.user, token }));
        }
        if let (Some(caller), Some(progress)) = (caller, change.progress) {
            self.tell_broken_off(caller);
            caller.progress = progress;
        }
        if let Some(count) = change.count {
            count(&mut self.counters);
        }
        change.events.into_iter().for_each(|event| self.hooks.tell(event));
        Ok(outcome)
    }

    /// The sessions among the devices whose queues grew, and up to where.
    fn wake(&self, mut grown: Vec<u32>) -> Vec<(DeviceId, u64)> {
        grown.sort_unstable();
        grown.dedup();
        let wake = grown.into_iter().filter_map(|number| {
            let (device, online) = self.sessions.by_number(number)?;
            let queue = self.store.queue(deliveries(number))?;
            Some((device, queue.next_seq - 1 + online.offset))
        });
        wake.collect()
    }

    fn hello(&self, now: Now, request: &Hello) -> Result<Change, Refusal> {
        if request.min_version > qpc_proto::VERSION || request.max_version < qpc_proto::VERSION {
            return Err(ErrorCode::UnsupportedVersion.into());
        }
        Ok(Change::reply(HelloReply {
            version: qpc_proto::VERSION,
            generation: self.generation,
            software: Text::new(concat!("qpc-relay ", env!("CARGO_PKG_VERSION"))),
            time: now.wall.unwrap_or(0),
            registration: self.policy.registration,
            idle_seconds: self.policy.idle_seconds,
        }))
    }

    /// The session of a connection, if it still is the one of its device.
    fn session<'a>(&self, caller: &'a Caller) -> Result<&'a Session, Refusal> {
        let Progress::Device(session) = &caller.progress else {
            return Err(ErrorCode::NotAuthenticated.into());
        };
        match self.sessions.get(&session.device) {
            Some(online) if online.token == session.token => Ok(session),
            _ => Err(ErrorCode::NotAuthenticated.into()),
        }
    }

    /// Seconds the relay has been running in its life, as far as it remembers.
    fn age(&self, now: Now) -> u64 {
        self.age_base + now.uptime.saturating_sub(self.started).as_secs()
    }

    /// Encodes an entry of a delivery queue.
    fn entry(
        &self,
        now: Now,
        conversation: ConversationId,
        sender: Option<DeviceId>,
        kind: impl Into<EntryKind>,
    ) -> Vec<u8> {
        let time = now.wall.unwrap_or(0);
        Entry {
            conversation,
            sender,
            time,
            age: self.age(now),
            durability: Durability::Durable,
            kind: Some(kind.into()),
        }
        .encode()
    }

    /// Decides whether the store still is the one that clients know.
    fn begin_life(&mut self, origin: Origin) -> Result<(), StoreError> {
        let known: Option<GenerationRow> = self.row(key::GENERATION)?;
        let place: Blob<MAX_PLACE> = Blob::new(origin.place).unwrap_or_default();
        let why = match &known {
            None => Some("new store"),
            Some(row) if origin.damaged > row.damaged => Some("damaged store"),
            Some(row) if !place.is_empty() && row.place != place => Some("moved store"),
            Some(_) => None,
        };
        let generation = match (&known, why) {
            (Some(row), None) => row.generation,
            _ => self.random_generation(),
        };
        self.generation = generation;
        let row = GenerationRow { generation, place, damaged: origin.damaged };
        if known.as_ref() == Some(&row) {
            return Ok(());
        }
        if let Some(why) = why {
            log::info!("{why}: generation {generation}");
        }
        let mut batch = Batch::default();
        batch.put(key::GENERATION.to_vec(), row.encode());
        match self.store.apply(batch) {
            Err(error) if known.is_some() => {
                // Reads go on; the next start decides anew.
                log::warn!("the store's generation could not be recorded: {error}");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn random_generation(&mut self) -> Generation {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        Generation(bytes)
    }

    fn account(&self, user: &UserName) -> Result<Option<AccountRow>, StoreError> {
        self.row(&key::account(user))
    }

    fn device(&self, device: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        self.row(&key::device(device))
    }

    fn conversation(&self, id: &ConversationId) -> Result<ConversationRow, Refusal> {
        Ok(self.row_or_lost(&key::conversation(id))?.ok_or(ErrorCode::UnknownConversation)?)
    }

    /// The accounts in a conversation that `user` is in.
    fn accounts(&self, id: &ConversationId, user: &UserName) -> Result<AccountsRow, Refusal> {
        let row: Option<AccountsRow> = self.row_or_lost(&key::accounts(id))?;
        Ok(row.filter(|row| row.accounts.contains(user)).ok_or(ErrorCode::UnknownConversation)?)
    }

    fn members(&self, id: &ConversationId) -> Result<MembersRow, StoreError> {
        let none = || MembersRow { members: List::default(), told: List::default() };
        Ok(self.row_or_lost(&key::members(id))?.unwrap_or_else(none))
    }

    /// A row of a conversation. One that cannot be read counts as lost: a member restores the group.
    fn row_or_lost<M: Message>(&self, key: &[u8]) -> Result<Option<M>, StoreError> {
        match self.row(key) {
            Err(StoreError::Damaged(what)) => {
                log::error!("a conversation's record: {what}");
                Ok(None)
            }
            other => other,
        }
    }

    fn row<M: Message>(&self, key: &[u8]) -> Result<Option<M>, StoreError> {
        self.store.get(key)?.map(|bytes| decode(&bytes)).transpose()
    }
}

const NO_LOGIN: &str = "no login has begun on this connection";

fn decode<M: Message>(bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// A bounded list, for what an earlier check keeps within its bound.
fn list<T, const MAX: usize>(items: Vec<T>) -> Result<List<T, MAX>, Refusal> {
    List::new(items).map_err(|_| ErrorCode::TooLarge.into())
}

/// Bounded bytes, likewise.
fn blob<const MAX: usize>(bytes: Vec<u8>) -> Result<Blob<MAX>, Refusal> {
    Blob::new(bytes).map_err(|_| ErrorCode::TooLarge.into())
}
