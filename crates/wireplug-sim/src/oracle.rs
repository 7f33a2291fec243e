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

use crate::nat::{Filtering, Mapping, Ports};
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
    // A guest in the first one's home stands behind the first one's NATs.
    let chain_of_other = if shared == Shared::Home { &one.v4 } else { &other.v4 };
    let (Some(a), Some(b)) = (edge(&one.v4, one), edge(chain_of_other, other)) else {
        return Possible::No;
    };
    if shared == Shared::Nothing {
        return meet(a, b);
    }
    let V4::Behind(chain) = &one.v4 else { return Possible::No };
    let Some(outermost) = chain.last() else { return Possible::No };
    if !outermost.hairpins {
        return Possible::No;
    }
    let b = if shared == Shared::Carrier { through(b, outermost) } else { b };
    let shared_nats: &[_] = if shared == Shared::Home { chain } else { std::slice::from_ref(outermost) };
    let collide = shared_nats
        .iter()
        .any(|nat| nat.mapping != Mapping::EndpointIndependent && nat.ports != Ports::Random);
    match meet(a, b) {
        // Two inner hosts want one outer port, and the second then gets another for each destination.
        Possible::Yes if collide => Possible::Told,
        verdict => verdict,
    }
}

fn edge(v4: &V4, site: &Site) -> Option<Edge> {
    let bare = Edge {
        fixed: true,
        filtering: match site.host_firewall {
            Some(_) => Filtering::AddressAndPortDependent,
            None => Filtering::EndpointIndependent,
        },
    };
    match v4 {
        V4::None => None,
        V4::Public => Some(bare),
        V4::Behind(chain) => Some(chain.iter().fold(bare, through)),
    }
}

fn through(edge: Edge, nat: &crate::nat::Behaviour) -> Edge {
    Edge { fixed: edge.fixed && nat.is_predictable(), filtering: edge.filtering.max(nat.filtering) }
}

fn meet(a: Edge, b: Edge) -> Possible {
    use Filtering::{AddressAndPortDependent as Ports, AddressDependent as Address, EndpointIndependent as Open};
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
