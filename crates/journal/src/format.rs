//! The bytes of a segment.
//!
//! ```text
//! segment   = header header frame* footer?
//! header    = "qpcj" format:u16 schema:u16 number:u32 flags:u32 seed:16 check:8 after:u64 crc:u32            52 bytes
//! frame     = mark:4 meta_len:u32 bodies_len:u32 serial:u64 durable:u64 crc:u32 meta bodies                  32 + n bytes
//! meta      = op*                     sealed: nonce:12 ciphertext tag:16
//! op        = 1 key_len:u16 key body_len:u32                    put
//!           | 2 key_len:u16 key                                 delete
//!           | 3 count:u16 (queue:u64 seq:u64)*count body_len:u32  place an entry in queues
//!           | 4 queue:u64 first:u64 next:u64                    a queue holds exactly the numbers first..next
//!           | 5 queue:u64                                       drop a queue
//! bodies    = (body crc:u32)*         in the order of the ops that have one; sealed: nonce:12 ciphertext tag:16 crc:u32
//! footer    = summary len:u32 crc:u32 mark:4                    len is the summary's
//! summary   = last:u64 written:u64 item*                        sealed: nonce:12 ciphertext tag:16
//! item      = 1 key_len:u16 key body                            a key has this value
//!           | 2 key_len:u16 key                                 a key was deleted
//!           | 3 queue:u64 seq:u64 count:u32 body*count          entries of a queue, numbered from seq
//!           | 4 queue:u64 first:u64 next:u64                    as in a frame
//!           | 5 queue:u64                                       as in a frame
//! body      = at:u32 len:u32                                    where in the segment; the length before sealing
//! ```
//!
//! The header stands there twice, so that one bad byte does not cost the segment. `flags` bit 0 says sealed; `seed` is random, `check` tells
//! a wrong key from damage; `after` is the serial of the last batch before the segment, up to which all was durable. CRCs are CRC-32
//! (IEEE): the header's over the 48 bytes before it; all others over the seed and then a frame's 28 bytes before it and the stored
//! `meta`, a body's stored bytes, or a stored `summary` and `len`. `mark` is the first four bytes of the seed. Thus nobody who does not know
//! the seed can send a body in which a frame would be found, and what an earlier file left on the disk is not taken for this one's. `serial`
//! counts batches from 1 without gaps; `durable` is the serial up to which an fdatasync had returned when the frame was written.
//! Sequence numbers are explicit, so a frame means the same wherever compaction puts it. A footer says, for opening, what was left of all
//! frames of a segment when it was finished: what they stored and a later one deleted again is not in it. `last` is the last frame's
//! serial, `written` the weight of all that they stored.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use std::borrow::Cow;

use crate::batch::QueueId;
use crate::limits::{MAX_BATCH, MAX_BODY, MAX_KEY, MAX_METADATA, MAX_QUEUES_PER_PUSH};
use crate::seal::{SEALED_OVERHEAD, SegmentKey};

/// Version of the format.
pub const FORMAT: u16 = 1;

/// Both copies of the header.
pub(crate) const HEADER: usize = 2 * COPY;
const COPY: usize = 52;
pub(crate) const PRELUDE: usize = 32;
pub(crate) const CRC: usize = 4;
const MAGIC: [u8; 4] = *b"qpcj";
static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);
pub(crate) const MARK: usize = 4;
/// What follows the summary in a footer.
pub(crate) const FOOTER_END: usize = 12;
const SEALED: u32 = 1;

/// What makes a segment's marks and checksums its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seed([u8; 16]);

impl Seed {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn mark(&self) -> [u8; MARK] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    pub(crate) fn crc(&self, parts: &[&[u8]]) -> u32 {
        let mut crc = CRC32.digest();
        crc.update(&self.0);
        parts.iter().for_each(|part| crc.update(part));
        crc.finalize()
    }

    /// What is left of `stored` without the checksum at its end, if that is right.
    pub(crate) fn verified<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        let (body, checksum) = stored.split_last_chunk::<CRC>()?;
        (self.crc(&[body]).to_be_bytes() == *checksum).then_some(body)
    }
}

/// The start of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) format: u16,
    pub(crate) schema: u16,
    pub(crate) number: u32,
    pub(crate) sealed: bool,
    pub(crate) seed: Seed,
    pub(crate) check: [u8; 8],
    /// The serial of the last batch before the segment.
    pub(crate) after: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; COPY];
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&self.format.to_be_bytes());
        out[6..8].copy_from_slice(&self.schema.to_be_bytes());
        out[8..12].copy_from_slice(&self.number.to_be_bytes());
        out[12..16].copy_from_slice(&u32::from(self.sealed).to_be_bytes());
        out[16..32].copy_from_slice(self.seed.bytes());
        out[32..40].copy_from_slice(&self.check);
        out[40..48].copy_from_slice(&self.after.to_be_bytes());
        let crc = CRC32.checksum(&out[..48]);
        out[48..].copy_from_slice(&crc.to_be_bytes());
        let mut twice = [0; HEADER];
        twice[..COPY].copy_from_slice(&out);
        twice[COPY..].copy_from_slice(&out);
        twice
    }

    /// `None` if neither copy at the start of the bytes is whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.chunks_exact(COPY).take(2).find_map(Self::decode_copy)
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let (start, checksum) = bytes.split_last_chunk::<CRC>()?;
        let mut read = Reader(start);
        if read.array()? != MAGIC || CRC32.checksum(start).to_be_bytes() != *checksum {
            return None;
        }
        Some(Self {
            format: read.u16()?,
            schema: read.u16()?,
            number: read.u32()?,
            sealed: read.u32()? & SEALED != 0,
            seed: Seed::new(read.array()?),
            check: read.array()?,
            after: read.u64()?,
        })
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Prelude {
    pub(crate) meta_len: u32,
    pub(crate) bodies_len: u32,
    pub(crate) serial: u64,
    pub(crate) durable: u64,
    pub(crate) crc: u32,
}

impl Prelude {
    /// The bytes before the CRC.
    fn head(&self, seed: &Seed) -> [u8; PRELUDE - CRC] {
        let mut out = [0; PRELUDE - CRC];
        out[..4].copy_from_slice(&seed.mark());
        out[4..8].copy_from_slice(&self.meta_len.to_be_bytes());
        out[8..12].copy_from_slice(&self.bodies_len.to_be_bytes());
        out[12..20].copy_from_slice(&self.serial.to_be_bytes());
        out[20..].copy_from_slice(&self.durable.to_be_bytes());
        out
    }

    /// `None` if the bytes are no prelude, or one with impossible lengths.
    pub(crate) fn decode(bytes: &[u8], seed: &Seed) -> Option<Self> {
        let mut read = Reader(bytes);
        if read.array()? != seed.mark() {
            return None;
        }
        let prelude = Self {
            meta_len: read.u32()?,
            bodies_len: read.u32()?,
            serial: read.u64()?,
            durable: read.u64()?,
            crc: read.u32()?,
        };
        let possible = prelude.meta_len as usize <= MAX_METADATA + SEALED_OVERHEAD
            && prelude.bodies_len as usize <= MAX_BATCH
            && prelude.durable < prelude.serial;
        possible.then_some(prelude)
    }

    /// Whether the stored metadata belongs to this prelude.
    pub(crate) fn matches(&self, meta: &[u8], seed: &Seed) -> bool {
        seed.crc(&[&self.head(seed), meta]) == self.crc
    }

    pub(crate) fn frame_len(&self) -> u64 {
        PRELUDE as u64 + u64::from(self.meta_len) + u64::from(self.bodies_len)
    }
}

/// An operation as stored; `len` is the length of its body before sealing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Record<'a> {
    Put { key: &'a [u8], len: u32 },
    Delete { key: &'a [u8] },
    Place { at: Places<'a>, len: u32 },
    Holds { queue: QueueId, first: u64, next: u64 },
    Drop { queue: QueueId },
}

/// Queues and sequence numbers, encoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Places<'a>(Cow<'a, [u8]>);

/// Bytes of one place.
const PLACE: usize = 16;

impl Places<'_> {
    /// None yet, with room for so many.
    pub(crate) fn for_queues(count: usize) -> Self {
        Self(Cow::Owned(Vec::with_capacity(count * PLACE)))
    }

    pub(crate) fn push(&mut self, queue: QueueId, seq: u64) {
        let bytes = self.0.to_mut();
        bytes.extend(queue.0.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() / PLACE
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, u64)> + '_ {
        self.0.chunks_exact(PLACE).filter_map(|place| {
            let mut read = Reader(place);
            Some((QueueId(read.u64()?), read.u64()?))
        })
    }
}

impl FromIterator<(QueueId, u64)> for Places<'_> {
    fn from_iter<T: IntoIterator<Item = (QueueId, u64)>>(places: T) -> Self {
        let mut all = Self::for_queues(1);
        places.into_iter().for_each(|(queue, seq)| all.push(queue, seq));
        all
    }
}

impl Record<'_> {
    pub(crate) fn body_len(&self) -> Option<u32> {
        match self {
            Self::Put { len, .. } | Self::Place { len, .. } => Some(*len),
            _ => None,
        }
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put { key, len } => {
                put_key(PUT, key, out);
                out.extend(len.to_be_bytes());
            }
            Self::Delete { key } => put_key(DELETE, key, out),
            Self::Place { at, len } => {
                out.push(PLACES);
                out.extend((at.len() as u16).to_be_bytes());
                out.extend(&*at.0);
                out.extend(len.to_be_bytes());
            }
            Self::Drop { queue } => put_numbers(DROP, &[queue.0], out),
            Self::Holds { queue, first, next } => put_numbers(HOLDS, &[queue.0, *first, *next], out),
        }
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PLACES: u8 = 3;
const HOLDS: u8 = 4;
const DROP: u8 = 5;

fn put_key(tag: u8, key: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend((key.len() as u16).to_be_bytes());
    out.extend(key);
}

fn put_numbers(tag: u8, numbers: &[u64], out: &mut Vec<u8>) {
    out.push(tag);
    numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
}

/// The operations of a frame, read from its metadata; ends early where that is not well-formed.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a>(Reader<'a>);

impl<'a> Records<'a> {
    /// The length of all bodies as stored; `None` if the metadata is not well-formed to its end.
    pub(crate) fn stored_bodies(mut self, sealed: bool) -> Option<u64> {
        let mut total = 0;
        for record in &mut self {
            total += record.body_len().map_or(0, |len| stored_len(len, sealed));
        }
        self.0.0.is_empty().then_some(total)
    }

    fn read(read: &mut Reader<'a>) -> Option<Record<'a>> {
        Some(match read.u8()? {
            PUT => Record::Put { key: read.key()?, len: read.body_len()? },
            DELETE => Record::Delete { key: read.key()? },
            PLACES => {
                let count = usize::from(read.u16()?);
                if count > MAX_QUEUES_PER_PUSH {
                    return None;
                }
                Record::Place { at: Places(Cow::Borrowed(read.take(count * PLACE)?)), len: read.body_len()? }
            }
            DROP => Record::Drop { queue: QueueId(read.u64()?) },
            HOLDS => Record::Holds { queue: QueueId(read.u64()?), first: read.u64()?, next: read.u64()? },
            _ => return None,
        })
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(meta: &'a [u8]) -> Self {
        Self(Reader(meta))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let before = self.0.clone();
        let record = Self::read(&mut self.0);
        if record.is_none() {
            self.0 = before;
        }
        record
    }
}

/// An operation with its body, if it has one.
pub(crate) type Part<'a> = (Record<'a>, Option<&'a [u8]>);

/// A frame ready to be written, and where in the segment each body begins.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bodies: Vec<u32>,
}

impl Frame {
    /// `size` is at least that of the frame; `base` is where in the segment it will stand.
    pub(crate) fn encode(
        parts: &[Part],
        size: usize,
        serial: u64,
        durable: u64,
        base: u32,
        Seals { seed, key }: &Seals,
    ) -> Result<Self, crate::Error> {
        let mut bytes = Vec::with_capacity(size);
        bytes.resize(PRELUDE, 0);
        put_meta(parts, base, key.as_ref(), &mut bytes)?;
        let meta_len = bytes.len() - PRELUDE;
        let mut places = Vec::new();
        for body in parts.iter().filter_map(|(_, body)| *body) {
            let start = bytes.len();
            places.push(base + start as u32);
            put_stored(body, base, key.as_ref(), &mut bytes)?;
            let crc = seed.crc(&[&bytes[start..]]);
            bytes.extend(crc.to_be_bytes());
        }
        let bodies_len = bytes.len() - PRELUDE - meta_len;
        let prelude =
            Prelude { meta_len: meta_len as u32, bodies_len: bodies_len as u32, serial, durable, crc: 0 };
        let head = prelude.head(seed);
        let crc = seed.crc(&[&head, &bytes[PRELUDE..PRELUDE + meta_len]]);
        bytes[..PRELUDE - CRC].copy_from_slice(&head);
        bytes[PRELUDE - CRC..PRELUDE].copy_from_slice(&crc.to_be_bytes());
        Ok(Self { bytes, bodies: places })
    }
}

fn put_meta(
    parts: &[Part],
    base: u32,
    key: Option<&SegmentKey>,
    out: &mut Vec<u8>,
) -> Result<(), crate::Error> {
    let encode_into = |out: &mut Vec<u8>| parts.iter().for_each(|(record, _)| record.encode_into(out));
    if key.is_none() {
        encode_into(out);
        return Ok(());
    }
    let mut meta = Vec::new();
    encode_into(&mut meta);
    put_stored(&meta, base, key, out)
}

/// What the frames of a segment say, in order and in their own words: `(bodies_at:u32 meta_len:u32 op*)*`.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// `meta` is not sealed; `bodies_at` is where in the segment its bodies begin.
    pub(crate) fn push(&mut self, bodies_at: u32, meta: &[u8]) {
        self.0.extend(bodies_at.to_be_bytes());
        self.0.extend((meta.len() as u32).to_be_bytes());
        self.0.extend(meta);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the frames from byte `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The frame that begins at byte `at`: where its bodies are, its operations, and where the next begins.
    pub(crate) fn frame(&self, at: usize) -> Option<(u32, Records<'_>, usize)> {
        let mut read = Reader(self.0.get(at..)?);
        let bodies_at = read.u32()?;
        let len = read.u32()? as usize;
        Some((bodies_at, read.take(len)?.into(), at + 8 + len))
    }

    /// The same as a summary; `last` is the last frame's serial.
    pub(crate) fn summary(&self, last: u64, sealed: bool) -> Summary {
        let mut summary = Summary { last, ..Summary::default() };
        let mut at = 0;
        while let Some((mut body_at, records, next)) = self.frame(at) {
            for record in records {
                match &record {
                    Record::Put { key, len } => summary.value(key, (body_at, *len)),
                    Record::Delete { key } => summary.delete(key),
                    Record::Place { at, len } => {
                        at.iter().for_each(|(queue, seq)| summary.run(queue, seq, [(body_at, *len)]));
                    }
                    Record::Holds { queue, first, next } => summary.holds(*queue, *first, *next),
                    Record::Drop { queue } => summary.drop_queue(*queue),
                }
                body_at += record.body_len().map_or(0, |len| stored_len(len, sealed) as u32);
            }
            at = next;
        }
        summary
    }
}

/// Where in a segment a body is, and its length before sealing.
pub(crate) type Body = (u32, u32);

/// What a segment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// The serial of the last frame.
    pub(crate) last: u64,
    /// The weight of all that the frames stored, where not all of it is in the items.
    pub(crate) written: Option<u64>,
    items: Vec<u8>,
}

/// A part of what a segment says.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Value { key: &'a [u8], body: Body },
    Delete { key: &'a [u8] },
    Run { queue: QueueId, first: u64, bodies: Bodies<'a> },
    Holds { queue: QueueId, first: u64, next: u64 },
    Drop { queue: QueueId },
}

/// The bodies of entries in a row, encoded.
#[derive(Debug)]
pub(crate) struct Bodies<'a>(&'a [u8]);

/// Bytes of one body in a summary.
const BODY: usize = 8;

impl Bodies<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Body> + '_ {
        self.0.chunks_exact(BODY).filter_map(|body| Reader(body).body())
    }
}

impl Summary {
    pub(crate) fn value(&mut self, key: &[u8], body: Body) {
        put_key(PUT, key, &mut self.items);
        self.body(body);
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        put_key(DELETE, key, &mut self.items);
    }

    pub(crate) fn run(&mut self, queue: QueueId, first: u64, bodies: impl IntoIterator<Item = Body>) {
        put_numbers(PLACES, &[queue.0, first], &mut self.items);
        let count_at = self.items.len();
        self.items.extend([0; 4]);
        bodies.into_iter().for_each(|body| self.body(body));
        let count = ((self.items.len() - count_at - 4) / BODY) as u32;
        self.items[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    }

    pub(crate) fn holds(&mut self, queue: QueueId, first: u64, next: u64) {
        put_numbers(HOLDS, &[queue.0, first, next], &mut self.items);
    }

    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        put_numbers(DROP, &[queue.0], &mut self.items);
    }

    fn body(&mut self, (at, len): Body) {
        self.items.extend(at.to_be_bytes());
        self.items.extend(len.to_be_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn items(&self) -> Items<'_> {
        Items(Reader(&self.items))
    }

    /// What it says is gone.
    pub(crate) fn removals(&self) -> Self {
        let mut removals = Self::default();
        for item in self.items() {
            match item {
                Item::Delete { key } => removals.delete(key),
                Item::Drop { queue } => removals.drop_queue(queue),
                _ => {}
            }
        }
        removals
    }

    /// The footer of a segment in which `base` bytes stand before it.
    pub(crate) fn footer(&self, base: u32, Seals { seed, key }: &Seals) -> Result<Vec<u8>, crate::Error> {
        let written = self.written.unwrap_or_default();
        let plain = [&self.last.to_be_bytes(), &written.to_be_bytes(), &self.items[..]].concat();
        let mut out = Vec::new();
        put_stored(&plain, base, key.as_ref(), &mut out)?;
        out.extend((out.len() as u32).to_be_bytes());
        let crc = seed.crc(&[&out]);
        out.extend(crc.to_be_bytes());
        out.extend(seed.mark());
        Ok(out)
    }

    /// `None` if the bytes, which stand at `base`, are no footer.
    pub(crate) fn from_footer(bytes: &[u8], base: u32, Seals { seed, key }: &Seals) -> Option<Self> {
        let checked = seed.verified(bytes.strip_suffix(&seed.mark())?)?;
        let stored = checked.get(..checked.len().checked_sub(4)?)?;
        let opened;
        let mut read = Reader(match key {
            None => stored,
            Some(key) => {
                opened = key.open(stored.to_vec(), base)?;
                &opened
            }
        });
        let (last, written) = (read.u64()?, read.u64()?);
        let summary = Self { last, written: Some(written), items: read.0.to_vec() };
        let mut items = summary.items();
        items.by_ref().for_each(drop);
        items.0.0.is_empty().then_some(summary)
    }
}

/// The parts of a summary; ends early where that is not well-formed.
#[derive(Debug)]
pub(crate) struct Items<'a>(Reader<'a>);

impl<'a> Items<'a> {
    fn read(read: &mut Reader<'a>) -> Option<Item<'a>> {
        Some(match read.u8()? {
            PUT => Item::Value { key: read.key()?, body: read.body()? },
            DELETE => Item::Delete { key: read.key()? },
            PLACES => {
                let (queue, first) = (QueueId(read.u64()?), read.u64()?);
                let len = (read.u32()? as usize).checked_mul(BODY)?;
                Item::Run { queue, first, bodies: Bodies(read.take(len)?) }
            }
            HOLDS => Item::Holds { queue: QueueId(read.u64()?), first: read.u64()?, next: read.u64()? },
            DROP => Item::Drop { queue: QueueId(read.u64()?) },
            _ => return None,
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let mut read = self.0.clone();
        let item = Self::read(&mut read)?;
        self.0 = read;
        Some(item)
    }
}

/// The length of a summary as stored, read from the last bytes of a footer.
pub(crate) fn footer_len(end: &[u8; FOOTER_END], seed: &Seed) -> Option<u64> {
    let mut read = Reader(end);
    let len = u64::from(read.u32()?);
    let _crc = read.u32()?;
    (read.array()? == seed.mark()).then_some(len + FOOTER_END as u64)
}

/// What the bytes of a segment are checked and sealed with.
#[derive(Debug)]
pub(crate) struct Seals {
    pub(crate) seed: Seed,
    pub(crate) key: Option<SegmentKey>,
}

/// Appends bytes as a segment stores them. `base` is where in the segment `out` begins.
fn put_stored(
    plain: &[u8],
    base: u32,
    key: Option<&SegmentKey>,
    out: &mut Vec<u8>,
) -> Result<(), crate::Error> {
    match key {
        None => out.extend(plain),
        Some(key) => key.seal(plain, base + out.len() as u32, out)?,
    }
    Ok(())
}

/// How many bytes a body of `len` takes in a file, CRC included.
pub(crate) fn stored_len(len: u32, sealed: bool) -> u64 {
    u64::from(len) + CRC as u64 + if sealed { SEALED_OVERHEAD as u64 } else { 0 }
}

#[derive(Clone, Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        if len > MAX_KEY { None } else { self.take(len) }
    }

    fn body_len(&mut self) -> Option<u32> {
        self.u32().filter(|&len| len as usize <= MAX_BODY)
    }

    fn body(&mut self) -> Option<Body> {
        Some((self.u32()?, self.body_len()?))
    }
}
