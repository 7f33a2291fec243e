//! The server's UDP sockets: those of the configuration, the second ports of RFC 5780, and the ones that
//! probes leave from.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wireplug_net::ServerSocket;

use crate::config::is_dual_stack;
use crate::rendezvous::ProbeSource;
use crate::stun::{Others, Place};

/// All sockets. The first ones answer STUN, in the order of [`UdpSockets::places`]; the rest send probes.
#[derive(Debug)]
pub(crate) struct UdpSockets {
    sockets: Vec<ServerSocket>,
    places: Vec<Place>,
    configured: usize,
}

/// A UDP address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {source}")]
pub(crate) struct BindError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

impl UdpSockets {
    /// Binds all that `udp` needs.
    pub(crate) fn bind(udp: &[SocketAddr]) -> Result<Self, BindError> {
        let mut all = Self { sockets: Vec::new(), places: Vec::new(), configured: udp.len() };
        for address in udp {
            let socket = bind_or_v4(*address).map_err(|source| BindError { address: *address, source })?;
            all.push(socket);
        }
        for v4 in [true, false] {
            if let Some(pair) = all.two_addresses(v4) {
                all.add_second_ports(pair);
            }
        }
        let mut probed = HashSet::new();
        for place in all.places.clone() {
            let address = SocketAddr::new(place.local.ip(), 0);
            if probed.insert(address) {
                let socket = bind_or_v4(address).map_err(|source| BindError { address, source })?;
                all.sockets.push(socket);
            }
        }
        Ok(all)
    }

    /// The sockets that answer STUN.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where those of the configuration are bound.
    pub(crate) fn configured(&self) -> Vec<SocketAddr> {
        self.places[..self.configured].iter().map(|place| place.local).collect()
    }

    /// The sockets that probes leave from.
    pub(crate) fn probe_sources(&self) -> Vec<ProbeSource> {
        let sending = self.sockets.iter().enumerate().skip(self.places.len());
        sending.map(|(socket, it)| ProbeSource { socket, local: it.local_addr() }).collect()
    }

    /// A socket by its index.
    pub(crate) fn get(&self, index: usize) -> Option<&ServerSocket> {
        self.sockets.get(index)
    }

    fn push(&mut self, socket: ServerSocket) -> usize {
        self.places.push(Place { local: socket.local_addr(), others: None });
        self.sockets.push(socket);
        self.places.len() - 1
    }

    /// The first two places of a family whose addresses differ and are named.
    fn two_addresses(&self, v4: bool) -> Option<[usize; 2]> {
        let named = |index: &usize| {
            let ip = self.places[*index].local.ip();
            ip.is_ipv4() == v4 && !ip.is_unspecified()
        };
        let mut indices = (0..self.places.len()).filter(named);
        let first = indices.next()?;
        let second = indices.find(|index| self.places[*index].local.ip() != self.places[first].local.ip())?;
        Some([first, second])
    }

    /// Gives each of two addresses a second port: the other's where they differ, else the one below, because
    /// the ports above are the relay's by default.
    fn add_second_ports(&mut self, [first, second]: [usize; 2]) {
        let (a, b) = (self.places[first].local, self.places[second].local);
        let (a_port, b_port) = if a.port() == b.port() {
            let below = a.port().checked_sub(1).filter(|port| *port > 0).unwrap_or(a.port() + 1);
            (below, below)
        } else {
            (b.port(), a.port())
        };
        let bind = |ip: IpAddr, port: u16| match self
            .places
            .iter()
            .position(|it| it.local == SocketAddr::new(ip, port))
        {
            Some(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "configured as another UDP address")),
            None => ServerSocket::bind(SocketAddr::new(ip, port)),
        };
        match (bind(a.ip(), a_port), bind(b.ip(), b_port)) {
            (Ok(a2), Ok(b2)) => {
                let (a2, b2) = (self.push(a2), self.push(b2));
                // The grid: each of a, a2, b, b2 against the same address, the same port, and the opposite.
                // With different configured ports, `a` shares its port with `b2`.
                let same_port = a.port() == b.port();
                let (beside_a, opposite_a) = if same_port { (second, b2) } else { (b2, second) };
                for (index, port, address, both) in [
                    (first, a2, beside_a, opposite_a),
                    (a2, first, opposite_a, beside_a),
                    (beside_a, opposite_a, first, a2),
                    (opposite_a, beside_a, a2, first),
                ] {
                    self.places[index].others = Some(Others { port, address, both });
                }
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(
                port = a_port,
                %error,
                "no second port for STUN: clients cannot tell filtering apart (RFC 5780); free the port"
            ),
        }
    }
}

/// Binds; where the host has no IPv6, `[::]` becomes all of IPv4.
pub(crate) fn bind_or_v4(address: SocketAddr) -> io::Result<ServerSocket> {
    match ServerSocket::bind(address) {
        Err(error) if is_dual_stack(address) && has_no_ipv6(&error) => {
            ServerSocket::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        bound => bound,
    }
}

/// Whether an error of making or binding a socket says that the host has no IPv6.
pub(crate) fn has_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// "Address family not supported", as Linux numbers it (asm-generic/errno.h).
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(udp: &[&str]) -> UdpSockets {
        let udp: Vec<SocketAddr> = udp.iter().map(|text| text.parse().unwrap()).collect();
        UdpSockets::bind(&udp).unwrap()
    }

    #[tokio::test]
    async fn two_addresses_make_the_four_places_of_rfc_5780() {
        // A port that the system chose for one address may be taken at the other: another one will not be.
        let all = (0..5).map(|_| bind(&["127.0.0.1:0", "127.0.0.2:0"])).find(|all| all.places().len() == 4);
        let all = all.unwrap();
        assert_eq!(all.places().len(), 4);
        for (index, place) in all.places().iter().enumerate() {
            let others = place.others.unwrap();
            let local = |index: usize| all.places()[index].local;
            assert_eq!(local(others.port).ip(), place.local.ip());
            assert_ne!(local(others.port).port(), place.local.port());
            assert_eq!(local(others.address).port(), place.local.port());
            assert_ne!(local(others.address).ip(), place.local.ip());
            assert_eq!(local(others.both).ip(), local(others.address).ip());
            assert_eq!(local(others.both).port(), local(others.port).port());
            assert_eq!(all.places()[others.both].others.unwrap().both, index);
        }
        let probes: Vec<IpAddr> = all.probe_sources().iter().map(|source| source.local.ip()).collect();
        assert_eq!(probes, ["127.0.0.1".parse::<IpAddr>().unwrap(), "127.0.0.2".parse().unwrap()]);
    }

    #[tokio::test]
    async fn one_address_has_one_place_and_a_port_to_probe_from() {
        let all = bind(&["127.0.0.1:0"]);
        assert_eq!((all.places().len(), all.places()[0].others), (1, None));
        assert_ne!(all.probe_sources()[0].local.port(), all.configured()[0].port());
    }
}
