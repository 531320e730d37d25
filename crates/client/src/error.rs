//! What can go wrong, in words that say what to do.

use crate::engine::EngineError;
use qpc_proto::address::AddressError;
use qpc_proto::id::{UserName, UserNameError};
use qpc_proto::limits::MAX_BODY;
use qpc_proto::message::ErrorCode;
use std::io;
use std::path::PathBuf;

/// Why the client did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an address of a relay.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Unknown user or wrong password: which of the two, nobody is told.
    #[error("user name or password is wrong")]
    AuthFailed,
    /// The CA certificate cannot be read.
    #[error("cannot read the CA certificate {}: {source}", path.display())]
    CaFile {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error("{} holds no certificate, neither DER nor PEM; give the relay's ca.der or ca.pem", .0.display())]
    CaFormat(PathBuf),
    /// A password must not be empty.
    #[error("the password is empty")]
    EmptyPassword,
    /// MLS, identities or stored state.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The message is too long.
    #[error("a message has at most {MAX_BODY} bytes, this one has {0}")]
    MessageTooLong(usize),
    /// An account without a device: nobody got the message.
    #[error("{0} has no device that could get the message; it was not sent")]
    NoDevice(UserName),
    /// No certificate can have this name.
    #[error("'{}' is not a name that a relay's certificate can have", .0.escape_debug())]
    ServerName(String),
    /// Nothing was logged in yet.
    #[error("not logged in")]
    NotLoggedIn,
    /// No address of a relay can be made of this.
    #[error("'{}' is not HOST:PORT of a relay", .0.escape_debug())]
    Server(String),
    /// The relay does not take messages now. This one waits here and goes out with a later connection.
    #[error("not sent yet, it waits here for the next connection: {0}")]
    Postponed(String),
    /// The relay said something that the protocol does not allow there.
    #[error("the relay's answer does not fit the request; do client and relay have the same version?")]
    Protocol,
    /// The relay refused.
    #[error("the relay refused: {reason}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        reason: String,
        /// A number that belongs to the code.
        detail: u64,
    },
    /// Another connection took over this device's session.
    #[error("another program has opened this device's session; log in again to take it back")]
    Replaced,
    /// The connection went before the relay said that it has the message. It waits here and goes out, once, with the next.
    #[error(
        "the relay has not confirmed the message; it waits here and goes out with the next connection, so do not send it again"
    )]
    Unconfirmed,
    /// The host has no address.
    #[error("cannot find {host}: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// This device was revoked.
    #[error("this device was revoked; log in with the password to make it a new one")]
    Revoked,
    /// The state folder cannot be used.
    #[error("cannot use the state folder {}: {source}", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody has logged in from this folder yet, or its key file is missing.
    #[error("there is no unattended login in {}; log in once with the password and ask for a key file", .0.display())]
    StateKey(PathBuf),
    /// Another process has the state folder.
    #[error("the state folder {} is in use by another process", .0.display())]
    StateLocked(PathBuf),
    /// An account that this one has never met.
    #[error("nothing is known of {0} yet; send a message first")]
    Stranger(UserName),
    /// Messages are queued faster than they can be sent.
    #[error("too many messages wait to be sent; queue this one when some of them have gone")]
    TooManyQueued,
    /// The relay did not answer in time.
    #[error("the relay did not answer in time")]
    Timeout,
    /// A message to oneself.
    #[error("{0} is this account; a message needs another recipient")]
    ToOneself(UserName),
    /// The relay has another key than the one given.
    #[error("the relay's certificate is not trusted: {0}")]
    Untrusted(String),
    /// It is not known whether the relay has taken a new password.
    #[error(
        "the relay has not confirmed the change: either the new password is valid now or still the old one; try them"
    )]
    Unsettled,
    /// No connection.
    #[error("the relay at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why.
        reason: String,
    },
    /// No account has the name.
    #[error("no account named {0} on this relay")]
    UnknownUser(UserName),
    /// Not a user name.
    #[error(transparent)]
    UserName(#[from] UserNameError),
}

/// Kinds of errors, for exit codes and the like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// What was asked for makes no sense.
    Invalid,
    /// Login failed.
    AuthFailed,
    /// Nothing was logged in.
    NotLoggedIn,
    /// The relay cannot be reached, or is not the one that is trusted.
    Unreachable,
    /// The relay refused.
    Refused,
    /// Nobody has the name, or not a single device, or nothing is known of the account yet.
    UnknownUser,
    /// No answer in time.
    Timeout,
    /// The message was not confirmed, but waits here and goes out with a later connection.
    Queued,
    /// The state folder is in use or unusable.
    State,
    /// The rest.
    Other,
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(_)
            | Self::CaFile { .. }
            | Self::CaFormat(_)
            | Self::EmptyPassword
            | Self::MessageTooLong(_)
            | Self::Server(_)
            | Self::ServerName(_)
            | Self::ToOneself(_)
            | Self::TooManyQueued
            | Self::UserName(_) => ErrorKind::Invalid,
            Self::AuthFailed => ErrorKind::AuthFailed,
            Self::NotLoggedIn => ErrorKind::NotLoggedIn,
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Untrusted(_) => ErrorKind::Unreachable,
            Self::Refused { .. } | Self::Replaced | Self::Revoked => ErrorKind::Refused,
            Self::NoDevice(_) | Self::Stranger(_) | Self::UnknownUser(_) => ErrorKind::UnknownUser,
            Self::Timeout | Self::Unsettled => ErrorKind::Timeout,
            Self::Postponed(_) | Self::Unconfirmed => ErrorKind::Queued,
            Self::State { .. } | Self::StateKey(_) | Self::StateLocked(_) => ErrorKind::State,
            Self::Engine(EngineError::Journal(_) | EngineError::Unreadable(_)) => ErrorKind::State,
            Self::Engine(_) | Self::Protocol => ErrorKind::Other,
        }
    }

    /// Whether the state cannot be written to for want of space, or because the file system takes no writes. What is there
    /// can still be read, and somebody may make room.
    pub fn is_full(&self) -> bool {
        use qpc_journal::Error::{Full, ReadOnly};
        matches!(self, Self::Engine(EngineError::Journal(Full | ReadOnly)))
    }

    /// Whether it may be over after a while, of itself or when somebody has seen to the relay.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_of_the_link() || matches!(self, Self::Protocol | Self::Refused { .. } | Self::Untrusted(_))
    }

    /// Whether it is a message's own: to send the same to the same again helps only if somebody does something.
    pub(crate) fn is_of_the_message(&self) -> bool {
        match self {
            Self::NoDevice(_) | Self::UnknownUser(_) => true,
            Self::Engine(error) => {
                matches!(error, EngineError::IdentityChanged { .. } | EngineError::TooLarge)
            }
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::Invalid | ErrorCode::Rejected | ErrorCode::TooLarge | ErrorCode::Unsupported
            ),
            _ => false,
        }
    }

    /// Whether a new connection may help.
    pub(crate) fn is_of_the_link(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout | Self::Resolve { .. })
    }
}

impl From<qpc_journal::Error> for Error {
    fn from(error: qpc_journal::Error) -> Self {
        match error {
            qpc_journal::Error::Locked { path } => Self::StateLocked(path),
            error => Self::Engine(error.into()),
        }
    }
}
