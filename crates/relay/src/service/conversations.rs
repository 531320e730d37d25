//! Conversations: making, finding, joining and restoring them.

use super::caller::Session;
use super::change::Change;
use super::refusal::Refusal;
use super::{Now, Service, blob, list};
use crate::records::{AccountsRow, ConversationRow, key};
use crate::store::{Store, StoreError};
use qpc_proto::id::{ConversationId, UserName};
use qpc_proto::limits::{MAX_PAGE, MAX_TREE_NODES};
use qpc_proto::message::{
    Accepted, Conversation, Conversations, ErrorCode, FetchGroup, Group, ListConversations, OpenDirect,
    RestoreGroup, Tree, TreeNode,
};
use qpc_proto::wire::{List, Message};
use std::collections::{BTreeMap, BTreeSet};

impl<S: Store> Service<S> {
    pub(super) fn open_direct(
        &mut self,
        now: Now,
        session: &Session,
        request: &OpenDirect,
    ) -> Result<Change, Refusal> {
        let peer = &request.peer;
        if *peer == session.user {
            return Err(Refusal::invalid("a conversation has two sides"));
        }
        if let Some(id) = self.direct(&session.user, peer)?
            && let Some(found) = self.describe(session, &id)?
        {
            let accounts = self.accounts(&id, &session.user)?.accounts;
            let mut change = Change::reply(Conversation { accounts, ..found });
            change.events.extend(self.channel_event(session, peer, id, false)?);
            return Ok(change);
        }
        if !self.store.contains(&key::account(peer)) {
            return Err(ErrorCode::UnknownUser.into());
        }
        self.limit_creation(now, session)?;
        let mut id = ConversationId([0; 16]);
        self.rng.fill_bytes(&mut id.0);
        let mut accounts = vec![session.user.clone(), peer.clone()];
        accounts.sort();
        let mut change = Change::default();
        change.batch.put(key::conversation(&id), EMPTY.encode());
        change.batch.put(key::direct(&session.user, peer), id.0.to_vec());
        change.events.extend(self.channel_event(session, peer, id, true)?);
        let accounts = self.put_accounts(&mut change, &id, accounts, true)?;
        change.reply = Some(
            Conversation {
                id,
                epoch: 0,
                created: true,
                member: false,
                accounts: list(accounts)?,
                resync: false,
            }
            .into(),
        );
        Ok(change)
    }

    pub(super) fn list_conversations(
        &self,
        session: &Session,
        request: &ListConversations,
    ) -> Result<Change, Refusal> {
        let behind = |id: &ConversationId| request.after.is_none_or(|after| *id > after);
        let mut ids = self.conversations_of(&session.user).into_iter().filter(behind);
        let mut page = Vec::new();
        while page.len() < MAX_PAGE
            && let Some(id) = ids.next()
        {
            // One that is lost is not listed, so that its members restore it.
            page.extend(self.describe(session, &id)?);
        }
        Ok(Change::reply(Conversations { conversations: list(page)?, more: ids.next().is_some() }))
    }

    pub(super) fn fetch_group(&self, session: &Session, request: &FetchGroup) -> Result<Change, Refusal> {
        let id = &request.conversation;
        self.accounts(id, &session.user)?;
        let row = self.conversation(id)?;
        let group_info = self.store.get(&key::group_info(id))?.unwrap_or_default();
        let mut nodes = Vec::new();
        for key in self.store.keys(&key::tree(id)) {
            if let (Some(index), Some(node)) = (key::node_index(&key), self.store.get(&key)?) {
                nodes.push(TreeNode { index: index.into(), node: blob(node)? });
            }
        }
        let tree = Tree { width: row.tree_width, nodes: list(nodes)? };
        Ok(Change::reply(Group { epoch: row.epoch, group_info: blob(group_info)?, tree }))
    }

    /// Takes a group back from one of its members.
    pub(super) fn restore_group(
        &mut self,
        now: Now,
        session: &Session,
        request: &RestoreGroup,
    ) -> Result<Change, Refusal> {
        let id = &request.conversation;
        if request.epoch == 0 || request.epoch > MAX_EPOCH || request.group_info.is_empty() {
            return Err(Refusal::invalid("a group is restored with an epoch and its GroupInfo"));
        }
        let row: Option<ConversationRow> = self.row_or_lost(&key::conversation(id))?;
        let accounts: Option<AccountsRow> = self.row_or_lost(&key::accounts(id))?;
        let (row, accounts) = match row.zip(accounts) {
            None => {
                self.limit_creation(now, session)?;
                (EMPTY, None)
            }
            Some((_, accounts)) if !accounts.accounts.contains(&session.user) => {
                return Err(ErrorCode::UnknownConversation.into());
            }
            Some((row, accounts)) => {
                let behind = row.epoch < request.epoch;
                if !(behind || row.resync) {
                    return Err(Refusal::with_detail(ErrorCode::WrongEpoch, row.epoch));
                }
                (row, Some(accounts))
            }
        };
        let mut change = Change::reply(Accepted { epoch: request.epoch });
        let accounts = self.restored_accounts(&mut change, session, request, accounts)?;

        let old = self.members(id)?;
        let mut members = BTreeSet::new();
        for device in request.members.iter() {
            // A device the relay does not know is no member to it: it joins anew once it is back.
            let Some(row) = self.device(device)? else { continue };
            if !accounts.contains(&row.user) {
                return Err(Refusal::invalid("a member's account is not in the conversation"));
            }
            members.insert(row.number);
        }
        if !members.contains(&session.number) {
            return Err(Refusal::invalid("a group is restored by a member"));
        }
        let members: Vec<u32> = members.into_iter().collect();
        let mut told = BTreeSet::new();
        self.tell_to_join(now, &mut change, id, &accounts, &members, &mut told)?;
        self.put_members(&mut change, id, &old, members, told.into_iter().collect())?;

        let mut row = ConversationRow { epoch: request.epoch, resync: false, ..row };
        self.put_tree(&mut change, id, &mut row, &request.tree, true)?;
        change.batch.put(key::conversation(id), row.encode());
        change.batch.put(key::group_info(id), request.group_info.to_vec());
        Ok(change)
    }

    /// The conversations of an account, in the order of their ids.
    pub(super) fn conversations_of(&self, user: &UserName) -> Vec<ConversationId> {
        let keys = self.store.keys(&key::account_conversations(user));
        keys.iter().filter_map(|key| key::conversation_of(key)).collect()
    }

    /// Writes a ratchet tree (`whole`) or what changed in it.
    pub(super) fn put_tree(
        &self,
        change: &mut Change,
        id: &ConversationId,
        row: &mut ConversationRow,
        tree: &Tree,
        whole: bool,
    ) -> Result<(), Refusal> {
        if tree.width as usize > MAX_TREE_NODES || tree.width.is_multiple_of(2) {
            return Err(Refusal::invalid("not the width of a ratchet tree"));
        }
        let mut nodes = BTreeMap::new();
        for node in tree.nodes.iter() {
            let index = u16::try_from(node.index).ok().filter(|_| node.index < tree.width);
            let index = index.ok_or(Refusal::invalid("a node outside of the ratchet tree"))?;
            if nodes.insert(index, &node.node).is_some() {
                return Err(Refusal::invalid("a node of the ratchet tree comes twice"));
            }
        }
        let mut bytes = row.tree_bytes;
        for key in self.store.keys(&key::tree(id)) {
            let Some(index) = key::node_index(&key) else { continue };
            let replaced = nodes.contains_key(&index);
            let forgotten = whole || u32::from(index) >= tree.width;
            if replaced || forgotten {
                bytes = bytes.saturating_sub(self.stored_node_size(&key)?);
            }
            if nodes.get(&index).map_or(forgotten, |node| node.is_empty()) {
                change.batch.delete(key);
            }
        }
        for (index, node) in nodes.into_iter().filter(|(_, node)| !node.is_empty()) {
            bytes += node_size(node.len());
            change.batch.put(key::tree_node(id, index), node.to_vec());
        }
        if bytes > self.policy.bounds.max_tree as u64 {
            return Err(Refusal::too_large("the group's ratchet tree is too large for this relay"));
        }
        row.tree_width = tree.width;
        row.tree_bytes = bytes;
        Ok(())
    }

    /// Forgets a conversation whose last account is gone.
    pub(super) fn delete_conversation(&self, change: &mut Change, id: &ConversationId) {
        change.batch.delete(key::conversation(id));
        change.batch.delete(key::accounts(id));
        change.batch.delete(key::members(id));
        change.batch.delete(key::group_info(id));
        for key in self.store.keys(&key::tree(id)) {
            change.batch.delete(key);
        }
    }

    fn stored_node_size(&self, key: &[u8]) -> Result<u64, StoreError> {
        match self.store.get(key) {
            Ok(node) => Ok(node_size(node.unwrap_or_default().len())),
            // It is about to be replaced: that must not fail because of what is wrong with it.
            Err(StoreError::Damaged(_)) => Ok(0),
            Err(other) => Err(other),
        }
    }

    fn direct(&self, a: &UserName, b: &UserName) -> Result<Option<ConversationId>, StoreError> {
        let bytes = self.store.get(&key::direct(a, b))?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(ConversationId))
    }

    fn is_unused(&self, id: &ConversationId) -> Result<bool, StoreError> {
        let row: Option<ConversationRow> = self.row_or_lost(&key::conversation(id))?;
        Ok(row.is_none_or(|row| row.epoch == 0))
    }

    /// A conversation as a device sees it, without its accounts; `None` if it is lost.
    fn describe(&self, session: &Session, id: &ConversationId) -> Result<Option<Conversation>, Refusal> {
        let row: Option<ConversationRow> = self.row_or_lost(&key::conversation(id))?;
        let Some(row) = row else { return Ok(None) };
        let member = self.members(id)?.members.contains(&session.number);
        let (epoch, resync) = (row.epoch, row.resync);
        let accounts = List::default();
        Ok(Some(Conversation { id: *id, epoch, created: false, member, accounts, resync }))
    }

    fn limit_creation(&mut self, now: Now, session: &Session) -> Result<(), Refusal> {
        match self.limits.create_by_account.wait(&session.user, now.uptime) {
            0 => self.limits.create_by_account.take(&session.user, now.uptime),
            wait => return Err(Refusal::with_detail(ErrorCode::RateLimited, wait)),
        }
        Ok(())
    }

    /// Writes who a conversation is between, and makes each of them find it.
    fn put_accounts(
        &self,
        change: &mut Change,
        id: &ConversationId,
        accounts: Vec<UserName>,
        direct: bool,
    ) -> Result<Vec<UserName>, Refusal> {
        for user in &accounts {
            let key = key::account_conversation(user, id);
            if self.store.contains(&key) {
                continue;
            }
            if self.store.count(&key::account_conversations(user)) >= self.policy.bounds.max_conversations {
                return Err(Refusal::too_large("an account has too many conversations"));
            }
            change.batch.put(key, Vec::new());
        }
        let row = AccountsRow { accounts: list(accounts.clone())?, direct };
        change.batch.put(key::accounts(id), row.encode());
        Ok(accounts)
    }

    /// The accounts of a group being restored: those listed, and those the relay knows of.
    fn restored_accounts(
        &self,
        change: &mut Change,
        session: &Session,
        request: &RestoreGroup,
        known: Option<AccountsRow>,
    ) -> Result<Vec<UserName>, Refusal> {
        let id = &request.conversation;
        let listed: BTreeSet<UserName> = request.accounts.iter().cloned().collect();
        if !listed.contains(&session.user) {
            return Err(Refusal::invalid("a group is restored by one of its accounts"));
        }
        for user in &listed {
            if !self.store.contains(&key::account(user)) {
                return Err(ErrorCode::UnknownUser.into());
            }
        }
        if let Some(known) = known {
            let all: BTreeSet<UserName> = known.accounts.iter().cloned().chain(listed).collect();
            if all.len() == known.accounts.len() {
                return Ok(all.into_iter().collect());
            }
            if known.direct {
                return Err(Refusal::invalid("a direct conversation stays between its two accounts"));
            }
            return self.put_accounts(change, id, all.into_iter().collect(), false);
        }
        let accounts: Vec<UserName> = listed.into_iter().collect();
        let mut direct = false;
        if let [a, b] = &accounts[..] {
            direct = match self.direct(a, b)? {
                None => true,
                Some(other) if other == *id => true,
                // One that was begun since and never used gives way.
                Some(other) if self.is_unused(&other)? => {
                    self.delete_conversation(change, &other);
                    change.batch.delete(key::account_conversation(a, &other));
                    change.batch.delete(key::account_conversation(b, &other));
                    true
                }
                Some(_) => false,
            };
            if direct {
                change.batch.put(key::direct(a, b), id.0.to_vec());
            }
        }
        self.put_accounts(change, id, accounts, direct)
    }
}

/// What a node takes of a reply: itself, its index and its framing.
fn node_size(len: usize) -> u64 {
    len as u64 + 16
}

/// Higher epochs than a group comes to, yet with room behind them.
const MAX_EPOCH: u64 = 1 << 62;

const EMPTY: ConversationRow = ConversationRow { epoch: 0, resync: false, tree_width: 0, tree_bytes: 0 };
