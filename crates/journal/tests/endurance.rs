//! What must hold where something did break: a failed sync, damage found late, deletions over a long time.

#![allow(clippy::unwrap_used, missing_docs)]

use qpc_journal::fault::{Disk, Faults};
use qpc_journal::*;
use std::time::Duration;

const Q: QueueId = QueueId(1);
fn opts() -> Options {
    Options { segment_bytes: 1024, max_bytes: 1 << 20, ..Options::default() }
}
fn put(k: &str, n: usize) -> Batch {
    let mut b = Batch::new();
    b.put(k, vec![7u8; n]);
    b
}
fn push(body: Vec<u8>) -> Batch {
    let mut b = Batch::new();
    b.push(&[Q], body);
    b
}

/// SIGKILL and restart without a power cut, then a power cut: durable() must not have claimed what was never synced.
#[test]
fn a_restart_does_not_make_durable() {
    let disk = Disk::new();
    let mut j = Journal::open(disk.clone(), opts()).unwrap().0;
    j.commit(&put("a", 10)).unwrap();
    j.append(&put("b", 10)).unwrap();
    drop(j);
    let j = Journal::open(disk.clone(), opts()).unwrap().0;
    let claimed = j.durable() == j.appended() && j.contains(b"b");
    drop(j);
    let after = Journal::open(disk.power_cut(|| false), opts()).unwrap().0;
    assert!(!claimed || after.contains(b"b"), "durable() covered a batch that no sync ever covered");
}

/// A second sync that succeeds must not vouch for what a first, failed one lost.
#[test]
fn a_later_sync_does_not_hide_a_failed_one() {
    let disk = Disk::new();
    let mut j = Journal::open(disk.clone(), opts()).unwrap().0;
    j.append(&put("a", 10)).unwrap();
    let first = j.start_sync();
    j.append(&put("b", 10)).unwrap();
    let second = j.start_sync();
    disk.set_faults(Faults { sync: Some(0), ..Faults::default() });
    let first = first.run();
    let second = second.run();
    assert!(j.finish_sync(second).is_err(), "acknowledged although the sync before it had failed");
    assert!(j.finish_sync(first).is_err());
}

/// Cutting what a failed write left behind syncs, and when that fails the kernel has said it for the last time: a later
/// sync, which the kernel lets pass, must not vouch for what lay there unsynced.
#[test]
fn a_failed_sync_while_mending_is_not_forgotten() {
    let disk = Disk::new();
    let mut j = Journal::open(disk.clone(), opts()).unwrap().0;
    j.append(&put("a", 10)).unwrap();
    let write = Some((0, std::io::ErrorKind::StorageFull));
    disk.set_faults(Faults { write, sync: Some(0), ..Faults::default() });
    j.append(&put("b", 10)).unwrap_err();
    let later = j.start_sync().run();
    assert!(j.finish_sync(later).is_err(), "a sync vouched for what one before it had lost");
}

/// Keys that come and go beside one old key must not fill the journal with graves.
#[test]
fn graves_do_not_accumulate() {
    let disk = Disk::new();
    let o = Options { max_bytes: 32 << 10, ..opts() };
    let mut j = Journal::open(disk, o).unwrap().0;
    j.commit(&put("keep", 920)).unwrap();
    for n in 0..20_000u32 {
        let key = format!("lease {n:08}");
        let mut b = Batch::new();
        b.delete(key.as_str());
        if let Err(e) = j.commit(&put(&key, 20)).and_then(|_| j.commit(&b)) {
            panic!("after {n} keys, with 2 live: {e}; {:?}", j.stats());
        }
        for _ in 0..100 {
            if !j.maintain(Duration::from_secs(n.into()), 65536).unwrap().more {
                break;
            }
        }
    }
}

fn damaged_then_maintain(hit_header: bool) -> (Journal<Disk>, Result<Maintenance, Error>) {
    let disk = Disk::new();
    let o = Options { garbage_age: Some(Duration::from_secs(1)), ..opts() };
    let mut j = Journal::open(disk.clone(), o).unwrap().0;
    j.commit(&put("dies", 50)).unwrap();
    let at = disk.files().values().next().unwrap().len() as u64;
    j.commit(&put("stays", 300)).unwrap();
    for n in 0..8 {
        j.commit(&put(&format!("k{n}"), 300)).unwrap();
    }
    let mut b = Batch::new();
    b.delete("dies").delete("k7");
    j.commit(&b).unwrap();
    let file = disk.open("00000001.qpj").unwrap();
    let place = if hit_header { at + 5 } else { at + 100 };
    let mut byte = [0];
    file.read_at(&mut byte, place).unwrap();
    file.write_at(&[byte[0] ^ 1], place).unwrap();
    let mut result = Ok(Maintenance::default());
    for s in 0..20 {
        result = j.maintain(Duration::from_secs(s * 10), 1 << 20);
    }
    (j, result)
}

/// One bad body must not end all compaction.
#[test]
fn a_damaged_body_does_not_stop_maintenance() {
    let (_, result) = damaged_then_maintain(false);
    result.unwrap();
}

/// A body that can still be read must not be removed because the frame header before it went bad.
#[test]
fn compaction_keeps_what_it_can_read() {
    let (j, result) = damaged_then_maintain(true);
    println!("{result:?}");
    assert!(j.get(b"stays").is_ok_and(|v| v.is_some()), "{:?}", j.get(b"stays"));
}

/// Entries of a dropped queue stay dropped when the queue is made again, whatever is compacted first.
#[test]
fn a_dropped_queue_does_not_come_back() {
    let disk = Disk::new();
    let mut j = Journal::open(disk.clone(), opts()).unwrap().0;
    let mut b = put("keep", 700);
    for n in 0..5u8 {
        b.push(&[Q], vec![n; 10]);
    }
    j.commit(&b).unwrap();
    // Segment 2: the drop, and a value that will be dead.
    let mut b = put("dead", 700);
    b.drop_queue(Q);
    j.commit(&b).unwrap();
    // Segment 3: the queue again, one entry of it trimmed; "dead" dies.
    let mut b = Batch::new();
    b.push(&[Q], b"new1".to_vec())
        .push(&[Q], b"new2".to_vec())
        .trim(Q, 1)
        .delete("dead")
        .put("fill", vec![0; 700]);
    j.commit(&b).unwrap();
    let before = j.queue(Q);
    for s in 0..5 {
        j.maintain(Duration::from_secs(s), 1 << 20).unwrap();
    }
    println!("{:?}", disk.files().keys().collect::<Vec<_>>());
    assert_eq!(j.queue(Q), before);
    drop(j);
    let j = Journal::open(disk, opts()).unwrap().0;
    assert_eq!(j.queue(Q), before);
}

/// An acknowledged entry that was lost to damage is Corrupt, not absent.
#[test]
fn a_lost_entry_is_reported() {
    let disk = Disk::new();
    let o = Options { segment_bytes: 1 << 20, ..opts() };
    let mut j = Journal::open(disk.clone(), o.clone()).unwrap().0;
    j.commit(&push(vec![1; 10])).unwrap();
    let at = disk.files().values().next().unwrap().len();
    for n in 2..6u8 {
        j.commit(&push(vec![n; 10])).unwrap();
    }
    let mut files = disk.files();
    files.values_mut().next().unwrap()[at + 4] ^= 1;
    let (j, _) = Journal::open(Disk::with_files(&files), o).unwrap();
    assert_eq!(j.queue(Q).unwrap().next_seq, 6);
    assert!(matches!(j.read(Q, 2), Err(Error::Corrupt { .. })), "{:?}", j.read(Q, 2));
}

/// Once the application has migrated, the next opening must not ask it to migrate again.
#[test]
fn a_migration_is_asked_for_once() {
    let disk = Disk::new();
    let o = |schema| Options { schema, ..opts() };
    Journal::open(disk.clone(), o(1)).unwrap().0.commit(&put("a", 1)).unwrap();
    let (mut j, report) = Journal::open(disk.clone(), o(2)).unwrap();
    assert_eq!(report.schema, Some(1));
    j.commit(&put("a", 2)).unwrap();
    drop(j);
    assert_eq!(Journal::open(disk, o(2)).unwrap().1.schema, Some(2));
}

/// A shared body costs one body in compaction decisions: what is nearly all alive is not rewritten.
#[test]
fn shared_bodies_are_counted_once() {
    let o = Options { max_bytes: 128 << 10, segment_bytes: 4096, ..opts() };
    let mut j = Journal::open(Disk::new(), o).unwrap().0;
    let queues: Vec<QueueId> = (1..=50).map(QueueId).collect();
    for _ in 0..40 {
        let mut b = Batch::new();
        b.push(&queues, vec![1; 1000]);
        j.commit(&b).unwrap();
    }
    let mut b = Batch::new();
    for q in &queues[1..] {
        b.trim(*q, 40);
    }
    j.commit(&b).unwrap();
    let before = j.stats();
    for s in 0..50 {
        j.maintain(Duration::from_secs(s), 1 << 20).unwrap();
    }
    let after = j.stats();
    println!(
        "disk {} -> {}, written by compaction {}",
        before.disk_bytes,
        after.disk_bytes,
        after.bytes_written - before.bytes_written
    );
    // 40 bodies of 1000 bytes live before and after; only 49 * 16 bytes of references per body were garbage.
    let freed = before.disk_bytes - after.disk_bytes;
    assert!(after.bytes_written - before.bytes_written <= 2 * freed, "wrote more than twice what it freed");
}
