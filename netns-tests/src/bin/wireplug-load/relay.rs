//! Pairs through the relay of `wireplug-serverd`: both ends bind their port to a relay port.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use wireplug_core::TransactionId;
use wireplug_proto::relay::Credential;
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};

use crate::ends::{Place, Way};
use crate::rendezvous::{Rendezvous, new_pair, random};

/// How long an answer to a bind may take, and how often is asked.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const TRIES: u64 = 8;

/// Pairs through the relay of the server whose WebSocket is at `server`; and the connections, which keep the places.
///
/// Pairs are spread over the relay's ports as clients do that choose for themselves.
pub(crate) fn pairs(
    server: SocketAddrV4,
    [left, right]: [&Place; 2],
    pairs: usize,
) -> Result<(Vec<Way>, [Rendezvous; 2])> {
    let mut connections = [
        Rendezvous::connect(left, left.address, server)?,
        Rendezvous::connect(right, right.address, server)?,
    ];
    let ends = left.sockets(pairs)?.into_iter().zip(right.sockets(pairs)?);
    let mut ways = Vec::new();
    for (number, (from, to)) in ends.enumerate() {
        let sides = new_pair()?;
        for (side, (connection, socket)) in connections.iter_mut().zip([&from, &to]).enumerate() {
            connection.join(&sides[side])?;
            let allocation = connection.allocate(&sides[side])?;
            let relay = relay_address(&allocation.relays, *server.ip());
            // The two sides of a pair choose without knowing of each other.
            let port = port_of(&allocation.ports, number + side * pairs / 2);
            bind(socket, SocketAddrV4::new(relay, port), &allocation.credential)?;
        }
        ways.push(Way { from, prefix: Vec::new(), to, skip: 0, _farewell: None });
    }
    Ok((ways, connections))
}

/// Connects the socket to a relay port and binds it there.
pub(crate) fn bind(socket: &UdpSocket, relay: SocketAddrV4, credential: &Credential) -> Result<()> {
    socket.connect(relay)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut nonce = None;
    let mut buffer = [0; 1500];
    for order in 1..=TRIES {
        let transaction = TransactionId::from_bytes(random()?);
        socket.send(&request(credential, transaction, order, nonce.as_ref()))?;
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        match parse_answer(&buffer[..len], &credential.key) {
            Ok((answered, _)) if answered != transaction => {}
            Ok((_, BindAnswer::Bound { .. })) => return Ok(()),
            Ok((_, BindAnswer::Challenge { nonce: new })) => nonce = Some(new),
            Ok((_, BindAnswer::Refused(refusal))) => {
                bail!("the relay at {relay} refuses to bind: {refusal:?}")
            }
            Err(error) => return Err(error).with_context(|| format!("from {relay}")),
        }
    }
    bail!("the relay at {relay} has not bound after {TRIES} requests")
}

/// The relay's IPv4 address; an unspecified one stands for the host of the connection.
pub(crate) fn relay_address(relays: &[IpAddr], host: Ipv4Addr) -> Ipv4Addr {
    let named = relays.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) if !ip.is_unspecified() => Some(*ip),
        _ => None,
    });
    named.unwrap_or(host)
}

/// The port number `index` of a range, from its beginning again behind its end.
pub(crate) fn port_of(ports: &RangeInclusive<u16>, index: usize) -> u16 {
    ports.clone().nth(index % ports.len().max(1)).unwrap_or(*ports.start())
}
