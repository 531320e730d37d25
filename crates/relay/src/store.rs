//! What the service asks of a store: rows under keys, queues of numbered entries, and batches that take effect whole or
//! not at all. [`JournalStore`] is the router's; a deployment that outgrows one machine implements [`Store`] over its
//! own engine.

use crate::records::SCHEMA;
use qpc_journal::{Error, Journal, OpenReport, Options, Position, Storage, SyncJob, Synced};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

/// The name of a queue: what it is for in the upper eight bits, whose it is in the lower 32.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QueueId(pub u64);

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueStat {
    /// Number of the oldest entry; `next_seq` where there is none.
    pub first_seq: u64,
    /// Number the next entry will get.
    pub next_seq: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

impl QueueStat {
    /// Entries in the queue.
    pub fn len(&self) -> u64 {
        self.next_seq - self.first_seq
    }

    /// Whether no entry is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// State of the store, for budgets and for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreStats {
    /// Bytes of rows and entries that are still needed, at most.
    pub live_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes written since the store was opened.
    pub bytes_written: u64,
    /// Syncs since the store was opened.
    pub syncs: u64,
    /// Files.
    pub segments: u32,
    /// Whether writes are refused until the store is opened again.
    pub read_only: bool,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is stored here cannot be read; the rest can.
    #[error("a stored record is damaged: {0}")]
    Damaged(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No room on the disk or in the budget.
    #[error("the store is full")]
    Full,
    /// No writes are taken; reads go on.
    #[error("the store takes no writes")]
    ReadOnly,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// Sets a row.
    Put {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Removes a row; nothing where there is none.
    Delete {
        /// Its key.
        key: Vec<u8>,
    },
    /// Appends one entry, stored once, to every queue named. A new queue begins with number 1.
    Push {
        /// The queues, each once.
        queues: Vec<QueueId>,
        /// The entry.
        body: Vec<u8>,
    },
    /// Drops entries up to and including a number. The numbering goes on.
    Trim {
        /// Of this queue.
        queue: QueueId,
        /// The last entry to drop.
        up_to: u64,
    },
    /// Forgets a queue with its numbering.
    DropQueue {
        /// The queue.
        queue: QueueId,
    },
}

/// Changes that become visible, and durable, together or not at all, in the order they were added.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.ops.push(Op::Put { key, value });
    }

    /// Removes a row.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.ops.push(Op::Delete { key });
    }

    /// Appends an entry to queues.
    pub fn push(&mut self, queues: Vec<QueueId>, body: Vec<u8>) {
        self.ops.push(Op::Push { queues, body });
    }

    /// Drops the front of a queue.
    pub fn trim(&mut self, queue: QueueId, up_to: u64) {
        self.ops.push(Op::Trim { queue, up_to });
    }

    /// Forgets a queue.
    pub fn drop_queue(&mut self, queue: QueueId) {
        self.ops.push(Op::DropQueue { queue });
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether there is more in it than entries that come and go.
    pub fn changes_rows(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Put { .. } | Op::Delete { .. }))
    }

    /// The changes.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The changes, to be taken apart.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}

/// A store.
pub trait Store {
    /// A place in the order of batches. Whoever waits for a batch to be durable waits for its position.
    type Position: Copy + Debug + Ord;

    /// A row's value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether a row exists.
    fn contains(&self, key: &[u8]) -> bool;

    /// The keys that begin with `prefix`, in ascending order.
    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>>;

    /// How many keys begin with `prefix`.
    fn count(&self, prefix: &[u8]) -> usize;

    /// State of a queue, `None` if nothing was ever pushed to it.
    fn queue(&self, id: QueueId) -> Option<QueueStat>;

    /// An entry, `None` if the queue does not hold the number.
    fn read(&self, id: QueueId, seq: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes a batch visible; it becomes durable with the next sync that starts after this.
    fn apply(&mut self, batch: Batch) -> Result<Self::Position, StoreError>;

    /// The position of the newest batch.
    fn applied(&self) -> Self::Position;

    /// Does a bounded piece of housekeeping: writes at most about `budget` bytes. Returns whether there is more.
    fn maintain(&mut self, uptime: Duration, budget: u32) -> Result<bool, StoreError>;

    /// Bytes of rows and entries that are still needed, at most.
    fn live_bytes(&self) -> u64;

    /// The state of the store.
    fn stats(&self) -> StoreStats;
}

/// A [`Store`] in a journal (`crates/journal`). It stays on one thread; only the [`SyncJob`] leaves it.
///
/// Once a sync has failed it takes no writes, and queues end before what was not durable then: whoever read that would be ahead of
/// the store that is there after a restart.
#[derive(Debug)]
pub struct JournalStore<S: Storage> {
    journal: Journal<S>,
    /// What was pushed since the last sync: with which batch, to which queue, and from which number on.
    pushed: VecDeque<(Position, QueueId, u64)>,
    failed: bool,
}

impl<S: Storage> JournalStore<S> {
    /// Opens the journal in `storage`, or begins one. `options` without the schema: that is the relay's.
    pub fn open(storage: S, options: Options) -> Result<(Self, OpenReport), Error> {
        let options = Options { schema: SCHEMA, ..options };
        let (journal, report) = Journal::open(storage, options)?;
        Ok((Self { journal, pushed: VecDeque::new(), failed: false }, report))
    }

    /// Prepares a sync of everything applied so far, to be run on any thread. `None` if all of it is durable.
    pub fn start_sync(&self) -> Option<SyncJob<S>> {
        (self.journal.durable() < self.journal.appended()).then(|| self.journal.start_sync())
    }

    /// Takes the result of a sync. Answers that waited for a position up to the returned one may go out.
    pub fn finish_sync(&mut self, done: Synced) -> Result<Position, StoreError> {
        let result = self.journal.finish_sync(done);
        self.failed |= result.is_err();
        let durable = self.journal.durable();
        while self.pushed.pop_front_if(|(position, ..)| *position <= durable).is_some() {}
        Ok(result?)
    }

    /// The number from which on nobody may read in a queue.
    fn end(&self, id: QueueId) -> Option<u64> {
        let first = self.pushed.iter().find(|(_, queue, _)| self.failed && *queue == id);
        first.map(|&(.., seq)| seq)
    }

    /// Everything up to here survives a power cut.
    pub fn durable(&self) -> Position {
        self.journal.durable()
    }

    /// The journal, to ask for what other engines have no counterpart of.
    pub fn journal(&self) -> &Journal<S> {
        &self.journal
    }
}

impl<S: Storage> Store for JournalStore<S> {
    type Position = Position;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.journal.get(key)?)
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.journal.contains(key)
    }

    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.journal.keys(prefix).map(<[u8]>::to_vec).collect()
    }

    fn count(&self, prefix: &[u8]) -> usize {
        self.journal.keys(prefix).count()
    }

    fn queue(&self, id: QueueId) -> Option<QueueStat> {
        let stat = self.journal.queue(qpc_journal::QueueId(id.0))?;
        let next_seq = self.end(id).unwrap_or(stat.next_seq);
        Some(QueueStat { first_seq: stat.first_seq.min(next_seq), next_seq, bytes: stat.bytes })
    }

    fn read(&self, id: QueueId, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if self.end(id).is_some_and(|end| seq >= end) {
            return Ok(None);
        }
        Ok(self.journal.read(qpc_journal::QueueId(id.0), seq)?)
    }

    fn apply(&mut self, batch: Batch) -> Result<Position, StoreError> {
        let mut ops = qpc_journal::Batch::new();
        let mut pushed = Vec::new();
        for op in batch.ops {
            match op {
                Op::Put { key, value } => ops.put(key, value),
                Op::Delete { key } => ops.delete(key),
                Op::Push { queues, body } => {
                    pushed.extend(queues.iter().map(|&id| {
                        (id, self.journal.queue(qpc_journal::QueueId(id.0)).map_or(1, |q| q.next_seq))
                    }));
                    let queues: Vec<_> = queues.into_iter().map(|id| qpc_journal::QueueId(id.0)).collect();
                    ops.push(&queues, body)
                }
                Op::Trim { queue, up_to } => ops.trim(qpc_journal::QueueId(queue.0), up_to),
                Op::DropQueue { queue } => ops.drop_queue(qpc_journal::QueueId(queue.0)),
            };
        }
        let position = self.journal.append(&ops)?;
        self.pushed.extend(pushed.into_iter().map(|(id, first)| (position, id, first)));
        Ok(position)
    }

    fn applied(&self) -> Position {
        self.journal.appended()
    }

    fn maintain(&mut self, uptime: Duration, budget: u32) -> Result<bool, StoreError> {
        Ok(self.journal.maintain(uptime, budget)?.more)
    }

    fn live_bytes(&self) -> u64 {
        // The journal counts a shared body for each of its queues, and garbage as taken: the smaller is nearer.
        self.journal.live_bytes().min(self.journal.disk_bytes())
    }

    fn stats(&self) -> StoreStats {
        let stats = self.journal.stats();
        StoreStats {
            live_bytes: self.live_bytes(),
            disk_bytes: stats.disk_bytes,
            bytes_written: stats.bytes_written,
            syncs: stats.syncs,
            segments: stats.segments,
            read_only: stats.poisoned,
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt { .. } => Self::Damaged(error.to_string()),
            Error::Full => Self::Full,
            Error::Poisoned | Error::ReadOnly => Self::ReadOnly,
            other => Self::Failed(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_journal::fault::{Disk, Faults};

    #[test]
    fn after_a_failed_sync_a_queue_ends_before_what_was_not_durable() {
        const QUEUE: QueueId = QueueId(7);
        let disk = Disk::new();
        let (mut store, _) = JournalStore::open(disk.clone(), Options::default()).unwrap();
        let push = |store: &mut JournalStore<Disk>, bodies: &[&[u8]]| {
            let mut batch = Batch::default();
            bodies.iter().for_each(|body| batch.push(vec![QUEUE], body.to_vec()));
            store.apply(batch).unwrap()
        };
        push(&mut store, &[b"first"]);
        let job = store.start_sync().unwrap();
        let before = push(&mut store, &[b"second", b"third"]);
        assert!(store.finish_sync(job.run()).unwrap() < before);
        assert_eq!(store.queue(QUEUE).unwrap().next_seq, 4);
        assert_eq!(store.read(QUEUE, 2).unwrap().unwrap(), b"second");

        disk.set_faults(Faults { sync: Some(0), ..Faults::default() });
        let job = store.start_sync().unwrap();
        assert!(store.finish_sync(job.run()).is_err());
        assert_eq!(store.queue(QUEUE).unwrap().next_seq, 2);
        assert_eq!(store.read(QUEUE, 1).unwrap().unwrap(), b"first");
        assert_eq!(store.read(QUEUE, 2).unwrap(), None);
    }
}
