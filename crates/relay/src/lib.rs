//! The relay: stores and forwards what clients encrypt end to end.
//!
//! Data flows one way: the network takes frames off a connection and hands each request, with the time, to
//! [`service`], which decides what it means; the decision is one atomic batch for the [`store`], and whom to wake.
//! [`records`] is what the store holds and [`bounds`] is every limit.

#![forbid(unsafe_code)]

pub mod bounds;
mod certificate;
pub mod cli;
mod clock;
mod config;
mod control;
mod keys;
mod logger;
mod net;
mod plugins;
pub mod records;
mod run;
mod sandbox;
mod self_test;
pub mod service;
mod status;
pub mod store;
