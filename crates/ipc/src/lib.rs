//! LibIPC: services of one machine that exchange messages over Unix sockets, and one call that waits for all of it.
//!
//! A program makes a [`Context`], opens services in it ([`Context::listen`]) or connects to those of others
//! ([`Context::connect`]), and then takes one [`Event`] after the other from [`Context::wait`]. Connections are known
//! by their file descriptors, and by their index, which changes when others are closed.
//!
//! Bytes of a peer go: epoll says that there are some -> `socket` reads them -> unless it is whole at once, the peer's
//! `Inbox`, which holds one longest frame at most, puts the frame together -> one [`Event`] each. A message to a peer goes:
//! [`Context::schedule`] -> the peer's `Outbox`, which is bounded, first in, first out -> `socket`, one frame a time
//! and as far as the kernel takes it -> an event that says so. Between two switched connections a frame goes from
//! the inbox of the one to the outbox of the other; while that has too much, the first is not read.
//!
//! Memory. A context has 16 KiB for reading and the last message; a connection takes some 400 bytes, and more only
//! while a message of it is not whole, not delivered or not written. All connections together hold no more than
//! [`Context::set_memory_limit`] says, whatever they do: when it is more, the one in which nothing moved for the
//! longest time is closed.
//!
//! Who has frames in the inbox or the outbox that epoll knows nothing of is in a list of its own; both that list and
//! epoll are asked in turn, so that no peer waits for another to fall silent. One event of epoll is taken at a time:
//! what a program does after one event cannot make the next one stale.
//!
//! ```
//! use qpc_ipc::{Context, EventKind};
//!
//! # let dir = tempfile::tempdir()?;
//! let mut server = Context::in_dir(dir.path())?;
//! server.listen(b"pong")?;
//! let mut client = Context::in_dir(dir.path())?;
//! let to_server = client.connect(b"pong")?;
//! client.schedule(to_server, b"hello")?;
//! assert!(matches!(client.wait()?.kind, EventKind::MessageTx));
//!
//! assert!(matches!(server.wait()?.kind, EventKind::Connection { .. }));
//! let event = server.wait()?;
//! assert_eq!((event.kind, event.message), (EventKind::MessageRx, &b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub use context::{Context, Event, EventKind, Input, MEMORY_LIMIT, Output, QUEUE_LIMIT, Verdict};
pub use error::Error;
pub use frame::{HEADER, MAX_FRAME, MAX_PAYLOAD, frame};
pub use service::run_dir;

mod context;
mod error;
mod frame;
mod peer;
mod service;
mod socket;
