//! Callbacks by name. The lock is held to look one up or to change the table, never while a callback runs or is
//! dropped, so both may use the table themselves.

use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// `T` is what a name stands for.
pub(crate) struct Registry<T>(pub(crate) Mutex<BTreeMap<Box<str>, Arc<T>>>);

/// A panic came while the table was being changed.
#[derive(Debug, PartialEq)]
pub(crate) struct Poisoned;

impl<G> From<PoisonError<G>> for Poisoned {
    fn from(_: PoisonError<G>) -> Self {
        Self
    }
}

impl<T> Registry<T> {
    /// Puts `value` in; what was there before goes once nobody uses it any more.
    pub(crate) fn insert(&self, name: &str, value: T) -> Result<(), Poisoned> {
        let (name, value) = (name.into(), Arc::new(value));
        let replaced = self.0.lock()?.insert(name, value);
        // By now the lock is free.
        drop(replaced);
        Ok(())
    }

    /// Takes it out and says whether it was there; it goes once nobody uses it any more.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Poisoned> {
        let removed = self.0.lock()?.remove(name);
        Ok(removed.is_some())
    }

    /// A share of what `name` stands for, which stays valid if the name is given to another or taken out.
    pub(crate) fn share(&self, name: &str) -> Result<Option<Arc<T>>, Poisoned> {
        Ok(self.0.lock()?.get(name).cloned())
    }

    pub(crate) fn len(&self) -> Result<usize, Poisoned> {
        Ok(self.0.lock()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn empty<T>() -> Registry<T> {
        Registry(Mutex::new(BTreeMap::new()))
    }

    #[test]
    fn a_poisoned_lock_is_said_to_be() {
        let registry = empty::<u8>();
        let poison = std::panic::AssertUnwindSafe(|| {
            let _table = registry.0.lock().unwrap();
            panic!("with the table in hand");
        });
        assert!(std::panic::catch_unwind(poison).is_err());
        assert_eq!(registry.insert("x", 1), Err(Poisoned));
        assert_eq!(registry.remove("x"), Err(Poisoned));
        assert_eq!(registry.share("x"), Err(Poisoned));
        assert_eq!(registry.len(), Err(Poisoned));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u32),
        Remove(u8),
        Share(u8),
    }

    proptest! {
        /// Whatever is done with it, it holds what a map would, and drops everything that went in once.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(
            prop_oneof![
                (0..4_u8, any::<u32>()).prop_map(|(name, value)| Step::Insert(name, value)),
                (0..4_u8).prop_map(Step::Remove),
                (0..4_u8).prop_map(Step::Share),
            ],
            0..40,
        )) {
            struct Counted(u32, Arc<AtomicUsize>);
            impl Drop for Counted {
                fn drop(&mut self) {
                    self.1.fetch_add(1, Ordering::Relaxed);
                }
            }
            let (registry, mut model) = (empty(), std::collections::HashMap::new());
            let (mut inserted, dropped) = (0, Arc::new(AtomicUsize::new(0)));
            for step in steps {
                match step {
                    Step::Insert(name, value) => {
                        inserted += 1;
                        model.insert(name, value);
                        registry.insert(&name.to_string(), Counted(value, dropped.clone())).unwrap();
                    }
                    Step::Remove(name) => {
                        prop_assert_eq!(registry.remove(&name.to_string()), Ok(model.remove(&name).is_some()));
                    }
                    Step::Share(name) => {
                        let shared = registry.share(&name.to_string()).unwrap();
                        prop_assert_eq!(shared.map(|value| value.0), model.get(&name).copied());
                    }
                }
                prop_assert_eq!(registry.len(), Ok(model.len()));
                prop_assert_eq!(dropped.load(Ordering::Relaxed), inserted - model.len());
            }
        }
    }
}
