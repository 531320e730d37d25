//! Random operations, faults, power cuts and compaction against a plain map as the model.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Model, Op, batch, options, read};
use proptest::prelude::*;
use qpc_journal::fault::{Disk, Faults};
use qpc_journal::{Error, Journal};
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
