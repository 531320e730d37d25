//! Who looks over the service's shoulder: plugins, behind a trait, so that the service neither knows nor waits for what they are.

use super::caller::Session;
use super::change::Change;
use super::refusal::Refusal;
use super::{Caller, Service, StoreError, decode};
use crate::records::deliveries;
use crate::store::Store;
use qpc_plugin_host::{Event, Hook, Message, Rejection};
use qpc_proto::id::{ConversationId, DeviceId, PublicKey, UserName};
use qpc_proto::message::{Entry, EntryKind, ErrorCode};

/// What is asked and told beside the protocol. Whatever nobody wants is not even looked up.
pub trait Hooks {
    /// Whether there is anybody for this hook.
    fn want(&self, hook: Hook) -> bool;

    /// Whether a message may be stored for these recipients.
    fn ask(&self, messages: Vec<Message>) -> Result<(), Rejection>;

    /// Something happened. Returns at once.
    fn tell(&self, event: Event);
}

/// Nobody.
#[derive(Clone, Copy, Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn want(&self, _: Hook) -> bool {
        false
    }

    fn ask(&self, _: Vec<Message>) -> Result<(), Rejection> {
        Ok(())
    }

    fn tell(&self, _: Event) {}
}

impl<S: Store> Service<S> {
    /// Has somebody look on from now on.
    pub fn set_hooks(&mut self, hooks: Box<dyn Hooks>) {
        self.hooks = hooks;
    }

    /// Asks whether a message may be put into the queues of these devices; gives what is to be told once it is there. The sender's own other devices
    /// are no recipients, and an account with several devices is one, by its first.
    pub(super) fn ask_hooks(
        &mut self,
        session: &Session,
        channel: ConversationId,
        payload_len: usize,
        numbers: &[u32],
    ) -> Result<Option<Event>, Refusal> {
        let tell = self.hooks.want(Hook::BatchEnqueue);
        if !tell && !self.hooks.want(Hook::MessageEnqueue) {
            return Ok(None);
        }
        let sender = self.identity_of(&session.user)?.map(|key| key.0);
        let mut recipients: Vec<UserName> = Vec::new();
        let mut messages = Vec::new();
        for number in numbers {
            let Some(device) = self.device_of(*number)? else { continue };
            let Some(row) = self.device(&device)? else { continue };
            if row.user == session.user || recipients.contains(&row.user) {
                continue;
            }
            let Some(recipient) = self.identity_of(&row.user)? else { continue };
            recipients.push(row.user);
            messages.push(Message {
                sender,
                recipient: recipient.0,
                channel: channel.0,
                payload_len,
                seq: self.deliveries(*number).next_seq + row.offset,
            });
        }
        if messages.is_empty() {
            return Ok(None);
        }
        let event = tell.then(|| Event::Stored(messages.clone()));
        match self.hooks.ask(messages) {
            Ok(()) => Ok(event),
            Err(Rejection::Busy) => Err(Refusal::with_detail(ErrorCode::Busy, 1)),
            Err(rejection) => {
                self.reason = Some(rejection.to_string()).filter(|reason| !reason.is_empty());
                Err(ErrorCode::Rejected.into())
            }
        }
    }

    /// Notes what came of an attempt to log in, and passes it on.
    pub(super) fn attempted(
        &self,
        user: &UserName,
        result: Result<Change, Refusal>,
    ) -> Result<Change, Refusal> {
        self.note_attempt(|| Ok(user.to_string()), result)
    }

    /// The same for one by a device key; of a device that is not known nobody knows the user.
    pub(super) fn attempted_by(
        &self,
        device: &DeviceId,
        result: Result<Change, Refusal>,
    ) -> Result<Change, Refusal> {
        let user = || Ok(self.device(device)?.map_or_else(String::new, |row| row.user.to_string()));
        self.note_attempt(user, result)
    }

    fn note_attempt(
        &self,
        user: impl FnOnce() -> Result<String, StoreError>,
        mut result: Result<Change, Refusal>,
    ) -> Result<Change, Refusal> {
        if self.hooks.want(Hook::Auth) {
            let user = user()?;
            match &mut result {
                Ok(change) => change.events.push(Event::Auth { user, failure: None }),
                Err(refusal) => {
                    self.hooks.tell(Event::Auth { user, failure: Some(refusal.reason.to_string()) });
                }
            }
        }
        result
    }

    /// A connection turns to something else, or ends: a login that it had begun has come to nothing.
    pub(super) fn tell_broken_off(&self, caller: &Caller) {
        if let Some(user) = caller.logging_in()
            && self.hooks.want(Hook::Auth)
        {
            let failure = Some("broken off, as a client does whose password is wrong".to_owned());
            self.hooks.tell(Event::Auth { user: user.to_string(), failure });
        }
    }

    pub(super) fn channel_event(
        &self,
        session: &Session,
        peer: &UserName,
        channel: ConversationId,
        new: bool,
    ) -> Result<Option<Event>, StoreError> {
        if !self.hooks.want(Hook::ChannelCreated) {
            return Ok(None);
        }
        let keys = self.identity_of(&session.user)?.zip(self.identity_of(peer)?);
        Ok(keys.map(|(initiator, peer)| Event::Channel {
            channel: channel.0,
            initiator: initiator.0,
            peer: peer.0,
            new,
        }))
    }

    /// What a device has fetched when it acknowledges up to an entry of its queue: messages, by conversation.
    pub(super) fn fetch_events(&self, session: &Session, up_to: u64) -> Result<Vec<Event>, StoreError> {
        if !self.hooks.want(Hook::Fetch) {
            return Ok(Vec::new());
        }
        let Some(recipient) = self.identity_of(&session.user)? else { return Ok(Vec::new()) };
        let mut counts: Vec<(ConversationId, usize)> = Vec::new();
        for seq in self.deliveries(session.number).first_seq..=up_to {
            // One that cannot be read was not fetched either.
            let Ok(Some(bytes)) = self.store.read(deliveries(session.number), seq) else { continue };
            let entry: Entry = decode(&bytes)?;
            if let Some(EntryKind::Message(_)) = entry.kind {
                match counts.iter_mut().find(|(channel, _)| *channel == entry.conversation) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((entry.conversation, 1)),
                }
            }
        }
        let event = |(channel, count): (ConversationId, usize)| Event::Fetched {
            recipient: recipient.0,
            channel: channel.0,
            count,
        };
        Ok(counts.into_iter().map(event).collect())
    }

    fn identity_of(&self, user: &UserName) -> Result<Option<PublicKey>, StoreError> {
        Ok(self.account(user)?.map(|account| account.identity_key))
    }
}
