//! A recorded run, cut and corrupted at every byte.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Model, Op, batch, options, read};
use qpc_journal::fault::Disk;
use qpc_journal::{Error, Journal, Options};
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
                let (journal, _) = Journal::open(Disk::with_files(&files), options(sealed)).unwrap();
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
    for sealed in [false, true] {
        let disk = Disk::new();
        let options = Options { segment_bytes: 1 << 20, ..options(sealed) };
        let (mut journal, _) = Journal::open(disk.clone(), options.clone()).unwrap();
        for n in 0..5 {
            journal.commit(&batch(&[Op::Push(vec![1], vec![n; 60])])).unwrap();
        }
        let mut files = disk.files();
        files.values_mut().next().unwrap()[116] ^= 1;
        let (journal, report) = Journal::open(Disk::with_files(&files), options).unwrap();
        assert_eq!((report.damaged, report.torn_bytes), (1, 0));
        assert_eq!(journal.queue(qpc_journal::QueueId(1)).unwrap().next_seq, 6);
    }
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

/// A sender must not be able to put records into the log by sending a frame inside a message.
#[test]
fn a_frame_inside_a_message_is_never_taken_for_the_log() {
    let options = Options { segment_bytes: 1 << 20, ..options(false) };
    // The attacker makes a frame with a high serial in a journal of his own.
    let own = Disk::new();
    let (mut journal, _) = Journal::open(own.clone(), options.clone()).unwrap();
    for n in 0..9 {
        journal.commit(&batch(&[Op::Put(1, vec![n])])).unwrap();
    }
    let before = only_file(&own).len();
    journal.commit(&batch(&[Op::Put(77, vec![1; 5])])).unwrap();
    let forged = only_file(&own)[before..].to_vec();

    let disk = Disk::new();
    let (mut journal, _) = Journal::open(disk.clone(), options.clone()).unwrap();
    journal.commit(&batch(&[Op::Put(1, vec![1; 10])])).unwrap();
    let at = only_file(&disk).len();
    journal.commit(&batch(&[Op::Push(vec![1], forged)])).unwrap();
    for n in 0..12 {
        journal.commit(&batch(&[Op::Put(2, vec![n; 10])])).unwrap();
    }
    let mut files = disk.files();
    files.values_mut().next().unwrap()[at + 4] ^= 1;
    let (journal, report) = Journal::open(Disk::with_files(&files), options).unwrap();
    assert_eq!(report.damaged, 1);
    assert_eq!(journal.keys(b"").count(), 2);
}

/// What is damaged in many places is still read in one pass.
#[test]
fn reading_on_behind_damage_takes_one_pass() {
    let options = Options { segment_bytes: 1 << 20, ..options(false) };
    let disk = Disk::new();
    let (mut journal, _) = Journal::open(disk.clone(), options.clone()).unwrap();
    let mut ends = Vec::new();
    for n in 0..2000u32 {
        journal.commit(&batch(&[Op::Push(vec![1], n.to_be_bytes().repeat(25))])).unwrap();
        ends.push(disk.written() as usize);
    }
    let mut files = disk.files();
    let file = files.values_mut().next().unwrap();
    for frame in ends.iter().step_by(2).take(999) {
        file[frame + 15] ^= 1;
    }
    let size = file.len() as u64;
    let (journal, report) = Journal::open(Disk::with_files(&files), options).unwrap();
    assert_eq!(report.damaged, 999);
    assert!(report.bytes_read < 8 * size, "read {} bytes of {size}", report.bytes_read);
    assert!(journal.read(qpc_journal::QueueId(1), 1).unwrap().is_some());
}

/// The first batches are read as the last, whatever befalls one byte of a header.
#[test]
fn one_bad_header_byte_loses_nothing() {
    for sealed in [false, true] {
        let run = record(sealed);
        let (files, model) = run.steps.last().unwrap();
        for name in files.keys() {
            for at in 0..104 {
                let mut files = files.clone();
                files.get_mut(name).unwrap()[at] ^= 1;
                let (journal, report) = Journal::open(Disk::with_files(&files), options(sealed)).unwrap();
                assert_eq!((report.damaged, report.torn_bytes), (0, 0));
                assert_eq!(&read(&journal), model, "{name} at {at}");
            }
        }
    }
}

/// Where both copies are gone the segment is lost, the others are not, and the file stays for a closer look.
#[test]
fn a_lost_header_costs_one_segment() {
    for sealed in [false, true] {
        let run = record(sealed);
        let (files, _) = run.steps.last().unwrap();
        for name in files.keys() {
            let mut files = files.clone();
            for at in [9, 53] {
                files.get_mut(name).unwrap()[at] ^= 1;
            }
            let disk = Disk::with_files(&files);
            let (mut journal, report) = Journal::open(disk.clone(), options(sealed)).unwrap();
            assert_eq!((report.damaged, report.torn_bytes), (1, 0), "{name}");
            let entries = journal.queue(qpc_journal::QueueId(1)).unwrap();
            assert!(entries.next_seq > 5, "{name}: {entries:?}");
            journal.commit(&batch(&[Op::Put(9, vec![1])])).unwrap();
            assert_eq!(disk.files()[name], files[name]);
        }
    }
}

/// A footer that cannot be used costs time only.
#[test]
fn a_bad_footer_loses_nothing() {
    for sealed in [false, true] {
        let disk = Disk::new();
        let (mut journal, _) = Journal::open(disk.clone(), options(sealed)).unwrap();
        let mut model = Model::default();
        for n in 0..4 {
            let ops = [Op::Push(vec![1], vec![n; 600])];
            model.apply(&ops);
            journal.commit(&batch(&ops)).unwrap();
        }
        let files = disk.files();
        let (name, bytes) = files.first_key_value().unwrap();
        let (journal, with_footer) = Journal::open(Disk::with_files(&files), options(sealed)).unwrap();
        assert_eq!(read(&journal), model);
        let summary_len = bytes[bytes.len() - 12..].first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
        for at in bytes.len() - 12 - summary_len as usize..bytes.len() {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at] ^= 1;
            let (journal, report) = Journal::open(Disk::with_files(&files), options(sealed)).unwrap();
            assert_eq!((report.damaged, report.torn_bytes), (1, 0), "at {at}");
            assert!(report.bytes_read > with_footer.bytes_read);
            assert_eq!(read(&journal), model, "at {at}");
        }
    }
}

fn only_file(disk: &Disk) -> Vec<u8> {
    disk.files().values().next().unwrap().clone()
}
