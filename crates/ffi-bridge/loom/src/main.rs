//! Every order in which threads can meet in the registry. The registry is the library's own source, on loom's mutex and Arc.

#[path = "../../src/registry.rs"]
mod registry;

mod sync {
    pub(crate) use loom::sync::{Arc, Mutex};
}

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use registry::Registry;
use std::collections::BTreeMap;
use sync::{Arc, Mutex};

/// A callback that notices being called after it was dropped, and uses the registry while it is dropped.
struct Callback {
    answer: usize,
    registry: Arc<Registry<Callback>>,
    alive: Arc<AtomicUsize>,
}

impl Callback {
    fn call(&self) -> usize {
        assert!(self.alive.load(Ordering::SeqCst) > 0);
        self.answer
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        // With the lock held this would be a deadlock.
        self.registry.len().unwrap();
    }
}

struct Fixture {
    registry: Arc<Registry<Callback>>,
    alive: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            registry: Arc::new(Registry(Mutex::new(BTreeMap::new()))),
            alive: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn insert(&self, answer: usize) {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let (registry, alive) = (self.registry.clone(), self.alive.clone());
        self.registry.insert("name", Callback { answer, registry, alive }).unwrap();
    }

    fn call(&self) -> Option<usize> {
        self.registry.share("name").unwrap().map(|callback| callback.call())
    }

    fn spawn(self: &std::sync::Arc<Self>, run: impl FnOnce(&Self) + 'static) -> thread::JoinHandle<()> {
        let fixture = self.clone();
        thread::spawn(move || run(&fixture))
    }
}

/// Runs `model` in all orders; at its end, whatever is still registered is all that is alive.
fn all_orders(name: &str, model: impl Fn(&std::sync::Arc<Fixture>) + Send + Sync + 'static) {
    loom::model(move || {
        let fixture = std::sync::Arc::new(Fixture::new());
        model(&fixture);
        assert_eq!(fixture.alive.load(Ordering::SeqCst), fixture.registry.len().unwrap());
        fixture.registry.remove("name").unwrap();
        assert_eq!(fixture.alive.load(Ordering::SeqCst), 0);
    });
    println!("{name}: in all orders");
}

fn main() {
    all_orders("called while it is taken out", |fixture| {
        fixture.insert(1);
        let caller = fixture.spawn(|f| assert!(matches!(f.call(), None | Some(1))));
        assert_eq!(fixture.registry.remove("name"), Ok(true));
        caller.join().unwrap();
    });
    all_orders("called while it is replaced", |fixture| {
        fixture.insert(1);
        let caller = fixture.spawn(|f| assert!(matches!(f.call(), Some(1 | 2))));
        fixture.insert(2);
        caller.join().unwrap();
        assert_eq!(fixture.call(), Some(2));
    });
    all_orders("taken out twice", |fixture| {
        fixture.insert(1);
        let first = Arc::new(AtomicUsize::new(0));
        let counter = first.clone();
        let other = fixture.spawn(move |f| {
            counter.fetch_add(usize::from(f.registry.remove("name").unwrap()), Ordering::SeqCst);
        });
        first.fetch_add(usize::from(fixture.registry.remove("name").unwrap()), Ordering::SeqCst);
        other.join().unwrap();
        assert_eq!(first.load(Ordering::SeqCst), 1);
    });
    all_orders("registered twice, called and taken out", |fixture| {
        let writer = fixture.spawn(|f| f.insert(1));
        let remover = fixture.spawn(|f| {
            f.registry.remove("name").unwrap();
        });
        fixture.insert(2);
        assert!(matches!(fixture.call(), None | Some(1 | 2)));
        writer.join().unwrap();
        remover.join().unwrap();
    });
    println!("4 checks passed");
}
