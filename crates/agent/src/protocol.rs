//! What an agent and the programs of its machine say to each other, each message one of LibIPC.
//!
//! The encoding is that of the relay's protocol, [`qpc_proto::wire`]: fields that a reader does not know are skipped,
//! every length and count has a bound. A program sends [`FromProgram`]; whatever answers it carries its id. Numbers 32
//! to 47 of requests and answers are kept for groups.

use qpc_client::{
    ConversationId, DeviceId, Durability, Error, ErrorKind, Kind, MAX_BODY, MessageId, UserName,
};
use qpc_proto::id::PublicKey;
use qpc_proto::limits::{MAX_DEVICES, MAX_REASON};
use qpc_proto::message::DeviceInfo;
use qpc_proto::wire::{Blob, List, Text};
use qpc_proto::{code, message, oneof};

/// The name of the service in the run directory.
pub const SERVICE: &[u8] = b"qpc";

/// The version of this protocol. An agent refuses others by [`Code::Version`].
pub const VERSION: u32 = 1;

/// Contacts in one answer.
pub const MAX_PAGE: usize = 64;
/// Bytes of the kind of a router's event.
pub const MAX_EVENT_KIND: usize = 32;
/// Bytes of its text.
pub const MAX_EVENT_TEXT: usize = 1024;

message! {
    /// From a program to the agent.
    pub struct FromProgram {
        /// [`VERSION`].
        1 version: u32,
        /// Chosen by the program; what answers carries it.
        2 id: u32,
        oneof request: Request,
    }

    /// From the agent to a program.
    pub struct FromAgent {
        /// The request's.
        1 id: u32,
        oneof answer: Answer,
    }
}

oneof! {
    /// What a program asks.
    pub enum Request {
        /// Answered by [`Answer::Sent`].
        16 Send(Send),
        /// Answered by [`Answer::Item`], [`Answer::CaughtUp`] and [`Answer::Happened`], without end.
        17 Receive(Receive),
        /// Answered by [`Answer::Done`].
        18 MarkRead(MarkRead),
        /// Answered by [`Answer::Contacts`].
        19 Contacts(ListContacts),
        /// Answered by [`Answer::Devices`].
        20 Devices(ListDevices),
        /// Answered by [`Answer::SafetyNumber`].
        21 SafetyNumber(CompareWith),
        /// Answered by [`Answer::Done`].
        22 Accept(Accept),
        /// Answered by [`Answer::Status`].
        23 Status(AskStatus),
        /// Answered by [`Answer::Notified`].
        24 Notify(Notify),
    }
}

oneof! {
    /// What the agent says.
    pub enum Answer {
        /// The request is not done.
        16 Refused(Refused),
        /// It is.
        17 Done(Done),
        /// A message is on its way.
        18 Sent(Sent),
        /// A received message.
        19 Item(Item),
        /// For now that was all of them.
        20 CaughtUp(CaughtUp),
        /// Something else that happened, to programs that follow along.
        21 Happened(Happened),
        /// Contacts.
        22 Contacts(Contacts),
        /// Devices.
        23 Devices(Devices),
        /// A safety number.
        24 SafetyNumber(SafetyNumber),
        /// How the agent is.
        25 Status(Status),
        /// An event is noted.
        26 Notified(Notified),
    }
}

message! {
    /// Sends a message.
    pub struct Send {
        /// To whom.
        1 recipient: UserName,
        /// What the body is.
        2 kind: Kind,
        /// The body.
        3 body: Blob<MAX_BODY>,
        /// Milliseconds to wait for the relay to confirm; no more than [`MAX_WAIT`].
        4 wait: u32,
    }

    /// Follows along: messages from a position on, then what comes. A second one takes the place of the first.
    pub struct Receive {
        /// Only messages behind this position.
        1 since: u64,
        /// Instead, those that nobody has read yet.
        2 unread: bool,
    }

    /// The messages up to this position are read.
    pub struct MarkRead {
        /// The last one's.
        1 position: u64,
    }

    /// Asks whom this device knows.
    pub struct ListContacts {
        /// Those behind this name.
        1 after: Option<UserName>,
    }

    /// Asks for the account's devices.
    pub struct ListDevices {}

    /// Asks for the safety number with a user.
    pub struct CompareWith {
        /// Whom.
        1 user: UserName,
    }

    /// Trusts a changed identity.
    pub struct Accept {
        /// Whose.
        1 user: UserName,
    }

    /// Asks how the agent is.
    pub struct AskStatus {}

    /// Something has happened on the router that somebody should know.
    pub struct Notify {
        /// Who.
        1 recipient: UserName,
        /// What it is about: events of one kind are summarised.
        2 kind: Text<MAX_EVENT_KIND>,
        /// What has happened.
        3 text: Text<MAX_EVENT_TEXT>,
    }

    /// Why a request was not done.
    pub struct Refused {
        /// For programs.
        1 code: Code,
        /// For people.
        2 reason: Text<MAX_REASON>,
    }

    /// Nothing to say.
    pub struct Done {}

    /// What became of a message.
    pub struct Sent {
        /// Its id.
        1 id: MessageId,
        /// The relay has it. If not it is in the agent's journal, and goes out by itself.
        2 confirmed: bool,
        /// Whether the relay keeps it through a power cut.
        3 durability: Durability,
        /// How many devices get it.
        4 devices: u32,
        /// Devices whose queues at the relay were full.
        5 refused: List<DeviceId, MAX_DEVICES>,
    }

    /// A received message.
    pub struct Item {
        /// Its place: where to go on from.
        1 position: u64,
        /// In which conversation.
        2 conversation: ConversationId,
        /// Who wrote it.
        3 sender: UserName,
        /// On which device.
        4 device: DeviceId,
        /// Its id.
        5 id: MessageId,
        /// Seconds since 1970 when the relay took it; 0 if not known.
        6 relay_time: u64,
        /// Seconds since 1970 when it was sent, by the sender's clock; 0 if not known.
        7 sender_time: u64,
        /// What the body is.
        8 kind: Kind,
        /// The body.
        9 body: Blob<MAX_BODY>,
        /// Whether the relay would have kept it through a power cut.
        10 durability: Durability,
    }

    /// All messages there are were sent.
    pub struct CaughtUp {
        /// The last one's position.
        1 position: u64,
        /// Messages between the position asked for and the first one sent are not kept any more.
        2 missed: bool,
    }

    /// Something happened.
    pub struct Happened {
        /// What, in a sentence.
        1 text: Text<MAX_REASON>,
    }

    /// Some contacts.
    pub struct Contacts {
        /// In the order of their names.
        1 contacts: List<Contact, MAX_PAGE>,
        /// There are more behind the last one.
        2 more: bool,
    }

    /// Somebody this device knows.
    pub struct Contact {
        /// Who.
        1 user: UserName,
        /// The identity that is trusted.
        2 identity: PublicKey,
        /// Another one, that waits to be accepted.
        3 changed: Option<PublicKey>,
    }

    /// The account's devices.
    pub struct Devices {
        /// The agent's.
        1 this: DeviceId,
        /// All of them.
        2 devices: List<DeviceInfo, MAX_DEVICES>,
    }

    /// A safety number.
    pub struct SafetyNumber {
        /// Its digits.
        1 digits: Text<80>,
        /// It is that of a new identity, which is not accepted yet.
        2 changed: bool,
    }

    /// How the agent is.
    pub struct Status {
        /// Name and version of the program.
        1 software: Text<64>,
        /// Where the relay is.
        2 relay: Text<MAX_REASON>,
        /// Whose device this is.
        3 user: UserName,
        /// Which.
        4 device: DeviceId,
        /// Seconds since the agent began.
        5 uptime: u64,
        /// Whether there is a session with the relay.
        6 connected: bool,
        /// Seconds since it was opened.
        7 connected_for: u64,
        /// Why there is none.
        8 trouble: Text<MAX_REASON>,
        /// Messages that wait to be sent or confirmed.
        9 queued: u64,
        /// Events that wait for their summary.
        10 held_events: u64,
        /// Bytes of memory, resident.
        11 memory: u64,
        /// Programs that are connected.
        12 programs: u32,
        /// The position of the oldest message that is kept.
        13 inbox_first: u64,
        /// The position that the next message gets.
        14 inbox_next: u64,
        /// The last one that counts as read.
        15 inbox_read: u64,
        /// Bytes of those that are kept.
        16 inbox_bytes: u64,
        /// What it has done since it began.
        17 counters: Counters,
    }

    /// What an agent has done since it began.
    pub struct Counters {
        /// Requests of programs.
        1 requests: u64,
        /// Those that were refused for want of a right.
        2 denied: u64,
        /// Messages that were handed over to be sent.
        3 accepted: u64,
        /// Messages that the relay has confirmed.
        4 confirmed: u64,
        /// Messages that could not be sent.
        5 failed: u64,
        /// Messages that came.
        6 received: u64,
        /// Messages that were dropped from the inbox unread.
        7 dropped: u64,
        /// Events that were noted.
        8 events: u64,
        /// Events that went into a summary.
        9 summarised: u64,
        /// How often a connection to the relay was made.
        10 connections: u64,
    }

    /// An event is noted.
    pub struct Notified {
        /// It waits for a summary; else it is on its way by itself.
        1 held: bool,
    }
}

code! {
    /// Why a request was not done. Those below 10 are also the exit status of `qpc`.
    pub enum Code {
        /// Something else.
        Other = 1,
        /// What was asked for makes no sense.
        Invalid = 2,
        /// The relay cannot be reached.
        Unreachable = 3,
        /// The relay refused.
        RelayRefused = 4,
        /// The agent is not logged in.
        NotLoggedIn = 5,
        /// Nobody has the name, or not a single device.
        UnknownUser = 6,
        /// The relay did not answer in time.
        Timeout = 7,
        /// The agent's state cannot be used.
        State = 8,
        /// The program has not the right.
        Denied = 10,
        /// Too many programs are connected, or one has too much under way.
        Busy = 11,
        /// As many messages wait to be sent as may.
        Full = 12,
        /// The agent speaks another version of this protocol.
        Version = 13,
        /// The agent does not know such a request.
        Unsupported = 14,
    }
}

/// Milliseconds that a program may wait for the relay's confirmation.
pub const MAX_WAIT: u32 = 60_000;

impl Refused {
    /// With a reason for people.
    pub fn new(code: Code, reason: &str) -> Self {
        Self { code, reason: Text::new(reason) }
    }
}

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        let code = match error.kind() {
            _ if matches!(error, Error::TooManyQueued) => Code::Full,
            ErrorKind::Invalid => Code::Invalid,
            ErrorKind::AuthFailed | ErrorKind::NotLoggedIn => Code::NotLoggedIn,
            ErrorKind::Unreachable => Code::Unreachable,
            ErrorKind::Refused => Code::RelayRefused,
            ErrorKind::UnknownUser => Code::UnknownUser,
            ErrorKind::Timeout => Code::Timeout,
            ErrorKind::State => Code::State,
            ErrorKind::Queued | ErrorKind::Other => Code::Other,
        };
        Self::new(code, &error.to_string())
    }
}

impl From<qpc_client::Message> for Item {
    fn from(message: qpc_client::Message) -> Self {
        Self {
            position: message.position,
            conversation: message.conversation,
            sender: message.sender,
            device: message.device,
            id: message.id,
            relay_time: message.relay_time,
            sender_time: message.sender_time,
            kind: message.kind,
            // It was no longer in the inbox.
            body: Blob::new(message.body).unwrap_or_default(),
            durability: message.durability,
        }
    }
}

impl From<Item> for qpc_client::Message {
    fn from(item: Item) -> Self {
        Self {
            position: item.position,
            conversation: item.conversation,
            sender: item.sender,
            device: item.device,
            id: item.id,
            relay_time: item.relay_time,
            sender_time: item.sender_time,
            kind: item.kind,
            body: item.body.into_vec(),
            durability: item.durability,
        }
    }
}
