//! What the tests share: a plain model of a journal, and reading a journal whole.

#![allow(dead_code, reason = "each test file uses its part")]

use qpc_journal::{Batch, Journal, Options, QueueId, SealKey, Storage};
use std::collections::BTreeMap;

/// Map, and queues as (next number, entries by number).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Model {
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) queues: BTreeMap<u64, (u64, BTreeMap<u64, Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(u8, Vec<u8>),
    Delete(u8),
    Push(Vec<u8>, Vec<u8>),
    Trim(u8, u64),
    DropQueue(u8),
}

impl Model {
    pub(crate) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put(key, value) => drop(self.map.insert(name(*key), value.clone())),
                Op::Delete(key) => drop(self.map.remove(&name(*key))),
                Op::Push(queues, body) => {
                    for queue in queues {
                        let (next, entries) =
                            self.queues.entry((*queue).into()).or_insert((1, BTreeMap::new()));
                        entries.insert(*next, body.clone());
                        *next += 1;
                    }
                }
                Op::Trim(queue, up_to) => {
                    if let Some((_, entries)) = self.queues.get_mut(&(*queue).into()) {
                        entries.retain(|seq, _| seq > up_to);
                    }
                }
                Op::DropQueue(queue) => drop(self.queues.remove(&(*queue).into())),
            }
        }
    }
}

pub(crate) fn batch(ops: &[Op]) -> Batch {
    let mut batch = Batch::new();
    for op in ops {
        match op {
            Op::Put(key, value) => batch.put(name(*key), value.clone()),
            Op::Delete(key) => batch.delete(name(*key)),
            Op::Push(queues, body) => {
                let queues: Vec<QueueId> = queues.iter().map(|&queue| QueueId(queue.into())).collect();
                batch.push(&queues, body.clone())
            }
            Op::Trim(queue, up_to) => batch.trim(QueueId((*queue).into()), *up_to),
            Op::DropQueue(queue) => batch.drop_queue(QueueId((*queue).into())),
        };
    }
    batch
}

/// Everything a journal says it has.
pub(crate) fn read<S: Storage>(journal: &Journal<S>) -> Model {
    let mut model = Model::default();
    for key in journal.keys(b"") {
        model.map.insert(key.to_vec(), journal.get(key).unwrap().unwrap());
    }
    for (id, stat) in journal.queues() {
        let mut entries = BTreeMap::new();
        for seq in stat.first_seq..stat.next_seq {
            entries.insert(seq, journal.read(id, seq).unwrap().unwrap());
        }
        assert_eq!(stat.bytes, entries.values().map(|body| body.len() as u64).sum::<u64>());
        model.queues.insert(id.0, (stat.next_seq, entries));
    }
    model
}

pub(crate) fn options(sealed: bool) -> Options {
    Options {
        segment_bytes: 1024,
        max_bytes: 1 << 20,
        key: sealed.then(|| SealKey::new([7; 32])),
        ..Options::default()
    }
}

/// Long enough that a key is not found in a file by chance.
fn name(key: u8) -> Vec<u8> {
    format!("key number {key}").into_bytes()
}
