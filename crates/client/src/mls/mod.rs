//! MLS (RFC 9420) through openmls, fitted to a router.
//!
//! openmls is handed a `Provider` for the length of one operation: `Crypto` for the one cipher suite that is cheap
//! without AES instructions, and a storage that reads rows of the journal and gathers what is written, so that an
//! operation is stored whole or not at all. What it writes is encoded compactly (`codec`), and of a value that is
//! mostly as before only the difference is stored (`delta`): flash wears by the byte.

mod codec;
pub(crate) mod config;
pub(crate) mod credential;
mod crypto;
mod delta;
mod hpke;
mod storage;
pub(crate) mod tree;

pub use codec::CodecError;
pub use credential::{CredentialError, DeviceSecret, IdentitySecret, device_id};
pub use crypto::{Entropy, RandomnessError, SystemEntropy};

pub(crate) use crypto::{CIPHERSUITE, Crypto};
pub(crate) use delta::{DeltaError, RowChange, Rows, Value, fold};
pub(crate) use storage::{Provider, StorageError, Writes, key_package_key, message_secrets_key};
pub(crate) use tree::TreeError;

#[cfg(test)]
mod tests;
