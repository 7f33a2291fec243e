//! The host's own addresses, as far as another host could reach them, and the news that something changed.

mod changes;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::InfoKind;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use crate::link::Link;
use crate::routes::to_io;

pub use changes::{Change, Changes, ChangesError};

/// Reads the addresses of this network namespace.
#[derive(Debug, Clone)]
pub struct Addresses {
    handle: rtnetlink::Handle,
}

/// One address of this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostAddress {
    /// The address. Link-local IPv6 ones mean something on their interface only.
    pub ip: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix: u8,
    /// The interface that has it.
    pub ifindex: u32,
    /// That interface's name.
    pub interface: String,
    /// An IPv6 privacy address (RFC 8981), which will be replaced.
    pub temporary: bool,
    /// No longer preferred for new connections (RFC 4862 section 5.5.4), and about to go.
    pub deprecated: bool,
    /// How often that interface has lost its carrier. Where it rises, the same address may be in another network.
    pub carrier_downs: u32,
}

/// Why addresses could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AddressesError {
    /// Netlink failed.
    #[error("cannot read this host's {what} (netlink): {source}")]
    Netlink {
        /// Links, addresses or routes.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Addresses {
    /// Opens a netlink connection; it closes with the last clone.
    ///
    /// # Errors
    /// [`AddressesError::Netlink`].
    pub fn new() -> Result<Self, AddressesError> {
        // Strict checking lets the kernel filter a dump of routes; kernels before 4.20 do not know it.
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
            .or_else(|_| rtnetlink::new_connection())
            .map_err(|source| AddressesError::Netlink { what: "addresses", source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All addresses at which another host may reach this one, ordered by interface and address.
    ///
    /// Left out are loopback, tunnels, links that are down, addresses that failed or have not yet passed
    /// duplicate detection, and what belongs to containers and virtual machines of this host. A link counts as the
    /// latter if no route with a gateway, and no default route, leaves by it, and it is
    /// - a bridge none of whose ports leads out of the host (all are veth or tap, or there are none),
    /// - a veth with a name that container tools give to the host's end (`veth…`, `cali…`, `ve-…`, ...),
    /// - a dummy interface.
    ///
    /// # Errors
    /// [`AddressesError::Netlink`].
    pub async fn list(&self) -> Result<Vec<HostAddress>, AddressesError> {
        let links = self.links().await?;
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| AddressesError::Netlink { what: "addresses", source: to_io(error) })?;
        let mut addresses = Vec::new();
        let mut routed = HashMap::new();
        for message in messages {
            let Some(link) = links.get(&message.header.index).filter(|link| link.up && !link.loopback) else {
                continue;
            };
            let Some(address) = (!link.tunnel).then(|| host_address(&message, link)).flatten() else {
                continue;
            };
            if is_of_guests(link, &links) {
                let leads_out = match routed.get(&link.index) {
                    Some(known) => *known,
                    None => self.leads_out(link.index).await?,
                };
                routed.insert(link.index, leads_out);
                if !leads_out {
                    continue;
                }
            }
            addresses.push(address);
        }
        addresses.sort_by_key(|address| (address.ifindex, address.ip));
        Ok(addresses)
    }

    async fn links(&self) -> Result<HashMap<u32, Link>, AddressesError> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| AddressesError::Netlink { what: "links", source: to_io(error) })?;
        Ok(links.into_iter().map(Link::from).map(|link| (link.index, link)).collect())
    }

    /// Whether any gateway or default route leaves by a link.
    async fn leads_out(&self, ifindex: u32) -> Result<bool, AddressesError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.attributes.push(RouteAttribute::Oif(ifindex));
            let routes = self.handle.route().get(question).execute();
            let mut routes = std::pin::pin!(routes);
            while let Some(route) = routes
                .try_next()
                .await
                .map_err(|error| AddressesError::Netlink { what: "routes", source: to_io(error) })?
            {
                if is_way_out(&route, ifindex) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn is_way_out(route: &RouteMessage, ifindex: u32) -> bool {
    let default = route.header.destination_prefix_length == 0;
    let (mut leaves, mut gateway) = (false, false);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => leaves = *index == ifindex,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
            RouteAttribute::MultiPath(hops) => {
                leaves = hops.iter().any(|hop| hop.interface_index == ifindex);
                gateway = true;
            }
            _ => {}
        }
    }
    leaves && (gateway || default)
}

/// Whether a link looks like one to containers or virtual machines of this host.
fn is_of_guests(link: &Link, links: &HashMap<u32, Link>) -> bool {
    match link.kind {
        Some(InfoKind::Bridge) => links
            .values()
            .filter(|port| port.controller == Some(link.index))
            .all(|port| matches!(port.kind, Some(InfoKind::Veth | InfoKind::Tun))),
        Some(InfoKind::Veth) => {
            const HOST_ENDS: [&str; 7] = ["veth", "cali", "cni", "lxc", "ve-", "vb-", "vnet"];
            HOST_ENDS.iter().any(|prefix| link.name.starts_with(prefix))
        }
        Some(InfoKind::Dummy) => true,
        _ => false,
    }
}

fn host_address(message: &AddressMessage, link: &Link) -> Option<HostAddress> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the plain address is the other end's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let ip = local.or(address)?;
    let usable = !flags.contains(AddressFlags::Dadfailed)
        && (!flags.contains(AddressFlags::Tentative) || flags.contains(AddressFlags::Optimistic));
    (usable && !ip.is_loopback()).then(|| HostAddress {
        ip,
        prefix: message.header.prefix_len,
        ifindex: link.index,
        interface: link.name.clone(),
        // IFA_F_TEMPORARY has the value of IFA_F_SECONDARY (linux/if_addr.h), which is IPv4's.
        temporary: ip.is_ipv6() && flags.contains(AddressFlags::Secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
        carrier_downs: link.carrier_downs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<InfoKind>, controller: Option<u32>) -> (u32, Link) {
        (index, Link { index, name: name.into(), up: true, kind, controller, ..Link::default() })
    }

    #[test]
    fn guests_are_known_by_where_a_link_leads() {
        let links: HashMap<_, _> = [
            link(1, "eth0", None, Some(3)),
            link(2, "docker0", Some(InfoKind::Bridge), None),
            link(3, "br-lan", Some(InfoKind::Bridge), None),
            link(4, "veth12ab", Some(InfoKind::Veth), Some(2)),
            link(5, "wan", Some(InfoKind::Veth), None),
            link(6, "virbr0", Some(InfoKind::Bridge), None),
        ]
        .into();
        let guests: Vec<u32> = (1..=6).filter(|index| is_of_guests(&links[index], &links)).collect();
        assert_eq!(guests, [2, 4, 6]);
    }

    fn message(attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.attributes = attributes;
        message
    }

    #[test]
    fn flags_of_an_address_are_kept_or_leave_it_out() {
        let (_, link) = link(1, "eth0", None, None);
        let ip: IpAddr = "2a00::1".parse().unwrap();
        let with = |flags| {
            host_address(&message(vec![AddressAttribute::Address(ip), AddressAttribute::Flags(flags)]), &link)
        };
        assert!(with(AddressFlags::Tentative).is_none());
        assert!(with(AddressFlags::Dadfailed | AddressFlags::Permanent).is_none());
        assert!(with(AddressFlags::Tentative | AddressFlags::Optimistic).is_some());
        let found = with(AddressFlags::Secondary | AddressFlags::Deprecated).unwrap();
        assert!(found.temporary && found.deprecated);
    }

    #[test]
    fn of_a_point_to_point_link_our_end_counts() {
        let (_, link) = link(1, "ppp0", None, None);
        let ours: IpAddr = "5.6.7.8".parse().unwrap();
        let theirs = "5.6.7.1".parse().unwrap();
        let found = host_address(
            &message(vec![AddressAttribute::Address(theirs), AddressAttribute::Local(ours)]),
            &link,
        );
        assert_eq!(found.unwrap().ip, ours);
    }
}
