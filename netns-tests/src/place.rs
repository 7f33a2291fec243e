//! The kinds of place as the simulator describes them, and what the oracle says of two of them.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_sim::link::Link;
use wireplug_sim::nat::{Behaviour, Filtering, Mapping, Ports};
use wireplug_sim::oracle::{self, Possible};
use wireplug_sim::site::{Shared, Site, V4, V6};

use crate::nat::{FIXED_PORT, Nat};

/// How long Linux keeps a UDP mapping that both sides have used (`nf_conntrack_udp_timeout_stream`).
const TIMEOUT: Duration = Duration::from_secs(120);

/// Linux's masquerading: each destination has an entry of its own, which keeps the port and is the only one that may
/// answer.
const MASQUERADE: Behaviour = Behaviour {
    mapping: Mapping::AddressAndPortDependent,
    ports: Ports::Preserving,
    filtering: Filtering::AddressAndPortDependent,
    timeout: TIMEOUT,
    inbound_refreshes: true,
    hairpins: false,
};

const SYMMETRIC: Behaviour = Behaviour { ports: Ports::Random, ..MASQUERADE };
const FIXED: Behaviour = Behaviour { ports: Ports::Fixed(FIXED_PORT), ..MASQUERADE };
const FULL_CONE: Behaviour =
    Behaviour { mapping: Mapping::EndpointIndependent, filtering: Filtering::EndpointIndependent, ..FIXED };

impl Nat {
    /// The same place in the simulator.
    pub fn place(self) -> Site {
        let chain = match self {
            Self::None | Self::ClosedHost | Self::Ipv6Firewall => Vec::new(),
            Self::FullCone => vec![FULL_CONE],
            Self::PortPreserving | Self::UdpBlocked => vec![MASQUERADE],
            Self::Fixed => vec![FIXED],
            Self::Cgnat => vec![MASQUERADE; 2],
            Self::Symmetric
            | Self::DualStack
            | Self::SymmetricUpnpIgd
            | Self::SymmetricNatPmp
            | Self::SymmetricPcp => vec![SYMMETRIC],
        };
        let v4 = match self.stack().v4() {
            true if chain.is_empty() => V4::Public,
            true => V4::Behind(chain),
            false => V4::None,
        };
        Site {
            v4,
            v6: if self.stack().v6() { V6::Firewalled(TIMEOUT) } else { V6::None },
            host_firewall: (self == Self::ClosedHost).then_some(TIMEOUT),
            no_udp: self == Self::UdpBlocked,
            maps_ports: self.gateway().is_some(),
            line: Link::of(Duration::from_millis(1)),
        }
    }
}

/// The path that hosts at two places must come to.
///
/// # Panics
/// When the oracle leaves it open, as it does of none of these kinds.
pub fn expected(a: Nat, b: Nat) -> Tier {
    path(a, b, Shared::Nothing)
}

/// Where one side's WireGuard sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// To the other host's address on the LAN that both are on.
    Lan,
    /// To an address of the other host's own.
    Host,
    /// To a mapping that the other side's own packets made in its NAT.
    Nat,
    /// To the mapping that the other side's router was asked for.
    Mapped,
    /// To a relay.
    Relay,
    /// To its own daemon, which takes it to the relay over TLS.
    RelayTls,
}

/// The path on which the two sides send so: a server on either way makes it relayed, a router's mapping makes it mapped
/// if nothing else would do; else the better end names it.
///
/// What strategies are said to have found it does not count: what a router maps is seen by hole punching too.
pub(crate) fn between([a, b]: [Nat; 2], ends: [End; 2]) -> Tier {
    let one_is = |end| ends.contains(&end);
    let unaided = oracle::outer_path(&a.place(), &b.place(), Shared::Nothing) == Possible::Yes;
    match ends {
        _ if one_is(End::RelayTls) => Tier::RelayTls,
        _ if one_is(End::Relay) => Tier::Relay,
        [End::Lan, End::Lan] => Tier::Lan,
        _ if one_is(End::Mapped) && !unaided => Tier::Mapped,
        _ if one_is(End::Host) => Tier::Direct,
        _ => Tier::Punched,
    }
}

pub(crate) fn path(a: Nat, b: Nat, shared: Shared) -> Tier {
    match oracle::path(&a.place(), &b.place(), shared) {
        Some(path) => path,
        None => panic!("the oracle does not know what {a} and {b} come to"),
    }
}

/// Whether `here` reaches `there` by the mapping on its router and by nothing else. (Hole punching may be the one to name
/// it: once the server has sent through a mapping, the router shows it to the server.)
pub(crate) fn needs_mapping(here: Nat, there: Nat) -> bool {
    // Where both have one, either may be it.
    expected(here, there) == Tier::Mapped && here.gateway().is_none() && there.gateway().is_some()
}
