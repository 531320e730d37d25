//! What the relay gives up before it does anything: whoever finds a hole in it should not find a router behind it.
//!
//! Best effort, by design: what the kernel does not have is left out, and `status` says what was got. procd's own sandbox, where an
//! image has it, comes on top.

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use serde_json::{Value, json};
use std::path::Path;

/// What was got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox {
    no_new_privileges: bool,
    no_core_dumps: bool,
    no_capabilities: bool,
    landlock: &'static str,
}

impl Sandbox {
    /// Confines this thread and those it will start: it sees `writable` and `/proc`, opens no TCP connection, gains no privilege and
    /// leaves no dump of its memory.
    pub(crate) fn enter(writable: &[&Path]) -> Self {
        let no_core_dumps =
            prctl::set_dumpable(false).is_ok() & setrlimit(Resource::RLIMIT_CORE, 0, 0).is_ok();
        Self {
            no_core_dumps,
            no_capabilities: drop_capabilities().is_ok(),
            no_new_privileges: prctl::set_no_new_privs().is_ok(),
            landlock: match confine(writable) {
                Ok(RulesetStatus::FullyEnforced) => "full",
                Ok(RulesetStatus::PartiallyEnforced) => "partial",
                Ok(RulesetStatus::NotEnforced) => "not in this kernel",
                Err(error) => {
                    log::warn!("the relay is not confined to its data: {error}");
                    "failed"
                }
            },
        }
    }

    pub(crate) fn status(&self) -> Value {
        json!({
            "no_new_privileges": self.no_new_privileges,
            "no_core_dumps": self.no_core_dumps,
            "no_capabilities": self.no_capabilities,
            "landlock": self.landlock,
        })
    }
}

/// A port below 1024 is still to be opened.
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)?
        .into_iter()
        .filter(|&capability| capability == Capability::CAP_NET_BIND_SERVICE)
        .collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::default())
}

fn confine(writable: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    // The newest that the tests know; an older kernel enforces what it has.
    let abi = ABI::V5;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?;
    for path in writable {
        if let Ok(folder) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_all(abi)))?;
        }
    }
    // For the memory it takes.
    if let Ok(proc) = PathFd::new("/proc") {
        rules = rules.add_rule(PathBeneath::new(proc, AccessFs::from_read(abi)))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_data_can_be_opened() {
        let data = tempfile::tempdir().unwrap();
        // A thread of its own, which alone is confined.
        let confined = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let sandbox = Sandbox::enter(&[data.path()]);
                std::fs::write(data.path().join("file"), b"x").unwrap();
                std::fs::rename(data.path().join("file"), data.path().join("renamed")).unwrap();
                std::fs::read_to_string("/proc/self/status").unwrap();
                (sandbox.landlock, std::fs::read("/etc/passwd").is_err())
            });
            thread.join().unwrap()
        });
        assert!(
            [("full", true), ("partial", true), ("not in this kernel", false)].contains(&confined),
            "{confined:?}"
        );
    }
}
