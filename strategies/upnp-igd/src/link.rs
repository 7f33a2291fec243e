//! The link that we may speak on, and the places on it. Nothing is ever sent off it, whatever a device says.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};
use wireplug_strategy::mapping::{Ask, Patience};
use wireplug_strategy::{Connection, Context, Letters, Nearby};

/// How long one step (a connection, its question and its answer) may take: a router on the link answers in
/// milliseconds, a slow one in some hundred.
const STEP: Duration = Duration::from_secs(1);
/// The same where everything must be over soon.
const LAST_STEP: Duration = Duration::from_millis(280);

/// The longest URL that is read.
const MAX_URL: usize = 1024;

/// A link, our address on it, and the means to speak there.
#[derive(Clone)]
pub(crate) struct Link {
    context: Context,
    nearby: Nearby,
    /// The length of our subnet's prefix, in bits.
    prefix: u8,
    /// How long one step may take.
    pub(crate) step: Duration,
}

/// A place on a link that speaks HTTP. Made by [`Link::place`] only, so that it is on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: SocketAddr,
    url: Url,
}

/// Why a URL is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUrl {
    /// Not one that can be read.
    #[error("it names a place that is no URL of http")]
    Unreadable,
    /// A name would have to be resolved by somebody, to somewhere.
    #[error("it names a host by its name instead of its address")]
    Name,
    /// Another network's, or our own.
    #[error("it points off the link, to {0}")]
    OffLink(IpAddr),
}

impl Link {
    /// The link of a mapping's router.
    pub(crate) fn new(mut context: Context, ask: &Ask) -> Self {
        let own = context.situation().addresses.into_iter().find(|own| own.ip == ask.site.source);
        let whole = if ask.site.source.is_ipv4() { 32 } else { 128 };
        Self {
            context,
            nearby: Nearby { gateway: ask.site.gateway.clone(), source: ask.site.source, fwmark: ask.fwmark },
            prefix: own.map_or(whole, |own| own.prefix),
            step: if ask.patience == Patience::Last { LAST_STEP } else { STEP },
        }
    }

    /// The router.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.nearby.gateway.ip
    }

    /// Our address.
    pub(crate) fn source(&self) -> IpAddr {
        self.nearby.source
    }

    /// A port of a device, with the link's number where the address alone does not tell the link.
    pub(crate) fn socket_address(&self, ip: IpAddr, port: u16) -> SocketAddr {
        match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.is_multicast() => {
                SocketAddrV6::new(ip, port, 0, self.nearby.gateway.ifindex).into()
            }
            ip => SocketAddr::new(ip, port),
        }
    }

    /// Whether a device of this link may have this address: the router's, or one of our own subnet but for ours.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        if ip == self.gateway() {
            return true;
        }
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        ip != self.source() && (link_local || self.is_in_subnet(ip))
    }

    /// The place of a URL, absolute or relative to another one (RFC 3986 section 5; without a port, 80).
    pub(crate) fn place(&self, base: Option<&Place>, reference: &str) -> Result<Place, BadUrl> {
        if reference.len() > MAX_URL {
            return Err(BadUrl::Unreadable);
        }
        let reference = without_zone(reference.trim());
        let url = match base {
            Some(base) => base.url.join(&reference),
            None => Url::parse(&reference),
        };
        let url = url.map_err(|_| BadUrl::Unreadable)?;
        if url.scheme() != "http" {
            return Err(BadUrl::Unreadable);
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Err(BadUrl::Name),
        };
        if !self.has(ip) {
            return Err(BadUrl::OffLink(ip));
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(BadUrl::Unreadable)?;
        Ok(Place { at: self.socket_address(ip, port), url })
    }

    /// The same port and path at the router itself.
    pub(crate) fn at_gateway(&self, place: &Place) -> Option<Place> {
        let mut url = place.url.clone();
        url.set_ip_host(self.gateway()).ok()?;
        Some(Place { at: self.socket_address(self.gateway(), place.at.port()), url })
    }

    pub(crate) fn letters(&self) -> io::Result<Arc<dyn Letters>> {
        self.context.letters(&self.nearby)
    }

    pub(crate) async fn connect(&self, place: &Place) -> io::Result<Box<dyn Connection>> {
        self.context.connect(&self.nearby, place.at).await
    }

    fn is_in_subnet(&self, ip: IpAddr) -> bool {
        match (ip, self.source()) {
            (IpAddr::V4(ip), IpAddr::V4(own)) => {
                let host = 32u32.saturating_sub(self.prefix.into());
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                (ip.to_bits() ^ own.to_bits()) & mask == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(own)) => {
                let host = 128u32.saturating_sub(self.prefix.into());
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                (ip.to_bits() ^ own.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl Place {
    /// Path and query, for the request's first line.
    pub(crate) fn path(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    /// For the header HOST.
    pub(crate) fn host(&self) -> String {
        match self.at {
            SocketAddr::V4(at) => at.to_string(),
            SocketAddr::V6(at) => format!("[{}]:{}", at.ip(), at.port()),
        }
    }
}

/// A URL whose IPv6 address carries no zone (RFC 6874), which the standard's parser refuses.
fn without_zone(url: &str) -> String {
    let zone = url.find('[').and_then(|open| {
        let close = open + url[open..].find(']')?;
        let percent = open + url[open..close].find('%')?;
        Some((percent, close))
    });
    match zone {
        Some((from, to)) => format!("{}{}", &url[..from], &url[to..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zones_are_dropped() {
        assert_eq!(without_zone("http://[fe80::1%25eth0]:80/x%y"), "http://[fe80::1]:80/x%y");
        assert_eq!(without_zone("http://[fe80::1]/%5d"), "http://[fe80::1]/%5d");
    }

    proptest! {
        #[test]
        fn never_panics(url in "[ -~\u{e9}]{0,60}") {
            without_zone(&url);
        }
    }
}
