//! Refusals and what they tell people.

use crate::store::StoreError;
use qpc_proto::message::{Error, ErrorCode};
use qpc_proto::wire::Text;

/// A request is refused; nothing of it takes effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    detail: u64,
    pub(super) reason: &'static str,
}

impl Refusal {
    /// With the code's usual text.
    pub(super) fn new(code: ErrorCode) -> Self {
        Self { code, detail: 0, reason: usual_reason(code) }
    }

    /// With a number the client can use.
    pub(super) fn with_detail(code: ErrorCode, detail: u64) -> Self {
        Self { detail, ..Self::new(code) }
    }

    /// The request contradicts itself or the state; `reason` says how.
    pub(super) fn invalid(reason: &'static str) -> Self {
        Self { code: ErrorCode::Invalid, detail: 0, reason }
    }

    /// Over one of this relay's limits; `reason` says which.
    pub(super) fn too_large(reason: &'static str) -> Self {
        Self { code: ErrorCode::TooLarge, detail: 0, reason }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::new(ErrorCode::StorageFull),
            StoreError::ReadOnly => Self::new(ErrorCode::StorageReadOnly),
            StoreError::Damaged(_) | StoreError::Failed(_) => {
                log::error!("{error}");
                Self::new(ErrorCode::StorageFailed)
            }
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, reason: Text::new(refusal.reason), detail: refusal.detail }
    }
}

fn usual_reason(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::AuthFailed => "unknown user, wrong password or wrong device",
        ErrorCode::Busy => "the relay is busy; try again later",
        ErrorCode::Internal => "the relay failed; tell its owner",
        ErrorCode::Invalid => "the request contradicts itself or the group's state",
        ErrorCode::InviteInvalid => "this relay takes new accounts by invite: ask its owner for a new code",
        ErrorCode::LeaseInvalid => "a key package is no longer leased; fetch key packages again",
        ErrorCode::Malformed => "not a message of this protocol",
        ErrorCode::NameTaken => "the name is taken; choose another one",
        ErrorCode::NotAuthenticated => "log in or open a session first",
        ErrorCode::NotMember => "this device is not in the group; join it first",
        ErrorCode::QueueFull => "the recipient has too many undelivered messages; try again later",
        ErrorCode::RateLimited => "too many attempts; wait and try again",
        ErrorCode::RegistrationClosed => "this relay takes no new accounts",
        ErrorCode::Rejected => "refused by the relay's rules",
        ErrorCode::StaleNumber => "the request is older than the answers the relay remembers",
        ErrorCode::StorageFailed => "the relay's storage failed; ask again, and tell the relay's owner",
        ErrorCode::StorageFull => "the relay's storage is full; try again later, or tell its owner",
        ErrorCode::StorageReadOnly => "the relay's storage takes no writes; tell its owner",
        ErrorCode::TooLarge => "over a limit of this relay",
        ErrorCode::TooManyDevices => "the account has too many devices; revoke one first",
        ErrorCode::UnknownConversation => "no such conversation",
        ErrorCode::UnknownDevice => "no such device",
        ErrorCode::UnknownUser => "no account has this name",
        ErrorCode::Unsupported => "this relay does not offer the request",
        ErrorCode::UnsupportedVersion => "no version of the protocol in common; upgrade the older side",
        ErrorCode::WrongEpoch => "the group has moved on to another epoch",
        ErrorCode::Unknown(_) => "",
    }
}
