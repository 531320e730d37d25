//! What is where: the map, the queues, and how much of each segment still lives.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::QueueId;
use crate::format::{Item, Record, Summary};
use crate::limits::MAX_QUEUE_LENGTH;

/// Where a body is stored. Segment 0 does not exist: such a slot is a place whose entry was lost to damage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Slot {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a queue holds: the entries `first_seq..next_seq`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueStat {
    /// The oldest entry's sequence number; equal to `next_seq` if the queue is empty.
    pub first_seq: u64,
    /// The sequence number the next entry will get.
    pub next_seq: u64,
    /// The length of all bodies together.
    pub bytes: u64,
}

#[derive(Debug)]
struct Queue {
    first: u64,
    slots: VecDeque<Slot>,
    bytes: u64,
    /// Which record last said what numbers the queue holds: it must not get lost.
    range: Slot,
}

impl Queue {
    fn new(first: u64) -> Self {
        Self { first, slots: VecDeque::new(), bytes: 0, range: Slot::default() }
    }

    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn get(&self, seq: u64) -> Option<Slot> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.slots.get(index).copied().filter(|slot| slot.segment != 0)
    }

    /// Puts an entry in its place; gives what is no longer in one.
    fn place(&mut self, seq: u64, slot: Slot) -> Slot {
        // Compaction may have moved entries behind later ones, and damage may have left holes; a number far from
        // all others is no number of this program's.
        if seq.abs_diff(self.first) > MAX_QUEUE_LENGTH as u64 {
            return slot;
        }
        while seq < self.first {
            self.slots.push_front(Slot::default());
            self.first -= 1;
        }
        while seq >= self.next() {
            self.grow();
            self.slots.push_back(Slot::default());
        }
        let old = std::mem::replace(&mut self.slots[(seq - self.first) as usize], slot);
        self.bytes = self.bytes + u64::from(slot.len) - u64::from(old.len);
        old
    }

    /// Grows by a quarter instead of doubling, so that a slot costs at most 15 bytes.
    fn grow(&mut self) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 4).max(4));
        }
    }

    fn shrink(&mut self) {
        if self.slots.len() < self.slots.capacity() / 2 {
            self.slots.shrink_to(self.slots.len() + self.slots.len() / 4);
        }
    }
}

/// Bytes of bodies in a segment, counted once for each reference, and of deletions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) written: u64,
    pub(crate) live: u64,
    pub(crate) deletions: u64,
}

/// What each segment has, in the order of their numbers.
#[derive(Debug, Default)]
struct Usages {
    segments: Vec<(u32, Usage)>,
    /// Of all of them.
    live: u64,
}

impl Usages {
    fn get(&self, segment: u32) -> Usage {
        let found = self.segments.binary_search_by_key(&segment, |(number, _)| *number);
        found.map_or_else(|_| Usage::default(), |at| self.segments[at].1)
    }

    fn get_mut(&mut self, segment: u32) -> &mut Usage {
        // Mostly it is the newest.
        let at = match self.segments.last() {
            Some((number, _)) if *number == segment => self.segments.len() - 1,
            _ => {
                let found = self.segments.binary_search_by_key(&segment, |(number, _)| *number);
                found.unwrap_or_else(|at| {
                    self.segments.insert(at, (segment, Usage::default()));
                    at
                })
            }
        };
        &mut self.segments[at].1
    }

    fn born(&mut self, slot: Slot) {
        let usage = self.get_mut(slot.segment);
        usage.written += weight(slot);
        usage.live += weight(slot);
        self.live += weight(slot);
    }

    fn died(&mut self, slot: Slot) {
        if slot.segment != 0 {
            let usage = self.get_mut(slot.segment);
            usage.live = usage.live.saturating_sub(weight(slot));
            self.live = self.live.saturating_sub(weight(slot));
        }
    }

    fn deleted(&mut self, segment: u32, bytes: u64) {
        self.get_mut(segment).deletions += bytes;
    }

    fn forget(&mut self, segment: u32) {
        self.live = self.live.saturating_sub(self.get(segment).live);
        self.segments.retain(|(number, _)| *number != segment);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    map: BTreeMap<Box<[u8]>, Slot>,
    queues: BTreeMap<QueueId, Queue>,
    usage: Usages,
}

impl Index {
    pub(crate) fn value(&self, key: &[u8]) -> Option<Slot> {
        self.map.get(key).copied()
    }

    pub(crate) fn keys<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        use std::ops::Bound;
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.map.range::<[u8], _>(from).map(|(key, _)| &**key).take_while(move |key| key.starts_with(prefix))
    }

    pub(crate) fn entry(&self, queue: QueueId, seq: u64) -> Option<Slot> {
        self.queues.get(&queue)?.get(seq)
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<QueueStat> {
        self.queues.get(&id).map(stat)
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = (QueueId, QueueStat)> + '_ {
        self.queues.iter().map(|(id, queue)| (*id, stat(queue)))
    }

    /// The segment of the record that last said what numbers a queue holds; 0 if none did.
    pub(crate) fn range_segment(&self, id: QueueId) -> u32 {
        self.queues.get(&id).map_or(0, |queue| queue.range.segment)
    }

    pub(crate) fn usage(&self, segment: u32) -> Usage {
        self.usage.get(segment)
    }

    pub(crate) fn live(&self) -> u64 {
        self.usage.live
    }

    pub(crate) fn forget_segment(&mut self, segment: u32) {
        self.usage.forget(segment);
    }

    /// Applies what a segment says.
    pub(crate) fn apply_all(&mut self, summary: &Summary, segment: u32) {
        let slot = |(offset, len)| Slot { segment, offset, len };
        for item in summary.items() {
            match item {
                Item::Value { key, body } => self.put(key, slot(body)),
                Item::Delete { key } => self.delete(key, segment),
                Item::Run { queue, first, bodies } => {
                    self.place(queue, first, bodies.iter().map(slot));
                }
                Item::Holds { queue, first, next } => self.hold(queue, first, next, segment),
                Item::Drop { queue } => self.drop_queue(queue, segment),
            }
        }
        if let Some(written) = summary.written {
            self.usage.get_mut(segment).written = written;
        }
    }

    /// Adds what is left of a segment to its summary.
    pub(crate) fn summarize(&self, segment: u32, summary: &mut Summary) {
        for (key, slot) in &self.map {
            if slot.segment == segment {
                summary.value(key, (slot.offset, slot.len));
            }
        }
        for (&id, queue) in &self.queues {
            if queue.range.segment == segment {
                summary.holds(id, queue.first, queue.next());
            }
            let (front, back) = queue.slots.as_slices();
            let mut seq = queue.first;
            for run in
                [front, back].into_iter().flat_map(|slots| slots.chunk_by(|a, b| a.segment == b.segment))
            {
                if run.first().is_some_and(|slot| slot.segment == segment) {
                    summary.run(id, seq, run.iter().map(|slot| (slot.offset, slot.len)));
                }
                seq += run.len() as u64;
            }
        }
    }

    /// Makes an operation's effect visible. `slot` is its body's place, or says its segment only if it has no body.
    pub(crate) fn apply(&mut self, record: &Record, slot: Slot) {
        match record {
            Record::Put { key, .. } => self.put(key, slot),
            Record::Delete { key } => self.delete(key, slot.segment),
            Record::Place { at, .. } => at.iter().for_each(|(queue, seq)| self.place(queue, seq, [slot])),
            Record::Holds { queue, first, next } => self.hold(*queue, *first, *next, slot.segment),
            Record::Drop { queue } => self.drop_queue(*queue, slot.segment),
        }
    }

    fn put(&mut self, key: &[u8], slot: Slot) {
        self.usage.born(slot);
        match self.map.get_mut(key) {
            Some(old) => {
                let old = std::mem::replace(old, slot);
                self.usage.died(old);
            }
            None => drop(self.map.insert(key.into(), slot)),
        }
    }

    fn delete(&mut self, key: &[u8], segment: u32) {
        self.usage.deleted(segment, DELETION + key.len() as u64);
        if let Some(old) = self.map.remove(key) {
            self.usage.died(old);
        }
    }

    fn drop_queue(&mut self, id: QueueId, segment: u32) {
        self.usage.deleted(segment, DELETION);
        if let Some(queue) = self.queues.remove(&id) {
            self.usage.died(queue.range);
            queue.slots.into_iter().for_each(|slot| self.usage.died(slot));
        }
    }

    /// Places entries in a row, all of one segment.
    fn place(&mut self, id: QueueId, first: u64, slots: impl IntoIterator<Item = Slot>) {
        let queue = self.queues.entry(id).or_insert_with(|| Queue::new(first));
        for (seq, slot) in (first..).zip(slots) {
            self.usage.born(slot);
            let old = queue.place(seq, slot);
            self.usage.died(old);
        }
    }

    /// Makes a queue's range `first..next`, keeping what it has of it.
    fn hold(&mut self, id: QueueId, first: u64, next: u64, segment: u32) {
        let range = Slot { segment, offset: 0, len: 0 };
        self.usage.born(range);
        let queue = self.queues.entry(id).or_insert_with(|| Queue::new(first));
        self.usage.died(std::mem::replace(&mut queue.range, range));
        let mut dead = |slot: Slot| {
            queue.bytes -= u64::from(slot.len);
            self.usage.died(slot);
        };
        if next <= queue.first {
            // A dropped queue of the same name was further.
            queue.slots.drain(..).for_each(&mut dead);
            queue.first = first;
        }
        while first < queue.first {
            // Compaction has moved the first entries behind this record.
            queue.slots.push_front(Slot::default());
            queue.first -= 1;
        }
        while queue.first < first {
            let Some(slot) = queue.slots.pop_front() else { break };
            dead(slot);
            queue.first += 1;
        }
        if queue.slots.is_empty() {
            queue.first = first;
        }
        while queue.first + queue.slots.len() as u64 > next {
            queue.slots.pop_back().into_iter().for_each(&mut dead);
        }
        if next.saturating_sub(queue.next()) <= MAX_QUEUE_LENGTH as u64 {
            while queue.next() < next {
                queue.grow();
                queue.slots.push_back(Slot::default());
            }
        }
        queue.shrink();
    }

    /// Bytes of index memory for queued entries, for the benchmark.
    pub(crate) fn queue_memory(&self) -> usize {
        let slots: usize = self.queues.values().map(|queue| queue.slots.capacity()).sum();
        slots * size_of::<Slot>() + self.queues.len() * size_of::<(QueueId, Queue)>()
    }
}

fn stat(queue: &Queue) -> QueueStat {
    QueueStat { first_seq: queue.first, next_seq: queue.next(), bytes: queue.bytes }
}

/// What a deletion takes besides its key, with its share of a frame.
const DELETION: u64 = 32;

/// An empty body takes room too: its operation.
fn weight(slot: Slot) -> u64 {
    u64::from(slot.len) + 24
}
