//! What is kept for each stream or push.

use std::collections::BTreeMap;

/// By number. Boxed, so that all these maps are the same machine code, 8 KB each, of which a linker that folds equal functions keeps
/// one.
pub(crate) type Map<T> = BTreeMap<u64, Box<T>>;
