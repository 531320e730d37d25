//! Lines on stderr, where a supervisor picks them up: no time and no colour, both are its business.

use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Installs the logger; later calls only set the level.
pub(crate) fn install(level: LevelFilter) {
    // It fails where a logger is installed already, and then that one is to stay.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries tell more than anybody wants to read.
        metadata.target().starts_with("qpc_") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            // There is nowhere to report that stderr is gone.
            let _ = writeln!(std::io::stderr().lock(), "qpc-relay: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
