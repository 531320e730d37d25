//! What all connections share: the service, the clock, the sessions by device, and the syncs of the journal.
//!
//! Whatever the service decided leaves only when it is durable. The hub starts a sync when somebody waits for one and none
//! is under way, so that one fdatasync serves all that came meanwhile; a thread of its own runs it.

use crate::clock::Clock;
use crate::service::{AdminReply, AdminRequest, Caller, Outcome, Service};
use crate::store::{JournalStore, Store};
use qpc_journal::{Directory, Position, SyncJob, Synced};
use qpc_proto::id::DeviceId;
use qpc_proto::message::{ClientFrame, NoticeKind};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use tokio::sync::{Notify, mpsc as async_mpsc, watch};

pub(crate) type RelayService = Service<JournalStore<Directory>>;

/// How far the store is on disk, and whether it still gets there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    pub(crate) position: Position,
    pub(crate) failed: bool,
}

/// What waits for one session.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Entries up to a number, once a position is durable.
    wakes: RefCell<VecDeque<(Position, u64)>>,
    notices: RefCell<VecDeque<NoticeKind>>,
    changed: Notify,
}

impl Mailbox {
    /// The highest delivery whose batch is durable.
    pub(crate) fn ready(&self, durable: Position) -> Option<u64> {
        let mut wakes = self.wakes.borrow_mut();
        let mut ready = None;
        while let Some(&(position, up_to)) = wakes.front().filter(|(position, _)| *position <= durable) {
            let _: Position = position;
            ready = Some(up_to);
            wakes.pop_front();
        }
        ready
    }

    pub(crate) fn next_notice(&self) -> Option<NoticeKind> {
        self.notices.borrow_mut().pop_front()
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn wake(&self, position: Position, up_to: u64) {
        let mut wakes = self.wakes.borrow_mut();
        // The first stays as it is, so that a busy queue is not put off again and again; later ones are joined.
        if wakes.len() > 1 {
            wakes.pop_back();
        }
        wakes.push_back((position, up_to));
        self.changed.notify_one();
    }

    fn notice(&self, kind: NoticeKind) {
        let mut notices = self.notices.borrow_mut();
        if !notices.contains(&kind) {
            notices.push_back(kind);
        }
        self.changed.notify_one();
    }
}

/// See the module's documentation. Shared by the tasks of one thread.
pub(crate) struct Hub {
    service: RefCell<RelayService>,
    clock: Clock,
    mailboxes: RefCell<HashMap<DeviceId, Rc<Mailbox>>>,
    /// Behind the last batch that an answer spoke of.
    spoken: Cell<Position>,
    syncing: Cell<bool>,
    jobs: mpsc::Sender<SyncJob<Directory>>,
    durable: watch::Sender<Durable>,
    pub(crate) connections: Cell<usize>,
}

/// Syncs that have been run, on their way back.
pub(crate) type SyncResults = async_mpsc::UnboundedReceiver<Synced>;

impl Hub {
    /// Starts the journal's thread. Hand the results to [`Hub::run_syncs`].
    pub(crate) fn new(service: RelayService, clock: Clock) -> io::Result<(Rc<Self>, SyncResults)> {
        let (jobs, incoming) = mpsc::channel::<SyncJob<Directory>>();
        let (outgoing, results) = async_mpsc::unbounded_channel();
        std::thread::Builder::new().name("journal".into()).stack_size(64 * 1024).spawn(move || {
            // It ends with the hub, whose sender is then gone.
            for job in incoming {
                if outgoing.send(job.run()).is_err() {
                    break;
                }
            }
        })?;
        let position = service.store().durable();
        let hub = Self {
            service: RefCell::new(service),
            clock,
            mailboxes: RefCell::default(),
            spoken: Cell::new(position),
            syncing: Cell::new(false),
            jobs,
            durable: watch::Sender::new(Durable { position, failed: false }),
            connections: Cell::new(0),
        };
        Ok((Rc::new(hub), results))
    }

    /// Takes back the results of syncs, for ever.
    pub(crate) async fn run_syncs(&self, mut results: SyncResults) {
        while let Some(done) = results.recv().await {
            self.syncing.set(false);
            let finished = self.service.borrow_mut().store_mut().finish_sync(done);
            match finished {
                Ok(position) => drop(self.durable.send_replace(Durable { position, failed: false })),
                Err(error) => {
                    log::error!("{error}; writes are refused until the relay is started again");
                    self.durable.send_modify(|durable| durable.failed = true);
                }
            }
            self.sync_if_waited_for();
        }
    }

    /// A view of how far the store is on disk.
    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Hands a request to the service. The outcome may be told once the position is durable.
    pub(crate) fn handle(&self, caller: &mut Caller, frame: &ClientFrame) -> (Outcome, Position) {
        let outcome = self.service.borrow_mut().handle(self.clock.now(), caller, frame);
        let position = self.spread(&outcome);
        (outcome, position)
    }

    /// As [`Hub::handle`], for the relay's owner.
    pub(crate) fn admin(&self, request: AdminRequest) -> (AdminReply, Position) {
        let (reply, outcome) = self.service.borrow_mut().admin(self.clock.now(), request);
        let position = self.spread(&outcome);
        (reply, position)
    }

    /// Regular work.
    pub(crate) fn tick(&self, budget: u32) {
        let outcome = self.service.borrow_mut().tick(self.clock.now(), budget);
        self.spread(&outcome);
        // What nobody waited for is made durable now and then.
        self.spoken.set(self.service.borrow().store().applied());
        self.sync_if_waited_for();
    }

    /// Makes a connection the session of a device. Whoever was it before is told.
    pub(crate) fn open_mailbox(&self, device: DeviceId) -> Rc<Mailbox> {
        let mailbox = Rc::<Mailbox>::default();
        if let Some(older) = self.mailboxes.borrow_mut().insert(device, Rc::clone(&mailbox)) {
            older.notice(NoticeKind::Replaced);
        }
        mailbox
    }

    /// The connection is gone.
    pub(crate) fn close(&self, caller: &Caller, mailbox: Option<&Rc<Mailbox>>) {
        self.service.borrow_mut().session_closed(caller);
        if let (Some(device), Some(mailbox)) = (caller.device(), mailbox) {
            let mut mailboxes = self.mailboxes.borrow_mut();
            if mailboxes.get(&device).is_some_and(|current| Rc::ptr_eq(current, mailbox)) {
                mailboxes.remove(&device);
            }
        }
    }

    /// The next entry for a device, encoded.
    pub(crate) fn next_delivery(&self, device: DeviceId, after: u64) -> Option<(u64, Vec<u8>)> {
        match self.service.borrow().next_delivery(device, after) {
            Ok(next) => next,
            Err(error) => {
                log::error!("cannot read what waits for device {device}: {error}");
                None
            }
        }
    }

    /// Tells all sessions that the relay goes down.
    pub(crate) fn say_goodbye(&self) {
        self.mailboxes.borrow().values().for_each(|mailbox| mailbox.notice(NoticeKind::Closing));
    }

    /// Makes everything durable, now.
    pub(crate) fn sync_now(&self) -> Result<(), crate::store::StoreError> {
        let mut service = self.service.borrow_mut();
        match service.store().start_sync() {
            Some(job) => service.store_mut().finish_sync(job.run()).map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn with_service<T>(&self, look: impl FnOnce(&RelayService) -> T) -> T {
        look(&self.service.borrow())
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Passes on what an outcome means to others, and says what position its own answer waits for.
    fn spread(&self, outcome: &Outcome) -> Position {
        let applied = self.service.borrow().store().applied();
        if outcome.needs_sync {
            self.spoken.set(applied);
            self.sync_if_waited_for();
        }
        let mailboxes = self.mailboxes.borrow();
        for (device, up_to) in &outcome.wake {
            if let Some(mailbox) = mailboxes.get(device) {
                mailbox.wake(applied, *up_to);
            }
        }
        for (device, kind) in &outcome.notices {
            if let Some(mailbox) = mailboxes.get(device) {
                mailbox.notice(*kind);
            }
        }
        // What reads is answered from a store that takes no writes any more, too.
        let durable = *self.durable.borrow();
        if durable.failed && !outcome.needs_sync {
            return durable.position;
        }
        // An acknowledgement waits for nothing; everything else for the last batch that mattered.
        self.spoken.get()
    }

    fn sync_if_waited_for(&self) {
        let service = self.service.borrow();
        // After a sync that failed, all that follow do: asked for again and again, they would keep the thread busy for ever.
        if self.syncing.get()
            || self.durable.borrow().failed
            || service.store().durable() >= self.spoken.get()
        {
            return;
        }
        if let Some(job) = service.store().start_sync() {
            self.syncing.set(self.jobs.send(job).is_ok());
        }
    }
}
