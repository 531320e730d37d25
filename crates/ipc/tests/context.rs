//! Contexts over real sockets, and peers that know no more than the wire.

#![allow(clippy::unwrap_used, missing_docs)]

use nix::poll::{PollFd, PollFlags, poll};
use qpc_ipc::{Context, Error, Event, EventKind, HEADER, MAX_PAYLOAD, Verdict, frame};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A service "echo" in a run directory of its own.
struct Fixture {
    dir: TempDir,
    context: Context,
    server: RawFd,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut context = Context::in_dir(dir.path().join("run")).unwrap();
        let server = context.listen(b"echo").unwrap();
        Self { dir, context, server }
    }

    /// A raw connection to it, and its file descriptor on the service's side.
    fn raw(&mut self) -> (UnixStream, RawFd) {
        let stream = UnixStream::connect(self.dir.path().join("run/echo")).unwrap();
        let event = self.context.wait().unwrap();
        assert_eq!(event.kind, EventKind::Connection { server: self.server });
        let fd = event.fd;
        (stream, fd)
    }

    /// The next event as kind, file descriptor, message.
    fn next(&mut self) -> (EventKind, RawFd, Vec<u8>) {
        let Event { kind, fd, message, .. } = self.context.wait().unwrap();
        (kind, fd, message.to_vec())
    }

    fn received(&mut self, fd: RawFd, message: &[u8]) {
        assert_eq!(self.next(), (EventKind::MessageRx, fd, message.to_vec()));
    }
}

fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).unwrap();
    let mut message = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut message).unwrap();
    message
}

fn at_end(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

#[test]
fn the_bytes_on_the_wire_are_those_of_other_implementations() {
    let mut fixture = Fixture::new();
    let (mut raw, fd) = fixture.raw();
    fixture.context.write(fd, b"hello").unwrap();
    fixture.context.schedule(fd, b"").unwrap();
    assert_eq!(fixture.next().0, EventKind::MessageTx);
    let mut bytes = [0; 13];
    raw.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0\x05hello\0\0\0\0");
    raw.write_all(b"\0\0\0\x03abc").unwrap();
    fixture.received(fd, b"abc");
}

#[test]
fn each_frame_is_written_by_itself() {
    // There are peers that take what one read gives them for one message.
    let (ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::empty(),
    )
    .unwrap();
    let mut context = Context::in_dir("unused").unwrap();
    let fd = context.add_connection(ours).unwrap();
    context.schedule(fd, b"one").unwrap();
    context.schedule(fd, b"two").unwrap();
    context.write(fd, b"three").unwrap();
    let mut buffer = [0; 100];
    for message in ["one", "two", "three"] {
        let read = nix::unistd::read(&theirs, &mut buffer).unwrap();
        assert_eq!(buffer[..read], frame(message.as_bytes()).unwrap());
    }
}

#[test]
fn frames_split_and_coalesced_are_put_together() {
    let mut fixture = Fixture::new();
    let (mut raw, fd) = fixture.raw();
    let messages: [&[u8]; 4] = [b"one", b"", b"three", &[4; 20_000]];
    let wire: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
    raw.write_all(&wire).unwrap();
    for message in messages {
        fixture.received(fd, message);
    }
    let split = std::thread::spawn(move || {
        for byte in &wire[..30] {
            raw.write_all(&[*byte]).unwrap();
        }
        raw.write_all(&wire[30..]).unwrap();
        raw
    });
    for message in messages {
        fixture.received(fd, message);
    }
    // What is half there when the peer goes is no message.
    split.join().unwrap().write_all(b"\0\0\0\x05hel").unwrap();
    assert_eq!(fixture.next(), (EventKind::Disconnection, fd, vec![]));
}

#[test]
fn the_longest_message_passes_both_ways_and_a_longer_one_is_refused_before_the_wire() {
    let mut fixture = Fixture::new();
    let dir = fixture.dir.path().join("run");
    let longest: Vec<u8> = (0..MAX_PAYLOAD).map(|n| n as u8).collect();
    let client = std::thread::spawn(move || {
        let mut client = Context::in_dir(dir).unwrap();
        let fd = client.connect(b"echo").unwrap();
        let too_long = vec![0; MAX_PAYLOAD + 1];
        assert!(matches!(client.write(fd, &too_long), Err(Error::TooLong(99_993))));
        assert!(matches!(client.schedule(fd, &too_long), Err(Error::TooLong(99_993))));
        client.write(fd, &longest).unwrap();
        assert!(matches!(client.read(fd, MAX_PAYLOAD - 1), Err(Error::BufferTooSmall(MAX_PAYLOAD))));
        assert_eq!(client.read(fd, MAX_PAYLOAD).unwrap(), longest);
    });
    assert!(matches!(fixture.next().0, EventKind::Connection { .. }));
    let (kind, fd, message) = fixture.next();
    assert_eq!((kind, message.len()), (EventKind::MessageRx, MAX_PAYLOAD));
    fixture.context.schedule(fd, &message).unwrap();
    assert_eq!(fixture.next().0, EventKind::MessageTx);
    assert_eq!(fixture.next().0, EventKind::Disconnection);
    client.join().unwrap();
}

#[test]
fn a_queue_is_first_in_first_out_whatever_the_kernel_takes_and_bounded() {
    let mut fixture = Fixture::new();
    let (mut raw, fd) = fixture.raw();
    let mut queued = 0_u32;
    // Of different lengths, many times what a socket holds.
    let message = |number: u32| [&number.to_be_bytes()[..], &vec![7; number as usize % 5000]].concat();
    let refused = loop {
        match fixture.context.schedule(fd, &message(queued)) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::QueueFull));
    assert!(queued > 1000);
    let reader = std::thread::spawn(move || {
        for number in 0..queued {
            assert_eq!(read_frame(&mut raw), message(number));
        }
        // What is written at once comes after what was queued.
        assert_eq!(read_frame(&mut raw), b"last");
        raw
    });
    for _ in 0..queued / 2 {
        assert_eq!(fixture.next(), (EventKind::MessageTx, fd, vec![]));
    }
    fixture.context.write(fd, b"last").unwrap();
    for _ in queued / 2..queued {
        assert_eq!(fixture.next(), (EventKind::MessageTx, fd, vec![]));
    }
    drop(reader.join().unwrap());
    assert_eq!(fixture.next(), (EventKind::Disconnection, fd, vec![]));
}

#[test]
fn a_peer_that_breaks_the_protocol_is_closed_and_nobody_else_notices() {
    let mut fixture = Fixture::new();
    let (mut good, good_fd) = fixture.raw();
    for header in [99_993_u32, 120_000, u32::MAX] {
        let (mut bad, bad_fd) = fixture.raw();
        bad.write_all(&frame(b"before").unwrap()).unwrap();
        bad.write_all(&header.to_be_bytes()).unwrap();
        bad.write_all(&[0; 1000]).unwrap();
        fixture.received(bad_fd, b"before");
        assert_eq!(fixture.next(), (EventKind::Disconnection, bad_fd, vec![]));
        good.write_all(&frame(b"still here").unwrap()).unwrap();
        fixture.received(good_fd, b"still here");
    }
}

#[test]
fn what_a_peer_sent_before_it_went_is_read_and_writing_to_it_is_no_signal() {
    let mut fixture = Fixture::new();
    let (mut raw, fd) = fixture.raw();
    raw.write_all(&frame(b"bye").unwrap()).unwrap();
    drop(raw);
    assert!(matches!(fixture.context.write(fd, b"anybody?"), Err(Error::Disconnected)));
    fixture.received(fd, b"bye");
    assert_eq!(fixture.next(), (EventKind::Disconnection, fd, vec![]));
    assert!(matches!(fixture.context.write(fd, b"anybody?"), Err(Error::NotFound)));
}

#[test]
fn a_peer_that_never_stops_starves_neither_others_nor_the_timer() {
    let mut fixture = Fixture::new();
    let (mut busy, busy_fd) = fixture.raw();
    let (mut quiet, quiet_fd) = fixture.raw();
    fixture.context.set_timer(Some(Duration::from_millis(5)));
    let stop = std::thread::spawn(move || {
        let many = frame(b"x").unwrap().repeat(2000);
        while busy.write_all(&many).is_ok() {}
    });
    quiet.write_all(&frame(b"me too").unwrap()).unwrap();
    let (mut heard, mut timers) = (false, 0);
    while !heard || timers < 3 {
        match fixture.next() {
            (EventKind::MessageRx, fd, message) if fd == quiet_fd => {
                assert_eq!(message, b"me too");
                heard = true;
            }
            (EventKind::MessageRx, fd, _) => assert_eq!(fd, busy_fd),
            (EventKind::Timer, fd, _) => {
                assert_eq!(fd, 0);
                timers += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    fixture.context.close(busy_fd).unwrap();
    stop.join().unwrap();
}

#[test]
fn a_timer_that_is_always_due_leaves_room_for_the_rest() {
    let mut fixture = Fixture::new();
    let (mut raw, fd) = fixture.raw();
    raw.write_all(&frame(b"one").unwrap().repeat(2)).unwrap();
    fixture.context.set_timer(Some(Duration::ZERO));
    let kinds: Vec<EventKind> = (0..5).map(|_| fixture.next().0).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::MessageRx).count(), 2, "{kinds:?} of {fd}");
    fixture.context.set_timer(None);
    let start = Instant::now();
    fixture.context.set_timer(Some(Duration::from_millis(20)));
    assert_eq!(fixture.next().0, EventKind::Timer);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn one_service_of_a_name_and_its_files() {
    let mut fixture = Fixture::new();
    let run = fixture.dir.path().join("run");
    let mode = |name: &str| std::fs::metadata(run.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("echo")), (0o770, 0o660));
    assert_eq!(std::fs::metadata(run.join("echo.lock")).unwrap().len(), 0);
    let mut other = Context::in_dir(&run).unwrap();
    assert!(matches!(other.listen(b"echo"), Err(Error::Running)));
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'a'; 200]] {
        assert!(matches!(other.listen(name), Err(Error::Name)));
        assert!(matches!(other.connect(name), Err(Error::Name)));
    }
    assert!(
        matches!(other.connect(b"nobody"), Err(Error::System(error)) if error.kind() == ErrorKind::NotFound)
    );
    fixture.context.close(fixture.server).unwrap();
    assert!(!run.join("echo").exists());
    assert!(run.join("echo.lock").exists());
    // What a killed service leaves.
    drop(std::os::unix::net::UnixListener::bind(run.join("echo")).unwrap());
    other.listen(b"echo").unwrap();
    assert!(std::fs::metadata(run.join("echo")).unwrap().file_type().is_socket());
    drop(other);
    assert!(!run.join("echo").exists());
}

#[test]
fn indices_follow_the_connections() {
    let mut fixture = Fixture::new();
    let peers: Vec<_> = (0..4).map(|_| fixture.raw()).collect();
    for (index, (_, fd)) in peers.iter().enumerate() {
        assert_eq!(fixture.context.fd_at(index + 1), Some(*fd));
    }
    fixture.context.close(peers[0].1).unwrap();
    assert_eq!(fixture.context.fd_at(1), Some(peers[3].1));
    assert_eq!(fixture.context.fd_at(4), None);
    let (mut last, _) = peers.into_iter().next_back().unwrap();
    last.write_all(&frame(b"here").unwrap()).unwrap();
    let event = loop {
        // The others were dropped.
        let event = fixture.context.wait().unwrap();
        if event.kind != EventKind::Disconnection {
            break (event.kind, event.index, event.fd);
        }
    };
    assert_eq!(event.0, EventKind::MessageRx);
    assert_eq!(fixture.context.fd_at(event.1), Some(event.2));
    fixture.context.close_all();
    assert_eq!(fixture.context.fd_at(0), None);
    assert!(at_end(&mut last));
}

#[test]
fn a_thousand_connections() {
    let mut fixture = Fixture::new();
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mut clients: Vec<_> = (0..1000).map(|_| fixture.raw()).collect();
    for (number, (stream, _)) in clients.iter_mut().enumerate() {
        stream.write_all(&frame(&number.to_be_bytes()).unwrap()).unwrap();
    }
    for _ in 0..clients.len() {
        let (kind, fd, message) = fixture.next();
        assert_eq!(kind, EventKind::MessageRx);
        fixture.context.write(fd, &message).unwrap();
    }
    for (number, (stream, _)) in clients.iter_mut().enumerate() {
        assert_eq!(read_frame(stream), number.to_be_bytes());
    }
    let expected: std::collections::HashSet<RawFd> = clients.drain(..).map(|(_, fd)| fd).collect();
    let gone = (0..expected.len()).map(|_| fixture.next()).map(|(kind, fd, _)| {
        assert_eq!(kind, EventKind::Disconnection);
        fd
    });
    assert_eq!(gone.collect::<std::collections::HashSet<_>>(), expected);
}

/// Events until one of this kind, of this connection; how many disconnections of others came before it.
fn until(context: &mut Context, wanted: EventKind, fd: RawFd) -> usize {
    let mut gone = 0;
    loop {
        let event = context.wait().unwrap();
        if (event.kind, event.fd) == (wanted, fd) {
            return gone;
        }
        gone += usize::from(event.kind == EventKind::Disconnection);
    }
}

#[test]
fn peers_that_stop_within_a_message_hold_a_bounded_amount_and_nobody_up() {
    const LIMIT: usize = 1 << 20;
    let mut fixture = Fixture::new();
    fixture.context.set_memory_limit(LIMIT);
    let longest = vec![7; MAX_PAYLOAD];
    let wire = frame(&longest).unwrap();
    let (mut honest, honest_fd) = fixture.raw();
    let (mut stopped, mut gone) = (Vec::new(), 0);
    for _ in 0..30 {
        let (mut raw, _) = fixture.raw();
        let part = wire[..wire.len() - 1].to_vec();
        let writer = std::thread::spawn(move || {
            // An error once it is closed.
            let _ = raw.write_all(&part);
            raw
        });
        // Beside it, one that does not stop, and must get through each time.
        let mut sender = honest.try_clone().unwrap();
        let sent = wire.clone();
        let sender = std::thread::spawn(move || sender.write_all(&sent).unwrap());
        gone += until(&mut fixture.context, EventKind::MessageRx, honest_fd);
        assert!(fixture.context.memory_held() <= LIMIT);
        sender.join().unwrap();
        // Until all of it is in.
        fixture.context.set_timer(Some(Duration::ZERO));
        while !writer.is_finished() {
            gone += until(&mut fixture.context, EventKind::Timer, 0);
        }
        fixture.context.set_timer(None);
        stopped.push(writer.join().unwrap());
    }
    assert!((19..30).contains(&gone), "{gone} of 30 were closed, and about 10 fit");
    // Those were closed that were stuck the longest.
    assert!(matches!(stopped[0].read(&mut [0]), Ok(0) | Err(_)));
    let last = stopped.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    assert!(matches!(last.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock));
    drop(stopped);
    honest.write_all(&frame(b"end").unwrap()).unwrap();
    until(&mut fixture.context, EventKind::MessageRx, honest_fd);
    fixture.context.close_all();
    assert_eq!(fixture.context.memory_held(), 0);
}

#[test]
fn peers_that_do_not_read_hold_a_bounded_amount_and_nobody_up() {
    const LIMIT: usize = 1 << 20;
    let mut fixture = Fixture::new();
    let longest = vec![7; MAX_PAYLOAD];
    fixture.context.set_memory_limit(LIMIT);
    let deaf: Vec<_> = (0..5).map(|_| fixture.raw()).collect();
    let (mut honest, honest_fd) = fixture.raw();
    // One alone is refused more, and not closed for it.
    let refused = loop {
        if let Err(error) = fixture.context.schedule(deaf[0].1, &longest) {
            break error;
        }
    };
    assert!(matches!(refused, Error::QueueFull));
    assert!((LIMIT - 2 * MAX_PAYLOAD..=LIMIT).contains(&fixture.context.memory_held()));
    // Others take its memory.
    for (_, fd) in &deaf[1..] {
        for _ in 0..3 {
            fixture.context.schedule(*fd, &longest).unwrap();
        }
    }
    // It got a part of a message: nothing may follow that.
    let gone = deaf[0].1;
    assert!(matches!(fixture.context.schedule(gone, b"more"), Err(Error::Disconnected)));
    assert!(matches!(fixture.context.write(gone, b"more"), Err(Error::Disconnected)));
    assert!(matches!(fixture.context.read(gone, 9), Err(Error::Disconnected)));
    until(&mut fixture.context, EventKind::Disconnection, gone);
    for _ in 0..20 {
        fixture.context.schedule(honest_fd, &longest).unwrap();
        let reader = std::thread::spawn(move || {
            assert_eq!(read_frame(&mut honest).len(), MAX_PAYLOAD);
            honest
        });
        until(&mut fixture.context, EventKind::MessageTx, honest_fd);
        honest = reader.join().unwrap();
        assert!(fixture.context.memory_held() <= LIMIT);
    }
}

#[test]
fn switches_whose_ends_do_not_read_hold_a_bounded_amount_and_nobody_up() {
    const LIMIT: usize = 1 << 20;
    let mut context = Context::in_dir("unused").unwrap();
    context.set_memory_limit(LIMIT);
    context.set_timer(Some(Duration::ZERO));
    let wire = frame(&vec![7; MAX_PAYLOAD]).unwrap();
    let (mut gone, mut pairs) = (0, Vec::new());
    for _ in 0..20 {
        let [(one, _), (other, _)] = switch(&mut context);
        one.set_nonblocking(true).unwrap();
        let mut rest = Vec::new();
        // As much as is taken.
        for _ in 0..300 {
            if rest.is_empty() {
                rest.clone_from(&wire);
            }
            if let Ok(written) = (&one).write(&rest) {
                rest.drain(..written);
            }
            gone += until(&mut context, EventKind::Timer, 0);
            assert!(context.memory_held() <= LIMIT);
        }
        pairs.push((one, other));
    }
    assert!((1..20).contains(&gone), "{gone} were closed");
    context.set_timer(None);
    let [(mut one, one_fd), (mut other, other_fd)] = switch(&mut context);
    for _ in 0..20 {
        let sent = wire.clone();
        let sender = std::thread::spawn(move || {
            one.write_all(&sent).unwrap();
            one
        });
        until(&mut context, EventKind::SwitchRx, one_fd);
        let reader = std::thread::spawn(move || {
            assert_eq!(read_frame(&mut other).len(), MAX_PAYLOAD);
            other
        });
        until(&mut context, EventKind::SwitchTx, other_fd);
        (one, other) = (sender.join().unwrap(), reader.join().unwrap());
    }
}

#[test]
fn external_file_descriptors_are_reported_and_not_read() {
    let mut context = Context::in_dir("unused").unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = context.add_external(ours.try_clone().unwrap()).unwrap();
    theirs.write_all(b"raw bytes").unwrap();
    drop(theirs);
    let mut buffer = [0; 4];
    for piece in [&b"raw "[..], b"byte", b"s"] {
        let event = context.wait().unwrap();
        assert_eq!((event.kind, event.fd), (EventKind::External, fd));
        let read = ours.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], piece);
    }
    assert_eq!(context.wait().unwrap().kind, EventKind::Disconnection);

    // A peer that has sent all of it may still read.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let fd = context.add_external(ours.try_clone().unwrap()).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(context.wait().unwrap().kind, EventKind::External);
    assert_eq!((&ours).read(&mut buffer).unwrap(), 0);
    (&ours).write_all(b"yes").unwrap();
    theirs.read_exact(&mut buffer[..3]).unwrap();
    context.close(fd).unwrap();

    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = context.add_external(reader).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(context.wait().unwrap().kind, EventKind::External);
    nix::unistd::read(context.borrow(fd).unwrap(), &mut buffer).unwrap();
    drop(writer);
    assert_eq!(context.wait().unwrap().kind, EventKind::Disconnection);
    assert!(context.add_external(tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn a_pipe_without_a_reader_is_an_error_and_no_signal() {
    let mut context = Context::in_dir("unused").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let fd = context.add_external(writer).unwrap();
    context.write(fd, &[1; 10_000]).unwrap();
    drop(reader);
    assert!(matches!(context.write(fd, b"x"), Err(Error::Disconnected)));
    assert_eq!(context.wait().unwrap().kind, EventKind::Disconnection);
}

/// Two raw streams whose other ends are switched.
fn switch(context: &mut Context) -> [(UnixStream, RawFd); 2] {
    let pair = |context: &mut Context| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (theirs, context.add_external(OwnedFd::from(ours)).unwrap())
    };
    let ends = [pair(context), pair(context)];
    context.add_switch(ends[0].1, ends[1].1).unwrap();
    ends
}

#[test]
fn a_switch_carries_messages_both_ways() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(mut a, a_fd), (mut b, b_fd)] = switch(&mut context);
    assert!(context.add_switch(a_fd, b_fd).is_err());
    assert!(context.add_switch(a_fd, a_fd).is_err());
    let mut carry = |from: &mut UnixStream, from_fd: RawFd, to: &mut UnixStream, to_fd: RawFd| {
        // In two pieces, and the second message with the first.
        from.write_all(b"\0\0\0\x02h").unwrap();
        context.set_timer(Some(Duration::from_millis(1)));
        assert_eq!(context.wait().unwrap().kind, EventKind::Timer);
        context.set_timer(None);
        from.write_all(b"i\0\0\0\0").unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let event = context.wait().unwrap();
            seen.push((event.kind, event.fd, event.message.to_vec()));
        }
        seen.sort_by_key(|(kind, _, message)| (*kind == EventKind::SwitchTx, message.is_empty()));
        assert_eq!(
            seen,
            [
                (EventKind::SwitchRx, from_fd, b"hi".to_vec()),
                (EventKind::SwitchRx, from_fd, vec![]),
                (EventKind::SwitchTx, to_fd, vec![]),
                (EventKind::SwitchTx, to_fd, vec![]),
            ]
        );
        assert_eq!((read_frame(to), read_frame(to)), (b"hi".to_vec(), vec![]));
    };
    carry(&mut a, a_fd, &mut b, b_fd);
    carry(&mut b, b_fd, &mut a, a_fd);
}

#[test]
fn when_one_end_of_a_switch_goes_the_other_gets_all_and_goes_too() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(mut a, a_fd), (mut b, b_fd)] = switch(&mut context);
    let message = vec![5; 50_000];
    let wire = frame(&message).unwrap();
    let writer = std::thread::spawn(move || (0..40).for_each(|_| a.write_all(&wire).unwrap()));
    // Nobody reads yet: the switch takes no more than it may hold, and then there is nothing to do.
    context.set_timer(Some(Duration::from_millis(200)));
    let mut taken = 0;
    loop {
        match context.wait().unwrap().kind {
            EventKind::SwitchRx => taken += 1,
            EventKind::SwitchTx => {}
            EventKind::Timer => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(taken < 20, "{taken} messages were read ahead");
    context.set_timer(None);
    let reader = std::thread::spawn(move || {
        (0..40).for_each(|_| assert_eq!(read_frame(&mut b), message));
        assert!(at_end(&mut b));
    });
    let mut ends = Vec::new();
    context.set_timer(Some(Duration::from_millis(1)));
    while !reader.is_finished() {
        let event = context.wait().unwrap();
        if !matches!(event.kind, EventKind::SwitchRx | EventKind::SwitchTx | EventKind::Timer) {
            ends.push((event.kind, event.fd));
        }
    }
    reader.join().unwrap();
    writer.join().unwrap();
    assert_eq!(ends, [(EventKind::Disconnection, a_fd)]);
    assert!(context.borrow(b_fd).is_none());
}

#[test]
fn what_waits_when_the_other_end_of_a_switch_goes_is_still_written() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(mut a, a_fd), (mut b, b_fd)] = switch(&mut context);
    context.set_timer(Some(Duration::from_millis(50)));
    let mut next = || {
        let mut timers = 0;
        loop {
            let Event { kind, fd, .. } = context.wait().unwrap();
            timers += usize::from(kind == EventKind::Timer);
            // After one, all else comes first: two in a row are silence.
            if kind != EventKind::Timer || timers == 2 {
                return (kind, fd);
            }
        }
    };
    let message = vec![5; 10_000];
    let mut count = 0;
    loop {
        a.write_all(&frame(&message).unwrap()).unwrap();
        count += 1;
        assert_eq!(next(), (EventKind::SwitchRx, a_fd));
        // Until the kernel takes no more for the other end.
        if next() != (EventKind::SwitchTx, b_fd) {
            break;
        }
    }
    drop(a);
    assert_eq!(next(), (EventKind::Disconnection, a_fd));
    assert_eq!(next().0, EventKind::Timer);
    let reader = std::thread::spawn(move || {
        (0..count).for_each(|_| assert_eq!(read_frame(&mut b), message));
        assert!(at_end(&mut b));
    });
    assert_eq!(next(), (EventKind::SwitchTx, b_fd));
    reader.join().unwrap();
}

#[test]
fn callbacks_of_a_switch_take_effect() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(mut lines, lines_fd), (mut framed, framed_fd)] = switch(&mut context);
    // One end speaks in lines; a line that begins with # is nobody's business.
    let ours = context.borrow(lines_fd).unwrap().try_clone_to_owned().unwrap();
    let (mut from_lines, mut to_lines) =
        (UnixStream::from(ours.try_clone().unwrap()), UnixStream::from(ours));
    let input = move |_: RawFd, out: &mut Vec<u8>| {
        let mut line = [0; 100];
        match from_lines.read(&mut line).unwrap() {
            0 => Verdict::Closing,
            _ if line[0] == b'#' => Verdict::Ignore,
            _ if line[0] == b'!' => Verdict::Error,
            len => {
                *out = frame(&line[..len - 1]).unwrap();
                Verdict::Message
            }
        }
    };
    let output = move |_: RawFd, message: &[u8]| {
        let message = &message[HEADER..];
        if message.starts_with(b"#") {
            return Verdict::Ignore;
        }
        to_lines.write_all(&[message, b"\n"].concat()).unwrap();
        Verdict::Message
    };
    context.set_switch_callbacks(lines_fd, Some(Box::new(input)), Some(Box::new(output))).unwrap();

    lines.write_all(b"# comment\n").unwrap();
    context.set_timer(Some(Duration::from_millis(20)));
    assert_eq!(context.wait().unwrap().kind, EventKind::Timer);
    context.set_timer(None);
    lines.write_all(b"hello\n").unwrap();
    let event = context.wait().unwrap();
    assert_eq!((event.kind, event.fd, event.message), (EventKind::SwitchRx, lines_fd, &b"hello"[..]));
    let event = context.wait().unwrap();
    assert_eq!((event.kind, event.fd), (EventKind::SwitchTx, framed_fd));
    assert_eq!(read_frame(&mut framed), b"hello");

    for message in ["# not this", "this"] {
        framed.write_all(&frame(message.as_bytes()).unwrap()).unwrap();
    }
    let kinds: Vec<EventKind> = (0..3).map(|_| context.wait().unwrap().kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::SwitchRx).count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::SwitchTx).count(), 1);
    let mut line = [0; 5];
    lines.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"this\n");

    lines.write_all(b"!\n").unwrap();
    let event = context.wait().unwrap();
    assert_eq!((event.kind, event.fd), (EventKind::Error, lines_fd));
    assert!(at_end(&mut framed));
}

#[test]
fn a_callback_that_makes_no_frame_ends_the_switch() {
    for wrong in [&b""[..], b"\0\0", b"\0\0\0\x05four", b"\xff\xff\xff\xffmuch"] {
        let mut context = Context::in_dir("unused").unwrap();
        let [(mut a, a_fd), (mut b, _)] = switch(&mut context);
        let input = move |_: RawFd, out: &mut Vec<u8>| {
            out.extend_from_slice(wrong);
            Verdict::Message
        };
        context.set_switch_callbacks(a_fd, Some(Box::new(input)), None).unwrap();
        a.write_all(b"x").unwrap();
        assert_eq!(context.wait().unwrap().kind, EventKind::Error);
        assert!(at_end(&mut b));
    }
}

#[test]
fn one_end_of_a_switch_that_is_closed_leaves_the_other_as_it_was() {
    let mut fixture = Fixture::new();
    let ((_a, a_fd), (mut b, b_fd)) = (fixture.raw(), fixture.raw());
    fixture.context.add_switch(a_fd, b_fd).unwrap();
    fixture.context.close(a_fd).unwrap();
    b.write_all(&frame(b"to you").unwrap()).unwrap();
    fixture.received(b_fd, b"to you");

    // What was read of one that the program reads itself is lost, and takes no memory.
    let mut context = Context::in_dir("unused").unwrap();
    let [(_a, a_fd), (mut b, b_fd)] = switch(&mut context);
    b.write_all(&frame(b"to you").unwrap().repeat(2)).unwrap();
    assert_eq!(context.wait().unwrap().kind, EventKind::SwitchRx);
    context.close(a_fd).unwrap();
    assert_eq!((context.memory_held(), context.borrow(b_fd).is_some()), (0, true));
}

#[test]
fn a_loop_of_its_own_asks_when_the_file_descriptor_says_so() {
    let mut fixture = Fixture::new();
    assert!(fixture.context.poll().unwrap().is_none());
    let waits = |context: &Context| {
        let mut fds = [PollFd::new(context.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, 10_000_u16).unwrap()
    };
    let (mut peer, fd) = fixture.raw();
    peer.write_all(&[frame(b"one").unwrap(), frame(b"two").unwrap()].concat()).unwrap();
    assert_eq!(waits(&fixture.context), 1);
    let mut got = Vec::new();
    while got.len() < 2 {
        if let Some(event) = fixture.context.poll().unwrap() {
            got.push((event.kind, event.fd, event.message.to_vec()));
        }
    }
    let message = |text: &[u8]| (EventKind::MessageRx, fd, text.to_vec());
    assert_eq!(got, [message(b"one"), message(b"two")]);
    assert!(fixture.context.poll().unwrap().is_none());

    // What it does itself shows at the next question, if not in the file descriptor.
    fixture.context.schedule(fd, b"three").unwrap();
    assert_eq!(fixture.context.poll().unwrap().unwrap().kind, EventKind::MessageTx);
    assert!(fixture.context.poll().unwrap().is_none());
    assert_eq!(read_frame(&mut peer), b"three");
    drop(peer);
    assert_eq!(waits(&fixture.context), 1);
    assert_eq!(fixture.context.poll().unwrap().unwrap().kind, EventKind::Disconnection);
}

#[test]
fn what_was_read_before_a_callback_was_set_is_taken_as_frames_and_what_follows_by_the_callback() {
    // How much of the third message was read.
    for half in [0, 2, HEADER, HEADER + 3] {
        let mut fixture = Fixture::new();
        let ((mut a, a_fd), (mut b, b_fd)) = (fixture.raw(), fixture.raw());
        let third = frame(b"third").unwrap();
        let ahead = [frame(b"first").unwrap(), frame(b"second").unwrap(), third[..half].to_vec()].concat();
        a.write_all(&ahead).unwrap();
        fixture.received(a_fd, b"first");

        let mut ours = UnixStream::from(fixture.context.borrow(a_fd).unwrap().try_clone_to_owned().unwrap());
        let input = move |_: RawFd, out: &mut Vec<u8>| {
            let mut line = [0; 100];
            let len = ours.read(&mut line).unwrap();
            *out = frame(&line[..len]).unwrap();
            Verdict::Message
        };
        fixture.context.add_switch(a_fd, b_fd).unwrap();
        fixture.context.set_switch_callbacks(a_fd, Some(Box::new(input)), None).unwrap();
        // With the rest of it comes a line, of which the library is to read nothing.
        let (rest, wanted): (_, &[&[u8]]) = match half {
            0 => (&[][..], &[b"second", b"a line"]),
            _ => (&third[half..], &[b"second", b"third", b"a line"]),
        };
        a.write_all(&[rest, b"a line"].concat()).unwrap();
        // If nothing comes any more, it fails instead of waiting for ever.
        fixture.context.set_timer(Some(Duration::from_secs(20)));
        let (mut came, mut written) = (Vec::new(), 0);
        while written < wanted.len() {
            match fixture.next() {
                (EventKind::SwitchRx, _, message) => came.push(message),
                (EventKind::SwitchTx, ..) => written += 1,
                other => panic!("{other:?} after {came:?}"),
            }
        }
        assert_eq!(came, wanted);
        for message in wanted {
            assert_eq!(read_frame(&mut b), *message);
        }
    }
}

#[test]
fn a_message_that_is_written_in_part_is_ended_before_a_callback_writes() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(_a, _), (mut b, b_fd)] = switch(&mut context);
    let message = vec![5; MAX_PAYLOAD];
    let mut count = 0;
    loop {
        context.schedule(b_fd, &message).unwrap();
        count += 1;
        if context.poll().unwrap().is_none() {
            break;
        }
    }
    // The kernel took as much as it would of the last.
    let (called, calls) = std::sync::mpsc::channel();
    let output = move |_: RawFd, frame: &[u8]| {
        called.send(frame.to_vec()).unwrap();
        Verdict::Message
    };
    context.set_switch_callbacks(b_fd, None, Some(Box::new(output))).unwrap();
    context.schedule(b_fd, b"whole").unwrap();
    let reader = std::thread::spawn(move || (0..count).for_each(|_| assert_eq!(read_frame(&mut b), message)));
    assert_eq!(context.wait().unwrap().kind, EventKind::SwitchTx);
    assert_eq!(context.wait().unwrap().kind, EventKind::SwitchTx);
    assert!(calls.try_iter().eq([frame(b"whole").unwrap()]));
    reader.join().unwrap();
}

#[test]
fn a_write_to_what_goes_with_the_other_end_of_a_switch_does_not_keep_it() {
    let mut context = Context::in_dir("unused").unwrap();
    let [(a, a_fd), (mut b, b_fd)] = switch(&mut context);
    drop(a);
    // More than are written before epoll is asked, which knows that the other end is gone.
    for _ in 0..100 {
        context.schedule(b_fd, b"scheduled").unwrap();
    }
    while context.wait().unwrap().kind != EventKind::Disconnection {}
    assert!(context.borrow(a_fd).is_none() && context.borrow(b_fd).is_some());
    context.write(b_fd, b"written").unwrap();
    while context.poll().unwrap().is_some() {}
    assert!(context.borrow(b_fd).is_none());
    for _ in 0..100 {
        assert_eq!(read_frame(&mut b), b"scheduled");
    }
    assert_eq!(read_frame(&mut b), b"written");
    assert!(at_end(&mut b));
}
