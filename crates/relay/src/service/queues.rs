//! Delivery queues, and the answers remembered for each device.

use super::caller::Session;
use super::change::Change;
use super::devices::NO_CONVERSATION;
use super::refusal::Refusal;
use super::{Now, Outcome, Service, decode};
use crate::records::{AnswerEntry, DeviceRow, answers, deliveries, key};
use crate::store::{Batch, QueueStat, Store, StoreError};
use qpc_proto::id::DeviceId;
use qpc_proto::limits::REMEMBERED_ANSWERS;
use qpc_proto::message::{
    Ack, Delivery, Done, Entry, EntryKind, ErrorCode, FetchDelivery, RefusedEntry, Reply,
};
use qpc_proto::wire::Message;
use std::time::Duration;

/// Answers behind the remembered ones go so many at a time: their removal is a record of its own.
const FORGOTTEN_AT_ONCE: u64 = 16;

/// Where the search for expired entries and devices is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When the next one begins.
    due: Duration,
    /// Behind this device; `None` between two sweeps.
    after: Option<u32>,
}

impl<S: Store> Service<S> {
    /// The next entry for a device with an open session behind sequence number `after`: its number and its encoding,
    /// an [`Entry`].
    pub fn next_delivery(&self, device: DeviceId, after: u64) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let Some(online) = self.sessions.get(&device) else { return Ok(None) };
        let stat = self.deliveries(online.number);
        let first = after.saturating_add(1).saturating_sub(online.offset).max(stat.first_seq);
        for seq in first..stat.next_seq {
            match self.store.read(deliveries(online.number), seq) {
                Ok(Some(entry)) => return Ok(Some((seq + online.offset, entry))),
                Ok(None) => {}
                // One unreadable entry must not hold up all that follow; the client sees the gap.
                Err(StoreError::Damaged(what)) => log::error!("entry {seq} for device {device}: {what}"),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Housekeeping, to be called about every minute: expired entries and devices, and at most about `budget` bytes
    /// of rewriting by the store. Where nothing is due nothing is written.
    pub fn tick(&mut self, now: Now, budget: u32) -> Outcome {
        let mut total = Outcome::default();
        self.sweep(now, &mut total);
        match self.store.maintain(now.uptime, budget) {
            // A store that takes no writes has said so to whoever wanted to write.
            Ok(_) | Err(StoreError::ReadOnly) => {}
            Err(error) => {
                self.counters.store_errors += 1;
                log::warn!("the store could not be maintained: {error}");
            }
        }
        total
    }

    pub(super) fn ack(&self, session: &Session, request: &Ack) -> Result<Change, Refusal> {
        let mut change = Change { lazy: true, ..Change::reply(Done {}) };
        let stat = self.deliveries(session.number);
        let up_to = request.up_to.saturating_sub(self.offset(session));
        if up_to >= stat.first_seq && !stat.is_empty() {
            let up_to = up_to.min(stat.next_seq - 1);
            change.events = self.fetch_events(session, up_to)?;
            change.batch.trim(deliveries(session.number), up_to);
        }
        Ok(change)
    }

    pub(super) fn fetch_delivery(
        &self,
        session: &Session,
        request: &FetchDelivery,
    ) -> Result<Change, Refusal> {
        let seq = request.seq.saturating_sub(self.offset(session));
        let entry = match self.store.read(deliveries(session.number), seq) {
            Ok(Some(bytes)) => Some(decode(&bytes)?),
            Ok(None) | Err(StoreError::Damaged(_)) => None,
            Err(other) => return Err(other.into()),
        };
        // Without an entry: it has expired or cannot be read. The client goes on behind it.
        Ok(Change::reply(Delivery { seq: request.seq, too_large: 0, entry }))
    }

    /// Whether a queue takes `size` more bytes of application messages.
    pub(super) fn has_room(&self, number: u32, size: usize) -> bool {
        self.within(number, size, 1)
    }

    /// Appends an entry that groups or accounts depend on: it may go over the quota, up to the reserve. Gives the
    /// devices whose queue is full even so; they find a marker.
    pub(super) fn deliver_reserved(&self, change: &mut Change, numbers: &[u32], entry: Vec<u8>) -> Vec<u32> {
        let fits = |number: &u32| self.within(*number, entry.len(), self.policy.bounds.handshake_reserve);
        let (room, full): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|number| fits(number));
        change.deliver(&room, entry);
        full
    }

    /// Leaves a marker in queues that refused something, unless their last entry is one.
    pub(super) fn mark_refused(
        &self,
        now: Now,
        change: &mut Change,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Result<(), StoreError> {
        let mut unmarked = Vec::new();
        for number in numbers {
            if !self.is_marked(number)? {
                unmarked.push(number);
            }
        }
        // The marker is about the queue, whatever conversations lost messages behind it.
        change.deliver(&unmarked, self.entry(now, NO_CONVERSATION, None, RefusedEntry {}));
        Ok(())
    }

    /// Runs a request that changes state, or gives the answer it got when it came first.
    pub(super) fn numbered(
        &mut self,
        session: &Session,
        number: u64,
        run: impl FnOnce(&mut Self) -> Result<Change, Refusal>,
    ) -> Result<Change, Refusal> {
        if number == 0 {
            return Err(Refusal::invalid("a request that changes state needs a number"));
        }
        let highest = self.sessions.get(&session.device).map_or(0, |online| online.highest);
        if number <= highest
            && let Some(reply) = self.remembered(session, number)?
        {
            self.counters.replays += 1;
            return Ok(Change::reply(reply));
        }
        let mut change = run(self)?;
        if change.gone.contains(&session.device) {
            // It revoked itself: nobody is left to ask again.
            return Ok(change);
        }
        let queue = answers(session.number);
        let entry = AnswerEntry { number, before: highest, reply: change.reply.clone() };
        change.batch.push(vec![queue], entry.encode());
        if let Some(stat) = self.store.queue(queue)
            && stat.len() >= REMEMBERED_ANSWERS + FORGOTTEN_AT_ONCE
        {
            change.batch.trim(queue, stat.next_seq - REMEMBERED_ANSWERS);
        }
        change.answered = Some((session.device, number));
        Ok(change)
    }

    /// The highest request number a device was answered.
    pub(super) fn highest_answered(&self, number: u32, floor: u64) -> Result<u64, StoreError> {
        let queue = answers(number);
        let Some(stat) = self.store.queue(queue) else { return Ok(floor) };
        for seq in (stat.first_seq..stat.next_seq).rev() {
            match self.store.read(queue, seq) {
                Ok(Some(bytes)) => {
                    let entry: AnswerEntry = decode(&bytes)?;
                    return Ok(entry.number.max(entry.before).max(floor));
                }
                Ok(None) | Err(StoreError::Damaged(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(floor)
    }

    /// The answer a request got, if it got one other than a refusal.
    fn remembered(&self, session: &Session, number: u64) -> Result<Option<Reply>, Refusal> {
        let queue = answers(session.number);
        let Some(stat) = self.store.queue(queue) else { return Ok(None) };
        let first = stat.first_seq.max(stat.next_seq.saturating_sub(REMEMBERED_ANSWERS));
        let mut forgotten_up_to = 0;
        for seq in (first..stat.next_seq).rev() {
            match self.store.read(queue, seq) {
                Ok(Some(bytes)) => {
                    let entry: AnswerEntry = decode(&bytes)?;
                    if entry.number == number {
                        return Ok(entry.reply);
                    }
                    if seq == first && seq > 1 {
                        forgotten_up_to = forgotten_up_to.max(entry.before);
                    }
                }
                // An answer that cannot be read is forgotten, and could have been any.
                Ok(None) | Err(StoreError::Damaged(_)) => forgotten_up_to = u64::MAX,
                Err(other) => return Err(other.into()),
            }
        }
        if number <= forgotten_up_to {
            return Err(ErrorCode::StaleNumber.into());
        }
        Ok(None)
    }

    fn within(&self, number: u32, size: usize, times: u64) -> bool {
        let stat = self.deliveries(number);
        stat.len() < self.policy.queue_messages.saturating_mul(times)
            && stat.bytes + size as u64 <= self.policy.queue_bytes.saturating_mul(times)
    }

    fn is_marked(&self, number: u32) -> Result<bool, StoreError> {
        let stat = self.deliveries(number);
        if stat.is_empty() {
            return Ok(false);
        }
        let last = match self.store.read(deliveries(number), stat.next_seq - 1) {
            Err(StoreError::Damaged(_)) => None,
            other => other?,
        };
        let entry: Option<Entry> = last.map(|bytes| decode(&bytes)).transpose()?;
        Ok(entry.is_some_and(|entry| matches!(entry.kind, Some(EntryKind::Refused(_)))))
    }

    fn offset(&self, session: &Session) -> u64 {
        self.sessions.get(&session.device).map_or(0, |online| online.offset)
    }

    /// Looks at the next few devices, if a sweep is under way or due.
    fn sweep(&mut self, now: Now, total: &mut Outcome) {
        if self.sweep.after.is_none() {
            if now.uptime < self.sweep.due {
                return;
            }
            self.sweep.due = now.uptime + self.policy.bounds.sweep_interval;
        }
        let after = self.sweep.after.take().unwrap_or(0);
        let numbers = self.store.keys(key::DEVICE_NUMBERS).into_iter().filter_map(|key| key::number_of(&key));
        let mut rest = numbers.filter(|number| *number > after);
        for number in rest.by_ref().take(self.policy.bounds.sweep_devices) {
            self.sweep.after = Some(number);
            let swept =
                self.expire_entries(now, number).and_then(|()| self.expire_device(now, number, total));
            if let Err(error) = swept {
                self.counters.store_errors += 1;
                log::warn!("what has expired could not be removed: {error}");
            }
        }
        if rest.next().is_none() {
            self.sweep.after = None;
        }
    }

    fn expire_entries(&mut self, now: Now, number: u32) -> Result<(), StoreError> {
        let stat = self.deliveries(number);
        let up_to = self.expired_up_to(now, number, stat)?;
        if up_to >= stat.first_seq {
            let mut batch = Batch::default();
            batch.trim(deliveries(number), up_to);
            self.store.apply(batch)?;
            self.counters.expired += up_to + 1 - stat.first_seq;
        }
        Ok(())
    }

    /// The last expired entry at the front of a queue; entries are in the order of their age.
    fn expired_up_to(&self, now: Now, number: u32, stat: QueueStat) -> Result<u64, StoreError> {
        let age = self.age(now);
        for seq in stat.first_seq..stat.next_seq {
            match self.store.read(deliveries(number), seq) {
                Ok(Some(bytes)) => {
                    let young = |entry: Entry| age.saturating_sub(entry.age) <= self.policy.ttl;
                    if Entry::decode(&bytes).is_ok_and(young) {
                        return Ok(seq - 1);
                    }
                }
                // Nobody can read it, so it need not be kept.
                Ok(None) | Err(StoreError::Damaged(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(stat.next_seq - 1)
    }

    /// Removes a device that has not been here for very long.
    fn expire_device(&mut self, now: Now, number: u32, total: &mut Outcome) -> Result<(), StoreError> {
        let Some(device) = self.device_of(number)? else { return Ok(()) };
        let Some(row): Option<DeviceRow> = self.device(&device)? else { return Ok(()) };
        let idle = self.age(now).saturating_sub(row.seen);
        if idle <= self.policy.device_ttl || self.sessions.get(&device).is_some() {
            return Ok(());
        }
        log::info!("device {device} has not been here for {} days and is removed", idle / (24 * 60 * 60));
        let removed =
            self.remove_device(now, &row.user, &device).and_then(|change| self.apply(now, None, change));
        match removed {
            Ok(outcome) => total.merge(outcome),
            Err(refusal) => log::warn!("device {device} could not be removed: {}", refusal.reason),
        }
        Ok(())
    }
}
