//! Whatever peers and the program do, in whatever order: nothing panics or hangs, indices and file descriptors agree,
//! memory is bounded, and what one peer sends through whole frames arrives in order.

#![allow(clippy::unwrap_used, missing_docs)]

use qpc_ipc::{Context, Error, EventKind, Verdict, frame};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Marsaglia's xorshift.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound
    }
}

/// The far end of a connection.
struct Far {
    stream: UnixStream,
    fd: RawFd,
    /// Numbers of its messages; only a peer that sends nothing else is held to their order.
    sent: u32,
    honest: bool,
}

#[test]
fn any_order_of_things() {
    let received: u32 = (1..=200).map(|seed| run(Random(seed * 7919))).sum();
    assert!(received > 1000, "it tries too little: {received} messages came");
}

/// How many messages arrived.
fn run(mut random: Random) -> u32 {
    let mut context = Context::in_dir("unused").unwrap();
    context.set_queue_limit(300_000);
    let memory_limit = [200_000, usize::MAX][random.below(2)];
    context.set_memory_limit(memory_limit);
    // It is due at once whenever nothing else is, so that no call waits for ever.
    context.set_timer(Some(Duration::ZERO));
    let mut far: Vec<Far> = Vec::new();
    let mut next: HashMap<RawFd, u32> = HashMap::new();
    let mut received = 0;
    let mut buffer = vec![0; 70_000];
    for _ in 0..400 {
        let one = random.below(far.len().max(1));
        let other = random.below(far.len().max(1));
        match random.below(20) {
            0 | 1 => {
                let (ours, stream) = UnixStream::pair().unwrap();
                stream.set_nonblocking(true).unwrap();
                let external = random.below(3) == 0;
                let added = if external {
                    context.add_external(ours).map_err(|(error, _)| error)
                } else {
                    context.add_connection(ours)
                };
                let fd = added.unwrap();
                // The number may have been one before.
                far.iter_mut().filter(|peer| peer.fd == fd).for_each(|peer| peer.fd = -1);
                next.insert(fd, 0);
                far.push(Far { stream, fd, sent: 0, honest: !external });
            }
            _ if far.is_empty() => {}
            2 | 3 => {
                let peer = &mut far[one];
                let mut message = vec![1; 4 + random.below(3000)];
                message[..4].copy_from_slice(&peer.sent.to_be_bytes());
                let bytes = frame(&message).unwrap();
                match peer.stream.write(&bytes) {
                    Ok(written) if written == bytes.len() => peer.sent += 1,
                    // The rest does not follow.
                    _ => peer.honest = false,
                }
            }
            4 => {
                let garbage: Vec<u8> = (0..random.below(20)).map(|_| random.below(3) as u8).collect();
                let _ = far[one].stream.write(&garbage);
                far[one].honest = false;
            }
            5 => {
                let _ = far[one].stream.read(&mut buffer);
            }
            6 if random.below(3) == 0 => drop(far.swap_remove(one)),
            6 => {
                let _ = context.close(far[one].fd);
            }
            7 => match context.schedule(far[one].fd, &buffer[..random.below(buffer.len())]) {
                Ok(()) | Err(Error::Disconnected | Error::NotFound | Error::QueueFull) => {}
                Err(other) => panic!("{other}"),
            },
            8 => {
                if context.add_switch(far[one].fd, far[other].fd).is_ok() {
                    far[one].honest = false;
                    far[other].honest = false;
                }
            }
            9 if random.below(4) == 0 => {
                let verdict =
                    [Verdict::Closing, Verdict::Error, Verdict::Ignore, Verdict::Message][random.below(4)];
                let input = move |_: RawFd, out: &mut Vec<u8>| {
                    *out = frame(b"made up").unwrap();
                    verdict
                };
                let output = move |_: RawFd, _: &[u8]| verdict;
                let _ =
                    context.set_switch_callbacks(far[one].fd, Some(Box::new(input)), Some(Box::new(output)));
            }
            _ => {
                let event = context.wait().unwrap();
                if event.kind == EventKind::MessageRx
                    && let Some(peer) = far.iter().find(|peer| peer.fd == event.fd && peer.honest)
                {
                    let next = next.get_mut(&event.fd).unwrap();
                    assert_eq!(event.message[..4], next.to_be_bytes(), "of {} sent", peer.sent);
                    *next += 1;
                    received += 1;
                }
                if event.kind == EventKind::Disconnection {
                    let fd = event.fd;
                    assert!(context.borrow(fd).is_none());
                }
            }
        }
        assert!(context.memory_held() <= memory_limit);
        let mut index = 0;
        while let Some(fd) = context.fd_at(index) {
            assert!(context.borrow(fd).is_some());
            index += 1;
        }
    }
    context.close_all();
    assert_eq!(context.memory_held(), 0);
    for peer in &mut far {
        while matches!(peer.stream.read(&mut buffer), Ok(1..)) {}
        // Neither open nor waiting.
        assert!(
            !matches!(peer.stream.read(&mut buffer), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        );
    }
    received
}
