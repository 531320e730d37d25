//! What futures can wait for.

#![allow(clippy::unwrap_used, missing_docs)]

use qpc_transport::executor::{block_on, hung_up, readable, sleep, sleep_until, timeout, timeout_at, unless};
use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::io::{Write, pipe};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_time_is_waited_for() {
    let end = Instant::now() + Duration::from_millis(30);
    block_on(sleep_until(end));
    assert!(Instant::now() >= end);
    let end = Instant::now() + Duration::from_millis(30);
    assert_eq!(block_on(timeout_at(end, pending::<()>())), None);
    assert!(Instant::now() >= end);
    // The nearest of several, also if one of them never comes.
    let both = unless(sleep(LONG), unless(sleep(Duration::from_millis(1)), sleep(Duration::MAX)));
    assert_eq!(block_on(both), Some(None));
}

#[test]
fn who_has_no_time_is_asked_once() {
    assert_eq!(block_on(timeout(Duration::ZERO, ready(1))), Some(1));
    let asked = Cell::new(0);
    let future = poll_fn(|_| {
        asked.set(asked.get() + 1);
        Poll::<()>::Pending
    });
    assert_eq!(block_on(timeout(Duration::ZERO, future)), None);
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_descriptor_is_waited_for() {
    for speak in [true, false] {
        let (reader, mut writer) = pipe().unwrap();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            if speak {
                writer.write_all(b"!").unwrap();
            }
            writer
        });
        let reader: Arc<_> = Arc::new(reader);
        let (silent, _kept) = pipe().unwrap();
        if speak {
            // Not the one that has nothing to say.
            assert_eq!(block_on(unless(readable(Arc::new(silent)), readable(reader))), Some(()));
            other.join().unwrap();
        } else {
            // Nothing comes any more.
            drop(other.join().unwrap());
            block_on(readable(reader));
        }
    }
}

#[test]
fn who_writes_learns_that_nobody_reads() {
    let (reader, writer) = pipe().unwrap();
    let writer = Arc::new(writer);
    // That it can be written to, or read, is nothing to the point.
    assert_eq!(block_on(timeout(Duration::from_millis(1), hung_up(writer.clone()))), None);
    let file = std::fs::File::open("/dev/zero").unwrap();
    assert_eq!(block_on(timeout(Duration::from_millis(1), hung_up(Arc::new(file)))), None);
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(reader);
    });
    block_on(hung_up(writer));
    other.join().unwrap();
}

#[test]
fn what_is_dropped_is_not_waited_for() {
    let (reader, writer) = pipe().unwrap();
    let reader = Arc::new(reader);
    block_on(async {
        assert!(timeout(Duration::from_millis(1), readable(reader.clone())).await.is_none());
        drop(writer);
        sleep(Duration::from_millis(1)).await;
        // Only who waits for a descriptor keeps it.
        assert_eq!(Arc::strong_count(&reader), 1);
    });
}

#[test]
fn one_executor_in_another_takes_nothing_from_it() {
    let mut inner = false;
    let future = unless(sleep(Duration::from_millis(20)), async {
        sleep(Duration::from_millis(1)).await;
        pending::<()>().await;
    });
    let outer = unless(
        poll_fn(|_| {
            if !inner {
                inner = true;
                block_on(sleep(Duration::from_millis(1)));
            }
            Poll::Pending
        }),
        future,
    );
    assert_eq!(block_on(outer), Some(None));
}
