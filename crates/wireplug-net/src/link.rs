//! What kind of link an interface is, read from netlink.

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

/// What this crate wants to know of one interface.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Administratively up, with a carrier.
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    pub(crate) tunnel: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub(crate) controller: Option<u32>,
    pub(crate) kind: Option<InfoKind>,
    /// How often its carrier was lost: a cable that was pulled, a Wi-Fi that was left.
    pub(crate) carrier_downs: u32,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        let mut hardware = false;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::ParentDevName(_) => hardware = true,
                LinkAttribute::CarrierDownCount(count) => link.carrier_downs = count,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link.tunnel = match &link.kind {
            Some(kind) => is_tunnel_kind(kind),
            None => is_tunnel_type(message.header.link_layer_type, hardware),
        };
        link
    }
}

/// Whether packets of such a link travel inside other packets of this host. WireGuard's userspace
/// implementations, and every other VPN in a process, are `tun`. PPP is not in the list: that is how
/// many a provider's line comes in.
fn is_tunnel_kind(kind: &InfoKind) -> bool {
    match kind {
        InfoKind::Wireguard
        | InfoKind::Tun
        | InfoKind::IpIp
        | InfoKind::Ip6Tnl
        | InfoKind::SitTun
        | InfoKind::GreTun
        | InfoKind::GreTun6
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::ErSpan
        | InfoKind::Ip6ErSpan
        | InfoKind::Vti
        | InfoKind::Vti6
        | InfoKind::Xfrm
        | InfoKind::Vxlan
        | InfoKind::Geneve
        | InfoKind::BareUdp
        | InfoKind::Amt
        | InfoKind::Gtp => true,
        // Modules outside the kernel's tree, or newer than the parser.
        InfoKind::Other(name) => matches!(name.as_str(), "ovpn" | "ovpn-dco" | "ovpn-dco-v2" | "amneziawg"),
        _ => false,
    }
}

/// The same for a link that names no kind. A mobile modem also has no link layer, but hardware.
fn is_tunnel_type(link_type: LinkLayerType, hardware: bool) -> bool {
    match link_type {
        LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => true,
        LinkLayerType::None => !hardware,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(link_type: LinkLayerType, attributes: Vec<LinkAttribute>) -> Link {
        let mut message = LinkMessage::default();
        message.header.link_layer_type = link_type;
        message.attributes = attributes;
        message.into()
    }

    fn of_kind(kind: InfoKind) -> Vec<LinkAttribute> {
        vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])]
    }

    #[test]
    fn tunnels_are_known_by_kind() {
        for kind in [InfoKind::Wireguard, InfoKind::Tun, InfoKind::Vxlan, InfoKind::Other("ovpn".into())] {
            assert!(link(LinkLayerType::None, of_kind(kind.clone())).tunnel, "{kind}");
        }
        for kind in [InfoKind::Veth, InfoKind::Vlan, InfoKind::Bridge, InfoKind::Wwan] {
            assert!(!link(LinkLayerType::Ether, of_kind(kind.clone())).tunnel, "{kind}");
        }
    }

    #[test]
    fn without_a_kind_hardware_tells_a_modem_from_a_tunnel() {
        assert!(link(LinkLayerType::None, vec![]).tunnel);
        assert!(!link(LinkLayerType::None, vec![LinkAttribute::ParentDevName("1-1:1.4".into())]).tunnel);
        assert!(link(LinkLayerType::Sit, vec![]).tunnel);
        assert!(!link(LinkLayerType::Ppp, vec![]).tunnel);
        assert!(!link(LinkLayerType::Ether, vec![]).tunnel);
    }
}
