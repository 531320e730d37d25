use std::collections::BTreeMap;

use super::Field;
use super::dynamic_table::{DynamicTable, max_entries, size_of};
use super::primitive::{Unreadable, feed, read_int, read_string, write_int};
use super::static_table;
use crate::error::{Code, ConnectionError};

/// The decoding end: field sections in, fields out.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    max_capacity: u64,
    max_blocked: u64,
    max_section: u64,
    /// Streams that wait for insertions, and for how many in all.
    blocked: BTreeMap<u64, u64>,
    /// The beginning of an instruction whose rest has not come.
    pending: Vec<u8>,
    /// As many insertions as the encoder knows that we have.
    acknowledged: u64,
    instructions: Vec<u8>,
}

/// What became of a field section.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// It refers to entries that have not come: [`Decoder::unblocked`] says when to try again.
    Blocked,
    /// Its fields.
    Fields(Vec<Field>),
    /// Its fields would be larger than allowed. The stream has to be [cancelled](Decoder::cancel).
    TooLarge,
}

impl Decoder {
    /// A decoder whose table has at most `max_capacity` bytes, with at most `max_blocked` streams waiting at a time, and sections of at
    /// most `max_section` bytes as RFC 9114, section 4.2.2 counts them. The first two are to be announced to the peer as they are here.
    pub fn new(max_capacity: u64, max_blocked: u64, max_section: u64) -> Self {
        Self {
            table: DynamicTable::default(),
            max_capacity,
            max_blocked,
            max_section,
            blocked: BTreeMap::new(),
            pending: Vec::new(),
            acknowledged: 0,
            instructions: Vec::new(),
        }
    }

    /// The largest section.
    pub fn max_section(&self) -> u64 {
        self.max_section
    }

    /// Handles bytes of the peer's encoder stream.
    pub fn on_encoder_stream(&mut self, data: &[u8]) -> Result<(), ConnectionError> {
        let mut pending = std::mem::take(&mut self.pending);
        let result = feed(&mut pending, data, |input| self.instruction(input));
        self.pending = pending;
        result.map_err(|_| ConnectionError {
            code: Code::QPACK_ENCODER_STREAM_ERROR,
            reason: "invalid encoder instruction",
        })
    }

    /// Decodes a field section of a stream.
    pub fn decode(&mut self, stream: u64, section: &[u8]) -> Result<Decoded, ConnectionError> {
        let failed = |reason| ConnectionError { code: Code::QPACK_DECOMPRESSION_FAILED, reason };
        let mut input = section;
        let prefix = self.prefix(&mut input).ok_or(failed("invalid field section prefix"))?;
        if prefix.required > self.table.inserted() {
            self.blocked.insert(stream, prefix.required);
            let inserted = self.table.inserted();
            let blocked = self.blocked.values().filter(|required| **required > inserted).count();
            if blocked as u64 > self.max_blocked {
                return Err(failed("more blocked streams than allowed"));
            }
            return Ok(Decoded::Blocked);
        }
        self.blocked.remove(&stream);
        let mut fields = Vec::new();
        let mut size = 0;
        while !input.is_empty() {
            let field = match self.field_line(&mut input, &prefix) {
                Ok(field) => field,
                Err(Unreadable::TooLong) => return Ok(Decoded::TooLarge),
                Err(_) => return Err(failed("invalid field line")),
            };
            size += size_of(&field.name, &field.value);
            if size > self.max_section {
                return Ok(Decoded::TooLarge);
            }
            fields.push(field);
        }
        if prefix.required > 0 {
            write_int(&mut self.instructions, 0x80, 7, stream);
            self.acknowledged = self.acknowledged.max(prefix.required);
        }
        Ok(Decoded::Fields(fields))
    }

    /// Streams that were blocked and can now be decoded.
    pub fn unblocked(&self) -> Vec<u64> {
        let inserted = self.table.inserted();
        self.blocked
            .iter()
            .filter(|(_, required)| **required <= inserted)
            .map(|(stream, _)| *stream)
            .collect()
    }

    /// Tells the encoder that no more of a stream will be decoded.
    pub fn cancel(&mut self, stream: u64) {
        self.blocked.remove(&stream);
        // Without a table no encoder can refer to anything.
        if self.max_capacity > 0 {
            write_int(&mut self.instructions, 0x40, 6, stream);
        }
    }

    /// Takes what is to be sent on our decoder stream.
    pub fn take_instructions(&mut self) -> Vec<u8> {
        let unknown = self.table.inserted() - self.acknowledged;
        if unknown > 0 {
            write_int(&mut self.instructions, 0, 6, unknown);
            self.acknowledged += unknown;
        }
        std::mem::take(&mut self.instructions)
    }

    fn instruction(&mut self, input: &mut &[u8]) -> Result<(), Unreadable> {
        let first = *input.first().ok_or(Unreadable::Incomplete)?;
        let longest = self.table.capacity() as usize;
        let field = match first {
            0x80.. => {
                let index = read_int(input, 6)?;
                let name = if first & 0x40 != 0 {
                    static_table::get(index).ok_or(Unreadable::Invalid)?.0.to_vec()
                } else {
                    self.table.relative(index).ok_or(Unreadable::Invalid)?.name.clone()
                };
                Field::new(name, read_string(input, 7, longest)?)
            }
            0x40.. => {
                let name = read_string(input, 5, longest)?;
                Field::new(name, read_string(input, 7, longest)?)
            }
            0x20.. => {
                let capacity = read_int(input, 5)?;
                if capacity > self.max_capacity {
                    return Err(Unreadable::Invalid);
                }
                self.table.set_capacity(capacity);
                return Ok(());
            }
            _ => {
                let index = read_int(input, 5)?;
                self.table.relative(index).ok_or(Unreadable::Invalid)?.clone()
            }
        };
        if self.table.insert(field) { Ok(()) } else { Err(Unreadable::Invalid) }
    }

    /// The section's prefix (RFC 9204, section 4.5.1).
    fn prefix(&self, input: &mut &[u8]) -> Option<Prefix> {
        let encoded = read_int(input, 8).ok()?;
        let required = self.required_insert_count(encoded)?;
        let negative = *input.first()? & 0x80 != 0;
        let delta = read_int(input, 7).ok()?;
        let base = if negative {
            required.checked_sub(delta)?.checked_sub(1)?
        } else {
            required.checked_add(delta)?
        };
        Some(Prefix { required, base })
    }

    fn required_insert_count(&self, encoded: u64) -> Option<u64> {
        if encoded == 0 {
            return Some(0);
        }
        let max_entries = max_entries(self.max_capacity);
        let full_range = 2 * max_entries;
        if encoded > full_range {
            return None;
        }
        let max_value = self.table.inserted() + max_entries;
        let required = max_value / full_range * full_range + encoded - 1;
        let required = if required > max_value { required.checked_sub(full_range)? } else { required };
        (required > 0).then_some(required)
    }

    fn field_line(&self, input: &mut &[u8], prefix: &Prefix) -> Result<Field, Unreadable> {
        let first = *input.first().ok_or(Unreadable::Incomplete)?;
        let longest = self.max_section as usize;
        match first {
            // Indexed.
            0x80.. => {
                let index = read_int(input, 6)?;
                if first & 0x40 != 0 {
                    let (name, value) = static_table::get(index).ok_or(Unreadable::Invalid)?;
                    Ok(Field::new(name, value))
                } else {
                    self.entry(prefix, prefix.relative(index)).cloned()
                }
            }
            // A literal whose name is indexed.
            0x40.. => {
                let index = read_int(input, 4)?;
                let name = if first & 0x10 != 0 {
                    static_table::get(index).ok_or(Unreadable::Invalid)?.0.to_vec()
                } else {
                    self.entry(prefix, prefix.relative(index))?.name.clone()
                };
                let value = read_string(input, 7, longest)?;
                Ok(Field { name, value, sensitive: first & 0x20 != 0 })
            }
            // A literal.
            0x20.. => {
                let name = read_string(input, 3, longest)?;
                let value = read_string(input, 7, longest)?;
                Ok(Field { name, value, sensitive: first & 0x10 != 0 })
            }
            // Indexed, counted from the base on.
            0x10.. => {
                let index = read_int(input, 4)?;
                self.entry(prefix, prefix.base.checked_add(index)).cloned()
            }
            // A literal whose name is so.
            _ => {
                let index = read_int(input, 3)?;
                let name = self.entry(prefix, prefix.base.checked_add(index))?.name.clone();
                let value = read_string(input, 7, longest)?;
                Ok(Field { name, value, sensitive: first & 0x08 != 0 })
            }
        }
    }

    /// An entry the section may refer to.
    fn entry(&self, prefix: &Prefix, absolute: Option<u64>) -> Result<&Field, Unreadable> {
        absolute
            .filter(|absolute| *absolute < prefix.required)
            .and_then(|absolute| self.table.get(absolute))
            .ok_or(Unreadable::Invalid)
    }
}

struct Prefix {
    required: u64,
    base: u64,
}

impl Prefix {
    fn relative(&self, index: u64) -> Option<u64> {
        self.base.checked_sub(index)?.checked_sub(1)
    }
}
