//! A home for tests of strategies that speak with routers: a router, a host on its link, and the strategy that the test
//! is linked with.

#![allow(clippy::unwrap_used, reason = "what cannot be in a test ends it")]

use std::net::IpAddr;
use std::time::Duration;

use wireplug_core::Endpoint;

use super::gateway::{FakeGateway, Heard, Script};
use super::{Place, Run, Scenario, address};
use crate::registry::{Registration, registered};
use crate::situation::{Gateway, Situation};

/// The router's address on the link.
pub const GATEWAY: &str = "192.168.1.1";
/// The host's.
pub const SOURCE: &str = "192.168.1.5";
/// The router's outer address.
pub const OUTSIDE: &str = "5.6.7.8";
/// WireGuard's port.
pub const PORT: u16 = 51820;

/// How long the first contact with a router may take: searches are given up after three seconds.
const FIRST_CONTACT: Duration = Duration::from_secs(4);

/// A router and a host on its link, which needs a mapping.
#[derive(Debug, Clone)]
pub struct Home {
    /// The router.
    pub router: FakeGateway,
    /// Its address on the link.
    pub gateway: IpAddr,
    /// What the host sees.
    pub situation: Situation,
    /// Other devices on the link, or one under a second address.
    pub others: Vec<(IpAddr, FakeGateway)>,
}

impl Default for Home {
    fn default() -> Self {
        Self::at(GATEWAY, SOURCE, OUTSIDE)
    }
}

impl Home {
    /// With these addresses: the router's on the link, the host's, and the router's outer one.
    ///
    /// # Panics
    /// Where one is none.
    pub fn at(gateway: &str, source: &str, outside: &str) -> Self {
        let (ip, source): (IpAddr, IpAddr) = (gateway.parse().unwrap(), source.parse().unwrap());
        let prefix = if ip.is_ipv4() { 24 } else { 64 };
        let situation = Situation {
            generation: 1,
            interface: "wg0".to_owned(),
            listen_port: PORT,
            addresses: vec![address(source, prefix)],
            gateways: vec![Gateway { ip, source, ifindex: 2, interface: "eth0".to_owned() }],
            wanted: true,
            mapping_wanted: true,
            ..Situation::default()
        };
        let router = FakeGateway::new(outside.parse().unwrap());
        Self { router, gateway: ip, situation, others: Vec::new() }
    }

    /// The same with another device at this address of the link.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn beside(mut self, at: &str, device: &FakeGateway) -> Self {
        self.others.push((at.parse().unwrap(), device.clone()));
        self
    }

    /// As a place of the kit.
    pub fn place(&self) -> Place {
        self.clone().moved_into(Place::new(self.situation.clone()))
    }

    /// Another place with this home's devices in it.
    pub fn moved_into(self, mut place: Place) -> Place {
        for (at, device) in &self.others {
            place = place.with_router(*at, device);
        }
        place.with_router(self.gateway, &self.router)
    }

    /// Starts the strategy here, without options.
    pub fn start(&self) -> Run {
        start(self.place(), &toml::Table::new())
    }

    /// Starts it, and gives it time for the first contact.
    pub async fn ran(&self) -> Run {
        let run = self.start();
        run.after(FIRST_CONTACT).await;
        run
    }

    /// Starts it, and waits until the first mapping stands.
    ///
    /// # Panics
    /// Where none does.
    pub async fn mapped(&self) -> Run {
        let run = self.ran().await;
        assert_eq!(self.router.mappings().len(), 1, "{:?}", run.host.notes());
        assert!(!run.host.standing().candidates.is_empty(), "{:?}", run.host.said());
        run
    }

    /// What the router heard from this many datagrams on.
    pub fn heard_since(&self, before: usize) -> Vec<Heard> {
        self.router.heard().split_off(before)
    }
}

/// A scenario for the conformance kit in two such homes. `scripts` prepares every router; `gone` has one map no more.
pub fn scenario(scripts: impl Fn(&mut Script), gone: impl FnOnce(&mut Script)) -> Scenario {
    let home = |gateway, source, outside| {
        let home = Home::at(gateway, source, outside);
        home.router.change(&scripts);
        home
    };
    let here = || home(GATEWAY, SOURCE, OUTSIDE);
    let (first, new_port, without) = (here(), here(), here());
    let away = home("10.0.0.1", "10.0.0.9", "9.8.7.6");
    without.router.change(gone);
    let there = away.router.clone();
    let mut scenario = Scenario::new(first.place(), away.place())
        .changing("another port", |place| {
            place.situation.listen_port = 4500;
            *place = new_port.moved_into(place.clone());
        })
        .changing("a router that maps no more", |place| *place = without.moved_into(place.clone()))
        .changing("no router any more", |place| place.situation.gateways.clear());
    // What stands on the router of a network that was left cannot be reached, and ends with its lease.
    scenario.left_behind =
        Box::new(move || there.mappings().iter().map(|mapping| format!("{mapping:?}")).collect());
    scenario
}

/// The strategy under test: the only one that the test is linked with.
///
/// # Panics
/// Where there is none, or more.
pub fn strategy() -> &'static Registration {
    let all = registered();
    assert_eq!(all.len(), 1, "link the test with one strategy: `use my_strategy as _;`");
    all[0]
}

/// Starts the strategy under test somewhere.
///
/// # Panics
/// Where it refuses its table.
pub fn start(place: Place, table: &toml::Table) -> Run {
    Run::start(strategy(), table, place).unwrap()
}

/// The candidates that stand, in words.
pub fn candidates(run: &Run) -> Vec<String> {
    run.host.standing().candidates.keys().map(Endpoint::to_string).collect()
}

/// Its last note; empty where it said none.
pub fn last_note(run: &Run) -> String {
    run.host.notes().pop().unwrap_or_default()
}

/// For short.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
