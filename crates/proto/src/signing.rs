//! The bytes that are signed, hashed or mixed into key derivations. Each begins with a label of its own, so that a
//! signature made for one purpose means nothing for another; MLS's own labels begin with `MLS 1.0 `.

use crate::id::{PublicKey, UserName};

/// Label of the TLS exporter (RFC 8446 section 7.5; RFC 9266 for why) both sides take 32 bytes of, with an empty
/// context. It ties OPAQUE and device proofs to one connection, so that nobody in between can pass them on.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-qpc-1";

/// The output of the TLS exporter.
pub type Exporter = [u8; 32];

/// What an identity key signs to make a device the account's.
pub fn device_certificate(user: &UserName, device_key: &PublicKey) -> Vec<u8> {
    labelled(
        b"qpc/1 device certificate",
        &[&[user.as_str().len() as u8], user.as_str().as_bytes(), &device_key.0],
    )
}

/// What an identity key signs to register.
pub fn registration(exporter: &Exporter, user: &UserName) -> Vec<u8> {
    labelled(b"qpc/1 registration", &[exporter, user.as_str().as_bytes()])
}

/// What a device key signs to open a session.
pub fn session(exporter: &Exporter, device_key: &PublicKey) -> Vec<u8> {
    labelled(b"qpc/1 session", &[exporter, &device_key.0])
}

/// OPAQUE's context for a login over this connection, with the key-stretching profile the relay named.
pub fn opaque_context(exporter: &Exporter, ksf: u32) -> Vec<u8> {
    labelled(b"qpc/1 opaque", &[exporter, &ksf.to_be_bytes()])
}

/// What is hashed (SHA-256, first 16 bytes) to a device's id.
pub fn device_id(device_key: &PublicKey) -> Vec<u8> {
    labelled(b"qpc/1 device id", &[&device_key.0])
}

/// OPAQUE's server identity. The client's is the user name.
pub const OPAQUE_SERVER: &[u8] = b"qpc-relay";

fn labelled(label: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = label.to_vec();
    out.push(0);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}
