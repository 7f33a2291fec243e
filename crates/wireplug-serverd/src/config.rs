//! `serverd.toml`: every key is optional, every mistake names its file, line, column and what is accepted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod relay;
mod value;

pub use relay::{AccessHash, RelayConfig, WeakToken};

/// Where the server looks for its configuration when it is told no other place.
pub const DEFAULT_PATH: &str = "/etc/wireplug/serverd.toml";

/// The server's configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where HTTPS and WebSocket are served.
    #[serde(deserialize_with = "value::socket_address")]
    pub listen: SocketAddr,
    /// Where STUN is answered; two addresses of one family give full NAT detection.
    #[serde(deserialize_with = "value::socket_addresses")]
    pub udp: Vec<SocketAddr>,
    /// The addresses that clients see, where the server cannot see them itself (1:1 NAT, a container):
    /// per family, the first belongs to the first of `udp`, the second to the second.
    #[serde(deserialize_with = "value::addresses")]
    pub public: Vec<IpAddr>,
    /// Where the server's own certificate is kept over restarts.
    pub state_dir: PathBuf,
    /// A certificate chain in PEM, instead of the server's own certificate.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`, in PEM.
    pub key: Option<PathBuf>,
    /// Whether `listen` speaks TLS; `false` only behind a reverse proxy that does.
    pub tls: bool,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "value::addresses")]
    pub trusted_proxies: Vec<IpAddr>,
    /// The relay.
    pub relay: RelayConfig,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that is not known.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake, from 1, in characters.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Two settings do not fit together.
    #[error("{path}: {message}")]
    Conflict {
        /// The file.
        path: PathBuf,
        /// What does not fit, and what to change.
        message: &'static str,
    },
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        Self {
            listen: any(443),
            udp: vec![any(3478)], // RFC 8489 section 18.6: the port of STUN over UDP
            public: Vec::new(),
            state_dir: "/var/lib/wireplug-serverd".into(),
            certificate: None,
            key: None,
            tls: true,
            trusted_proxies: Vec::new(),
            relay: RelayConfig::default(),
        }
    }
}

impl Config {
    /// Reads `path`; without one, [`DEFAULT_PATH`] if that exists, else the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the place in it where there is one.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, must_exist) = match path {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_PATH), false),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Parses the text of a configuration file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            ConfigError::Parse { path: path.to_owned(), line, column, message: error.message().to_owned() }
        })?;
        match config.conflict() {
            Some(message) => Err(ConfigError::Conflict { path: path.to_owned(), message }),
            None => Ok(config),
        }
    }

    fn conflict(&self) -> Option<&'static str> {
        let count = |v4: bool| {
            let ours = self.udp.iter().filter(|addr| addr.is_ipv4() == v4 || is_dual_stack(**addr)).count();
            let public = self.public.iter().filter(|ip| ip.is_ipv4() == v4).count();
            public > ours
        };
        if self.certificate.is_some() != self.key.is_some() {
            return Some("certificate and key belong together: set both or neither");
        }
        if self.certificate.is_some() && !self.tls {
            return Some("tls = false serves no certificate: remove certificate and key, or tls = false");
        }
        if self.udp.is_empty() {
            return Some("udp is empty: name one address or two, such as udp = [\"[::]:3478\"]");
        }
        if self.udp.len() > MAX_UDP {
            return Some("udp names more than 8 addresses: two of each family are enough");
        }
        if count(true) || count(false) {
            return Some("public names more addresses of a family than udp does: list each address in both");
        }
        if self.relay.enabled && self.udp.iter().any(|addr| self.relay.ports.contains(&addr.port())) {
            return Some("relay.ports contains a port of udp: choose ports that nothing else uses");
        }
        self.relay.conflict()
    }

    /// The addresses that the relay forwards on: its own, else those of `udp`, each once.
    pub fn relay_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        let udp = self.udp.iter().map(SocketAddr::ip);
        let own = self.relay.addresses.iter().copied();
        for ip in if self.relay.addresses.is_empty() { udp.collect() } else { own.collect::<Vec<_>>() } {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        addresses
    }
}

/// The most UDP addresses: each costs up to three sockets.
const MAX_UDP: usize = 8;

/// Whether a socket bound to this address serves both families.
pub(crate) fn is_dual_stack(addr: SocketAddr) -> bool {
    addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("serverd.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.listen.to_string(), "[::]:443");
        assert_eq!(config.udp[0].to_string(), "[::]:3478");
    }

    #[test]
    fn what_the_manual_shows_is_the_defaults() {
        let manual = include_str!("../../../docs/OPERATING.md");
        let begin = manual.find("with its defaults:").unwrap();
        let lines =
            manual[begin..].lines().skip(1).take_while(|line| line.is_empty() || line.starts_with("    "));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        assert!(text.contains("total-bandwidth"), "{text}");
        assert_eq!(parse(&text).unwrap(), Config::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "listen = \"127.0.0.1:8443\"\nudp = [\"192.0.2.1:3478\", \"192.0.2.2:3478\"]\n\
             public = [\"203.0.113.7\"]\nstate-dir = \"/s\"\ncertificate = \"/c\"\nkey = \"/k\"\n\
             trusted-proxies = [\"10.0.0.1\"]\n[relay]\nenabled = false\nports = \"4000-4001\"\n",
        )
        .unwrap();
        assert_eq!(config.udp.len(), 2);
        assert_eq!(
            config.relay,
            RelayConfig { enabled: false, ports: 4000..=4001, ..RelayConfig::default() }
        );
        assert_eq!(config.key.as_deref(), Some(Path::new("/k")));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
        let error = parse("listen = \"[::]:443\"\n  lisen = 1\n").unwrap_err();
        assert!(error.starts_with("serverd.toml:2:3: "), "{error}");
        assert!(error.contains("`lisen`") && error.contains("`state-dir`"), "{error}");
        let error = parse("[relay]\nport = 1\n").unwrap_err();
        assert!(error.starts_with("serverd.toml:2:1: ") && error.contains("`ports`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place_and_an_example() {
        for (text, place, hint) in [
            ("listen = 443", ":1:10: ", "\"[::]:443\""),
            ("listen = \"example.org\"", ":1:10: ", "\"[::]:443\""),
            ("\nudp = \"[::]:3478\"", ":2:7: ", "list"),
            ("udp = [\"x\"]", ":1:8: ", "\"[::]:3478\""),
            ("public = [\"1.2.3\"]", ":1:11: ", "\"203.0.113.7\""),
            ("tls = \"no\"", ":1:7: ", "a boolean"),
            ("[relay]\nports = \"9-1\"", ":2:9: ", "\"3479-3510\""),
            ("listen = ", ":1:", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place) && error.contains(hint), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_relays_table_is_read() {
        let token = "0123456789abcdef";
        let config = parse(&format!(
            "[relay]\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\nbandwidth = \"1.5 Mbit/s\"\n\
             total-bandwidth = \"2Gbit/s\"\nallocations = 9\nallocations-per-address = 3\nidle = \"2m\"\n\
             tokens = [\"{token}\"]\ntokens-file = \"/t\"\n"
        ))
        .unwrap();
        let relay = &config.relay;
        assert_eq!((relay.bandwidth, relay.total_bandwidth), (Some(1_500_000), Some(2_000_000_000)));
        assert_eq!((relay.allocations, relay.allocations_per_address), (9, 3));
        assert_eq!(relay.idle, std::time::Duration::from_secs(120));
        assert_eq!(relay.tokens, Some(vec![token.parse().unwrap()]));
        assert_eq!(config.relay_addresses(), relay.addresses);
        assert!(!format!("{config:?}").contains(token), "a token is nobody's to read");
        assert_eq!(parse("[relay]\nbandwidth = \"none\"").unwrap().relay.bandwidth, None);
        let addresses = parse("udp = [\"192.0.2.1:1\", \"192.0.2.1:2\"]").unwrap().relay_addresses();
        assert_eq!(addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()], "those of udp, each once");
    }

    #[test]
    fn a_wrong_value_of_the_relay_is_told_with_its_place_and_an_example() {
        for (text, column, hint) in [
            ("bandwidth = \"fast\"", 13, "\"20 Mbit/s\""),
            ("bandwidth = 20", 13, "\"20 Mbit/s\""),
            ("bandwidth = \"20 MB/s\"", 13, "\"20 Mbit/s\""),
            ("bandwidth = \"9 bit/s\"", 13, "\"64 kbit/s\""),
            ("bandwidth = \"99999999999 Gbit/s\"", 13, "Gbit/s"),
            ("total-bandwidth = \"1,5 Gbit/s\"", 19, "\"1.5 Gbit/s\""),
            ("idle = \"5 minutes\"", 8, "\"5m\""),
            ("idle = \"1s\"", 8, "\"5s\" to \"1d\""),
            ("allocations = 0", 15, "a number from 1"),
            ("allocations = \"many\"", 15, "a number from 1"),
            ("addresses = [\"x\"]", 14, "\"203.0.113.7\""),
            ("tokens = \"x\"", 10, "sequence"),
            ("tokens = [\"secret\"]", 11, "openssl rand"),
        ] {
            let error = parse(&format!("[relay]\n{text}\n")).unwrap_err();
            let place = format!(":2:{column}: ");
            assert!(error.contains(&place) && error.contains(hint), "{text:?}: {error}");
            assert!(!error.contains("secret"), "a message may end in a log: {error}");
        }
    }

    #[test]
    fn settings_that_contradict_are_refused() {
        for text in [
            "certificate = \"c\"",
            "tls = false\ncertificate = \"c\"\nkey = \"k\"",
            "udp = []",
            "public = [\"192.0.2.1\", \"192.0.2.2\"]",
            "udp = [\"192.0.2.1:1\"]\npublic = [\"2001:db8::1\"]",
            "[relay]\nports = \"3478\"",
            "[relay]\nports = \"10000-20000\"",
            "[relay]\ntokens = []",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("public = [\"192.0.2.1\", \"2001:db8::1\"]").is_ok());
    }
}
