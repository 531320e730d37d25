//! What plugins are told, as plain data that can wait.

/// A hook by its name in the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hook {
    /// `on_message_enqueue`, with its `error_message`.
    MessageEnqueue,
    /// `on_batch_enqueue`.
    BatchEnqueue,
    /// `on_auth`.
    Auth,
    /// `on_channel_created`.
    ChannelCreated,
    /// `on_fetch`.
    Fetch,
    /// `on_user_registered`.
    UserRegistered,
    /// `on_shutdown`.
    Shutdown,
    /// `destroy`.
    Destroy,
}

impl Hook {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::MessageEnqueue,
        Self::BatchEnqueue,
        Self::Auth,
        Self::ChannelCreated,
        Self::Fetch,
        Self::UserRegistered,
        Self::Shutdown,
        Self::Destroy,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageEnqueue => "on_message_enqueue",
            Self::BatchEnqueue => "on_batch_enqueue",
            Self::Auth => "on_auth",
            Self::ChannelCreated => "on_channel_created",
            Self::Fetch => "on_fetch",
            Self::UserRegistered => "on_user_registered",
            Self::Shutdown => "on_shutdown",
            Self::Destroy => "destroy",
        }
    }
}

/// A message on its way to one account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The sender's identity key; `None` if the sender is sealed.
    pub sender: Option<[u8; 32]>,
    /// The recipient's identity key.
    pub recipient: [u8; 32],
    /// The channel.
    pub channel: [u8; 16],
    /// Bytes of the encrypted payload.
    pub payload_len: usize,
    /// Its number in the recipient's queue.
    pub seq: u64,
}

/// Something that has happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A message was stored for these recipients.
    Stored(Vec<Message>),
    /// Somebody tried to log in.
    Auth {
        /// By this name.
        user: String,
        /// Why that failed; `None` if it did not.
        failure: Option<String>,
    },
    /// A channel was made or looked up.
    Channel {
        /// Its id.
        channel: [u8; 16],
        /// Who asked for it.
        initiator: [u8; 32],
        /// The other side.
        peer: [u8; 32],
        /// Whether it was made.
        new: bool,
    },
    /// Messages reached a recipient.
    Fetched {
        /// Who.
        recipient: [u8; 32],
        /// In which channel.
        channel: [u8; 16],
        /// How many.
        count: usize,
    },
    /// An account was registered.
    Registered {
        /// Its name.
        user: String,
        /// Its identity key.
        identity_key: [u8; 32],
    },
}

impl Event {
    pub(crate) fn hook(&self) -> Hook {
        match self {
            Self::Stored(_) => Hook::BatchEnqueue,
            Self::Auth { .. } => Hook::Auth,
            Self::Channel { .. } => Hook::ChannelCreated,
            Self::Fetched { .. } => Hook::Fetch,
            Self::Registered { .. } => Hook::UserRegistered,
        }
    }
}
