//! Hosts that change their network, and networks that keep their hosts apart.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::Stack;
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

impl Site {
    /// Keeps the hosts of the LAN apart, as a guest network does: each reaches the router only.
    ///
    /// # Errors
    /// When the site has no router.
    pub fn isolate(&self) -> Result<()> {
        let router = self.router().ok_or_else(|| LabError::unexpected("a public host has no LAN"))?;
        let ports = router.run(&["ls", "/sys/class/net/lan0/brif"])?;
        for port in ports.split_whitespace() {
            router.run(&["bridge", "link", "set", "dev", port, "isolated", "on"])?;
        }
        Ok(())
    }
}
