//! Compaction: copying what lives out of a segment, then removing the file.
//!
//! A deletion is a record too, and must outlive what it deletes: where an older segment remains, the victim's deletions are
//! carried on as well, and a queue's as the range of numbers it holds now.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::{Doing, Error, Part};
use crate::format::{HEADER, Places, Record, Records, Summary, stored_len};
use crate::index::Slot;
use crate::journal::{Journal, Purpose, segment_name};
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
    summary: Summary,
    /// Where in the summary the next frame to look at is.
    at: usize,
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
        if let Some(segment) = self.segments.get(&victim) {
            let found = scan::finished(&*segment.file, segment.size, &segment.seals, 0)?;
            self.compaction = Some(Compaction { victim, summary: found.summary, at: 0 });
        }
        Ok(())
    }

    fn step(&mut self, budget: u64, done: &mut Maintenance) -> Result<(), Error> {
        let Some(mut compaction) = self.compaction.take() else { return Ok(()) };
        let victim = compaction.victim;
        while let Some((bodies_at, records, next)) = compaction.summary.frame(compaction.at) {
            if done.copied >= budget {
                self.compaction = Some(compaction);
                return Ok(());
            }
            match self.carry(victim, records, bodies_at) {
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
            compaction.at = next;
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

    /// Appends what still matters of one frame; how many bytes that were.
    fn carry(&mut self, victim: u32, records: Records, bodies_at: u32) -> Result<u64, Error> {
        let older = self.segments.range(..victim).next().is_some();
        let mut queues = BTreeSet::new();
        let mut kept: Vec<(Record, Option<Vec<u8>>)> = Vec::new();
        let mut next_body = bodies_at;
        for record in records {
            let offset = next_body;
            next_body +=
                record.body_len().map_or(0, |len| stored_len(len, self.options.key.is_some()) as u32);
            let here = |slot: Option<Slot>| slot.is_some_and(|s| s.segment == victim && s.offset == offset);
            match record {
                Record::Put { key, len } if here(self.index.value(key)) => {
                    kept.push((record, Some(self.body(victim, offset, len, Part::Value)?)));
                }
                Record::Place { at, len } => {
                    let at: Places =
                        at.iter().filter(|&(queue, seq)| here(self.index.entry(queue, seq))).collect();
                    if at.len() > 0 {
                        let body = self.body(victim, offset, len, Part::Entry)?;
                        kept.push((Record::Place { at, len }, Some(body)));
                    }
                }
                Record::Delete { key } if older && !self.contains(key) => kept.push((record, None)),
                // Where a later segment has said the range again, that counts.
                Record::Holds { queue, .. } | Record::Drop { queue }
                    if self.index.range_segment(queue) <= victim =>
                {
                    queues.insert(queue);
                }
                _ => {}
            }
        }
        for queue in queues {
            match self.index.queue(queue) {
                // Said again even where nothing is older: an empty queue keeps its numbers by this alone.
                Some(stat) => {
                    let holds = Record::Holds { queue, first: stat.first_seq, next: stat.next_seq };
                    kept.push((holds, None));
                }
                None if older => kept.push((Record::Drop { queue }, None)),
                None => {}
            }
        }
        let before = self.stats.bytes_compacted;
        let parts: Vec<_> = kept.iter().map(|(r, body)| (r.clone(), body.as_deref())).collect();
        self.write(&parts, Purpose::Compact)?;
        Ok(self.stats.bytes_compacted - before)
    }

    fn body(&self, segment: u32, offset: u32, len: u32, part: Part) -> Result<Vec<u8>, Error> {
        self.load(Slot { segment, offset, len }, part)
    }
}
