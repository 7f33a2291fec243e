//! How a strategy talks with a router: sockets that leave by the router's link, from our own address towards it.
//!
//! The daemon opens them, so that they are bound and marked as they must be, and so that a test can put a
//! router of its own behind them.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::registry::BoxFuture;
use crate::situation::Gateway;

/// A UDP socket that speaks with one router only.
pub trait Datagrams: Send + Sync + fmt::Debug {
    /// Sends one datagram. Cancel-safe.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::ConnectionRefused`] where the router said (by ICMP) that nobody
    /// listens there.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;

    /// Waits for the router's next datagram, whatever it is; of a large one, the first [`MAX_DATAGRAM`] bytes.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Datagrams::send`].
    fn receive(&self) -> BoxFuture<'_, io::Result<Vec<u8>>>;
}

/// The most bytes of a router's datagram that are read: more than any protocol for mappings uses
/// (1100, RFC 6887 section 7).
pub const MAX_DATAGRAM: usize = 1500;

/// Whom to speak with, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// The router and its link.
    pub gateway: Gateway,
    /// Our address that the router is to see.
    pub source: IpAddr,
    /// The router's port, host order.
    pub port: u16,
    /// The mark of the device's own packets, 0 for none.
    pub fwmark: u32,
}

/// What to hear of a router that speaks to everybody on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The router and its link: what others send is not heard.
    pub gateway: Gateway,
    /// The multicast group.
    pub group: IpAddr,
    /// The port, host order; others on this host may listen there too.
    pub port: u16,
}
