//! The journal: appending, syncing and reading.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::batch::{Batch, Op, QueueId, within};
use crate::compact::Compaction;
use crate::error::{self, Doing, Error, Limit};
use crate::format::{
    FORMAT, Frame, HEADER, Header, PRELUDE, Part, Places, Record, Seals, Seed, Summary, stored_len,
};
use crate::index::{Index, QueueStat, Slot};
use crate::limits::{MAX_BATCH, MAX_METADATA, MAX_QUEUE_LENGTH};
use crate::open::{self, OpenReport};
use crate::seal::{SealKey, random};
use crate::storage::{Storage, StorageFile, read_full, write_full};

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment is closed when the next batch would make it larger than this. A batch that is larger gets a segment of its own.
    pub segment_bytes: u32,
    /// Bytes all segments together may take. A part of it is kept for deletions and for compaction.
    pub max_bytes: u64,
    /// The version of what the application stores; a journal with a higher one is refused.
    pub schema: u16,
    /// Seals everything but lengths and times.
    pub key: Option<SealKey>,
    /// Deleted data is gone from the files after this time, given that [`Journal::maintain`] is called.
    pub garbage_age: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 256 * 1024, max_bytes: 64 << 20, schema: 1, key: None, garbage_age: None }
    }
}

/// A place in the log: behind a batch.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position(pub(crate) u64);

/// What a journal has and did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Bytes of all segments.
    pub disk_bytes: u64,
    /// Bytes of bodies that are not deleted, counted once for each queue that holds them.
    pub live_bytes: u64,
    /// How many segments there are.
    pub segments: u32,
    /// Bytes written since the journal was opened.
    pub bytes_written: u64,
    /// Of these, by compaction.
    pub bytes_compacted: u64,
    /// How often a file was synced since the journal was opened.
    pub syncs: u64,
    /// Batches appended since the journal was opened.
    pub batches: u64,
    /// Bytes of memory the index needs for queued entries.
    pub queue_memory: usize,
    /// Whether writes are refused until the journal is opened again.
    pub poisoned: bool,
    /// Segments that damage keeps from being emptied.
    pub stuck: u32,
}

pub(crate) struct Segment<F> {
    pub(crate) file: Arc<F>,
    pub(crate) size: u64,
    pub(crate) seals: Seals,
    /// When [`Journal::maintain`] first saw garbage in it.
    pub(crate) garbage_since: Option<Duration>,
    /// Damage keeps compaction from emptying it: it stays, with what can still be read.
    pub(crate) stuck: bool,
    /// Half a frame may stand behind its end.
    pub(crate) ragged: bool,
}

impl<F> Segment<F> {
    /// A segment with nothing but its header.
    pub(crate) fn new(file: F, seals: Seals) -> Self {
        Self {
            file: Arc::new(file),
            size: HEADER as u64,
            seals,
            garbage_since: None,
            stuck: false,
            ragged: false,
        }
    }
}

/// The segment that is appended to.
pub(crate) struct Active {
    pub(crate) number: u32,
    /// What it deletes, which the index does not know when the footer is written; `None` once that is too much for one.
    pub(crate) removals: Option<Summary>,
}

/// A map and queues in one log; see the crate's documentation.
pub struct Journal<S: Storage> {
    pub(crate) storage: S,
    pub(crate) options: Options,
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u32, Segment<S::File>>,
    /// `None` where the next batch begins a new segment.
    pub(crate) active: Option<Active>,
    pub(crate) last_segment: u32,
    pub(crate) appended: u64,
    pub(crate) durable: u64,
    pub(crate) compaction: Option<Compaction>,
    pub(crate) poisoned: bool,
    pub(crate) sync_failed: Arc<Mutex<bool>>,
    pub(crate) stats: Stats,
}

impl<S: Storage> std::fmt::Debug for Journal<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<S: Storage> Journal<S> {
    /// Opens the journal in `storage`, or begins one where there are no segments.
    pub fn open(storage: S, options: Options) -> Result<(Self, OpenReport), Error> {
        open::open(storage, options)
    }

    /// Appends a batch: it is visible from now on, and durable once a sync that was started later has ended. After an
    /// error nothing of it is visible, now or after the journal is opened again.
    pub fn append(&mut self, batch: &Batch) -> Result<Position, Error> {
        batch.check()?;
        let parts = self.resolve(batch)?;
        self.write(&parts, Purpose::of(batch))?;
        Ok(self.appended())
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> Result<Position, Error> {
        let job = self.start_sync();
        self.finish_sync(job.run())
    }

    /// Appends a batch and makes it durable.
    pub fn commit(&mut self, batch: &Batch) -> Result<Position, Error> {
        self.append(batch)?;
        self.sync()
    }

    /// Begins a sync of everything appended so far, to be run on any thread.
    pub fn start_sync(&self) -> SyncJob<S> {
        let dirty = self.durable < self.appended;
        self.sync_job(self.active.as_ref().filter(|_| dirty).map(|active| active.number))
    }

    fn sync_job(&self, segment: Option<u32>) -> SyncJob<S> {
        let file = segment.and_then(|number| self.segments.get(&number)).map(|found| Arc::clone(&found.file));
        SyncJob { file, up_to: self.appended, failed: Arc::clone(&self.sync_failed) }
    }

    /// Takes note of a sync that has been run.
    pub fn finish_sync(&mut self, done: Synced) -> Result<Position, Error> {
        if let Some(result) = done.result {
            self.stats.syncs += 1;
            if let Err(error) = result {
                // What a failed fdatasync leaves on the disk is unknown, and a second one may report success.
                self.poisoned = true;
                return Err(Error::io(Doing::Sync)(error));
            }
        }
        self.durable = self.durable.max(done.up_to);
        Ok(self.durable())
    }

    /// Up to where everything survives a power cut.
    pub fn durable(&self) -> Position {
        Position(self.durable)
    }

    /// Behind the last batch.
    pub fn appended(&self) -> Position {
        Position(self.appended)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.index.value(key).map(|slot| self.load(slot, error::Part::Value)).transpose()
    }

    /// Whether a key has a value.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.index.value(key).is_some()
    }

    /// The keys that begin with `prefix`, in order.
    pub fn keys<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.index.keys(prefix)
    }

    /// What a queue holds, or `None` if there is no such queue.
    pub fn queue(&self, id: QueueId) -> Option<QueueStat> {
        self.index.queue(id)
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, QueueStat)> + '_ {
        self.index.queues()
    }

    /// An entry of a queue, or `None` if the queue does not hold the number. One that was lost to damage is an error.
    pub fn read(&self, id: QueueId, seq: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.index.entry(id, seq) {
            Some(slot) => self.load(slot, error::Part::Entry).map(Some),
            None if self.queue(id).is_some_and(|stat| (stat.first_seq..stat.next_seq).contains(&seq)) => {
                Err(Error::Corrupt { what: error::Part::Entry, segment: 0, offset: 0 })
            }
            None => Ok(None),
        }
    }

    /// The length of an entry, without reading it.
    pub fn body_len(&self, id: QueueId, seq: u64) -> Option<u32> {
        self.index.entry(id, seq).map(|slot| slot.len)
    }

    /// What the journal has and did.
    pub fn stats(&self) -> Stats {
        Stats {
            disk_bytes: self.disk_bytes(),
            live_bytes: self.live_bytes(),
            segments: self.segments.len() as u32,
            queue_memory: self.index.queue_memory(),
            poisoned: self.poisoned,
            stuck: self.segments.values().filter(|segment| segment.stuck).count() as u32,
            ..self.stats
        }
    }

    /// As in [`Stats`].
    pub fn live_bytes(&self) -> u64 {
        self.index.live()
    }

    /// As in [`Stats`].
    pub fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.size).sum()
    }

    /// Turns operations into records with explicit sequence numbers, leaving out those without an effect.
    fn resolve<'a>(&self, batch: &'a Batch) -> Result<Vec<Part<'a>>, Error> {
        let mut parts = Vec::with_capacity(batch.ops.len());
        let mut queues = Ranges::default();
        let now = |id| self.index.queue(id).map(|stat| (stat.first_seq, stat.next_seq));
        for op in &batch.ops {
            match op {
                Op::Put { key, value } => {
                    parts.push((Record::Put { key, len: value.len() as u32 }, Some(&value[..])));
                }
                Op::Delete { key } => {
                    let same =
                        |(record, _): &Part| matches!(record, Record::Put { key: put, .. } if put == key);
                    if self.contains(key) || parts.iter().any(same) {
                        parts.push((Record::Delete { key }, None));
                    }
                }
                Op::Push { queues: ids, body } => {
                    let mut at = Places::for_queues(ids.len());
                    for &id in ids {
                        let range = queues.get_mut(id, now);
                        let (first, next) = range.unwrap_or((1, 1));
                        within(Limit::QueueLength, (next - first + 1) as usize, MAX_QUEUE_LENGTH)?;
                        *range = Some((first, next + 1));
                        at.push(id, next);
                    }
                    if !ids.is_empty() {
                        parts.push((Record::Place { at, len: body.len() as u32 }, Some(&body[..])));
                    }
                }
                Op::Trim { queue, up_to } => {
                    let range = queues.get_mut(*queue, now);
                    if let Some((first, next)) = *range {
                        let kept = up_to.saturating_add(1).min(next);
                        if kept > first {
                            *range = Some((kept, next));
                            parts.push((Record::Holds { queue: *queue, first: kept, next }, None));
                        }
                    }
                }
                Op::DropQueue { queue } => {
                    if queues.get_mut(*queue, now).take().is_some() {
                        parts.push((Record::Drop { queue: *queue }, None));
                    }
                }
            }
        }
        Ok(parts)
    }

    /// Writes records as one frame and applies them.
    pub(crate) fn write(&mut self, parts: &[Part], purpose: Purpose) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let size = frame_size(parts, self.options.key.is_some())?;
        self.make_room(size, purpose)?;
        let number = self.segment_for(size)?;
        let Some(segment) = self.segments.get_mut(&number) else { return Err(Error::Poisoned) };
        let (serial, base) = (self.appended + 1, segment.size as u32);
        let frame = Frame::encode(parts, size as usize, serial, self.durable, base, &segment.seals)?;
        self.extend(number, &frame.bytes)?;
        self.appended = serial;
        self.stats.batches += 1;
        if purpose == Purpose::Compact {
            self.stats.bytes_compacted += frame.bytes.len() as u64;
        }
        let mut bodies = frame.bodies.into_iter();
        for (record, _) in parts {
            let slot = match record.body_len() {
                Some(len) => Slot { segment: number, offset: bodies.next().unwrap_or_default(), len },
                None => Slot { segment: number, offset: 0, len: 0 },
            };
            self.index.apply(record, slot);
            self.note_removal(record);
        }
        Ok(())
    }

    /// Writes at the end of a segment; after an error that end is where it was.
    fn extend(&mut self, number: u32, bytes: &[u8]) -> Result<(), Error> {
        self.mend(number)?;
        let Some(segment) = self.segments.get_mut(&number) else { return Err(Error::Poisoned) };
        let mut written = 0;
        let result = write_full(&*segment.file, bytes, segment.size, &mut written);
        self.stats.bytes_written += u64::from(written);
        if let Err(error) = result {
            segment.ragged = true;
            // A full JFFS2 has no room even for this; then it is done before the next write.
            let _ = self.mend(number);
            return Err(Error::io(Doing::Write)(error));
        }
        segment.size += bytes.len() as u64;
        Ok(())
    }

    /// Cuts half a frame off, so that the next one stands in its place. Durably: in a finished segment it would be damage.
    pub(crate) fn mend(&mut self, number: u32) -> Result<(), Error> {
        let Some(segment) = self.segments.get_mut(&number).filter(|segment| segment.ragged) else {
            return Ok(());
        };
        segment.file.truncate(segment.size).map_err(Error::io(Doing::Write))?;
        if let Err(error) = segment.file.sync() {
            self.poisoned = true;
            // The kernel says it once: a sync that was to come would find nothing amiss.
            *self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            return Err(Error::io(Doing::Sync)(error));
        }
        segment.ragged = false;
        Ok(())
    }

    /// How many bytes all segments may have together after a write.
    fn limit(&self, purpose: Purpose) -> u64 {
        let reserve = u64::from(self.options.segment_bytes).min(self.options.max_bytes / 4);
        match purpose {
            // Compaction needs the old and the new copy side by side for a while.
            Purpose::Compact => self.options.max_bytes,
            Purpose::Remove => self.options.max_bytes - reserve / 2,
            Purpose::Store => self.options.max_bytes - reserve,
        }
    }

    /// Sees to it that `size` more bytes stay within the budget.
    fn make_room(&mut self, size: u64, purpose: Purpose) -> Result<(), Error> {
        let limit = self.limit(purpose);
        if purpose != Purpose::Compact {
            while self.disk_bytes() + size > limit && self.reclaim()? {}
        }
        if self.disk_bytes() + size > limit { Err(Error::Full) } else { Ok(()) }
    }

    /// Notes what the footer of the active segment has to say beside what the index knows.
    fn note_removal(&mut self, record: &Record) {
        let Some(Active { removals, .. }) = &mut self.active else { return };
        let Some(noted) = removals else { return };
        match record {
            Record::Delete { key } => noted.delete(key),
            Record::Drop { queue } => noted.drop_queue(*queue),
            _ => return,
        }
        if noted.len() as u64 > u64::from(self.options.segment_bytes) / 8 {
            *removals = None;
        }
    }

    /// The segment the next `size` bytes go to: the active one, or a new one after finishing the active one.
    fn segment_for(&mut self, size: u64) -> Result<u32, Error> {
        if let Some(Active { number, .. }) = self.active {
            let segment = self.segments.get(&number).map_or(0, |segment| segment.size);
            if segment + size <= u64::from(self.options.segment_bytes) || segment == HEADER as u64 {
                return Ok(number);
            }
            self.finish_segment()?;
        }
        self.begin_segment()
    }

    /// Writes the footer, if one is worth its bytes, and makes the active segment durable; it is no longer the active one.
    fn finish_segment(&mut self) -> Result<(), Error> {
        let footer = self.footer()?;
        if let Some((number, footer)) = &footer {
            match self.extend(*number, footer) {
                // Opening reads the frames instead.
                Err(_) if !self.poisoned => {}
                other => other?,
            }
        }
        if let Some(Active { number, .. }) = self.active {
            self.mend(number)?;
        }
        // The frames may be durable already, the footer is not.
        let job = footer.map_or_else(|| self.start_sync(), |(number, _)| self.sync_job(Some(number)));
        self.finish_sync(job.run())?;
        self.active = None;
        Ok(())
    }

    fn footer(&self) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let Some(Active { number, removals: Some(removals) }) = &self.active else { return Ok(None) };
        let Some(segment) = self.segments.get(number) else { return Ok(None) };
        let mut summary = removals.clone();
        summary.last = self.appended;
        summary.written = Some(self.index.usage(*number).written);
        self.index.summarize(*number, &mut summary);
        // What is mostly deleted already will soon be compacted, and small bodies are read as fast as a footer.
        if summary.len() as u64 > self.index.usage(*number).live / 5 {
            return Ok(None);
        }
        let footer = summary.footer(segment.size as u32, &segment.seals)?;
        let fits = self.disk_bytes() + footer.len() as u64 <= self.limit(Purpose::Store);
        Ok(fits.then_some((*number, footer)))
    }

    fn begin_segment(&mut self) -> Result<u32, Error> {
        let number = self.last_segment + 1;
        let seed = Seed::new(random()?);
        let (key, check) = match &self.options.key {
            Some(key) => key.segment(seed.bytes()).map(|(key, check)| (Some(key), check))?,
            None => (None, [0; 8]),
        };
        let header = Header {
            format: FORMAT,
            schema: self.options.schema,
            number,
            sealed: key.is_some(),
            seed,
            check,
            after: self.appended,
        };
        let name = segment_name(number);
        let file = self.storage.create(&name).map_err(Error::io(Doing::Create))?;
        let mut written = 0;
        // Durable before the first frame, so that opening can tell a damaged header from one that never was.
        let result = write_full(&file, &header.encode(), 0, &mut written)
            .map_err(Error::io(Doing::Write))
            .and_then(|()| file.sync().map_err(Error::io(Doing::Sync)))
            .and_then(|()| self.storage.sync_dir().map_err(Error::io(Doing::Sync)));
        self.stats.bytes_written += u64::from(written);
        if let Err(error) = result {
            // A name that stays behind is a segment without frames, which opening removes.
            self.last_segment = number;
            let _ = self.storage.remove(&name);
            return Err(error);
        }
        self.last_segment = number;
        self.active = Some(Active { number, removals: Some(Summary::default()) });
        self.segments.insert(number, Segment::new(file, Seals { seed, key }));
        Ok(number)
    }

    pub(crate) fn load(&self, slot: Slot, part: error::Part) -> Result<Vec<u8>, Error> {
        let corrupt = || Error::Corrupt { what: part, segment: slot.segment, offset: slot.offset };
        let segment = self.segments.get(&slot.segment).ok_or_else(corrupt)?;
        let Seals { seed, key } = &segment.seals;
        let mut stored = vec![0; stored_len(slot.len, key.is_some()) as usize];
        let read =
            read_full(&*segment.file, &mut stored, slot.offset.into()).map_err(Error::io(Doing::Read))?;
        let whole = seed.verified(&stored[..read]).ok_or_else(corrupt)?.len();
        stored.truncate(whole);
        match key {
            None => Ok(stored),
            Some(key) => key.open(stored, slot.offset).ok_or_else(corrupt),
        }
    }
}

/// Queues that a batch changes, as they will be: first and next number, or gone. In the order of their names.
#[derive(Default)]
struct Ranges(Vec<(QueueId, Option<(u64, u64)>)>);

impl Ranges {
    /// `now` says what a queue is before the batch.
    fn get_mut(
        &mut self,
        id: QueueId,
        now: impl Fn(QueueId) -> Option<(u64, u64)>,
    ) -> &mut Option<(u64, u64)> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).unwrap_or_else(|at| {
            self.0.insert(at, (id, now(id)));
            at
        });
        &mut self.0[at].1
    }
}

/// What a batch is written for; decides how far into the budget it may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Store,
    Remove,
    Compact,
}

impl Purpose {
    fn of(batch: &Batch) -> Self {
        if batch.only_removes() { Self::Remove } else { Self::Store }
    }
}

/// A sync under way; see [`Journal::start_sync`].
#[derive(Debug)]
pub struct SyncJob<S: Storage> {
    file: Option<Arc<S::File>>,
    up_to: u64,
    failed: Arc<Mutex<bool>>,
}

impl<S: Storage> SyncJob<S> {
    /// Blocks until the data is durable, or the operating system says that it is not.
    pub fn run(self) -> Synced {
        // One at a time, and none after one that failed: the operating system reports a loss once, and a later sync of the
        // same file would succeed without what was lost.
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.file.map(|file| match *failed {
            true => Err(io::Error::other("an earlier sync failed")),
            false => file.sync(),
        });
        *failed |= matches!(result, Some(Err(_)));
        Synced { result, up_to: self.up_to }
    }
}

/// A sync that has been run, for [`Journal::finish_sync`].
#[derive(Debug)]
pub struct Synced {
    /// `None` where there was nothing to sync.
    result: Option<io::Result<()>>,
    up_to: u64,
}

pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:08x}.qpj")
}

/// Bytes of a record in a frame's metadata.
pub(crate) fn record_size(record: &Record) -> u64 {
    let size = match record {
        Record::Put { key, .. } => 7 + key.len(),
        Record::Delete { key } => 3 + key.len(),
        Record::Place { at, .. } => 7 + 16 * at.len(),
        Record::Drop { .. } => 9,
        Record::Holds { .. } => 25,
    };
    size as u64
}

fn frame_size(parts: &[Part], sealed: bool) -> Result<u64, Error> {
    let meta: u64 = parts.iter().map(|(record, _)| record_size(record)).sum();
    within(Limit::Metadata, meta as usize, MAX_METADATA)?;
    let bodies: u64 =
        parts.iter().filter_map(|(record, _)| record.body_len()).map(|len| stored_len(len, sealed)).sum();
    let size = PRELUDE as u64 + stored_len(meta as u32, sealed) + bodies;
    within(Limit::Batch, usize::try_from(size).unwrap_or(usize::MAX), MAX_BATCH)?;
    Ok(size)
}
