//! The internet of a lab: one router with a public network for each customer.
//!
//! Addresses look public, because gateways refuse to work behind reserved ones; nothing outside is
//! ever reached, since no namespace has a link out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::lab::{Lab, Shared};
use crate::line::Link;
use crate::namespace::Namespace;

/// An address that is routed into nothing: packets to it vanish without an answer.
pub const BLACKHOLE: Ipv4Addr = Ipv4Addr::new(77, 77, 77, 77);

/// Interface numbers of the outer ends of links begin here. The two ends of a veth must not have the same number
/// in their namespaces: the kernel would take the link for a simple device and may wait a second before it tells IPv6
/// that it is up (`linkwatch_urgent_event`).
pub(crate) const OUTER_INDEX: u16 = 1000;

/// First octets of the customers' networks, different so that logs are easy to read.
const FIRST_OCTETS: [u8; 8] = [5, 45, 62, 81, 91, 93, 109, 146];

/// Which address families a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl Stack {
    pub(crate) fn v4(self) -> bool {
        self != Self::V6
    }

    pub(crate) fn v6(self) -> bool {
        self != Self::V4
    }
}

/// A customer's link to the internet: a /24 and a /64 of its own, and a second /64 for its LAN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uplink {
    number: u8,
}

impl Uplink {
    /// The customer's public address number `index` (from 0).
    pub(crate) fn v4(self, index: u8) -> Ipv4Addr {
        let first = FIRST_OCTETS[usize::from(self.number) % FIRST_OCTETS.len()];
        Ipv4Addr::new(first, 20 + self.number, 100 + self.number, 2 + index)
    }

    pub(crate) fn v4_gateway(self) -> Ipv4Addr {
        let [a, b, c, _] = self.v4(0).octets();
        Ipv4Addr::new(a, b, c, 1)
    }

    /// The customer's address number `index` (from 0) on the link.
    pub(crate) fn v6(self, index: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2a10, 0xcc00, u16::from(self.number), 0, 0, 0, 0, 2 + index)
    }

    /// The link from end to end: its device in the internet's namespace, and the customer's.
    pub(crate) fn link(self, namespace: &Namespace, device: &str) -> Link {
        Link { outer: format!("l{}", self.number), namespace: namespace.clone(), inner: device.to_owned() }
    }

    pub(crate) fn v6_gateway(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2a10, 0xcc00, u16::from(self.number), 0, 0, 0, 0, 1)
    }

    /// An address in the /64 that is routed to the customer's router.
    pub(crate) fn lan_v6(self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2a10, 0xcc00, u16::from(self.number), 1, 0, 0, 0, host)
    }

    /// The same in another /64, for who is renumbered.
    pub(crate) fn other_lan_v6(self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2a10, 0xcc00, u16::from(self.number), 2, 0, 0, 0, host)
    }

    /// The last number of private networks behind this link.
    pub(crate) fn number(self) -> u8 {
        self.number
    }
}

impl Lab {
    pub(crate) fn make_internet(&self) -> Result<()> {
        let net = self.shared().router("net")?;
        net.ip(&[format!("route add blackhole {BLACKHOLE}/32")])
    }
}

impl Shared {
    /// Links `namespace` to the internet by a device `device` there, with `addresses` public
    /// addresses per family.
    pub(crate) fn attach(
        &self,
        namespace: &Namespace,
        device: &str,
        stack: Stack,
        addresses: u8,
    ) -> Result<Uplink> {
        let (uplink, lines) = self.lay(namespace, device, stack, addresses)?;
        namespace.ip(&lines)?;
        Ok(uplink)
    }

    /// The same with the last step left to be done: lines for `ip` in the namespace, which bring the link up there.
    pub(crate) fn lay(
        &self,
        namespace: &Namespace,
        device: &str,
        stack: Stack,
        addresses: u8,
    ) -> Result<(Uplink, Vec<String>)> {
        let uplink = Uplink { number: self.next_link() };
        let net = self.internet();
        let number = uplink.number;
        let index = OUTER_INDEX + u16::from(number);
        let mut outer = vec![format!(
            "link add l{number} index {index} type veth peer name {device} netns {}",
            namespace.name()
        )];
        let mut inner = Vec::new();
        if stack.v4() {
            outer.push(format!("addr add {}/24 dev l{number}", uplink.v4_gateway()));
            for index in 0..addresses {
                inner.push(format!("addr add {}/24 dev {device}", uplink.v4(index)));
            }
        }
        if stack.v6() {
            outer.push(format!("addr add {}/64 dev l{number} nodad", uplink.v6_gateway()));
            for index in 0..addresses {
                inner.push(format!("addr add {}/64 dev {device} nodad", uplink.v6(u16::from(index))));
            }
        }
        outer.push(format!("link set l{number} up"));
        inner.push(format!("link set {device} up"));
        if stack.v4() {
            inner.push(format!("route add default via {}", uplink.v4_gateway()));
        }
        if stack.v6() {
            inner.push(format!("route add ::/0 via {}", uplink.v6_gateway()));
            outer.push(format!("route add {}/64 via {}", uplink.lan_v6(0), uplink.v6(0)));
        }
        // A neighbour that is asked for before its end of the link is up is asked again at once, not after a second.
        outer.push(format!("ntable change name ndisc_cache dev l{number} retrans 50"));
        inner.push(format!("ntable change name ndisc_cache dev {device} retrans 50"));
        net.ip(&outer)?;
        self.delay_link(&net, &format!("l{number}"))?;
        Ok((uplink, inner))
    }
}

/// The private IPv4 address of host `host` in the LAN behind link `link`.
pub(crate) fn lan_v4(link: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, link, host))
}
