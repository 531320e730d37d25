//! What is kept for each stream or push.

use std::collections::BTreeMap;

/// By number. Boxed, so that all these maps are the same machine code, of which the linker keeps one; there are eleven, of 8 KB each.
pub(crate) type Map<T> = BTreeMap<u64, Box<T>>;
