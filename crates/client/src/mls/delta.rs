//! Values that change a little at a time, written as one base row and a short chain of patches.
//!
//! openmls rewrites a group's whole secret store with every message, tens of kilobytes of which some fifty bytes
//! differ. Flash wears by what is written, so a new version of a value is stored as a *patch*: how to make it from the
//! version before. A value's patches are rows of their own, numbered from 0; they are never rewritten. When there are
//! [`MAX_PATCHES`] of them, or together they are as long as the base, the value is written whole and they are deleted,
//! in the same atomic batch: whatever the moment of a power cut, base and patches fit together.
//!
//! The base holds secrets that later versions have deleted. The bound on the chain is therefore also the bound on how
//! many messages such a secret survives; [`fold`] ends a chain early.

use thiserror::Error;
use zeroize::Zeroizing;

use super::codec::{put_varint, take_varint};

/// Where rows are read from.
pub(crate) trait Rows {
    /// Why a read failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The row under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Whether a read failed because the row is lost, and not because rows cannot be read just now.
    fn is_lost(error: &Self::Error) -> bool;
}

/// What is to be done to one row; `None` deletes it.
pub(crate) type RowChange = (Vec<u8>, Option<Value>);

/// A value; most of them hold secrets.
pub(crate) type Value = Zeroizing<Vec<u8>>;

/// The value under `key`.
pub(crate) fn read<R: Rows>(rows: &R, key: &[u8]) -> Result<Option<Value>, DeltaError<R::Error>> {
    Ok(Chain::read(rows, key)?.map(|chain| chain.value))
}

/// Appends to `changes` what makes `value` the value under `key`, or deletes it.
pub(crate) fn write<R: Rows>(
    rows: &R,
    key: &[u8],
    value: Option<Value>,
    changes: &mut Vec<RowChange>,
) -> Result<(), DeltaError<R::Error>> {
    let chain = match Chain::read(rows, key) {
        Err(error) if error.is_lost::<R>() => {
            // A value that cannot be read can still be replaced.
            changes.push((base_key(key), value));
            changes.extend((0..MAX_PATCHES).map(|index| (patch_key(key, index), None)));
            return Ok(());
        }
        chain => chain?,
    };
    match (chain, value) {
        (None, None) => {}
        (None, Some(value)) => changes.push((base_key(key), Some(value))),
        (Some(chain), None) => {
            changes.push((base_key(key), None));
            chain.delete_patches(key, changes);
        }
        (Some(chain), Some(value)) if chain.value == value => {}
        (Some(chain), Some(value)) => match chain.patch_for(&value) {
            Some(patch) => changes.push((patch_key(key, chain.patches), Some(patch))),
            None => {
                changes.push((base_key(key), Some(value)));
                chain.delete_patches(key, changes);
            }
        },
    }
    Ok(())
}

/// Appends to `changes` what ends the chain of patches under `key`, if there is one.
pub(crate) fn fold<R: Rows>(
    rows: &R,
    key: &[u8],
    changes: &mut Vec<RowChange>,
) -> Result<(), DeltaError<R::Error>> {
    if let Some(chain) = Chain::read(rows, key)?.filter(|chain| chain.patches > 0) {
        chain.delete_patches(key, changes);
        changes.push((base_key(key), Some(chain.value)));
    }
    Ok(())
}

/// Why a value could not be read.
#[derive(Debug, Error)]
pub(crate) enum DeltaError<E> {
    /// A patch does not fit what it is applied to.
    #[error("a stored patch does not fit its base")]
    Malformed,
    /// The rows could not be read.
    #[error(transparent)]
    Rows(#[from] E),
}

impl<E> DeltaError<E> {
    fn is_lost<R: Rows<Error = E>>(&self) -> bool {
        match self {
            Self::Malformed => true,
            Self::Rows(error) => R::is_lost(error),
        }
    }
}

/// A value as it is stored.
struct Chain {
    value: Value,
    base_len: usize,
    patches: u8,
    patch_bytes: usize,
}

impl Chain {
    fn read<R: Rows>(rows: &R, key: &[u8]) -> Result<Option<Self>, DeltaError<R::Error>> {
        let Some(base) = rows.get(&base_key(key))? else {
            return Ok(None);
        };
        let mut chain =
            Self { base_len: base.len(), value: Zeroizing::new(base), patches: 0, patch_bytes: 0 };
        while chain.patches < MAX_PATCHES {
            let Some(patch) = rows.get(&patch_key(key, chain.patches))?.map(Zeroizing::new) else {
                break;
            };
            chain.value = apply(&chain.value, &patch).ok_or(DeltaError::Malformed)?;
            chain.patch_bytes += patch.len();
            chain.patches += 1;
        }
        Ok(Some(chain))
    }

    /// The patch that leads to `next`, or `None` where writing the value whole is better.
    fn patch_for(&self, next: &[u8]) -> Option<Value> {
        if self.patches == MAX_PATCHES || next.len() < MIN_PATCHED {
            return None;
        }
        let patch = diff(&self.value, next);
        (self.patch_bytes + patch.len() <= self.base_len).then_some(patch)
    }

    fn delete_patches(&self, key: &[u8], changes: &mut Vec<RowChange>) {
        changes.extend((0..self.patches).map(|index| (patch_key(key, index), None)));
    }
}

fn base_key(key: &[u8]) -> Vec<u8> {
    [&[BASE_ROW], key].concat()
}

fn patch_key(key: &[u8], index: u8) -> Vec<u8> {
    [&[PATCH_ROW], key, &[index]].concat()
}

/// How to make `new` from `old`: the length of `new`, then by turns bytes to insert and a range of `old` to copy.
fn diff(old: &[u8], new: &[u8]) -> Value {
    let mut patch = PatchWriter { out: Zeroizing::new(Vec::with_capacity(INITIAL_CAPACITY)), next: 0 };
    put_varint(new.len() as u64, &mut patch.out);

    let prefix = common(old.iter(), new.iter());
    let suffix = common(old[prefix..].iter().rev(), new[prefix..].iter().rev());
    patch.emit(&[], 0, prefix);
    let middle = &new[prefix..new.len() - suffix];
    match middle.len() < 2 * BLOCK {
        true => patch.emit(middle, old.len() - suffix, suffix),
        false => {
            let rest = diff_blocks(old, middle, &mut patch);
            patch.emit(rest, old.len() - suffix, suffix);
        }
    }
    patch.out
}

/// Finds ranges of `old` in `new` by the hashes of whole blocks; gives the tail of `new` behind the last one.
fn diff_blocks<'n>(old: &[u8], new: &'n [u8], patch: &mut PatchWriter) -> &'n [u8] {
    let index = BlockIndex::new(old);
    let (mut pending, mut at) = (0, 0);
    while let Some(block) = new.get(at..at + BLOCK) {
        let Some(found) = index.find(old, block) else {
            at += 1;
            continue;
        };
        let back = common(old[..found].iter().rev(), new[pending..at].iter().rev());
        let len = common(old[found - back..].iter(), new[at - back..].iter());
        patch.emit(&new[pending..at - back], found - back, len);
        at = at - back + len;
        pending = at;
    }
    &new[pending..]
}

fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// Where in the old value each aligned block begins, by a hash of the block. Of blocks with equal hashes the last
/// counts: a collision makes a patch longer, not wrong.
struct BlockIndex {
    /// Block number plus one; 0 is empty.
    slots: Vec<u32>,
}

impl BlockIndex {
    fn new(old: &[u8]) -> Self {
        let mut slots = vec![0; (old.len() / BLOCK).next_power_of_two() * 2];
        for (block, number) in old.chunks_exact(BLOCK).zip(1..) {
            let slot = slot_of(block, slots.len());
            slots[slot] = number;
        }
        Self { slots }
    }

    fn find(&self, old: &[u8], block: &[u8]) -> Option<usize> {
        let number = self.slots[slot_of(block, self.slots.len())].checked_sub(1)?;
        let at = number as usize * BLOCK;
        (&old[at..at + BLOCK] == block).then_some(at)
    }
}

/// A multiplicative hash; `slots` is a power of two.
fn slot_of(block: &[u8], slots: usize) -> usize {
    let hash = block.iter().fold(0u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 15) as usize & (slots - 1)
}

struct PatchWriter {
    out: Value,
    /// Where in the old value the last copy ended: copies mostly go on nearby.
    next: usize,
}

impl PatchWriter {
    fn emit(&mut self, insert: &[u8], from: usize, len: usize) {
        if insert.is_empty() && len == 0 {
            return;
        }
        put_varint(insert.len() as u64, &mut self.out);
        self.out.extend_from_slice(insert);
        put_varint(len as u64, &mut self.out);
        if len > 0 {
            let step = from as i64 - self.next as i64;
            put_varint(((step << 1) ^ (step >> 63)) as u64, &mut self.out);
            self.next = from + len;
        }
    }
}

fn apply(old: &[u8], mut patch: &[u8]) -> Option<Value> {
    let length = take_length(&mut patch)?;
    // A patch made by `diff` names no more than it copies and carries.
    let mut new = Zeroizing::new(Vec::with_capacity(length.min(MAX_VALUE)));
    let mut next = 0usize;
    while !patch.is_empty() {
        let insert = take_length(&mut patch)?;
        let (insert, rest) = patch.split_at_checked(insert)?;
        patch = rest;
        new.extend_from_slice(insert);
        let len = take_length(&mut patch)?;
        if len > 0 {
            let zigzag = take_varint(&mut patch)?;
            let step = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let from = usize::try_from((next as i64).checked_add(step)?).ok()?;
            next = from.checked_add(len)?;
            new.extend_from_slice(old.get(from..next)?);
        }
        if new.len() > length {
            return None;
        }
    }
    (new.len() == length).then_some(new)
}

fn take_length(patch: &mut &[u8]) -> Option<usize> {
    take_varint(patch)?.try_into().ok()
}

/// First byte of the keys of base rows.
pub(crate) const BASE_ROW: u8 = b'm';
/// First byte of the keys of patch rows.
pub(crate) const PATCH_ROW: u8 = b'd';

/// Rows of a chain, its base not counted.
const MAX_PATCHES: u8 = 64;
/// Values shorter than this are always written whole: a patch would save less than its row costs.
const MIN_PATCHED: usize = 160;
/// Bytes compared at once when looking for ranges that moved; the length of a key would miss those out of step.
const BLOCK: usize = 16;
/// Above this a value grows as it is built and not in advance.
const MAX_VALUE: usize = 1024 * 1024;
const INITIAL_CAPACITY: usize = 256;

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    impl Rows for BTreeMap<Vec<u8>, Vec<u8>> {
        type Error = Infallible;

        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
            Ok(self.get(key).cloned())
        }

        fn is_lost(_: &Infallible) -> bool {
            false
        }
    }

    pub(crate) fn commit(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: Vec<RowChange>) -> usize {
        let mut written = 0;
        for (key, value) in changes {
            match value {
                Some(value) => {
                    written += key.len() + value.len();
                    rows.insert(key, value.to_vec());
                }
                None => assert!(rows.remove(&key).is_some(), "deletes what is not there"),
            }
        }
        written
    }

    fn store(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, value: Option<&[u8]>) -> usize {
        let mut changes = Vec::new();
        write(rows, b"key", value.map(|value| Zeroizing::new(value.to_vec())), &mut changes).unwrap();
        commit(rows, changes)
    }

    fn load(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Vec<u8>> {
        read(rows, b"key").unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn a_small_change_costs_little() {
        let old: Vec<u8> = (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let mut new = old.clone();
        new[40_000..40_032].fill(7);
        assert!(diff(&old, &new).len() < 50);
        new.splice(100..100, [1, 2, 3]);
        assert!(diff(&old, &new).len() < 80);
        new.drain(70_000..71_000);
        assert!(diff(&old, &new).len() < 100);
        let moved = [&old[5_000..9_000], &old[..]].concat();
        assert!(diff(&old, &moved).len() < 60);
    }

    #[test]
    fn the_chain_is_bounded_and_rewritten_whole() {
        let mut rows = BTreeMap::new();
        let mut value = vec![0; 5_000];
        let (mut written, mut longest) = (0, 0);
        for step in 0..1_000usize {
            value[step * 7 % 5_000] ^= (step as u8) | 1;
            written += store(&mut rows, Some(&value));
            longest = longest.max(rows.len());
            assert_eq!(load(&rows).unwrap(), value);
        }
        assert_eq!(longest, 1 + usize::from(MAX_PATCHES));
        assert!(written < 1_000 * 100, "{written}");

        let mut changes = Vec::new();
        fold(&rows, b"key", &mut changes).unwrap();
        commit(&mut rows, changes);
        assert_eq!((rows.len(), load(&rows)), (1, Some(value.clone())));

        assert_eq!(store(&mut rows, Some(&value)), 0, "an identical value is not written");
        value[0] ^= 1;
        store(&mut rows, Some(&value));
        store(&mut rows, None);
        assert!(rows.is_empty());
        assert_eq!(store(&mut rows, None), 0);
    }

    #[test]
    fn a_patch_that_does_not_fit_is_an_error_until_it_is_replaced() {
        let mut rows = BTreeMap::new();
        store(&mut rows, Some(&[1; 500]));
        store(&mut rows, Some(&[[1; 250], [2; 250]].concat()));
        rows.insert(base_key(b"key"), vec![1; 100]);
        assert!(matches!(read(&rows, b"key"), Err(DeltaError::Malformed)));

        let mut changes = Vec::new();
        write(&rows, b"key", Some(Zeroizing::new(vec![3; 500])), &mut changes).unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => drop(rows.insert(key, value.to_vec())),
                None => drop(rows.remove(&key)),
            }
        }
        assert_eq!((rows.len(), load(&rows).unwrap()), (1, vec![3; 500]));
    }

    /// Versions that resemble each other, as edits of the version before.
    fn versions() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let edit = (any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..80), any::<u16>());
        (prop::collection::vec(any::<u8>(), 0..3_000), prop::collection::vec(edit, 1..100)).prop_map(
            |(first, edits)| {
                let mut versions = vec![first];
                for (at, remove, insert, from) in edits {
                    let mut next = versions[versions.len() - 1].clone();
                    let at = usize::from(at) % (next.len() + 1);
                    let end = (at + usize::from(remove)).min(next.len());
                    next.splice(at..end, insert);
                    let from = usize::from(from) % (next.len() + 1);
                    let copied = next[from..next.len().min(from + usize::from(remove))].to_vec();
                    next.extend(copied);
                    versions.push(next);
                }
                versions
            },
        )
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_new_from_the_old(
            old in prop::collection::vec(0u8..4, 0..2_000),
            new in prop::collection::vec(0u8..4, 0..2_000),
        ) {
            prop_assert_eq!(&apply(&old, &diff(&old, &new)).unwrap().to_vec(), &new);
        }

        /// Rows only change by whole batches, so every state a power cut can leave is one of those read here.
        #[test]
        fn every_version_reads_back(versions in versions()) {
            let mut rows = BTreeMap::new();
            for version in versions {
                store(&mut rows, Some(&version));
                prop_assert!(rows.len() <= 1 + usize::from(MAX_PATCHES));
                let patches: usize = rows.iter().filter(|(key, _)| key[0] == PATCH_ROW).map(|(_, row)| row.len()).sum();
                prop_assert!(patches <= rows[&base_key(b"key")].len());
                prop_assert_eq!(load(&rows), Some(version));
            }
        }

        #[test]
        fn garbage_never_panics(old: Vec<u8>, patch: Vec<u8>) {
            let _ = apply(&old, &patch);
        }
    }
}
