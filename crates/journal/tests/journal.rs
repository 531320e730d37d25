//! What a journal promises where nothing breaks: syncs before acknowledgements, budgets, locks, versions, compaction.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Model, Op, batch, options, read};
use qpc_journal::fault::{Disk, Faults};
use qpc_journal::{Batch, Directory, Error, Journal, Options, QueueId, SealKey};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// A killed process cannot show a missing fdatasync; counting can.
#[test]
fn a_sync_returned_before_every_acknowledgement() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    for n in 0..50u8 {
        let before = disk.syncs();
        let position = journal.commit(&batch(&[Op::Push(vec![1], vec![n; 100])])).unwrap();
        assert!(disk.syncs() > before, "batch {n}");
        assert_eq!(journal.durable(), position);
        // And what it says is durable survives the worst power cut.
        let after = Journal::open(disk.power_cut(|| false), options(false)).unwrap().0;
        assert_eq!(read(&after), read(&journal));
    }
}

#[test]
fn one_sync_serves_all_that_was_appended_before_it() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), Options::default()).unwrap().0;
    journal.commit(&batch(&[Op::Put(0, vec![])])).unwrap();
    let before = disk.syncs();
    for n in 0..20u8 {
        journal.append(&batch(&[Op::Put(n, vec![n])])).unwrap();
    }
    assert!(journal.durable() < journal.appended());
    let job = journal.start_sync();
    let covered = journal.appended();
    let later = journal.append(&batch(&[Op::Put(99, vec![])])).unwrap();
    let done = std::thread::spawn(move || job.run()).join().unwrap();
    assert_eq!(journal.finish_sync(done).unwrap(), covered);
    assert!(journal.durable() < later);
    assert_eq!(disk.syncs(), before + 1);
}

#[test]
fn an_idle_journal_writes_nothing() {
    let disk = Disk::new();
    let mut options = options(false);
    options.garbage_age = Some(Duration::from_secs(10));
    let mut journal = Journal::open(disk.clone(), options).unwrap().0;
    for n in 0..60u8 {
        journal.commit(&batch(&[Op::Push(vec![1], vec![n; 100]), Op::Put(n % 3, vec![n; 40])])).unwrap();
    }
    journal.commit(&batch(&[Op::Trim(1, 60), Op::Delete(0)])).unwrap();
    let mut now = Duration::ZERO;
    for _ in 0..200 {
        now += Duration::from_secs(1);
        journal.maintain(now, 4096).unwrap();
    }
    let (written, syncs) = (disk.written(), disk.syncs());
    for _ in 0..200 {
        now += Duration::from_secs(100);
        assert_eq!(journal.maintain(now, 4096).unwrap().copied, 0);
    }
    assert_eq!((disk.written(), disk.syncs()), (written, syncs));
    assert_eq!(journal.queue(QueueId(1)).unwrap().next_seq, 61, "an empty queue keeps its numbers");
}

/// After the time given, what was deleted is in no file any more.
#[test]
fn deleted_data_is_gone_in_time() {
    let disk = Disk::new();
    let mut options = options(false);
    options.garbage_age = Some(Duration::from_secs(10));
    let mut journal = Journal::open(disk.clone(), options).unwrap().0;
    let secret = b"the old ratchet secret".to_vec();
    journal.commit(&batch(&[Op::Put(1, secret.clone()), Op::Put(2, vec![2; 30])])).unwrap();
    journal.commit(&batch(&[Op::Put(1, b"new".to_vec())])).unwrap();
    let holds =
        |disk: &Disk| disk.files().values().any(|file| file.windows(secret.len()).any(|w| w == secret));
    assert!(holds(&disk));
    journal.maintain(Duration::from_secs(1), 4096).unwrap();
    assert!(holds(&disk));
    while journal.maintain(Duration::from_secs(12), 4096).unwrap().more {}
    assert!(!holds(&disk));
    assert_eq!(journal.get(b"key number 1").unwrap().unwrap(), b"new");
    assert_eq!(journal.get(b"key number 2").unwrap().unwrap(), [2; 30]);
}

/// A journal that is full says so, still takes deletions, and takes writes again after them.
#[test]
fn a_full_budget_can_be_emptied() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk, Options { max_bytes: 16 * 1024, ..options(false) }).unwrap().0;
    let mut stored = 0;
    let full = loop {
        match journal.commit(&batch(&[Op::Push(vec![1], vec![7; 200])])) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full) && full.to_string().contains("full"));
    assert!(stored > 40, "{stored}");
    assert_eq!(journal.queue(QueueId(1)).unwrap().next_seq, stored + 1);
    for seq in 1..=stored {
        journal.commit(&batch(&[Op::Trim(1, seq)])).unwrap();
    }
    for _ in 0..1000 {
        let next = journal.queue(QueueId(1)).unwrap().next_seq;
        journal.commit(&batch(&[Op::Push(vec![1], vec![8; 200])])).unwrap();
        journal.commit(&batch(&[Op::Trim(1, next)])).unwrap();
    }
    assert!(journal.stats().disk_bytes <= 16 * 1024);
}

#[test]
fn a_full_disk_loses_nothing() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    journal.commit(&batch(&[Op::Put(1, vec![1; 100])])).unwrap();
    let before = read(&journal);
    disk.set_faults(Faults { capacity: Some(300), ..Faults::default() });
    assert!(matches!(journal.commit(&batch(&[Op::Put(2, vec![2; 500])])), Err(Error::Full)));
    assert_eq!(read(&journal), before);
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let error = journal.commit(&batch(&[Op::Put(2, vec![2; 5])])).unwrap_err();
    assert!(matches!(error, Error::ReadOnly | Error::Poisoned), "{error}");
    assert_eq!(read(&journal), before);
    disk.set_faults(Faults::default());
    drop(journal);
    let mut journal = Journal::open(disk, options(false)).unwrap().0;
    assert_eq!(read(&journal), before);
    journal.commit(&batch(&[Op::Put(2, vec![2; 500])])).unwrap();
}

/// A full JFFS2 cannot even cut off what a failed write has left.
#[test]
fn a_disk_too_full_to_be_tidied_is_tidied_later() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    journal.commit(&batch(&[Op::Put(1, vec![1; 100])])).unwrap();
    let before = read(&journal);
    disk.set_faults(Faults { capacity: Some(300), truncate: true, ..Faults::default() });
    assert!(matches!(journal.commit(&batch(&[Op::Put(2, vec![2; 500])])), Err(Error::Full)));
    assert!(journal.commit(&batch(&[Op::Put(3, vec![3; 500])])).is_err());
    assert_eq!(read(&journal), before);
    disk.set_faults(Faults::default());
    journal.commit(&batch(&[Op::Put(4, vec![4; 5])])).unwrap();
    let after = read(&journal);
    assert_ne!(after, before);
    drop(journal);
    assert_eq!(read(&Journal::open(disk, options(false)).unwrap().0), after);
}

#[test]
fn limits_are_checked_before_anything_is_written() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    let mut long_key = Batch::new();
    long_key.put(vec![0; 1025], vec![]);
    assert!(matches!(journal.append(&long_key), Err(Error::TooLarge { .. })));
    let mut many = Batch::new();
    many.push(&vec![QueueId(1); 4097], vec![]);
    assert!(matches!(journal.append(&many), Err(Error::TooLarge { .. })));
    assert_eq!(disk.written(), 0);
}

#[test]
fn a_batch_without_effect_costs_nothing() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), options(false)).unwrap().0;
    let ops = [Op::Delete(1), Op::Trim(1, 9), Op::DropQueue(1), Op::Push(vec![], vec![1])];
    journal.commit(&batch(&ops)).unwrap();
    assert_eq!((disk.written(), disk.syncs()), (0, 0));
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut journal = Journal::open(Directory::open(&path).unwrap(), Options::default()).unwrap().0;
    journal.commit(&batch(&[Op::Put(1, vec![1])])).unwrap();
    let error = Directory::open(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }) && error.to_string().contains("in use"), "{error}");
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(journal);
    let journal = Journal::open(Directory::open(&path).unwrap(), Options::default()).unwrap().0;
    assert_eq!(journal.get(b"key number 1").unwrap().unwrap(), [1]);
}

#[test]
fn keys_and_versions_are_checked() {
    let disk = Disk::new();
    let sealed = Options { key: Some(SealKey::new([1; 32])), schema: 3, ..Options::default() };
    let open = |options: &Options| Journal::open(disk.clone(), options.clone());
    open(&sealed).unwrap().0.commit(&batch(&[Op::Put(1, vec![1])])).unwrap();
    assert!(matches!(open(&Options { key: None, ..sealed.clone() }), Err(Error::WrongKey)));
    assert!(matches!(
        open(&Options { key: Some(SealKey::new([2; 32])), ..sealed.clone() }),
        Err(Error::WrongKey)
    ));
    let error = open(&Options { schema: 2, ..sealed.clone() }).unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 3, supported: 2 }), "{error}");
    let (mut journal, report) = open(&Options { schema: 4, ..sealed.clone() }).unwrap();
    assert_eq!(report.schema, Some(3), "the application migrates");
    journal.commit(&batch(&[Op::Put(2, vec![2])])).unwrap();
    drop(journal);
    assert!(matches!(open(&sealed), Err(Error::NewerSchema { found: 4, supported: 3 })));
}

/// The first version's files are read for ever; they were written by this test when the format was made.
#[test]
fn old_fixtures_open() {
    let mut model = Model::default();
    let ops = [
        Op::Put(1, vec![1; 500]),
        Op::Put(2, b"two".to_vec()),
        Op::Push(vec![1, 2], b"shared".to_vec()),
        Op::Push(vec![1], b"own".to_vec()),
        Op::Trim(1, 1),
        Op::Delete(2),
    ];
    // Goes to a second segment, so that the first one gets its footer.
    let long = [Op::Put(3, vec![3; 900])];
    model.apply(&ops);
    model.apply(&long);
    for sealed in [false, true] {
        let kind = if sealed { "sealed" } else { "plain" };
        let folder = format!("{}/tests/fixtures/v1-{kind}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("QPC_WRITE_FIXTURES").is_some() {
            let disk = Disk::new();
            let (mut journal, _) = Journal::open(disk.clone(), options(sealed)).unwrap();
            journal.commit(&batch(&ops)).unwrap();
            journal.commit(&batch(&long)).unwrap();
            for (name, bytes) in disk.files() {
                std::fs::write(format!("{folder}/{name}"), bytes).unwrap();
            }
        }
        let files: BTreeMap<String, Vec<u8>> = ["00000001.qpj", "00000002.qpj"]
            .map(|name| (name.to_owned(), std::fs::read(format!("{folder}/{name}")).unwrap()))
            .into();
        let (journal, report) = Journal::open(Disk::with_files(&files), options(sealed)).unwrap();
        assert_eq!((report.damaged, report.torn_bytes), (0, 0));
        assert_eq!(read(&journal), model);

        let mut newer = files;
        for copy in newer.get_mut("00000001.qpj").unwrap().chunks_exact_mut(52).take(2) {
            copy[5] = 2;
            let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&copy[..48]);
            copy[48..52].copy_from_slice(&crc.to_be_bytes());
        }
        let error = Journal::open(Disk::with_files(&newer), options(sealed)).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1 }), "{error}");
    }
}

/// Opening reads the headers, not the bodies.
#[test]
fn opening_reads_no_bodies() {
    let disk = Disk::new();
    let mut journal = Journal::open(disk.clone(), Options::default()).unwrap().0;
    for n in 0..40u8 {
        journal.commit(&batch(&[Op::Push(vec![1], vec![n; 20_000])])).unwrap();
    }
    let total: usize = disk.files().values().map(Vec::len).sum();
    let (_, report) = Journal::open(disk, Options::default()).unwrap();
    assert!(total > 800_000 && report.bytes_read < 40_000, "{} of {total} bytes", report.bytes_read);
}
