//! The shared port as the event loop uses it: open only while somebody needs it, and never through a tunnel.

use std::net::SocketAddr;

use tracing::{debug, warn};
use wireplug_core::Endpoint;
use wireplug_core::scheduler::Unsendable;
use wireplug_net::{Datagram, Outgoing, PortError, RouteError, Routes, SendError, SharedPort};

/// The WireGuard port of one interface, as far as it is shared now.
pub(super) struct Port {
    number: u16,
    fwmark: u32,
    open: Option<SharedPort>,
    /// Whether the last try to open it was refused for lack of rights, which does not heal by itself.
    refused: bool,
}

impl Port {
    pub(super) fn new(number: u16, fwmark: u32) -> Self {
        Self { number, fwmark, open: None, refused: false }
    }

    /// Whether it can be shared at all.
    pub(super) fn is_possible(&self) -> bool {
        !self.refused
    }

    /// The device's port, host order; 0 while it has none.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// The device has another port now.
    pub(super) fn renumber(&mut self, number: u16) {
        if self.number != number {
            self.number = number;
            if let Some(open) = &self.open
                && let Err(error) = open.set_ports(&[number])
            {
                debug!(%error, "the shared port is opened anew");
                self.open = None;
            }
        }
    }

    /// Opens it if it is needed, closes it if not: while it is open, the kernel shows us a copy of every UDP
    /// datagram of the host.
    pub(super) fn need(&mut self, needed: bool) {
        if !needed || self.number == 0 {
            self.open = None;
            return;
        }
        if self.open.is_some() || self.refused {
            return;
        }
        match SharedPort::open(&[self.number]) {
            Ok(port) => self.open = Some(port),
            Err(error @ PortError::NotPermitted) => {
                warn!(%error, "paths cannot be proven: a dead tunnel's endpoints are tried one at a time");
                self.refused = true;
            }
            Err(error) => warn!(%error, "paths cannot be proven now"),
        }
    }

    /// Waits for a datagram to the port. Never returns while it is closed. Cancel-safe.
    pub(super) async fn recv(&self) -> Result<Datagram, PortError> {
        match &self.open {
            Some(port) => port.recv().await,
            None => std::future::pending().await,
        }
    }

    /// It is broken: opened anew when it is needed next.
    pub(super) fn broken(&mut self, error: &PortError) {
        warn!(%error, "the shared port broke");
        self.open = None;
    }

    /// Sends from the WireGuard port as WireGuard would: where routing says, with the device's mark, and never
    /// into a tunnel.
    pub(super) async fn send(&self, routes: &Routes, to: Endpoint, payload: Vec<u8>) -> Result<(), NotSent> {
        let Some(port) = &self.open else { return Err(NotSent::Closed) };
        let route = routes.lookup_endpoint(to, self.fwmark).await.map_err(NotSent::Route)?;
        if route.tunnel {
            return Err(NotSent::ThroughTunnel { interface: route.interface });
        }
        let outgoing = Outgoing {
            from_port: self.number,
            to,
            payload,
            fwmark: self.fwmark,
            source: route.source,
            ttl: None,
        };
        port.send(&outgoing).map_err(NotSent::Send)
    }
}

/// Why a datagram was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error("the shared port is closed")]
    Closed,
    #[error(transparent)]
    Route(RouteError),
    #[error("the route leads through the tunnel {interface}")]
    ThroughTunnel { interface: String },
    #[error(transparent)]
    Send(SendError),
}

impl NotSent {
    /// What that means for a path; `None` if it means nothing (buffers were full).
    pub(super) fn for_path(&self) -> Option<Unsendable> {
        match self {
            Self::ThroughTunnel { .. } => Some(Unsendable::ThroughTunnel),
            Self::Route(_) | Self::Send(SendError::Unreachable { .. } | SendError::NoFamily(_)) => {
                Some(Unsendable::NoRoute)
            }
            Self::Closed | Self::Send(_) => None,
        }
    }
}

/// Where a datagram came from, if an answer could be sent there.
pub(super) fn sender(from: SocketAddr) -> Option<Endpoint> {
    Endpoint::new(from).ok()
}
