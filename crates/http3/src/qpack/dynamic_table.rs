//! The dynamic table (RFC 9204, section 3.2), as both ends keep it.

use std::collections::VecDeque;

use super::Field;

/// What an entry or a field costs beyond its bytes.
const OVERHEAD: u64 = 32;

/// The size of a field, in tables and against limits (RFC 9204, section 3.2.1; RFC 9114, section 4.2.2).
pub(crate) const fn size_of(name: &[u8], value: &[u8]) -> u64 {
    name.len() as u64 + value.len() as u64 + OVERHEAD
}

/// How many entries fit in a table of that capacity.
pub(crate) const fn max_entries(capacity: u64) -> u64 {
    capacity / OVERHEAD
}

#[derive(Debug, Default)]
pub(crate) struct DynamicTable {
    /// The oldest in front.
    entries: VecDeque<Field>,
    size: u64,
    capacity: u64,
    inserted: u64,
}

impl DynamicTable {
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many entries were ever inserted, which is also the absolute index of the next.
    pub(crate) fn inserted(&self) -> u64 {
        self.inserted
    }

    /// The absolute index of the oldest entry.
    pub(crate) fn oldest(&self) -> u64 {
        self.inserted - self.entries.len() as u64
    }

    pub(crate) fn get(&self, absolute: u64) -> Option<&Field> {
        let place = absolute.checked_sub(self.oldest())?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The entry that was inserted `relative` entries before the newest.
    pub(crate) fn relative(&self, relative: u64) -> Option<&Field> {
        self.get(self.inserted.checked_sub(relative)?.checked_sub(1)?)
    }

    pub(crate) fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.shrink_to(capacity);
    }

    /// Makes room and inserts; `false`, and nothing changed, if the entry is larger than the table.
    pub(crate) fn insert(&mut self, field: Field) -> bool {
        let size = size_of(&field.name, &field.value);
        let Some(room) = self.capacity.checked_sub(size) else { return false };
        self.shrink_to(room);
        self.size += size;
        self.inserted += 1;
        self.entries.push_back(field);
        true
    }

    /// The absolute index that would be the oldest after an insertion of that size; `None` if it does not fit at all.
    pub(crate) fn oldest_after(&self, size: u64) -> Option<u64> {
        let mut over = (self.size + size).saturating_sub(self.capacity);
        let mut oldest = self.oldest();
        for entry in &self.entries {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(size_of(&entry.name, &entry.value));
            oldest += 1;
        }
        (over == 0).then_some(oldest)
    }

    /// Absolute indices and entries, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (u64, &Field)> {
        (0..self.inserted).rev().zip(self.entries.iter().rev())
    }

    fn shrink_to(&mut self, size: u64) {
        while self.size > size
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= size_of(&entry.name, &entry.value);
        }
    }
}
