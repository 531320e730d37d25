//! Conversations, key packages, commits, resync and restore.

use crate::support::*;
use qpc_journal::fault::Disk;
use qpc_proto::id::{ConversationId, DeviceId, UserName};
use qpc_proto::limits::{MAX_KEY_PACKAGES, MAX_PAGE};
use qpc_proto::message::*;
use qpc_proto::wire::{Blob, List, Message};
use qpc_relay::records::MembersRow;
use qpc_relay::store::{Batch, Store};

#[test]
fn two_accounts_have_one_conversation() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut bob = relay.join("bob");
    let made = alice.direct(&mut relay, &bob.user).unwrap();
    assert!(made.created && !made.member && made.epoch == 0);
    assert_eq!(&made.accounts[..], [alice.user.clone(), bob.user.clone()]);
    let found = bob.direct(&mut relay, &alice.user).unwrap();
    assert_eq!(found, Conversation { created: false, ..made.clone() });
    assert_eq!(alice.list(&mut relay)[0].id, made.id);
    let own = alice.user.clone();
    assert_eq!(code(alice.direct(&mut relay, &own)), ErrorCode::Invalid);
    assert_eq!(code(alice.direct(&mut relay, &UserName::new("nobody").unwrap())), ErrorCode::UnknownUser);
    let mut carol = relay.join("carol");
    assert_ne!(carol.direct(&mut relay, &bob.user).unwrap().id, made.id);
    assert_eq!(code(carol.group(&mut relay, made.id)), ErrorCode::UnknownConversation);
    let Reply::User(user) = alice.ask(&mut relay, ResolveUser { user: bob.user.clone() }).unwrap() else {
        panic!()
    };
    assert_eq!((user.identity_key, user.devices), (bob.identity_key(), 1));
}

#[test]
fn conversations_are_listed_in_pages() {
    let mut relay = Relay::with_policy(|policy| policy.bounds.login_by_peer.burst = 1000);
    let mut alice = relay.join("alice");
    let mut made = Vec::new();
    for i in 0..MAX_PAGE + 3 {
        let mut peer = Client::new(&format!("peer{i}"));
        relay.advance(1);
        peer.register(&mut relay, "").unwrap();
        made.push(alice.direct(&mut relay, &peer.user).unwrap().id);
    }
    made.sort();
    let mut listed = Vec::new();
    loop {
        let request = ListConversations { after: listed.last().copied() };
        let Reply::Conversations(page) = alice.ask(&mut relay, request).unwrap() else { panic!() };
        listed.extend(page.conversations.iter().map(|found| found.id));
        if !page.more {
            break;
        }
        assert_eq!(page.conversations.len(), MAX_PAGE);
    }
    assert_eq!(listed, made);
}

#[test]
fn a_key_package_is_leased_once_and_the_last_resort_when_none_is_left() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut carol = relay.join("carol");
    let mut bob = relay.join("bob");
    let bob_name = bob.user.clone();
    let without = alice.fetch(&mut relay, &bob_name).unwrap();
    assert_eq!((without.packages.len(), &without.without[..]), (0, &[bob.device][..]));

    bob.upload(&mut relay, 2, b"last").unwrap();
    let first = alice.fetch(&mut relay, &bob_name).unwrap();
    assert_eq!(first.identity_key, bob.identity_key());
    assert!(alice.last.needs_sync);
    assert_eq!(alice.last.notices, [(bob.device, NoticeKind::KeyPackagesLow)]);
    let written = relay.disk.written();
    assert_eq!(alice.fetch(&mut relay, &bob_name).unwrap(), first, "the same during the lease");
    assert_eq!(relay.disk.written(), written);
    let second = carol.fetch(&mut relay, &bob_name).unwrap();
    assert_ne!(second.packages[0].key_package, first.packages[0].key_package);
    assert_ne!(second.packages[0].lease, 0);

    let mut dave = relay.join("dave");
    let last = dave.fetch(&mut relay, &bob_name).unwrap();
    assert_eq!((&last.packages[0].key_package[..], last.packages[0].lease), (&b"last"[..], 0));
    let session = bob.open(&mut relay).unwrap();
    assert_eq!((session.key_packages, session.last_resort), (0, true));

    // An expired lease burns the package.
    relay.advance(relay.policy.bounds.lease_seconds);
    assert_eq!(alice.fetch(&mut relay, &bob_name).unwrap().packages[0].lease, 0);
    bob.upload(&mut relay, 5, b"").unwrap();
    let third = alice.fetch(&mut relay, &bob_name).unwrap();
    assert!(third.packages[0].lease > second.packages[0].lease);
    assert_eq!(code(alice.fetch(&mut relay, &UserName::new("nobody").unwrap())), ErrorCode::UnknownUser);
}

#[test]
fn own_other_devices_have_key_packages_too() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut second = relay.second(&alice);
    second.upload(&mut relay, 1, b"").unwrap();
    alice.upload(&mut relay, 1, b"").unwrap();
    let name = alice.user.clone();
    let own = alice.fetch(&mut relay, &name).unwrap();
    assert_eq!(own.packages.iter().map(|package| package.device).collect::<Vec<_>>(), [second.device]);
}

#[test]
fn uploads_are_bounded_and_can_replace() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut bob = relay.join("bob");
    bob.upload(&mut relay, MAX_KEY_PACKAGES, b"last").unwrap();
    assert_eq!(code(bob.upload(&mut relay, 1, b"")), ErrorCode::TooLarge);
    let old = alice.fetch(&mut relay, &bob.user).unwrap().packages[0].clone();
    bob.upload(&mut relay, 1, b"").unwrap();
    let replace = UploadKeyPackages {
        replace: true,
        one_time: List::new(vec![bytes(b"new")]).unwrap(),
        last_resort: Blob::default(),
    };
    bob.submit(&mut relay, replace).unwrap();
    let session = bob.open(&mut relay).unwrap();
    assert_eq!((session.key_packages, session.last_resort), (1, false));
    let id = alice.direct(&mut relay, &bob.user).unwrap().id;
    let stale = adding(id, 0, &[(bob.device, old.lease)]);
    assert_eq!(code(alice.submit(&mut relay, stale)), ErrorCode::LeaseInvalid);
    let new = alice.fetch(&mut relay, &bob.user).unwrap().packages[0].clone();
    assert_eq!(&new.key_package[..], b"new");
    alice.submit(&mut relay, adding(id, 0, &[(bob.device, new.lease)])).unwrap();
}

#[test]
fn fetching_is_limited() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let bob = relay.join("bob");
    let refused = (0..200).filter(|_| alice.fetch(&mut relay, &bob.user).is_err()).count();
    assert_eq!(refused, 200 - relay.policy.bounds.fetch_by_device.burst as usize);
}

#[test]
fn a_commit_takes_everything_with_it() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut bob = relay.join("bob");
    let mut second = relay.second(&alice);
    bob.upload(&mut relay, 1, b"").unwrap();
    let id = alice.direct(&mut relay, &bob.user).unwrap().id;
    let lease = alice.fetch(&mut relay, &bob.user).unwrap().packages[0].lease;
    alice.drain(&mut relay);

    let reply = alice.submit(&mut relay, adding(id, 0, &[(bob.device, lease)])).unwrap();
    assert_eq!(reply, Reply::Accepted(Accepted { epoch: 1 }));
    assert!(alice.last.needs_sync);
    let kinds = bob.drain(&mut relay);
    let [EntryKind::Welcome(welcome)] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!((welcome.epoch, &welcome.welcome[..]), (1, &b"welcome"[..]));
    // The device that was left out is told to join, once.
    let kinds = second.drain(&mut relay);
    assert!(matches!(kinds[..], [EntryKind::Join(_)]), "{kinds:?}");
    assert!(alice.drain(&mut relay).is_empty());

    let group = second.group(&mut relay, id).unwrap();
    assert_eq!((group.epoch, &group.group_info[..]), (1, &b"info 1"[..]));
    assert_eq!(group.tree, tree(3, &[(0, "leaf"), (1, "root")]));
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    for client in [&mut alice, &mut bob] {
        let kinds = client.drain(&mut relay);
        let [EntryKind::Commit(commit)] = &kinds[..] else { panic!("{kinds:?}") };
        assert_eq!(commit.epoch, 1);
        assert!(client.list(&mut relay)[0].member);
    }
    assert!(second.drain(&mut relay).is_empty(), "who joins gets what comes after");
    assert_eq!(bob.send(&mut relay, id, 2, "all").unwrap().devices, 2);
    // The lease is used up.
    let again = SubmitCommit {
        removed: List::new(vec![bob.device]).unwrap(),
        ..adding(id, 2, &[(bob.device, lease)])
    };
    assert_eq!(code(alice.submit(&mut relay, again)), ErrorCode::LeaseInvalid);
    assert_eq!(relay.service.counters().commits, 2);
}

#[test]
fn one_of_two_commits_wins_and_nothing_of_the_other_is_seen() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut second = relay.second(&alice);
    let mut third = relay.second(&bob);
    second.upload(&mut relay, 1, b"").unwrap();
    third.upload(&mut relay, 2, b"").unwrap();
    let own = alice.user.clone();
    let lease = |client: &mut Client, relay: &mut Relay, user: &UserName, device: DeviceId| {
        let packages = client.fetch(relay, user).unwrap().packages;
        packages.iter().find(|package| package.device == device).unwrap().lease
    };
    let winning = lease(&mut alice, &mut relay, &own, second.device);
    let losing = lease(&mut alice, &mut relay, &bob.user.clone(), third.device);
    let losing_too = lease(&mut bob, &mut relay, &third.user.clone(), third.device);
    assert_ne!(losing, losing_too);
    for client in [&mut alice, &mut bob, &mut second, &mut third] {
        client.drain(&mut relay);
    }

    alice.submit(&mut relay, adding(id, 1, &[(second.device, winning)])).unwrap();
    let loser = SubmitCommit { group_info: bytes(b"losing"), ..adding(id, 1, &[(third.device, losing_too)]) };
    let error = bob.submit(&mut relay, loser).unwrap_err();
    assert_eq!((error.code, error.detail), (ErrorCode::WrongEpoch, 2));
    assert_eq!(bob.last.wake, []);
    let kinds = third.drain(&mut relay);
    assert!(matches!(kinds[..], [EntryKind::Join(_)]), "no Welcome of the loser's: {kinds:?}");
    let kinds = second.drain(&mut relay);
    assert!(matches!(kinds[..], [EntryKind::Welcome(_)]), "{kinds:?}");
    assert_eq!(&bob.group(&mut relay, id).unwrap().group_info[..], b"info 2");
    assert_eq!(relay.service.counters().commit_conflicts, 1);
}

#[test]
fn who_may_commit_and_what() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut carol = relay.join("carol");
    let mut second = relay.second(&alice);
    second.upload(&mut relay, 3, b"").unwrap();
    let own = alice.user.clone();
    let lease = bob
        .fetch(&mut relay, &own)
        .unwrap()
        .packages
        .iter()
        .find(|p| p.device == second.device)
        .unwrap()
        .lease;
    let none = || List::new(Vec::new()).unwrap();
    let only = |device: DeviceId| List::new(vec![device]).unwrap();

    assert_eq!(code(carol.submit(&mut relay, commit(id, 1))), ErrorCode::UnknownConversation);
    assert_eq!(code(carol.submit(&mut relay, external(id, 1, carol.device))), ErrorCode::UnknownConversation);
    assert_eq!(code(second.submit(&mut relay, commit(id, 1))), ErrorCode::NotMember);
    let stranger = adding(id, 1, &[(carol.device, 0)]);
    assert_eq!(code(alice.submit(&mut relay, stranger)), ErrorCode::Invalid);
    let unknown = adding(id, 1, &[(DeviceId([9; 16]), 0)]);
    assert_eq!(code(alice.submit(&mut relay, unknown)), ErrorCode::UnknownDevice);
    let foreign_lease = adding(id, 1, &[(second.device, lease)]);
    assert_eq!(code(alice.submit(&mut relay, foreign_lease)), ErrorCode::LeaseInvalid);

    let (own_device, bobs, seconds) = (alice.device, bob.device, second.device);
    for bad in [
        SubmitCommit { commit: Blob::default(), ..commit(id, 1) },
        SubmitCommit { group_info: Blob::default(), ..commit(id, 1) },
        SubmitCommit { welcome: bytes(b"w"), ..commit(id, 1) },
        SubmitCommit { welcome: Blob::default(), ..adding(id, 1, &[(seconds, 0)]) },
        adding(id, 1, &[(own_device, 0)]),
        adding(id, 1, &[(bobs, 0)]),
        adding(id, 1, &[(seconds, 0), (seconds, 0)]),
        SubmitCommit { removed: only(own_device), ..commit(id, 1) },
        SubmitCommit { external: true, ..commit(id, 1) },
        external(id, 1, seconds),
        SubmitCommit { removed: only(bobs), ..external(id, 1, own_device) },
        SubmitCommit { tree: tree(2, &[]), ..commit(id, 1) },
        SubmitCommit { tree: tree(0, &[]), ..commit(id, 1) },
        SubmitCommit { tree: tree(3, &[(3, "x")]), ..commit(id, 1) },
        SubmitCommit { tree: tree(3, &[(1, "x"), (1, "y")]), ..commit(id, 1) },
        SubmitCommit { tree: tree(513, &[]), ..commit(id, 1) },
        SubmitCommit { tree: tree(70001, &[(65536, "x")]), ..commit(id, 1) },
    ] {
        assert_eq!(code(alice.submit(&mut relay, bad.clone())), ErrorCode::Invalid, "{bad:?}");
    }
    assert_eq!(code(alice.submit(&mut relay, commit(id, 0))), ErrorCode::WrongEpoch);
    assert_eq!(code(alice.submit(&mut relay, commit(id, 2))), ErrorCode::WrongEpoch);
    // A lease that has expired meanwhile.
    let good = adding(id, 1, &[(second.device, lease)]);
    relay.advance(relay.policy.bounds.lease_seconds);
    assert_eq!(code(bob.submit(&mut relay, good)), ErrorCode::LeaseInvalid);
    alice
        .submit(
            &mut relay,
            SubmitCommit { added: List::new(vec![]).unwrap(), removed: none(), ..commit(id, 1) },
        )
        .unwrap();
    // The first commit of a group must not be an external one.
    let other = carol.direct(&mut relay, &bob.user).unwrap().id;
    assert_eq!(code(carol.submit(&mut relay, external(other, 0, carol.device))), ErrorCode::Invalid);
}

#[test]
fn the_tree_changes_node_by_node() {
    let mut relay = Relay::new();
    let (mut alice, _bob, id) = pair(&mut relay);
    let step = |relay: &mut Relay, alice: &mut Client, epoch, change| {
        alice.submit(relay, SubmitCommit { tree: change, ..commit(id, epoch) }).unwrap();
        alice.group(relay, id).unwrap().tree
    };
    let grown = step(&mut relay, &mut alice, 1, tree(7, &[(2, "b"), (4, "c"), (6, "d"), (5, "p")]));
    assert_eq!(grown, tree(7, &[(0, "leaf"), (1, "root"), (2, "b"), (4, "c"), (5, "p"), (6, "d")]));
    let blank = step(&mut relay, &mut alice, 2, tree(7, &[(5, ""), (2, "B"), (3, "")]));
    assert_eq!(blank, tree(7, &[(0, "leaf"), (1, "root"), (2, "B"), (4, "c"), (6, "d")]));
    let shrunk = step(&mut relay, &mut alice, 3, tree(3, &[(1, "r")]));
    assert_eq!(shrunk, tree(3, &[(0, "leaf"), (1, "r"), (2, "B")]));

    relay.policy.bounds.max_tree = 0;
    let written = relay.disk.written();
    step(&mut relay, &mut alice, 4, tree(3, &[]));
    assert!(relay.disk.written() - written < 600, "{}", relay.disk.written() - written);
}

#[test]
fn a_tree_that_would_not_fit_into_an_answer_is_refused() {
    let mut relay = Relay::with_policy(|policy| policy.bounds.max_tree = 10_000);
    let (mut alice, _bob, id) = pair(&mut relay);
    let node = "x".repeat(4000);
    let change = |index| tree(7, &[(index, &node[..])]);
    for (epoch, index) in [(1, 2), (2, 4), (3, 4), (4, 2)] {
        alice.submit(&mut relay, SubmitCommit { tree: change(index), ..commit(id, epoch) }).unwrap();
    }
    let large = SubmitCommit { tree: change(6), ..commit(id, 5) };
    assert_eq!(code(alice.submit(&mut relay, large)), ErrorCode::TooLarge);
    let swap = tree(7, &[(2, ""), (6, &node[..])]);
    alice.submit(&mut relay, SubmitCommit { tree: swap, ..commit(id, 5) }).unwrap();
}

#[test]
fn removed_devices_learn_it_and_get_nothing_more() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut second = relay.second(&bob);
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    for client in [&mut alice, &mut bob, &mut second] {
        client.drain(&mut relay);
    }
    let removal = SubmitCommit { removed: List::new(vec![second.device]).unwrap(), ..commit(id, 2) };
    alice.submit(&mut relay, removal).unwrap();
    let kinds = second.drain(&mut relay);
    assert!(matches!(kinds[..], [EntryKind::Commit(_)]), "put out, not asked back in: {kinds:?}");
    assert_eq!(code(second.send(&mut relay, id, 3, "x")), ErrorCode::NotMember);
    alice.send(&mut relay, id, 3, "x").unwrap();
    assert!(second.drain(&mut relay).is_empty());
    assert_eq!(bob.drain(&mut relay).len(), 2);
    // It may join again, and again in the place of its own leaf.
    second.submit(&mut relay, external(id, 3, second.device)).unwrap();
    let own = List::new(vec![second.device]).unwrap();
    second.submit(&mut relay, SubmitCommit { removed: own, ..external(id, 4, second.device) }).unwrap();
    assert_eq!(alice.send(&mut relay, id, 5, "x").unwrap().devices, 2);
}

#[test]
fn a_revoked_device_leaves_everything_at_once() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut second = relay.second(&bob);
    second.upload(&mut relay, 5, b"last").unwrap();
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    for client in [&mut alice, &mut bob] {
        client.drain(&mut relay);
    }
    assert_eq!(code(bob.submit(&mut relay, RevokeDevice { device: alice.device })), ErrorCode::UnknownDevice);

    bob.submit(&mut relay, RevokeDevice { device: second.device }).unwrap();
    assert_eq!(bob.last.notices, [(second.device, NoticeKind::Revoked)]);
    assert!(!bob.last.close);
    let [EntryKind::Devices(devices)] = &alice.drain(&mut relay)[..] else { panic!() };
    assert_eq!((&devices.user, &devices.removed[..]), (&bob.user, &[second.device][..]));
    let kinds = bob.drain(&mut relay);
    assert!(
        matches!(kinds[..], [EntryKind::Devices(_), EntryKind::Devices(_)]),
        "own, and the group's: {kinds:?}"
    );
    assert_eq!(code(second.ask(&mut relay, ListDevices {})), ErrorCode::NotAuthenticated);
    assert_eq!(code(second.open(&mut relay)), ErrorCode::AuthFailed);
    assert!(alice.fetch(&mut relay, &bob.user).unwrap().packages.iter().all(|p| p.device == bob.device));
    assert_eq!(alice.send(&mut relay, id, 2, "x").unwrap().devices, 1);
    // A member commits the removal of the leaf.
    let removal = SubmitCommit { removed: List::new(vec![second.device]).unwrap(), ..commit(id, 2) };
    alice.submit(&mut relay, removal).unwrap();

    bob.submit(&mut relay, RevokeDevice { device: bob.device }).unwrap();
    assert!(bob.last.close);
    assert_eq!(relay.service.summary().devices, 1);
    assert_eq!(code(bob.open(&mut relay)), ErrorCode::AuthFailed);
}

#[test]
fn a_dead_device_does_not_block_its_group() {
    let mut relay = Relay::with_policy(|policy| policy.queue_messages = 2);
    let (mut alice, mut bob, id) = pair(&mut relay);
    relay.service.session_closed(&bob.caller);
    for epoch in 1..20 {
        alice.submit(&mut relay, commit(id, epoch)).unwrap();
    }
    bob.open(&mut relay).unwrap();
    let kinds = bob.drain(&mut relay);
    let commits = kinds.iter().filter(|kind| matches!(kind, EntryKind::Commit(_))).count();
    assert_eq!(commits as u64, 2 * relay.policy.bounds.handshake_reserve);
    assert!(matches!(kinds.last(), Some(EntryKind::Refused(_))), "{kinds:?}");
    assert!(!bob.list(&mut relay)[0].member);
    let own = List::new(vec![bob.device]).unwrap();
    bob.submit(&mut relay, SubmitCommit { removed: own, ..external(id, 20, bob.device) }).unwrap();
    assert_eq!(alice.send(&mut relay, id, 21, "x").unwrap().devices, 1);
}

#[test]
fn a_commit_nobody_can_process_is_reported_and_the_group_restored() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    bob.submit(&mut relay, SubmitCommit { commit: bytes(b"garbage"), ..commit(id, 1) }).unwrap();
    let report = |epoch| ReportCommit { conversation: id, epoch };
    let early = restore(id, 1, &[&alice, &bob]);
    assert_eq!(code(alice.submit(&mut relay, early.clone())), ErrorCode::WrongEpoch);
    for wrong in [0, 2, u64::MAX] {
        assert_eq!(code(alice.ask(&mut relay, report(wrong))), ErrorCode::WrongEpoch);
    }
    alice.drain(&mut relay);
    alice.ask(&mut relay, report(1)).unwrap();
    alice.ask(&mut relay, report(1)).unwrap();
    for client in [&mut alice, &mut bob] {
        let kinds = client.drain(&mut relay);
        assert!(matches!(kinds[..], [EntryKind::Resync(ResyncEntry { epoch: 1 })]), "once: {kinds:?}");
        assert!(client.list(&mut relay)[0].resync);
    }
    let ahead = restore(id, 3, &[&alice, &bob]);
    let reply = alice.submit(&mut relay, early).unwrap();
    assert_eq!(reply, Reply::Accepted(Accepted { epoch: 1 }));
    assert!(!alice.list(&mut relay)[0].resync);
    alice.submit(&mut relay, commit(id, 1)).unwrap();
    assert_eq!(bob.drain(&mut relay).len(), 1);

    // A new commit ends a resync too.
    alice.ask(&mut relay, report(1)).unwrap();
    bob.submit(&mut relay, commit(id, 2)).unwrap();
    assert!(!bob.list(&mut relay)[0].resync);
    assert_eq!(code(alice.submit(&mut relay, ahead)), ErrorCode::WrongEpoch);
    let mut carol = relay.join("carol");
    assert_eq!(code(carol.ask(&mut relay, report(2))), ErrorCode::UnknownConversation);
    let mut second = relay.second(&alice);
    assert_eq!(code(second.ask(&mut relay, report(2))), ErrorCode::NotMember);
}

#[test]
fn a_device_put_out_by_a_commit_may_report_it() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let removal = SubmitCommit { removed: List::new(vec![bob.device]).unwrap(), ..commit(id, 1) };
    alice.submit(&mut relay, removal).unwrap();
    bob.ask(&mut relay, ReportCommit { conversation: id, epoch: 1 }).unwrap();
}

#[test]
fn members_give_a_lost_store_its_groups_back() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut second = relay.second(&bob);
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    let group = alice.group(&mut relay, id).unwrap();
    // A new store: the accounts register again, and bob began a conversation nobody has used.
    relay.restart(Disk::new());
    for client in [&mut alice, &mut bob] {
        client.connect();
        client.register(&mut relay, "").unwrap();
        client.enrol(&mut relay).unwrap();
        client.number = 0;
    }
    let unused = bob.direct(&mut relay, &alice.user).unwrap().id;
    assert_ne!(unused, id);
    let mut carol = relay.join("carol");

    let good = RestoreGroup {
        group_info: group.group_info.clone(),
        tree: group.tree.clone(),
        ..restore(id, 2, &[&alice, &bob, &second])
    };
    let without = |accounts: &[&Client]| {
        List::new(accounts.iter().map(|client| client.user.clone()).collect()).unwrap()
    };
    let devices =
        |clients: &[&Client]| List::new(clients.iter().map(|client| client.device).collect()).unwrap();
    for bad in [
        RestoreGroup { epoch: 0, ..good.clone() },
        RestoreGroup { epoch: u64::MAX, ..good.clone() },
        RestoreGroup { accounts: without(&[&bob, &carol]), ..good.clone() },
        RestoreGroup { accounts: without(&[&alice]), ..good.clone() },
        RestoreGroup { members: devices(&[&bob]), ..good.clone() },
        RestoreGroup { members: devices(&[&alice, &carol]), ..good.clone() },
        RestoreGroup { group_info: Blob::default(), ..good.clone() },
        RestoreGroup { tree: tree(4, &[]), ..good.clone() },
    ] {
        assert_eq!(code(alice.submit(&mut relay, bad.clone())), ErrorCode::Invalid, "{bad:?}");
    }
    let nobody = List::new(vec![alice.user.clone(), UserName::new("nobody").unwrap()]).unwrap();
    let bad = RestoreGroup { accounts: nobody, ..good.clone() };
    assert_eq!(code(alice.submit(&mut relay, bad)), ErrorCode::UnknownUser);
    assert_eq!(relay.service.summary().conversations, 1);

    alice.submit(&mut relay, good).unwrap();
    assert_eq!(bob.group(&mut relay, id).unwrap(), group);
    assert_eq!(bob.direct(&mut relay, &alice.user).unwrap().id, id, "the unused one gave way");
    assert_eq!(relay.service.summary().conversations, 1);
    assert_eq!(bob.list(&mut relay).len(), 1);
    assert!(bob.list(&mut relay)[0].member);
    assert_eq!(alice.send(&mut relay, id, 2, "on").unwrap().devices, 1);
    // The device that was not there yet joins anew.
    second.connect();
    second.login(&mut relay).unwrap();
    second.enrol(&mut relay).unwrap();
    second.number = 0;
    assert!(!second.list(&mut relay)[0].member);
    second.submit(&mut relay, external(id, 2, second.device)).unwrap();
    assert_eq!(code(carol.submit(&mut relay, restore(id, 9, &[&carol]))), ErrorCode::UnknownConversation);
}

#[test]
fn a_damaged_conversation_is_given_back() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    for damaged in [&b"\x0a\x05alice\x0a\x03bob"[..], b"leaf"] {
        // Something behind it: otherwise it would pass for the torn end of the log.
        alice.send(&mut relay, id, 1, "x").unwrap();
        let mut files = relay.disk.files();
        for bytes in files.values_mut() {
            let found = bytes.windows(damaged.len()).rposition(|window| window == damaged);
            if let Some(at) = found {
                bytes[at + 3] ^= 1;
            }
        }
        relay.restart(Disk::with_files(&files));
        alice.open(&mut relay).unwrap();
        bob.open(&mut relay).unwrap();
        if damaged == b"leaf" {
            alice.submit(&mut relay, commit(id, 1)).unwrap();
        } else {
            assert_eq!(code(bob.group(&mut relay, id)), ErrorCode::UnknownConversation);
            alice.submit(&mut relay, restore(id, 1, &[&alice, &bob])).unwrap();
            assert!(bob.list(&mut relay)[0].member);
        }
        assert_eq!(bob.group(&mut relay, id).unwrap().tree.nodes[0].node, bytes(b"leaf"));
        assert_eq!(bob.direct(&mut relay, &alice.user).unwrap().id, id);
    }
}

#[test]
fn a_store_that_went_back_is_brought_forward() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut second = relay.second(&bob);
    let backup = relay.disk.files();
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    alice.submit(&mut relay, commit(id, 2)).unwrap();
    relay.restart(Disk::with_files(&backup));
    alice.open_knowing(&mut relay, alice.number, 0).unwrap();
    assert_eq!(alice.list(&mut relay)[0].epoch, 1);
    alice.submit(&mut relay, restore(id, 3, &[&alice, &bob])).unwrap();
    assert_eq!(alice.list(&mut relay)[0].epoch, 3);
    second.open(&mut relay).unwrap();
    let kinds = second.drain(&mut relay);
    assert!(matches!(kinds[..], [EntryKind::Join(_)]), "{kinds:?}");
    let mut carol = relay.join("carol");
    assert_eq!(code(carol.submit(&mut relay, restore(id, 9, &[&carol]))), ErrorCode::UnknownConversation);
    let invade = RestoreGroup {
        accounts: List::new(vec![alice.user.clone(), bob.user.clone(), carol.user.clone()]).unwrap(),
        ..restore(id, 9, &[&alice, &bob])
    };
    assert_eq!(code(alice.submit(&mut relay, invade)), ErrorCode::Invalid, "direct stays between two");
    bob.open(&mut relay).unwrap();
}

#[test]
fn a_group_of_several_accounts_can_be_restored_and_grow() {
    let mut relay = Relay::new();
    let mut clients: Vec<Client> = ["alice", "bob", "carol"].map(|name| relay.join(name)).into();
    let mut dave = relay.join("dave");
    let id = ConversationId([3; 16]);
    let all: Vec<&Client> = clients.iter().collect();
    let request = restore(id, 5, &all);
    clients[0].submit(&mut relay, request).unwrap();
    assert_eq!(clients[0].send(&mut relay, id, 5, "x").unwrap().devices, 2);
    let more: Vec<&Client> = clients.iter().chain([&dave]).collect();
    let request = restore(id, 6, &more);
    clients[1].submit(&mut relay, request).unwrap();
    assert_eq!(dave.list(&mut relay).len(), 1);
    assert_eq!(dave.send(&mut relay, id, 6, "x").unwrap().devices, 3);
    let between = clients[0].user.clone();
    assert!(clients[1].direct(&mut relay, &between).unwrap().created, "a group is no direct conversation");
}

#[test]
fn one_body_serves_all_queues() {
    let mut relay = Relay::with_policy(|policy| {
        policy.bounds.login_global.burst = 1000;
        policy.bounds.login_by_peer.burst = 1000;
    });
    let mut clients: Vec<Client> = (0..30).map(|i| relay.join(&format!("user{i}"))).collect();
    let id = ConversationId([3; 16]);
    let request = restore(id, 1, &clients.iter().collect::<Vec<_>>());
    clients[0].submit(&mut relay, request).unwrap();
    let written = relay.disk.written();
    let text = "x".repeat(10_000);
    assert_eq!(clients[0].send(&mut relay, id, 1, &text).unwrap().devices, 29);
    assert!(relay.disk.written() - written < 11_000, "{}", relay.disk.written() - written);
}

fn restore(id: ConversationId, epoch: u64, members: &[&Client]) -> RestoreGroup {
    let mut accounts: Vec<UserName> = members.iter().map(|client| client.user.clone()).collect();
    accounts.sort();
    accounts.dedup();
    RestoreGroup {
        conversation: id,
        epoch,
        members: List::new(members.iter().map(|client| client.device).collect()).unwrap(),
        accounts: List::new(accounts).unwrap(),
        group_info: bytes(b"restored"),
        tree: tree(3, &[(0, "leaf")]),
    }
}

/// Prints what one commit writes; `cargo test -p qpc-relay --test service -- --nocapture writes`.
#[test]
fn a_commit_writes_little() {
    // What openmls makes of a commit without proposals where every other member was added by one commit, so that each has a share in
    // it of its own; and of the parts of a GroupInfo and of a ratchet tree.
    const GROUP_INFO: usize = 245;
    const LEAF: usize = 310;
    const PARENT: usize = 80;
    for (leaves, commit_size, path, budget) in
        [(2, 623, 1, 4 * 1024), (50, 4734, 6, 12 * 1024), (250, 21_208, 8, 40 * 1024)]
    {
        let mut relay = Relay::new();
        let (mut alice, mut bob, id) = pair(&mut relay);
        // The rest of the group are devices that are never here.
        let row = MembersRow { members: List::new((1..=leaves).collect()).unwrap(), told: List::default() };
        let mut batch = Batch::default();
        batch.put([b"m", &id.0[..]].concat(), row.encode());
        relay.service.store_mut().apply(batch).unwrap();
        let nodes = |n: usize| {
            let nodes = (0..=path).map(|node| TreeNode {
                index: node,
                node: bytes(&vec![n as u8; if node == 0 { LEAF } else { PARENT }]),
            });
            Tree { width: 2 * leaves - 1, nodes: List::new(nodes.collect()).unwrap() }
        };
        let mut written = Vec::new();
        for n in 0..10 {
            relay.sync();
            let before = relay.disk.written();
            let request = SubmitCommit {
                commit: bytes(&vec![n as u8; commit_size]),
                group_info: bytes(&[n as u8; GROUP_INFO]),
                tree: nodes(n),
                ..commit(id, n as u64 + 1)
            };
            alice.submit(&mut relay, request).unwrap();
            bob.drain(&mut relay);
            relay.sync();
            written.push(relay.disk.written() - before);
        }
        let mean = written.iter().sum::<u64>() / 10;
        println!("{leaves} leaves: {mean} bytes written by a commit of {commit_size}, at most {budget}");
        assert!(mean < budget, "{leaves} leaves: {written:?}");
    }
}
