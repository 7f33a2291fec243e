//! Which relay port each pair uses: another one for each pair at the same address, and always the same one for the
//! same pair where that is free, so that a daemon that starts again binds where WireGuard still sends to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use wireplug_core::{Endpoint, PublicKey};

/// The ports in use, by pair and relay address.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    used: BTreeMap<(PublicKey, String, IpAddr), Endpoint>,
}

impl Ports {
    /// The port of a pair at one address of a server's relay; `None` if all of them are used by other pairs.
    /// Those that are `taken` are left alone.
    pub(crate) fn choose(
        &mut self,
        peer: PublicKey,
        server: &str,
        address: IpAddr,
        ports: &RangeInclusive<u16>,
        taken: &BTreeSet<Endpoint>,
    ) -> Option<Endpoint> {
        let key = (peer, server.to_owned(), address);
        let fits = |endpoint: &Endpoint| ports.contains(&endpoint.port()) && !taken.contains(endpoint);
        if let Some(known) = self.used.get(&key).copied().filter(fits) {
            return Some(known);
        }
        self.used.remove(&key);
        let others: BTreeSet<_> = self.used.values().copied().collect();
        let (first, count) =
            (*ports.start(), u32::from(*ports.end()).checked_sub(u32::from(*ports.start()))? + 1);
        let begin = spread(&peer) % count;
        let chosen = (0..count).find_map(|step| {
            // Proof: the sum is at most the last port.
            let port = first + u16::try_from((begin + step) % count).ok()?;
            let endpoint = Endpoint::new(SocketAddr::new(address, port)).ok()?;
            (fits(&endpoint) && !others.contains(&endpoint)).then_some(endpoint)
        })?;
        self.used.insert(key, chosen);
        Some(chosen)
    }

    /// Forgets the ports of pairs that have no place any more.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&PublicKey, &str) -> bool) {
        self.used.retain(|(peer, server, _), _| keeps(peer, server));
    }
}

/// A number that pairs rarely share: public keys look like random ones.
fn spread(peer: &PublicKey) -> u32 {
    let [a, b, c, d, ..] = *peer.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> IpAddr {
        "203.0.113.1".parse().unwrap()
    }

    fn peer(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    #[test]
    fn each_pair_has_its_own_and_keeps_it() {
        let mut ports = Ports::default();
        let range = 3479..=3482;
        let none = BTreeSet::new();
        let mut choose = |number| ports.choose(peer(number), "a", ip(), &range, &none);
        let four: Vec<_> = (1..=4).map(|number| choose(number).unwrap()).collect();
        assert_eq!(four.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(choose(5), None, "there are no more");
        assert_eq!(choose(2), Some(four[1]));
        ports.retain(|of, _| *of != peer(2));
        assert_eq!(ports.choose(peer(5), "a", ip(), &range, &none), Some(four[1]));
    }

    #[test]
    fn the_same_pair_begins_with_the_same_port() {
        let choose = || Ports::default().choose(peer(77), "a", ip(), &(1..=65535), &BTreeSet::new());
        assert_eq!(choose(), choose());
        assert!(choose().is_some());
    }

    #[test]
    fn a_port_that_is_taken_is_left_and_so_is_one_out_of_range() {
        let mut ports = Ports::default();
        let range = 3479..=3480;
        let first = ports.choose(peer(1), "a", ip(), &range, &BTreeSet::new()).unwrap();
        let taken = BTreeSet::from([first]);
        let second = ports.choose(peer(1), "a", ip(), &range, &taken).unwrap();
        assert_ne!(first, second);
        assert_eq!(ports.choose(peer(1), "a", ip(), &range, &BTreeSet::from([first, second])), None);
        let moved = ports.choose(peer(1), "a", ip(), &(5000..=5001), &BTreeSet::new()).unwrap();
        assert!((5000..=5001).contains(&moved.port()));
    }

    #[test]
    fn two_servers_at_one_address_share_its_ports() {
        let mut ports = Ports::default();
        let range = 3479..=3479;
        assert!(ports.choose(peer(1), "a", ip(), &range, &BTreeSet::new()).is_some());
        assert_eq!(ports.choose(peer(2), "b", ip(), &range, &BTreeSet::new()), None);
    }
}
