//! Round trips of 32 bytes over Unix sockets: this library beside plain blocking calls, in the same run and by turns,
//! so that a busy machine is busy for both. And what connections that wait cost.

#![allow(clippy::unwrap_used, missing_docs)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qpc_ipc::{Context, EventKind, frame};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

const MESSAGE: [u8; 32] = [7; 32];
const ROUND_TRIPS: u32 = 5_000;
const TURNS: usize = 9;

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // First, while there is no memory to be used again.
    println!("resident memory for each of 1000 connections that had a message: {} bytes", memory());
    println!("round trips of 32 bytes a second, median of {TURNS} turns; the client is plain in each");
    println!("{:>8} {:>12} {:>12} {:>12} {:>8}", "clients", "plain", "write", "schedule", "ratio");
    for clients in [1, 10, 100, 1000] {
        let mut rates = [const { Vec::new() }; 3];
        for _ in 0..TURNS {
            rates[0].push(run(plain_server, clients));
            rates[1].push(run(|dir, clients| server(dir, clients, false), clients));
            rates[2].push(run(|dir, clients| server(dir, clients, true), clients));
        }
        let [plain, write, schedule] = rates.map(median);
        println!("{clients:>8} {plain:>12.0} {write:>12.0} {schedule:>12.0} {:>8.2}", write / plain);
    }
    println!("ratio: write to plain, which has a thread for each client; the others are busy by turns");
}

/// Round trips a second, of clients that take turns.
fn run(server: impl Fn(&Path, usize) -> thread::JoinHandle<()>, clients: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), clients);
    let mut streams: Vec<_> =
        (0..clients).map(|_| UnixStream::connect(dir.path().join("echo")).unwrap()).collect();
    let message = frame(&MESSAGE).unwrap();
    let mut answer = [0; 36];
    let mut trip = |number: usize| {
        let stream = &mut streams[number % clients];
        stream.write_all(&message).unwrap();
        stream.read_exact(&mut answer).unwrap();
    };
    (0..clients).for_each(&mut trip);
    let start = Instant::now();
    (0..ROUND_TRIPS as usize).for_each(&mut trip);
    let rate = f64::from(ROUND_TRIPS) / start.elapsed().as_secs_f64();
    drop(streams);
    server.join().unwrap();
    rate
}

fn plain_server(dir: &Path, clients: usize) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(dir.join("echo")).unwrap();
    thread::spawn(move || {
        thread::scope(|scope| {
            for _ in 0..clients {
                let (mut stream, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    let mut message = [0; 36];
                    while stream.read_exact(&mut message).is_ok() {
                        stream.write_all(&message).unwrap();
                    }
                });
            }
        });
    })
}

fn server(dir: &Path, clients: usize, schedule: bool) -> thread::JoinHandle<()> {
    let mut context = Context::in_dir(dir).unwrap();
    context.listen(b"echo").unwrap();
    thread::spawn(move || {
        let mut message = Vec::new();
        let mut gone = 0;
        while gone < clients {
            let event = context.wait().unwrap();
            let fd = event.fd;
            match event.kind {
                EventKind::MessageRx => {
                    message.clear();
                    message.extend_from_slice(event.message);
                    if schedule {
                        context.schedule(fd, &message).unwrap();
                    } else {
                        context.write(fd, &message).unwrap();
                    }
                }
                EventKind::Disconnection => gone += 1,
                _ => {}
            }
        }
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Resident bytes that a thousand connections add, each.
fn memory() -> usize {
    const CLIENTS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let mut context = Context::in_dir(dir.path()).unwrap();
    context.listen(b"echo").unwrap();
    let mut streams = Vec::with_capacity(CLIENTS);
    let before = resident();
    for _ in 0..CLIENTS {
        let mut stream = UnixStream::connect(dir.path().join("echo")).unwrap();
        context.wait().unwrap();
        stream.write_all(&frame(&MESSAGE).unwrap()).unwrap();
        let fd = context.wait().unwrap().fd;
        context.write(fd, &MESSAGE).unwrap();
        streams.push(stream);
    }
    resident().saturating_sub(before) / CLIENTS
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
