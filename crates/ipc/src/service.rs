//! Services: a socket in the run directory, and a lock beside it that says whose it is.

use crate::Error;
use crate::socket::retry;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where services are if the environment does not say.
const RUN_DIR: &str = "/tmp/.libipc-run/";

/// The run directory: `RUNDIR` of the environment, or `/tmp/.libipc-run/`.
pub fn run_dir() -> PathBuf {
    std::env::var_os("RUNDIR").filter(|dir| !dir.is_empty()).map_or_else(|| RUN_DIR.into(), Into::into)
}

/// A service of ours; dropping it takes its socket away. The lock file stays, since others may be about to lock it.
pub(crate) struct Service {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl Service {
    pub(crate) fn new(dir: &Path, name: &[u8]) -> Result<Self, Error> {
        let (path, address) = place(dir, name)?;
        match DirBuilder::new().mode(0o770).create(dir) {
            // The umask had a say in it.
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o770))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let lock = lock(&path)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let socket = stream_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        bind(socket.as_raw_fd(), &address)?;
        // Nobody connects before it listens, so nobody gets in under the mode it has until here.
        fs::set_permissions(&path, Permissions::from_mode(0o660))?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(Self { listener: socket.into(), path, _lock: lock })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // If somebody else took it away already, all the better.
        let _ = fs::remove_file(&self.path);
    }
}

/// A connection to a service.
pub(crate) fn connect_to(dir: &Path, name: &[u8]) -> Result<OwnedFd, Error> {
    let (_, address) = place(dir, name)?;
    let socket = stream_socket(SockFlag::SOCK_CLOEXEC)?;
    retry(|| connect(socket.as_raw_fd(), &address))?;
    Ok(socket)
}

fn stream_socket(flags: SockFlag) -> Result<OwnedFd, Error> {
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Path and address of a service's socket.
fn place(dir: &Path, name: &[u8]) -> Result<(PathBuf, UnixAddr), Error> {
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::Name);
    }
    let path = dir.join(OsStr::from_bytes(name));
    let address = UnixAddr::new(&path).map_err(|_| Error::Name)?;
    Ok((path, address))
}

fn lock(path: &Path) -> Result<File, Error> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o660)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Running),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
