//! Hosts that change their network, and networks that keep their hosts apart.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::Uplink;
use crate::namespace::Namespace;
use crate::nat::Nat;
use crate::site::{Plug, Site};

/// What becomes of the link that a host leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It goes, as a network that is left behind does.
    Gone,
    /// It stays, and is down: a cable that was pulled.
    Down,
}

impl Host {
    /// Unplugs the host from its site and gives it a public address of its own. The same host, from now on as one
    /// behind [`Nat::None`].
    ///
    /// # Errors
    /// When the links cannot be changed.
    pub fn roam_to_internet(&self) -> Result<Self> {
        let device = self.next_uplink();
        let (uplink, lines) = self.shared.lay(&self.namespace, &device, Nat::None.stack(), 1)?;
        let addresses = vec![IpAddr::V4(uplink.v4(0))];
        let plug = Plug { lines, public: addresses.clone(), addresses };
        self.move_over(plug, device, Left::Gone, Nat::None)
    }

    /// Unplugs the host from its site and plugs it in at another one. The same host, from now on there.
    ///
    /// # Errors
    /// When the links cannot be changed.
    pub fn roam_to(&self, site: &mut Site) -> Result<Self> {
        self.roam_leaving(site, Left::Gone)
    }

    /// As [`Self::roam_to`], without a moment in between: the new link is laid before the old one is left.
    ///
    /// # Errors
    /// When the links cannot be changed.
    pub fn roam_leaving(&self, site: &mut Site, left: Left) -> Result<Self> {
        let device = self.next_uplink();
        let plug = site.plug(&self.namespace, &device)?;
        let moved = self.move_over(plug, device, left, site.nat())?;
        site.wait_for_link(&self.namespace)?;
        Ok(moved)
    }

    /// Gives the host other IPv4 addresses under the same link, as when a lease was not renewed.
    ///
    /// # Errors
    /// When it has none, or the addresses cannot be changed.
    pub fn readdress(&self) -> Result<Self> {
        let (old, device) = (self.v4()?, &self.uplink);
        let [a, b, c, d] = old.octets();
        // The lab gives out none of the upper half by itself.
        let new = Ipv4Addr::new(a, b, c, d ^ 0x80);
        self.namespace.ip(&[
            format!("addr del {old}/24 dev {device}"),
            format!("addr add {new}/24 dev {device}"),
            format!("route add default via {a}.{b}.{c}.1"),
        ])?;
        let changed = |addresses: &[IpAddr]| {
            let change = |ip: &IpAddr| if *ip == IpAddr::V4(old) { IpAddr::V4(new) } else { *ip };
            addresses.iter().map(change).collect()
        };
        let (addresses, public) = (changed(&self.addresses), changed(&self.public));
        Ok(Self { addresses, public, ..self.clone() })
    }

    /// Takes the host's IPv4 address and route away, as when a lease ends and nobody gives another.
    ///
    /// # Errors
    /// When it has none.
    pub fn lose_v4(&self) -> Result<()> {
        self.namespace.ip(&[format!("addr del {}/24 dev {}", self.v4()?, self.uplink)])
    }

    /// Ends [`Self::lose_v4`].
    ///
    /// # Errors
    /// When it has them still.
    pub fn regain_v4(&self) -> Result<()> {
        let v4 = self.v4()?;
        let [a, b, c, _] = v4.octets();
        self.namespace.ip(&[
            format!("addr add {v4}/24 dev {}", self.uplink),
            format!("route add default via {a}.{b}.{c}.1"),
        ])
    }

    fn next_uplink(&self) -> String {
        if self.uplink == "eth0" { "eth1" } else { "eth0" }.to_owned()
    }

    fn move_over(&self, plug: Plug, device: String, left: Left, nat: Nat) -> Result<Self> {
        let Plug { lines, addresses, public } = plug;
        let old = &self.uplink;
        let mut all = vec![match left {
            Left::Gone => format!("link del {old}"),
            Left::Down => format!("link set {old} down"),
        }];
        all.extend(lines);
        self.namespace.ip(&all)?;
        Ok(Self { uplink: device, nat, addresses, public, ..self.clone() })
    }

    /// Its IPv4 address on its LAN.
    ///
    /// # Errors
    /// When it has none.
    pub fn v4(&self) -> Result<Ipv4Addr> {
        let v4 = self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        v4.ok_or_else(|| LabError::unexpected(format!("{} has no IPv4 address", self.label)))
    }
}

/// Drops all UDP between a LAN and one address, or any.
const BLOCK: &str = "block";

impl Site {
    /// Drops what UDP the router would forward between its LAN and these addresses, from now on.
    ///
    /// # Errors
    /// When the site has no router, or nft refuses.
    pub fn block_udp(&self, with: &[IpAddr]) -> Result<()> {
        let rules: String = with
            .iter()
            .flat_map(|address| {
                let family = if address.is_ipv4() { "ip" } else { "ip6" };
                ["saddr", "daddr"].map(|end| format!("meta l4proto udp {family} {end} {address} drop\n"))
            })
            .collect();
        self.router_or_error()?.nft(&format!(
            "table inet {BLOCK} {{ chain forward {{ type filter hook forward priority -5; {rules} }}; }}"
        ))
    }

    /// Ends [`Self::block_udp`].
    ///
    /// # Errors
    /// When nothing was blocked.
    pub fn unblock_udp(&self) -> Result<()> {
        self.router_or_error()?.nft(&format!("delete table inet {BLOCK}"))
    }

    /// Reboots the router, as most providers have it: no mapping is left, and the outer IPv4 address is another one. Returns
    /// a host behind it as it is seen from then on.
    ///
    /// # Errors
    /// When the site has no router with an address of the internet.
    pub fn reboot(&self, host: &Host) -> Result<Host> {
        let (router, uplink) = self.behind_or_error()?;
        let (old, new) = (uplink.v4(0), uplink.v4(1));
        router.ip(&[
            format!("addr del {old}/24 dev wan0"),
            format!("addr add {new}/24 dev wan0"),
            format!("route add default via {}", uplink.v4_gateway()),
        ])?;
        router.run(&["conntrack", "-F"])?;
        let seen = |ip: &IpAddr| if *ip == IpAddr::V4(old) { IpAddr::V4(new) } else { *ip };
        Ok(Host { public: host.public.iter().map(seen).collect(), ..host.clone() })
    }

    /// Gives the LAN another IPv6 prefix, as some providers do each day, and the host an address of it in place of the
    /// old one. Returns the host as it is from then on.
    ///
    /// # Errors
    /// When the site has no IPv6.
    pub fn renumber(&self, host: &Host) -> Result<Host> {
        let (router, uplink) = self.behind_or_error()?;
        let (prefix, gateway) = (uplink.other_lan_v6(0), uplink.other_lan_v6(1));
        self.shared.internet().ip(&[format!("route add {prefix}/64 via {}", uplink.v6(0))])?;
        router.ip(&[format!("addr add {gateway}/64 dev lan0 nodad")])?;
        let old = host.addresses.iter().find(|ip| ip.is_ipv6());
        let old = *old.ok_or_else(|| LabError::unexpected(format!("{} has no IPv6 address", host.label)))?;
        let new = IpAddr::V6(uplink.other_lan_v6(9));
        host.namespace.ip(&[
            format!("addr add {new}/64 dev {} nodad", host.uplink),
            format!("route replace ::/0 via {gateway}"),
            format!("addr del {old}/64 dev {}", host.uplink),
        ])?;
        let renumbered = |addresses: &[IpAddr]| {
            addresses.iter().map(|ip| if *ip == old { new } else { *ip }).collect::<Vec<_>>()
        };
        let (addresses, public) = (renumbered(&host.addresses), renumbered(&host.public));
        Ok(Host { addresses, public, ..host.clone() })
    }

    fn behind_or_error(&self) -> Result<(&Namespace, Uplink)> {
        let behind = self.behind.as_ref().map(|(router, uplink)| (router, *uplink));
        behind.ok_or_else(|| LabError::unexpected("a public host has no router"))
    }

    fn router_or_error(&self) -> Result<&Namespace> {
        self.router().ok_or_else(|| LabError::unexpected("a public host has no router"))
    }

    /// Keeps the hosts of the LAN apart, as a guest network does: each reaches the router only.
    ///
    /// # Errors
    /// When the site has no router.
    pub fn isolate(&self) -> Result<()> {
        let router = self.router_or_error()?;
        let ports = router.run(&["ls", "/sys/class/net/lan0/brif"])?;
        for port in ports.split_whitespace() {
            router.run(&["bridge", "link", "set", "dev", port, "isolated", "on"])?;
        }
        Ok(())
    }
}
