//! Which addresses are a connection's own, and from where they may be probed.
//!
//! A STUN request with the connection's token makes its source address the connection's. A source can be
//! forged; what that buys is one probe, smaller than the request and slower than the forger could send
//! by himself, so it is nobody's reflector.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use wireplug_core::Endpoint;

use crate::limits::AddressKey;

/// How long an address stays a connection's own: a mapping lives for 2 minutes at least (RFC 4787
/// section 4.3), and daemons refresh theirs while they need it.
const OWNED_FOR: Duration = Duration::from_secs(600);
/// How long we remember where an address has sent to; longer than firewalls and NATs usually do.
const CONTACTS_FOR: Duration = Duration::from_secs(600);
/// Own addresses per connection: two families, and interfaces that leave by different uplinks.
const MAX_OWNED: usize = 8;
/// Places of ours that one address has sent to; there are no more than this many in a usual setup.
const MAX_PLACES: usize = 8;

/// The addresses of one connection, newest first.
#[derive(Debug, Default)]
pub(super) struct Owned {
    seen: Vec<Seen>,
}

/// One address as our sockets saw it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    ip: IpAddr,
    /// Where of ours it sent to, at last.
    to: SocketAddr,
    at: Instant,
}

/// Where of ours each address has sent to lately. Bounded: what finds no room is not remembered, and then
/// a probe may come from a place that its receiver has sent to.
#[derive(Debug)]
pub(super) struct Contacts {
    capacity: usize,
    contacts: HashMap<IpAddr, (Vec<SocketAddr>, Instant)>,
}

/// A socket that probes are sent from, and that nobody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSource {
    /// Its index, for whoever sends.
    pub socket: usize,
    /// Where it is bound; unspecified: at all addresses of the host.
    pub local: SocketAddr,
}

/// Where one probe leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// [`ProbeSource::socket`].
    pub socket: usize,
    /// The source address to use.
    pub source: IpAddr,
}

impl Owned {
    /// `from` sent to our `to` and showed the token.
    pub(super) fn see(&mut self, from: IpAddr, to: SocketAddr, now: Instant) {
        self.seen.retain(|seen| seen.ip != from && now.duration_since(seen.at) < OWNED_FOR);
        self.seen.truncate(MAX_OWNED - 1);
        self.seen.insert(0, Seen { ip: from, to, at: now });
    }

    /// Where of ours the owner of an endpoint sent to, if it is the connection's: for IPv4 the very
    /// address, for IPv6 one of the same /64.
    pub(super) fn owns(&self, endpoint: Endpoint, now: Instant) -> Option<SocketAddr> {
        let key = AddressKey::of(endpoint.ip());
        let mut fresh = self.seen.iter().filter(|seen| now.duration_since(seen.at) < OWNED_FOR);
        fresh.find(|seen| AddressKey::of(seen.ip) == key).map(|seen| seen.to)
    }
}

impl Contacts {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, contacts: HashMap::new() }
    }

    /// `from` sent to our `to`.
    pub(super) fn note(&mut self, from: IpAddr, to: SocketAddr, now: Instant) {
        if self.contacts.len() >= self.capacity && !self.contacts.contains_key(&from) {
            return;
        }
        let (places, last) = self.contacts.entry(from).or_insert_with(|| (Vec::new(), now));
        *last = now;
        if !places.contains(&to) && places.len() < MAX_PLACES {
            places.push(to);
        }
    }

    /// Where `from` sent to.
    pub(super) fn of(&self, from: IpAddr) -> &[SocketAddr] {
        self.contacts.get(&from).map_or(&[], |(places, _)| places)
    }

    /// Forgets what is old.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.contacts.retain(|_, (_, last)| now.duration_since(*last) < CONTACTS_FOR);
    }

    pub(super) fn len(&self) -> usize {
        self.contacts.len()
    }
}

/// Chooses where to probe an endpoint from, given that its owner sent to `heard` at last and to `contacts`
/// lately: an address that it never sent to if we have one, else a port that it never sent to.
pub(super) fn departure(
    sources: &[ProbeSource],
    endpoint: Endpoint,
    heard: SocketAddr,
    contacts: &[SocketAddr],
) -> Option<Departure> {
    let sent_to = |place: SocketAddr| place == heard || contacts.contains(&place);
    let sent_to_ip = |ip: IpAddr| ip == heard.ip() || contacts.iter().any(|place| place.ip() == ip);
    let usable = || {
        sources.iter().filter_map(|source| {
            let bound = source.local.ip();
            let ip = if bound.is_unspecified() { heard.ip() } else { bound };
            let dual = bound.is_unspecified() && bound.is_ipv6();
            let family = ip.is_ipv4() == endpoint.ip().is_ipv4() && (dual || bound.is_ipv4() == ip.is_ipv4());
            let fresh = family && !sent_to(SocketAddr::new(ip, source.local.port()));
            fresh.then_some(Departure { socket: source.socket, source: ip })
        })
    };
    usable().find(|departure| !sent_to_ip(departure.source)).or_else(|| usable().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn end(text: &str) -> Endpoint {
        Endpoint::new(addr(text)).unwrap()
    }

    #[test]
    fn an_address_is_owned_for_a_while_and_as_wide_as_its_family() {
        let (mut owned, now) = (Owned::default(), Instant::now());
        let to = addr("192.0.2.1:3478");
        owned.see("198.51.100.7".parse().unwrap(), to, now);
        owned.see("2a00:1:2:3::7".parse().unwrap(), addr("[2a00::1]:3478"), now);
        assert_eq!(owned.owns(end("198.51.100.7:51820"), now), Some(to));
        assert_eq!(owned.owns(end("198.51.100.8:51820"), now), None);
        assert!(owned.owns(end("[2a00:1:2:3:4::8]:51820"), now).is_some());
        assert!(owned.owns(end("[2a00:1:2:4::7]:51820"), now).is_none());
        assert!(owned.owns(end("198.51.100.7:51820"), now + OWNED_FOR).is_none());
        for last in 0..100 {
            owned.see(IpAddr::from([203, 0, 113, last]), to, now);
        }
        assert_eq!(owned.seen.len(), MAX_OWNED);
    }

    #[test]
    fn a_probe_leaves_from_an_address_never_sent_to_else_from_such_a_port() {
        let source = |socket, local| ProbeSource { socket, local: addr(local) };
        let two = [source(4, "192.0.2.1:4000"), source(5, "192.0.2.2:4001")];
        let to = end("198.51.100.7:51820");
        let first = addr("192.0.2.1:3478");
        let from = |socket, ip: &str| Some(Departure { socket, source: ip.parse().unwrap() });
        assert_eq!(departure(&two, to, first, &[]), from(5, "192.0.2.2"));
        assert_eq!(departure(&two, to, addr("192.0.2.2:3478"), &[]), from(4, "192.0.2.1"));
        assert_eq!(departure(&two, to, first, &[addr("192.0.2.2:3478")]), from(4, "192.0.2.1"));
        assert_eq!(departure(&two, to, first, &[addr("192.0.2.1:4000")]), from(5, "192.0.2.2"));
        assert_eq!(departure(&two[..1], to, first, &[addr("192.0.2.1:4000")]), None);
    }

    #[test]
    fn a_wildcard_source_answers_from_the_address_that_was_sent_to() {
        let wild = [ProbeSource { socket: 1, local: addr("[::]:4000") }];
        let v4 = departure(&wild, end("198.51.100.7:1"), addr("192.0.2.1:3478"), &[]);
        assert_eq!(v4, Some(Departure { socket: 1, source: "192.0.2.1".parse().unwrap() }));
        let v4_only = [ProbeSource { socket: 1, local: addr("0.0.0.0:4000") }];
        assert_eq!(departure(&v4_only, end("[2a00::7]:1"), addr("[2a00::1]:3478"), &[]), None);
    }
}
