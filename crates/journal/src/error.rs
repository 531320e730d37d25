use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes do not match their checksum, or do not open under the key that sealed them.
    #[error("{what} in segment {segment:08x} at byte {offset} is damaged")]
    Corrupt {
        /// Which part is damaged.
        what: Part,
        /// The number of the segment; its file is called the same.
        segment: u32,
        /// Where in the file.
        offset: u32,
    },

    /// Neither the disk nor the byte budget has room for the batch.
    #[error(
        "no room: the disk or the journal's byte budget is full; delete messages, free space on the disk \
         or raise the budget, then try again"
    )]
    Full,

    /// The operating system refused.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: Doing,
        /// What the operating system said.
        source: io::Error,
    },

    /// Somebody else has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },

    /// The files come from a later version of this crate.
    #[error(
        "the journal has format {found}, this program knows formats up to {supported}; upgrade the program"
    )]
    NewerFormat {
        /// The version in the files.
        found: u16,
        /// The newest version this program can read.
        supported: u16,
    },

    /// The files come from a later version of the application.
    #[error(
        "the journal has schema {found}, this program knows schemas up to {supported}; upgrade the program"
    )]
    NewerSchema {
        /// The version in the files.
        found: u16,
        /// The application's version, from [`Options::schema`](crate::Options::schema).
        supported: u16,
    },

    /// A key was given for a journal that is not sealed.
    #[error("the journal is not sealed, but a key was given")]
    NotSealed,

    /// An earlier write or sync failed in a way that leaves the end of the log unknown. Reads go on.
    #[error("an earlier write could not be made durable; reads go on, reopen the journal to write again")]
    Poisoned,

    /// The operating system gave no randomness.
    #[error("the operating system gives no random numbers")]
    Random,

    /// The file system is mounted read-only. Reads go on.
    #[error("the file system is read-only; remount it writable (it may have been protected after an error)")]
    ReadOnly,

    /// A limit of the format would be exceeded; nothing was written.
    #[error("{what} of {size} exceeds the limit of {max}")]
    TooLarge {
        /// Which limit.
        what: Limit,
        /// What was asked for.
        size: u64,
        /// What is allowed.
        max: u64,
    },

    /// The journal is sealed, and the key given is not the one that sealed it, or none was given.
    #[error("the journal is sealed with a different key, or no key was given")]
    WrongKey,
}

impl Error {
    pub(crate) fn io(doing: Doing) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io { doing, source },
        }
    }
}

/// What a damaged place holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The metadata of a batch.
    Batch,
    /// The body of a queue entry.
    Entry,
    /// The start of a segment; without it nothing in the journal can be checked.
    SegmentHeader,
    /// The value of a key.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "a batch header",
            Self::Entry => "a queue entry",
            Self::SegmentHeader => "the segment header",
            Self::Value => "a value",
        })
    }
}

/// What was being done when the operating system refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Doing {
    /// Creating a segment or the directory.
    Create,
    /// Listing the directory.
    List,
    /// Taking the lock.
    Lock,
    /// Opening a segment.
    Open,
    /// Reading a segment.
    Read,
    /// Removing a segment.
    Remove,
    /// Making writes durable.
    Sync,
    /// Cutting a segment.
    Truncate,
    /// Writing a segment.
    Write,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "creating a journal file",
            Self::List => "listing the journal directory",
            Self::Lock => "locking the journal directory",
            Self::Open => "opening a journal file",
            Self::Read => "reading a journal file",
            Self::Remove => "removing a journal file",
            Self::Sync => "syncing the journal",
            Self::Truncate => "cutting a journal file",
            Self::Write => "writing to the journal",
        })
    }
}

/// A limit that a batch exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// All bytes of a batch.
    Batch,
    /// A value or a queue entry.
    Body,
    /// The frame around one batch: keys, queue references and counts.
    Metadata,
    /// A key.
    Key,
    /// Entries waiting in one queue.
    QueueLength,
    /// Queues that share one body.
    QueuesPerPush,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch size",
            Self::Body => "body size",
            Self::Metadata => "batch metadata",
            Self::Key => "key length",
            Self::QueueLength => "queue length",
            Self::QueuesPerPush => "number of queues in one push",
        })
    }
}
