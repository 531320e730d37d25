//! One value of each message, and of each variant of each choice, with every field set.

#![allow(dead_code, reason = "each test file uses its part")]

use qpc_proto::envelope::{Envelope, Kind};
use qpc_proto::id::{ConversationId, DeviceId, Generation, MessageId, PublicKey, UserName};
use qpc_proto::message::*;
use qpc_proto::wire::{Blob, DecodeError, List, Message, Text};

pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Decodes and encodes again.
    pub(crate) again: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
}

pub(crate) fn samples() -> Vec<Sample> {
    let mut all = vec![
        sample("Envelope", Envelope::new(MessageId([9; 16]), 1_800_000_000, Kind::Text, blob(b"hello"))),
        sample(
            "Envelope",
            Envelope {
                padding: blob(&[0; 3]),
                ..Envelope::new(MessageId([8; 16]), 0, Kind::Binary, blob(&[]))
            },
        ),
    ];
    macro_rules! requests {
        ($($name:ident $value:expr;)*) => {$(
            all.push(sample(stringify!($name), $value));
            all.push(sample("ClientFrame", ClientFrame { id: 7, number: 300, request: Some($value.into()) }));
        )*};
    }
    macro_rules! replies {
        ($($name:ident $value:expr;)*) => {$(
            all.push(sample(stringify!($name), $value));
            all.push(sample("RelayFrame", RelayFrame { id: 7, reply: Some($value.into()) }));
        )*};
    }
    macro_rules! entries {
        ($($name:ident $value:expr;)*) => {$(
            all.push(sample(stringify!($name), $value));
            all.push(sample("Entry", entry($value.into())));
        )*};
    }
    requests! {
        Hello Hello { min_version: 1, max_version: 1, software: Text::new("qpc 0.1.0") };
        RegisterStart RegisterStart { user: alice(), request: blob(&[1; 32]), invite: Text::new("k7-4f") };
        RegisterFinish RegisterFinish {
            record: blob(&[2; 192]), ksf: KsfProfile::Router, identity_key: key(3), sealed_identity: blob(&[4; 60]), proof: [5; 64],
        };
        LoginStart LoginStart { user: alice(), request: blob(&[1; 96]) };
        LoginFinish LoginFinish { finalization: blob(&[1; 64]) };
        EnrolDevice EnrolDevice { certificate: certificate(), label: Text::new("kitchen"), state_slot: blob(&[6; 60]), proof: [7; 64] };
        OpenSession OpenSession { device: device(1), proof: [7; 64], answered: 12, delivered: 1 << 40 };
        Credit Credit { deliveries: 16 };
        Ack Ack { up_to: 129 };
        FetchDelivery FetchDelivery { seq: 130 };
        UploadKeyPackages UploadKeyPackages { replace: true, one_time: list(vec![blob(&[1; 3]), blob(&[2; 3])]), last_resort: blob(&[3; 3]) };
        FetchKeyPackages FetchKeyPackages { user: alice() };
        ResolveUser ResolveUser { user: alice() };
        OpenDirect OpenDirect { peer: alice() };
        ListConversations ListConversations { after: Some(conversation()) };
        FetchGroup FetchGroup { conversation: conversation() };
        SubmitCommit SubmitCommit {
            conversation: conversation(), epoch: 4, commit: blob(&[1; 5]), added: list(vec![AddedDevice { device: device(2), lease: 9 }]),
            removed: list(vec![device(3)]), welcome: blob(&[2; 5]), group_info: blob(&[3; 5]), tree: tree(), external: true,
        };
        SendMessage SendMessage { conversation: conversation(), epoch: 4, payload: blob(&[1; 5]), submitter: Some(ThisDevice {}.into()) };
        ReportCommit ReportCommit { conversation: conversation(), epoch: 4 };
        RestoreGroup RestoreGroup {
            conversation: conversation(), epoch: 4, members: list(vec![device(1), device(2)]), accounts: list(vec![alice()]),
            group_info: blob(&[3; 5]), tree: tree(),
        };
        ListDevices ListDevices {};
        RevokeDevice RevokeDevice { device: device(1) };
        ChangePasswordStart ChangePasswordStart { request: blob(&[1; 32]) };
        ChangePasswordFinish ChangePasswordFinish {
            record: blob(&[2; 192]), ksf: KsfProfile::Router, sealed_identity: blob(&[4; 60]),
            devices: list(vec![DeviceSlot { device: device(1), state_slot: blob(&[6; 60]) }]),
        };
    }
    replies! {
        Error Error { code: ErrorCode::WrongEpoch, reason: Text::new("the group is at epoch 5"), detail: 5 };
        Done Done {};
        HelloReply HelloReply {
            version: 1, generation: Generation([1; 16]), software: Text::new("qpc-relay 0.1.0"), time: 1_800_000_000,
            registration: Registration::Invite, idle_seconds: 120,
        };
        OpaqueReply OpaqueReply { response: blob(&[1; 320]), ksf: KsfProfile::Router };
        Account Account {
            identity_key: key(3), sealed_identity: blob(&[4; 60]),
            devices: list(vec![DeviceSlot { device: device(1), state_slot: blob(&[6; 60]) }]),
        };
        Session Session { device: device(1), last_number: 12, next_delivery: 130, key_packages: 10, last_resort: true, generation: Generation([1; 16]) };
        Delivery Delivery { seq: 129, too_large: 70_000, entry: Some(entry(JoinEntry {}.into())) };
        KeyPackages KeyPackages {
            identity_key: key(3), packages: list(vec![LeasedKeyPackage { device: device(1), key_package: blob(&[1; 3]), lease: 9 }]),
            without: list(vec![device(2)]),
        };
        User User { identity_key: key(3), devices: 2 };
        Conversation summary();
        Conversations Conversations { conversations: list(vec![summary()]), more: true };
        Group Group { epoch: 4, group_info: blob(&[3; 5]), tree: tree() };
        Accepted Accepted { epoch: 5 };
        Stored Stored { durability: Durability::Volatile, time: 1_800_000_000, refused: list(vec![device(3)]), devices: 2 };
        Devices Devices { devices: list(vec![info()]) };
        Notice Notice { kind: NoticeKind::KeyPackagesLow };
    }
    entries! {
        MessageEntry MessageEntry { payload: blob(&[1; 5]) };
        CommitEntry CommitEntry { epoch: 4, commit: blob(&[1; 5]) };
        WelcomeEntry WelcomeEntry { epoch: 5, welcome: blob(&[1; 5]) };
        RefusedEntry RefusedEntry {};
        JoinEntry JoinEntry {};
        DevicesEntry DevicesEntry { user: alice(), added: list(vec![device(1)]), removed: list(vec![device(2)]) };
        ResyncEntry ResyncEntry { epoch: 4 };
    }
    all.extend([
        sample(
            "Envelope",
            Envelope {
                receipt: true,
                ..Envelope::new(MessageId([7; 16]), 1_800_000_000, Kind::Text, blob(b"hello?"))
            },
        ),
        sample("Envelope", Envelope::receipt(MessageId([6; 16]), 0, &[MessageId([7; 16])]).unwrap()),
        sample(
            "Entry",
            Entry {
                durability: Durability::Volatile,
                ..entry(MessageEntry { payload: blob(&[1; 5]) }.into())
            },
        ),
        sample("DeviceCertificate", certificate()),
        sample("DeviceSlot", DeviceSlot { device: device(1), state_slot: blob(&[6; 60]) }),
        sample(
            "LeasedKeyPackage",
            LeasedKeyPackage { device: device(1), key_package: blob(&[1; 3]), lease: 9 },
        ),
        sample("Tree", tree()),
        sample("TreeNode", TreeNode { index: 3, node: blob(&[1; 4]) }),
        sample("AddedDevice", AddedDevice { device: device(2), lease: 9 }),
        sample("DeviceInfo", info()),
        sample("ThisDevice", ThisDevice {}),
        sample("DeliveryToken", DeliveryToken { token: blob(&[1; 16]) }),
        sample(
            "SendMessage",
            SendMessage {
                conversation: conversation(),
                epoch: 4,
                payload: blob(&[1; 5]),
                submitter: Some(DeliveryToken { token: blob(&[1; 16]) }.into()),
            },
        ),
    ]);
    all
}

fn sample<M: Message>(name: &'static str, message: M) -> Sample {
    Sample { name, bytes: message.encode(), again: |bytes| M::decode(bytes).map(|message| message.encode()) }
}

fn entry(kind: EntryKind) -> Entry {
    Entry {
        conversation: conversation(),
        sender: Some(device(1)),
        time: 1_800_000_000,
        age: 3600,
        durability: Durability::Durable,
        kind: Some(kind),
    }
}

fn summary() -> Conversation {
    Conversation {
        id: conversation(),
        epoch: 4,
        created: true,
        member: true,
        accounts: list(vec![alice()]),
        resync: true,
    }
}

fn info() -> DeviceInfo {
    DeviceInfo { device: device(1), label: Text::new("kitchen"), online: true, queued: 3 }
}

fn tree() -> Tree {
    let blank = TreeNode { index: 1, node: blob(&[]) };
    Tree { width: 3, nodes: list(vec![TreeNode { index: 0, node: blob(&[1; 4]) }, blank]) }
}

fn certificate() -> DeviceCertificate {
    DeviceCertificate { user: alice(), identity_key: key(3), device_key: key(4), signature: [5; 64] }
}

fn alice() -> UserName {
    UserName::new("alice").unwrap()
}

fn conversation() -> ConversationId {
    ConversationId([0xc0; 16])
}

fn device(n: u8) -> DeviceId {
    DeviceId([n; 16])
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn blob<const MAX: usize>(bytes: &[u8]) -> Blob<MAX> {
    Blob::new(bytes.to_vec()).unwrap()
}

fn list<T: std::fmt::Debug, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).unwrap()
}
