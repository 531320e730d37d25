//! Every bound of protocol version 1, in one place. Peers may rely on them.

/// Bytes of a frame on the control stream, its length prefix not counted.
pub const MAX_CONTROL_FRAME: usize = 64 * 1024;
/// Bytes of a frame on a bulk stream, its length prefix not counted.
pub const MAX_BULK_FRAME: usize = 1024 * 1024;
/// Bulk streams a client may have open at a time.
pub const MAX_BULK_STREAMS: u32 = 2;
/// Requests a client may have unanswered on the control stream.
pub const MAX_PIPELINE: usize = 32;
/// Deliveries a client may grant in advance.
pub const MAX_CREDIT: u32 = 256;

/// Bytes of a user name.
pub const MAX_USER_NAME: usize = 64;
/// Bytes of a text shown to people: device labels, software names, reasons.
pub const MAX_LABEL: usize = 64;
/// Bytes of an error's text.
pub const MAX_REASON: usize = 256;
/// Bytes of an invite code.
pub const MAX_INVITE: usize = 64;
/// Bytes of an OPAQUE message (RFC 9807; the longest, KE2, has 320).
pub const MAX_OPAQUE: usize = 512;
/// Bytes of a sealed secret: the identity key or a state key, with its nonce and tag.
pub const MAX_SEALED: usize = 128;

/// Devices of an account.
pub const MAX_DEVICES: usize = 10;
/// Leaves of a group.
pub const MAX_LEAVES: usize = 250;
/// Nodes of a ratchet tree that holds [`MAX_LEAVES`] leaves: a full tree of 256 leaves.
pub const MAX_TREE_NODES: usize = 511;
/// Conversations in one answer to a listing.
pub const MAX_PAGE: usize = 64;

/// Bytes of a key package.
pub const MAX_KEY_PACKAGE: usize = 2048;
/// One-time key packages in one upload, and held for one device.
pub const MAX_KEY_PACKAGES: usize = 30;
/// Bytes of one node of a ratchet tree.
pub const MAX_TREE_NODE: usize = 4096;
/// Bytes of a GroupInfo without its ratchet tree.
pub const MAX_GROUP_INFO: usize = 8 * 1024;
/// Bytes of a commit.
pub const MAX_COMMIT: usize = 256 * 1024;
/// Bytes of a Welcome with its ratchet tree.
pub const MAX_WELCOME: usize = 512 * 1024;
/// Bytes of an encrypted application message.
pub const MAX_PAYLOAD: usize = 60 * 1024;
/// Bytes of what a person writes: the body of an envelope.
pub const MAX_BODY: usize = 48 * 1024;
/// Smallest size an envelope is padded to.
pub const MIN_PADDED: usize = 256;

/// Epochs behind the current one for which the relay still takes application messages, and for which clients keep
/// the secrets to read them.
pub const PAST_EPOCHS: u64 = 3;
/// Answers the relay remembers for each device.
pub const REMEMBERED_ANSWERS: u64 = 64;
/// The highest number of a request or a delivery that a device may claim to know: more than anybody gets to by counting,
/// yet with room behind it.
pub const MAX_CLAIM: u64 = 1 << 62;
