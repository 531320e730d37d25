//! Messages, queues, acknowledgements and remembered answers.

use crate::support::*;
use qpc_journal::fault::{Disk, Faults};
use qpc_proto::limits::{MAX_PAYLOAD, REMEMBERED_ANSWERS};
use qpc_proto::message::*;
use qpc_proto::wire::{List, Message};

#[test]
fn a_message_goes_from_one_device_to_another() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let stored = alice.send(&mut relay, id, 1, "hello").unwrap();
    assert_eq!((stored.devices, stored.refused.len()), (1, 0));
    assert_eq!((stored.durability, stored.time), (Durability::Durable, 1_800_000_000));
    assert!(alice.last.needs_sync);
    assert_eq!(alice.last.wake, [(bob.device, 2)]);

    let (seq, entry) = bob.deliveries(&relay).remove(0);
    assert_eq!(seq, 2);
    assert_eq!((entry.conversation, entry.sender, entry.time), (id, Some(alice.device), 1_800_000_000));
    let Some(EntryKind::Message(message)) = entry.kind else { panic!("{entry:?}") };
    assert_eq!(&message.payload[..], b"hello");

    let outcome = relay.handle(&mut bob.caller, 0, Ack { up_to: seq }.into());
    assert!(!outcome.needs_sync);
    assert!(bob.deliveries(&relay).is_empty());
    assert!(alice.deliveries(&relay).is_empty(), "the sender gets nothing back");
}

#[test]
fn entries_stay_until_acknowledged_and_their_numbers_go_on() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    for i in 0..5 {
        alice.send(&mut relay, id, 1, &i.to_string()).unwrap();
    }
    let numbers = |bob: &Client, relay: &Relay| -> Vec<u64> {
        bob.deliveries(relay).into_iter().map(|(seq, _)| seq).collect()
    };
    assert_eq!(numbers(&bob, &relay), [2, 3, 4, 5, 6]);
    bob.ask(&mut relay, Ack { up_to: 3 }).unwrap();
    bob.ask(&mut relay, Ack { up_to: 2 }).unwrap();
    bob.ask(&mut relay, Ack { up_to: 0 }).unwrap();
    assert_eq!(numbers(&bob, &relay), [4, 5, 6]);
    relay.sync();
    let disk = relay.disk.power_cut(|| false);
    relay.restart(disk);
    let session = bob.open(&mut relay).unwrap();
    assert_eq!(session.next_delivery, 7);
    assert_eq!(numbers(&bob, &relay), [4, 5, 6]);
    bob.ask(&mut relay, Ack { up_to: u64::MAX }).unwrap();
    assert!(numbers(&bob, &relay).is_empty());
    alice.open(&mut relay).unwrap();
    alice.send(&mut relay, id, 1, "on").unwrap();
    assert_eq!(numbers(&bob, &relay), [7]);
}

#[test]
fn a_large_delivery_is_fetched_alone() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let text = "x".repeat(MAX_PAYLOAD);
    alice.send(&mut relay, id, 1, &text).unwrap();
    let Reply::Delivery(delivery) = bob.ask(&mut relay, FetchDelivery { seq: 2 }).unwrap() else { panic!() };
    assert_eq!((delivery.seq, delivery.too_large), (2, 0));
    assert_eq!(delivery.entry.as_ref(), Some(&bob.deliveries(&relay)[0].1));
    for gone in [0, 1, 3, u64::MAX] {
        let Reply::Delivery(delivery) = bob.ask(&mut relay, FetchDelivery { seq: gone }).unwrap() else {
            panic!()
        };
        assert_eq!(delivery.entry, None);
    }
}

#[test]
fn credit_is_counted_and_not_answered() {
    let mut relay = Relay::new();
    let mut alice = relay.join("alice");
    let outcome = relay.handle(&mut alice.caller, 0, Credit { deliveries: 7 }.into());
    assert_eq!((outcome.reply, outcome.credit), (None, 7));
    let outcome = relay.handle(&mut alice.caller, 0, Credit { deliveries: u32::MAX }.into());
    assert_eq!(outcome.credit, qpc_proto::limits::MAX_CREDIT);
    let mut stranger = Client::new("stranger");
    let outcome = relay.handle(&mut stranger.caller, 0, Credit { deliveries: 7 }.into());
    assert_eq!((outcome.reply, outcome.credit), (None, 0));
}

#[test]
fn who_may_send() {
    let mut relay = Relay::new();
    let (mut alice, _bob, id) = pair(&mut relay);
    let mut carol = relay.join("carol");
    assert_eq!(code(carol.send(&mut relay, id, 1, "x")), ErrorCode::UnknownConversation);
    let unknown = qpc_proto::id::ConversationId([5; 16]);
    assert_eq!(code(alice.send(&mut relay, unknown, 1, "x")), ErrorCode::UnknownConversation);
    let mut second = relay.second(&alice);
    assert_eq!(code(second.send(&mut relay, id, 1, "x")), ErrorCode::NotMember);
    let token = Submitter::Token(DeliveryToken { token: bytes(b"token") });
    let sealed = SendMessage { submitter: Some(token), ..message(id, 1, "x") };
    assert_eq!(code(alice.submit(&mut relay, sealed)), ErrorCode::Unsupported);
    let nobody = SendMessage { submitter: None, ..message(id, 1, "x") };
    assert_eq!(code(alice.submit(&mut relay, nobody)), ErrorCode::Invalid);
    assert_eq!(code(Client::new("dave").send(&mut relay, id, 1, "x")), ErrorCode::NotAuthenticated);
    let frame = ClientFrame { id: 1, number: 9, request: None };
    let reply = relay.service.handle(relay.now, &mut alice.caller, &frame).reply;
    let Some(Reply::Error(error)) = reply else { panic!("{reply:?}") };
    assert_eq!(error.code, ErrorCode::Unsupported);
}

#[test]
fn messages_of_the_last_epochs_are_taken() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    for epoch in 1..6 {
        alice.submit(&mut relay, commit(id, epoch)).unwrap();
    }
    for epoch in 3..=6 {
        bob.send(&mut relay, id, epoch, "x").unwrap();
    }
    for epoch in [0, 2, 7, u64::MAX] {
        let error = bob.send(&mut relay, id, epoch, "x").unwrap_err();
        assert_eq!((error.code, error.detail), (ErrorCode::WrongEpoch, 6));
    }
}

#[test]
fn a_full_queue_refuses_and_says_so_to_both() {
    let mut relay = Relay::with_policy(|policy| policy.queue_messages = 3);
    let (mut alice, mut bob, id) = pair(&mut relay);
    // A third device that reads, so that there is always somebody to send to.
    let mut second = relay.second(&alice);
    second.submit(&mut relay, external(id, 1, second.device)).unwrap();
    bob.drain(&mut relay);
    for _ in 0..3 {
        assert!(alice.send(&mut relay, id, 2, "x").unwrap().refused.is_empty());
        second.drain(&mut relay);
    }
    for _ in 0..3 {
        let stored = alice.send(&mut relay, id, 2, "x").unwrap();
        assert_eq!((&stored.refused[..], stored.devices), (&[bob.device][..], 1));
        second.drain(&mut relay);
    }
    let kinds: Vec<_> = bob.deliveries(&relay).into_iter().map(|(_, entry)| entry.kind.unwrap()).collect();
    assert!(matches!(kinds[..3], [EntryKind::Message(_), EntryKind::Message(_), EntryKind::Message(_)]));
    assert!(matches!(kinds[3..], [EntryKind::Refused(_)]), "one marker, not three: {kinds:?}");
    // A commit still comes through, and the next refusal is marked again.
    alice.submit(&mut relay, commit(id, 2)).unwrap();
    alice.send(&mut relay, id, 3, "x").unwrap();
    let kinds = bob.drain(&mut relay);
    assert!(matches!(kinds[4..], [EntryKind::Commit(_), EntryKind::Refused(_)]), "{kinds:?}");
    assert!(alice.send(&mut relay, id, 3, "x").unwrap().refused.is_empty());
}

#[test]
fn nothing_is_stored_where_every_queue_is_full() {
    let mut relay = Relay::with_policy(|policy| policy.queue_bytes = 1000);
    let (mut alice, mut bob, id) = pair(&mut relay);
    alice.send(&mut relay, id, 1, &"x".repeat(800)).unwrap();
    let written = relay.disk.written();
    assert_eq!(code(alice.send(&mut relay, id, 1, &"x".repeat(800))), ErrorCode::QueueFull);
    assert_eq!(relay.disk.written(), written);
    alice.send(&mut relay, id, 1, "short").unwrap();
    bob.drain(&mut relay);
    // The refused request may come again under its number.
    alice.number -= 2;
    alice.send(&mut relay, id, 1, &"x".repeat(800)).unwrap();
    assert_eq!(bob.deliveries(&relay).len(), 1);
}

#[test]
fn the_byte_budget_stops_messages_before_commits() {
    let mut relay = Relay::with_policy(|policy| policy.max_bytes = 100_000);
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut sent = 0;
    let error = loop {
        match alice.send(&mut relay, id, 1, &"x".repeat(10_000)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, ErrorCode::StorageFull);
    assert!((7..10).contains(&sent), "{sent}");
    alice.submit(&mut relay, commit(id, 1)).unwrap();
    bob.drain(&mut relay);
    alice.send(&mut relay, id, 2, "x").unwrap();
}

#[test]
fn a_repeated_request_gets_the_first_answer() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    alice.submit(&mut relay, message(id, 1, "once")).unwrap();
    let number = alice.number;
    let first = alice.last.reply.clone();
    relay.now.wall = Some(1_900_000_000);
    for _ in 0..2 {
        alice.ask_numbered(&mut relay, number, message(id, 1, "once")).unwrap();
        assert_eq!(alice.last.reply, first);
        assert!(alice.last.wake.is_empty());
    }
    // Also over a new connection, and after a power cut.
    let disk = relay.disk.power_cut(|| false);
    relay.restart(disk);
    assert_eq!(alice.open(&mut relay).unwrap().last_number, number);
    alice.ask_numbered(&mut relay, number, message(id, 1, "once")).unwrap();
    assert_eq!(alice.last.reply, first);
    bob.open(&mut relay).unwrap();
    assert_eq!(bob.deliveries(&relay).len(), 1);
}

#[test]
fn a_refused_number_may_come_again_and_a_forgotten_one_not() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let refused = alice.number + 1;
    assert_eq!(code(alice.send(&mut relay, id, 9, "early")), ErrorCode::WrongEpoch);
    alice.send(&mut relay, id, 1, "later").unwrap();
    alice.ask_numbered(&mut relay, refused, message(id, 1, "early")).unwrap();
    alice.ask_numbered(&mut relay, refused, message(id, 1, "early")).unwrap();
    assert_eq!(bob.drain(&mut relay).len(), 2);

    let old = alice.number;
    for i in 0..REMEMBERED_ANSWERS - 1 {
        alice.send(&mut relay, id, 1, &i.to_string()).unwrap();
    }
    bob.drain(&mut relay);
    // Answered after `old`, and the last that is still remembered.
    alice.ask_numbered(&mut relay, refused, message(id, 1, "early")).unwrap();
    assert_eq!(code(alice.ask_numbered(&mut relay, old, message(id, 1, "later"))), ErrorCode::StaleNumber);
    alice.send(&mut relay, id, 1, "one more").unwrap();
    for forgotten in [1, refused, old] {
        let request = message(id, 1, "forgotten");
        assert_eq!(code(alice.ask_numbered(&mut relay, forgotten, request)), ErrorCode::StaleNumber);
    }
    assert_eq!(bob.drain(&mut relay).len(), 1);
    assert_eq!(code(alice.ask_numbered(&mut relay, 0, message(id, 1, "x"))), ErrorCode::Invalid);
}

#[test]
fn an_answer_that_cannot_be_read_is_not_given_twice() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    for text in ["one", "two"] {
        alice.send(&mut relay, id, 1, text).unwrap();
    }
    bob.drain(&mut relay);
    let (first, last) = (alice.number - 1, alice.number);
    // The answers are the only records with this time that are left unread.
    let mut files = relay.disk.files();
    let time = message_time(relay.now.wall.unwrap());
    for bytes in files.values_mut() {
        let at: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&time)).collect();
        at.into_iter().for_each(|at| bytes[at] ^= 0x40);
    }
    relay.restart(Disk::with_files(&files));
    alice.open_knowing(&mut relay, last, 0).unwrap();
    bob.open(&mut relay).unwrap();
    for number in [first, last] {
        let again = message(id, 1, "again");
        assert_eq!(code(alice.ask_numbered(&mut relay, number, again)), ErrorCode::StaleNumber);
    }
    assert!(bob.deliveries(&relay).is_empty());
    alice.send(&mut relay, id, 1, "on").unwrap();
    assert_eq!(bob.deliveries(&relay).len(), 1);
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    for i in 0..20 {
        alice.send(&mut relay, id, 1, &i.to_string()).unwrap();
        let disk = relay.disk.power_cut(|| false);
        relay.restart(disk);
        alice.open_knowing(&mut relay, alice.number, 0).unwrap();
        bob.open_knowing(&mut relay, 0, i + 2).unwrap();
        assert_eq!(bob.deliveries(&relay).len() as u64, i + 1);
    }
    assert_eq!(relay.service.counters().generations, 0);
}

#[test]
fn what_cannot_be_written_is_refused_and_changes_nothing() {
    let failing = Faults { write: Some((0, std::io::ErrorKind::Other)), ..Faults::default() };
    let cases = [
        (Faults { read_only: true, ..Faults::default() }, ErrorCode::StorageReadOnly),
        (Faults { capacity: Some(0), ..Faults::default() }, ErrorCode::StorageFull),
        (failing, ErrorCode::StorageFailed),
    ];
    for (faults, expected) in cases {
        let mut relay = Relay::new();
        let (mut alice, mut bob, id) = pair(&mut relay);
        relay.disk.set_faults(faults);
        assert_eq!(code(alice.send(&mut relay, id, 1, "x")), expected);
        relay.disk.set_faults(faults);
        assert_eq!(code(alice.submit(&mut relay, commit(id, 1))), expected);
        assert_eq!(alice.list(&mut relay)[0].epoch, 1, "reads go on");
        relay.disk.set_faults(Faults::default());
        let disk = relay.disk.clone();
        relay.restart(disk);
        alice.open(&mut relay).unwrap();
        bob.open(&mut relay).unwrap();
        assert!(bob.deliveries(&relay).is_empty());
        // The same numbers come again.
        alice.number -= 2;
        alice.send(&mut relay, id, 1, "works").unwrap();
        alice.submit(&mut relay, commit(id, 1)).unwrap();
        assert_eq!(bob.deliveries(&relay).len(), 2);
    }
}

#[test]
fn undelivered_entries_expire_by_the_relays_own_age() {
    let mut relay = Relay::with_policy(|policy| policy.ttl = 4000);
    let (mut alice, mut bob, id) = pair(&mut relay);
    alice.send(&mut relay, id, 1, "old").unwrap();
    relay.advance(2000);
    alice.send(&mut relay, id, 1, "young").unwrap();
    relay.service.tick(relay.now, 65536);
    assert_eq!(bob.deliveries(&relay).len(), 2);
    // The wall clock has no say, whatever it says.
    relay.now.wall = Some(4_000_000_000);
    relay.now.uptime += relay.policy.bounds.sweep_interval;
    relay.service.tick(relay.now, 65536);
    assert_eq!(bob.deliveries(&relay).len(), 1);
    relay.now.uptime += relay.policy.bounds.sweep_interval;
    relay.service.tick(relay.now, 65536);
    assert!(bob.deliveries(&relay).is_empty());
    alice.send(&mut relay, id, 1, "on").unwrap();
    assert_eq!(bob.deliveries(&relay)[0].0, 4, "the numbers go on");
    assert_eq!(relay.service.counters().expired, 2);
    bob.drain(&mut relay);
}

#[test]
fn idle_devices_expire() {
    let mut relay = Relay::with_policy(|policy| policy.device_ttl = 100 * 24 * 3600);
    let (mut alice, mut bob, id) = pair(&mut relay);
    relay.service.session_closed(&bob.caller);
    for _ in 0..99 {
        relay.advance(24 * 3600);
        alice.open(&mut relay).unwrap();
        relay.service.tick(relay.now, 65536);
    }
    assert_eq!(relay.service.summary().devices, 2);
    relay.advance(2 * 24 * 3600);
    let outcome = relay.service.tick(relay.now, 65536);
    assert_eq!(relay.service.summary().devices, 1);
    assert_eq!(outcome.wake.len(), 1);
    let kinds = alice.drain(&mut relay);
    let [EntryKind::Devices(devices)] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!(&devices.removed[..], [bob.device]);
    assert_eq!(alice.send(&mut relay, id, 1, "x").unwrap().devices, 0);
    assert_eq!(code(bob.open(&mut relay)), ErrorCode::AuthFailed);
}

#[test]
fn an_idle_relay_writes_nothing() {
    let mut relay = Relay::new();
    let (alice, bob, _) = pair(&mut relay);
    relay.sync();
    let written = relay.disk.written();
    for _ in 0..24 * 60 {
        relay.advance(60);
        relay.service.tick(relay.now, 65536);
        relay.sync();
    }
    assert_eq!(relay.disk.written(), written);
    drop((alice, bob));
}

#[test]
fn the_age_goes_on_after_a_restart() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    relay.advance(10_000);
    alice.send(&mut relay, id, 1, "x").unwrap();
    let before = bob.deliveries(&relay)[0].1.age;
    assert!(before >= 10_000);
    let disk = relay.disk.power_cut(|| false);
    relay.restart(disk);
    alice.open(&mut relay).unwrap();
    bob.open(&mut relay).unwrap();
    alice.send(&mut relay, id, 1, "y").unwrap();
    assert!(bob.deliveries(&relay)[1].1.age >= before);
}

#[test]
fn one_unreadable_entry_does_not_hold_up_the_rest() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let bodies = ["first first first", "second second second", "third third third"];
    for body in bodies {
        alice.send(&mut relay, id, 1, body).unwrap();
    }
    let mut files = relay.disk.files();
    for bytes in files.values_mut() {
        let found = bytes.windows(6).position(|window| window == b"second");
        if let Some(at) = found {
            bytes[at] ^= 1;
        }
    }
    relay.restart(Disk::with_files(&files));
    bob.open(&mut relay).unwrap();
    let seen: Vec<u64> = bob.deliveries(&relay).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seen, [2, 4]);
}

#[test]
fn storing_and_forgetting_a_message_is_cheap() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let text = "x".repeat(1024);
    for _ in 0..REMEMBERED_ANSWERS {
        alice.send(&mut relay, id, 1, "x").unwrap();
    }
    bob.drain(&mut relay);
    relay.sync();
    let written = relay.disk.written();
    for _ in 0..64 {
        alice.send(&mut relay, id, 1, &text).unwrap();
        bob.drain(&mut relay);
        relay.sync();
    }
    let each = (relay.disk.written() - written) / 64;
    println!("{each} bytes written by a message of 1 KiB stored and acknowledged");
    assert!(each < 1250, "{each} bytes");
}

/// A time as it stands in an encoded message.
fn message_time(seconds: u64) -> Vec<u8> {
    let entry =
        Stored { durability: Durability::Durable, time: seconds, refused: List::default(), devices: 0 };
    entry.encode()
}
