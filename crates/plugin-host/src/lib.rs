//! Loads plugins (`quicprochat-plugin-api`) and calls their hooks, with an API that is safe to use: the relay has no unsafe code of its own.
//!
//! Each plugin is tried in a forked child first, so that one that crashes, hangs or is no plugin is refused by name; what passes is loaded
//! for good. The first hook that is called starts the thread on which all of them run. [`Plugins::ask`] waits for an answer, within a bound;
//! [`Plugins::tell`] puts an event into a bounded queue and never waits. A hook that takes too long is abandoned with its thread,
//! its plugin is disabled, and a new thread goes on with the others.
//!
//! Only `library` (what is foreign: dlopen and the addresses it gives), `call` (the calls) and `trial` (fork) have unsafe code.

mod call;
mod elf;
mod event;
mod host;
mod library;
mod trial;

pub use event::{Event, Hook, Message};
pub use host::{HookTime, PluginStatus, Plugins, Rejection};

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A plugin that is configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plugin {
    /// Its file.
    pub path: PathBuf,
    /// Without it the relay must not run.
    pub required: bool,
    /// Its settings, a JSON object.
    pub settings: Option<String>,
}

impl Plugin {
    /// What it is called: the name of its file, without `lib` and `.so`.
    pub fn name(&self) -> String {
        name(&self.path)
    }
}

fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    // It goes into lines of a log.
    stem.strip_prefix("lib").unwrap_or(&stem).escape_debug().to_string()
}

/// Whether this program can load plugins at all. One that is linked statically has no dynamic linker.
pub const SUPPORTED: bool = !cfg!(target_feature = "crt-static");

/// Why a plugin is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no shared library.
    #[error("{} is not a shared library", .0.display())]
    NoLibrary(PathBuf),
    /// The file is for another machine.
    #[error("it is built for {plugin}, and this relay for {relay}")]
    Architecture {
        /// What the file says.
        plugin: String,
        /// What this program says.
        relay: String,
    },
    /// This program cannot load plugins.
    #[error("this relay is linked statically and cannot load plugins")]
    Static,
    /// The trial could not be made.
    #[error("it cannot be tried: {0}")]
    Trial(std::io::Error),
    /// It has been tried and does not work; the text says what happened.
    #[error("{0}")]
    Unfit(String),
}

/// What a trial may take: a plugin reads its files and opens its sockets in it.
pub const TRIAL_TIME: Duration = Duration::from_secs(5);
/// Events that wait for the plugins' thread, one for each plugin that wants it; what comes when so many wait is lost, and counted.
pub const MAX_EVENTS: usize = 256;
/// Bytes of a reason that a plugin gives.
pub const MAX_REASON: usize = 256;
/// Bytes of the thread's stack: as much as musl gives a thread, twice.
const STACK: usize = 256 * 1024;
