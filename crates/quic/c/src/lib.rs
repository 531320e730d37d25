//! The C API of sans-I/O QUIC: what `include/coquic/ffi/core.h` declares, each a thin layer over [`coquic::Endpoint`].
//!
//! A result is the Rust library's own, handed out as a pointer; what its effects point to lives in it.

mod functions;
#[macro_use]
mod types;
mod http3;
mod input;
