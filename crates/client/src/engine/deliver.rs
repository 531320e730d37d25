//! What the relay delivers. One entry, one batch: the group's new state, the message for the inbox and the place in the
//! queue become durable together.
//!
//! Entries come from other people. Whatever is in them, the place in the queue moves on; only a failure of this
//! device's own store stops it.

use openmls::framing::errors::MessageDecryptionError;
use openmls::group::{JoinBuilder, MlsGroup, ProcessMessageError, ProcessedWelcome, ValidationError};
use openmls::prelude::{MlsMessageBodyIn, OpenMlsProvider as _, ProcessedMessageContent, ProtocolMessage};
use qpc_journal::{Journal, Storage};
use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, MessageId, PublicKey, UserName};
use qpc_proto::message::{
    CommitEntry, DeviceCertificate, DevicesEntry, Entry, EntryKind, MessageEntry, WelcomeEntry,
};
use qpc_proto::wire::{List, Message};

use super::Engine;
use super::error::EngineError;
use super::groups::{joined, leave_out, nodes, parse};
use super::records::{INBOX, InboxRow, MAX_RECEIPTS};
use super::roster::{self, Changes, Leaf, Policy, Refusal};
use super::state::Draft;
use crate::mls::{Provider, config, device_id};

/// Something that a delivery brought about.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A commit could not be processed. The relay will be told and the group repaired.
    CommitUnusable {
        /// Whose.
        conversation: ConversationId,
        /// The device that submitted it.
        sender: Option<DeviceId>,
    },
    /// What was stored of the group is damaged. The device will join anew.
    Damaged {
        /// Whose.
        conversation: ConversationId,
    },
    /// A device came into a conversation.
    DeviceAdded {
        /// Which conversation.
        conversation: ConversationId,
        /// Whose device.
        user: UserName,
        /// Which.
        device: DeviceId,
    },
    /// A device left a conversation.
    DeviceRemoved {
        /// Which conversation.
        conversation: ConversationId,
        /// Whose device.
        user: UserName,
        /// Which.
        device: DeviceId,
    },
    /// Somebody has another identity than the one that is trusted; it is refused until it is accepted.
    IdentityChanged {
        /// Who.
        user: UserName,
        /// The new identity key.
        key: PublicKey,
    },
    /// This device is in the conversation now.
    Joined {
        /// Which.
        conversation: ConversationId,
    },
    /// There is a new message in the inbox.
    Message {
        /// In which conversation.
        conversation: ConversationId,
        /// Which.
        id: MessageId,
    },
    /// The relay says that this account has a new device.
    OwnDeviceAdded {
        /// Which.
        device: DeviceId,
    },
    /// The relay says that a device of this account is gone.
    OwnDeviceRemoved {
        /// Which.
        device: DeviceId,
    },
    /// A message that had to wait for a connection does not reach the recipient after all, and nobody waited to hear of it.
    NotSent {
        /// In which conversation.
        conversation: ConversationId,
        /// Which.
        id: MessageId,
        /// To whom, where that is known.
        recipient: Option<UserName>,
        /// The one device that does not get it; none if no device does.
        device: Option<DeviceId>,
        /// Why.
        reason: String,
    },
    /// Messages were refused at the relay because this device's queue was full.
    Refused {
        /// In which conversation.
        conversation: ConversationId,
    },
    /// This device is not in the conversation any more.
    Removed {
        /// Which.
        conversation: ConversationId,
    },
    /// An entry could not be used and was left out.
    Undecryptable {
        /// In which conversation.
        conversation: ConversationId,
        /// The device that submitted it.
        sender: Option<DeviceId>,
        /// Why.
        reason: Reason,
    },
}

/// Why an entry could not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It is of an epoch this device has not seen: it missed something and will join anew.
    #[error("this device missed something before it")]
    FutureEpoch,
    /// Nobody in the group can have made it.
    #[error("nobody in the group can have made it")]
    NotGenuine,
    /// This device is not in the conversation.
    #[error("this device is not in the conversation")]
    NotJoined,
    /// Its key is gone: it was read before, or is too far from those that were. Most such messages are copies.
    #[error("it was read before, or its key is gone")]
    Repeated,
    /// It is of an epoch whose secrets are gone.
    #[error("it is too old")]
    TooOld,
    /// It is of a kind this version does not know.
    #[error("it is of a kind this version does not know")]
    Unknown,
    /// An invitation that does not fit this device's key packages or the conversation.
    #[error("it is an invitation that does not fit")]
    Welcome,
}

impl<S: Storage> Engine<S> {
    /// Takes a delivery. One that was taken before does nothing.
    pub fn deliver(&mut self, seq: u64, entry: &Entry) -> Result<Vec<Event>, EngineError> {
        if seq <= self.state.session.delivered {
            return Ok(Vec::new());
        }
        let mut step = Step { draft: self.state.draft(), events: Vec::new(), group: None };
        step.draft.session.delivered = seq;
        match &entry.kind {
            Some(EntryKind::Message(message)) => self.take_message(&mut step, entry, message)?,
            Some(EntryKind::Commit(commit)) => self.take_commit(&mut step, entry, commit)?,
            Some(EntryKind::Welcome(welcome)) => self.take_welcome(&mut step, entry, welcome)?,
            Some(EntryKind::Refused(_)) => {
                step.events.push(Event::Refused { conversation: entry.conversation })
            }
            Some(EntryKind::Join(_)) => {
                leave_out(step.draft.conversation(&self.state, entry.conversation));
            }
            Some(EntryKind::Devices(devices)) => self.take_devices(&mut step, entry.conversation, devices),
            // Those who could process the commit are ahead of it and have nothing to do.
            Some(EntryKind::Resync(resync)) => {
                if let Some(row) = self.state.conversations.get(&entry.conversation)
                    && (!row.joined || row.epoch <= resync.epoch)
                {
                    step.draft.conversation(&self.state, entry.conversation).join = true;
                }
            }
            None => step.undecryptable(entry, Reason::Unknown),
        }
        // Durable when it is acknowledged: until then the relay has it.
        self.state.append(&mut self.journal, step.draft)?;
        if let Some(group) = step.group {
            self.keep_group(entry.conversation, *group);
        }
        Ok(step.events)
    }

    fn take_message(
        &mut self,
        step: &mut Step,
        entry: &Entry,
        message: &MessageEntry,
    ) -> Result<(), EngineError> {
        let id = entry.conversation;
        let Some(mut group) = self.take_joined(step, id)? else {
            step.undecryptable(entry, Reason::NotJoined);
            return Ok(());
        };
        let Some(MlsMessageBodyIn::PrivateMessage(message)) = parse(&message.payload) else {
            step.undecryptable(entry, Reason::NotGenuine);
            step.group = Some(group);
            return Ok(());
        };
        let message = ProtocolMessage::from(message);
        if message.epoch() > group.epoch() {
            step.draft.conversation(&self.state, id).join = true;
            step.undecryptable(entry, Reason::FutureEpoch);
            step.group = Some(group);
            return Ok(());
        }
        if message.epoch().as_u64() + config::KEPT_EPOCHS < group.epoch().as_u64() {
            step.undecryptable(entry, Reason::TooOld);
            step.group = Some(group);
            return Ok(());
        }
        let provider = Provider::new(&self.crypto, &self.journal);
        let processed = group.process_message(&provider, message);
        let writes = provider.finish()?;
        // Without success nothing is written, and the group is loaded again where it is needed: what openmls did to it
        // before it gave up is not known.
        let processed = match processed {
            Ok(processed) => processed,
            Err(error) => {
                let reason = if has_no_key(&error) { Reason::Repeated } else { Reason::NotGenuine };
                step.undecryptable(entry, reason);
                return Ok(());
            }
        };
        let sender = DeviceCertificate::decode(processed.credential().serialized_content());
        let ProcessedMessageContent::ApplicationMessage(content) = processed.into_content() else {
            // Proposals are not used, and a commit is only one if the relay says so.
            step.undecryptable(entry, Reason::NotGenuine);
            return Ok(());
        };
        step.draft.rows(writes.into_changes(&self.journal)?);
        step.group = Some(group);
        let (Ok(sender), Ok(envelope)) = (sender, Envelope::decode(&content.into_bytes())) else {
            step.undecryptable(entry, Reason::Unknown);
            return Ok(());
        };
        let own = sender.user == self.account.user;
        let is_receipt = envelope.kind == Kind::Receipt;
        // What another device of this account has stored is nobody's news here.
        if self.state.has_seen(&envelope.id) || (own && is_receipt) {
            return Ok(());
        }
        // A receipt gets none, or two devices would never stop; and in a larger group each message would bring as many as
        // it has members, to each of them.
        let direct = self.state.conversations.get(&id).is_some_and(|row| row.peer.is_some());
        if envelope.receipt && direct && !own && !is_receipt {
            let row = step.draft.conversation(&self.state, id);
            let mut receipts = std::mem::take(&mut row.receipts).into_vec();
            receipts.push(envelope.id);
            receipts.truncate(MAX_RECEIPTS);
            row.receipts = List::new(receipts).unwrap_or_default();
        }
        let row = InboxRow {
            conversation: id,
            device: device_id(&sender.device_key),
            sender: sender.user,
            id: envelope.id,
            relay_time: entry.time,
            sender_time: envelope.time,
            kind: envelope.kind.into(),
            body: envelope.body,
            durability: entry.durability.into(),
        };
        step.draft.batch.push(&[INBOX], row.encode());
        step.draft.see(envelope.id);
        step.events.push(Event::Message { conversation: id, id: envelope.id });
        Ok(())
    }

    fn take_commit(
        &mut self,
        step: &mut Step,
        entry: &Entry,
        commit: &CommitEntry,
    ) -> Result<(), EngineError> {
        let id = entry.conversation;
        // What came before this device joined is in the group it joined.
        let Some(mut group) = self.take_joined(step, id)? else {
            return Ok(());
        };
        if commit.epoch != group.epoch().as_u64() {
            if commit.epoch > group.epoch().as_u64() {
                step.draft.conversation(&self.state, id).join = true;
                step.undecryptable(entry, Reason::FutureEpoch);
            }
            step.group = Some(group);
            return Ok(());
        }
        let provider = Provider::new(&self.crypto, &self.journal);
        let merged = self.process_commit(step, &provider, &mut group, id, commit);
        let writes = provider.finish()?;
        let changes = match merged {
            Ok(changes) => changes,
            Err(refusal) => {
                // The group is as it was; it is loaded again where it is needed. Nobody is trusted for its sake.
                step.draft.reset_contacts();
                if let Some(Refusal::IdentityChanged(user, key)) = refusal {
                    self.note_identity(step, user, key);
                }
                let row = step.draft.conversation(&self.state, id);
                (row.report, row.join) = (commit.epoch + 1, true);
                step.events.push(Event::CommitUnusable { conversation: id, sender: entry.sender });
                return Ok(());
            }
        };
        step.draft.rows(writes.into_changes(&self.journal)?);
        for certificate in &changes.added {
            let (user, device) = (certificate.user.clone(), device_id(&certificate.device_key));
            step.events.push(Event::DeviceAdded { conversation: id, user, device });
        }
        for certificate in &changes.removed {
            let (user, device) = (certificate.user.clone(), device_id(&certificate.device_key));
            step.events.push(Event::DeviceRemoved { conversation: id, user, device });
        }
        if group.is_active() {
            joined(step.draft.conversation(&self.state, id), &group);
            step.group = Some(group);
        } else {
            self.leave(step, id, group)?;
        }
        Ok(())
    }

    /// Checks and merges a commit. `Err` holds why it was refused, if it was readable.
    fn process_commit(
        &self,
        step: &mut Step,
        provider: &Provider<'_, Journal<S>>,
        group: &mut MlsGroup,
        id: ConversationId,
        commit: &CommitEntry,
    ) -> Result<Changes, Option<Refusal>> {
        let message: ProtocolMessage = match parse(&commit.commit) {
            Some(MlsMessageBodyIn::PrivateMessage(message)) => message.into(),
            Some(MlsMessageBodyIn::PublicMessage(message)) => message.into(),
            _ => return Err(None),
        };
        if message.epoch().as_u64() != commit.epoch {
            return Err(None);
        }
        let processed = group.process_message(provider, message).map_err(|_| None)?;
        let sender = processed.sender().clone();
        let ProcessedMessageContent::StagedCommitMessage(commit) = processed.into_content() else {
            return Err(None);
        };
        let peer = self.state.conversations.get(&id).and_then(|row| row.peer.as_ref());
        let policy = Policy { own: &self.account, state: &self.state, peer };
        let changes = policy.check_commit(&mut step.draft, group, &sender, &commit)?;
        group.merge_staged_commit(provider, *commit).map_err(|_| None)?;
        // With nodes that the relay does not take nobody could change the group any more.
        nodes(group).map_err(|_| None)?;
        Ok(changes)
    }

    fn take_welcome(
        &mut self,
        step: &mut Step,
        entry: &Entry,
        welcome: &WelcomeEntry,
    ) -> Result<(), EngineError> {
        let id = entry.conversation;
        let known = self.state.conversations.get(&id);
        if known.is_some_and(|row| row.joined && row.epoch >= welcome.epoch) {
            return Ok(());
        }
        let peer = known.and_then(|row| row.peer.clone());
        let provider = Provider::seeded(&self.crypto, &self.journal, self.without_group(&id)?);
        let opened = self.open_welcome(step, &provider, id, welcome, peer.as_ref());
        let writes = provider.finish()?;
        match opened {
            Ok((group, leaves)) => {
                step.draft.rows(writes.into_changes(&self.journal)?);
                let peer = peer.or_else(|| self.only_peer(&leaves));
                let row = step.draft.conversation(&self.state, id);
                row.peer = peer;
                joined(row, &group);
                step.group = Some(Box::new(group));
                step.events.push(Event::Joined { conversation: id });
            }
            Err(refusal) => {
                // The relay counts this device in; the other way in is to ask for the group.
                step.draft.reset_contacts();
                let row = step.draft.conversation(&self.state, id);
                row.join = true;
                if let Some(Refusal::IdentityChanged(user, _)) = &refusal {
                    row.blocked = Some(user.clone());
                }
                if let Some(Refusal::IdentityChanged(user, key)) = refusal {
                    self.note_identity(step, user, key);
                }
                step.undecryptable(entry, Reason::Welcome);
            }
        }
        Ok(())
    }

    fn open_welcome(
        &self,
        step: &mut Step,
        provider: &Provider<'_, Journal<S>>,
        id: ConversationId,
        welcome: &WelcomeEntry,
        peer: Option<&UserName>,
    ) -> Result<(MlsGroup, Vec<Leaf>), Option<Refusal>> {
        let Some(MlsMessageBodyIn::Welcome(message)) = parse(&welcome.welcome) else {
            return Err(None);
        };
        let processed =
            ProcessedWelcome::new_from_welcome(provider, &config::join(), message).map_err(|_| None)?;
        let staged =
            JoinBuilder::new(provider, processed).skip_lifetime_validation().build().map_err(|_| None)?;
        let context = staged.group_context();
        if *context.group_id() != config::group_id(&id) || context.epoch().as_u64() != welcome.epoch {
            return Err(None);
        }
        let policy = Policy { own: &self.account, state: &self.state, peer };
        let leaves = policy.check_members(&mut step.draft, staged.members())?;
        let group = staged.into_group(provider).map_err(|_| None)?;
        nodes(&group).map_err(|_| None)?;
        Ok((group, leaves))
    }

    fn take_devices(&self, step: &mut Step, id: ConversationId, devices: &DevicesEntry) {
        let own = devices.user == self.account.user && id.0 == [0; 16];
        if own {
            let added = devices.added.iter().map(|device| Event::OwnDeviceAdded { device: *device });
            let removed = devices.removed.iter().map(|device| Event::OwnDeviceRemoved { device: *device });
            step.events.extend(added.chain(removed));
        }
        for (conversation, row) in &self.state.conversations {
            if row.joined && !devices.removed.is_empty() && (own || *conversation == id) {
                let mut revoked = row.revoked.to_vec();
                revoked.extend(devices.removed.iter().filter(|device| !row.revoked.contains(device)));
                // More than a group has leaves cannot be in it.
                if let Ok(revoked) = List::new(revoked) {
                    step.draft.conversation(&self.state, *conversation).revoked = revoked;
                }
            }
        }
    }

    fn leave(
        &self,
        step: &mut Step,
        id: ConversationId,
        mut group: Box<MlsGroup>,
    ) -> Result<(), EngineError> {
        let provider = Provider::new(&self.crypto, &self.journal);
        let deleted = group.delete(provider.storage());
        let writes = provider.finish()?;
        deleted.map_err(EngineError::mls)?;
        step.draft.rows(writes.into_changes(&self.journal)?);
        let row = step.draft.conversation(&self.state, id);
        (row.joined, row.join, row.restore, row.report) = (false, false, false, 0);
        row.left_out = false;
        (row.revoked, row.receipts) = (List::default(), List::default());
        step.events.push(Event::Removed { conversation: id });
        Ok(())
    }

    /// The other account, if there is just one and no conversation with it yet.
    pub(super) fn only_peer(&self, leaves: &[Leaf]) -> Option<UserName> {
        let mut others =
            leaves.iter().map(|leaf| &leaf.certificate.user).filter(|user| **user != self.account.user);
        let peer = others.next()?;
        let single = others.all(|user| user == peer);
        let taken = self.state.conversations.values().any(|row| row.peer.as_ref() == Some(peer));
        (single && !taken).then(|| peer.clone())
    }

    fn note_identity(&self, step: &mut Step, user: UserName, key: PublicKey) {
        roster::trust(&self.state, &mut step.draft, &user, &key);
        step.events.push(Event::IdentityChanged { user, key });
    }

    fn take_joined(
        &mut self,
        step: &mut Step,
        id: ConversationId,
    ) -> Result<Option<Box<MlsGroup>>, EngineError> {
        if !self.state.conversations.get(&id).is_some_and(|row| row.joined) {
            return Ok(None);
        }
        match self.take_group(&id) {
            Ok(group) => Ok(Some(Box::new(group))),
            Err(error) if error.is_lost() => {
                let row = step.draft.conversation(&self.state, id);
                (row.joined, row.join) = (false, true);
                step.events.push(Event::Damaged { conversation: id });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What one delivery changes.
struct Step {
    draft: Draft,
    events: Vec<Event>,
    /// The conversation's group, to be kept in memory when the draft is committed.
    group: Option<Box<MlsGroup>>,
}

impl Step {
    fn undecryptable(&mut self, entry: &Entry, reason: Reason) {
        let Entry { conversation, sender, .. } = entry;
        self.events.push(Event::Undecryptable { conversation: *conversation, sender: *sender, reason });
    }
}

/// Whether there is no key for a message's place in its sender's ratchet.
fn has_no_key<E>(error: &ProcessMessageError<E>) -> bool {
    matches!(
        error,
        ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(
            MessageDecryptionError::SecretTreeError(_)
        ))
    )
}
