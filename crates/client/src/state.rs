//! The state folder: one for each relay and user.
//!
//! ```text
//! ROOT/RELAY/USER/journal/   the engine's journal, sealed under the state key
//!                 slots      the device's id, and the state key sealed under OPAQUE's export key and, if wanted, the key file
//!                 state.key  the key file: 32 random bytes, 0600
//! ```
//!
//! `RELAY` is the beginning of the relay's fingerprint. The journal's lock keeps a second process out.

use crate::auth::{ExportKey, KEY_FILE, STATE_KEY, SlotKey, random};
use crate::engine::{GARBAGE_AGE, SCHEMA};
use crate::error::Error;
use crate::mls::SystemEntropy;
use qpc_journal::{Directory, Journal, SealKey};
use qpc_proto::id::{DeviceId, Fingerprint, UserName};
use qpc_proto::limits::MAX_SEALED;
use qpc_proto::wire::{Blob, Message, message};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// An engine over a state folder.
pub(crate) type Engine = crate::engine::Engine<Directory>;

/// The key a device's state is sealed under.
pub(crate) type StateKey = Zeroizing<[u8; 32]>;

message! {
    /// The file `slots`.
    pub struct Slots {
        /// Whose state this is.
        1 device: DeviceId,
        /// The state key under OPAQUE's export key.
        2 password: Blob<MAX_SEALED>,
        /// The state key under the key file; empty if there is none.
        3 key_file: Blob<MAX_SEALED>,
    }
}

/// A state folder, which need not exist.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    pub(crate) fn new(root: &Path, relay: &Fingerprint, user: &UserName) -> Self {
        let relay = &relay.to_string()[..16];
        // A user name may be ".." but never has a slash.
        let user = format!("{}@", user.as_str());
        Self { path: root.join(relay).join(user) }
    }

    #[cfg(test)]
    fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder says of its state, if there is any.
    pub(crate) fn slots(&self) -> Result<Option<Slots>, Error> {
        match fs::read(self.path.join("slots")) {
            Ok(bytes) => match Slots::decode(&bytes) {
                Ok(slots) => Ok(Some(slots)),
                Err(error) => Err(self.unusable(io::Error::new(io::ErrorKind::InvalidData, error))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable(error)),
        }
    }

    pub(crate) fn write_slots(&self, slots: &Slots) -> Result<(), Error> {
        self.write_file("slots", &slots.encode())
    }

    /// The key that unattended programs open the state with.
    pub(crate) fn key_file(&self) -> Result<Option<SlotKey>, Error> {
        match fs::read(self.path.join("state.key")).map(Zeroizing::new) {
            Ok(bytes) => {
                let key = bytes.as_slice().try_into().map_err(|_| Error::StateKey(self.path.clone()))?;
                SlotKey::new(key, KEY_FILE).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable(error)),
        }
    }

    /// The state key, from the slot of the key file.
    pub(crate) fn unattended_key(&self) -> Result<StateKey, Error> {
        let missing = || Error::StateKey(self.path.clone());
        let slots = self.slots()?.ok_or_else(missing)?;
        let key = self.key_file()?.ok_or_else(missing)?;
        key.open(slots.device.as_ref(), &slots.key_file).ok_or_else(missing)
    }

    /// The key file's key; a new one if there is none, or one that is none: what was sealed under that is lost anyway.
    pub(crate) fn make_key_file(&self) -> Result<SlotKey, Error> {
        match self.key_file() {
            Ok(Some(key)) => return Ok(key),
            Ok(None) | Err(Error::StateKey(_)) => {}
            Err(error) => return Err(error),
        }
        let key = Zeroizing::new(random::<32>()?);
        self.write_file("state.key", &*key)?;
        SlotKey::new(&key, KEY_FILE)
    }

    /// Opens the journal, which only one process can.
    pub(crate) fn journal(&self, key: &StateKey) -> Result<Journal<Directory>, Error> {
        self.make()?;
        let options = qpc_journal::Options {
            schema: SCHEMA,
            key: Some(SealKey::new(**key)),
            garbage_age: Some(GARBAGE_AGE),
            ..qpc_journal::Options::default()
        };
        let directory = Directory::open(self.path.join("journal")).map_err(|error| match error {
            qpc_journal::Error::Locked { .. } => Error::StateLocked(self.path.clone()),
            error => error.into(),
        })?;
        Ok(Journal::open(directory, options)?.0)
    }

    pub(crate) fn open(&self, key: &StateKey) -> Result<Engine, Error> {
        Ok(Engine::open(self.journal(key)?, std::sync::Arc::new(SystemEntropy::new()))?)
    }

    /// Puts a state that cannot be opened any more out of the way; nothing is deleted.
    pub(crate) fn set_aside(&self) -> Result<(), Error> {
        // Not while somebody works with it.
        drop(self.lock()?);
        for number in 1.. {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".old-{number}"));
            if !Path::new(&name).exists() {
                return fs::rename(&self.path, name).map_err(|error| self.unusable(error));
            }
        }
        Ok(())
    }

    /// Keeps other processes out, and makes sure that something can be written.
    pub(crate) fn reserve(&self) -> Result<Directory, Error> {
        let lock = self.lock()?;
        self.write_file("trial", &[0; 4096])?;
        fs::remove_file(self.path.join("trial")).map_err(|error| self.unusable(error))?;
        Ok(lock)
    }

    fn lock(&self) -> Result<Directory, Error> {
        self.make()?;
        Directory::open(self.path.join("journal")).map_err(|error| match error {
            qpc_journal::Error::Locked { .. } => Error::StateLocked(self.path.clone()),
            error => error.into(),
        })
    }

    fn make(&self) -> Result<(), Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(|error| self.unusable(error))
    }

    /// Replaces a file so that after a power cut there is the old or the new one.
    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.make()?;
        let write = || -> io::Result<()> {
            let temporary = self.path.join(format!("{name}.new"));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(temporary, self.path.join(name))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| self.unusable(error))
    }

    fn unusable(&self, source: io::Error) -> Error {
        Error::State { path: self.path.clone(), source }
    }
}

/// The state key, from whichever slot opens: the relay's, which a change of password elsewhere has renewed, or the
/// folder's own.
pub(crate) fn open_slot(export: &ExportKey, slots: &Slots, relays: &[u8]) -> Result<Option<StateKey>, Error> {
    let key = export.key(STATE_KEY)?;
    Ok([relays, &*slots.password].into_iter().find_map(|slot| key.open(slots.device.as_ref(), slot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_slots_and_key_file() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path(), &Fingerprint([7; 32]), &UserName::new("..").unwrap());
        assert!(dir.path().starts_with(root.path()) && dir.path().ends_with("..@"));
        assert!(dir.slots().unwrap().is_none() && dir.key_file().unwrap().is_none());
        let key = dir.make_key_file().unwrap();
        let sealed = key.seal(b"device", &[3; 32]).unwrap();
        let slots = Slots { device: DeviceId([1; 16]), password: Blob::default(), key_file: sealed };
        dir.write_slots(&slots).unwrap();
        assert_eq!(dir.slots().unwrap().unwrap(), slots);
        let again = dir.make_key_file().unwrap();
        assert_eq!(*again.open(b"device", &slots.key_file).unwrap(), [3; 32]);
        // A damaged one is of no use to anybody.
        fs::write(dir.path().join("state.key"), [3; 5]).unwrap();
        assert!(matches!(dir.key_file(), Err(Error::StateKey(_))));
        let new = dir.make_key_file().unwrap();
        assert!(new.open(b"device", &slots.key_file).is_none() && dir.key_file().unwrap().is_some());
        for file in ["slots", "state.key"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let journal = dir.journal(&Zeroizing::new([1; 32])).unwrap();
        assert!(matches!(dir.journal(&Zeroizing::new([1; 32])), Err(Error::StateLocked(_))));
        assert!(matches!(dir.set_aside(), Err(Error::StateLocked(_))));
        drop(journal);
        dir.set_aside().unwrap();
        assert!(dir.slots().unwrap().is_none());
    }
}
