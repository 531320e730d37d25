//! Round trips of 32 bytes over Unix sockets: this library beside plain blocking calls, in the same run and by turns,
//! so that a busy machine is busy for both. And what memory connections take.

#![allow(clippy::unwrap_used, missing_docs)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qpc_ipc::{Context, EventKind, MAX_PAYLOAD, frame};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

const MESSAGE: [u8; 32] = [7; 32];
const ROUND_TRIPS: u32 = 5_000;
const TURNS: usize = 9;

/// The system's allocator, which counts.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: what is asked of it is passed on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // First, while there is no memory to be used again.
    println!(
        "memory of a context in bytes: its heap, and that divided by the connections; resident memory by them"
    );
    println!("{:>8} {:>30} {:>10} {:>10} {:>10}", "clients", "", "heap", "each", "resident");
    for clients in [1, 100, 1000] {
        memory(clients);
    }
    println!("allocations in a round trip: write {}, schedule {}", allocations(false), allocations(true));
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

/// The memory that connections of one context take.
fn memory(clients: usize) {
    let (heap, pages) = (BYTES.load(Ordering::Relaxed), resident());
    let dir = tempfile::tempdir().unwrap();
    let mut streams = Vec::with_capacity(clients);
    let other = BYTES.load(Ordering::Relaxed);
    let mut context = Context::in_dir(dir.path()).unwrap();
    context.listen(b"echo").unwrap();
    let print = |what: &str| {
        let (all, pages) = (BYTES.load(Ordering::Relaxed) - other, resident().saturating_sub(pages));
        println!("{clients:>8} {what:>30} {all:>10} {:>10} {:>10}", all / clients, pages / clients);
    };
    for _ in 0..clients {
        streams.push(UnixStream::connect(dir.path().join("echo")).unwrap());
        context.wait().unwrap();
    }
    print("connected");
    for stream in &mut streams {
        stream.write_all(&frame(&MESSAGE).unwrap()).unwrap();
        let fd = context.wait().unwrap().fd;
        context.write(fd, &MESSAGE).unwrap();
        stream.read_exact(&mut [0; 36]).unwrap();
    }
    print("after a message");
    // It is due whenever nothing else is: all there was is read then.
    context.set_timer(Some(std::time::Duration::ZERO));
    let mut half = |bytes: &[u8]| {
        for stream in &mut streams {
            // An error if the context closed it.
            let _ = stream.write_all(bytes);
            for _ in 0..2 {
                while context.wait().unwrap().kind != EventKind::Timer {}
            }
        }
    };
    half(&frame(&MESSAGE).unwrap()[..18]);
    print("half a message of 32");
    half(&frame(&MESSAGE).unwrap()[18..]);
    half(&frame(&vec![7; MAX_PAYLOAD]).unwrap()[..MAX_PAYLOAD / 2]);
    print("half of the longest message");
    drop(context);
    drop(streams);
    drop(dir);
    assert!(BYTES.load(Ordering::Relaxed) <= heap, "a context leaks");
}

/// Allocations for each message that comes and is sent back.
fn allocations(schedule: bool) -> usize {
    const MESSAGES: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let mut context = Context::in_dir(dir.path()).unwrap();
    context.listen(b"echo").unwrap();
    let mut stream = UnixStream::connect(dir.path().join("echo")).unwrap();
    context.wait().unwrap();
    let message = frame(&MESSAGE).unwrap();
    let mut before = 0;
    for number in 0..=MESSAGES {
        if number == 1 {
            before = CALLS.load(Ordering::Relaxed);
        }
        stream.write_all(&message).unwrap();
        let fd = context.wait().unwrap().fd;
        if schedule {
            context.schedule(fd, &MESSAGE).unwrap();
            context.wait().unwrap();
        } else {
            context.write(fd, &MESSAGE).unwrap();
        }
        stream.read_exact(&mut [0; 36]).unwrap();
    }
    (CALLS.load(Ordering::Relaxed) - before) / MESSAGES
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
