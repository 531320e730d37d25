//! Tasks on the relay's one thread.

use std::pin::Pin;
use tokio::task::JoinHandle;

/// Starts a task. One that panics takes nobody along.
///
/// All are of one type for tokio, which would otherwise bring a copy of its task handling for each: 9 KB of the program,
/// gzipped.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    tokio::task::spawn_local(Box::pin(task) as Pin<Box<dyn Future<Output = ()>>>)
}
