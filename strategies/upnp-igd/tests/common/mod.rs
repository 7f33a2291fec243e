//! A home with a fake router that speaks UPnP.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::SocketAddr;

use wireplug_strategy::kit::gateway::{FakeGateway, FakeMapping, UpnpScript};
use wireplug_strategy::kit::home::Home;

/// The address of another device on the link.
pub const OTHER: &str = "192.168.1.66";

/// What these tests want of a home besides.
pub trait Upnp {
    /// At home, with a script.
    fn with(change: impl FnOnce(&mut UpnpScript)) -> Self;

    /// Changes the router's script.
    fn upnp(&self, change: impl FnOnce(&mut UpnpScript));

    /// The only mapping.
    fn mapping(&self) -> FakeMapping;

    /// The requests for this action, as text.
    fn requests(&self, action: &str) -> Vec<String>;
}

impl Upnp for Home {
    fn with(change: impl FnOnce(&mut UpnpScript)) -> Self {
        let home = Self::default();
        home.upnp(change);
        home
    }

    fn upnp(&self, change: impl FnOnce(&mut UpnpScript)) {
        self.router.change(|script| change(&mut script.upnp));
    }

    fn mapping(&self) -> FakeMapping {
        let mappings = self.router.mappings();
        assert_eq!(mappings.len(), 1, "{mappings:?}");
        mappings[0].clone()
    }

    fn requests(&self, action: &str) -> Vec<String> {
        requests(&self.router, action)
    }
}

/// The requests that a device heard for this action, as text.
pub fn requests(device: &FakeGateway, action: &str) -> Vec<String> {
    let heard = device.heard().into_iter();
    let texts = heard.map(|heard| String::from_utf8_lossy(&heard.datagram).into_owned());
    texts.filter(|text| text.contains(&format!("#{action}\"")) || text.starts_with(action)).collect()
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
