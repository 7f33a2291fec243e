//! Which mappings we want, have and must give back. Without IO and clock: time comes in with each call.
//!
//! - `situation`, `mapped`, `checked`, `unmapped`, `noticed` and `handle_timeout` take what happened;
//! - `take_jobs` hands out calls of the protocol to make, `take_record` what must be on disk before them, and
//!   `take_says` what to tell the daemon; empty all three after each of the above;
//! - `due` says when to call `handle_timeout`.

mod line;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::rngs::ChaCha20Rng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use wireplug_core::{Candidate, Endpoint, Family, Proof, StrategyName, Tier, is_global};

use super::epoch::{Epoch, EpochRule};
use super::pace::{self, LONGEST_LEASE, SHORTEST_LEASE};
use super::record::Record;
use super::{Ask, Checked, Grant, MapError, Patience, Settings, Site, When};
use crate::event::Event;
use crate::situation::{Gateway, Situation};
use line::{Held, Line, State, Work};

/// A router that tells of restarts more often than this is not believed: each one costs a mapping request.
const RESTART_GAP: Duration = Duration::from_secs(10);

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
            self.retire(line, moved);
        }
        for line in &mut self.lines {
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
        self.step(now);
    }

    /// What came of [`Job::Map`].
    pub(super) fn mapped(&mut self, now: Instant, id: u64, ask: &Ask, outcome: Result<Grant, MapError>) {
        let Some(index) = self.busy(id) else {
            // Nobody waits for it any more; where the same mapping is held or asked for again, it is that one's.
            if outcome.is_ok() && !self.lines.iter().any(|line| line.is_for(ask)) {
                self.unmap(ask.clone());
            }
            return;
        };
        match outcome.and_then(|grant| self.judge(ask, grant)) {
            Ok(grant) => self.granted(now, index, grant),
            Err(error) => self.failed(now, index, &error),
        }
        self.step(now);
    }

    /// What came of [`Job::Check`].
    pub(super) fn checked(&mut self, now: Instant, id: u64, outcome: &Result<Checked, MapError>) {
        let Some(index) = self.busy(id) else { return };
        let gateway = self.lines[index].site.gateway.ip;
        let check = self.settings.check;
        let jitter = self.jitter();
        let line = &mut self.lines[index];
        if let State::Busy { held: Some(held), .. } = std::mem::replace(&mut line.state, State::Idle) {
            let mut held = held;
            held.check_at = now + check.mul_f64(0.9 + jitter / 5.0);
            if let Ok(checked) = outcome {
                let moved = checked.external.is_some_and(|ip| ip != held.external.ip());
                if !checked.holds || moved {
                    held.renew_at = now;
                }
            }
            line.state = State::Held(held);
        }
        if let Ok(Checked { epoch: Some(told), .. }) = outcome {
            self.epoch(now, gateway, *told, None);
        }
        self.step(now);
    }

    /// What came of [`Job::Unmap`].
    pub(super) fn unmapped(&mut self, ask: &Ask, outcome: &Result<(), MapError>) {
        let again = self.lines.iter().any(|line| line.is_for(ask) && line.is_on_router());
        if outcome.is_ok() && !again && self.record.remove(&ask.site, ask.port) {
            self.recorded = false;
        }
    }

    /// A router told everybody its seconds.
    pub(super) fn noticed(&mut self, now: Instant, gateway: &Gateway, told: u32) {
        self.epoch(now, gateway.ip, told, None);
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
            self.retire(line, false);
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
        let stale: Vec<_> =
            self.record.entries.iter().filter(|entry| entry.is_at(&site) && entry.port != port).cloned().collect();
        for entry in stale {
            let ask = self.ask(&site, entry.port, entry.nonce, entry.external, Patience::Last);
            self.jobs.push(Job::Unmap { ask });
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
    fn retire(&mut self, line: Line, moved: bool) {
        if let (Some(held), false) = (line.held(), moved) {
            self.lose(held);
        }
        let reachable = self.situation.addresses.iter().any(|own| own.ip == line.site.source);
        if line.is_on_router() && reachable {
            let ask = self.ask(&line.site, line.port, line.nonce, line.external, Patience::Last);
            self.unmap(ask);
        }
    }

    /// Whether a grant is worth anything.
    fn judge(&mut self, ask: &Ask, grant: Grant) -> Result<Grant, MapError> {
        let gateway = ask.site.gateway.ip;
        if grant.lease.is_some_and(|lease| lease < SHORTEST_LEASE) {
            let why = format!("it offers {} s, which is over at once", grant.lease.unwrap_or_default().as_secs());
            return Err(MapError::Denied { gateway, why, retry_after: None });
        }
        if !is_global(grant.external.ip()) {
            self.unmap(ask.clone());
            let why = format!("its outer address is {}", grant.external.ip());
            return Err(MapError::DoubleNat { gateway, why });
        }
        if grant.external.port() == 0 {
            let why = "it answered with port 0".to_owned();
            return Err(MapError::Denied { gateway, why, retry_after: None });
        }
        Ok(grant)
    }

    fn granted(&mut self, now: Instant, index: usize, grant: Grant) {
        let jitter = self.jitter();
        let lease = grant.lease.map(|lease| lease.min(LONGEST_LEASE));
        // A mapping without an end is looked at as often as one of the lease that we asked for.
        let renew = pace::renewal(lease.unwrap_or(self.settings.lease), 0, jitter);
        let check = self.settings.check.mul_f64(0.9 + jitter / 5.0);
        let line = &mut self.lines[index];
        let before = line.held().cloned();
        line.failures = 0;
        line.committed = true;
        line.external = Some(grant.external);
        line.state = State::Held(Held {
            external: grant.external,
            granted: now,
            lease,
            expires: lease.map(|lease| now + lease),
            renew_at: now + renew,
            check_at: now + check,
            failed: 0,
            version: grant.version,
            said: false,
        });
        let (site, port, nonce) = (line.site.clone(), line.port, line.nonce);
        if let Some(old) = before.filter(|old| old.external != grant.external) {
            self.lose(&old);
        }
        if self.record.put(&site, port, nonce, Some(grant.external)) {
            self.recorded = false;
        }
        if let Some(told) = grant.epoch {
            self.epoch(now, site.gateway.ip, told, Some(index));
        }
    }

    fn failed(&mut self, now: Instant, index: usize, error: &MapError) {
        let jitter = self.jitter();
        let line = &mut self.lines[index];
        let state = std::mem::replace(&mut line.state, State::Idle);
        let worthless = matches!(error, MapError::DoubleNat { .. });
        line.failures = line.failures.saturating_add(1);
        match state {
            State::Busy { held: Some(mut held), .. } if !worthless => {
                held.failed += 1;
                let lease = held.lease.unwrap_or(self.settings.lease);
                let scheduled = held.granted + pace::renewal(lease, held.failed, jitter);
                held.renew_at = pace::retry(now, scheduled, self.settings.check, held.failed);
                line.state = State::Held(held);
            }
            State::Busy { held, .. } => {
                line.state = State::Resting { until: now + pace::pause(error, line.failures, jitter) };
                if worthless {
                    line.committed = false;
                    line.external = None;
                }
                if let Some(held) = held {
                    self.lose(&held);
                }
            }
            other @ (State::Idle | State::Resting { .. } | State::Held(_)) => line.state = other,
        }
        self.tell(format!("{}: {error}", self.title));
    }

    /// Takes a router's seconds. After a restart all that it had mapped is mapped again, but for the line whose
    /// answer told them.
    fn epoch(&mut self, now: Instant, gateway: IpAddr, told: u32, but: Option<usize>) {
        let index = self.epochs.iter().position(|(ip, ..)| *ip == gateway).unwrap_or_else(|| {
            self.epochs.push((gateway, Epoch::default(), None));
            self.epochs.len() - 1
        });
        let (_, epoch, last) = &mut self.epochs[index];
        let restarted = epoch.restarted(self.rule, now, told);
        if !restarted || last.is_some_and(|last| now < last + RESTART_GAP) {
            return;
        }
        *last = Some(now);
        for (index, line) in self.lines.iter_mut().enumerate() {
            let here = line.site.gateway.ip == gateway && Some(index) != but;
            if let (true, State::Held(held) | State::Busy { held: Some(held), .. }) = (here, &mut line.state) {
                held.renew_at = now;
            }
        }
        self.tell(format!("{}: router {gateway} lost its mappings, asking again", self.title));
    }

    fn busy(&self, id: u64) -> Option<usize> {
        self.lines.iter().position(|line| matches!(line.state, State::Busy { id: asked, .. } if asked == id))
    }

    fn jitter(&mut self) -> f64 {
        self.rng.random()
    }

    /// Says what a line holds, if that was not said yet.
    fn say_again(&mut self, now: Instant, index: usize) {
        let line = &mut self.lines[index];
        let (gateway, strategy) = (line.site.gateway.ip, self.name.clone());
        let Some(held) = line.held_mut().filter(|held| !held.said) else { return };
        held.said = true;
        let lifetime = held.expires.map(|at| at.saturating_duration_since(now));
        let lease = held.lease.map_or_else(|| "for good".to_owned(), |lease| format!("for {} s", lease.as_secs()));
        let words = format!("router {gateway} maps {} to us {lease}", held.external);
        let evidence = format!("{}: {words}", held.version);
        let Ok(endpoint) = Endpoint::new(held.external) else { return };
        let candidate =
            Candidate { endpoint, strategy, tier: Tier::Mapped, proof: Proof::Server, lifetime, evidence };
        self.says.push((self.situation.generation, Event::Found(candidate)));
        self.tell(format!("{}: {words}", self.title));
    }

    /// Takes back what was said of a mapping.
    fn lose(&mut self, held: &Held) {
        if let (true, Ok(endpoint)) = (held.said, Endpoint::new(held.external)) {
            self.says.push((self.situation.generation, Event::Lost(endpoint)));
        }
    }

    /// A note, unless it was the last one.
    fn tell(&mut self, words: String) {
        if self.note.as_ref() != Some(&words) {
            self.says.push((self.situation.generation, Event::Note(words.clone())));
            self.note = Some(words);
        }
    }
}
