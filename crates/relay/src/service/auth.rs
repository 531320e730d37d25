//! Registration and login by password (OPAQUE, RFC 9807).

use super::caller::{Caller, LoggingIn, Progress};
use super::change::Change;
use super::limits::peer_key;
use super::refusal::Refusal;
use super::{NO_LOGIN, Now, Rng, Service, blob, list};
use crate::records::{AccountRow, DeviceRow, InviteRow, key};
use crate::store::{Store, StoreError};
use opaque_ke::argon2::Argon2;
use opaque_ke::{
    CipherSuite, CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest,
    RegistrationUpload, Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup,
    TripleDh,
};
use qpc_plugin_host::{Event, Hook};
use qpc_proto::id::{PublicKey, UserName};
use qpc_proto::message::{
    Account, ChangePasswordFinish, ChangePasswordStart, DeviceSlot, Done, ErrorCode, KsfProfile, LoginFinish,
    LoginStart, OpaqueReply, RegisterFinish, RegisterStart, Registration, Signature,
};
use qpc_proto::signing::{self, Exporter};
use qpc_proto::wire::{List, Message};
use ring::{digest, hmac};
use sha2::Sha512;
use std::cell::OnceCell;
use zeroize::Zeroizing;

/// OPAQUE as this protocol uses it.
#[derive(Debug)]
pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Argon2<'static>;
}

/// The secrets of the service: whoever has them and the store can guess passwords, and without them nobody logs in.
pub struct ServiceKeys {
    /// As OPAQUE stores it. Reading it takes a scalar multiplication, which would be most of a relay's start.
    stored: Zeroizing<Vec<u8>>,
    opaque: OnceCell<ServerSetup<Suite>>,
    /// Chooses what is told of users that do not exist.
    decoys: [u8; 32],
}

impl ServiceKeys {
    /// New keys.
    pub fn generate(rng: &mut Rng) -> Self {
        let mut decoys = [0; 32];
        rng.fill_bytes(&mut decoys);
        let opaque = ServerSetup::new(rng);
        Self { stored: opaque.serialize().to_vec().into(), opaque: opaque.into(), decoys }
    }

    /// Reads what [`ServiceKeys::to_bytes`] gave; `None` if it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, check) = bytes.split_last_chunk::<KEYS_CHECK>()?;
        let (decoys, opaque) = content.strip_prefix(KEYS_MAGIC)?.split_first_chunk()?;
        let keys = Self { stored: opaque.to_vec().into(), opaque: OnceCell::new(), decoys: *decoys };
        (keys_check(content) == *check).then_some(keys)
    }

    /// For a file that only the relay may read.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new([KEYS_MAGIC, &self.decoys, &self.stored].concat());
        let check = keys_check(&bytes);
        bytes.extend(check);
        bytes
    }

    fn opaque(&self) -> Result<&ServerSetup<Suite>, Refusal> {
        if let Some(setup) = self.opaque.get() {
            return Ok(setup);
        }
        let setup = ServerSetup::deserialize(&self.stored).map_err(|_| {
            log::error!("opaque.key was made by another version of this program; restore it from a backup");
            Refusal::new(ErrorCode::Internal)
        })?;
        Ok(self.opaque.get_or_init(|| setup))
    }

    /// The key-stretching profile a user who does not exist seems to have: always the same, and either of the two.
    fn decoy_ksf(&self, user: &UserName) -> KsfProfile {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.decoys);
        match hmac::sign(&key, user.as_str().as_bytes()).as_ref()[0] & 1 {
            0 => KsfProfile::Standard,
            _ => KsfProfile::Router,
        }
    }
}

impl std::fmt::Debug for ServiceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceKeys(..)")
    }
}

impl<S: Store> Service<S> {
    pub(super) fn register_start(
        &mut self,
        now: Now,
        caller: &mut Caller,
        request: &RegisterStart,
    ) -> Result<Change, Refusal> {
        no_session_yet(caller)?;
        let peer = peer_key(caller.peer);
        let limits = &mut self.limits;
        let wait =
            limits.login_by_peer.wait(&peer, now.uptime).max(limits.login_global.wait(&(), now.uptime));
        if wait > 0 {
            return Err(Refusal::with_detail(ErrorCode::RateLimited, wait));
        }
        limits.login_by_peer.take(&peer, now.uptime);
        limits.login_global.take(&(), now.uptime);
        self.may_register(now, &request.user, &request.invite)?;

        let message = RegistrationRequest::deserialize(&request.request).map_err(|_| malformed())?;
        let started =
            ServerRegistration::start(self.keys.opaque()?, message, request.user.as_str().as_bytes());
        let response = started.map_err(|_| malformed())?.message.serialize().to_vec();
        Ok(Change {
            progress: Some(Progress::Registering {
                user: request.user.clone(),
                invite: request.invite.to_string(),
            }),
            ..Change::reply(OpaqueReply { response: blob(response)?, ksf: KsfProfile::Standard })
        })
    }

    pub(super) fn register_finish(
        &mut self,
        now: Now,
        caller: &mut Caller,
        request: &RegisterFinish,
    ) -> Result<Change, Refusal> {
        let Progress::Registering { user, invite } = &caller.progress else {
            return Err(Refusal::invalid("no registration has begun on this connection"));
        };
        let invite = self.may_register(now, user, invite)?;
        if matches!(request.ksf, KsfProfile::Unknown(_)) {
            return Err(Refusal::invalid("unknown key-stretching profile"));
        }
        if !verify(&request.identity_key, &signing::registration(&caller.exporter, user), &request.proof) {
            return Err(ErrorCode::AuthFailed.into());
        }
        let upload = RegistrationUpload::<Suite>::deserialize(&request.record).map_err(|_| malformed())?;
        let record = ServerRegistration::finish(upload).serialize().to_vec();
        let account = AccountRow {
            identity_key: request.identity_key,
            record: blob(record)?,
            ksf: request.ksf,
            sealed_identity: request.sealed_identity.clone(),
            devices: List::default(),
            registered: self.age(now),
            password: 0,
        };
        let identity_key = request.identity_key;
        let progress = Progress::Account { user: user.clone(), identity_key, password: 0 };
        let mut change = Change { progress: Some(progress), ..Change::reply(Done {}) };
        change.batch.put(key::account(user), account.encode());
        if let Some(invite) = invite {
            change.batch.delete(invite);
        }
        if self.hooks.want(Hook::UserRegistered) {
            let user = user.to_string();
            change.events.push(Event::Registered { user, identity_key: request.identity_key.0 });
        }
        change.count = Some(|counters| counters.registrations += 1);
        // What is limited is trying; accounts have a bound of their own.
        self.limits.login_by_peer.refund(&peer_key(caller.peer));
        Ok(change)
    }

    pub(super) fn login_start(
        &mut self,
        now: Now,
        caller: &mut Caller,
        request: &LoginStart,
    ) -> Result<Change, Refusal> {
        no_session_yet(caller)?;
        let peer = peer_key(caller.peer);
        let limits = &mut self.limits;
        let wait = limits
            .login_by_user
            .wait(&request.user, now.uptime)
            .max(limits.login_by_peer.wait(&peer, now.uptime))
            .max(limits.login_global.wait(&(), now.uptime));
        if wait > 0 {
            return Err(Refusal::with_detail(ErrorCode::RateLimited, wait));
        }
        // A login counts as failed until it has succeeded: who breaks off has tried a password too.
        limits.login_by_user.take(&request.user, now.uptime);
        limits.login_by_peer.take(&peer, now.uptime);
        limits.login_global.take(&(), now.uptime);
        self.counters.login_attempts += 1;

        let message = CredentialRequest::deserialize(&request.request).map_err(|_| malformed())?;
        let account = self.account(&request.user)?;
        let ksf = account.as_ref().map_or_else(|| self.keys.decoy_ksf(&request.user), |account| account.ksf);
        let record = match &account {
            None => None,
            Some(account) => Some(ServerRegistration::deserialize(&account.record).map_err(|_| damaged())?),
        };
        let context = signing::opaque_context(&caller.exporter, ksf.into());
        let started = ServerLogin::start(
            &mut self.rng,
            self.keys.opaque()?,
            record,
            message,
            request.user.as_str().as_bytes(),
            parameters(&context, &request.user),
        );
        let started = started.map_err(|_| malformed())?;
        let response = blob(started.message.serialize().to_vec())?;
        let password = account.as_ref().map_or(0, |account| account.password);
        let progress = Progress::LoggingIn(Box::new(LoggingIn {
            user: request.user.clone(),
            identity_key: account.map(|account| account.identity_key),
            ksf,
            password,
            state: started.state,
        }));
        Ok(Change { progress: Some(progress), ..Change::reply(OpaqueReply { response, ksf }) })
    }

    pub(super) fn login_finish(
        &mut self,
        caller: &mut Caller,
        request: &LoginFinish,
    ) -> Result<Change, Refusal> {
        // Whatever comes of it, the exchange is used up.
        let login = match std::mem::replace(&mut caller.progress, Progress::Anonymous) {
            Progress::LoggingIn(login) => *login,
            other => {
                caller.progress = other;
                return Err(Refusal::invalid(NO_LOGIN));
            }
        };
        let context = signing::opaque_context(&caller.exporter, login.ksf.into());
        let finished = CredentialFinalization::deserialize(&request.finalization)
            .and_then(|message| login.state.finish(message, parameters(&context, &login.user)));
        let (Ok(_), Some(identity_key)) = (finished, login.identity_key) else {
            self.counters.login_failures += 1;
            return Err(ErrorCode::AuthFailed.into());
        };
        let password = login.password;
        let account = self.account_of(&login.user, &identity_key, password)?.ok_or(ErrorCode::AuthFailed)?;

        self.limits.login_by_user.refund(&login.user);
        self.limits.login_by_peer.refund(&peer_key(caller.peer));
        let mut slots = Vec::new();
        for reference in account.devices.iter() {
            if let Some(row) = self.device(&reference.device)? {
                slots.push(DeviceSlot { device: reference.device, state_slot: row.state_slot });
            }
        }
        let reply = Account { identity_key, sealed_identity: account.sealed_identity, devices: list(slots)? };
        Ok(Change {
            progress: Some(Progress::Account { user: login.user, identity_key, password }),
            count: Some(|counters| counters.logins += 1),
            ..Change::reply(reply)
        })
    }

    pub(super) fn change_password_start(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &ChangePasswordStart,
    ) -> Result<Change, Refusal> {
        let (user, _) = self.logged_in(caller)?;
        // As much work as the login that came before.
        let wait = self.limits.login_global.wait(&(), now.uptime);
        if wait > 0 {
            return Err(Refusal::with_detail(ErrorCode::RateLimited, wait));
        }
        self.limits.login_global.take(&(), now.uptime);
        let message = RegistrationRequest::deserialize(&request.request).map_err(|_| malformed())?;
        let started = ServerRegistration::start(self.keys.opaque()?, message, user.as_str().as_bytes());
        let response = blob(started.map_err(|_| malformed())?.message.serialize().to_vec())?;
        Ok(Change::reply(OpaqueReply { response, ksf: KsfProfile::Standard }))
    }

    pub(super) fn change_password_finish(
        &mut self,
        caller: &Caller,
        request: &ChangePasswordFinish,
    ) -> Result<Change, Refusal> {
        let (user, mut account) = self.logged_in(caller)?;
        if matches!(request.ksf, KsfProfile::Unknown(_)) {
            return Err(Refusal::invalid("unknown key-stretching profile"));
        }
        let upload = RegistrationUpload::<Suite>::deserialize(&request.record).map_err(|_| malformed())?;
        let mut change = Change::reply(Done {});
        let mut rewrapped = 0;
        for reference in account.devices.iter() {
            let Some(row) = self.device(&reference.device)? else { continue };
            let slot = request.devices.iter().find(|slot| slot.device == reference.device);
            // One that was enrolled meanwhile would keep its state under the old password.
            let slot =
                slot.ok_or_else(|| Refusal::invalid("the account has another device now; try again"))?;
            let row = DeviceRow { state_slot: slot.state_slot.clone(), ..row };
            change.batch.put(key::device(&reference.device), row.encode());
            rewrapped += 1;
        }
        if rewrapped != request.devices.len() {
            return Err(Refusal::invalid("the account has fewer devices now; try again"));
        }
        account.record = blob(ServerRegistration::finish(upload).serialize().to_vec())?;
        account.ksf = request.ksf;
        account.sealed_identity = request.sealed_identity.clone();
        account.password += 1;
        change.batch.put(key::account(user), account.encode());
        change.progress = Some(Progress::Account {
            user: user.clone(),
            identity_key: account.identity_key,
            password: account.password,
        });
        Ok(change)
    }

    /// The account that a connection speaks for.
    pub(super) fn logged_in<'a>(&self, caller: &'a Caller) -> Result<(&'a UserName, AccountRow), Refusal> {
        let Progress::Account { user, identity_key, password } = &caller.progress else {
            return Err(ErrorCode::NotAuthenticated.into());
        };
        let account = self.account_of(user, identity_key, *password)?;
        Ok((user, account.ok_or(ErrorCode::NotAuthenticated)?))
    }

    /// The account that somebody logged in to, if it still is: it may have been removed, and its name taken by another, or
    /// have another password now.
    fn account_of(
        &self,
        user: &UserName,
        identity_key: &PublicKey,
        password: u64,
    ) -> Result<Option<AccountRow>, StoreError> {
        let account = self.account(user)?;
        Ok(account.filter(|account| account.identity_key == *identity_key && account.password == password))
    }

    /// Whether a new account may have this name; with the key of the invite that pays for it, if one is needed.
    fn may_register(&self, now: Now, user: &UserName, invite: &str) -> Result<Option<Vec<u8>>, Refusal> {
        // The invite first: without one nobody learns which names are taken.
        let invite = match self.policy.registration {
            Registration::Open => None,
            Registration::Invite => Some(self.valid_invite(now, invite)?.ok_or(ErrorCode::InviteInvalid)?),
            Registration::Closed | Registration::Unknown(_) => {
                return Err(ErrorCode::RegistrationClosed.into());
            }
        };
        if self.store.contains(&key::account(user)) {
            return Err(ErrorCode::NameTaken.into());
        }
        if self.store.count(key::ACCOUNTS) >= self.policy.max_accounts {
            return Err(ErrorCode::RegistrationClosed.into());
        }
        Ok(invite)
    }

    fn valid_invite(&self, now: Now, code: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = invite_key(code);
        let row: Option<InviteRow> = self.row(&key)?;
        Ok(row.filter(|row| self.age(now) < row.expires).map(|_| key))
    }
}

/// The key of an invite's row. Only the hash is stored: whoever reads the store cannot use the code.
pub(super) fn invite_key(code: &str) -> Vec<u8> {
    key::invite(digest::digest(&digest::SHA256, code.as_bytes()).as_ref())
}

/// Whether a signature over `message` is by `key`.
pub(super) fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    qpc_curve::verify(&key.0, message, signature)
}

/// A device signs over the connection's exporter and its own key.
pub(super) fn verify_session(exporter: &Exporter, key: &PublicKey, proof: &Signature) -> bool {
    verify(key, &signing::session(exporter, key), proof)
}

pub(super) fn no_session_yet(caller: &Caller) -> Result<(), Refusal> {
    match caller.progress {
        Progress::Device(_) => Err(Refusal::invalid("this connection already is a device's session")),
        _ => Ok(()),
    }
}

fn parameters<'a>(context: &'a [u8], user: &'a UserName) -> ServerLoginParameters<'a, 'a> {
    let identifiers =
        Identifiers { client: Some(user.as_str().as_bytes()), server: Some(signing::OPAQUE_SERVER) };
    ServerLoginParameters { context: Some(context), identifiers }
}

fn malformed() -> Refusal {
    Refusal::invalid("not a message of OPAQUE")
}

fn damaged() -> Refusal {
    StoreError::Damaged("a password record".to_owned()).into()
}

const KEYS_MAGIC: &[u8] = b"qpc-relay keys 1";
const KEYS_CHECK: usize = 8;

/// Any scalar is a key: damage would show only in that nobody can log in.
fn keys_check(content: &[u8]) -> [u8; KEYS_CHECK] {
    let mut check = [0; KEYS_CHECK];
    check.copy_from_slice(&digest::digest(&digest::SHA256, content).as_ref()[..KEYS_CHECK]);
    check
}
