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
    pub(crate) behind: Option<(Namespace, Uplink)>,
    /// Its links to the internet: its router's, or those of its hosts.
    links: Vec<Link>,
    /// The numbers of the hosts that are or were here, by their namespaces: who comes back has the same address as before.
    hosts: Vec<String>,
}

/// What a host's link is called when it is set up.
const UPLINK: &str = "eth0";

/// A link that is laid, but not up yet.
pub(crate) struct Plug {
    /// For `ip` in the host's namespace: they bring it up.
    pub(crate) lines: Vec<String>,
    /// The host's own addresses there, the preferred family first.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those under which the internet will see it.
    pub(crate) public: Vec<IpAddr>,
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
            Site { shared, label: label.to_owned(), nat, behind: None, links: Vec::new(), hosts: Vec::new() };
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
        let number = self.hosts.len();
        let label = if number == 0 { self.label.clone() } else { format!("{}{}", self.label, number + 1) };
        let namespace = self.shared.namespace(&label)?;
        let Plug { lines, addresses, public } = self.plug(&namespace, UPLINK)?;
        namespace.ip(&lines)?;
        self.wait_for_link(&namespace)?;
        let (shared, uplink) = (Arc::clone(&self.shared), UPLINK.to_owned());
        let host = Host { shared, namespace, label, uplink, nat: self.nat, addresses, public };
        if self.nat == Nat::ClosedHost {
            host.close_firewall()?;
        }
        Ok(host)
    }

    /// Lays a link to a namespace that is a host already, under this name there.
    pub(crate) fn plug(&mut self, namespace: &Namespace, device: &str) -> Result<Plug> {
        let known = self.hosts.iter().position(|name| name == namespace.name());
        let number = known.unwrap_or_else(|| {
            self.hosts.push(namespace.name().to_owned());
            self.hosts.len() - 1
        });
        let number = u8::try_from(number).map_err(|_| LabError::unexpected("too many hosts for one LAN"))?;
        self.lay(namespace, device, number)
    }

    fn lay(&mut self, namespace: &Namespace, device: &str, number: u8) -> Result<Plug> {
        let Some((router, uplink)) = &self.behind else {
            let (uplink, lines) = self.shared.lay(namespace, device, self.nat.stack(), 1)?;
            self.links.push(uplink.link(namespace, device));
            let address = vec![IpAddr::V4(uplink.v4(0))];
            return Ok(Plug { lines, addresses: address.clone(), public: address });
        };
        self.join_lan(namespace, device, router, *uplink, FIRST_HOST + number)
    }

    /// Waits until a link of this site carries all that it should.
    pub(crate) fn wait_for_link(&self, namespace: &Namespace) -> Result<()> {
        match &self.behind {
            Some((_, uplink)) if self.nat.stack().v6() => wait_for_ipv6(namespace, uplink.v6_gateway()),
            Some(_) | None => Ok(()),
        }
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
        device: &str,
        router: &Namespace,
        uplink: Uplink,
        number: u8,
    ) -> Result<Plug> {
        let net = uplink.number();
        let port = format!("h{number}");
        let index = OUTER_INDEX + u16::from(number);
        router.ip(&[
            format!("link add {port} index {index} type veth peer name {device} netns {}", namespace.name()),
            format!("link set {port} master lan0"),
            format!("link set {port} up"),
        ])?;
        let (mut addresses, mut public) = (Vec::new(), Vec::new());
        let mut lines = vec![format!("link set {device} up")];
        if self.nat.stack().v6() {
            let address = uplink.lan_v6(u16::from(number));
            lines.push(format!("addr add {address}/64 dev {device} nodad"));
            lines.push(format!("route add ::/0 via {}", uplink.lan_v6(1)));
            addresses.push(IpAddr::V6(address));
            public.push(IpAddr::V6(address));
        }
        if self.nat.stack().v4() {
            let address = lan_v4(net, number);
            lines.push(format!("addr add {address}/24 dev {device}"));
            lines.push(format!("route add default via {}", lan_v4(net, 1)));
            addresses.push(address);
            public.push(IpAddr::V4(uplink.v4(0)));
        }
        Ok(Plug { lines, addresses, public })
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
