//! A crash-safe, flash-frugal journal: a key-value map and message queues in one log.
//!
//! A [`Batch`] goes in at one end: [`Journal::append`] encodes it as one frame, writes it at the end of the newest segment and
//! then changes the index in memory. [`Journal::start_sync`] makes what was appended durable, on another thread if wanted; one
//! fdatasync serves everything appended before it. Reads go from the index to the file with `pread`. Nothing is ever written
//! in place: what is deleted becomes garbage in its segment, [`Journal::maintain`] copies what still lives out of a segment and
//! removes the file.
//!
//! # On disk
//!
//! Segments are files `00000001.qpj`, numbered upwards in hexadecimal; all integers are big-endian. See [`format`] for the layout of
//! a segment. Opening reads footers, or the frames' headers where there is no footer, and the bodies that no later header vouches for.
//!
//! # Promises
//!
//! * A batch is visible whole or not at all, before and after a crash.
//! * What [`Journal::durable`] covers survives power cuts. What is beyond it may be lost, but only from the end: never a batch
//!   without all later ones.
//! * Stored bytes are checked (CRC-32, or Poly1305 too where the journal is sealed) whenever they are read.
//! * A damaged place that was once durable costs the batches it hits, not those behind it, and is reported.

#![forbid(unsafe_code)]

mod batch;
mod compact;
mod directory;
mod error;
#[cfg(any(test, feature = "fault"))]
pub mod fault;
pub mod format;
mod index;
mod journal;
pub mod limits;
mod open;
mod scan;
mod seal;
mod storage;

pub use batch::{Batch, QueueId};
pub use compact::Maintenance;
pub use directory::Directory;
pub use error::{Doing, Error, Limit, Part};
pub use index::QueueStat;
pub use journal::{Journal, Options, Position, Stats, SyncJob, Synced};
pub use open::OpenReport;
pub use seal::SealKey;
pub use storage::{Storage, StorageFile};
