//! openmls over our crypto and storage: together with openmls' own RustCrypto provider, and what it writes.

use std::collections::BTreeMap;

use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use qpc_proto::id::UserName;
use tls_codec::{Deserialize as _, Serialize as _};

use super::crypto::tests::crypto;
use super::delta::tests::commit;
use super::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

struct Peer {
    crypto: Crypto,
    rows: Rows,
    device: DeviceSecret,
    credential: CredentialWithKey,
    written: usize,
}

impl Peer {
    fn new(number: usize) -> Self {
        let entropy = SystemEntropy::new();
        let user = UserName::new(&format!("user{number}")).unwrap();
        let device = DeviceSecret::generate(&entropy).unwrap();
        let certificate = device.certify(&user, &IdentitySecret::generate(&entropy).unwrap());
        Self {
            crypto: crypto(),
            rows: Rows::new(),
            device,
            credential: credential::credential(&certificate),
            written: 0,
        }
    }

    /// Runs one operation and commits what it wrote; `written` is then the bytes of its keys and values.
    fn run<T>(&mut self, operation: impl FnOnce(&Provider<'_, Rows>, &DeviceSecret) -> T) -> T {
        let provider = Provider::new(&self.crypto, &self.rows);
        let result = operation(&provider, &self.device);
        let changes = provider.finish().unwrap().into_changes(&self.rows).unwrap();
        self.written = commit(&mut self.rows, changes);
        result
    }

    fn key_package(&mut self) -> KeyPackage {
        let credential = self.credential.clone();
        self.run(|provider, signer| build_key_package(provider, signer, credential))
    }

    fn create(&mut self) -> MlsGroup {
        let credential = self.credential.clone();
        let id = GroupId::from_slice(&[7; 16]);
        self.run(|provider, signer| {
            MlsGroup::new_with_group_id(provider, signer, &config::create(), id, credential).unwrap()
        })
    }

    fn join(&mut self, welcome: &MlsMessageOut) -> MlsGroup {
        self.run(|provider, _| join(provider, welcome))
    }

    fn load(&mut self) -> MlsGroup {
        let id = GroupId::from_slice(&[7; 16]);
        self.run(|provider, _| MlsGroup::load(provider.storage(), &id).unwrap().unwrap())
    }

    fn send(&mut self, group: &mut MlsGroup, text: &[u8]) -> MlsMessageOut {
        self.run(|provider, signer| group.create_message(provider, signer, text).unwrap())
    }

    fn receive(&mut self, group: &mut MlsGroup, message: &MlsMessageOut) -> Option<Vec<u8>> {
        self.run(|provider, _| receive(provider, group, message))
    }
}

/// How a group of [`group_of`] ends.
pub(crate) enum Update {
    None,
    Creator,
    Remove(u32),
}

/// The creator's view of a group with this many leaves.
pub(crate) fn group_of(leaves: usize, update: Update) -> MlsGroup {
    let mut peers: Vec<Peer> = (0..leaves).map(Peer::new).collect();
    let packages: Vec<_> = peers[1..].iter_mut().map(Peer::key_package).collect();
    let mut group = peers[0].create();
    peers[0].run(|provider, signer| {
        group.add_members(provider, signer, &packages).unwrap();
        group.merge_pending_commit(provider).unwrap();
        match update {
            Update::None => {}
            Update::Creator => {
                drop(group.self_update(provider, signer, LeafNodeParameters::default()).unwrap())
            }
            Update::Remove(index) => {
                drop(group.remove_members(provider, signer, &[LeafNodeIndex::new(index)]).unwrap());
            }
        }
        group.merge_pending_commit(provider).unwrap();
    });
    group
}

fn build_key_package(
    provider: &impl OpenMlsProvider,
    signer: &DeviceSecret,
    credential: CredentialWithKey,
) -> KeyPackage {
    KeyPackage::builder()
        .key_package_lifetime(config::lifetime())
        .leaf_node_capabilities(config::capabilities())
        .build(CIPHERSUITE, provider, signer, credential)
        .unwrap()
        .into_key_package()
}

fn over_the_wire(message: &MlsMessageOut) -> MlsMessageBodyIn {
    let bytes = message.tls_serialize_detached().unwrap();
    MlsMessageIn::tls_deserialize_exact(&bytes).unwrap().extract()
}

fn join<P: OpenMlsProvider>(provider: &P, welcome: &MlsMessageOut) -> MlsGroup {
    let MlsMessageBodyIn::Welcome(welcome) = over_the_wire(welcome) else { panic!("no welcome") };
    let processed = ProcessedWelcome::new_from_welcome(provider, &config::join(), welcome).unwrap();
    let staged = JoinBuilder::new(provider, processed).skip_lifetime_validation().build().unwrap();
    staged.into_group(provider).unwrap()
}

fn receive<P: OpenMlsProvider>(
    provider: &P,
    group: &mut MlsGroup,
    message: &MlsMessageOut,
) -> Option<Vec<u8>> {
    let MlsMessageBodyIn::PrivateMessage(message) = over_the_wire(message) else { panic!("not private") };
    let processed = group.process_message(provider, message).unwrap();
    match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
        ProcessedMessageContent::StagedCommitMessage(commit) => {
            group.merge_staged_commit(provider, *commit).unwrap();
            None
        }
        _ => panic!("unexpected content"),
    }
}

#[test]
fn talks_to_the_rustcrypto_provider() {
    let (mut ours, theirs) = (Peer::new(1), OpenMlsRustCrypto::default());
    let their_peer = Peer::new(2);
    let package = build_key_package(&theirs, &their_peer.device, their_peer.credential.clone());
    let mut our_group = ours.create();
    let (_, welcome, _) =
        ours.run(|provider, signer| our_group.add_members(provider, signer, &[package]).unwrap());
    ours.run(|provider, _| our_group.merge_pending_commit(provider).unwrap());
    let mut their_group = join(&theirs, &welcome);

    for round in 0..4u8 {
        let message = ours.send(&mut our_group, &[round; 100]);
        assert_eq!(receive(&theirs, &mut their_group, &message).unwrap(), [round; 100]);
        let message = their_group.create_message(&theirs, &their_peer.device, &[round; 50]).unwrap();
        assert_eq!(ours.receive(&mut our_group, &message).unwrap(), [round; 50]);

        let parameters = LeafNodeParameters::default();
        let update = their_group.self_update(&theirs, &their_peer.device, parameters).unwrap();
        their_group.merge_pending_commit(&theirs).unwrap();
        assert_eq!(ours.receive(&mut our_group, update.commit()), None);
        let update = ours.run(|provider, signer| {
            our_group.self_update(provider, signer, LeafNodeParameters::default()).unwrap()
        });
        ours.run(|provider, _| our_group.merge_pending_commit(provider).unwrap());
        assert_eq!(receive(&theirs, &mut their_group, update.commit()), None);
        // What was stored is what is in memory.
        our_group = ours.load();
        assert_eq!(our_group.epoch_authenticator().as_slice(), their_group.epoch_authenticator().as_slice());
    }
}

#[test]
fn a_welcome_from_the_rustcrypto_provider() {
    let (mut ours, theirs, their_peer) = (Peer::new(1), OpenMlsRustCrypto::default(), Peer::new(2));
    let package = ours.key_package();
    let mut their_group = MlsGroup::new_with_group_id(
        &theirs,
        &their_peer.device,
        &config::create(),
        GroupId::from_slice(&[7; 16]),
        their_peer.credential.clone(),
    )
    .unwrap();
    let (_, welcome, _) = their_group.add_members(&theirs, &their_peer.device, &[package]).unwrap();
    their_group.merge_pending_commit(&theirs).unwrap();
    let our_group = ours.join(&welcome);
    assert_eq!(our_group.epoch_authenticator().as_slice(), their_group.epoch_authenticator().as_slice());
}

/// What an old version stored of a group must be readable as long as the schema number is the same.
#[test]
fn a_stored_group_is_readable() {
    let fixture: Fixture = codec::from_slice(include_bytes!("fixtures/group-1.bin")).unwrap();
    let mut reader = Peer::new(0);
    reader.rows = fixture.rows.into_iter().collect();
    let mut group = reader.load();
    let message = MlsMessageIn::tls_deserialize_exact(fixture.message).unwrap();
    let message = message.try_into_protocol_message().unwrap();
    let processed = reader.run(|provider, _| group.process_message(provider, message).unwrap());
    let ProcessedMessageContent::ApplicationMessage(message) = processed.into_content() else {
        panic!("no message");
    };
    assert_eq!(message.into_bytes(), b"written long ago");
}

/// Writes the fixture of [`a_stored_group_is_readable`]; to be run once for each schema number.
#[test]
#[ignore = "writes into the source folder"]
fn write_fixture() {
    let (mut writer, mut reader, mut third) = (Peer::new(0), Peer::new(1), Peer::new(2));
    let packages = [reader.key_package(), third.key_package()];
    let mut group = writer.create();
    let (_, welcome, _) = writer.run(|provider, signer| {
        let messages = group.add_members(provider, signer, &packages).unwrap();
        group.merge_pending_commit(provider).unwrap();
        messages
    });
    let mut read = reader.join(&welcome);
    for _ in 0..2 {
        let update = writer.run(|provider, signer| {
            let update = group.self_update(provider, signer, LeafNodeParameters::default()).unwrap();
            group.merge_pending_commit(provider).unwrap();
            update
        });
        reader.receive(&mut read, update.commit());
        let message = writer.send(&mut group, b"read");
        reader.receive(&mut read, &message);
    }
    let message = writer.send(&mut group, b"written long ago").tls_serialize_detached().unwrap();
    let fixture = Fixture { rows: reader.rows.into_iter().collect(), message };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mls/fixtures/group-1.bin");
    std::fs::write(path, codec::to_vec(&fixture).unwrap()).unwrap();
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Fixture {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    message: Vec<u8>,
}

/// Prints what one message writes at its sender and at a receiver; `cargo test -p qpc-client -- --nocapture writes`.
#[test]
fn writes_little_for_a_message() {
    for (leaves, budget) in [(2, 3 * 1024), (50, 6 * 1024)] {
        let mut peers: Vec<Peer> = (0..leaves).map(Peer::new).collect();
        let packages: Vec<_> = peers[1..].iter_mut().map(Peer::key_package).collect();
        let mut group = Some(peers[0].create());
        let (_, welcome, _) = peers[0].run(|provider, signer| {
            let group = group.as_mut().unwrap();
            let messages = group.add_members(provider, signer, &packages).unwrap();
            group.merge_pending_commit(provider).unwrap();
            messages
        });
        println!("{leaves} leaves: {} bytes written by creating", peers[0].written);
        // Only some of them are looked at; the others are there.
        let mut present: Vec<(Peer, MlsGroup)> = Vec::new();
        for (number, mut peer) in peers.into_iter().enumerate() {
            match number {
                0 => present.push((peer, group.take().unwrap())),
                _ if number <= SENDERS || number == leaves - 1 => {
                    let group = peer.join(&welcome);
                    present.push((peer, group));
                }
                _ => {}
            }
        }
        let (mut reader, mut group) = present.pop().unwrap();
        println!("{leaves} leaves: {} bytes written by joining", reader.written);

        // Fill the past epochs, so that the secrets have their full size.
        let mut by_commits = Vec::new();
        for _ in 0..5 {
            let (committer, others) = present.split_first_mut().unwrap();
            let update = committer.0.run(|provider, signer| {
                let group = &mut committer.1;
                let update = group.self_update(provider, signer, LeafNodeParameters::default()).unwrap();
                group.merge_pending_commit(provider).unwrap();
                update
            });
            for (peer, group) in others {
                peer.receive(group, update.commit());
            }
            reader.receive(&mut group, update.commit());
            by_commits.push(reader.written);
        }
        println!("{leaves} leaves: {by_commits:?} bytes written by received commits");

        // They write in turn; the last reads along.
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for round in 0..200 {
            let turn = round % present.len();
            let (peer, their_group) = &mut present[turn];
            let message = peer.send(their_group, &[0; 256]);
            sent.push(peer.written);
            reader.receive(&mut group, &message).unwrap();
            received.push(reader.written);
        }
        let stored: usize = reader.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        for (what, numbers) in [("sent", &sent), ("received", &received)] {
            let mean = numbers.iter().sum::<usize>() / numbers.len();
            let most = numbers.iter().max().unwrap();
            println!("{leaves} leaves: {mean} bytes written by a {what} message, at most {most}");
        }
        println!("{leaves} leaves: {stored} bytes stored, in {} rows", reader.rows.len());
        assert!(received.iter().sum::<usize>() / received.len() < budget);
        assert_eq!(reader.load().epoch(), present[0].1.epoch());
    }
}

/// Members that write, besides the creator.
const SENDERS: usize = 10;
