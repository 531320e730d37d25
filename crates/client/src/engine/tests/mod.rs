mod disk;
mod held;
mod world;

use openmls::extensions::ExtensionType;
use openmls::prelude::Capabilities;
use qpc_proto::id::{ConversationId, MessageId, UserName};
use qpc_proto::limits::MAX_TREE_NODE;
use qpc_proto::message::*;
use qpc_proto::wire::{Blob, List};

use self::world::*;
use super::*;
use crate::mls::CIPHERSUITE;

#[test]
fn two_devices_talk() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.assert_talks(id, &[0, 1]);
    let bob = &world.peers[1];
    assert!(bob.events.contains(&Event::Joined { conversation: id }));
    let alice = &world.peers[0].engine;
    assert_eq!(bob.engine.direct(&alice.account().user).unwrap().conversation, id);
    let contact = bob.engine.contacts().next().unwrap();
    assert_eq!(
        (contact.user, contact.identity),
        (alice.account().user.clone(), alice.account().identity_key)
    );
}

#[test]
fn who_asks_is_told_once_by_each_device_that_has_stored_it() {
    let mut world = World::new(&["alice", "bob", "bob", "alice"]);
    let id = world.talk(&[0, 1, 2, 3]);
    let asked = world.ask_receipt(0, id, "are you there?");
    world.send(0, id, "never mind");
    world.crash(1);
    world.run();
    // Also the sender's other device hears of it; but nobody answers for a message of the own account.
    for peer in [0, 3] {
        let from = world.receipts(peer);
        assert_eq!(from.len(), 2);
        for bob in [1, 2] {
            assert!(from.contains(&(world.device(bob), vec![asked])));
        }
    }
    for bob in [1, 2] {
        assert_eq!(world.receipts(bob), []);
        assert_eq!(world.read(bob), ["are you there?", "never mind"]);
    }
    assert!(world.peers.iter_mut().all(|peer| peer.engine.outbox().unwrap().is_empty()));

    // Many at once are answered by one message.
    let asked: Vec<_> = (0..70).map(|_| world.ask_receipt(3, id, "?")).collect();
    while world.flush(3) {}
    while world.deliver(1) {}
    world.run();
    let told: Vec<_> =
        world.receipts(0).into_iter().filter(|(device, _)| *device == world.device(1)).collect();
    assert_eq!(told, [(world.device(1), asked[..64].to_vec())]);
}

#[test]
fn a_receipt_is_never_answered_nor_given_in_a_larger_group() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    // A hostile one that asks for a receipt itself, and for what is no id.
    let mut receipt = world.envelope("neither 16 nor 32 bytes");
    (receipt.kind, receipt.receipt) = (Kind::Receipt, true);
    world.peers[0].engine.send(id, &receipt).unwrap();
    world.run();
    assert!(world.peers[1].engine.wants().is_empty());
    assert_eq!(world.receipts(1), [(world.device(0), vec![MessageId(*b"neither 16 nor 3")])]);
    assert_eq!(world.receipts(0), []);

    // As it is in a group that is not the conversation of two.
    let alice = UserName::new("alice").unwrap();
    let elsewhere = Conversation {
        id: ConversationId([7; 16]),
        epoch: 0,
        created: true,
        member: false,
        accounts: List::default(),
        resync: false,
    };
    world.peers[1].engine.conversation_opened(&alice, &elsewhere).unwrap();
    world.ask_receipt(0, id, "everybody?");
    world.run();
    assert_eq!(world.read(1), ["everybody?"]);
    assert_eq!(world.receipts(0), []);
}

#[test]
fn a_message_says_how_the_relay_kept_it() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    for durability in [Durability::Durable, Durability::Volatile] {
        world.send(0, id, "x");
        while world.flush(0) {}
        let device = world.device(1);
        world.relay.queues.get_mut(&device).unwrap().last_mut().unwrap().durability = durability;
        world.run();
        let inbox = world.peers[1].engine.inbox(1).unwrap();
        assert_eq!(inbox[0].durability, durability);
        world.read(1);
    }
}

#[test]
fn an_invited_device_knows_its_peer_without_having_asked() {
    let mut world = World::new(&["alice", "bob"]);
    let (alice, bob) = (UserName::new("alice").unwrap(), UserName::new("bob").unwrap());
    let device = world.device(0);
    let found = world.relay.open_direct(device, [&alice, &bob]);
    world.peers[0].engine.conversation_opened(&bob, &found).unwrap();
    world.create_group(0, found.id);
    world.run();
    assert_eq!(world.peers[1].engine.direct(&alice).unwrap().conversation, found.id);
    world.assert_talks(found.id, &[0, 1]);
}

#[test]
fn of_two_groups_made_at_once_one_is_the_conversation() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.open_direct(&[0, 1]);
    world.create_group(0, id);
    world.create_group(1, id);
    world.run();
    assert!(
        world.peers[1]
            .answers
            .iter()
            .any(|answer| matches!(answer, Answered::CommitRefused { epoch: Some(1), .. }))
    );
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn of_two_commits_at_once_one_is_accepted() {
    let mut world = World::new(&["alice", "bob", "bob"]);
    let id = world.talk(&[0, 1, 2]);
    for _ in 0..3 {
        for peer in 0..3 {
            world.peers[peer].engine.self_update(id).unwrap();
            assert!(matches!(world.peers[peer].engine.self_update(id), Err(EngineError::CommitPending(_))));
        }
        world.run();
        world.assert_talks(id, &[0, 1, 2]);
    }
    assert_eq!(world.relay.groups[&id].epoch, 4);
}

#[test]
fn a_second_device_joins_by_itself() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.send(0, id, "before");
    world.run();
    let second = world.add("bob");
    world.open_direct(&[second, 0]);
    world.run();
    assert_eq!(world.read(second), Vec::<String>::new());
    world.read(1);
    world.assert_talks(id, &[0, 1, second]);
    let added = Event::DeviceAdded {
        conversation: id,
        user: UserName::new("bob").unwrap(),
        device: world.device(second),
    };
    assert!(world.peers[0].events.contains(&added) && world.peers[1].events.contains(&added));
}

#[test]
fn a_device_is_added_by_its_key_package() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let second = world.add("bob");
    let bob = UserName::new("bob").unwrap();
    let asker = world.device(0);
    let packages = world.relay.key_packages(asker, &bob);
    assert!(world.peers[0].engine.add_devices(id, &bob, &packages).unwrap().is_some());
    world.run();
    world.assert_talks(id, &[0, 1, second]);
    let packages = world.relay.key_packages(asker, &bob);
    assert_eq!(world.peers[0].engine.add_devices(id, &bob, &packages).unwrap(), None);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.open_direct(&[0, 1]);
    let device = world.device(0);
    for _ in 0..3 {
        match world.peers[0].engine.direct(&UserName::new("bob").unwrap()).unwrap().joined {
            false => drop(world.create_group(0, id)),
            true => drop(world.peers[0].engine.self_update(id).unwrap()),
        }
        world.relay.submit(device, &world.peers[0].engine.outbox().unwrap()[0]);
        world.crash(0);
        world.run();
        world.assert_talks(id, &[0, 1]);
    }
    let before = world.send(0, id, "once");
    world.relay.submit(device, &before);
    world.crash(0);
    assert_eq!(world.peers[0].engine.outbox().unwrap(), [before]);
    world.run();
    assert_eq!(world.read(1), ["once"]);
    assert_eq!(world.peers[0].engine.answered(1, &Reply::Done(Done {})).unwrap(), Answered::Done);
}

#[test]
fn a_crash_at_any_step_loses_nothing() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.open_direct(&[0, 1]);
    world.create_group(0, id);
    for _ in 0..3 {
        for peer in [0, 1] {
            world.crash(peer);
            world.run_one(peer);
            world.crash(peer);
        }
    }
    for round in 0..3 {
        world.peers[round % 2].engine.self_update(id).unwrap();
        world.crash(round % 2);
        world.send(round % 2, id, "under way");
        world.crash(round % 2);
        world.run();
        assert_eq!(world.read(1 - round % 2), ["under way"]);
        world.crash(1 - round % 2);
        world.assert_talks(id, &[0, 1]);
    }
}

#[test]
fn a_delivery_counts_once() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.send(0, id, "once");
    world.run();
    let device = world.device(1);
    let entry = world.relay.queues[&device].last().unwrap().clone();
    let seq = world.peers[1].engine.delivered();
    assert_eq!(world.peers[1].engine.deliver(seq, &entry).unwrap(), []);
    // The relay delivers it again under another number.
    let events = world.peers[1].engine.deliver(seq + 1, &entry).unwrap();
    assert!(matches!(events[..], [Event::Undecryptable { reason: Reason::Repeated, .. }]));
    world.relay.push(device, entry);
    assert_eq!(world.read(1), ["once"]);
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn a_message_sent_twice_is_read_once() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let envelope = world.envelope("once");
    for _ in 0..2 {
        world.peers[0].engine.send(id, &envelope).unwrap();
        world.run();
        world.crash(1);
    }
    assert_eq!(world.read(1), ["once"]);
    for n in 0..400 {
        world.send(0, id, &n.to_string());
    }
    world.run();
    world.crash(1);
    assert_eq!(world.read(1).len(), 400);
}

#[test]
fn a_message_of_an_epoch_long_gone_is_encrypted_again() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.send(0, id, "late");
    for _ in 0..5 {
        world.peers[1].engine.self_update(id).unwrap();
        world.run_one(1);
    }
    world.run_one(0);
    world.crash(0);
    world.run();
    assert!(world.peers[0].answers.iter().any(|answer| matches!(answer, Answered::MessageWrongEpoch { .. })));
    assert_eq!(world.read(1), ["late"]);
}

#[test]
fn messages_of_recent_epochs_are_read() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    for round in 0..3 {
        world.send(0, id, &round.to_string());
        world.peers[1].engine.self_update(id).unwrap();
        world.flush(1);
    }
    world.run();
    assert_eq!(world.read(1), ["0", "1", "2"]);
}

#[test]
fn another_identity_is_refused_until_it_is_accepted() {
    let mut world = World::new(&["alice", "bob"]);
    let alice = UserName::new("alice").unwrap();
    let false_key = PublicKey([9; 32]);
    world.peers[1].engine.pin(&alice, &false_key).unwrap();
    let id = world.open_direct(&[0, 1]);
    world.create_group(0, id);
    world.run();
    let true_key = world.identity("alice").public();
    let changed = Event::IdentityChanged { user: alice.clone(), key: true_key };
    assert!(world.peers[1].events.contains(&changed));
    assert!(!world.peers[1].engine.direct(&alice).unwrap().joined);
    assert!(!world.peers[1].engine.wants().contains(&Want::Join(id)));
    assert!(matches!(world.peers[1].engine.pin(&alice, &true_key), Err(EngineError::IdentityChanged { .. })));
    world.crash(1);
    world.peers[1].engine.accept_identity(&alice).unwrap();
    assert!(world.peers[1].engine.accept_identity(&alice).is_err());
    world.run();
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn a_key_package_of_somebody_else_is_refused() {
    let mut world = World::new(&["alice", "bob", "carol"]);
    let id = world.open_direct(&[0, 1]);
    let asker = world.device(0);
    let (bob, carol) = (UserName::new("bob").unwrap(), UserName::new("carol").unwrap());
    let package = |world: &mut World, user: &UserName| world.relay.key_packages(asker, user);
    let carols = package(&mut world, &carol);
    let engine = &mut world.peers[0].engine;
    assert!(matches!(
        engine.create_group(id, &[(bob.clone(), carols.clone())]),
        Err(EngineError::InvalidKeyPackage(_))
    ));
    assert!(matches!(engine.create_group(id, &[(carol, carols)]), Err(EngineError::Foreign { .. })));
    engine.pin(&bob, &PublicKey([9; 32])).unwrap();
    let bobs = package(&mut world, &bob);
    let engine = &mut world.peers[0].engine;
    assert!(matches!(engine.create_group(id, &[(bob, bobs)]), Err(EngineError::IdentityChanged { .. })));
    assert_eq!(engine.outbox().unwrap(), []);
}

#[test]
fn a_stranger_cannot_join_by_itself() {
    let mut world = World::new(&["alice", "bob", "mallory"]);
    let id = world.talk(&[0, 1]);
    // The relay helps: it hands out the group and takes the commit.
    let mallory = 2;
    let found = Conversation {
        id,
        epoch: 1,
        created: false,
        member: false,
        accounts: List::default(),
        resync: false,
    };
    let alice = UserName::new("alice").unwrap();
    let engine = &mut world.peers[mallory].engine;
    engine.conversation_opened(&alice, &found).unwrap();
    let group = world.relay.fetch_group(id).unwrap();
    // Her own program refuses a group with two other accounts; so she says that she knows it as another kind.
    assert!(world.peers[mallory].engine.join_external(id, &group).is_err());
    forge_external(&mut world, mallory, id, config::capabilities());
    world.run();
    for victim in [0, 1] {
        assert!(world.peers[victim].events.iter().any(|event| matches!(event, Event::CommitUnusable { .. })));
    }
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn a_leaf_that_is_too_large_does_not_get_in() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let second = world.add("bob");
    let many: Vec<_> = (0..MAX_TREE_NODE as u16).map(|n| ExtensionType::Unknown(0x1000 + n)).collect();
    let capabilities = config::capabilities();
    let capabilities = Capabilities::new(
        Some(capabilities.versions()),
        Some(&[CIPHERSUITE]),
        Some(&many),
        None,
        Some(capabilities.credentials()),
    );
    forge_external(&mut world, second, id, capabilities);
    world.run();
    for peer in [0, 1] {
        let unusable = |event: &Event| matches!(event, Event::CommitUnusable { .. });
        assert!(world.peers[peer].events.iter().any(unusable));
        world.peers[peer].engine.self_update(id).unwrap();
        world.run();
    }
    world.assert_talks(id, &[0, 1]);
}

/// Makes a peer submit an external commit that its own program would not make.
fn forge_external(world: &mut World, peer: usize, id: ConversationId, capabilities: Capabilities) {
    let group = world.relay.fetch_group(id).unwrap();
    let (commit, group_info) = world.peers[peer].engine.forge_external(id, &group, capabilities);
    let request = Request::SubmitCommit(SubmitCommit {
        conversation: id,
        epoch: group.epoch,
        commit: Blob::new(commit).unwrap(),
        added: List::default(),
        removed: List::default(),
        welcome: Blob::default(),
        group_info: Blob::new(group_info).unwrap(),
        tree: Tree { width: 0, nodes: List::default() },
        external: true,
    });
    let device = world.device(peer);
    let reply = world.relay.submit(device, &Outgoing { number: 1_000_000, request });
    assert!(matches!(reply, Reply::Accepted(_)));
}

#[test]
fn a_commit_nobody_can_process_is_repaired() {
    let mut world = World::new(&["alice", "bob", "bob"]);
    let id = world.talk(&[0, 1, 2]);
    // The second device of bob is broken or bad: it commits garbage.
    let garbage = Request::SubmitCommit(SubmitCommit {
        conversation: id,
        epoch: 1,
        commit: Blob::new(b"garbage".to_vec()).unwrap(),
        added: List::default(),
        removed: List::default(),
        welcome: Blob::default(),
        group_info: Blob::new(b"garbage".to_vec()).unwrap(),
        tree: Tree { width: 0, nodes: List::default() },
        external: false,
    });
    let device = world.device(2);
    world.relay.submit(device, &Outgoing { number: 1_000_000, request: garbage });
    world.run();
    assert!(
        world.peers[0].events.contains(&Event::CommitUnusable { conversation: id, sender: Some(device) })
    );
    world.assert_talks(id, &[0, 1]);
    world.peers[0].engine.self_update(id).unwrap();
    world.run();
    world.assert_talks(id, &[0, 1, 2]);
}

#[test]
fn a_device_that_missed_a_commit_comes_back() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let device = world.device(1);
    world.peers[0].engine.self_update(id).unwrap();
    world.flush(0);
    // The relay loses the entry.
    let last = world.relay.queues[&device].len() - 1;
    world.relay.queues.get_mut(&device).unwrap()[last] = by_relay(id, RefusedEntry {}.into());
    world.run();
    assert!(world.peers[1].events.contains(&Event::Refused { conversation: id }));
    world.send(0, id, "unreadable");
    world.run();
    world.assert_talks(id, &[0, 1]);
    let members = world.peers[0].engine.members(&id).unwrap();
    assert_eq!(members.len(), 2, "the old leaf is gone");
}

/// A member that thought the device revoked gave the group back without it, in the epoch it is in.
#[test]
fn a_device_that_the_relay_left_out_comes_back() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let device = world.device(1);
    let leave_out = |world: &mut World| {
        world.relay.groups.get_mut(&id).unwrap().members.remove(&device);
    };
    leave_out(&mut world);
    world.relay.push(device, by_relay(id, JoinEntry {}.into()));
    world.run();
    world.assert_talks(id, &[0, 1]);

    leave_out(&mut world);
    world.send(1, id, "from outside");
    world.run();
    assert_eq!(world.read(0), ["from outside"]);
    world.assert_talks(id, &[0, 1]);

    leave_out(&mut world);
    world.peers[1].engine.left_out(id).unwrap();
    world.run();
    world.assert_talks(id, &[0, 1]);
    assert_eq!(world.peers[0].engine.members(&id).unwrap().len(), 2);
}

#[test]
fn an_account_without_a_device_in_the_group_comes_back() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let (bob, device) = (UserName::new("bob").unwrap(), world.device(1));
    world.relay.submit(device, &Outgoing { number: 99, request: RevokeDevice { device }.into() });
    assert!(world.peers[0].engine.reaches(&id, &bob).unwrap());
    world.run_one(0);
    assert!(!world.peers[0].engine.reaches(&id, &bob).unwrap());
    world.run_one(0);
    assert_eq!(world.peers[0].engine.members(&id).unwrap().len(), 1);
    // The next one knows nothing but what the relay says.
    let second = world.add("bob");
    let second_device = world.device(second);
    world.relay.push(second_device, by_relay(id, JoinEntry {}.into()));
    world.run_one(second);
    world.run_one(second);
    world.run_one(0);
    assert!(world.peers[0].engine.reaches(&id, &bob).unwrap());
    assert_eq!(world.peers[second].engine.direct(&UserName::new("alice").unwrap()).unwrap().conversation, id);
    world.assert_talks(id, &[0, second]);
}

#[test]
fn a_relay_that_went_back_in_time_gets_the_group_back() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let (groups, queues) = (world.relay.groups.clone(), world.relay.queues.clone());
    world.assert_talks(id, &[0, 1]);
    world.peers[0].engine.self_update(id).unwrap();
    world.run();
    for forgotten in [false, true] {
        world.relay.groups = if forgotten { Default::default() } else { groups.clone() };
        world.relay.queues = if forgotten { Default::default() } else { queues.clone() };
        world.relay.generation.0[0] += 1;
        for peer in [0, 1] {
            world.open_session(peer);
        }
        world.run();
        world.assert_talks(id, &[0, 1]);
    }
}

/// Two groups grew from the one that the relay went back to, and have come as far as each other.
#[test]
fn a_fork_with_the_same_number_is_noticed() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let (groups, queues) = (world.relay.groups.clone(), world.relay.queues.clone());
    world.peers[0].engine.self_update(id).unwrap();
    world.flush(0);
    (world.relay.groups, world.relay.queues) = (groups, queues);
    world.relay.generation.0[0] += 1;
    world.open_session(1);
    world.peers[1].engine.self_update(id).unwrap();
    world.flush(1);
    world.open_session(0);
    world.run();
    world.assert_talks(id, &[0, 1]);
    assert_eq!(world.peers[1].engine.members(&id).unwrap().len(), 2);
}

#[test]
fn a_revoked_device_is_removed() {
    let mut world = World::new(&["alice", "bob", "bob"]);
    let id = world.talk(&[0, 1, 2]);
    let revoked = world.device(2);
    world.peers[1].engine.revoke_device(revoked).unwrap();
    world.run();
    let removed =
        Event::DeviceRemoved { conversation: id, user: UserName::new("bob").unwrap(), device: revoked };
    assert!(world.peers.iter().any(|peer| peer.events.contains(&removed)));
    for peer in [0, 1] {
        assert_eq!(world.peers[peer].engine.members(&id).unwrap().len(), 2);
        assert!(!world.peers[peer].engine.wants().contains(&Want::RemoveDevices(id)));
    }
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn a_removed_device_forgets_the_group() {
    let mut world = World::new(&["alice", "bob", "bob"]);
    let id = world.talk(&[0, 1, 2]);
    let device = world.device(2);
    let devices = DevicesEntry {
        user: UserName::new("bob").unwrap(),
        added: List::default(),
        removed: List::new(vec![device]).unwrap(),
    };
    let alice = world.device(0);
    world.relay.push(alice, by_relay(id, devices.into()));
    world.run();
    assert!(world.peers[2].events.contains(&Event::Removed { conversation: id }));
    let envelope = world.envelope("from outside");
    assert!(matches!(world.peers[2].engine.send(id, &envelope), Err(EngineError::NotJoined(_))));
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn hostile_entries_do_not_stop_the_queue() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.send(0, id, "genuine");
    world.flush(0);
    let device = world.device(1);
    let genuine = world.relay.queues.get_mut(&device).unwrap().pop().unwrap();
    let Some(EntryKind::Message(MessageEntry { payload })) = &genuine.kind else { panic!("no message") };
    let sender = world.device(0);
    for cut in [0, 1, 5, 20, 40, payload.len() / 2, payload.len() - 1] {
        let payload = Blob::new(payload[..cut].to_vec()).unwrap();
        world.relay.push(device, from(sender, id, MessageEntry { payload }.into()));
    }
    for flip in (0..payload.len()).step_by(7) {
        let mut bytes = payload.to_vec();
        bytes[flip] ^= 0x55;
        let payload = Blob::new(bytes.clone()).unwrap();
        world.relay.push(device, from(sender, id, MessageEntry { payload }.into()));
        let commit = CommitEntry { epoch: 0, commit: Blob::new(bytes.clone()).unwrap() };
        world.relay.push(device, from(sender, id, commit.into()));
        let welcome = WelcomeEntry { epoch: 1, welcome: Blob::new(bytes).unwrap() };
        world.relay.push(device, from(sender, id, welcome.into()));
    }
    let strange = ConversationId([0xee; 16]);
    for conversation in [strange, id] {
        let commit = CommitEntry { epoch: 0, commit: Blob::new(payload.to_vec()).unwrap() };
        world.relay.push(device, from(sender, conversation, commit.into()));
        let welcome = WelcomeEntry { epoch: 9, welcome: Blob::new(payload.to_vec()).unwrap() };
        world.relay.push(device, from(sender, conversation, welcome.into()));
        world.relay.push(device, Entry { kind: None, ..by_relay(conversation, RefusedEntry {}.into()) });
        let devices = DevicesEntry {
            user: UserName::new("mallory").unwrap(),
            added: List::new(vec![sender]).unwrap(),
            removed: List::new(vec![DeviceId([3; 16])]).unwrap(),
        };
        world.relay.push(device, by_relay(conversation, devices.into()));
        world.relay.push(device, by_relay(conversation, ResyncEntry { epoch: 0 }.into()));
    }
    world.relay.push(device, genuine);
    world.deliver(1);
    assert_eq!(world.read(1), ["genuine"]);
    world.run();
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn a_commit_sent_as_a_message_changes_nothing() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let update = world.peers[0].engine.self_update(id).unwrap();
    let Request::SubmitCommit(commit) = &update.request else { panic!("no commit") };
    let device = world.device(1);
    let payload = Blob::new(commit.commit.to_vec()).unwrap();
    let sender = world.device(0);
    world.relay.push(device, from(sender, id, MessageEntry { payload }.into()));
    world.deliver(1);
    assert_eq!(world.peers[1].engine.direct(&UserName::new("alice").unwrap()).unwrap().epoch, 1);
    world.run();
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn key_packages_are_replenished_and_their_secrets_do_not_pile_up() {
    let mut world = World::new(&["alice", "bob"]);
    let (asker, alice) = (world.device(1), UserName::new("alice").unwrap());
    let mut rows = Vec::new();
    for _ in 0..8 {
        for _ in 0..8 {
            world.relay.key_packages(asker, &alice);
        }
        world.open_session(0);
        world.run();
        rows.push(world.peers[0].engine.journal.keys(b"mk").count());
    }
    assert_eq!(rows[rows.len() - 1], rows[rows.len() - 2]);
    assert!(rows[rows.len() - 1] <= 44, "{rows:?}");
    // The last resort serves when nothing else is left.
    for _ in 0..40 {
        world.relay.key_packages(asker, &alice);
    }
    let id = world.talk(&[1, 0]);
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn errors_of_the_moment_keep_the_request() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let outgoing = world.send(0, id, "patient");
    let engine = &mut world.peers[0].engine;
    for (code, detail, seconds) in [(ErrorCode::Busy, 7, 7), (ErrorCode::StorageFailed, 0, 30)] {
        let answered = engine.answered(outgoing.number, &refusal(code, detail)).unwrap();
        assert!(matches!(
            answered,
            Answered::Later { number, seconds: wait, error } if (number, wait, error.code) == (outgoing.number, seconds, code)
        ));
        assert_eq!(engine.outbox().unwrap(), std::slice::from_ref(&outgoing));
    }
    let answered = engine.answered(outgoing.number, &refusal(ErrorCode::QueueFull, 0)).unwrap();
    assert!(matches!(answered, Answered::Refused { message: Some(MessageId(_)), .. }));
    assert_eq!(engine.outbox().unwrap(), []);
    world.assert_talks(id, &[0, 1]);

    let outgoing = world.send(0, id, "never sent");
    let engine = &mut world.peers[0].engine;
    engine.withdraw_message(outgoing.number).unwrap();
    assert!(matches!(engine.withdraw_message(outgoing.number), Err(EngineError::NotWaiting(_))));
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn an_invitation_back_replaces_a_group_left_behind() {
    let mut world = World::new(&["alice", "bob", "bob"]);
    let id = world.talk(&[0, 1, 2]);
    let (device, asker, bob) = (world.device(2), world.device(0), UserName::new("bob").unwrap());
    let before = world.relay.queues[&device].len();
    let removed =
        DevicesEntry { user: bob.clone(), added: List::default(), removed: List::new(vec![device]).unwrap() };
    world.relay.push(asker, by_relay(id, removed.into()));
    world.run_one(0);
    world.run_one(0);
    // The device never hears of its removal.
    world.relay.queues.get_mut(&device).unwrap().truncate(before);
    let packages = world.relay.key_packages(asker, &bob);
    world.peers[0].engine.add_devices(id, &bob, &packages).unwrap().unwrap();
    world.run();
    assert!(world.peers[2].events.contains(&Event::Joined { conversation: id }));
    world.crash(2);
    world.assert_talks(id, &[0, 1, 2]);
}

#[test]
fn a_failing_store_changes_nothing() {
    let mut world = World::new(&["alice", "bob"]);
    let second = world.add("bob");
    let id = world.open_direct(&[0, 1, second]);
    let packages = world.packages(0, id);
    world.failing(0, |engine| engine.create_group(id, &packages));
    world.flush_failing(0);
    for peer in [1, second] {
        world.deliver_failing(peer);
    }
    world.run();

    let envelope = world.envelope("text");
    world.failing(0, |engine| engine.send(id, &envelope));
    world.flush_failing(0);
    world.deliver_failing(1);
    assert_eq!(world.read(1), ["text"]);

    world.failing(1, |engine| engine.self_update(id));
    world.flush_failing(1);
    world.deliver_failing(0);

    let third = world.add("alice");
    world.open_direct(&[third, 1]);
    let group = world.relay.fetch_group(id).unwrap();
    world.failing(third, |engine| engine.join_external(id, &group)).unwrap();
    world.flush_failing(third);
    world.deliver_failing(1);
    world.run();

    world.failing(0, |engine| engine.upload_key_packages());
    world.failing(0, |engine| engine.pin(&UserName::new("dave").unwrap(), &PublicKey([1; 32])));
    world.assert_talks(id, &[0, 1, second, third]);
}

/// Prints what the agent writes; `cargo test -p qpc-client -- --nocapture agent`.
#[test]
fn the_agent_writes_little() {
    for (leaves, budget) in [(2, 3 * 1024), (50, 6 * 1024)] {
        // Ten devices are all an account may have; the relay of the test does not count.
        let users: Vec<&str> = (0..leaves).map(|n| if n == 0 { "alice" } else { "bob" }).collect();
        let mut world = World::new(&users);
        // Only some of them are looked at; the others are there.
        let (writers, reader) = ([0, 1 % (leaves - 1)], leaves - 1);
        let everybody: Vec<usize> = (0..leaves).collect();
        let id = world.open_direct(&everybody);
        world.create_group(0, id);
        for peer in [0, writers[1], reader] {
            world.run_one(peer);
        }
        let written = |world: &World, peer: usize| world.peers[peer].disk.written() as usize;
        for _ in 0..4 {
            world.peers[0].engine.self_update(id).unwrap();
            let before = (written(&world, 0), written(&world, reader));
            world.flush(0);
            world.deliver(writers[1]);
            world.deliver(reader);
            println!(
                "{leaves} leaves: a commit writes {} bytes, and to accept it {} where it was made",
                written(&world, reader) - before.1,
                written(&world, 0) - before.0,
            );
        }
        let (mut sent, mut received) = (0, 0);
        for n in 0..100 {
            let sender = writers[n % 2];
            let before = (written(&world, sender), written(&world, reader));
            world.send(sender, id, "message of a usual length, as people write them");
            world.flush(sender);
            world.deliver(reader);
            sent += written(&world, sender) - before.0;
            received += written(&world, reader) - before.1;
        }
        println!(
            "{leaves} leaves: {} bytes for a sent message, {} for a received one",
            sent / 100,
            received / 100
        );
        assert!(received / 100 < budget);
    }
}

#[test]
fn a_journal_belongs_to_one_account() {
    let disk = disk::Disk::default();
    assert!(matches!(disk::open(&disk), Err(EngineError::NoAccount)));
    let world = World::new(&["alice"]);
    let entropy = crate::mls::SystemEntropy::new();
    let device = DeviceSecret::generate(&entropy).unwrap();
    let certificate = device.certify(&UserName::new("alice").unwrap(), world.identity("alice"));
    let journal = disk::journal(&world.peers[0].disk);
    assert!(matches!(
        Engine::create(journal, Arc::new(entropy), device, certificate),
        Err(EngineError::AccountExists)
    ));
}

#[test]
fn a_damaged_group_is_joined_anew() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    world.assert_talks(id, &[0, 1]);
    for lost in [false, true] {
        let journal = &mut world.peers[1].engine.journal;
        let key = message_secrets_key(&config::group_id(&id)).unwrap();
        let key = [b"m".as_slice(), &key].concat();
        let mut batch = Batch::new();
        match lost {
            true => batch.delete(key),
            false => batch.put(key, *b"garbage"),
        };
        journal.commit(&batch).unwrap();
        world.crash(1);
        world.send(0, id, "unreadable");
        world.run();
        assert!(world.peers[1].events.contains(&Event::Damaged { conversation: id }));
        world.assert_talks(id, &[0, 1]);
        assert_eq!(world.peers[0].engine.members(&id).unwrap().len(), 2);
    }
}

#[test]
fn a_damaged_record_costs_no_other_one() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let damage = |world: &mut World, batch: &mut Batch| {
        world.peers[1].engine.journal.commit(batch).unwrap();
        world.crash(1);
    };
    for text in ["before", "after"] {
        let mut batch = Batch::new();
        batch.push(&[INBOX], *b"garbage").push(&[records::SEEN], *b"garbage");
        damage(&mut world, &mut batch);
        world.send(0, id, text);
        world.run();
    }
    let inbox = world.peers[1].engine.inbox(1).unwrap();
    assert_eq!(inbox[0].body, b"before");
    assert_eq!(world.peers[1].engine.journal.queue(INBOX).unwrap().first_seq, inbox[0].position);
    assert_eq!(world.read(1), ["before", "after"]);

    // A request that waits: it is lost, the next one is not.
    let (lost, kept) = (world.send(1, id, "lost"), world.send(1, id, "kept"));
    let mut batch = Batch::new();
    batch.put(records::key(records::OUTBOX, &lost.number.to_be_bytes()), *b"garbage");
    damage(&mut world, &mut batch);
    assert_eq!(world.peers[1].engine.outbox().unwrap(), [kept]);
    world.crash(1);
    world.run();
    assert_eq!(world.read(0), ["kept"]);

    // The secrets of a group, when the journal is cleaned.
    let mut batch = Batch::new();
    let key = message_secrets_key(&config::group_id(&id)).unwrap();
    batch.put([b"m".as_slice(), &key].concat(), *b"garbage");
    damage(&mut world, &mut batch);
    for hours in [0, 24] {
        world.peers[1].engine.maintain(Duration::from_secs(hours * 3600)).unwrap();
    }
    world.run();
    // Where nothing was to be folded, the next message brings it to light, and is lost.
    world.send(0, id, "perhaps unreadable");
    world.run();
    world.assert_talks(id, &[0, 1]);
}

/// Everything at random, with power cuts and lost answers in between: in the end all are in the same epoch, and every
/// message was read once by everybody else.
#[test]
fn a_random_life_ends_in_agreement() {
    for seed in 1..=12u32 {
        let mut random = seed;
        let mut next = |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        let mut world = World::new(&["alice", "bob", "alice", "bob"]);
        let id = world.talk(&[0, 1, 2, 3]);
        let mut sent: Vec<(usize, String)> = Vec::new();
        let mut read = vec![Vec::new(); 4];
        for step in 0..80 {
            let peer = next(4);
            match next(8) {
                0 | 1 => {
                    let text = format!("{seed} {step}");
                    world.send(peer, id, &text);
                    sent.push((peer, text));
                }
                2 => {
                    world.flush(peer);
                    world.deliver(peer);
                    world.peers[peer].engine.self_update(id).unwrap();
                }
                3 => world.crash(peer),
                4 => {
                    // Answers are lost.
                    for outgoing in world.peers[peer].engine.outbox().unwrap() {
                        world.relay.submit(world.device(peer), &outgoing);
                    }
                    world.crash(peer);
                }
                5 => drop(world.flush(peer)),
                6 => {
                    // What was asked before is answered before anything is delivered.
                    world.flush(peer);
                    world.deliver(peer);
                }
                _ => {
                    read[peer].extend(world.read(peer));
                    world.run_one(peer);
                }
            }
        }
        world.run();
        for (peer, read) in read.iter_mut().enumerate() {
            read.extend(world.read(peer));
            let mut expected: Vec<&String> =
                sent.iter().filter(|(sender, _)| *sender != peer).map(|(_, text)| text).collect();
            expected.sort_unstable();
            read.sort_unstable();
            assert_eq!(read.iter().collect::<Vec<_>>(), expected, "seed {seed}, peer {peer}");
        }
        world.assert_talks(id, &[0, 1, 2, 3]);
    }
}

#[test]
fn an_engine_can_move_to_another_thread() {
    fn sendable<T: Send>(_: &T) {}
    sendable(&World::new(&["alice"]).peers[0].engine);
}

/// A program that is started for each message, and so never sees an hour pass.
#[test]
fn short_lives_keep_clean_at_little_cost() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    let segments = |world: &World| world.peers[1].disk.list().unwrap();
    let before = segments(&world);
    let (mut cleanings, mut cleaned_bytes, mut other_bytes) = (0, 0, 0);
    for n in 0..300 {
        world.send(0, id, &format!("{n}"));
        world.run();
        world.read(1);
        let Peer { disk, engine, .. } = &mut world.peers[1];
        other_bytes += engine.journal.stats().bytes_written;
        *engine = disk::open(disk).unwrap();
        let opened = engine.journal.stats().bytes_written;
        engine.maintain(Duration::ZERO).unwrap();
        let Stats { bytes_written, disk_bytes, live_bytes, .. } = engine.journal.stats();
        cleanings += u32::from(bytes_written > opened);
        cleaned_bytes += bytes_written - opened;
        assert!(disk_bytes < 2 * live_bytes.max(CLEAN_AT), "{disk_bytes} for {live_bytes}");
    }
    println!("{cleanings} cleanings, {cleaned_bytes} bytes, beside {other_bytes}");
    assert!((1..=10).contains(&cleanings) && cleaned_bytes < other_bytes / 2);
    assert!(
        segments(&world).iter().all(|name| !before.contains(name)),
        "what was deleted first is still there"
    );
    world.assert_talks(id, &[0, 1]);
}

#[test]
fn maintenance_ends_chains_of_patches() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    for n in 0..8 {
        world.send(0, id, &n.to_string());
    }
    world.run();
    let patches = |world: &World| world.peers[1].engine.journal.keys(b"d").count();
    assert!(patches(&world) > 0);
    for hours in [0, 12, 24] {
        world.peers[1].engine.maintain(Duration::from_secs(hours * 3600)).unwrap();
    }
    assert_eq!(patches(&world), 0);
    world.assert_talks(id, &[0, 1]);
}
