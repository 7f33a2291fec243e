//! What the strategy wants of multicast DNS, so that tests can bring their own.

use std::net::IpAddr;

use wireplug_strategy::BoxFuture;

use crate::link::Link;
use crate::name::Name;

/// Multicast DNS on this host. The real one is [`crate::RealMulticast`].
pub trait Multicast: Send + Sync + 'static {
    /// Announces a service on one link, and hears quietly what others announce there.
    ///
    /// # Errors
    /// [`CannotJoin`] says why the link is of no use.
    fn join(&self, link: &Link, service: &Service) -> Result<Box<dyn Joined>, CannotJoin>;
}

/// A link that a service is announced on. Dropped, it takes the announcement back as well as it can.
pub trait Joined: Send {
    /// How to hear of others from now on. What is known already is told again.
    fn listen(&mut self, how: Listening);

    /// Waits for the next news. Safe to drop at any await. After [`Heard::Deaf`] there are none.
    fn next(&mut self) -> BoxFuture<'_, Heard>;

    /// Takes the announcement back, so that neighbours forget it at once, and ends. It takes half a second at most.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What is announced on one link. There is nothing else in it, and nothing that tells who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The instance's name.
    pub name: Name,
    /// The host's name in the announcement: random, without `.local.`.
    pub host: String,
    /// WireGuard's port, host order.
    pub port: u16,
}

/// How to hear of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Ask, and ask again less and less often.
    Asking,
    /// Send nothing: only those are heard who announce themselves now.
    Quietly,
}

/// News from a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Our own announcement went out.
    Announced,
    /// Somebody is there.
    There {
        /// Under which name.
        name: Name,
        /// The port of its WireGuard, host order.
        port: u16,
        /// Its addresses, as it says: anything may stand there.
        addresses: Vec<IpAddr>,
    },
    /// Somebody went, or was not heard of for too long.
    Gone(Name),
    /// Nothing more can be heard here.
    Deaf,
}

/// Why a link cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotJoin {
    /// It has no neighbours: a point-to-point link, or one without multicast.
    #[error("{interface} is no LAN: it is point-to-point or has no multicast")]
    NotALan {
        /// The link's name.
        interface: String,
    },
    /// Multicast DNS does not run.
    #[error("cannot run multicast DNS on {interface}: {why}")]
    Failed {
        /// The link's name.
        interface: String,
        /// What the library or system said.
        why: String,
    },
}
