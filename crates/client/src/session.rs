//! The client as a program uses it: registering, logging in, sending, receiving, and coming back after the connection
//! or the relay was gone.

use crate::auth::{ExportKey, IDENTITY, LoggingIn, Password, Registering, STATE_KEY, random};
use crate::engine::{Account as Me, Answered, EngineError, Event, InboxMessage, Outgoing, Want};
use crate::error::Error;
use crate::link::{Link, Push, RelayEndpoint, refused, wall_clock};
use crate::mls::{DeviceSecret, IdentitySecret, SystemEntropy, device_id};
use crate::state::{Engine, Slots, StateDir, StateKey, open_slot};
use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, MessageId, UserName};
use qpc_proto::limits::{MAX_BODY, MAX_LABEL};
use qpc_proto::message::{
    Account, Ack, Conversation, Credit, Devices, Durability, EnrolDevice, Entry, ErrorCode, FetchDelivery,
    FetchGroup, FetchKeyPackages, KsfProfile, ListConversations, ListDevices, LoginFinish, LoginStart,
    NoticeKind, OpenDirect, RegisterFinish, RegisterStart, Reply, ReportCommit, Request, Stored,
};
use qpc_proto::signing;
use qpc_proto::wire::{Blob, Text};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zeroize::Zeroizing;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where state folders are.
    pub state_root: PathBuf,
    /// What a new account's password is stretched with.
    pub ksf: KsfProfile,
    /// Also keep a key file, so that a later [`Client::login_with_key_file`] needs no password.
    pub keep_key: bool,
    /// How this device is called in lists.
    pub label: String,
    /// Name and version of the program.
    pub software: String,
    /// How long to wait for the relay before giving up.
    pub patience: Duration,
}

impl Options {
    /// State in `$QPC_STATE_DIR`, else `$XDG_STATE_HOME/quicprochat`, else `~/.local/state/quicprochat`.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state_root = variable("QPC_STATE_DIR").unwrap_or_else(|| {
            let base = variable("XDG_STATE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
                .unwrap_or_else(|| PathBuf::from("/var/lib"));
            base.join("quicprochat")
        });
        // What lives on a router has little memory and no other choice.
        let small = cfg!(target_pointer_width = "32");
        Self {
            state_root,
            ksf: if small { KsfProfile::Router } else { KsfProfile::Standard },
            keep_key: false,
            label: String::new(),
            software: concat!("qpc-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: Duration::from_secs(10),
        }
    }
}

/// What the relay said of a message that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message's id.
    pub id: MessageId,
    /// Whether the relay keeps it through a power cut.
    pub durability: Durability,
    /// How many devices will get it.
    pub devices: u32,
    /// Devices whose queue was full.
    pub refused: Vec<DeviceId>,
}

/// A connection to a relay and, after a login, a device of an account.
pub struct Client {
    relay: RelayEndpoint,
    options: Options,
    link: Option<Link>,
    engine: Option<Engine>,
    /// Deliveries granted and not yet come.
    credit: u32,
    /// The delivery up to which the queue reached when the session was opened.
    backlog: u64,
    events: Vec<Event>,
    /// What became of messages sent.
    outcomes: HashMap<MessageId, Result<Stored, Error>>,
    /// Why the relay does not take messages now.
    postponed: Option<qpc_proto::message::Error>,
    started: Instant,
    maintained: Option<Instant>,
}

impl Client {
    /// Connects to a relay and asks it how it is.
    pub async fn connect(relay: RelayEndpoint, options: Options) -> Result<Self, Error> {
        let link = Link::open(&relay, &options.software, options.patience).await?;
        Ok(Self {
            relay,
            options,
            link: Some(link),
            engine: None,
            credit: 0,
            backlog: 0,
            events: Vec::new(),
            outcomes: HashMap::new(),
            postponed: None,
            started: Instant::now(),
            maintained: None,
        })
    }

    /// Whether this client speaks for a device.
    pub fn is_logged_in(&self) -> bool {
        self.engine.is_some()
    }

    /// The account and device, after a login.
    pub fn account(&self) -> Option<&Me> {
        self.engine.as_ref().map(Engine::account)
    }

    /// Makes an account and its first device, and logs in.
    pub async fn register(
        &mut self,
        user: &UserName,
        password: &Password,
        invite: Option<&str>,
    ) -> Result<(), Error> {
        self.start_over().await?;
        let ksf = self.options.ksf;
        let (registering, request) = Registering::start(password)?;
        let start =
            RegisterStart { user: user.clone(), request, invite: Text::new(invite.unwrap_or_default()) };
        let Reply::Opaque(reply) = self.ask(start.into()).await? else { return Err(Error::Protocol) };
        let (record, export) = registering.finish(user, password, &reply.response, ksf)?;
        let entropy = SystemEntropy::new();
        let identity = IdentitySecret::generate(&entropy).map_err(EngineError::from)?;
        let exporter = self.link()?.exporter;
        let finish = RegisterFinish {
            record,
            ksf,
            identity_key: identity.public(),
            sealed_identity: export.key(IDENTITY)?.seal(user.as_str().as_bytes(), identity.as_bytes())?,
            proof: identity.sign(&signing::registration(&exporter, user)),
        };
        let Reply::Done(_) = self.ask(finish.into()).await? else { return Err(Error::Protocol) };
        let dir = self.state_dir(user);
        if dir.slots()?.is_some() {
            // Of an account of the same name that is no more.
            dir.set_aside()?;
        }
        self.new_device(user, &export, &identity, &dir).await
    }

    /// Logs in with the password: as the device whose state is here, or as a new device of the account, which has joined
    /// all its conversations when this returns.
    pub async fn login(&mut self, user: &UserName, password: &Password) -> Result<(), Error> {
        self.start_over().await?;
        let (logging_in, request) = LoggingIn::start(password)?;
        let start = LoginStart { user: user.clone(), request };
        let Reply::Opaque(reply) = self.ask(start.into()).await? else { return Err(Error::Protocol) };
        let exporter = self.link()?.exporter;
        let (finalization, export) =
            logging_in.finish(user, password, &reply.response, reply.ksf, &exporter)?;
        let Reply::Account(account) = self.ask(LoginFinish { finalization }.into()).await? else {
            return Err(Error::Protocol);
        };
        let secret = export
            .key(IDENTITY)?
            .open(user.as_str().as_bytes(), &account.sealed_identity)
            .ok_or(Error::Protocol)?;
        let identity = IdentitySecret::from_bytes(&secret).map_err(|_| Error::Protocol)?;
        if identity.public() != account.identity_key {
            return Err(Error::Protocol);
        }
        let dir = self.state_dir(user);
        match self.known_device(&export, &identity, &account, &dir)? {
            None => self.new_device(user, &export, &identity, &dir).await,
            Some((engine, key)) => {
                let known = account.devices.iter().any(|slot| slot.device == engine.account().device);
                let slots = self.slots(&export, engine.account().device, &key, &dir)?;
                dir.write_slots(&slots)?;
                self.engine = Some(engine);
                let session =
                    if known { self.open_session().await } else { self.enrol(slots.password).await };
                self.settle(session).await
            }
        }
    }

    /// Logs in without a password, by the key file of an earlier login with [`Options::keep_key`].
    pub async fn login_with_key_file(&mut self, user: &UserName) -> Result<(), Error> {
        self.start_over().await?;
        let dir = self.state_dir(user);
        let missing = || Error::StateKey(dir.path().to_owned());
        let slots = dir.slots()?.ok_or_else(missing)?;
        let key = dir.key_file()?.ok_or_else(missing)?;
        let key = key.open(slots.device.as_ref(), &slots.key_file).ok_or_else(missing)?;
        self.engine = Some(dir.open(&key)?);
        let session = self.open_session().await;
        self.settle(session).await
    }

    /// Sends a message to all devices of a user, and to this account's other devices. When this returns, the relay has
    /// it. After an error of the connection it is not known whether the relay got it; it stays queued here and
    /// goes out, once, with the next connection.
    pub async fn send(&mut self, recipient: &UserName, kind: Kind, body: &[u8]) -> Result<Sent, Error> {
        let me = self.account().ok_or(Error::NotLoggedIn)?;
        if me.user == *recipient {
            return Err(Error::ToOneself(recipient.clone()));
        }
        let body: Blob<MAX_BODY> =
            Blob::new(body.to_vec()).map_err(|body| Error::MessageTooLong(body.len()))?;
        let envelope = Envelope::new(MessageId(random()?), wall_clock(), kind, body);
        let deadline = Instant::now() + self.options.patience;
        let conversation = self.conversation(recipient, deadline).await?;
        // What became of messages of earlier calls, which have ended without an answer.
        self.outcomes.clear();
        let outgoing = self.engine()?.send(conversation, &envelope)?;
        let mut submitted = self.submit(outgoing, deadline).await;
        loop {
            match std::mem::replace(&mut submitted, Ok(())) {
                // It is in the outbox, and goes out again, with the same number, over the next connection.
                Err(error) if error.is_of_the_link() && Instant::now() < deadline => {
                    self.link = None;
                    self.ensure_session(deadline).await?;
                }
                other => other?,
            }
            if let Some(outcome) = self.outcomes.remove(&envelope.id) {
                let stored = outcome?;
                return Ok(Sent {
                    id: envelope.id,
                    durability: stored.durability,
                    devices: stored.devices,
                    refused: stored.refused.into_vec(),
                });
            }
            if let Some(error) = self.postponed.take() {
                return Err(Error::Postponed(error.reason.to_string()));
            }
            if Instant::now() >= deadline {
                return Err(Error::Unconfirmed);
            }
            submitted = self.settle_epoch(&envelope.id, deadline).await;
        }
    }

    /// Lets the group get to where a message that came too late can be sent again.
    async fn settle_epoch(&mut self, id: &MessageId, deadline: Instant) -> Result<(), Error> {
        self.work(deadline).await?;
        if !self.outcomes.contains_key(id) {
            self.wait(deadline.min(Instant::now() + STEP)).await?;
        }
        Ok(())
    }

    /// The messages that are there, or else come in time; empty if none does. [`Client::confirm`] them: they come
    /// again until then. A relay that is gone meanwhile is waited for.
    pub async fn receive(&mut self, patience: Duration) -> Result<Vec<InboxMessage>, Error> {
        let deadline = Instant::now() + patience.max(GRACE);
        loop {
            match self.catch_up(deadline).await {
                Ok(()) => {}
                Err(error) if error.is_of_the_link() => {
                    self.link = None;
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            let messages = self.engine()?.inbox(AT_ONCE)?;
            if !messages.is_empty() || Instant::now() >= deadline {
                return Ok(messages);
            }
            match self.wait(deadline).await {
                Err(error) if error.is_of_the_link() => self.link = None,
                other => other?,
            }
        }
    }

    /// The program has the messages up to this position for good.
    pub fn confirm(&mut self, position: u64) -> Result<(), Error> {
        Ok(self.engine()?.take_inbox(position)?)
    }

    /// What else has happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The account's devices.
    pub async fn devices(&mut self) -> Result<Devices, Error> {
        let deadline = Instant::now() + self.options.patience;
        self.ensure_session(deadline).await?;
        match self.ask(ListDevices {}.into()).await? {
            Reply::Devices(devices) => Ok(devices),
            _ => Err(Error::Protocol),
        }
    }

    /// Trusts the new identity of a user whose messages are refused since it changed.
    pub fn accept_identity(&mut self, user: &UserName) -> Result<(), Error> {
        Ok(self.engine()?.accept_identity(user)?)
    }

    /// Tells the relay what was received, and closes the connection.
    pub async fn disconnect(mut self) {
        let Some(link) = &self.link else { return };
        if !link.is_closed() && self.engine.is_some() {
            let deadline = Instant::now() + Duration::from_millis(500);
            // What is not acknowledged now comes again and is recognised.
            let _ = timeout_at(deadline, self.acknowledge()).await;
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    /// Leaves the account, if any, and sees to a connection that is nobody's yet.
    async fn start_over(&mut self) -> Result<(), Error> {
        let fresh = self.engine.take().is_none() && self.link.as_ref().is_some_and(|link| !link.is_closed());
        self.outcomes.clear();
        self.credit = 0;
        if !fresh || self.link.as_ref().is_some_and(|link| link.hello.version == 0) {
            self.link = None;
            self.link = Some(Link::open(&self.relay, &self.options.software, self.options.patience).await?);
        }
        Ok(())
    }

    fn state_dir(&self, user: &UserName) -> StateDir {
        StateDir::new(&self.options.state_root, &self.relay.fingerprint(), user)
    }

    /// The device whose state is in the folder, if this account's password opens it.
    fn known_device(
        &self,
        export: &ExportKey,
        identity: &IdentitySecret,
        account: &Account,
        dir: &StateDir,
    ) -> Result<Option<(Engine, StateKey)>, Error> {
        let Some(slots) = dir.slots()? else { return Ok(None) };
        let relays = account.devices.iter().find(|slot| slot.device == slots.device);
        let key = open_slot(export, &slots, relays.map(|slot| &*slot.state_slot))?;
        if let Some(key) = key {
            match dir.open(&key) {
                Ok(engine) if engine.account().identity_key == identity.public() => {
                    return Ok(Some((engine, key)));
                }
                Ok(_) | Err(Error::Engine(EngineError::NoAccount)) => {}
                Err(error) => return Err(error),
            }
        }
        dir.set_aside()?;
        Ok(None)
    }

    async fn new_device(
        &mut self,
        user: &UserName,
        export: &ExportKey,
        identity: &IdentitySecret,
        dir: &StateDir,
    ) -> Result<(), Error> {
        let entropy = Arc::new(SystemEntropy::new());
        let device = DeviceSecret::generate(&*entropy).map_err(EngineError::from)?;
        let key: StateKey = Zeroizing::new(random()?);
        let slots = self.slots(export, device_id(&device.device_key()), &key, dir)?;
        let certificate = device.certify(user, identity);
        // First the key, then what it seals: a journal without its key could never be opened again.
        dir.write_slots(&slots)?;
        self.engine = Some(Engine::create(dir.journal(&key)?, entropy, device, certificate)?);
        let session = self.enrol(slots.password).await;
        self.settle(session).await
    }

    fn slots(
        &self,
        export: &ExportKey,
        device: DeviceId,
        key: &StateKey,
        dir: &StateDir,
    ) -> Result<Slots, Error> {
        let owner = device.as_ref();
        let key_file = match (self.options.keep_key, dir.key_file()?) {
            (true, _) => dir.make_key_file()?.seal(owner, key)?,
            (false, Some(file)) => file.seal(owner, key)?,
            (false, None) => Blob::default(),
        };
        Ok(Slots { device, password: export.key(STATE_KEY)?.seal(owner, key)?, key_file })
    }

    async fn enrol(&mut self, state_slot: Blob<{ qpc_proto::limits::MAX_SEALED }>) -> Result<(), Error> {
        let label: Text<MAX_LABEL> = Text::new(&self.options.label);
        let exporter = self.link()?.exporter;
        let engine = self.engine()?;
        let request = EnrolDevice {
            certificate: engine.account().certificate.clone(),
            label,
            state_slot,
            proof: engine.prove_session(&exporter),
        };
        self.session(request.into()).await
    }

    async fn open_session(&mut self) -> Result<(), Error> {
        let exporter = self.link()?.exporter;
        let request = self.engine()?.open_session_request(&exporter);
        self.session(request.into()).await
    }

    async fn session(&mut self, request: Request) -> Result<(), Error> {
        let Reply::Session(session) = self.ask(request).await? else { return Err(Error::Protocol) };
        self.engine()?.session_opened(&session)?;
        self.backlog = session.next_delivery.saturating_sub(1);
        self.credit = 0;
        Ok(())
    }

    /// Ends a login: brings the device up to date, or forgets it if that fails.
    async fn settle(&mut self, session: Result<(), Error>) -> Result<(), Error> {
        let deadline = Instant::now() + self.options.patience;
        let settled = match session {
            Ok(()) => self.synchronise(deadline).await,
            Err(error) => Err(error),
        };
        if settled.is_err() {
            self.engine = None;
            self.link = None;
        }
        settled
    }

    /// After a session was opened: unanswered requests, key packages, conversations, what waits in the queue.
    async fn synchronise(&mut self, deadline: Instant) -> Result<(), Error> {
        for outgoing in self.engine()?.outbox()? {
            self.submit(outgoing, deadline).await?;
        }
        self.grant().await?;
        // Invitations come before the question where this device is missing.
        self.drain_backlog(deadline).await?;
        for conversation in self.list_conversations().await? {
            let known = self.engine()?.conversations().find(|c| c.conversation == conversation.id);
            let joined = known.is_some_and(|known| known.joined);
            if conversation.epoch > 0 && (joined || !conversation.member) {
                self.engine()?.reconcile(conversation.id, Some(conversation.epoch))?;
            }
        }
        self.work(deadline).await
    }

    async fn list_conversations(&mut self) -> Result<Vec<Conversation>, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let Reply::Conversations(page) = self.ask(ListConversations { after }.into()).await? else {
                return Err(Error::Protocol);
            };
            after = page.conversations.last().map(|conversation| conversation.id);
            all.extend(page.conversations.into_vec());
            if !page.more || after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The conversation with a user, joined and ready to send in.
    async fn conversation(&mut self, peer: &UserName, deadline: Instant) -> Result<ConversationId, Error> {
        loop {
            self.catch_up(deadline).await?;
            if let Some(state) = self.engine()?.direct(peer).filter(|state| state.joined) {
                return Ok(state.conversation);
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            let found = match self.ask(OpenDirect { peer: peer.clone() }.into()).await {
                Ok(Reply::Conversation(found)) => found,
                Ok(_) => return Err(Error::Protocol),
                Err(Error::Refused { code: ErrorCode::UnknownUser, .. }) => {
                    return Err(Error::UnknownUser(peer.clone()));
                }
                Err(error) => return Err(error),
            };
            self.engine()?.conversation_opened(peer, &found)?;
            if found.epoch == 0 {
                self.create_group(peer, found.id, deadline).await?;
            } else if found.member {
                // The invitation is on its way, or lost: then this device joins by itself.
                self.wait(deadline.min(Instant::now() + STEP)).await?;
                let joined = self.engine()?.direct(peer).is_some_and(|state| state.joined);
                if !joined && self.engine()?.delivered() >= self.backlog {
                    self.engine()?.reconcile(found.id, Some(found.epoch))?;
                }
            }
        }
    }

    async fn create_group(
        &mut self,
        peer: &UserName,
        id: ConversationId,
        deadline: Instant,
    ) -> Result<(), Error> {
        let own = self.account().ok_or(Error::NotLoggedIn)?.user.clone();
        let mut packages = Vec::new();
        for user in [peer.clone(), own] {
            let Reply::KeyPackages(found) = self.ask(FetchKeyPackages { user: user.clone() }.into()).await?
            else {
                return Err(Error::Protocol);
            };
            self.engine()?.pin(&user, &found.identity_key)?;
            packages.push((user, found));
        }
        let outgoing = self.engine()?.create_group(id, &packages)?;
        self.submit(outgoing, deadline).await
    }

    /// With a session: what has come, and what follows from it.
    async fn catch_up(&mut self, deadline: Instant) -> Result<(), Error> {
        self.ensure_session(deadline).await?;
        self.drain_backlog(deadline).await?;
        self.work(deadline).await?;
        if self.maintained.is_none_or(|at| at.elapsed() > MAINTENANCE) {
            self.maintained = Some(Instant::now());
            let uptime = self.started.elapsed();
            self.engine()?.maintain(uptime)?;
        }
        Ok(())
    }

    /// A connection with a session, made anew if it has to be; again and again until the deadline.
    async fn ensure_session(&mut self, deadline: Instant) -> Result<(), Error> {
        if self.engine.is_none() {
            return Err(Error::NotLoggedIn);
        }
        if self.link.as_ref().is_some_and(|link| !link.is_closed()) {
            return Ok(());
        }
        let mut pause = FIRST_PAUSE;
        loop {
            self.link = None;
            let Err(error) = self.reconnect(deadline).await else { return Ok(()) };
            if !error.is_of_the_link() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            let jitter = u32::from(random::<1>()?[0]) % 64;
            sleep(pause + pause * jitter / 256).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn reconnect(&mut self, deadline: Instant) -> Result<(), Error> {
        let patience = deadline.saturating_duration_since(Instant::now()).clamp(GRACE, self.options.patience);
        self.link = Some(Link::open(&self.relay, &self.options.software, patience).await?);
        match self.open_session().await {
            // The device is not the account's any more, or the relay lost it with a restored backup.
            Err(Error::AuthFailed) => Err(Error::Revoked),
            Err(error) => Err(error),
            Ok(()) => self.synchronise(deadline).await,
        }
    }

    /// Waits until everything that was in the queue when the session was opened is here.
    async fn drain_backlog(&mut self, deadline: Instant) -> Result<(), Error> {
        self.take_pushes().await?;
        while self.engine()?.delivered() < self.backlog {
            if Instant::now() >= deadline.max(Instant::now() - GRACE) {
                return Ok(());
            }
            let before = self.engine()?.delivered();
            self.wait(deadline.min(Instant::now() + STEP)).await?;
            if self.engine()?.delivered() == before {
                // Expired entries leave gaps at the end: what does not come now is not there.
                self.backlog = before;
            }
        }
        Ok(())
    }

    /// Does what the engine wants, each thing once.
    async fn work(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut done = Vec::new();
        loop {
            self.take_pushes().await?;
            let wants = self.engine()?.wants();
            let Some(want) = wants.into_iter().find(|want| !done.contains(want)) else { return Ok(()) };
            done.push(want);
            match self.fulfil(want, deadline).await {
                Ok(()) => {}
                // One group that cannot be helped now does not stop the others; the engine still wants it.
                Err(Error::Refused { .. } | Error::Engine(EngineError::InvalidGroup(_))) => {}
                Err(Error::Engine(
                    EngineError::CommitPending(_)
                    | EngineError::Foreign { .. }
                    | EngineError::IdentityChanged { .. }
                    | EngineError::Mls(_)
                    | EngineError::NotGenuine(_)
                    | EngineError::NotJoined(_),
                )) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn fulfil(&mut self, want: Want, deadline: Instant) -> Result<(), Error> {
        let outgoing = match want {
            Want::Ack => return self.acknowledge().await,
            Want::Join(id) => {
                let Reply::Group(group) = self.ask(FetchGroup { conversation: id }.into()).await? else {
                    return Err(Error::Protocol);
                };
                self.engine()?.join_external(id, &group)?
            }
            Want::Reconcile(id) => {
                let epoch = match self.ask(FetchGroup { conversation: id }.into()).await {
                    Ok(Reply::Group(group)) => Some(group.epoch),
                    Err(Error::Refused { code: ErrorCode::UnknownConversation, .. }) => None,
                    Ok(_) => return Err(Error::Protocol),
                    Err(error) => return Err(error),
                };
                self.engine()?.reconcile(id, epoch)?;
                None
            }
            Want::RemoveDevices(id) => self.engine()?.remove_devices(id)?,
            Want::Report { conversation, epoch } => {
                match self.ask(ReportCommit { conversation, epoch }.into()).await {
                    Ok(_) | Err(Error::Refused { .. }) => self.engine()?.reported(conversation)?,
                    Err(error) => return Err(error),
                }
                None
            }
            Want::Restore(id) => Some(self.engine()?.restore(id)?),
            Want::Retry(number) => Some(self.engine()?.retry_message(number)?),
            Want::UploadKeyPackages => Some(self.engine()?.upload_key_packages()?),
        };
        match outgoing {
            Some(outgoing) => self.submit(outgoing, deadline).await,
            None => Ok(()),
        }
    }

    async fn acknowledge(&mut self) -> Result<(), Error> {
        if !self.engine()?.wants().contains(&Want::Ack) {
            return Ok(());
        }
        let up_to = self.engine()?.ack()?;
        self.ask(Ack { up_to }.into()).await.map(drop)
    }

    /// Sends a numbered request and hands its answer to the engine.
    async fn submit(&mut self, outgoing: Outgoing, deadline: Instant) -> Result<(), Error> {
        let Outgoing { number, request } = outgoing;
        loop {
            let reply = self.exchange(number, &request).await?;
            let answered = self.engine()?.answered(number, &reply)?;
            match answered {
                Answered::MessageStored { id, stored } => drop(self.outcomes.insert(id, Ok(stored))),
                Answered::Refused { message: Some(id), error } => {
                    self.outcomes.insert(id, Err(refused(error)));
                }
                Answered::Later { seconds, .. } => {
                    let pause = Duration::from_secs(seconds.clamp(1, 30));
                    if Instant::now() + pause >= deadline {
                        // It stays in the outbox; who waits for it learns why it has not gone out.
                        if let (Reply::Error(error), Request::SendMessage(_)) = (reply, &request) {
                            self.postponed = Some(error);
                        }
                        return Ok(());
                    }
                    sleep(pause).await;
                    continue;
                }
                _ => {}
            }
            return Ok(());
        }
    }

    /// A request whose refusal is an error. A relay that is busy is asked again.
    async fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let error = match self.exchange(0, &request).await? {
                Reply::Error(error) => error,
                reply => return Ok(reply),
            };
            let pause = Duration::from_secs(error.detail.max(1));
            let busy = matches!(error.code, ErrorCode::Busy | ErrorCode::RateLimited);
            if !busy || Instant::now() + pause > deadline {
                return Err(refused(error));
            }
            sleep(pause).await;
        }
    }

    /// Sends a request, and takes what was pushed before its answer.
    async fn exchange(&mut self, number: u64, request: &Request) -> Result<Reply, Error> {
        let patience = self.options.patience.min(ANSWER);
        let link = self.link()?;
        let result = match timeout(patience, link.exchange(number, request)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout),
        };
        if result.as_ref().is_err_and(Error::is_of_the_link) {
            // An answer that comes later would be taken for another one's.
            self.link = None;
        }
        let reply = result?;
        if self.engine.is_some() {
            self.take_pushes_now().await?;
        }
        Ok(reply)
    }

    /// Waits for the relay to push something, and takes it.
    async fn wait(&mut self, until: Instant) -> Result<(), Error> {
        let waited = timeout_at(until, self.link()?.wait_for_push()).await;
        if let Ok(Err(error)) = waited {
            self.link = None;
            return Err(error);
        }
        self.take_pushes().await
    }

    /// Takes what has been pushed so far, also what is only now being read.
    async fn take_pushes(&mut self) -> Result<(), Error> {
        if let Ok(Err(error)) = timeout(Duration::ZERO, self.link()?.wait_for_push()).await {
            self.link = None;
            return Err(error);
        }
        self.take_pushes_now().await
    }

    async fn take_pushes_now(&mut self) -> Result<(), Error> {
        while let Some(push) = self.link()?.take_pushed() {
            match push {
                Push::Delivery(delivery) => {
                    self.credit = self.credit.saturating_sub(1);
                    let entry = match delivery.entry {
                        Some(entry) => entry,
                        None => {
                            let request = Request::from(FetchDelivery { seq: delivery.seq });
                            let patience = self.options.patience;
                            let fetched = timeout(patience, self.link()?.exchange(0, &request));
                            match fetched.await.map_err(|_| Error::Timeout)?? {
                                // Gone or unreadable: on behind it.
                                Reply::Delivery(delivery) => delivery.entry.unwrap_or_else(nothing),
                                _ => return Err(Error::Protocol),
                            }
                        }
                    };
                    let delivered = self.engine()?.deliver(delivery.seq, &entry);
                    let events = match delivered {
                        Ok(events) => events,
                        Err(error) => {
                            // It comes again with the next connection; the one behind it must not be taken before.
                            self.link = None;
                            return Err(error.into());
                        }
                    };
                    self.events
                        .extend(events.into_iter().filter(|event| !matches!(event, Event::Message { .. })));
                    self.grant().await?;
                }
                Push::Notice(NoticeKind::Replaced) => {
                    self.link = None;
                    return Err(Error::Replaced);
                }
                Push::Notice(NoticeKind::Revoked) => {
                    self.link = None;
                    return Err(Error::Revoked);
                }
                Push::Notice(NoticeKind::KeyPackagesLow) => self.engine()?.key_packages_low()?,
                Push::Notice(NoticeKind::GenerationChanged | NoticeKind::Closing) => {
                    // A new connection opens a new session and sorts it out.
                    self.link = None;
                    let reason = "it is restarting".to_owned();
                    return Err(Error::Unreachable { address: "its address".into(), reason });
                }
                Push::Notice(_) => {}
            }
        }
        Ok(())
    }

    /// Grants deliveries where few are left.
    async fn grant(&mut self) -> Result<(), Error> {
        if self.credit < CREDIT / 2 {
            let deliveries = CREDIT - self.credit;
            self.link()?.tell(Credit { deliveries }.into()).await?;
            self.credit = CREDIT;
        }
        Ok(())
    }

    fn engine(&mut self) -> Result<&mut Engine, Error> {
        self.engine.as_mut().ok_or(Error::NotLoggedIn)
    }

    fn link(&mut self) -> Result<&mut Link, Error> {
        let gone =
            || Error::Unreachable { address: "its address".into(), reason: "the connection is gone".into() };
        self.link.as_mut().ok_or_else(gone)
    }
}

/// An entry that says nothing.
fn nothing() -> Entry {
    Entry { conversation: ConversationId([0; 16]), sender: None, time: 0, age: 0, kind: None }
}

/// Deliveries granted at a time.
const CREDIT: u32 = 64;
/// Messages handed out at a time.
const AT_ONCE: usize = 256;
/// How long even an impatient caller looks for what has arrived.
const GRACE: Duration = Duration::from_millis(20);
/// How long to wait for something that should come before asking again.
const STEP: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an answer may take before the connection is taken for dead and made anew. A relay on a slow router needs a
/// tenth of a second for the longest, a login.
const ANSWER: Duration = Duration::from_secs(4);
/// How often the journal is cleaned.
const MAINTENANCE: Duration = Duration::from_secs(300);
