//! `qpc agent` and the programs that go through it, as processes, against a relay that really runs.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Relay, World, outcome};
use qpc_agent::local::{Local, LocalError};
use qpc_agent::protocol::{
    Answer, AskStatus, Done, FromAgent, FromProgram, Item, ListContacts, MarkRead, Notify, Receive, Request,
};
use qpc_client::{ConversationId, DeviceId, Durability, Kind, MessageId, UserName};
use qpc_proto::wire::{Blob, Message, Text};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The agent of a user, gone with its owner.
struct Agent {
    run_dir: PathBuf,
    process: Child,
}

impl Agent {
    fn start(world: &World, relay: &Relay, user: &str, more: &[&str]) -> Self {
        Self::start_with(world, relay, user, more, Stdio::inherit())
    }

    fn start_with(world: &World, relay: &Relay, user: &str, more: &[&str], log: Stdio) -> Self {
        let run_dir = world.dir.path().join(format!("run-{user}"));
        if !run_dir.exists() {
            fs::create_dir(&run_dir).unwrap();
            fs::set_permissions(&run_dir, Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = world.qpc(relay, user, &["--user", user, "agent"]);
        let process = command.arg("--run-dir").arg(&run_dir).args(more).stderr(log).spawn().unwrap();
        let mut agent = Self { run_dir, process };
        while agent.try_status().is_none() {
            assert!(agent.process.try_wait().unwrap().is_none(), "the agent has ended");
            thread::sleep(Duration::from_millis(50));
        }
        agent
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
        command
            .args(arguments)
            .env("QPC_RUN_DIR", &self.run_dir)
            .env_remove("QPC_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(self.command(arguments).output().unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (status, out, err) = self.run(arguments);
        assert_eq!(status, 0, "{arguments:?}: {err}");
        out
    }

    fn try_status(&self) -> Option<serde_json::Value> {
        let (status, out, _) = self.run(&["status"]);
        (status == 0).then(|| serde_json::from_str(&out).unwrap())
    }

    fn status(&self) -> serde_json::Value {
        self.try_status().unwrap()
    }

    fn until(&self, what: impl Fn(&serde_json::Value) -> bool) {
        while !what(&self.status()) {
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM: it ends cleanly, and its socket is gone.
    fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
        assert!(!self.run_dir.join("qpc").exists());
    }

    fn connect(&self) -> Local {
        Local::connect(&self.run_dir).unwrap()
    }

    /// Bytes of resident memory, and open files.
    fn costs(&self) -> (u64, usize) {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count();
        (self.status()["memory"].as_u64().unwrap(), files)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that runs until it is told to stop, gone with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn people(world: &World, relay: &Relay, users: &[&str]) {
    for user in users {
        world.ok(relay, user, &["register", user]);
    }
}

fn bodies(lines: &str) -> Vec<String> {
    let body =
        |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].as_str().unwrap().to_owned();
    lines.lines().map(body).collect()
}

#[test]
fn programs_share_one_session() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    alice.ok(&["send", "bob", "hello bob"]);
    assert_eq!(world.ok(&relay, "bob", &["--user", "bob", "receive"]), "alice: hello bob\n");
    for text in ["one", "two"] {
        world.ok(&relay, "bob", &["--user", "bob", "send", "alice", text]);
    }
    alice.until(|status| status["counters"]["received"] == 2);
    assert_eq!(alice.ok(&["receive"]), "bob: one\nbob: two\n");
    // What was read is kept for who has a cursor.
    assert_eq!(alice.run(&["receive", "--timeout", "0"]).0, 7);
    let all = alice.ok(&["receive", "--since", "0", "--json"]);
    assert_eq!(bodies(&all), ["one", "two"]);
    let first: serde_json::Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    let cursor = first["cursor"].to_string();
    assert_eq!(alice.ok(&["receive", "--since", &cursor]), "bob: two\n");
    let (status, _, err) = alice.run(&["receive", "--since", "1000"]);
    assert!(status == 2 && err.contains("no message 1000"), "{err}");

    assert!(alice.ok(&["contacts"]).starts_with("bob trusted "));
    let number = world.ok(&relay, "bob", &["--user", "bob", "safety-number", "alice"]);
    assert_eq!(alice.ok(&["safety-number", "bob"]), number);
    assert_eq!(alice.run(&["safety-number", "nobody"]).0, 6);
    let devices = alice.ok(&["devices"]);
    assert!(devices.lines().count() == 1 && devices.contains("(this one)"), "{devices}");
    assert_eq!(alice.run(&["accept", "bob"]).0, 1);
    let (status, _, err) = alice.run(&["send", "nobody", "x"]);
    assert!(status == 6 && err.contains("no account named nobody"), "{err}");
    assert_eq!(alice.run(&["send", "alice", "x"]).0, 2);

    let status = alice.status();
    assert_eq!((&status["state"], &status["user"]), (&"connected".into(), &"alice".into()));
    assert_eq!((&status["relay"], &status["queued"]), (&relay.address.as_str().into(), &0.into()));
    assert!(status["connected_for"].is_u64() && status["trouble"].is_null());

    // Who says whose session to use has one of his own, if it is free.
    let (status, _, err) = world.run(&relay, "alice", &["--user", "alice", "receive"]);
    assert!(status == 8 && err.contains("in use") && !err.contains("ends in"), "{err}");
    assert_eq!(alice.run(&["--no-agent", "contacts"]).0, 2);
    alice.stop();
    assert_eq!(world.ok(&relay, "bob", &["--user", "bob", "send", "alice", "three"]), "");
    // And finds what nobody has read.
    assert_eq!(world.ok(&relay, "alice", &["--user", "alice", "receive"]), "bob: three\n");
}

#[test]
fn nobody_has_to_read_the_log() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let alice = Agent::start_with(&world, &relay, "alice", &[], full());
    alice.until(|status| status["state"] == "connected");
    alice.ok(&["send", "bob", "hello"]);
    // Nor what a command says of its failure.
    let status = alice.command(&["send", "nobody", "hello"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(alice.run(&["send", "nobody", "hello"]).0));
    alice.stop();
}

#[test]
fn a_damaged_key_file_takes_the_password_again() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    alice.stop();
    let of_relay = fs::read_dir(world.dir.path().join("alice")).unwrap().next().unwrap().unwrap().path();
    let key_file = of_relay.join("alice@").join("state.key");
    fs::write(&key_file, "short").unwrap();
    let alice = Agent::start(&world, &relay, "alice", &[]);
    assert_eq!(fs::metadata(key_file).unwrap().len(), 32);
    // It is still the same device.
    alice.until(|status| status["state"] == "connected");
    alice.until(|status| status["state"] == "connected");
    assert_eq!(alice.ok(&["devices"]).lines().count(), 1);
    alice.stop();
}

/// An agent that cannot go on: it has said `reason`, and is there all the same until it is told to end.
fn waits_before_it_ends(agent: &mut Program, log: &Path, reason: &str, status: i32) {
    while !fs::read_to_string(log).unwrap().contains("; ends in 5 minutes\n") {
        assert!(agent.0.try_wait().unwrap().is_none(), "it has ended");
        thread::sleep(Duration::from_millis(50));
    }
    let said = fs::read_to_string(log).unwrap();
    assert!(said.ends_with(&format!("qpc agent: {reason}; ends in 5 minutes\n")), "{said}");
    thread::sleep(Duration::from_millis(500));
    assert!(agent.0.try_wait().unwrap().is_none(), "it has ended");
    let pid = agent.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(agent.0.wait().unwrap().code(), Some(status));
    assert!(fs::read_to_string(log).unwrap().ends_with(&format!("qpc: {reason}\n")));
}

#[test]
fn who_is_refused_does_not_come_back_at_once() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice"]);
    let run_dir = world.dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    fs::set_permissions(&run_dir, Permissions::from_mode(0o755)).unwrap();
    let log = world.dir.path().join("log");
    let start = |state: &str| {
        let mut command = world.qpc(&relay, state, &["--user", "alice", "agent", "--run-dir"]);
        Program(command.arg(&run_dir).stderr(File::create(&log).unwrap()).spawn().unwrap())
    };
    let password = world.dir.path().join("password");
    fs::write(&password, "another one").unwrap();
    waits_before_it_ends(&mut start("new"), &log, "user name or password is wrong", 5);

    // While it serves programs.
    fs::write(&password, "correct horse").unwrap();
    let mut agent = start("alice");
    while !fs::read_to_string(&log).unwrap().contains("connected to the relay") {
        thread::sleep(Duration::from_millis(50));
    }
    // Of what is wrong here the relay hears nothing: that is tried again in a moment.
    let other = world.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let arguments = ["--user", "alice", "agent", "--run-dir", other.to_str().unwrap()];
    let (status, _, err) = world.run(&relay, "alice", &arguments);
    assert!(status == 8 && err.contains("in use") && !err.contains("ends in"), "{err}");

    let devices = world.ok(&relay, "second", &["--user", "alice", "devices"]);
    let own = devices.lines().find(|line| !line.contains("(this one)")).unwrap();
    world.ok(&relay, "second", &["--user", "alice", "revoke", own.split(' ').next().unwrap()]);
    let reason = "this device was revoked; log in with the password to make it a new one";
    waits_before_it_ends(&mut agent, &log, reason, 4);
}

#[test]
fn where_no_agent_runs() {
    let world = World::new();
    let run_dir = world.dir.path().join("run");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
        outcome(command.args(arguments).arg("--run-dir").arg(&run_dir).stdin(Stdio::null()).output().unwrap())
    };
    for arguments in [&["status"][..], &["notify", "bob", "wan", "x"], &["--agent", "send", "bob", "x"]] {
        let (status, out, err) = run(arguments);
        assert!(status == 3 && out.is_empty() && err.contains("no agent"), "{arguments:?}: {err}");
    }
    // Nor does one run in a directory where anybody could put his own socket.
    let relay = world.relay();
    let agent = ["--relay", &relay.address, "--user", "alice", "agent"];
    assert!(run(&agent).2.contains("made beforehand"));
    fs::create_dir(&run_dir).unwrap();
    fs::set_permissions(&run_dir, Permissions::from_mode(0o1777)).unwrap();
    let (status, _, err) = run(&agent);
    assert!(status == 1 && err.contains("writable by others"), "{err}");
}

#[test]
fn who_follows_along_gets_each_message_once_though_the_agent_is_killed() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let bob = Agent::start(&world, &relay, "bob", &[]);
    let mut alice = Agent::start(&world, &relay, "alice", &[]);
    let mut following = alice.command(&["receive", "--follow", "--json"]);
    let mut following = Program(following.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    for n in 0..4 {
        bob.ok(&["send", "alice", &format!("before {n}")]);
        assert_eq!(bodies(&lines.next().unwrap().unwrap()), [format!("before {n}")]);
        alice.kill();
        bob.ok(&["send", "alice", &format!("meanwhile {n}")]);
        alice = Agent::start(&world, &relay, "alice", &[]);
        assert_eq!(bodies(&lines.next().unwrap().unwrap()), [format!("meanwhile {n}")]);
    }
    drop(following);
    assert_eq!(bodies(&alice.ok(&["receive", "--since", "0", "--json"])).len(), 8);
}

#[test]
fn who_follows_along_ends_when_nobody_reads_it_any_more() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    let through_agent = alice.command(&["receive", "--follow"]);
    let by_itself = world.qpc(&relay, "bob", &["--user", "bob", "receive", "--follow"]);
    for (recipient, mut command) in [("alice", through_agent), ("bob", by_itself)] {
        let mut following = Program(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let sender = if recipient == "alice" { "bob" } else { "alice" };
        match recipient {
            "alice" => drop(world.ok(&relay, "bob", &["--user", sender, "send", recipient, "hello"])),
            _ => drop(alice.ok(&["send", recipient, "hello"])),
        }
        let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), format!("{sender}: hello"));
        drop(lines);
        assert_eq!(following.0.wait().unwrap().code(), Some(1), "{recipient}");
    }
    // Nor does it wait for an agent to come back.
    let mut following = alice.command(&["receive", "--follow"]);
    let mut following = Program(following.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    alice.until(|status| status["programs"] == 2);
    alice.kill();
    drop(following.0.stdout.take());
    assert_eq!(following.0.wait().unwrap().code(), Some(1));
}

#[test]
fn what_was_printed_counts_as_read_though_the_agent_went() {
    fn asked(program: &mut UnixStream) -> (u32, Request) {
        let mut header = [0; 4];
        program.read_exact(&mut header).unwrap();
        let mut message = vec![0; u32::from_be_bytes(header) as usize];
        program.read_exact(&mut message).unwrap();
        let asked = FromProgram::decode(&message).unwrap();
        (asked.id, asked.request.unwrap())
    }
    fn say(program: &mut UnixStream, id: u32, answer: impl Into<Answer>) {
        let message = FromAgent { id, answer: Some(answer.into()) }.encode();
        let length = u32::try_from(message.len()).unwrap();
        program.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
    }
    let item = Item {
        position: 7,
        conversation: ConversationId([0; 16]),
        sender: UserName::new("bob").unwrap(),
        device: DeviceId([0; 16]),
        id: MessageId([0; 16]),
        relay_time: 0,
        sender_time: 0,
        kind: Kind::Text,
        body: Blob::new(b"once".to_vec()).unwrap(),
        durability: Durability::Durable,
    };
    let world = World::new();
    // In place of an agent: one that goes right after a message, whenever it likes.
    let agent = UnixListener::bind(world.dir.path().join("qpc")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
    command.args(["receive", "--follow", "--run-dir"]).arg(world.dir.path());
    let mut following = Program(command.stdout(Stdio::piped()).spawn().unwrap());
    let (mut program, _) = agent.accept().unwrap();
    let (id, request) = asked(&mut program);
    assert_eq!(request, Receive { since: 0, unread: true }.into());
    say(&mut program, id, item);
    drop(program);
    let (mut program, _) = agent.accept().unwrap();
    let (_, request) = asked(&mut program);
    assert_eq!(request, Receive { since: 7, unread: false }.into());
    let pid = following.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let (id, request) = asked(&mut program);
    assert_eq!(request, MarkRead { position: 7 }.into());
    say(&mut program, id, Done {});
    assert!(following.0.wait().unwrap().success());
    let mut printed = String::new();
    following.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "bob: once\n");
}

#[test]
fn what_is_sent_while_the_relay_is_away_goes_out_once() {
    let world = World::new();
    let mut relay = world.relay();
    people(&world, &relay, &["alice", "bob", "carol"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    alice.ok(&["send", "bob", "before"]);
    let (dir, port) = (relay.dir.clone(), relay.port());
    relay.stop();
    alice.until(|status| status["state"] == "disconnected");
    // Also to somebody this device has no conversation with.
    for (recipient, text) in [("bob", "one"), ("carol", "hello carol")] {
        let (status, _, err) = alice.run(&["send", recipient, text]);
        assert!(status == 9 && err.contains("do not send it again"), "{err}");
    }
    assert_eq!(alice.status()["queued"], 2);
    assert_eq!(alice.run(&["devices"]).0, 3);
    alice.kill();

    // Neither the relay nor the password is there.
    fs::remove_file(world.dir.path().join("password")).unwrap();
    let alice = Agent::start(&world, &relay, "alice", &[]);
    assert_eq!(alice.status()["queued"], 2);
    assert_eq!(alice.run(&["send", "bob", "two"]).0, 9);
    alice.ok(&["contacts"]);
    fs::write(world.dir.path().join("password"), "correct horse").unwrap();

    let relay = Relay::start(&dir, port, &[]);
    alice.until(|status| status["queued"] == 0);
    let received = world.ok(&relay, "bob", &["--user", "bob", "receive"]);
    assert_eq!(received, "alice: before\nalice: one\nalice: two\n");
    assert_eq!(world.ok(&relay, "carol", &["--user", "carol", "receive"]), "alice: hello carol\n");
    for user in ["bob", "carol"] {
        let (status, out, _) = world.run(&relay, user, &["--user", user, "receive", "--timeout", "500ms"]);
        assert_eq!((status, out.as_str()), (7, ""));
    }
}

#[test]
fn an_agent_that_is_killed_all_the_time_loses_nothing_and_repeats_nothing() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let mut alice = Agent::start(&world, &relay, "alice", &[]);
    alice.ok(&["send", "bob", "first"]);
    let mut promised = BTreeSet::from(["first".to_owned()]);
    let mut sent = promised.clone();
    for n in 0..16 {
        let text = format!("message {n}");
        sent.insert(text.clone());
        let sending = alice.command(&["send", "bob", &text]).stderr(Stdio::null()).spawn().unwrap();
        // At ever another moment of what it does.
        thread::sleep(Duration::from_millis(2 * n));
        alice.kill();
        let status = sending.wait_with_output().unwrap().status.code().unwrap();
        assert!(matches!(status, 0 | 1 | 2 | 3 | 9), "{status}");
        if matches!(status, 0 | 9) {
            promised.insert(text);
        }
        alice = Agent::start(&world, &relay, "alice", &[]);
    }
    alice.until(|status| status["state"] == "connected" && status["queued"] == 0);
    let received = bodies(&world.ok(&relay, "bob", &["--user", "bob", "receive", "--json"]));
    let once: BTreeSet<String> = received.iter().cloned().collect();
    assert_eq!(once.len(), received.len(), "{received:?}");
    assert!(promised.is_subset(&once) && once.is_subset(&sent), "{promised:?} {received:?}");
}

#[test]
fn rights_are_by_user() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: only root can be others; what its own user may is what every other test does");
        return;
    }
    let world = World::new();
    // Others need to get at what is in it, if the owner of the socket lets them.
    let others_may = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    others_may(world.dir.path());
    let program = world.dir.path().join("qpc");
    fs::copy(env!("CARGO_BIN_EXE_qpc"), &program).unwrap();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let run_dir = world.dir.path().join("run-alice");
    let as_user = |uid: u32, gid: u32, arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("QPC_RUN_DIR", &run_dir).stdin(Stdio::null()).uid(uid).gid(gid);
        outcome(command.output().unwrap())
    };
    let (user, other, group) = (54_321, 54_322, 54_323);

    // Without a rule the kernel lets in nobody but the group.
    fs::create_dir(&run_dir).unwrap();
    others_may(&run_dir);
    chown(&run_dir, None, Some(group)).unwrap();
    let alice = Agent::start(&world, &relay, "alice", &[]);
    let (status, _, err) = as_user(user, user, &["status"]);
    assert!(status == 4 && err.contains("ermission"), "{status} {err}");
    for arguments in [&["send", "bob", "from the group"][..], &["contacts"], &["status"]] {
        let (status, _, err) = as_user(user, group, arguments);
        assert_eq!(status, 0, "{arguments:?}: {err}");
    }
    alice.stop();

    let rules = ["--allow", "54321:send,notify", "--allow", "*:status"];
    let alice = Agent::start(&world, &relay, "alice", &rules);
    for (uid, gid, arguments, expected) in [
        (user, user, &["send", "bob", "from a user"][..], 0),
        (user, user, &["notify", "bob", "wan", "an event"], 0),
        (user, user, &["status"], 0),
        (user, user, &["receive", "--since", "0"], 4),
        (user, user, &["contacts"], 4),
        (user, user, &["accept", "bob"], 4),
        (other, other, &["status"], 0),
        (other, other, &["send", "bob", "x"], 4),
        (other, other, &["notify", "bob", "wan", "x"], 4),
        (other, group, &["contacts"], 0),
    ] {
        let (status, out, err) = as_user(uid, gid, arguments);
        assert_eq!(status, expected, "{uid}:{gid} {arguments:?}: {err}");
        assert!(expected == 0 || (out.is_empty() && err.contains("not allowed")), "{out} {err}");
    }
    assert_eq!(alice.status()["counters"]["denied"], 5);
    let received = world.ok(&relay, "bob", &["--user", "bob", "receive"]);
    assert_eq!(received, "alice: from the group\nalice: from a user\nalice: an event\n");
}

#[test]
fn events_are_summarised_and_the_last_ones_outlive_the_agent() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let alice = Agent::start(&world, &relay, "alice", &["--notify-window", "5s"]);
    for text in ["WAN down", "WAN up", "WAN down"] {
        alice.ok(&["notify", "bob", "wan", text]);
    }
    alice.until(|status| status["held_events"] == 0 && status["queued"] == 0);
    let received = world.ok(&relay, "bob", &["--user", "bob", "receive"]);
    // A slow machine may need more than one window for them.
    let lines: Vec<&str> = received.lines().collect();
    assert!(matches!(lines.len(), 2 | 3) && lines[0] == "alice: WAN down", "{received}");
    assert!(lines.last().unwrap().ends_with("more in 5 s; the last: WAN down"), "{received}");
    alice.stop();

    let alice = Agent::start(&world, &relay, "alice", &[]);
    let mut command = alice.command(&["notify", "bob", "ssh"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"login of root\n").unwrap();
    assert!(child.wait().unwrap().success());
    alice.ok(&["notify", "bob", "ssh", "login of nobody"]);
    assert_eq!(alice.status()["held_events"], 1);
    alice.stop();
    let alice = Agent::start(&world, &relay, "alice", &[]);
    alice.until(|status| status["state"] == "connected" && status["queued"] == 0);
    let received = world.ok(&relay, "bob", &["--user", "bob", "receive"]);
    let mut lines = received.lines();
    assert_eq!(lines.next(), Some("alice: login of root"));
    assert!(lines.next().unwrap().ends_with("; the last: login of nobody"), "{received}");
    assert_eq!(lines.next(), None);
    let kind = "k".repeat(33);
    assert_eq!(alice.run(&["notify", "bob", &kind, "x"]).0, 2);
}

#[test]
fn garbage_harms_nobody_else() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    let socket = alice.run_dir.join("qpc");
    let connect = || UnixStream::connect(&socket).unwrap();
    for garbage in [
        // 4 GiB announced, a message that is none, and something else altogether.
        &[0xff, 0xff, 0xff, 0xff, 1, 2, 3][..],
        &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut peer = connect();
        peer.write_all(garbage).unwrap();
        let mut rest = Vec::new();
        // It is closed, whatever was said before.
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    // A byte at a time, and a message that never ends.
    let mut slow = connect();
    let mut unfinished = connect();
    unfinished.write_all(&[0, 0, 0x10, 0, 1, 2, 3]).unwrap();
    for byte in [0, 0, 0, 8, 8, 1, 16, 7, 0xba, 1, 0, 0x7f] {
        // The last bytes make it garbage.
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        alice.status();
    }
    let before = alice.costs();
    drop((slow, unfinished));
    alice.until(|status| status["programs"] == 1);
    assert!(alice.costs().1 <= before.1);
}

#[test]
fn ten_thousand_requests_leak_nothing() {
    let world = World::new();
    let relay = world.relay();
    people(&world, &relay, &["alice", "bob"]);
    let alice = Agent::start(&world, &relay, "alice", &[]);
    alice.ok(&["send", "bob", "hello"]);
    world.ok(&relay, "bob", &["--user", "bob", "send", "alice", &"x".repeat(10_000)]);
    alice.until(|status| status["counters"]["received"] == 1);
    let bob = UserName::new("bob").unwrap();
    // Ten requests over one connection, and the next one.
    let round = |times: usize| {
        for _ in 0..times {
            let mut agent = alice.connect();
            agent.start(Receive { since: 0, unread: false }).unwrap();
            for _ in 0..3 {
                assert!(matches!(agent.ask(AskStatus {}), Ok(Answer::Status(_))));
                assert!(matches!(agent.ask(ListContacts { after: None }), Ok(Answer::Contacts(_))));
            }
            assert!(matches!(agent.ask(MarkRead { position: 0 }), Ok(Answer::Done(_))));
            let event = Notify { recipient: bob.clone(), kind: Text::new("wan"), text: Text::new("down") };
            assert!(matches!(agent.ask(event), Ok(Answer::Notified(_))));
            let ahead = Receive { since: 99, unread: false };
            assert!(matches!(agent.ask(ahead), Err(LocalError::Refused(_))));
        }
    };
    round(100);
    alice.until(|status| status["programs"] == 1 && status["queued"] == 0);
    let before = alice.costs();
    round(1000);
    // Who asks is there, too, and gone a little later than its answer.
    let left = (0..3000).find(|_| {
        thread::sleep(Duration::from_millis(10));
        alice.costs().1 <= before.1
    });
    assert!(left.is_some(), "files are left open: {} of {}", alice.costs().1, before.1);
    let after = alice.costs();
    // A page or two of the allocator's, not 26 bytes for each request.
    assert!(after.0 <= before.0 + 256 * 1024, "{} -> {}", before.0, after.0);
    assert!(alice.status()["counters"]["requests"].as_u64().unwrap() > 11_000);
}
