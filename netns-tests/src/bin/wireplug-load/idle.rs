//! Many allocations that carry nothing: what they cost the server in memory.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context as _, Result};
use wireplug_lab::IdleReport;

use crate::ends::Place;
use crate::machine::{in_namespace, resident_kib};
use crate::relay::{bind, port_of, relay_address};
use crate::rendezvous::{Rendezvous, new_pair};

/// Allocations of one pair of connections: a household with many peers, within what the server lets one address ask for
/// and bind at once.
const BATCH: usize = 200;
/// The UDP port that an address's first pairs share.
const FIRST_PORT: u16 = 20_000;

/// Makes `allocations` at the server, both sides bound over UDP, and measures its memory before and after.
///
/// Every batch comes from addresses of its own, counted up from those of `left` and `right`, and its connections
/// are gone in the end: what is left is the allocations.
pub(crate) fn measure(
    server: SocketAddrV4,
    places: [&Place; 2],
    allocations: usize,
    pid: i32,
) -> Result<IdleReport> {
    let mut stages = vec![(0, resident_kib(pid)?)];
    let mut made = 0;
    while made < allocations {
        let count = BATCH.min(allocations - made);
        let number = u32::try_from(made / BATCH)?;
        let addresses = places.map(|place| Ipv4Addr::from_bits(place.address.to_bits() + number));
        batch(server, places, addresses, count)
            .with_context(|| format!("after {made} allocations, for {addresses:?}"))?;
        made += count;
        // The last stage is the one that counts; those before show whether each costs the same.
        if made == allocations || made * 2 == allocations {
            stages.push((made as u64, resident_kib(pid)?));
        }
    }
    Ok(IdleReport { stages })
}

fn batch(server: SocketAddrV4, places: [&Place; 2], addresses: [Ipv4Addr; 2], count: usize) -> Result<()> {
    let [left, right] = [0, 1].map(|side| Rendezvous::connect(places[side], addresses[side], server));
    let mut connections = [left?, right?];
    let mut sockets: [Option<UdpSocket>; 2] = [None, None];
    for index in 0..count {
        let sides = new_pair()?;
        for side in [0, 1] {
            let connection = &mut connections[side];
            connection.join(&sides[side])?;
            let allocation = connection.allocate(&sides[side])?;
            // One WireGuard port has as many pairs on the relay as the relay has ports.
            if index.is_multiple_of(allocation.ports.len()) {
                // Counted, as the system may give the port of one that was closed, whose bindings the server still has.
                let port = FIRST_PORT + u16::try_from(index / allocation.ports.len())?;
                sockets[side] = Some(in_namespace(&places[side].namespace, || {
                    UdpSocket::bind((addresses[side], port)).context("cannot bind a UDP socket")
                })?);
            }
            let relay = relay_address(&allocation.relays, *server.ip());
            let socket = sockets[side].as_ref().context("the relay has no ports")?;
            let address = SocketAddrV4::new(relay, port_of(&allocation.ports, index));
            bind(socket, address, &allocation.credential)?;
        }
    }
    connections.into_iter().for_each(Rendezvous::leave);
    Ok(())
}
