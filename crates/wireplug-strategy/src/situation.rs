//! The world as a strategy sees it.

use std::net::{IpAddr, SocketAddr};

use wireplug_core::{Endpoint, PublicKey, StrategyName};

use crate::relay::Relaying;

/// Everything that strategies may base their work on, for one interface. Cheap to compare; a change is
/// announced by [`crate::Context::changed`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Situation {
    /// Rises whenever the local network changes; what was found for a lower one is void.
    pub generation: u32,
    /// The WireGuard interface, such as `wg0`.
    pub interface: String,
    /// The interface's own public key, by which peers know us; `None` while it has none.
    pub public_key: Option<PublicKey>,
    /// WireGuard's UDP port, host order; 0 while the device has none, and then there is nothing to find.
    pub listen_port: u16,
    /// The mark of the device's own packets, 0 for none. A socket that is to go where WireGuard's packets
    /// go carries it, or a full tunnel's routing swallows what it sends.
    pub fwmark: u32,
    /// This host's addresses on links that are up and are no tunnels.
    pub addresses: Vec<HostAddress>,
    /// The routers by which WireGuard's packets leave, at most one for each family.
    pub gateways: Vec<Gateway>,
    /// Servers that answer STUN, one entry for each server and family.
    pub servers: Vec<StunServer>,
    /// The interface's peers.
    pub peers: Vec<PeerSituation>,
    /// Whether some peer is being worked on. When it is false, send nothing and keep nothing alive.
    pub wanted: bool,
    /// Whether punching cannot be enough for some peer, so that a router should be asked for a mapping.
    pub mapping_wanted: bool,
    /// The mapped candidate that is in use, once the server has proven one: the strategies that have others
    /// release them.
    pub mapped: Option<Mapped>,
    /// The mapped candidates that the server found closed: the router says that it maps, but a stranger's packet did
    /// not come in.
    pub closed: Vec<Mapped>,
    /// Relays, and for whom they are wanted.
    pub relaying: Relaying,
}

/// A router by which WireGuard's packets leave, as the route look-up says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The router's address on the link.
    pub ip: IpAddr,
    /// Our own address towards it, which a mapping is made for.
    pub source: IpAddr,
    /// The link's number.
    pub ifindex: u32,
    /// The link's name, such as `eth0`.
    pub interface: String,
}

/// A mapping that the server has judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Whose.
    pub strategy: StrategyName,
    /// The router's outer address and port.
    pub endpoint: Endpoint,
}

/// One address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
    /// The link's number.
    pub ifindex: u32,
    /// The link's name, such as `eth0`.
    pub interface: String,
    /// A privacy address (RFC 8981).
    pub temporary: bool,
    /// No longer used for new connections (RFC 4862 section 5.5.4).
    pub deprecated: bool,
}

/// One server's STUN addresses in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Where to ask first.
    pub primary: SocketAddr,
    /// Where to ask for the comparison, if the server has such a place: another address, or at least
    /// another port.
    pub secondary: Option<SocketAddr>,
}

/// What a strategy may know of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSituation {
    /// Whom.
    pub public_key: PublicKey,
    /// The `endpoint` of the config: `host:port`, where host is a name or an address.
    pub endpoint: Option<String>,
}
