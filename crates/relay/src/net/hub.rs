//! What all connections share: the service, the clock, the sessions by device, and the syncs of the journal.
//!
//! Whatever the service decided leaves only when it is durable. The hub starts a sync when somebody waits for one and none
//! is under way, so that one fdatasync serves all that came meanwhile; a thread of its own runs it.

use crate::clock::Clock;
use crate::net::syncer::Syncer;
use crate::service::{AdminReply, AdminRequest, Caller, Outcome, Service};
use crate::store::{JournalStore, Store, StoreError};
use qpc_journal::{Directory, Position};
use qpc_proto::id::DeviceId;
use qpc_proto::message::{ClientFrame, NoticeKind};
use quinn_proto::ConnectionHandle;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

pub(crate) type RelayService = Service<JournalStore<Directory>>;

/// Which connection, of all listeners'.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct SessionId {
    pub(crate) listener: usize,
    pub(crate) connection: ConnectionHandle,
}

/// How far the store is on disk, and whether it still gets there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    pub(crate) position: Position,
    pub(crate) failed: bool,
}

impl Durable {
    /// Whether no more is to be expected for this position: it is durable, or will never be.
    pub(crate) fn decided(&self, position: Position) -> bool {
        position <= self.position || self.failed
    }
}

/// What waits for one session.
#[derive(Debug, Default)]
struct Mailbox {
    /// Entries up to a number, once a position is durable.
    wakes: VecDeque<(Position, u64)>,
    /// Each to be told once a position is durable.
    notices: VecDeque<(Position, NoticeKind)>,
}

/// See the module's documentation.
pub(crate) struct Hub {
    service: RelayService,
    clock: Clock,
    sessions: BTreeMap<DeviceId, SessionId>,
    mailboxes: BTreeMap<SessionId, Mailbox>,
    /// Connections.
    pub(crate) connections: usize,
    /// Sessions with something to do.
    woken: Vec<SessionId>,
    /// Sessions to wake after the next sync.
    waiting: BTreeSet<SessionId>,
    /// Behind the last batch that an answer spoke of.
    spoken: Position,
    /// A sync has failed, and all that follow will.
    failed: bool,
    syncing: bool,
    syncer: Syncer,
}

impl Hub {
    /// Starts the journal's thread.
    pub(crate) fn new(service: RelayService, clock: Clock) -> io::Result<Self> {
        let position = service.store().durable();
        Ok(Self {
            service,
            clock,
            sessions: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            connections: 0,
            woken: Vec::new(),
            waiting: BTreeSet::new(),
            spoken: position,
            failed: false,
            syncing: false,
            syncer: Syncer::new()?,
        })
    }

    /// Takes back the result of a sync.
    pub(crate) fn finish_sync(&mut self) {
        let Some(done) = self.syncer.take() else { return };
        self.syncing = false;
        if let Err(error) = self.service.store_mut().finish_sync(done) {
            log::error!("{error}; writes are refused until the relay is started again");
            self.failed = true;
        }
        self.woken.extend(std::mem::take(&mut self.waiting));
        self.sync_if_waited_for();
    }

    /// How far the store is on disk.
    pub(crate) fn durable(&self) -> Durable {
        Durable { position: self.service.store().durable(), failed: self.failed }
    }

    /// Has a session woken once more is durable.
    pub(crate) fn wake_when_durable(&mut self, session: SessionId) {
        self.waiting.insert(session);
    }

    /// Has a session woken.
    pub(crate) fn wake(&mut self, session: SessionId) {
        self.woken.push(session);
    }

    /// Whether [`Hub::take_woken`] would give any.
    pub(crate) fn anyone_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// The sessions that have something to do since this was last asked.
    pub(crate) fn take_woken(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.woken)
    }

    /// Hands a request to the service. The outcome may be told once the position is durable.
    pub(crate) fn handle(&mut self, caller: &mut Caller, frame: &ClientFrame) -> (Outcome, Position) {
        let outcome = self.service.handle(self.clock.now(), caller, frame);
        let position = self.spread(&outcome);
        (outcome, position)
    }

    /// As [`Hub::handle`], for the relay's owner.
    pub(crate) fn admin(&mut self, request: AdminRequest) -> (AdminReply, Position) {
        let (reply, outcome) = self.service.admin(self.clock.now(), request);
        let position = self.spread(&outcome);
        (reply, position)
    }

    /// Regular work.
    pub(crate) fn tick(&mut self, budget: u32) {
        let outcome = self.service.tick(self.clock.now(), budget);
        self.spread(&outcome);
        // Compaction may have synced what they wait for.
        self.woken.extend(std::mem::take(&mut self.waiting));
        // What nobody waited for is made durable now and then.
        self.spoken = self.service.store().applied();
        self.sync_if_waited_for();
    }

    /// Makes a connection the session of a device, which has entries up to a number. Whoever was it before is told.
    pub(crate) fn open_mailbox(&mut self, device: DeviceId, session: SessionId, up_to: u64) {
        self.mailboxes.insert(session, Mailbox::default());
        // After a failed sync the store has what is durable, and the relay takes no more.
        let position = if self.failed { Position::default() } else { self.spoken };
        self.deliver(session, position, up_to);
        if let Some(older) = self.sessions.insert(device, session) {
            self.notice(older, Position::default(), NoticeKind::Replaced);
        }
    }

    /// The connection is gone.
    pub(crate) fn close(&mut self, caller: &Caller, session: SessionId) {
        self.connections -= 1;
        self.service.session_closed(caller);
        self.mailboxes.remove(&session);
        self.waiting.remove(&session);
        if let Some(device) = caller.device()
            && self.sessions.get(&device) == Some(&session)
        {
            self.sessions.remove(&device);
        }
    }

    /// The highest delivery that became durable for a session.
    pub(crate) fn ready(&mut self, session: SessionId) -> Option<u64> {
        let durable = self.durable().position;
        let wakes = &mut self.mailboxes.get_mut(&session)?.wakes;
        let mut ready = None;
        while let Some((_, up_to)) = wakes.pop_front_if(|(position, _)| *position <= durable) {
            ready = Some(up_to);
        }
        ready
    }

    pub(crate) fn next_notice(&mut self, session: SessionId) -> Option<NoticeKind> {
        let durable = self.durable();
        let notices = &mut self.mailboxes.get_mut(&session)?.notices;
        notices.pop_front_if(|(position, _)| durable.decided(*position)).map(|(_, kind)| kind)
    }

    /// The next entry for a device, encoded.
    pub(crate) fn next_delivery(
        &self,
        device: DeviceId,
        after: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let next = self.service.next_delivery(device, after);
        next.inspect_err(|error| log::error!("cannot read what waits for device {device}: {error}"))
    }

    /// Tells all sessions that the relay goes down.
    pub(crate) fn say_goodbye(&mut self) {
        for session in self.mailboxes.keys().copied().collect::<Vec<_>>() {
            self.notice(session, Position::default(), NoticeKind::Closing);
        }
    }

    /// Makes everything durable, now.
    pub(crate) fn sync_now(&mut self) -> Result<(), StoreError> {
        match self.service.store().start_sync() {
            Some(job) => self.service.store_mut().finish_sync(job.run()).map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn service(&self) -> &RelayService {
        &self.service
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Passes on what an outcome means to others, and says what position its own answer waits for.
    fn spread(&mut self, outcome: &Outcome) -> Position {
        let applied = self.service.store().applied();
        if outcome.needs_sync {
            self.spoken = applied;
            self.sync_if_waited_for();
        }
        for (device, up_to) in &outcome.wake {
            if let Some(&session) = self.sessions.get(device) {
                self.deliver(session, applied, *up_to);
            }
        }
        for (device, kind) in &outcome.notices {
            if let Some(&session) = self.sessions.get(device) {
                self.notice(session, self.spoken, *kind);
            }
        }
        // What reads is answered from a store that takes no writes any more, too.
        if self.failed && !outcome.needs_sync {
            return self.durable().position;
        }
        // An acknowledgement waits for nothing; everything else for the last batch that mattered.
        self.spoken
    }

    /// There are entries up to a number for a session, which it may have once the position is durable.
    fn deliver(&mut self, session: SessionId, position: Position, up_to: u64) {
        let Some(mailbox) = self.mailboxes.get_mut(&session) else { return };
        // The first stays as it is, so that a busy queue is not put off again and again; later ones are joined.
        if mailbox.wakes.len() > 1 {
            mailbox.wakes.pop_back();
        }
        mailbox.wakes.push_back((position, up_to));
        self.wake_when_decided(session, position);
    }

    /// There is something to tell a session, once the position is durable.
    fn notice(&mut self, session: SessionId, position: Position, kind: NoticeKind) {
        let Some(mailbox) = self.mailboxes.get_mut(&session) else { return };
        if !mailbox.notices.iter().any(|(_, other)| *other == kind) {
            mailbox.notices.push_back((position, kind));
        }
        self.wake_when_decided(session, position);
    }

    fn wake_when_decided(&mut self, session: SessionId, position: Position) {
        match self.durable().decided(position) {
            true => self.wake(session),
            false => self.wake_when_durable(session),
        }
    }

    fn sync_if_waited_for(&mut self) {
        // After a sync that failed, all that follow do: asked for again and again, they would keep the thread busy for ever.
        if self.syncing || self.failed || self.service.store().durable() >= self.spoken {
            return;
        }
        if let Some(job) = self.service.store().start_sync() {
            self.syncer.start(job);
            self.syncing = true;
        }
    }
}

/// Readable once a sync is done.
impl AsFd for Hub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.syncer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::hub;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    const SESSION: SessionId = SessionId { listener: 0, connection: ConnectionHandle(0) };
    const DEVICE: DeviceId = DeviceId([7; 16]);

    /// Takes the results of syncs until there are none to come.
    fn finish(hub: &mut Hub) {
        while hub.syncing {
            let done = hub.as_fd().try_clone_to_owned().unwrap();
            poll(&mut [PollFd::new(done.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            hub.finish_sync();
        }
    }

    #[test]
    fn who_connects_waits_for_the_sync_that_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = hub(dir.path());
        hub.admin(AdminRequest::Invite);
        hub.open_mailbox(DEVICE, SESSION, 5);
        assert_eq!((hub.ready(SESSION), hub.take_woken()), (None, vec![]));
        finish(&mut hub);
        assert_eq!((hub.ready(SESSION), hub.take_woken()), (Some(5), vec![SESSION]));
    }

    #[test]
    fn what_a_change_brings_about_is_told_once_that_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = hub(dir.path());
        hub.open_mailbox(DEVICE, SESSION, 0);
        assert_eq!(hub.ready(SESSION), Some(0));
        hub.admin(AdminRequest::Invite);
        let notices = vec![(DEVICE, NoticeKind::Revoked)];
        let change = Outcome { wake: vec![(DEVICE, 1)], notices, needs_sync: true, ..Outcome::default() };
        let position = hub.spread(&change);
        assert!(!hub.durable().decided(position));
        assert_eq!((hub.ready(SESSION), hub.next_notice(SESSION)), (None, None));
        finish(&mut hub);
        assert_eq!((hub.ready(SESSION), hub.next_notice(SESSION)), (Some(1), Some(NoticeKind::Revoked)));
    }

    /// As those that compaction does: if they went unnoticed, answers would wait for a sync that nobody starts.
    #[test]
    fn syncs_that_nobody_asked_for_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = hub(dir.path());
        let (_, position) = hub.admin(AdminRequest::Invite);
        assert!(!hub.durable().decided(position));
        hub.sync_now().unwrap();
        assert!(hub.durable().decided(position));
    }
}
