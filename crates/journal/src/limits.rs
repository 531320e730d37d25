//! The bounds of the format. They are checked before anything is written, and again before anything read from a file
//! is allocated.

/// The longest key.
pub const MAX_KEY: usize = 1024;

/// The largest value or queue entry.
pub const MAX_BODY: usize = 16 << 20;

/// The most queues that one push can enter.
pub const MAX_QUEUES_PER_PUSH: usize = 4096;

/// The most entries that can wait in one queue.
pub const MAX_QUEUE_LENGTH: usize = 1 << 22;

/// The largest metadata of one batch: its keys, queue references and lengths.
pub const MAX_METADATA: usize = 1 << 20;

/// The largest batch, bodies included.
pub const MAX_BATCH: usize = 64 << 20;
