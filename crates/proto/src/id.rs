//! Names and numbers that identify things.

use crate::limits::MAX_USER_NAME;
use crate::wire::{DecodeError, Field, Value, bytes_of, put_bytes};
use std::fmt;

/// A user name: 1 to 64 of `a-z 0-9 . _ -`. An `@` is reserved for users of other relays.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserName(String);

/// Why a text is not a user name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UserNameError {
    /// Nothing there.
    #[error("a user name must not be empty")]
    Empty,
    /// More than [`MAX_USER_NAME`] bytes.
    #[error("a user name has at most {MAX_USER_NAME} characters")]
    TooLong,
    /// A character outside the alphabet.
    #[error("a user name has only the characters a-z, 0-9, '.', '_' and '-'")]
    Character,
}

impl UserName {
    /// Checks a text. Nothing is folded: `Alice` is refused, not taken for `alice`.
    pub fn new(text: &str) -> Result<Self, UserNameError> {
        if text.is_empty() {
            return Err(UserNameError::Empty);
        }
        if text.len() > MAX_USER_NAME {
            return Err(UserNameError::TooLong);
        }
        if !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')) {
            return Err(UserNameError::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        Self::new(text)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for UserName {
    fn absent() -> Option<Self> {
        None
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, self.0.as_bytes(), out);
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let bytes = bytes_of(number, value)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(number))?;
        *slot = Some(Self::new(text).map_err(|_| DecodeError::Invalid(number))?);
        Ok(())
    }
}

macro_rules! identifier {
    ($( $(#[$meta:meta])* $name:ident($len:literal) )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads the hexadecimal form that `Display` writes.
            pub fn from_hex(text: &str) -> Option<Self> {
                from_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Field for $name {
            fn absent() -> Option<Self> {
                None
            }

            fn put(&self, number: u32, out: &mut Vec<u8>) {
                self.0.put(number, out);
            }

            fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
                let mut bytes = None;
                <[u8; $len]>::take(&mut bytes, number, value)?;
                *slot = bytes.map(Self);
                Ok(())
            }
        }
    )*};
}

identifier! {
    /// A conversation, and the MLS group that carries it: its group id is these 16 random bytes.
    ConversationId(16)
    /// A device: the first 16 bytes of SHA-256 over [`crate::signing::device_id`]. Derived from the key and not
    /// handed out, so that a relay restored from a backup can never give one device's id to another.
    DeviceId(16)
    /// The store of a relay; another one means that the store went back in time or began anew.
    Generation(16)
    /// A message, chosen at random by its sender; lets a receiver drop what it has already seen.
    MessageId(16)
    /// An Ed25519 public key: an account's identity key or a device's key.
    PublicKey(32)
    /// The SHA-256 of the relay's CA's SubjectPublicKeyInfo (DER).
    Fingerprint(32)
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (!text.contains('+')).then_some(bytes)
}
