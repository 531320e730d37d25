use qpc_proto::id::{ConversationId, DeviceId, UserName};
use qpc_proto::wire::DecodeError;
use thiserror::Error;

use crate::mls::{CodecError, CredentialError, DeltaError, RandomnessError, StorageError, TreeError};

/// Why the engine did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The journal already holds an account.
    #[error("this state belongs to an account already")]
    AccountExists,
    /// This device is in the conversation's group.
    #[error("this device has joined conversation {0} already")]
    AlreadyJoined(ConversationId),
    /// A commit of this device for the conversation waits for the relay's answer.
    #[error("a change of conversation {0} is still under way")]
    CommitPending(ConversationId),
    /// The account of a member, or of somebody to be added, is not one the conversation is for.
    #[error("{user} does not belong into this conversation")]
    Foreign {
        /// Who.
        user: UserName,
    },
    /// Somebody's identity key is not the one known. It must be accepted first.
    #[error("{user} has a new identity; compare the safety number, then accept it")]
    IdentityChanged {
        /// Who.
        user: UserName,
    },
    /// What the relay sent of a group is not a group that can be joined.
    #[error("the relay's state of conversation {0} is not usable")]
    InvalidGroup(ConversationId),
    /// A key package is not genuine, or not for this suite.
    #[error("the key package of device {0} is not usable")]
    InvalidKeyPackage(DeviceId),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] qpc_journal::Error),
    /// openmls refused.
    #[error("MLS: {0}")]
    Mls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The journal holds no account.
    #[error("no account is set up here; log in first")]
    NoAccount,
    /// A credential is not genuine.
    #[error(transparent)]
    NotGenuine(#[from] CredentialError),
    /// This device is not in the conversation's group.
    #[error("this device has not joined conversation {0}")]
    NotJoined(ConversationId),
    /// No request with this number waits.
    #[error("no request with number {0} waits")]
    NotWaiting(u64),
    /// There are no random numbers.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// A message or a group is larger than the protocol carries.
    #[error("too large for this protocol")]
    TooLarge,
    /// As many messages are held as may be.
    #[error("too many messages wait for a connection")]
    TooManyHeld,
    /// Stored state cannot be read.
    #[error("stored state is damaged: {0}")]
    Unreadable(#[from] Unreadable),
    /// No such conversation is known.
    #[error("conversation {0} is not known")]
    UnknownConversation(ConversationId),
    /// No such contact is known, or there is no change to accept.
    #[error("there is no changed identity of {0} to accept")]
    UnknownIdentity(UserName),
}

/// Why stored state cannot be read.
#[derive(Clone, Copy, Debug, Error)]
pub enum Unreadable {
    /// An MLS value.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A patch of an MLS value, or a row's key.
    #[error("a row does not fit the others")]
    Inconsistent,
    /// A record.
    #[error(transparent)]
    Record(#[from] DecodeError),
}

impl EngineError {
    /// Whether nothing works any more. Everything else is the matter of one conversation, or of one request.
    pub(crate) fn is_of_the_device(&self) -> bool {
        matches!(self, Self::Journal(_) | Self::Randomness(_)) && !self.is_lost()
    }

    /// Whether a stored value is lost, and trying again will not help.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Journal(error) => matches!(error, qpc_journal::Error::Corrupt { .. }),
            Self::Mls(_) | Self::NotJoined(_) | Self::Unreadable(_) => true,
            _ => false,
        }
    }

    pub(super) fn mls(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Mls(Box::new(error))
    }
}

impl From<CodecError> for EngineError {
    fn from(error: CodecError) -> Self {
        Self::Unreadable(error.into())
    }
}

impl From<DecodeError> for EngineError {
    fn from(error: DecodeError) -> Self {
        Self::Unreadable(error.into())
    }
}

impl From<DeltaError<qpc_journal::Error>> for EngineError {
    fn from(error: DeltaError<qpc_journal::Error>) -> Self {
        match error {
            DeltaError::Malformed => Self::Unreadable(Unreadable::Inconsistent),
            DeltaError::Rows(error) => Self::Journal(error),
        }
    }
}

impl From<StorageError<qpc_journal::Error>> for EngineError {
    fn from(error: StorageError<qpc_journal::Error>) -> Self {
        match error {
            StorageError::Codec(error) => error.into(),
            StorageError::Delta(error) => error.into(),
            StorageError::ProposalMissing => Self::Unreadable(Unreadable::Inconsistent),
        }
    }
}

impl From<TreeError> for EngineError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Malformed => Self::mls(error),
            TreeError::TooLarge => Self::TooLarge,
        }
    }
}
