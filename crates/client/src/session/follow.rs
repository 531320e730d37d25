//! Following along: what happens, one thing after another, for a program that has a loop of its own.
//!
//! [`Client::next`] keeps the connection, takes what comes and sends what was [queued](Client::queue); it never ends by
//! itself. Whoever polls it has the client only back when it has something to tell, or was [interrupted](Interrupt).

use super::Client;
use super::sync::{FIRST_PAUSE, LONGEST_PAUSE, MAINTENANCE, STEP};
use crate::auth::random;
use crate::engine::{EngineError, Event, InboxMessage};
use crate::error::Error;
use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, MessageId, UserName};
use qpc_proto::message::ErrorCode;
use qpc_transport::executor::{sleep_until, unless};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Sent;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// There is a connection, and this device has its session.
    Connected,
    /// There is none any more; another is being tried for.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// Something about a conversation or a device.
    Event(Event),
    /// A message came.
    Message(InboxMessage),
    /// There is more in the inbox; only with [`Options::keep_inbox`](super::Options::keep_inbox).
    Inbox,
    /// A queued message cannot be sent.
    NotSent {
        /// Which.
        id: MessageId,
        /// To whom.
        recipient: UserName,
        /// Why.
        error: Error,
    },
    /// A device has stored a message.
    Receipt {
        /// Which message.
        id: MessageId,
        /// In which conversation it was.
        conversation: ConversationId,
        /// Whose device.
        user: UserName,
        /// Which.
        device: DeviceId,
    },
    /// The relay has a queued message.
    Sent {
        /// To whom.
        recipient: UserName,
        /// What the relay said.
        sent: Sent,
    },
}

/// Asks [`Client::next`] to come to an end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on it ends as soon as nothing is half done, and tells nothing.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    async fn wait(&self) {
        poll_fn(|_| if self.is_set() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// What is kept between two updates.
#[derive(Default)]
pub(super) struct Following {
    /// Messages that were not even encrypted yet.
    queued: VecDeque<(UserName, Envelope)>,
    /// Queued messages that are in the outbox.
    submitted: Vec<(MessageId, UserName)>,
    /// When what is in the outbox is sent again: the relay wanted to be left alone until then.
    pub(super) again_at: Option<Instant>,
    /// With which number that begins.
    again_from: u64,
    pub(super) updates: VecDeque<Update>,
    inbox: VecDeque<InboxMessage>,
    /// The last message of the inbox that the program was given.
    given: Option<u64>,
    /// How far the inbox was when the program was last told that there is more.
    told_inbox: u64,
    told_connected: bool,
    /// Why the connection was lost.
    lost: Option<String>,
    /// Why there was none when it was tried last.
    trouble: Option<String>,
    /// Recipients whose held messages wait, and until when.
    pub(super) waits: BTreeMap<UserName, Instant>,
    retry_at: Option<Instant>,
    pause: Duration,
}

impl Following {
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The relay wants to be left alone for so many seconds.
    pub(super) fn send_again_in(&mut self, seconds: u64) {
        let at = Instant::now() + Duration::from_secs(seconds.clamp(1, 300));
        self.again_at = self.again_at.max(Some(at));
    }
}

impl Client {
    /// Journals a message to all devices of a user, be there a connection or not. When this returns it survives whatever
    /// happens; [`Client::next`] sends it when it can, once, and says what became of it.
    pub fn hold(&mut self, recipient: &UserName, envelope: &Envelope) -> Result<(), Error> {
        self.check_recipient(recipient)?;
        self.engine()?.hold(recipient, envelope).map_err(|error| match error {
            EngineError::TooManyHeld => Error::TooManyQueued,
            error => error.into(),
        })
    }

    /// Queues a message to all devices of a user. [`Client::next`] sends it, and says what became of it; until then it is
    /// in memory only.
    pub fn queue(&mut self, recipient: &UserName, envelope: Envelope) -> Result<(), Error> {
        self.check_recipient(recipient)?;
        if self.following.queued.len() + self.following.submitted.len() >= MAX_QUEUED {
            return Err(Error::TooManyQueued);
        }
        self.following.queued.push_back((recipient.clone(), envelope));
        Ok(())
    }

    /// The next thing that happens; `None` if it was interrupted. The messages it has told of count as taken when it has
    /// told of all that were there and is called again; until then they come again after a restart. An error is one
    /// that trying again does not help against.
    pub async fn next(&mut self, interrupt: &Interrupt) -> Result<Option<Update>, Error> {
        let mut looked = false;
        loop {
            if let Some(update) = self.update()? {
                return Ok(Some(update));
            }
            let done = match looked {
                false => self.look(interrupt).await,
                true => self.idle(interrupt).await,
            };
            looked = !looked;
            match done {
                Ok(Some(())) => {}
                Ok(None) => return Ok(None),
                // While nothing can be written nothing can be taken from the relay either.
                Err(error) if error.may_pass() || error.is_full() => {
                    self.lose(&error)?;
                    looked = false;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the program was given by [`Client::next`] is its own for good; the rest is left for others to give.
    pub(super) fn put_inbox_back(&mut self) -> Result<(), Error> {
        self.following.inbox.clear();
        match self.following.given.take() {
            Some(position) => self.confirm(position),
            None => Ok(()),
        }
    }

    /// What there is to tell already.
    fn update(&mut self) -> Result<Option<Update>, Error> {
        if let Some(update) = self.following.updates.pop_front() {
            return Ok(Some(update));
        }
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(Update::Event(event)));
        }
        let connected = self.is_connected();
        if connected != std::mem::replace(&mut self.following.told_connected, connected) {
            return Ok(Some(match connected {
                true => Update::Connected,
                false => Update::Disconnected { reason: self.following.lost.take().unwrap_or_default() },
            }));
        }
        let answered = |(id, _): &(MessageId, _)| self.outcomes.get(id).is_some_and(Option::is_some);
        if let Some(index) = self.following.submitted.iter().position(answered) {
            let (id, recipient) = self.following.submitted.remove(index);
            let outcome = self.outcomes.remove(&id).flatten();
            return Ok(outcome.map(|outcome| match Sent::new(id, &recipient, outcome) {
                Ok(sent) => Update::Sent { recipient, sent },
                Err(error) => Update::NotSent { id, recipient, error },
            }));
        }
        if self.options.keep_inbox {
            let next = self.engine()?.inbox_state().next;
            let told = std::mem::replace(&mut self.following.told_inbox, next);
            return Ok((told != next).then_some(Update::Inbox));
        }
        if self.following.inbox.is_empty() {
            if let Some(position) = self.following.given.take() {
                self.confirm(position)?;
            }
            self.following.inbox = self.engine()?.inbox(AT_ONCE)?.into();
        }
        let Some(message) = self.following.inbox.pop_front() else { return Ok(None) };
        self.following.given = Some(message.position);
        if message.kind != Kind::Receipt {
            return Ok(Some(Update::Message(message)));
        }
        let receipt = |id: &[u8; 16]| Update::Receipt {
            id: MessageId(*id),
            conversation: message.conversation,
            user: message.sender.clone(),
            device: message.device,
        };
        self.following.updates.extend(message.body.as_chunks().0.iter().map(receipt));
        Ok(self.following.updates.pop_front())
    }

    /// Does what there is to do.
    async fn look(&mut self, interrupt: &Interrupt) -> Result<Option<()>, Error> {
        if self.reconnect_in_time(interrupt).await?.is_none() {
            return Ok(None);
        }
        if !self.following.told_connected {
            // First that, then what became of messages.
            return Ok(Some(()));
        }
        self.catch_up(Instant::now() + STEP).await?;
        self.send_again(interrupt).await?;
        self.send_queued(interrupt).await?;
        self.send_held(interrupt).await?;
        Ok(Some(()))
    }

    /// Waits for something to come, or for something to be due.
    async fn idle(&mut self, interrupt: &Interrupt) -> Result<Option<()>, Error> {
        if interrupt.is_set() {
            return Ok(None);
        }
        let now = Instant::now();
        let behind = self.is_behind()?;
        let following = &self.following;
        // A message may wait for its group to get somewhere, and what there was in the queue may have expired.
        let waiting =
            following.again_at.or_else(|| (!self.outcomes.is_empty() || behind).then_some(now + STEP));
        // As long as the relay wants to be left alone nothing of this is due.
        let held = following.waits.values().copied().min().filter(|_| following.again_at.is_none());
        let until = [waiting, held].into_iter().flatten().fold(now + MAINTENANCE, Instant::min);
        self.wait_unless(interrupt.wait(), until).await
    }

    /// A connection with a session, made anew if it has to be and it is time; `None` if it was interrupted.
    async fn reconnect_in_time(&mut self, interrupt: &Interrupt) -> Result<Option<()>, Error> {
        if self.has_session().await? {
            return Ok(Some(()));
        }
        let retry_at = self.following.retry_at.unwrap_or_else(Instant::now);
        if unless(interrupt.wait(), sleep_until(retry_at)).await.is_none() {
            return Ok(None);
        }
        let deadline = Instant::now() + self.options.patience;
        match unless(interrupt.wait(), self.open_link(deadline)).await {
            None => return Ok(None),
            Some(opened) => opened?,
        }
        // Interrupted now it would begin again with another connection, and never end if it were again and again.
        self.begin_session(Instant::now()).await?;
        (self.following.retry_at, self.following.pause) = (None, FIRST_PAUSE);
        self.following.trouble = None;
        log::info!("connected");
        Ok(Some(()))
    }

    fn lose(&mut self, error: &Error) -> Result<(), Error> {
        log::info!("no connection: {error}");
        self.give_link_up();
        let following = &mut self.following;
        following.lost.get_or_insert(error.to_string());
        following.trouble = Some(error.to_string());
        let pause = following.pause.max(FIRST_PAUSE);
        following.retry_at = Some(Instant::now() + pause + pause * (u32::from(random::<1>()?[0]) % 64) / 256);
        following.pause = (pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// Sends what the relay did not want earlier. Interrupted it stops behind the request it is at, and goes on there the
    /// next time.
    pub(super) async fn send_again(&mut self, interrupt: &Interrupt) -> Result<(), Error> {
        if self.following.again_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        self.following.again_at = None;
        let from = std::mem::take(&mut self.following.again_from);
        let mut whole = from == 0;
        for outgoing in self.engine()?.outbox()?.into_iter().filter(|outgoing| outgoing.number >= from) {
            let number = outgoing.number;
            self.submit(outgoing, Instant::now()).await?;
            if interrupt.is_set() {
                self.following.again_from = number + 1;
                whole = false;
                break;
            }
        }
        if !whole {
            self.following.again_at.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    async fn send_queued(&mut self, interrupt: &Interrupt) -> Result<(), Error> {
        while let Some((recipient, envelope)) = self.following.queued.front().cloned() {
            let deadline = Instant::now() + self.options.patience;
            let prepared = match self.conversation(&recipient, deadline).await {
                Ok(conversation) => self.engine()?.send(conversation, &envelope).map_err(Error::from),
                Err(error) => Err(error),
            };
            match prepared {
                // The message is not to blame.
                Err(error)
                    if error.is_of_the_link() && self.link.as_ref().is_none_or(|link| link.is_closed()) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.following.queued.pop_front();
                    let id = envelope.id;
                    self.following.updates.push_back(Update::NotSent { id, recipient, error });
                }
                Ok(outgoing) => {
                    // From here on it is in the outbox, and goes out whatever becomes of this connection.
                    self.following.queued.pop_front();
                    self.following.submitted.push((envelope.id, recipient));
                    self.outcomes.insert(envelope.id, None);
                    self.submit(outgoing, Instant::now()).await?;
                }
            }
            if interrupt.is_set() {
                break;
            }
        }
        Ok(())
    }

    /// Sends what is held, the oldest first. What only has to wait stays held, and what is behind it to the same recipient
    /// waits with it.
    pub(super) async fn send_held(&mut self, interrupt: &Interrupt) -> Result<(), Error> {
        // What the relay has put off waits in the outbox, which is not to fill up behind that.
        if self.following.again_at.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        self.following.waits.retain(|_, until| *until > now);
        let mut from = 0;
        while self.following.again_at.is_none() && self.following.submitted.len() < MAX_QUEUED {
            let Some((number, recipient, envelope)) = self.engine()?.next_held(from)? else { break };
            from = number + 1;
            if self.following.waits.contains_key(&recipient) {
                continue;
            }
            let deadline = Instant::now() + self.options.patience;
            let prepared = match self.conversation(&recipient, deadline).await {
                Ok(id) => self.engine()?.send_held(number, id, &envelope).map_err(Error::from),
                Err(error) => Err(error),
            };
            match prepared {
                Err(error) if self.has_ended_with(&error) => return Err(error),
                Err(error) if error.is_of_the_message() => {
                    self.engine()?.drop_held(number)?;
                    let id = envelope.id;
                    self.following.updates.push_back(Update::NotSent { id, recipient, error });
                }
                // Its sender was told that it goes out by itself.
                Err(error) => {
                    log::info!("what is held for {recipient} waits: {error}");
                    self.following.waits.insert(recipient, Instant::now() + HELD_PAUSE);
                }
                Ok(outgoing) => {
                    self.following.submitted.push((envelope.id, recipient));
                    self.outcomes.insert(envelope.id, None);
                    self.submit(outgoing, Instant::now()).await?;
                }
            }
            if interrupt.is_set() {
                break;
            }
        }
        Ok(())
    }

    /// Whether an error is the session's or the device's, and not one message's or one conversation's.
    fn has_ended_with(&self, error: &Error) -> bool {
        match error {
            Error::NotLoggedIn | Error::Replaced | Error::Revoked => true,
            Error::Refused { code: ErrorCode::NotAuthenticated, .. } => true,
            error if error.is_full() => false,
            Error::Engine(error) => error.is_of_the_device(),
            error => error.may_pass() && self.link.as_ref().is_none_or(|link| link.is_closed()),
        }
    }
}

/// How long what is held waits if the relay could not take it.
const HELD_PAUSE: Duration = Duration::from_secs(30);
/// Messages that may wait to be sent.
const MAX_QUEUED: usize = 64;
/// Messages read from the inbox at a time; the longest take 48 KB each.
const AT_ONCE: usize = 16;
