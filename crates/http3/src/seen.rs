//! Which numbers of a sequence have come, where most come in order.

use std::collections::BTreeSet;

/// How many may be left out; streams that QUIC's limits allow come sooner than that.
const MAX_SKIPPED: u64 = 4096;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    next: u64,
    skipped: BTreeSet<u64>,
}

impl Seen {
    /// The lowest number above all that have come.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether a number has come.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.next && !self.skipped.contains(&number)
    }

    /// Whether a number comes for the first time; `None` if it leaves out too many.
    pub(crate) fn is_new(&mut self, number: u64) -> Option<bool> {
        let Some(ahead) = number.checked_sub(self.next) else { return Some(self.skipped.remove(&number)) };
        if ahead + self.skipped.len() as u64 > MAX_SKIPPED {
            return None;
        }
        self.skipped.extend(self.next..number);
        self.next = number + 1;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_new_once() {
        let mut seen = Seen::default();
        let answers = [3, 0, 0, 3, 1, 4, 2, 2, 5].map(|number| seen.is_new(number));
        assert_eq!(answers.map(Option::unwrap), [true, true, false, false, true, true, true, false, true]);
        assert_eq!(seen.next(), 6);
        assert_eq!(seen.is_new(6 + MAX_SKIPPED), Some(true));
        assert_eq!(seen.is_new(6 + MAX_SKIPPED + 2), None);
        assert_eq!(seen.is_new(7), Some(true));
        assert_eq!(seen.is_new(6 + MAX_SKIPPED + 2), Some(true));
    }
}
