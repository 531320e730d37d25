//! How our groups and key packages are configured: the same for the member that creates a group and for those that
//! join it, which openmls leaves to the caller.

use openmls::extensions::ExtensionType;
use openmls::group::{
    GroupId, MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MlsGroupCreateConfig, MlsGroupJoinConfig,
};
use openmls::key_packages::Lifetime;
use openmls::prelude::{Capabilities, CredentialType, ProtocolVersion, SenderRatchetConfiguration};
use qpc_proto::id::ConversationId;
use qpc_proto::limits::PAST_EPOCHS;

use super::crypto::CIPHERSUITE;

/// For a group that this device creates.
///
/// openmls fills the configuration it starts from with a lifetime of its own, *now less an hour*: within an hour of
/// 1970 that overflows, wherever openmls is compiled with overflow checks. The lifetime is replaced here in any case.
pub(crate) fn create() -> MlsGroupCreateConfig {
    MlsGroupCreateConfig::builder()
        .ciphersuite(CIPHERSUITE)
        .capabilities(capabilities())
        .lifetime(lifetime())
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING)
        .max_past_epochs(KEPT_EPOCHS as usize)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(sender_ratchet())
        .build()
}

/// For a group that this device joins.
pub(crate) fn join() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        // External commits of others are public messages, everything else is a private one.
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING)
        .max_past_epochs(KEPT_EPOCHS as usize)
        // A Welcome carries its tree: it may be read long after the group has moved on. A GroupInfo does not.
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(sender_ratchet())
        .build()
}

/// What every leaf says it can do.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![CIPHERSUITE])
        .extensions(vec![ExtensionType::LastResort])
        .proposals(Vec::new())
        .credentials(vec![CredentialType::Basic])
        .build()
}

/// The lifetime in every key package: all time.
///
/// openmls compares the lifetimes of key packages and of leaves with the clock, and a router may have none; so that
/// neither end's clock matters, ours never expire. How old a key package may be is the relay's business, which
/// knows the order of uploads.
pub(crate) fn lifetime() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

/// The MLS group of a conversation.
pub(crate) fn group_id(conversation: &ConversationId) -> GroupId {
    GroupId::from_slice(&conversation.0)
}

fn sender_ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD)
}

/// Past epochs whose messages can be read. One more than the relay takes messages of: the answer to a commit of this
/// device may overtake messages that were in its queue before.
pub(crate) const KEPT_EPOCHS: u64 = PAST_EPOCHS + 1;

/// Envelopes come padded; what else is encrypted, commits, has a size that the relay knows from the group's.
const PADDING: usize = 0;
/// Messages of one sender that may arrive behind a later one and still be read.
const OUT_OF_ORDER: u32 = 20;
/// Messages of one sender that may be missing before one that can be read.
const FORWARD: u32 = 1000;
