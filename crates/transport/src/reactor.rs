//! The [executor](crate::executor) for a program that has a loop of its own.
//!
//! The loop waits for one descriptor: an epoll instance with whatever the future waits for in it, and a timer. When it is
//! readable, polling the future may bring something. Nothing blocks.

use crate::executor::{Descriptor, Waiting, poll_once};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// See the module's documentation.
pub struct Reactor {
    epoll: Epoll,
    timer: TimerFd,
    /// What is in the epoll instance; they stay open as long as they are there.
    registered: Vec<(Descriptor, EpollFlags)>,
    until: Option<Instant>,
}

impl Reactor {
    /// One that is readable at once: nothing was polled yet.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let mut reactor = Self { epoll, timer, registered: Vec::new(), until: None };
        reactor.wake()?;
        Ok(reactor)
    }

    /// Polls a future once. It is to be polled again, or another if this one is done, when the descriptor is readable.
    pub fn poll<F: Future + ?Sized>(&mut self, future: Pin<&mut F>) -> io::Result<Poll<F::Output>> {
        let (polled, waiting) = poll_once(future);
        match polled.is_ready() {
            true => self.wake()?,
            false => self.wait_for(waiting)?,
        }
        Ok(polled)
    }

    /// Makes the descriptor readable: something has happened that it does not see.
    pub fn wake(&mut self) -> io::Result<()> {
        self.set_timer(Some(Instant::now()))
    }

    /// Makes the descriptor readable for nothing but a later [`Reactor::wake`].
    pub fn rest(&mut self) -> io::Result<()> {
        self.wait_for(Waiting::default())
    }

    fn wait_for(&mut self, waiting: Waiting) -> io::Result<()> {
        let mut wanted: Vec<(Descriptor, EpollFlags)> = Vec::new();
        for (descriptor, flags) in waiting.descriptors {
            // The same bits on Linux.
            let flags = EpollFlags::from_bits_truncate(flags.bits().into());
            match find(&wanted, &descriptor) {
                Some(index) => wanted[index].1 |= flags,
                None => wanted.push((descriptor, flags)),
            }
        }
        for (descriptor, _) in &self.registered {
            if find(&wanted, descriptor).is_none() {
                self.epoll.delete(descriptor)?;
            }
        }
        // As it is, also if what follows fails.
        self.registered.retain(|(descriptor, _)| find(&wanted, descriptor).is_some());
        for (descriptor, flags) in wanted {
            match find(&self.registered, &descriptor) {
                None => {
                    self.epoll.add(&descriptor, EpollEvent::new(flags, 0))?;
                    self.registered.push((descriptor, flags));
                }
                Some(index) if self.registered[index].1 == flags => {}
                Some(index) => {
                    self.epoll.modify(&descriptor, &mut EpollEvent::new(flags, 0))?;
                    self.registered[index].1 = flags;
                }
            }
        }
        self.set_timer(waiting.until)
    }

    fn set_timer(&mut self, until: Option<Instant>) -> io::Result<()> {
        // One that has run out stays readable until it is set again.
        if until == self.until {
            return Ok(());
        }
        match until {
            // 0 would stop it.
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                let once = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer.set(once, TimerSetTimeFlags::empty())?;
            }
            None => self.timer.unset()?,
        }
        self.until = until;
        Ok(())
    }
}

impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn find(among: &[(Descriptor, EpollFlags)], descriptor: &Descriptor) -> Option<usize> {
    let number = descriptor.as_fd().as_raw_fd();
    among.iter().position(|(other, _)| other.as_fd().as_raw_fd() == number)
}
