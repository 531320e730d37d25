//! Every bound of the library, with its reason. The engine's own defaults are made for servers with gigabytes.

use std::time::Duration;

/// Whether this is a machine like a router.
const SMALL: bool = cfg!(target_pointer_width = "32");

/// Time for a handshake: whoever only begins them does not keep them.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(30);

/// Handshakes under way that peers began, about 20 KB each; further ones are ignored, and their peers try again.
pub(crate) const HALF_OPEN: usize = if SMALL { 64 } else { 4096 };

/// Of these, so many before addresses must be proved by Retry: a flood with forged senders then costs nobody memory.
pub(crate) const HALF_OPEN_UNPROVED: usize = HALF_OPEN / 4;

/// Connections that have ended and still answer late packets; the oldest is forgotten first.
pub(crate) const CLOSING: usize = if SMALL { 64 } else { 4096 };

/// Bytes that wait in one connection because the peer does not take more yet. They are the caller's, who can see by
/// `has_pending_stream_send` that there are some.
pub(crate) const QUEUED: usize = if SMALL { 8 << 20 } else { 1 << 30 };

/// Bytes that were given to the engine and are not confirmed yet, of one connection.
pub(crate) const SEND_WINDOW: u64 = if SMALL { 1 << 20 } else { 16 << 20 };

/// Bytes of datagrams that wait to be sent; the oldest is dropped first.
pub(crate) const DATAGRAMS_OUT: usize = if SMALL { 64 << 10 } else { 1 << 20 };

/// Bytes of handshake data out of order.
pub(crate) const CRYPTO: usize = 16 * 1024;

/// Streams that a peer may be allowed to have open, in either kind: the engine makes an entry for each when a connection begins.
pub(crate) const STREAMS: u64 = 65_536;

/// Streams that wait until the peer allows them, counted from the last that it did.
pub(crate) const STREAMS_AHEAD: u64 = 65_536;

/// Datagrams in one result; there is a continuation if there are more.
pub(crate) const DATAGRAMS: usize = 64;

/// Datagrams that are made in one go.
pub(crate) const BATCH: usize = 16;

/// Sessions that can be resumed, on either side.
pub(crate) const SESSIONS: usize = if SMALL { 32 } else { 256 };

/// Tokens of NEW_TOKEN frames that were used and are not to be used again, twice.
pub(crate) const USED_TOKENS: usize = if SMALL { 256 } else { 16_384 };

/// Time for which these tokens are good.
pub(crate) const TOKEN_TIME: Duration = Duration::from_secs(24 * 60 * 60);
