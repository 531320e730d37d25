//! Messages that wait for a conversation, and an inbox that keeps what was read.

use super::world::*;
use super::*;

#[test]
fn what_is_held_goes_out_once_however_often_the_power_fails() {
    let mut world = World::new(&["alice", "bob"]);
    let bob = world.peers[1].engine.account().user.clone();
    let envelopes = ["one", "two", "three"].map(|text| world.envelope(text));
    for envelope in &envelopes {
        world.peers[0].engine.hold(&bob, envelope).unwrap();
        world.crash(0);
    }
    // A damaged one does not hold up the others.
    let mut batch = Batch::new();
    batch.put(records::key(records::HELD, &0_u64.to_be_bytes()), *b"garbage");
    world.peers[0].engine.journal.commit(&batch).unwrap();
    world.crash(0);
    assert_eq!(world.peers[0].engine.waiting_messages(), 4);

    let id = world.talk(&[0, 1]);
    for envelope in &envelopes {
        let engine = &mut world.peers[0].engine;
        let (number, recipient, held) = engine.next_held(0).unwrap().unwrap();
        assert_eq!((&recipient, &held), (&bob, envelope));
        engine.send_held(number, id, &held).unwrap();
        // From here on it is in the outbox and nowhere else.
        world.crash(0);
    }
    assert!(world.peers[0].engine.next_held(0).unwrap().is_none());
    assert_eq!(world.peers[0].engine.waiting_messages(), 3);
    world.open_session(0);
    world.run();
    assert_eq!(world.read(1), ["one", "two", "three"]);
    assert_eq!(world.peers[0].engine.waiting_messages(), 0);
}

#[test]
fn what_is_held_is_bounded_by_number_and_by_bytes() {
    let mut world = World::new(&["alice", "bob"]);
    let bob = world.peers[1].engine.account().user.clone();
    for (text, half, most) in [("x".to_owned(), 128, 256), ("x".repeat(40_000), 7, 13)] {
        let envelope = world.envelope(&text);
        let engine = &mut world.peers[0].engine;
        for n in 0..most {
            assert_eq!(engine.is_half_full(), n >= half);
            engine.hold(&bob, &envelope).unwrap();
        }
        assert!(matches!(engine.hold(&bob, &envelope), Err(EngineError::TooManyHeld)));
        let mut dropped = 0;
        while let Some((number, _, _)) = engine.next_held(0).unwrap() {
            engine.drop_held(number).unwrap();
            dropped += 1;
        }
        assert_eq!(dropped, most);
    }
}

#[test]
fn an_inbox_that_is_kept_knows_what_was_read_and_has_bounds() {
    let mut world = World::new(&["alice", "bob"]);
    let id = world.talk(&[0, 1]);
    for n in 1..=20 {
        world.send(0, id, &n.to_string());
    }
    world.run();
    let texts = |messages: Vec<InboxMessage>| {
        messages.into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect::<Vec<_>>()
    };
    let first = world.peers[1].engine.inbox_state();
    assert_eq!((first.next - first.first, first.read), (20, 0));
    let at = |n: u64| first.first + n - 1;

    world.peers[1].engine.mark_read(at(3)).unwrap();
    world.crash(1);
    let engine = &mut world.peers[1].engine;
    assert_eq!(texts(engine.inbox(2).unwrap()), ["4", "5"]);
    assert_eq!(texts(engine.inbox_after(at(1), 3).unwrap()), ["2", "3", "4"]);
    assert!(engine.inbox_after(u64::MAX, 1).unwrap().is_empty());
    // It goes neither back nor beyond the end.
    engine.mark_read(at(2)).unwrap();
    assert_eq!(engine.inbox_state().read, at(3));

    assert_eq!(engine.bound_inbox(20, u64::MAX).unwrap(), 0);
    assert_eq!(engine.inbox_state().first, at(1));
    // Fourteen are left of at most sixteen: six are gone, three of them unread.
    assert_eq!(engine.bound_inbox(16, u64::MAX).unwrap(), 3);
    assert_eq!(engine.inbox_state().first, at(7));
    let bytes = engine.inbox_state().bytes;
    assert!(engine.bound_inbox(16, bytes - 1).unwrap() > 0);
    assert!(engine.inbox_state().bytes <= bytes - bytes / 8);
    engine.mark_read(u64::MAX).unwrap();
    assert!(engine.inbox(1).unwrap().is_empty());
    assert_eq!(engine.inbox_state().read, at(20));
}
