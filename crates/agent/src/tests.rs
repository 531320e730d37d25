//! The service with a session that does what a test wants, a clock that it sets, and credentials that nobody attests.

#![allow(clippy::unwrap_used)]

use crate::protocol::*;
use crate::rights::{Credentials, Policy, Rule};
use crate::service::{Config, Output, Program, Service, Session};
use qpc_client::{ConversationId, DeviceId, Durability, Error, InboxState, Kind, MessageId, UserName};
use qpc_proto::id::PublicKey;
use qpc_proto::wire::{Blob, List, Message as _, Text};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const OWNER: u32 = 500;
const GROUP: u32 = 600;
const STRANGER: u32 = 1000;

#[derive(Default)]
struct Relay {
    inbox: Vec<qpc_client::Message>,
    /// Messages that were forgotten.
    gone: u64,
    read: u64,
    sent: Vec<(UserName, Kind, Vec<u8>)>,
    full: bool,
    half_full: bool,
    /// The disk is: nothing can be forgotten.
    disk_full: bool,
    trouble: Option<&'static str>,
    contacts: Vec<qpc_client::Contact>,
    accepted: Vec<UserName>,
}

impl Relay {
    fn deliver(&mut self, kind: Kind, body: &[u8]) {
        let position = self.gone + self.inbox.len() as u64 + 1;
        self.inbox.push(qpc_client::Message {
            position,
            conversation: ConversationId([3; 16]),
            sender: user("bob"),
            device: DeviceId([4; 16]),
            id: MessageId([5; 16]),
            relay_time: 7,
            sender_time: 0,
            kind,
            body: body.to_vec(),
            durability: Durability::Volatile,
        });
    }
}

impl Session for Relay {
    fn send(&mut self, recipient: &UserName, kind: Kind, body: &[u8]) -> Result<MessageId, Error> {
        if self.full {
            return Err(Error::TooManyQueued);
        }
        self.sent.push((recipient.clone(), kind, body.to_vec()));
        Ok(id(self.sent.len()))
    }

    fn inbox(&self) -> Result<InboxState, Error> {
        let next = self.gone + self.inbox.len() as u64 + 1;
        Ok(InboxState { first: self.gone + 1, next, bytes: 0, read: self.read })
    }

    fn message_after(&mut self, position: u64) -> Result<Option<qpc_client::Message>, Error> {
        Ok(self.inbox.iter().find(|message| message.position > position).cloned())
    }

    fn mark_read(&mut self, position: u64) -> Result<(), Error> {
        self.read = position;
        Ok(())
    }

    fn bound_inbox(&mut self, messages: u64, _: u64) -> Result<u64, Error> {
        if self.disk_full {
            return Err(qpc_journal::Error::Full.into());
        }
        let dropped = (self.inbox.len() as u64).saturating_sub(messages);
        self.inbox.drain(..usize::try_from(dropped).unwrap());
        self.gone += dropped;
        Ok(dropped)
    }

    fn contacts(&self) -> Result<Vec<qpc_client::Contact>, Error> {
        Ok(self.contacts.clone())
    }

    fn safety_number(&self, user: &UserName) -> Result<String, Error> {
        Err(Error::Stranger(user.clone()))
    }

    fn accept(&mut self, user: &UserName) -> Result<(), Error> {
        self.accepted.push(user.clone());
        Ok(())
    }

    fn account(&self) -> Option<(UserName, DeviceId)> {
        Some((user("alice"), DeviceId([1; 16])))
    }

    fn is_connected(&self) -> bool {
        self.trouble.is_none()
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble
    }

    fn waiting(&self) -> usize {
        self.sent.len()
    }

    fn is_half_full(&self) -> bool {
        self.half_full
    }

    fn memory(&self) -> u64 {
        0
    }
}

struct World {
    service: Service,
    relay: Relay,
    now: Instant,
    /// What was written to programs, and not read yet.
    wire: BTreeMap<Program, Vec<FromAgent>>,
    closed: Vec<Program>,
}

impl World {
    fn new(rules: &[&str]) -> Self {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let config =
            Config { software: "test".into(), relay: "qpc://relay".into(), window: Duration::from_secs(300) };
        let now = Instant::now();
        let service = Service::new(config, Policy::new(OWNER, GROUP, &rules), now);
        Self { service, relay: Relay::default(), now, wire: BTreeMap::new(), closed: Vec::new() }
    }

    fn open(&mut self, program: Program, uid: u32) {
        self.service.opened(program, &Credentials { uid, groups: vec![uid] });
        self.edge(true);
    }

    /// Does what the edge does; a program that does not read takes nothing.
    fn edge(&mut self, reads: bool) {
        while let Some(output) = self.service.output() {
            match output {
                Output::Message(program, bytes) => {
                    self.wire.entry(program).or_default().push(FromAgent::decode(&bytes).unwrap());
                    if reads {
                        self.service.written(program);
                    }
                }
                Output::Reject(program, bytes) => {
                    self.wire.entry(program).or_default().push(FromAgent::decode(&bytes).unwrap());
                    self.closed.push(program);
                }
                Output::Close(program) => self.closed.push(program),
            }
        }
    }

    fn say(&mut self, program: Program, id: u32, request: impl Into<Request>) {
        let message = FromProgram { version: VERSION, id, request: Some(request.into()) };
        self.service.request(program, &message.encode(), &mut self.relay, self.now);
    }

    fn work(&mut self) {
        self.service.work(&mut self.relay, self.now).unwrap();
        self.edge(true);
    }

    /// All answers since the last time.
    fn heard(&mut self, program: Program) -> Vec<(u32, Answer)> {
        let heard = self.wire.remove(&program).unwrap_or_default();
        heard.into_iter().map(|message| (message.id, message.answer.unwrap())).collect()
    }

    fn ask(&mut self, program: Program, request: impl Into<Request>) -> Answer {
        self.say(program, 9, request);
        self.edge(true);
        let [(9, answer)] = &self.heard(program)[..] else { panic!("not one answer") };
        answer.clone()
    }

    fn code(&mut self, program: Program, request: impl Into<Request>) -> Option<Code> {
        match self.ask(program, request) {
            Answer::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }

    fn status(&mut self, program: Program) -> Status {
        let Answer::Status(status) = self.ask(program, AskStatus {}) else { panic!("no status") };
        status
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn id(number: usize) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    MessageId(id)
}

fn to_bob(wait: u32) -> Send {
    Send { recipient: user("bob"), kind: Kind::Text, body: Blob::new(b"hello".to_vec()).unwrap(), wait }
}

fn event(kind: &str, text: &str) -> Notify {
    Notify { recipient: user("bob"), kind: Text::new(kind), text: Text::new(text) }
}

fn confirmed(number: usize) -> qpc_client::Sent {
    qpc_client::Sent { id: id(number), durability: Durability::Durable, devices: 2, refused: Vec::new() }
}

/// One request of each kind, and the right it takes.
fn all_requests() -> Vec<(&'static str, Request)> {
    vec![
        ("send", to_bob(0).into()),
        ("receive", Receive { since: 0, unread: true }.into()),
        ("receive", MarkRead { position: 0 }.into()),
        ("contacts", ListContacts { after: None }.into()),
        ("contacts", CompareWith { user: user("bob") }.into()),
        ("contacts", ListDevices {}.into()),
        ("all", Accept { user: user("bob") }.into()),
        ("status", AskStatus {}.into()),
        ("notify", event("wan", "down").into()),
    ]
}

#[test]
fn each_request_takes_its_right_and_no_other() {
    for right in ["send", "receive", "contacts", "status", "notify"] {
        let mut world = World::new(&[&format!("{STRANGER}:{right}")]);
        world.open(1, STRANGER);
        let mut denied = 0;
        for (needed, request) in all_requests() {
            world.say(1, 9, request.clone());
            world.edge(true);
            let refused =
                |answer: &Answer| matches!(answer, Answer::Refused(refused) if refused.code == Code::Denied);
            let was_denied = world.heard(1).iter().any(|(_, answer)| refused(answer));
            assert_eq!(was_denied, needed != right, "{right}: {request:?}");
            denied += u64::from(was_denied);
        }
        world.open(2, 0);
        assert_eq!(world.status(2).counters.denied, denied);
        // Nothing was done that was refused.
        assert!(world.relay.accepted.is_empty());
        assert_eq!(world.relay.sent.len(), usize::from(matches!(right, "send" | "notify")));
        assert_eq!(world.service.wants_devices(), right == "contacts");
    }
}

#[test]
fn messages_are_for_those_who_may_receive() {
    let mut world = World::new(&["*:send,contacts,status,notify"]);
    for (program, uid) in [(1, 0), (2, OWNER), (3, GROUP), (4, STRANGER)] {
        // A group's number as its user's.
        let groups = if uid == GROUP { vec![7, GROUP] } else { vec![uid] };
        world.service.opened(program, &Credentials { uid: if uid == GROUP { 77 } else { uid }, groups });
        world.say(program, 1, Receive { since: 0, unread: false });
    }
    world.relay.deliver(Kind::Text, b"secret");
    world.work();
    world.service.happened("something");
    world.edge(true);
    for program in [1, 2, 3] {
        let heard = world.heard(program);
        assert!(matches!(&heard[0], (1, Answer::Item(item)) if *item.body == b"secret"[..]), "{heard:?}");
        assert!(matches!(&heard[1..], [(1, Answer::CaughtUp(_)), (1, Answer::Happened(_))]), "{heard:?}");
    }
    assert!(matches!(&world.heard(4)[..], [(1, Answer::Refused(refused))] if refused.code == Code::Denied));
}

#[test]
fn who_has_no_right_at_all_is_told_so_and_closed() {
    let mut world = World::new(&["1001:send"]);
    world.open(1, STRANGER);
    assert!(matches!(&world.heard(1)[..], [(0, Answer::Refused(refused))] if refused.code == Code::Denied));
    assert_eq!(world.closed, [1]);
    world.say(1, 1, to_bob(0));
    world.edge(true);
    assert!(world.relay.sent.is_empty() && world.heard(1).is_empty());
}

#[test]
fn a_full_disk_keeps_nobody_from_reading() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.relay.disk_full = true;
    world.relay.deliver(Kind::Text, b"still there");
    world.say(1, 1, Receive { since: 0, unread: false });
    world.work();
    assert!(matches!(&world.heard(1)[..], [(1, Answer::Item(_)), (1, Answer::CaughtUp(_))]));
}

#[test]
fn a_message_is_answered_when_it_is_confirmed_or_refused_or_the_wait_is_over() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.open(2, 0);
    for (program, request) in [(1, 11), (2, 12), (1, 13), (2, 14)] {
        world.say(program, request, to_bob(1000));
    }
    world.work();
    assert!(world.heard(1).is_empty() && world.heard(2).is_empty());
    world.service.confirmed(confirmed(2));
    assert!(world.service.not_sent(id(3), &Error::UnknownUser(user("bob"))));
    // Nobody waits for this one.
    assert!(!world.service.not_sent(id(77), &Error::Timeout));
    world.edge(true);
    assert!(matches!(&world.heard(2)[..], [(12, Answer::Sent(sent))] if sent.confirmed && sent.devices == 2));
    assert!(matches!(&world.heard(1)[..], [(13, Answer::Refused(why))] if why.code == Code::UnknownUser));

    assert_eq!(world.service.due(), Some(world.now + Duration::from_secs(1)));
    world.now += Duration::from_secs(1);
    world.work();
    for (program, request, number) in [(1, 11, 1), (2, 14, 4)] {
        let [(answered, Answer::Sent(sent))] = &world.heard(program)[..] else { panic!("not one answer") };
        assert_eq!((*answered, sent.confirmed, sent.id), (request, false, id(number)));
    }
    assert_eq!(world.service.due(), None);
    let counters = world.status(1).counters;
    assert_eq!((counters.accepted, counters.confirmed, counters.failed), (4, 1, 2));

    // Where the relay is known to be away nobody waits.
    world.relay.trouble = Some("it does not answer");
    assert!(matches!(world.ask(1, to_bob(60_000)), Answer::Sent(sent) if !sent.confirmed));
    world.relay.full = true;
    assert_eq!(world.code(1, to_bob(0)), Some(Code::Full));
    assert_eq!(world.code(1, ListDevices {}), Some(Code::Unreachable));
    let receipt = Send { kind: Kind::Receipt, ..to_bob(0) };
    assert_eq!(world.code(1, receipt), Some(Code::Invalid));
}

#[test]
fn a_program_waits_for_a_bounded_number_of_messages() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.open(2, 0);
    for request in 0..16 {
        world.say(1, request, to_bob(1000));
    }
    assert_eq!(world.code(1, to_bob(1000)), Some(Code::Busy));
    world.say(2, 1, to_bob(1000));
    world.edge(true);
    assert_eq!(world.relay.sent.len(), 17);
    // Who goes does not take what was sent along.
    world.service.closed(1);
    world.service.confirmed(confirmed(1));
    world.edge(true);
    assert!(world.heard(1).is_empty());
}

#[test]
fn readers_have_cursors_of_their_own() {
    let mut world = World::new(&[]);
    for text in ["one", "two"] {
        world.relay.deliver(Kind::Text, text.as_bytes());
    }
    world.relay.deliver(Kind::Receipt, &[0; 16]);
    world.relay.read = 1;
    for (program, since, unread) in [(1, 0, false), (2, 1, false), (3, 0, true)] {
        world.open(program, 0);
        world.say(program, 5, Receive { since, unread });
    }
    world.work();
    let positions = |world: &mut World, program| -> Vec<u64> {
        let heard = world.heard(program);
        let of = |(request, answer): (u32, Answer)| match answer {
            Answer::Item(item) => item.position,
            // 1000 says that it is the end.
            Answer::CaughtUp(end) if request == 5 => 1000 + end.position,
            other => panic!("{other:?}"),
        };
        heard.into_iter().map(of).collect()
    };
    assert_eq!(positions(&mut world, 1), [1, 2, 1003]);
    assert_eq!(positions(&mut world, 2), [2, 1003]);
    assert_eq!(positions(&mut world, 3), [2, 1003]);
    world.work();
    assert!(positions(&mut world, 1).is_empty());
    world.relay.deliver(Kind::Text, b"four");
    world.work();
    for program in [1, 2, 3] {
        assert_eq!(positions(&mut world, program), [4, 1004]);
    }

    // To read is not to have read.
    assert_eq!(world.relay.read, 1);
    assert!(matches!(world.ask(3, MarkRead { position: 4 }), Answer::Done(_)));
    assert_eq!(world.status(3).inbox_read, 4);
    // A position that is not there yet is one of another inbox.
    assert_eq!(world.code(1, Receive { since: 5, unread: false }), Some(Code::Invalid));
}

#[test]
fn a_reader_learns_that_it_missed_something() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.work();
    for n in 0..1030_u32 {
        world.relay.deliver(Kind::Binary, &n.to_be_bytes());
    }
    world.work();
    let counters = world.status(1).counters;
    assert_eq!((counters.received, counters.dropped), (1030, 6));
    for (since, missed) in [(0, true), (5, true), (6, false)] {
        world.say(1, 1, Receive { since, unread: false });
        let mut heard = Vec::new();
        // Not all of it at once.
        while !matches!(heard.last(), Some((_, Answer::CaughtUp(_)))) {
            world.work();
            heard.extend(world.heard(1));
        }
        assert!(matches!(&heard[0], (1, Answer::Item(item)) if item.position == 7));
        assert!(matches!(&heard[1024], (1, Answer::CaughtUp(end)) if end.missed == missed));
    }
}

#[test]
fn a_slow_reader_costs_little_and_holds_up_nobody() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.open(2, 0);
    for program in [1, 2] {
        world.say(program, 1, Receive { since: 0, unread: false });
    }
    for _ in 0..100 {
        world.relay.deliver(Kind::Binary, &[7; MAX_LONG]);
    }
    for _ in 0..400 {
        world.service.work(&mut world.relay, world.now).unwrap();
        while let Some(Output::Message(program, bytes)) = world.service.output() {
            world.wire.entry(program).or_default().push(FromAgent::decode(&bytes).unwrap());
            if program == 2 {
                world.service.written(2);
            }
        }
    }
    assert_eq!(world.heard(2).len(), 101);
    // One that is too long for the rest of what it may leave, and no more.
    assert_eq!(world.heard(1).len(), 1);
    // It reads, and the rest comes.
    for taken in 1..=100 {
        world.service.written(1);
        world.service.work(&mut world.relay, world.now).unwrap();
        while let Some(Output::Message(program, bytes)) = world.service.output() {
            world.wire.entry(program).or_default().push(FromAgent::decode(&bytes).unwrap());
        }
        assert_eq!(world.wire[&1].len(), taken);
    }
}

const MAX_LONG: usize = qpc_client::MAX_BODY;

#[test]
fn who_asks_and_never_listens_is_cut_off() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    world.open(2, 0);
    let mut asked = 0;
    while world.closed.is_empty() {
        world.say(1, 1, AskStatus {});
        world.edge(false);
        asked += 1;
        assert!(asked < 1000);
    }
    assert_eq!(world.closed, [1]);
    assert_eq!(world.status(2).programs, 1);
}

#[test]
fn garbage_closes_the_connection_it_came_over() {
    for garbage in [&b""[..], b"\0", &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n", &[0x82, 0x01, 0x7f]] {
        let mut world = World::new(&[]);
        world.open(1, 0);
        world.open(2, 0);
        world.service.request(1, garbage, &mut world.relay, world.now);
        world.edge(true);
        // Nothing at all is a message of version 0.
        match garbage.is_empty() {
            true => assert!(
                matches!(&world.heard(1)[..], [(0, Answer::Refused(why))] if why.code == Code::Version)
            ),
            false => assert_eq!(world.closed, [1]),
        }
        assert!(world.relay.sent.is_empty());
        world.status(2);
    }
}

#[test]
fn newer_programs_are_told_that_the_agent_is_older() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    let mut unknown = FromProgram { version: VERSION, id: 4, request: None }.encode();
    // Request 40, an empty one: of a group, some day.
    unknown.extend([0xc2, 0x02, 0x00]);
    let other = FromProgram { version: 2, id: 5, request: Some(AskStatus {}.into()) }.encode();
    for (bytes, id, code) in [(unknown, 4, Code::Unsupported), (other, 5, Code::Version)] {
        world.service.request(1, &bytes, &mut world.relay, world.now);
        world.edge(true);
        assert!(matches!(&world.heard(1)[..], [(of, Answer::Refused(why))] if (*of, why.code) == (id, code)));
    }
}

#[test]
fn programs_are_bounded_and_strangers_cannot_keep_others_out() {
    let mut world = World::new(&["*:status"]);
    let mut refused = Vec::new();
    for (program, uid) in (0..30).map(|n| (n, STRANGER + n as u32 / 10)) {
        world.open(program, uid);
        refused.extend(world.closed.pop());
    }
    // Eight of the first, eight of the second, and then sixteen strangers are there.
    assert_eq!(refused.len(), 14);
    for program in 100..116 {
        world.open(program, OWNER);
    }
    assert!(world.closed.is_empty());
    assert_eq!(world.status(100).programs, 32);
    world.open(200, 0);
    assert_eq!(world.closed, [200]);
    world.service.closed(100);
    world.open(201, 0);
    assert_eq!(world.closed, [200]);
}

#[test]
fn an_answer_is_not_for_who_gets_the_number_next() {
    let mut world = World::new(&["*:status"]);
    world.open(1, 0);
    world.say(1, 1, ListDevices {});
    world.say(1, 2, AskStatus {});
    world.say(1, 3, to_bob(1000));
    world.service.closed(1);
    world.open(1, STRANGER);
    world.service.confirmed(confirmed(1));
    world.edge(true);
    assert!(world.heard(1).is_empty() && !world.service.wants_devices());
}

#[test]
fn the_relay_is_asked_once_for_all_who_ask() {
    let mut world = World::new(&[]);
    for program in 1..=3 {
        world.open(program, 0);
    }
    for request in 1..=4 {
        world.say(1, request, ListDevices {});
    }
    assert_eq!(world.code(1, ListDevices {}), Some(Code::Busy));
    world.say(2, 7, ListDevices {});
    world.say(3, 8, ListDevices {});
    world.service.closed(3);
    let devices = Devices { this: DeviceId([1; 16]), devices: List::default() };
    world.service.devices(Ok(devices.clone()));
    world.edge(true);
    assert!(!world.service.wants_devices());
    let answer = Answer::from(devices);
    assert_eq!(world.heard(1), (1..=4).map(|id| (id, answer.clone())).collect::<Vec<_>>());
    assert_eq!(world.heard(2), [(7, answer)]);
    assert!(world.heard(3).is_empty());

    world.say(1, 9, ListDevices {});
    world.service.devices(Err(Error::Timeout));
    world.edge(true);
    let heard = world.heard(1);
    assert!(
        matches!(&heard[..], [(9, Answer::Refused(refused))] if refused.code == Code::Timeout),
        "{heard:?}"
    );
}

#[test]
fn contacts_come_in_pages() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    let contact = |n| qpc_client::Contact {
        user: user(&format!("user{n:03}")),
        identity: PublicKey([n; 32]),
        changed: (n == 3).then_some(PublicKey([0; 32])),
    };
    world.relay.contacts = (0..150).map(contact).collect();
    let (mut after, mut names, mut pages) = (None, Vec::new(), 0);
    loop {
        let Answer::Contacts(page) = world.ask(1, ListContacts { after }) else { panic!("no page") };
        after = page.contacts.last().map(|contact| contact.user.clone());
        names.extend(page.contacts.iter().map(|contact| contact.user.clone()));
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(names, world.relay.contacts.iter().map(|contact| contact.user.clone()).collect::<Vec<_>>());
}

#[test]
fn events_become_few_messages_and_the_end_leaves_none_behind() {
    let mut world = World::new(&[]);
    world.open(1, 0);
    assert!(matches!(world.ask(1, event("wan", "WAN down")), Answer::Notified(noted) if !noted.held));
    for _ in 0..200 {
        assert!(matches!(world.ask(1, event("wan", "WAN up")), Answer::Notified(noted) if noted.held));
    }
    assert_eq!((world.relay.sent.len(), world.status(1).held_events), (1, 200));
    world.now += Duration::from_secs(300);
    world.work();
    assert_eq!(world.relay.sent[1].2, b"wan: 200 more in 5 min; the last: WAN up");
    world.ask(1, event("wan", "WAN down"));
    world.ask(1, event("ssh", "login"));
    world.say(1, 50, to_bob(1000));
    world.service.stop(&mut world.relay, world.now + Duration::from_secs(30));
    world.edge(true);
    let texts: Vec<_> =
        world.relay.sent.iter().map(|(_, _, text)| String::from_utf8_lossy(text).into_owned()).collect();
    assert_eq!(texts[2..], ["login", "hello", "wan: 1 more in 30 s; the last: WAN down"]);
    assert!(matches!(&world.heard(1)[..], [(50, Answer::Sent(sent))] if !sent.confirmed));

    // One that cannot be queued is refused, and tried again as a first one.
    world.relay.full = true;
    assert_eq!(world.code(1, event("disk", "full")), Some(Code::Full));
    world.relay.full = false;
    assert!(matches!(world.ask(1, event("disk", "full")), Answer::Notified(noted) if !noted.held));
}

#[test]
fn those_without_all_rights_leave_half_of_the_room_to_the_others() {
    let mut world = World::new(&[&format!("{STRANGER}:send,notify,status")]);
    world.open(1, STRANGER);
    world.open(2, 0);
    let kinds = (0..64).map(|n| event(&n.to_string(), "x"));
    assert_eq!(kinds.filter(|kind| world.code(1, kind.clone()).is_none()).count(), 32);
    assert_eq!(world.code(2, event("wan", "WAN down")), None);

    world.relay.half_full = true;
    assert_eq!(world.code(1, to_bob(0)), Some(Code::Full));
    assert_eq!(world.code(1, event("0", "y")), Some(Code::Full));
    assert_eq!(world.code(1, AskStatus {}), None);
    assert_eq!((world.code(2, to_bob(0)), world.code(2, event("ssh", "login"))), (None, None));
}

#[test]
fn every_message_reads_back_and_no_cut_or_changed_one_is_trouble() {
    for (_, request) in all_requests() {
        let message = FromProgram { version: VERSION, id: 7, request: Some(request) };
        let bytes = message.encode();
        assert_eq!(FromProgram::decode(&bytes).unwrap(), message);
        for end in 0..bytes.len() {
            let _ = FromProgram::decode(&bytes[..end]);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[end] ^= 1 << bit;
                let mut world = World::new(&["1:send"]);
                world.open(1, 0);
                world.service.request(1, &changed, &mut world.relay, world.now);
                world.edge(true);
                // It is understood, refused, or the end of this connection.
                assert!(world.closed.len() <= 1);
            }
        }
    }
    let mut relay = Relay::default();
    relay.deliver(Kind::Binary, &[0xff; MAX_LONG]);
    let item = Item::from(relay.inbox[0].clone());
    let answer = FromAgent { id: 1, answer: Some(item.clone().into()) };
    let bytes = answer.encode();
    assert!(bytes.len() <= qpc_ipc::MAX_PAYLOAD);
    assert_eq!(FromAgent::decode(&bytes).unwrap(), answer);
    assert_eq!(qpc_client::Message::from(item), relay.inbox[0]);
}
