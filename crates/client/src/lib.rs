//! The client.
#![forbid(unsafe_code)]

pub mod engine;
pub mod mls;
