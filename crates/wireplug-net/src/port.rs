//! The UDP port shared with WireGuard: raw sockets that receive what WireGuard's own port receives, if it is
//! STUN, and send from that port.

mod filter;
mod packet;
mod raw;

use std::io;
use std::net::{IpAddr, SocketAddr};

use wireplug_core::{Endpoint, Family};

use raw::RawSocket;

/// Raw UDP sockets beside WireGuard's own, one per address family, for all interfaces and their ports.
///
/// They clone every UDP datagram of the host into a filter, so keep one open only while it is needed.
#[derive(Debug)]
pub struct SharedPort {
    v4: Option<RawSocket>,
    v6: Option<RawSocket>,
}

/// One STUN-like datagram that arrived at one of the ports: the magic cookie is there, nothing else is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it, as far as IP tells.
    pub from: SocketAddr,
    /// The address of this host that it was sent to.
    pub to: Option<IpAddr>,
    /// The port that it was sent to, host order: one of the shared ones.
    pub to_port: u16,
    /// The interface that it arrived on; 0 if the kernel did not tell.
    pub ifindex: u32,
    /// What UDP carried.
    pub payload: Vec<u8>,
}

/// One datagram to send. Source address and interface are left to routing, as for WireGuard's own packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The shared port to send from, host order.
    pub from_port: u16,
    /// Where to.
    pub to: Endpoint,
    /// What UDP shall carry, at most [`Outgoing::MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
    /// The mark of the device, by which policy routing keeps it out of the tunnel; 0 for none.
    pub fwmark: u32,
    /// The address that routing will choose, if the caller has just looked it up. It goes into the IPv4
    /// checksum and nowhere else; without it, it is looked up.
    pub source: Option<IpAddr>,
    /// Time to live (hop limit), `None` for the system's own.
    pub ttl: Option<u8>,
}

impl Outgoing {
    /// The most bytes that one datagram carries: a STUN message must fit the smallest IPv6 packet
    /// (RFC 8489 section 6.1 with RFC 8200 section 5: 1280, less 40 of IPv6 and 8 of UDP).
    pub const MAX_PAYLOAD: usize = 1232;
}

/// Why the ports cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The system forbids raw sockets.
    #[error(
        "no right to raw sockets, which share WireGuard's port: run as root or grant CAP_NET_RAW \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW)"
    )]
    NotPermitted,
    /// Neither IPv4 nor IPv6.
    #[error("this host has neither IPv4 nor IPv6 raw sockets: is it a container without them?")]
    NoFamily,
    /// More ports than the filter holds.
    #[error("{0} WireGuard ports are more than one filter holds ({max}): use fewer interfaces", max = filter::MAX_PORTS)]
    TooManyPorts(usize),
    /// Anything else.
    #[error("cannot {action} the raw {family} socket that shares WireGuard's port: {source}")]
    Io {
        /// `open`, `filter` or `receive on`.
        action: &'static str,
        /// Which socket.
        family: Family,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a datagram was not sent. None of them breaks the port.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The host has no such address family.
    #[error("cannot send to {0}: this host has no {family}", family = .0.family())]
    NoFamily(Endpoint),
    /// No route, or an interface that is down.
    #[error("cannot send to {to}: no route ({source})")]
    Unreachable {
        /// Where to.
        to: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The host's own firewall dropped it.
    #[error("the host's firewall does not let a datagram out to {0}: allow outgoing UDP")]
    Blocked(Endpoint),
    /// Buffers are full; later it may pass.
    #[error("cannot send to {0} now: buffers are full")]
    Busy(Endpoint),
    /// The payload is larger than [`Outgoing::MAX_PAYLOAD`] or than the path takes.
    #[error("{size} bytes to {to} are too many for one datagram")]
    TooLarge {
        /// Where to.
        to: Endpoint,
        /// The payload's bytes.
        size: usize,
    },
    /// Anything else.
    #[error("cannot send to {to}: {source}")]
    Io {
        /// Where to.
        to: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

impl SharedPort {
    /// Opens the raw sockets for these ports (host order). A family that the host lacks is left out.
    /// From the first moment nothing but STUN to these ports is received.
    ///
    /// # Errors
    /// [`PortError::NotPermitted`] without `CAP_NET_RAW`, [`PortError`] else.
    pub fn open(ports: &[u16]) -> Result<Self, PortError> {
        let port = Self { v4: RawSocket::open(Family::V4, ports)?, v6: RawSocket::open(Family::V6, ports)? };
        if port.v4.is_none() && port.v6.is_none() {
            return Err(PortError::NoFamily);
        }
        Ok(port)
    }

    /// Receives for these ports (host order) from now on, instead of the former ones.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn set_ports(&self, ports: &[u16]) -> Result<(), PortError> {
        self.sockets().try_for_each(|socket| socket.set_ports(ports))
    }

    /// Whether datagrams of that family can be sent and received.
    pub fn has(&self, family: Family) -> bool {
        self.socket(family).is_some()
    }

    /// Waits for the next STUN-like datagram to one of the ports. What is malformed, truncated or larger
    /// than any STUN message of ours is dropped. Cancel-safe.
    ///
    /// # Errors
    /// [`PortError::Io`] when a socket is broken.
    pub async fn recv(&self) -> Result<Datagram, PortError> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! {
                datagram = v4.recv() => datagram,
                datagram = v6.recv() => datagram,
            },
            (Some(one), None) | (None, Some(one)) => one.recv().await,
            // `open` gives a port at least one socket.
            (None, None) => std::future::pending().await,
        }
    }

    /// Sends one datagram now, or fails; never waits.
    ///
    /// # Errors
    /// [`SendError`]; the port stays usable.
    pub fn send(&self, outgoing: &Outgoing) -> Result<(), SendError> {
        let to = outgoing.to;
        if outgoing.payload.len() > Outgoing::MAX_PAYLOAD {
            return Err(SendError::TooLarge { to, size: outgoing.payload.len() });
        }
        let socket = self.socket(to.family()).ok_or(SendError::NoFamily(to))?;
        socket.send(outgoing).map_err(|source| match source.raw_os_error() {
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::EACCES
                | libc::EINVAL
                | libc::ENODEV,
            ) => SendError::Unreachable { to, source },
            Some(libc::EPERM) => SendError::Blocked(to),
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => SendError::Busy(to),
            Some(libc::EMSGSIZE) => SendError::TooLarge { to, size: outgoing.payload.len() },
            _ => SendError::Io { to, source },
        })
    }

    fn socket(&self, family: Family) -> Option<&RawSocket> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    fn sockets(&self) -> impl Iterator<Item = &RawSocket> {
        self.v4.iter().chain(&self.v6)
    }
}
