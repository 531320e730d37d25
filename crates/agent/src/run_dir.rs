//! Where an agent's socket is. Programs tell it their secrets, so nobody else may put a socket there.

use nix::unistd::Uid;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where it is if nobody says otherwise.
pub const RUN_DIR: &str = "/var/run/qpc-agent";

/// The run directory: `QPC_RUN_DIR` of the environment, or [`RUN_DIR`].
pub fn run_dir() -> PathBuf {
    std::env::var_os("QPC_RUN_DIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| RUN_DIR.into(), PathBuf::from)
}

/// Why a directory cannot be a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It is not there, or no directory.
    #[error("the run directory {} must be a directory made beforehand: {source}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It belongs to another user.
    #[error("the run directory {} must belong to root or to the agent's user, not to user {uid}", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others than its owner may write to it, and put another socket or a link in the place of the agent's.
    #[error("the run directory {} is writable by others than its owner: chmod go-w", .0.display())]
    Writable(PathBuf),
}

/// Looks whether an agent of this process' user may use the directory, and says which group has it.
pub(crate) fn check(path: &Path) -> Result<u32, RunDirError> {
    let path_of = || path.to_owned();
    // Not through a link, which could be another's.
    let found = fs::symlink_metadata(path).and_then(|found| match found.is_dir() {
        true => Ok(found),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    let found = found.map_err(|source| RunDirError::Missing { path: path_of(), source })?;
    if found.uid() != 0 && found.uid() != Uid::effective().as_raw() {
        return Err(RunDirError::Owner { path: path_of(), uid: found.uid() });
    }
    if found.mode() & 0o022 != 0 {
        return Err(RunDirError::Writable(path_of()));
    }
    Ok(found.gid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_directory_of_ones_own_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(matches!(check(&at("none")), Err(RunDirError::Missing { .. })));
        fs::write(at("file"), "").unwrap();
        assert!(matches!(check(&at("file")), Err(RunDirError::Missing { .. })));
        fs::create_dir(at("run")).unwrap();
        let chmod = |mode| fs::set_permissions(at("run"), fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o755);
        assert_eq!(check(&at("run")).unwrap(), fs::metadata(at("run")).unwrap().gid());
        std::os::unix::fs::symlink(at("run"), at("link")).unwrap();
        assert!(matches!(check(&at("link")), Err(RunDirError::Missing { .. })));
        for mode in [0o1777, 0o770, 0o757] {
            chmod(mode);
            assert!(matches!(check(&at("run")), Err(RunDirError::Writable(_))), "{mode:o}");
        }
        if Uid::effective().is_root() {
            chmod(0o755);
            std::os::unix::fs::chown(at("run"), Some(4321), None).unwrap();
            assert!(matches!(check(&at("run")), Err(RunDirError::Owner { uid: 4321, .. })));
        }
    }
}
