//! A UDP socket for quinn that takes one datagram at a time.
//!
//! Where the kernel may join datagrams (GRO), quinn sets 3 MB aside for them: more than all the rest needs.

use qpc_transport::socket::switch_off_gro;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Binds a socket.
pub(super) fn bind(local: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = std::net::UdpSocket::bind(local)?;
    let handle = socket.try_clone()?;
    let socket = TokioRuntime.wrap_udp_socket(socket)?;
    switch_off_gro(&handle)?;
    Ok(Arc::new(SingleDatagrams(socket)))
}

#[derive(Debug)]
struct SingleDatagrams(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for SingleDatagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
