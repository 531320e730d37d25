use crate::error::{Error, Limit};
use crate::limits::{MAX_BODY, MAX_KEY, MAX_QUEUES_PER_PUSH};

/// The name of a queue.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QueueId(pub u64);

/// Operations that become visible, and durable, all together or not at all.
///
/// They apply in the order they were added; later ones see the effect of earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
    Push { queues: Vec<QueueId>, body: Vec<u8> },
    Trim { queue: QueueId, up_to: u64 },
    DropQueue { queue: QueueId },
}

impl Batch {
    /// A batch that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.add(Op::Put { key: key.into(), value: value.into() })
    }

    /// Removes `key`. A key that is absent stays absent, at no cost.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.add(Op::Delete { key: key.into() })
    }

    /// Adds one entry with the same body at the end of each queue. The body is stored once. A queue that does not exist
    /// begins with sequence number 1.
    pub fn push(&mut self, queues: &[QueueId], body: impl Into<Vec<u8>>) -> &mut Self {
        self.add(Op::Push { queues: queues.to_vec(), body: body.into() })
    }

    /// Drops the entries with a sequence number of at most `up_to`. The queue remembers its next sequence number for
    /// ever, also while it is empty.
    pub fn trim(&mut self, queue: QueueId, up_to: u64) -> &mut Self {
        self.add(Op::Trim { queue, up_to })
    }

    /// Forgets the queue, its entries and its numbering.
    pub fn drop_queue(&mut self, queue: QueueId) -> &mut Self {
        self.add(Op::DropQueue { queue })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Moves the operations of `other` to the end of this batch.
    pub fn append(&mut self, mut other: Self) {
        self.ops.append(&mut other.ops);
    }

    /// Whether the batch only removes things: such a batch may use the reserve of a full journal.
    pub(crate) fn only_removes(&self) -> bool {
        !self.ops.iter().any(|op| matches!(op, Op::Put { .. } | Op::Push { .. }))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        for op in &self.ops {
            match op {
                Op::Put { key, value } => {
                    within(Limit::Key, key.len(), MAX_KEY)?;
                    within(Limit::Body, value.len(), MAX_BODY)?;
                }
                Op::Delete { key } => within(Limit::Key, key.len(), MAX_KEY)?,
                Op::Push { queues, body } => {
                    within(Limit::QueuesPerPush, queues.len(), MAX_QUEUES_PER_PUSH)?;
                    within(Limit::Body, body.len(), MAX_BODY)?;
                }
                Op::Trim { .. } | Op::DropQueue { .. } => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, op: Op) -> &mut Self {
        self.ops.push(op);
        self
    }
}

pub(crate) fn within(what: Limit, size: usize, max: usize) -> Result<(), Error> {
    if size > max {
        return Err(Error::TooLarge { what, size: size as u64, max: max as u64 });
    }
    Ok(())
}
