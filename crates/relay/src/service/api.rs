//! What goes into the service and comes out of it beside requests and answers.

use crate::bounds::ServiceBounds;
use qpc_proto::id::{DeviceId, Generation};
use qpc_proto::message::{NoticeKind, Registration, Reply};
use rand_core::{CryptoRng, RngCore};
use std::time::Duration;

/// The clocks at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since some fixed moment before the service was made; never goes back.
    pub uptime: Duration,
    /// Seconds since 1970 where the machine's clock can be believed.
    pub wall: Option<u64>,
}

/// The source of randomness.
pub type Rng = Box<dyn SecureRng>;

/// A random number generator fit for secrets, as an object.
pub trait SecureRng: RngCore + CryptoRng {}

impl<R: RngCore + CryptoRng> SecureRng for R {}

/// What the relay's owner decides.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How new accounts come to be.
    pub registration: Registration,
    /// Accounts at most.
    pub max_accounts: usize,
    /// Seconds of age after which an invite expires.
    pub invite_ttl: u64,
    /// Seconds of age after which an undelivered entry is dropped.
    pub ttl: u64,
    /// Seconds of age after which a device without a session is removed.
    pub device_ttl: u64,
    /// Entries in one device's queue.
    pub queue_messages: u64,
    /// Bytes in one device's queue.
    pub queue_bytes: u64,
    /// Bytes the store may hold before messages are refused.
    pub max_bytes: u64,
    /// Seconds after which the edge drops a silent connection; told to clients.
    pub idle_seconds: u32,
    /// What the wire does not promise.
    pub bounds: ServiceBounds,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            max_accounts: 1000,
            invite_ttl: 7 * 24 * 60 * 60,
            ttl: 30 * 24 * 60 * 60,
            device_ttl: 90 * 24 * 60 * 60,
            queue_messages: 10_000,
            queue_bytes: 4 * 1024 * 1024,
            max_bytes: 16 * 1024 * 1024,
            idle_seconds: 120,
            bounds: ServiceBounds::default(),
        }
    }
}

/// What the store's surroundings say when the service starts.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Names the place the store is in (like the inode of a file that stays); another one than last time means that the store was
    /// copied. Empty if that cannot be told.
    pub place: Vec<u8>,
    /// Damaged places that opening the store found: each may have held something that was acknowledged.
    pub damaged: u32,
}

/// What came of a request, and what the edge has to do about it.
///
/// The edge notes [`Store::applied`](crate::store::Store::applied) after every outcome with `needs_sync`, and holds each answer and each delivery back
/// until the position noted last is durable: nothing is ever said that a power cut could take back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The answer; `None` for requests that get none.
    pub reply: Option<Reply>,
    /// Sessions whose queue grew, with the highest sequence number there is now.
    pub wake: Vec<(DeviceId, u64)>,
    /// What to push to which session. After `Revoked` the session is to be closed.
    pub notices: Vec<(DeviceId, NoticeKind)>,
    /// This connection now is the session of that device; an older one gets `Replaced` and is closed.
    pub opened: Option<DeviceId>,
    /// Deliveries granted.
    pub credit: u32,
    /// Close the connection after the answer.
    pub close: bool,
    /// Something was written that somebody will rely on: start a sync. What is written otherwise (acknowledgements)
    /// may be lost in a power cut, and waits for the next sync that is needed.
    pub needs_sync: bool,
}

impl Outcome {
    /// Adds what another change brought about.
    pub(super) fn merge(&mut self, other: Self) {
        self.wake.extend(other.wake);
        self.notices.extend(other.notices);
        self.needs_sync |= other.needs_sync;
    }
}

/// What the service has counted since it was made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Requests, refused ones included.
    pub requests: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests refused by a rate limit.
    pub rate_limited: u64,
    /// Accounts registered.
    pub registrations: u64,
    /// Logins by password begun; those neither done nor failed were broken off.
    pub login_attempts: u64,
    /// Logins by password done.
    pub logins: u64,
    /// Logins by password and device proofs that failed.
    pub login_failures: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Application messages stored.
    pub messages: u64,
    /// Queues that were too full for a message.
    pub queue_full: u64,
    /// Commits accepted.
    pub commits: u64,
    /// Commits refused for their epoch.
    pub commit_conflicts: u64,
    /// Fetches that leased key packages.
    pub key_packages: u64,
    /// Groups marked for resync.
    pub resyncs: u64,
    /// Entries that expired undelivered.
    pub expired: u64,
    /// Requests answered again from memory.
    pub replays: u64,
    /// New generations of the store.
    pub generations: u64,
    /// Store errors.
    pub store_errors: u64,
}

/// What the store holds now, counted when asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Which life of the store this is.
    pub generation: Generation,
    /// Accounts.
    pub accounts: usize,
    /// Devices.
    pub devices: usize,
    /// Conversations.
    pub conversations: usize,
    /// Open sessions.
    pub sessions: usize,
    /// Entries waiting in all queues.
    pub queued_messages: u64,
    /// Their bytes, an entry counted once for each queue it waits in.
    pub queued_bytes: u64,
}
