//! Requests that change state: journalled before they are sent, and kept until they are answered.

use openmls::key_packages::KeyPackage;
use openmls::prelude::{MlsMessageOut, OpenMlsProvider as _};
use qpc_journal::{Journal, Storage};
use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, MessageId, UserName};
use qpc_proto::limits::MAX_KEY_PACKAGE;
use qpc_proto::message::{
    ClientFrame, Error, ErrorCode, Reply, Request, RevokeDevice, SendMessage, Stored, Submitter, ThisDevice,
    UploadKeyPackages,
};
use qpc_proto::wire::{Blob, List, Message};
use tls_codec::Serialize as _;

use super::error::{EngineError, Unreadable};
use super::groups::{Applied, blob};
use super::records::{
    HELD, HeldRow, KEY_PACKAGES, KeyPackagesPurpose, KeyPackagesRow, MessagePurpose, OUTBOX, OutboxRow,
    Purpose, RevokePurpose, key,
};
use super::state::{Draft, Waiting, number_of, read_outbox};
use super::{Engine, Outgoing};
use crate::mls::credential::credential;
use crate::mls::{CIPHERSUITE, Provider, config, key_package_key};

/// What an answer meant.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answered {
    /// The commit is the group's; this device is in the new epoch.
    CommitAccepted {
        /// Whose.
        conversation: ConversationId,
    },
    /// The commit is not the group's, and forgotten.
    CommitRefused {
        /// Whose.
        conversation: ConversationId,
        /// The group's epoch at the relay, if it was named.
        epoch: Option<u64>,
        /// Why.
        error: Error,
    },
    /// Done, or answered before.
    Done,
    /// The relay cannot say now: the request stays in the outbox and is to be sent again after so many seconds.
    Later {
        /// Which.
        number: u64,
        /// How long to wait.
        seconds: u64,
        /// Why.
        error: Error,
    },
    /// The relay has the message.
    MessageStored {
        /// Which.
        id: MessageId,
        /// What the relay said.
        stored: Stored,
    },
    /// The message must be encrypted anew: [`Engine::retry_message`], once [`super::Want::Retry`] says that the group
    /// is where it must be.
    MessageWrongEpoch {
        /// The request's number.
        number: u64,
        /// The group's epoch at the relay.
        epoch: u64,
    },
    /// The relay refused, and the request is forgotten.
    Refused {
        /// The message, if it was one and no receipt.
        message: Option<MessageId>,
        /// Why.
        error: Error,
    },
}

impl<S: Storage> Engine<S> {
    /// The requests that wait for an answer, by number. They are sent again, as they are, over a new connection. One that
    /// is damaged is dropped.
    pub fn outbox(&mut self) -> Result<Vec<Outgoing>, EngineError> {
        let mut waiting = Vec::new();
        let mut draft = self.state.draft();
        let mut lost = false;
        for number in self.state.outbox.keys().copied() {
            match self.waiting_request(number) {
                Ok(request) => waiting.extend(request.map(|request| Outgoing { number, request })),
                Err(error) if error.is_lost() => {
                    log::error!("request {number} is lost: {error}");
                    draft.set_waiting(number, None);
                    lost = true;
                }
                Err(error) => return Err(error),
            }
        }
        if lost {
            self.commit(draft)?;
        }
        Ok(waiting)
    }

    /// Takes the relay's answer to a numbered request.
    pub fn answered(&mut self, number: u64, reply: &Reply) -> Result<Answered, EngineError> {
        let Some(row) = self.outbox_row(number)? else {
            return Ok(Answered::Done);
        };
        if let Reply::Error(error) = reply
            && let Some(seconds) = wait_for(error)
        {
            return Ok(Answered::Later { number, seconds, error: error.clone() });
        }
        let mut draft = self.state.draft();
        // The relay keeps no account of what it refused. Told of that number, it would think that its store went back in time.
        if !matches!(reply, Reply::Error(_)) {
            draft.session.answered = draft.session.answered.max(number);
        }
        draft.set_waiting(number, None);
        let mut applied = None;
        let answered = match (row.purpose, reply) {
            (Some(Purpose::Commit(commit)), Reply::Accepted(_)) => {
                let conversation = commit.conversation;
                match self.apply_commit(&mut draft, &commit) {
                    Ok(Applied::Group(group)) => applied = Some(group),
                    Ok(Applied::Outdated) => {}
                    Err(error) if error.is_lost() => {
                        draft.conversation(&self.state, conversation).join = true
                    }
                    Err(error) => return Err(error),
                }
                self.groups.remove(&conversation);
                Answered::CommitAccepted { conversation }
            }
            (Some(Purpose::Commit(commit)), Reply::Error(error)) => {
                let conversation = commit.conversation;
                let epoch = self.refused_in(&mut draft, conversation, error);
                Answered::CommitRefused { conversation, epoch, error: error.clone() }
            }
            (Some(Purpose::Restore(restore)), Reply::Accepted(_)) => {
                let row = draft.conversation(&self.state, restore.conversation);
                (row.restore, row.reconcile) = (false, row.epoch != restore.epoch);
                row.left_out = false;
                Answered::Done
            }
            (Some(Purpose::Restore(restore)), Reply::Error(error)) => {
                draft.conversation(&self.state, restore.conversation).restore = false;
                self.refused_in(&mut draft, restore.conversation, error);
                Answered::Refused { message: None, error: error.clone() }
            }
            (Some(Purpose::Message(message)), Reply::Stored(stored)) if !is_receipt(&message) => {
                Answered::MessageStored { id: message.id, stored: stored.clone() }
            }
            (Some(Purpose::Message(message)), Reply::Error(error)) => {
                match self.refused_in(&mut draft, message.conversation, error) {
                    Some(epoch) => {
                        let row = OutboxRow {
                            request: Default::default(),
                            purpose: Some(MessagePurpose { retry_in: epoch, ..message }.into()),
                        };
                        draft.set_waiting(number, Some(row));
                        Answered::MessageWrongEpoch { number, epoch }
                    }
                    None => {
                        let id = (!is_receipt(&message)).then_some(message.id);
                        Answered::Refused { message: id, error: error.clone() }
                    }
                }
            }
            (Some(Purpose::KeyPackages(_)), Reply::Error(error)) => {
                Answered::Refused { message: None, error: error.clone() }
            }
            (Some(Purpose::Revoke(_)), Reply::Error(error)) => {
                Answered::Refused { message: None, error: error.clone() }
            }
            _ => Answered::Done,
        };
        self.commit(draft)?;
        if let Some(group) = applied
            && let Answered::CommitAccepted { conversation } = &answered
        {
            self.keep_group(*conversation, *group);
        }
        Ok(answered)
    }

    /// Encrypts a message for the conversation.
    pub fn send(&mut self, id: ConversationId, envelope: &Envelope) -> Result<Outgoing, EngineError> {
        let draft = self.state.draft();
        self.encrypt(draft, id, envelope)
    }

    /// Journals a message that cannot be encrypted yet, be it that there is no connection or no conversation.
    pub fn hold(&mut self, recipient: &UserName, envelope: &Envelope) -> Result<(), EngineError> {
        let envelope = blob(envelope.encode())?;
        if self.state.held.len() >= MAX_HELD || self.held_bytes() + envelope.len() > MAX_HELD_BYTES {
            return Err(EngineError::TooManyHeld);
        }
        let number = self.state.held.keys().next_back().map_or(1, |last| last + 1);
        let mut draft = self.state.draft();
        draft.set_held(number, Some(HeldRow { recipient: recipient.clone(), envelope }));
        self.commit(draft)
    }

    /// Whether half of what may be held is.
    pub fn is_half_full(&self) -> bool {
        self.state.held.len() >= MAX_HELD / 2 || self.held_bytes() >= MAX_HELD_BYTES / 2
    }

    fn held_bytes(&self) -> usize {
        self.state.held.values().sum()
    }

    /// How many messages are held, and how many wait for the relay's answer.
    pub fn waiting_messages(&self) -> usize {
        let sent = self.state.outbox.values().filter(|waiting| matches!(waiting, Waiting::Message(..)));
        self.state.held.len() + sent.count()
    }

    /// The first held message from this number on: its own number, whom it is for, and it. One that is damaged is dropped.
    pub fn next_held(&mut self, from: u64) -> Result<Option<(u64, UserName, Envelope)>, EngineError> {
        while let Some((&number, _)) = self.state.held.range(from..).next() {
            match self.held(number) {
                Err(error) if error.is_lost() => {
                    log::error!("a message that waited is lost: {error}");
                    self.drop_held(number)?;
                }
                held => return held.map(|(recipient, envelope)| Some((number, recipient, envelope))),
            }
        }
        Ok(None)
    }

    /// Encrypts a message that was held, which goes from there to the outbox in one step.
    pub fn send_held(
        &mut self,
        number: u64,
        id: ConversationId,
        envelope: &Envelope,
    ) -> Result<Outgoing, EngineError> {
        let mut draft = self.state.draft();
        draft.set_held(number, None);
        self.encrypt(draft, id, envelope)
    }

    /// Forgets a message that was held.
    pub fn drop_held(&mut self, number: u64) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        draft.set_held(number, None);
        self.commit(draft)
    }

    /// Tells a conversation, in one message with this id and time, what was stored of those that asked for it.
    pub fn send_receipt(
        &mut self,
        id: ConversationId,
        message: MessageId,
        time: u64,
    ) -> Result<Outgoing, EngineError> {
        let stored = &self.conversation_row(&id)?.receipts;
        let envelope = Envelope::receipt(message, time, stored).ok_or(EngineError::TooLarge)?;
        let mut draft = self.state.draft();
        draft.conversation(&self.state, id).receipts = List::default();
        self.encrypt(draft, id, &envelope)
    }

    /// Tells nobody what was stored of those that asked for it.
    pub fn withhold_receipt(&mut self, id: ConversationId) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        draft.conversation(&self.state, id).receipts = List::default();
        self.commit(draft)
    }

    /// Encrypts a message anew that was refused for its epoch. It gets another number.
    pub fn retry_message(&mut self, number: u64) -> Result<Outgoing, EngineError> {
        let row = self.outbox_row(number)?.ok_or(EngineError::NotWaiting(number))?;
        let Some(Purpose::Message(message)) = row.purpose.filter(|_| row.request.is_empty()) else {
            return Err(EngineError::NotWaiting(number));
        };
        let mut draft = self.state.draft();
        draft.set_waiting(number, None);
        self.encrypt(draft, message.conversation, &Envelope::decode(&message.envelope)?)
    }

    /// Takes a message back that was never sent to the relay. One that was may have been delivered, whatever is known.
    pub fn withdraw_message(&mut self, number: u64) -> Result<(), EngineError> {
        if !matches!(self.state.outbox.get(&number), Some(Waiting::Message(..))) {
            return Err(EngineError::NotWaiting(number));
        }
        let mut draft = self.state.draft();
        draft.set_waiting(number, None);
        self.commit(draft)
    }

    /// Makes key packages and uploads them.
    pub fn upload_key_packages(&mut self) -> Result<Outgoing, EngineError> {
        let mut draft = self.state.draft();
        let provider = Provider::new(&self.crypto, &self.journal);
        let made = self.make_key_packages(&provider);
        let mut writes = provider.finish()?;
        let Made { one_time, last_resort, keys } = made?;
        for outdated in self.outdated_key_packages()? {
            let row = self.journal.get(&outdated)?.ok_or(Unreadable::Inconsistent)?;
            KeyPackagesRow::decode(&row)?.keys.iter().for_each(|key| writes.delete_key_package(key));
            draft.batch.delete(outdated);
        }
        draft.rows(writes.into_changes(&self.journal)?);

        draft.session.key_packages_upload += 1;
        let row = KeyPackagesRow { keys: List::new(keys).map_err(|_| EngineError::TooLarge)? };
        draft.batch.put(key(KEY_PACKAGES, &draft.session.key_packages_upload.to_be_bytes()), row.encode());
        let request = Request::UploadKeyPackages(UploadKeyPackages {
            replace: draft.session.key_packages_replace,
            one_time: List::new(one_time).map_err(|_| EngineError::TooLarge)?,
            last_resort,
        });
        (draft.session.key_packages_due, draft.session.key_packages_replace) = (false, false);
        self.queue(draft, request, KeyPackagesPurpose {}.into())
    }

    /// Revokes a device of this account.
    pub fn revoke_device(&mut self, device: DeviceId) -> Result<Outgoing, EngineError> {
        let draft = self.state.draft();
        self.queue(draft, Request::RevokeDevice(RevokeDevice { device }), RevokePurpose {}.into())
    }

    fn queue(
        &mut self,
        mut draft: Draft,
        request: Request,
        purpose: Purpose,
    ) -> Result<Outgoing, EngineError> {
        let number = draft.queue(encode_request(&request), purpose)?;
        self.commit(draft)?;
        Ok(Outgoing { number, request })
    }

    fn encrypt(
        &mut self,
        mut draft: Draft,
        id: ConversationId,
        envelope: &Envelope,
    ) -> Result<Outgoing, EngineError> {
        let mut group = self.take_group(&id)?;
        let provider = Provider::new(&self.crypto, &self.journal);
        let payload = group
            .create_message(&provider, &self.device, &envelope.encode_padded())
            .map_err(EngineError::mls)
            .and_then(|payload| payload.tls_serialize_detached().map_err(EngineError::mls));
        let writes = provider.finish()?;
        let request = Request::SendMessage(SendMessage {
            conversation: id,
            epoch: group.epoch().as_u64(),
            payload: blob(payload?)?,
            submitter: Some(Submitter::ThisDevice(ThisDevice {})),
        });
        draft.rows(writes.into_changes(&self.journal)?);
        let purpose = MessagePurpose {
            conversation: id,
            id: envelope.id,
            envelope: blob(envelope.encode())?,
            retry_in: 0,
        };
        let outgoing = self.queue(draft, request, purpose.into())?;
        self.keep_group(id, group);
        Ok(outgoing)
    }

    /// What a refusal says about where the group is: notes what has to be done, and gives the epoch in which a message
    /// can be sent again.
    fn refused_in(&self, draft: &mut Draft, id: ConversationId, error: &Error) -> Option<u64> {
        let row = draft.conversation(&self.state, id);
        match error.code {
            ErrorCode::WrongEpoch => {
                // A relay that is behind its members went back in time.
                if row.joined && error.detail < row.epoch {
                    row.restore = true;
                }
                Some(error.detail.max(row.epoch))
            }
            ErrorCode::NotMember if row.joined => {
                (row.join, row.left_out) = (true, true);
                Some(row.epoch + 1)
            }
            // Whether it was taken is not known; members read a message with the same id once.
            ErrorCode::StaleNumber => {
                row.reconcile |= row.joined;
                Some(row.epoch)
            }
            ErrorCode::UnknownConversation if row.joined => {
                row.restore = true;
                Some(row.epoch)
            }
            _ => None,
        }
    }

    /// `None` for a request that must be made anew.
    fn waiting_request(&self, number: u64) -> Result<Option<Request>, EngineError> {
        let row = self.outbox_row(number)?.ok_or(Unreadable::Inconsistent)?;
        (!row.request.is_empty()).then(|| decode_request(&row.request)).transpose()
    }

    fn outbox_row(&self, number: u64) -> Result<Option<OutboxRow>, EngineError> {
        read_outbox(&self.journal, &key(OUTBOX, &number.to_be_bytes()))
    }

    fn held(&self, number: u64) -> Result<(UserName, Envelope), EngineError> {
        let row = self.journal.get(&key(HELD, &number.to_be_bytes()))?.ok_or(Unreadable::Inconsistent)?;
        let HeldRow { recipient, envelope } = HeldRow::decode(&row)?;
        Ok((recipient, Envelope::decode(&envelope)?))
    }

    fn make_key_packages(&self, provider: &Provider<'_, Journal<S>>) -> Result<Made, EngineError> {
        let mut keys = Vec::new();
        let mut make = |last_resort: bool| {
            let mut builder = KeyPackage::builder()
                .key_package_lifetime(config::lifetime())
                .leaf_node_capabilities(config::capabilities());
            if last_resort {
                builder = builder.mark_as_last_resort();
            }
            let package = builder
                .build(CIPHERSUITE, provider, &self.device, credential(&self.account.certificate))
                .map_err(EngineError::mls)?
                .into_key_package();
            keys.push(blob(key_package_key(
                &package.hash_ref(provider.crypto()).map_err(EngineError::mls)?,
            )?)?);
            blob(MlsMessageOut::from(package).tls_serialize_detached().map_err(EngineError::mls)?)
        };
        let one_time = (0..ONE_TIME).map(|_| make(false)).collect::<Result<Vec<_>, _>>()?;
        let last_resort = make(true)?;
        Ok(Made { one_time, last_resort, keys })
    }

    /// Keys of the rows of uploads that are so long ago that the relay has none of them left.
    fn outdated_key_packages(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        let kept_from = (self.state.session.key_packages_upload + 2).saturating_sub(KEPT_UPLOADS);
        let mut outdated = Vec::new();
        for key in self.journal.keys(&[KEY_PACKAGES]) {
            if number_of(&key[1..])? < kept_from {
                outdated.push(key.to_vec());
            }
        }
        Ok(outdated)
    }
}

pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    ClientFrame { id: 0, number: 0, request: Some(request.clone()) }.encode()
}

fn decode_request(bytes: &[u8]) -> Result<Request, EngineError> {
    Ok(ClientFrame::decode(bytes)?.request.ok_or(Unreadable::Inconsistent)?)
}

/// Whether it says what was received: nobody waits to hear what becomes of that.
fn is_receipt(message: &MessagePurpose) -> bool {
    Envelope::decode(&message.envelope).is_ok_and(|envelope| envelope.kind == Kind::Receipt)
}

/// How long to wait if the relay's error says nothing about the request itself.
fn wait_for(error: &Error) -> Option<u64> {
    match error.code {
        ErrorCode::Busy | ErrorCode::RateLimited => Some(error.detail.clamp(1, MAX_WAIT)),
        ErrorCode::Internal
        | ErrorCode::StorageFull
        | ErrorCode::StorageReadOnly
        | ErrorCode::StorageFailed => Some(RETRY),
        ErrorCode::NotAuthenticated => Some(1),
        _ => None,
    }
}

/// Key packages that were made.
struct Made {
    one_time: Vec<Blob<MAX_KEY_PACKAGE>>,
    last_resort: Blob<MAX_KEY_PACKAGE>,
    /// Where their secrets are stored.
    keys: Vec<Blob<64>>,
}

/// One-time key packages in an upload.
const ONE_TIME: usize = 10;
/// Uploads whose private keys are kept. The relay hands out the oldest first and asks for more when few are left, so
/// that none of an earlier one can be in a Welcome that is still to come.
const KEPT_UPLOADS: u64 = 4;
const MAX_WAIT: u64 = 3600;
/// Messages that may be held, and their bytes: they are on flash.
const MAX_HELD: usize = 256;
const MAX_HELD_BYTES: usize = 512 * 1024;
const RETRY: u64 = 30;
