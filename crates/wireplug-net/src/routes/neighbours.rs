//! Who is behind an address on one of the host's links: the kernel's neighbour table.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use super::{Routes, to_io};

impl Routes {
    /// The link-layer address of a neighbour, such as a router's MAC address, if the kernel knows it now. It asks
    /// nobody.
    ///
    /// # Errors
    /// What the system says.
    pub async fn link_address(&self, ip: IpAddr, ifindex: u32) -> io::Result<Option<Vec<u8>>> {
        let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut table = std::pin::pin!(self.handle.neighbours().get().set_address_family(family).execute());
        while let Some(entry) = table.try_next().await.map_err(to_io)? {
            if entry.header.ifindex == ifindex && is_of(&entry, ip) {
                return Ok(link_address_of(&entry));
            }
        }
        Ok(None)
    }
}

fn is_of(entry: &NeighbourMessage, ip: IpAddr) -> bool {
    entry.attributes.iter().any(|attribute| match (attribute, ip) {
        (NeighbourAttribute::Destination(NeighbourAddress::Inet(own)), IpAddr::V4(ip)) => *own == ip,
        (NeighbourAttribute::Destination(NeighbourAddress::Inet6(own)), IpAddr::V6(ip)) => *own == ip,
        _ => false,
    })
}

fn link_address_of(entry: &NeighbourMessage) -> Option<Vec<u8>> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) if !bytes.is_empty() => Some(bytes.clone()),
        _ => None,
    })
}
