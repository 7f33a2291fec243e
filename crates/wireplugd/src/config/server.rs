//! Where a rendezvous server is, and which key it must show.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

use super::pin::{BadPin, Pin};

/// The port of `wss://` where the URL names none (RFC 6455 section 3).
const DEFAULT_PORT: u16 = 443;

/// One `[[server]]` of the config.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerConfig {
    /// Where it is.
    pub url: ServerUrl,
    /// The key that it must show; without a pin its certificate must be signed for the web.
    pub pin: Option<Pin>,
}

/// A `wss://host[:port][/path]`. There is no `ws://`: what the peers say is sealed, but who asks for which
/// topic is not, and a server behind a reverse proxy has the proxy's certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    host: ServerName<'static>,
    port: u16,
    path: String,
}

/// What is wrong with a server as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadServer {
    /// Not a URL of this kind.
    #[error("{url:?} is not the URL of a server: {why}; expected wss://HOST[:PORT][/PATH]")]
    Url {
        /// What was written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a pin.
    #[error(transparent)]
    Pin(#[from] BadPin),
}

impl ServerConfig {
    /// A server from its URL and pin as people write them.
    ///
    /// # Errors
    /// [`BadServer`] says what is accepted.
    pub fn parse(url: &str, pin: Option<&str>) -> Result<Self, BadServer> {
        Ok(Self { url: url.parse()?, pin: pin.map(str::parse).transpose()? })
    }
}

impl ServerUrl {
    /// The name or address that the certificate must be for.
    pub fn host(&self) -> &ServerName<'static> {
        &self.host
    }

    /// The URL of the server's relay: `relay` beside the URL's own last part.
    pub fn relay(&self) -> String {
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        Self { path: format!("{directory}{}", wireplug_proto::relay::PATH), ..self.clone() }.to_string()
    }

    /// The TCP port, in host order, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerUrl {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| BadServer::Url { url: text.chars().take(200).collect(), why };
        let rest = text.strip_prefix("wss://").ok_or_else(|| bad("it does not begin with wss://"))?;
        if !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("it has a space or a letter outside of ASCII"));
        }
        if rest.contains(['@', '?', '#']) {
            return Err(bad("a user, a query or a fragment has no meaning here"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = split_port(authority).ok_or_else(|| bad("its host or port cannot be read"))?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(bad("its port is not a number from 1 to 65535")),
            },
        };
        let host =
            ServerName::try_from(host).map_err(|_| bad("its host is neither a name nor an address"))?;
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// Splits `host[:port]`, where an IPv6 address stands in brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if after.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(after.strip_prefix(':')?)))
        };
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.to_str() {
            host if host.contains(':') => write!(f, "wss://[{host}]")?,
            host => write!(f, "wss://{host}")?,
        }
        if self.port != DEFAULT_PORT {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written_back() {
        for (text, port, shown) in [
            ("wss://wireplug.org", 443, "wss://wireplug.org/"),
            ("wss://a.example:8443/x/y", 8443, "wss://a.example:8443/x/y"),
            ("wss://203.0.113.7:1", 1, "wss://203.0.113.7:1/"),
            ("wss://[2001:db8::7]:444", 444, "wss://[2001:db8::7]:444/"),
            ("wss://[2001:db8::7]/", 443, "wss://[2001:db8::7]/"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.port(), url.to_string().as_str()), (port, shown));
            assert_eq!(url.to_string().parse(), Ok(url));
        }
    }

    #[test]
    fn the_relay_is_beside_the_rendezvous() {
        for (url, relay) in [
            ("wss://a.example", "wss://a.example/relay"),
            ("wss://a.example:8443/v1", "wss://a.example:8443/relay"),
            ("wss://[2001:db8::7]/x/", "wss://[2001:db8::7]/x/relay"),
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().relay(), relay);
        }
    }

    #[test]
    fn a_bad_url_says_what_is_expected() {
        for (text, why) in [
            ("ws://a.example", "does not begin with wss://"),
            ("a.example", "does not begin with wss://"),
            ("wss://", "neither a name nor an address"),
            ("wss://a.example:0", "1 to 65535"),
            ("wss://a.example:70000", "1 to 65535"),
            ("wss://2001:db8::7", "cannot be read"),
            ("wss://[::g]", "cannot be read"),
            ("wss://me@a.example", "a user"),
            ("wss://a b", "space"),
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("expected wss://HOST[:PORT]"), "{text}: {error}");
        }
    }
}
