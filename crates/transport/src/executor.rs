//! Futures on one thread, without tasks and without wakers.
//!
//! A future that has to wait says for what, with [`wait_for`] and [`wait_until`], each time it is polled. [`block_on`]
//! polls, waits with poll(2) until any of that has come, and polls again: all of a program's futures are parts of one,
//! which asks itself what it can do now. Nothing has to be taken back when a future is dropped, and nothing is left over
//! between two polls that would tie it to a thread.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A descriptor that stays open while it is waited for.
pub type Descriptor = Arc<dyn AsFd + Send + Sync>;

/// Runs a future on this thread until it is done.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        match poll_once(future.as_mut()) {
            (Poll::Ready(output), _) => return output,
            (Poll::Pending, waiting) => waiting.wait(),
        }
    }
}

/// Polls a future, and says what it waits for.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> (Poll<F::Output>, Waiting) {
    // A future may block on another one.
    let outer = WAITING.take();
    let polled = future.poll(&mut Context::from_waker(Waker::noop()));
    (polled, WAITING.replace(outer))
}

/// Has the future that is being polled be polled again once something can be done with a descriptor.
pub fn wait_for(descriptor: Descriptor, flags: PollFlags) {
    WAITING.with_borrow_mut(|waiting| waiting.descriptors.push((descriptor, flags)));
}

/// Has the future that is being polled be polled again at this time at the latest.
pub fn wait_until(time: Instant) {
    WAITING.with_borrow_mut(|waiting| {
        waiting.until = Some(waiting.until.map_or(time, |until| until.min(time)));
    });
}

/// Waits until there is something to read, or the other end is gone.
pub async fn readable(descriptor: Descriptor) {
    ready(descriptor, PollFlags::POLLIN).await;
}

/// Waits until the other end is gone, if there is one: nobody can read what is written here.
pub async fn hung_up(descriptor: Descriptor) {
    // That is told without having been asked for.
    ready(descriptor, PollFlags::empty()).await;
}

async fn ready(descriptor: Descriptor, flags: PollFlags) {
    poll_fn(|_| {
        let mut now = [PollFd::new(descriptor.as_fd(), flags)];
        if poll(&mut now, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            return Poll::Ready(());
        }
        wait_for(Arc::clone(&descriptor), flags);
        Poll::Pending
    })
    .await;
}

/// Waits until this time.
pub async fn sleep_until(time: Instant) {
    poll_fn(|_| {
        if Instant::now() >= time {
            return Poll::Ready(());
        }
        wait_until(time);
        Poll::Pending
    })
    .await;
}

/// Waits so long.
pub async fn sleep(time: Duration) {
    match Instant::now().checked_add(time) {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// What a future gives, unless something else comes to an end before it. It is polled once in any case.
pub async fn unless<T>(end: impl Future<Output = ()>, future: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut future) = (pin!(end), pin!(future));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// What a future gives until this time.
pub async fn timeout_at<T>(time: Instant, future: impl Future<Output = T>) -> Option<T> {
    unless(sleep_until(time), future).await
}

/// What a future gives within this time.
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    unless(sleep(time), future).await
}

/// Waits with poll(2), perhaps not quite until the end.
pub fn wait(descriptors: &mut [PollFd<'_>], until: Option<Instant>) -> nix::Result<()> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    match poll(descriptors, left.map_or(PollTimeout::NONE, milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Not less, or the last millisecond of every wait would be spent asking.
fn milliseconds(time: Duration) -> PollTimeout {
    PollTimeout::from(u16::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX))
}

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { descriptors: Vec::new(), until: None }) };
}

/// What the future that is being polled waits for.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) descriptors: Vec<(Descriptor, PollFlags)>,
    pub(crate) until: Option<Instant>,
}

impl Waiting {
    fn wait(&self) {
        let mut descriptors: Vec<PollFd<'_>> = self
            .descriptors
            .iter()
            .map(|(descriptor, flags)| PollFd::new(descriptor.as_fd(), *flags))
            .collect();
        if wait(&mut descriptors, self.until).is_err() {
            // The kernel is out of memory.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
