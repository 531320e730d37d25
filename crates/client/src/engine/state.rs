//! The engine's rows in memory, and how they change: always together with the journal, or not at all.

use std::collections::{BTreeMap, VecDeque};

use qpc_journal::{Batch, Journal, Storage};
use qpc_proto::id::{ConversationId, MessageId, UserName};
use qpc_proto::wire::{Blob, Message};

use super::error::{EngineError, Unreadable};
use super::records::*;
use crate::mls::RowChange;

/// What is in the journal and needed all the time. Requests in the outbox are not: they can be large.
pub(super) struct State {
    pub(super) session: SessionRow,
    pub(super) contacts: BTreeMap<UserName, ContactRow>,
    pub(super) conversations: BTreeMap<ConversationId, ConversationRow>,
    pub(super) outbox: BTreeMap<u64, Waiting>,
    /// Messages that wait to be encrypted, by number, and the bytes of each.
    pub(super) held: BTreeMap<u64, usize>,
    seen: VecDeque<MessageId>,
}

/// A request in the outbox, in brief.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waiting {
    /// A commit or a group given back.
    Group(ConversationId),
    KeyPackages,
    /// A message; with the epoch it must wait for if it is to be made anew.
    Message(ConversationId, Option<u64>),
    /// Something else, or what cannot be read any more.
    Other,
}

impl Waiting {
    /// The conversation of a message that waits for an epoch to come.
    pub(super) fn stuck_message(&self) -> Option<ConversationId> {
        match self {
            Self::Message(id, Some(_)) => Some(*id),
            _ => None,
        }
    }
}

impl State {
    pub(super) fn load<S: Storage>(journal: &Journal<S>) -> Result<Self, EngineError> {
        let session = match journal.get(&[SESSION])? {
            Some(row) => SessionRow::decode(&row)?,
            None => new_session(),
        };
        let mut contacts = BTreeMap::new();
        for_each(journal, CONTACT, |key, row| {
            let user = std::str::from_utf8(key).ok().and_then(|user| UserName::new(user).ok());
            contacts.insert(user.ok_or(Unreadable::Inconsistent)?, ContactRow::decode(row)?);
            Ok(())
        })?;
        let mut conversations = BTreeMap::new();
        for_each(journal, CONVERSATION, |key, row| {
            let id = key.try_into().map_err(|_| Unreadable::Inconsistent)?;
            conversations.insert(ConversationId(id), ConversationRow::decode(row)?);
            Ok(())
        })?;
        let mut outbox = BTreeMap::new();
        for key in journal.keys(&[OUTBOX]) {
            // One that is lost is found again, and dropped, where the outbox is read.
            let row = read_outbox(journal, key);
            let waiting = match row {
                Err(error) if error.is_lost() => Waiting::Other,
                row => row?.as_ref().map_or(Waiting::Other, waiting),
            };
            outbox.insert(number_of(&key[1..])?, waiting);
        }
        let mut held = BTreeMap::new();
        for key in journal.keys(&[HELD]) {
            let row = journal.get(key).map_err(EngineError::from);
            let bytes = match row {
                // Found again, and dropped, where it is sent.
                Err(error) if error.is_lost() => 0,
                row => row?.map_or(0, |row| row.len()),
            };
            held.insert(number_of(&key[1..])?, bytes);
        }
        let mut seen = VecDeque::new();
        if let Some(queue) = journal.queue(SEEN) {
            for position in queue.first_seq..queue.next_seq {
                let id = match journal.read(SEEN, position).map_err(EngineError::from) {
                    Err(error) if error.is_lost() => None,
                    id => id?,
                };
                // For one that is lost a number that nobody uses keeps its place until it is forgotten.
                let id = id.and_then(|id| id.as_slice().try_into().ok());
                seen.push_back(id.map_or(NO_MESSAGE, MessageId));
            }
        }
        Ok(Self { session, contacts, conversations, outbox, held, seen })
    }

    pub(super) fn draft(&self) -> Draft {
        Draft {
            batch: Batch::new(),
            session: self.session.clone(),
            contacts: BTreeMap::new(),
            conversations: BTreeMap::new(),
            outbox: BTreeMap::new(),
            held: None,
            seen: Vec::new(),
        }
    }

    pub(super) fn has_seen(&self, id: &MessageId) -> bool {
        self.seen.contains(id)
    }

    /// Whether a commit for the conversation, or the group given back, waits for its answer.
    pub(super) fn group_is_busy(&self, id: &ConversationId) -> bool {
        self.outbox.values().any(|waiting| *waiting == Waiting::Group(*id))
    }

    /// Appends `draft` to the journal and follows it.
    pub(super) fn append<S: Storage>(
        &mut self,
        journal: &mut Journal<S>,
        draft: Draft,
    ) -> Result<(), EngineError> {
        let mut batch = draft.batch;
        if draft.session != self.session {
            batch.put([SESSION], draft.session.encode());
        }
        for (user, row) in &draft.contacts {
            if self.contacts.get(user) != Some(row) {
                batch.put(key(CONTACT, user.as_str().as_bytes()), row.encode());
            }
        }
        for (id, row) in &draft.conversations {
            if self.conversations.get(id) != Some(row) {
                batch.put(key(CONVERSATION, &id.0), row.encode());
            }
        }
        for (number, row) in &draft.outbox {
            match row {
                Some(row) => batch.put(key(OUTBOX, &number.to_be_bytes()), row.encode()),
                None => batch.delete(key(OUTBOX, &number.to_be_bytes())),
            };
        }
        let held = draft.held.map(|(number, row)| (number, row.map(|row| row.encode())));
        if let Some((number, row)) = &held {
            match row {
                Some(row) => batch.put(key(HELD, &number.to_be_bytes()), row.clone()),
                None => batch.delete(key(HELD, &number.to_be_bytes())),
            };
        }
        for id in &draft.seen {
            batch.push(&[SEEN], id.0);
        }
        let forgotten = self.forgotten(journal, draft.seen.len());
        if let Some(up_to) = forgotten {
            batch.trim(SEEN, up_to);
        }
        if batch.is_empty() {
            return Ok(());
        }
        journal.append(&batch)?;

        self.session = draft.session;
        self.contacts.extend(draft.contacts);
        self.conversations.extend(draft.conversations);
        for (number, row) in draft.outbox {
            match row {
                Some(row) => self.outbox.insert(number, waiting(&row)),
                None => self.outbox.remove(&number),
            };
        }
        match held {
            Some((number, Some(row))) => drop(self.held.insert(number, row.len())),
            Some((number, None)) => drop(self.held.remove(&number)),
            None => {}
        }
        self.seen.extend(draft.seen);
        if forgotten.is_some() {
            self.seen.drain(..self.seen.len() - MAX_SEEN);
        }
        Ok(())
    }

    /// Up to where the queue of seen ids is to be trimmed. Not with every message: a trim is written, too.
    fn forgotten<S: Storage>(&self, journal: &Journal<S>, more: usize) -> Option<u64> {
        let excess = (self.seen.len() + more).checked_sub(MAX_SEEN)?;
        let first = journal.queue(SEEN)?.first_seq;
        (excess >= SEEN_SLACK).then(|| first + excess as u64 - 1)
    }
}

/// Changes that are made together.
pub(super) struct Draft {
    pub(super) batch: Batch,
    pub(super) session: SessionRow,
    contacts: BTreeMap<UserName, ContactRow>,
    conversations: BTreeMap<ConversationId, ConversationRow>,
    outbox: BTreeMap<u64, Option<OutboxRow>>,
    held: Option<(u64, Option<HeldRow>)>,
    seen: Vec<MessageId>,
}

impl Draft {
    pub(super) fn rows(&mut self, changes: Vec<RowChange>) {
        for (key, value) in changes {
            match value {
                Some(value) => self.batch.put(key, value.as_slice()),
                None => self.batch.delete(key),
            };
        }
    }

    /// The conversation's row, to be changed; a new one if there is none.
    pub(super) fn conversation(&mut self, state: &State, id: ConversationId) -> &mut ConversationRow {
        self.conversations
            .entry(id)
            .or_insert_with(|| state.conversations.get(&id).cloned().unwrap_or_else(new_conversation))
    }

    /// The identity that is trusted, with what this draft adds.
    pub(super) fn trusted<'a>(&'a self, state: &'a State, user: &UserName) -> Option<&'a ContactRow> {
        self.contacts.get(user).or_else(|| state.contacts.get(user))
    }

    pub(super) fn set_contact(&mut self, user: UserName, row: ContactRow) {
        self.contacts.insert(user, row);
    }

    pub(super) fn reset_contacts(&mut self) {
        self.contacts.clear();
    }

    /// Puts a request into the outbox, under the next number.
    pub(super) fn queue(&mut self, request: Vec<u8>, purpose: Purpose) -> Result<u64, EngineError> {
        let request = Blob::new(request).map_err(|_| EngineError::TooLarge)?;
        self.session.number += 1;
        self.outbox.insert(self.session.number, Some(OutboxRow { request, purpose: Some(purpose) }));
        Ok(self.session.number)
    }

    pub(super) fn set_waiting(&mut self, number: u64, row: Option<OutboxRow>) {
        self.outbox.insert(number, row);
    }

    pub(super) fn set_held(&mut self, number: u64, row: Option<HeldRow>) {
        self.held = Some((number, row));
    }

    pub(super) fn see(&mut self, id: MessageId) {
        self.seen.push(id);
    }
}

/// Calls `each` with the rest of the key and the row, in the order of the keys.
pub(super) fn for_each<S: Storage>(
    journal: &Journal<S>,
    table: u8,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    for key in journal.keys(&[table]) {
        let row = journal.get(key)?.ok_or(Unreadable::Inconsistent)?;
        each(&key[1..], &row)?;
    }
    Ok(())
}

/// A request that waits for its answer, by its key.
pub(super) fn read_outbox<S: Storage>(
    journal: &Journal<S>,
    key: &[u8],
) -> Result<Option<OutboxRow>, EngineError> {
    Ok(journal.get(key)?.map(|row| OutboxRow::decode(&row)).transpose()?)
}

pub(super) fn number_of(key: &[u8]) -> Result<u64, EngineError> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| Unreadable::Inconsistent)?))
}

fn waiting(row: &OutboxRow) -> Waiting {
    match &row.purpose {
        Some(Purpose::Commit(commit)) => Waiting::Group(commit.conversation),
        Some(Purpose::Restore(restore)) => Waiting::Group(restore.conversation),
        Some(Purpose::Message(message)) => {
            Waiting::Message(message.conversation, row.request.is_empty().then_some(message.retry_in))
        }
        Some(Purpose::KeyPackages(_)) => Waiting::KeyPackages,
        Some(Purpose::Revoke(_)) | None => Waiting::Other,
    }
}

fn new_session() -> SessionRow {
    SessionRow {
        generation: None,
        delivered: 0,
        number: 0,
        answered: 0,
        key_packages_due: false,
        key_packages_replace: false,
        key_packages_upload: 0,
        inbox_read: 0,
    }
}

fn new_conversation() -> ConversationRow {
    ConversationRow {
        peer: None,
        joined: false,
        epoch: 0,
        join: false,
        reconcile: false,
        restore: false,
        report: 0,
        revoked: Default::default(),
        blocked: None,
        left_out: false,
        receipts: Default::default(),
    }
}

/// The id of no message.
const NO_MESSAGE: MessageId = MessageId([0; 16]);
/// Ids of messages that are remembered.
const MAX_SEEN: usize = 256;
/// How many more there may be before the oldest are forgotten.
const SEEN_SLACK: usize = 64;
