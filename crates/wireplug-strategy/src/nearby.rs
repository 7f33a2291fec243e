//! How a strategy speaks with anybody on a router's link: for protocols that first ask who is there, and then
//! talk with the one that answered.
//!
//! The daemon opens these sockets, bound to the link and to our address there, and marked; a test puts its own
//! devices behind them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::registry::BoxFuture;
use crate::situation::Gateway;

/// A link to speak on, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearby {
    /// The router and its link.
    pub gateway: Gateway,
    /// Our address that others are to see.
    pub source: IpAddr,
    /// The mark of the device's own packets, 0 for none.
    pub fwmark: u32,
}

/// A UDP socket that speaks with anybody on one link; what it sends is not forwarded by a router.
pub trait Letters: Send + Sync + fmt::Debug {
    /// Sends one datagram to a device or to a multicast group. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    fn send_to<'a>(&'a self, datagram: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>>;

    /// Waits for the next datagram, whatever it is and whoever sent it; of a large one, the first
    /// [`crate::MAX_DATAGRAM`] bytes. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    fn receive_from(&self) -> BoxFuture<'_, io::Result<(Vec<u8>, SocketAddr)>>;
}

/// A connection to a device on a link.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
