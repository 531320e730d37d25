//! Connections that a network daemon makes: the service "ipc" gets the name of a service and the environment's
//! `IPC_NETWORK`, which says where services are, and hands over the connection. It is here and not in the Rust library
//! because a file descriptor that comes in a message cannot be taken without unsafe code.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recvmsg};
use qpc_ipc::{Context, Error};
use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem;
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
    let (bytes, flags) = loop {
        let mut parts = [IoSliceMut::new(&mut answer)];
        match recvmsg::<()>(daemon.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(received) => break (received.bytes, received.flags),
        }
    };
    // If there are more, or it is refused, they are closed.
    // SAFETY: zeros, and what came with the message.
    match unsafe { passed(&mut space) }.into_iter().next() {
        Some(stream) if answer[..bytes] == *DONE && !flags.contains(MsgFlags::MSG_CTRUNC) => Ok(stream),
        _ => Err(io::Error::other("the network daemon made no connection").into()),
    }
}

/// The file descriptors that came with a message. `RecvMsg::cmsgs` has none if not all of them could be opened, and
/// those that were would stay open.
///
/// # Safety
///
/// `space`, all zeros before, is where the kernel put the message's control messages, and nobody took them yet.
unsafe fn passed(space: &mut [u8]) -> Vec<OwnedFd> {
    let mut passed = Vec::new();
    // SAFETY: all zeros is a header of nothing; then the promise above: the macros go through what the kernel wrote, and
    // end at the zeros behind it, and the file descriptors are nobody else's.
    unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_control = space.as_mut_ptr().cast();
        header.msg_controllen = space.len() as _;
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = at.as_ref() {
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let fds = libc::CMSG_DATA(at).cast::<RawFd>();
                // The C libraries do not agree on its type.
                let len: usize = message.cmsg_len as _;
                let count = (len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                passed.extend((0..count).map(|n| OwnedFd::from_raw_fd(fds.add(n).read_unaligned())));
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    passed
}
