//! For authors of strategies that ask a router for a mapping: bring a [`Protocol`], [`strategy`] does the rest.
//!
//! The rest is the same for every protocol, and done once:
//!
//! | what | how |
//! |---|---|
//! | when | `when = "needed"`: once [`Situation::mapping_wanted`]; `"always"`: on every network |
//! | where | at each router of the situation, for each own address that the protocol maps there |
//! | a silent router | costs one second, beside everything else; it is asked again after 1, 2, 4 ... 30 minutes |
//! | a lease | is renewed between 1/2 and 5/8 of it, looked at in between, made again after the router restarted |
//! | a mapping held | stays until the network changes, the strategy stops, or another strategy's is proven: a tunnel that settled on it uses it although nobody works on a peer any more |
//! | nothing comes in | a mapping that the server found closed is deleted and made anew once, then that is said |
//! | another's is proven | ours is released; where both are the same entry of the router, it is only let go |
//! | the network changed | a mapping of a router that is still there is looked at at once, else it is taken back if the router can be reached, and ends with its lease if not |
//! | a private outer address | double NAT or CGNAT: said, released, not a candidate |
//! | killed | the next run finds on disk what this one had asked for, and takes it over or back |
//!
//! Files: `ledger` decides and is without IO and clock, `driver` does what it decides, `pace` and `epoch` hold
//! the arithmetic, `record` what is kept on disk, [`exchange`] asks over UDP.

mod driver;
mod epoch;
mod exchange;
mod ledger;
mod pace;
mod record;
mod settings;
mod sites;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use driver::strategy;
pub use epoch::EpochRule;
pub use exchange::{Patience, exchange};
pub use settings::{OPTIONS, Settings, When};
pub use sites::sites_with_pinholes;

use crate::context::Context;
use crate::registry::BoxFuture;
use crate::situation::{Gateway, Situation};

/// A way to ask routers for mappings. Its futures own what they need, may be dropped at any await, and are
/// dropped after [`LONGEST_CALL`]; sockets come from [`Context::dial`].
pub trait Protocol: Send + Sync + 'static {
    /// Its name for people, such as `NAT-PMP`.
    fn title(&self) -> &'static str;

    /// How the seconds that a router tells are to be judged.
    fn epoch_rule(&self) -> EpochRule;

    /// What can be mapped in a situation: by default, the address towards each IPv4 router.
    fn sites(&self, situation: &Situation) -> Vec<Site> {
        let v4 = situation.gateways.iter().filter(|gateway| gateway.ip.is_ipv4());
        v4.map(|gateway| Site { source: gateway.source, gateway: gateway.clone() }).collect()
    }

    /// Makes or renews a mapping of UDP.
    fn map(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Grant, MapError>>;

    /// Asks whether a mapping that was granted still stands, as far as the protocol can tell without renewing it.
    fn check(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<Checked, MapError>>;

    /// Takes a mapping back: one try within [`Patience::Last`].
    fn unmap(&self, context: Context, ask: Ask) -> BoxFuture<'static, Result<(), MapError>>;

    /// Waits for the router to tell everybody that it restarted, and returns its seconds since then. A protocol
    /// without such notices waits for ever. It is called again after each notice.
    fn notice(&self, _context: Context, _gateway: Gateway) -> BoxFuture<'static, u32> {
        Box::pin(std::future::pending())
    }
}

/// The longest that one call of a protocol may take.
pub const LONGEST_CALL: Duration = Duration::from_secs(10);

/// A place for a mapping: one of our addresses at one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The router.
    pub gateway: Gateway,
    /// Our address that the router sends to.
    pub source: IpAddr,
}

impl Site {
    fn is_same(&self, other: &Self) -> bool {
        let key = |site: &Self| (site.gateway.ip, site.gateway.ifindex, site.source);
        key(self) == key(other)
    }

    /// What a failed socket means here.
    pub fn failed(&self, service: &'static str, error: &io::Error) -> MapError {
        let gateway = self.gateway.ip;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => MapError::Refused { gateway, service },
            _ => MapError::Socket { gateway, why: error.to_string() },
        }
    }
}

/// A mapping that is wanted or held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// For which address at which router.
    pub site: Site,
    /// WireGuard's port, host order.
    pub port: u16,
    /// The device's mark, for sockets.
    pub fwmark: u32,
    /// The outer address and port that we have or had, to be asked for again.
    pub external: Option<SocketAddr>,
    /// For how long.
    pub lease: Duration,
    /// A secret of this mapping, the same for its renewal and its end, also after a restart of the daemon; it is on
    /// disk before it is first used.
    pub nonce: [u8; 12],
    /// A port from 1024 on to ask for where the router refuses the first choice.
    pub other_port: u16,
    /// How long to try.
    pub patience: Patience,
}

impl Ask {
    /// The outer port to ask for first: the one that we have, else WireGuard's own, but none below 1024, which
    /// routers keep for themselves.
    pub fn first_choice(&self) -> u16 {
        match self.external {
            Some(external) => external.port(),
            None if self.port >= 1024 => self.port,
            None => self.other_port,
        }
    }
}

/// What a router granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its outer address and port.
    pub external: SocketAddr,
    /// For how long; `None`: until it is taken back.
    pub lease: Option<Duration>,
    /// The seconds since its table was new, where the protocol tells them.
    pub epoch: Option<u32>,
    /// What answered, for people: `PCP 2`, or the model's name.
    pub version: String,
}

/// What a router said of a mapping that it granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Whether it still has it, as far as it tells.
    pub holds: bool,
    /// Its outer address, where it tells it.
    pub external: Option<IpAddr>,
    /// The seconds since its table was new, where the protocol tells them.
    pub epoch: Option<u32>,
}

/// Why there is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Nobody answered.
    #[error("router {gateway} does not answer {service}: if it can map ports, switch that on there")]
    Silent {
        /// Who was asked.
        gateway: IpAddr,
        /// For what.
        service: &'static str,
    },
    /// Nobody listens there.
    #[error("router {gateway} has no {service}: if it can map ports, switch that on there")]
    Refused {
        /// Who was asked.
        gateway: IpAddr,
        /// For what.
        service: &'static str,
    },
    /// It speaks something else.
    #[error("router {gateway} {says}")]
    Other {
        /// Who was asked.
        gateway: IpAddr,
        /// What it speaks, to follow its address.
        says: String,
    },
    /// It refused.
    #[error("router {gateway} gives no mapping: {why}")]
    Denied {
        /// Who was asked.
        gateway: IpAddr,
        /// Its reason, and what to do.
        why: String,
        /// When it may be asked again, where it says so.
        retry_after: Option<Duration>,
    },
    /// It has no address of the internet itself.
    #[error(
        "double NAT / CGNAT: router {gateway} is itself behind one ({why}): a mapping there is worth nothing"
    )]
    DoubleNat {
        /// Who was asked.
        gateway: IpAddr,
        /// How that is known.
        why: String,
    },
    /// Our own network does not let us ask.
    #[error("cannot ask router {gateway}: {why}")]
    Socket {
        /// Who was to be asked.
        gateway: IpAddr,
        /// What the system said.
        why: String,
    },
}
