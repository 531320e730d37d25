use crate::frame::MAX_PAYLOAD;
use nix::errno::Errno;
use std::io;

/// What can go wrong. Nothing of it harms other connections, and a refused message leaves the stream as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message stays where it is, for a larger buffer.
    #[error("the message has {0} bytes, more than the buffer has room for")]
    BufferTooSmall(usize),
    /// The peer has gone, or has to go: the next event of this connection is its disconnection.
    #[error("the peer is gone")]
    Disconnected,
    /// The service name cannot be the name of a socket.
    #[error("not a service name: it is empty, too long, or has a slash or a NUL in it")]
    Name,
    /// No such connection, or not of a kind that can do this.
    #[error("no such connection in this context")]
    NotFound,
    /// More is queued for this peer than it may have waiting.
    #[error("the peer takes its messages too slowly: its queue is full")]
    QueueFull,
    /// Another process holds the service's lock.
    #[error("the service runs already")]
    Running,
    /// From the operating system.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A message no peer would take.
    #[error("a message of {0} bytes is too long: {MAX_PAYLOAD} is the most")]
    TooLong(usize),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}
