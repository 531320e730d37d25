//! One connection or service of a context.

use crate::context::{EventKind, Input, Output, Verdict};
use crate::frame::{Inbox, Outbox};
use crate::service::Service;
use crate::socket;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub(crate) enum Link {
    External(OwnedFd),
    Ipc(OwnedFd),
    Server(Service),
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::External(fd) | Self::Ipc(fd) => fd.as_fd(),
            Self::Server(service) => service.listener.as_fd(),
        }
    }
}

pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    /// The memory that both took when it was last added up.
    pub(crate) held: usize,
    /// Since when the first message of the inbox waits, and that of the outbox.
    pub(crate) waits_since: [Option<u64>; 2],
    /// The other end of the switch.
    pub(crate) mate: Option<RawFd>,
    pub(crate) input: Option<Input>,
    pub(crate) output: Option<Output>,
    /// The other end of the switch is gone: this one goes when its outbox is empty, and is not read any more.
    pub(crate) closing: bool,
    /// Nothing can be done with it: the next that happens to it is its end.
    pub(crate) failed: bool,
    /// The kernel took no more; epoll says when it does.
    pub(crate) blocked: bool,
    /// Of a service: there were no file descriptors for another connection.
    pub(crate) full: bool,
    /// Scheduled messages that were written and not reported yet.
    pub(crate) owed: usize,
    /// Whose turn it is.
    pub(crate) write_first: bool,
    /// Whether it is in the list of those with work.
    pub(crate) listed: bool,
    /// What epoll watches it for; if for nothing, it does not know it.
    pub(crate) watched: EpollFlags,
}

/// What came of an attempt to write.
pub(crate) enum Sent {
    /// The connection cannot go on, for the reason to report.
    Failed(EventKind),
    Frame,
    Nothing,
}

impl Peer {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            held: 0,
            waits_since: [None; 2],
            mate: None,
            input: None,
            output: None,
            closing: false,
            failed: false,
            blocked: false,
            full: false,
            owed: 0,
            write_first: false,
            listed: false,
            watched: EpollFlags::empty(),
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.link.as_fd().as_raw_fd()
    }

    pub(crate) fn is_switched(&self) -> bool {
        self.mate.is_some() || self.closing
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.link, Link::Server(_))
    }

    /// Whether its messages are read without being asked for.
    pub(crate) fn is_read(&self) -> bool {
        !self.closing && (self.mate.is_some() || matches!(self.link, Link::Ipc(_)))
    }

    /// Whether the program has a callback read its messages.
    pub(crate) fn is_read_by_callback(&self) -> bool {
        self.mate.is_some() && self.input.is_some()
    }

    /// Adds up its memory, and notes whether anything moved.
    pub(crate) fn account(&mut self, now: u64) {
        self.held = self.inbox.cost() + self.outbox.cost();
        let moved = [self.inbox.moved(), self.outbox.moved()];
        let empty = [self.inbox.is_empty(), self.outbox.is_empty()];
        for side in 0..2 {
            let since = self.waits_since[side].filter(|_| !moved[side]).unwrap_or(now);
            self.waits_since[side] = Some(since).filter(|_| !empty[side]);
        }
    }

    /// Since when it holds memory without anything moving; not at all if it holds none.
    pub(crate) fn stuck_since(&self) -> Option<u64> {
        self.waits_since.iter().flatten().min().copied()
    }

    /// Gives up on it, and what it holds.
    pub(crate) fn fail(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.waits_since = [None; 2];
        self.blocked = false;
        self.failed = true;
    }

    pub(crate) fn enqueue(&mut self, frame: Vec<u8>) {
        // A callback writes as it likes, so it is called when there is room.
        self.blocked |= self.is_switched() && self.output.is_some();
        self.outbox.push(frame);
    }

    /// Writes as much of the first frame as fits. Frames are written one by one: there are peers that expect to read
    /// them so.
    pub(crate) fn transmit(&mut self) -> Sent {
        let switched = self.is_switched();
        let Some(rest) = self.outbox.front() else { return Sent::Nothing };
        let fd = self.link.as_fd();
        let calls = switched && self.output.is_some();
        // What the library has begun to write no callback can end.
        if calls
            && !self.outbox.is_begun()
            && let Some(output) = &mut self.output
        {
            let verdict = output(fd.as_raw_fd(), rest);
            self.outbox.pop();
            self.blocked = !self.outbox.is_empty();
            return match verdict {
                Verdict::Message => Sent::Frame,
                Verdict::Ignore => Sent::Nothing,
                Verdict::Closing => Sent::Failed(EventKind::Disconnection),
                Verdict::Error => Sent::Failed(EventKind::Error),
            };
        }
        match socket::write(fd, rest) {
            Ok(written) if self.outbox.advance(written) => {
                self.blocked = calls && !self.outbox.is_empty();
                Sent::Frame
            }
            Ok(_) | Err(Errno::EAGAIN) => {
                self.blocked = true;
                Sent::Nothing
            }
            Err(_) => Sent::Failed(EventKind::Disconnection),
        }
    }

    /// Gives up writing. What the peer sent before it went can still be read, and then comes its disconnection.
    pub(crate) fn give_up(&mut self) {
        self.outbox.clear();
        self.blocked = false;
        let fd = self.raw_fd();
        self.failed = self.is_switched() || shutdown(fd, Shutdown::Both).is_err();
    }
}
