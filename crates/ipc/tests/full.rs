//! In a process of its own: there are no file descriptors left.

use nix::sys::resource::{Resource, setrlimit};
use qpc_ipc::{Context, EventKind, frame};
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;

#[test]
fn a_service_without_file_descriptors_left_says_so_once_and_goes_on() {
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut context = Context::in_dir(dir.path()).unwrap();
    let server = context.listen(b"echo").unwrap();
    let mut early = UnixStream::connect(dir.path().join("echo")).unwrap();
    assert_eq!(context.wait().unwrap().kind, EventKind::Connection { server });
    let _late = UnixStream::connect(dir.path().join("echo")).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    let event = context.wait().unwrap();
    assert_eq!((event.kind, event.fd), (EventKind::Error, server));
    early.write_all(&frame(b"still here").unwrap()).unwrap();
    let event = context.wait().unwrap();
    assert_eq!((event.kind, event.message), (EventKind::MessageRx, &b"still here"[..]));
    drop(held);
    assert_eq!(context.wait().unwrap().kind, EventKind::Connection { server });
}
