//! A disk in memory that fails on demand and can lose power.
//!
//! What is written is pending until the file is synced, a name until the directory is; [`Disk::power_cut`] keeps any part of
//! what is pending, also the middle without the beginning.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StorageFile};

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`Disk`].
#[derive(Debug)]
pub struct DiskFile {
    disk: Disk,
    content: Arc<Mutex<Content>>,
}

/// What is going to fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The write after this many ends after half of its bytes, with an error of this kind; once.
    pub write: Option<(u32, io::ErrorKind)>,
    /// The sync (of a file or the directory) after this many fails with EIO; once.
    pub sync: Option<u32>,
    /// The read after this many fails with EIO; once.
    pub read: Option<u32>,
    /// Cutting a file fails.
    pub truncate: bool,
    /// Bytes the disk has room for, in all files together.
    pub capacity: Option<u64>,
    /// Everything that writes fails with EROFS.
    pub read_only: bool,
    /// Each write takes at most this many bytes and says so.
    pub short_writes: Option<usize>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    faults: Faults,
    syncs: u32,
    written: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Disk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// How many syncs have returned without an error.
    pub fn syncs(&self) -> u32 {
        self.state().syncs
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// The files as they are now.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().files.iter().map(|(name, content)| (name.clone(), locked(content).now.clone())).collect()
    }

    /// A disk with these files, all durable.
    pub fn with_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new();
        for (name, bytes) in files {
            let content = Content { now: bytes.clone(), durable: bytes.clone(), pending: Vec::new() };
            let content = Arc::new(Mutex::new(content));
            let mut state = disk.state();
            state.files.insert(name.clone(), Arc::clone(&content));
            state.durable_names.insert(name.clone(), content);
        }
        disk
    }

    /// The disk after a power cut. `keeps` is asked once for each pending change and each pending name.
    pub fn power_cut(&self, mut keeps: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let after = Self::new();
        let mut names = state.durable_names.clone();
        for (name, content) in &state.files {
            if !names.contains_key(name) && keeps() {
                names.insert(name.clone(), Arc::clone(content));
            }
        }
        names.retain(|name, _| state.files.contains_key(name) || !keeps());
        for (name, content) in names {
            let content = locked(&content);
            let mut bytes = content.durable.clone();
            for change in &content.pending {
                match change {
                    // Pages of 64 bytes: a write can be torn anywhere, and keep its end without its beginning.
                    Change::Write { at, bytes: new } => {
                        for (index, page) in new.chunks(64).enumerate() {
                            if keeps() {
                                put(&mut bytes, at + index * 64, page);
                            }
                        }
                    }
                    Change::Truncate(len) => {
                        if keeps() {
                            bytes.resize(*len, 0);
                        }
                    }
                }
            }
            let content = Content { now: bytes.clone(), durable: bytes, pending: Vec::new() };
            let content = Arc::new(Mutex::new(content));
            let mut state = after.state();
            state.files.insert(name.clone(), Arc::clone(&content));
            state.durable_names.insert(name, content);
        }
        after
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_writable(&self) -> io::Result<()> {
        if self.faults.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        due(&mut self.faults.sync)?;
        self.syncs += 1;
        Ok(())
    }
}

impl Storage for Disk {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let mut state = self.state();
        state.check_writable()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::default();
        state.files.insert(name.to_owned(), Arc::clone(&content));
        Ok(DiskFile { disk: self.clone(), content })
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        let content = self.state().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(DiskFile { disk: self.clone(), content })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        state.files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.sync()?;
        state.durable_names = state.files.clone();
        Ok(())
    }
}

impl StorageFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(locked(&self.content).now.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        due(&mut self.disk.state().faults.read)?;
        let content = locked(&self.content);
        let rest = content.now.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.check_writable()?;
        let mut failure = None;
        let mut len = buf.len().min(state.faults.short_writes.unwrap_or(usize::MAX));
        if let Some((left, kind)) = &mut state.faults.write {
            if *left == 0 {
                failure = Some(*kind);
                // Half of it first, as a call of its own would; the error comes with the next.
                len /= 2;
                state.faults.write = None;
            } else {
                *left -= 1;
            }
        }
        let used: u64 = state.files.values().map(locked_len).sum();
        if let Some(capacity) = state.faults.capacity {
            let room = capacity.saturating_sub(used) as usize;
            if room < len {
                failure = failure.or(Some(io::ErrorKind::StorageFull));
                len = room;
            }
        }
        let at = offset as usize;
        let mut content = locked(&self.content);
        put(&mut content.now, at, &buf[..len]);
        content.pending.push(Change::Write { at, bytes: buf[..len].to_vec() });
        state.written += len as u64;
        match failure {
            None => Ok(len),
            Some(kind) => Err(kind.into()),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let state = self.disk.state();
        state.check_writable()?;
        if state.faults.truncate {
            return Err(io::Error::other("cannot cut"));
        }
        let mut content = locked(&self.content);
        content.now.resize(size as usize, 0);
        content.pending.push(Change::Truncate(size as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync()?;
        let mut content = locked(&self.content);
        content.durable = content.now.clone();
        content.pending.clear();
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn due(countdown: &mut Option<u32>) -> io::Result<()> {
    match countdown {
        Some(0) => {
            *countdown = None;
            Err(io::Error::other("injected fault"))
        }
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn locked(content: &Arc<Mutex<Content>>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locked_len(content: &Arc<Mutex<Content>>) -> u64 {
    locked(content).now.len() as u64
}
