//! Two places drawn by chance, and how the evening begins there.

use std::fmt;

use rand::{RngExt as _, SeedableRng as _};

use crate::link::Link;
use crate::nat::{Behaviour, Filtering, Mapping, Ports};
use crate::server::{Relaying, Temper};
use crate::site::{Shared, Site, V4, V6};
use crate::{Chance, Time, ms, secs};

/// Everything that tells one run from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// For all chance within the run.
    pub seed: u64,
    /// Where the two hosts live.
    pub sites: [Site; 2],
    /// What their places share.
    pub shared: Shared,
    /// The two hosts' own parts.
    pub hosts: [Start; 2],
    /// The first host's key is the lower one.
    pub first_is_lower: bool,
    /// How honest the server is.
    pub temper: Temper,
    /// Whether it relays.
    pub relaying: Relaying,
}

/// How one host begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// WireGuard's port.
    pub port: u16,
    /// When its daemon starts.
    pub daemon_at: Option<Time>,
    /// The device has an endpoint from another time, where nobody is.
    pub stale_endpoint: bool,
    /// The person's own persistent keepalive, seconds; 0 is none.
    pub keepalive: u16,
    /// When that keepalive is set: without an endpoint it spends an initiation from then on every 5 s.
    pub keepalive_at: Time,
    /// The person's traffic: a ping this often, from `ping_at` on.
    pub ping_every: Option<Time>,
    /// When the traffic begins.
    pub ping_at: Time,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            port: 51820,
            daemon_at: Some(Time::ZERO),
            stale_endpoint: false,
            keepalive: 0,
            keepalive_at: Time::ZERO,
            ping_every: Some(secs(1)),
            ping_at: Time::ZERO,
        }
    }
}

impl Scenario {
    /// Two plain hosts at these sites that start together.
    pub fn of(sites: [Site; 2]) -> Self {
        Self {
            seed: 1,
            sites,
            shared: Shared::Nothing,
            hosts: [Start::default(); 2],
            first_is_lower: true,
            temper: Temper::Honest,
            relaying: Relaying::Off,
        }
    }

    /// The same with a server that relays.
    #[must_use]
    pub fn relayed(self) -> Self {
        Self { relaying: Relaying::On, ..self }
    }

    /// A scenario from a seed: the same seed always gives the same one.
    pub fn draw(seed: u64) -> Self {
        let c = &mut Chance::seed_from_u64(seed);
        let shared = match c.random_range(0..10) {
            0 => Shared::Home,
            1 => Shared::Carrier,
            _ => Shared::Nothing,
        };
        let sites = [draw_site(c, shared), draw_site(c, shared)];
        let mut hosts = [draw_start(c), draw_start(c)];
        if shared == Shared::Home {
            hosts[1].port = hosts[0].port + 1;
        }
        // Somebody starts at the beginning.
        let first = c.random_range(0..2);
        hosts[first].daemon_at = Some(Time::ZERO);
        Self {
            seed,
            sites,
            shared,
            hosts,
            first_is_lower: c.random(),
            temper: Temper::Honest,
            relaying: Relaying::Off,
        }
    }

    /// A place to move to, that shares nothing with any other.
    pub fn draw_place(seed: u64) -> Site {
        draw_site(&mut Chance::seed_from_u64(seed ^ 0x0001_face), Shared::Nothing)
    }

    /// When both daemons run.
    pub fn both_run(&self) -> Time {
        self.hosts.iter().filter_map(|h| h.daemon_at).max().unwrap_or_default()
    }

    /// The chance that a packet is lost between the two, of 1,000.
    pub fn loss(&self) -> u32 {
        self.sites.iter().map(|s| s.line.loss).sum()
    }
}

fn draw_site(c: &mut Chance, shared: Shared) -> Site {
    let v4 = if shared == Shared::Nothing {
        match c.random_range(0..20) {
            0 => V4::None,
            1..4 => V4::Public,
            4..16 => V4::Behind(vec![draw_nat(c)]),
            _ => V4::Behind(vec![draw_nat(c), draw_nat(c)]),
        }
    } else {
        let length = c.random_range(1..3);
        V4::Behind((0..length).map(|_| draw_nat(c)).collect())
    };
    let v6 = match c.random_range(0..10) {
        0 => V6::Open,
        1..3 => V6::Firewalled(draw_timeout(c)),
        _ if v4 == V4::None => V6::Open,
        _ => V6::None,
    };
    Site {
        v4,
        v6,
        host_firewall: c.random_ratio(1, 4).then(|| draw_timeout(c)),
        no_udp: shared == Shared::Nothing && c.random_ratio(1, 25),
        maps_ports: false,
        line: draw_line(c),
    }
}

fn draw_nat(c: &mut Chance) -> Behaviour {
    let filterings =
        [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
    let (mapping, filtering) = match c.random_range(0..10) {
        0..7 => (Mapping::EndpointIndependent, filterings[c.random_range(0..3)]),
        7 => (Mapping::AddressDependent, filterings[c.random_range(1..3)]),
        _ => (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent),
    };
    let ports = match c.random_range(0..5) {
        0 => Ports::Fixed(c.random_range(1024..60000)),
        1..3 => Ports::Preserving,
        _ => Ports::Random,
    };
    let timeout = draw_timeout(c);
    Behaviour {
        mapping,
        ports,
        filtering,
        timeout,
        // WireGuard's keepalive timer starts over with every packet that is received, too: of two sides that keep
        // alive, one may stay silent until the next handshake, two minutes later. Where only what leaves
        // prolongs a mapping, a shorter one dies under a tunnel that works, and nothing can be settled.
        inbound_refreshes: timeout < secs(300) || c.random(),
        hairpins: c.random_ratio(2, 3),
    }
}

fn draw_timeout(c: &mut Chance) -> Time {
    [secs(30), secs(60), secs(120), secs(300)][c.random_range(0..4)]
}

fn draw_line(c: &mut Chance) -> Link {
    let latency = ms(c.random_range(0..100));
    let jitter = if c.random() { Time::ZERO } else { latency * c.random_range(0..50) / 100 };
    let loss = if c.random() { 0 } else { c.random_range(0..=50) };
    let doubled = if c.random_ratio(1, 4) { 10 } else { 0 };
    Link { latency, jitter, loss, doubled, late: 0 }
}

fn draw_start(c: &mut Chance) -> Start {
    Start {
        port: if c.random() { 51820 } else { c.random_range(2000..60000) },
        daemon_at: Some(ms(c.random_range(0..10_000))),
        stale_endpoint: c.random_ratio(1, 5),
        keepalive: if c.random_ratio(1, 4) { 25 } else { 0 },
        keepalive_at: ms(c.random_range(0..5000)),
        ping_every: c.random::<bool>().then(|| secs(1)),
        ping_at: ms(c.random_range(0..1000)),
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, shared {:?}, server {:?}, relay {:?}",
            self.seed, self.shared, self.temper, self.relaying
        )?;
        for (index, (site, start)) in self.sites.iter().zip(&self.hosts).enumerate() {
            let lower = if (index == 0) == self.first_is_lower { "lower key" } else { "higher key" };
            writeln!(f, "  host {index} ({lower}): {site}; {start:?}")?;
        }
        Ok(())
    }
}
