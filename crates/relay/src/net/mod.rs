//! The network side: one thread for sockets and the service, one for the journal's syncs.
//!
//! The [`server`] waits for sockets and gives each connection its turn; a `session` serves one, with its `control_stream` and
//! streams for `bulk`; the `gate` keeps their number within bounds; and the [`hub`] is what they share: the service, and
//! who waits for what to be durable.

mod bulk;
mod control_stream;
pub(crate) mod endpoint;
mod gate;
pub(crate) mod hub;
pub(crate) mod server;
mod session;
mod syncer;
#[cfg(test)]
mod tests;
