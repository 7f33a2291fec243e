//! The `endpoint` of a peer in the config.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use wireplug_core::{Endpoint, NotAnEndpoint};

/// What an `endpoint` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An address and port.
    Address(Endpoint),
    /// A name to resolve, and a port in host order, not 0.
    Name {
        /// The name, as it was written.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why an `endpoint` means nothing, and what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTarget {
    #[error(
        "endpoint {0:?} is not host:port: write a name or address and a port from 1 to 65535, \
         such as \"home.example.org:51820\", \"203.0.113.7:51820\" or \"[2001:db8::7]:51820\""
    )]
    NotHostAndPort(String),
    #[error("endpoint {0:?}: an IPv6 address stands in brackets, such as \"[2001:db8::7]:51820\"")]
    NoBrackets(String),
    #[error("endpoint {text:?}: {why}")]
    NotReachable { text: String, why: NotAnEndpoint },
}

impl Target {
    /// Reads `host:port`, where host is a name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, BadTarget> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return match Endpoint::new(addr) {
                Ok(endpoint) => Ok(Self::Address(endpoint)),
                Err(why) => Err(BadTarget::NotReachable { text: text.to_owned(), why }),
            };
        }
        let bad = || BadTarget::NotHostAndPort(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        if host.parse::<Ipv6Addr>().is_ok() {
            return Err(BadTarget::NoBrackets(text.chars().take(80).collect()));
        }
        let port = parse_port(port).ok_or_else(bad)?;
        if host.parse::<IpAddr>().is_ok() || !is_host_name(host) {
            return Err(bad());
        }
        Ok(Self::Name { host: host.to_owned(), port })
    }
}

/// Digits only: the standard parser would take "+1".
fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// Whether a text can be a host's name: labels of 1 to 63, together at most 253 (RFC 1035 section 2.3.4),
/// of letters, digits, "-", and the "_" that some networks use; the last one not all digits, which would be
/// a mistyped address (RFC 1123 section 2.1).
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let name = |host: &str, port| Ok(Target::Name { host: host.to_owned(), port });
        assert_eq!(Target::parse("home.example.org:51820"), name("home.example.org", 51820));
        assert_eq!(Target::parse("nas:1"), name("nas", 1));
        assert_eq!(Target::parse("my_nas.lan.:65535"), name("my_nas.lan.", 65535));
        for address in ["5.6.7.8:51820", "[2a00::1]:51820", "192.168.1.5:9", "[fe80::1%3]:9"] {
            let addr: SocketAddr = address.parse().unwrap();
            assert_eq!(Target::parse(address), Ok(Target::Address(Endpoint::new(addr).unwrap())));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_accepted() {
        for text in [
            "",
            ":",
            "home.example.org",
            "home.example.org:",
            "home.example.org:0",
            "home.example.org:65536",
            "home.example.org:+1",
            "a..b:1",
            "a b:1",
            "bücher.example:1",
            "[home]:1",
            "300.1.2.3:1",
            "5.6.7:1",
            "http://home.example.org:1",
            &format!("{}:1", "a".repeat(64)),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.to_string().contains("home.example.org:51820"), "{text}: {error}");
        }
        let error = Target::parse("2a00::1:51820").unwrap_err();
        assert!(error.to_string().contains("in brackets"), "{error}");
        let error = Target::parse("127.0.0.1:51820").unwrap_err();
        assert!(error.to_string().contains("not a unicast address"), "{error}");
    }
}
