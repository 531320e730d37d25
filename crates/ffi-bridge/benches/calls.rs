//! What each call costs: allocations, which are checked, and instructions, counted by valgrind's callgrind where that
//! is installed. Neither depends on the machine's load. What a call allocates is freed within it.

// The blocks of the table have one SAFETY line in common.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, missing_docs)]

use ffi_bridge::{FfiBuffer, FfiError, FfiResult, FfiString, catch_panic, register_callback};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_void};
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

// The exported symbols, as C sees them.
unsafe extern "C" {
    fn ffi_buffer_alloc(capacity: usize) -> FfiBuffer;
    fn ffi_buffer_free(buf: FfiBuffer);
    fn ffi_string_alloc(str: *const c_char, len: usize) -> FfiString;
    fn ffi_string_free(str: FfiString);
    fn ffi_result_free(result: FfiResult);
    fn ffi_register_callback(name: *const c_char, cb: extern "C" fn(FfiBuffer) -> FfiResult) -> i32;
    fn ffi_register_user_callback(
        name: *const c_char,
        cb: extern "C" fn(*mut c_void, FfiBuffer) -> FfiResult,
        user: *mut c_void,
        free_user: Option<extern "C" fn(*mut c_void)>,
    ) -> i32;
    fn ffi_invoke_callback(name: *const c_char, input: FfiBuffer) -> FfiResult;
    fn ffi_unregister_callback(name: *const c_char) -> i32;
    fn ffi_callback_count() -> usize;
    fn ffi_echo(input: FfiBuffer) -> FfiResult;
    fn ffi_version() -> FfiBuffer;
}

/// A call, and how often it allocates.
type Call = (&'static str, usize, fn());
const ANY: usize = usize::MAX;

// SAFETY, of all the blocks below: names are C strings, inputs outlive their calls, and what comes back is freed once.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    ("ffi_buffer_alloc 64, free", 1, || unsafe { ffi_buffer_free(ffi_buffer_alloc(black_box(64))) }),
    ("ffi_buffer_alloc 64 KiB, free", 1, || unsafe { ffi_buffer_free(ffi_buffer_alloc(black_box(65_536))) }),
    ("ffi_string_alloc 64, free", 1, || unsafe { ffi_string_free(ffi_string_alloc(BYTES.as_ptr().cast(), 64)) }),
    ("ffi_echo 64, free", 1, || unsafe { ffi_result_free(ffi_echo(input(64))) }),
    ("ffi_echo 64 KiB, free", 1, || unsafe { ffi_result_free(ffi_echo(input(65_536))) }),
    ("ffi_version, free", 1, || unsafe { ffi_buffer_free(ffi_version()) }),
    ("ffi_callback_count", 0, || { black_box(unsafe { ffi_callback_count() }); }),
    // The name, the closure, the Arc of it.
    ("ffi_register_callback, unregister", 3, || unsafe {
        ffi_register_callback(c"new".as_ptr(), empty);
        ffi_unregister_callback(c"new".as_ptr());
    }),
    ("ffi_register_user_callback, unregister", 3, || unsafe {
        ffi_register_user_callback(c"new".as_ptr(), user_empty, std::ptr::null_mut(), None);
        ffi_unregister_callback(c"new".as_ptr());
    }),
    ("ffi_invoke_callback, nothing back", 0, || invoke(c"empty".as_ptr())),
    ("ffi_invoke_callback, 64 bytes back, free", 1, || invoke(c"echo".as_ptr())),
    ("ffi_invoke_callback, its input back, free", 1, || invoke(c"identity".as_ptr())),
    // The error's text, its copy for C, and the checked copy of that; the name, the text, which grows once, and its
    // copy.
    ("ffi_invoke_callback, error back, free", 3, || invoke(c"error".as_ptr())),
    ("ffi_invoke_callback, no such name, free", 4, || invoke(c"nobody".as_ptr())),
    // The standard library's affair.
    ("ffi_invoke_callback, panic, free", ANY, || invoke(c"panic".as_ptr())),
    ("catch_panic, no panic, free", 1, || ffi_bridge::ffi_result_free(catch_panic(|| Ok(FfiBuffer::new(black_box(64)))))),
];

static BYTES: [u8; 65_536] = [b'x'; 65_536];

fn input(len: usize) -> FfiBuffer {
    FfiBuffer { data: BYTES.as_ptr().cast_mut(), len: black_box(len), capacity: len }
}

fn invoke(name: *const c_char) {
    // SAFETY: as above.
    unsafe { ffi_result_free(ffi_invoke_callback(name, input(64))) };
}

extern "C" fn empty(_: FfiBuffer) -> FfiResult {
    FfiResult::ok(FfiBuffer::null())
}

extern "C" fn user_empty(_: *mut c_void, _: FfiBuffer) -> FfiResult {
    FfiResult::ok(FfiBuffer::null())
}

fn main() {
    std::panic::set_hook(Box::new(|_| ()));
    register_callback("empty", |_| FfiResult::ok(FfiBuffer::null())).unwrap();
    register_callback("echo", ffi_bridge::ffi_echo).unwrap();
    register_callback("identity", FfiResult::ok).unwrap();
    register_callback("error", |_| FfiResult::err(FfiError::Timeout)).unwrap();
    register_callback("panic", |input| panic!("{} bytes", input.len)).unwrap();

    let arguments: Vec<String> = std::env::args().collect();
    if let [_, only, name, times] = &arguments[..]
        && only == "--only"
    {
        let (_, _, call) = CALLS.iter().find(|(called, ..)| called == name).unwrap();
        (0..times.parse().unwrap()).for_each(|_: u32| call());
        return;
    }
    println!("{:44} {:>11} {:>12}", "ffi-bridge", "allocations", "instructions");
    for (name, expected, call) in CALLS {
        call();
        let before = counts();
        call();
        let after = counts();
        let (allocated, freed) = (after.0 - before.0, after.1 - before.1);
        if freed != allocated || (*expected != ANY && allocated != *expected) {
            eprintln!("{name}: expected {expected} allocations; {allocated} were made, {freed} freed");
            std::process::exit(1);
        }
        let instructions = instructions(name).map_or("-".into(), |count| count.to_string());
        println!("{name:44} {allocated:>11} {instructions:>12}");
    }
}

/// Instructions of one call, of what many cost more than few.
fn instructions(name: &str) -> Option<u64> {
    let run = |times: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["--only", name, &times.to_string()])
            .output()
            .ok()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let (_, count) = told.split_once("Collected : ")?;
        count.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((run(1100)? - run(100)?) / 1000)
}

#[global_allocator]
static COUNTING: Counting = Counting(AtomicUsize::new(0), AtomicUsize::new(0));

struct Counting(AtomicUsize, AtomicUsize);

fn counts() -> (usize, usize) {
    (COUNTING.0.load(Ordering::Relaxed), COUNTING.1.load(Ordering::Relaxed))
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.1.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}
