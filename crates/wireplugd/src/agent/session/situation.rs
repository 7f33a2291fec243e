//! The world as strategies see it.

use std::time::{Duration, Instant};

use wireplug_core::scheduler::Verdict;
use wireplug_core::{Candidate, StrategyName, Tier};
use wireplug_strategy::{Mapped, PeerSituation, Situation};

use super::{Session, now};

/// The least time between two pictures of the world. A first change is shown at once; where many peers change one after
/// another, each picture with all of them in it would cost more than their changes.
const SHOW_GAP: Duration = Duration::from_millis(10);

/// What strategies were shown last, and when they will be shown more.
#[derive(Debug, Default)]
pub(super) struct Shown {
    outline: Option<Outline>,
    at: Option<Instant>,
    /// Something has changed since, which is to be shown then.
    pub(super) again: Option<Instant>,
}

/// What tells whether strategies see another world.
#[derive(Debug, PartialEq, Eq)]
struct Outline {
    view: u64,
    generation: u32,
    listen_port: u16,
    working: bool,
    mapping: bool,
    mapped: Option<Mapped>,
    closed: Vec<Mapped>,
    /// Whether relay ports can be bound to, for whom relays are wanted, and what they said.
    relays: (bool, u64, u64),
}

impl Session<'_> {
    /// Shows strategies the world, if it is another one: with many peers most events change nothing of it.
    pub(super) fn update_situation(&mut self) {
        self.release_what_is_disabled();
        let demand = self.scheduler.demand();
        let outline = Outline {
            view: self.view,
            generation: self.scheduler.generation(),
            listen_port: self.port.number(),
            working: demand.working,
            mapping: demand.mapping,
            mapped: self.mapped(),
            closed: self.closed(),
            relays: (self.port.is_possible(), demand.relays, self.relays.revision()),
        };
        if self.shown.outline.as_ref() == Some(&outline) {
            self.shown.again = None;
            return;
        }
        let at = now();
        let allowed = self.shown.at.map_or(at, |shown| shown + SHOW_GAP);
        if allowed > at {
            self.shown.again = Some(allowed);
            return;
        }
        let peers = self.state.peers.iter().map(|peer| PeerSituation {
            public_key: peer.public_key,
            endpoint: self.settings.peers.get(&peer.public_key).and_then(|peer| peer.endpoint.clone()),
        });
        let next = Situation {
            generation: self.scheduler.generation(),
            interface: self.config.interface.to_string(),
            public_key: Some(self.state.public_key),
            listen_port: self.port.number(),
            fwmark: self.state.fwmark,
            addresses: self.place.for_strategies(),
            gateways: self.place.gateways(),
            servers: self.servers.stun(),
            peers: peers.collect(),
            wanted: demand.working,
            mapping_wanted: demand.mapping,
            mapped: outline.mapped.clone(),
            closed: outline.closed.clone(),
            relaying: self.relaying(),
        };
        self.shown = Shown { outline: Some(outline), at: Some(at), again: None };
        self.situation.send_if_modified(|now| {
            let changed = *now != next;
            if changed {
                *now = next;
            }
            changed
        });
    }

    /// The best mapped candidate that the server has proven.
    fn mapped(&self) -> Option<Mapped> {
        let proven = self.scheduler.candidates().filter(|(candidate, verdict)| {
            candidate.tier == Tier::Mapped && matches!(verdict, Some(Verdict::Open))
        });
        let rank = |name: &StrategyName| {
            let strategies = &self.settings.strategies;
            strategies.iter().position(|(registration, _)| registration.name == name.as_str())
        };
        let best = proven.min_by_key(|(candidate, _)| rank(&candidate.strategy))?.0;
        Some(Mapped { strategy: best.strategy.clone(), endpoint: best.endpoint })
    }

    /// The mapped candidates that the server sent to in vain.
    fn closed(&self) -> Vec<Mapped> {
        let closed = self.scheduler.candidates().filter(|(candidate, verdict)| {
            candidate.tier == Tier::Mapped && matches!(verdict, Some(Verdict::Filtered))
        });
        let mapped = |candidate: &Candidate| Mapped {
            strategy: candidate.strategy.clone(),
            endpoint: candidate.endpoint,
        };
        closed.map(|(candidate, _)| mapped(candidate)).collect()
    }
}
