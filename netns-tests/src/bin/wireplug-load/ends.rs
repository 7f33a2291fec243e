//! The two ends of each pair: a socket that sends and a socket that receives.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::machine::in_namespace;

/// Bytes of a receiving socket's queue: a second of the highest rate, so that the load itself never loses a datagram.
const RECEIVE_QUEUE: usize = 256 << 20;

/// One pair's way, ready to be used.
#[derive(Debug)]
pub(crate) struct Way {
    /// Sends; connected to where its datagrams go.
    pub(crate) from: UdpSocket,
    /// What goes before each datagram.
    pub(crate) prefix: Vec<u8>,
    /// Receives.
    pub(crate) to: UdpSocket,
    /// How many bytes the receiver finds before each datagram.
    pub(crate) skip: usize,
    /// Gives back what a server keeps for the pair.
    pub(crate) _farewell: Option<Farewell>,
}

/// A datagram that is sent when the pair is dropped.
#[derive(Debug)]
pub(crate) struct Farewell {
    /// Where from; connected.
    pub(crate) socket: UdpSocket,
    /// What.
    pub(crate) datagram: Vec<u8>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // Without it the server keeps the place until it expires.
        let _ = self.socket.send(&self.datagram);
    }
}

/// A host that has ends of pairs: a namespace and the address to use there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The name of the network namespace.
    pub(crate) namespace: String,
    /// The address that its sockets are bound to.
    pub(crate) address: Ipv4Addr,
}

impl std::str::FromStr for Place {
    type Err = String;

    /// Reads `NAMESPACE=ADDRESS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, address) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not NAMESPACE=ADDRESS"))?;
        let address = address.parse().map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self { namespace: namespace.to_owned(), address })
    }
}

impl Place {
    /// Opens `count` sockets on ports that the system chooses.
    pub(crate) fn sockets(&self, count: usize) -> Result<Vec<UdpSocket>> {
        in_namespace(&self.namespace, || (0..count).map(|_| self.socket()).collect())
    }

    fn socket(&self) -> Result<UdpSocket> {
        let bind = SocketAddr::from((self.address, 0));
        let socket =
            UdpSocket::bind(bind).with_context(|| format!("cannot bind UDP {bind} in {}", self.namespace))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_QUEUE)
            .context("cannot make the queue of a receiving socket large")?;
        Ok(socket)
    }
}

/// Pairs with nothing but a router, or a cable, between them.
pub(crate) fn plain([left, right]: [&Place; 2], pairs: usize) -> Result<Vec<Way>> {
    let way = |(from, to): (UdpSocket, UdpSocket)| {
        from.connect(to.local_addr()?)?;
        Ok(Way { from, prefix: Vec::new(), to, skip: 0, _farewell: None })
    };
    left.sockets(pairs)?.into_iter().zip(right.sockets(pairs)?).map(way).collect()
}
