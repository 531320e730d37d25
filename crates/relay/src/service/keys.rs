//! Key packages: each one-time package is handed out once, to one device, for a while.

use super::caller::Session;
use super::change::Change;
use super::refusal::Refusal;
use super::{Now, Service, blob, list};
use crate::records::{DeviceRef, LeaseRow, MAX_LEASES, PoolRow, key, key_packages};
use crate::store::{Store, StoreError};
use qpc_proto::limits::MAX_KEY_PACKAGES;
use qpc_proto::message::{
    AddedDevice, Done, ErrorCode, FetchKeyPackages, KeyPackages, LeasedKeyPackage, NoticeKind,
    UploadKeyPackages,
};
use qpc_proto::wire::{List, Message};

impl<S: Store> Service<S> {
    pub(super) fn upload_key_packages(
        &self,
        session: &Session,
        request: &UploadKeyPackages,
    ) -> Result<Change, Refusal> {
        let number = session.number;
        let queue = key_packages(number);
        let mut change = Change::reply(Done {});
        if request.one_time.iter().any(|package| package.is_empty()) {
            return Err(Refusal::invalid("an empty key package"));
        }
        if request.replace {
            let next = self.store.queue(queue).map_or(1, |stat| stat.next_seq);
            change.batch.put(key::pool(number), PoolRow { next, leases: List::default() }.encode());
            change.batch.trim(queue, next - 1);
            change.batch.delete(key::last_resort(number));
        } else if self.key_packages_left(number)? + request.one_time.len() as u64 > MAX_KEY_PACKAGES as u64 {
            return Err(Refusal::too_large("the relay holds enough key packages of this device"));
        }
        for package in request.one_time.iter() {
            change.batch.push(vec![queue], package.to_vec());
        }
        if !request.last_resort.is_empty() {
            change.batch.put(key::last_resort(number), request.last_resort.to_vec());
        }
        Ok(change)
    }

    pub(super) fn fetch_key_packages(
        &mut self,
        now: Now,
        session: &Session,
        request: &FetchKeyPackages,
    ) -> Result<Change, Refusal> {
        self.limit_fetches(now, session)?;
        let account = self.account(&request.user)?.ok_or(ErrorCode::UnknownUser)?;
        let mut change = Change::default();
        let mut packages = Vec::new();
        let mut without = Vec::new();
        for target in Self::other_devices(&account, &session.device) {
            if let Some((lease, package)) = self.lease(now, session, &target, &mut change)? {
                packages.push(LeasedKeyPackage { device: target.device, key_package: blob(package)?, lease });
            } else if let Some(package) = self.store.get(&key::last_resort(target.number))? {
                packages.push(LeasedKeyPackage {
                    device: target.device,
                    key_package: blob(package)?,
                    lease: 0,
                });
            } else {
                without.push(target.device);
            }
        }
        let reply = KeyPackages {
            identity_key: account.identity_key,
            packages: list(packages)?,
            without: list(without)?,
        };
        change.reply = Some(reply.into());
        Ok(change)
    }

    /// Takes a token for looking at somebody's account.
    pub(super) fn limit_fetches(&mut self, now: Now, session: &Session) -> Result<(), Refusal> {
        match self.limits.fetch_by_device.wait(&session.number, now.uptime) {
            0 => self.limits.fetch_by_device.take(&session.number, now.uptime),
            wait => return Err(Refusal::with_detail(ErrorCode::RateLimited, wait)),
        }
        Ok(())
    }

    /// Uses up the leases that a commit names.
    pub(super) fn consume_leases(
        &self,
        now: Now,
        session: &Session,
        added: &[(AddedDevice, u32)],
        change: &mut Change,
    ) -> Result<(), Refusal> {
        for (device, number) in added.iter().filter(|(device, _)| device.lease != 0) {
            let mut pool = self.pool(*number)?;
            let mut leases = self.live_leases(now, &mut pool);
            let held = leases.iter().position(|row| row.seq == device.lease && row.asker == session.number);
            leases.remove(held.ok_or(ErrorCode::LeaseInvalid)?);
            put_pool(change, *number, pool.next, leases)?;
        }
        Ok(())
    }

    /// One-time key packages that are not handed out.
    pub(super) fn key_packages_left(&self, number: u32) -> Result<u64, StoreError> {
        let next = self.pool(number)?.next;
        Ok(self.store.queue(key_packages(number)).map_or(0, |stat| stat.next_seq - next.max(stat.first_seq)))
    }

    /// Hands out a one-time package, or again the one the asking device already has.
    fn lease(
        &self,
        now: Now,
        session: &Session,
        target: &DeviceRef,
        change: &mut Change,
    ) -> Result<Option<(u64, Vec<u8>)>, Refusal> {
        let queue = key_packages(target.number);
        let mut pool = self.pool(target.number)?;
        let mut leases = self.live_leases(now, &mut pool);
        if let Some(row) = leases.iter().find(|row| row.asker == session.number)
            && let Some(package) = self.package(target.number, row.seq)?
        {
            return Ok(Some((row.seq, package)));
        }
        // Where too many are leased at once the last resort has to do.
        let Some(stat) = self.store.queue(queue).filter(|_| leases.len() < MAX_LEASES) else {
            return Ok(None);
        };
        for seq in pool.next.max(stat.first_seq)..stat.next_seq {
            // A package that cannot be read is passed over, and gone.
            let Some(package) = self.package(target.number, seq)? else { continue };
            leases.push(LeaseRow {
                seq,
                asker: session.number,
                expires: self.age(now) + self.policy.bounds.lease_seconds,
            });
            put_pool(change, target.number, seq + 1, leases)?;
            if stat.next_seq - (seq + 1) < self.policy.bounds.low_key_packages {
                change.notices.push((target.device, NoticeKind::KeyPackagesLow));
            }
            change.count = Some(|counters| counters.key_packages += 1);
            return Ok(Some((seq, package)));
        }
        Ok(None)
    }

    fn package(&self, number: u32, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.store.read(key_packages(number), seq) {
            Err(StoreError::Damaged(_)) => Ok(None),
            other => other,
        }
    }

    fn pool(&self, number: u32) -> Result<PoolRow, StoreError> {
        Ok(self.row(&key::pool(number))?.unwrap_or(PoolRow { next: 1, leases: List::default() }))
    }

    /// The leases that have not expired. An expired one is forgotten with the next change of the pool; its package is
    /// never handed out again.
    fn live_leases(&self, now: Now, pool: &mut PoolRow) -> Vec<LeaseRow> {
        let age = self.age(now);
        let leases = std::mem::take(&mut pool.leases).into_vec();
        leases.into_iter().filter(|row| age < row.expires).collect()
    }
}

/// Writes a pool, and drops the packages that are of no use any more.
fn put_pool(change: &mut Change, number: u32, next: u64, leases: Vec<LeaseRow>) -> Result<(), Refusal> {
    let first_needed = leases.iter().map(|row| row.seq).min().unwrap_or(next);
    change.batch.trim(key_packages(number), first_needed - 1);
    change.batch.put(key::pool(number), PoolRow { next, leases: list(leases)? }.encode());
    Ok(())
}
