//! Places where hosts are: homes with their routers, and bare public links.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::{OUTER_INDEX, Uplink, lan_v4};
use crate::lab::{Lab, Shared};
use crate::line::Link;
use crate::namespace::Namespace;
use crate::nat::Nat;
use crate::ping::{self, Ping};

/// A customer of the internet: a home with its router, or a bare public link.
#[derive(Debug)]
pub struct Site {
    pub(crate) shared: Arc<Shared>,
    pub(crate) label: String,
    nat: Nat,
    behind: Option<(Namespace, Uplink)>,
    /// Its links to the internet: its router's, or those of its hosts.
    links: Vec<Link>,
    /// How many hosts the LAN has.
    hosts: u8,
}

/// The number of a LAN's first host.
const FIRST_HOST: u8 = 10;

impl Lab {
    /// A customer behind `nat`.
    ///
    /// # Errors
    /// When its routers cannot be set up.
    pub fn site(&self, label: &str, nat: Nat) -> Result<Site> {
        let shared = Arc::clone(self.shared());
        let mut site =
            Site { shared, label: label.to_owned(), nat, behind: None, links: Vec::new(), hosts: 0 };
        if nat.has_router() {
            site.make_router()?;
        }
        Ok(site)
    }
}

impl Site {
    fn make_router(&mut self) -> Result<()> {
        let Self { shared, label, nat, .. } = &*self;
        let router = shared.router(&format!("{label}-router"))?;
        let (uplink, link) = if *nat == Nat::Cgnat {
            let carrier = shared.router(&format!("{label}-carrier"))?;
            let uplink = shared.attach(&carrier, "wan0", nat.stack(), 1)?;
            let net = uplink.number();
            carrier.ip(&[
                format!("link add lan0 index {OUTER_INDEX} type veth peer name wan0 netns {}", router.name()),
                format!("addr add 100.64.{net}.1/24 dev lan0"),
                "link set lan0 up".to_owned(),
            ])?;
            router.ip(&[
                format!("addr add 100.64.{net}.2/24 dev wan0"),
                "link set wan0 up".to_owned(),
                format!("route add default via 100.64.{net}.1"),
            ])?;
            carrier.nft(&nat.ruleset(uplink.v4(0), lan_v4(net, FIRST_HOST)))?;
            (uplink, uplink.link(&carrier, "wan0"))
        } else {
            let uplink = shared.attach(&router, "wan0", nat.stack(), 1)?;
            (uplink, uplink.link(&router, "wan0"))
        };
        let net = uplink.number();
        let mut lan =
            vec!["link add lan0 type bridge mcast_snooping 0".to_owned(), "link set lan0 up".to_owned()];
        if nat.stack().v4() {
            lan.push(format!("addr add {}/24 dev lan0", lan_v4(net, 1)));
        }
        if nat.stack().v6() {
            lan.push(format!("addr add {}/64 dev lan0 nodad", uplink.lan_v6(1)));
        }
        router.ip(&lan)?;
        router.nft(&nat.ruleset(uplink.v4(0), lan_v4(net, FIRST_HOST)))?;
        let gateway = nat.gateway();
        self.behind = Some((router, uplink));
        self.links.push(link);
        gateway.map_or(Ok(()), |strategy| self.miniupnpd()?.speaks_only(strategy))
    }

    /// Adds a host to the site. WireGuard's forwarded or fixed port belongs to the first one.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn host(&mut self) -> Result<Host> {
        let number = self.hosts;
        self.hosts += 1;
        let label = if number == 0 { self.label.clone() } else { format!("{}{}", self.label, number + 1) };
        let namespace = self.shared.namespace(&label)?;
        let (addresses, public) = self.link(&namespace, number)?;
        let shared = Arc::clone(&self.shared);
        let host = Host { shared, namespace, label, nat: self.nat, addresses, public };
        if self.nat == Nat::ClosedHost {
            host.close_firewall()?;
        }
        Ok(host)
    }

    /// Links a namespace that is a host already; returns its own and its public addresses.
    pub(crate) fn plug_in(&mut self, namespace: &Namespace) -> Result<(Vec<IpAddr>, Vec<IpAddr>)> {
        let number = self.hosts;
        self.hosts += 1;
        self.link(namespace, number)
    }

    fn link(&mut self, namespace: &Namespace, number: u8) -> Result<(Vec<IpAddr>, Vec<IpAddr>)> {
        let Some((router, uplink)) = &self.behind else {
            let uplink = self.shared.attach(namespace, "eth0", self.nat.stack(), 1)?;
            self.links.push(uplink.link(namespace, "eth0"));
            let address = vec![IpAddr::V4(uplink.v4(0))];
            return Ok((address.clone(), address));
        };
        let addresses = self.join_lan(namespace, router, *uplink, FIRST_HOST + number)?;
        if self.nat.stack().v6() {
            wait_for_ipv6(namespace, uplink.v6_gateway())?;
        }
        Ok(addresses)
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(crate) fn nat(&self) -> Nat {
        self.nat
    }

    fn join_lan(
        &self,
        namespace: &Namespace,
        router: &Namespace,
        uplink: Uplink,
        number: u8,
    ) -> Result<(Vec<IpAddr>, Vec<IpAddr>)> {
        let net = uplink.number();
        let port = format!("h{number}");
        let index = OUTER_INDEX + u16::from(number);
        router.ip(&[
            format!("link add {port} index {index} type veth peer name eth0 netns {}", namespace.name()),
            format!("link set {port} master lan0"),
            format!("link set {port} up"),
        ])?;
        let (mut addresses, mut public) = (Vec::new(), Vec::new());
        let mut lines = vec!["link set eth0 up".to_owned()];
        if self.nat.stack().v6() {
            let address = uplink.lan_v6(u16::from(number));
            lines.push(format!("addr add {address}/64 dev eth0 nodad"));
            lines.push(format!("route add ::/0 via {}", uplink.lan_v6(1)));
            addresses.push(IpAddr::V6(address));
            public.push(IpAddr::V6(address));
        }
        if self.nat.stack().v4() {
            let address = lan_v4(net, number);
            lines.push(format!("addr add {address}/24 dev eth0"));
            lines.push(format!("route add default via {}", lan_v4(net, 1)));
            addresses.push(address);
            public.push(IpAddr::V4(uplink.v4(0)));
        }
        namespace.ip(&lines)?;
        Ok((addresses, public))
    }

    /// The site's router; none where the host itself is public.
    pub fn router(&self) -> Option<&Namespace> {
        self.behind.as_ref().map(|(router, _)| router)
    }

    /// How long the router keeps the mapping of a UDP exchange: `fresh` after the first packet,
    /// `stream` once both sides have spoken for a while. In seconds.
    ///
    /// # Errors
    /// When the site has no router.
    pub fn mapping_timeouts(&self, fresh: u32, stream: u32) -> Result<()> {
        let router = self.router().ok_or_else(|| LabError::unexpected("a public host has no mappings"))?;
        router.sysctl(&[
            ("net.netfilter.nf_conntrack_udp_timeout", &fresh.to_string()),
            ("net.netfilter.nf_conntrack_udp_timeout_stream", &stream.to_string()),
        ])
    }
}

/// Waits until IPv6 works from a namespace to an address: the kernel takes up to a second to see that a new link is up,
/// and sends nothing over IPv6 before.
pub(crate) fn wait_for_ipv6(namespace: &Namespace, to: Ipv6Addr) -> Result<()> {
    let ping = Ping { to: to.into(), count: 1, interval: Duration::ZERO, linger: Duration::from_millis(50) };
    wait_for("a new link to carry IPv6", Duration::from_secs(5), || {
        Ok((!ping::once(namespace, ping)?.answers.is_empty()).then_some(()))
    })
}
