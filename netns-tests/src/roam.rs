//! Hosts that change their network, and networks that keep their hosts apart.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::Stack;
use crate::namespace::Namespace;
use crate::nat::Nat;
use crate::site::Site;

impl Host {
    /// Unplugs the host from its site and gives it a public address of its own. The same host, from now on as one
    /// behind [`Nat::None`].
    ///
    /// # Errors
    /// When the links cannot be changed.
    pub fn roam_to_internet(&self) -> Result<Self> {
        self.namespace.ip(&["link del eth0"])?;
        let uplink = self.shared.attach(&self.namespace, "eth0", Stack::V4, 1)?;
        let address = vec![IpAddr::V4(uplink.v4(0))];
        Ok(Self { nat: Nat::None, addresses: address.clone(), public: address, ..self.clone() })
    }

    /// Unplugs the host from its site and plugs it in at another one. The same host, from now on there.
    ///
    /// # Errors
    /// When the links cannot be changed.
    pub fn roam_to(&self, site: &mut Site) -> Result<Self> {
        self.namespace.ip(&["link del eth0"])?;
        let (addresses, public) = site.plug_in(&self.namespace)?;
        Ok(Self { nat: site.nat(), addresses, public, ..self.clone() })
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
