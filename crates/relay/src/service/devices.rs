//! Devices and their sessions.

use super::auth::{no_session_yet, verify, verify_session};
use super::caller::{Caller, Session};
use super::change::{Change, Opened};
use super::limits::peer_key;
use super::refusal::Refusal;
use super::sessions::Online;
use super::{Now, Service, list};
use crate::records::{
    AccountRow, AccountsRow, DeviceRef, DeviceRow, GenerationRow, NumberRow, answers, deliveries, key,
    key_packages,
};
use crate::store::{QueueStat, Store, StoreError};
use qpc_proto::id::{ConversationId, DeviceId, PublicKey, UserName};
use qpc_proto::limits::{MAX_CLAIM, MAX_DEVICES};
use qpc_proto::message::{
    self, DeviceInfo, Devices, DevicesEntry, Done, EnrolDevice, ErrorCode, OpenSession, ResolveUser,
    RevokeDevice, User,
};
use qpc_proto::signing;
use qpc_proto::wire::{List, Message};
use ring::digest;

impl<S: Store> Service<S> {
    pub(super) fn enrol_device(
        &mut self,
        now: Now,
        caller: &mut Caller,
        request: &EnrolDevice,
    ) -> Result<Change, Refusal> {
        let (user, mut account) = self.logged_in(caller)?;
        let identity_key = &account.identity_key;
        let certificate = &request.certificate;
        let device_key = certificate.device_key;
        let certified = certificate.user == *user
            && certificate.identity_key == *identity_key
            && verify(identity_key, &signing::device_certificate(user, &device_key), &certificate.signature)
            && verify_session(&caller.exporter, &device_key, &request.proof);
        if !certified {
            return Err(ErrorCode::AuthFailed.into());
        }
        let device = device_id(&device_key);
        let mut change = Change::default();
        let row = match self.device(&device)? {
            Some(row) if row.user != *user => return Err(ErrorCode::AuthFailed.into()),
            Some(row) => {
                DeviceRow { label: request.label.clone(), state_slot: request.state_slot.clone(), ..row }
            }
            None => {
                let others: Vec<u32> = account.devices.iter().map(|other| other.number).collect();
                if others.len() >= MAX_DEVICES {
                    return Err(ErrorCode::TooManyDevices.into());
                }
                let number = self.row(key::NUMBER)?.map_or(1, |row: NumberRow| row.next);
                let next = number.checked_add(1).ok_or(ErrorCode::TooLarge)?;
                change.batch.put(key::NUMBER.to_vec(), NumberRow { next }.encode());
                change.batch.put(key::device_number(number), device.0.to_vec());
                let mut devices = account.devices.into_vec();
                devices.push(DeviceRef { device, number });
                account.devices = list(devices)?;
                change.batch.put(key::account(user), account.encode());
                let entry =
                    DevicesEntry { user: user.clone(), added: list(vec![device])?, removed: List::default() };
                self.deliver_reserved(&mut change, &others, self.entry(now, NO_CONVERSATION, None, entry));
                DeviceRow {
                    user: user.clone(),
                    number,
                    device_key,
                    label: request.label.clone(),
                    state_slot: request.state_slot.clone(),
                    seen: 0,
                    offset: 0,
                    floor: 0,
                }
            }
        };
        let row = DeviceRow { seen: self.age(now), ..row };
        change.batch.put(key::device(&device), row.encode());
        self.begin_session(&mut change, device, row)?;
        Ok(change)
    }

    pub(super) fn open_session(
        &mut self,
        now: Now,
        caller: &mut Caller,
        request: &OpenSession,
    ) -> Result<Change, Refusal> {
        no_session_yet(caller)?;
        let peer = peer_key(caller.peer);
        let wait = self.limits.login_by_peer.wait(&peer, now.uptime);
        if wait > 0 {
            return Err(Refusal::with_detail(ErrorCode::RateLimited, wait));
        }
        let row = self.device(&request.device)?;
        // As much work for a device that does not exist.
        let device_key = row.as_ref().map_or(NOBODY, |row| row.device_key);
        let proven = verify_session(&caller.exporter, &device_key, &request.proof);
        let Some(mut row) = row.filter(|_| proven) else {
            self.limits.login_by_peer.take(&peer, now.uptime);
            self.counters.login_failures += 1;
            return Err(ErrorCode::AuthFailed.into());
        };

        let mut change = Change::default();
        let age = self.age(now);
        let seen_again = age.saturating_sub(row.seen) >= self.policy.bounds.seen_interval;
        if seen_again {
            row.seen = age;
        }
        let went_back = self.catch_up(&mut row, request)?;
        if went_back {
            log::warn!("device {} knows more than the store: the store went back in time", request.device);
            self.claim_generation(now, &mut change)?;
        }
        if seen_again || went_back {
            change.batch.put(key::device(&request.device), row.encode());
            change.lazy = !went_back;
        }
        self.begin_session(&mut change, request.device, row)?;
        Ok(change)
    }

    pub(super) fn list_devices(&self, session: &Session) -> Result<Change, Refusal> {
        let mut devices = Vec::new();
        for reference in self.account(&session.user)?.ok_or(ErrorCode::UnknownUser)?.devices.iter() {
            let Some(row) = self.device(&reference.device)? else { continue };
            devices.push(DeviceInfo {
                device: reference.device,
                label: row.label,
                online: self.sessions.get(&reference.device).is_some(),
                queued: self.deliveries(row.number).len(),
            });
        }
        Ok(Change::reply(Devices { devices: list(devices)? }))
    }

    pub(super) fn resolve_user(
        &mut self,
        now: Now,
        session: &Session,
        request: &ResolveUser,
    ) -> Result<Change, Refusal> {
        self.limit_fetches(now, session)?;
        let account = self.account(&request.user)?.ok_or(ErrorCode::UnknownUser)?;
        Ok(Change::reply(User { identity_key: account.identity_key, devices: account.devices.len() as u32 }))
    }

    pub(super) fn revoke_device(
        &self,
        now: Now,
        session: &Session,
        request: &RevokeDevice,
    ) -> Result<Change, Refusal> {
        let mut change = self.remove_device(now, &session.user, &request.device)?;
        change.reply = Some(Done {}.into());
        change.close = request.device == session.device;
        Ok(change)
    }

    /// Removes one device of an account.
    pub(super) fn remove_device(
        &self,
        now: Now,
        user: &UserName,
        device: &DeviceId,
    ) -> Result<Change, Refusal> {
        let mut account = self.account(user)?.ok_or(ErrorCode::UnknownUser)?;
        let (gone, rest) = account.devices.into_vec().into_iter().partition(|other| other.device == *device);
        if Vec::<DeviceRef>::is_empty(&gone) {
            return Err(ErrorCode::UnknownDevice.into());
        }
        account.devices = list(rest)?;
        let mut change = Change::default();
        change.batch.put(key::account(user), account.encode());
        let others: Vec<u32> = account.devices.iter().map(|other| other.number).collect();
        let entry = self.entry(now, NO_CONVERSATION, None, removal(user, &gone)?);
        self.deliver_reserved(&mut change, &others, entry);
        self.forget_devices(&mut change, &gone);
        for id in self.conversations_of(user) {
            self.leave_group(now, &mut change, &id, user, &gone)?;
        }
        Ok(change)
    }

    /// Removes an account and everything of it. The name is free afterwards.
    pub(super) fn remove_account(&self, now: Now, user: &UserName) -> Result<Change, Refusal> {
        let account = self.account(user)?.ok_or(ErrorCode::UnknownUser)?;
        let mut change = Change::default();
        change.batch.delete(key::account(user));
        self.forget_devices(&mut change, &account.devices);
        for id in self.conversations_of(user) {
            change.batch.delete(key::account_conversation(user, &id));
            let Some(row) = self.row::<AccountsRow>(&key::accounts(&id))? else { continue };
            // Whoever registers the name next must not inherit the conversation.
            if let [a, b] = &row.accounts[..]
                && row.direct
                && self.store.get(&key::direct(a, b))?.as_deref() == Some(&id.0)
            {
                change.batch.delete(key::direct(a, b));
            }
            let rest: Vec<UserName> = row.accounts.iter().filter(|other| *other != user).cloned().collect();
            if rest.is_empty() {
                self.delete_conversation(&mut change, &id);
            } else {
                let row = AccountsRow { accounts: list(rest)?, ..row };
                change.batch.put(key::accounts(&id), row.encode());
                self.leave_group(now, &mut change, &id, user, &account.devices)?;
            }
        }
        Ok(change)
    }

    /// The id of the device with a number.
    pub(super) fn device_of(&self, number: u32) -> Result<Option<DeviceId>, StoreError> {
        let bytes = self.store.get(&key::device_number(number))?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(DeviceId))
    }

    /// Moves the numbers of a device past what its client has seen. Whether that was necessary: then the store is
    /// older than the client.
    fn catch_up(&self, row: &mut DeviceRow, request: &OpenSession) -> Result<bool, Refusal> {
        if request.answered > MAX_CLAIM || request.delivered > MAX_CLAIM {
            return Err(Refusal::invalid("numbers that no relay gives"));
        }
        let queue = self.deliveries(row.number);
        let mut went_back = false;
        if request.answered > self.highest_answered(row.number, row.floor)? {
            row.floor = request.answered;
            went_back = true;
        }
        if request.delivered >= queue.next_seq + row.offset {
            row.offset = request.delivered + 1 - queue.next_seq;
            went_back = true;
        }
        Ok(went_back)
    }

    /// Begins a new generation because of what a client says, unless one has begun just now.
    fn claim_generation(&mut self, now: Now, change: &mut Change) -> Result<(), Refusal> {
        let interval = self.policy.bounds.generation_interval;
        if self.generation_claimed.is_some_and(|last| now.uptime.saturating_sub(last) < interval) {
            return Ok(());
        }
        let generation = self.random_generation();
        let row: Option<GenerationRow> = self.row(key::GENERATION)?;
        let row = row.ok_or(ErrorCode::Internal)?;
        change.batch.put(key::GENERATION.to_vec(), GenerationRow { generation, ..row }.encode());
        change.generation = Some(generation);
        Ok(())
    }

    fn begin_session(&self, change: &mut Change, device: DeviceId, row: DeviceRow) -> Result<(), Refusal> {
        let highest = self.highest_answered(row.number, row.floor)?;
        let reply = message::Session {
            device,
            last_number: highest,
            next_delivery: self.deliveries(row.number).next_seq + row.offset,
            key_packages: u32::try_from(self.key_packages_left(row.number)?).unwrap_or(u32::MAX),
            last_resort: self.store.contains(&key::last_resort(row.number)),
            generation: change.generation.unwrap_or(self.generation),
        };
        change.reply = Some(reply.into());
        let online = Online { number: row.number, offset: row.offset, highest, token: 0 };
        change.opened = Some(Opened { device, user: row.user, online });
        change.count = Some(|counters| counters.sessions += 1);
        Ok(())
    }

    fn forget_devices(&self, change: &mut Change, gone: &[DeviceRef]) {
        for reference in gone {
            let number = reference.number;
            change.batch.delete(key::device(&reference.device));
            change.batch.delete(key::device_number(number));
            change.batch.delete(key::pool(number));
            change.batch.delete(key::last_resort(number));
            change.batch.drop_queue(deliveries(number));
            change.batch.drop_queue(answers(number));
            change.batch.drop_queue(key_packages(number));
            change.gone.push(reference.device);
        }
    }

    /// Takes devices out of one group's fan-out and tells the remaining members, one of whom commits their removal.
    fn leave_group(
        &self,
        now: Now,
        change: &mut Change,
        id: &ConversationId,
        user: &UserName,
        gone: &[DeviceRef],
    ) -> Result<(), Refusal> {
        let old = self.members(id)?;
        let stays = |number: &&u32| !gone.iter().any(|reference| reference.number == **number);
        let members: Vec<u32> = old.members.iter().filter(stays).copied().collect();
        let told: Vec<u32> = old.told.iter().filter(stays).copied().collect();
        if members.len() < old.members.len() {
            self.deliver_reserved(change, &members, self.entry(now, *id, None, removal(user, gone)?));
        }
        self.put_members(change, id, &old, members, told)
    }

    pub(super) fn deliveries(&self, number: u32) -> QueueStat {
        self.store.queue(deliveries(number)).unwrap_or(QueueStat { first_seq: 1, next_seq: 1, bytes: 0 })
    }

    /// All devices of an account but one.
    pub(super) fn other_devices(account: &AccountRow, but: &DeviceId) -> Vec<DeviceRef> {
        account.devices.iter().filter(|other| other.device != *but).cloned().collect()
    }
}

fn removal(user: &UserName, gone: &[DeviceRef]) -> Result<DevicesEntry, Refusal> {
    let removed = gone.iter().map(|reference| reference.device).collect();
    Ok(DevicesEntry { user: user.clone(), added: List::default(), removed: list(removed)? })
}

fn device_id(device_key: &PublicKey) -> DeviceId {
    let hash = digest::digest(&digest::SHA256, &signing::device_id(device_key));
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    DeviceId(id)
}

/// The conversation of entries about the own account.
pub(super) const NO_CONVERSATION: ConversationId = ConversationId([0; 16]);

/// Any valid key, to verify with where there is no device: the curve's base point. Nobody is let in by it.
const NOBODY: PublicKey = PublicKey([
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
]);
