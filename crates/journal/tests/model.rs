//! Random operations, faults, power cuts and compaction against a plain map as the model.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Model, Op, batch, options, read};
use proptest::prelude::*;
use qpc_journal::fault::{Disk, Faults};
use qpc_journal::{Error, Journal, Options};
use std::io::ErrorKind;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Op>),
    Sync,
    /// A sync that runs while more is appended.
    SyncAround(Vec<Op>),
    Reopen,
    /// Bits say which pending writes survive.
    PowerCut(u64),
    Maintain(u32),
    Fault(u8, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let body = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        4 => (0..6u8, body()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (0..6u8).prop_map(Op::Delete),
        6 => (prop::collection::btree_set(0..4u8, 0..4), body())
            .prop_map(|(queues, body)| Op::Push(queues.into_iter().collect(), body)),
        4 => (0..4u8, 0..30u64).prop_map(|(queue, up_to)| Op::Trim(queue, up_to)),
        1 => (0..4u8).prop_map(Op::DropQueue),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let ops = || prop::collection::vec(op(), 1..5);
    prop_oneof![
        12 => ops().prop_map(Step::Append),
        4 => Just(Step::Sync),
        2 => ops().prop_map(Step::SyncAround),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::PowerCut),
        6 => (1..2000u32).prop_map(Step::Maintain),
        3 => (0..6u8, 0..6u32).prop_map(|(kind, after)| Step::Fault(kind, after)),
    ]
}

fn faults(kind: u8, after: u32) -> Faults {
    let none = Faults::default();
    match kind {
        0 => Faults { write: Some((after, ErrorKind::Other)), ..none },
        1 => Faults { write: Some((after, ErrorKind::StorageFull)), ..none },
        2 => Faults { sync: Some(after), ..none },
        3 => Faults { write: Some((after, ErrorKind::Other)), truncate: true, ..none },
        4 => Faults { short_writes: Some(after as usize + 1), ..none },
        _ => Faults { read_only: true, ..none },
    }
}

/// The models after each batch that may still be what a power cut leaves; the first is the durable one.
struct Histories(Vec<Model>);

impl Histories {
    fn now(&self) -> &Model {
        self.0.last().unwrap()
    }

    fn append(&mut self, ops: &[Op]) {
        let mut next = self.now().clone();
        next.apply(ops);
        self.0.push(next);
    }

    fn durable(&mut self, index: usize) {
        self.0.drain(..index);
    }
}

fn run(sealed: bool, age: bool, steps: &[Step]) {
    let mut options = options(sealed);
    options.garbage_age = age.then_some(Duration::from_secs(5));
    let mut disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options.clone()).unwrap().0;
    let mut model = Histories(vec![Model::default()]);
    let mut now = Duration::ZERO;
    for step in steps {
        now += Duration::from_secs(1);
        match step {
            Step::Append(ops) => {
                if journal.append(&batch(ops)).is_ok() {
                    model.append(ops);
                }
            }
            Step::Sync => {
                if journal.sync().is_ok() {
                    model.durable(model.0.len() - 1);
                }
            }
            Step::SyncAround(ops) => {
                let job = journal.start_sync();
                let covered = model.0.len() - 1;
                if journal.append(&batch(ops)).is_ok() {
                    model.append(ops);
                }
                if journal.finish_sync(job.run()).is_ok() {
                    model.durable(covered);
                }
            }
            Step::Maintain(budget) => {
                let _ = journal.maintain(now, *budget);
            }
            Step::Fault(kind, after) => disk.set_faults(faults(*kind, *after)),
            Step::Reopen | Step::PowerCut(_) => {
                disk.set_faults(Faults::default());
                drop(journal);
                if let Step::PowerCut(seed) = step {
                    let mut bits = *seed | 1;
                    disk = disk.power_cut(|| {
                        bits ^= bits << 13;
                        bits ^= bits >> 7;
                        bits ^= bits << 17;
                        bits & 4 == 0
                    });
                }
                let (opened, report) = Journal::open(disk.clone(), options.clone()).unwrap();
                assert_eq!(report.damaged, 0);
                journal = opened;
                let found = read(&journal);
                let index = model.0.iter().rposition(|model| *model == found);
                let index = index.unwrap_or_else(|| panic!("no state that ever was: {found:?}"));
                if matches!(step, Step::Reopen) {
                    assert_eq!(index, model.0.len() - 1, "nothing is lost without a power cut");
                }
                // What was found is what counts from now on, and opening vouches for it only once it is synced.
                model.0.truncate(index + 1);
            }
        }
        disk.set_faults(if matches!(step, Step::Fault(..)) { continue } else { Faults::default() });
        assert_eq!(&read(&journal), model.now(), "after {step:?}");
    }
    // Whether opening goes by the footers or by the frames, it finds the same.
    drop(journal);
    let mut files = disk.files();
    files.values_mut().for_each(|bytes| break_footer(bytes));
    let journal = Journal::open(Disk::with_files(&files), options).unwrap().0;
    assert_eq!(&read(&journal), model.now(), "without footers");
}

/// A footer ends with the segment's mark, the first bytes of the seed in its header.
fn break_footer(segment: &mut [u8]) {
    if segment.len() > 104 && segment[segment.len() - 4..] == segment[16..20] {
        segment[segment.len() - 1] ^= 1;
    }
}

proptest! {
    #[test]
    fn whatever_happens(sealed: bool, age: bool, steps in prop::collection::vec(step(), 1..80)) {
        run(sealed, age, &steps);
    }
}

#[test]
fn a_failed_sync_ends_writing_until_reopened() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    journal.commit(&batch(&[Op::Put(1, vec![1])])).unwrap();
    journal.append(&batch(&[Op::Put(2, vec![2])])).unwrap();
    disk.set_faults(Faults { sync: Some(0), ..Faults::default() });
    assert!(matches!(journal.sync(), Err(Error::Io { .. })));
    assert!(matches!(journal.append(&batch(&[Op::Put(3, vec![3])])), Err(Error::Poisoned)));
    assert_eq!(journal.get(b"key number 2").unwrap().unwrap(), [2], "reads go on");
    drop(journal);
    let mut journal = Journal::open(disk, options(false)).unwrap().0;
    journal.commit(&batch(&[Op::Put(3, vec![3])])).unwrap();
}

/// Once compaction has emptied the journal, opening knows only from the next segment what was durable before.
#[test]
fn a_torn_first_frame_behind_an_emptied_journal_is_no_damage() {
    let disk = Disk::new();
    let options = Options { garbage_age: Some(Duration::ZERO), ..options(false) };
    let mut journal = Journal::open(disk.clone(), options.clone()).unwrap().0;
    journal.append(&batch(&[Op::Put(1, vec![1])])).unwrap();
    journal.commit(&batch(&[Op::Delete(1)])).unwrap();
    while journal.maintain(Duration::ZERO, u32::MAX).unwrap().more {}
    assert_eq!(journal.stats().segments, 0);
    journal.append(&batch(&[Op::Put(2, vec![2])])).unwrap();
    journal.append(&batch(&[Op::Put(3, vec![3])])).unwrap();
    // Of the two, only the second got to the disk.
    let mut first = true;
    let cut = disk.power_cut(|| !std::mem::take(&mut first));
    let (journal, report) = Journal::open(cut, options).unwrap();
    assert_eq!(report.damaged, 0);
    assert_eq!(read(&journal), Model::default());
}
