//! openmls' storage: rows of the journal, read through an overlay.
//!
//! openmls writes about ten values for one operation, each on its own. Here the writes of one operation gather in an
//! overlay that its reads see first, [`Writes`]; the engine turns them into row changes and commits those together with
//! its own rows as one batch. If anything fails, the overlay is dropped and nothing has happened, but a group that
//! openmls changed in memory is then ahead of the store and must be loaded again.

use std::cell::RefCell;
use std::collections::BTreeMap;

use openmls_traits::OpenMlsProvider;
use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::codec::{self, CodecError};
use super::crypto::Crypto;
use super::delta::{self, DeltaError, RowChange, Rows, Value};

/// What openmls is handed for the length of one operation.
pub(crate) struct Provider<'a, R: Rows> {
    crypto: &'a Crypto,
    storage: MlsStorage<'a, R>,
}

impl<'a, R: Rows> Provider<'a, R> {
    /// A provider that reads from `rows` and gathers writes.
    pub(crate) fn new(crypto: &'a Crypto, rows: &'a R) -> Self {
        Self::seeded(crypto, rows, Writes::default())
    }

    /// A provider that begins with the writes of an earlier operation.
    pub(crate) fn seeded(crypto: &'a Crypto, rows: &'a R, writes: Writes) -> Self {
        Self { crypto, storage: MlsStorage { rows, writes: RefCell::new(writes), fault: RefCell::default() } }
    }

    /// A copy of what has been written until now.
    pub(crate) fn writes(&self) -> Writes {
        self.storage.writes.borrow().clone()
    }

    /// Everything that has been written, unless reading or writing failed on the way. Of such a failure openmls
    /// hands back little or nothing, so this must be asked whatever openmls says.
    pub(crate) fn finish(self) -> Result<Writes, StorageError<R::Error>> {
        match self.storage.fault.into_inner() {
            Some(fault) => Err(fault),
            None => Ok(self.storage.writes.into_inner()),
        }
    }
}

impl<'a, R: Rows> OpenMlsProvider for Provider<'a, R> {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = MlsStorage<'a, R>;

    fn storage(&self) -> &MlsStorage<'a, R> {
        &self.storage
    }

    fn crypto(&self) -> &Crypto {
        self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.crypto
    }
}

/// Values that openmls has written and nobody has stored yet.
#[derive(Clone, Default)]
pub(crate) struct Writes(BTreeMap<Vec<u8>, Option<Value>>);

impl Writes {
    /// The changes to rows that make these values the stored ones.
    pub(crate) fn into_changes<R: Rows>(self, rows: &R) -> Result<Vec<RowChange>, StorageError<R::Error>> {
        let mut changes = Vec::new();
        for (key, value) in self.0 {
            delta::write(rows, &key, value, &mut changes)?;
        }
        Ok(changes)
    }

    /// Takes out what says that `group` has a commit pending.
    pub(crate) fn split_off_state(&mut self, group: &impl Serialize) -> Result<Self, CodecError> {
        let key = group_key(group, STATE, &())?;
        Ok(Self(self.0.remove(&key).map(|value| (key, value)).into_iter().collect()))
    }

    /// Deletes the value under a key that [`key_package_key`] gave.
    pub(crate) fn delete_key_package(&mut self, key: &[u8]) {
        self.0.insert(key.to_vec(), None);
    }

    /// The values as bytes, to be kept until it is known whether they hold.
    pub(crate) fn encode(&self) -> Result<Value, CodecError> {
        codec::to_vec(&self.0.iter().map(|(key, value)| (key, value.as_deref())).collect::<Vec<_>>())
    }

    /// What [`Writes::encode`] made.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let writes: Vec<(Vec<u8>, Option<Vec<u8>>)> = codec::from_slice(bytes)?;
        Ok(Self(writes.into_iter().map(|(key, value)| (key, value.map(Value::new))).collect()))
    }
}

/// openmls' storage for the length of one operation.
pub(crate) struct MlsStorage<'r, R: Rows> {
    rows: &'r R,
    writes: RefCell<Writes>,
    fault: RefCell<Option<StorageError<R::Error>>>,
}

impl<R: Rows> MlsStorage<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, StorageError<R::Error>> {
        match self.writes.borrow().0.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(delta::read(self.rows, key)?),
        }
    }

    fn put(&self, key: Vec<u8>, value: Option<Value>) {
        self.writes.borrow_mut().0.insert(key, value);
    }

    fn read<V: DeserializeOwned>(&self, key: Key) -> Result<Option<V>, StorageFailed> {
        self.noting(|| Ok(self.get(&key?)?.map(|value| codec::from_slice(&value)).transpose()?))
    }

    fn write<V: Serialize + ?Sized>(&self, key: Key, value: &V) -> Result<(), StorageFailed> {
        self.noting(|| {
            self.put(key?, Some(codec::to_vec(value)?));
            Ok(())
        })
    }

    fn delete(&self, key: Key) -> Result<(), StorageFailed> {
        self.noting(|| {
            self.put(key?, None);
            Ok(())
        })
    }

    fn read_list<V: DeserializeOwned>(&self, key: Key) -> Result<Vec<V>, StorageFailed> {
        self.noting(|| Ok(codec::list_from_slice(&self.get(&key?)?.unwrap_or_default())?))
    }

    fn append<V: Serialize>(&self, key: Key, member: &V) -> Result<(), StorageFailed> {
        self.noting(|| {
            let key = key?;
            let mut list = self.get(&key)?.unwrap_or_default();
            list.extend_from_slice(&codec::to_vec(member)?);
            self.put(key, Some(list));
            Ok(())
        })
    }

    fn noting<T>(
        &self,
        operation: impl FnOnce() -> Result<T, StorageError<R::Error>>,
    ) -> Result<T, StorageFailed> {
        operation().map_err(|error| {
            self.fault.borrow_mut().get_or_insert(error);
            StorageFailed
        })
    }
}

/// Why openmls' storage failed.
#[derive(Debug, Error)]
pub(crate) enum StorageError<E> {
    /// A value could not be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A value could not be read.
    #[error(transparent)]
    Delta(#[from] DeltaError<E>),
    /// A proposal is named in its group's list and not there.
    #[error("a queued proposal is missing")]
    ProposalMissing,
}

/// What openmls is told of a failure; [`Provider::finish`] says more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the store failed")]
pub(crate) struct StorageFailed;

/// Where the key package with this reference is stored.
pub(crate) fn key_package_key(hash_ref: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    loose_key(KEY_PACKAGE, hash_ref)
}

/// Where `group`'s message secrets are stored, the value that changes with every message.
pub(crate) fn message_secrets_key(group: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    group_key(group, MESSAGE_SECRETS, &())
}

type Key = Result<Vec<u8>, CodecError>;

fn group_key<G: Serialize>(group: &G, label: u8, rest: &impl Serialize) -> Key {
    let mut key = vec![GROUP];
    key.extend_from_slice(&codec::to_vec(group)?);
    key.push(label);
    key.extend_from_slice(&codec::to_vec(rest)?);
    Ok(key)
}

fn loose_key<K: Serialize>(label: u8, key: &K) -> Key {
    let mut out = vec![LOOSE, label];
    out.extend_from_slice(&codec::to_vec(key)?);
    Ok(out)
}

/// Values of which a group has one each.
macro_rules! group_values {
    ($($label:ident $entity:ident $write:ident $read:ident $delete:ident;)*) => {$(
        fn $write<G: traits::GroupId<CURRENT_VERSION>, V: traits::$entity<CURRENT_VERSION>>(
            &self,
            group_id: &G,
            value: &V,
        ) -> Result<(), Self::Error> {
            self.write(group_key(group_id, $label, &()), value)
        }

        fn $read<G: traits::GroupId<CURRENT_VERSION>, V: traits::$entity<CURRENT_VERSION>>(
            &self,
            group_id: &G,
        ) -> Result<Option<V>, Self::Error> {
            self.read(group_key(group_id, $label, &()))
        }

        fn $delete<G: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &G) -> Result<(), Self::Error> {
            self.delete(group_key(group_id, $label, &()))
        }
    )*};
}

impl<R: Rows> StorageProvider<CURRENT_VERSION> for MlsStorage<'_, R> {
    type Error = StorageFailed;

    group_values! {
        JOIN_CONFIG MlsGroupJoinConfig write_mls_join_config mls_group_join_config delete_group_config;
        TREE TreeSync write_tree tree delete_tree;
        INTERIM_HASH InterimTranscriptHash
            write_interim_transcript_hash interim_transcript_hash delete_interim_transcript_hash;
        CONTEXT GroupContext write_context group_context delete_context;
        CONFIRMATION_TAG ConfirmationTag write_confirmation_tag confirmation_tag delete_confirmation_tag;
        MESSAGE_SECRETS MessageSecrets write_message_secrets message_secrets delete_message_secrets;
        RESUMPTION_PSKS ResumptionPskStore
            write_resumption_psk_store resumption_psk_store delete_all_resumption_psk_secrets;
        OWN_LEAF_INDEX LeafNodeIndex write_own_leaf_index own_leaf_index delete_own_leaf_index;
        EPOCH_SECRETS GroupEpochSecrets
            write_group_epoch_secrets group_epoch_secrets delete_group_epoch_secrets;
    }

    fn write_group_state<V: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &G,
        value: &V,
    ) -> Result<(), Self::Error> {
        self.write(group_key(group_id, STATE, &()), value)
    }

    fn group_state<V: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<Option<V>, Self::Error> {
        self.read(group_key(group_id, STATE, &()))
    }

    fn delete_group_state<G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<(), Self::Error> {
        self.delete(group_key(group_id, STATE, &()))
    }

    fn append_own_leaf_node<G: traits::GroupId<CURRENT_VERSION>, V: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group_id: &G,
        leaf_node: &V,
    ) -> Result<(), Self::Error> {
        self.append(group_key(group_id, OWN_LEAF_NODES, &()), leaf_node)
    }

    fn own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>, V: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<V>, Self::Error> {
        self.read_list(group_key(group_id, OWN_LEAF_NODES, &()))
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<(), Self::Error> {
        self.delete(group_key(group_id, OWN_LEAF_NODES, &()))
    }

    fn queue_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        P: traits::ProposalRef<CURRENT_VERSION>,
        V: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group_id: &G,
        proposal_ref: &P,
        proposal: &V,
    ) -> Result<(), Self::Error> {
        self.write(group_key(group_id, PROPOSAL, proposal_ref), proposal)?;
        self.append(group_key(group_id, PROPOSAL_REFS, &()), proposal_ref)
    }

    fn queued_proposal_refs<G: traits::GroupId<CURRENT_VERSION>, P: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<P>, Self::Error> {
        self.read_list(group_key(group_id, PROPOSAL_REFS, &()))
    }

    fn queued_proposals<
        G: traits::GroupId<CURRENT_VERSION>,
        P: traits::ProposalRef<CURRENT_VERSION>,
        V: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group_id: &G,
    ) -> Result<Vec<(P, V)>, Self::Error> {
        self.queued_proposal_refs(group_id)?
            .into_iter()
            .map(|proposal_ref: P| {
                let proposal = self.read(group_key(group_id, PROPOSAL, &proposal_ref))?;
                let proposal = self.noting(|| proposal.ok_or(StorageError::ProposalMissing))?;
                Ok((proposal_ref, proposal))
            })
            .collect()
    }

    fn remove_proposal<G: traits::GroupId<CURRENT_VERSION>, P: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        group_id: &G,
        proposal_ref: &P,
    ) -> Result<(), Self::Error> {
        self.delete(group_key(group_id, PROPOSAL, proposal_ref))?;
        let refs = self.queued_proposal_refs::<G, P>(group_id)?;
        self.noting(|| {
            let removed = codec::to_vec(proposal_ref)?;
            let mut left = Value::default();
            for other in refs {
                let other = codec::to_vec(&other)?;
                if other != removed {
                    left.extend_from_slice(&other);
                }
            }
            self.put(group_key(group_id, PROPOSAL_REFS, &())?, Some(left));
            Ok(())
        })
    }

    fn clear_proposal_queue<G: traits::GroupId<CURRENT_VERSION>, P: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        group_id: &G,
    ) -> Result<(), Self::Error> {
        for proposal_ref in self.queued_proposal_refs::<G, P>(group_id)? {
            self.delete(group_key(group_id, PROPOSAL, &proposal_ref))?;
        }
        self.delete(group_key(group_id, PROPOSAL_REFS, &()))
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        V: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[V],
    ) -> Result<(), Self::Error> {
        self.write(group_key(group_id, EPOCH_KEY_PAIRS, &(epoch, leaf_index)), key_pairs)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        V: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<Vec<V>, Self::Error> {
        let key_pairs = self.read(group_key(group_id, EPOCH_KEY_PAIRS, &(epoch, leaf_index)))?;
        Ok(key_pairs.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<(), Self::Error> {
        self.delete(group_key(group_id, EPOCH_KEY_PAIRS, &(epoch, leaf_index)))
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        V: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &K,
        key_pair: &V,
    ) -> Result<(), Self::Error> {
        self.write(loose_key(SIGNATURE_KEY_PAIR, public_key), key_pair)
    }

    fn signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        V: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &K,
    ) -> Result<Option<V>, Self::Error> {
        self.read(loose_key(SIGNATURE_KEY_PAIR, public_key))
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<CURRENT_VERSION>>(
        &self,
        public_key: &K,
    ) -> Result<(), Self::Error> {
        self.delete(loose_key(SIGNATURE_KEY_PAIR, public_key))
    }

    fn write_encryption_key_pair<
        K: traits::EncryptionKey<CURRENT_VERSION>,
        V: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &K,
        key_pair: &V,
    ) -> Result<(), Self::Error> {
        self.write(loose_key(ENCRYPTION_KEY_PAIR, public_key), key_pair)
    }

    fn encryption_key_pair<
        V: traits::HpkeKeyPair<CURRENT_VERSION>,
        K: traits::EncryptionKey<CURRENT_VERSION>,
    >(
        &self,
        public_key: &K,
    ) -> Result<Option<V>, Self::Error> {
        self.read(loose_key(ENCRYPTION_KEY_PAIR, public_key))
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<CURRENT_VERSION>>(
        &self,
        public_key: &K,
    ) -> Result<(), Self::Error> {
        self.delete(loose_key(ENCRYPTION_KEY_PAIR, public_key))
    }

    fn write_key_package<
        K: traits::HashReference<CURRENT_VERSION>,
        V: traits::KeyPackage<CURRENT_VERSION>,
    >(
        &self,
        hash_ref: &K,
        key_package: &V,
    ) -> Result<(), Self::Error> {
        self.write(loose_key(KEY_PACKAGE, hash_ref), key_package)
    }

    fn key_package<K: traits::HashReference<CURRENT_VERSION>, V: traits::KeyPackage<CURRENT_VERSION>>(
        &self,
        hash_ref: &K,
    ) -> Result<Option<V>, Self::Error> {
        self.read(loose_key(KEY_PACKAGE, hash_ref))
    }

    fn delete_key_package<K: traits::HashReference<CURRENT_VERSION>>(
        &self,
        hash_ref: &K,
    ) -> Result<(), Self::Error> {
        self.delete(loose_key(KEY_PACKAGE, hash_ref))
    }

    fn write_psk<K: traits::PskId<CURRENT_VERSION>, V: traits::PskBundle<CURRENT_VERSION>>(
        &self,
        psk_id: &K,
        psk: &V,
    ) -> Result<(), Self::Error> {
        self.write(loose_key(PSK, psk_id), psk)
    }

    fn psk<V: traits::PskBundle<CURRENT_VERSION>, K: traits::PskId<CURRENT_VERSION>>(
        &self,
        psk_id: &K,
    ) -> Result<Option<V>, Self::Error> {
        self.read(loose_key(PSK, psk_id))
    }

    fn delete_psk<K: traits::PskId<CURRENT_VERSION>>(&self, psk_id: &K) -> Result<(), Self::Error> {
        self.delete(loose_key(PSK, psk_id))
    }
}

// First byte of a logical key.
const GROUP: u8 = b'g';
const LOOSE: u8 = b'k';

// Labels. They are stored: numbers are never reused.
const JOIN_CONFIG: u8 = 1;
const TREE: u8 = 2;
const INTERIM_HASH: u8 = 3;
const CONTEXT: u8 = 4;
const CONFIRMATION_TAG: u8 = 5;
const MESSAGE_SECRETS: u8 = 6;
const RESUMPTION_PSKS: u8 = 7;
const OWN_LEAF_INDEX: u8 = 8;
const EPOCH_SECRETS: u8 = 9;
const STATE: u8 = 10;
const OWN_LEAF_NODES: u8 = 11;
const PROPOSAL: u8 = 12;
const PROPOSAL_REFS: u8 = 13;
const EPOCH_KEY_PAIRS: u8 = 14;
const SIGNATURE_KEY_PAIR: u8 = 32;
const ENCRYPTION_KEY_PAIR: u8 = 33;
const KEY_PACKAGE: u8 = 34;
const PSK: u8 = 35;
