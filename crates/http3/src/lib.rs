//! HTTP/3 (RFC 9114), client and server, over abstract QUIC streams: no I/O, no clock, no runtime, nothing random.
//!
//! A [`Connection`] is one end. What QUIC receives goes in at [`Connection::on_stream_data`] and its siblings; what QUIC is to do comes out of
//! [`Connection::next_send`] and [`Connection::poll_action`]; the application calls [`Connection::send_request`] and the like, and learns
//! from [`Connection::poll_event`]. Bytes of one stream have to come in order; streams may come in any order to each other.
//!
//! ```
//! use http3::{Config, Connection, Event, RequestHead, ResponseHead, Role};
//!
//! /// Carries what one end sends to the other; a real transport has QUIC in between.
//! fn carry(from: &mut Connection, to: &mut Connection) {
//!     while let Some(send) = from.next_send() {
//!         let (stream, count) = (send.stream, send.data.len());
//!         to.on_stream_data(stream, send.data, send.fin);
//!         from.sent(stream, count);
//!     }
//! }
//!
//! let mut client = Connection::new(Role::Client, Config::default());
//! let mut server = Connection::new(Role::Server, Config::default());
//! let stream = client.send_request(&RequestHead::get("router", "/status"), true)?;
//! carry(&mut client, &mut server);
//! while let Some(event) = server.poll_event() {
//!     if let Event::Request { stream, head } = event {
//!         assert_eq!(head.path, b"/status");
//!         server.send_response(stream, &ResponseHead::new(200), false)?;
//!         server.send_body(stream, b"fine", true)?;
//!     }
//! }
//! carry(&mut server, &mut client);
//! let body = Event::Body { stream, data: b"fine".to_vec() };
//! assert!(std::iter::from_fn(|| client.poll_event()).any(|event| event == body));
//! # Ok::<(), http3::Error>(())
//! ```
//!
//! [`whole`] is the same for programs that want messages rather than pieces.
//!
//! Besides RFC 9114 there are QPACK with its dynamic table (RFC 9204, [`qpack`]), extended CONNECT (RFC 9220), datagrams and capsules
//! (RFC 9297, [`capsule`]), pushes, and the PRIORITY_UPDATE frame of RFC 9218, which is handed on: the order of sending is the transport's.
//!
//! # What a peer can make this end keep
//!
//! [`Config`] bounds the requests that are open, the fields of a message, what waits for the dynamic table and what waits to be sent; the
//! settings bound the table; constants bound the rest (frames of the control stream, streams that were left out or have no type, settings,
//! outstanding sections). Content is handed on as it comes. Beyond a bound a stream is rejected or ends with `H3_EXCESSIVE_LOAD`,
//! and where no single stream is to blame, the connection does.
//!
//! # Why not an existing crate
//!
//! * `h3` works in async traits, so an executor would have to be brought along, and its QPACK, which uses no dynamic table, is private.
//! * `quiche` and `tquic` tie HTTP/3 to their own QUIC, and that to BoringSSL, which does not build for MIPS.
//! * `neqo-http3` with `neqo-qpack`, and what s2n-quic has, are not in the registry.
//! * `ls-qpack` binds a C library: unsafe code, and memory that our bounds do not reach.
//! * `httlib-huffman` was last released in 2020 and spends about 100 KB of tables where the lengths of the codes are enough (257 bytes).
//!
//! The tests compare with `ls-qpack` and aioquic instead, which share no code with this.

#![forbid(unsafe_code)]

pub mod capsule;
mod connection;
mod error;
mod frame;
mod map;
mod message;
mod outbox;
pub mod qpack;
mod seen;
mod settings;
pub mod varint;
pub mod whole;

pub use connection::{Action, Connection, Event, Role, Target};
pub use error::{Code, ConnectionError, Error, Malformed};
pub use message::{RequestHead, ResponseHead};
pub use outbox::Send;
pub use qpack::Field;
pub use settings::{Config, Settings};
