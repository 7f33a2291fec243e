//! Who a request is from: the TCP peer, or whom a trusted reverse proxy names.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::FORWARDED;

/// What a reverse proxy adds: the addresses that it and those before it were asked by, nearest last.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Reverse proxies whose word is taken.
#[derive(Debug, Clone)]
pub(crate) struct TrustedProxies(Vec<IpAddr>);

impl TrustedProxies {
    pub(crate) fn new(proxies: &[IpAddr]) -> Self {
        Self(proxies.iter().map(IpAddr::to_canonical).collect())
    }

    /// Whether this TCP peer may speak for others.
    pub(crate) fn contains(&self, peer: IpAddr) -> bool {
        self.0.contains(&peer.to_canonical())
    }

    /// Whom a request is from: the nearest address in `X-Forwarded-For` that is not itself a trusted proxy,
    /// if the peer is one; anyone else's headers are not looked at.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let values: Vec<&str> =
            headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut named = values.iter().flat_map(|value| value.split(',')).rev();
        while self.contains(client) {
            match named.next().and_then(parse) {
                Some(before) => client = before,
                None => break,
            }
        }
        client
    }
}

/// Whether a request has come through a proxy, trusted or not.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// An address, which some proxies write with a port or in brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text
        .parse()
        .or_else(|_| text.parse().map(|addr: SocketAddr| addr.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse());
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&'static str]) -> String {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let trusted = TrustedProxies::new(&trusted.iter().map(|text| ip(text)).collect::<Vec<_>>());
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        trusted.client(ip(peer), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_speaks_for_others() {
        let proxy = &["10.0.0.1", "10.0.0.2"][..];
        assert_eq!(client(proxy, "198.51.100.7", &["203.0.113.9"]), "198.51.100.7");
        assert_eq!(client(proxy, "10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(proxy, "::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(proxy, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        let proxy = &["10.0.0.1", "10.0.0.2"][..];
        assert_eq!(client(proxy, "10.0.0.1", &["1.1.1.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(proxy, "10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client(proxy, "10.0.0.1", &["203.0.113.9, junk"]), "10.0.0.1");
    }

    #[test]
    fn ports_and_brackets_are_taken_off() {
        let proxy = &["10.0.0.1"][..];
        assert_eq!(client(proxy, "10.0.0.1", &["203.0.113.9:1234"]), "203.0.113.9");
        assert_eq!(client(proxy, "10.0.0.1", &["[2a00::7]:1234"]), "2a00::7");
        assert_eq!(client(proxy, "10.0.0.1", &["[2a00::7]"]), "2a00::7");
    }
}
