//! Where a host under test stands: what it sees there, and how the internet answers it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::gateway::FakeGateway;
use crate::context::Resolved;
use crate::relay::{LegStanding, RelayStanding, Relaying};
use crate::situation::{HostAddress, Situation};

/// A place that a host can be in. Plain data: tests change what they like.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// What strategies see.
    pub situation: Situation,
    /// The IPv4 NAT on the way to every STUN server.
    pub nat: Nat,
    /// The same for IPv6, where most networks have none.
    pub nat6: Nat,
    /// How long every answer takes.
    pub latency: Duration,
    /// STUN servers that do not follow `latency`.
    pub stun: BTreeMap<SocketAddr, Answers>,
    /// What names resolve to, or why they do not; other names do not exist.
    pub names: BTreeMap<String, Result<Resolved, String>>,
    /// Whether no request of any kind ever ends, well or badly.
    pub hangs: bool,
    /// Routers by their addresses on the link; at other addresses nobody answers. Handles: clones of a place share
    /// them.
    pub routers: BTreeMap<IpAddr, FakeGateway>,
    /// What strategies have on disk, by their names.
    pub memory: BTreeMap<String, Vec<u8>>,
    /// Whether the disk takes nothing.
    pub forgets: bool,
    /// The relays of servers by their URLs; other servers never answer.
    pub relays: BTreeMap<String, FakeRelay>,
}

/// How one server's relay answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeRelay {
    /// What the server says to everybody who asks for a place.
    pub standing: RelayStanding,
    /// What every relay port says as soon as it is suggested.
    pub ports: LegStanding,
}

/// What a NAT does to the WireGuard port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nat {
    /// There is none: servers see the first address of the host in their family.
    #[default]
    None,
    /// Servers all see this.
    Fixed(SocketAddr),
    /// Each server address and port sees another port, counting up from this one.
    DestinationDependent(SocketAddr),
    /// UDP is dropped.
    Silent,
}

/// How one STUN server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// After this time.
    After(Duration),
    /// Not at all: the request times out.
    Never,
    /// Not at all, and the request never ends.
    Hangs,
}

impl Place {
    /// A place where strategies see this, every answer takes 20 ms, and there is no NAT.
    pub fn new(situation: Situation) -> Self {
        Self { situation, latency: Duration::from_millis(20), ..Self::default() }
    }

    /// The same place behind an IPv4 NAT.
    #[must_use]
    pub fn behind(mut self, nat: Nat) -> Self {
        self.nat = nat;
        self
    }

    /// The same place with a name that resolves to these addresses for so long.
    #[must_use]
    pub fn with_name(mut self, name: &str, addresses: &[IpAddr], ttl: Duration) -> Self {
        self.names.insert(name.to_owned(), Ok(Resolved { addresses: addresses.to_vec(), ttl }));
        self
    }

    /// The same place with a router at this address of the link.
    #[must_use]
    pub fn with_router(mut self, at: IpAddr, router: &FakeGateway) -> Self {
        self.routers.insert(at, router.clone());
        self
    }

    /// What is left of this place when the interface is down, in the same generation: no port, no address,
    /// no router, no server, no peer.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.situation.listen_port = 0;
        self.situation.addresses.clear();
        self.situation.gateways.clear();
        self.situation.servers.clear();
        self.situation.peers.clear();
        self.situation.relaying = Relaying::default();
        self
    }

    /// The own address that a server without NAT would see.
    pub(super) fn own(&self, like: IpAddr) -> Option<SocketAddr> {
        let own = self.situation.addresses.iter().find(|own| own.ip.is_ipv4() == like.is_ipv4())?;
        Some(SocketAddr::new(own.ip, self.situation.listen_port))
    }
}

/// A stable address of the host on its link `eth0`.
pub fn address(ip: IpAddr, prefix: u8) -> HostAddress {
    HostAddress { ip, prefix, ifindex: 2, interface: "eth0".to_owned(), temporary: false, deprecated: false }
}
