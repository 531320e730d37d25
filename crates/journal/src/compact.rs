//! Compaction: copying what lives out of a segment, then removing the file.
//!
//! A deletion is a record too, and must outlive what it deletes: where an older segment remains, the victim's deletions are
//! carried on as well, and a queue's as the range of numbers it holds now.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::batch::QueueId;
use crate::error::{Doing, Error, Part};
use crate::format::{Body, HEADER, Item, Places, Record};
use crate::index::{QueueStat, Slot};
use crate::journal::{Journal, Purpose, record_size, segment_name};
use crate::scan;
use crate::storage::Storage;

/// What [`Journal::maintain`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Maintenance {
    /// Bytes copied.
    pub copied: u64,
    /// Bytes of removed segments.
    pub freed: u64,
    /// Whether there is more to do now.
    pub more: bool,
}

/// A segment being emptied.
#[derive(Debug)]
pub(crate) struct Compaction {
    victim: u32,
    /// What may have to be carried on, last first.
    rest: Vec<Cargo>,
}

/// Something to be carried on if it still matters when its turn comes.
#[derive(Debug)]
enum Cargo {
    Value { key: Box<[u8]>, body: Body },
    Delete { key: Box<[u8]> },
    Entry { body: Body, places: Vec<(QueueId, u64)> },
    Range { queue: QueueId },
}

impl<S: Storage> Journal<S> {
    /// Does a part of what is due: removes segments that are mostly garbage, and those with garbage older than
    /// [`Options::garbage_age`](crate::Options::garbage_age). `now` is any clock that only goes forward. Copies about `budget` bytes
    /// at most. Where nothing is due nothing is written.
    pub fn maintain(&mut self, now: Duration, budget: u32) -> Result<Maintenance, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let mut done = Maintenance::default();
        if self.compaction.is_none() {
            let Some(victim) = self.choose(now) else { return Ok(done) };
            self.begin_compaction(victim)?;
        }
        self.step(u64::from(budget), &mut done)?;
        done.more = self.compaction.is_some() || self.choose(now).is_some();
        Ok(done)
    }

    /// Frees the segment with most garbage, whole; whether that made room.
    pub(crate) fn reclaim(&mut self) -> Result<bool, Error> {
        let before = self.disk_bytes();
        // Emptying the oldest segment makes room only with the next, whose deletions then have nothing left to delete.
        for _ in 0..=self.segments.len() {
            if self.compaction.is_none() {
                // Rewriting a segment for a few bytes would wear out the flash of a journal that is simply full.
                let worth = |&number: &u32| {
                    self.garbage(number) > self.segments.get(&number).map_or(0, |segment| segment.size) / 8
                };
                let most =
                    self.segments.keys().copied().filter(worth).max_by_key(|&number| self.garbage(number));
                let Some(victim) = most.or_else(|| self.oldest_if(before / 8)) else { return Ok(false) };
                self.begin_compaction(victim)?;
            }
            self.step(u64::MAX, &mut Maintenance::default())?;
            if self.disk_bytes() < before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The oldest segment, if more than `limit` bytes of deletions are kept because of it.
    fn oldest_if(&self, limit: u64) -> Option<u32> {
        let deletions: u64 = self.segments.keys().map(|&number| self.index.usage(number).deletions).sum();
        let (&oldest, segment) = self.segments.first_key_value()?;
        (deletions > limit && !segment.stuck).then_some(oldest)
    }

    fn choose(&mut self, now: Duration) -> Option<u32> {
        let garbage: Vec<(u32, u64)> =
            self.segments.keys().map(|&number| (number, self.garbage(number))).collect();
        if let Some(age) = self.options.garbage_age {
            for &(number, garbage) in &garbage {
                if let Some(segment) = self.segments.get_mut(&number).filter(|_| garbage > 0) {
                    let since = *segment.garbage_since.get_or_insert(now);
                    if now.saturating_sub(since) >= age {
                        return Some(number);
                    }
                }
            }
        }
        let total: u64 = garbage.iter().map(|(_, garbage)| garbage).sum();
        let disk = self.disk_bytes();
        // A dead segment is free to remove. Otherwise wait until half of the disk's use, and more than a few segments, is garbage.
        let worth = total > disk / 2 && total > 4 * u64::from(self.options.segment_bytes);
        let most = garbage
            .into_iter()
            .filter(|&(number, _)| self.active.as_ref().is_none_or(|active| active.number != number))
            .filter(|&(number, garbage)| garbage > 0 && (worth || self.index.usage(number).live == 0))
            .max_by_key(|&(_, garbage)| garbage)
            .map(|(number, _)| number);
        most.or_else(|| self.oldest_if((disk / 4).max(4 * u64::from(self.options.segment_bytes))))
    }

    /// About how many bytes of a segment are garbage.
    fn garbage(&self, number: u32) -> u64 {
        let Some(segment) = self.segments.get(&number).filter(|segment| !segment.stuck) else { return 0 };
        let size = segment.size.saturating_sub(HEADER as u64);
        let usage = self.index.usage(number);
        match usage.written {
            // Deletions alone: worth nothing once there is nothing older they could apply to.
            0 if self.segments.range(..number).next().is_some() => 0,
            0 => size,
            written => (u128::from(size) * u128::from(written - usage.live) / u128::from(written)) as u64,
        }
    }

    fn begin_compaction(&mut self, victim: u32) -> Result<(), Error> {
        if self.active.as_ref().is_some_and(|active| active.number == victim) {
            self.mend(victim)?;
            self.sync()?;
            self.active = None;
        }
        let Some(segment) = self.segments.get(&victim) else { return Ok(()) };
        let found = scan::finished(&*segment.file, segment.size, &segment.seals, 0)?;
        let mut rest = Vec::new();
        let mut ranges = BTreeSet::new();
        let mut entries = Vec::new();
        for item in found.summary.items() {
            match item {
                Item::Value { key, body } => rest.push(Cargo::Value { key: key.into(), body }),
                Item::Delete { key } => rest.push(Cargo::Delete { key: key.into() }),
                Item::Run { queue, first, bodies } => {
                    let numbered = (first..).zip(bodies.iter());
                    entries.extend(
                        numbered
                            .filter(|&(seq, body)| is_at(self.index.entry(queue, seq), victim, body))
                            .map(|(seq, body)| (body, queue, seq)),
                    );
                }
                Item::Holds { queue, .. } | Item::Drop { queue } => drop(ranges.insert(queue)),
            }
        }
        // One body may be in many queues.
        entries.sort_unstable();
        rest.extend(entries.chunk_by(|a, b| a.0 == b.0).map(|entries| Cargo::Entry {
            body: entries[0].0,
            places: entries.iter().map(|&(_, queue, seq)| (queue, seq)).collect(),
        }));
        rest.extend(ranges.into_iter().map(|queue| Cargo::Range { queue }));
        rest.reverse();
        self.compaction = Some(Compaction { victim, rest });
        Ok(())
    }

    fn step(&mut self, budget: u64, done: &mut Maintenance) -> Result<(), Error> {
        let Some(mut compaction) = self.compaction.take() else { return Ok(()) };
        let victim = compaction.victim;
        while !compaction.rest.is_empty() {
            if done.copied >= budget {
                self.compaction = Some(compaction);
                return Ok(());
            }
            match self.carry(victim, &mut compaction.rest, budget - done.copied) {
                Ok(copied) => done.copied += copied,
                Err(Error::Corrupt { .. }) => {
                    self.give_up(victim);
                    return Ok(());
                }
                Err(error) => {
                    self.compaction = Some(compaction);
                    return Err(error);
                }
            }
        }
        if self.index.usage(victim).live > 0 {
            // A frame that could be read when the journal was opened cannot be read any more; its bodies may.
            self.give_up(victim);
            return Ok(());
        }
        let size = self.segments.get(&victim).map_or(0, |segment| segment.size);
        self.compaction = Some(compaction);
        // The copies must be durable before the originals go.
        self.sync()?;
        self.storage.remove(&segment_name(victim)).map_err(Error::io(Doing::Remove))?;
        self.storage.sync_dir().map_err(Error::io(Doing::Sync))?;
        self.segments.remove(&victim);
        self.index.forget_segment(victim);
        self.compaction = None;
        done.freed += size;
        Ok(())
    }

    /// Leaves a damaged segment as it is. What was copied out of it lives in the copies.
    fn give_up(&mut self, victim: u32) {
        if let Some(segment) = self.segments.get_mut(&victim) {
            segment.stuck = true;
        }
    }

    /// Appends the next of what still matters, as one frame; how many bytes that were.
    fn carry(&mut self, victim: u32, rest: &mut Vec<Cargo>, budget: u64) -> Result<u64, Error> {
        let older = self.segments.range(..victim).next().is_some();
        let mut kept: Vec<(Record, Option<Vec<u8>>)> = Vec::new();
        let mut left = rest.len();
        let mut size = 0;
        while let Some(cargo) = left.checked_sub(1).and_then(|at| rest.get(at)) {
            if size >= FRAME.min(budget) {
                break;
            }
            left -= 1;
            let record = match cargo {
                Cargo::Value { key, body } if is_at(self.index.value(key), victim, *body) => {
                    let value = self.body(victim, *body, Part::Value)?;
                    (Record::Put { key, len: body.1 }, Some(value))
                }
                Cargo::Delete { key } if older && !self.contains(key) => (Record::Delete { key }, None),
                Cargo::Entry { body, places } => {
                    let still = |&(queue, seq): &(_, _)| is_at(self.index.entry(queue, seq), victim, *body);
                    let at: Places = places.iter().copied().filter(still).collect();
                    if at.len() == 0 {
                        continue;
                    }
                    let entry = self.body(victim, *body, Part::Entry)?;
                    (Record::Place { at, len: body.1 }, Some(entry))
                }
                // Where a later segment has said the range again, that counts.
                Cargo::Range { queue } if self.index.range_segment(*queue) <= victim => {
                    match self.index.queue(*queue) {
                        // Said again even where nothing is older: an empty queue keeps its numbers by this alone.
                        Some(QueueStat { first_seq, next_seq, .. }) => {
                            (Record::Holds { queue: *queue, first: first_seq, next: next_seq }, None)
                        }
                        None if older => (Record::Drop { queue: *queue }, None),
                        None => continue,
                    }
                }
                _ => continue,
            };
            size += record_size(&record.0) + record.1.as_ref().map_or(0, |body| body.len()) as u64;
            kept.push(record);
        }
        let before = self.stats.bytes_compacted;
        let parts: Vec<_> = kept.iter().map(|(record, body)| (record.clone(), body.as_deref())).collect();
        self.write(&parts, Purpose::Compact)?;
        rest.truncate(left);
        Ok(self.stats.bytes_compacted - before)
    }

    fn body(&self, segment: u32, (offset, len): Body, part: Part) -> Result<Vec<u8>, Error> {
        self.load(Slot { segment, offset, len }, part)
    }
}

fn is_at(slot: Option<Slot>, segment: u32, (offset, _): Body) -> bool {
    slot.is_some_and(|slot| slot.segment == segment && slot.offset == offset)
}

/// What is carried on goes into frames of about this size: few enough bytes at a time, and few headers.
const FRAME: u64 = 4096;
