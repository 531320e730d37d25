//! `qpc` against a relay that really runs: the documented command lines, every exit code, and a relay that is killed.
//!
//! The relay is the one built beside `qpc`; `cargo build --workspace` makes both.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{Relay, World, outcome, with_input};
use qpc_client::executor::block_on;
use qpc_client::{Client, ErrorKind, Kind, Options, Password, RelayAddress, UserName};
use std::fs;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::thread;
use std::time::Duration;

#[test]
fn a_conversation() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello bob"]);
    assert_eq!(world.ok(&relay, "b", &["receive", "--user", "bob"]), "alice: hello bob\n");

    // From standard input: whole, and line by line; nothing reaches the terminal as a control character.
    let (status, _, err) =
        with_input(world.qpc(&relay, "b", &["--user", "bob", "send", "alice"]), b"two\nlines \x1b[2J\n");
    assert_eq!((status, err.as_str()), (0, ""));
    let (status, _, err) =
        with_input(world.qpc(&relay, "b", &["--user", "bob", "send", "alice", "--lines"]), b"one\ntwo\n");
    assert_eq!((status, err.as_str()), (0, ""));
    let received = world.ok(&relay, "a", &["--user", "alice", "receive"]);
    assert_eq!(received, "bob: two\\nlines \\u{1b}[2J\\n\nbob: one\nbob: two\n");

    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "\u{20ac}"]);
    let json = world.ok(&relay, "b", &["--user", "bob", "receive", "--json"]);
    let message: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&message["sender"], &message["body"]), (&"alice".into(), &"\u{20ac}".into()));
    for field in ["conversation", "id"] {
        assert_eq!(message[field].as_str().unwrap().len(), 32, "{json}");
    }
    assert!(message["time"].is_u64() && message["sent"].is_u64(), "{json}");
}

#[test]
fn what_is_acknowledged_survives_sigkill() {
    let world = World::new();
    let mut relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    let mut expected = String::new();
    for n in 0..6 {
        world.ok(&relay, "a", &["--user", "alice", "send", "bob", &format!("message {n}")]);
        expected += &format!("alice: message {n}\n");
        relay = relay.kill_and_restart();
    }
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), expected);
    assert_eq!(world.run(&relay, "b", &["--user", "bob", "receive", "--timeout", "100ms"]).0, 7);

    // Neither text nor password in the relay's files.
    let mut stack = vec![world.dir.path().join("relay")];
    while let Some(path) = stack.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            let bytes = fs::read(&path).unwrap();
            for secret in [&b"message 1"[..], b"correct horse"] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_second_login_is_a_new_device() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "before"]);
    world.ok(&relay, "b2", &["--user", "bob", "login"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "both"]);
    assert_eq!(world.ok(&relay, "b2", &["--user", "bob", "receive"]), "alice: both\n");
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: before\nalice: both\n");
    world.ok(&relay, "b2", &["--user", "bob", "send", "alice", "from the new one"]);
    assert_eq!(world.ok(&relay, "a", &["--user", "alice", "receive"]), "bob: from the new one\n");
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "bob: from the new one\n");
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "devices"]).lines().count(), 2);
}

#[test]
fn another_password_keeps_every_state_and_a_revoked_device_is_out() {
    let world = World::new();
    let mut relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "b2", &["--user", "bob", "login"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "before"]);
    let new = world.dir.path().join("new").display().to_string();
    fs::write(&new, "battery staple").unwrap();
    world.ok(&relay, "b", &["--user", "bob", "passwd", "--new-password-file", &new]);
    assert_eq!(world.run(&relay, "b", &["--user", "bob", "receive"]).0, 5);
    relay = relay.kill_and_restart();
    // Each device opens the state it had: the messages from before are for it alone.
    for state in ["b", "b2"] {
        let received = world.ok(&relay, state, &["--user", "bob", "--password-file", &new, "receive"]);
        assert_eq!(received, "alice: before\n");
    }
    let list = ["--user", "bob", "--password-file", &new, "devices"];
    let devices = world.ok(&relay, "b", &list);
    assert_eq!(devices.lines().count(), 2);
    let other = devices.lines().find(|line| !line.contains("(this one)")).unwrap();
    let revoke =
        |device: &str| world.run(&relay, "b", &["--user", "bob", "--password-file", &new, "revoke", device]);
    assert_eq!(revoke("nonsense").0, 2);
    assert_eq!(revoke("00112233445566778899aabbccddeeff").0, 4);
    assert_eq!(revoke(other.split(' ').next().unwrap()).0, 0);
    assert_eq!(world.ok(&relay, "b", &list).lines().count(), 1);
}

#[test]
fn a_key_file_replaces_the_password() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice", "--keep-key"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "b", &["--user", "bob", "send", "alice", "hello"]);
    fs::remove_file(world.dir.path().join("password")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
    command.args(["--relay", &relay.address, "--user", "alice", "receive", "--state"]);
    command.arg(world.dir.path().join("a")).env_remove("QPC_PASSWORD").stdin(Stdio::null());
    assert_eq!(outcome(command.output().unwrap()).1, "bob: hello\n");
}

#[test]
fn following_goes_on() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    let mut following = world.qpc(&relay, "b", &["--user", "bob", "receive", "--follow"]);
    let mut following = following.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "one"]);
    assert_eq!(lines.next().unwrap().unwrap(), "alice: one");
    // The relay goes and comes back; nobody logs in again.
    let relay = relay.kill_and_restart();
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "two"]);
    assert_eq!(lines.next().unwrap().unwrap(), "alice: two");
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn every_failure_has_its_status_and_says_what_to_do() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    let long_name = "a".repeat(65);
    for (status, part, arguments) in [
        (2, "needs a recipient", &["--user", "alice", "send"][..]),
        (2, "--user", &["send", "bob", "x"]),
        (2, "at most 64", &["register", &long_name]),
        (2, "characters a-z", &["register", "Alice"]),
        (2, "at most 64", &["--user", "alice", "send", &long_name, "x"]),
        (4, "taken", &["register", "alice"]),
        (6, "no account named bob", &["--user", "alice", "send", "bob", "x"]),
        (7, "no message", &["--user", "alice", "receive", "--timeout", "0"]),
    ] {
        let (got, out, err) = world.run(&relay, "a", arguments);
        assert_eq!((got, out.as_str()), (status, ""), "{arguments:?}: {err}");
        assert!(err.contains(part) && err.lines().count() == 1, "{arguments:?}: {err}");
    }

    // Texts that cannot be sent.
    let lines = world.qpc(&relay, "a", &["--user", "alice", "send", "bob", "--lines"]);
    let (status, _, err) = with_input(lines, b"one\ntwo\n");
    assert!(
        status == 6 && err.contains("stopped at line 1 of 2") && err.contains("no account"),
        "{status} {err}"
    );
    let send = ["--user", "alice", "send", "bob"];
    let (status, _, err) = with_input(world.qpc(&relay, "a", &send), &[0xff, 0xfe]);
    assert!(status == 2 && err.contains("UTF-8"), "{status} {err}");
    let (status, _, err) = with_input(world.qpc(&relay, "a", &send), &vec![b'x'; 49153]);
    assert!(status == 2 && err.contains("49152"), "{status} {err}");

    // Passwords.
    fs::write(world.dir.path().join("password"), "wrong").unwrap();
    let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "receive"]);
    assert!(status == 5 && err.contains("wrong"), "{status} {err}");
    fs::write(world.dir.path().join("password"), "\n").unwrap();
    let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "receive"]);
    assert!(status == 2 && err.contains("empty"), "{status} {err}");
    fs::write(world.dir.path().join("password"), "correct horse").unwrap();

    // A folder that somebody else works in. Who of the two comes first is chance, so until the other one has it.
    let follow = || {
        let mut following = world.qpc(&relay, "a", &["--user", "alice", "receive", "--follow"]);
        following.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut following = follow();
    let busy = loop {
        if following.try_wait().unwrap().is_some() {
            following = follow();
        }
        // Not to be taken for somebody who guesses passwords.
        thread::sleep(Duration::from_millis(300));
        let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "receive", "--timeout", "0"]);
        if status != 7 {
            break (status, err);
        }
    };
    following.kill().unwrap();
    following.wait().unwrap();
    assert!(busy.0 == 8 && busy.1.contains("in use"), "{busy:?}");

    // Another relay's address, and no relay.
    let mut wrong = relay.address.clone();
    let digit = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(digit);
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
    let (status, _, err) = outcome(command.args(["--relay", &wrong, "health"]).output().unwrap());
    assert!(status == 3 && err.contains("not trusted"), "{status} {err}");
    let address = relay.address.clone();
    drop(relay);
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
    let (status, _, err) = outcome(command.args(["--relay", &address, "health"]).output().unwrap());
    assert!(status == 3 && err.contains("reached"), "{status} {err}");
}

#[test]
fn no_account_is_made_that_could_not_be_kept() {
    let world = World::new();
    let relay = world.relay();
    fs::write(world.dir.path().join("file"), "").unwrap();
    let (status, _, err) = world.run(&relay, "file", &["register", "alice"]);
    assert!(status == 8 && err.contains("file"), "{status} {err}");
    world.ok(&relay, "a", &["register", "alice"]);

    // Nor is a state put aside for an account that is not made.
    assert_eq!(world.run(&relay, "a", &["register", "alice"]).0, 4);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "b", &["--user", "bob", "send", "alice", "still there"]);
    assert_eq!(world.ok(&relay, "a", &["--user", "alice", "receive"]), "bob: still there\n");
    assert_eq!(world.ok(&relay, "a", &["--user", "alice", "devices"]).lines().count(), 1);
}

/// A message that would reach nobody is not sent, and says so.
#[test]
fn recipients_that_are_gone() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    // Which gets everything, too; that does not count.
    world.ok(&relay, "a2", &["--user", "alice", "login"]);
    world.ok(&relay, "b", &["register", "bob", "--keep-key"]);
    let send = ["--user", "alice", "send", "bob", "hello"];
    world.ok(&relay, "a", &send);
    let device = relay.admin(&["device", "list", "bob"]).1;
    let device = device.split_whitespace().find_map(|field| field.strip_prefix("device=")).unwrap();
    assert_eq!(relay.admin(&["device", "revoke", "bob", device]).0, 0);
    let (status, _, err) = world.run(&relay, "a", &send);
    assert!(status == 6 && err.contains("bob has no device"), "{status} {err}");
    // It is told what became of it; there was no password that could have been wrong.
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
    command.args(["--relay", &relay.address, "--user", "bob", "receive", "--state"]);
    command.arg(world.dir.path().join("b")).env_remove("QPC_PASSWORD").stdin(Stdio::null());
    let (status, _, err) = outcome(command.output().unwrap());
    assert!(status == 4 && err.contains("this device was revoked"), "{status} {err}");
    // The account's next device takes part in the conversation again.
    world.ok(&relay, "b", &["--user", "bob", "login"]);
    world.ok(&relay, "a", &send);
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: hello\n");

    assert_eq!(relay.admin(&["user", "remove", "bob"]).0, 0);
    let (status, _, err) = world.run(&relay, "a", &send);
    assert!(status == 6 && err.contains("no account named bob"), "{status} {err}");
    // Somebody else of the same name is not taken for the one that was.
    world.ok(&relay, "b", &["register", "bob"]);
    let (status, _, err) = world.run(&relay, "a", &send);
    assert!(status == 1 && err.contains("new identity"), "{status} {err}");
    world.ok(&relay, "a", &["--user", "alice", "accept", "bob"]);
    world.ok(&relay, "a", &send);
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: hello\n");
}

#[test]
fn people_can_be_told_apart() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    let number = |state: &str, user: &str, peer: &str| {
        world.run(&relay, state, &["--user", user, "safety-number", peer])
    };
    assert_eq!(world.ok(&relay, "a", &["--user", "alice", "contacts"]), "");
    let (status, _, err) = number("a", "alice", "bob");
    assert!(status == 6 && err.contains("nothing is known of bob"), "{status} {err}");

    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
    world.ok(&relay, "b", &["--user", "bob", "receive"]);
    let first = number("a", "alice", "bob").1;
    assert_eq!(first.bytes().filter(u8::is_ascii_digit).count(), 60, "{first}");
    assert_eq!(number("b", "bob", "alice").1, first);
    let contacts = world.ok(&relay, "a", &["--user", "alice", "contacts"]);
    assert!(contacts.starts_with("bob trusted ") && contacts.lines().count() == 1, "{contacts}");

    // Somebody else of that name: the number to compare is the new one, and the old one stays trusted until then.
    assert_eq!(relay.admin(&["user", "remove", "bob"]).0, 0);
    world.ok(&relay, "b", &["register", "bob"]);
    assert_eq!(world.run(&relay, "a", &["--user", "alice", "send", "bob", "hello"]).0, 1);
    let changed = world.ok(&relay, "a", &["--user", "alice", "contacts"]);
    assert!(changed.starts_with("bob changed "), "{changed}");
    let (_, second, err) = number("a", "alice", "bob");
    assert!(second != first && err.contains("qpc accept bob"), "{second} {err}");
    world.ok(&relay, "a", &["--user", "alice", "accept", "bob"]);
    assert_eq!(number("a", "alice", "bob"), (0, second.clone(), String::new()));
    assert!(world.ok(&relay, "a", &["--user", "alice", "contacts"]).starts_with("bob trusted "));
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
    world.ok(&relay, "b", &["--user", "bob", "receive"]);
    assert_eq!(number("b", "bob", "alice").1, second);
}

/// Somebody of a known name, but not that one, has written first: who answers is told why that does not go.
#[test]
fn nobody_answers_a_stranger_unawares() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
    assert_eq!(relay.admin(&["user", "remove", "bob"]).0, 0);
    world.ok(&relay, "b2", &["register", "bob"]);
    world.ok(&relay, "b2", &["--user", "bob", "send", "alice", "it is me"]);
    let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "receive", "--timeout", "0"]);
    assert!(status == 7 && err.contains("new identity"), "{status} {err}");
    let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
    assert!(status == 1 && err.contains("new identity"), "{status} {err}");
    world.ok(&relay, "a", &["--user", "alice", "accept", "bob"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
    assert_eq!(world.ok(&relay, "b2", &["--user", "bob", "receive"]), "alice: hello\n");
}

/// What is typed at the prompt is not shown, can be corrected, and after Ctrl-C the terminal is as it was.
#[test]
fn the_prompt_leaves_the_terminal_as_it_was() {
    let world = World::new();
    let relay = world.relay();
    const REGISTER: &str = "register alice";
    let prompt = |command: &str, keys: &[&str]| {
        let qpc = format!(
            "trap : INT; '{}' --relay '{}' --state '{}' {command}; echo status=$?; stty -a",
            env!("CARGO_BIN_EXE_qpc"),
            relay.address,
            world.dir.path().join("a").display()
        );
        // It gives the program a terminal of its own.
        let mut script = Command::new("script");
        script.args(["-qec", &qpc, "/dev/null"]).env_remove("QPC_PASSWORD");
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut shown = Vec::new();
        for keys in keys {
            while !shown.ends_with(b": ") {
                let mut byte = [0];
                assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
                shown.extend(byte);
            }
            shown.push(b'|');
            // Who takes his time to type is not hung up on.
            assert!(command != REGISTER || relay.status()["connections"] == 0);
            input.write_all(keys.as_bytes()).unwrap();
        }
        output.read_to_end(&mut shown).unwrap();
        script.wait().unwrap();
        let shown = String::from_utf8(shown).unwrap();
        for mode in ["echo ", "icanon ", "isig "] {
            assert!(shown.contains(mode) && !shown.contains(&format!("-{mode}")), "{mode}: {shown}");
        }
        assert!(!shown.contains("secret"), "{shown}");
        shown
    };
    assert!(prompt(REGISTER, &["secr\x03"]).contains("status=130"));
    assert!(prompt(REGISTER, &["secret\r", "other\r"]).contains("differ"));
    assert!(prompt(REGISTER, &["\r", "\r"]).contains("empty"));
    assert!(prompt(REGISTER, &["se\u{20ac}\x7fcret\r", "wrong\x15secret\r"]).contains("status=0"));
    fs::write(world.dir.path().join("password"), "secret").unwrap();
    world.ok(&relay, "a", &["--user", "alice", "login"]);
    // To log in there is one prompt.
    assert!(prompt("--user alice login", &["secret\r"]).contains("status=0"));
}

/// The relay goes back to an old copy of its data while both clients are ahead of it. What was acknowledged after the copy
/// was made is gone; everything new works, in both directions, on old and on new devices.
#[test]
fn a_restored_backup_leaves_nothing_stuck() {
    let world = World::new();
    let mut relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "before"]);
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: before\n");
    relay.stop();
    let (data, backup) = (world.dir.path().join("relay"), world.dir.path().join("backup"));
    copy(&data, &backup);

    // Two epochs and some messages more, which the backup does not have.
    relay = Relay::start(&data, 0, &[]);
    world.ok(&relay, "b2", &["--user", "bob", "login"]);
    world.ok(&relay, "a2", &["--user", "alice", "login"]);
    for n in 0..3 {
        world.ok(&relay, "a", &["--user", "alice", "send", "bob", &format!("lost {n}")]);
    }
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]).lines().count(), 3);
    relay.stop();

    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    relay = Relay::start(&data, 0, &[]);
    for n in 0..2 {
        world.ok(&relay, "a", &["--user", "alice", "send", "bob", &format!("after {n}")]);
        world.ok(&relay, "b", &["--user", "bob", "send", "alice", &format!("back {n}")]);
    }
    let received = world.ok(&relay, "b", &["--user", "bob", "receive"]);
    assert_eq!(received, "alice: after 0\nalice: after 1\n");
    let received = world.ok(&relay, "a", &["--user", "alice", "receive"]);
    assert_eq!(received, "bob: back 0\nbob: back 1\n");
    // A device that the backup does not know enrols again and follows.
    world.ok(&relay, "b2", &["--user", "bob", "login"]);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "to both"]);
    for state in ["b", "b2"] {
        let received = world.ok(&relay, state, &["--user", "bob", "receive"]);
        assert!(received.ends_with("alice: to both\n"), "{state}: {received}");
    }
}

#[test]
fn garbage_does_not_stop_the_relay() {
    let world = World::new();
    let relay = world.relay();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = ("127.0.0.1", relay.port());
    let mut state = 1u64;
    for n in 0..5000usize {
        let mut packet = vec![0; n % 1400 + 1];
        for byte in &mut packet {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        // Some look like the first packet of a connection.
        if n % 3 == 0 {
            packet.splice(0..packet.len().min(6), [0xc3, 0, 0, 0, 1, 8]);
            packet.resize(1200, 0);
        }
        socket.send_to(&packet, target).unwrap();
    }
    world.ok(&relay, "a", &["register", "alice"]);
    assert_eq!(relay.status()["connections"], 0);
}

/// The owner's commands, against the relay that runs and without one.
#[test]
fn the_owner_is_obeyed() {
    let world = World::new();
    let data = world.dir.path().join("relay");
    let mut relay = Relay::start(&data, 0, &["--registration", "invite"]);
    let mut health = Command::new(env!("CARGO_BIN_EXE_qpc"));
    let (status, out, _) = outcome(health.args(["--relay", &relay.address, "health"]).output().unwrap());
    assert!(status == 0 && out.starts_with("qpc-relay ") && out.contains("registration invite"), "{out}");
    let (status, _, err) = world.run(&relay, "a", &["register", "alice"]);
    assert!(status == 4 && err.contains("invite"), "{status} {err}");
    let code = relay.admin(&["invite"]).1;
    world.ok(&relay, "a", &["register", "alice", "--invite", code.trim()]);
    assert_eq!(
        world.run(&relay, "b", &["register", "bob", "--invite", code.trim()]).0,
        4,
        "a code is good for one"
    );

    let state = relay.status();
    assert_eq!(
        (&state["accounts"], &state["devices"], &state["sessions"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!(state["address"], relay.address.as_str());
    assert_eq!(state["counters"]["registrations"], 1);
    assert!(state["store"]["bytes_written"].as_u64().unwrap() > 0);
    assert_eq!(relay.admin(&["address"]), (0, format!("{}\n", relay.address)));
    assert!(relay.admin(&["user", "list"]).1.contains("user=alice"));
    let device = relay.admin(&["device", "list", "alice"]).1;
    let device =
        device.split_whitespace().find_map(|field| field.strip_prefix("device=")).unwrap().to_owned();
    assert_eq!(relay.admin(&["device", "revoke", "alice", &device]), (0, String::new()));
    assert_eq!(relay.admin(&["device", "revoke", "alice", &device]).0, 1);
    // With the password there is a device again.
    world.ok(&relay, "a", &["--user", "alice", "login"]);
    assert_eq!(relay.admin(&["user", "remove", "alice"]).0, 0);
    assert_eq!(world.run(&relay, "a", &["--user", "alice", "login"]).0, 5);
    assert_eq!(relay.admin(&["user", "remove", "alice"]).0, 1);

    // A second relay on the same data, and none.
    let output = relay.command(&["--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("another relay is running")
    );
    relay.stop();
    assert_eq!(relay.admin(&["status"]).0, 1);
    assert!(
        relay
            .admin(&["address", "--listen", &format!("127.0.0.1:{}", relay.port())])
            .1
            .contains(&relay.address)
    );

    // A configuration that is wrong, and one that is right.
    let file = world.dir.path().join("relay.toml");
    fs::write(&file, "data = \"/x\"\nport = 1\n\nmax-connections = 0\n").unwrap();
    let check =
        |file: &Path| relay.command(&["--config", file.to_str().unwrap(), "check-config"]).output().unwrap();
    let output = check(&file);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.lines().count()), (Some(2), 2), "{err}");
    assert!(err.contains("relay.toml:2:") && err.contains("relay.toml:4:"), "{err}");
    fs::write(&file, "registration = \"closed\"\n").unwrap();
    assert!(check(&file).status.success());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A program may drop a call that takes too long, at whatever step it is: nothing that came is lost, and the next call works.
#[test]
fn a_call_that_is_dropped_leaves_nothing_half_done() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice", "--keep-key"]);
    world.ok(&relay, "b", &["register", "bob", "--keep-key"]);
    let alice = ["--user", "alice", "send", "bob"];
    let send = |text: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qpc"));
        command.args(["--relay", &relay.address, "--state"]).arg(world.dir.path().join("a"));
        assert_eq!(outcome(command.args(alice).arg(text).stdin(Stdio::null()).output().unwrap()).2, "");
    };
    let mut options = Options::from_environment();
    options.state_root = world.dir.path().join("b");
    let bob = UserName::new("bob").unwrap();
    let port = slow_network(relay.address.parse::<RelayAddress>().unwrap().port);
    block_on(async {
        for step in 0.. {
            let text = format!("dropped at step {step}");
            send(&text);
            let address = RelayAddress { port, ..relay.address.parse().unwrap() };
            let mut client = Client::connect(address.into(), options.clone()).await.unwrap();
            let done = polled(step, client.login_with_key_file(&bob)).await.is_some();
            if !client.is_logged_in() {
                client.login_with_key_file(&bob).await.unwrap();
            }
            let _ = polled(step, client.receive(Duration::from_secs(10))).await;
            let messages = client.receive(Duration::from_secs(10)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&messages[0].body), text);
            client.confirm(messages[0].position).unwrap();
            client.disconnect().await;
            if done {
                assert!(step > 1, "nothing was dropped");
                break;
            }
        }
    });
}

/// A way to a port on this machine on which no answer comes before the question was waited for.
fn slow_network(port: u16) -> u16 {
    let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let entry = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, mut packet) = (relay, [0; 2048]);
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            thread::sleep(Duration::from_millis(10));
            if from != relay {
                client = from;
            }
            let _ = socket.send_to(&packet[..len], if from == relay { client } else { relay });
        }
    });
    entry
}

/// What a future gives if it is polled so many times at most.
async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| match left.checked_sub(1) {
        None => Poll::Ready(None),
        Some(less) => {
            left = less;
            future.as_mut().poll(context).map(Some)
        }
    })
    .await
}

/// A client in this program.
async fn connected_to(world: &World, relay: &Relay, state: &str) -> Client {
    let mut options = Options::from_environment();
    options.state_root = world.dir.path().join(state);
    let address: RelayAddress = relay.address.parse().unwrap();
    Client::connect(address.into(), options).await.unwrap()
}

/// The same, of a user with a key file.
async fn client_of(world: &World, relay: &Relay, state: &str, user: &str) -> Client {
    let mut client = connected_to(world, relay, state).await;
    client.login_with_key_file(&UserName::new(user).unwrap()).await.unwrap();
    client
}

/// Who sends again what was not sent, and only that, sends everything once.
#[test]
fn what_waits_to_be_sent_can_be_told_from_what_is_not_sent() {
    let world = World::new();
    let mut relay = world.relay();
    world.ok(&relay, "a", &["register", "alice", "--keep-key"]);
    world.ok(&relay, "b", &["register", "bob"]);
    world.ok(&relay, "c", &["register", "carol"]);
    let (bob, carol) = (UserName::new("bob").unwrap(), UserName::new("carol").unwrap());
    let relay = block_on(async {
        let mut alice = client_of(&world, &relay, "a", "alice").await;
        alice.send(&bob, Kind::Text, b"before").await.unwrap();
        relay.process.kill().unwrap();
        relay.process.wait().unwrap();
        let queued = alice.send(&bob, Kind::Text, b"while it is gone").await.unwrap_err();
        assert_eq!(queued.kind(), ErrorKind::Queued, "{queued}");
        // No conversation to encrypt it for.
        let not_sent = alice.send(&carol, Kind::Text, b"while it is gone").await.unwrap_err();
        assert_ne!(not_sent.kind(), ErrorKind::Queued, "{not_sent}");
        let relay = relay.kill_and_restart();
        for user in [&bob, &carol] {
            alice.send(user, Kind::Text, b"after").await.unwrap();
        }
        alice.disconnect().await;
        relay
    });
    let received = world.ok(&relay, "b", &["--user", "bob", "receive"]);
    assert_eq!(received, "alice: before\nalice: while it is gone\nalice: after\n");
    assert_eq!(world.ok(&relay, "c", &["--user", "carol", "receive"]), "alice: after\n");
}

/// A message that was to go out later, and then did not: whoever comes next is told.
#[test]
fn what_waits_and_is_not_sent_after_all_is_told() {
    let world = World::new();
    let mut relay = world.relay();
    world.ok(&relay, "a", &["register", "alice", "--keep-key"]);
    world.ok(&relay, "b", &["register", "bob"]);
    let bob = UserName::new("bob").unwrap();
    let device = relay.admin(&["device", "list", "bob"]).1;
    let device = device.split_whitespace().find_map(|field| field.strip_prefix("device=")).unwrap();
    block_on(async {
        let mut alice = client_of(&world, &relay, "a", "alice").await;
        alice.send(&bob, Kind::Text, b"before").await.unwrap();
        relay.process.kill().unwrap();
        let queued = alice.send(&bob, Kind::Text, b"while it is gone").await.unwrap_err();
        assert_eq!(queued.kind(), ErrorKind::Queued, "{queued}");
        alice.disconnect().await;
    });
    let relay = relay.kill_and_restart();
    assert_eq!(relay.admin(&["device", "revoke", "bob", device]).0, 0);
    let (status, _, err) = world.run(&relay, "a", &["--user", "alice", "devices"]);
    assert!(status == 0 && err.contains("to bob") && err.contains("was not sent"), "{status} {err}");
    assert_eq!(world.run(&relay, "a", &["--user", "alice", "devices"]).2, "", "once is enough");
}

/// Between two calls nobody looks after the connection, and it may be gone; the relay is not.
#[test]
fn a_relay_that_was_restarted_between_two_calls_is_there() {
    let world = World::new();
    let mut relay = world.relay();
    let port = relay.port();
    world.ok(&relay, "a", &["register", "alice", "--keep-key"]);
    world.ok(&relay, "b", &["register", "bob"]);
    let (alices, bob) = (UserName::new("alice").unwrap(), UserName::new("bob").unwrap());
    let relay = block_on(async {
        let mut alice = client_of(&world, &relay, "a", "alice").await;
        relay.stop();
        relay = Relay::start(&relay.dir.clone(), port, &[]);
        assert_eq!(alice.devices().await.unwrap().devices.len(), 1);
        relay.stop();
        relay = Relay::start(&relay.dir.clone(), port, &[]);
        alice.send(&bob, Kind::Text, b"one").await.unwrap();
        // It does not even say that it ends.
        relay = relay.kill_and_restart();
        assert_eq!(alice.devices().await.unwrap().devices.len(), 1);
        relay = relay.kill_and_restart();
        alice.send(&bob, Kind::Text, b"two").await.unwrap();
        alice.disconnect().await;

        let mut nobody = connected_to(&world, &relay, "a2").await;
        relay.stop();
        relay = Relay::start(&relay.dir.clone(), port, &[]);
        nobody.login(&alices, &Password::new("correct horse").unwrap()).await.unwrap();
        nobody.disconnect().await;
        relay
    });
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: one\nalice: two\n");
}

/// A program that only looks, and has no time for a connection to be made.
#[test]
fn who_only_looks_is_connected_again_too() {
    let world = World::new();
    let mut relay = world.relay();
    let port = relay.port();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob", "--keep-key"]);
    let far = RelayAddress { port: slow_network(port), ..relay.address.parse().unwrap() };
    let mut options = Options::from_environment();
    options.state_root = world.dir.path().join("b");
    block_on(async {
        let mut bob = Client::connect(far.into(), options).await.unwrap();
        bob.login_with_key_file(&UserName::new("bob").unwrap()).await.unwrap();
        relay.stop();
        relay = Relay::start(&relay.dir.clone(), port, &[]);
        world.ok(&relay, "a", &["--user", "alice", "send", "bob", "hello"]);
        let message = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(20));
            block_on(bob.receive(Duration::ZERO)).unwrap_or_default().pop()
        });
        assert_eq!(message.unwrap().body, b"hello");
        bob.disconnect().await;
    });
}

/// The numbers of a new queue are those that the old one had.
#[test]
fn a_revoked_device_logs_in_as_a_new_one() {
    let world = World::new();
    let relay = world.relay();
    world.ok(&relay, "a", &["register", "alice"]);
    world.ok(&relay, "b", &["register", "bob"]);
    for n in 0..4 {
        world.ok(&relay, "a", &["--user", "alice", "send", "bob", &n.to_string()]);
    }
    world.ok(&relay, "b", &["--user", "bob", "receive"]);
    let device = || {
        let list = relay.admin(&["device", "list", "bob"]).1;
        list.split_whitespace().find_map(|field| field.strip_prefix("device=")).unwrap().to_owned()
    };
    let revoked = device();
    assert_eq!(relay.admin(&["device", "revoke", "bob", &revoked]).0, 0);
    world.ok(&relay, "b", &["--user", "bob", "login"]);
    assert_ne!(device(), revoked);
    world.ok(&relay, "a", &["--user", "alice", "send", "bob", "after"]);
    assert_eq!(world.ok(&relay, "b", &["--user", "bob", "receive"]), "alice: after\n");
}

#[test]
fn version_and_help() {
    for (flag, part) in [("--version", concat!("qpc ", env!("CARGO_PKG_VERSION"))), ("--help", "Exit status")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_qpc")).arg(flag).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains(part) && output.status.success());
    }
}
