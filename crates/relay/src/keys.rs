//! What the relay is known by: its own CA, a certificate under it, and the secrets of OPAQUE. Made on first start, kept
//! in the data directory.
//!
//! ```text
//! ca.key, ca.der, ca.pem     the CA; clients trust it by file or by the fingerprint in the address
//! relay.der                  the certificate of this relay, with the same key
//! relay.names                the names in it; it is made anew when they change
//! opaque.key                 without it nobody logs in; with it and the store passwords can be guessed
//! ```

use crate::certificate::{authority, pem, public_key_info_in, relay};
use crate::service::{Rng, ServiceKeys};
use qpc_curve::{LENGTH, SigningKey};
use qpc_proto::id::Fingerprint;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("{} is damaged; restore it from a backup", .0.display())]
    Damaged(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the system gives no random numbers")]
    Random,
}

/// A relay's data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Creates the directory if it does not exist.
    pub(crate) fn create(path: &Path) -> Result<Self, KeyError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The secrets of OPAQUE.
    pub(crate) fn service_keys(&self, rng: &mut Rng) -> Result<ServiceKeys, KeyError> {
        if let Some(bytes) = self.read("opaque.key")? {
            return ServiceKeys::from_bytes(&bytes).ok_or_else(|| KeyError::Damaged(self.path("opaque.key")));
        }
        let keys = ServiceKeys::generate(rng);
        self.write("opaque.key", &keys.to_bytes(), 0o600)?;
        Ok(keys)
    }

    /// The CA's fingerprint, if there is a CA already.
    pub(crate) fn fingerprint(&self) -> Result<Option<Fingerprint>, KeyError> {
        if !self.path("ca.key").exists() {
            return Ok(None);
        }
        let ca = self.read("ca.der")?.ok_or_else(|| KeyError::Damaged(self.path("ca.der")))?;
        Ok(Some(fingerprint(&ca).ok_or_else(|| KeyError::Damaged(self.path("ca.der")))?))
    }

    /// The certificate for these names with its key. Only a change writes anything.
    pub(crate) fn identity(&self, names: &BTreeSet<String>) -> Result<Identity, KeyError> {
        let fingerprint = match self.fingerprint()? {
            Some(fingerprint) => fingerprint,
            None => {
                let key = new_key()?;
                let certificate = authority(&key);
                self.write("ca.der", &certificate, 0o644)?;
                self.write("ca.pem", pem(&certificate).as_bytes(), 0o644)?;
                // Last: with it the CA is complete.
                self.write("ca.key", &key.to_pkcs8(), 0o600)?;
                self.fingerprint()?.ok_or_else(|| KeyError::Damaged(self.path("ca.key")))?
            }
        };
        let key = self.read("ca.key")?.ok_or_else(|| KeyError::Damaged(self.path("ca.key")))?;
        let listed = names.iter().map(|name| format!("{name}\n")).collect::<String>();
        let current = self.read("relay.names")?.is_some_and(|names| names == listed.as_bytes());
        let certificate = match self.read("relay.der")? {
            Some(certificate) if current && self::fingerprint(&certificate) == Some(fingerprint) => {
                certificate
            }
            _ => {
                let key =
                    SigningKey::from_pkcs8(&key).ok_or_else(|| KeyError::Damaged(self.path("ca.key")))?;
                let certificate = relay(&key, names);
                self.write("relay.der", &certificate, 0o600)?;
                self.write("relay.names", listed.as_bytes(), 0o600)?;
                certificate
            }
        };
        Ok(Identity {
            certificate: certificate.into(),
            key: PrivatePkcs8KeyDer::from(key).into(),
            fingerprint,
        })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, KeyError> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeyError::File { path: self.path(name), source }),
        }
    }

    /// Replaces a file so that a power cut leaves the old or the new one.
    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
        let write = || -> io::Result<()> {
            let temporary = self.path(&format!("{name}.new"));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(temporary, self.path(name))?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| KeyError::File { path: self.path(name), source })
    }
}

/// What the relay shows its clients.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) fingerprint: Fingerprint,
}

/// All names this machine may be reached by.
pub(crate) fn local_names(configured: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = configured.iter().cloned().collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if let Ok(host) = nix::unistd::gethostname() {
        let host = host.to_string_lossy().into_owned();
        if rustls::pki_types::ServerName::try_from(host.as_str()).is_ok() {
            names.insert(host);
        }
    }
    names.extend(local_addresses().iter().map(ToString::to_string));
    names
}

/// The addresses of this machine's interfaces, loopback and link-local ones left out.
pub(crate) fn local_addresses() -> Vec<std::net::IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| std::net::IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| std::net::IpAddr::V6(v6.ip())))
    };
    let useful = |ip: &std::net::IpAddr| match ip {
        std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        std::net::IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    interfaces.filter_map(address).filter(useful).collect()
}

fn new_key() -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0; LENGTH]);
    SystemRandom::new().fill(&mut *seed).map_err(|_| KeyError::Random)?;
    Ok(SigningKey::from_seed(&seed))
}

/// Of the key in the CA's certificate: SHA-256 of its SubjectPublicKeyInfo.
fn fingerprint(certificate: &[u8]) -> Option<Fingerprint> {
    let hash = digest::digest(&digest::SHA256, public_key_info_in(certificate)?);
    hash.as_ref().try_into().ok().map(Fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_stay_and_the_certificate_follows_the_names() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temporary.path().join("data")).unwrap();
        assert_eq!(dir.fingerprint().unwrap(), None);
        let names = |name: &str| BTreeSet::from(["localhost".to_owned(), name.to_owned()]);
        let first = dir.identity(&names("a.lan")).unwrap();
        let same = dir.identity(&names("a.lan")).unwrap();
        let other = dir.identity(&names("192.168.1.1")).unwrap();
        assert_eq!((&first.certificate, first.fingerprint), (&same.certificate, same.fingerprint));
        assert_ne!(first.certificate, other.certificate);
        assert_eq!((&first.key, first.fingerprint), (&other.key, other.fingerprint));
        assert_eq!(dir.fingerprint().unwrap(), Some(first.fingerprint));
        let mut rng: Rng = Box::new(rand_core::OsRng);
        let keys = dir.service_keys(&mut rng).unwrap().to_bytes();
        assert_eq!(dir.service_keys(&mut rng).unwrap().to_bytes(), keys);
        for entry in fs::read_dir(temporary.path().join("data")).unwrap() {
            let entry = entry.unwrap();
            let public = ["ca.der", "ca.pem"].contains(&entry.file_name().to_str().unwrap());
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if public { 0o644 } else { 0o600 }, "{:?}", entry.file_name());
        }
        fs::write(dir.path("opaque.key"), b"x").unwrap();
        assert!(matches!(dir.service_keys(&mut rng), Err(KeyError::Damaged(_))));
    }
}
