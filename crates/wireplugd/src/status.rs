//! What `wireplug status` and `wireplug strategies` show: the data that scripts rely on, and the same for people.

mod strategies;
mod strategies_table;
mod table;
mod time;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wireplug_core::PublicKey;
pub use wireplug_core::scheduler::State;

pub use strategies::{
    Activity, FoundInfo, Judgement, OnInterface, OptionInfo, PeerOverride, StrategyInfo, SuggestedInfo, Told,
};
pub use strategies_table::{interfaces_table, strategies_table};
pub use table::table;
pub use time::{BadTimestamp, Timestamp};

/// One interface. `wireplug status --json` prints an array of these; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// The interface, such as `wg0`.
    pub interface: String,
    /// WireGuard's UDP port; 0 while the device has none.
    pub listen_port: u16,
    /// Why nothing can be done now: the interface is not there.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The rendezvous servers, in the order of the config.
    #[serde(default)]
    pub servers: Vec<ServerStatus>,
    /// What the strategies say of themselves, best tier first.
    #[serde(default)]
    pub strategies: Vec<StrategyStatus>,
    /// All peers of the device.
    pub peers: Vec<PeerStatus>,
}

/// One rendezvous server, as one interface uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its URL.
    pub url: String,
    /// Whether it can be used now.
    pub connected: bool,
    /// Why it cannot.
    pub reason: Option<String>,
}

/// One strategy on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyStatus {
    /// Its name in the config.
    pub name: String,
    /// How it goes, in its own words.
    pub note: Option<String>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// In base64, as `wg show` prints it.
    #[serde(with = "key")]
    pub public_key: PublicKey,
    /// Its name in the config.
    pub name: Option<String>,
    /// How it goes.
    #[serde(with = "state")]
    pub state: State,
    /// Whose endpoint is in use.
    pub strategy: Option<String>,
    /// The device's endpoint for it.
    pub endpoint: Option<SocketAddr>,
    /// The last round trip on that path, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// When `state` was entered.
    pub since: Timestamp,
    /// Whether that endpoint was proven before it was applied. `false` is the exception for peers where
    /// nothing can be proven, such as those without wireplug.
    #[serde(default)]
    pub proven: bool,
    /// Whether somebody else has set that endpoint, such as with `wg set`: it is left there while it works.
    #[serde(default)]
    pub by_hand: bool,
    /// What is being tried now, in words.
    #[serde(default)]
    pub trying: Option<String>,
    /// When the next try begins by itself.
    #[serde(default)]
    pub next: Option<Timestamp>,
    /// Why it is not better: what was tried, and what to do.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A peer's state as its word.
mod state {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::State;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(super) fn serialize<S: Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(state.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        let word = String::deserialize(deserializer)?;
        let state = State::ALL.into_iter().find(|state| state.as_str() == word);
        state.ok_or_else(|| D::Error::custom(format!("{word:?} is no state of a peer")))
    }
}

/// Public keys as base64.
mod key {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use wireplug_core::PublicKey;

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn json_is_what_scripts_rely_on() {
        let peer = PeerStatus {
            public_key: PublicKey::from_bytes([7; 32]),
            name: Some("nas".to_owned()),
            state: State::Connected,
            strategy: Some("hole-punch".to_owned()),
            endpoint: Some("203.0.113.7:51820".parse().unwrap()),
            rtt_ms: Some(12.5),
            since: Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            proven: true,
            by_hand: false,
            trying: None,
            next: None,
            reason: None,
        };
        let status = InterfaceStatus {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            waiting: None,
            servers: vec![],
            strategies: vec![],
            peers: vec![peer],
        };
        let json = serde_json::to_value([&status]).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{
                "interface": "wg0", "listen_port": 51820, "waiting": null, "servers": [], "strategies": [],
                "peers": [{
                    "public_key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "name": "nas",
                    "state": "connected", "strategy": "hole-punch", "endpoint": "203.0.113.7:51820",
                    "rtt_ms": 12.5, "since": "2023-11-14T22:13:20Z", "proven": true,
                    "by_hand": false, "trying": null, "next": null, "reason": null
                }]
            }])
        );
        assert_eq!(serde_json::from_value::<Vec<InterfaceStatus>>(json).unwrap(), [status]);
    }

    #[test]
    fn each_state_is_read_back_from_its_word() {
        for state in State::ALL {
            let written = state::serialize(&state, serde_json::value::Serializer).unwrap();
            assert_eq!(written, state.as_str());
            assert_eq!(state::deserialize(written).unwrap(), state);
        }
        assert!(state::deserialize(serde_json::json!("asleep")).is_err());
    }
}
