//! Connection ids, used tokens, and the addresses that stand for routes.

use crate::bounds::USED_TOKENS;
use crate::tls::random;
use crate::types::*;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, TokenLog, TokenReuseError};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Gives the engine the ids that the caller chose, and random ones where he did not.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionIds(Arc<(AtomicUsize, Mutex<Ids>)>);

#[derive(Debug)]
struct Ids {
    chosen: Option<ConnectionId>,
    random: [u8; 240],
    used: usize,
}

impl ConnectionIds {
    pub(crate) fn new() -> Self {
        let ids = Ids { chosen: None, random: [0; 240], used: 240 };
        Self(Arc::new((AtomicUsize::new(8), Mutex::new(ids))))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Every id has as many bytes as the one chosen for the next connection.
    pub(crate) fn choose(&self, id: &[u8]) {
        self.0.0.store(id.len(), Ordering::Relaxed);
        self.ids().chosen = (!id.is_empty()).then(|| ConnectionId::new(id));
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let len = self.len();
        let mut ids = self.ids();
        let ids = &mut *ids;
        if let Some(chosen) = ids.chosen.take() {
            return chosen;
        }
        if ids.used + len > ids.random.len() {
            // The engine, too, panics where the system gives no randomness.
            assert!(random(&mut ids.random).is_some(), "the system gives no randomness");
            ids.used = 0;
        }
        let id = ConnectionId::new(&ids.random[ids.used..ids.used + len]);
        ids.used += len;
        id
    }

    fn cid_len(&self) -> usize {
        self.len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Tokens of NEW_TOKEN frames are good once. What is remembered of used ones is bounded: while that is full, further tokens
/// are worth nothing, which costs their owners a round trip.
#[derive(Debug, Default)]
pub(crate) struct UsedTokens(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// Those of this period and of the one before.
    current: HashSet<u128>,
    before: HashSet<u128>,
    /// When the first token of this period was issued.
    since: Option<SystemTime>,
}

impl TokenLog for UsedTokens {
    fn check_and_insert(
        &self,
        nonce: u128,
        issued: SystemTime,
        lifetime: Duration,
    ) -> Result<(), TokenReuseError> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *used.since.get_or_insert(issued);
        if issued.duration_since(since).is_ok_and(|later| later > 2 * lifetime) {
            // Those in `before` were used while the token of `since` was good, and have expired now.
            used.before = std::mem::take(&mut used.current);
            used.since = Some(issued);
        }
        if used.before.contains(&nonce) || used.current.len() >= USED_TOKENS || !used.current.insert(nonce) {
            return Err(TokenReuseError);
        }
        Ok(())
    }
}

/// For keys that this library counts itself, and streams, which a peer can only open in their order.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Counted>>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted(u64);

impl Hasher for Counted {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // The table takes its index from the low bits and a tag from the highest seven.
        let spread = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

/// The address that the engine knows every server by: a client's connections are told apart by their ids, and which way
/// their datagrams go is not the engine's business.
pub(crate) const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 1)), 1);

/// What stands for clients' addresses, as the engine wants some.
///
/// It is the digest of the caller's identity of the address, so that tokens are good for that address whatever the route's
/// number is then; without an identity it is the route. A route that a connection uses keeps the address it had when that
/// connection came, so that an identity given only with the first datagrams does not look like a migration.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    used: HashMap<RouteHandle, (SocketAddr, usize)>,
    last: Option<(RouteHandle, SocketAddr)>,
}

impl Routes {
    pub(crate) fn address(&mut self, route: Option<RouteHandle>, identity: &[u8]) -> SocketAddr {
        if let Some(route) = route {
            if let Some((last, address)) = self.last
                && last == route
            {
                return address;
            }
            if let Some((address, _)) = self.used.get(&route) {
                self.last = Some((route, *address));
                return *address;
            }
        }
        let ip = match (identity, route) {
            ([], route) => Ipv6Addr::from(0x100 << 112 | u128::from(route.unwrap_or(0))),
            (identity, _) => {
                let digest = ring::digest::digest(&ring::digest::SHA256, identity);
                let mut ip = [0; 16];
                ip.copy_from_slice(&digest.as_ref()[..16]);
                // Never the address of a route or of a server.
                ip[0] |= 0x20;
                Ipv6Addr::from(ip)
            }
        };
        SocketAddr::from((ip, 1))
    }

    pub(crate) fn enter(&mut self, route: Option<RouteHandle>, address: SocketAddr) {
        if let Some(route) = route {
            self.used.entry(route).or_insert((address, 0)).1 += 1;
        }
    }

    pub(crate) fn leave(&mut self, route: Option<RouteHandle>) {
        let Some(route) = route else { return };
        if let Some((_, users)) = self.used.get_mut(&route) {
            *users -= 1;
            if *users == 0 {
                self.used.remove(&route);
                self.last = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_token_is_good_once_and_the_memory_is_bounded() {
        let log = UsedTokens::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let use_it =
            |nonce, seconds| log.check_and_insert(nonce, at(seconds), Duration::from_secs(100)).is_ok();
        assert!(use_it(1, 0) && !use_it(1, 0) && use_it(2, 90));
        assert!(use_it(3, 201) && !use_it(2, 90), "what was used before the turn is still known");
        for nonce in 0..USED_TOKENS as u128 * 2 {
            use_it(1000 + nonce, 210);
        }
        let used = log.0.lock().unwrap();
        assert_eq!((used.current.len(), used.before.len()), (USED_TOKENS, 2));
        drop(used);
        assert!(!use_it(u128::MAX, 390), "full");
        assert!(use_it(u128::MAX, 402), "those have expired");
    }

    #[test]
    fn a_route_in_use_keeps_its_address() {
        let mut routes = Routes::default();
        let (anonymous, known) = (routes.address(Some(7), b""), routes.address(Some(7), b"\x04abcd12"));
        assert_ne!(anonymous, known);
        assert_eq!(known, routes.address(Some(8), b"\x04abcd12"), "the same address by another route");
        assert_ne!(anonymous, routes.address(Some(8), b""));
        routes.enter(Some(7), known);
        assert_eq!(routes.address(Some(7), b""), known);
        routes.enter(Some(7), known);
        routes.leave(Some(7));
        assert_eq!(routes.address(Some(7), b""), known);
        routes.leave(Some(7));
        assert_eq!(routes.address(Some(7), b""), anonymous);
    }
}
