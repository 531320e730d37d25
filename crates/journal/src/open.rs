//! Opening: reading what the segments say back into the index, cutting what a crash left half written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Doing, Error};
use crate::format::{FORMAT, HEADER, Header, Seals};
use crate::index::Index;
use crate::journal::{Active, Journal, Options, Segment, Stats, segment_name};
use crate::scan::{self, Found};
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

impl<S: Storage> Journal<S> {
    fn read_segment(&mut self, number: u32, last: bool, report: &mut OpenReport) -> Result<(), Error> {
        let name = segment_name(number);
        let file = self.storage.open(&name).map_err(Error::io(Doing::Open))?;
        let size = file.size().map_err(Error::io(Doing::Read))?;
        let mut start = [0; HEADER];
        let read = read_full(&file, &mut start, 0).map_err(Error::io(Doing::Read))?;
        report.bytes_read += read as u64;
        let header = match Header::decode(&start) {
            Some(header) if read == HEADER => header,
            // It was whole before the first frame was written. Without the seed no frame is known; the file stays for whoever
            // wants to look at it.
            _ if size > HEADER as u64 => {
                report.damaged += 1;
                return Ok(());
            }
            // Something failed while the segment was begun: it never held a frame.
            _ => {
                report.torn_bytes += size;
                return match self.storage.remove(&name).map_err(Error::io(Doing::Remove)) {
                    Err(Error::ReadOnly) => Ok(()),
                    other => other,
                };
            }
        };
        let seals = Seals { seed: header.seed, key: self.admit(&header)? };
        report.schema = Some(report.schema.map_or(header.schema, |schema| schema.max(header.schema)));

        // Segments before this one can be gone.
        self.appended = self.appended.max(header.after);
        let scan = if last { scan::unfinished } else { scan::finished };
        let Found { summary, damaged, end, bytes_read } = scan(&file, size, &seals, self.appended)?;
        report.damaged += damaged;
        report.bytes_read += bytes_read;
        self.index.apply_all(&summary, number);
        self.appended = self.appended.max(summary.last);

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
        if last && report.schema == Some(self.options.schema) {
            self.active = Some(Active { number, removals: Some(summary.removals()) });
        }
        self.segments.insert(number, Segment { size: end, ..Segment::new(file, seals) });
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
                let (key, check) = key.segment(header.seed.bytes())?;
                if check == header.check { Ok(Some(key)) } else { Err(Error::WrongKey) }
            }
        }
    }
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".qpj")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}
