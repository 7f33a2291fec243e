//! What is asked of a relay, and what it says.

use std::net::IpAddr;
use std::time::Duration;

use wireplug_proto::relay::Credential;
use wireplug_proto::{Side, Topic};

use super::table::End;

/// The rendezvous connection that asked; never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker(pub u64);

/// One side wants a place for its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The pair, whose topic the connection has joined.
    pub topic: Topic,
    /// The side that it has joined.
    pub side: Side,
    /// The connection.
    pub asker: Asker,
    /// The address of the connection, for the limits.
    pub address: IpAddr,
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To bind with; the same for the same connection.
    pub credential: Credential,
    /// How long it is kept without use.
    pub lifetime: Duration,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address asks too often.
    #[error("this address asks for relay places too often")]
    TooOften {
        /// When it may again.
        retry_after: Duration,
    },
    /// The relay is full.
    #[error("the relay has no room for more pairs")]
    Full {
        /// When asking again may help.
        retry_after: Duration,
    },
    /// The address has all places that one may have.
    #[error("this address has as many relay places as one may have")]
    AddressFull {
        /// When asking again may help.
        retry_after: Duration,
    },
}

/// A binding over TLS. One that has ended forwards nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsBinding {
    pub(super) end: End,
    pub(super) number: u32,
}

/// How much there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Allocations.
    pub allocations: usize,
    /// Sides of allocations that are on an address's account.
    pub sides: usize,
    /// UDP bindings.
    pub udp_bindings: usize,
    /// TLS bindings.
    pub tls_bindings: usize,
}
