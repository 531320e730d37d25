//! Rate limits.

use crate::bounds::Bucket;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// Token buckets by key, over a bounded number of keys. A bucket is kept as the moment at which it will be full again.
pub(super) struct Limiter<K> {
    bucket: Bucket,
    max_keys: usize,
    full_at: HashMap<K, Duration>,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    pub(super) fn new(bucket: Bucket, max_keys: usize) -> Self {
        Self { bucket, max_keys, full_at: HashMap::new() }
    }

    /// Seconds to wait for a token; 0 if there is one.
    pub(super) fn wait(&self, key: &K, now: Duration) -> u64 {
        let full_at = self.full_at.get(key).copied().unwrap_or_default().max(now);
        let over = (full_at + self.bucket.every).saturating_sub(now + self.bucket.every * self.bucket.burst);
        over.as_millis().div_ceil(1000) as u64
    }

    /// Takes a token, also one that is not there yet.
    pub(super) fn take(&mut self, key: &K, now: Duration) {
        if !self.full_at.contains_key(key) && self.full_at.len() >= self.max_keys {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(key.clone()).or_default();
        *full_at = (*full_at).max(now) + self.bucket.every;
    }

    /// Gives a token back.
    pub(super) fn refund(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(self.bucket.every);
        }
    }

    /// Forgets the full buckets, or else the fullest: whoever is being held back stays known.
    fn make_room(&mut self, now: Duration) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= self.max_keys {
            let fullest =
                self.full_at.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone());
            fullest.map(|key| self.full_at.remove(&key));
        }
    }
}

/// The addresses that are limited together: an IPv4 address, or the /64 that one IPv6 customer has.
pub(super) fn peer_key(peer: IpAddr) -> [u8; 8] {
    let mut key = [0; 8];
    match peer.to_canonical() {
        IpAddr::V4(v4) => key[4..].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => key.copy_from_slice(&v6.octets()[..8]),
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(max_keys: usize) -> Limiter<u32> {
        Limiter::new(Bucket { burst: 3, every: 2 * SECOND }, max_keys)
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let mut limiter = limiter(8);
        let mut now = 100 * SECOND;
        for _ in 0..3 {
            assert_eq!(limiter.wait(&1, now), 0);
            limiter.take(&1, now);
        }
        assert_eq!(limiter.wait(&1, now), 2);
        assert_eq!(limiter.wait(&2, now), 0, "another key has a bucket of its own");
        now += 2 * SECOND;
        assert_eq!(limiter.wait(&1, now), 0);
        limiter.take(&1, now);
        assert_eq!(limiter.wait(&1, now), 2);
        limiter.refund(&1);
        assert_eq!(limiter.wait(&1, now), 0);
    }

    #[test]
    fn strangers_do_not_push_out_who_is_held_back() {
        let mut limiter = limiter(8);
        (0..3).for_each(|_| limiter.take(&0, SECOND));
        (1..1000).for_each(|key| limiter.take(&key, SECOND));
        assert!(limiter.full_at.len() <= 8);
        assert!(limiter.wait(&0, SECOND) > 0);
    }

    #[test]
    fn an_ipv6_customer_is_one_peer() {
        let key = |text: &str| peer_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
