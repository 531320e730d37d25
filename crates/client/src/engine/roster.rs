//! Who may be in a group.
//!
//! openmls checks that leaves are signed; whose they are is checked here: a leaf's certificate must be genuine, its
//! account's identity the one that is trusted, and a direct conversation is for two accounts.

use openmls::group::{Member, MlsGroup, StagedCommit};
use openmls::prelude::{LeafNode, LeafNodeIndex, Proposal, Sender};
use qpc_proto::id::{DeviceId, PublicKey, UserName};
use qpc_proto::message::DeviceCertificate;
use qpc_proto::wire::Message;
use thiserror::Error;

use super::Account;
use super::records::ContactRow;
use super::state::{Draft, State};
use crate::mls::credential::verify;
use crate::mls::{CredentialError, device_id};

/// A leaf and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) index: LeafNodeIndex,
    pub(super) certificate: DeviceCertificate,
    pub(super) device: DeviceId,
}

impl Leaf {
    fn new(index: LeafNodeIndex, certificate: DeviceCertificate) -> Self {
        Self { index, device: device_id(&certificate.device_key), certificate }
    }
}

/// The leaves of a group whose certificates were verified when they came in. A leaf without one is left out: there
/// is none.
pub(super) fn leaves(group: &MlsGroup) -> Vec<Leaf> {
    group
        .members()
        .filter_map(|member| {
            let certificate = DeviceCertificate::decode(member.credential.serialized_content()).ok()?;
            Some(Leaf::new(member.index, certificate))
        })
        .collect()
}

/// Whom a conversation is for.
pub(super) struct Policy<'a> {
    pub(super) own: &'a Account,
    pub(super) state: &'a State,
    /// The other account of a direct conversation.
    pub(super) peer: Option<&'a UserName>,
}

impl Policy<'_> {
    /// Checks all members of a group that this device is about to join, or has joined tentatively.
    pub(super) fn check_members(
        &self,
        draft: &mut Draft,
        members: impl Iterator<Item = Member>,
    ) -> Result<Vec<Leaf>, Refusal> {
        let mut leaves = Vec::new();
        for member in members {
            let certificate = verify(&member.credential, &member.signature_key)?;
            self.admit(draft, &certificate)?;
            leaves.push(Leaf::new(member.index, certificate));
        }
        Ok(leaves)
    }

    /// Checks a commit of somebody else; gives the devices it adds and removes.
    pub(super) fn check_commit(
        &self,
        draft: &mut Draft,
        group: &MlsGroup,
        sender: &Sender,
        commit: &StagedCommit,
    ) -> Result<Changes, Refusal> {
        let roster = leaves(group);
        let find = |index| roster.iter().find(|leaf| leaf.index == index).ok_or(Refusal::Forbidden);
        let mut changes = Changes::default();
        let mut external_init = false;
        for proposal in commit.queued_proposals() {
            match proposal.proposal() {
                Proposal::Add(add) => changes.added.push(verify_leaf(add.key_package().leaf_node())?),
                Proposal::Remove(remove) => changes.removed.push(find(remove.removed())?.certificate.clone()),
                Proposal::ExternalInit(_) => external_init = true,
                _ => return Err(Refusal::Forbidden),
            }
        }
        match sender {
            Sender::Member(index) if !external_init => {
                if let Some(leaf) = commit.update_path_leaf_node() {
                    // A member stays who it is.
                    if verify_leaf(leaf)? != find(*index)?.certificate {
                        return Err(Refusal::Forbidden);
                    }
                }
            }
            Sender::NewMemberCommit if changes.added.is_empty() => {
                let joiner = verify_leaf(commit.update_path_leaf_node().ok_or(Refusal::Forbidden)?)?;
                self.check_external(&roster, &joiner, &changes.removed)?;
                changes.added.push(joiner);
            }
            _ => return Err(Refusal::Forbidden),
        }
        for certificate in &changes.added {
            self.admit(draft, certificate)?;
        }
        // A device that takes its own place again neither came nor went.
        let Changes { added, removed } = &changes;
        let (is_new, is_gone) = (
            |certificate: &&DeviceCertificate| !removed.contains(certificate),
            |certificate: &&DeviceCertificate| !added.contains(certificate),
        );
        Ok(Changes {
            added: added.iter().filter(is_new).cloned().collect(),
            removed: removed.iter().filter(is_gone).cloned().collect(),
        })
    }

    /// A device may join by itself if its account is in the group, or is the other one of a direct conversation. It
    /// may remove nobody but itself.
    fn check_external(
        &self,
        roster: &[Leaf],
        joiner: &DeviceCertificate,
        removed: &[DeviceCertificate],
    ) -> Result<(), Refusal> {
        let same_account = |leaf: &Leaf| {
            leaf.certificate.user == joiner.user && leaf.certificate.identity_key == joiner.identity_key
        };
        let expected = self.peer == Some(&joiner.user);
        if !expected && !roster.iter().any(same_account) {
            return Err(Refusal::Foreign(joiner.user.clone()));
        }
        match removed.iter().all(|certificate| certificate.device_key == joiner.device_key) {
            true => Ok(()),
            false => Err(Refusal::Forbidden),
        }
    }

    /// Checks the account of a genuine certificate; trusts an identity seen for the first time.
    pub(super) fn admit(&self, draft: &mut Draft, certificate: &DeviceCertificate) -> Result<(), Refusal> {
        let DeviceCertificate { user, identity_key, .. } = certificate;
        if *user == self.own.user {
            return match *identity_key == self.own.identity_key {
                true => Ok(()),
                false => Err(Refusal::IdentityChanged(user.clone(), *identity_key)),
            };
        }
        if self.peer.is_some_and(|peer| peer != user) {
            return Err(Refusal::Foreign(user.clone()));
        }
        match trust(self.state, draft, user, identity_key) {
            true => Ok(()),
            false => Err(Refusal::IdentityChanged(user.clone(), *identity_key)),
        }
    }
}

/// Whether `identity` is the user's. The first one seen is; another is noted, to be accepted or not.
pub(super) fn trust(state: &State, draft: &mut Draft, user: &UserName, identity: &PublicKey) -> bool {
    let row = match draft.trusted(state, user) {
        None => ContactRow { identity: *identity, changed: None },
        Some(row) if row.identity == *identity => return true,
        Some(row) => ContactRow { changed: Some(*identity), ..row.clone() },
    };
    let trusted = row.identity == *identity;
    draft.set_contact(user.clone(), row);
    trusted
}

/// Devices that a commit adds and removes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Vec<DeviceCertificate>,
    pub(super) removed: Vec<DeviceCertificate>,
}

/// Why a group or a commit is not acceptable.
#[derive(Clone, Debug, Error)]
pub(super) enum Refusal {
    #[error("not allowed in our groups")]
    Forbidden,
    #[error("{0} does not belong here")]
    Foreign(UserName),
    #[error("{0} has another identity")]
    IdentityChanged(UserName, PublicKey),
    #[error(transparent)]
    NotGenuine(#[from] CredentialError),
}

fn verify_leaf(leaf: &LeafNode) -> Result<DeviceCertificate, CredentialError> {
    verify(leaf.credential(), leaf.signature_key().as_slice())
}
