//! Commits: the one place where a group moves on, for everybody or for nobody.

use super::caller::Session;
use super::change::Change;
use super::refusal::Refusal;
use super::{Now, Service, list};
use crate::records::{ConversationRow, MAX_TOLD, MembersRow, key};
use crate::store::Store;
use qpc_proto::id::{ConversationId, UserName};
use qpc_proto::limits::MAX_LEAVES;
use qpc_proto::message::{
    Accepted, AddedDevice, CommitEntry, Done, ErrorCode, JoinEntry, ReportCommit, ResyncEntry, SubmitCommit,
    WelcomeEntry,
};
use qpc_proto::wire::Message;
use std::collections::BTreeSet;

impl<S: Store> Service<S> {
    /// Accepts a commit for the group's current epoch, in one batch with everything that belongs to it.
    pub(super) fn submit_commit(
        &mut self,
        now: Now,
        session: &Session,
        request: &SubmitCommit,
    ) -> Result<Change, Refusal> {
        let id = &request.conversation;
        let accounts = self.accounts(id, &session.user)?;
        let group = self.conversation(id)?;
        let old = self.members(id)?;
        self.check_commit(session, request, &group, &old)?;
        self.check_budget(request.commit.len() + request.welcome.len())?;
        let added = self.added_devices(request, &accounts.accounts)?;

        let mut removed = BTreeSet::new();
        for device in request.removed.iter() {
            // A revoked device has left the fan-out already; only its leaf remained.
            removed.extend(self.device(device)?.map(|row| row.number));
        }
        let mut members: BTreeSet<u32> =
            old.members.iter().copied().filter(|number| !removed.contains(number)).collect();
        members.insert(session.number);
        for (_, number) in &added {
            let new = members.insert(*number);
            if !new && !request.external {
                return Err(Refusal::invalid("a device is added that is in the group"));
            }
        }
        if members.len() > MAX_LEAVES {
            return Err(Refusal::too_large("the group has too many devices"));
        }

        let epoch = request.epoch + 1;
        let mut change = Change::reply(Accepted { epoch });
        self.consume_leases(now, session, &added, &mut change)?;
        let mut row = ConversationRow { epoch, resync: false, ..group };
        self.put_tree(&mut change, id, &mut row, &request.tree, false)?;
        change.batch.put(key::conversation(id), row.encode());
        change.batch.put(key::group_info(id), request.group_info.to_vec());

        // Those that the commit removes get it too: it tells them that they are out.
        let others: Vec<u32> =
            old.members.iter().copied().filter(|number| *number != session.number).collect();
        let commit = CommitEntry { epoch: request.epoch, commit: request.commit.clone() };
        let commit = self.entry(now, *id, Some(session.device), commit);
        let mut lost: BTreeSet<u32> =
            self.deliver_reserved(&mut change, &others, commit).into_iter().collect();
        if !request.external && !added.is_empty() {
            let welcome = WelcomeEntry { epoch, welcome: request.welcome.clone() };
            let welcome = self.entry(now, *id, Some(session.device), welcome);
            let invited: Vec<u32> = added.iter().map(|(_, number)| *number).collect();
            lost.extend(self.deliver_reserved(&mut change, &invited, welcome));
        }
        // Without this commit the rest of the group's traffic is of no use to a device: it has to join anew.
        members.retain(|number| !lost.contains(number));
        self.mark_refused(now, &mut change, lost.iter().copied())?;

        let members: Vec<u32> = members.into_iter().collect();
        if members[..] != old.members[..] {
            let told = old.told.iter().chain(&removed).chain(&lost).copied();
            let mut told: BTreeSet<u32> =
                told.filter(|number| members.binary_search(number).is_err()).collect();
            self.tell_to_join(now, &mut change, id, &accounts.accounts, &members, &mut told)?;
            self.put_members(&mut change, id, &old, members, told.into_iter().collect())?;
        }
        change.count = Some(|counters| counters.commits += 1);
        Ok(change)
    }

    /// Marks a group whose last commit a member cannot process.
    pub(super) fn report_commit(
        &self,
        now: Now,
        session: &Session,
        request: &ReportCommit,
    ) -> Result<Change, Refusal> {
        let id = &request.conversation;
        self.accounts(id, &session.user)?;
        let group = self.conversation(id)?;
        let members = self.members(id)?;
        // Also from a device that the commit put out.
        if !members.members.contains(&session.number) && !members.told.contains(&session.number) {
            return Err(ErrorCode::NotMember.into());
        }
        if request.epoch.checked_add(1) != Some(group.epoch) {
            return Err(Refusal::with_detail(ErrorCode::WrongEpoch, group.epoch));
        }
        let mut change = Change::reply(Done {});
        if group.resync {
            return Ok(change);
        }
        change.batch.put(key::conversation(id), ConversationRow { resync: true, ..group }.encode());
        let entry = self.entry(now, *id, None, ResyncEntry { epoch: request.epoch });
        self.deliver_reserved(&mut change, &members.members, entry);
        change.count = Some(|counters| counters.resyncs += 1);
        Ok(change)
    }

    /// Tells the devices of the accounts that are neither in the group nor know about it.
    pub(super) fn tell_to_join(
        &self,
        now: Now,
        change: &mut Change,
        id: &ConversationId,
        accounts: &[UserName],
        members: &[u32],
        told: &mut BTreeSet<u32>,
    ) -> Result<(), Refusal> {
        let mut outside = Vec::new();
        for user in accounts {
            let Some(account) = self.account(user)? else { continue };
            let numbers = account.devices.iter().map(|device| device.number);
            outside.extend(numbers.filter(|number| !members.contains(number) && !told.contains(number)));
        }
        outside.truncate(MAX_TOLD.saturating_sub(told.len()));
        told.extend(&outside);
        self.deliver_reserved(change, &outside, self.entry(now, *id, None, JoinEntry {}));
        Ok(())
    }

    /// Writes who is in a group, if that changed.
    pub(super) fn put_members(
        &self,
        change: &mut Change,
        id: &ConversationId,
        old: &MembersRow,
        members: Vec<u32>,
        mut told: Vec<u32>,
    ) -> Result<(), Refusal> {
        // Whoever is forgotten here may be told a second time.
        told.truncate(MAX_TOLD);
        let row = MembersRow { members: list(members)?, told: list(told)? };
        if row != *old {
            change.batch.put(key::members(id), row.encode());
        }
        Ok(())
    }

    /// Commits may go over the byte budget, up to a reserve.
    fn check_budget(&self, size: usize) -> Result<(), Refusal> {
        let budget = self.policy.max_bytes.saturating_add(self.policy.bounds.budget_reserve);
        if self.store.live_bytes() + size as u64 > budget {
            return Err(ErrorCode::StorageFull.into());
        }
        Ok(())
    }

    /// What can be said of a commit without looking at devices.
    fn check_commit(
        &mut self,
        session: &Session,
        request: &SubmitCommit,
        group: &ConversationRow,
        members: &MembersRow,
    ) -> Result<(), Refusal> {
        let member = members.members.contains(&session.number);
        let first = group.epoch == 0;
        if !member && !first && !request.external {
            return Err(ErrorCode::NotMember.into());
        }
        if request.epoch != group.epoch {
            self.counters.commit_conflicts += 1;
            return Err(Refusal::with_detail(ErrorCode::WrongEpoch, group.epoch));
        }
        if request.commit.is_empty() || request.group_info.is_empty() {
            return Err(Refusal::invalid("a commit comes with its GroupInfo"));
        }
        let adds_self = request.added.iter().any(|added| added.device == session.device);
        let removes_self = request.removed.contains(&session.device);
        if request.external {
            if first {
                return Err(Refusal::invalid("an external commit to a group that has not begun"));
            }
            if !adds_self || request.added.len() > 1 || !request.welcome.is_empty() {
                return Err(Refusal::invalid(
                    "an external commit adds the device that submits it, and no other",
                ));
            }
            if request.removed.len() > usize::from(removes_self) {
                return Err(Refusal::invalid("an external commit removes no other device"));
            }
        } else if adds_self || removes_self {
            return Err(Refusal::invalid(
                "a device can neither add nor remove itself, unless by an external commit",
            ));
        } else if request.added.is_empty() != request.welcome.is_empty() {
            return Err(Refusal::invalid("a commit that adds devices comes with a Welcome, others do not"));
        }
        Ok(())
    }

    /// The devices a commit adds, with their numbers, all different and of accounts in the conversation.
    fn added_devices(
        &self,
        request: &SubmitCommit,
        accounts: &[UserName],
    ) -> Result<Vec<(AddedDevice, u32)>, Refusal> {
        let mut added: Vec<(AddedDevice, u32)> = Vec::with_capacity(request.added.len());
        for device in request.added.iter() {
            let row = self.device(&device.device)?.ok_or(ErrorCode::UnknownDevice)?;
            if !accounts.contains(&row.user) {
                return Err(Refusal::invalid("a device is added whose account is not in the conversation"));
            }
            if added.iter().any(|(_, number)| *number == row.number) {
                return Err(Refusal::invalid("a device is added twice"));
            }
            added.push((device.clone(), row.number));
        }
        Ok(added)
    }
}
