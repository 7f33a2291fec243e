//! By which path two hosts must come to each other, and whether a direct one is possible at all, from the description
//! of their places alone. Both the simulator and the lab of network namespaces are judged by it.
//!
//! This file knows nothing of the scheduler, of checks or of WireGuard. It reasons from RFC 4787 (mapping
//! behaviour section 4.1, filtering section 5, hairpinning section 6), for two hosts that each know their
//! own mapping as two outer servers see it, and tell the other.
//!
//! A chain of NATs maps like its worst member and filters like its strictest. With "fixed" for a mapping that is
//! the same for every destination (none at all counts), "varying" for any other, and the filterings open,
//! address (A) and address-and-port (AP):
//!
//! | one \ other | fixed, any | varying, open | varying, A | varying, AP |
//! |---|---|---|---|---|
//! | fixed, open | yes | yes | yes | yes |
//! | fixed, A | yes | told | told | told |
//! | fixed, AP | yes | no | no | no |
//! | varying, open | | told | told | no |
//! | varying, A | | | no | no |
//! | varying, AP | | | | no |
//!
//! *Told*: only if the varying side tells its address though the mapping there is for the server only. Its
//! address is right and the port is not: enough to open an address-dependent filter, or to reach an open one.
//! Such a mapping is worth nothing to most peers, and wireplug does not offer it.
//!
//! A router that maps ports for who asks makes its host fixed, and open but for the host's own firewall, if it is the only
//! NAT before it. On one LAN, what stands outside of it does not matter, but the hosts' own firewalls do: they let the
//! names that neighbours call out not in.

use wireplug_core::Tier;

use crate::nat::{Behaviour, Filtering, Mapping, Ports};
use crate::site::{Shared, Site, V4, V6};

/// What the oracle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Possible {
    /// Never, by no exchange of addresses.
    No,
    /// Only if a side tells a mapping that is not its mapping towards the peer, or if both hosts' ports happen not
    /// to collide in one NAT.
    Told,
    /// Always.
    Yes,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    fixed: bool,
    filtering: Filtering,
}

/// The path that two hosts at such sites come to: the best possible one. None where the oracle leaves it open
/// ([`Possible::Told`]).
///
/// Its name is that of the better of its two ends: a public host and a symmetric NAT have a direct path, though the
/// public host must be sent to first.
pub fn path(one: &Site, other: &Site, shared: Shared) -> Option<Tier> {
    if on_one_lan(one, other, shared) {
        return Some(Tier::Lan);
    }
    if one.no_udp || other.no_udp {
        return Some(Tier::RelayTls);
    }
    let public = |site: &Site| site.v4 == V4::Public;
    match (over_v6(one, other), over_v4(one, other, shared), mapped(one, other, shared)) {
        (Possible::Yes, _, _) => Some(Tier::Direct),
        (_, Possible::Yes, _) if public(one) || public(other) => Some(Tier::Direct),
        (_, Possible::Yes, _) => Some(Tier::Punched),
        (_, Possible::No, Possible::Yes) => Some(Tier::Mapped),
        (_, Possible::No, Possible::No) => Some(Tier::Relay),
        (_, Possible::Told, _) | (_, _, Possible::Told) => None,
    }
}

/// Whether two hosts at such sites can have a path without a server on it.
pub fn direct_path(one: &Site, other: &Site, shared: Shared) -> Possible {
    if on_one_lan(one, other, shared) {
        return Possible::Yes;
    }
    if one.no_udp || other.no_udp {
        return Possible::No;
    }
    outer_path(one, other, shared).max(mapped(one, other, shared))
}

/// Whether they can by the addresses alone that the internet sees, and without asking a router for anything.
pub fn outer_path(one: &Site, other: &Site, shared: Shared) -> Possible {
    if one.no_udp || other.no_udp {
        return Possible::No;
    }
    over_v4(one, other, shared).max(over_v6(one, other))
}

/// Neighbours hear each other's names, and no router is on the way.
fn on_one_lan(one: &Site, other: &Site, shared: Shared) -> bool {
    let routers = |site: &Site| nats(&site.v4).map_or(0, <[Behaviour]>::len);
    let walled = one.host_firewall.is_some() || other.host_firewall.is_some();
    let in_a_home = routers(one) > 0 || one.no_udp || matches!(one.v6, V6::Firewalled(_));
    let v4 = one.v4 != V4::None && other.v4 != V4::None;
    let v6 = one.v6 != V6::None && other.v6 != V6::None;
    shared == Shared::Home && in_a_home && routers(other) <= routers(one) && !walled && (v4 || v6)
}

/// As [`over_v4`], where routers are asked for mappings.
fn mapped(one: &Site, other: &Site, shared: Shared) -> Possible {
    let edge = |site: &Site| match nats(&site.v4)? {
        [_] if site.maps_ports => Some(edge(site, &[])),
        chain => Some(edge(site, chain)),
    };
    let (Some(a), Some(b)) = (edge(one), edge(other)) else { return Possible::No };
    match meet(a, b) {
        _ if !one.maps_ports && !other.maps_ports => Possible::No,
        // By one router's own outer address, which may not lead back in.
        Possible::Yes if shared != Shared::Nothing => Possible::Told,
        verdict => verdict,
    }
}

/// No translation: both send, and each stateful firewall on the way has then seen its own side send.
fn over_v6(one: &Site, other: &Site) -> Possible {
    if one.v6 == V6::None || other.v6 == V6::None { Possible::No } else { Possible::Yes }
}

fn over_v4(one: &Site, other: &Site, shared: Shared) -> Possible {
    let (Some(a), Some(own_of_other)) = (nats(&one.v4), nats(&other.v4)) else { return Possible::No };
    // Which of the first one's NATs stand before both, and what the other passes in all.
    let common = match shared {
        Shared::Nothing => &[],
        Shared::Home => a,
        Shared::Carrier => &a[a.len().saturating_sub(1)..],
    };
    let own = own_of_other.len().saturating_sub(common.len());
    let b: Vec<Behaviour> = own_of_other[..own].iter().chain(common).copied().collect();
    let verdict = meet(edge(one, a), edge(other, &b));
    let Some(outermost) = common.last() else { return verdict };
    let collide =
        common.iter().any(|nat| nat.mapping != Mapping::EndpointIndependent && nat.ports != Ports::Random);
    match verdict {
        _ if !outermost.hairpins => Possible::No,
        // Two inner hosts want one outer port, and the second then gets another for each destination.
        Possible::Yes if collide => Possible::Told,
        verdict => verdict,
    }
}

fn nats(v4: &V4) -> Option<&[Behaviour]> {
    match v4 {
        V4::None => None,
        V4::Public => Some(&[]),
        V4::Behind(chain) => Some(chain),
    }
}

fn edge(site: &Site, chain: &[Behaviour]) -> Edge {
    let filtering = match site.host_firewall {
        Some(_) => Filtering::AddressAndPortDependent,
        None => Filtering::EndpointIndependent,
    };
    chain.iter().fold(Edge { fixed: true, filtering }, through)
}

fn through(edge: Edge, nat: &Behaviour) -> Edge {
    Edge { fixed: edge.fixed && nat.is_predictable(), filtering: edge.filtering.max(nat.filtering) }
}

fn meet(a: Edge, b: Edge) -> Possible {
    use Filtering::{
        AddressAndPortDependent as Ports, AddressDependent as Address, EndpointIndependent as Open,
    };
    let (steady, varying) = match (a.fixed, b.fixed) {
        (true, true) => return Possible::Yes,
        (true, false) => (a, b),
        (false, true) => (b, a),
        (false, false) => {
            return match (a.filtering, b.filtering) {
                (Open, Open | Address) | (Address, Open) => Possible::Told,
                (Open, Ports) | (Ports, Open) | (Address | Ports, Address | Ports) => Possible::No,
            };
        }
    };
    match (steady.filtering, varying.filtering) {
        (Open, _) => Possible::Yes,
        (Address, _) => Possible::Told,
        (Ports, _) => Possible::No,
    }
}
