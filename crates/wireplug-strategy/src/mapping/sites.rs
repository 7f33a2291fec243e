//! What a protocol for both families maps at which router.

use std::net::IpAddr;

use super::Site;
use crate::situation::{Gateway, HostAddress, Situation};
use wireplug_core::is_global;

/// The most IPv6 addresses with a pinhole each: more are not offered to peers either.
const MAX_V6: usize = 4;

/// For IPv4 the address towards the router. For IPv6 each global address in use on the router's link: WireGuard
/// answers from the one that was written to, and privacy addresses (RFC 8981) come and go. For [`super::Protocol::sites`].
pub fn sites_with_pinholes(situation: &Situation) -> Vec<Site> {
    let mut sites = Vec::new();
    for gateway in &situation.gateways {
        let site = |source| Site { gateway: gateway.clone(), source };
        if gateway.ip.is_ipv4() {
            sites.push(site(gateway.source));
        } else {
            sites.extend(in_use(situation, gateway).take(MAX_V6).map(site));
        }
    }
    sites
}

/// The address that packets leave from first, then the others; of those with one prefix the temporary ones if there
/// are any, as they are what is offered.
fn in_use<'a>(situation: &'a Situation, gateway: &'a Gateway) -> impl Iterator<Item = IpAddr> + 'a {
    let here = |own: &&HostAddress| {
        own.ip.is_ipv6() && own.ifindex == gateway.ifindex && is_global(own.ip) && !own.deprecated
    };
    let shadowed = move |own: &&HostAddress| {
        let temporary = |other: &HostAddress| other.temporary && same_prefix(other.ip, own.ip);
        own.temporary || own.ip == gateway.source || !situation.addresses.iter().any(temporary)
    };
    let mut all: Vec<IpAddr> =
        situation.addresses.iter().filter(here).filter(shadowed).map(|own| own.ip).collect();
    all.sort_by_key(|ip| *ip != gateway.source);
    all.dedup();
    all.into_iter()
}

/// Whether two IPv6 addresses are of one /64.
fn same_prefix(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::kit::address;

    use super::*;

    fn v6(ip: &str, temporary: bool, deprecated: bool) -> HostAddress {
        HostAddress { temporary, deprecated, ..address(ip.parse().unwrap(), 64) }
    }

    fn gateway(ip: &str, source: &str) -> Gateway {
        let (ip, source) = (ip.parse().unwrap(), source.parse().unwrap());
        Gateway { ip, source, ifindex: 2, interface: "eth0".to_owned() }
    }

    #[test]
    fn each_global_address_in_use_and_the_one_towards_the_ipv4_router() {
        let other_link = HostAddress { ifindex: 3, ..v6("2a00:3::5", false, false) };
        let situation = Situation {
            gateways: vec![gateway("192.168.1.1", "192.168.1.5"), gateway("fe80::1", "2a00::7")],
            addresses: vec![
                address([192, 168, 1, 5].into(), 24),
                v6("2a00::5", false, false),
                v6("2a00::6", true, true),
                v6("2a00::7", true, false),
                v6("2a00::8", true, false),
                v6("2a00:1::5", false, false),
                v6("fd00::5", false, false),
                v6("fe80::5", false, false),
                other_link,
            ],
            ..Situation::default()
        };
        let sources: Vec<_> =
            sites_with_pinholes(&situation).into_iter().map(|site| site.source.to_string()).collect();
        assert_eq!(sources, ["192.168.1.5", "2a00::7", "2a00::8", "2a00:1::5"]);
        assert!(sites_with_pinholes(&Situation::default()).is_empty());
    }
}
