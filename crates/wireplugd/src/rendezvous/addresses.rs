//! Where a server's services are: what it announces, with its host in place of what it cannot know.

use std::net::{IpAddr, SocketAddr};

use wireplug_core::Family;
use wireplug_strategy::StunServer;

/// The server's STUN addresses by family, the first primary, the second secondary. An unspecified address
/// stands for the host: for the family of the connection the address connected to, for the other one the
/// first of the server's name; `[::]` for both families.
pub(super) fn stun_servers(announced: &[SocketAddr], server: &[IpAddr]) -> Vec<StunServer> {
    [Family::V6, Family::V4]
        .into_iter()
        .filter_map(|family| {
            let host = server.iter().copied().find(|ip| Family::of(*ip) == family);
            let mut places = announced.iter().filter_map(|announced| {
                let ip = match announced.ip() {
                    IpAddr::V6(ip) if ip.is_unspecified() => host?,
                    IpAddr::V4(ip) if ip.is_unspecified() && family == Family::V4 => host?,
                    ip => ip,
                };
                (Family::of(ip) == family).then_some(SocketAddr::new(ip, announced.port()))
            });
            let primary = places.next()?;
            Some(StunServer { primary, secondary: places.find(|place| *place != primary) })
        })
        .collect()
}

/// The relay's addresses, IPv6 first. An unspecified one stands for the host: `0.0.0.0` for its IPv4 address, `[::]` for
/// those of both families.
pub(super) fn relay_addresses(announced: &[IpAddr], server: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for family in [Family::V6, Family::V4] {
        let host = server.iter().copied().find(|ip| Family::of(*ip) == family);
        for announced in announced {
            let ip = match announced {
                IpAddr::V6(ip) if ip.is_unspecified() => host,
                IpAddr::V4(ip) if ip.is_unspecified() && family == Family::V4 => host,
                ip => Some(*ip),
            };
            addresses.extend(ip.filter(|ip| Family::of(*ip) == family && !addresses.contains(ip)));
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_relay_that_does_not_know_its_address_is_at_the_host() {
        let host = ips(&["203.0.113.7", "2001:db8::7"]);
        for (announced, expected) in [
            (ips(&["::"]), ips(&["2001:db8::7", "203.0.113.7"])),
            (ips(&["0.0.0.0"]), ips(&["203.0.113.7"])),
            (ips(&["198.51.100.1", "::"]), ips(&["2001:db8::7", "198.51.100.1", "203.0.113.7"])),
            (ips(&["203.0.113.7", "0.0.0.0"]), ips(&["203.0.113.7"])),
        ] {
            assert_eq!(relay_addresses(&announced, &host), expected);
        }
        assert_eq!(relay_addresses(&ips(&["::"]), &host[..1]), ips(&["203.0.113.7"]));
    }
}
