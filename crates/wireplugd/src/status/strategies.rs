//! What `wireplug strategies` shows: the data that scripts rely on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wireplug_core::PublicKey;
use wireplug_strategy::Registration;

use super::{Timestamp, key};

/// One strategy. `wireplug strategies --json` prints an array of these, best tier first; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrategyInfo {
    /// Its name in the config.
    pub name: String,
    /// The tier of its candidates: `lan`, `direct`, `punched`, `mapped`, `relay` or `relaytls`.
    pub tier: String,
    /// What it does, in one line.
    pub about: String,
    /// The keys of its table in the config.
    pub options: Vec<OptionInfo>,
    /// How it goes on each interface that is looked after.
    #[serde(default)]
    pub interfaces: Vec<OnInterface>,
}

/// One key of a strategy's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionInfo {
    /// The key.
    pub key: String,
    /// What may stand there, with its unit.
    pub accepts: String,
    /// What holds where it is left out.
    pub default: String,
    /// What it does.
    pub about: String,
    /// Whether its value is not shown.
    #[serde(default)]
    pub secret: bool,
}

/// One strategy on one interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnInterface {
    /// The interface.
    pub interface: String,
    /// Whether the config has it run there.
    pub enabled: bool,
    /// Its place among those that run, 1 being the best.
    pub rank: Option<usize>,
    /// `off`, `starting`, `running`, or `failed`: then it is started again.
    pub state: Activity,
    /// Since when it runs.
    pub since: Option<Timestamp>,
    /// When a failed one is started again.
    pub again: Option<Timestamp>,
    /// How often it was started.
    pub starts: u32,
    /// How often it failed.
    pub failures: u32,
    /// Why it failed last, and when.
    pub last_failure: Option<Told>,
    /// The options in force, those that the config sets and the defaults of the others. What is secret is `"***"`.
    pub options: BTreeMap<String, Value>,
    /// The keys among them that the config sets.
    pub configured: Vec<String>,
    /// The peers that have a list of strategies of their own.
    pub peers: Vec<PeerOverride>,
    /// Its last words, and since when they are these.
    pub note: Option<Told>,
    /// How the IPv4 NAT maps, where it knows: `none`, `fixed` or `destination-dependent`.
    pub nat: Option<String>,
    /// Where our port may be reached.
    pub found: Vec<FoundInfo>,
    /// Where peers may be reached.
    pub suggested: Vec<SuggestedInfo>,
}

/// What a strategy does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Nothing: it is not enabled.
    Off,
    /// It is about to be started.
    Starting,
    /// It runs.
    Running,
    /// It failed, and is started again after a pause.
    Failed,
}

/// Words, and when they were said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The words.
    pub text: String,
    /// When.
    pub since: Timestamp,
}

/// A peer with a list of strategies of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerOverride {
    /// Whom.
    #[serde(with = "key")]
    pub public_key: PublicKey,
    /// Its name in the config.
    pub name: Option<String>,
    /// Whether this strategy is for it.
    pub enabled: bool,
    /// The strategy's place in the peer's own list, 1 being the best.
    pub rank: Option<usize>,
}

/// One address where our port may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundInfo {
    /// Where; for a mapping the router's outer address and port.
    pub endpoint: SocketAddr,
    /// When it was found.
    pub since: Timestamp,
    /// The seconds for which it still holds; `null`: no end is known.
    pub left_s: Option<u64>,
    /// What is proven of it.
    pub verdict: Judgement,
    /// Why it is judged so, where that does not say all.
    pub why: Option<String>,
    /// How it was found, in words.
    pub evidence: String,
    /// The same as single facts: `gateway`, `protocol` and `inside` of a mapping, `seen_by` of a NAT's.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// What is proven of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// Anybody may send to it.
    Open,
    /// It is ours, but lets in only those that we sent to. A router's mapping that is so is not offered.
    Filtered,
    /// It is not ours, and not offered.
    Wrong,
    /// Nobody could tell yet.
    Pending,
}

/// One address where a peer may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedInfo {
    /// Whom.
    #[serde(with = "key")]
    pub public_key: PublicKey,
    /// Its name in the config.
    pub name: Option<String>,
    /// Where.
    pub endpoint: SocketAddr,
    /// When it was first suggested.
    pub since: Timestamp,
}

impl StrategyInfo {
    /// What a strategy says of itself.
    pub fn of(registration: &Registration) -> Self {
        let options = registration.options.iter().map(|option| OptionInfo {
            key: option.key.to_owned(),
            accepts: option.accepts.to_owned(),
            default: option.default.to_owned(),
            about: option.about.to_owned(),
            secret: option.secret,
        });
        Self {
            name: registration.name.to_owned(),
            tier: format!("{:?}", registration.tier).to_lowercase(),
            about: registration.about.to_owned(),
            options: options.collect(),
            interfaces: Vec::new(),
        }
    }

    /// One list of those in this program and what daemons told of theirs. A daemon may be another build, with
    /// strategies that this program does not have.
    pub fn merge(mut here: Vec<Self>, told: Vec<Self>) -> Vec<Self> {
        for one in told {
            match here.iter_mut().find(|known| known.name == one.name) {
                Some(known) => known.interfaces.extend(one.interfaces),
                None => here.push(one),
            }
        }
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, interfaces: &[&str]) -> StrategyInfo {
        let interfaces = interfaces.iter().map(|interface| OnInterface {
            interface: (*interface).to_owned(),
            enabled: false,
            rank: None,
            state: Activity::Off,
            since: None,
            again: None,
            starts: 0,
            failures: 0,
            last_failure: None,
            options: BTreeMap::new(),
            configured: Vec::new(),
            peers: Vec::new(),
            note: None,
            nat: None,
            found: Vec::new(),
            suggested: Vec::new(),
        });
        StrategyInfo {
            name: name.to_owned(),
            tier: "direct".to_owned(),
            about: "Tests.".to_owned(),
            options: Vec::new(),
            interfaces: interfaces.collect(),
        }
    }

    #[test]
    fn daemons_of_other_builds_add_their_own() {
        let here = vec![info("direct", &[]), info("pcp", &[])];
        let told = vec![info("direct", &["wg0"]), info("theirs", &["wg0"]), info("direct", &["wg1"])];
        let merged = StrategyInfo::merge(here, told);
        let shown: Vec<_> = merged
            .iter()
            .map(|one| {
                let interfaces: Vec<_> = one.interfaces.iter().map(|on| on.interface.as_str()).collect();
                format!("{}: {}", one.name, interfaces.join(" "))
            })
            .collect();
        assert_eq!(shown, ["direct: wg0 wg1", "pcp: ", "theirs: wg0"]);
    }
}
