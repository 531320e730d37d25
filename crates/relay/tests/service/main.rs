//! The service through [`Service::handle`](qpc_relay::service::Service::handle), over a journal on a disk in memory,
//! with real OPAQUE on both sides.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod delivery;
mod groups;
mod hooks;
mod model;
mod support;
