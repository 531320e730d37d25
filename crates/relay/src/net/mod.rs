//! The network side: one thread for sockets and the service, one for the journal's syncs.
//!
//! [`endpoint`] takes connections, `session` serves one each, and the [`hub`] is what they share: the service, and who
//! waits for what to be durable.

pub(crate) mod endpoint;
pub(crate) mod hub;
mod session;
