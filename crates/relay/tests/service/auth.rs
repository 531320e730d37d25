//! Accounts, logins, devices and sessions.

use crate::support::*;
use qpc_proto::id::{DeviceId, Generation, UserName};
use qpc_proto::limits::MAX_DEVICES;
use qpc_proto::message::*;
use qpc_relay::service::{AdminReply, AdminRequest, Origin};
use std::net::IpAddr;

#[test]
fn hello_says_what_the_relay_is() {
    let mut relay = Relay::with_policy(|policy| policy.registration = Registration::Invite);
    let mut client = Client::new("alice");
    let hello = |min_version, max_version| Hello { min_version, max_version, software: Default::default() };
    let Reply::Hello(reply) = client.ask(&mut relay, hello(1, 7)).unwrap() else { panic!() };
    assert_eq!(reply.version, 1);
    assert_eq!(reply.generation, relay.service.generation());
    assert_eq!(reply.registration, Registration::Invite);
    assert_eq!((reply.time, reply.idle_seconds), (1_800_000_000, 120));
    assert_eq!(code(client.ask(&mut relay, hello(2, 3))), ErrorCode::UnsupportedVersion);
    relay.now.wall = None;
    let Reply::Hello(reply) = client.ask(&mut relay, hello(1, 1)).unwrap() else { panic!() };
    assert_eq!(reply.time, 0);
}

#[test]
fn a_new_account_logs_in_and_gets_its_secrets_back() {
    let mut relay = Relay::new();
    let mut alice = Client::new("alice");
    alice.register(&mut relay, "").unwrap();
    assert!(alice.last.needs_sync);
    assert!(alice.caller.authenticated() && alice.caller.device().is_none());
    let session = alice.enrol(&mut relay).unwrap();
    assert_eq!((session.device, session.last_number, session.next_delivery), (alice.device, 0, 1));
    assert_eq!((session.key_packages, session.last_resort), (0, false));
    assert_eq!(alice.last.opened, Some(alice.device));

    let mut again = alice.other_device();
    let account = again.login(&mut relay).unwrap();
    assert_eq!(account.identity_key, alice.identity_key());
    assert_eq!(&account.sealed_identity[..], b"sealed");
    assert_eq!(account.devices.len(), 1);
    assert_eq!((account.devices[0].device, &account.devices[0].state_slot[..]), (alice.device, &b"slot"[..]));
}

#[test]
fn a_name_is_taken_once() {
    let mut relay = Relay::new();
    relay.join("alice");
    assert_eq!(code(Client::new("alice").register(&mut relay, "")), ErrorCode::NameTaken);

    // Two at once: the first to finish has it.
    let (mut one, mut two) = (Client::new("bob"), Client::new("bob"));
    let first = one.register_half(&mut relay, "").unwrap();
    let second = two.register_half(&mut relay, "").unwrap();
    one.ask(&mut relay, first).unwrap();
    assert_eq!(code(two.ask(&mut relay, second)), ErrorCode::NameTaken);
}

#[test]
fn an_identity_key_must_be_proven_on_this_connection() {
    let mut relay = Relay::new();
    let mut alice = Client::new("alice");
    let mut finish = alice.register_half(&mut relay, "").unwrap();
    finish.proof = Client::new("alice").proof();
    assert_eq!(code(alice.ask(&mut relay, finish)), ErrorCode::AuthFailed);
    assert_eq!(relay.service.summary().accounts, 0);
    let mut bob = Client::new("bob");
    let finish = alice.register_half(&mut relay, "").unwrap();
    assert_eq!(code(bob.ask(&mut relay, finish)), ErrorCode::Invalid);
}

#[test]
fn an_invite_is_good_for_one_account_and_a_while() {
    let mut relay = Relay::with_policy(|policy| policy.registration = Registration::Invite);
    let invite = |relay: &mut Relay| match relay.service.admin(relay.now, AdminRequest::Invite).0 {
        AdminReply::Invite { code, .. } => code,
        other => panic!("{other:?}"),
    };
    for wrong in ["", "nonsense"] {
        assert_eq!(code(Client::new("alice").register(&mut relay, wrong)), ErrorCode::InviteInvalid);
    }
    let good = invite(&mut relay);
    // Two begin with the same code: one gets in.
    let (mut alice, mut bob) = (Client::new("alice"), Client::new("bob"));
    let first = alice.register_half(&mut relay, &good).unwrap();
    let second = bob.register_half(&mut relay, &good).unwrap();
    alice.ask(&mut relay, first).unwrap();
    assert_eq!(code(bob.ask(&mut relay, second)), ErrorCode::InviteInvalid);
    // Without a valid code nobody learns that the name is taken.
    assert_eq!(code(Client::new("alice").register(&mut relay, &good)), ErrorCode::InviteInvalid);

    let old = invite(&mut relay);
    relay.advance(relay.policy.invite_ttl);
    assert_eq!(code(Client::new("carol").register(&mut relay, &old)), ErrorCode::InviteInvalid);
    let disk = relay.disk.files();
    assert!(!disk.values().any(|file| contains(file, good.as_bytes()) || contains(file, old.as_bytes())));
}

#[test]
fn registration_can_be_closed_and_full() {
    let mut relay = Relay::with_policy(|policy| policy.max_accounts = 1);
    relay.join("alice");
    assert_eq!(code(Client::new("bob").register(&mut relay, "")), ErrorCode::RegistrationClosed);
    let mut relay = Relay::with_policy(|policy| policy.registration = Registration::Closed);
    assert_eq!(code(Client::new("bob").register(&mut relay, "")), ErrorCode::RegistrationClosed);
}

#[test]
fn wrong_password_unknown_user_and_foreign_connection_look_the_same() {
    let mut relay = Relay::new();
    let alice = relay.join("alice");
    let mut wrong = alice.other_device();
    wrong.password = b"wrong".to_vec();
    let mut unknown = Client::new("nobody");
    let mut answers = Vec::new();
    for client in [&mut wrong, &mut unknown] {
        let (_, reply) = client.login_start(&mut relay).unwrap();
        let finish = LoginFinish { finalization: bytes(&[7; 64]) };
        answers.push((reply.response.len(), client.ask(&mut relay, finish).unwrap_err()));
        assert_eq!(code(client.login(&mut relay)), ErrorCode::AuthFailed);
        assert!(!client.caller.authenticated());
    }
    assert_eq!(answers[0], answers[1]);

    // Somebody in between: the client's exporter is that of another connection.
    let mut between = alice.other_device();
    let exporter = between.exporter;
    between.exporter = [9; 32];
    assert_eq!(code(between.login(&mut relay)), ErrorCode::AuthFailed);
    between.exporter = exporter;
    between.login(&mut relay).unwrap();
}

#[test]
fn the_profile_of_an_unknown_user_is_stable_and_either() {
    let mut relay = Relay::with_policy(no_limits);
    let mut seen = [0; 2];
    for i in 0..40 {
        let mut nobody = Client::new(&format!("nobody{i}"));
        let first = nobody.login_start(&mut relay).unwrap().1.ksf;
        assert_eq!(nobody.login_start(&mut relay).unwrap().1.ksf, first);
        seen[u32::from(first) as usize] += 1;
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

#[test]
fn a_ke3_works_once() {
    let mut relay = Relay::new();
    let alice = relay.join("alice");
    let mut again = alice.other_device();
    let finish = again.login_half(&mut relay).unwrap();
    again.ask(&mut relay, finish.clone()).unwrap();
    assert_eq!(code(again.ask(&mut relay, finish)), ErrorCode::Invalid);
}

#[test]
fn unfinished_logins_count_as_failed_and_finished_ones_do_not() {
    let mut relay = Relay::new();
    let alice = relay.join("alice");
    relay.advance(1000);
    let peer = |i: u8| IpAddr::from([192, 0, 2, i]);
    for i in 0..30 {
        let mut client = alice.other_device();
        client.connect_from(peer(i));
        client.login(&mut relay).unwrap();
        relay.advance(1);
    }
    relay.advance(1000);
    let mut refused = 0;
    for i in 0..30 {
        let mut client = alice.other_device();
        client.connect_from(peer(i));
        if let Err(error) = client.login_start(&mut relay) {
            assert_eq!(error.code, ErrorCode::RateLimited);
            assert!(error.detail > 0 && error.detail <= 30, "{}", error.detail);
            refused += 1;
        }
        relay.advance(1);
    }
    assert!(refused >= 18, "{refused}");
    // Others get in meanwhile; and unknown users are limited just so.
    let mut bob = Client::new("bob");
    bob.connect_from(peer(77));
    bob.register(&mut relay, "").unwrap();
    let attempt = |relay: &mut Relay, i: u8| {
        let mut nobody = Client::new("nobody");
        nobody.connect_from(peer(100 + i));
        relay.advance(1);
        nobody.login_start(relay).is_err()
    };
    assert!((0..12).filter(|i| attempt(&mut relay, *i)).count() >= 1);
}

#[test]
fn one_address_cannot_try_everybody() {
    let mut relay = Relay::new();
    relay.advance(100);
    let mut refused = 0;
    for i in 0..40 {
        let mut client = Client::new(&format!("user{i}"));
        client.connect_from(format!("2001:db8::{i}").parse().unwrap());
        refused += usize::from(client.login_start(&mut relay).is_err());
        relay.advance(1);
    }
    assert!(refused >= 12, "{refused}");
}

#[test]
fn a_device_needs_certificate_and_proof() {
    let mut relay = Relay::new();
    let bob = relay.join("bob");
    let alice = relay.join("alice");
    let mut new = alice.other_device();
    let good = new.enrolment();
    assert_eq!(code(new.ask(&mut relay, good)), ErrorCode::NotAuthenticated);
    new.login(&mut relay).unwrap();
    let good = new.enrolment();
    let with = |change: &dyn Fn(&mut EnrolDevice)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for bad in [
        with(&|r| r.certificate.user = bob.user.clone()),
        with(&|r| r.certificate.identity_key = bob.identity_key()),
        with(&|r| r.certificate.signature[0] ^= 1),
        with(&|r| r.certificate.device_key = bob.certificate().device_key),
        with(&|r| r.proof[0] ^= 1),
        with(&|r| r.certificate = bob.certificate()),
    ] {
        assert_eq!(code(new.ask(&mut relay, bad)), ErrorCode::AuthFailed);
    }
    new.ask(&mut relay, good).unwrap();
    assert_eq!(relay.service.summary().devices, 3);
}

#[test]
fn other_devices_hear_of_a_new_one() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut second = relay.second(&alice);
    let (_, entry) = alice.deliveries(&relay).remove(0);
    assert_eq!(entry.conversation.0, [0; 16]);
    let Some(EntryKind::Devices(devices)) = entry.kind else { panic!("{entry:?}") };
    assert_eq!((&devices.user, &devices.added[..]), (&alice.user, &[second.device][..]));
    assert!(second.drain(&mut relay).is_empty());

    let Reply::Devices(devices) = alice.ask(&mut relay, ListDevices {}).unwrap() else { panic!() };
    let listed: Vec<_> = devices.devices.iter().map(|info| (info.device, info.online, info.queued)).collect();
    assert_eq!(listed, [(alice.device, true, 1), (second.device, true, 0)]);
}

#[test]
fn an_account_has_ten_devices_at_most() {
    let mut relay = Relay::with_policy(no_limits);
    let mut alice = relay.join("alice");
    let mut last = None;
    for _ in 1..MAX_DEVICES {
        last = Some(relay.second(&alice));
    }
    let mut eleventh = alice.other_device();
    eleventh.login(&mut relay).unwrap();
    assert_eq!(code(eleventh.enrol(&mut relay)), ErrorCode::TooManyDevices);
    // A known device may enrol again: it is opened, with its new slot.
    let mut last = last.unwrap();
    last.connect();
    last.login(&mut relay).unwrap();
    assert_eq!(last.enrol(&mut relay).unwrap().device, last.device);
    alice.submit(&mut relay, RevokeDevice { device: last.device }).unwrap();
    eleventh.enrol(&mut relay).unwrap();
}

#[test]
fn a_session_opens_by_the_device_key_alone() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let session = alice.open(&mut relay).unwrap();
    assert_eq!((session.device, session.generation), (alice.device, relay.service.generation()));
    assert_eq!(alice.caller.device(), Some(alice.device));

    alice.connect();
    let proof = alice.proof();
    alice.connect();
    let request = OpenSession { device: alice.device, proof, answered: 0, delivered: 0 };
    assert_eq!(code(alice.ask(&mut relay, request)), ErrorCode::AuthFailed, "a proof for another connection");
    let stranger = Client::new("alice");
    let request = OpenSession { device: stranger.device, proof: alice.proof(), answered: 0, delivered: 0 };
    assert_eq!(code(alice.ask(&mut relay, request)), ErrorCode::AuthFailed);
    assert_eq!(code(alice.ask(&mut relay, ListDevices {})), ErrorCode::NotAuthenticated);
}

#[test]
fn guessing_device_proofs_is_limited() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    relay.advance(1000);
    let mut codes = Vec::new();
    for _ in 0..40 {
        alice.connect();
        let request = OpenSession { device: alice.device, proof: [1; 64], answered: 0, delivered: 0 };
        codes.push(code(alice.ask(&mut relay, request)));
    }
    assert_eq!(codes[0], ErrorCode::AuthFailed);
    assert_eq!(codes[39], ErrorCode::RateLimited);
    relay.advance(60);
    alice.open(&mut relay).unwrap();
}

#[test]
fn a_newer_session_takes_over() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let mut old = alice.other_device();
    std::mem::swap(&mut old.caller, &mut alice.caller);
    alice.open(&mut relay).unwrap();
    assert_eq!(alice.last.opened, Some(alice.device));
    assert_eq!(code(old.ask(&mut relay, ListDevices {})), ErrorCode::NotAuthenticated);
    relay.service.session_closed(&old.caller);
    alice.ask(&mut relay, ListDevices {}).unwrap();
    assert_eq!(relay.service.summary().sessions, 1);
    relay.service.session_closed(&alice.caller);
    assert_eq!(relay.service.summary().sessions, 0);
}

#[test]
fn reconnecting_all_day_writes_nothing() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let written = relay.disk.written();
    for _ in 0..23 {
        relay.advance(3600);
        alice.open(&mut relay).unwrap();
        relay.service.tick(relay.now, 65536);
        relay.sync();
    }
    assert_eq!(relay.disk.written(), written);
    relay.advance(3600);
    alice.open(&mut relay).unwrap();
    assert!(relay.disk.written() > written, "once a day the session is recorded");
}

#[test]
fn a_generation_begins_when_the_store_is_another() {
    let mut relay = Relay::new();
    let first = relay.service.generation();
    let restart = |relay: &mut Relay, place: &[u8], damaged| -> Generation {
        let disk = relay.disk.clone();
        relay.restart_at(disk, Origin { place: place.to_vec(), damaged });
        relay.service.generation()
    };
    assert_eq!(restart(&mut relay, b"", 0), first);
    let second = restart(&mut relay, b"here", 0);
    assert_ne!(second, first);
    assert_eq!(restart(&mut relay, b"here", 0), second);
    assert_eq!(restart(&mut relay, b"", 0), second, "where the place cannot be told nothing is concluded");
    let third = restart(&mut relay, b"there", 0);
    assert_ne!(third, second);
    let fourth = restart(&mut relay, b"there", 1);
    assert_ne!(fourth, third);
    assert_eq!(restart(&mut relay, b"there", 1), fourth, "the same damage is found again");
    assert_eq!(restart(&mut relay, b"there", 0), fourth, "and goes when it is compacted away");
}

#[test]
fn a_client_that_knows_more_begins_a_generation_and_its_numbers_go_on() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let backup = relay.disk.files();
    for i in 0..3 {
        alice.send(&mut relay, id, 1, &format!("lost {i}")).unwrap();
    }
    let seen = bob.deliveries(&relay).last().unwrap().0;
    let first = relay.service.generation();

    relay.restart(qpc_journal::fault::Disk::with_files(&backup));
    assert_eq!(relay.service.generation(), first, "nobody has noticed yet");
    alice.open_knowing(&mut relay, 1, 0).unwrap();
    assert_eq!(relay.service.generation(), first);
    let session = bob.open_knowing(&mut relay, bob.number, seen).unwrap();
    assert_ne!(session.generation, first);
    assert_eq!(session.generation, relay.service.generation());
    assert_eq!(session.next_delivery, seen + 1);
    assert!(bob.last.notices.contains(&(alice.device, NoticeKind::GenerationChanged)));
    assert!(!bob.last.notices.contains(&(bob.device, NoticeKind::GenerationChanged)));
    assert!(bob.last.needs_sync);

    // The second to notice does not begin another one, but its numbers go on as well.
    let session = alice.open_knowing(&mut relay, alice.number, 0).unwrap();
    assert_eq!(session.last_number, alice.number);
    assert_eq!(session.generation, relay.service.generation());
    alice.send(&mut relay, id, 1, "again").unwrap();
    assert_eq!(alice.last.wake, [(bob.device, seen + 1)]);
    assert_eq!(bob.deliveries(&relay).last().unwrap().0, seen + 1);
    bob.drain(&mut relay);
    assert!(bob.deliveries(&relay).is_empty());
    // All of it is durable.
    let disk = relay.disk.power_cut(|| false);
    relay.restart(disk);
    assert_eq!(bob.open_knowing(&mut relay, bob.number, seen + 1).unwrap().next_delivery, seen + 2);
    let repeated = alice.open_knowing(&mut relay, alice.number, 0).unwrap();
    assert_eq!(repeated.last_number, alice.number);
    assert_eq!(repeated.generation, session.generation);
}

#[test]
fn a_liar_moves_only_its_own_numbers() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    alice.open_knowing(&mut relay, 1 << 61, 1 << 61).unwrap();
    let first = relay.service.generation();
    alice.open_knowing(&mut relay, (1 << 61) + 9, 1 << 62).unwrap();
    assert_eq!(relay.service.generation(), first, "at most one generation in ten minutes");
    assert_eq!(code(alice.open_knowing(&mut relay, u64::MAX, 0)), ErrorCode::Invalid);
    assert_eq!(code(alice.open_knowing(&mut relay, 0, u64::MAX)), ErrorCode::Invalid);
    bob.send(&mut relay, id, 1, "hello").unwrap();
    alice.open(&mut relay).unwrap();
    assert_eq!(alice.deliveries(&relay)[0].0, (1 << 62) + 1);
    assert_eq!(bob.open(&mut relay).unwrap().next_delivery, 2);
}

#[test]
fn removed_users_leave_nothing_to_their_successors() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let (reply, outcome) = relay.service.admin(relay.now, AdminRequest::UserRemove(bob.user.clone()));
    assert_eq!(reply, AdminReply::Done);
    assert!(outcome.needs_sync);
    assert!(outcome.notices.contains(&(bob.device, NoticeKind::Revoked)));
    assert_eq!(code(bob.ask(&mut relay, ListDevices {})), ErrorCode::NotAuthenticated);
    assert_eq!(code(bob.open(&mut relay)), ErrorCode::AuthFailed);
    let kinds = alice.drain(&mut relay);
    let [EntryKind::Devices(devices)] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!(&devices.removed[..], [bob.device]);
    // Alice's side goes on.
    assert_eq!(alice.send(&mut relay, id, 1, "anybody?").unwrap().devices, 0);

    let mut other = relay.join("bob");
    assert!(other.list(&mut relay).is_empty());
    assert_eq!(code(other.group(&mut relay, id)), ErrorCode::UnknownConversation);
    assert_ne!(other.direct(&mut relay, &alice.user).unwrap().id, id);
    let everybody = AdminRequest::UserRemove(alice.user.clone());
    assert_eq!(relay.service.admin(relay.now, everybody.clone()).0, AdminReply::Done);
    assert!(matches!(relay.service.admin(relay.now, everybody).0, AdminReply::Refused(_)));
    assert_eq!(
        relay.service.admin(relay.now, AdminRequest::UserRemove(other.user.clone())).0,
        AdminReply::Done
    );
    let left = relay.service.summary();
    assert_eq!((left.accounts, left.devices, left.conversations, left.queued_messages), (0, 0, 0, 0));
}

#[test]
fn another_password_takes_the_place_of_the_old_one_with_all_slots() {
    let mut relay = Relay::new();
    let alice = relay.join("alice");
    let phone = relay.second(&alice);
    let devices = [alice.device, phone.device];
    // Three that logged in with the old password; the last one only half.
    let (mut changer, mut late, mut half) =
        (alice.other_device(), alice.other_device(), alice.other_device());
    changer.login(&mut relay).unwrap();
    late.login(&mut relay).unwrap();
    let half_finish = half.login_half(&mut relay).unwrap();

    let finish = changer.change_half(&mut relay, "new", &devices).unwrap();
    changer.ask(&mut relay, finish).unwrap();
    assert!(changer.last.needs_sync);
    let mut again = alice.other_device();
    assert_eq!(code(again.login(&mut relay)), ErrorCode::AuthFailed);
    again.password = b"new".to_vec();
    let account = again.login(&mut relay).unwrap();
    assert_eq!((account.identity_key, &account.sealed_identity[..]), (alice.identity_key(), &b"new"[..]));
    assert_eq!(account.devices.len(), 2);
    assert!(account.devices.iter().all(|slot| slot.state_slot[..] == b"new"[..]));
    // Devices have keys of their own.
    let (mut alice, mut phone) = (alice, phone);
    alice.open(&mut relay).unwrap();
    phone.open(&mut relay).unwrap();

    // What the old password had opened is closed.
    assert_eq!(code(half.ask(&mut relay, half_finish)), ErrorCode::AuthFailed);
    assert_eq!(code(late.enrol(&mut relay)), ErrorCode::NotAuthenticated);
    assert_eq!(code(late.change_half(&mut relay, "newer", &devices)), ErrorCode::NotAuthenticated);
    // Who changed it can go on.
    changer.enrol(&mut relay).unwrap();
}

#[test]
fn a_password_is_changed_after_a_login_and_for_just_the_devices_there_are() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let (mut changer, mut again) = (alice.other_device(), alice.other_device());
    assert_eq!(code(changer.change_half(&mut relay, "new", &[])), ErrorCode::NotAuthenticated);
    // A session is not enough: a device that was left lying about would do.
    assert_eq!(code(alice.change_half(&mut relay, "new", &[])), ErrorCode::NotAuthenticated);
    changer.password = b"correct horse".to_vec();
    changer.login(&mut relay).unwrap();
    let strange = DeviceId([9; 16]);
    for devices in [&[][..], &[strange], &[alice.device, strange], &[alice.device, alice.device]] {
        let finish = changer.change_half(&mut relay, "new", devices).unwrap();
        assert_eq!(code(changer.ask(&mut relay, finish)), ErrorCode::Invalid);
    }
    let finish = changer.change_half(&mut relay, "new", &[alice.device]).unwrap();
    let unknown = ChangePasswordFinish { ksf: KsfProfile::Unknown(7), ..finish.clone() };
    assert_eq!(code(changer.ask(&mut relay, unknown)), ErrorCode::Invalid);
    let nonsense = ChangePasswordFinish { record: bytes(b"nonsense"), ..finish };
    assert_eq!(code(changer.ask(&mut relay, nonsense)), ErrorCode::Invalid);
    // Nothing of all that took effect.
    again.login(&mut relay).unwrap();
}

#[test]
fn a_power_cut_leaves_one_password_that_opens_everything() {
    let (mut old, mut new) = (0, 0);
    for kept in 0..24 {
        let mut relay = Relay::with_policy(no_limits);
        let alice = relay.join("alice");
        let mut changer = alice.other_device();
        changer.login(&mut relay).unwrap();
        let finish = changer.change_half(&mut relay, "new", &[alice.device]).unwrap();
        let frame = ClientFrame { id: 1, number: 0, request: Some(finish.into()) };
        let outcome = relay.service.handle(relay.now, &mut changer.caller, &frame);
        assert!(matches!(outcome.reply, Some(Reply::Done(_))) && outcome.needs_sync);
        let mut left = kept;
        let disk = relay.disk.power_cut(|| {
            left -= 1;
            left >= 0
        });
        relay.restart(disk);
        let accounts = [&b"correct horse"[..], b"new"].map(|password| {
            let mut again = alice.other_device();
            again.password = password.to_vec();
            again.login(&mut relay).ok()
        });
        let (secret, account) = match accounts {
            [Some(account), None] => (&b"slot"[..], account),
            [None, Some(account)] => (&b"new"[..], account),
            other => panic!("{other:?}"),
        };
        if secret == b"new" {
            new += 1
        } else {
            old += 1
        }
        assert_eq!(&account.sealed_identity[..], if secret == b"new" { b"new" } else { &b"sealed"[..] });
        assert_eq!(&account.devices[0].state_slot[..], secret);
    }
    assert!(old > 0 && new > 0, "{old} {new}");
}

#[test]
fn administrators_list_and_revoke() {
    let mut relay = Relay::new();
    let alice = relay.join("alice");
    let second = relay.second(&alice);
    let AdminReply::Users(users) = relay.service.admin(relay.now, AdminRequest::UserList).0 else { panic!() };
    assert_eq!(users.len(), 1);
    assert_eq!((users[0].user.as_str(), users[0].devices), ("alice", 2));
    let list = AdminRequest::DeviceList(alice.user.clone());
    let AdminReply::Devices(devices) = relay.service.admin(relay.now, list).0 else { panic!() };
    assert_eq!(devices.iter().map(|device| device.queued).collect::<Vec<_>>(), [1, 0]);
    let revoke = AdminRequest::DeviceRevoke(alice.user.clone(), second.device);
    let (reply, outcome) = relay.service.admin(relay.now, revoke.clone());
    assert_eq!(reply, AdminReply::Done);
    assert_eq!(outcome.wake, [(alice.device, 2)]);
    assert!(matches!(relay.service.admin(relay.now, revoke).0, AdminReply::Refused(_)));
    let nobody = AdminRequest::DeviceList(UserName::new("nobody").unwrap());
    assert!(matches!(relay.service.admin(relay.now, nobody).0, AdminReply::Refused(_)));
}

fn no_limits(policy: &mut qpc_relay::service::Policy) {
    for bucket in [
        &mut policy.bounds.login_by_user,
        &mut policy.bounds.login_by_peer,
        &mut policy.bounds.login_global,
        &mut policy.bounds.fetch_by_device,
        &mut policy.bounds.create_by_account,
    ] {
        bucket.burst = 1_000_000;
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
