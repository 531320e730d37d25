//! What a segment says, without its bodies: read from its footer, or frame by frame.

use crate::error::{Doing, Error};
use crate::format::{
    FOOTER_END, Frames, HEADER, PRELUDE, Prelude, Records, Seals, Summary, footer_len, stored_len,
};
use crate::storage::{StorageFile, read_full};

/// One read of this size serves most frames with a large body, or several small ones.
const READ: usize = 512;

/// What was found in a segment.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) summary: Summary,
    /// Places that were durable and are no frames any more.
    pub(crate) damaged: u32,
    /// Where the segment's whole part ends.
    pub(crate) end: u64,
    pub(crate) bytes_read: u64,
}

/// A segment that was finished: all of it was durable before the next one was begun.
pub(crate) fn finished(file: &dyn StorageFile, size: u64, seals: &Seals, after: u64) -> Result<Found, Error> {
    let mut scan = Scan::new(file, size, seals);
    let (summary, damaged) = match scan.footer()? {
        Some(summary) => (summary, 0),
        None => {
            let Walk { frames, last, gaps, .. } = scan.walk(after)?;
            (frames.summary(last, seals.key.is_some()), gaps.len() as u32)
        }
    };
    Ok(Found { summary, damaged, end: size, bytes_read: scan.bytes_read })
}

/// The last segment: what a crash left half written at its end is not part of it.
pub(crate) fn unfinished(
    file: &dyn StorageFile,
    size: u64,
    seals: &Seals,
    after: u64,
) -> Result<Found, Error> {
    let mut scan = Scan::new(file, size, seals);
    let Walk { mut frames, mut last, seen, gaps, durable } = scan.walk(after)?;
    // A gap is damage if a later frame says that what stood there was durable. Otherwise the log ends there.
    let serial_before =
        |gap: &Gap| gap.frames_before.checked_sub(1).map_or(after, |index| seen[index].serial);
    let torn = gaps.iter().position(|gap| serial_before(gap) >= durable);
    let (mut whole, mut end) = torn.map_or((seen.len(), size), |at| (gaps[at].frames_before, gaps[at].at));
    // Frames can be on the disk without their bodies, unless a later frame vouches for them.
    for (index, frame) in seen.iter().enumerate().take(whole) {
        if frame.serial > durable && !scan.bodies_are_whole(&frames, frame)? {
            (whole, end) = (index, frame.at);
            break;
        }
    }
    if let Some(first) = seen.get(whole) {
        last = whole.checked_sub(1).map_or(after, |index| seen[index].serial);
        frames.truncate(first.in_frames);
    }
    let damaged = gaps.iter().filter(|gap| gap.at < end).count() as u32;
    Ok(Found {
        summary: frames.summary(last, seals.key.is_some()),
        damaged,
        end,
        bytes_read: scan.bytes_read,
    })
}

/// All whole frames of a segment.
struct Walk {
    frames: Frames,
    /// The last one's serial.
    last: u64,
    seen: Vec<Seen>,
    gaps: Vec<Gap>,
    /// The highest serial that a frame says was durable.
    durable: u64,
}

struct Seen {
    at: u64,
    serial: u64,
    in_frames: usize,
}

/// Bytes that are no frame.
struct Gap {
    at: u64,
    frames_before: usize,
}

/// A frame without its bodies; the metadata is not sealed.
struct Frame {
    at: u64,
    prelude: Prelude,
    meta: Vec<u8>,
}

struct Scan<'a> {
    file: &'a dyn StorageFile,
    size: u64,
    seals: &'a Seals,
    /// Read ahead, and from where.
    buffer: Vec<u8>,
    buffer_at: u64,
    bytes_read: u64,
}

impl<'a> Scan<'a> {
    fn new(file: &'a dyn StorageFile, size: u64, seals: &'a Seals) -> Self {
        Self { file, size, seals, buffer: Vec::new(), buffer_at: 0, bytes_read: 0 }
    }

    fn footer(&mut self) -> Result<Option<Summary>, Error> {
        let Some(end_at) = self.size.checked_sub(FOOTER_END as u64) else { return Ok(None) };
        let seals = self.seals;
        let len = self.bytes(end_at, FOOTER_END)?.first_chunk().and_then(|end| footer_len(end, &seals.seed));
        let Some(at) = len.and_then(|len| self.size.checked_sub(len)).filter(|&at| at >= HEADER as u64)
        else {
            return Ok(None);
        };
        let footer = self.bytes(at, (self.size - at) as usize)?;
        Ok(Summary::from_footer(footer, at as u32, seals))
    }

    fn walk(&mut self, after: u64) -> Result<Walk, Error> {
        let mut walk =
            Walk { frames: Frames::default(), last: after, seen: Vec::new(), gaps: Vec::new(), durable: 0 };
        let mut at = HEADER as u64;
        while at < self.size {
            let frame = match self.frame(at, walk.last)? {
                Some(frame) => frame,
                None => {
                    walk.gaps.push(Gap { at, frames_before: walk.seen.len() });
                    let Some(frame) = self.find(at + 1, walk.last)? else { break };
                    frame
                }
            };
            let serial = frame.prelude.serial;
            walk.seen.push(Seen { at: frame.at, serial, in_frames: walk.frames.len() });
            let bodies_at = frame.at + PRELUDE as u64 + u64::from(frame.prelude.meta_len);
            walk.frames.push(bodies_at as u32, &frame.meta);
            walk.last = serial;
            walk.durable = walk.durable.max(frame.prelude.durable);
            at = frame.at + frame.prelude.frame_len();
        }
        Ok(walk)
    }

    /// The frame at `at`, if a whole one with a serial above `after` stands there.
    fn frame(&mut self, at: u64, after: u64) -> Result<Option<Frame>, Error> {
        let Seals { seed, key } = self.seals;
        let Some(prelude) = Prelude::decode(self.bytes(at, PRELUDE)?, seed) else { return Ok(None) };
        if prelude.serial <= after || at + prelude.frame_len() > self.size {
            return Ok(None);
        }
        let stored = self.bytes(at, PRELUDE + prelude.meta_len as usize)?.get(PRELUDE..).unwrap_or_default();
        if !prelude.matches(stored, seed) {
            return Ok(None);
        }
        let stored = stored.to_vec();
        let meta = match key {
            None => Some(stored),
            Some(key) => key.open(stored, (at + PRELUDE as u64) as u32),
        };
        let whole = |meta: &Vec<u8>| {
            Records::from(&meta[..]).stored_bodies(key.is_some()) == Some(prelude.bodies_len.into())
        };
        Ok(meta.filter(whole).map(|meta| Frame { at, prelude, meta }))
    }

    /// The next whole frame at or behind `from`.
    fn find(&mut self, mut from: u64, after: u64) -> Result<Option<Frame>, Error> {
        let mark = self.seals.seed.mark();
        loop {
            let block = self.bytes(from, READ)?;
            if block.len() < PRELUDE {
                return Ok(None);
            }
            let next = from + (block.len() - mark.len() + 1) as u64;
            let marks: Vec<u64> = (from..)
                .zip(block.windows(mark.len()))
                .filter(|(_, w)| *w == mark)
                .map(|(at, _)| at)
                .collect();
            for at in marks {
                if let Some(frame) = self.frame(at, after)? {
                    return Ok(Some(frame));
                }
            }
            from = next;
        }
    }

    fn bodies_are_whole(&mut self, frames: &Frames, frame: &Seen) -> Result<bool, Error> {
        let Some((bodies_at, records, _)) = frames.frame(frame.in_frames) else { return Ok(false) };
        let Seals { seed, key } = self.seals;
        let mut at = u64::from(bodies_at);
        for len in records.filter_map(|record| record.body_len()) {
            let len = stored_len(len, key.is_some());
            if seed.verified(self.bytes(at, len as usize)?).is_none() {
                return Ok(false);
            }
            at += len;
        }
        Ok(true)
    }

    /// Up to `len` bytes; fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        let end = self.size.min(at + len as u64);
        let buffered = self.buffer_at + self.buffer.len() as u64;
        if at < self.buffer_at || end > buffered {
            let wanted = (self.size.saturating_sub(at)).min(len.max(READ) as u64) as usize;
            self.buffer.resize(wanted, 0);
            let read = read_full(self.file, &mut self.buffer, at).map_err(Error::io(Doing::Read))?;
            self.buffer.truncate(read);
            self.buffer_at = at;
            self.bytes_read += read as u64;
        }
        let start = ((at - self.buffer_at) as usize).min(self.buffer.len());
        let end = (start + len).min(self.buffer.len());
        Ok(&self.buffer[start..end])
    }
}
