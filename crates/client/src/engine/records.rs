//! What the engine stores, apart from MLS's own values: rows under keys that begin with one of these letters, and two
//! queues.
//!
//! | key | row |
//! |---|---|
//! | `a` | [`AccountRow`], the device's account and secrets |
//! | `s` | [`SessionRow`], where the conversation with the relay stands |
//! | `c` user name | [`ContactRow`] |
//! | `v` conversation id | [`ConversationRow`] |
//! | `o` number, 8 bytes | [`OutboxRow`], a request that waits for its answer |
//! | `h` number, 8 bytes | [`HeldRow`], a message that waits to be encrypted |
//! | `p` number, 8 bytes | [`KeyPackagesRow`], the key packages of one upload |
//! | `m`, `d` | values of openmls and their patches, see `mls` |
//!
//! Numbers in keys are big-endian, so that rows come in their order.

use qpc_proto::id::{ConversationId, DeviceId, Generation, MessageId, PublicKey, UserName};
use qpc_proto::limits::{MAX_BODY, MAX_BULK_FRAME, MAX_LEAVES, MAX_PAYLOAD};
use qpc_proto::message::DeviceCertificate;
use qpc_proto::wire::{Blob, List};
use qpc_proto::{message, oneof};

message! {
    /// The account this state is of.
    pub struct AccountRow {
        /// The device's.
        1 certificate: DeviceCertificate,
        /// The secret of the device key.
        2 device_seed: [u8; 32],
    }

    /// Where the conversation with the relay stands.
    pub struct SessionRow {
        /// The store's generation that the other numbers mean.
        1 generation: Option<Generation>,
        /// The last delivery that was taken.
        2 delivered: u64,
        /// Number of the last request that changes state.
        3 number: u64,
        /// The highest number that was answered.
        4 answered: u64,
        /// An upload of key packages is due.
        5 key_packages_due: bool,
        /// And what was uploaded before is to be forgotten.
        6 key_packages_replace: bool,
        /// Number of the last upload of key packages.
        7 key_packages_upload: u64,
        /// The last received message that counts as read, where messages are kept beyond that.
        8 inbox_read: u64,
    }

    /// What is known of another account.
    pub struct ContactRow {
        /// The identity that is trusted.
        1 identity: PublicKey,
        /// Another one that showed up and was not accepted.
        2 changed: Option<PublicKey>,
    }

    /// What is known of a conversation, apart from its group.
    pub struct ConversationRow {
        /// The other account, if it is a direct one.
        1 peer: Option<UserName>,
        /// This device is in the group, and the group in the store.
        2 joined: bool,
        /// The group's epoch.
        3 epoch: u64,
        /// The device should join by external commit, be it in the group already.
        4 join: bool,
        /// The relay must be asked how it sees the group.
        5 reconcile: bool,
        /// The relay is to be given the group back.
        6 restore: bool,
        /// The commit of an epoch could not be processed and the relay does not know yet; the epoch plus one.
        7 report: u64,
        /// Devices that are no more and must be removed.
        8 revoked: List<DeviceId, MAX_LEAVES>,
        /// Joining waits until the new identity of this account is accepted.
        9 blocked: Option<UserName>,
        /// The relay does not count this device in, though it has the group.
        10 left_out: bool,
        /// Messages stored here whose sender asked to be told, and was not yet.
        11 receipts: List<MessageId, MAX_RECEIPTS>,
    }

    /// A message that waits for a connection, and until then for a group to be encrypted in.
    pub struct HeldRow {
        /// To whom.
        1 recipient: UserName,
        /// The envelope, without its padding.
        2 envelope: Blob<MAX_PAYLOAD>,
    }

    /// A request that changes state and waits for its answer.
    pub struct OutboxRow {
        /// The encoded request; empty if it must be made anew.
        1 request: Blob<MAX_BULK_FRAME>,
        oneof purpose: Purpose,
    }

    /// A commit.
    pub struct CommitPurpose {
        /// Of which group.
        1 conversation: ConversationId,
        /// The epoch it was made in.
        2 epoch: u64,
        /// By a device that was not in the group, or not any more able to take part.
        3 external: bool,
        /// What openmls wrote for it, to be stored if it is accepted.
        4 writes: Blob<MAX_WRITES>,
    }

    /// An application message.
    pub struct MessagePurpose {
        /// Into which conversation.
        1 conversation: ConversationId,
        /// Its id.
        2 id: MessageId,
        /// The envelope, without its padding, to be encrypted again if the group has moved on.
        3 envelope: Blob<MAX_PAYLOAD>,
        /// The least epoch to encrypt it in if it must be made anew.
        4 retry_in: u64,
    }

    /// An upload of key packages.
    pub struct KeyPackagesPurpose {}

    /// A group given back.
    pub struct RestorePurpose {
        /// Which.
        1 conversation: ConversationId,
        /// In which epoch.
        2 epoch: u64,
    }

    /// A device revoked.
    pub struct RevokePurpose {}

    /// The key packages of one upload, as the keys of openmls' values.
    pub struct KeyPackagesRow {
        /// One each.
        1 keys: List<Blob<64>, 32>,
    }

    /// A message that was received and not yet taken: what the queue [`INBOX`] holds.
    pub struct InboxRow {
        /// In which conversation.
        1 conversation: ConversationId,
        /// Who wrote it.
        2 sender: UserName,
        /// On which device.
        3 device: DeviceId,
        /// Its id.
        4 id: MessageId,
        /// Seconds since 1970 when the relay took it, 0 if it had no clock.
        5 relay_time: u64,
        /// Seconds since 1970 when it was sent, by the sender's clock; 0 if it had none.
        6 sender_time: u64,
        /// [`qpc_proto::envelope::Kind`] as a number.
        7 kind: u32,
        /// What was written.
        8 body: Blob<MAX_BODY>,
        /// [`qpc_proto::message::Durability`] at the relay, as a number.
        9 durability: u32,
    }
}

oneof! {
    /// What a request in the outbox is for.
    pub enum Purpose {
        /// A commit.
        16 Commit(CommitPurpose),
        /// An application message.
        17 Message(MessagePurpose),
        /// Key packages.
        18 KeyPackages(KeyPackagesPurpose),
        /// A group given back.
        19 Restore(RestorePurpose),
        /// A device revoked.
        20 Revoke(RevokePurpose),
    }
}

/// Version of everything the engine stores, for the options of its journal. A change that old programs cannot read, of
/// ours or of openmls', raises it.
pub const SCHEMA: u16 = 1;

/// Queue of received messages.
pub(super) const INBOX: qpc_journal::QueueId = qpc_journal::QueueId(1);
/// Queue of the ids of messages that were received.
pub(super) const SEEN: qpc_journal::QueueId = qpc_journal::QueueId(2);

pub(super) const ACCOUNT: u8 = b'a';
pub(super) const SESSION: u8 = b's';
pub(super) const CONTACT: u8 = b'c';
pub(super) const CONVERSATION: u8 = b'v';
pub(super) const OUTBOX: u8 = b'o';
pub(super) const HELD: u8 = b'h';
pub(super) const KEY_PACKAGES: u8 = b'p';

/// Receipts of one conversation that wait to be sent. What comes beyond is stored, and nobody is told.
pub(super) const MAX_RECEIPTS: usize = 64;

/// Bytes of what openmls writes when a device creates or joins a group of full size.
const MAX_WRITES: usize = 4 * 1024 * 1024;

pub(super) fn key(table: u8, rest: &[u8]) -> Vec<u8> {
    [&[table], rest].concat()
}
