//! Commits of this device, and groups given back to the relay.
//!
//! A commit changes nothing before the relay has accepted it: it is made and merged in an overlay of the store; what
//! the relay needs of the new epoch is taken from there; and the values openmls wrote wait in the outbox, beside the
//! request, for the answer.

use openmls::group::{CommitMessageBundle, MlsGroup};
use openmls::key_packages::KeyPackage;
use openmls::prelude::{
    LeafNodeIndex, LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, OpenMlsProvider as _, ProtocolVersion,
};
use openmls::treesync::RatchetTreeIn;
use qpc_journal::{Journal, Storage};
use qpc_proto::id::{ConversationId, DeviceId, UserName};
use qpc_proto::message::{
    AddedDevice, Group, KeyPackages, LeasedKeyPackage, Request, RestoreGroup, SubmitCommit, Tree,
};
use qpc_proto::wire::{Blob, List};
use tls_codec::{Deserialize as _, Serialize as _};

use super::error::EngineError;
use super::outbox::encode_request;
use super::records::{CommitPurpose, ConversationRow, Purpose, RestorePurpose};
use super::roster::{self, Leaf, Policy, Refusal};
use super::state::Draft;
use super::{Engine, Outgoing};
use crate::mls::credential::{credential, verify};
use crate::mls::tree::Nodes;
use crate::mls::{Provider, Value, Writes, config, device_id};

impl<S: Storage> Engine<S> {
    /// Makes the conversation's group with the devices that these key packages are of: the peer's, and the other ones
    /// of this account.
    pub fn create_group(
        &mut self,
        id: ConversationId,
        packages: &[(UserName, KeyPackages)],
    ) -> Result<Outgoing, EngineError> {
        let row = self.conversation_row(&id)?;
        self.check_idle(&id)?;
        if row.joined {
            return Err(EngineError::AlreadyJoined(id));
        }
        let mut draft = self.state.draft();
        let (mut key_packages, mut added) = (Vec::new(), Vec::new());
        for (user, packages) in packages {
            for leased in packages.packages.iter().filter(|leased| leased.device != self.account.device) {
                key_packages.push(self.check_key_package(&mut draft, row, user, leased)?);
                added.push(AddedDevice { device: leased.device, lease: leased.lease });
            }
        }
        let made = self.in_overlay(|engine, provider| {
            let mut group = MlsGroup::new_with_group_id(
                provider,
                &engine.device,
                &config::create(),
                config::group_id(&id),
                credential(&engine.account.certificate),
            )
            .map_err(EngineError::mls)?;
            engine.commit_as_member(provider, &mut group, key_packages, Vec::new(), Nodes::default())
        })?;
        self.submit(draft, id, made, added, Vec::new())
    }

    /// Joins the group by external commit, or returns to it if this device cannot follow it any more. `None` if this
    /// device turns out to be where the relay is.
    pub fn join_external(
        &mut self,
        id: ConversationId,
        group: &Group,
    ) -> Result<Option<Outgoing>, EngineError> {
        let row = self.conversation_row(&id)?.clone();
        self.check_idle(&id)?;
        let mut draft = self.state.draft();
        if row.joined && !row.left_out && self.is_current(&id, group)? {
            let row = draft.conversation(&self.state, id);
            (row.join, row.reconcile, row.restore, row.report) = (false, false, false, 0);
            self.commit(draft)?;
            return Ok(None);
        }
        match self.external_commit(&mut draft, id, &row, group) {
            Ok((made, peer)) => {
                draft.conversation(&self.state, id).peer = peer;
                let added = vec![AddedDevice { device: self.account.device, lease: 0 }];
                self.submit(draft, id, made, added, Vec::new()).map(Some)
            }
            Err(ExternalError::Engine(error)) => Err(error),
            Err(ExternalError::Refused(Refusal::IdentityChanged(user, key))) => {
                let mut draft = self.state.draft();
                roster::trust(&self.state, &mut draft, &user, &key);
                let row = draft.conversation(&self.state, id);
                (row.join, row.blocked) = (true, Some(user.clone()));
                self.commit(draft)?;
                Err(EngineError::IdentityChanged { user })
            }
            Err(error @ (ExternalError::Unusable | ExternalError::Refused(_))) => {
                let mut draft = self.state.draft();
                let row = draft.conversation(&self.state, id);
                // Whoever still has a group that works gives it back to the relay. Others wait for that, unless the
                // group is none of theirs.
                row.restore |= row.joined;
                row.join &= !row.joined && matches!(error, ExternalError::Unusable);
                self.commit(draft)?;
                match error {
                    ExternalError::Refused(refusal) => Err(refused(refusal, EngineError::InvalidGroup(id))),
                    _ => Err(EngineError::InvalidGroup(id)),
                }
            }
        }
    }

    /// Removes the devices that are known to be revoked; `None` if none of them is in the group.
    pub fn remove_devices(&mut self, id: ConversationId) -> Result<Option<Outgoing>, EngineError> {
        let revoked = self.conversation_row(&id)?.revoked.clone();
        self.check_idle(&id)?;
        let group = self.take_group(&id)?;
        let gone: Vec<Leaf> = roster::leaves(&group)
            .into_iter()
            .filter(|leaf| revoked.contains(&leaf.device) && leaf.device != self.account.device)
            .collect();
        self.keep_group(id, group);
        let mut draft = self.state.draft();
        if gone.is_empty() {
            draft.conversation(&self.state, id).revoked = List::default();
            self.commit(draft)?;
            return Ok(None);
        }
        let (indices, removed) = gone.iter().map(|leaf| (leaf.index, leaf.device)).unzip();
        let made = self.member_commit(&id, Vec::new(), indices)?;
        self.submit(draft, id, made, Vec::new(), removed).map(Some)
    }

    /// Adds devices whose key packages were fetched for it: new ones of accounts that are in the group.
    pub fn add_devices(
        &mut self,
        id: ConversationId,
        user: &UserName,
        packages: &KeyPackages,
    ) -> Result<Option<Outgoing>, EngineError> {
        let row = self.conversation_row(&id)?.clone();
        self.check_idle(&id)?;
        let mut draft = self.state.draft();
        let present: Vec<DeviceId> = self.members(&id)?.into_iter().map(|member| member.1).collect();
        let (mut key_packages, mut added) = (Vec::new(), Vec::new());
        for leased in packages.packages.iter().filter(|leased| !present.contains(&leased.device)) {
            key_packages.push(self.check_key_package(&mut draft, &row, user, leased)?);
            added.push(AddedDevice { device: leased.device, lease: leased.lease });
        }
        if added.is_empty() {
            return Ok(None);
        }
        let made = self.member_commit(&id, key_packages, Vec::new())?;
        self.submit(draft, id, made, added, Vec::new()).map(Some)
    }

    /// Renews this device's keys in the group.
    pub fn self_update(&mut self, id: ConversationId) -> Result<Outgoing, EngineError> {
        self.conversation_row(&id)?;
        self.check_idle(&id)?;
        let made = self.member_commit(&id, Vec::new(), Vec::new())?;
        let draft = self.state.draft();
        self.submit(draft, id, made, Vec::new(), Vec::new())
    }

    /// Gives the relay the group back as this device knows it.
    pub fn restore(&mut self, id: ConversationId) -> Result<Outgoing, EngineError> {
        let revoked = self.conversation_row(&id)?.revoked.clone();
        self.check_idle(&id)?;
        let group = self.take_group(&id)?;
        let epoch = group.epoch().as_u64();
        let leaves: Vec<Leaf> =
            roster::leaves(&group).into_iter().filter(|leaf| !revoked.contains(&leaf.device)).collect();
        let mut accounts: Vec<UserName> = leaves.iter().map(|leaf| leaf.certificate.user.clone()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let members = leaves.into_iter().map(|leaf| leaf.device).collect();
        let request = Request::RestoreGroup(RestoreGroup {
            conversation: id,
            epoch,
            members: List::new(members).map_err(|_| EngineError::TooLarge)?,
            accounts: List::new(accounts).map_err(|_| EngineError::TooLarge)?,
            group_info: blob(self.group_info(&group)?)?,
            tree: nodes(&group)?.whole()?,
        });
        self.keep_group(id, group);
        let mut draft = self.state.draft();
        let purpose = Purpose::Restore(RestorePurpose { conversation: id, epoch });
        let number = draft.queue(encode_request(&request), purpose)?;
        self.commit(draft)?;
        Ok(Outgoing { number, request })
    }

    /// Takes the relay's word about the epoch a group has there, `None` where it knows no such conversation. Not for a
    /// conversation that this device is not in while the relay says that it is: its invitation is on the way.
    pub fn reconcile(&mut self, id: ConversationId, relay_epoch: Option<u64>) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        if !self.state.conversations.contains_key(&id) && relay_epoch.is_none() {
            return Ok(());
        }
        let row = draft.conversation(&self.state, id);
        let asked = std::mem::take(&mut row.reconcile);
        match relay_epoch {
            None | Some(0) if row.joined => row.restore = true,
            Some(epoch) if row.joined && epoch < row.epoch => row.restore = true,
            // Of a relay that went back in time the same number may be another epoch: the group itself tells.
            Some(epoch) if row.joined => row.join |= epoch > row.epoch || row.left_out || asked,
            epoch => row.join = epoch.is_some_and(|epoch| epoch > 0),
        }
        self.commit(draft)
    }

    /// Takes the relay's word that this device is not in a group: it joins, also if it has the group.
    pub fn left_out(&mut self, id: ConversationId) -> Result<(), EngineError> {
        let mut draft = self.state.draft();
        leave_out(draft.conversation(&self.state, id));
        self.commit(draft)
    }

    /// The devices in a group and whose they are.
    pub fn members(&mut self, id: &ConversationId) -> Result<Vec<(UserName, DeviceId)>, EngineError> {
        let group = self.take_group(id)?;
        let members = roster::leaves(&group);
        self.keep_group(*id, group);
        Ok(members.into_iter().map(|leaf| (leaf.certificate.user, leaf.device)).collect())
    }

    /// Whether a device of the account is in the group and not known to be revoked.
    pub fn reaches(&mut self, id: &ConversationId, user: &UserName) -> Result<bool, EngineError> {
        let revoked = self.conversation_row(id)?.revoked.clone();
        let members = self.members(id)?;
        Ok(members.iter().any(|(other, device)| other == user && !revoked.contains(device)))
    }

    /// What the relay accepted becomes the group.
    pub(super) fn apply_commit(
        &mut self,
        draft: &mut Draft,
        purpose: &CommitPurpose,
    ) -> Result<Applied, EngineError> {
        let id = purpose.conversation;
        let row = draft.conversation(&self.state, id);
        let outdated = match purpose.external {
            true => row.joined && row.epoch > purpose.epoch,
            false => row.epoch != purpose.epoch,
        };
        if outdated {
            // The relay took a commit that it cannot have taken by its own rules: it went back in time.
            row.reconcile = true;
            return Ok(Applied::Outdated);
        }
        let provider = Provider::seeded(&self.crypto, &self.journal, Writes::decode(&purpose.writes)?);
        let merged = MlsGroup::load(provider.storage(), &config::group_id(&id))
            .map_err(EngineError::mls)
            .and_then(|group| group.ok_or(EngineError::NotJoined(id)))
            .and_then(|mut group| {
                group.merge_pending_commit(&provider).map_err(EngineError::mls)?;
                Ok(group)
            });
        let writes = provider.finish()?;
        let group = merged?;
        draft.rows(writes.into_changes(&self.journal)?);
        joined(draft.conversation(&self.state, id), &group);
        Ok(Applied::Group(Box::new(group)))
    }

    fn check_idle(&self, id: &ConversationId) -> Result<(), EngineError> {
        match self.state.group_is_busy(id) {
            true => Err(EngineError::CommitPending(*id)),
            false => Ok(()),
        }
    }

    fn check_key_package(
        &self,
        draft: &mut Draft,
        row: &ConversationRow,
        user: &UserName,
        leased: &LeasedKeyPackage,
    ) -> Result<KeyPackage, EngineError> {
        let invalid = || EngineError::InvalidKeyPackage(leased.device);
        let MlsMessageBodyIn::KeyPackage(package) = parse(&leased.key_package).ok_or_else(invalid)? else {
            return Err(invalid());
        };
        let package = package.validate(&self.crypto, ProtocolVersion::Mls10).map_err(|_| invalid())?;
        let leaf = package.leaf_node();
        let certificate = verify(leaf.credential(), leaf.signature_key().as_slice())?;
        if certificate.user != *user || device_id(&certificate.device_key) != leased.device {
            return Err(invalid());
        }
        let policy = Policy { own: &self.account, state: &self.state, peer: row.peer.as_ref() };
        policy.admit(draft, &certificate).map_err(|refusal| refused(refusal, invalid()))?;
        Ok(package)
    }

    fn member_commit(
        &mut self,
        id: &ConversationId,
        adds: Vec<KeyPackage>,
        removes: Vec<LeafNodeIndex>,
    ) -> Result<Made, EngineError> {
        // The commit takes a key of this device's ratchet, which the loaded group then knows and the store not yet.
        let mut group = self.take_group(id)?;
        let old = nodes(&group)?;
        let mut made = self.in_overlay(|engine, provider| {
            engine.commit_as_member(provider, &mut group, adds, removes, old)
        })?;
        // That a key is used up is true whatever the answer; everything else waits for it.
        let state = made.writes.split_off_state(&config::group_id(id))?;
        made.at_once = std::mem::replace(&mut made.writes, state);
        Ok(made)
    }

    fn commit_as_member(
        &self,
        provider: &Provider<'_, Journal<S>>,
        group: &mut MlsGroup,
        adds: Vec<KeyPackage>,
        removes: Vec<LeafNodeIndex>,
        old: Nodes,
    ) -> Result<Made, EngineError> {
        let epoch = group.epoch().as_u64();
        let bundle = group
            .commit_builder()
            .consume_proposal_store(false)
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(removes)
            .load_psks(provider.storage())
            .map_err(EngineError::mls)?
            .build(provider.rand(), provider.crypto(), &self.device, |_| true)
            .map_err(EngineError::mls)?
            .stage_commit(provider)
            .map_err(EngineError::mls)?;
        let writes = provider.writes();
        group.merge_pending_commit(provider).map_err(EngineError::mls)?;
        self.made(group, bundle, epoch, old, writes)
    }

    fn external_commit(
        &self,
        draft: &mut Draft,
        id: ConversationId,
        row: &ConversationRow,
        relay: &Group,
    ) -> Result<(Made, Option<UserName>), ExternalError> {
        let Some(MlsMessageBodyIn::GroupInfo(info)) = parse(&relay.group_info) else {
            return Err(ExternalError::Unusable);
        };
        let old = Nodes::from_whole(&relay.tree).map_err(|_| ExternalError::Unusable)?;
        let tree = old.to_tls().map_err(|_| ExternalError::Unusable)?;
        let tree = RatchetTreeIn::tls_deserialize_exact(tree).map_err(|_| ExternalError::Unusable)?;
        if *info.group_id() != config::group_id(&id) || info.epoch().as_u64() != relay.epoch {
            return Err(ExternalError::Unusable);
        }
        // What the group was to this device until now makes room.
        let provider = Provider::seeded(&self.crypto, &self.journal, self.without_group(&id)?);
        let attempt = |engine: &Self, provider: &Provider<'_, Journal<S>>| {
            let (group, bundle) = MlsGroup::external_commit_builder()
                .with_ratchet_tree(tree)
                .with_config(config::join())
                .skip_lifetime_validation()
                .build_group(provider, info, credential(&engine.account.certificate))
                .ok()?
                .leaf_node_parameters(
                    LeafNodeParameters::builder().with_capabilities(config::capabilities()).build(),
                )
                .load_psks(provider.storage())
                .ok()?
                .build(provider.rand(), provider.crypto(), &engine.device, |_| true)
                .ok()?
                .finalize(provider)
                .ok()?;
            Some((group, bundle, provider.writes()))
        };
        let (group, bundle, writes) = self
            .in_provider(provider, |engine, provider| Ok(attempt(engine, provider)))?
            .ok_or(ExternalError::Unusable)?;

        let policy = Policy { own: &self.account, state: &self.state, peer: row.peer.as_ref() };
        let leaves = policy.check_members(draft, group.members()).map_err(ExternalError::Refused)?;
        // Of a conversation that the account has no other device in, only the relay knows whom it is with. As with an
        // invitation by a stranger that may be anybody, but one account only.
        let peer = row.peer.clone().or_else(|| self.only_peer(&leaves));
        let expected = |leaf: &Leaf| {
            let user = &leaf.certificate.user;
            leaf.device != self.account.device && (*user == self.account.user || Some(user) == peer.as_ref())
        };
        if !leaves.iter().any(expected) && !row.joined {
            return Err(ExternalError::Refused(Refusal::Foreign(self.account.user.clone())));
        }
        let mut made = self.made(&group, bundle, relay.epoch, old, writes)?;
        made.external = true;
        Ok((made, peer))
    }

    fn is_current(&mut self, id: &ConversationId, relay: &Group) -> Result<bool, EngineError> {
        let Some(MlsMessageBodyIn::GroupInfo(info)) = parse(&relay.group_info) else {
            return Ok(false);
        };
        let group = self.take_group(id)?;
        let current = group.public_group().group_context() == info.group_context();
        self.keep_group(*id, group);
        Ok(current)
    }

    /// Runs an operation of openmls whose writes are not stored.
    fn in_overlay<T>(
        &self,
        operation: impl FnOnce(&Self, &Provider<'_, Journal<S>>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.in_provider(Provider::new(&self.crypto, &self.journal), operation)
    }

    fn in_provider<T>(
        &self,
        provider: Provider<'_, Journal<S>>,
        operation: impl FnOnce(&Self, &Provider<'_, Journal<S>>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let result = operation(self, &provider);
        provider.finish()?;
        result
    }

    /// The writes that make room for a group that replaces the stored one. One that is damaged leaves some of its rows
    /// behind.
    pub(super) fn without_group(&self, id: &ConversationId) -> Result<Writes, EngineError> {
        let provider = Provider::new(&self.crypto, &self.journal);
        if let Ok(Some(mut group)) = MlsGroup::load(provider.storage(), &config::group_id(id)) {
            // A failure is kept by the provider.
            let _ = group.delete(provider.storage());
        }
        match provider.finish().map_err(EngineError::from) {
            Err(error) if error.is_lost() => Ok(Writes::default()),
            writes => writes,
        }
    }

    fn made(
        &self,
        group: &MlsGroup,
        bundle: CommitMessageBundle,
        epoch: u64,
        old: Nodes,
        writes: Writes,
    ) -> Result<Made, EngineError> {
        let welcome = bundle.to_welcome_msg().map(|welcome| welcome.tls_serialize_detached()).transpose();
        Ok(Made {
            epoch,
            commit: bundle.commit().tls_serialize_detached().map_err(EngineError::mls)?,
            welcome: welcome.map_err(EngineError::mls)?.unwrap_or_default(),
            group_info: self.group_info(group)?,
            tree: nodes(group)?.changes_from(&old)?,
            external: false,
            writes,
            at_once: Writes::default(),
        })
    }

    fn group_info(&self, group: &MlsGroup) -> Result<Vec<u8>, EngineError> {
        group
            .export_group_info(&self.crypto, &self.device, false)
            .map_err(EngineError::mls)?
            .tls_serialize_detached()
            .map_err(EngineError::mls)
    }

    fn submit(
        &mut self,
        mut draft: Draft,
        id: ConversationId,
        made: Made,
        added: Vec<AddedDevice>,
        removed: Vec<DeviceId>,
    ) -> Result<Outgoing, EngineError> {
        let writes: Value = made.writes.encode()?;
        let request = Request::SubmitCommit(SubmitCommit {
            conversation: id,
            epoch: made.epoch,
            commit: blob(made.commit)?,
            added: List::new(added).map_err(|_| EngineError::TooLarge)?,
            removed: List::new(removed).map_err(|_| EngineError::TooLarge)?,
            welcome: blob(made.welcome)?,
            group_info: blob(made.group_info)?,
            tree: made.tree,
            external: made.external,
        });
        let purpose = Purpose::Commit(CommitPurpose {
            conversation: id,
            epoch: made.epoch,
            external: made.external,
            writes: blob(writes.to_vec())?,
        });
        let number = draft.queue(encode_request(&request), purpose)?;
        draft.rows(made.at_once.into_changes(&self.journal)?);
        self.commit(draft)?;
        Ok(Outgoing { number, request })
    }
}

/// What came of an accepted commit.
pub(super) enum Applied {
    /// The group as it is now.
    Group(Box<MlsGroup>),
    /// The group had moved on.
    Outdated,
}

/// The row of a conversation whose group this device is in now, and up to date.
pub(super) fn joined(row: &mut ConversationRow, group: &MlsGroup) {
    (row.joined, row.epoch) = (true, group.epoch().as_u64());
    (row.join, row.reconcile, row.restore, row.report) = (false, false, false, 0);
    (row.blocked, row.left_out) = (None, false);
    let present: Vec<DeviceId> = roster::leaves(group).into_iter().map(|leaf| leaf.device).collect();
    let revoked = std::mem::take(&mut row.revoked).into_vec();
    let revoked = revoked.into_iter().filter(|device| present.contains(device)).collect();
    row.revoked = List::new(revoked).unwrap_or_default();
}

/// What a device does that is not in a group at the relay. One that has the group compares epochs first: perhaps the
/// relay went back in time, and is to be given the group back.
pub(super) fn leave_out(row: &mut ConversationRow) {
    (row.left_out, row.reconcile) = (row.joined, row.reconcile || row.joined);
    row.join |= !row.joined;
}

/// Reads an MLSMessage.
pub(super) fn parse(bytes: &[u8]) -> Option<MlsMessageBodyIn> {
    MlsMessageIn::tls_deserialize_exact(bytes).ok().map(MlsMessageIn::extract)
}

pub(super) fn blob<const MAX: usize>(bytes: Vec<u8>) -> Result<Blob<MAX>, EngineError> {
    Blob::new(bytes).map_err(|_| EngineError::TooLarge)
}

/// A commit that was made and not yet submitted.
struct Made {
    epoch: u64,
    commit: Vec<u8>,
    welcome: Vec<u8>,
    group_info: Vec<u8>,
    tree: Tree,
    external: bool,
    /// To be stored if the commit is accepted.
    writes: Writes,
    /// To be stored with the request.
    at_once: Writes,
}

enum ExternalError {
    Engine(EngineError),
    Refused(Refusal),
    Unusable,
}

impl From<EngineError> for ExternalError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// The group's tree, if the relay takes it.
pub(super) fn nodes(group: &MlsGroup) -> Result<Nodes, EngineError> {
    let tree = group.export_ratchet_tree().tls_serialize_detached().map_err(EngineError::mls)?;
    Ok(Nodes::from_tls(&tree)?)
}

fn refused(refusal: Refusal, otherwise: EngineError) -> EngineError {
    match refusal {
        Refusal::Foreign(user) => EngineError::Foreign { user },
        Refusal::IdentityChanged(user, _) => EngineError::IdentityChanged { user },
        Refusal::NotGenuine(error) => error.into(),
        Refusal::Forbidden => otherwise,
    }
}

#[cfg(test)]
impl<S: Storage> Engine<S> {
    /// Commit and GroupInfo of an external commit that this program does not make: into a group that this device has no
    /// business in, or with a leaf that says it can do many things.
    pub(super) fn forge_external(
        &self,
        id: ConversationId,
        relay: &Group,
        capabilities: openmls::prelude::Capabilities,
    ) -> (Vec<u8>, Vec<u8>) {
        let Some(MlsMessageBodyIn::GroupInfo(info)) = parse(&relay.group_info) else { panic!("no group") };
        let tree = Nodes::from_whole(&relay.tree).unwrap().to_tls().unwrap();
        let provider = Provider::new(&self.crypto, &self.journal);
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(RatchetTreeIn::tls_deserialize_exact(tree).unwrap())
            .with_config(config::join())
            .build_group(&provider, info, credential(&self.account.certificate))
            .unwrap()
            .leaf_node_parameters(LeafNodeParameters::builder().with_capabilities(capabilities).build())
            .load_psks(provider.storage())
            .unwrap()
            .build(provider.rand(), provider.crypto(), &self.device, |_| true)
            .unwrap()
            .finalize(&provider)
            .unwrap();
        assert_eq!(*group.group_id(), config::group_id(&id));
        (bundle.commit().tls_serialize_detached().unwrap(), self.group_info(&group).unwrap())
    }
}
