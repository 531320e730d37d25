//! Opening: reading frame headers back into the index, cutting what a crash left half written, stepping over damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Doing, Error, Part};
use crate::format::{CRC, FORMAT, FRAME_MAGIC, HEADER, Header, PRELUDE, Prelude, Record, crc, stored_len};
use crate::index::{Index, Slot};
use crate::journal::{Journal, Options, Segment, Stats, segment_name};
use crate::seal::SegmentKey;
use crate::storage::{Storage, StorageFile, read_full};

/// What was found when a journal was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// Bytes at the end that were never durable and have been cut.
    pub torn_bytes: u64,
    /// Places where durable bytes are damaged. The batches there are lost, those behind them are not.
    pub damaged: u32,
    /// The newest schema version in the files, which the application has migrated all records to; `None` for a new journal.
    pub schema: Option<u16>,
    /// Bytes read.
    pub bytes_read: u64,
}

pub(crate) fn open<S: Storage>(storage: S, options: Options) -> Result<(Journal<S>, OpenReport), Error> {
    let mut numbers: Vec<u32> = storage
        .list()
        .map_err(Error::io(Doing::List))?
        .iter()
        .filter_map(|name| segment_number(name))
        .collect();
    numbers.sort_unstable();
    let mut journal = Journal {
        storage,
        options,
        index: Index::default(),
        segments: BTreeMap::new(),
        active: None,
        last_segment: numbers.last().copied().unwrap_or(0),
        appended: 0,
        durable: 0,
        compaction: None,
        poisoned: false,
        sync_failed: Arc::default(),
        stats: Stats::default(),
    };
    let mut report = OpenReport::default();
    for (at, &number) in numbers.iter().enumerate() {
        journal.read_segment(number, at + 1 == numbers.len(), &mut report)?;
    }
    journal.durable = journal.appended;
    Ok((journal, report))
}

/// A frame whose header is whole.
struct Found {
    at: u64,
    prelude: Prelude,
    records: Vec<Record>,
}

impl<S: Storage> Journal<S> {
    fn read_segment(&mut self, number: u32, last: bool, report: &mut OpenReport) -> Result<(), Error> {
        let name = segment_name(number);
        let file = self.storage.open(&name).map_err(Error::io(Doing::Open))?;
        let mut scan =
            Scan { size: file.size().map_err(Error::io(Doing::Read))?, file: &file, key: None, read: 0 };
        let header = Header::decode(&scan.bytes(0, HEADER)?);
        let whole_header = header.is_some();
        match header {
            Some(header) => {
                scan.key = self.admit(&header)?;
                report.schema = Some(report.schema.map_or(header.schema, |schema| schema.max(header.schema)));
            }
            // Something failed while the segment was begun: it never held a frame.
            None if (last || scan.size <= HEADER as u64) && scan.find(0, 0)?.is_none() => {
                report.torn_bytes += scan.size;
                return match self.storage.remove(&name).map_err(Error::io(Doing::Remove)) {
                    Err(Error::ReadOnly) => Ok(()),
                    other => other,
                };
            }
            // Without the seed nothing opens, and saying nothing would lose it all.
            None if self.options.key.is_some() => {
                return Err(Error::Corrupt { what: Part::SegmentHeader, segment: number, offset: 0 });
            }
            None => report.damaged += 1,
        }

        let (found, end) = scan.frames(self.appended, last, report)?;
        for frame in found {
            let mut at = frame.at + PRELUDE as u64 + u64::from(frame.prelude.meta_len);
            for record in &frame.records {
                let mut slot = Slot { segment: number, offset: 0, len: 0 };
                if let Some(len) = record.body_len() {
                    slot = Slot { segment: number, offset: at as u32, len };
                    at += stored_len(len, scan.key.is_some());
                }
                self.index.apply(record, slot);
            }
            self.appended = frame.prelude.serial;
        }
        report.bytes_read += scan.read;
        let (size, key) = (scan.size, scan.key.take());
        let mut settled = Ok(());
        if end < size {
            report.torn_bytes += size - end;
            settled = file.truncate(end).map_err(Error::io(Doing::Truncate));
        }
        if last {
            // A process that was killed may have left batches the disk does not have yet. From here on they count as durable, and
            // the next header will say so.
            settled = settled.and_then(|()| file.sync().map_err(Error::io(Doing::Sync)));
        }
        match settled {
            // Reading goes on; nothing can be appended anyway.
            Err(Error::ReadOnly) => self.poisoned = true,
            other => other?,
        }
        if last && whole_header && report.schema == Some(self.options.schema) {
            self.active = Some(number);
        }
        self.segments.insert(
            number,
            Segment { file: Arc::new(file), size: end, key, garbage_since: None, stuck: false },
        );
        Ok(())
    }

    fn admit(&self, header: &Header) -> Result<Option<SegmentKey>, Error> {
        if header.format > FORMAT {
            return Err(Error::NewerFormat { found: header.format, supported: FORMAT });
        }
        if header.schema > self.options.schema {
            return Err(Error::NewerSchema { found: header.schema, supported: self.options.schema });
        }
        match (&self.options.key, header.sealed) {
            (None, false) => Ok(None),
            (None, true) => Err(Error::WrongKey),
            (Some(_), false) => Err(Error::NotSealed),
            (Some(key), true) => {
                let (key, check) = key.segment(&header.seed)?;
                if check == header.check { Ok(Some(key)) } else { Err(Error::WrongKey) }
            }
        }
    }
}

struct Scan<'a, F> {
    file: &'a F,
    size: u64,
    key: Option<SegmentKey>,
    read: u64,
}

impl<F: StorageFile> Scan<'_, F> {
    /// All whole frames behind `serial`, and where the segment's whole part ends.
    fn frames(
        &mut self,
        mut serial: u64,
        last: bool,
        report: &mut OpenReport,
    ) -> Result<(Vec<Found>, u64), Error> {
        let mut found: Vec<Found> = Vec::new();
        let mut at = HEADER as u64;
        let mut end = self.size;
        let mut damaged = 0;
        while at < self.size {
            if let Some(frame) = self.frame(at, serial)? {
                at += frame.prelude.frame_len();
                serial = frame.prelude.serial;
                found.push(frame);
                continue;
            }
            // Damage or a torn tail? It was durable if the segment is closed, or if a later frame says so.
            match self.find(at + 1, serial)? {
                Some(next) if !last || self.vouched(next, serial)? => {
                    damaged += 1;
                    at = next;
                }
                None if !last => {
                    damaged += 1;
                    break;
                }
                _ => {
                    end = at;
                    break;
                }
            }
        }
        if last {
            // Headers can be on the disk without their bodies, unless a later header vouches for them.
            let durable = found.iter().map(|frame| frame.prelude.durable).max().unwrap_or(0);
            let mut whole = found.len();
            for (index, frame) in found.iter().enumerate() {
                if frame.prelude.serial > durable && !self.bodies_are_whole(frame)? {
                    whole = index;
                    end = frame.at;
                    break;
                }
            }
            found.truncate(whole);
        }
        report.damaged += damaged;
        Ok((found, end))
    }

    /// The frame at `at`, if a whole one with a serial above `after` stands there.
    fn frame(&mut self, at: u64, after: u64) -> Result<Option<Found>, Error> {
        let Some((prelude, stored)) = self.checked(at, after)? else { return Ok(None) };
        let meta = match &self.key {
            None => Some(stored),
            Some(key) => key.open(stored, (at + PRELUDE as u64) as u32),
        };
        let sealed = self.key.is_some();
        Ok(meta.and_then(|meta| Record::decode_all(&meta)).and_then(|records| {
            let bodies: u64 =
                records.iter().filter_map(Record::body_len).map(|len| stored_len(len, sealed)).sum();
            (bodies == u64::from(prelude.bodies_len)).then_some(Found { at, prelude, records })
        }))
    }

    /// Prelude and stored metadata at `at`, if their checksum is right and the frame ends inside the file.
    fn checked(&mut self, at: u64, after: u64) -> Result<Option<(Prelude, Vec<u8>)>, Error> {
        // One read serves most frames: few have more metadata than this.
        let mut bytes = self.bytes(at, PRELUDE + 224)?;
        let Some(prelude) = Prelude::decode(&bytes) else { return Ok(None) };
        if prelude.serial <= after || at + prelude.frame_len() > self.size {
            return Ok(None);
        }
        let end = PRELUDE + prelude.meta_len as usize;
        if bytes.len() < end {
            let rest = self.bytes(at + bytes.len() as u64, end - bytes.len())?;
            bytes.extend(rest);
        }
        bytes.truncate(end);
        let stored = bytes.split_off(PRELUDE);
        Ok(prelude.matches(&stored).then_some((prelude, stored)))
    }

    /// Where the next whole frame begins at or behind `from`.
    fn find(&mut self, from: u64, after: u64) -> Result<Option<u64>, Error> {
        let rest = self.bytes(from, usize::try_from(self.size.saturating_sub(from)).unwrap_or(usize::MAX))?;
        for (index, window) in rest.windows(FRAME_MAGIC.len()).enumerate() {
            if window == FRAME_MAGIC && self.checked(from + index as u64, after)?.is_some() {
                return Ok(Some(from + index as u64));
            }
        }
        Ok(None)
    }

    /// Whether a frame from `at` on says that more than `serial` was durable.
    fn vouched(&mut self, mut at: u64, serial: u64) -> Result<bool, Error> {
        while let Some((prelude, _)) = self.checked(at, serial)? {
            if prelude.durable > serial {
                return Ok(true);
            }
            at += prelude.frame_len();
        }
        Ok(false)
    }

    fn bodies_are_whole(&mut self, frame: &Found) -> Result<bool, Error> {
        let mut at = frame.at + PRELUDE as u64 + u64::from(frame.prelude.meta_len);
        for len in frame.records.iter().filter_map(Record::body_len) {
            let stored = self.bytes(at, stored_len(len, self.key.is_some()) as usize)?;
            let Some((body, checksum)) = stored.split_last_chunk::<CRC>() else { return Ok(false) };
            if crc(&[body]).to_be_bytes() != *checksum {
                return Ok(false);
            }
            at += stored.len() as u64;
        }
        Ok(true)
    }

    /// Up to `len` bytes; fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let read = read_full(self.file, &mut bytes, at).map_err(Error::io(Doing::Read))?;
        bytes.truncate(read);
        self.read += read as u64;
        Ok(bytes)
    }
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".qpj")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}
