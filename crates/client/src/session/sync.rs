//! Keeping up with the relay: sessions opened anew, deliveries taken, and what follows from them.

use super::{Client, Ended};
use crate::auth::random;
use crate::engine::{Event, InboxMessage, Want};
use crate::error::Error;
use crate::link::{CREDIT, Link, Push, refused, wall_clock};
use qpc_proto::id::{ConversationId, MessageId};
use qpc_proto::limits::MAX_CLAIM;
use qpc_proto::message::{
    Ack, Conversation, Credit, Durability, Entry, ErrorCode, FetchDelivery, FetchGroup, ListConversations,
    NoticeKind, Reply, ReportCommit, Request,
};
use qpc_transport::executor::{sleep, timeout, timeout_at, unless};
use std::future::pending;
use std::time::{Duration, Instant};

impl Client {
    /// The messages that are there, or else come in time; empty if none does. [`Client::confirm`] them: they come
    /// again until then. A relay that is gone meanwhile is waited for.
    pub async fn receive(&mut self, patience: Duration) -> Result<Vec<InboxMessage>, Error> {
        self.put_inbox_back()?;
        let deadline = Instant::now() + patience.max(GRACE);
        loop {
            match self.catch_up(deadline).await {
                Ok(()) => {}
                Err(error) if error.is_of_the_link() => {
                    self.give_link_up();
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
                Err(error) if error.is_of_the_link() => self.give_link_up(),
                other => other?,
            }
        }
    }

    /// The program has the messages up to this position for good.
    pub fn confirm(&mut self, position: u64) -> Result<(), Error> {
        Ok(self.engine()?.take_inbox(position)?)
    }

    /// After a session was opened: unanswered requests, key packages, conversations, what waits in the queue.
    pub(super) async fn synchronise(&mut self, deadline: Instant) -> Result<(), Error> {
        for outgoing in self.engine()?.outbox()? {
            self.submit(outgoing, deadline).await?;
        }
        self.grant().await?;
        // To open a session costs more than to wait for what it brings, however impatient the caller is.
        self.drain_backlog(deadline.max(Instant::now() + self.options.patience)).await?;
        self.work(deadline).await?;
        self.synchronised = true;
        Ok(())
    }

    /// Compares what the relay says of the conversations with what is known here. Only when the queue is empty: until
    /// then the relay is ahead of this device by what it has not read yet, and no invitation is missing.
    async fn compare_conversations(&mut self) -> Result<(), Error> {
        for conversation in self.list_conversations().await? {
            let joined = self.has_joined(&conversation.id)?;
            match (joined, conversation.member) {
                _ if conversation.epoch == 0 => {}
                (true, true) => self.engine()?.reconcile(conversation.id, Some(conversation.epoch))?,
                (_, false) => self.engine()?.left_out(conversation.id)?,
                // Its invitation is on the way.
                (false, true) => {}
            }
        }
        self.compared = true;
        Ok(())
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

    /// With a session: what has come, and what follows from it.
    pub(super) async fn catch_up(&mut self, deadline: Instant) -> Result<(), Error> {
        self.ensure_session(deadline).await?;
        self.drain_backlog(deadline).await?;
        self.work(deadline).await?;
        if self.maintained.is_none_or(|at| at.elapsed() > MAINTENANCE) {
            self.maintained = Some(Instant::now());
            let uptime = self.started.elapsed();
            match self.engine()?.maintain(uptime).map_err(Error::from) {
                Err(error) if error.is_full() => log::warn!("the journal cannot be cleaned: {error}"),
                other => other?,
            }
        }
        Ok(())
    }

    /// A connection with a session, made anew if it has to be; again and again until the deadline.
    pub(super) async fn ensure_session(&mut self, deadline: Instant) -> Result<(), Error> {
        if self.has_session().await? {
            return Ok(());
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.reconnect(deadline).await else { return Ok(()) };
            if !error.is_of_the_link() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            let jitter = u32::from(random::<1>()?[0]) % 64;
            sleep(pause + pause * jitter / 256).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether there is a connection with a session. An error if there must not be another one.
    pub(super) async fn has_session(&mut self) -> Result<bool, Error> {
        if self.engine.is_none() {
            return Err(Error::NotLoggedIn);
        }
        if let Some(ended) = self.ended {
            return Err(ended.into());
        }
        if let Some(link) = &mut self.link {
            if self.synchronised && !link.has_ended().await {
                return Ok(true);
            }
            // Also where a call was dropped before it was done.
            link.abandon();
            match link.last_notice().await {
                Some(NoticeKind::Replaced) => return Err(self.end(Ended::Replaced)),
                Some(NoticeKind::Revoked) => return Err(self.end(Ended::Revoked)),
                _ => {}
            }
        }
        Ok(false)
    }

    async fn reconnect(&mut self, deadline: Instant) -> Result<(), Error> {
        self.open_link(deadline).await?;
        self.begin_session(deadline).await
    }

    /// A connection that has no session yet. If this is dropped the next call goes on with it.
    pub(super) async fn open_link(&mut self, deadline: Instant) -> Result<(), Error> {
        self.link = None;
        let opening = self.opening.get_or_insert_with(|| {
            let (relay, options) = (self.relay.clone(), self.options.clone());
            Box::pin(async move { Link::open(&relay, &options, options.patience).await })
        });
        let opened = timeout_at(deadline.max(Instant::now() + GRACE), opening).await;
        // The next call goes on with it.
        let Some(opened) = opened else { return Err(self.relay.unreachable("it does not answer")) };
        self.opening = None;
        self.link = Some(opened?);
        Ok(())
    }

    pub(super) async fn begin_session(&mut self, deadline: Instant) -> Result<(), Error> {
        match self.open_session().await {
            Err(Error::Revoked) => Err(self.end(Ended::Revoked)),
            Err(error) => Err(error),
            Ok(()) => self.synchronise(deadline).await,
        }
    }

    /// Waits until everything that was in the queue when the session was opened is here, or the deadline has passed.
    async fn drain_backlog(&mut self, deadline: Instant) -> Result<(), Error> {
        self.take_pushes().await?;
        while self.is_behind()? && Instant::now() < deadline {
            let before = self.engine()?.delivered();
            self.wait(deadline.min(Instant::now() + STEP)).await?;
            if self.engine()?.delivered() == before {
                self.probe_backlog().await?;
            }
        }
        Ok(())
    }

    /// Nothing comes: looks whether there is anything left in the queue. Entries expire from the oldest on, and those
    /// of a volatile store are lost wherever they are; so this looks at the end first, and from there ever further.
    async fn probe_backlog(&mut self) -> Result<(), Error> {
        let mut step = 1;
        while self.is_behind()? {
            let probe = FetchDelivery { seq: self.backlog };
            let Reply::Delivery(found) = self.ask(probe.into()).await? else { return Err(Error::Protocol) };
            if found.entry.is_some() {
                break;
            }
            self.backlog = self.backlog.saturating_sub(step);
            step *= 2;
        }
        Ok(())
    }

    /// Whether the queue holds something that was there when the session was opened.
    pub(super) fn is_behind(&mut self) -> Result<bool, Error> {
        Ok(self.engine()?.delivered() < self.backlog)
    }

    fn has_joined(&mut self, id: &ConversationId) -> Result<bool, Error> {
        Ok(self.engine()?.conversations().any(|known| known.conversation == *id && known.joined))
    }

    /// Whether the queue has to be empty first. A device that joins anew can read nothing of what came before; and it is
    /// not behind the group if the commits are in its queue.
    fn must_wait(&mut self, want: &Want) -> Result<bool, Error> {
        match want {
            Want::Join(id) | Want::Reconcile(id) => Ok(self.is_behind()? && self.has_joined(id)?),
            _ => Ok(false),
        }
    }

    /// Does what the engine wants, each thing once.
    pub(super) async fn work(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut done = Vec::new();
        loop {
            self.take_pushes().await?;
            if !self.compared && !self.is_behind()? {
                self.compare_conversations().await?;
            }
            let mut next = None;
            for want in self.engine()?.wants() {
                if !done.contains(&want) && !self.must_wait(&want)? {
                    next = Some(want);
                    break;
                }
            }
            let Some(want) = next else { return Ok(()) };
            done.push(want);
            match self.fulfil(want, deadline).await {
                Ok(()) => {}
                // One group that cannot be helped now does not stop the others; the engine still wants it.
                Err(Error::Refused { .. }) => {}
                Err(Error::Engine(error)) if !error.is_of_the_device() => log::warn!("{want:?}: {error}"),
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
            Want::Receipt(id) if self.options.receipts => {
                Some(self.engine()?.send_receipt(id, MessageId(random()?), wall_clock())?)
            }
            Want::Receipt(id) => {
                self.engine()?.withhold_receipt(id)?;
                None
            }
            Want::Restore(id) => Some(self.engine()?.restore(id)?),
            Want::Retry(number) => Some(self.engine()?.retry_message(number)?),
            Want::UploadKeyPackages => Some(self.engine()?.upload_key_packages()?),
        };
        match outgoing {
            Some(outgoing) => self.submit(outgoing, deadline).await.map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn acknowledge(&mut self) -> Result<(), Error> {
        if !self.engine()?.wants().contains(&Want::Ack) {
            return Ok(());
        }
        let up_to = self.engine()?.ack()?;
        self.ask(Ack { up_to }.into()).await.map(drop)
    }

    /// Waits for the relay to push something, and takes it.
    pub(super) async fn wait(&mut self, until: Instant) -> Result<(), Error> {
        self.wait_unless(pending(), until).await.map(drop)
    }

    /// The same, unless something else comes to an end before. Nothing but the waiting is dropped then: what is taken
    /// from the connection has to get into the journal.
    pub(super) async fn wait_unless(
        &mut self,
        end: impl Future<Output = ()>,
        until: Instant,
    ) -> Result<Option<()>, Error> {
        match unless(end, timeout_at(until, self.link()?.wait_for_push())).await {
            None => return Ok(None),
            Some(Some(Err(error))) => {
                self.give_link_up();
                return Err(error);
            }
            Some(_) => {}
        }
        self.take_pushes().await.map(Some)
    }

    /// Takes what has been pushed so far, also what is only now being read.
    async fn take_pushes(&mut self) -> Result<(), Error> {
        if let Some(Err(error)) = timeout(Duration::ZERO, self.link()?.wait_for_push()).await {
            self.give_link_up();
            return Err(error);
        }
        self.take_pushes_now().await
    }

    pub(super) async fn take_pushes_now(&mut self) -> Result<(), Error> {
        while let Some(push) = self.link()?.take_pushed() {
            match push {
                Push::Delivery(delivery) if delivery.seq > MAX_CLAIM => {
                    self.link = None;
                    return Err(Error::Protocol);
                }
                Push::Delivery(delivery) => {
                    self.credit = self.credit.saturating_sub(1);
                    let entry = match delivery.entry {
                        Some(entry) => entry,
                        None => match self.fetch_delivery(delivery.seq).await {
                            Ok(entry) => entry,
                            // It comes again with the next connection; the one behind it must not be taken before.
                            Err(error) => {
                                self.link = None;
                                return Err(error);
                            }
                        },
                    };
                    let delivered = self.engine()?.deliver(delivery.seq, &entry);
                    let events = match delivered {
                        Ok(events) => events,
                        // As above.
                        Err(error) => {
                            self.link = None;
                            return Err(error.into());
                        }
                    };
                    self.remember(events);
                    self.grant().await?;
                }
                Push::Notice(NoticeKind::Replaced) => return Err(self.end(Ended::Replaced)),
                Push::Notice(NoticeKind::Revoked) => return Err(self.end(Ended::Revoked)),
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

    /// Keeps what has happened until somebody asks. Of messages the inbox tells.
    pub(super) fn remember(&mut self, events: Vec<Event>) {
        self.events.extend(events.into_iter().filter(|event| !matches!(event, Event::Message { .. })));
        self.events.drain(..self.events.len().saturating_sub(MAX_EVENTS));
    }

    fn end(&mut self, ended: Ended) -> Error {
        self.link = None;
        self.ended = Some(ended);
        ended.into()
    }

    /// An entry that is too large for the control stream.
    async fn fetch_delivery(&mut self, seq: u64) -> Result<Entry, Error> {
        let patience = self.options.patience;
        let request = Request::from(FetchDelivery { seq });
        match timeout(patience, self.link()?.exchange(0, &request)).await.ok_or(Error::Timeout)?? {
            // Gone or unreadable: on behind it.
            Reply::Delivery(delivery) => Ok(delivery.entry.unwrap_or_else(nothing)),
            Reply::Error(error) => Err(refused(error)),
            _ => Err(Error::Protocol),
        }
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
}

/// An entry that says nothing.
fn nothing() -> Entry {
    Entry {
        conversation: ConversationId([0; 16]),
        sender: None,
        time: 0,
        age: 0,
        durability: Durability::Durable,
        kind: None,
    }
}

/// Messages handed out at a time.
const AT_ONCE: usize = 256;
/// How long even an impatient caller looks for what has arrived.
const GRACE: Duration = Duration::from_millis(20);
/// How long to wait for something that should come before asking again.
pub(super) const STEP: Duration = Duration::from_secs(1);
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the journal is cleaned.
pub(super) const MAINTENANCE: Duration = Duration::from_secs(300);
/// Events that wait for somebody to ask.
const MAX_EVENTS: usize = 256;
