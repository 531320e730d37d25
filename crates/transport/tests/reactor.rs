//! A future polled from a loop that is not ours.

#![allow(clippy::unwrap_used, missing_docs)]

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qpc_transport::executor::{Descriptor, readable, sleep, sleep_until, unless, wait_for};
use qpc_transport::reactor::Reactor;
use std::future::{pending, poll_fn, ready};
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn is_readable(reactor: &Reactor) -> bool {
    poll(&mut [PollFd::new(reactor.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
}

#[test]
fn it_is_readable_when_polling_helps() {
    let mut reactor = Reactor::new().unwrap();
    assert!(is_readable(&reactor));
    let (mut reader, mut writer) = pipe().unwrap();
    let descriptor: Descriptor = Arc::new(reader.try_clone().unwrap());
    let mut future = pin!(unless(sleep(LONG), readable(descriptor)));
    for _ in 0..3 {
        assert_eq!(reactor.poll(future.as_mut()).unwrap(), Poll::Pending);
        assert!(!is_readable(&reactor));
    }
    writer.write_all(b"x").unwrap();
    assert!(is_readable(&reactor));
    assert_eq!(reactor.poll(future).unwrap(), Poll::Ready(Some(())));
    // Who is done may have more to do.
    assert!(is_readable(&reactor));
    reader.read_exact(&mut [0]).unwrap();

    // What nobody waits for any more is not looked at.
    assert_eq!(reactor.poll(pin!(pending::<()>())).unwrap(), Poll::Pending);
    writer.write_all(b"x").unwrap();
    assert!(!is_readable(&reactor));
    reactor.wake().unwrap();
    assert!(is_readable(&reactor));
    reactor.rest().unwrap();
    assert!(!is_readable(&reactor));
}

#[test]
fn time_makes_it_readable() {
    let mut reactor = Reactor::new().unwrap();
    let end = Instant::now() + Duration::from_millis(30);
    let mut future = pin!(sleep_until(end));
    while reactor.poll(future.as_mut()).unwrap().is_pending() {
        poll(&mut [PollFd::new(reactor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    }
    assert!(Instant::now() >= end);
    // A time that has come stays: it does not matter how often it is looked at.
    let mut future = pin!(poll_fn(|_| {
        qpc_transport::executor::wait_until(end);
        Poll::<()>::Pending
    }));
    for _ in 0..2 {
        assert!(reactor.poll(future.as_mut()).unwrap().is_pending());
        while !is_readable(&reactor) {}
    }
}

#[test]
fn what_is_waited_for_can_change() {
    let mut reactor = Reactor::new().unwrap();
    let (_reader, writer) = pipe().unwrap();
    let writer: Descriptor = Arc::new(writer);
    let mut wait = |flags: &[PollFlags]| {
        let future = poll_fn(|_| {
            flags.iter().for_each(|flags| wait_for(Arc::clone(&writer), *flags));
            Poll::<()>::Pending
        });
        assert!(reactor.poll(pin!(future)).unwrap().is_pending());
        is_readable(&reactor)
    };
    // A pipe with room is writable, and never readable at this end.
    assert!(!wait(&[PollFlags::POLLIN]));
    assert!(wait(&[PollFlags::POLLOUT]));
    assert!(!wait(&[PollFlags::POLLIN]));
    assert!(wait(&[PollFlags::POLLIN, PollFlags::POLLOUT]));
    assert!(!wait(&[]));
    assert_eq!(reactor.poll(pin!(ready(7))).unwrap(), Poll::Ready(7));
}
