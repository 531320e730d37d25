//! The thread that waits for the disk. It has one job at a time, and not std's channels, which are 11 KB of a program for queues.

use nix::sys::eventfd::{EfdFlags, EventFd};
use qpc_journal::{Directory, SyncJob, Synced};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Runs syncs of the journal. Its thread ends with it, after the sync that is under way.
pub(crate) struct Syncer(Arc<Shared>);

struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
    /// Readable while there is a result.
    done: EventFd,
}

enum Slot {
    Empty,
    Todo(SyncJob<Directory>),
    Done(Synced),
    Ended,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut slot = self.lock();
        loop {
            match mem::replace(&mut *slot, Slot::Empty) {
                Slot::Todo(job) => {
                    drop(slot);
                    let done = job.run();
                    slot = self.lock();
                    // It stays full where nobody is there any more to take the result.
                    if matches!(*slot, Slot::Empty) {
                        *slot = Slot::Done(done);
                        // Not full: it was read since the last result, and counts to 2^64.
                        let _ = self.done.write(1);
                    }
                }
                Slot::Ended => return,
                other => {
                    *slot = other;
                    slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Syncer {
    /// Starts the thread.
    pub(crate) fn new() -> io::Result<Self> {
        let done = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { slot: Mutex::new(Slot::Empty), changed: Condvar::new(), done });
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("journal".into()).stack_size(64 * 1024).spawn(move || own.work())?;
        Ok(Self(shared))
    }

    /// Has a job done; to be called when the result of the last one was taken.
    pub(crate) fn start(&self, job: SyncJob<Directory>) {
        *self.0.lock() = Slot::Todo(job);
        self.0.changed.notify_one();
    }

    /// The result, if it is there.
    pub(crate) fn take(&self) -> Option<Synced> {
        // It fails if nothing was written, and then there is nothing to take either.
        let _ = self.0.done.read();
        let mut slot = self.0.lock();
        match mem::replace(&mut *slot, Slot::Empty) {
            Slot::Done(done) => Some(done),
            other => {
                *slot = other;
                None
            }
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        *self.0.lock() = Slot::Ended;
        self.0.changed.notify_one();
    }
}

/// Readable once a result is there.
impl AsFd for Syncer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.done.as_fd()
    }
}
