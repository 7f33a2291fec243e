//! The relay's decisions, without IO or clock.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use wireplug_proto::relay::{BindRefusal, Bound, Credential};
use wireplug_proto::{Side, Topic};

use super::counters::Counters;
use super::settings::Settings;
use super::tls::TlsLeg;

/// All allocations and bindings. Shared by all threads; every method takes the instant at which it happens.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
}

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
    /// Whether the other side has not asked yet, and is to be told that it should.
    pub call_other: bool,
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
    _private: (),
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

#[allow(clippy::unused_self, unused_variables, clippy::needless_pass_by_value)]
impl Relay {
    /// A relay without allocations. `secret` is random, new for every run.
    pub fn new(settings: Settings, secret: [u8; 32], start: Instant) -> Self {
        Self { settings }
    }

    /// A side asks for a place; `fresh` is random, and used if it gets a new credential.
    ///
    /// # Errors
    /// [`Refusal`] if it may not have one now.
    pub fn allocate(&self, now: Instant, ask: Ask, fresh: Credential) -> Result<Grant, Refusal> {
        Err(Refusal::Full { retry_after: self.settings.idle })
    }

    /// Whether the other side has asked and this one has not: it is to be told so when it joins.
    pub fn is_called(&self, topic: &Topic, side: Side) -> bool {
        false
    }

    /// A side needs its place no more: its bindings end now. Nothing happens if another connection holds the place.
    pub fn release(&self, now: Instant, topic: &Topic, side: Side, asker: Asker) {}

    /// The connection that asked has left the topic or is gone. Bindings stay while they are used.
    pub fn leave(&self, now: Instant, topic: &Topic, side: Side, asker: Asker) {}

    /// Binds a channel of a relay WebSocket, or confirms that it is bound (the same leg, again). A former leg over
    /// TLS of the same side ends.
    ///
    /// # Errors
    /// [`BindRefusal::Unknown`] or [`BindRefusal::Full`].
    pub fn bind_tls(
        &self,
        now: Instant,
        credential: &Credential,
        leg: TlsLeg,
    ) -> Result<(TlsBinding, Bound), BindRefusal> {
        Err(BindRefusal::Unknown)
    }

    /// The client needs the channel no more, or the connection is gone.
    pub fn unbind_tls(&self, now: Instant, binding: TlsBinding) {}

    /// Lets end what is idle; when to call it again, if there is anything.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        None
    }

    /// Everything counted since the start.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// How much there is now.
    pub fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
