//! What `wireplug strategies` is told: config, runs, findings and verdicts put together.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use serde_json::Value;
use wireplug_core::scheduler::{Scheduler, Verdict};
use wireplug_core::{Candidate, Mapping, Proof, PublicKey, Reach, StrategyName, Tier};
use wireplug_strategy::Registration;

use super::lives::{Life, Lives, Phase};
use super::queue::{EventQueue, Held, Standing};
use crate::config::{InterfaceConfig, PeerConfig};
use crate::interface::InterfaceName;
use crate::status::{
    Activity, FoundInfo, Judgement, OnInterface, PeerOverride, StrategyInfo, SuggestedInfo, Timestamp, Told,
};

/// All strategies of this build and how they go on one interface: those that are enabled by rank, then the others.
pub fn report(
    interface: &InterfaceName,
    config: &InterfaceConfig,
    events: &EventQueue,
    lives: &Lives,
    scheduler: &Scheduler,
    clock: Clock,
) -> Vec<StrategyInfo> {
    let sources = Sources { interface, config, events, lives, scheduler, clock };
    let enabled = config.strategies.iter().map(|(registration, _)| *registration);
    let others = wireplug_strategy::registered().into_iter().filter(|one| sources.rank(one).is_none());
    enabled.chain(others).map(|registration| sources.tell(registration)).collect()
}

/// One moment on both clocks: what happened is known by the first, and told by the second.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The one that only goes forward.
    pub now: Instant,
    /// The one on the wall.
    pub wall: SystemTime,
}

impl Clock {
    /// This moment.
    pub fn read() -> Self {
        Self { now: tokio::time::Instant::now().into_std(), wall: SystemTime::now() }
    }

    fn at(&self, at: tokio::time::Instant) -> Timestamp {
        let at = at.into_std();
        let ago = self.now.saturating_duration_since(at);
        (self.wall - ago + at.saturating_duration_since(self.now)).into()
    }
}

struct Sources<'a> {
    interface: &'a InterfaceName,
    config: &'a InterfaceConfig,
    events: &'a EventQueue,
    lives: &'a Lives,
    scheduler: &'a Scheduler,
    clock: Clock,
}

impl Sources<'_> {
    fn tell(&self, registration: &'static Registration) -> StrategyInfo {
        let mut info = StrategyInfo::of(registration);
        info.interfaces.push(self.on_interface(registration));
        info
    }

    fn on_interface(&self, registration: &'static Registration) -> OnInterface {
        let rank = self.rank(registration);
        let name: Option<StrategyName> = registration.name.parse().ok();
        let life = name.as_ref().and_then(|name| self.lives.of(name));
        let standing = name.as_ref().and_then(|name| self.events.standing(name)).unwrap_or_default();
        let table = rank.map(|rank| &self.config.strategies[rank - 1].1);
        let (state, since, again) = self.activity(rank.is_some(), life.as_ref());
        let last_failure = life.as_ref().and_then(|life| life.last_failure.as_ref());
        OnInterface {
            interface: self.interface.to_string(),
            enabled: rank.is_some(),
            rank,
            state,
            since,
            again,
            starts: life.as_ref().map_or(0, |life| life.starts),
            failures: life.as_ref().map_or(0, |life| life.failures),
            last_failure: last_failure.map(|(why, at)| Told { text: why.clone(), since: self.clock.at(*at) }),
            options: table.map(|table| options(registration, table)).unwrap_or_default(),
            configured: table.map(|table| table.keys().cloned().collect()).unwrap_or_default(),
            peers: if rank.is_some() { self.overrides(registration) } else { Vec::new() },
            note: standing
                .note
                .as_ref()
                .map(|note| Told { text: note.what.clone(), since: self.clock.at(note.since) }),
            nat: standing.mapping.and_then(nat),
            found: self.found(&standing),
            suggested: self.suggested(&standing),
        }
    }

    /// From 1.
    fn rank(&self, registration: &Registration) -> Option<usize> {
        let mut all = self.config.strategies.iter();
        all.position(|(enabled, _)| enabled.name == registration.name).map(|index| index + 1)
    }

    fn activity(
        &self,
        enabled: bool,
        life: Option<&Life>,
    ) -> (Activity, Option<Timestamp>, Option<Timestamp>) {
        match life.map(|life| life.phase) {
            None if enabled => (Activity::Starting, None, None),
            None => (Activity::Off, None, None),
            Some(Phase::Running { since }) => (Activity::Running, Some(self.clock.at(since)), None),
            Some(Phase::Resting { until }) => (Activity::Failed, None, Some(self.clock.at(until))),
        }
    }

    fn overrides(&self, registration: &Registration) -> Vec<PeerOverride> {
        let own_lists = self.config.peers.iter().filter_map(|(key, peer)| {
            let list = peer.strategies.as_ref()?;
            let place = list.iter().position(|name| name.as_str() == registration.name);
            let rank = place.map(|index| index + 1);
            let (public_key, name) = (*key, peer.name.clone());
            Some(PeerOverride { public_key, name, enabled: rank.is_some(), rank })
        });
        own_lists.collect()
    }

    /// What was found for another network is void.
    fn is_void(&self, standing: &Standing) -> bool {
        standing.generation != self.scheduler.generation()
    }

    fn found(&self, standing: &Standing) -> Vec<FoundInfo> {
        if self.is_void(standing) {
            return Vec::new();
        }
        standing.found.iter().filter_map(|held| self.candidate(held)).collect()
    }

    /// None for one that has lived its time.
    fn candidate(&self, held: &Held<Candidate>) -> Option<FoundInfo> {
        let candidate = &held.what;
        let age = self.clock.now.saturating_duration_since(held.said.into_std());
        let left = match candidate.lifetime {
            Some(lifetime) => Some(lifetime.checked_sub(age)?.as_secs()),
            None => None,
        };
        let (verdict, why) = self.judgement(candidate);
        let facts = candidate.evidence.facts().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(FoundInfo {
            endpoint: candidate.endpoint.into(),
            since: self.clock.at(held.since),
            left_s: left,
            verdict,
            why,
            evidence: candidate.evidence.words().to_owned(),
            facts: facts.collect(),
        })
    }

    fn judgement(&self, candidate: &Candidate) -> (Judgement, Option<String>) {
        let same = |(other, _): &(&Candidate, Option<&Verdict>)| {
            other.endpoint == candidate.endpoint && other.strategy == candidate.strategy
        };
        let verdict = self.scheduler.candidates().find(same).and_then(|(_, verdict)| verdict);
        match (candidate.proof, verdict) {
            (Proof::Done(Reach::Open), _) | (Proof::Server, Some(Verdict::Open)) => (Judgement::Open, None),
            (Proof::Done(Reach::Filtered), _) => (Judgement::Filtered, None),
            (Proof::Server, Some(Verdict::Filtered)) if candidate.tier == Tier::Mapped => {
                let why = "the router maps it, but the server's packet did not come in: not offered";
                (Judgement::Filtered, Some(why.to_owned()))
            }
            (Proof::Server, Some(Verdict::Filtered)) => {
                let why =
                    "the server's packet did not come in: a firewall lets in only those that we sent to";
                (Judgement::Filtered, Some(why.to_owned()))
            }
            (Proof::Server, Some(Verdict::Wrong { why })) => {
                (Judgement::Wrong, Some(format!("not ours: {why}; not offered")))
            }
            (Proof::Server, Some(Verdict::Unknown) | None) => {
                (Judgement::Pending, Some("no server could tell yet".to_owned()))
            }
        }
    }

    fn suggested(&self, standing: &Standing) -> Vec<SuggestedInfo> {
        if self.is_void(standing) {
            return Vec::new();
        }
        let suggested = standing.suggested.iter().map(|(peer, held)| SuggestedInfo {
            public_key: *peer,
            name: self.peer(peer).and_then(|peer| peer.name.clone()),
            endpoint: held.what.endpoint.into(),
            since: self.clock.at(held.since),
        });
        suggested.collect()
    }

    fn peer(&self, key: &PublicKey) -> Option<&PeerConfig> {
        self.config.peers.get(key)
    }
}

/// The options in force.
fn options(registration: &Registration, table: &toml::Table) -> BTreeMap<String, Value> {
    let in_force = registration.options.iter().map(|option| {
        let value = match table.get(option.key) {
            Some(_) if option.secret => Value::from("***"),
            // Whatever TOML has, JSON has too; were that ever wrong, nothing is told.
            Some(value) => serde_json::to_value(value).unwrap_or_default(),
            None => Value::from(option.default),
        };
        (option.key.to_owned(), value)
    });
    in_force.collect()
}

fn nat(mapping: Mapping) -> Option<String> {
    let word = match mapping {
        Mapping::Unknown => return None,
        Mapping::None => "none",
        Mapping::Fixed => "fixed",
        Mapping::DestinationDependent => "destination-dependent",
    };
    Some(word.to_owned())
}
