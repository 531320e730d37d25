use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error};
use crate::storage::{Storage, StorageFile};

/// A directory of the file system, held by this process alone.
///
/// Files are made with mode 0600, the directory with 0700. On a read-only file system an existing journal can be opened
/// and read.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    dir: File,
    /// Held, never read: the lock ends with the handle. Absent where a read-only file system has no lock file.
    _lock: Option<File>,
}

impl Directory {
    /// Opens the directory, which is created if it does not exist, and locks it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(Error::io(Doing::Create))?;
            // The new directory's own name must survive a power cut too.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent).and_then(|dir| dir.sync_all()).map_err(Error::io(Doing::Sync))?;
            }
        }
        let dir = File::open(&path).map_err(Error::io(Doing::Open))?;
        let lock = lock(&path)?;
        Ok(Self { path, dir, _lock: lock })
    }
}

impl Storage for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
            other => other,
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }
}

impl StorageFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, buf, offset)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn lock(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join(LOCK);
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(Doing::Lock)(e)),
        },
        Err(e) => return Err(Error::io(Doing::Lock)(e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_path_buf() }),
        Err(TryLockError::Error(e)) => Err(Error::io(Doing::Lock)(e)),
    }
}

const LOCK: &str = "lock";
