//! A relay that really runs, and people with state folders and one password.

#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A relay on a free port, gone with its owner.
pub struct Relay {
    pub dir: PathBuf,
    pub address: String,
    pub process: Child,
}

impl Relay {
    pub fn start(dir: &Path, port: u16, more: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_qpc")).with_file_name("qpc-relay");
        assert!(program.exists(), "{} is missing: run `cargo build --workspace` first", program.display());
        let mut process = Command::new(program)
            .arg("--data")
            .arg(dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        while !address.starts_with("qpc://") {
            address.clear();
            assert_ne!(lines.read_line(&mut address).unwrap(), 0, "the relay ended");
        }
        Self { dir: dir.to_owned(), address: address.trim().to_owned(), process }
    }

    /// SIGTERM: it ends cleanly.
    pub fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
        assert!(!self.dir.join("control.sock").exists());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_qpc")).with_file_name("qpc-relay"));
        command.arg("--data").arg(&self.dir).args(arguments);
        command
    }

    pub fn admin(&self, arguments: &[&str]) -> (i32, String) {
        let (status, out, _) = outcome(self.command(arguments).output().unwrap());
        (status, out)
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin(&["status", "--json"]).1).unwrap()
    }

    pub fn port(&self) -> u16 {
        let rest = self.address.strip_prefix("qpc://127.0.0.1:").unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// SIGKILL, and the same relay again.
    pub fn kill_and_restart(mut self) -> Self {
        let port = self.port();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Self::start(&self.dir.clone(), port, &[])
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct World {
    pub dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), "correct horse\n").unwrap();
        Self { dir }
    }

    pub fn relay(&self) -> Relay {
        Relay::start(&self.dir.path().join("relay"), 0, &[])
    }

    pub fn qpc(&self, relay: &Relay, state: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
        command
            .args(["--relay", &relay.address, "--state"])
            .arg(self.dir.path().join(state))
            .arg("--password-file")
            .arg(self.dir.path().join("password"))
            .args(arguments)
            .env_remove("QPC_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end: status, standard output, standard error.
    pub fn run(&self, relay: &Relay, state: &str, arguments: &[&str]) -> (i32, String, String) {
        outcome(self.qpc(relay, state, arguments).output().unwrap())
    }

    pub fn ok(&self, relay: &Relay, state: &str, arguments: &[&str]) -> String {
        let (status, out, err) = self.run(relay, state, arguments);
        assert_eq!(status, 0, "{arguments:?}: {err}");
        out
    }
}

pub fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub fn with_input(mut command: Command, input: &[u8]) -> (i32, String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A child that refuses early does not read it all.
    let _ = child.stdin.take().unwrap().write_all(input);
    outcome(child.wait_with_output().unwrap())
}
