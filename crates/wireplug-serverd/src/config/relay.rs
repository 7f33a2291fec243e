//! The `[relay]` table of `serverd.toml`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use wireplug_proto::rendezvous::AccessToken;

use super::value;

/// The most ports: each costs a socket for every address and thread.
const MAX_PORTS: usize = 1024;
/// The most addresses: as many as clients are told of.
const MAX_ADDRESSES: usize = 8;
/// The shortest token: what a person would invent can be guessed over the network, 16 random characters not.
const MIN_TOKEN: usize = 16;

/// How packets are relayed for pairs that cannot meet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Whether packets of pairs that cannot meet are to be forwarded.
    pub enabled: bool,
    /// The UDP ports to forward on, both ends included. A client's WireGuard port uses another one for each of
    /// its pairs, so this is how many pairs of one interface can be relayed by UDP at a time.
    #[serde(deserialize_with = "value::port_range")]
    pub ports: RangeInclusive<u16>,
    /// The addresses to forward on; empty: those of `udp`.
    #[serde(deserialize_with = "value::addresses")]
    pub addresses: Vec<IpAddr>,
    /// Bits of UDP payload a second that one allocation may forward, both directions together; `None`: as many
    /// as there are.
    #[serde(deserialize_with = "value::bandwidth")]
    pub bandwidth: Option<u64>,
    /// The same for all allocations together.
    #[serde(deserialize_with = "value::bandwidth")]
    pub total_bandwidth: Option<u64>,
    /// The most allocations.
    #[serde(deserialize_with = "value::count")]
    pub allocations: usize,
    /// The most sides of allocations that the clients of one address may hold.
    #[serde(deserialize_with = "value::count")]
    pub allocations_per_address: usize,
    /// How long a binding lasts from which nothing is heard. Whole seconds.
    #[serde(deserialize_with = "value::idle")]
    pub idle: Duration,
    /// Who may use the relay; neither this nor `tokens_file`: everybody.
    pub tokens: Option<Vec<AccessHash>>,
    /// A file with one token a line, beside those of `tokens`.
    pub tokens_file: Option<PathBuf>,
}

/// What a client shows to be let onto a private relay, hashed: the text itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AccessHash([u8; 32]);

/// Why a text is not taken as an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has {MIN_TOKEN} to 128 letters, digits and signs without spaces, such as \
     `openssl rand -base64 24` prints"
)]
pub struct WeakToken;

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ports: 3479..=3510,
            addresses: Vec::new(),
            bandwidth: None,
            total_bandwidth: None,
            allocations: 65_536,
            allocations_per_address: 1024,
            idle: Duration::from_secs(300),
            tokens: None,
            tokens_file: None,
        }
    }
}

impl RelayConfig {
    /// Whether a token is needed to use the relay.
    pub const fn is_private(&self) -> bool {
        self.tokens.is_some() || self.tokens_file.is_some()
    }

    /// What does not fit together, and what to change.
    pub(super) fn conflict(&self) -> Option<&'static str> {
        if self.ports.len() > MAX_PORTS {
            return Some(
                "relay.ports has more than 1024 ports: each is a socket for every address and processor",
            );
        }
        if self.addresses.len() > MAX_ADDRESSES {
            return Some("relay.addresses names more than 8 addresses");
        }
        if self.tokens.as_ref().is_some_and(Vec::is_empty) && self.tokens_file.is_none() {
            return Some("relay.tokens is empty: name a token, or remove the key to let everybody in");
        }
        None
    }
}

impl AccessHash {
    /// The hash of what a client showed.
    pub fn of(shown: &AccessToken) -> Self {
        Self(Sha256::digest(shown.expose()).into())
    }

    /// The hash.
    pub(crate) const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for AccessHash {
    type Err = WeakToken;

    fn from_str(text: &str) -> Result<Self, WeakToken> {
        let token = AccessToken::new(text.to_owned()).map_err(|_| WeakToken)?;
        if text.len() < MIN_TOKEN { Err(WeakToken) } else { Ok(Self::of(&token)) }
    }
}

impl<'de> Deserialize<'de> for AccessHash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        value::secret(from)
    }
}

impl fmt::Debug for AccessHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessHash(…)")
    }
}
