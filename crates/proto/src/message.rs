//! What client and relay say to each other, in the order of a session's life.

use crate::id::{ConversationId, DeviceId, Generation, PublicKey, UserName};
use crate::limits::{
    MAX_COMMIT, MAX_DEVICES, MAX_GROUP_INFO, MAX_INVITE, MAX_KEY_PACKAGE, MAX_KEY_PACKAGES, MAX_LABEL,
    MAX_LEAVES, MAX_OPAQUE, MAX_PAGE, MAX_PAYLOAD, MAX_REASON, MAX_SEALED, MAX_TREE_NODE, MAX_TREE_NODES,
    MAX_WELCOME,
};
use crate::wire::{Blob, List, Text, code, message, oneof};

/// An Ed25519 signature.
pub type Signature = [u8; 64];

message! {
    /// A frame from the client: a request, or a note that gets no answer. A request the relay does not know is answered
    /// by [`ErrorCode::Unsupported`].
    pub struct ClientFrame {
        /// Chosen by the client; the answer carries it back.
        1 id: u32,
        /// Number of a request that changes state: increasing for each device, 0 for other requests. The relay
        /// answers a number it has seen with the answer it gave then.
        2 number: u64,
        oneof request: Request,
    }

    /// A frame from the relay: an answer, or a push where `id` is 0.
    pub struct RelayFrame {
        /// The request's id.
        1 id: u32,
        oneof reply: Reply,
    }
}

oneof! {
    /// What a client asks.
    pub enum Request {
        /// Opens the conversation on the wire; also the health check. Answered by [`Reply::Hello`].
        16 Hello(Hello),
        /// First half of a registration; answered by [`Reply::Opaque`].
        17 RegisterStart(RegisterStart),
        /// Second half; the connection then speaks for the account. Answered by [`Reply::Done`].
        18 RegisterFinish(RegisterFinish),
        /// First half of a login; answered by [`Reply::Opaque`].
        19 LoginStart(LoginStart),
        /// Second half; the connection then speaks for the account. Answered by [`Reply::Account`].
        20 LoginFinish(LoginFinish),
        /// Adds a device to the connection's account and opens its session; answered by [`Reply::Session`].
        21 EnrolDevice(EnrolDevice),
        /// Opens the session of a known device; answered by [`Reply::Session`].
        22 OpenSession(OpenSession),
        /// Grants deliveries; not answered.
        23 Credit(Credit),
        /// Acknowledges deliveries; answered by [`Reply::Done`].
        24 Ack(Ack),
        /// Fetches a delivery that was too large for the control stream; answered by [`Reply::Delivery`].
        25 FetchDelivery(FetchDelivery),
        /// Replaces or adds key packages; answered by [`Reply::Done`]. Numbered.
        26 UploadKeyPackages(UploadKeyPackages),
        /// Leases a key package of each device of an account; answered by [`Reply::KeyPackages`].
        27 FetchKeyPackages(FetchKeyPackages),
        /// Looks an account up; answered by [`Reply::User`].
        28 ResolveUser(ResolveUser),
        /// Creates or looks up the conversation with an account; answered by [`Reply::Conversation`].
        29 OpenDirect(OpenDirect),
        /// Lists the account's conversations; answered by [`Reply::Conversations`].
        30 ListConversations(ListConversations),
        /// Fetches what an external commit needs; answered by [`Reply::Group`].
        31 FetchGroup(FetchGroup),
        /// Submits a commit; answered by [`Reply::Accepted`] or [`ErrorCode::WrongEpoch`]. Numbered.
        32 SubmitCommit(SubmitCommit),
        /// Sends an application message; answered by [`Reply::Stored`]. Numbered.
        33 SendMessage(SendMessage),
        /// Says that an accepted commit cannot be processed; answered by [`Reply::Done`].
        34 ReportCommit(ReportCommit),
        /// Gives the relay back a group it lost or that is stuck; answered by [`Reply::Accepted`]. Numbered.
        35 RestoreGroup(RestoreGroup),
        /// Lists the account's devices; answered by [`Reply::Devices`].
        36 ListDevices(ListDevices),
        /// Removes a device of the account; answered by [`Reply::Done`]. Numbered.
        37 RevokeDevice(RevokeDevice),
        /// First half of a change of password, after a login; answered by [`Reply::Opaque`].
        38 ChangePasswordStart(ChangePasswordStart),
        /// Second half; answered by [`Reply::Done`].
        39 ChangePasswordFinish(ChangePasswordFinish),
    }
}

oneof! {
    /// What a relay answers, and what it pushes.
    pub enum Reply {
        /// The request was refused; nothing of it took effect.
        16 Error(Error),
        /// Done, and nothing more to say.
        17 Done(Done),
        /// To [`Request::Hello`].
        18 Hello(HelloReply),
        /// To the first half of registration or login.
        19 Opaque(OpaqueReply),
        /// To [`Request::LoginFinish`].
        20 Account(Account),
        /// To [`Request::EnrolDevice`] and [`Request::OpenSession`].
        21 Session(Session),
        /// Pushed against credit, or the answer to [`Request::FetchDelivery`].
        22 Delivery(Delivery),
        /// To [`Request::FetchKeyPackages`].
        23 KeyPackages(KeyPackages),
        /// To [`Request::ResolveUser`].
        24 User(User),
        /// To [`Request::OpenDirect`].
        25 Conversation(Conversation),
        /// To [`Request::ListConversations`].
        26 Conversations(Conversations),
        /// To [`Request::FetchGroup`].
        27 Group(Group),
        /// To [`Request::SubmitCommit`] and [`Request::RestoreGroup`].
        28 Accepted(Accepted),
        /// To [`Request::SendMessage`].
        29 Stored(Stored),
        /// To [`Request::ListDevices`].
        30 Devices(Devices),
        /// Pushed: something the client should look at.
        31 Notice(Notice),
    }
}

message! {
    /// Version negotiation. ALPN fixes the major version; within it both sides speak the highest they share.
    pub struct Hello {
        /// Lowest version the client speaks.
        1 min_version: u32,
        /// Highest version the client speaks.
        2 max_version: u32,
        /// Name and version of the client's software.
        3 software: Text<MAX_LABEL>,
    }

    /// The relay's side of [`Hello`].
    pub struct HelloReply {
        /// The version spoken from here on.
        1 version: u32,
        /// Which life of the store this is.
        2 generation: Generation,
        /// Name and version of the relay's software.
        3 software: Text<MAX_LABEL>,
        /// Seconds since 1970, or 0 where the relay has no believable clock.
        4 time: u64,
        /// How new accounts come to be.
        5 registration: Registration,
        /// Seconds after which the relay drops a silent connection.
        6 idle_seconds: u32,
    }

    /// OPAQUE registration request (RFC 9807 section 5.1).
    pub struct RegisterStart {
        /// The name wanted.
        1 user: UserName,
        /// RegistrationRequest.
        2 request: Blob<MAX_OPAQUE>,
        /// Where registration is by invite.
        3 invite: Text<MAX_INVITE>,
    }

    /// OPAQUE registration record, and the new account's identity.
    pub struct RegisterFinish {
        /// RegistrationRecord.
        1 record: Blob<MAX_OPAQUE>,
        /// What the password was stretched with.
        2 ksf: KsfProfile,
        /// The account's identity key.
        3 identity_key: PublicKey,
        /// Its secret half, sealed under OPAQUE's export key; the relay cannot open it.
        4 sealed_identity: Blob<MAX_SEALED>,
        /// By the identity key over [`crate::signing::registration`].
        5 proof: Signature,
    }

    /// KE1 (RFC 9807 section 6).
    pub struct LoginStart {
        /// The account's name.
        1 user: UserName,
        /// KE1.
        2 request: Blob<MAX_OPAQUE>,
    }

    /// To the first half of registration (RegistrationResponse) or login (KE2).
    pub struct OpaqueReply {
        /// The OPAQUE message.
        1 response: Blob<MAX_OPAQUE>,
        /// For a login: what the password was stretched with.
        2 ksf: KsfProfile,
    }

    /// KE3.
    pub struct LoginFinish {
        /// KE3.
        1 finalization: Blob<MAX_OPAQUE>,
    }

    /// What an account keeps at the relay, handed out after a login.
    pub struct Account {
        /// The account's identity key.
        1 identity_key: PublicKey,
        /// Its secret half under OPAQUE's export key.
        2 sealed_identity: Blob<MAX_SEALED>,
        /// The account's devices with their state keys.
        3 devices: List<DeviceSlot, MAX_DEVICES>,
    }

    /// A device's state key under the account's export key.
    pub struct DeviceSlot {
        /// Whose.
        1 device: DeviceId,
        /// The sealed state key.
        2 state_slot: Blob<MAX_SEALED>,
    }

    /// The statement that a device belongs to an account; also the content of an MLS basic credential.
    pub struct DeviceCertificate {
        /// The account's name.
        1 user: UserName,
        /// The account's identity key.
        2 identity_key: PublicKey,
        /// The device's key: it opens sessions and is the signature key of the device's MLS leaves.
        3 device_key: PublicKey,
        /// By the identity key over [`crate::signing::device_certificate`].
        4 signature: Signature,
    }

    /// Adds a device.
    pub struct EnrolDevice {
        /// Ties the device's key to the account.
        1 certificate: DeviceCertificate,
        /// A name for people.
        2 label: Text<MAX_LABEL>,
        /// The device's state key under the account's export key.
        3 state_slot: Blob<MAX_SEALED>,
        /// By the device key over [`crate::signing::session`].
        4 proof: Signature,
    }

    /// Proves a device key, without a password.
    pub struct OpenSession {
        /// Which device.
        1 device: DeviceId,
        /// By the device key over [`crate::signing::session`].
        2 proof: Signature,
        /// The highest request number the relay has answered, as far as the client knows; 0 for none.
        3 answered: u64,
        /// The highest delivery the client has seen; 0 for none. A relay whose store knows less than these two
        /// went back in time and begins a new generation.
        4 delivered: u64,
    }

    /// An open session. Older sessions of the same device are closed.
    pub struct Session {
        /// Which device.
        1 device: DeviceId,
        /// The highest request number the relay remembers for the device.
        2 last_number: u64,
        /// The sequence number the next delivery put into the device's queue will have.
        3 next_delivery: u64,
        /// One-time key packages left.
        4 key_packages: u32,
        /// Whether there is a last-resort key package.
        5 last_resort: bool,
        /// The store's generation, new if opening this session showed that the store went back in time.
        6 generation: Generation,
    }

    /// Grants more deliveries, up to [`crate::limits::MAX_CREDIT`] outstanding.
    pub struct Credit {
        /// How many more.
        1 deliveries: u32,
    }

    /// Everything up to and including this delivery is safely kept by the client.
    pub struct Ack {
        /// Cumulative.
        1 up_to: u64,
    }

    /// Asks for one delivery whole.
    pub struct FetchDelivery {
        /// Its sequence number.
        1 seq: u64,
    }

    /// An entry of the device's queue.
    pub struct Delivery {
        /// Its place in the queue: increasing, without gaps but for expired entries.
        1 seq: u64,
        /// Bytes of the entry where it is too large for this stream; fetch it on a bulk stream. 0 otherwise.
        2 too_large: u32,
        /// The entry.
        3 entry: Option<Entry>,
    }

    /// One durable entry of a device's queue. `kind` is `None` where this version does not know it: acknowledge and
    /// go on.
    pub struct Entry {
        /// The conversation it belongs to; all zero for entries about the account.
        1 conversation: ConversationId,
        /// The device that submitted it, absent for sealed senders and entries by the relay itself.
        2 sender: Option<DeviceId>,
        /// Seconds since 1970 when the relay took it, or 0 where it had no believable clock.
        3 time: u64,
        /// Seconds of the relay's own age when it took it; ages stop while a relay is off.
        4 age: u64,
        /// Whether the relay keeps it through a power cut.
        5 durability: Durability,
        oneof kind: EntryKind,
    }
}

oneof! {
    /// What an entry says.
    pub enum EntryKind {
        /// An application message.
        16 Message(MessageEntry),
        /// A commit that the relay has accepted.
        17 Commit(CommitEntry),
        /// An invitation of this device into a group.
        18 Welcome(WelcomeEntry),
        /// Messages were refused here because the queue was full.
        19 Refused(RefusedEntry),
        /// The device should join this group by external commit: its account is in it and it is not.
        20 Join(JoinEntry),
        /// Devices of an account came or went.
        21 Devices(DevicesEntry),
        /// The group is marked for resync.
        22 Resync(ResyncEntry),
    }
}

message! {
    /// An application message.
    pub struct MessageEntry {
        /// MLSMessage (PrivateMessage).
        1 payload: Blob<MAX_PAYLOAD>,
    }

    /// An accepted commit.
    pub struct CommitEntry {
        /// The epoch it was made in; the group's epoch is one more now.
        1 epoch: u64,
        /// MLSMessage (PrivateMessage, or PublicMessage for an external commit).
        2 commit: Blob<MAX_COMMIT>,
    }

    /// An invitation.
    pub struct WelcomeEntry {
        /// The epoch the group has with this device in it.
        1 epoch: u64,
        /// MLSMessage (Welcome, ratchet tree inside).
        2 welcome: Blob<MAX_WELCOME>,
    }

    /// A gap left by a full queue.
    pub struct RefusedEntry {}

    /// A hint to join.
    pub struct JoinEntry {}

    /// Devices of an account in the conversation (or, with a zero conversation, of the own account).
    pub struct DevicesEntry {
        /// Whose.
        1 user: UserName,
        /// New devices.
        2 added: List<DeviceId, MAX_DEVICES>,
        /// Devices that are no more: a remaining member commits their removal.
        3 removed: List<DeviceId, MAX_DEVICES>,
    }

    /// A member could not process the commit of `epoch`: members that could may commit anew or restore the group.
    pub struct ResyncEntry {
        /// The epoch whose commit is in doubt.
        1 epoch: u64,
    }

    /// Adds key packages to what the relay hands out for this device.
    pub struct UploadKeyPackages {
        /// Forget what was uploaded before.
        1 replace: bool,
        /// Each handed out once.
        2 one_time: List<Blob<MAX_KEY_PACKAGE>, MAX_KEY_PACKAGES>,
        /// Handed out when no one-time package is left; replaces the one before. Empty for none.
        3 last_resort: Blob<MAX_KEY_PACKAGE>,
    }

    /// Asks for key packages of all devices of an account (but the asking device).
    pub struct FetchKeyPackages {
        /// The account.
        1 user: UserName,
    }

    /// Key packages, leased to the asking device: asking again during the lease gives the same ones.
    pub struct KeyPackages {
        /// The account's identity key.
        1 identity_key: PublicKey,
        /// One for each device that has any.
        2 packages: List<LeasedKeyPackage, MAX_DEVICES>,
        /// Devices that have none and must join by external commit.
        3 without: List<DeviceId, MAX_DEVICES>,
    }

    /// A key package and who it is of.
    pub struct LeasedKeyPackage {
        /// Whose.
        1 device: DeviceId,
        /// MLSMessage (KeyPackage).
        2 key_package: Blob<MAX_KEY_PACKAGE>,
        /// Number of the lease, to be named in the commit; 0 for a last-resort package.
        3 lease: u64,
    }

    /// Asks who a user is.
    pub struct ResolveUser {
        /// The name.
        1 user: UserName,
    }

    /// Who a user is.
    pub struct User {
        /// The account's identity key.
        1 identity_key: PublicKey,
        /// How many devices the account has.
        2 devices: u32,
    }

    /// Asks for the one conversation of two accounts.
    pub struct OpenDirect {
        /// The other account.
        1 peer: UserName,
    }

    /// A conversation as the relay knows it.
    pub struct Conversation {
        /// Its id, also the MLS group id.
        1 id: ConversationId,
        /// The group's epoch; 0 until a first commit has been accepted.
        2 epoch: u64,
        /// Whether this request made it.
        3 created: bool,
        /// Whether the asking device is in the group.
        4 member: bool,
        /// The accounts in it.
        5 accounts: List<UserName, MAX_LEAVES>,
        /// The group waits for a resync.
        6 resync: bool,
    }

    /// Asks for the account's conversations, in the order of their ids.
    pub struct ListConversations {
        /// Begin behind this one.
        1 after: Option<ConversationId>,
    }

    /// Some of the account's conversations.
    pub struct Conversations {
        /// At most a page. `accounts` is left empty.
        1 conversations: List<Conversation, MAX_PAGE>,
        /// Whether there are more.
        2 more: bool,
    }

    /// Asks for GroupInfo and ratchet tree.
    pub struct FetchGroup {
        /// Which group.
        1 conversation: ConversationId,
    }

    /// What an external commit is made from.
    pub struct Group {
        /// The group's epoch.
        1 epoch: u64,
        /// MLSMessage (GroupInfo) without the ratchet tree.
        2 group_info: Blob<MAX_GROUP_INFO>,
        /// The ratchet tree.
        3 tree: Tree,
    }

    /// A ratchet tree, or what changed in it. Nodes not listed are blank in a whole tree, unchanged in a change.
    pub struct Tree {
        /// Nodes of the whole tree (RFC 9420 section 7.8: `ratchet_tree`'s length), at most
        /// [`MAX_TREE_NODES`]. Nodes from here on are forgotten.
        1 width: u32,
        /// Nodes by index.
        2 nodes: List<TreeNode, MAX_TREE_NODES>,
    }

    /// A node of a ratchet tree.
    pub struct TreeNode {
        /// Its index in the array of RFC 9420 appendix C.
        1 index: u32,
        /// `Node` as RFC 9420 section 7.8 encodes it; empty where the node became blank.
        2 node: Blob<MAX_TREE_NODE>,
    }

    /// A commit with everything that has to become visible with it.
    pub struct SubmitCommit {
        /// Which group.
        1 conversation: ConversationId,
        /// The epoch the commit was made in. Must be the group's.
        2 epoch: u64,
        /// MLSMessage.
        3 commit: Blob<MAX_COMMIT>,
        /// Devices the commit adds; for an external commit the submitting device.
        4 added: List<AddedDevice, MAX_LEAVES>,
        /// Devices the commit removes.
        5 removed: List<DeviceId, MAX_LEAVES>,
        /// MLSMessage (Welcome) for the added devices; empty if none is added.
        6 welcome: Blob<MAX_WELCOME>,
        /// GroupInfo of the new epoch, without ratchet tree.
        7 group_info: Blob<MAX_GROUP_INFO>,
        /// What changed in the ratchet tree.
        8 tree: Tree,
        /// The submitter was no member before.
        9 external: bool,
    }

    /// A device that a commit adds.
    pub struct AddedDevice {
        /// Which.
        1 device: DeviceId,
        /// The lease of its key package; 0 for last-resort packages and external commits.
        2 lease: u64,
    }

    /// The commit is the group's.
    pub struct Accepted {
        /// The group's epoch now.
        1 epoch: u64,
    }

    /// An application message.
    pub struct SendMessage {
        /// Which group.
        1 conversation: ConversationId,
        /// The epoch it was encrypted in: the current one or at most [`crate::limits::PAST_EPOCHS`] behind.
        2 epoch: u64,
        /// MLSMessage (PrivateMessage).
        3 payload: Blob<MAX_PAYLOAD>,
        oneof submitter: Submitter,
    }

    /// This session's device submits, by name.
    pub struct ThisDevice {}

    /// Somebody with a token submits, unnamed. Not offered by this version.
    pub struct DeliveryToken {
        /// The token.
        1 token: Blob<MAX_LABEL>,
    }
}

oneof! {
    /// Who submits a message.
    pub enum Submitter {
        /// The session's device.
        16 ThisDevice(ThisDevice),
        /// The bearer of a token.
        17 Token(DeliveryToken),
    }
}

message! {
    /// The message is in the recipients' queues.
    pub struct Stored {
        /// Whether it survives a power cut.
        1 durability: Durability,
        /// Seconds since 1970 when the relay took it, 0 if it had no believable clock.
        2 time: u64,
        /// Devices whose queue was full; they see a marker instead.
        3 refused: List<DeviceId, MAX_LEAVES>,
        /// How many devices got it.
        4 devices: u32,
    }

    /// An accepted commit cannot be processed.
    pub struct ReportCommit {
        /// Which group.
        1 conversation: ConversationId,
        /// The epoch the commit was made in.
        2 epoch: u64,
    }

    /// A group as a member knows it. Taken where the relay does not know the conversation or is behind `epoch` (its
    /// store went back in time), or where the group is marked for resync and `epoch` is not ahead of it.
    pub struct RestoreGroup {
        /// Which group.
        1 conversation: ConversationId,
        /// The member's epoch.
        2 epoch: u64,
        /// The devices in it.
        3 members: List<DeviceId, MAX_LEAVES>,
        /// The accounts in it.
        4 accounts: List<UserName, MAX_LEAVES>,
        /// GroupInfo of the epoch.
        5 group_info: Blob<MAX_GROUP_INFO>,
        /// The whole ratchet tree.
        6 tree: Tree,
    }

    /// Asks for the account's devices.
    pub struct ListDevices {}

    /// The account's devices.
    pub struct Devices {
        /// All of them.
        1 devices: List<DeviceInfo, MAX_DEVICES>,
    }

    /// A device of the own account.
    pub struct DeviceInfo {
        /// Its id.
        1 device: DeviceId,
        /// A name for people.
        2 label: Text<MAX_LABEL>,
        /// Whether it has a session now.
        3 online: bool,
        /// Deliveries waiting for it.
        4 queued: u64,
    }

    /// Removes a device.
    pub struct RevokeDevice {
        /// Which.
        1 device: DeviceId,
    }

    /// RegistrationRequest for another password.
    pub struct ChangePasswordStart {
        /// RegistrationRequest.
        1 request: Blob<MAX_OPAQUE>,
    }

    /// The account under another password: takes the place of the one before as a whole, or not at all.
    pub struct ChangePasswordFinish {
        /// RegistrationRecord.
        1 record: Blob<MAX_OPAQUE>,
        /// What the password was stretched with.
        2 ksf: KsfProfile,
        /// The identity key's secret half under the new export key.
        3 sealed_identity: Blob<MAX_SEALED>,
        /// Just the devices that [`Account`] named, with their state keys under the new export key.
        4 devices: List<DeviceSlot, MAX_DEVICES>,
    }

    /// Nothing more to say.
    pub struct Done {}

    /// A refusal.
    pub struct Error {
        /// What went wrong.
        1 code: ErrorCode,
        /// For people: what to do about it.
        2 reason: Text<MAX_REASON>,
        /// With [`ErrorCode::WrongEpoch`] the group's epoch, with [`ErrorCode::RateLimited`] and
        /// [`ErrorCode::Busy`] the seconds to wait.
        3 detail: u64,
    }

    /// Something changed for this session.
    pub struct Notice {
        /// What.
        1 kind: NoticeKind,
    }
}

code! {
    /// How new accounts come to be.
    pub enum Registration {
        /// Anybody may register.
        Open = 0,
        /// With an invite code.
        Invite = 1,
        /// Not at all.
        Closed = 2,
    }
}

code! {
    /// What a password was stretched with: Argon2id version 0x13, one lane, 64 bytes of output.
    pub enum KsfProfile {
        /// 19 MiB, 2 passes: phones, desktops, servers.
        Standard = 0,
        /// 7 MiB, 5 passes: programs that live on a router.
        Router = 1,
    }
}

code! {
    /// What a relay promises of a message it took.
    pub enum Durability {
        /// On disk, synced.
        Durable = 0,
        /// In memory: lost if the relay's machine loses power.
        Volatile = 1,
    }
}

code! {
    /// What a notice says.
    pub enum NoticeKind {
        /// Nothing.
        None = 0,
        /// Another connection opened this device's session; this one is closed.
        Replaced = 1,
        /// The device was revoked.
        Revoked = 2,
        /// Upload key packages: few are left.
        KeyPackagesLow = 3,
        /// The store's generation changed: open a new session.
        GenerationChanged = 4,
        /// The relay is going down; come back later.
        Closing = 5,
    }
}

code! {
    /// Why a request was refused. Numbers are never reused.
    pub enum ErrorCode {
        /// A bug of the relay.
        Internal = 0,
        /// The frame is not a message of this protocol; the connection is closed.
        Malformed = 1,
        /// No version in common.
        UnsupportedVersion = 2,
        /// This version does not know or offer the request.
        Unsupported = 3,
        /// The request needs a login or a session first.
        NotAuthenticated = 4,
        /// Unknown user, wrong password or wrong proof: the same for all three.
        AuthFailed = 5,
        /// The name belongs to another account.
        NameTaken = 6,
        /// This relay takes no new accounts.
        RegistrationClosed = 7,
        /// The invite code is missing, unknown, used or expired.
        InviteInvalid = 8,
        /// Too many attempts; `detail` says the seconds to wait.
        RateLimited = 9,
        /// No account has the name.
        UnknownUser = 10,
        /// No such conversation, or the account is not in it.
        UnknownConversation = 11,
        /// No such device.
        UnknownDevice = 12,
        /// The account has its number of devices; revoke one first.
        TooManyDevices = 13,
        /// The device is not in the group.
        NotMember = 14,
        /// The group has another epoch; `detail` says which.
        WrongEpoch = 15,
        /// A lease the commit names is unknown or expired.
        LeaseInvalid = 16,
        /// The queues of all recipients are full.
        QueueFull = 17,
        /// The relay's disk or its budget is full.
        StorageFull = 18,
        /// The relay's store takes no writes.
        StorageReadOnly = 19,
        /// The relay's store failed; whether the request took effect is not known. Ask again.
        StorageFailed = 20,
        /// Over a limit of the protocol or of this relay.
        TooLarge = 21,
        /// The request's number is older than the answers the relay remembers.
        StaleNumber = 22,
        /// The relay's owner's rules refuse it.
        Rejected = 23,
        /// Too much at once; `detail` says the seconds to wait.
        Busy = 24,
        /// The request contradicts itself or the group's state.
        Invalid = 25,
    }
}
