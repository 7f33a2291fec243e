//! Which way a packet would leave this host, asked from the kernel with the device's mark.

mod neighbours;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use wireplug_core::Endpoint;

use crate::link::Link;

/// For how long what an interface is need not be asked again. A number is given to another interface only when the one
/// before is gone; that is told at once to whoever calls [`Routes::forget_links`], and soon enough to everybody else.
const REMEMBER_LINK: Duration = Duration::from_secs(1);

/// Route look-ups in this network namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Routes {
    handle: rtnetlink::Handle,
    /// What was asked lately: with many peers at work every check would ask it again.
    links: Arc<Mutex<BTreeMap<u32, (Instant, Link)>>>,
}

/// The way that a packet to one address takes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The address that the kernel would send from.
    pub source: Option<IpAddr>,
    /// The interface that it leaves by.
    pub ifindex: u32,
    /// That interface's name.
    pub interface: String,
    /// The router that it goes to first; `None` on the link itself.
    pub gateway: Option<IpAddr>,
    /// Whether that interface is a tunnel of any kind.
    pub tunnel: bool,
    /// Whether the address is this host's own.
    pub local: bool,
}

/// Why there is no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Netlink itself failed.
    #[error("cannot ask the kernel for routes (netlink): {0}")]
    Netlink(io::Error),
    /// No route, or one that refuses.
    #[error("there is no route to {to}: {source}")]
    Unreachable {
        /// Where to.
        to: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface went away.
    #[error("interface {0} is gone")]
    NoSuchInterface(u32),
}

impl Routes {
    /// Opens a netlink connection; it closes with the last clone.
    ///
    /// # Errors
    /// [`RouteError::Netlink`].
    pub fn new() -> Result<Self, RouteError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(RouteError::Netlink)?;
        tokio::spawn(connection);
        Ok(Self { handle, links: Arc::default() })
    }

    /// How a UDP packet to this address with this mark (0 for none) would leave now, policy routing included.
    ///
    /// # Errors
    /// [`RouteError::Unreachable`] without a route.
    pub async fn lookup(&self, to: IpAddr, fwmark: u32) -> Result<Route, RouteError> {
        self.ask(to, 0, fwmark).await
    }

    /// As [`Routes::lookup`], for an endpoint: a link-local one is on the link that its scope names, whatever other
    /// links have such addresses too.
    ///
    /// # Errors
    /// [`RouteError::Unreachable`] without a route.
    pub async fn lookup_endpoint(&self, to: Endpoint, fwmark: u32) -> Result<Route, RouteError> {
        let scope = match to.addr() {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        self.ask(to.ip(), scope, fwmark).await
    }

    async fn ask(&self, to: IpAddr, scope: u32, fwmark: u32) -> Result<Route, RouteError> {
        let answers = self.handle.route().get(question(to, scope, fwmark)).execute();
        let answer = std::pin::pin!(answers).try_next().await.map_err(|error| failed(error, to))?;
        let unreachable = |code| RouteError::Unreachable { to, source: io::Error::from_raw_os_error(code) };
        let answer = answer.ok_or_else(|| unreachable(libc::ENETUNREACH))?;
        match answer.header.kind {
            RouteType::BlackHole => return Err(unreachable(libc::EINVAL)),
            RouteType::Unreachable => return Err(unreachable(libc::EHOSTUNREACH)),
            RouteType::Prohibit => return Err(unreachable(libc::EACCES)),
            _ => {}
        }
        let (mut source, mut gateway, mut ifindex) = (None, None, None);
        for attribute in &answer.attributes {
            match attribute {
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
                RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
                RouteAttribute::Oif(index) => ifindex = Some(*index),
                _ => {}
            }
        }
        let ifindex = ifindex.ok_or_else(|| unreachable(libc::ENETUNREACH))?;
        let link = self.link(ifindex).await?;
        Ok(Route {
            source,
            ifindex,
            interface: link.name,
            gateway,
            tunnel: link.tunnel,
            local: answer.header.kind == RouteType::Local || link.loopback,
        })
    }

    /// Whether an interface is a tunnel of any kind: WireGuard, tun, an IP tunnel, VXLAN and the like.
    ///
    /// # Errors
    /// [`RouteError::NoSuchInterface`] if there is none of that index.
    pub async fn is_tunnel(&self, ifindex: u32) -> Result<bool, RouteError> {
        Ok(self.link(ifindex).await?.tunnel)
    }

    /// Interfaces may have changed: each is asked for again.
    pub fn forget_links(&self) {
        self.known_links().clear();
    }

    fn known_links(&self) -> MutexGuard<'_, BTreeMap<u32, (Instant, Link)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn link(&self, ifindex: u32) -> Result<Link, RouteError> {
        let now = Instant::now();
        if let Some((asked, link)) = self.known_links().get(&ifindex)
            && now.duration_since(*asked) < REMEMBER_LINK
        {
            return Ok(link.clone());
        }
        let link = self.ask_for_link(ifindex).await?;
        let mut known = self.known_links();
        known.retain(|_, (asked, _)| now.duration_since(*asked) < REMEMBER_LINK);
        known.insert(ifindex, (now, link.clone()));
        Ok(link)
    }

    async fn ask_for_link(&self, ifindex: u32) -> Result<Link, RouteError> {
        let answers = self.handle.link().get().match_index(ifindex).execute();
        match std::pin::pin!(answers).try_next().await {
            Ok(Some(message)) => Ok(message.into()),
            Ok(None) => Err(RouteError::NoSuchInterface(ifindex)),
            Err(error) => match to_io(error) {
                error if error.raw_os_error() == Some(libc::ENODEV) => {
                    Err(RouteError::NoSuchInterface(ifindex))
                }
                error => Err(RouteError::Netlink(error)),
            },
        }
    }
}

/// The protocol number of UDP (RFC 768), by which policy routing may tell WireGuard's packets.
const PROTOCOL_UDP: u8 = 17;

/// The question of `ip route get TO oif SCOPE mark FWMARK ipproto udp`, without what is 0.
fn question(to: IpAddr, scope: u32, fwmark: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits, address) = match to {
        IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(address));
    message.attributes.push(RouteAttribute::IpProto(PROTOCOL_UDP));
    if scope != 0 {
        message.attributes.push(RouteAttribute::Oif(scope));
    }
    if fwmark != 0 {
        message.attributes.push(RouteAttribute::Mark(fwmark));
    }
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn failed(error: rtnetlink::Error, to: IpAddr) -> RouteError {
    match to_io(error) {
        source if source.raw_os_error().is_some() => RouteError::Unreachable { to, source },
        other => RouteError::Netlink(other),
    }
}

/// A netlink error as the system's, where it is one.
pub(crate) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
