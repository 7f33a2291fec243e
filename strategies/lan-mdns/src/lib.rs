//! Strategy `lan-mdns`: two peers on one link find each other with no server and no internet.
//!
//! - Every interface announces one service `_wireplug._udp.local.` on each link with neighbours, however many peers it
//!   has. Those who know its public key recognise it; to others it is noise (module [`name`](Name)). The name is
//!   another one on every link, in every network, and at least every day.
//! - While some peer is worked on, it asks who is there. While all is settled it sends nothing and only hears those
//!   who come and announce themselves.
//! - A name of a peer, with an address on the link, is a suggestion. Anybody can make or repeat one: it is proven by a
//!   check like any other, and never tried unproven.
//!
//! It sends nothing from the WireGuard port. Multicast DNS is `mdns-sd`'s, behind [`Multicast`].

mod book;
mod link;
mod mdns;
mod multicast;
mod name;
mod run;

use std::sync::Arc;

use serde::Deserialize;
use wireplug_core::Tier;
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError, Context, Failure, Registration, Strategy};

pub use link::Link;
pub use mdns::RealMulticast;
pub use multicast::{CannotJoin, Heard, Joined, Listening, Multicast, Service};
pub use name::{Name, NotAName};

const OPTIONS: &[OptionDoc] = &[];

inventory::submit! { LanMdns::REGISTRATION }

/// Its table of the config: it has no options.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {}

/// The strategy.
pub struct LanMdns {
    multicast: Arc<dyn Multicast>,
}

impl LanMdns {
    /// What it says of itself to the registry.
    pub const REGISTRATION: Registration = Registration {
        name: "lan-mdns",
        tier: Tier::Lan,
        about: "peers on the same link, by multicast DNS",
        options: OPTIONS,
        build: |table| Self::build(table, Arc::new(RealMulticast)),
    };

    /// The strategy from its table, on this multicast DNS.
    ///
    /// # Errors
    /// [`ConfigError`] names a key that it does not know: it knows none.
    pub fn build(
        table: &toml::Table,
        multicast: Arc<dyn Multicast>,
    ) -> Result<Box<dyn Strategy>, ConfigError> {
        options::parse::<Options>(table, OPTIONS)?;
        Ok(Box::new(Self { multicast }))
    }
}

impl Strategy for LanMdns {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(run::run(self.multicast, context))
    }
}
