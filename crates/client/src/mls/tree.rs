//! Ratchet trees cut into nodes, so that a commit carries only those it changed.
//!
//! openmls gives and takes a tree as one vector (RFC 9420 section 7.8, `optional<Node> ratchet_tree<V>`). Here it is
//! cut at the boundaries of its nodes, which are otherwise left as they are: whether a node makes sense is openmls' to
//! judge.

use qpc_proto::limits::{MAX_TREE_NODE, MAX_TREE_NODES};
use qpc_proto::message::{Tree, TreeNode};
use qpc_proto::wire::{Blob, List};
use thiserror::Error;

/// The nodes of a ratchet tree, encoded; `None` is a blank.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Nodes(Vec<Option<Vec<u8>>>);

impl Nodes {
    /// Cuts the encoding of a `ratchet_tree`.
    pub(crate) fn from_tls(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut reader = Reader(bytes);
        let mut vector = Reader(reader.vector()?);
        if !reader.0.is_empty() {
            return Err(TreeError::Malformed);
        }
        let mut nodes = Vec::new();
        while !vector.0.is_empty() {
            if nodes.len() == MAX_TREE_NODES {
                return Err(TreeError::TooLarge);
            }
            nodes.push(match vector.u8()? {
                0 => None,
                1 => Some(vector.node()?.to_vec()),
                _ => return Err(TreeError::Malformed),
            });
        }
        Ok(Self(nodes))
    }

    /// The encoding as a `ratchet_tree`.
    pub(crate) fn to_tls(&self) -> Result<Vec<u8>, TreeError> {
        let mut body = Vec::new();
        for node in &self.0 {
            body.push(node.is_some().into());
            body.extend_from_slice(node.as_deref().unwrap_or_default());
        }
        let length = u32::try_from(body.len()).map_err(|_| TreeError::TooLarge)?;
        let mut out = match length {
            0..0x40 => vec![length as u8],
            0x40..0x4000 => (length as u16 | 0x4000).to_be_bytes().to_vec(),
            0x4000..0x4000_0000 => (length | 0x8000_0000).to_be_bytes().to_vec(),
            _ => return Err(TreeError::TooLarge),
        };
        out.append(&mut body);
        Ok(out)
    }

    /// The whole tree, for a relay that has none.
    pub(crate) fn whole(&self) -> Result<Tree, TreeError> {
        self.changes_from(&Self::default())
    }

    /// What turns `old` into this tree.
    pub(crate) fn changes_from(&self, old: &Self) -> Result<Tree, TreeError> {
        let mut nodes = Vec::new();
        for (index, node) in (0u32..).zip(&self.0) {
            if old.0.get(index as usize).unwrap_or(&None) != node {
                let node = Blob::new(node.clone().unwrap_or_default()).map_err(|_| TreeError::TooLarge)?;
                nodes.push(TreeNode { index, node });
            }
        }
        let nodes = List::new(nodes).map_err(|_| TreeError::TooLarge)?;
        Ok(Tree { width: self.0.len() as u32, nodes })
    }

    /// The tree that a relay sends whole.
    pub(crate) fn from_whole(tree: &Tree) -> Result<Self, TreeError> {
        let width = tree.width as usize;
        if width > MAX_TREE_NODES {
            return Err(TreeError::TooLarge);
        }
        let mut nodes = vec![None; width];
        for TreeNode { index, node } in tree.nodes.iter() {
            let slot = nodes.get_mut(*index as usize).ok_or(TreeError::Malformed)?;
            *slot = (!node.is_empty()).then(|| node.to_vec());
        }
        Ok(Self(nodes))
    }
}

/// Why bytes are not a ratchet tree.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum TreeError {
    /// The bytes are not nodes.
    #[error("a ratchet tree is malformed")]
    Malformed,
    /// There are more or larger nodes than this program's groups have.
    #[error("a ratchet tree is too large")]
    TooLarge,
}

/// Reads TLS presentation language as far as the structure of a `Node` needs.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn node(&mut self) -> Result<&'a [u8], TreeError> {
        let start = self.0;
        match self.u8()? {
            NODE_LEAF => self.leaf()?,
            // Encryption key, parent hash, unmerged leaves.
            NODE_PARENT => self.vectors(3)?,
            _ => return Err(TreeError::Malformed),
        }
        let node = &start[..start.len() - self.0.len()];
        match node.len() {
            0..=MAX_TREE_NODE => Ok(node),
            _ => Err(TreeError::TooLarge),
        }
    }

    fn leaf(&mut self) -> Result<(), TreeError> {
        // Encryption key, signature key.
        self.vectors(2)?;
        // Basic and X.509 credentials are both one vector behind their type.
        self.take(2)?;
        self.vectors(1)?;
        // Capabilities: versions, cipher suites, extensions, proposals, credentials.
        self.vectors(5)?;
        match self.u8()? {
            SOURCE_KEY_PACKAGE => drop(self.take(LIFETIME)?),
            SOURCE_UPDATE => {}
            SOURCE_COMMIT => self.vectors(1)?,
            _ => return Err(TreeError::Malformed),
        }
        // Extensions, signature.
        self.vectors(2)
    }

    fn vectors(&mut self, count: usize) -> Result<(), TreeError> {
        (0..count).try_for_each(|_| self.vector().map(drop))
    }

    fn vector(&mut self) -> Result<&'a [u8], TreeError> {
        let first = self.u8()?;
        let more = match first >> 6 {
            0 => 0,
            1 => 1,
            2 => 3,
            _ => return Err(TreeError::Malformed),
        };
        let length = self.take(more)?.iter().fold(usize::from(first & 0x3f), |n, b| n << 8 | usize::from(*b));
        self.take(length)
    }

    fn u8(&mut self) -> Result<u8, TreeError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TreeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TreeError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

const NODE_LEAF: u8 = 1;
const NODE_PARENT: u8 = 2;
const SOURCE_KEY_PACKAGE: u8 = 1;
const SOURCE_UPDATE: u8 = 2;
const SOURCE_COMMIT: u8 = 3;
/// Two times of eight bytes.
const LIFETIME: usize = 16;

#[cfg(test)]
mod tests {
    use openmls::treesync::RatchetTreeIn;
    use proptest::prelude::*;
    use tls_codec::{Deserialize as _, Serialize as _};

    use super::*;
    use crate::mls::tests::{Update, group_of};

    fn apply(old: &Nodes, tree: &Tree) -> Nodes {
        let mut nodes = old.0.clone();
        nodes.resize(tree.width as usize, None);
        for TreeNode { index, node } in tree.nodes.iter() {
            nodes[*index as usize] = (!node.is_empty()).then(|| node.to_vec());
        }
        Nodes(nodes)
    }

    #[test]
    fn trees_of_every_shape_survive() {
        let mut old = Nodes::default();
        for update in [Update::None, Update::Creator, Update::Remove(3), Update::Remove(6)] {
            let bytes = group_of(7, update).export_ratchet_tree().tls_serialize_detached().unwrap();
            let nodes = Nodes::from_tls(&bytes).unwrap();
            assert_eq!(nodes.to_tls().unwrap(), bytes);
            assert_eq!(Nodes::from_whole(&nodes.whole().unwrap()).unwrap(), nodes);
            assert_eq!(apply(&old, &nodes.changes_from(&old).unwrap()), nodes);
            RatchetTreeIn::tls_deserialize_exact(nodes.to_tls().unwrap()).unwrap();
            old = nodes;
        }
    }

    #[test]
    fn a_change_names_only_what_changed() {
        let leaf = |n| Some(vec![NODE_LEAF, n]);
        let old = Nodes(vec![leaf(1), Some(vec![NODE_PARENT]), leaf(2), None, leaf(3)]);
        let new = Nodes(vec![leaf(1), None, leaf(4)]);
        let tree = new.changes_from(&old).unwrap();
        assert_eq!((tree.width, tree.nodes.len()), (3, 2));
        assert_eq!(apply(&old, &tree), new);
        assert_eq!(apply(&new, &old.changes_from(&new).unwrap()), old);
    }

    #[test]
    fn impossible_trees_are_refused() {
        let node = TreeNode { index: 5, node: Blob::new(vec![1]).unwrap() };
        let tree = Tree { width: 5, nodes: List::new(vec![node]).unwrap() };
        assert_eq!(Nodes::from_whole(&tree), Err(TreeError::Malformed));
        let tree = Tree { width: u32::MAX, nodes: List::default() };
        assert_eq!(Nodes::from_whole(&tree), Err(TreeError::TooLarge));
        let blanks = Nodes(vec![None; MAX_TREE_NODES + 1]).to_tls().unwrap();
        assert_eq!(Nodes::from_tls(&blanks), Err(TreeError::TooLarge));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Nodes::from_tls(&bytes);
        }
    }
}
