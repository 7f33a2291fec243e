//! Who may do how much: token buckets, the key that an address is counted under, and the numbers.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The limits of a server. The defaults let one household or office with a thousand pairs come back at
/// once after a restart, and keep the server's memory under about 300 MB whatever anyone sends.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in total.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// New connections of one address.
    pub connects: Rate,
    /// Addresses with an account; one is kept while it has connections, topics or used-up buckets.
    pub addresses: usize,
    /// Topics in total.
    pub topics: usize,
    /// Sides of topics that one connection may hold: a daemon has one connection for all its peers.
    pub topics_per_connection: usize,
    /// Sides of topics that the connections of one address may hold.
    pub topics_per_address: usize,
    /// Bytes of all kept offers.
    pub offer_bytes: usize,
    /// How long an offer outlives the connection that published it: long enough for a daemon that
    /// changes networks, short enough that a peer seldom tries where nobody is. Whole seconds.
    pub offer_ttl: Duration,
    /// What one connection may say.
    pub per_connection: Rates,
    /// What all connections of one address may say.
    pub per_address: Rates,
    /// Probes to one address, whoever asks for them.
    pub probes_per_target: Rate,
    /// Refusals of one connection before it is closed.
    pub strikes: Rate,
    /// STUN requests of one source address.
    pub stun: Rate,
    /// Source addresses with a bucket of their own, for STUN and for probes; newcomers beyond share one.
    pub sources: usize,
}

/// How often each kind of message may be said.
#[derive(Debug, Clone)]
pub struct Rates {
    /// Messages of any kind.
    pub messages: Rate,
    /// Joins.
    pub joins: Rate,
    /// Offers.
    pub publishes: Rate,
    /// Verifications.
    pub verifies: Rate,
    /// Requests for a place on the relay.
    pub allocates: Rate,
}

/// So many at once, and then one each `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many at once, at least 1.
    pub burst: u32,
    /// The gap in the long run.
    pub every: Duration,
}

/// A token bucket, kept as the instant at which it is full again (the generic cell rate algorithm).
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

/// Whom an address belongs to, as far as limits go: an IPv4 address, or an IPv6 /64, since whoever has
/// one address of a /64 has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(IpAddr);

/// A bucket for each of at most so many keys; those that find no room share one.
#[derive(Debug)]
pub struct RateTable<K> {
    rate: Rate,
    capacity: usize,
    buckets: HashMap<K, Bucket>,
    overflow: Bucket,
    swept: Option<Instant>,
}

const fn rate(burst: u32, every_ms: u64) -> Rate {
    Rate { burst, every: Duration::from_millis(every_ms) }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 64,
            connects: rate(128, 250),
            addresses: 8192,
            topics: 65_536,
            topics_per_connection: 1024,
            topics_per_address: 8192,
            offer_bytes: 64 << 20,
            offer_ttl: Duration::from_secs(120),
            per_connection: Rates {
                messages: rate(4096, 20),
                joins: rate(1024, 100),
                publishes: rate(2048, 50),
                verifies: rate(32, 500),
                allocates: rate(1024, 100),
            },
            per_address: Rates {
                messages: rate(16_384, 5),
                joins: rate(8192, 20),
                publishes: rate(8192, 10),
                verifies: rate(128, 100),
                allocates: rate(2048, 50),
            },
            probes_per_target: rate(128, 100),
            strikes: rate(100, 1000),
            stun: rate(200, 20),
            sources: 16_384,
        }
    }
}

impl Bucket {
    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + rate.every;
        let debt = full_at.duration_since(now);
        let allowed = rate.every * rate.burst.max(1);
        match debt.checked_sub(allowed) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = Some(full_at);
                Ok(())
            }
        }
    }

    /// Whether it is full, and so no different from a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

impl AddressKey {
    /// The key of an address; an IPv4-mapped one counts as the IPv4 one.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        })
    }

    /// An address with this key.
    pub const fn ip(self) -> IpAddr {
        self.0
    }
}

impl<K: Eq + Hash> RateTable<K> {
    /// An empty table of at most `capacity` keys.
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity, buckets: HashMap::new(), overflow: Bucket::default(), swept: None }
    }

    /// Takes one from the key's bucket.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= self.capacity && !self.buckets.contains_key(&key) && !self.make_room(now) {
            return self.overflow.take(self.rate, now);
        }
        self.buckets.entry(key).or_default().take(self.rate, now)
    }

    /// How many keys have a bucket.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether no key has a bucket.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Forgets buckets that are full; at most once a second, so that a flood of keys costs no sweeps.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.swept.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.swept = Some(now);
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        self.buckets.len() < self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = rate(3, 1000);

    #[test]
    fn a_bucket_gives_its_burst_and_then_says_how_long() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, now), Ok(()));
        }
        assert_eq!(bucket.take(RATE, now), Err(Duration::from_secs(1)));
        let wait = bucket.take(RATE, now + Duration::from_millis(600)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(400));
        assert_eq!(bucket.take(RATE, now + Duration::from_secs(1)), Ok(()));
        assert!(bucket.is_full(now + Duration::from_secs(4)));
        assert!(!bucket.is_full(now + Duration::from_millis(3900)));
    }

    #[test]
    fn an_ipv6_address_counts_as_its_64() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(key("2a00:1:2:3::1"), key("2a00:1:2:3:ffff::2"));
        assert_ne!(key("2a00:1:2:3::1"), key("2a00:1:2:4::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_full_table_shares_one_bucket_and_forgets_the_idle() {
        let (mut table, now) = (RateTable::new(RATE, 10), Instant::now());
        let granted = (0..1000).filter(|key| table.take(*key, now).is_ok()).count();
        assert_eq!((granted, table.len()), (10 + 3, 10));
        assert!(table.take(0, now).is_ok(), "the old keys keep their own");
        assert!(table.take(5000, now + Duration::from_secs(3)).is_ok());
        assert!(table.len() <= 3);
    }
}
