//! What both ends of a quicprochat connection share: TLS with one cipher suite, and the UDP socket.

#![forbid(unsafe_code)]

pub mod socket;
pub mod tls;
