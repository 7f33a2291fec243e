//! Strategy `upnp-igd`: a mapping (IPv4) or a pinhole in the firewall (IPv6, IGD 2) that a router makes for the
//! WireGuard port by UPnP.
//!
//! When, for how long and what happens to it is `wireplug_strategy::mapping`'s. Here is the protocol:
//!
//! | module | what |
//! |---|---|
//! | `ssdp`, `xml`, `description`, `soap` | what is said and read: pure, bounded, tolerant |
//! | `link` | where we may speak: on the router's link only, from our address there |
//! | `http` | one bounded question and its answer |
//! | `search`, `service` | who is there, and which service is the best |
//! | `wire` | the service's actions: `igd-next`'s on our transport, and those that it lacks |
//! | `port`, `pinhole` | a mapping for IPv4, a pinhole for IPv6 |
//!
//! `igd-next` searches by no name of IGD 2, returns the first gateway only, cannot be bound to a link, and has neither
//! `GetStatusInfo` nor `GetSpecificPortMappingEntry`: so its actions and errors are used, its search and transport not.
//!
//! What it leaves on the router is one UDP mapping named `wireplug` for IPv4 and one pinhole for each IPv6 address in
//! use, deleted on stop and gone with their leases otherwise; a router that knows no leases keeps it after a crash
//! until the next start takes it over.

mod description;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod link;
mod pinhole;
mod port;
mod search;
mod service;
mod soap;
mod ssdp;
mod wire;
mod xml;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::mapping::{self, Ask, Checked, EpochRule, Grant, MapError, Protocol, Settings, Site};
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Registration, Situation, Strategy};

use service::Service;

inventory::submit! {
    Registration {
        name: "upnp-igd",
        tier: Tier::Mapped,
        about: "a mapping or pinhole for the WireGuard port that the router makes by UPnP",
        options: OPTIONS,
        build,
    }
}

/// The driver's, but for one default: a look at a mapping is two TCP connections here, not one datagram.
const OPTIONS: &[OptionDoc] = &{
    let mut options = mapping::OPTIONS;
    let mut at = 0;
    while at < options.len() {
        if let [b'c', b'h', b'e', b'c', b'k'] = options[at].key.as_bytes() {
            options[at].default = "5m";
        }
        at += 1;
    }
    options
};
const CHECK: Duration = Duration::from_mins(5);

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, ConfigError> {
    let mut settings: Settings = options::parse(table, OPTIONS)?;
    if !table.contains_key("check") {
        settings.check = CHECK;
    }
    Ok(mapping::strategy(Upnp::default(), settings))
}

/// The protocol, for [`mapping::strategy`]. It remembers what it found, so that a renewal searches for nothing.
#[derive(Default, Clone)]
struct Upnp(Arc<Mutex<Vec<Known>>>);

/// What is known of one place for a mapping.
#[derive(Debug, Clone)]
struct Known {
    site: Site,
    service: Service,
    /// The number of a pinhole, with the port it is for.
    pinhole: Option<(u16, u16)>,
}

/// The most places that are remembered; whoever roams through more networks searches again.
const MAX_KNOWN: usize = 16;

impl Upnp {
    fn known(&self, site: &Site) -> Option<Known> {
        self.lock().iter().find(|known| known.site == *site).cloned()
    }

    fn learn(&self, known: Known) {
        let mut all = self.lock();
        all.retain(|other| other.site != known.site);
        if all.len() >= MAX_KNOWN {
            all.remove(0);
        }
        all.push(known);
    }

    fn forget(&self, site: &Site) {
        self.lock().retain(|known| known.site != *site);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for Upnp {
    fn title(&self) -> &'static str {
        service::TITLE
    }

    /// UPnP tells no seconds by which a restart would be seen.
    fn epoch_rule(&self) -> EpochRule {
        EpochRule::NatPmp
    }

    fn sites(&self, situation: &Situation) -> Vec<Site> {
        mapping::sites_with_pinholes(situation)
    }

    fn map(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Grant, MapError>> {
        let upnp = self.clone();
        Box::pin(async move {
            match ask.site.source {
                IpAddr::V4(_) => port::map(&upnp, context, &ask).await,
                IpAddr::V6(own) => pinhole::map(&upnp, context, &ask, own).await,
            }
        })
    }

    fn check(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Checked, MapError>> {
        let upnp = self.clone();
        Box::pin(async move {
            match ask.site.source {
                IpAddr::V4(_) => port::check(&upnp, context, &ask).await,
                IpAddr::V6(_) => pinhole::check(&upnp, context, &ask).await,
            }
        })
    }

    fn unmap(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<(), MapError>> {
        let upnp = self.clone();
        Box::pin(async move {
            match ask.site.source {
                IpAddr::V4(_) => port::unmap(&upnp, context, &ask).await,
                IpAddr::V6(own) => pinhole::unmap(&upnp, context, &ask, own).await,
            }
        })
    }
}

/// Where WireGuard listens, as the router sees it.
fn inner(ask: &Ask) -> SocketAddr {
    SocketAddr::new(ask.site.source, ask.port)
}

/// An error of a call, for the driver.
fn refused(ask: &Ask, error: &wire::CallError) -> MapError {
    let gateway = ask.site.gateway.ip;
    match error {
        wire::CallError::Refused { .. } => {
            MapError::Denied { gateway, why: error.to_string(), retry_after: None }
        }
        wire::CallError::Http(_) | wire::CallError::Unreadable => {
            MapError::Other { gateway, says: format!("has UPnP, but {error}") }
        }
    }
}
