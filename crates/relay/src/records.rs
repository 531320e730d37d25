//! What the store holds: schema version 1.
//!
//! Keys begin with one byte that names the kind of row; numbers in keys are big-endian. Rows are messages in the wire's
//! encoding, so a later version may add fields, but for those marked *raw*, which are exactly the bytes named.
//!
//! | key | row |
//! |---|---|
//! | `G` | [`GenerationRow`] |
//! | `A` | [`AgeRow`] |
//! | `N` | [`NumberRow`]: the next device number |
//! | `a` name | [`AccountRow`] |
//! | `d` device id | [`DeviceRow`] |
//! | `n` device number (4) | raw: the device id. Numbers are never used again. |
//! | `k` device number (4) | [`PoolRow`]: which one-time key packages are leased |
//! | `r` device number (4) | raw: the last-resort key package |
//! | `v` SHA-256 of an invite code | [`InviteRow`] |
//! | `c` conversation | [`ConversationRow`]: what every commit changes |
//! | `u` conversation | [`AccountsRow`] |
//! | `m` conversation | [`MembersRow`]: changes with the membership only |
//! | `g` conversation | raw: GroupInfo of the current epoch |
//! | `t` conversation, node index (2) | raw: one node of the ratchet tree, so that a commit writes only what it changed |
//! | `p` name, 0, name (sorted) | raw: the direct conversation of the two |
//! | `i` name, 0, conversation | empty: the account is in the conversation |
//!
//! Queues are named by a tag in the upper eight bits and a device number in the lower 32:
//!
//! | tag | entries |
//! |---|---|
//! | 1 | deliveries: [`Entry`](qpc_proto::message::Entry), stored once for all queues it is in |
//! | 2 | the last answers to numbered requests: [`AnswerEntry`] |
//! | 3 | one-time key packages, raw; those before [`PoolRow::next`] were handed out |
//!
//! The sequence number a client sees is the queue's plus [`DeviceRow::offset`].

use crate::store::QueueId;
use qpc_proto::id::{ConversationId, DeviceId, Generation, PublicKey, UserName};
use qpc_proto::limits::{MAX_DEVICES, MAX_LABEL, MAX_LEAVES, MAX_OPAQUE, MAX_SEALED};
use qpc_proto::message::{KsfProfile, Reply};
use qpc_proto::wire::{Blob, List, Text, message};

/// The version of this schema.
pub const SCHEMA: u16 = 1;

/// Devices outside a group that the relay remembers having told to join it.
pub const MAX_TOLD: usize = 2 * MAX_LEAVES;

/// Leases of one device's key packages.
pub const MAX_LEASES: usize = 64;

/// Bytes of [`GenerationRow::place`].
pub const MAX_PLACE: usize = 64;

message! {
    /// Which life of the store this is.
    pub struct GenerationRow {
        /// Told to clients.
        1 generation: Generation,
        /// Where the store was when this row was written.
        2 place: Blob<MAX_PLACE>,
        /// Damaged places known of when this row was written.
        3 damaged: u32,
    }

    /// How old the relay is: seconds it has been running, rewritten now and then.
    pub struct AgeRow {
        /// Seconds.
        1 seconds: u64,
    }

    /// The next number for a device.
    pub struct NumberRow {
        /// Never 0.
        1 next: u32,
    }

    /// An account.
    pub struct AccountRow {
        /// Its identity key.
        1 identity_key: PublicKey,
        /// OPAQUE's record (RegistrationRecord).
        2 record: Blob<MAX_OPAQUE>,
        /// What the password was stretched with.
        3 ksf: KsfProfile,
        /// The identity key's secret half, sealed.
        4 sealed_identity: Blob<MAX_SEALED>,
        /// Its devices.
        5 devices: List<DeviceRef, MAX_DEVICES>,
        /// The relay's age at registration.
        6 registered: u64,
        /// Which password this is: one more with each change.
        7 password: u64,
    }

    /// A device in its account's row.
    pub struct DeviceRef {
        /// Its id.
        1 device: DeviceId,
        /// Its number.
        2 number: u32,
    }

    /// A device.
    pub struct DeviceRow {
        /// Its account.
        1 user: UserName,
        /// Names its queues and rows.
        2 number: u32,
        /// Opens sessions.
        3 device_key: PublicKey,
        /// For people.
        4 label: Text<MAX_LABEL>,
        /// Its state key, sealed.
        5 state_slot: Blob<MAX_SEALED>,
        /// The relay's age when it last opened a session, to the day.
        6 seen: u64,
        /// Added to the delivery queue's numbers. Not 0 after the store went back in time: the numbers a client has
        /// seen must not come again.
        7 offset: u64,
        /// Request numbers up to here were used before the store went back in time.
        8 floor: u64,
    }

    /// Which key packages of a device are handed out.
    pub struct PoolRow {
        /// Sequence number of the first package that is not.
        1 next: u64,
        /// Those handed out and not yet used or expired, by sequence number.
        2 leases: List<LeaseRow, MAX_LEASES>,
    }

    /// A key package handed out.
    pub struct LeaseRow {
        /// Which; also the number of the lease.
        1 seq: u64,
        /// Number of the device that has it.
        2 asker: u32,
        /// The relay's age from which it is void, and the package with it.
        3 expires: u64,
    }

    /// An invite nobody has used.
    pub struct InviteRow {
        /// The relay's age from which it is void.
        1 expires: u64,
    }

    /// The part of a conversation that every commit changes.
    pub struct ConversationRow {
        /// The group's epoch; 0 until a first commit.
        1 epoch: u64,
        /// Marked for resync.
        2 resync: bool,
        /// Nodes of the ratchet tree.
        3 tree_width: u32,
        /// Bytes of all its nodes.
        4 tree_bytes: u64,
    }

    /// The accounts in a conversation.
    pub struct AccountsRow {
        /// Sorted.
        1 accounts: List<UserName, MAX_LEAVES>,
        /// The one conversation of two accounts, also after one of them is no more.
        2 direct: bool,
    }

    /// The devices in a group, by number.
    pub struct MembersRow {
        /// Sorted.
        1 members: List<u32, MAX_LEAVES>,
        /// Devices of the accounts that are not in the group and have been told to join, or were put out.
        2 told: List<u32, MAX_TOLD>,
    }

    /// A remembered answer.
    pub struct AnswerEntry {
        /// The request's number.
        1 number: u64,
        /// The highest number answered before it. Where this is the oldest answer that is left, no forgotten one had
        /// a higher number.
        2 before: u64,
        oneof reply: Reply,
    }
}

/// Keys of rows.
pub(crate) mod key {
    use super::*;

    pub(crate) const GENERATION: &[u8] = b"G";
    pub(crate) const AGE: &[u8] = b"A";
    pub(crate) const NUMBER: &[u8] = b"N";
    pub(crate) const ACCOUNTS: &[u8] = b"a";
    pub(crate) const DEVICES: &[u8] = b"d";
    pub(crate) const DEVICE_NUMBERS: &[u8] = b"n";
    pub(crate) const INVITES: &[u8] = b"v";
    pub(crate) const CONVERSATIONS: &[u8] = b"c";

    pub(crate) fn account(user: &UserName) -> Vec<u8> {
        row(b'a', &[user.as_str().as_bytes()])
    }

    /// The name in a key made by [`account`].
    pub(crate) fn account_name(key: &[u8]) -> Option<UserName> {
        UserName::new(std::str::from_utf8(key.strip_prefix(ACCOUNTS)?).ok()?).ok()
    }

    pub(crate) fn device(device: &DeviceId) -> Vec<u8> {
        row(b'd', &[&device.0])
    }

    pub(crate) fn device_number(number: u32) -> Vec<u8> {
        row(b'n', &[&number.to_be_bytes()])
    }

    /// The number in a key made by [`device_number`].
    pub(crate) fn number_of(key: &[u8]) -> Option<u32> {
        Some(u32::from_be_bytes(key.strip_prefix(DEVICE_NUMBERS)?.try_into().ok()?))
    }

    pub(crate) fn pool(number: u32) -> Vec<u8> {
        row(b'k', &[&number.to_be_bytes()])
    }

    pub(crate) fn last_resort(number: u32) -> Vec<u8> {
        row(b'r', &[&number.to_be_bytes()])
    }

    pub(crate) fn invite(hash: &[u8]) -> Vec<u8> {
        row(b'v', &[hash])
    }

    pub(crate) fn conversation(id: &ConversationId) -> Vec<u8> {
        row(b'c', &[&id.0])
    }

    pub(crate) fn accounts(id: &ConversationId) -> Vec<u8> {
        row(b'u', &[&id.0])
    }

    pub(crate) fn members(id: &ConversationId) -> Vec<u8> {
        row(b'm', &[&id.0])
    }

    pub(crate) fn group_info(id: &ConversationId) -> Vec<u8> {
        row(b'g', &[&id.0])
    }

    /// All nodes of a tree.
    pub(crate) fn tree(id: &ConversationId) -> Vec<u8> {
        row(b't', &[&id.0])
    }

    pub(crate) fn tree_node(id: &ConversationId, index: u16) -> Vec<u8> {
        row(b't', &[&id.0, &index.to_be_bytes()])
    }

    /// The index in a key made by [`tree_node`].
    pub(crate) fn node_index(key: &[u8]) -> Option<u16> {
        Some(u16::from_be_bytes(*key.last_chunk()?))
    }

    pub(crate) fn direct(a: &UserName, b: &UserName) -> Vec<u8> {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        row(b'p', &[first.as_str().as_bytes(), &[0], second.as_str().as_bytes()])
    }

    /// All conversations of an account.
    pub(crate) fn account_conversations(user: &UserName) -> Vec<u8> {
        row(b'i', &[user.as_str().as_bytes(), &[0]])
    }

    pub(crate) fn account_conversation(user: &UserName, id: &ConversationId) -> Vec<u8> {
        row(b'i', &[user.as_str().as_bytes(), &[0], &id.0])
    }

    /// The conversation in a key made by [`account_conversation`].
    pub(crate) fn conversation_of(key: &[u8]) -> Option<ConversationId> {
        Some(ConversationId(*key.last_chunk()?))
    }

    fn row(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![kind];
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }
}

/// The deliveries of a device.
pub(crate) fn deliveries(number: u32) -> QueueId {
    QueueId(1 << 56 | u64::from(number))
}

/// The remembered answers of a device.
pub(crate) fn answers(number: u32) -> QueueId {
    QueueId(2 << 56 | u64::from(number))
}

/// The one-time key packages of a device.
pub(crate) fn key_packages(number: u32) -> QueueId {
    QueueId(3 << 56 | u64::from(number))
}
