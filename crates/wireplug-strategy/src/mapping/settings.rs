//! The options that every port-mapping strategy has.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::options::{OptionDoc, duration_within};

/// When a router is asked for a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// When punching cannot be enough for a peer that is worked on.
    #[default]
    Needed,
    /// On every network with a router, at once.
    Always,
}

/// What the config says, or what holds where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// When a router is asked.
    pub when: When,
    /// For how long.
    #[serde(deserialize_with = "lease")]
    pub lease: Duration,
    /// How often a mapping is looked at between renewals.
    #[serde(deserialize_with = "check")]
    pub check: Duration,
}

impl Default for Settings {
    /// An hour: a mapping that cannot be taken back is gone soon, and renewing costs two datagrams in half an
    /// hour. Two minutes: a router that lost its table is noticed about as soon as it is up again.
    fn default() -> Self {
        Self { when: When::Needed, lease: Duration::from_hours(1), check: Duration::from_mins(2) }
    }
}

fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_within(deserializer, Duration::from_mins(2)..=Duration::from_hours(24))
}

fn check<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_within(deserializer, Duration::from_secs(5)..=Duration::from_hours(1))
}

/// Their documents, for [`crate::Registration::options`].
pub const OPTIONS: [OptionDoc; 3] = [
    OptionDoc {
        key: "when",
        accepts: "\"needed\" or \"always\"",
        default: "needed",
        about: "when a router is asked: where punching is not enough, or on every network",
        secret: false,
    },
    OptionDoc {
        key: "lease",
        accepts: "a length of time from \"2m\" to \"24h\"",
        default: "1h",
        about: "for how long a mapping is asked for; it is renewed at half of it",
        secret: false,
    },
    OptionDoc {
        key: "check",
        accepts: "a length of time from \"5s\" to \"1h\"",
        default: "2m",
        about: "how often the router is asked whether it still knows a mapping",
        secret: false,
    },
];
