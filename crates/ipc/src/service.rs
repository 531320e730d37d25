//! Services: a socket in the run directory, and a lock beside it that says whose it is.

use crate::Error;
use crate::socket::retry;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, DirBuilder, File, FileType, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
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
            Ok(()) => set_mode(dir, FileType::is_dir, 0o770)?,
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
        set_mode(&path, FileType::is_socket, 0o660)?;
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

/// Sets the mode of a file if it is of this kind. Whoever owns the folder can put another in its place at any time, a
/// link to one of the system's too; so it is opened, looked at, and changed as what was opened. A descriptor of a socket
/// in the file system can only be had by O_PATH, and what that opens is changed by its name in /proc.
fn set_mode(path: &Path, is_kind: impl Fn(&FileType) -> bool, mode: u32) -> io::Result<()> {
    // Not by OpenOptions: with musl it takes O_PATH for a part of the access mode, which is not to be among its flags.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let fail = |kind, why: &dyn Display| {
        io::Error::new(kind, format!("the mode of {} cannot be set: {why}", path.display()))
    };
    if !is_kind(&file.metadata()?.file_type()) {
        return Err(fail(ErrorKind::Other, &"something else was put in its place"));
    }
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(&name, Permissions::from_mode(mode))
        .map_err(|error| fail(error.kind(), &format_args!("{name}: {error}")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_mode_is_set_of_what_was_made_and_not_of_what_was_put_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(place(name)).unwrap().permissions().mode() & 0o777;
        fs::write(place("file"), "").unwrap();
        let _listener = UnixListener::bind(place("socket")).unwrap();
        symlink("file", place("to file")).unwrap();
        symlink("socket", place("to socket")).unwrap();
        for name in ["file", "socket"] {
            fs::set_permissions(place(name), Permissions::from_mode(0o600)).unwrap();
        }
        for name in ["file", "to file", "to socket"] {
            assert!(set_mode(&place(name), FileType::is_socket, 0o660).is_err(), "{name}");
        }
        assert_eq!((mode("file"), mode("socket")), (0o600, 0o600));
        set_mode(&place("socket"), FileType::is_socket, 0o660).unwrap();
        assert_eq!(mode("socket"), 0o660);
    }
}
