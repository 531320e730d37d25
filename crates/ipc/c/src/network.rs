//! Connections that a network daemon makes: the service "ipc" gets the name of a service and the environment's
//! `IPC_NETWORK`, which says where services are, and hands over the connection. It is here and not in the Rust library
//! because a file descriptor that comes in a message cannot be taken without unsafe code.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use qpc_ipc::{Context, Error};
use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

const DAEMON: &[u8] = b"ipc";

/// What the daemon says with the connection.
const DONE: &[u8] = b"ok";

/// How many file descriptors the kernel lets a message have. Those there is no room for here would be lost, open.
const MOST: usize = 253;

/// Connects to a service, through the daemon if the environment says so, and then in no other way.
pub(crate) fn connect(context: &mut Context, service: &[u8]) -> Result<RawFd, Error> {
    let Some(network) = env::var_os("IPC_NETWORK") else { return context.connect(service) };
    let daemon = context.connect(DAEMON)?;
    let stream = ask(context, daemon, service, &network);
    context.close(daemon)?;
    context.add_connection(stream?)
}

fn ask(context: &mut Context, daemon: RawFd, service: &[u8], network: &OsStr) -> Result<OwnedFd, Error> {
    context.write(daemon, &[service, b";", network.as_bytes()].concat())?;
    receive(context.borrow(daemon).ok_or(Error::Disconnected)?)
}

/// Waits for the daemon's answer.
fn receive(daemon: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let mut answer = [0; DONE.len()];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let (bytes, passed) = loop {
        let mut parts = [IoSliceMut::new(&mut answer)];
        match recvmsg::<()>(daemon.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(received) => {
                let mut passed = Vec::new();
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = message {
                        // SAFETY: the kernel made them for this process with this message; nobody else has them yet.
                        passed.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (received.bytes, passed);
            }
        }
    };
    // If there are more, they are closed.
    match passed.into_iter().next() {
        Some(stream) if answer[..bytes] == *DONE => Ok(stream),
        _ => Err(io::Error::other("the network daemon made no connection").into()),
    }
}
