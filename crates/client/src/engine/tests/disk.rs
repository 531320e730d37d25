//! The journal's disk in memory, as the engine uses it.

use std::io::ErrorKind;
use std::sync::Arc;

use qpc_journal::fault::Faults;
use qpc_journal::{Journal, Options, SealKey};

pub(super) use qpc_journal::fault::Disk;

use crate::engine::{Engine, EngineError, GARBAGE_AGE, SCHEMA};
use crate::mls::SystemEntropy;

pub(super) fn journal(disk: &Disk) -> Journal<Disk> {
    // Small segments, so that there are many.
    let options = Options {
        segment_bytes: 32 * 1024,
        schema: SCHEMA,
        key: Some(SealKey::new([7; 32])),
        garbage_age: Some(GARBAGE_AGE),
        ..Options::default()
    };
    Journal::open(disk.clone(), options).unwrap().0
}

pub(super) fn open(disk: &Disk) -> Result<Engine<Disk>, EngineError> {
    Engine::open(journal(disk), Arc::new(SystemEntropy::new()))
}

/// A fault at the `n`th access, first of writes, then of reads; `None` when there is none left to try.
pub(super) fn fault(reads: bool, n: u32) -> Faults {
    match reads {
        true => Faults { read: Some(n), ..Faults::default() },
        false => Faults { write: Some((n, ErrorKind::StorageFull)), ..Faults::default() },
    }
}
