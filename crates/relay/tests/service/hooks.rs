//! What plugins are asked and told.

use crate::support::*;
use qpc_plugin_host::{Event, Hook, Message, Rejection};
use qpc_proto::message::*;
use qpc_relay::service::Hooks;
use std::cell::RefCell;
use std::rc::Rc;

/// Writes everything down, and refuses whom it is told to.
#[derive(Clone, Default)]
struct Witness(Rc<RefCell<Notes>>);

#[derive(Default)]
struct Notes {
    asked: Vec<Vec<Message>>,
    told: Vec<Event>,
    refuse: Option<Rejection>,
    deaf: Vec<Hook>,
}

impl Hooks for Witness {
    fn want(&self, hook: Hook) -> bool {
        !self.0.borrow().deaf.contains(&hook)
    }

    fn ask(&self, messages: Vec<Message>) -> Result<(), Rejection> {
        let mut notes = self.0.borrow_mut();
        notes.asked.push(messages);
        notes.refuse.clone().map_or(Ok(()), Err)
    }

    fn tell(&self, event: Event) {
        self.0.borrow_mut().told.push(event);
    }
}

impl Witness {
    fn of(relay: &mut Relay) -> Self {
        let witness = Self::default();
        relay.service.set_hooks(Box::new(witness.clone()));
        witness
    }

    fn take(&self) -> (Vec<Vec<Message>>, Vec<Event>) {
        let mut notes = self.0.borrow_mut();
        (std::mem::take(&mut notes.asked), std::mem::take(&mut notes.told))
    }

    fn told(&self) -> Vec<Event> {
        self.take().1
    }
}

#[test]
fn a_message_is_asked_about_once_for_each_account_and_told_once_it_is_stored() {
    let mut relay = Relay::new();
    let (mut alice, mut bob, id) = pair(&mut relay);
    let mut more = [relay.second(&alice), relay.second(&bob), relay.second(&bob)];
    for (client, epoch) in more.iter_mut().zip(1..) {
        client.submit(&mut relay, external(id, epoch, client.device)).unwrap();
    }
    bob.drain(&mut relay);
    let epoch = 1 + more.len() as u64;
    let witness = Witness::of(&mut relay);
    alice.send(&mut relay, id, epoch, "hello").unwrap();
    let message = Message {
        sender: Some(alice.identity_key().0),
        recipient: bob.identity_key().0,
        channel: id.0,
        payload_len: 5,
        seq: bob.deliveries(&relay)[0].0,
    };
    assert_eq!(witness.take(), (vec![vec![message.clone()]], vec![Event::Stored(vec![message])]));

    let seq = bob.deliveries(&relay)[0].0;
    alice.send(&mut relay, id, epoch, "again").unwrap();
    witness.take();
    bob.ask(&mut relay, Ack { up_to: seq + 1 }).unwrap();
    let fetched = Event::Fetched { recipient: bob.identity_key().0, channel: id.0, count: 2 };
    assert_eq!(witness.told(), [fetched]);
    bob.ask(&mut relay, Ack { up_to: seq + 1 }).unwrap();
    assert_eq!(witness.told(), []);
}

#[test]
fn a_refused_message_is_stored_nowhere_and_may_be_asked_about_again() {
    let mut relay = Relay::new();
    let (mut alice, bob, id) = pair(&mut relay);
    let witness = Witness::of(&mut relay);
    let refusals = [
        (Rejection::Refused("not\u{e4}".into()), ErrorCode::Rejected, "not\u{e4}"),
        (Rejection::Refused(String::new()), ErrorCode::Rejected, "refused by the relay's rules"),
        (Rejection::Overrun("x".into()), ErrorCode::Rejected, "the relay's plugin x did not answer in time"),
        (Rejection::Busy, ErrorCode::Busy, "the relay is busy; try again later"),
    ];
    for (refusal, code, reason) in refusals {
        witness.0.borrow_mut().refuse = Some(refusal);
        let error = alice.send(&mut relay, id, 1, "hello").unwrap_err();
        assert_eq!((error.code, &*error.reason), (code, reason));
        assert!(!alice.last.needs_sync);
        assert!(alice.last.wake.is_empty());
        assert!(bob.deliveries(&relay).is_empty());
        assert_eq!(witness.take().1, [], "nothing was stored");
    }
    witness.0.borrow_mut().refuse = None;
    let number = alice.number;
    let again = alice.ask_numbered(&mut relay, number, message(id, 1, "hello")).unwrap();
    assert!(matches!(again, Reply::Stored(_)));
    assert_eq!(witness.take().0.len(), 1);
    // What is answered from memory is no new message.
    alice.ask_numbered(&mut relay, number, message(id, 1, "hello")).unwrap();
    assert_eq!(witness.take(), (vec![], vec![]));
    assert_eq!(bob.deliveries(&relay).len(), 1);
}

#[test]
fn conversations_are_told_when_they_are_made_and_when_they_are_found() {
    let mut relay = Relay::new();
    let (mut alice, mut bob) = (relay.join("alice"), relay.join("bob"));
    let witness = Witness::of(&mut relay);
    let id = alice.direct(&mut relay, &bob.user).unwrap().id;
    bob.direct(&mut relay, &alice.user).unwrap();
    let (a, b) = (alice.identity_key().0, bob.identity_key().0);
    let event = |initiator, peer, new| Event::Channel { channel: id.0, initiator, peer, new };
    assert_eq!(witness.told(), [event(a, b, true), event(b, a, false)]);
}

#[test]
fn accounts_and_logins_are_told_with_what_came_of_them() {
    let mut relay = Relay::new();
    let witness = Witness::of(&mut relay);
    let mut alice = relay.join("alice");
    let registered = Event::Registered { user: "alice".into(), identity_key: alice.identity_key().0 };
    assert_eq!(witness.told(), [registered]);

    let auth = |user: &str, failure: Option<&str>| Event::Auth {
        user: user.into(),
        failure: failure.map(str::to_owned),
    };
    alice.connect();
    alice.login(&mut relay).unwrap();
    assert_eq!(witness.told(), [auth("alice", None)]);
    alice.open(&mut relay).unwrap();
    assert_eq!(witness.told(), [auth("alice", None)]);

    let wrong = "unknown user, wrong password or wrong device";
    let mut stranger = alice.other_device();
    stranger.password = b"wrong".to_vec();
    assert!(stranger.login(&mut relay).is_err());
    assert_eq!(witness.told(), [auth("alice", Some(wrong))]);
    assert!(stranger.open(&mut relay).is_err());
    assert_eq!(witness.told(), [auth("", Some(wrong))]);
    let mut nobody = Client::new("nobody");
    assert!(nobody.login(&mut relay).is_err());
    assert_eq!(witness.told(), [auth("nobody", Some(wrong))]);

    // Whose password is wrong knows before the relay does, and goes.
    let broken_off = "broken off, as a client does whose password is wrong";
    nobody.connect();
    nobody.login_start(&mut relay).unwrap();
    assert_eq!(witness.told(), []);
    nobody.login_start(&mut relay).unwrap();
    assert_eq!(witness.told(), [auth("nobody", Some(broken_off))]);
    relay.service.session_closed(&nobody.caller);
    assert_eq!(witness.told(), [auth("nobody", Some(broken_off))]);

    while code(stranger.login(&mut relay)) != ErrorCode::RateLimited {}
    let last = witness.told().pop();
    assert_eq!(last, Some(auth("alice", Some("too many attempts; wait and try again"))));
}

#[test]
fn what_nobody_wants_is_not_told() {
    let mut relay = Relay::new();
    let witness = Witness::of(&mut relay);
    witness.0.borrow_mut().deaf = Hook::ALL.to_vec();
    let (mut alice, mut bob, id) = pair(&mut relay);
    alice.send(&mut relay, id, 1, "hello").unwrap();
    bob.drain(&mut relay);
    bob.login(&mut relay).unwrap_err();
    assert_eq!(witness.take(), (vec![], vec![]));
}
