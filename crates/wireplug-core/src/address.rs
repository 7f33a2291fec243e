//! Addresses by role. A [`SocketAddr`] says where; these types say that it may be used for something.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU16;

/// A place that UDP can be sent to and that WireGuard accepts as an `Endpoint`: a unicast address,
/// not loopback, and a port other than 0. An IPv4-mapped IPv6 address becomes the IPv4 one, a flow
/// label is dropped, and a scope is kept for link-local addresses only, so equal places are equal. The one
/// exception is [`Endpoint::on_this_host`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(SocketAddr);

/// Why an address cannot be a WireGuard endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// Port 0.
    #[error("{0} has port 0, which nobody can send to")]
    PortZero(SocketAddr),
    /// Unspecified, loopback, multicast or broadcast.
    #[error("{0} is not a unicast address of another host")]
    NotUnicast(SocketAddr),
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv6; first, because it is preferred within a tier.
    V6,
    /// IPv4.
    V4,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Endpoint {
    /// An endpoint from an address and a port in host order.
    ///
    /// # Errors
    /// [`NotAnEndpoint`] says what is wrong with the address.
    pub fn new(addr: SocketAddr) -> Result<Self, NotAnEndpoint> {
        if addr.port() == 0 {
            return Err(NotAnEndpoint::PortZero(addr));
        }
        let unicast = match addr.ip().to_canonical() {
            IpAddr::V4(ip) => {
                !(ip.octets()[0] == 0 || ip.is_loopback() || ip.is_multicast() || ip.octets()[0] >= 240)
            }
            IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()),
        };
        if !unicast {
            return Err(NotAnEndpoint::NotUnicast(addr));
        }
        Ok(Self(match (addr.ip().to_canonical(), addr) {
            (IpAddr::V4(ip), _) => SocketAddr::V4(SocketAddrV4::new(ip, addr.port())),
            (IpAddr::V6(ip), SocketAddr::V6(v6)) if is_link_local(ip) => {
                SocketAddr::V6(SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()))
            }
            (IpAddr::V6(ip), _) => SocketAddr::V6(SocketAddrV6::new(ip, addr.port(), 0, 0)),
        }))
    }

    /// The end on this host of a leg that leaves otherwise than by UDP: this port of 127.0.0.1. It is for
    /// WireGuard to send to, and never taken from what others say: [`Endpoint::new`] refuses loopback.
    pub const fn on_this_host(port: NonZeroU16) -> Self {
        Self(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.get())))
    }

    /// Whether it is the end on this host of such a leg.
    pub fn is_on_this_host(&self) -> bool {
        self.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    /// The endpoint of a peer as the WireGuard device tells it, which may be one of this host.
    ///
    /// # Errors
    /// [`NotAnEndpoint`], as from [`Endpoint::new`].
    pub fn of_device(addr: SocketAddr) -> Result<Self, NotAnEndpoint> {
        match (addr.ip(), NonZeroU16::new(addr.port())) {
            (IpAddr::V4(Ipv4Addr::LOCALHOST), Some(port)) => Ok(Self::on_this_host(port)),
            _ => Self::new(addr),
        }
    }

    /// The address and port.
    pub const fn addr(&self) -> SocketAddr {
        self.0
    }

    /// The address without the port.
    pub const fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    /// The port, in host order, never 0.
    pub const fn port(&self) -> u16 {
        self.0.port()
    }

    /// IPv4 or IPv6.
    pub const fn family(&self) -> Family {
        Family::of(self.0.ip())
    }
}

impl TryFrom<SocketAddr> for Endpoint {
    type Error = NotAnEndpoint;

    fn try_from(addr: SocketAddr) -> Result<Self, Self::Error> {
        Self::new(addr)
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an address can be reached from the whole internet, as far as its number tells
/// (the IANA special-purpose registries: not private, shared, link-local, documentation of benchmarks ...).
pub fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b))    // RFC 6598, shared address space of CGNAT
        || (a == 192 && b == 0 && c == 0)          // RFC 6890, protocol assignments
        || (a == 198 && (b == 18 || b == 19))) // RFC 2544, benchmarks
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    (first & 0xe000) == 0x2000                      // RFC 4291, global unicast
        && !(first == 0x2001 && second == 0x0db8)   // RFC 3849, documentation
        && first != 0x2002                          // RFC 3056, 6to4
        && !(first == 0x2001 && second == 0) // RFC 4380, Teredo
}

/// Whether an IPv6 address is of its link only (`fe80::/10`) and so needs a scope.
pub const fn is_link_local(ip: Ipv6Addr) -> bool {
    (ip.segments()[0] & 0xffc0) == 0xfe80
}

/// Whether two addresses may be one host's: the same, or for IPv6 in the same /64, where a host has several and changes them
/// (RFC 8981).
pub fn same_host(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one == other,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_ipv4_address_and_many_of_one_ipv6_network() {
        let same = |other: &str| same_host("2a00:1:2:3::1".parse().unwrap(), other.parse().unwrap());
        assert!(same("2a00:1:2:3:ffff::9"));
        assert!(!same("2a00:1:2:4::1") && !same("198.51.100.7"));
        let same = |other: &str| same_host("198.51.100.7".parse().unwrap(), other.parse().unwrap());
        assert!(same("198.51.100.7") && same("::ffff:198.51.100.7") && !same("198.51.100.8"));
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_one() {
        assert_eq!(Endpoint::new(addr("[::ffff:5.6.7.8]:9")), Endpoint::new(addr("5.6.7.8:9")));
    }

    #[test]
    fn scope_is_kept_for_link_local_only() {
        let with = |ip: &str| {
            let v6 = SocketAddrV6::new(ip.parse().unwrap(), 9, 5, 3);
            Endpoint::new(v6.into()).unwrap().addr()
        };
        assert_eq!(with("fe80::1"), SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3).into());
        assert_eq!(with("2a00::1"), addr("[2a00::1]:9"));
    }

    #[test]
    fn what_nobody_can_send_to_is_refused() {
        for text in [
            "5.6.7.8:0",
            "0.0.0.0:9",
            "127.0.0.1:9",
            "224.0.0.1:9",
            "255.255.255.255:9",
            "[::]:9",
            "[::1]:9",
            "[ff02::1]:9",
        ] {
            assert!(Endpoint::new(addr(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_device_may_name_this_host() {
        let leg = Endpoint::on_this_host(NonZeroU16::new(9).unwrap());
        assert!(leg.is_on_this_host());
        assert_eq!(Endpoint::of_device(addr("127.0.0.1:9")), Ok(leg));
        assert_eq!(Endpoint::of_device(addr("5.6.7.8:9")), Endpoint::new(addr("5.6.7.8:9")));
        for text in ["127.0.0.1:0", "127.0.0.2:9", "[::1]:9"] {
            assert!(Endpoint::of_device(addr(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn global_is_what_the_registries_say() {
        for yes in ["5.6.7.8", "100.63.0.1", "172.32.0.1", "2a00::1", "2001:4860::1"] {
            assert!(is_global(yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "10.0.0.1",
            "100.64.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "198.18.0.1",
            "fd00::1",
            "fe80::1",
            "2001:db8::1",
            "2002::1",
        ] {
            assert!(!is_global(no.parse().unwrap()), "{no}");
        }
    }
}
