//! The engine: an account's device, its groups and its queues of messages, in one journal. Synchronous and without I/O
//! but for the journal; what to send and what came is handed in and out.
//!
//! Outgoing: [`Engine::send`] and the functions that make commits encrypt, journal and hand out a numbered
//! [`Outgoing`], which stays in the [`outbox`](Engine::outbox) until [`Engine::answered`] takes the relay's answer.
//! Incoming: [`Engine::deliver`] takes an entry of the relay's queue, decrypts it and appends the message to the
//! [`inbox`](Engine::inbox), from which the program takes it. What else is to be done follows from the state,
//! [`Engine::wants`], and so survives a crash.
//!
//! Each function is one atomic batch of the journal, or an error and nothing; it is durable when the function
//! returns, but for deliveries, which are when they are [acknowledged](Engine::ack). If the journal fails to sync, it
//! is open what has happened, and it takes nothing more until it is opened again. Groups in memory are a cache: one
//! that an operation has changed is put back only after the batch is in the journal.

mod deliver;
mod error;
mod groups;
mod outbox;
mod records;
mod roster;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openmls::group::MlsGroup;
use openmls::prelude::OpenMlsProvider as _;
use qpc_journal::{Batch, Journal, Stats, Storage};
use qpc_proto::envelope::Kind;
use qpc_proto::id::{ConversationId, DeviceId, MessageId, PublicKey, UserName};
use qpc_proto::message::{
    Conversation, DeviceCertificate, Durability, OpenSession, Request, Session, Signature,
};
use qpc_proto::signing::Exporter;
use qpc_proto::wire::Message;

use crate::mls::credential::{credential, verify};
use crate::mls::{
    Crypto, DeviceSecret, Entropy, Provider, Rows, config, device_id, fold, message_secrets_key,
};
use records::{ACCOUNT, AccountRow, ConversationRow, INBOX, InboxRow};
use state::{Draft, State, Waiting};

pub use deliver::{Event, Reason};
pub use error::{EngineError, Unreadable};
pub use outbox::Answered;
pub use records::SCHEMA;

/// A device of an account.
pub struct Engine<S: Storage> {
    journal: Journal<S>,
    crypto: Crypto,
    account: Account,
    device: DeviceSecret,
    state: State,
    groups: BTreeMap<ConversationId, MlsGroup>,
    /// The last delivery the relay was told to forget.
    acked: u64,
    /// When [`Engine::maintain`] cleaned last, or was first called.
    cleaned: Option<Duration>,
}

/// Who this device is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The account's name.
    pub user: UserName,
    /// The account's identity key.
    pub identity_key: PublicKey,
    /// This device.
    pub device: DeviceId,
    /// This device's key.
    pub device_key: PublicKey,
    /// What ties the one to the other.
    pub certificate: DeviceCertificate,
}

/// A request to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Its number, to be sent with it.
    pub number: u64,
    /// The request.
    pub request: Request,
}

/// Something the session is to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Want {
    /// Call [`Engine::ack`] and acknowledge what it says.
    Ack,
    /// Fetch the group and call [`Engine::join_external`].
    Join(ConversationId),
    /// Ask the relay for the group's epoch and call [`Engine::reconcile`].
    Reconcile(ConversationId),
    /// Call [`Engine::remove_devices`].
    RemoveDevices(ConversationId),
    /// Report the commit of this epoch, then call [`Engine::reported`].
    Report {
        /// Which group.
        conversation: ConversationId,
        /// The epoch the commit was made in.
        epoch: u64,
    },
    /// Call [`Engine::send_receipt`].
    Receipt(ConversationId),
    /// Call [`Engine::restore`].
    Restore(ConversationId),
    /// Call [`Engine::retry_message`] with this number.
    Retry(u64),
    /// Call [`Engine::upload_key_packages`].
    UploadKeyPackages,
}

/// What is known of another account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// Who.
    pub user: UserName,
    /// The identity that is trusted.
    pub identity: PublicKey,
    /// Another one that showed up and waits to be accepted.
    pub changed: Option<PublicKey>,
}

/// A conversation as this device knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConversationState {
    /// Its id.
    pub conversation: ConversationId,
    /// The other account, if it is a direct one.
    pub peer: Option<UserName>,
    /// Whether this device is in the group.
    pub joined: bool,
    /// The group's epoch.
    pub epoch: u64,
    /// Whether a commit of this device waits for the relay's answer.
    pub pending: bool,
    /// Who has another identity than the one that is trusted, so that this device does not join.
    pub blocked: Option<UserName>,
}

/// A message that was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InboxMessage {
    /// Its place, for [`Engine::take_inbox`].
    pub position: u64,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub sender: UserName,
    /// On which device.
    pub device: DeviceId,
    /// Its id.
    pub id: MessageId,
    /// Seconds since 1970 when the relay took it, 0 if it had no believable clock.
    pub relay_time: u64,
    /// Seconds since 1970 when it was sent, by the sender's clock; 0 if it had none.
    pub sender_time: u64,
    /// What the body is.
    pub kind: Kind,
    /// What was written.
    pub body: Vec<u8>,
    /// Whether the relay would have kept it through a power cut.
    pub durability: Durability,
}

/// What the inbox holds. Positions only grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InboxState {
    /// The position of the oldest message.
    pub first: u64,
    /// The position that the next message gets.
    pub next: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The last one that counts as read.
    pub read: u64,
}

impl<S: Storage> Rows for Journal<S> {
    type Error = qpc_journal::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, qpc_journal::Error> {
        // The inherent function: it comes before the trait's.
        Self::get(self, key)
    }

    fn is_lost(error: &qpc_journal::Error) -> bool {
        matches!(error, qpc_journal::Error::Corrupt { .. })
    }
}

impl<S: Storage> Engine<S> {
    /// Sets up an empty journal for a device of an account.
    pub fn create(
        mut journal: Journal<S>,
        entropy: Arc<dyn Entropy>,
        device: DeviceSecret,
        certificate: DeviceCertificate,
    ) -> Result<Self, EngineError> {
        if Journal::get(&journal, &[ACCOUNT])?.is_some() {
            return Err(EngineError::AccountExists);
        }
        let account = new_account(certificate, &device)?;
        let row = AccountRow { certificate: account.certificate.clone(), device_seed: *device.as_bytes() };
        let mut batch = Batch::new();
        batch.put([ACCOUNT], row.encode());
        journal.commit(&batch)?;
        Self::with(journal, entropy, account, device)
    }

    /// Opens the journal of a device that was set up before.
    pub fn open(journal: Journal<S>, entropy: Arc<dyn Entropy>) -> Result<Self, EngineError> {
        let row = Journal::get(&journal, &[ACCOUNT])?.ok_or(EngineError::NoAccount)?;
        let row = AccountRow::decode(&row)?;
        let device = DeviceSecret::from_bytes(&row.device_seed);
        let account = new_account(row.certificate, &device)?;
        Self::with(journal, entropy, account, device)
    }

    /// Who this device is.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The device's proof that it opens this connection's session.
    pub fn prove_session(&self, exporter: &Exporter) -> Signature {
        self.device.prove_session(exporter)
    }

    /// The request that opens a session on this connection.
    pub fn open_session_request(&self, exporter: &Exporter) -> OpenSession {
        OpenSession {
            device: self.account.device,
            proof: self.prove_session(exporter),
            answered: self.state.session.answered,
            delivered: self.state.session.delivered,
        }
    }

    /// Takes the relay's side of an opened session.
    pub fn session_opened(&mut self, session: &Session) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        let row = &mut draft.session;
        let anew = row.generation.is_some_and(|generation| generation != session.generation);
        if anew {
            // What was delivered and answered was so in another life of the store.
            (row.delivered, row.answered) = (0, 0);
            (row.key_packages_due, row.key_packages_replace) = (true, true);
        }
        row.generation = Some(session.generation);
        row.number = row.number.max(session.last_number);
        row.key_packages_due |= session.key_packages < FEW_KEY_PACKAGES || !session.last_resort;
        let stuck: Vec<ConversationId> =
            self.state.outbox.values().filter_map(Waiting::stuck_message).collect();
        for (id, row) in &self.state.conversations {
            if row.joined && (anew || stuck.contains(id)) {
                draft.conversation(&self.state, *id).reconcile = true;
            }
        }
        self.commit(draft)?;
        // What was acknowledged over the last connection may not have arrived.
        self.acked = 0;
        Ok(())
    }

    /// Takes the relay's notice that few key packages are left.
    pub fn key_packages_low(&mut self) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        draft.session.key_packages_due = true;
        self.commit(draft)
    }

    /// What there is to do, in the order to do it.
    pub fn wants(&self) -> Vec<Want> {
        let mut wants = Vec::new();
        let state = &self.state;
        if state.session.delivered > self.acked {
            wants.push(Want::Ack);
        }
        for (id, row) in &state.conversations {
            if row.report > 0 {
                wants.push(Want::Report { conversation: *id, epoch: row.report - 1 });
                continue;
            }
            if state.group_is_busy(id) {
                continue;
            }
            if row.reconcile {
                wants.push(Want::Reconcile(*id));
            } else if row.restore && row.joined {
                wants.push(Want::Restore(*id));
            } else if row.join && row.blocked.is_none() {
                wants.push(Want::Join(*id));
            } else if !row.revoked.is_empty() && row.joined {
                wants.push(Want::RemoveDevices(*id));
            } else if !row.receipts.is_empty() && row.joined {
                wants.push(Want::Receipt(*id));
            }
        }
        for (number, waiting) in &state.outbox {
            if let Waiting::Message(id, Some(epoch)) = waiting
                && state
                    .conversations
                    .get(id)
                    .is_some_and(|row| row.joined && row.epoch >= *epoch && !row.restore && !row.join)
            {
                wants.push(Want::Retry(*number));
            }
        }
        let uploading = state.outbox.values().any(|waiting| *waiting == Waiting::KeyPackages);
        if state.session.key_packages_due && !uploading {
            wants.push(Want::UploadKeyPackages);
        }
        wants
    }

    /// Makes deliveries durable. The relay may forget them up to the number returned: to be sent once for many.
    pub fn ack(&mut self) -> Result<u64, EngineError> {
        self.journal.sync()?;
        self.acked = self.state.session.delivered;
        Ok(self.acked)
    }

    /// The relay was told of a commit that could not be processed.
    pub fn reported(&mut self, id: ConversationId) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        draft.conversation(&self.state, id).report = 0;
        self.commit(draft)
    }

    /// The last delivery that was taken.
    pub fn delivered(&self) -> u64 {
        self.state.session.delivered
    }

    /// Trusts the identity of an account if it is the first one seen; refuses another one and remembers it.
    pub fn pin(&mut self, user: &UserName, identity: &PublicKey) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        let trusted = match *user == self.account.user {
            true => *identity == self.account.identity_key,
            false => roster::trust(&self.state, &mut draft, user, identity),
        };
        self.commit(draft)?;
        match trusted {
            true => Ok(()),
            false => Err(EngineError::IdentityChanged { user: user.clone() }),
        }
    }

    /// Trusts the changed identity of an account, instead of the old one.
    pub fn accept_identity(&mut self, user: &UserName) -> Result<(), EngineError> {
        let unknown = || EngineError::UnknownIdentity(user.clone());
        let identity = self.state.contacts.get(user).and_then(|row| row.changed).ok_or_else(unknown)?;
        let mut draft = self.state.draft();
        draft.set_contact(user.clone(), records::ContactRow { identity, changed: None });
        for (id, row) in &self.state.conversations {
            if row.blocked.as_ref() == Some(user) {
                draft.conversation(&self.state, *id).blocked = None;
            }
        }
        self.commit(draft)
    }

    /// The accounts whose identity is known.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.state.contacts.iter().map(|(user, row)| Contact {
            user: user.clone(),
            identity: row.identity,
            changed: row.changed,
        })
    }

    /// The direct conversation with an account, if it is known.
    pub fn direct(&self, peer: &UserName) -> Option<ConversationState> {
        self.conversations().find(|conversation| conversation.peer.as_ref() == Some(peer))
    }

    /// All conversations.
    pub fn conversations(&self) -> impl Iterator<Item = ConversationState> {
        self.state.conversations.iter().map(|(id, row)| ConversationState {
            conversation: *id,
            peer: row.peer.clone(),
            joined: row.joined,
            epoch: row.epoch,
            pending: self.state.group_is_busy(id),
            blocked: row.blocked.clone(),
        })
    }

    /// Remembers the direct conversation that the relay named.
    pub fn conversation_opened(&mut self, peer: &UserName, found: &Conversation) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        for (id, row) in &self.state.conversations {
            if row.peer.as_ref() == Some(peer) && *id != found.id {
                draft.conversation(&self.state, *id).peer = None;
            }
        }
        let row = draft.conversation(&self.state, found.id);
        row.peer = Some(peer.clone());
        // A member that has not joined will find the invitation in its queue.
        row.join |= !row.joined && !found.member && found.epoch > 0;
        self.commit(draft)
    }

    /// Received messages that were neither taken nor read yet, the oldest first. One that is damaged is left out, and
    /// forgotten when no other one is before it.
    pub fn inbox(&mut self, max: usize) -> Result<Vec<InboxMessage>, EngineError> {
        self.inbox_after(self.state.session.inbox_read, max)
    }

    /// The same behind a position, read or not.
    pub fn inbox_after(&mut self, after: u64, max: usize) -> Result<Vec<InboxMessage>, EngineError> {
        let Some(queue) = self.journal.queue(INBOX) else {
            return Ok(Vec::new());
        };
        let (mut messages, mut lost) = (Vec::new(), None);
        for position in queue.first_seq.max(after.saturating_add(1))..queue.next_seq {
            match self.inbox_message(position) {
                Ok(message) => messages.push(message),
                Err(error) if error.is_lost() => {
                    log::error!("a received message is lost: {error}");
                    let is_first = messages.is_empty() && after < queue.first_seq;
                    lost = is_first.then_some(position).or(lost);
                }
                Err(error) => return Err(error),
            }
            if messages.len() >= max {
                break;
            }
        }
        if let Some(position) = lost {
            // What a disk that takes no writes keeps is left out again.
            let _ = self.take_inbox(position);
        }
        Ok(messages)
    }

    /// What the inbox holds.
    pub fn inbox_state(&self) -> InboxState {
        let read = self.state.session.inbox_read;
        match self.journal.queue(INBOX) {
            Some(queue) => {
                InboxState { first: queue.first_seq, next: queue.next_seq, bytes: queue.bytes, read }
            }
            None => InboxState { first: 1, next: 1, bytes: 0, read },
        }
    }

    /// Counts received messages up to and including this position as read, and keeps them.
    pub fn mark_read(&mut self, up_to: u64) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        let last = self.inbox_state().next.saturating_sub(1);
        draft.session.inbox_read = draft.session.inbox_read.max(up_to.min(last));
        self.commit(draft)
    }

    /// Forgets the oldest received messages, read or not, where there are more than so many or than so many bytes; then
    /// an eighth more, for each time is written. Says how many of them nobody had read.
    pub fn bound_inbox(&mut self, max: u64, max_bytes: u64) -> Result<u64, EngineError> {
        let InboxState { first, next, mut bytes, read } = self.inbox_state();
        if next - first <= max && bytes <= max_bytes {
            return Ok(0);
        }
        let mut end = first;
        while end < next && (next - end > max - max / 8 || bytes > max_bytes - max_bytes / 8) {
            bytes = bytes.saturating_sub(self.journal.body_len(INBOX, end).unwrap_or(0).into());
            end += 1;
        }
        self.take_inbox(end - 1)?;
        Ok(end.saturating_sub(first.max(read + 1)))
    }

    /// Forgets received messages up to and including this position.
    pub fn take_inbox(&mut self, up_to: u64) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        if self.journal.queue(INBOX).is_some_and(|queue| (queue.first_seq..queue.next_seq).contains(&up_to)) {
            draft.batch.trim(INBOX, up_to);
        }
        self.commit(draft)
    }

    /// Regular work; `now` is any clock that only goes forward. Call it every few minutes.
    ///
    /// Secrets that were deleted are in the journal's files until these are rewritten: after a day, or when there is
    /// much garbage. The latter is for programs that are started for each message, which no day ever passes in: there is
    /// no clock that goes on between them, while garbage can be seen without writing anything down.
    pub fn maintain(&mut self, now: Duration) -> Result<(), EngineError> {
        let since = now.saturating_sub(*self.cleaned.get_or_insert(now));
        let Stats { disk_bytes, live_bytes, .. } = self.journal.stats();
        let garbage = disk_bytes.saturating_sub(live_bytes);
        if since < GARBAGE_AGE && garbage < live_bytes.max(CLEAN_AT) {
            self.journal.maintain(now, MAINTENANCE)?;
            return Ok(());
        }
        self.cleaned = Some(now);
        self.fold_secrets()?;
        // Once to see the garbage there is, then as if its time had come.
        self.journal.maintain(now, 0)?;
        while self.journal.maintain(now + GARBAGE_AGE, MAINTENANCE)?.more {}
        Ok(())
    }

    /// Writes the groups' secrets whole, so that old ones do not live on in a base that only gets patches. A group whose
    /// secrets are damaged is joined anew.
    fn fold_secrets(&mut self) -> Result<(), EngineError> {
        for id in self.state.conversations.keys().copied().collect::<Vec<_>>() {
            let mut changes = Vec::new();
            let key = message_secrets_key(&config::group_id(&id))?;
            let mut draft = self.state.draft();
            match fold(&self.journal, &key, &mut changes).map_err(EngineError::from) {
                Ok(()) => draft.rows(changes),
                Err(error) if error.is_lost() => {
                    log::error!("conversation {id} is damaged: {error}");
                    let row = draft.conversation(&self.state, id);
                    row.join |= row.joined;
                    row.joined = false;
                    self.groups.remove(&id);
                }
                Err(error) => return Err(error),
            }
            self.commit(draft)?;
        }
        Ok(())
    }

    fn inbox_message(&self, position: u64) -> Result<InboxMessage, EngineError> {
        let row = self.journal.read(INBOX, position)?.ok_or(Unreadable::Inconsistent)?;
        let row = InboxRow::decode(&row)?;
        Ok(InboxMessage {
            position,
            conversation: row.conversation,
            sender: row.sender,
            device: row.device,
            id: row.id,
            relay_time: row.relay_time,
            sender_time: row.sender_time,
            kind: row.kind.into(),
            body: row.body.into_vec(),
            durability: row.durability.into(),
        })
    }

    fn with(
        journal: Journal<S>,
        entropy: Arc<dyn Entropy>,
        account: Account,
        device: DeviceSecret,
    ) -> Result<Self, EngineError> {
        let state = State::load(&journal)?;
        let crypto = Crypto::new(entropy);
        Ok(Self { journal, crypto, account, device, state, groups: BTreeMap::new(), acked: 0, cleaned: None })
    }

    /// Stores a draft durably.
    fn commit(&mut self, draft: Draft) -> Result<(), EngineError> {
        self.state.append(&mut self.journal, draft)?;
        self.journal.sync()?;
        Ok(())
    }

    fn conversation_row(&self, id: &ConversationId) -> Result<&ConversationRow, EngineError> {
        self.state.conversations.get(id).ok_or(EngineError::UnknownConversation(*id))
    }

    /// Takes the group out of memory, or loads it. Whoever takes it puts it back when what was done with it is stored.
    fn take_group(&mut self, id: &ConversationId) -> Result<MlsGroup, EngineError> {
        if let Some(group) = self.groups.remove(id) {
            return Ok(group);
        }
        if !self.state.conversations.get(id).is_some_and(|row| row.joined) {
            return Err(EngineError::NotJoined(*id));
        }
        let provider = Provider::new(&self.crypto, &self.journal);
        let loaded = MlsGroup::load(provider.storage(), &config::group_id(id));
        provider.finish()?;
        loaded.map_err(EngineError::mls)?.ok_or(EngineError::NotJoined(*id))
    }

    /// Keeps a group that is as the store has it in memory.
    fn keep_group(&mut self, id: ConversationId, group: MlsGroup) {
        if self.groups.len() == MAX_LOADED {
            self.groups.pop_first();
        }
        self.groups.insert(id, group);
    }
}

fn new_account(certificate: DeviceCertificate, device: &DeviceSecret) -> Result<Account, EngineError> {
    let device_key = device.device_key();
    verify(&credential(&certificate).credential, &device_key.0)?;
    Ok(Account {
        user: certificate.user.clone(),
        identity_key: certificate.identity_key,
        device: device_id(&device_key),
        device_key,
        certificate,
    })
}

/// Below this many key packages at the relay more are uploaded.
const FEW_KEY_PACKAGES: u32 = 4;
/// Groups in memory; one of 50 leaves takes some 100 KB.
const MAX_LOADED: usize = 16;
/// Bytes that one round of maintenance copies at most.
const MAINTENANCE: u32 = 64 * 1024;
/// How long what was deleted may stay in the files of a program that runs on.
pub(crate) const GARBAGE_AGE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of garbage, if there is not more that lives, at which everything is cleaned.
const CLEAN_AT: u64 = 128 * 1024;
