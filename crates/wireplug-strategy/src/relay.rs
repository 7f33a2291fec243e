//! What strategies know of relays, and what they can ask for.
//!
//! A *place* is a pair's allocation at one server's relay. The daemon asks the server for it, keeps its credential,
//! and binds: a check towards a relay port is a bind. The strategy says which peer wants a place where, chooses among
//! the relay's ports, and suggests them as endpoints.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use wireplug_core::{Endpoint, PublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Relays as a strategy sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relaying {
    /// The URLs of all rendezvous servers, in the order of the config, whether or not they can be used now.
    pub servers: Vec<String>,
    /// Whether the WireGuard port can be shared, which binding it to a relay port takes.
    pub udp: bool,
    /// The peers for which a relay should be ready, in order.
    pub wanted: Vec<PublicKey>,
    /// What was asked for by [`crate::Context::relay`], one entry for each peer and server.
    pub places: Vec<RelayPlace>,
}

/// A pair's place at one server's relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPlace {
    /// For whom.
    pub peer: PublicKey,
    /// The server's URL.
    pub server: String,
    /// How it stands.
    pub standing: RelayStanding,
    /// The relay ports that were bound to, or that it was tried with.
    pub legs: Vec<RelayLeg>,
    /// Where on this host the leg over TLS begins, while there is one.
    pub local: Option<Endpoint>,
}

/// What the server said of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayStanding {
    /// Nothing yet.
    Asked,
    /// There is none. The daemon asks again by itself where that may help.
    Refused {
        /// Why.
        why: RelayRefusal,
        /// The server's words.
        detail: String,
        /// How long the server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// There is one.
    Open {
        /// Where the relay is.
        addresses: Vec<IpAddr>,
        /// Its UDP ports at each of these addresses, host order.
        ports: RangeInclusive<u16>,
    },
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayRefusal {
    /// The server has no relay.
    Off,
    /// The server's relay is for those with a token, and ours is not among them.
    Denied,
    /// A limit of the server's.
    Limit,
    /// Something else.
    Other,
}

/// A relay port, as one place has tried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLeg {
    /// The relay's address and port.
    pub endpoint: Endpoint,
    /// What it said.
    pub standing: LegStanding,
}

/// What a relay port said to our binds, last of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegStanding {
    /// Nothing yet.
    Asked,
    /// Nothing for so long that UDP may be blocked on the way.
    Silent,
    /// It answers: our side is bound there.
    Bound,
    /// Our own address has another pair's binding there: another port is needed.
    Taken,
    /// The relay has no room for it.
    Full,
}

/// How a place at a relay is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayWish {
    /// For the relay's access list.
    pub access: Option<Secret>,
    /// Whether a leg over TLS is wanted too.
    pub tls: bool,
}

/// A text that must not be seen. `Debug` prints nothing of it; it is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
