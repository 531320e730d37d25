use std::collections::VecDeque;

use super::dynamic_table::{DynamicTable, max_entries, size_of};
use super::primitive::{Unreadable, feed, read_int, write_int, write_string};
use super::{Field, FieldRef, static_table};
use crate::error::{Code, ConnectionError};
use crate::map::Map;

/// Sections with references that the peer has not acknowledged; beyond these nothing refers to the table until it has.
const MAX_OUTSTANDING: usize = 256;

/// Names whose values seldom come twice: an entry would only push out better ones.
const FLEETING: [&[u8]; 12] = [
    b":path",
    b"age",
    b"content-length",
    b"content-range",
    b"date",
    b"etag",
    b"if-modified-since",
    b"if-none-match",
    b"last-modified",
    b"location",
    b"range",
    b"set-cookie",
];

/// Names whose values are never put where another request's could be compared with them (RFC 9204, section 7.1).
const SECRET: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];

/// The encoding end: fields in, field sections out.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    /// The most our table may have, whatever the peer offers.
    wanted_capacity: u64,
    /// What the peer offers; needed to encode counts.
    peer_capacity: u64,
    max_blocked: u64,
    /// Insertions that the peer has told us to have.
    known: u64,
    /// For every stream the sections that were not acknowledged.
    outstanding: Map<VecDeque<Section>>,
    outstanding_count: usize,
    /// The beginning of an instruction whose rest has not come.
    pending: Vec<u8>,
    instructions: Vec<u8>,
}

#[derive(Debug)]
struct Section {
    /// The section needs this many insertions ...
    required: u64,
    /// ... and refers to no entry older than this.
    oldest: u64,
}

impl Encoder {
    /// An encoder that uses at most `wanted_capacity` bytes of the table that the peer will offer.
    pub fn new(wanted_capacity: u64) -> Self {
        Self {
            table: DynamicTable::default(),
            wanted_capacity,
            peer_capacity: 0,
            max_blocked: 0,
            known: 0,
            outstanding: Map::new(),
            outstanding_count: 0,
            pending: Vec::new(),
            instructions: Vec::new(),
        }
    }

    /// What the peer's SETTINGS allow. The capacity can only be told once; remembered settings count.
    pub fn set_limits(&mut self, max_capacity: u64, max_blocked: u64) {
        self.max_blocked = max_blocked;
        let capacity = max_capacity.min(self.wanted_capacity);
        if self.peer_capacity == 0 && capacity > 0 {
            self.peer_capacity = max_capacity;
            self.table.set_capacity(capacity);
            write_int(&mut self.instructions, 0x20, 5, capacity);
        }
    }

    /// Encodes a field section for a stream. `may_insert` is false while our encoder stream does not get its bytes out, for a section must not
    /// wait for insertions that cannot be sent (RFC 9204, section 2.1.3).
    pub fn encode(&mut self, stream: u64, fields: &[FieldRef<'_>], may_insert: bool) -> Vec<u8> {
        let mut writer = Writer {
            base: self.table.inserted(),
            may_refer: self.table.capacity() > 0 && self.outstanding_count < MAX_OUTSTANDING,
            may_wait: self.may_block(stream),
            required: 0,
            oldest: u64::MAX,
            held: self.oldest_referred(),
            lines: Vec::new(),
        };
        for field in fields {
            self.field_line(&mut writer, field, may_insert);
        }
        let mut section = Vec::with_capacity(writer.lines.len() + 4);
        if writer.required == 0 {
            section.extend_from_slice(&[0, 0]);
        } else {
            write_int(&mut section, 0, 8, writer.required % (2 * max_entries(self.peer_capacity)) + 1);
            match writer.base.checked_sub(writer.required) {
                Some(delta) => write_int(&mut section, 0, 7, delta),
                None => write_int(&mut section, 0x80, 7, writer.required - writer.base - 1),
            }
            let written = Section { required: writer.required, oldest: writer.oldest };
            self.outstanding.entry(stream).or_default().push_back(written);
            self.outstanding_count += 1;
        }
        section.append(&mut writer.lines);
        section
    }

    /// Handles bytes of the peer's decoder stream.
    pub fn on_decoder_stream(&mut self, data: &[u8]) -> Result<(), ConnectionError> {
        let mut pending = std::mem::take(&mut self.pending);
        let result = feed(&mut pending, data, |input| self.instruction(input));
        self.pending = pending;
        result.map_err(|_| ConnectionError {
            code: Code::QPACK_DECODER_STREAM_ERROR,
            reason: "invalid decoder instruction",
        })
    }

    /// Takes what is to be sent on our encoder stream, before the sections that were encoded since.
    pub fn take_instructions(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.instructions)
    }

    fn field_line(&mut self, writer: &mut Writer, field: &FieldRef<'_>, may_insert: bool) {
        let secret = field.sensitive || SECRET.contains(&field.name);
        let (whole, name_only) = static_table::find(field.name, field.value);
        if let Some(index) = whole {
            return write_int(&mut writer.lines, 0xc0, 6, index as u64);
        }
        let mut same_name = None;
        if writer.may_refer {
            let mut same = None;
            for (index, entry) in self.table.newest_first() {
                if entry.name == field.name && (writer.may_wait || index < self.known) {
                    same_name = same_name.or(Some(index));
                    if entry.value == field.value && !secret {
                        same = Some(index);
                        break;
                    }
                }
            }
            if let Some(index) = same {
                return writer.indexed(index);
            }
            let worth = !secret && !FLEETING.contains(&field.name);
            if worth && may_insert && self.insert(writer, field, name_only, same_name) && writer.may_wait {
                return writer.indexed(self.table.inserted() - 1);
            }
        }
        let never = if secret { 1 } else { 0 };
        match (name_only, same_name) {
            (Some(index), _) => write_int(&mut writer.lines, 0x50 | never << 5, 4, index as u64),
            // Unless an insertion has just pushed it out.
            (None, Some(index)) if index >= self.table.oldest() => writer.named(index, never),
            _ => write_string(&mut writer.lines, 0x20 | never << 4, 3, field.name),
        }
        write_string(&mut writer.lines, 0, 7, field.value);
    }

    /// Inserts, unless that would push out what may still be referred to or what the peer may not have yet.
    fn insert(
        &mut self,
        writer: &Writer,
        field: &FieldRef<'_>,
        in_static: Option<usize>,
        same_name: Option<u64>,
    ) -> bool {
        // Only a field whose value did not come by now is new: an entry that is there but not yet known will be.
        if self.table.newest_first().any(|(_, entry)| entry.name == field.name && entry.value == field.value)
        {
            return false;
        }
        let Some(oldest) = self.table.oldest_after(size_of(field.name, field.value)) else { return false };
        if oldest > writer.oldest.min(writer.held) || (oldest > self.known && oldest > self.table.oldest()) {
            return false;
        }
        match (in_static, same_name) {
            (Some(index), _) => write_int(&mut self.instructions, 0xc0, 6, index as u64),
            (None, Some(index)) => {
                write_int(&mut self.instructions, 0x80, 6, self.table.inserted() - 1 - index)
            }
            _ => write_string(&mut self.instructions, 0x40, 5, field.name),
        }
        write_string(&mut self.instructions, 0, 7, field.value);
        self.table.insert(Field::new(field.name, field.value))
    }

    /// Whether a section of this stream may need insertions that the peer may not have yet.
    fn may_block(&self, stream: u64) -> bool {
        let mut blocked = 0;
        for (other, sections) in &self.outstanding {
            if sections.iter().any(|section| section.required > self.known) {
                if *other == stream {
                    return true;
                }
                blocked += 1;
            }
        }
        blocked < self.max_blocked
    }

    fn oldest_referred(&self) -> u64 {
        self.outstanding
            .values()
            .flat_map(|sections| sections.iter())
            .map(|section| section.oldest)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn instruction(&mut self, input: &mut &[u8]) -> Result<(), Unreadable> {
        let first = *input.first().ok_or(Unreadable::Incomplete)?;
        match first {
            // A section is acknowledged.
            0x80.. => {
                let stream = read_int(input, 7)?;
                let sections = self.outstanding.get_mut(&stream).ok_or(Unreadable::Invalid)?;
                let section = sections.pop_front().ok_or(Unreadable::Invalid)?;
                if sections.is_empty() {
                    self.outstanding.remove(&stream);
                }
                self.outstanding_count -= 1;
                self.known = self.known.max(section.required);
            }
            // A stream is cancelled.
            0x40.. => {
                let stream = read_int(input, 6)?;
                self.outstanding_count -=
                    self.outstanding.remove(&stream).map_or(0, |sections| sections.len());
            }
            // Insertions have come.
            _ => {
                let count = read_int(input, 6)?;
                if count == 0 || count > self.table.inserted() - self.known {
                    return Err(Unreadable::Invalid);
                }
                self.known += count;
            }
        }
        Ok(())
    }
}

/// A section while it is written.
struct Writer {
    base: u64,
    may_refer: bool,
    may_wait: bool,
    required: u64,
    /// The oldest entries that this section and the outstanding ones refer to; they must not be pushed out.
    oldest: u64,
    held: u64,
    lines: Vec<u8>,
}

impl Writer {
    fn indexed(&mut self, absolute: u64) {
        self.refer(absolute);
        match absolute.checked_sub(self.base) {
            Some(index) => write_int(&mut self.lines, 0x10, 4, index),
            None => write_int(&mut self.lines, 0x80, 6, self.base - 1 - absolute),
        }
    }

    fn named(&mut self, absolute: u64, never: u8) {
        self.refer(absolute);
        match absolute.checked_sub(self.base) {
            Some(index) => write_int(&mut self.lines, never << 3, 3, index),
            None => write_int(&mut self.lines, 0x40 | never << 5, 4, self.base - 1 - absolute),
        }
    }

    fn refer(&mut self, absolute: u64) {
        self.required = self.required.max(absolute + 1);
        self.oldest = self.oldest.min(absolute);
    }
}
