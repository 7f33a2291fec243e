//! This host's place in the network: which addresses it has, where its default routes lead, and when that is
//! another place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracing::debug;
use wireplug_net::{Addresses, Changes, HostAddress, Route, Routes};

use super::AgentError;

/// What stands for the rest of the internet in route look-ups: addresses of documentation (RFC 5737,
/// RFC 3849), which go where the default route goes. Nothing is sent to them.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// A look at the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) addresses: Vec<HostAddress>,
    /// By which the rest of the internet is reached, per family.
    ways: Vec<Option<Way>>,
}

/// The part of a route that makes it another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    source: Option<IpAddr>,
    ifindex: u32,
    interface: String,
    gateway: Option<IpAddr>,
}

/// Looks at the network and hears of changes.
pub(super) struct Network {
    addresses: Addresses,
    pub(super) routes: Routes,
    changes: Option<Changes>,
}

impl Network {
    /// Begins to listen for changes.
    ///
    /// # Errors
    /// Where netlink cannot be used at all.
    pub(super) fn open() -> Result<Self, AgentError> {
        Ok(Self { addresses: Addresses::new()?, routes: Routes::new()?, changes: Some(Changes::new()?) })
    }

    /// Waits until the kernel says that something changed. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            match changes.next().await {
                Ok(_) => return self.routes.forget_links(),
                Err(error) => {
                    debug!(%error, "network changes are heard of no more");
                    self.changes = None;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    /// The network as it is now, seen with the device's mark.
    pub(super) async fn look(&self, fwmark: u32) -> Place {
        let addresses = self.addresses.list().await.unwrap_or_else(|error| {
            debug!(%error, "no addresses");
            Vec::new()
        });
        let mut ways = Vec::new();
        for to in ELSEWHERE {
            let route = self.routes.lookup(to, fwmark).await.ok();
            ways.push(route.filter(|route| !route.tunnel).map(Way::from));
        }
        Place { addresses, ways }
    }
}

/// What tells one network from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Features {
    /// Its router, by both addresses; or the link, where there is no router.
    Whole(Vec<u8>),
    /// Its router's address alone, which many have: the kernel does not know the other one yet.
    Partial(Vec<u8>),
    /// There is no way out of it.
    None,
}

impl Network {
    /// What tells this network from others: the router on the way to the rest of the internet, by its address and its
    /// link-layer address. A link without routers (a modem's) is told by its name.
    pub(super) async fn features(&self, place: &Place) -> Features {
        let Some(way) = place.ways.iter().flatten().next() else { return Features::None };
        let Some(router) = way.gateway else {
            return Features::Whole(format!("link {}", way.interface).into_bytes());
        };
        match self.routes.link_address(router, way.ifindex).await.ok().flatten() {
            Some(address) => Features::Whole(format!("router {router} at {address:02x?}").into_bytes()),
            None => Features::Partial(format!("router {router} by {}", way.interface).into_bytes()),
        }
    }
}

impl From<Route> for Way {
    fn from(Route { source, ifindex, interface, gateway, .. }: Route) -> Self {
        Self { source, ifindex, interface, gateway }
    }
}

impl Place {
    /// The routers on the way to the rest of the internet.
    pub(super) fn gateways(&self) -> Vec<wireplug_strategy::Gateway> {
        let gateways = self.ways.iter().flatten().filter_map(|way| {
            let (ip, source) = (way.gateway?, way.source?);
            Some(wireplug_strategy::Gateway {
                ip,
                source,
                ifindex: way.ifindex,
                interface: way.interface.clone(),
            })
        });
        gateways.collect()
    }

    /// The addresses as strategies see them.
    pub(super) fn for_strategies(&self) -> Vec<wireplug_strategy::HostAddress> {
        let addresses = self.addresses.iter().map(|address| wireplug_strategy::HostAddress {
            ip: address.ip,
            prefix: address.prefix,
            ifindex: address.ifindex,
            interface: address.interface.clone(),
            temporary: address.temporary,
            deprecated: address.deprecated,
        });
        addresses.collect()
    }
}

#[cfg(test)]
mod tests {
    use wireplug_core::Endpoint;

    use super::*;

    #[test]
    fn a3_routers_are_looked_up_by_addresses_that_can_be_real() {
        for ip in ELSEWHERE {
            // Neither 0.0.0.0 nor anything else that the kernel answers for by itself.
            assert!(Endpoint::new((ip, 1).into()).is_ok(), "{ip}");
        }
    }
}
