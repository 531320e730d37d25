use crate::Error;
use crate::frame::{self, HEADER, MAX_FRAME, first_frame, frame};
use crate::peer::{Link, Peer, Sent};
use crate::service::{self, Service};
use crate::socket;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many bytes may wait for a peer, unless [`Context::set_queue_limit`] says otherwise.
pub const QUEUE_LIMIT: usize = 4 << 20;

/// How many bytes all peers of a context may hold, unless [`Context::set_memory_limit`] says otherwise.
pub const MEMORY_LIMIT: usize = 8 << 20;

/// How much is read at once.
const SCRATCH: usize = 16 << 10;

/// A switched connection is not read while this waits for the other.
const SWITCH_LIMIT: usize = MAX_FRAME;

/// After so many events of those with work epoll is asked as well.
const STREAK: u8 = 8;

/// When a service that had no file descriptors left tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Reads a message of a switched connection in place of the library: puts header and bytes, as [`frame`] makes them,
/// into the buffer, which is empty. It is called when there is something to read.
pub type Input = Box<dyn FnMut(RawFd, &mut Vec<u8>) -> Verdict + Send>;

/// Writes a message to a switched connection in place of the library; it gets header and bytes, and is called when
/// there is room.
pub type Output = Box<dyn FnMut(RawFd, &[u8]) -> Verdict + Send>;

/// What a callback did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The connection is at its end; so is the switch.
    Closing,
    /// Something is wrong; the switch ends.
    Error,
    /// There is no message, or it is not to be sent; all goes on.
    Ignore,
    /// A message was read or written.
    Message,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A new connection, to this service.
    Connection {
        /// The service's file descriptor.
        server: RawFd,
    },
    /// The peer is gone, and closed on this side too. If it was switched, the other end is closed as well, once what
    /// waits for it is written; that is not reported.
    Disconnection,
    /// Something is wrong: with a service, that there are no file descriptors for more connections; with a switched
    /// connection, that a callback said so, and both ends are closed.
    Error,
    /// An external file descriptor has something to read, or is at the end of it.
    External,
    /// A message came.
    MessageRx,
    /// A scheduled message is written.
    MessageTx,
    /// A message came from one end of a switch, and is queued for the other.
    SwitchRx,
    /// A message was written to an end of a switch.
    SwitchTx,
    /// The timer.
    Timer,
}

/// What [`Context::wait`] waited for.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventKind,
    /// To which connection: its index (after a disconnection, the one it had).
    pub index: usize,
    /// Its file descriptor.
    pub fd: RawFd,
    /// The message, if one came.
    pub message: &'a [u8],
}

/// The same before the message is borrowed.
struct Happened {
    kind: EventKind,
    index: usize,
    fd: RawFd,
}

struct Timer {
    period: Duration,
    next: Instant,
    /// The last event was the timer's: others come first now.
    was_last: bool,
}

/// Services, connections, and what waits in them.
pub struct Context {
    epoll: Epoll,
    run_dir: PathBuf,
    peers: Vec<Peer>,
    /// Where in `peers` each file descriptor is.
    indices: HashMap<RawFd, usize>,
    /// Those with work that epoll does not know of.
    work: VecDeque<RawFd>,
    streak: u8,
    timer: Option<Timer>,
    /// When services that are full try again.
    retry: Option<Instant>,
    queue_limit: usize,
    memory_limit: usize,
    /// What all peers hold.
    held: usize,
    /// Counts what happens, for who is stuck the longest.
    clock: u64,
    scratch: Box<[u8]>,
    message: Vec<u8>,
}

impl Context {
    /// An empty context, whose services are in the run directory of the environment; see [`crate::run_dir`].
    pub fn new() -> Result<Self, Error> {
        Self::in_dir(service::run_dir())
    }

    /// An empty context with a run directory of its own. It is made when it is needed, in a directory that is there.
    pub fn in_dir(run_dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            run_dir: run_dir.into(),
            peers: Vec::new(),
            indices: HashMap::new(),
            work: VecDeque::new(),
            streak: 0,
            timer: None,
            retry: None,
            queue_limit: QUEUE_LIMIT,
            memory_limit: MEMORY_LIMIT,
            held: 0,
            clock: 0,
            scratch: vec![0; SCRATCH].into(),
            message: Vec::new(),
        })
    }

    /// From now on there is a timer event every so often, however much else happens; or none.
    pub fn set_timer(&mut self, period: Option<Duration>) {
        self.timer = period.and_then(|period| {
            let next = Instant::now().checked_add(period)?;
            Some(Timer { period, next, was_last: false })
        });
    }

    /// How many bytes may wait for each peer. What waits already stays.
    pub fn set_queue_limit(&mut self, bytes: usize) {
        self.queue_limit = bytes;
    }

    /// How many bytes all peers together may hold: messages that are queued for them, and what came of messages that
    /// are not whole yet. When it is more, the connection in which nothing moved for the longest time is closed; a
    /// peer that only holds memory does not keep it from those that work.
    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.memory_limit = bytes;
    }

    /// Opens a service.
    pub fn listen(&mut self, service: &[u8]) -> Result<RawFd, Error> {
        let service = Service::new(&self.run_dir, service)?;
        self.insert(Link::Server(service))
    }

    /// Connects to a service.
    pub fn connect(&mut self, service: &[u8]) -> Result<RawFd, Error> {
        let fd = service::connect_to(&self.run_dir, service)?;
        self.insert(Link::Ipc(fd))
    }

    /// Takes over a stream whose other end speaks the protocol.
    pub fn add_connection(&mut self, fd: impl Into<OwnedFd>) -> Result<RawFd, Error> {
        self.insert(Link::Ipc(fd.into()))
    }

    /// Takes over a file descriptor that the program reads itself, on [`EventKind::External`]. One that epoll cannot
    /// watch, a regular file for example, is given back.
    pub fn add_external(&mut self, fd: impl Into<OwnedFd>) -> Result<RawFd, (Error, OwnedFd)> {
        let fd = fd.into();
        match self.watch(fd.as_fd()) {
            Ok(()) => Ok(self.admit(Link::External(fd))),
            Err(error) => Err((error, fd)),
        }
    }

    /// From now on, messages of each of two connections go to the other.
    pub fn add_switch(&mut self, fd1: RawFd, fd2: RawFd) -> Result<(), Error> {
        let (one, other) = (self.connection(fd1)?, self.connection(fd2)?);
        if one == other || self.peers[one].is_switched() || self.peers[other].is_switched() {
            return Err(Error::NotFound);
        }
        self.peers[one].mate = Some(fd2);
        self.peers[other].mate = Some(fd1);
        self.settle(fd1);
        self.settle(fd2);
        Ok(())
    }

    /// How a connection is read and written while it is switched; `None` is how the library does it. What the library
    /// has read of it before, up to the end of a message, it takes as it did.
    pub fn set_switch_callbacks(
        &mut self,
        fd: RawFd,
        input: Option<Input>,
        output: Option<Output>,
    ) -> Result<(), Error> {
        let index = self.connection(fd)?;
        self.peers[index].input = input;
        self.peers[index].output = output;
        Ok(())
    }

    /// Queues a message, to be written when the peer takes it; [`EventKind::MessageTx`] says when.
    pub fn schedule(&mut self, fd: RawFd, message: &[u8]) -> Result<(), Error> {
        let frame = frame(message)?;
        let index = self.connection(fd)?;
        let cost = frame::cost(&frame);
        if self.peers[index].outbox.cost() + cost > self.queue_limit || !self.make_room(cost, Some(index)) {
            return Err(Error::QueueFull);
        }
        self.peers[index].enqueue(frame);
        self.settle(fd);
        Ok(())
    }

    /// Writes a message, after those that are queued, and waits until the kernel has it: as long as the peer does not
    /// read, if its buffer is full.
    pub fn write(&mut self, fd: RawFd, message: &[u8]) -> Result<(), Error> {
        let frame = frame(message)?;
        let index = self.connection(fd)?;
        self.peers[index].enqueue(frame);
        let written = Self::write_out(&mut self.peers[index]);
        if written.is_err() {
            self.peers[index].give_up();
        }
        self.settle(fd);
        written
    }

    /// Waits for the next message of this connection and for nothing else. One that is longer than `max` stays.
    pub fn read(&mut self, fd: RawFd, max: usize) -> Result<&[u8], Error> {
        let index = self.connection(fd)?;
        let read = self.read_one(index, max);
        self.settle(fd);
        read.map(|()| &self.message[..])
    }

    /// Waits for the next event.
    pub fn wait(&mut self) -> Result<Event<'_>, Error> {
        let Happened { kind, index, fd } = loop {
            if let Some(happened) = self.next(true)? {
                break happened;
            }
        };
        Ok(Event { kind, index, fd, message: &self.message })
    }

    /// The next event, if there is one, for a program with a loop of its own. That waits for the context's file
    /// descriptor (it is readable when there may be an event) and then asks until there is none; now and then also
    /// without it, for the timer and for services that were full.
    pub fn poll(&mut self) -> Result<Option<Event<'_>>, Error> {
        let happened = self.next(false)?;
        Ok(happened.map(|Happened { kind, index, fd }| Event { kind, index, fd, message: &self.message }))
    }

    /// Closes a connection, with what is queued for it, or a service. If it was switched, the other end stays, as it
    /// was before; but what the library has read of an external one, and not passed on, is lost.
    pub fn close(&mut self, fd: RawFd) -> Result<(), Error> {
        let index = *self.indices.get(&fd).ok_or(Error::NotFound)?;
        let mate = self.remove(index).mate;
        if let Some(mate) = mate {
            self.part(mate);
        }
        Ok(())
    }

    /// Closes all of them.
    pub fn close_all(&mut self) {
        while let Some(last) = self.peers.len().checked_sub(1) {
            self.remove(last);
        }
        self.work.clear();
    }

    /// How many bytes all peers hold; see [`Context::set_memory_limit`].
    pub fn memory_held(&self) -> usize {
        self.held
    }

    /// The file descriptor at this index.
    pub fn fd_at(&self, index: usize) -> Option<RawFd> {
        self.peers.get(index).map(Peer::raw_fd)
    }

    /// A connection's file descriptor, for what this library does not do with it: peer credentials, for example.
    pub fn borrow(&self, fd: RawFd) -> Option<BorrowedFd<'_>> {
        self.indices.get(&fd).map(|index| self.peers[*index].link.as_fd())
    }

    /// The next event; without one, waits for it or says so.
    fn next(&mut self, waits: bool) -> Result<Option<Happened>, Error> {
        self.message.clear();
        let mut timer_may = self.timer.as_mut().is_none_or(|timer| !std::mem::take(&mut timer.was_last));
        loop {
            let now = Instant::now();
            if let Some(timer) = &mut self.timer
                && timer_may
                && timer.next <= now
            {
                timer.next += timer.period;
                if timer.next <= now {
                    // Those that were missed are not made up for.
                    timer.next = now + timer.period;
                }
                timer.was_last = true;
                return Ok(Some(Happened { kind: EventKind::Timer, index: 0, fd: 0 }));
            }
            timer_may = true;
            if self.retry.is_some_and(|retry| retry <= now) {
                self.retry_full();
            }
            let next = if self.streak < STREAK { self.work.pop_front() } else { None };
            let happened = if let Some(fd) = next {
                self.streak += 1;
                self.react(fd, EpollFlags::empty())
            } else {
                self.streak = 0;
                let mut events = [EpollEvent::empty()];
                let timeout = if waits { self.timeout(now) } else { EpollTimeout::ZERO };
                match self.epoll.wait(&mut events, timeout) {
                    Ok(0) if !waits && self.work.is_empty() => return Ok(None),
                    Ok(0) | Err(Errno::EINTR) => None,
                    Ok(_) => self.react(token_fd(events[0].data()), events[0].events()),
                    Err(errno) => return Err(errno.into()),
                }
            };
            if happened.is_some() {
                return Ok(happened);
            }
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        if !self.work.is_empty() {
            return EpollTimeout::ZERO;
        }
        let timer = self.timer.as_ref().map(|timer| timer.next);
        let Some(first) = timer.into_iter().chain(self.retry).min() else { return EpollTimeout::NONE };
        // Rounded up: a timer that is early would be asked for again and again.
        let wait = first.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    /// Does what one event of epoll, or a place in the list of those with work, is good for.
    fn react(&mut self, fd: RawFd, flags: EpollFlags) -> Option<Happened> {
        let index = *self.indices.get(&fd)?;
        if flags.is_empty() {
            self.peers[index].listed = false;
        }
        let mate = self.peers[index].mate;
        let happened = self.act(index, fd, flags);
        self.settle(fd);
        if let Some(mate) = mate {
            self.settle(mate);
        }
        happened
    }

    fn act(&mut self, index: usize, fd: RawFd, flags: EpollFlags) -> Option<Happened> {
        let peer = &mut self.peers[index];
        if peer.is_server() {
            return self.accept(index);
        }
        if peer.owed > 0 {
            peer.owed -= 1;
            return Some(Happened { kind: sent(peer), index, fd });
        }
        if peer.failed {
            let silent = peer.closing;
            let end = self.end(index, EventKind::Disconnection);
            return if silent { None } else { Some(end) };
        }
        if flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            peer.blocked = false;
        }
        // By turns, or a peer that always sends would never be written to, or the other way round.
        peer.write_first = !peer.write_first;
        for write in [peer.write_first, !peer.write_first] {
            let happened = if write { self.transmit(index) } else { self.receive(index, flags) };
            if happened.is_some() || !self.indices.contains_key(&fd) {
                return happened;
            }
        }
        None
    }

    fn accept(&mut self, index: usize) -> Option<Happened> {
        let Link::Server(service) = &self.peers[index].link else { return None };
        let server = service.listener.as_raw_fd();
        match service.listener.accept() {
            Ok((stream, _)) => {
                let fd = stream.as_raw_fd();
                // If epoll takes no more of them, the connection is closed again.
                self.insert(Link::Ipc(stream.into())).ok()?;
                let index = self.indices[&fd];
                Some(Happened { kind: EventKind::Connection { server }, index, fd })
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                None
            }
            Err(_) => {
                // It would be reported without end.
                self.peers[index].full = true;
                self.retry.get_or_insert_with(|| Instant::now() + RETRY);
                Some(Happened { kind: EventKind::Error, index, fd: server })
            }
        }
    }

    fn retry_full(&mut self) {
        self.retry = None;
        for index in 0..self.peers.len() {
            if std::mem::take(&mut self.peers[index].full) {
                self.settle(self.peers[index].raw_fd());
            }
        }
    }

    fn transmit(&mut self, index: usize) -> Option<Happened> {
        let peer = &mut self.peers[index];
        if peer.blocked {
            return None;
        }
        let (kind, fd) = (sent(peer), peer.raw_fd());
        let happened = match peer.transmit() {
            Sent::Frame => Some(Happened { kind, index, fd }),
            Sent::Nothing => None,
            Sent::Failed(kind) if peer.mate.is_some() => return Some(self.end(index, kind)),
            Sent::Failed(_) => {
                peer.give_up();
                None
            }
        };
        if peer.closing && peer.outbox.is_empty() {
            self.remove(index);
        }
        happened
    }

    fn receive(&mut self, index: usize, flags: EpollFlags) -> Option<Happened> {
        let readable = !(flags - EpollFlags::EPOLLOUT).is_empty();
        let peer = &self.peers[index];
        let fd = peer.raw_fd();
        if self.is_held_up(peer) {
            return None;
        }
        // What the library has read already no callback can read: that is taken first.
        if peer.is_read_by_callback() && peer.inbox.is_empty() {
            return if readable { self.call_input(index) } else { None };
        }
        if !peer.is_read() {
            return if readable && !peer.closing { self.attend(index, flags) } else { None };
        }
        match self.take(index, readable) {
            Ok(false) => None,
            Ok(true) => {
                let Some(mate) = self.peers[index].mate else {
                    return Some(Happened { kind: EventKind::MessageRx, index, fd });
                };
                match frame(&self.message) {
                    Ok(frame) => Some(self.forward(index, mate, frame)),
                    Err(_) => Some(self.end(index, EventKind::Error)),
                }
            }
            Err(_) => Some(self.end(index, EventKind::Disconnection)),
        }
    }

    /// Puts the next message of a connection into `self.message`; an error if it is at its end.
    fn take(&mut self, index: usize, readable: bool) -> Result<bool, Error> {
        let ready = self.peers[index].inbox.is_ready();
        let read = if readable && !ready { self.fill(index)? } else { 0 };
        let (bytes, inbox) = (&self.scratch[..read], &mut self.peers[index].inbox);
        // Most messages come whole, and those take no memory of the peer's.
        let whole = if inbox.is_empty() { first_frame(bytes)? } else { None };
        if let Some(len) = whole {
            self.message.clear();
            self.message.extend_from_slice(&bytes[HEADER..len]);
            inbox.push(&bytes[len..]);
            return Ok(true);
        }
        inbox.push(bytes);
        inbox.pop(&mut self.message)
    }

    /// Reads what the inbox wants into `self.scratch`; how much came.
    fn fill(&mut self, index: usize) -> Result<usize, Error> {
        let peer = &self.peers[index];
        // What follows the rest of a half frame is the callback's.
        let wanted =
            if peer.is_read_by_callback() { peer.inbox.lacks() } else { peer.inbox.wants() }.min(SCRATCH);
        match socket::read(peer.link.as_fd(), &mut self.scratch[..wanted]) {
            Ok(0) => Err(Error::Disconnected),
            Ok(read) => Ok(read),
            Err(Errno::EAGAIN) => Ok(0),
            Err(_) => Err(Error::Disconnected),
        }
    }

    fn call_input(&mut self, index: usize) -> Option<Happened> {
        let peer = &mut self.peers[index];
        let fd = peer.raw_fd();
        let (Some(input), Some(mate)) = (&mut peer.input, peer.mate) else { return None };
        let mut frame = Vec::new();
        match input(fd, &mut frame) {
            Verdict::Ignore => None,
            Verdict::Closing => Some(self.end(index, EventKind::Disconnection)),
            Verdict::Message if matches!(first_frame(&frame), Ok(Some(len)) if len == frame.len()) => {
                self.message.clear();
                self.message.extend_from_slice(&frame[HEADER..]);
                Some(self.forward(index, mate, frame))
            }
            // What is not a frame would take the other end out of step.
            Verdict::Message | Verdict::Error => Some(self.end(index, EventKind::Error)),
        }
    }

    fn forward(&mut self, index: usize, mate: RawFd, frame: Vec<u8>) -> Happened {
        if let Some(mate) = self.indices.get(&mate) {
            self.peers[*mate].enqueue(frame);
        }
        Happened { kind: EventKind::SwitchRx, index, fd: self.peers[index].raw_fd() }
    }

    /// Something is with an external file descriptor.
    fn attend(&mut self, index: usize, flags: EpollFlags) -> Option<Happened> {
        let fd = self.peers[index].raw_fd();
        let readable = flags.contains(EpollFlags::EPOLLIN);
        // One that has only sent all of it may still read: the program is to find that out.
        let hung_up = flags.contains(EpollFlags::EPOLLHUP);
        let kind = if readable && !hung_up {
            EventKind::External
        } else {
            match socket::peek(self.peers[index].link.as_fd()) {
                Ok(1..) => EventKind::External,
                // What is not a socket has said all in its flags.
                Err(Errno::ENOTSOCK) if readable => EventKind::External,
                Err(Errno::ENOTSOCK) => return Some(self.end(index, EventKind::Disconnection)),
                _ if hung_up => return Some(self.end(index, EventKind::Disconnection)),
                Ok(0) | Err(Errno::EAGAIN) => EventKind::External,
                Err(_) => EventKind::Error,
            }
        };
        Some(Happened { kind, index, fd })
    }

    fn write_out(peer: &mut Peer) -> Result<(), Error> {
        while !peer.outbox.is_empty() {
            if std::mem::take(&mut peer.blocked) {
                socket::wait(peer.link.as_fd(), PollFlags::POLLOUT)?;
            }
            match peer.transmit() {
                // Those before the one that is written now were scheduled.
                Sent::Frame if !peer.outbox.is_empty() => peer.owed += 1,
                Sent::Frame | Sent::Nothing => {}
                Sent::Failed(_) => return Err(Error::Disconnected),
            }
        }
        Ok(())
    }

    fn read_one(&mut self, index: usize, max: usize) -> Result<(), Error> {
        loop {
            match self.peers[index].inbox.first()? {
                Some(len) if len - HEADER > max => return Err(Error::BufferTooSmall(len - HEADER)),
                Some(_) => return self.take(index, false).map(drop),
                None => {
                    socket::wait(self.peers[index].link.as_fd(), PollFlags::POLLIN)?;
                    let read = self.fill(index)?;
                    self.peers[index].inbox.push(&self.scratch[..read]);
                }
            }
        }
    }

    /// Where a connection is, if it is one and not a service. One that failed may be within a message, either way.
    fn connection(&self, fd: RawFd) -> Result<usize, Error> {
        let index = *self.indices.get(&fd).ok_or(Error::NotFound)?;
        match &self.peers[index] {
            peer if peer.is_server() => Err(Error::NotFound),
            peer if peer.failed => Err(Error::Disconnected),
            _ => Ok(index),
        }
    }

    fn insert(&mut self, link: Link) -> Result<RawFd, Error> {
        self.watch(link.as_fd())?;
        Ok(self.admit(link))
    }

    /// Tells epoll of what is about to be admitted.
    fn watch(&mut self, new: BorrowedFd<'_>) -> Result<(), Error> {
        let fd = new.as_raw_fd();
        if let Some(&index) = self.indices.get(&fd) {
            // The program closed it without a word, and the number is in use again: it is not to be closed once more.
            let old = self.remove(index);
            if let Some(mate) = old.mate {
                self.part(mate);
            }
            std::mem::forget(old.link);
        }
        Ok(self.epoll.add(new, EpollEvent::new(incoming(), token(fd)))?)
    }

    fn admit(&mut self, link: Link) -> RawFd {
        let mut peer = Peer::new(link);
        peer.watched = incoming();
        let fd = peer.raw_fd();
        self.indices.insert(fd, self.peers.len());
        self.peers.push(peer);
        fd
    }

    fn remove(&mut self, index: usize) -> Peer {
        let peer = self.peers.swap_remove(index);
        self.indices.remove(&peer.raw_fd());
        self.held -= peer.held;
        if let Some(moved) = self.peers.get(index) {
            self.indices.insert(moved.raw_fd(), index);
        }
        if !peer.watched.is_empty() {
            // Closing does not do it if another process has the file too.
            let _ = self.epoll.delete(&peer.link);
        }
        peer
    }

    /// Takes a connection out, and what it was switched with once nothing waits for that any more.
    fn end(&mut self, index: usize, kind: EventKind) -> Happened {
        let peer = self.remove(index);
        if let Some(mate) = peer.mate.and_then(|mate| self.indices.get(&mate).copied()) {
            let other = &mut self.peers[mate];
            other.mate = None;
            other.closing = true;
            if other.outbox.is_empty() {
                self.remove(mate);
            }
        }
        Happened { kind, index, fd: peer.raw_fd() }
    }

    /// The other end of its switch is gone, and it stays.
    fn part(&mut self, fd: RawFd) {
        if let Some(&index) = self.indices.get(&fd) {
            let peer = &mut self.peers[index];
            peer.mate = None;
            if !peer.is_read() {
                // The program, which reads it from here on, cannot have that.
                peer.inbox.clear();
            }
            self.settle(fd);
        }
    }

    /// Whether what it is switched with has enough: a frame will do when memory is scarce.
    fn is_held_up(&self, peer: &Peer) -> bool {
        let Some(mate) = peer.mate.and_then(|mate| self.indices.get(&mate)) else { return false };
        let outbox = &self.peers[*mate].outbox;
        let limit = SWITCH_LIMIT.min(self.memory_limit.saturating_sub(self.held));
        !outbox.is_empty() && outbox.cost() >= limit
    }

    /// Adds up the memory of a connection, and sees to it that all of them hold no more than they may.
    fn account(&mut self, index: usize) {
        self.clock += 1;
        let peer = &mut self.peers[index];
        self.held -= peer.held;
        peer.account(self.clock);
        self.held += peer.held;
        self.make_room(0, None);
    }

    /// Gives up those connections that are stuck the longest, but not `spared`, until there is room; false if there
    /// is none.
    fn make_room(&mut self, needed: usize, spared: Option<usize>) -> bool {
        while self.held + needed > self.memory_limit {
            let stuck = self.peers.iter().enumerate();
            let stuck = stuck.filter_map(|(index, peer)| Some((peer.stuck_since()?, index))).min();
            let Some((_, index)) = stuck.filter(|(_, index)| spared != Some(*index)) else { return false };
            let peer = &mut self.peers[index];
            peer.fail();
            self.held -= std::mem::take(&mut peer.held);
            let fd = peer.raw_fd();
            if !std::mem::replace(&mut peer.listed, true) {
                self.work.push_back(fd);
            }
        }
        true
    }

    /// Tells epoll what to watch, and lists whoever has work.
    fn settle(&mut self, fd: RawFd) {
        let Some(&index) = self.indices.get(&fd) else { return };
        self.account(index);
        let peer = &self.peers[index];
        let reads = !peer.closing && !peer.full && !self.is_held_up(peer);
        let mut watch = EpollFlags::empty();
        watch.set(incoming(), reads);
        watch.set(EpollFlags::EPOLLOUT, peer.blocked);
        let peer = &mut self.peers[index];
        if watch != peer.watched {
            let event = EpollEvent::new(watch, token(fd));
            // Epoll reports hang-ups even to those who asked for nothing, so they leave it.
            let told = if watch.is_empty() {
                self.epoll.delete(&peer.link)
            } else if peer.watched.is_empty() {
                self.epoll.add(&peer.link, event)
            } else {
                self.epoll.modify(&peer.link, &mut { event })
            };
            peer.watched = if told.is_ok() { watch } else { EpollFlags::empty() };
            peer.failed |= told.is_err();
        }
        // What it waited for may have been written otherwise than by its turn.
        peer.failed |= peer.closing && peer.outbox.is_empty();
        let work = peer.owed > 0
            || peer.failed
            || (!peer.blocked && !peer.outbox.is_empty())
            || (reads && peer.is_read() && peer.inbox.is_ready());
        if work && !peer.listed {
            peer.listed = true;
            self.work.push_back(fd);
        }
    }
}

impl AsFd for Context {
    /// Readable when [`Context::poll`] may have an event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// What a message of this peer's queue is reported as.
fn sent(peer: &Peer) -> EventKind {
    if peer.is_switched() { EventKind::SwitchTx } else { EventKind::MessageTx }
}

/// What a connection that is read is watched for.
fn incoming() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP
}

/// What epoll keeps for us.
fn token(fd: RawFd) -> u64 {
    fd.unsigned_abs().into()
}

fn token_fd(token: u64) -> RawFd {
    RawFd::try_from(token).unwrap_or(-1)
}
