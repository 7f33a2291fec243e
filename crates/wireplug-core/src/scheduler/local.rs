//! Our own candidates: found by strategies, verified by the server, offered to peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::io::{Command, Verdict};
use super::ranking::Ranking;
use super::tuning::verify_pause;
use crate::{
    Candidate, Endpoint, Family, MAX_CANDIDATES, Mapping, Proof, Reach, RemoteCandidate, StrategyName, Tier,
};

/// The candidates of one generation.
#[derive(Debug, Default)]
pub(super) struct Local {
    entries: Vec<Entry>,
    mapping: Mapping,
    /// Where the NAT last mapped our port, by family.
    mapped: BTreeMap<Family, Endpoint>,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    verdict: Option<Verdict>,
    expires: Option<Instant>,
    /// When it is to be asked again because nobody could tell, and how often nobody could.
    again: Option<Instant>,
    untold: u32,
}

impl Entry {
    /// How far it can be reached, once that is proven.
    fn reach(&self) -> Option<Reach> {
        match (self.candidate.proof, &self.verdict) {
            (Proof::Done(reach), _) => Some(reach),
            (Proof::Server, Some(Verdict::Open)) => Some(Reach::Open),
            // The router's address is ours, but the mapping that it promised lets nothing in.
            (Proof::Server, Some(Verdict::Filtered)) if self.candidate.tier == Tier::Mapped => None,
            (Proof::Server, Some(Verdict::Filtered)) => Some(Reach::Filtered),
            (Proof::Server, Some(Verdict::Wrong { .. } | Verdict::Unknown) | None) => None,
        }
    }

    /// Whether the server may judge otherwise another time: it could not tell, or the one packet that would have
    /// proven a mapping may have been lost.
    fn is_undecided(&self) -> bool {
        match self.verdict {
            None | Some(Verdict::Unknown) => true,
            Some(Verdict::Filtered) => self.candidate.tier == Tier::Mapped,
            Some(Verdict::Open | Verdict::Wrong { .. }) => false,
        }
    }
}

impl Local {
    /// Takes a candidate; returns the verification it needs. The most that one strategy may have is
    /// [`MAX_CANDIDATES`]; what is over is dropped.
    pub(super) fn found(&mut self, now: Instant, generation: u32, candidate: Candidate) -> Option<Command> {
        let expires = candidate.lifetime.map(|lifetime| now + lifetime);
        let endpoint = candidate.endpoint;
        let needs_server = candidate.proof == Proof::Server;
        let known = self.entries.iter_mut().find(|entry| {
            entry.candidate.endpoint == endpoint && entry.candidate.strategy == candidate.strategy
        });
        if let Some(entry) = known {
            let asked_before = needs_server && entry.candidate.proof == Proof::Server;
            let undecided = entry.is_undecided();
            entry.candidate = candidate;
            entry.expires = expires;
            if asked_before && !undecided {
                return None;
            }
            entry.verdict = None;
        } else {
            let same = self.entries.iter().filter(|entry| entry.candidate.strategy == candidate.strategy);
            if same.count() >= MAX_CANDIDATES {
                return None;
            }
            self.entries.push(Entry { candidate, verdict: None, expires, again: None, untold: 0 });
        }
        needs_server.then_some(Command::Verify { generation, endpoint })
    }

    /// Notes where the NAT maps our port; says whether that is elsewhere than before in this generation. Of a NAT that
    /// maps each destination differently it says nothing.
    pub(super) fn is_remapped(&mut self, candidate: &Candidate) -> bool {
        if candidate.tier != Tier::Punched {
            return false;
        }
        let before = self.mapped.insert(candidate.endpoint.family(), candidate.endpoint);
        self.mapping == Mapping::Fixed && before.is_some_and(|before| before != candidate.endpoint)
    }

    pub(super) fn lost(&mut self, strategy: &StrategyName, endpoint: Endpoint) {
        self.entries
            .retain(|entry| entry.candidate.endpoint != endpoint || entry.candidate.strategy != *strategy);
    }

    pub(super) fn judged(&mut self, now: Instant, endpoint: Endpoint, verdict: &Verdict) {
        for entry in &mut self.entries {
            if entry.candidate.endpoint == endpoint && entry.candidate.proof == Proof::Server {
                entry.verdict = Some(verdict.clone());
                entry.again = None;
                if *verdict == Verdict::Unknown {
                    entry.again = Some(now + verify_pause(entry.untold));
                    entry.untold = entry.untold.saturating_add(1);
                }
            }
        }
    }

    /// Asks again for what nobody could tell some time ago: an answer was lost, or the server was busy.
    pub(super) fn verify_due(&mut self, now: Instant, generation: u32) -> Vec<Command> {
        let due = self.entries.iter_mut().filter(|entry| entry.again.is_some_and(|at| at <= now));
        due.map(|entry| {
            entry.again = None;
            Command::Verify { generation, endpoint: entry.candidate.endpoint }
        })
        .collect()
    }

    /// When [`Local::verify_due`] has something.
    pub(super) fn next_verification(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.again).min()
    }

    /// Asks again for what no server could tell before.
    pub(super) fn verify_again(&mut self, generation: u32) -> Vec<Command> {
        let undecided = self
            .entries
            .iter_mut()
            .filter(|entry| entry.candidate.proof == Proof::Server && entry.is_undecided());
        undecided
            .map(|entry| {
                entry.again = None;
                Command::Verify { generation, endpoint: entry.candidate.endpoint }
            })
            .collect()
    }

    /// So much of every lifetime passed unnoticed. A mapping that is another one now may have expired in that time.
    pub(super) fn slept(&mut self, time: Duration) {
        self.mapped.clear();
        for entry in &mut self.entries {
            entry.expires = entry.expires.map(|at| at.checked_sub(time).unwrap_or(at));
        }
    }

    /// Forgets what has lived its time; says whether there was any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.expires.is_none_or(|at| at > now));
        self.entries.len() != before
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.expires).min()
    }

    pub(super) fn set_mapping(&mut self, mapping: Mapping) {
        self.mapping = mapping;
    }

    pub(super) fn mapping(&self) -> Mapping {
        self.mapping
    }

    /// What may be offered to a peer with this ranking, best first: proven, and of a wanted strategy.
    /// One endpoint is offered once, by its best strategy.
    pub(super) fn offered(&self, ranking: &Ranking) -> Vec<RemoteCandidate> {
        let mut placed: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| {
                let candidate = &entry.candidate;
                let place = ranking.place(Some(&candidate.strategy), candidate.tier)?;
                let reach = entry.reach()?;
                Some(((place, candidate.endpoint.family(), candidate.endpoint), reach, candidate))
            })
            .collect();
        placed.sort_by_key(|(key, ..)| *key);
        let mut offered: Vec<RemoteCandidate> = Vec::new();
        for (_, reach, candidate) in placed {
            if offered.len() < MAX_CANDIDATES && offered.iter().all(|o| o.endpoint != candidate.endpoint) {
                offered.push(RemoteCandidate {
                    endpoint: candidate.endpoint,
                    strategy: candidate.strategy.clone(),
                    tier: candidate.tier,
                    reach,
                });
            }
        }
        offered
    }

    /// The strategy behind what we offer in a tier: names a path that a peer found by sending to us.
    pub(super) fn strategy_of(&self, tier: Tier) -> Option<&StrategyName> {
        self.entries.iter().map(|entry| &entry.candidate).find(|c| c.tier == tier).map(|c| &c.strategy)
    }

    /// Every candidate with its standing, for status.
    pub(super) fn standing(&self) -> impl Iterator<Item = (&Candidate, Option<&Verdict>)> {
        self.entries.iter().map(|entry| (&entry.candidate, entry.verdict.as_ref()))
    }
}
