//! Network address translators, by the behaviours that RFC 4787 names.
//!
//! A [`Nat`] is asked about every datagram that passes: [`Nat::outbound`] for those that leave, [`Nat::inbound`]
//! for those that come. It keeps mappings in order of their making, so that runs repeat.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::{RngExt as _, SeedableRng as _};

use crate::{Chance, Time};

/// When the mapping of one inner address and port is used again (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mapping {
    /// For every destination.
    EndpointIndependent,
    /// For every port of the same destination address.
    AddressDependent,
    /// For the same destination address and port only.
    AddressAndPortDependent,
}

/// Which outer port a new mapping gets (RFC 4787 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ports {
    /// The inner port, unless another inner address has it: then a random one.
    Preserving,
    /// A random free one for each mapping.
    Random,
    /// Always this one, unless another inner address has it: a router with a rule for this host.
    Fixed(u16),
}

/// Which outer sources may answer on a mapping (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filtering {
    /// All.
    EndpointIndependent,
    /// All ports of addresses that were sent to.
    AddressDependent,
    /// Addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// How one NAT behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Behaviour {
    /// When a mapping is used again.
    pub mapping: Mapping,
    /// Which outer port a mapping gets.
    pub ports: Ports,
    /// Who may answer.
    pub filtering: Filtering,
    /// How long a mapping and its permissions live unused (RFC 4787 section 4.3, REQ-5: at least two minutes;
    /// in the field also 30 s).
    pub timeout: Time,
    /// Whether a datagram from outside prolongs too (RFC 4787 section 4.3, REQ-6b).
    pub inbound_refreshes: bool,
    /// Whether two inner hosts reach each other by outer addresses (RFC 4787 section 6, REQ-9).
    pub hairpins: bool,
}

impl Behaviour {
    /// The mapping as seen from outside. One that depends on the destination, but gives every
    /// destination the same port, is in effect independent: Linux's `masquerade` is so.
    pub fn is_predictable(&self) -> bool {
        self.mapping == Mapping::EndpointIndependent || self.ports != Ports::Random
    }
}

/// One IPv4 NAT with one outer address.
#[derive(Debug)]
pub struct Nat {
    behaviour: Behaviour,
    outer: Ipv4Addr,
    chance: Chance,
    entries: Vec<Entry>,
    /// Ports that hosts had mapped: the outer one, and where it leads.
    mapped: Vec<(u16, SocketAddr)>,
}

#[derive(Debug, Clone)]
struct Entry {
    inner: SocketAddr,
    /// What it was made for; compared as far as the mapping behaviour says.
    made_for: SocketAddr,
    outer_port: u16,
    used: Time,
    permitted: Vec<Permission>,
}

#[derive(Debug, Clone)]
struct Permission {
    destination: SocketAddr,
    used: Time,
}

impl Nat {
    /// A NAT with this outer address; its random ports come from the seed.
    pub fn new(behaviour: Behaviour, outer: Ipv4Addr, seed: u64) -> Self {
        Self {
            behaviour,
            outer,
            chance: Chance::seed_from_u64(seed),
            entries: Vec::new(),
            mapped: Vec::new(),
        }
    }

    /// Its address on the outside.
    pub fn outer(&self) -> IpAddr {
        IpAddr::V4(self.outer)
    }

    /// How it behaves.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Translates the source of a datagram that leaves, making or prolonging its mapping.
    pub fn outbound(&mut self, now: Time, source: SocketAddr, destination: SocketAddr) -> SocketAddr {
        self.expire(now);
        let mapping = self.behaviour.mapping;
        let known =
            self.entries.iter().position(|e| e.inner == source && same(mapping, e.made_for, destination));
        let index = known.unwrap_or_else(|| {
            let outer_port = self.choose_port(source);
            self.entries.push(Entry {
                inner: source,
                made_for: destination,
                outer_port,
                used: now,
                permitted: Vec::new(),
            });
            self.entries.len() - 1
        });
        let outer = self.outer();
        let entry = &mut self.entries[index];
        entry.used = now;
        match entry.permitted.iter_mut().find(|p| p.destination == destination) {
            Some(permission) => permission.used = now,
            None => entry.permitted.push(Permission { destination, used: now }),
        }
        SocketAddr::new(outer, entry.outer_port)
    }

    /// The inner destination of a datagram that comes to an outer port, if its source may pass.
    pub fn inbound(&mut self, now: Time, source: SocketAddr, outer_port: u16) -> Option<SocketAddr> {
        self.expire(now);
        let filtering = self.behaviour.filtering;
        let known =
            self.entries.iter().position(|e| e.outer_port == outer_port && e.permits(filtering, source));
        let index = known.or_else(|| self.come_in(now, source, outer_port))?;
        let entry = &mut self.entries[index];
        if self.behaviour.inbound_refreshes {
            entry.used = now;
            for permission in entry.permitted.iter_mut().filter(|p| p.destination == source) {
                permission.used = now;
            }
        }
        Some(entry.inner)
    }

    /// Maps an outer port to an inner address and port for everybody, the same number if it is free. What comes in by
    /// it is answered by it; what the host sends first still gets a mapping as of any other host.
    pub fn map_port(&mut self, inner: SocketAddr) -> Option<SocketAddr> {
        let taken = |port: u16| self.mapped.iter().any(|(outer, to)| *outer == port && *to != inner);
        let port = inner.port();
        if taken(port) {
            return None;
        }
        self.mapped.retain(|(outer, _)| *outer != port);
        self.mapped.push((port, inner));
        Some(SocketAddr::new(self.outer(), port))
    }

    /// Somebody new comes in by a mapped port.
    fn come_in(&mut self, now: Time, source: SocketAddr, outer_port: u16) -> Option<usize> {
        let &(_, inner) = self.mapped.iter().find(|(outer, _)| *outer == outer_port)?;
        let permission = Permission { destination: source, used: now };
        // It is answered by it also where it was sent to without before. (Linux keeps both apart and shows the inner host
        // another source port instead.)
        let mapping = self.behaviour.mapping;
        self.entries.retain(|e| e.inner != inner || !same(mapping, e.made_for, source));
        let entry = Entry { inner, made_for: source, outer_port, used: now, permitted: vec![permission] };
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }

    /// It has another address on the outside, and its mappings are void: see [`Net::renumber_router`](crate::net::Net::renumber_router).
    pub(crate) fn renumber(&mut self, outer: Ipv4Addr) {
        self.outer = outer;
        self.reboot();
    }

    /// Keeps unused mappings for another time from now on: another router.
    pub fn set_timeout(&mut self, timeout: Time) {
        self.behaviour.timeout = timeout;
    }

    /// Forgets everything, as a reboot does.
    pub fn reboot(&mut self) {
        self.entries.clear();
        self.mapped.clear();
    }

    fn expire(&mut self, now: Time) {
        let timeout = self.behaviour.timeout;
        for entry in &mut self.entries {
            entry.permitted.retain(|p| p.used + timeout > now);
        }
        self.entries.retain(|e| e.used + timeout > now);
    }

    fn choose_port(&mut self, source: SocketAddr) -> u16 {
        let wanted = match self.behaviour.ports {
            Ports::Preserving => Some(source.port()),
            Ports::Fixed(port) => Some(port),
            Ports::Random => None,
        };
        let mapped = |port: u16| self.mapped.iter().any(|(outer, to)| *outer == port && *to != source);
        let free_for_source = |port: u16| {
            !mapped(port) && !self.entries.iter().any(|e| e.outer_port == port && e.inner != source)
        };
        if let Some(port) = wanted.filter(|&port| free_for_source(port)) {
            return port;
        }
        loop {
            let port = self.chance.random_range(1024..=65535);
            let forwarded = self.mapped.iter().any(|(outer, _)| *outer == port);
            if !forwarded && !self.entries.iter().any(|e| e.outer_port == port) {
                return port;
            }
        }
    }
}

impl Entry {
    fn permits(&self, filtering: Filtering, source: SocketAddr) -> bool {
        match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.permitted.iter().any(|p| p.destination.ip() == source.ip()),
            Filtering::AddressAndPortDependent => self.permitted.iter().any(|p| p.destination == source),
        }
    }
}

fn same(mapping: Mapping, a: SocketAddr, b: SocketAddr) -> bool {
    match mapping {
        Mapping::EndpointIndependent => true,
        Mapping::AddressDependent => a.ip() == b.ip(),
        Mapping::AddressAndPortDependent => a == b,
    }
}
