//! A running relay has given up what it does not need, and says so.

#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relay(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc-relay"));
    command.arg("--data").arg(data);
    command
}

#[test]
fn a_running_relay_is_confined() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("metrics/relay.prom");
    std::fs::create_dir(metrics.parent().unwrap()).unwrap();
    let data = dir.path().join("data");
    let mut command = relay(&data);
    command.args(["--listen", "127.0.0.1:0", "--metrics-interval", "1s", "--metrics-file"]).arg(&metrics);
    let mut relay_process = Relay(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(relay_process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let output = relay(&data).args(["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sandbox = &status["sandbox"];
    for part in ["no_new_privileges", "no_core_dumps", "no_capabilities"] {
        assert_eq!(sandbox[part], true, "{part}: {sandbox}");
    }
    assert_ne!(sandbox["landlock"], "failed");
    assert!(status["memory_bytes"].as_u64().unwrap() > 0);

    // What it says of itself is true of every thread.
    let proc = format!("/proc/{}", relay_process.0.id());
    for task in std::fs::read_dir(format!("{proc}/task")).unwrap() {
        let told = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field =
            |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("NoNewPrivs:"), "1");
        let bind_only = 1 << 10;
        assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap() & !bind_only, 0);
    }
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    // It still writes where it must.
    let written = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        metrics.exists()
    });
    assert!(written, "no metrics");
}
