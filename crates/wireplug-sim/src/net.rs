//! The network: realms of addresses, joined by routers, with hosts in them.
//!
//! The internet is realm 0. Each router has an outer side in one realm and makes a realm of its own inside.
//! A datagram climbs from its sender until a realm knows its destination, then descends. Every hop is an event
//! of its own, because two datagrams that cross change NAT state in the order in which they pass.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::SeedableRng as _;

use crate::firewall::Firewall;
use crate::link::Link;
use crate::nat::Nat;
use crate::{Chance, Time};

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<P> {
    /// Where it came from, as the one who sees it knows it.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: P,
}

/// A host, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// A router, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(pub usize);

/// A realm of addresses: the internet, or the inside of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RealmId {
    /// Where global addresses live.
    Internet,
    /// Behind this router.
    Inside(RouterId),
}

/// A router: IPv4 passes its NAT, if it has one; IPv6 its firewall.
#[derive(Debug)]
pub struct Router {
    /// Where its outer side is.
    pub outside: RealmId,
    /// Translates IPv4.
    pub nat: Option<Nat>,
    /// Maps ports for hosts that ask; one that has no address of the internet itself says so instead.
    pub maps_ports: bool,
    /// Judges IPv6.
    pub firewall: Firewall,
    /// Judges everything that passes, before translation on the way out: a network without UDP.
    pub screen: Firewall,
    /// The way to the realm outside.
    pub link: Link,
}

/// Where a host is attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its realm.
    pub realm: RealmId,
    /// Its addresses, at most one of a family is sent from: the first.
    pub addresses: Vec<IpAddr>,
    /// Its own firewall.
    pub firewall: Firewall,
    /// The way to its realm.
    pub link: Link,
}

/// The network and every datagram in it.
#[derive(Debug)]
pub struct Net<P> {
    hosts: Vec<Option<Attachment>>,
    routers: Vec<Router>,
    /// What each realm can reach directly or downwards.
    routes: BTreeMap<(RealmId, IpAddr), Next>,
    /// Which of them go when a host goes.
    announced: Vec<(HostId, (RealmId, IpAddr))>,
    queue: BinaryHeap<Reverse<Hop<P>>>,
    sequence: u64,
    chance: Chance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Host(HostId),
    Router(RouterId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Realm(RealmId),
    /// At a router, from its outer side.
    Descending(RouterId),
    Host(HostId),
}

#[derive(Debug)]
struct Hop<P> {
    at: Time,
    sequence: u64,
    place: Place,
    datagram: Datagram<P>,
}

/// Why a host could not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It is nowhere, or has no address of the destination's family.
    #[error("no address to send to {0} from: attach the host with one of that family")]
    NoAddress(SocketAddr),
}

impl<P: Clone> Net<P> {
    /// An empty internet; jitter, loss and doubling come from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            routers: Vec::new(),
            routes: BTreeMap::new(),
            announced: Vec::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            chance: Chance::seed_from_u64(seed),
        }
    }

    /// Adds a router; its NAT's outer address becomes known outside.
    pub fn add_router(&mut self, router: Router) -> RouterId {
        let id = RouterId(self.routers.len());
        if let Some(nat) = &router.nat {
            self.routes.insert((router.outside, nat.outer()), Next::Router(id));
        }
        self.routers.push(router);
        id
    }

    /// A router, to look at or to change its state.
    pub fn router_mut(&mut self, id: RouterId) -> &mut Router {
        &mut self.routers[id.0]
    }

    /// Gives a router's NAT another outer address; what it knew is void.
    pub fn renumber_router(&mut self, id: RouterId, outer: Ipv4Addr) {
        let router = &mut self.routers[id.0];
        let Some(nat) = &mut router.nat else { return };
        self.routes.remove(&(router.outside, nat.outer()));
        nat.renumber(outer);
        self.routes.insert((router.outside, nat.outer()), Next::Router(id));
    }

    /// Adds a host that is nowhere yet.
    pub fn add_host(&mut self) -> HostId {
        self.hosts.push(None);
        HostId(self.hosts.len() - 1)
    }

    /// Puts a host somewhere; it leaves where it was.
    pub fn attach(&mut self, host: HostId, attachment: Attachment) {
        self.detach(host);
        for &address in &attachment.addresses {
            self.announce(host, (attachment.realm, address), Next::Host(host));
            let mut realm = attachment.realm;
            while let RealmId::Inside(router) = realm {
                let on_the_way = &self.routers[router.0];
                if address.is_ipv4() && on_the_way.nat.is_some() {
                    break;
                }
                realm = on_the_way.outside;
                self.announce(host, (realm, address), Next::Router(router));
            }
        }
        self.hosts[host.0] = Some(attachment);
    }

    /// Takes a host off the network.
    pub fn detach(&mut self, host: HostId) {
        self.hosts[host.0] = None;
        for (_, key) in self.announced.extract_if(.., |(of, _)| *of == host) {
            self.routes.remove(&key);
        }
    }

    /// A host's addresses.
    pub fn addresses(&self, host: HostId) -> &[IpAddr] {
        self.hosts[host.0].as_ref().map_or(&[], |a| &a.addresses)
    }

    /// The address that a host sends from to such a destination.
    pub fn source_for(&self, host: HostId, destination: IpAddr) -> Option<IpAddr> {
        self.addresses(host).iter().copied().find(|a| a.is_ipv4() == destination.is_ipv4())
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// [`SendError`] when the host has no address to send from; a firewall's refusal is silent.
    pub fn send(
        &mut self,
        now: Time,
        host: HostId,
        port: u16,
        destination: SocketAddr,
        payload: P,
    ) -> Result<(), SendError> {
        let ip = self.source_for(host, destination.ip()).ok_or(SendError::NoAddress(destination))?;
        self.send_from(now, host, SocketAddr::new(ip, port), destination, payload)
    }

    /// Sends a datagram from one of several addresses.
    ///
    /// # Errors
    /// [`SendError`] when the host is nowhere.
    pub fn send_from(
        &mut self,
        now: Time,
        host: HostId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: P,
    ) -> Result<(), SendError> {
        let attachment = self.hosts[host.0].as_mut().ok_or(SendError::NoAddress(destination))?;
        if attachment.firewall.outbound(now, source, destination) {
            let (link, realm) = (attachment.link, attachment.realm);
            self.carry(now, link, Place::Realm(realm), &Datagram { source, destination, payload });
        }
        Ok(())
    }

    /// Asks the router nearest to a host to map the host's port, and gives the outer address.
    pub fn map_port(&mut self, host: HostId, port: u16) -> Option<SocketAddr> {
        let attachment = self.hosts[host.0].as_ref()?;
        let RealmId::Inside(id) = attachment.realm else { return None };
        let inner = attachment.addresses.iter().copied().find(IpAddr::is_ipv4)?;
        let router = &mut self.routers[id.0];
        let serves = router.maps_ports && router.outside == RealmId::Internet;
        router.nat.as_mut().filter(|_| serves)?.map_port(SocketAddr::new(inner, port))
    }

    /// The hosts on the same link: behind the same router, as the nearest one.
    pub fn neighbours(&self, host: HostId) -> Vec<HostId> {
        let realm = |id: usize| self.hosts[id].as_ref().map(|attachment| attachment.realm);
        let here = realm(host.0).filter(|realm| *realm != RealmId::Internet);
        let others = (0..self.hosts.len()).filter(|id| *id != host.0 && here.is_some() && realm(*id) == here);
        others.map(HostId).collect()
    }

    /// Whether a host's own firewall lets in what nobody on the host has asked for.
    pub fn hears_all(&self, host: HostId) -> bool {
        self.hosts[host.0].as_ref().is_some_and(|attachment| attachment.firewall.is_open())
    }

    /// When the next hop is due.
    pub fn next_event(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse(hop)| hop.at)
    }

    /// Does one hop that is due, and returns the datagram if it has reached a host.
    pub fn step(&mut self, now: Time) -> Option<(HostId, Datagram<P>)> {
        if self.next_event().is_none_or(|at| at > now) {
            return None;
        }
        let Reverse(Hop { at, place, datagram, .. }) = self.queue.pop()?;
        match place {
            Place::Realm(realm) => {
                self.route(at, realm, datagram);
                None
            }
            Place::Descending(router) => {
                self.descend(at, router, datagram);
                None
            }
            Place::Host(host) => {
                let attachment = self.hosts[host.0].as_mut()?;
                let here = attachment.addresses.contains(&datagram.destination.ip())
                    && attachment.firewall.inbound(at, datagram.source, datagram.destination);
                here.then_some((host, datagram))
            }
        }
    }

    fn announce(&mut self, host: HostId, key: (RealmId, IpAddr), next: Next) {
        self.routes.insert(key, next);
        self.announced.push((host, key));
    }

    fn route(&mut self, now: Time, realm: RealmId, datagram: Datagram<P>) {
        match (self.routes.get(&(realm, datagram.destination.ip())).copied(), realm) {
            (Some(Next::Host(host)), _) => {
                if let Some(link) = self.hosts[host.0].as_ref().map(|a| a.link) {
                    self.carry(now, link, Place::Host(host), &datagram);
                }
            }
            (Some(Next::Router(router)), _) => {
                let link = self.routers[router.0].link;
                self.carry(now, link, Place::Descending(router), &datagram);
            }
            (None, RealmId::Inside(router)) => self.ascend(now, router, datagram),
            (None, RealmId::Internet) => {}
        }
    }

    fn ascend(&mut self, now: Time, id: RouterId, mut datagram: Datagram<P>) {
        let router = &mut self.routers[id.0];
        if !router.screen.outbound(now, datagram.source, datagram.destination) {
            return;
        }
        if let Some(nat) = router.nat.as_mut().filter(|_| datagram.destination.is_ipv4()) {
            let own = nat.outer() == datagram.destination.ip();
            if own && !nat.behaviour().hairpins {
                return;
            }
            // RFC 4787 section 6: a hairpinned datagram keeps the outer source.
            datagram.source = nat.outbound(now, datagram.source, datagram.destination);
            if own {
                self.descend(now, id, datagram);
                return;
            }
        } else if datagram.destination.is_ipv6()
            && !router.firewall.outbound(now, datagram.source, datagram.destination)
        {
            return;
        }
        let (link, outside) = (router.link, router.outside);
        self.carry(now, link, Place::Realm(outside), &datagram);
    }

    fn descend(&mut self, now: Time, id: RouterId, mut datagram: Datagram<P>) {
        let router = &mut self.routers[id.0];
        if let Some(nat) = router.nat.as_mut().filter(|_| datagram.destination.is_ipv4()) {
            match nat.inbound(now, datagram.source, datagram.destination.port()) {
                Some(inner) => datagram.destination = inner,
                None => return,
            }
        } else if datagram.destination.is_ipv6()
            && !router.firewall.inbound(now, datagram.source, datagram.destination)
        {
            return;
        }
        if router.screen.inbound(now, datagram.source, datagram.destination) {
            let inside = RealmId::Inside(id);
            if self.routes.contains_key(&(inside, datagram.destination.ip())) {
                self.route(now, inside, datagram);
            }
        }
    }

    fn carry(&mut self, now: Time, link: Link, place: Place, datagram: &Datagram<P>) {
        for delay in link.carry(&mut self.chance) {
            self.sequence += 1;
            let hop = Hop { at: now + delay, sequence: self.sequence, place, datagram: datagram.clone() };
            self.queue.push(Reverse(hop));
        }
    }
}

impl<P> PartialEq for Hop<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<P> Eq for Hop<P> {}

impl<P> PartialOrd for Hop<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Hop<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
