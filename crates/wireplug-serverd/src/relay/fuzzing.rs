//! For the fuzz targets and benches: the relay as its threads use it, without sockets. Not an interface to build upon.

use std::net::SocketAddr;
use std::time::Instant;

use super::state::Relay;
use super::stun::{Answerer, Request};
use super::table::{Hop, Path};
use super::terms::TlsBinding;
use super::{Dropped, Settings};

/// A relay, and one thread's share of its work.
#[derive(Debug)]
pub struct Driver {
    /// What decides.
    pub relay: Relay,
    answerer: Answerer,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// From this address of the relay to that source.
    Udp(SocketAddr, SocketAddr),
    /// To this channel of a relay WebSocket.
    Tls(u16),
    /// Nowhere.
    Nowhere(Dropped),
}

impl Driver {
    /// A relay without allocations.
    pub fn new(settings: Settings, start: Instant) -> Self {
        Self { relay: Relay::new(settings, [3; 32], start), answerer: Answerer::new() }
    }

    /// What is answered to a datagram that may be a request, from a source to an address of the relay.
    pub fn hear(
        &mut self,
        now: Instant,
        source: SocketAddr,
        relay: SocketAddr,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let request = Request { source, relay, socket: 0, payload };
        self.answerer.answer(&self.relay, self.relay.own_counts(), now, request)
    }

    /// Where a packet of so many bytes goes.
    pub fn packet(&self, now: Instant, source: SocketAddr, relay: SocketAddr, bytes: usize) -> Went {
        let (path, now) = (Path::new(source, relay), self.relay.since(now));
        went(&self.relay.table().route(&path, bytes, now, self.relay.meter()))
    }

    /// The same for one that came over TLS.
    pub fn tls_packet(&self, now: Instant, binding: TlsBinding, bytes: usize) -> Went {
        let now = self.relay.since(now);
        went(&self.relay.table().route_tls(binding.end, binding.number, bytes, now, self.relay.meter()))
    }
}

fn went(hop: &Result<Hop<'_>, Dropped>) -> Went {
    match hop {
        Ok(Hop::Udp(hop)) => Went::Udp(hop.path.relay(), hop.path.source()),
        Ok(Hop::Tls(leg)) => Went::Tls(leg.channel),
        Err(why) => Went::Nowhere(*why),
    }
}
