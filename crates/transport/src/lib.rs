//! What both ends of a quicprochat connection share: TLS with one cipher suite, the UDP socket, and what drives QUIC
//! over it.

#![forbid(unsafe_code)]

pub mod connection;
pub mod driver;
pub mod executor;
pub mod reactor;
mod socket;
pub mod tls;
