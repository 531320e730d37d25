//! What the relay's owner can ask.

use super::auth::invite_key;
use super::{Change, Now, Outcome, Refusal, Service};
use crate::records::{InviteRow, key};
use crate::store::Store;
use qpc_proto::id::{DeviceId, UserName};
use qpc_proto::message::ErrorCode;
use qpc_proto::wire::Message;

/// What an administrator asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminRequest {
    /// A new invite code.
    Invite,
    /// The accounts.
    UserList,
    /// Removes an account with its devices.
    UserRemove(UserName),
    /// The devices of an account.
    DeviceList(UserName),
    /// Removes a device.
    DeviceRevoke(UserName, DeviceId),
}

/// What an administrator gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminReply {
    /// A new invite code, shown this once, and the seconds it is good for.
    Invite {
        /// The code.
        code: String,
        /// Seconds.
        seconds: u64,
    },
    /// The accounts, by name.
    Users(Vec<AdminUser>),
    /// The devices.
    Devices(Vec<AdminDevice>),
    /// Done.
    Done,
    /// Not done.
    Refused(AdminRefusal),
}

/// An account in a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminUser {
    /// Its name.
    pub user: UserName,
    /// How many devices it has.
    pub devices: usize,
}

/// A device in a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminDevice {
    /// Its id.
    pub device: DeviceId,
    /// Its name for people; chosen by its user, so to be printed with care.
    pub label: String,
    /// Whether it has a session now.
    pub online: bool,
    /// Entries waiting for it.
    pub queued: u64,
    /// Seconds of the relay's age since it last opened a session, to the day.
    pub idle_seconds: u64,
}

/// Why an administrator's request was refused.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub enum AdminRefusal {
    /// The store did not do it.
    #[error("{0}")]
    Store(String),
    /// No device of the account has the id.
    #[error("the account has no such device; list them with `qpc-relay device list NAME`")]
    UnknownDevice,
    /// No account has the name.
    #[error("no account has that name; list them with `qpc-relay user list`")]
    UnknownUser,
}

impl<S: Store> Service<S> {
    /// Handles an administrator's request. The answer waits for the store like any other, as the [`Outcome`] says.
    pub fn admin(&mut self, now: Now, request: AdminRequest) -> (AdminReply, Outcome) {
        let decided = match request {
            AdminRequest::Invite => self.invite(now),
            AdminRequest::UserList => self.user_list().map(unchanged),
            AdminRequest::UserRemove(user) => {
                self.remove_account(now, &user).map(|change| (AdminReply::Done, change))
            }
            AdminRequest::DeviceList(user) => self.device_list(now, &user).map(unchanged),
            AdminRequest::DeviceRevoke(user, device) => {
                self.remove_device(now, &user, &device).map(|change| (AdminReply::Done, change))
            }
        };
        let done = decided.and_then(|(reply, change)| Ok((reply, self.apply(now, None, change)?)));
        done.unwrap_or_else(|refusal| (AdminReply::Refused(refusal.into()), Outcome::default()))
    }

    fn invite(&mut self, now: Now) -> Result<(AdminReply, Change), Refusal> {
        let age = self.age(now);
        let mut change = Change::default();
        for key in self.store.keys(key::INVITES) {
            let row: Option<InviteRow> = self.row(&key)?;
            if row.is_none_or(|row| row.expires <= age) {
                change.batch.delete(key);
            }
        }
        let mut bytes = [0; INVITE_LETTERS];
        self.rng.fill_bytes(&mut bytes);
        let code: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        let seconds = self.policy.invite_ttl;
        change.batch.put(invite_key(&code), InviteRow { expires: age.saturating_add(seconds) }.encode());
        Ok((AdminReply::Invite { code, seconds }, change))
    }

    fn user_list(&self) -> Result<AdminReply, Refusal> {
        let mut users = Vec::new();
        for user in self.store.keys(key::ACCOUNTS).iter().filter_map(|key| key::account_name(key)) {
            let devices = self.account(&user)?.map_or(0, |account| account.devices.len());
            users.push(AdminUser { user, devices });
        }
        Ok(AdminReply::Users(users))
    }

    fn device_list(&self, now: Now, user: &UserName) -> Result<AdminReply, Refusal> {
        let account = self.account(user)?.ok_or(ErrorCode::UnknownUser)?;
        let mut devices = Vec::new();
        for reference in account.devices.iter() {
            let Some(row) = self.device(&reference.device)? else { continue };
            devices.push(AdminDevice {
                device: reference.device,
                label: row.label.to_string(),
                online: self.sessions.get(&reference.device).is_some(),
                queued: self.deliveries(row.number).len(),
                idle_seconds: self.age(now).saturating_sub(row.seen),
            });
        }
        Ok(AdminReply::Devices(devices))
    }
}

impl From<Refusal> for AdminRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            ErrorCode::UnknownUser => Self::UnknownUser,
            ErrorCode::UnknownDevice => Self::UnknownDevice,
            _ => Self::Store(refusal.reason.to_owned()),
        }
    }
}

fn unchanged(reply: AdminReply) -> (AdminReply, Change) {
    (reply, Change::default())
}

/// 80 bits: not to be guessed at the rate that registrations are limited to.
const INVITE_LETTERS: usize = 16;

/// Letters and digits that are not taken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
