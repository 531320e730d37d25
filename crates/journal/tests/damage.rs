//! A recorded run, cut and corrupted at every byte.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Model, Op, batch, options, read};
use qpc_journal::fault::Disk;
use qpc_journal::{Error, Journal};
use std::collections::BTreeMap;

struct Run {
    /// The files, and the model, after each batch; all synced.
    steps: Vec<(BTreeMap<String, Vec<u8>>, Model)>,
}

fn record(sealed: bool) -> Run {
    let disk = Disk::new();
    let (mut journal, _) = Journal::open(disk.clone(), options(sealed)).unwrap();
    let mut model = Model::default();
    let mut steps = vec![(disk.files(), model.clone())];
    for n in 0..14u8 {
        let ops = vec![
            Op::Put(n % 5, vec![n; 20 + usize::from(n)]),
            Op::Push(vec![1, n % 3 + 2], vec![n; 60]),
            Op::Trim(1, u64::from(n / 2)),
            Op::Delete(n % 4),
        ];
        model.apply(&ops);
        journal.commit(&batch(&ops)).unwrap();
        steps.push((disk.files(), model.clone()));
    }
    assert_eq!(read(&journal), model);
    assert!(disk.files().len() > 2, "the run must span segments");
    Run { steps }
}

/// What is left after a cut is the state after some batch, and no acknowledged batch before the cut is missing.
#[test]
fn cut_anywhere() {
    for sealed in [false, true] {
        let run = record(sealed);
        let files = &run.steps.last().unwrap().0;
        let last = files.keys().last().unwrap();
        for cut in 0..=files[last].len() {
            let mut files = files.clone();
            files.get_mut(last).unwrap().truncate(cut);
            // The newest step whose bytes are all still there.
            let whole = |step: &BTreeMap<String, Vec<u8>>| {
                step.iter().all(|(name, bytes)| files.get(name).is_some_and(|f| f.starts_with(bytes)))
            };
            let (_, model) = run.steps.iter().rev().find(|(step, _)| whole(step)).unwrap();
            let disk = Disk::with_files(&files);
            let (mut journal, report) = Journal::open(disk.clone(), options(sealed)).unwrap();
            assert_eq!(report.damaged, 0);
            assert_eq!(&read(&journal), model, "cut at {cut}");
            // And it can be written on, and opened again.
            let ops = [Op::Put(9, vec![9; 30])];
            let mut model = model.clone();
            model.apply(&ops);
            journal.commit(&batch(&ops)).unwrap();
            drop(journal);
            let (journal, report) = Journal::open(disk, options(sealed)).unwrap();
            assert_eq!((read(&journal), report.torn_bytes, report.damaged), (model, 0, 0), "cut at {cut}");
        }
    }
}

/// A flipped byte costs at most the batch it is in: every other body reads as written, wrong bytes are never returned.
#[test]
fn corrupt_anywhere() {
    for sealed in [false, true] {
        let run = record(sealed);
        let (files, model) = run.steps.last().unwrap();
        for name in files.keys() {
            for at in 0..files[name].len() {
                let mut files = files.clone();
                files.get_mut(name).unwrap()[at] ^= 0x41;
                let journal = match Journal::open(Disk::with_files(&files), options(sealed)) {
                    Ok((journal, _)) => journal,
                    // A sealed segment whose header is gone cannot be read, and is not passed over in silence.
                    Err(
                        Error::Corrupt { .. }
                        | Error::WrongKey
                        | Error::NotSealed
                        | Error::NewerFormat { .. },
                    ) => continue,
                    Err(error) => panic!("{name} at {at}: {error}"),
                };
                let bodies: Vec<Vec<u8>> = (0..14u8).map(|n| vec![n; 60]).collect();
                let mut wrong = 0;
                for (id, (next, entries)) in &model.queues {
                    let id = qpc_journal::QueueId(*id);
                    for seq in 1..*next {
                        match (journal.read(id, seq), entries.get(&seq)) {
                            (Ok(Some(body)), Some(expected)) => assert_eq!(&body, expected, "{name} at {at}"),
                            // A lost trim may bring back what it trimmed.
                            (Ok(Some(body)), None) => assert!(bodies.contains(&body)),
                            (Ok(None) | Err(Error::Corrupt { .. }), Some(_)) => wrong += 1,
                            (Ok(None) | Err(Error::Corrupt { .. }), None) => {}
                            (Err(error), _) => panic!("{name} at {at}: {error}"),
                        }
                    }
                }
                assert!(wrong <= 2, "{name} at {at}: {wrong} entries lost, one batch has two");
            }
        }
    }
}

#[test]
fn damage_in_the_middle_is_reported_and_stepped_over() {
    let run = record(false);
    let (files, _) = run.steps.last().unwrap();
    let first = files.keys().next().unwrap();
    let mut files = files.clone();
    files.get_mut(first).unwrap()[60] ^= 1;
    let (journal, report) = Journal::open(Disk::with_files(&files), options(false)).unwrap();
    assert_eq!((report.damaged, report.torn_bytes), (1, 0));
    assert_eq!(journal.queue(qpc_journal::QueueId(1)).unwrap().next_seq, 15);
}

#[test]
fn sealed_files_say_nothing() {
    let run = record(true);
    for bytes in run.steps.last().unwrap().0.values() {
        for secret in [&b"key number"[..], &[5; 8]] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}
