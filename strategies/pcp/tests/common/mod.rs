//! A home with a fake router.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::IpAddr;
use std::time::Duration;

use wireplug_core::Endpoint;
use wireplug_strategy::kit::gateway::{FakeGateway, Heard};
use wireplug_strategy::kit::{Place, Run, address};
use wireplug_strategy::{Gateway, Situation, find};

pub const STRATEGY: &str = "pcp";
pub const GATEWAY: &str = "192.168.1.1";
pub const SOURCE: &str = "192.168.1.5";
pub const OUTSIDE: &str = "5.6.7.8";
pub const PORT: u16 = 51820;

/// A router and a host on its link, which needs a mapping.
#[derive(Debug, Clone)]
pub struct Lab {
    pub router: FakeGateway,
    pub gateway: IpAddr,
    pub situation: Situation,
}

impl Lab {
    pub fn home() -> Self {
        Self::new(GATEWAY, SOURCE, OUTSIDE)
    }

    pub fn new(gateway: &str, source: &str, outside: &str) -> Self {
        let (ip, source) = (gateway.parse().unwrap(), source.parse().unwrap());
        let situation = Situation {
            generation: 1,
            interface: "wg0".to_owned(),
            listen_port: PORT,
            addresses: vec![address(source, 24)],
            gateways: vec![Gateway { ip, source, ifindex: 2, interface: "eth0".to_owned() }],
            wanted: true,
            mapping_wanted: true,
            ..Situation::default()
        };
        Self { router: FakeGateway::new(outside.parse().unwrap()), gateway: ip, situation }
    }

    pub fn place(&self) -> Place {
        Place::new(self.situation.clone()).with_router(self.gateway, &self.router)
    }

    /// Another place with this router in it.
    pub fn moved_into(self, place: Place) -> Place {
        place.with_router(self.gateway, &self.router)
    }

    pub fn start(&self) -> Run {
        start(self.place(), &toml::Table::new())
    }

    /// Starts, and waits until the first mapping stands.
    pub async fn mapped(&self) -> Run {
        let run = self.start();
        run.after(Duration::from_secs(1)).await;
        assert_eq!(self.router.mappings().len(), 1, "{:?}", run.host.notes());
        assert!(!run.host.standing().candidates.is_empty(), "{:?}", run.host.said());
        run
    }

    /// What it heard from this many datagrams on.
    pub fn heard_since(&self, before: usize) -> Vec<Heard> {
        self.router.heard().split_off(before)
    }
}

pub fn start(place: Place, table: &toml::Table) -> Run {
    Run::start(find(STRATEGY).unwrap(), table, place).unwrap()
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The candidates that stand, in words.
pub fn candidates(run: &Run) -> Vec<String> {
    run.host.standing().candidates.keys().map(Endpoint::to_string).collect()
}

pub fn last_note(run: &Run) -> String {
    run.host.notes().pop().unwrap_or_default()
}
