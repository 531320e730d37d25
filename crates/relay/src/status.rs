//! What the relay says of itself, to its owner and to monitoring. Field names are stable.

use crate::control::About;
use crate::net::hub::Hub;
use crate::service::Counters;
use crate::store::Store;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything, as JSON.
pub(crate) fn status(hub: &Hub, about: &About) -> Value {
    let now = hub.clock().now();
    let service = hub.service();
    let summary = service.summary();
    let stats = service.store().stats();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": summary.generation.to_string(),
        "address": about.address,
        "listen": about.listen,
        "uptime_seconds": now.uptime.as_secs(),
        "clock_believed": now.wall.is_some(),
        "connections": hub.connections,
        "sessions": summary.sessions,
        "accounts": summary.accounts,
        "devices": summary.devices,
        "conversations": summary.conversations,
        "queued_messages": summary.queued_messages,
        "queued_bytes": summary.queued_bytes,
        "memory_bytes": resident_bytes(),
        "sandbox": about.sandbox.status(),
        "plugins": about.plugins.status(),
        "plugin_events_lost": about.plugins.lost(),
        "store": {
            "bytes_on_disk": stats.disk_bytes,
            "live_bytes": stats.live_bytes,
            "segments": stats.segments,
            "bytes_written": stats.bytes_written,
            "syncs": stats.syncs,
            "read_only": stats.read_only,
        },
        "counters": counters(service.counters()).map(|(name, value)| (name.to_owned(), value.into()))
            .into_iter().collect::<serde_json::Map<String, Value>>(),
    })
}

/// The same for people.
pub(crate) fn readable(status: &Value) -> String {
    let mut out = String::new();
    put(status, "", &mut out);
    out
}

/// The same for Prometheus.
pub(crate) fn metrics(status: &Value) -> String {
    let mut out = String::new();
    let gauges = [
        "connections",
        "sessions",
        "accounts",
        "devices",
        "conversations",
        "queued_messages",
        "queued_bytes",
    ];
    let gauges =
        gauges.into_iter().chain(["memory_bytes", "uptime_seconds"]).map(|name| (name, &status[name]));
    let store = ["bytes_on_disk", "live_bytes", "segments"].map(|name| (name, &status["store"][name]));
    for (prefix, name, value) in gauges
        .map(|(name, value)| ("", name, value))
        .chain(store.map(|(name, value)| ("store_", name, value)))
    {
        let _ = writeln!(out, "# TYPE qpc_relay_{prefix}{name} gauge\nqpc_relay_{prefix}{name} {value}");
    }
    let written = ["bytes_written", "syncs"].map(|name| (format!("store_{name}"), &status["store"][name]));
    let counted =
        status["counters"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value));
    for (name, value) in counted.chain(written) {
        let _ = writeln!(out, "# TYPE qpc_relay_{name}_total counter\nqpc_relay_{name}_total {value}");
    }
    out
}

/// A file that is written anew all the time, for monitoring.
pub(crate) struct MetricsFile {
    file: PathBuf,
    every: Duration,
    /// When it is next written.
    pub(crate) due: Instant,
    failed: bool,
}

impl MetricsFile {
    pub(crate) fn new(file: PathBuf, every: Duration, now: Instant) -> Self {
        Self { file, every, due: now, failed: false }
    }

    /// Writes it if it is time.
    pub(crate) fn turn(&mut self, hub: &Hub, about: &About, now: Instant) {
        if self.due > now {
            return;
        }
        self.due = now + self.every;
        match replace(&self.file, &metrics(&status(hub, about))) {
            Ok(()) => self.failed = false,
            // Once, not every minute.
            Err(error) if !self.failed => {
                log::warn!("cannot write {}: {error}", self.file.display());
                self.failed = true;
            }
            Err(_) => {}
        }
    }
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    io::Write::write_all(&mut out, text.as_bytes())?;
    std::fs::rename(&temporary, file)
}

fn put(value: &Value, prefix: &str, out: &mut String) {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => put(value, &format!("{prefix}{name}."), out),
            Value::String(text) => drop(writeln!(out, "{prefix}{name}: {text}")),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                let _ = writeln!(out, "{prefix}{name}: {}", items.join(" "));
            }
            other => drop(writeln!(out, "{prefix}{name}: {other}")),
        }
    }
}

fn counters(counters: &Counters) -> [(&'static str, u64); 18] {
    [
        ("requests", counters.requests),
        ("refused", counters.refused),
        ("rate_limited", counters.rate_limited),
        ("registrations", counters.registrations),
        ("login_attempts", counters.login_attempts),
        ("logins", counters.logins),
        ("login_failures", counters.login_failures),
        ("sessions", counters.sessions),
        ("messages", counters.messages),
        ("queue_full", counters.queue_full),
        ("commits", counters.commits),
        ("commit_conflicts", counters.commit_conflicts),
        ("key_packages", counters.key_packages),
        ("resyncs", counters.resyncs),
        ("expired", counters.expired),
        ("replays", counters.replays),
        ("generations", counters.generations),
        ("store_errors", counters.store_errors),
    ]
}

/// Resident memory, or 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
