//! Connections.

use super::auth::Suite;
use opaque_ke::ServerLogin;
use qpc_proto::id::{DeviceId, PublicKey, UserName};
use qpc_proto::message::KsfProfile;
use qpc_proto::signing::Exporter;
use std::fmt;
use std::net::IpAddr;

/// One connection, as far as the service knows it. The edge keeps it beside the socket.
pub struct Caller {
    pub(super) exporter: Exporter,
    pub(super) peer: IpAddr,
    pub(super) progress: Progress,
}

/// How far a connection has come.
pub(super) enum Progress {
    Anonymous,
    /// After the first half of a registration.
    Registering {
        user: UserName,
        invite: String,
    },
    /// After the first half of a login.
    LoggingIn(Box<LoggingIn>),
    /// Speaks for an account, identified also by its key: the name may have passed to somebody else since.
    Account {
        user: UserName,
        identity_key: PublicKey,
        /// The password it logged in with: another one ends what this one allowed.
        password: u64,
    },
    /// The session of a device.
    Device(Session),
}

pub(super) struct LoggingIn {
    pub(super) user: UserName,
    /// `None` for a user that does not exist.
    pub(super) identity_key: Option<PublicKey>,
    pub(super) ksf: KsfProfile,
    pub(super) password: u64,
    pub(super) state: ServerLogin<Suite>,
}

/// The session of a device, as its connection knows it.
pub(super) struct Session {
    pub(super) device: DeviceId,
    pub(super) number: u32,
    pub(super) user: UserName,
    pub(super) token: u32,
}

impl Caller {
    /// A connection that has not said anything yet, by its TLS exporter and the peer's address.
    pub fn new(exporter: Exporter, peer: IpAddr) -> Self {
        Self { exporter, peer, progress: Progress::Anonymous }
    }

    /// The device whose session this connection opened.
    pub fn device(&self) -> Option<DeviceId> {
        match &self.progress {
            Progress::Device(session) => Some(session.device),
            _ => None,
        }
    }

    /// The account that a login has begun for.
    pub(super) fn logging_in(&self) -> Option<&UserName> {
        match &self.progress {
            Progress::LoggingIn(login) => Some(&login.user),
            _ => None,
        }
    }

    /// Whether the connection has logged in or opened a session. Others are to be closed after a while.
    pub fn authenticated(&self) -> bool {
        matches!(self.progress, Progress::Account { .. } | Progress::Device(_))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("peer", &self.peer)
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}
