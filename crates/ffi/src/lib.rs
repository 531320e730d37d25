//! The C API of the client. `include/quicprochat.h` is made of the documentation and signatures in these files.
//!
//! A handle (`handle`) owns a [`Client`](qpc_client::Client), which works only while a call is under way, on the caller's
//! thread: there is none of the library's own, but for the one that looks up a host's name. Between calls the relay keeps
//! what arrives; a connection that died of silence is reopened, by the device's key, in the next call. A program that has
//! a loop of its own calls `events` instead of waiting, and keeps the connection that way. A handle may also have an
//! agent (`remote`) in place of a client of its own.

pub mod account;
pub mod client;
pub mod events;
pub mod handle;
#[cfg(test)]
mod headers;
pub mod logging;
pub mod messages;
pub mod options;
mod remote;
