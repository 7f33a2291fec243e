//! Sites by name, and what every property asks of a run.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod judge;
pub(crate) mod settle;

use wireplug_sim::Time;
use wireplug_sim::link::Link;
use wireplug_sim::nat::{Behaviour, Filtering, Mapping, Ports};
use wireplug_sim::site::{Site, V4, V6};
use wireplug_sim::{ms, secs};

/// The order of a full cone NAT's opposite: what most home routers do.
pub(crate) const PORT_RESTRICTED: Behaviour = Behaviour {
    mapping: Mapping::EndpointIndependent,
    ports: Ports::Preserving,
    filtering: Filtering::AddressAndPortDependent,
    timeout: secs(60),
    inbound_refreshes: true,
    hairpins: false,
};

/// Anyone may send to its mappings.
pub(crate) const FULL_CONE: Behaviour =
    Behaviour { ports: Ports::Random, filtering: Filtering::EndpointIndependent, ..PORT_RESTRICTED };

/// A mapping for each destination, and only that one may answer.
pub(crate) const SYMMETRIC: Behaviour =
    Behaviour { mapping: Mapping::AddressAndPortDependent, ports: Ports::Random, ..PORT_RESTRICTED };

/// A site with this IPv4, nothing else, on a line of so much delay.
pub(crate) fn site(v4: V4, latency: Time) -> Site {
    Site { v4, v6: V6::None, host_firewall: None, no_udp: false, maps_ports: false, line: Link::of(latency) }
}

/// A site behind one NAT, 10 ms from the internet.
pub(crate) fn behind(nat: Behaviour) -> Site {
    site(V4::Behind(vec![nat]), ms(10))
}

/// A public host, 10 ms from the internet.
pub(crate) fn public() -> Site {
    site(V4::Public, ms(10))
}

/// A number from the environment, or this.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
