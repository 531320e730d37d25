//! The agent: one process holds a device's session and state, and every program of the machine sends and receives
//! through it.
//!
//! A program's request comes as one message of LibIPC over the service's socket ([`protocol`], and [`local`] for the
//! program's side). The edge ([`server`]) asks the kernel who is there and hands credentials and bytes to [`service`],
//! which checks the rights ([`rights`]), journals what is to be sent, notes events ([`events`]) and hands answers back.
//! The same loop, on the same thread, drives the client: what comes from the relay is appended to the inbox in the
//! journal, and read from there for each program that follows along, as far as it takes it.

#![forbid(unsafe_code)]

pub mod events;
pub mod local;
pub mod protocol;
pub mod rights;
mod run_dir;
pub mod server;
pub mod service;

pub use run_dir::{RUN_DIR, RunDirError, run_dir};

#[cfg(test)]
mod tests;
