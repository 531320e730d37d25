//! What the journal writes, keeps in memory and reads at start. Counts, no clocks: the figures are the same everywhere.

#![allow(clippy::unwrap_used, missing_docs)]

use qpc_journal::fault::Disk;
use qpc_journal::{Batch, Journal, Options, QueueId};

const KIB: usize = 1024;

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

    let disk = Disk::new();
    let mut journal =
        Journal::open(disk.clone(), Options { max_bytes: 1 << 30, ..Options::default() }).unwrap().0;
    for n in 0..100_000u32 {
        let mut batch = Batch::new();
        batch.push(&[QueueId((n % 100).into())], vec![7; 16]);
        journal.append(&batch).unwrap();
        if n + 1 == 10_000 {
            journal.sync().unwrap();
            let (_, report) = Journal::open(disk.clone(), Options::default()).unwrap();
            row("read at start, 10,000 messages of 16 bytes", report.bytes_read as f64);
        }
    }
    row(
        "index memory per queued message, 100,000 in 100 queues",
        journal.stats().queue_memory as f64 / 100_000.0,
    );
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
