//! A host's addresses.

use qpc_transport::executor::readable;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

/// Looks a host up. The system's resolver blocks, so it has a thread of its own, which ends when it has an answer, whether
/// anybody still waits for that or not.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let (ended, working) = io::pipe()?;
    let host = host.to_owned();
    let thread = thread::Builder::new().name("qpc-resolve".into()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        drop(working);
        found
    })?;
    readable(Arc::new(ended)).await;
    let found = thread.join().map_err(|_| io::Error::other("the resolver failed"))?;
    Ok(found?.collect())
}
