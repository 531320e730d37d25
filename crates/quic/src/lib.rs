//! QUIC without I/O: coquic's interface over `quinn-proto`.
//!
//! The caller owns sockets, timers and threads. It hands over datagrams and the time, and gets *effects*: datagrams to be
//! sent, stream data, what became of connections.
//!
//! ```text
//! commands, datagrams, time -> Endpoint -> Connection -> quinn_proto -> effects (QueryResult)
//! ```
//!
//! `endpoint` keeps all connections and when they want to be woken; `connection` turns the engine's events into effects and
//! keeps what the engine does not take; `effect` holds a result's memory, which later results use again; `tls` has
//! certificates and sessions; `aliases` has commands' second names; `ids` stands for addresses, which the engine wants and the
//! interface has not; [`quic`] is the facade with light handles. What the engine cannot do is in the README's table.
//!
//! No clock is read but at two places: [`Endpoint::new`] takes one `Instant` as the caller's time 0, since there is no other
//! way to make one, and whether a certificate is valid today is asked of the system.

#![forbid(unsafe_code)]

mod aliases;
mod bounds;
mod connection;
mod effect;
mod endpoint;
mod ids;
pub mod quic;
#[doc(hidden)]
pub mod tls;
mod types;

/// All of it, as in coquic's crate of that name.
pub mod sys {
    pub use crate::effect::*;
    pub use crate::endpoint::*;
    pub use crate::types::*;
    pub use crate::{AbiVersionMismatch, FFI_ABI_VERSION, check_ffi_abi_version, runtime_ffi_abi_version};
}

pub use effect::*;
pub use endpoint::*;
pub use types::*;

/// The version of the C interface that this is.
pub const FFI_ABI_VERSION: u32 = 12;

/// The version of the C interface that the library has: here it is one with its caller.
pub fn runtime_ffi_abi_version() -> u32 {
    FFI_ABI_VERSION
}

/// Whether program and library belong together.
pub fn check_ffi_abi_version() -> Result<(), AbiVersionMismatch> {
    Ok(())
}

/// Program and library do not belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("compiled for version {compile_time} of the interface, running with {runtime}")]
pub struct AbiVersionMismatch {
    /// What the program was compiled for.
    pub compile_time: u32,
    /// What it runs with.
    pub runtime: u32,
}

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
