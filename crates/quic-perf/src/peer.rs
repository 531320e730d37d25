//! What client and server have in common: events go in, actions come out. Neither knows of sockets, clocks, or who speaks
//! QUIC.

/// Microseconds of a clock that begins anywhere.
pub(crate) type Time = u64;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// The beginning, or a time that [`Peer::deadline`] named.
    Tick,
    /// The other side is heard.
    Progress,
    /// A connection's handshake is done.
    Ready { connection: u64 },
    /// Data of a stream, in order.
    Data { connection: u64, stream: u64, bytes: &'a [u8], fin: bool },
    /// The other side gave up a stream.
    Reset { connection: u64, stream: u64 },
    /// A connection is over.
    Closed { connection: u64, failed: bool },
    /// It is to end.
    Stop,
}

/// Something to be done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Begin a connection. They count from 1.
    Connect { connection: u64 },
    /// Send on a stream.
    Send(Send),
    /// End a connection with code 0.
    Close { connection: u64, reason: &'static str },
}

/// Bytes for a stream: a head, and payload after it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Send {
    pub(crate) connection: u64,
    pub(crate) stream: u64,
    pub(crate) head: Vec<u8>,
    pub(crate) payload: u64,
    pub(crate) fin: bool,
}

/// One side.
pub(crate) trait Peer {
    /// Takes an event and appends what is to be done.
    fn handle(&mut self, event: Event<'_>, now: Time, actions: &mut Vec<Action>);

    /// When to say [`Event::Tick`].
    fn deadline(&self) -> Option<Time>;

    /// It wants no more events, once everything is sent.
    fn finished(&self) -> bool;
}
