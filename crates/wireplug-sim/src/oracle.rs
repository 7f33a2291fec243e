//! Whether a direct UDP path between two sites is possible at all, from their description alone.
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

/// Whether two hosts at such sites can have a direct UDP path.
pub fn direct_path(one: &Site, other: &Site, shared: Shared) -> Possible {
    if one.no_udp || other.no_udp {
        return Possible::No;
    }
    over_v4(one, other, shared).max(over_v6(one, other))
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
