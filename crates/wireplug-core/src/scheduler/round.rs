//! A round: offer, check, choose, apply, and know when it is over.

use std::time::Instant;

use super::io::{Command, Stimulus};
use super::paths::Choice;
use super::peer::{Cause, Effort, Peer, Role, Round, World};
use super::status::Reason;
use super::tuning::{
    CONFIRM, NOTHING_TO_CHECK, ROUND, UNPROVEN_AFTER, UNPROVEN_EACH, UPGRADE_WINDOW, follower_patience,
    replace_patience,
};
use super::tunnel::{Attempt, Tunnel};
use crate::{Endpoint, Tier};

impl Peer {
    /// Does all that is due, and says when the next thing will be, and what.
    pub(super) fn advance(&mut self, world: &mut World<'_>) -> Option<(Instant, &'static str)> {
        self.give_up_attempt(world);
        if let Effort::Pause { until } = self.effort {
            if until > world.now {
                return Some((until, "the next round after a pause"));
            }
            self.begin_round(world, Cause::Own);
        }
        let Effort::Round(round) = &self.effort else { return None };
        let started = round.started;
        let offer = self.outbox.advance(world, self.key, &self.ranking, started);
        self.send_checks(world);
        self.choose(world);
        self.end_if_over(world);
        let Effort::Round(round) = &self.effort else {
            return match self.effort {
                Effort::Pause { until } => Some((until, "the next round after a pause")),
                Effort::Rest | Effort::Round(_) => None,
            };
        };
        let attempt = match &self.tunnel {
            Tunnel::Trying(attempt) => Some(attempt.until),
            Tunnel::Down | Tunnel::Up(_) => None,
        };
        let checks = if world.port_sharing { self.paths.next_due() } else { None };
        [
            (offer, "an offer"),
            (checks, "a check"),
            (attempt, "a handshake that takes too long"),
            (round.decide_at, "a decision between paths"),
            (round.unproven_until, "the next unproven endpoint"),
            (Some(self.round_end(world, round)), "the end of a round"),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| (at, why)))
        // What is due has been done; what is still due could not be, and waiting for it would be a busy loop.
        .filter(|(at, _)| *at > world.now)
        .min()
    }

    fn give_up_attempt(&mut self, world: &mut World<'_>) {
        let stimulus = self.stimulus();
        if let Tunnel::Trying(attempt) = &mut self.tunnel
            && attempt.until <= world.now
        {
            if !attempt.repeated && !self.paths.has_another(world.now, attempt.endpoint) {
                // WireGuard does not repeat by itself a handshake that it answered and that was then lost.
                attempt.repeated = true;
                attempt.until = world.now + CONFIRM;
                self.update(world, None, stimulus);
                return;
            }
            self.paths.failed(world.now, attempt.endpoint);
            self.reason = Some(Reason::NoHandshake);
            self.tunnel = Tunnel::Down;
        }
    }

    fn send_checks(&mut self, world: &mut World<'_>) {
        if !world.port_sharing || !world.listening {
            return;
        }
        while let Some((to, transaction, tier)) =
            self.paths.take_due(world.now, || World::transaction(world.rng))
        {
            let nominate = self.role == Role::Initiator && self.nominated == Some(to);
            world.commands.push_back(Command::Check { peer: self.key, to, transaction, tier, nominate });
        }
    }

    /// Chooses among the proven paths. A tunnel that works is moved only to what is proven and better.
    fn choose(&mut self, world: &mut World<'_>) {
        self.set_decide_at(None);
        let Some(best) = self.choice(world.now) else {
            self.consider_unproven(world);
            return;
        };
        match &self.tunnel {
            Tunnel::Trying(_) => {}
            Tunnel::Down => {
                let at = match self.role {
                    Role::Initiator => world.now,
                    Role::Follower => best.proof.at + follower_patience(best.proof.rtt),
                };
                if at <= world.now { self.apply(world, best.endpoint) } else { self.set_decide_at(Some(at)) }
            }
            Tunnel::Up(up) if up.endpoint == Some(best.endpoint) => self.hold(world.now, best.endpoint),
            Tunnel::Up(up) => {
                let heard_in_round = matches!(&self.effort, Effort::Round(round) if up.heard > round.started);
                match self.move_at(up.endpoint, heard_in_round, best) {
                    Some(at) if at <= world.now => self.move_to(world, best.endpoint),
                    at => self.set_decide_at(at),
                }
            }
        }
    }

    /// The best proven path; for the follower, the one that the initiator has chosen, once that is proven.
    fn choice(&self, now: Instant) -> Option<Choice> {
        let best = self.paths.best(now, &self.ranking);
        let chosen = self.nominated.filter(|_| self.role == Role::Follower).and_then(|endpoint| {
            let path = self.paths.get(endpoint)?;
            let (proof, relayed) = (path.proof()?, path.is_relayed());
            Some(Choice { endpoint, score: self.paths.score(endpoint, &self.ranking), proof, relayed })
        });
        chosen.or(best)
    }

    /// When a live session is to move from its path to the best proven one, if it is.
    fn move_at(&self, current: Option<Endpoint>, heard: bool, best: Choice) -> Option<Instant> {
        let Some(current) = current else { return Some(best.proof.at) };
        if self.role == Role::Follower && self.nominated == Some(best.endpoint) {
            return Some(best.proof.at);
        }
        let proven = self.paths.get(current).is_some_and(|path| path.proof().is_some());
        let better = best.score.is_worth_a_move_from(self.paths.score(current, &self.ranking));
        match (self.role, proven || heard, better) {
            (Role::Initiator, true, true) => Some(best.proof.at),
            (Role::Follower, true, _) | (Role::Initiator, true, false) => None,
            (Role::Initiator, false, _) => Some(best.proof.at + replace_patience(best.proof.rtt)),
            (Role::Follower, false, _) => Some(best.proof.at + follower_patience(best.proof.rtt)),
        }
    }

    /// Sets a proven endpoint where there is no session, and has WireGuard make one.
    fn apply(&mut self, world: &mut World<'_>, endpoint: Endpoint) {
        self.update(world, Some(endpoint), self.stimulus());
        self.tunnel = Tunnel::Trying(Attempt::new(endpoint, world.now + CONFIRM, self.view.as_ref()));
        self.nominate(world, endpoint);
    }

    /// Moves a live session to a proven endpoint. The initiator's packet makes the other side follow.
    fn move_to(&mut self, world: &mut World<'_>, endpoint: Endpoint) {
        let stimulus = match self.role {
            Role::Follower if self.nominated == Some(endpoint) => Stimulus::None,
            Role::Initiator | Role::Follower => self.stimulus(),
        };
        if self.tier_in_use_is_relayed() {
            self.relay.leave(world.now);
        }
        self.update(world, Some(endpoint), stimulus);
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.move_to(world.now, endpoint);
        }
        if let Effort::Round(round) = &mut self.effort {
            round.doubting = false;
        }
        self.nominate(world, endpoint);
    }

    /// The initiator's packet came over the path that it has chosen, and so WireGuard has moved already.
    fn hold(&mut self, now: Instant, endpoint: Endpoint) {
        if let Tunnel::Up(up) = &mut self.tunnel
            && self.role == Role::Follower
            && self.nominated == Some(endpoint)
        {
            up.hold(now, endpoint);
        }
    }

    fn nominate(&mut self, world: &mut World<'_>, endpoint: Endpoint) {
        if self.role == Role::Initiator && self.nominated != Some(endpoint) {
            self.nominated = Some(endpoint);
            self.paths.check_again(world.now, endpoint);
            self.send_checks(world);
        }
    }

    /// The one exception: a dead tunnel, and nothing that can be proven. A configured endpoint is then set
    /// as WireGuard itself would have had it; without raw sockets, all there are, one after another.
    fn consider_unproven(&mut self, world: &mut World<'_>) {
        let Effort::Round(round) = &self.effort else { return };
        if !matches!(self.tunnel, Tunnel::Down) {
            return;
        }
        let at = round.unproven_until.unwrap_or(round.started + UNPROVEN_AFTER);
        let candidates = self.unproven(world.port_sharing);
        let index = if world.port_sharing { self.failures as usize } else { round.unproven };
        let next = if world.port_sharing {
            candidates.get(index % candidates.len().max(1)).copied().filter(|_| round.unproven == 0)
        } else {
            candidates.get(index).copied()
        };
        let Some(endpoint) = next else { return };
        if at > world.now {
            self.set_decide_at(Some(at));
            return;
        }
        let stimulus = if world.port_sharing { Stimulus::None } else { self.stimulus() };
        let current = self.view.as_ref().and_then(|view| view.endpoint);
        let change = Some(endpoint).filter(|endpoint| Some(*endpoint) != current);
        if change.is_some() || stimulus != Stimulus::None {
            self.update(world, change, stimulus);
        }
        if let Effort::Round(round) = &mut self.effort {
            round.unproven += 1;
            round.unproven_until = (!world.port_sharing).then_some(world.now + UNPROVEN_EACH);
        }
        self.reason = Some(Reason::Unproven);
    }

    /// The endpoints that may be tried unproven, best first. A peer that runs wireplug proves its own
    /// paths, so that while checks are possible only configured ones are tried.
    fn unproven(&self, port_sharing: bool) -> Vec<Endpoint> {
        // Anybody on the link can announce a neighbour, so it is not configured.
        let suggested = self.suggested.iter().filter(|known| !port_sharing || known.tier != Tier::Lan);
        let mut endpoints: Vec<_> = suggested.map(|candidate| candidate.endpoint).collect();
        if !port_sharing {
            endpoints.extend(self.newest_offer().iter().flat_map(|o| &o.candidates).map(|c| c.endpoint));
        }
        let mut seen = Vec::new();
        endpoints.retain(|endpoint| {
            let new = !seen.contains(endpoint);
            seen.push(*endpoint);
            new
        });
        endpoints
    }

    fn end_if_over(&mut self, world: &mut World<'_>) {
        let Effort::Round(round) = &self.effort else { return };
        if self.round_end(world, round) > world.now || matches!(self.tunnel, Tunnel::Trying(_)) {
            return;
        }
        let doubting = round.doubting;
        let started = round.started;
        match &self.tunnel {
            Tunnel::Up(up) if !doubting || up.heard > started || self.path_in_use_is_proven() => self.rest(),
            Tunnel::Up(_) => {
                self.tunnel = Tunnel::Down;
                self.failures = 0;
                let reason = self.explain(world);
                self.pause(world, reason);
            }
            Tunnel::Down | Tunnel::Trying(_) => {
                let reason = self.explain(world);
                self.pause(world, reason);
            }
        }
    }

    /// When this round is over if nothing more happens.
    fn round_end(&self, world: &World<'_>, round: &Round) -> Instant {
        let length = match &self.tunnel {
            Tunnel::Up(_) if !round.doubting => UPGRADE_WINDOW,
            Tunnel::Trying(attempt) => return attempt.until.max(round.started + ROUND),
            Tunnel::Up(_) | Tunnel::Down if !world.port_sharing => {
                let endpoints = u32::try_from(self.unproven(false).len()).unwrap_or(u32::MAX);
                (UNPROVEN_EACH * endpoints + UNPROVEN_AFTER).max(NOTHING_TO_CHECK)
            }
            Tunnel::Up(_) | Tunnel::Down if self.paths.is_empty() => NOTHING_TO_CHECK,
            Tunnel::Up(_) | Tunnel::Down => ROUND,
        };
        let waited_for = self.choice(world.now).map_or(round.started, |choice| {
            // A proven path is not left because the round ends: the follower's turn may come after it.
            choice.proof.at + follower_patience(choice.proof.rtt) + CONFIRM
        });
        let end = (round.started + length).max(round.called + UPGRADE_WINDOW);
        match &self.tunnel {
            Tunnel::Down => end.max(waited_for),
            Tunnel::Trying(_) => end,
            // A session that took long may be moved at once, and the other side must be there to hear of it.
            Tunnel::Up(up) => end.max(up.since + UPGRADE_WINDOW),
        }
    }

    fn set_decide_at(&mut self, at: Option<Instant>) {
        if let Effort::Round(round) = &mut self.effort {
            round.decide_at = at;
        }
    }
}
