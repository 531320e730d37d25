//! System calls: what reads and writes without waiting and without SIGPIPE, and what waits.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A pipe that can be written to takes this much without blocking.
const PIPE_STEP: usize = 4096;

/// Reads what is there. On what is not a socket it waits if nothing is, so that is asked only when poll said so.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Err(Errno::ENOTSOCK) => unistd::read(fd, buffer),
        other => other,
    })
}

/// Writes what fits. What is not a socket is asked first whether it has room.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    retry(|| match send(fd.as_raw_fd(), bytes, flags) {
        Err(Errno::ENOTSOCK) if ready(fd, PollFlags::POLLOUT, PollTimeout::ZERO)? => {
            without_sigpipe(|| unistd::write(fd, &bytes[..bytes.len().min(PIPE_STEP)]))
        }
        Err(Errno::ENOTSOCK) => Err(Errno::EAGAIN),
        other => other,
    })
}

/// How many bytes a socket has to read, up to one.
pub(crate) fn peek(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    retry(|| recv(fd.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK))
}

/// Waits until the file descriptor can do one of these, or has failed.
pub(crate) fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<(), Errno> {
    ready(fd, flags, PollTimeout::NONE).map(drop)
}

fn ready(fd: BorrowedFd<'_>, flags: PollFlags, timeout: PollTimeout) -> Result<bool, Errno> {
    retry(|| poll(&mut [PollFd::new(fd, flags)], timeout)).map(|events| events > 0)
}

/// A signal's handler ran: once more.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// For pipes, which know no MSG_NOSIGNAL: the signal is held back in this thread, and taken back if it came.
fn without_sigpipe(write: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
    let mut sigpipe = SigSet::empty();
    sigpipe.add(Signal::SIGPIPE);
    let before = sigpipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let written = write();
    // If it was held back before, whoever did that has it.
    if !before.contains(Signal::SIGPIPE) {
        if written == Err(Errno::EPIPE) {
            sigpipe.wait()?;
        }
        before.thread_set_mask()?;
    }
    written
}
