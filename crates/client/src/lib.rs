//! The client: everything between a program that wants to send a text and the relay.
//!
//! A message goes down through three layers. [`Client`] (`session`) finds the conversation, sets it up where there is none, sends again after
//! a lost connection. The [`engine`], synchronous and without I/O but for its journal, encrypts ([`mls`]) and journals it as a
//! numbered request. The link sends that over QUIC and brings back the answer. What comes from others goes up
//! the same way. `state` is the folder all this is kept in, `auth` the password's part.

#![forbid(unsafe_code)]

mod auth;
pub mod engine;
mod error;
mod link;
pub mod mls;
mod safety;
mod session;
mod state;

pub use auth::Password;
pub use engine::{Contact, Event, InboxMessage as Message, InboxState};
pub use error::{Error, ErrorKind};
pub use link::RelayEndpoint;
pub use qpc_proto::address::RelayAddress;
pub use qpc_proto::envelope::{Envelope, Kind};
pub use qpc_proto::id::{ConversationId, DeviceId, MessageId, UserName};
pub use qpc_proto::limits::MAX_BODY;
pub use qpc_proto::message::{DeviceInfo, Durability, HelloReply, Registration};
pub use qpc_transport::executor;
pub use qpc_transport::reactor;
pub use session::{Client, Interrupt, Options, Sent, Update, envelope};
