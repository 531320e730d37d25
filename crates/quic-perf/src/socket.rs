//! A UDP socket on Tokio: many datagrams a system call, both ways.

use coquic::{EcnCodepoint, RouteHandle};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Asked for; the system may give less.
const KERNEL_BUFFER: usize = 2 << 20;
/// What one system call may join into one datagram.
const LARGEST: usize = 65_535;
/// So many buffers of that size: few on machines like routers.
const BUFFERS: usize = if cfg!(target_pointer_width = "32") { 4 } else { BATCH_SIZE };
/// Of that size, datagrams are sent at once.
const LARGE: usize = 8192;
/// Bytes that are collected before they are sent.
const FULL: usize = 1 << 17;

/// Where the peer is.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.next();
    found.ok_or_else(|| format!("{host}: no address"))
}

/// A socket with room in the kernel.
pub(crate) fn bind(local: SocketAddr) -> Result<UdpSocket, String> {
    let bind = || {
        let io = UdpSocket::bind(local)?;
        let state = UdpSocketState::new((&io).into())?;
        state.set_send_buffer_size((&io).into(), KERNEL_BUFFER)?;
        state.set_recv_buffer_size((&io).into(), KERNEL_BUFFER)?;
        Ok::<_, io::Error>(io)
    };
    bind().map_err(|error| format!("{local}: {error}"))
}

/// Any free port, of the same kind as the peer's address.
pub(crate) fn any_for(peer: SocketAddr) -> SocketAddr {
    if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() }
}

/// A bound socket that never blocks.
///
/// Tokio's own asks to be told of room to send, too, and the kernel tells so whenever something has been sent.
pub(crate) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
}

/// What has come.
#[derive(Default)]
pub(crate) struct Inbox {
    buffers: Box<[Box<[u8]>]>,
    metas: Box<[RecvMeta]>,
    count: usize,
}

/// What is to be sent.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    batches: Vec<Batch>,
}

/// Datagrams that one system call sends: all but the last are of one size.
#[derive(Debug)]
struct Batch {
    to: RouteHandle,
    ecn: EcnCodepoint,
    segment: usize,
    end: usize,
    count: usize,
    /// Nothing can be appended.
    closed: bool,
}

/// A datagram that came, or several that the kernel has joined.
pub(crate) struct Received<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) ecn: EcnCodepoint,
    pub(crate) datagrams: std::slice::Chunks<'a, u8>,
}

impl Socket {
    pub(crate) fn new(io: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&io).into())?;
        // `state` has made it non-blocking.
        Ok(Self { io: watch(io, Interest::READABLE)?, state })
    }

    /// Takes what has come, in place of what came before.
    pub(crate) fn poll_receive(&self, context: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        inbox.count = 0;
        let mut slices = inbox.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        loop {
            let mut readable = ready!(self.io.poll_read_ready(context))?;
            let mut count = 0;
            let read = readable.try_io(|io| {
                count = self.state.recv(io.get_ref().into(), &mut slices, &mut inbox.metas)?;
                // Fewer than there is room for: it was all, and what comes later is told of. To say so here spares the
                // system call that would find nothing.
                if count < BUFFERS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match read {
                _ if count > 0 => {
                    inbox.count = count;
                    return Poll::Ready(Ok(()));
                }
                // Anybody can send an ICMP message that shows up as an error; QUIC does not believe them.
                Ok(Err(error)) if !is_icmp(&error) => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
    }

    fn try_send(
        &self,
        destination: SocketAddr,
        ecn: EcnCodepoint,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let ecn = match ecn {
            EcnCodepoint::Unavailable | EcnCodepoint::NotEct => None,
            EcnCodepoint::Ect0 => Some(quinn_udp::EcnCodepoint::Ect0),
            EcnCodepoint::Ect1 => Some(quinn_udp::EcnCodepoint::Ect1),
            EcnCodepoint::Ce => Some(quinn_udp::EcnCodepoint::Ce),
        };
        let transmit = Transmit { destination, ecn, contents, segment_size, src_ip: None };
        self.state.try_send(self.io.get_ref().into(), &transmit)
    }

    /// Waits for room to send.
    async fn writable(&self) -> io::Result<()> {
        let io = watch(self.io.get_ref().try_clone()?, Interest::WRITABLE)?;
        io.writable().await.map(drop)
    }

    /// Sends everything; what has no address any more, and what the system refuses, is lost.
    pub(crate) async fn send(
        &self,
        outbox: &mut Outbox,
        address: impl Fn(RouteHandle) -> Option<SocketAddr>,
    ) -> io::Result<()> {
        let mut start = 0;
        for batch in outbox.batches.drain(..) {
            let contents = &outbox.bytes[start..batch.end];
            start = batch.end;
            let Some(destination) = address(batch.to) else { continue };
            let segment = (batch.count > 1).then_some(batch.segment);
            while let Err(error) = self.try_send(destination, batch.ecn, contents, segment)
                && error.kind() == io::ErrorKind::WouldBlock
            {
                self.writable().await?;
            }
        }
        outbox.bytes.clear();
        Ok(())
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            buffers: (0..BUFFERS).map(|_| vec![0; LARGEST].into()).collect(),
            metas: vec![RecvMeta::default(); BUFFERS].into(),
            count: 0,
        }
    }

    pub(crate) fn received(&self) -> impl Iterator<Item = Received<'_>> {
        self.metas[..self.count].iter().zip(&self.buffers).map(|(meta, buffer)| Received {
            from: meta.addr,
            ecn: match meta.ecn {
                None => EcnCodepoint::NotEct,
                Some(quinn_udp::EcnCodepoint::Ect0) => EcnCodepoint::Ect0,
                Some(quinn_udp::EcnCodepoint::Ect1) => EcnCodepoint::Ect1,
                Some(quinn_udp::EcnCodepoint::Ce) => EcnCodepoint::Ce,
            },
            datagrams: buffer[..meta.len].chunks(meta.stride.max(1)),
        })
    }
}

impl Outbox {
    /// Sends datagrams, or keeps them until [`Socket::send`]: small ones wait for others that go with them.
    pub(crate) fn push(
        &mut self,
        socket: &Socket,
        datagrams: &coquic::Transmit<'_>,
        address: impl Fn(RouteHandle) -> Option<SocketAddr>,
    ) {
        let coquic::Transmit { route_handle, bytes, segment_size, ecn, is_pmtu_probe, .. } = *datagrams;
        let Some(to) = route_handle else { return };
        let most = socket.state.max_gso_segments();
        let count = bytes.len().div_ceil(segment_size);
        if self.batches.is_empty() && bytes.len() >= LARGE && (2..=most).contains(&count) {
            let sent = match address(to) {
                Some(destination) => socket.try_send(destination, ecn, bytes, Some(segment_size)),
                None => return,
            };
            if !matches!(sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
        }
        self.keep(to, ecn, bytes, segment_size, is_pmtu_probe, most);
    }

    /// Appends datagrams, to the batch before them if that is possible and `most` allows it.
    fn keep(
        &mut self,
        to: RouteHandle,
        ecn: EcnCodepoint,
        bytes: &[u8],
        segment: usize,
        alone: bool,
        most: usize,
    ) {
        for bytes in bytes.chunks(segment) {
            self.bytes.extend_from_slice(bytes);
            let end = self.bytes.len();
            match self.batches.last_mut() {
                Some(batch)
                    if !batch.closed
                        && !alone
                        && (batch.to, batch.ecn) == (to, ecn)
                        && bytes.len() <= batch.segment
                        && batch.count < most
                        && (batch.count + 1) * batch.segment <= LARGEST =>
                {
                    batch.end = end;
                    batch.count += 1;
                    batch.closed = bytes.len() < batch.segment;
                }
                _ => {
                    self.batches.push(Batch { to, ecn, segment: bytes.len(), end, count: 1, closed: alone });
                }
            }
        }
    }

    /// It is time to send.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }
}

/// Has Tokio tell what happens to a socket.
#[expect(unsafe_code, reason = "Tokio has no other way to be interested in one thing only")]
fn watch(io: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a `UdpSocket` owns one open descriptor for as long as it lives, and always gives that one.
    Ok(unsafe { AsyncFd::register_with_interest(io, interest) }?)
}

fn is_icmp(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_one_size_are_one_batch() {
        let mut outbox = Outbox::default();
        let mut push =
            |to, size, alone| outbox.keep(to, EcnCodepoint::NotEct, &vec![0; size], size, alone, 4);
        for size in [1200, 1200, 100] {
            push(1, size, false);
        }
        // Behind a short one there is no more room; another way; larger; alone; too many.
        push(1, 100, false);
        push(2, 100, false);
        push(2, 1300, false);
        push(2, 1300, true);
        for _ in 0..5 {
            push(2, 1300, false);
        }
        let batches: Vec<_> =
            outbox.batches.iter().map(|batch| (batch.to, batch.segment, batch.count)).collect();
        let expected =
            [(1, 1200, 3), (1, 100, 1), (2, 100, 1), (2, 1300, 1), (2, 1300, 1), (2, 1300, 4), (2, 1300, 1)];
        assert_eq!(batches, expected);
        assert_eq!(outbox.batches.last().unwrap().end, outbox.bytes.len());
    }

    #[test]
    fn a_batch_fits_a_datagram_of_ip() {
        let mut outbox = Outbox::default();
        for _ in 0..64 {
            outbox.keep(1, EcnCodepoint::NotEct, &[0; 1472], 1472, false, 64);
        }
        assert_eq!(outbox.batches.iter().map(|batch| batch.count).collect::<Vec<_>>(), [44, 20]);
    }
}
