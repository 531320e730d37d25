//! A UDP socket for QUIC: datagrams in batches, with the address they came to and their ECN bits.
//!
//! What the kernel would join on the way in (GRO) stays apart: room for joined datagrams takes 3 MB, more than all the
//! rest needs. On the way out a whole batch is one system call (GSO), where the kernel can.

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bound socket that never blocks.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Arc<UdpSocket>,
    state: UdpSocketState,
    /// When an error was last written to the log.
    logged: Option<Instant>,
}

/// What came of sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// Gone, or lost: which of them makes no difference to QUIC.
    Done,
    /// The kernel's buffer is full.
    Blocked,
}

impl Socket {
    pub(crate) fn bind(local: SocketAddr) -> io::Result<Self> {
        let io = UdpSocket::bind(local)?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        switch_off_gro(&io)?;
        Ok(Self { io: Arc::new(io), state, logged: None })
    }

    pub(crate) fn share(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.io)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Whether packets may be cut on their way, so that their size says nothing about the path.
    pub(crate) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Datagrams that may be sent as one batch.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().min(MAX_SEGMENTS)
    }

    /// Takes what has come, as many datagrams as there are buffers.
    pub(crate) fn receive(&mut self, into: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        match self.state.recv(UdpSockRef::from(&*self.io), into, meta) {
            Ok(count) => count,
            Err(error) => {
                // Anybody can have a router on the way send an ICMP message that shows up as a reset.
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) {
                    self.complain("receive", &error);
                }
                0
            }
        }
    }

    pub(crate) fn send(&mut self, transmit: &Transmit, contents: &[u8]) -> Sent {
        let datagrams = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.state.try_send(UdpSockRef::from(&*self.io), &datagrams) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
            // Probes for the largest packet the path takes are meant to fail.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => {}
            Err(error) => self.complain("send", &error),
        }
        Sent::Done
    }

    /// One peer that cannot be reached is no reason to fill the log.
    fn complain(&mut self, what: &str, error: &io::Error) {
        if self.logged.is_none_or(|logged| logged.elapsed() > LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            log::warn!("cannot {what} packets: {error}");
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// The ECN bits of a datagram, for QUIC.
pub(crate) fn ecn(meta: &RecvMeta) -> Option<EcnCodepoint> {
    meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8))
}

/// Has datagrams come one by one.
fn switch_off_gro(socket: &UdpSocket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::errno::Errno;
        use nix::sys::socket::{setsockopt, sockopt};

        // A kernel that does not know the option does not join datagrams either.
        match setsockopt(socket, sockopt::UdpGroSegment, &false) {
            Ok(()) | Err(Errno::ENOPROTOOPT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
    Ok(())
}

/// More bring little, and each takes a packet's memory.
const MAX_SEGMENTS: usize = 10;
/// Least time between two complaints.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
