//! Making an account, and logging in: with the password, or with a key file.

use super::{Client, Options};
use crate::auth::{ExportKey, IDENTITY, LoggingIn, Password, Registering, STATE_KEY, random};
use crate::engine::EngineError;
use crate::error::Error;
use crate::link::{Link, RelayEndpoint};
use crate::mls::{DeviceSecret, IdentitySecret, SystemEntropy, device_id};
use crate::state::{Engine, Slots, StateDir, StateKey, open_slot};
use qpc_proto::id::{DeviceId, UserName};
use qpc_proto::limits::{MAX_CLAIM, MAX_LABEL, MAX_SEALED};
use qpc_proto::message::{
    Account, ChangePasswordFinish, ChangePasswordStart, DeviceSlot, EnrolDevice, ErrorCode, LoginFinish,
    LoginStart, RegisterFinish, RegisterStart, Reply, Request,
};
use qpc_proto::signing;
use qpc_proto::wire::{Blob, List, Text};
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

impl Client {
    /// Makes an account and its first device, and logs in. If that fails the account that was logged in before still is.
    pub async fn register(
        &mut self,
        user: &UserName,
        password: &Password,
        invite: Option<&str>,
    ) -> Result<(), Error> {
        let dir = self.state_dir(user);
        // An account whose keys cannot be kept must not be made. What is open here is locked already.
        let reserved = match self.account() {
            Some(me) if me.user == *user => None,
            _ => Some(dir.reserve()?),
        };
        let mut newcomer = self.newcomer().await?;
        let (export, identity) = newcomer.make_account(user, password, invite).await?;
        *self = newcomer;
        drop(reserved);
        if dir.slots()?.is_some() {
            // Of an account of the same name that is no more.
            dir.set_aside()?;
        }
        self.new_device(user, &export, &identity, &dir).await
    }

    /// Logs in with the password: as the device whose state is here, or as a new device of the account, which has joined
    /// all its conversations when this returns. If the password is wrong the account that was logged in before still is.
    pub async fn login(&mut self, user: &UserName, password: &Password) -> Result<(), Error> {
        let mut newcomer = self.newcomer().await?;
        let (account, export, identity) = newcomer.authenticate(user, password).await?;
        // The state that is opened now may be the one that was open until now.
        *self = newcomer;
        let dir = self.state_dir(user);
        match self.known_device(&export, &identity, &account, &dir)? {
            None => self.new_device(user, &export, &identity, &dir).await,
            Some((engine, key)) => {
                let slots = self.slots(&export, engine.account().device, &key, &dir)?;
                dir.write_slots(&slots)?;
                self.engine = Some(engine);
                let session = self.open_session().await;
                self.settle(session).await
            }
        }
    }

    /// Whether there is no key file to log in without a password by.
    pub fn needs_password(relay: &RelayEndpoint, options: &Options, user: &UserName) -> Result<bool, Error> {
        match StateDir::new(&options.state_root, &relay.fingerprint(), user).unattended_key() {
            Ok(_) => Ok(false),
            Err(Error::StateKey(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Logs in without a password, by the key file of an earlier login with [`Options::keep_key`].
    ///
    /// [`Options::keep_key`]: super::Options::keep_key
    pub async fn login_with_key_file(&mut self, user: &UserName) -> Result<(), Error> {
        let dir = self.state_dir(user);
        let key = dir.unattended_key()?;
        *self = self.newcomer().await?;
        self.engine = Some(dir.open(&key)?);
        let session = self.open_session().await;
        self.settle(session).await
    }

    /// The device whose key file is here, without a connection yet: it is made when it is needed, again and again if
    /// there is none to be had.
    pub fn open(relay: RelayEndpoint, options: Options, user: &UserName) -> Result<Self, Error> {
        let mut client = Self::with(relay, options, None);
        let dir = client.state_dir(user);
        client.engine = Some(dir.open(&dir.unattended_key()?)?);
        Ok(client)
    }

    /// Replaces the account's password. The devices stay logged in, and each can log in with the new one. If the relay's
    /// answer is lost, the one or the other is the password: [`Error::Unsettled`].
    pub async fn change_password(&mut self, old: &Password, new: &Password) -> Result<(), Error> {
        let user = self.account().ok_or(Error::NotLoggedIn)?.user.clone();
        // A connection that speaks for the account; one with a device's session may not do this.
        let link = Link::open(&self.relay, &self.options, self.options.patience).await?;
        let mut other = Self::with(self.relay.clone(), self.options.clone(), Some(link));
        let slots = other.replace_password(&user, old, new).await;
        other.disconnect().await;
        // The relay has the slot too; this one is for when it should lose it.
        if let Some(slots) = slots?
            && let Err(error) = self.state_dir(&user).write_slots(&slots)
        {
            log::warn!("the password is changed, but {error}");
        }
        Ok(())
    }

    /// What the folder is to say of its state from now on.
    async fn replace_password(
        &mut self,
        user: &UserName,
        old: &Password,
        new: &Password,
    ) -> Result<Option<Slots>, Error> {
        let (account, old, identity) = self.authenticate(user, old).await?;
        let (registering, request) = Registering::start(new)?;
        let Reply::Opaque(reply) = self.ask(ChangePasswordStart { request }.into()).await? else {
            return Err(Error::Protocol);
        };
        let ksf = self.options.ksf;
        let (record, new) = registering.finish(user, new, &reply.response, ksf)?;
        let (from, to) = (old.key(STATE_KEY)?, new.key(STATE_KEY)?);
        let rewrap = |device: &DeviceId, slot: &[u8]| {
            from.open(device.as_ref(), slot).map(|key| to.seal(device.as_ref(), &key)).transpose()
        };
        let mut local = self.state_dir(user).slots()?;
        let mut devices = Vec::new();
        for DeviceSlot { device, state_slot } in account.devices.iter() {
            let mut rewrapped = rewrap(device, state_slot)?;
            if let Some(local) = local.as_mut().filter(|local| local.device == *device) {
                rewrapped = match rewrapped {
                    None => rewrap(device, &local.password)?,
                    some => some,
                };
                local.password = rewrapped.clone().unwrap_or_default();
            }
            // One that the old password does not open either stays as it is.
            let state_slot = rewrapped.unwrap_or_else(|| state_slot.clone());
            devices.push(DeviceSlot { device: *device, state_slot });
        }
        let finish = ChangePasswordFinish {
            record,
            ksf,
            sealed_identity: new.key(IDENTITY)?.seal(user.as_str().as_bytes(), identity.as_bytes())?,
            devices: List::new(devices).map_err(|_| Error::Protocol)?,
        };
        match self.ask(finish.into()).await {
            Ok(Reply::Done(_)) => Ok(local.filter(|local| !local.password.is_empty())),
            Err(Error::Refused { code: ErrorCode::StorageFailed, .. }) => Err(Error::Unsettled),
            Err(error) if error.is_of_the_link() => Err(Error::Unsettled),
            Err(error) => Err(error),
            Ok(_) => Err(Error::Protocol),
        }
    }

    /// A client like this one that speaks for nobody, over a connection that is nobody's.
    async fn newcomer(&mut self) -> Result<Self, Error> {
        let nobodys = self.engine.is_none();
        let unused = match self.link.take_if(|_| nobodys) {
            Some(mut link) => (!link.has_ended().await).then_some(link),
            None => None,
        };
        let link = match unused {
            Some(link) => link,
            None => Link::open(&self.relay, &self.options, self.options.patience).await?,
        };
        Ok(Self::with(self.relay.clone(), self.options.clone(), Some(link)))
    }

    async fn make_account(
        &mut self,
        user: &UserName,
        password: &Password,
        invite: Option<&str>,
    ) -> Result<(ExportKey, IdentitySecret), Error> {
        let ksf = self.options.ksf;
        let (registering, request) = Registering::start(password)?;
        let start =
            RegisterStart { user: user.clone(), request, invite: Text::new(invite.unwrap_or_default()) };
        let Reply::Opaque(reply) = self.ask(start.into()).await? else { return Err(Error::Protocol) };
        let (record, export) = registering.finish(user, password, &reply.response, ksf)?;
        let entropy = SystemEntropy::new();
        let identity = IdentitySecret::generate(&entropy).map_err(EngineError::from)?;
        let exporter = self.link()?.exporter;
        let finish = RegisterFinish {
            record,
            ksf,
            identity_key: identity.public(),
            sealed_identity: export.key(IDENTITY)?.seal(user.as_str().as_bytes(), identity.as_bytes())?,
            proof: identity.sign(&signing::registration(&exporter, user)),
        };
        let Reply::Done(_) = self.ask(finish.into()).await? else { return Err(Error::Protocol) };
        Ok((export, identity))
    }

    async fn authenticate(
        &mut self,
        user: &UserName,
        password: &Password,
    ) -> Result<(Account, ExportKey, IdentitySecret), Error> {
        let (logging_in, request) = LoggingIn::start(password)?;
        let start = LoginStart { user: user.clone(), request };
        let Reply::Opaque(reply) = self.ask(start.into()).await? else { return Err(Error::Protocol) };
        let exporter = self.link()?.exporter;
        let (finalization, export) =
            logging_in.finish(user, password, &reply.response, reply.ksf, &exporter)?;
        let Reply::Account(account) = self.ask(LoginFinish { finalization }.into()).await? else {
            return Err(Error::Protocol);
        };
        let secret = export
            .key(IDENTITY)?
            .open(user.as_str().as_bytes(), &account.sealed_identity)
            .ok_or(Error::Protocol)?;
        let identity = IdentitySecret::from_bytes(&secret);
        if identity.public() != account.identity_key {
            return Err(Error::Protocol);
        }
        Ok((account, export, identity))
    }

    fn state_dir(&self, user: &UserName) -> StateDir {
        StateDir::new(&self.options.state_root, &self.relay.fingerprint(), user)
    }

    /// The device whose state is in the folder, if it is still one of the account's and the account's password opens it.
    /// One that was revoked or has expired does not come back: its queue begins anew, with numbers that this state has
    /// seen, and others are about to remove its id from their groups.
    fn known_device(
        &self,
        export: &ExportKey,
        identity: &IdentitySecret,
        account: &Account,
        dir: &StateDir,
    ) -> Result<Option<(Engine, StateKey)>, Error> {
        let Some(slots) = dir.slots()? else { return Ok(None) };
        let relays = account.devices.iter().find(|slot| slot.device == slots.device);
        if let Some(relays) = relays
            && let Some(key) = open_slot(export, &slots, &relays.state_slot)?
        {
            match dir.open(&key) {
                Ok(engine) if engine.account().identity_key == identity.public() => {
                    return Ok(Some((engine, key)));
                }
                Ok(_) | Err(Error::Engine(EngineError::NoAccount)) => {}
                Err(error) => return Err(error),
            }
        }
        dir.set_aside()?;
        Ok(None)
    }

    async fn new_device(
        &mut self,
        user: &UserName,
        export: &ExportKey,
        identity: &IdentitySecret,
        dir: &StateDir,
    ) -> Result<(), Error> {
        let entropy = Arc::new(SystemEntropy::new());
        let device = DeviceSecret::generate(&*entropy).map_err(EngineError::from)?;
        let key: StateKey = Zeroizing::new(random()?);
        let slots = self.slots(export, device_id(&device.device_key()), &key, dir)?;
        let certificate = device.certify(user, identity);
        // First the key, then what it seals: a journal without its key could never be opened again.
        dir.write_slots(&slots)?;
        self.engine = Some(Engine::create(dir.journal(&key)?, entropy, device, certificate)?);
        let session = self.enrol(slots.password).await;
        self.settle(session).await
    }

    fn slots(
        &self,
        export: &ExportKey,
        device: DeviceId,
        key: &StateKey,
        dir: &StateDir,
    ) -> Result<Slots, Error> {
        let owner = device.as_ref();
        let file = match self.options.keep_key {
            true => Some(dir.make_key_file()?),
            false => dir.key_file()?,
        };
        let key_file = file.map_or_else(|| Ok(Blob::default()), |file| file.seal(owner, key))?;
        Ok(Slots { device, password: export.key(STATE_KEY)?.seal(owner, key)?, key_file })
    }

    async fn enrol(&mut self, state_slot: Blob<MAX_SEALED>) -> Result<(), Error> {
        let label: Text<MAX_LABEL> = Text::new(&self.options.label);
        let exporter = self.link()?.exporter;
        let engine = self.engine()?;
        let request = EnrolDevice {
            certificate: engine.account().certificate.clone(),
            label,
            state_slot,
            proof: engine.prove_session(&exporter),
        };
        self.session(request.into()).await
    }

    pub(super) async fn open_session(&mut self) -> Result<(), Error> {
        let exporter = self.link()?.exporter;
        let request = self.engine()?.open_session_request(&exporter);
        match self.session(request.into()).await {
            // The device is not the account's any more, or the relay lost it with a restored backup.
            Err(Error::AuthFailed) => Err(Error::Revoked),
            other => other,
        }
    }

    async fn session(&mut self, request: Request) -> Result<(), Error> {
        (self.synchronised, self.compared) = (false, false);
        let Reply::Session(session) = self.ask(request).await? else { return Err(Error::Protocol) };
        // What is stored of them a relay is told again, and it refuses too high ones; requests are counted on from there.
        if session.last_number > MAX_CLAIM / 2 || session.next_delivery > MAX_CLAIM {
            return Err(Error::Protocol);
        }
        self.engine()?.session_opened(&session)?;
        self.backlog = session.next_delivery.saturating_sub(1);
        self.credit = 0;
        Ok(())
    }

    /// Ends a login: brings the device up to date, or forgets it if that fails.
    async fn settle(&mut self, session: Result<(), Error>) -> Result<(), Error> {
        let deadline = Instant::now() + self.options.patience;
        let settled = match session {
            Ok(()) => self.synchronise(deadline).await,
            Err(error) => Err(error),
        };
        if settled.is_err() {
            self.engine = None;
            self.link = None;
        }
        settled
    }
}
