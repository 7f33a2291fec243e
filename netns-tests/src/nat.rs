//! The kinds of NAT and firewall, as nftables rulesets of a router.
//!
//! Names and behaviour are RFC 4787's: mapping (section 4.1) and filtering (section 5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::internet::Stack;

/// The port of WireGuard on every host of the lab.
pub const WIREGUARD_PORT: u16 = 51820;

/// The outer port of a fixed mapping.
pub const FIXED_PORT: u16 = 40001;

/// What stands between a host and the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Nat {
    /// Nothing: a public address on the host itself.
    None,
    /// Endpoint-independent mapping to another port, endpoint-independent filtering: a forwarded port.
    FullCone,
    /// Endpoint-independent mapping that keeps the port, address- and port-dependent filtering.
    PortPreserving,
    /// Endpoint-independent mapping to another port, address- and port-dependent filtering.
    Fixed,
    /// Address- and port-dependent mapping to random ports, and filtering.
    Symmetric,
    /// Two port-preserving routers in a row, 100.64.0.0/10 between them.
    Cgnat,
    /// IPv6 only, public addresses, nothing new comes in.
    Ipv6Firewall,
    /// Both families: IPv4 as [`Self::Symmetric`], IPv6 as [`Self::Ipv6Firewall`].
    DualStack,
    /// Port-preserving, and no UDP gets through at all.
    UdpBlocked,
    /// As [`Self::Symmetric`], and the router maps ports for who asks by UPnP.
    SymmetricUpnpIgd,
    /// As [`Self::Symmetric`], and the router maps ports for who asks by NAT-PMP.
    SymmetricNatPmp,
    /// As [`Self::Symmetric`], and the router maps ports for who asks by PCP.
    SymmetricPcp,
    /// As [`Self::None`], and the host's own firewall lets nothing in but answers.
    ClosedHost,
}

impl Nat {
    /// The kinds of plain NAT over IPv4, and none.
    pub const PLAIN: [Self; 6] =
        [Self::None, Self::FullCone, Self::PortPreserving, Self::Fixed, Self::Symmetric, Self::Cgnat];

    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::FullCone,
        Self::PortPreserving,
        Self::Fixed,
        Self::Symmetric,
        Self::Cgnat,
        Self::SymmetricUpnpIgd,
        Self::SymmetricNatPmp,
        Self::SymmetricPcp,
        Self::UdpBlocked,
        Self::ClosedHost,
        Self::Ipv6Firewall,
        Self::DualStack,
    ];

    /// The name in tests and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullCone => "full-cone",
            Self::PortPreserving => "port-preserving",
            Self::Fixed => "fixed",
            Self::Symmetric => "symmetric",
            Self::Cgnat => "cgnat",
            Self::Ipv6Firewall => "ipv6-firewall",
            Self::DualStack => "dual-stack",
            Self::UdpBlocked => "udp-blocked",
            Self::SymmetricUpnpIgd => "symmetric-upnp-igd",
            Self::SymmetricNatPmp => "symmetric-nat-pmp",
            Self::SymmetricPcp => "symmetric-pcp",
            Self::ClosedHost => "closed-host",
        }
    }

    /// The strategy that can ask the router for a mapping, by the only protocol that it speaks.
    pub fn gateway(self) -> Option<&'static str> {
        match self {
            Self::SymmetricUpnpIgd => Some("upnp-igd"),
            Self::SymmetricNatPmp => Some("nat-pmp"),
            Self::SymmetricPcp => Some("pcp"),
            _ => None,
        }
    }

    /// Whether a router stands before the host, with a LAN.
    pub fn has_router(self) -> bool {
        !matches!(self, Self::None | Self::ClosedHost)
    }

    /// Which families the customer's link has.
    pub(crate) fn stack(self) -> Stack {
        match self {
            Self::Ipv6Firewall => Stack::V6,
            Self::DualStack => Stack::Dual,
            _ => Stack::V4,
        }
    }

    /// The outer port of the host's WireGuard, as every peer sees it; none where each peer sees another.
    pub fn outer_port(self) -> Option<u16> {
        match self {
            Self::None
            | Self::ClosedHost
            | Self::PortPreserving
            | Self::Cgnat
            | Self::Ipv6Firewall
            | Self::DualStack => Some(WIREGUARD_PORT),
            Self::FullCone | Self::Fixed => Some(FIXED_PORT),
            Self::Symmetric
            | Self::UdpBlocked
            | Self::SymmetricUpnpIgd
            | Self::SymmetricNatPmp
            | Self::SymmetricPcp => None,
        }
    }

    /// The ruleset of a router with `wan0` outside and `lan0` inside, before a `host` with WireGuard.
    pub(crate) fn ruleset(self, public: Ipv4Addr, host: IpAddr) -> String {
        let fixed = format!("oifname wan0 udp sport {WIREGUARD_PORT} snat to {public}:{FIXED_PORT}\n");
        let forwarded = format!("iifname wan0 udp dport {FIXED_PORT} dnat to {host}:{WIREGUARD_PORT}\n");
        let masquerade = "oifname wan0 masquerade\n";
        let random = "oifname wan0 masquerade random,fully-random\n";
        let (post, pre) = match self {
            Self::None | Self::ClosedHost | Self::Ipv6Firewall => (String::new(), String::new()),
            Self::FullCone => (fixed + masquerade, forwarded),
            Self::Fixed => (fixed + masquerade, String::new()),
            Self::PortPreserving | Self::Cgnat | Self::UdpBlocked => (masquerade.to_owned(), String::new()),
            Self::Symmetric
            | Self::DualStack
            | Self::SymmetricUpnpIgd
            | Self::SymmetricNatPmp
            | Self::SymmetricPcp => (random.to_owned(), String::new()),
        };
        // Towards the internet: a bridge may show its frames to this chain too.
        let blocked = if self == Self::UdpBlocked {
            "iifname wan0 meta l4proto udp drop\noifname wan0 meta l4proto udp drop"
        } else {
            ""
        };
        // Drop outside, never reject: an answer would leave an entry that moves the later outbound mapping.
        format!(
            "table ip nat {{
                chain pre {{
                    type nat hook prerouting priority dstnat
                    {pre}
                }}
                chain post {{
                    type nat hook postrouting priority srcnat
                    {post}
                }}
            }}
            table inet filter {{
                chain input {{
                    type filter hook input priority filter; policy drop
                    ct state established,related accept
                    iifname {{ lo, lan0 }} accept
                    icmp type echo-request accept
                    meta l4proto ipv6-icmp accept
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop
                    {blocked}
                    ct state established,related accept
                    iifname lan0 accept
                    ct status dnat accept
                }}
            }}\n"
        )
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Nat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|nat| nat.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|nat| nat.name()).collect();
            format!("no NAT kind {text:?}; there are {}", names.join(", "))
        })
    }
}

/// The ruleset of a host that lets nothing in but answers and pings, like a distribution's firewall.
pub(crate) const CLOSED_HOST: &str = "table inet hostfw {
    chain input {
        type filter hook input priority filter; policy drop
        ct state established,related accept
        iifname lo accept
        icmp type echo-request accept
        meta l4proto ipv6-icmp accept
    }
}\n";
