//! A home with a fake router that speaks UPnP.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wireplug_core::Endpoint;
use wireplug_strategy::kit::gateway::{FakeGateway, FakeMapping, UpnpScript};
use wireplug_strategy::kit::{Place, Run, address};
use wireplug_strategy::{Gateway, Situation, find};

pub const GATEWAY: &str = "192.168.1.1";
pub const SOURCE: &str = "192.168.1.5";
pub const OTHER: &str = "192.168.1.66";
pub const OUTSIDE: &str = "5.6.7.8";
pub const PORT: u16 = 51820;

/// A router and a host on its link, which needs a mapping.
#[derive(Debug, Clone)]
pub struct Lab {
    pub router: FakeGateway,
    pub gateway: IpAddr,
    pub situation: Situation,
    others: Vec<(IpAddr, FakeGateway)>,
}

impl Lab {
    pub fn home() -> Self {
        Self::new(GATEWAY, SOURCE, OUTSIDE)
    }

    /// At home, with a script.
    pub fn with(change: impl FnOnce(&mut UpnpScript)) -> Self {
        let lab = Self::home();
        lab.upnp(change);
        lab
    }

    pub fn new(gateway: &str, source: &str, outside: &str) -> Self {
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
        Self {
            router: FakeGateway::new(outside.parse().unwrap()),
            gateway: ip,
            situation,
            others: Vec::new(),
        }
    }

    /// With another device on the link, or one that is there under another address too.
    pub fn beside(mut self, at: &str, device: &FakeGateway) -> Self {
        self.others.push((at.parse().unwrap(), device.clone()));
        self
    }

    pub fn upnp(&self, change: impl FnOnce(&mut UpnpScript)) {
        self.router.change(|script| change(&mut script.upnp));
    }

    pub fn place(&self) -> Place {
        self.clone().moved_into(Place::new(self.situation.clone()))
    }

    /// Another place with this router in it.
    pub fn moved_into(self, mut place: Place) -> Place {
        for (at, device) in &self.others {
            place = place.with_router(*at, device);
        }
        place.with_router(self.gateway, &self.router)
    }

    pub fn start(&self) -> Run {
        start(self.place(), &toml::Table::new())
    }

    /// A run that has had its time for the first contact.
    pub async fn ran(&self) -> Run {
        let run = self.start();
        run.after(seconds(4)).await;
        run
    }

    /// A run in which the first mapping stands.
    pub async fn mapped(&self) -> Run {
        let run = self.ran().await;
        assert_eq!(self.router.mappings().len(), 1, "{:?}", run.host.notes());
        assert!(!run.host.standing().candidates.is_empty(), "{:?}", run.host.said());
        run
    }

    /// The only mapping.
    pub fn mapping(&self) -> FakeMapping {
        let mappings = self.router.mappings();
        assert_eq!(mappings.len(), 1, "{mappings:?}");
        mappings[0].clone()
    }

    /// The requests for this action, as text.
    pub fn requests(&self, action: &str) -> Vec<String> {
        requests(&self.router, action)
    }
}

pub fn requests(device: &FakeGateway, action: &str) -> Vec<String> {
    let heard = device.heard().into_iter();
    let texts = heard.map(|heard| String::from_utf8_lossy(&heard.datagram).into_owned());
    texts.filter(|text| text.contains(&format!("#{action}\"")) || text.starts_with(action)).collect()
}

pub fn start(place: Place, table: &toml::Table) -> Run {
    Run::start(find("upnp-igd").unwrap(), table, place).unwrap()
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The candidates that stand, in words.
pub fn candidates(run: &Run) -> Vec<String> {
    run.host.standing().candidates.keys().map(Endpoint::to_string).collect()
}

pub fn last_note(run: &Run) -> String {
    run.host.notes().pop().unwrap_or_default()
}
