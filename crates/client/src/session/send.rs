//! Sending: the conversation with a user, made where there is none, and the message in it.

use super::Client;
use super::sync::{FIRST_PAUSE, STEP};
use crate::auth::random;
use crate::engine::{Answered, EngineError, Event, Outgoing};
use crate::error::Error;
use crate::link::{refused, wall_clock};
use crate::state::Engine;
use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, MessageId, UserName};
use qpc_proto::limits::MAX_BODY;
use qpc_proto::message::{
    Durability, ErrorCode, FetchKeyPackages, OpenDirect, Reply, Request, SendMessage, Stored,
};
use qpc_proto::wire::Blob;
use std::time::{Duration, Instant};

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

impl Sent {
    pub(super) fn new(
        id: MessageId,
        recipient: &UserName,
        outcome: Result<Stored, Error>,
    ) -> Result<Self, Error> {
        let Stored { durability, devices, refused, .. } = outcome?;
        if devices == 0 {
            // The last one went while the message was on its way.
            return Err(Error::NoDevice(recipient.clone()));
        }
        Ok(Self { id, durability, devices, refused: refused.into_vec() })
    }
}

impl Client {
    /// Sends a message to all devices of a user, and to this account's other devices. When this returns, the relay has
    /// it. After [`Error::Unconfirmed`] and [`Error::Postponed`] it waits here and goes out, once, with the next
    /// connection: who sends it again sends it twice. After any other error it is not sent, now or later.
    pub async fn send(&mut self, recipient: &UserName, kind: Kind, body: &[u8]) -> Result<Sent, Error> {
        self.send_envelope(recipient, &envelope(kind, body, false)?).await
    }

    /// As [`Client::send`], with an [`envelope`] made before.
    pub async fn send_envelope(&mut self, recipient: &UserName, envelope: &Envelope) -> Result<Sent, Error> {
        self.check_recipient(recipient)?;
        let deadline = Instant::now() + self.options.patience;
        let conversation = self.conversation_in_time(recipient, deadline).await?;
        let outgoing = self.engine()?.send(conversation, envelope)?;
        self.outcomes.insert(envelope.id, None);
        let outcome = self.outcome(outgoing, &envelope.id, deadline).await;
        self.outcomes.remove(&envelope.id);
        match outcome {
            Ok(outcome) => Sent::new(envelope.id, recipient, outcome),
            // It is in the outbox, whatever became of the connection.
            Err(error) if error.may_pass() || matches!(error, Error::Replaced) => {
                log::info!("a message waits for the next connection: {error}");
                Err(Error::Unconfirmed)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn check_recipient(&self, recipient: &UserName) -> Result<(), Error> {
        match self.account().ok_or(Error::NotLoggedIn)?.user == *recipient {
            true => Err(Error::ToOneself(recipient.clone())),
            false => Ok(()),
        }
    }

    /// What becomes of a message. An error of this itself says nothing about the message, which goes out later.
    async fn outcome(
        &mut self,
        outgoing: Outgoing,
        id: &MessageId,
        deadline: Instant,
    ) -> Result<Result<Stored, Error>, Error> {
        self.postponed = None;
        let mut submitted = self.submit(outgoing, deadline).await.map(drop);
        loop {
            match std::mem::replace(&mut submitted, Ok(())) {
                // It is in the outbox, and goes out again, with the same number, over the next connection.
                Err(error) if error.is_of_the_link() && Instant::now() < deadline => {
                    self.give_link_up();
                    self.ensure_session(deadline).await?;
                }
                other => other?,
            }
            if let Some(outcome) = self.outcomes.get_mut(id).and_then(Option::take) {
                return Ok(outcome);
            }
            if let Some(error) = self.postponed.take() {
                return Err(Error::Postponed(error.reason.to_string()));
            }
            if Instant::now() >= deadline {
                return Err(Error::Unconfirmed);
            }
            submitted = self.settle_epoch(id, deadline).await;
        }
    }

    /// Lets the group get to where a message that came too late can be sent again.
    async fn settle_epoch(&mut self, id: &MessageId, deadline: Instant) -> Result<(), Error> {
        self.work(deadline).await?;
        if self.outcomes.get(id).is_none_or(Option::is_none) {
            self.wait(deadline.min(Instant::now() + STEP)).await?;
        }
        Ok(())
    }

    /// As [`Client::conversation`], with another connection if there was one that turns out to be dead.
    async fn conversation_in_time(
        &mut self,
        peer: &UserName,
        deadline: Instant,
    ) -> Result<ConversationId, Error> {
        loop {
            match self.conversation(peer, deadline).await {
                Err(error) if error.is_of_the_link() && Instant::now() + FIRST_PAUSE < deadline => {
                    self.give_link_up();
                }
                other => return other,
            }
        }
    }

    /// The conversation with a user, joined and ready to send in.
    pub(super) async fn conversation(
        &mut self,
        peer: &UserName,
        deadline: Instant,
    ) -> Result<ConversationId, Error> {
        loop {
            self.catch_up(deadline).await?;
            let joined = self.engine()?.direct(peer).filter(|state| state.joined);
            let joined = joined.map(|state| state.conversation);
            if let Some(id) = joined
                && self.engine()?.reaches(&id, peer)?
            {
                return Ok(id);
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
            if joined == Some(found.id) {
                return Err(Error::NoDevice(peer.clone()));
            }
            // Perhaps not the one that was known: an account of the same name is another account.
            self.engine()?.conversation_opened(peer, &found)?;
            if found.epoch == 0 {
                self.create_group(peer, found.id, deadline).await?;
                continue;
            }
            self.work(deadline).await?;
            let state = self.engine()?.direct(peer);
            if let Some(user) = state.as_ref().and_then(|state| state.blocked.clone()) {
                return Err(EngineError::IdentityChanged { user }.into());
            }
            if state.is_some_and(|state| state.joined) {
                continue;
            }
            self.wait(deadline.min(Instant::now() + STEP)).await?;
            let joined = self.engine()?.direct(peer).is_some_and(|state| state.joined);
            if found.member && !joined && self.engine()?.delivered() >= self.backlog {
                // The invitation is lost: this device joins by itself.
                self.engine()?.reconcile(found.id, Some(found.epoch))?;
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
        match self.submit(outgoing, deadline).await? {
            // Somebody was faster, or the key packages were held for too long: what to do now, the relay is asked again.
            Answered::CommitRefused { error, .. }
                if matches!(error.code, ErrorCode::WrongEpoch | ErrorCode::LeaseInvalid) =>
            {
                Ok(())
            }
            Answered::CommitRefused { error, .. } | Answered::Later { error, .. } => Err(refused(error)),
            _ => Ok(()),
        }
    }

    /// Sends a numbered request and hands its answer to the engine.
    pub(super) async fn submit(&mut self, outgoing: Outgoing, deadline: Instant) -> Result<Answered, Error> {
        let Outgoing { number, request } = outgoing;
        loop {
            let reply = self.exchange(number, &request).await?;
            let answered = self.engine()?.answered(number, &reply)?;
            match &answered {
                Answered::MessageStored { id, stored } => self.tell_outcome(id, &request, Ok(stored.clone())),
                Answered::Refused { message: Some(id), error } => {
                    self.tell_outcome(id, &request, Err(refused(error.clone())));
                }
                Answered::Later { seconds, error, .. } => {
                    let pause = Duration::from_secs((*seconds).clamp(1, 30));
                    if Instant::now() + pause >= deadline {
                        // It stays in the outbox; who waits for it learns why it has not gone out.
                        self.following.send_again_in(*seconds);
                        if let Request::SendMessage(_) = &request {
                            self.postponed = Some(error.clone());
                        }
                        return Ok(answered);
                    }
                    self.pause(pause).await;
                    continue;
                }
                _ => {}
            }
            return Ok(answered);
        }
    }

    fn tell_outcome(&mut self, id: &MessageId, request: &Request, outcome: Result<Stored, Error>) {
        if let Some(waiting) = self.outcomes.get_mut(id) {
            *waiting = Some(outcome);
            return;
        }
        // Who sent it was told that it goes out later. Now it does, or it does not.
        let Request::SendMessage(SendMessage { conversation, .. }) = request else { return };
        let known = self.engine.iter().flat_map(Engine::conversations);
        let recipient =
            known.filter(|known| known.conversation == *conversation).find_map(|known| known.peer);
        let event = |device, reason| Event::NotSent {
            conversation: *conversation,
            id: *id,
            recipient: recipient.clone(),
            device,
            reason,
        };
        let full = "its queue at the relay is full";
        let events: Vec<Event> = match outcome {
            Err(error) => vec![event(None, error.to_string())],
            Ok(stored) if stored.devices == 0 => vec![event(None, "there is no device to get it".to_owned())],
            Ok(stored) => stored.refused.iter().map(|device| event(Some(*device), full.to_owned())).collect(),
        };
        self.remember(events);
    }
}

/// A message with an id of its own; with `receipt` the recipient's devices are asked to say that they have stored it.
pub fn envelope(kind: Kind, body: &[u8], receipt: bool) -> Result<Envelope, Error> {
    let body: Blob<MAX_BODY> = Blob::new(body.to_vec()).map_err(|body| Error::MessageTooLong(body.len()))?;
    Ok(Envelope { receipt, ..Envelope::new(MessageId(random()?), wall_clock(), kind, body) })
}
