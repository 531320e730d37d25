//! What the journal writes, keeps in memory and reads at start. Counts, no clocks: the figures are the same everywhere.

#![allow(clippy::unwrap_used, missing_docs)]

use qpc_journal::fault::Disk;
use qpc_journal::{Batch, Journal, Options, QueueId};

const KIB: usize = 1024;
/// A frame with one message for one queue, without the message; the start of a segment (`qpc_journal::format`).
const FRAME: u64 = 32 + 23 + 4;
const HEADERS: u64 = 104;

fn main() {
    println!("{:58} {:>10}", "journal", "bytes");
    for burst in [1, 16] {
        let stored = stored_and_deleted(burst, |_, batch| {
            batch.push(&[QueueId(1)], vec![7; KIB]);
        });
        row(&format!("written per 1 KiB message stored and deleted, by {burst}"), stored);
    }
    let keyed = stored_and_deleted(1, |n, batch| {
        batch.put(n.to_be_bytes(), vec![7; KIB]);
    });
    row("written per 1 KiB value stored and deleted, one by one", keyed);
    let shared = stored_and_deleted(1, |_, batch| {
        let queues: Vec<QueueId> = (1..=10).map(QueueId).collect();
        batch.push(&queues, vec![7; KIB]);
    });
    row("written per 1 KiB message into ten queues, one by one", shared);

    for size in [16, KIB] {
        let disk = Disk::new();
        let (journal, written) = filled(disk.clone(), 10_000, size);
        row(&format!("footers per message of {size} bytes"), written / 10_000.0);
        drop(journal);
        let (_, report) = Journal::open(disk, Options::default()).unwrap();
        row(&format!("read at start, 10,000 messages of {size} bytes"), report.bytes_read as f64);
    }
    let (journal, _) = filled(Disk::new(), 100_000, 16);
    row(
        "index memory per queued message, 100,000 in 100 queues",
        journal.stats().queue_memory as f64 / 100_000.0,
    );
}

/// A journal with messages in 100 queues, and the bytes that are not frames or headers.
fn filled(disk: Disk, messages: u32, size: usize) -> (Journal<Disk>, f64) {
    let mut journal = Journal::open(disk, Options { max_bytes: 1 << 30, ..Options::default() }).unwrap().0;
    for n in 0..messages {
        let mut batch = Batch::new();
        batch.push(&[QueueId((n % 100).into())], vec![7; size]);
        journal.append(&batch).unwrap();
    }
    journal.sync().unwrap();
    let stats = journal.stats();
    let frames = u64::from(messages) * (FRAME + size as u64) + u64::from(stats.segments) * HEADERS;
    (journal, (stats.bytes_written - frames) as f64)
}

/// Bytes written per message over 4,096 of them, compaction included.
fn stored_and_deleted(burst: u64, store: impl Fn(u64, &mut Batch)) -> f64 {
    const MESSAGES: u64 = 4096;
    let mut journal = Journal::open(Disk::new(), Options::default()).unwrap().0;
    for first in (0..MESSAGES).step_by(burst as usize) {
        let mut batch = Batch::new();
        (first..first + burst).for_each(|n| store(n, &mut batch));
        journal.commit(&batch).unwrap();
        let mut deletion = Batch::new();
        for queue in 1..=10 {
            deletion.trim(QueueId(queue), first + burst);
        }
        for n in first..first + burst {
            deletion.delete(n.to_be_bytes());
        }
        journal.commit(&deletion).unwrap();
        while journal.maintain(std::time::Duration::ZERO, 64 * 1024).unwrap().more {}
    }
    journal.stats().bytes_written as f64 / MESSAGES as f64
}

fn row(what: &str, value: f64) {
    println!("{what:58} {value:>10.1}");
}
