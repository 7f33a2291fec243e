//! A real router daemon: Debian's miniupnpd, which speaks UPnP IGD, NAT-PMP and PCP.
//!
//! Which of the three a test is about, either the router says, which then refuses the others, or the config of the
//! peer's daemon, which then runs one strategy only.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::lab::Shared;
use crate::namespace::Namespace;
use crate::nat::WIREGUARD_PORT;
use crate::process::Process;
use crate::site::Site;

/// The chains that miniupnpd wants to find and fills. The router's own rules accept what it translates, and jump to
/// its pinholes.
const TABLES: &str = "table inet filter {
    chain upnp_forward {}
}
add rule inet filter forward jump upnp_forward
table inet miniupnpd {
    chain prerouting {
        type nat hook prerouting priority -100; policy accept
        jump upnp_prerouting
    }
    chain postrouting {
        type nat hook postrouting priority 90; policy accept
        jump upnp_postrouting
    }
    chain upnp_prerouting {}
    chain upnp_postrouting {}
}\n";

/// A router that hosts on its LAN may ask for mappings.
#[derive(Debug, Clone)]
pub struct Miniupnpd {
    shared: Arc<Shared>,
    name: String,
    router: Namespace,
    process: Process,
}

impl Site {
    /// Starts miniupnpd on the site's router.
    ///
    /// # Errors
    /// When the site has no router, or miniupnpd does not start: is `miniupnpd-nftables` installed?
    pub fn miniupnpd(&self) -> Result<Miniupnpd> {
        let router =
            self.router().ok_or_else(|| LabError::unexpected("a public host has no router"))?.clone();
        router.nft(TABLES)?;
        let (shared, name) = (Arc::clone(&self.shared), format!("{}-miniupnpd", self.label));
        let process = start(&shared, &name, &router)?;
        Ok(Miniupnpd { shared, name, router, process })
    }

    /// The rules of the mappings that stand on the site's router, as nft shows them.
    ///
    /// # Errors
    /// When the site has no router, or miniupnpd never ran there.
    pub fn mappings(&self) -> Result<Vec<String>> {
        mappings(self.router().ok_or_else(|| LabError::unexpected("a public host has no router"))?)
    }
}

fn mappings(router: &Namespace) -> Result<Vec<String>> {
    let text = router.run(&["nft", "list", "chain", "inet", "miniupnpd", "upnp_prerouting"])?;
    Ok(text.lines().filter(|line| line.contains("dnat")).map(|line| line.trim().to_owned()).collect())
}

fn start(shared: &Shared, name: &str, router: &Namespace) -> Result<Process> {
    let pid_file = shared.file(&format!("{name}.pid")).display().to_string();
    // The description of UPnP's device is served on a port of its own; lease 0 would stand for ever.
    let config = "ext_ifname=wan0\nlistening_ip=lan0\nport=5000\n\
            enable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n\
            min_lifetime=60\nmax_lifetime=86400\nclean_ruleset_interval=0\n\
            uuid=6d8d1e57-1c0c-4d0f-9a4e-5f9b6a4c9d10\nserial=1\nmodel_number=1\n\
            upnp_table_name=filter\nupnp_nat_table_name=miniupnpd\n\
            upnp_forward_chain=upnp_forward\nupnp_nat_chain=upnp_prerouting\n\
            upnp_nat_postrouting_chain=upnp_postrouting\n\
            allow 1024-65535 192.168.0.0/16 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n";
    let config = shared.write(&format!("{name}.conf"), config)?.display().to_string();
    let args = ["-d", "-f", &config, "-P", &pid_file];
    let process = shared.spawn(router, name, Path::new("miniupnpd"), &args, &[])?;
    wait_for("miniupnpd to listen", Duration::from_secs(5), || {
        if let Some(status) = process.exited() {
            return Err(LabError::unexpected(format!("miniupnpd ended with {status}: {}", process.log())));
        }
        // NAT-PMP and PCP: port 5351.
        let listens = router.run(&["cat", "/proc/net/udp", "/proc/net/udp6"])?.contains(":14E7 ");
        Ok(listens.then_some(()))
    })?;
    Ok(process)
}

impl Miniupnpd {
    /// As [`Site::mappings`].
    ///
    /// # Errors
    /// When nft fails.
    pub fn rules(&self) -> Result<Vec<String>> {
        mappings(&self.router)
    }

    /// Waits until this many mappings stand.
    ///
    /// # Errors
    /// When they do not in `limit`.
    pub fn wait_rules(&self, count: usize, limit: Duration) -> Result<Vec<String>> {
        wait_for("mappings on the router", limit, || {
            let rules = self.rules()?;
            Ok((rules.len() == count).then_some(rules))
        })
    }

    /// Whether there is a pinhole for WireGuard at this address.
    ///
    /// # Errors
    /// When nft fails.
    pub fn has_pinhole(&self, address: Ipv6Addr) -> Result<bool> {
        let text = self.router.run(&["nft", "list", "chain", "inet", "filter", "upnp_forward"])?;
        // nft shows what miniupnpd compares there as a number.
        let (address, port) = (format!("{:#x} ", u128::from(address)), format!(" dport {WIREGUARD_PORT} "));
        Ok(text.lines().any(|line| line.contains(&address) && line.contains(&port)))
    }

    /// Refuses all protocols but this strategy's, as a router does that does not have them.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn speaks_only(&self, strategy: &str) -> Result<()> {
        // The first byte is the version: 0 for NAT-PMP (RFC 6886 section 3.1), 2 for PCP (RFC 6887 section 7.1).
        let refused = match strategy {
            "upnp-igd" => "udp dport 5351 reject",
            "nat-pmp" => "udp dport 1900 reject; udp dport 5351 @th,64,8 2 reject",
            "pcp" => "udp dport 1900 reject; udp dport 5351 @th,64,8 0 reject",
            other => return Err(LabError::unexpected(format!("miniupnpd does not know {other}"))),
        };
        self.router.nft(&format!(
            "table inet lacks {{ chain in {{ type filter hook input priority -10; {refused}; }}; }}"
        ))
    }

    /// Ends miniupnpd and starts it anew, with an empty table and new seconds, as after a reboot of the router.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.process = start(&self.shared, &self.name, &self.router)?;
        Ok(())
    }

    /// Ends miniupnpd; its mappings go.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        self.process.terminate();
        self.process.wait(Duration::from_secs(5))?;
        for (table, chain) in
            [("filter", "upnp_forward"), ("miniupnpd", "upnp_prerouting"), ("miniupnpd", "upnp_postrouting")]
        {
            self.router.run(&["nft", "flush", "chain", "inet", table, chain])?;
        }
        Ok(())
    }
}
