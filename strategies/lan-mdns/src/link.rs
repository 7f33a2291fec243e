//! The links of this host that have neighbours: where to announce what, and which addresses are on them.

use std::net::IpAddr;

use wireplug_core::{Endpoint, Family, is_link_local};
use wireplug_strategy::{HostAddress, Situation};

/// The most links that are announced on: each costs a thread. More are servers' or routers' business.
const MAX_LINKS: usize = 4;

/// The most addresses of one family that are announced on a link.
const MAX_PER_FAMILY: usize = 4;

/// A link of this host, with the host's own addresses there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub ifindex: u32,
    /// Its name, such as `eth0`.
    pub interface: String,
    /// The host's addresses there that are worth telling neighbours, link-local ones among them.
    pub announced: Vec<IpAddr>,
    /// All of the host's addresses there, with the lengths of their prefixes in bits.
    own: Vec<(IpAddr, u8)>,
}

impl Link {
    /// Where a neighbour is reached that says that it has this address: it must be on this link by its prefix,
    /// or link-local, and not this host's own.
    pub(crate) fn endpoint(&self, ip: IpAddr, port: u16) -> Option<Endpoint> {
        if self.own.iter().any(|(own, _)| *own == ip) {
            return None;
        }
        match ip {
            IpAddr::V6(v6) if is_link_local(v6) => {
                let scoped = std::net::SocketAddrV6::new(v6, port, 0, self.ifindex);
                Endpoint::new(scoped.into()).ok()
            }
            _ if self.own.iter().any(|(own, prefix)| is_same_network(*own, ip, *prefix)) => {
                Endpoint::new((ip, port).into()).ok()
            }
            _ => None,
        }
    }
}

/// The links of a host with an address that has neighbours, by number. Which of them can multicast is found out when
/// they are joined.
pub(crate) fn links(situation: &Situation) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for address in &situation.addresses {
        let own = (address.ip, address.prefix);
        match links.iter_mut().find(|link| link.ifindex == address.ifindex) {
            Some(link) => link.own.push(own),
            None => links.push(Link {
                ifindex: address.ifindex,
                interface: address.interface.clone(),
                announced: Vec::new(),
                own: vec![own],
            }),
        }
    }
    for link in &mut links {
        let there = situation.addresses.iter().filter(|address| address.ifindex == link.ifindex);
        link.announced = worth_telling(&there.collect::<Vec<_>>());
    }
    links.retain(|link| !link.announced.is_empty());
    links.sort_by_key(|link| link.ifindex);
    links.truncate(MAX_LINKS);
    links
}

/// Addresses with neighbours that are not deprecated. Of several IPv6 addresses with one prefix the temporary ones
/// are told: the stable one would tell who this host is on every network.
fn worth_telling(there: &[&HostAddress]) -> Vec<IpAddr> {
    let has_neighbours = |address: &HostAddress| address.prefix < if address.ip.is_ipv4() { 32 } else { 128 };
    let usable: Vec<&HostAddress> =
        there.iter().copied().filter(|address| !address.deprecated && has_neighbours(address)).collect();
    let hidden = |address: &HostAddress| {
        let replaces =
            |other: &&HostAddress| other.temporary && is_same_network(address.ip, other.ip, address.prefix);
        address.ip.is_ipv6() && !address.temporary && usable.iter().any(replaces)
    };
    let mut told = Vec::new();
    for family in [Family::V6, Family::V4] {
        let of_family = usable.iter().filter(|address| Family::of(address.ip) == family && !hidden(address));
        told.extend(of_family.map(|address| address.ip).take(MAX_PER_FAMILY));
    }
    told
}

/// Whether two addresses have the first `prefix` bits in common.
fn is_same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (a, b, width) = match (one, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let host_bits = width - u32::from(prefix).min(width);
    (a ^ b).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn own(ip_text: &str, prefix: u8, ifindex: u32) -> HostAddress {
        HostAddress {
            ip: ip(ip_text),
            prefix,
            ifindex,
            interface: format!("eth{ifindex}"),
            temporary: false,
            deprecated: false,
        }
    }

    fn of(addresses: Vec<HostAddress>) -> Vec<Link> {
        links(&Situation { addresses, ..Situation::default() })
    }

    #[test]
    fn each_link_tells_its_own_addresses_only() {
        let links = of(vec![own("10.0.0.5", 8, 3), own("192.168.1.5", 24, 2), own("fe80::5", 64, 3)]);
        let told: Vec<_> = links.iter().map(|link| (link.ifindex, link.announced.clone())).collect();
        assert_eq!(told, [(2, vec![ip("192.168.1.5")]), (3, vec![ip("fe80::5"), ip("10.0.0.5")])]);
    }

    #[test]
    fn an_address_without_neighbours_is_not_told() {
        assert!(of(vec![own("5.6.7.8", 32, 2), own("2a00::1", 128, 2)]).is_empty());
    }

    #[test]
    fn temporary_addresses_hide_the_stable_one_of_their_prefix() {
        let temporary = HostAddress { temporary: true, ..own("2a00::77aa", 64, 2) };
        let old = HostAddress { temporary: true, deprecated: true, ..own("2a00::66bb", 64, 2) };
        let links = of(vec![own("2a00::5", 64, 2), temporary, old, own("fe80::5", 64, 2)]);
        assert_eq!(links[0].announced, [ip("2a00::77aa"), ip("fe80::5")]);
    }

    #[test]
    fn there_are_at_most_four_links_and_four_addresses() {
        let many = (1..=9).flat_map(|link| (1..=9).map(move |n| own(&format!("10.{link}.0.{n}"), 16, link)));
        let links = of(many.collect());
        assert_eq!(links.len(), 4);
        assert!(links.iter().all(|link| link.announced.len() == 4));
    }

    #[test]
    fn only_addresses_of_the_link_are_neighbours() {
        let link = &of(vec![own("192.168.1.5", 24, 2), own("2a00::5", 64, 2)])[0];
        let at = |text: &str| link.endpoint(ip(text), 9).map(|endpoint| endpoint.to_string());
        assert_eq!(at("192.168.1.77").as_deref(), Some("192.168.1.77:9"));
        assert_eq!(at("2a00::77").as_deref(), Some("[2a00::77]:9"));
        assert_eq!(at("fe80::77").as_deref(), Some("[fe80::77%2]:9"));
        for elsewhere in [
            "192.168.2.77",
            "5.6.7.8",
            "2a00:0:0:1::77",
            "192.168.1.5",
            "127.0.0.1",
            "224.0.0.1",
            "ff02::1",
            "::1",
        ] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(link.endpoint(ip("192.168.1.77"), 0), None);
    }
}
