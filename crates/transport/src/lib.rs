//! What both ends of a quicprochat connection share: TLS with one cipher suite, the UDP socket, and what drives QUIC
//! over it.

#![forbid(unsafe_code)]

pub mod driver;
pub mod socket;
pub mod tls;
