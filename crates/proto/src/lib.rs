//! The wire between clients and relays, version 1: messages, encoding, limits and identifiers, without I/O.
//!
//! Bytes flow through here in one direction at a time: [`frame::Decoder`] cuts a stream into frames,
//! [`wire::Message::decode`] turns a frame into a [`message::ClientFrame`] or [`message::RelayFrame`] whose parts are
//! already checked against [`limits`], and [`frame::encode`] goes the other way. `docs/protocol.md` tells the same to
//! somebody who writes another implementation, and `qpc.proto` is the schema in protobuf's language.

#![forbid(unsafe_code)]

pub mod address;
pub mod envelope;
pub mod frame;
pub mod id;
pub mod limits;
pub mod message;
pub mod signing;
pub mod wire;

/// ALPN of this protocol; a change of major version changes it.
pub const ALPN: &[u8] = b"qpc/1";

/// The protocol version this crate speaks, and the lowest it still understands.
pub const VERSION: u32 = 1;
