//! What an agent does with the requests of programs. No I/O: bytes, credentials, the time and what happens to the
//! session are handed in; [`Output`] is handed out.

use crate::events::{Events, MAX_KINDS};
use crate::protocol::{
    Answer, CaughtUp, Code, Contact, Contacts, Counters, Done, FromAgent, FromProgram, Happened, Item,
    MAX_PAGE, MAX_WAIT, Notified, Notify, Receive, Refused, Request, SafetyNumber, Send, Sent, Status,
    VERSION,
};
use crate::rights::{Credentials, Policy, Right, Rights};
use qpc_client::{DeviceId, Error, InboxState, Kind, Message, MessageId, UserName};
use qpc_proto::wire::{List, Message as _, Text};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What the agent has of the session.
pub trait Session {
    /// Journals a message; from then on it goes out by itself.
    fn send(&mut self, recipient: &UserName, kind: Kind, body: &[u8]) -> Result<MessageId, Error>;
    /// What the inbox holds.
    fn inbox(&self) -> Result<InboxState, Error>;
    /// The first message behind a position.
    fn message_after(&mut self, position: u64) -> Result<Option<Message>, Error>;
    /// Messages up to this position are read.
    fn mark_read(&mut self, position: u64) -> Result<(), Error>;
    /// Forgets the oldest messages where there are more than so many, or than so many bytes.
    fn bound_inbox(&mut self, messages: u64, bytes: u64) -> Result<u64, Error>;
    /// Whom this device knows.
    fn contacts(&self) -> Result<Vec<qpc_client::Contact>, Error>;
    /// The safety number with a user.
    fn safety_number(&self, user: &UserName) -> Result<String, Error>;
    /// Trusts a changed identity.
    fn accept(&mut self, user: &UserName) -> Result<(), Error>;
    /// Who this is.
    fn account(&self) -> Option<(UserName, DeviceId)>;
    /// Whether there is a session with the relay.
    fn is_connected(&self) -> bool;
    /// Why the relay could not be reached when it was tried last.
    fn trouble(&self) -> Option<&str>;
    /// Messages that wait to be sent or confirmed.
    fn waiting(&self) -> usize;
    /// Half of what may wait does.
    fn is_half_full(&self) -> bool;
    /// Bytes of resident memory.
    fn memory(&self) -> u64;
}

/// A connection, by the number the edge knows it by.
pub type Program = i32;

/// What the edge is to do.
#[derive(Debug, Eq, PartialEq)]
pub enum Output {
    /// Write this.
    Message(Program, Vec<u8>),
    /// Write this, the first thing on this connection, and close it.
    Reject(Program, Vec<u8>),
    /// Close it.
    Close(Program),
}

/// What an agent says of itself, and does of its own accord.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name and version of the program.
    pub software: String,
    /// Where the relay is.
    pub relay: String,
    /// For how long events of one kind are held after the first one.
    pub window: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Service {
    config: Config,
    policy: Policy,
    events: Events,
    programs: BTreeMap<Program, Peer>,
    /// Those who wait for the relay to confirm a message.
    waiting: Vec<Waiting>,
    /// Requests for the account's devices, which only the relay knows.
    asking: Vec<(Program, u32)>,
    counters: Counters,
    started: Instant,
    connected: Option<Instant>,
    /// The end of the inbox when messages were last counted.
    inbox_next: Option<u64>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Peer {
    uid: u32,
    rights: Rights,
    reader: Option<Reader>,
    /// The lengths of what was handed out for it and is not written yet.
    unwritten: VecDeque<usize>,
}

impl Peer {
    fn unwritten(&self) -> usize {
        self.unwritten.iter().sum()
    }
}

/// Who follows along: all it takes is a position, messages wait in the inbox.
#[derive(Debug)]
struct Reader {
    request: u32,
    position: u64,
    missed: bool,
    /// It was told that there is no more.
    told: bool,
}

#[derive(Debug)]
struct Waiting {
    message: MessageId,
    program: Program,
    request: u32,
    until: Instant,
}

impl Service {
    /// One that nobody is connected to.
    pub fn new(config: Config, policy: Policy, now: Instant) -> Self {
        Self {
            events: Events::new(config.window),
            config,
            policy,
            programs: BTreeMap::new(),
            waiting: Vec::new(),
            asking: Vec::new(),
            counters: Counters {
                requests: 0,
                denied: 0,
                accepted: 0,
                confirmed: 0,
                failed: 0,
                received: 0,
                dropped: 0,
                events: 0,
                summarised: 0,
                connections: 0,
            },
            started: now,
            connected: None,
            inbox_next: None,
            outputs: VecDeque::new(),
        }
    }

    /// What there is to do next.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A program has connected.
    pub fn opened(&mut self, program: Program, who: &Credentials) {
        let rights = self.policy.rights(who);
        let foreign = |peer: &&Peer| peer.rights != Rights::ALL;
        let foreigners = self.programs.values().filter(foreign).count();
        let of_uid = self.programs.values().filter(foreign).filter(|peer| peer.uid == who.uid).count();
        let refused = if rights == Rights::default() {
            Some(Refused::new(Code::Denied, "the agent has not allowed this user anything"))
        } else if self.programs.len() >= MAX_PROGRAMS
            || (rights != Rights::ALL && (foreigners >= MAX_FOREIGN || of_uid >= MAX_OF_UID))
        {
            Some(Refused::new(Code::Busy, "too many programs are connected to the agent"))
        } else {
            None
        };
        match refused {
            Some(refused) => {
                let answer = FromAgent { id: 0, answer: Some(refused.into()) };
                self.outputs.push_back(Output::Reject(program, answer.encode()));
            }
            None => {
                let peer = Peer { uid: who.uid, rights, reader: None, unwritten: VecDeque::new() };
                self.programs.insert(program, peer);
            }
        }
    }

    /// A program is gone.
    pub fn closed(&mut self, program: Program) {
        self.programs.remove(&program);
        self.waiting.retain(|waiting| waiting.program != program);
        self.asking.retain(|(of, _)| *of != program);
        // The next one may get the same number, and is not to get another's answers.
        self.outputs.retain(|output| match output {
            Output::Message(of, _) => *of != program,
            Output::Reject(..) | Output::Close(_) => true,
        });
    }

    /// The oldest of what was handed out for a program is written.
    pub fn written(&mut self, program: Program) {
        if let Some(peer) = self.programs.get_mut(&program) {
            peer.unwritten.pop_front();
        }
    }

    /// A program has sent something.
    pub fn request(&mut self, program: Program, bytes: &[u8], session: &mut impl Session, now: Instant) {
        let Some(peer) = self.programs.get(&program) else { return };
        let rights = peer.rights;
        self.counters.requests += 1;
        let Ok(FromProgram { version, id, request }) = FromProgram::decode(bytes) else {
            // Who speaks something else understands no answer either.
            return self.drop_program(program);
        };
        let result = match request {
            _ if version != VERSION => Err(Refused::new(Code::Version, "the agent speaks version 1")),
            None => Err(Refused::new(Code::Unsupported, "the agent does not know such a request")),
            Some(request) if !rights.has(needed(&request)) => {
                self.counters.denied += 1;
                Err(Refused::new(Code::Denied, "the agent has not allowed this user that"))
            }
            // The rest is for those with all rights: a router's alerts are not to fail for a program that may do little.
            Some(Request::Send(_) | Request::Notify(_))
                if rights != Rights::ALL && session.is_half_full() =>
            {
                Err(Refused::new(Code::Full, "half of the messages that may wait do, the rest is for others"))
            }
            Some(request) => self.serve(program, id, request, session, now),
        };
        if let Some(answer) = result.unwrap_or_else(|refused| Some(refused.into())) {
            self.answer(program, id, answer);
        }
    }

    /// The answer, if it is known already.
    fn serve(
        &mut self,
        program: Program,
        id: u32,
        request: Request,
        session: &mut impl Session,
        now: Instant,
    ) -> Result<Option<Answer>, Refused> {
        let failed = |error: Error| Refused::from(&error);
        let answer = match request {
            Request::Send(send) => return self.send(program, id, &send, session, now),
            Request::Receive(receive) => return self.receive(program, id, &receive, session),
            Request::MarkRead(read) => {
                session.mark_read(read.position).map_err(failed)?;
                Done {}.into()
            }
            Request::Contacts(list) => {
                let behind = |user: &UserName| list.after.as_ref().is_none_or(|after| user > after);
                let mut contacts = session.contacts().map_err(failed)?;
                contacts.retain(|contact| behind(&contact.user));
                let more = contacts.len() > MAX_PAGE;
                let page = contacts.into_iter().take(MAX_PAGE).map(|contact| Contact {
                    user: contact.user,
                    identity: contact.identity,
                    changed: contact.changed,
                });
                Contacts { contacts: List::new(page.collect()).unwrap_or_default(), more }.into()
            }
            Request::Devices(_) => {
                if !session.is_connected() {
                    let reason = session.trouble().unwrap_or("the agent is not connected yet");
                    return Err(Refused::new(Code::Unreachable, reason));
                }
                if self.asking.iter().filter(|(of, _)| *of == program).count() >= MAX_ASKING {
                    return Err(Refused::new(Code::Busy, "this program has asked for the devices already"));
                }
                self.asking.push((program, id));
                return Ok(None);
            }
            Request::SafetyNumber(with) => {
                let digits = session.safety_number(&with.user).map_err(failed)?;
                let contacts = session.contacts().map_err(failed)?;
                let changed =
                    contacts.iter().any(|contact| contact.user == with.user && contact.changed.is_some());
                SafetyNumber { digits: Text::new(&digits), changed }.into()
            }
            Request::Accept(accept) => {
                session.accept(&accept.user).map_err(failed)?;
                Done {}.into()
            }
            Request::Status(_) => self.status(session, now)?.into(),
            Request::Notify(notify) => self.notify(program, &notify, session, now)?.into(),
        };
        Ok(Some(answer))
    }

    fn send(
        &mut self,
        program: Program,
        id: u32,
        send: &Send,
        session: &mut impl Session,
        now: Instant,
    ) -> Result<Option<Answer>, Refused> {
        if self.waiting.iter().filter(|waiting| waiting.program == program).count() >= MAX_WAITING {
            return Err(Refused::new(Code::Busy, "this program waits for too many messages already"));
        }
        if send.kind == Kind::Receipt {
            return Err(Refused::new(Code::Invalid, "receipts are sent by the agent itself"));
        }
        let message =
            session.send(&send.recipient, send.kind, &send.body).map_err(|error| Refused::from(&error))?;
        self.counters.accepted += 1;
        // If the relay is known to be away there is nothing to wait for.
        if send.wait == 0 || session.trouble().is_some() {
            return Ok(Some(queued(message).into()));
        }
        let until = now + Duration::from_millis(send.wait.min(MAX_WAIT).into());
        self.waiting.push(Waiting { message, program, request: id, until });
        Ok(None)
    }

    fn receive(
        &mut self,
        program: Program,
        id: u32,
        receive: &Receive,
        session: &mut impl Session,
    ) -> Result<Option<Answer>, Refused> {
        let inbox = session.inbox().map_err(|error| Refused::from(&error))?;
        let position = if receive.unread { inbox.read } else { receive.since };
        if position >= inbox.next {
            let text = format!("there is no message {position} yet; 0 is before the first one");
            return Err(Refused::new(Code::Invalid, &text));
        }
        if let Some(peer) = self.programs.get_mut(&program) {
            let missed = position + 1 < inbox.first;
            peer.reader = Some(Reader { request: id, position, missed, told: false });
        }
        Ok(None)
    }

    fn status(&self, session: &impl Session, now: Instant) -> Result<Status, Refused> {
        let (user, device) = session.account().ok_or_else(|| Refused::from(&Error::NotLoggedIn))?;
        let inbox = session.inbox().map_err(|error| Refused::from(&error))?;
        let since = |start: Instant| now.saturating_duration_since(start).as_secs();
        let connected = self.connected.filter(|_| session.is_connected());
        Ok(Status {
            software: Text::new(&self.config.software),
            relay: Text::new(&self.config.relay),
            user,
            device,
            uptime: since(self.started),
            connected: connected.is_some(),
            connected_for: connected.map_or(0, since),
            trouble: Text::new(session.trouble().unwrap_or_default()),
            queued: session.waiting() as u64,
            held_events: self.events.held(),
            memory: session.memory(),
            programs: u32::try_from(self.programs.len()).unwrap_or(u32::MAX),
            inbox_first: inbox.first,
            inbox_next: inbox.next,
            inbox_read: inbox.read,
            inbox_bytes: inbox.bytes,
            counters: self.counters.clone(),
        })
    }

    fn notify(
        &mut self,
        program: Program,
        notify: &Notify,
        session: &mut impl Session,
        now: Instant,
    ) -> Result<Notified, Refused> {
        let Notify { recipient, kind, text } = notify;
        let foreign = self.programs.get(&program).is_none_or(|peer| peer.rights != Rights::ALL);
        let most = if foreign { MAX_KINDS / 2 } else { MAX_KINDS };
        let noted = self.events.note(recipient, kind, text, most, now);
        let first = noted.map_err(|_| Refused::new(Code::Full, "too many kinds of events at a time"))?;
        let held = first.is_none();
        if let Some(text) = first {
            if let Err(error) = session.send(recipient, Kind::Text, text.as_bytes()) {
                self.events.undo(recipient, kind);
                return Err(Refused::from(&error));
            }
            self.counters.accepted += 1;
        }
        self.counters.events += 1;
        self.counters.summarised += u64::from(held);
        Ok(Notified { held })
    }

    /// Whether the relay is to be asked for the account's devices, once for all who have asked.
    pub fn wants_devices(&self) -> bool {
        !self.asking.is_empty()
    }

    /// What the relay has said.
    pub fn devices(&mut self, devices: Result<crate::protocol::Devices, Error>) {
        let answer = devices.map_or_else(|error| Refused::from(&error).into(), Answer::from);
        for (program, id) in std::mem::take(&mut self.asking) {
            self.answer(program, id, answer.clone());
        }
    }

    /// There is a connection to the relay.
    pub fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
        self.counters.connections += 1;
    }

    /// The relay has a message.
    pub fn confirmed(&mut self, sent: qpc_client::Sent) {
        self.counters.confirmed += 1;
        let answer = Sent {
            id: sent.id,
            confirmed: true,
            durability: sent.durability,
            devices: sent.devices,
            // An account has no more devices than fit.
            refused: List::new(sent.refused).unwrap_or_default(),
        };
        self.answer_waiting(sent.id, answer.into());
    }

    /// A message cannot be sent. Says whether somebody was told.
    pub fn not_sent(&mut self, id: MessageId, error: &Error) -> bool {
        self.counters.failed += 1;
        self.answer_waiting(id, Refused::from(error).into())
    }

    /// Something has happened that those who follow along may want to know. Who is behind learns it from the log.
    pub fn happened(&mut self, text: &str) {
        let happened = Happened { text: Text::new(text) };
        let readers = self.programs.iter().filter(|(_, peer)| peer.unwritten() < ROOM);
        let readers: Vec<(Program, u32)> =
            readers.filter_map(|(program, peer)| Some((*program, peer.reader.as_ref()?.request))).collect();
        for (program, request) in readers {
            self.answer(program, request, happened.clone().into());
        }
    }

    /// Does what there is to do without having been asked: hands messages to those who follow along, as far as they
    /// take them, keeps the inbox within its bounds, answers those who have waited long enough, sends summaries. An error
    /// is one of the agent's own state.
    pub fn work(&mut self, session: &mut impl Session, now: Instant) -> Result<(), Error> {
        let next = session.inbox()?.next;
        if let Some(before) = self.inbox_next.replace(next) {
            self.counters.received += next.saturating_sub(before);
        }
        self.counters.dropped += match session.bound_inbox(MAX_KEPT, MAX_KEPT_BYTES) {
            // What is there can still be read.
            Err(error) if error.is_full() => 0,
            dropped => dropped?,
        };
        let readers: Vec<Program> = self
            .programs
            .iter()
            .filter(|(_, peer)| peer.reader.is_some())
            .map(|(program, _)| *program)
            .collect();
        for program in readers {
            self.hand_out(program, session)?;
        }
        let late = self.waiting.extract_if(.., |waiting| waiting.until <= now).collect::<Vec<_>>();
        for Waiting { message, program, request, .. } in late {
            self.answer(program, request, queued(message).into());
        }
        let mut accepted = 0;
        self.events.summarise(now, |recipient, text| hold(recipient, text, session, &mut accepted));
        self.counters.accepted += accepted;
        Ok(())
    }

    /// When [`Service::work`] has something to do at the latest, if nothing else happens.
    pub fn due(&self) -> Option<Instant> {
        let answers = self.waiting.iter().map(|waiting| waiting.until);
        answers.chain(self.events.due()).min()
    }

    /// The agent ends: nothing is kept that is not in the journal, and whoever waits is told.
    pub fn stop(&mut self, session: &mut impl Session, now: Instant) {
        let mut accepted = 0;
        self.events.flush(now, |recipient, text| hold(recipient, text, session, &mut accepted));
        self.counters.accepted += accepted;
        for Waiting { message, program, request, .. } in std::mem::take(&mut self.waiting) {
            self.answer(program, request, queued(message).into());
        }
    }

    fn hand_out(&mut self, program: Program, session: &mut impl Session) -> Result<(), Error> {
        loop {
            let Some(peer) = self.programs.get_mut(&program) else { return Ok(()) };
            let full = peer.unwritten() >= ROOM;
            let Some(reader) = peer.reader.as_mut().filter(|_| !full) else { return Ok(()) };
            let request = reader.request;
            let answer = match session.message_after(reader.position)? {
                Some(message) => {
                    reader.position = message.position;
                    reader.told = false;
                    if message.kind == Kind::Receipt {
                        continue;
                    }
                    Item::from(message).into()
                }
                None if reader.told => return Ok(()),
                None => {
                    reader.told = true;
                    let missed = std::mem::take(&mut reader.missed);
                    CaughtUp { position: reader.position, missed }.into()
                }
            };
            self.answer(program, request, answer);
        }
    }

    fn answer_waiting(&mut self, message: MessageId, answer: Answer) -> bool {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.message == message) else {
            return false;
        };
        let Waiting { program, request, .. } = self.waiting.swap_remove(index);
        self.answer(program, request, answer);
        true
    }

    fn answer(&mut self, program: Program, id: u32, answer: Answer) {
        let Some(peer) = self.programs.get_mut(&program) else { return };
        let bytes = FromAgent { id, answer: Some(answer) }.encode();
        if peer.unwritten() + bytes.len() > MAX_UNWRITTEN || peer.unwritten.len() >= MAX_ANSWERS {
            // It asks and does not listen.
            return self.drop_program(program);
        }
        peer.unwritten.push_back(bytes.len());
        self.outputs.push_back(Output::Message(program, bytes));
    }

    fn drop_program(&mut self, program: Program) {
        self.closed(program);
        self.outputs.push_back(Output::Close(program));
    }
}

/// Journals a summary.
fn hold(recipient: &UserName, text: &str, session: &mut impl Session, accepted: &mut u64) -> bool {
    let taken = session.send(recipient, Kind::Text, text.as_bytes()).is_ok();
    *accepted += u64::from(taken);
    taken
}

/// The right that a request takes.
fn needed(request: &Request) -> Right {
    match request {
        Request::Send(_) => Right::Send,
        Request::Receive(_) | Request::MarkRead(_) => Right::Receive,
        Request::Contacts(_) | Request::Devices(_) | Request::SafetyNumber(_) => Right::Contacts,
        Request::Accept(_) => Right::Trust,
        Request::Status(_) => Right::Status,
        Request::Notify(_) => Right::Notify,
    }
}

/// It waits in the journal.
fn queued(id: MessageId) -> Sent {
    let durability = qpc_client::Durability::Durable;
    Sent { id, confirmed: false, durability, devices: 0, refused: List::default() }
}

/// Programs connected at a time.
const MAX_PROGRAMS: usize = 32;
/// Those among them that have not all rights.
const MAX_FOREIGN: usize = 16;
/// Those of one such user.
const MAX_OF_UID: usize = 8;
/// Messages that one program waits for.
const MAX_WAITING: usize = 16;
/// Requests of one program that wait for what only the relay knows.
const MAX_ASKING: usize = 4;
/// Bytes and number of answers that a program may leave unread before it is cut off.
const MAX_UNWRITTEN: usize = 112 * 1024;
const MAX_ANSWERS: usize = 256;
/// Received messages are handed out while less than this is not written; they take no more than 50 KB each.
const ROOM: usize = 16 * 1024;
/// Received messages that are kept, and their bytes: they are on flash.
const MAX_KEPT: u64 = 1024;
const MAX_KEPT_BYTES: u64 = 512 * 1024;
