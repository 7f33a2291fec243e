//! Where a host lives: which NATs and firewalls stand between it and the internet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Time;
use crate::firewall::{Firewall, Policy};
use crate::link::Link;
use crate::nat::{Behaviour, Filtering, Mapping, Nat, Ports};
use crate::net::{Attachment, Net, RealmId, Router, RouterId};

/// One host's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its IPv4.
    pub v4: V4,
    /// Its IPv6.
    pub v6: V6,
    /// How long the state of its firewalls lives unused, if the host has a stateful one of its own.
    pub host_firewall: Option<Time>,
    /// Its network lets no UDP pass.
    pub no_udp: bool,
    /// Its nearest router maps ports for who asks (UPnP IGD, NAT-PMP, PCP).
    pub maps_ports: bool,
    /// Its line to the first router.
    pub line: Link,
}

impl Site {
    /// A site without any address.
    pub const fn nowhere() -> Self {
        Self {
            v4: V4::None,
            v6: V6::None,
            host_firewall: None,
            no_udp: false,
            maps_ports: false,
            line: Link::of(Time::ZERO),
        }
    }
}

/// A host's IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum V4 {
    /// It has none.
    None,
    /// A public address of its own.
    Public,
    /// A private one behind these NATs, the one nearest to the host first.
    Behind(Vec<Behaviour>),
}

/// A host's IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V6 {
    /// It has none.
    None,
    /// A global address that anyone may send to.
    Open,
    /// A global address behind a stateful firewall whose state lives so long unused.
    Firewalled(Time),
}

/// What two sites have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Nothing but the internet.
    Nothing,
    /// The second host lives in the first one's home: the first one's NATs stand for as many of its own, from the
    /// outermost on.
    Home,
    /// Both are customers of one carrier: the first one's outermost NAT stands for the second one's.
    Carrier,
}

/// Builds two sites, and gives where each host is to be attached and which routers stand before it, the
/// nearest first.
pub fn build<P: Clone>(
    net: &mut Net<P>,
    sites: [&Site; 2],
    shared: Shared,
    seed: u64,
) -> [(Attachment, Vec<RouterId>); 2] {
    let first = build_one(net, 0, sites[0], &[], seed);
    let above: &[RouterId] = match shared {
        Shared::Nothing => &[],
        Shared::Home => &first.1,
        Shared::Carrier => first.1.last().map_or(&[], std::slice::from_ref),
    };
    let second = build_one(net, 1, sites[1], above, seed ^ 0x5eed);
    [first, second]
}

/// Builds one site below routers that are there already, the nearest first: those stand for as many of its own.
pub fn build_one<P: Clone>(
    net: &mut Net<P>,
    number: u16,
    site: &Site,
    above: &[RouterId],
    seed: u64,
) -> (Attachment, Vec<RouterId>) {
    let chain: &[Behaviour] = if let V4::Behind(chain) = &site.v4 { chain } else { &[] };
    let mut routers = above.to_vec();
    let own = chain.len().saturating_sub(above.len());
    for level in (0..own).rev() {
        let outside = routers.first().map_or(RealmId::Internet, |r| RealmId::Inside(*r));
        let address = match outside {
            RealmId::Internet => router_address(number),
            RealmId::Inside(_) => {
                let [high, low] = number.to_be_bytes();
                Ipv4Addr::new(100, 64 | high & 63, low, 1 + u8::try_from(level).unwrap_or(0))
            }
        };
        let nat = Nat::new(chain[level], address, seed.wrapping_add(level as u64));
        routers.insert(0, net.add_router(router(outside, Some(nat), site, level == 0)));
    }
    let bare = own == 0 && above.is_empty();
    if bare && (site.no_udp || matches!(site.v6, V6::Firewalled(_))) {
        routers.push(net.add_router(router(RealmId::Internet, None, site, true)));
    }
    let attachment = Attachment {
        realm: routers.first().map_or(RealmId::Internet, |r| RealmId::Inside(*r)),
        addresses: addresses(number, site),
        firewall: Firewall::new(
            site.host_firewall.map_or(Policy::Open, |timeout| Policy::Stateful { timeout }),
        ),
        link: site.line,
    };
    (attachment, routers)
}

fn router(outside: RealmId, nat: Option<Nat>, site: &Site, nearest: bool) -> Router {
    let firewall = match site.v6 {
        V6::Firewalled(timeout) if nearest => Policy::Stateful { timeout },
        V6::Firewalled(_) | V6::Open | V6::None => Policy::Open,
    };
    let screen = if site.no_udp && nearest { Policy::NoUdp } else { Policy::Open };
    Router {
        outside,
        nat,
        maps_ports: site.maps_ports && nearest,
        firewall: Firewall::new(firewall),
        screen: Firewall::new(screen),
        link: Link::default(),
    }
}

/// The outer address of a router of place `number`.
pub fn router_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(5, high, low, 2)
}

/// The addresses of a host at such a site, if it is place `number` of the internet; IPv6 first.
pub fn addresses(number: u16, site: &Site) -> Vec<IpAddr> {
    let [high, low] = number.to_be_bytes();
    let v4 = match &site.v4 {
        V4::None => None,
        V4::Public => Some(Ipv4Addr::new(5, high, low, 1)),
        V4::Behind(_) => Some(Ipv4Addr::new(10, high, low, 10)),
    };
    let v6 = match site.v6 {
        V6::None => None,
        V6::Open | V6::Firewalled(_) => Some(Ipv6Addr::new(0x2a00, number, 0, 0, 0, 0, 0, 1)),
    };
    v6.map(IpAddr::V6).into_iter().chain(v4.map(IpAddr::V4)).collect()
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.v4 {
            V4::None => write!(f, "no IPv4")?,
            V4::Public => write!(f, "public IPv4")?,
            V4::Behind(chain) => {
                write!(f, "behind")?;
                for nat in chain {
                    write!(f, " [{nat}]")?;
                }
            }
        }
        match self.v6 {
            V6::None => {}
            V6::Open => write!(f, ", open IPv6")?,
            V6::Firewalled(timeout) => write!(f, ", IPv6 behind a firewall of {timeout:?}")?,
        }
        if let Some(timeout) = self.host_firewall {
            write!(f, ", host firewall of {timeout:?}")?;
        }
        if self.no_udp {
            write!(f, ", no UDP")?;
        }
        if self.maps_ports {
            write!(f, ", a router that maps ports")?;
        }
        let Link { latency, jitter, loss, doubled, late } = self.line;
        write!(f, "; line {latency:?} + {jitter:?}, {loss} ‰ lost, {doubled} ‰ doubled, {late} ‰ late")
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapping = match self.mapping {
            Mapping::EndpointIndependent => "EIM",
            Mapping::AddressDependent => "ADM",
            Mapping::AddressAndPortDependent => "APDM",
        };
        let filtering = match self.filtering {
            Filtering::EndpointIndependent => "EIF",
            Filtering::AddressDependent => "ADF",
            Filtering::AddressAndPortDependent => "APDF",
        };
        match self.ports {
            Ports::Preserving => write!(f, "{mapping} preserving {filtering}")?,
            Ports::Random => write!(f, "{mapping} random {filtering}")?,
            Ports::Fixed(port) => write!(f, "{mapping} port {port} {filtering}")?,
        }
        write!(f, " {:?}", self.timeout)?;
        if self.hairpins {
            write!(f, " hairpin")?;
        }
        Ok(())
    }
}
