//! Which mappings we want, have and must give back. Without IO and clock: time comes in with each call.
//!
//! - `situation`, `mapped`, `checked`, `unmapped`, `noticed` and `handle_timeout` take what happened;
//! - `take_jobs` hands out calls of the protocol to make, `take_record` what must be on disk before them, and
//!   `take_says` what to tell the daemon; empty all three after each of the above;
//! - `due` says when to call `handle_timeout`.
//!
//! Here is what is wanted, `answers` takes what routers said, `says` makes the words, `line` is one mapping.

mod answers;
mod closed;
mod line;
mod says;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use rand::rngs::ChaCha20Rng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use wireplug_core::{Endpoint, Family, StrategyName};

use super::epoch::{Epoch, EpochRule};
use super::record::Record;
use super::{Ask, Patience, Settings, Site, When};
use crate::event::Event;
use crate::situation::{Gateway, Situation};
use line::{Held, Line, State, Work};

/// A call of the protocol to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    Map { id: u64, ask: Ask },
    Check { id: u64, ask: Ask },
    Unmap { ask: Ask },
}

/// All mappings of one strategy on one interface.
#[derive(Debug)]
pub(super) struct Ledger {
    name: StrategyName,
    title: &'static str,
    rule: EpochRule,
    settings: Settings,
    rng: ChaCha20Rng,
    situation: Situation,
    lines: Vec<Line>,
    /// By the router's address.
    epochs: Vec<(IpAddr, Epoch, Option<Instant>)>,
    record: Record,
    recorded: bool,
    ids: u64,
    jobs: Vec<Job>,
    says: Vec<(u32, Event)>,
    note: Option<String>,
}

impl Ledger {
    /// One that knows what an earlier run kept. `seed`: real randomness, for nonces, ports and jitter.
    pub(super) fn new(
        name: StrategyName,
        title: &'static str,
        rule: EpochRule,
        settings: Settings,
        seed: [u8; 32],
        record: Record,
    ) -> Self {
        Self {
            name,
            title,
            rule,
            settings,
            rng: ChaCha20Rng::from_seed(seed),
            situation: Situation::default(),
            lines: Vec::new(),
            epochs: Vec::new(),
            record,
            recorded: true,
            ids: 0,
            jobs: Vec::new(),
            says: Vec::new(),
            note: None,
        }
    }

    /// Takes a new situation, and what the protocol can map in it.
    pub(super) fn situation(&mut self, now: Instant, situation: &Situation, mut sites: Vec<Site>) {
        let before = std::mem::replace(&mut self.situation, situation.clone());
        let moved = before.generation != situation.generation;
        if moved {
            self.note = None;
        }
        let port = situation.listen_port;
        if port == 0 {
            sites.clear();
        }
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.lines)
            .into_iter()
            .partition(|line| line.port == port && sites.iter().any(|site| site.is_same(&line.site)));
        self.lines = stay;
        for line in go {
            self.retire(&line, moved);
        }
        for line in &mut self.lines {
            line.remade &= !moved;
            match &mut line.state {
                // Whatever changed, the machine may have slept past the lease, or stand in another network with
                // the same addresses.
                State::Held(held) | State::Busy { held: Some(held), .. } if moved => {
                    held.renew_at = now;
                    held.said = false;
                }
                State::Resting { .. } if moved => {
                    line.state = State::Idle;
                    line.failures = 0;
                }
                State::Idle | State::Resting { .. } | State::Held(_) | State::Busy { .. } => {}
            }
        }
        for site in sites {
            if !self.lines.iter().any(|line| line.site.is_same(&site)) {
                self.open_line(site, port);
            }
        }
        self.epochs.retain(|(ip, ..)| self.lines.iter().any(|line| line.site.gateway.ip == *ip));
        self.doubt(now);
        self.step(now);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
    }

    /// When to call [`Ledger::handle_timeout`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.due(self.is_asked(line))).min()
    }

    /// Everything ends: what stands on routers, or may, is to be taken back.
    pub(super) fn stop(&mut self) -> Vec<Job> {
        self.jobs.clear();
        for line in std::mem::take(&mut self.lines) {
            self.retire(&line, false);
        }
        self.take_jobs()
    }

    /// The calls to make now.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// What to keep on disk before any job is done, if it changed.
    pub(super) fn take_record(&mut self) -> Option<Vec<u8>> {
        (!std::mem::replace(&mut self.recorded, true)).then(|| self.record.to_bytes())
    }

    /// What to tell the daemon, each with its generation.
    pub(super) fn take_says(&mut self) -> Vec<(u32, Event)> {
        std::mem::take(&mut self.says)
    }

    /// The routers that hold a mapping of ours, whose notices are worth hearing.
    pub(super) fn routers(&self) -> Vec<Gateway> {
        let mut routers: Vec<Gateway> = Vec::new();
        for line in self.lines.iter().filter(|line| line.held().is_some()) {
            if !routers.contains(&line.site.gateway) {
                routers.push(line.site.gateway.clone());
            }
        }
        routers
    }

    /// Whether this line is to have a mapping now.
    fn is_asked(&self, line: &Line) -> bool {
        let needed = match self.settings.when {
            When::Always => true,
            When::Needed => self.situation.wanted && self.situation.mapping_wanted,
        };
        (needed || line.committed) && self.winner(line).is_none()
    }

    /// Another strategy's proven mapping that makes this line's needless.
    fn winner(&self, line: &Line) -> Option<Endpoint> {
        let mapped = self.situation.mapped.as_ref()?;
        let same_family = mapped.endpoint.family() == Family::of(line.site.source);
        (mapped.strategy != self.name && same_family).then_some(mapped.endpoint)
    }

    /// Brings every line as far as it can be at this time.
    fn step(&mut self, now: Instant) {
        for index in 0..self.lines.len() {
            let winner = self.winner(&self.lines[index]);
            let asked = self.is_asked(&self.lines[index]);
            match std::mem::replace(&mut self.lines[index].state, State::Idle) {
                State::Held(held) if winner.is_some() => self.release(index, &held, winner),
                State::Held(held) if held.expires.is_some_and(|at| at <= now) => {
                    self.lose(&held);
                    if asked {
                        self.map(index, None);
                    }
                }
                State::Held(held) if held.renew_at <= now => self.map(index, Some(held)),
                State::Held(held) if held.check_at <= now => self.check(index, held),
                State::Resting { until } if until > now || !asked => {
                    self.lines[index].state = State::Resting { until };
                }
                State::Idle | State::Resting { .. } => {
                    if asked {
                        self.map(index, None);
                    }
                }
                state @ (State::Held(_) | State::Busy { .. }) => self.lines[index].state = state,
            }
            self.say_again(now, index);
        }
    }

    fn open_line(&mut self, site: Site, port: u16) {
        // What an earlier run left for another port of ours here is of no use to anybody.
        let stale: Vec<_> = self
            .record
            .entries
            .iter()
            .filter(|entry| entry.is_at(&site) && entry.port != port)
            .cloned()
            .collect();
        for entry in stale {
            let ask = self.ask(&site, entry.port, entry.nonce, entry.external, Patience::Last);
            self.unmap(ask);
        }
        let left = self.record.find(&site, port).cloned();
        let nonce = left.as_ref().map_or_else(|| self.rng.random(), |entry| entry.nonce);
        self.lines.push(Line {
            site,
            port,
            nonce,
            committed: left.is_some(),
            external: left.and_then(|entry| entry.external),
            failures: 0,
            remade: false,
            state: State::Idle,
        });
    }

    fn ask(
        &mut self,
        site: &Site,
        port: u16,
        nonce: [u8; 12],
        external: Option<SocketAddr>,
        patience: Patience,
    ) -> Ask {
        Ask {
            site: site.clone(),
            port,
            fwmark: self.situation.fwmark,
            external,
            lease: self.settings.lease,
            nonce,
            // The dynamic range: the least likely to be somebody's service (RFC 6335 section 6).
            other_port: self.rng.random_range(49152..=65535),
            patience,
        }
    }

    fn work(&mut self, index: usize, held: Option<Held>, patience: Patience, work: Work) -> (u64, Ask) {
        self.ids += 1;
        let id = self.ids;
        let Line { site, port, nonce, external, .. } = self.lines[index].clone();
        let ask = self.ask(&site, port, nonce, external, patience);
        self.lines[index].state = State::Busy { id, work, held };
        (id, ask)
    }

    fn map(&mut self, index: usize, held: Option<Held>) {
        let known = held.is_some() || self.lines[index].external.is_some();
        let patience = if known { Patience::Known } else { Patience::First };
        let (id, ask) = self.work(index, held, patience, Work::Map);
        if self.record.put(&ask.site, ask.port, ask.nonce, ask.external) {
            self.recorded = false;
        }
        self.jobs.push(Job::Map { id, ask });
    }

    fn check(&mut self, index: usize, held: Held) {
        let (id, ask) = self.work(index, Some(held), Patience::Known, Work::Check);
        self.jobs.push(Job::Check { id, ask });
    }

    fn unmap(&mut self, mut ask: Ask) {
        ask.patience = Patience::Last;
        let same = |job: &Job| match job {
            Job::Unmap { ask: other } => other.site.is_same(&ask.site) && other.port == ask.port,
            Job::Map { .. } | Job::Check { .. } => false,
        };
        if self.jobs.iter().any(same) {
            return;
        }
        self.jobs.push(Job::Unmap { ask });
    }

    /// Gives a mapping up because another strategy's is proven. Some routers keep one table for all protocols: an
    /// entry that is the winner's too must not be deleted.
    fn release(&mut self, index: usize, held: &Held, winner: Option<Endpoint>) {
        self.lose(held);
        let line = &mut self.lines[index];
        line.committed = false;
        let line = line.clone();
        if winner.map(SocketAddr::from) == Some(held.external) {
            if self.record.remove(&line.site, line.port) {
                self.recorded = false;
            }
            self.tell(format!("{}: the router's mapping {} is used already", self.title, held.external));
        } else {
            let ask = self.ask(&line.site, line.port, line.nonce, Some(held.external), Patience::Last);
            self.unmap(ask);
            self.tell(format!("{}: released {}, another mapping is proven", self.title, held.external));
        }
    }

    /// Takes back what a line that is no more has on its router, if that can be reached.
    fn retire(&mut self, line: &Line, moved: bool) {
        if let (Some(held), false) = (line.held(), moved) {
            self.lose(held);
        }
        let reachable = self.situation.addresses.iter().any(|own| own.ip == line.site.source);
        if line.is_on_router() && reachable {
            let ask = self.ask(&line.site, line.port, line.nonce, line.external, Patience::Last);
            self.unmap(ask);
        }
    }

    fn jitter(&mut self) -> f64 {
        self.rng.random()
    }
}
