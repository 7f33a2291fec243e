//! A round: offer, check, choose, apply, and know when it is over.

use std::time::Instant;

use super::effort::{Cause, Effort, Round};
use super::hand::Held;
use super::io::{Command, Stimulus};
use super::paths::Choice;
use super::peer::{Peer, Role};
use super::status::Reason;
use super::tuning::{
    CONFIRM, NOTHING_TO_CHECK, ROUND, UNPROVEN_AFTER, UNPROVEN_EACH, UPGRADE_WINDOW, follower_patience,
    moved_patience, relay_patience, replace_patience,
};
use super::tunnel::{Attempt, Tunnel, Up};
use super::world::World;
use crate::Endpoint;

impl Peer {
    /// Does all that is due, and says when the next thing will be, and what.
    pub(super) fn advance(&mut self, world: &mut World<'_>) -> Option<(Instant, &'static str)> {
        self.give_up_attempt(world);
        self.forget_what_was_disabled();
        if let Effort::Pause { until } = self.effort {
            if until > world.now {
                return Some((until, "the next round after a pause"));
            }
            self.begin_round(world, Cause::Own);
        }
        if matches!(self.effort, Effort::Rest)
            && let Some(at) = self.search_again(world)
        {
            return Some((at, "the next search for something better than a relay"));
        }
        let Effort::Round(round) = &self.effort else { return None };
        let (started, doubting) = (round.started, round.doubting);
        let offer = self.outbox.advance(world, self.key, &self.ranking, started, doubting);
        let listening = self.listen(world.now);
        self.send_checks(world);
        self.choose(world);
        self.end_if_over(world);
        let Effort::Round(round) = &self.effort else {
            return match self.effort {
                Effort::Pause { until } => Some((until, "the next round after a pause")),
                Effort::Rest | Effort::Round(_) => self
                    .search_again(world)
                    .map(|at| (at, "the next search for something better than a relay")),
            };
        };
        let attempt = match &self.tunnel {
            Tunnel::Trying(attempt) => Some(attempt.until),
            Tunnel::Down | Tunnel::Up(_) => None,
        };
        let checks = self.paths.next_due(world.checks_by()).filter(|_| listening.is_none());
        [
            (listening, "the end of listening"),
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
        let (stimulus, relayed) = (self.stimulus(), self.uses_relay());
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
            if relayed {
                self.relay.give_up(world.now);
            }
        }
    }

    fn send_checks(&mut self, world: &mut World<'_>) {
        if !world.listening || self.is_listening() {
            return;
        }
        let by = world.checks_by();
        while let Some((to, transaction, tier)) =
            self.paths.take_due(world.now, by, || World::transaction(world.rng))
        {
            let nominate = self.role == Role::Initiator && self.nominated == Some(to);
            world.commands.push_back(Command::Check { peer: self.key, to, transaction, tier, nominate });
        }
    }

    /// Chooses among the proven paths. A tunnel that works is moved only to what is proven and better.
    fn choose(&mut self, world: &mut World<'_>) {
        let trusted = self.next_trusted(world.now);
        self.set_decide_at(trusted);
        let Some(best) = self.choice(world.now) else {
            self.consider_unproven(world);
            return;
        };
        match &self.tunnel {
            Tunnel::Trying(_) => {}
            Tunnel::Down => {
                let at = match self.role {
                    Role::Initiator if best.relayed => self.relay_may_be_used_at(world),
                    Role::Initiator => world.now,
                    Role::Follower => best.proof.at + follower_patience(best.proof.rtt),
                };
                let at = self.after_the_hand(at, best.endpoint);
                if at <= world.now { self.apply(world, best.endpoint) } else { self.decide_by(Some(at)) }
            }
            Tunnel::Up(up) if up.endpoint == Some(best.endpoint) => {
                self.hold(world.now, best.endpoint);
                self.nudge(world, best);
            }
            Tunnel::Up(up) => match self.move_at(world, up, best) {
                Some(at) if at <= world.now => self.move_to(world, best.endpoint),
                at => self.decide_by(at),
            },
        }
    }

    /// The path works, and all the same nothing may pass over it. A session that is too old to be used is begun anew: where
    /// the side that is to renew it cannot (the peer takes no initiation from a clock that was set back), the other one must,
    /// and does not know. Over a younger one a peer that doubts it is sent a packet that WireGuard wants answered, at once,
    /// and one that calls and is not heard after a while: that is all that is missing where the first packet of a new session
    /// was lost, or else shows that there is none.
    fn nudge(&mut self, world: &mut World<'_>, best: Choice) {
        let over = !self.may_have_session(world.now);
        let Effort::Round(round) = &self.effort else { return };
        let proven = best.proof.at;
        let (at, stimulus) = match (self.role, round.cause) {
            _ if round.nudged.is_some() => return,
            (Role::Initiator, _) if over => (proven, self.stimulus()),
            (Role::Follower, _) if over => (proven + follower_patience(best.proof.rtt), self.stimulus()),
            _ if self.was_heard_in(round) => return,
            (_, Cause::Doubted) => (proven, Stimulus::Packet),
            (_, Cause::Called) => (proven.max(round.started + UPGRADE_WINDOW), Stimulus::Packet),
            (_, Cause::Own | Cause::Roamed | Cause::Moved | Cause::Doubt) => return,
        };
        if at > world.now {
            return self.decide_by(Some(at));
        }
        if let Effort::Round(round) = &mut self.effort {
            round.nudged = Some(world.now);
        }
        self.update(world, None, stimulus);
    }

    /// When another endpoint is applied than the one that somebody has set: that is tried first.
    fn after_the_hand(&self, at: Instant, endpoint: Endpoint) -> Instant {
        let Effort::Round(round) = &self.effort else { return at };
        match self.held_by_hand(round) {
            Some(Held::Until(until)) if self.set_by_hand() != Some(endpoint) => at.max(until),
            _ => at,
        }
    }

    /// When the head start of better paths is over.
    fn relay_may_be_used_at(&self, world: &World<'_>) -> Instant {
        let Effort::Round(round) = &self.effort else { return world.now };
        self.head_start(world, round).unwrap_or(world.now)
    }

    /// Whether a proven path may be chosen: a direct one that let the session down before only after a while, as long
    /// as there is a relay.
    fn is_trusted(&self, now: Instant, path: &Choice, relay: bool) -> bool {
        path.relayed || !relay || self.flaps.trusted_at(path.proof.at) <= now
    }

    fn has_relay(&self, now: Instant) -> bool {
        self.uses_relay() || self.paths.proven(now, &self.ranking).any(|path| path.relayed)
    }

    /// When the next path that is not trusted yet will be.
    fn next_trusted(&self, now: Instant) -> Option<Instant> {
        let direct = self.paths.proven(now, &self.ranking).filter(|path| !path.relayed);
        direct.map(|path| self.flaps.trusted_at(path.proof.at)).filter(|at| *at > now).min()
    }

    /// The best proven path; for the follower, the one that the initiator has chosen, once that is proven.
    pub(super) fn choice(&self, now: Instant) -> Option<Choice> {
        let relay = self.flaps.any() && self.has_relay(now);
        let trusted = self
            .paths
            .proven(now, &self.ranking)
            .filter(|path| self.is_trusted(now, path, relay) && !self.is_barred(path.endpoint));
        let best = trusted.min_by_key(|path| path.score);
        let nominated = self.nominated.filter(|_| self.role == Role::Follower);
        let proven = |at: &Endpoint| self.paths.get(*at).is_some_and(|path| path.proof().is_some());
        let chosen = self.set_by_hand().filter(proven).or(nominated);
        let chosen = chosen.filter(|endpoint| !self.is_barred(*endpoint)).and_then(|endpoint| {
            let path = self.paths.get(endpoint)?;
            let (proof, relayed) = (path.proof()?, path.is_relayed());
            Some(Choice { endpoint, score: self.paths.score(endpoint, &self.ranking), proof, relayed })
        });
        chosen.or(best)
    }

    /// When a live session is to move from its path to the best proven one, if it is.
    fn move_at(&self, world: &World<'_>, up: &Up, best: Choice) -> Option<Instant> {
        let Effort::Round(round) = &self.effort else { return None };
        let Some(current) = up.endpoint else { return Some(best.proof.at) };
        match self.held_by_hand(round) {
            Some(Held::WhileItWorks) => return None,
            Some(Held::Until(until)) if until > world.now => return Some(until),
            Some(Held::Until(_)) | None => {}
        }
        if self.role == Role::Follower && self.nominated == Some(best.endpoint) {
            return Some(best.proof.at);
        }
        if self.is_barred(current) {
            return Some(self.leave_at(world, round, best));
        }
        let better = best.score.is_worth_a_move_from(self.paths.score(current, &self.ranking));
        let longer = up.round_trip().unwrap_or_default().max(best.proof.rtt);
        let patience = match (self.role, self.works_in(round), better) {
            (Role::Initiator, true, true) => return Some(best.proof.at),
            (Role::Follower, true, _) | (Role::Initiator, true, false) => return None,
            // Somebody is elsewhere, so it is no wonder that the path of before does not answer.
            (Role::Initiator, false, _) if round.elsewhere => moved_patience(longer),
            (Role::Follower, false, _) if round.elsewhere => 2 * moved_patience(longer),
            (Role::Initiator, false, _) => replace_patience(best.proof.rtt),
            (Role::Follower, false, _) => follower_patience(best.proof.rtt),
        };
        let at = best.proof.at + patience;
        if !best.relayed || self.tier_in_use_is_relayed() {
            return Some(at);
        }
        // The relay is always there to be had: a direct path is left for it only when its checks fail for a while.
        let failing = if round.elsewhere {
            self.head_start(world, round).unwrap_or(round.started)
        } else {
            round.started + relay_patience(self.round_trip.unwrap_or_default())
        };
        let at = match self.role {
            Role::Initiator => at.max(failing),
            Role::Follower => at.max(failing + patience),
        };
        // One that never answered a check tells nothing by not answering: then WireGuard's own silence must.
        if up.answers_checks { Some(at) } else { up.silent_for_long_at().map(|silent| at.max(silent)) }
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
        let (before, from_relay) = (self.endpoint(), self.tier_in_use_is_relayed());
        let barred = self.uses_what_is_barred();
        self.update(world, Some(endpoint), stimulus);
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.move_to(world.now, endpoint);
        }
        if let Effort::Round(round) = &mut self.effort {
            round.doubting = false;
        }
        match (from_relay, self.tier_in_use_is_relayed()) {
            (true, false) => self.relay.leave(world.now),
            // One that was disabled is not dead.
            (false, true) if !barred => self.left_for_a_relay(world.now, before),
            (true, true) | (false, _) => {}
        }
        self.forget_what_was_disabled();
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

    fn end_if_over(&mut self, world: &mut World<'_>) {
        let Effort::Round(round) = &self.effort else { return };
        if self.round_end(world, round) > world.now || matches!(self.tunnel, Tunnel::Trying(_)) {
            return;
        }
        let in_doubt = round.doubting && !self.works_in(round);
        match &self.tunnel {
            Tunnel::Up(_) if !in_doubt && !self.gives_up_what_is_barred() => {
                // The peer called, and its path answers: if it has lost its session, and cannot begin another one, that
                // shows only when something is sent that WireGuard wants answered.
                let silent = round.cause.is_the_peers() && !self.was_heard_in(round);
                let silent = silent && round.nudged != Some(world.now);
                if silent && self.path_in_use_is_proven() {
                    self.update(world, None, Stimulus::Packet);
                }
                self.keep_good(world);
                self.rest(world.now);
            }
            Tunnel::Up(_) => {
                let given_up = self.gives_up_what_is_barred();
                self.tunnel = Tunnel::Down;
                self.failures = 0;
                let reason = if given_up { Reason::RelayDisabled } else { self.explain(world) };
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
        let in_doubt = round.doubting && !self.works_in(round);
        // What the peer has proven and uses is worth a proof of our own, also where answers take seconds.
        let window = if self.path_in_use_awaits_proof() { ROUND } else { UPGRADE_WINDOW };
        let length = match &self.tunnel {
            Tunnel::Up(_) if !in_doubt && !self.tier_in_use_is_relayed() && !self.uses_what_is_barred() => {
                window
            }
            Tunnel::Trying(attempt) => return attempt.until.max(round.started + ROUND),
            Tunnel::Up(_) | Tunnel::Down if !world.port_sharing => {
                let endpoints = u32::try_from(self.unproven(world).len()).unwrap_or(u32::MAX);
                (UNPROVEN_EACH * endpoints + UNPROVEN_AFTER).max(NOTHING_TO_CHECK)
            }
            Tunnel::Up(_) | Tunnel::Down if self.paths.is_empty() && !self.relay.is_wanted() => {
                NOTHING_TO_CHECK
            }
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
            Tunnel::Up(up) if !in_doubt => end.max(up.since + window),
            // A stream in one direction is answered before that.
            Tunnel::Up(up) => end.max(up.silent_for_long_at().unwrap_or(end)),
        }
    }

    /// Looks at the choice again at this time, if not before.
    pub(super) fn decide_by(&mut self, at: Option<Instant>) {
        if let Effort::Round(round) = &mut self.effort {
            round.decide_at = [round.decide_at, at].into_iter().flatten().min();
        }
    }

    /// Whether the path in use has carried anything in this round.
    pub(super) fn works_in(&self, round: &Round) -> bool {
        self.was_heard_in(round) || self.path_in_use_is_proven()
    }

    /// Whether WireGuard has received anything in this round.
    fn was_heard_in(&self, round: &Round) -> bool {
        matches!(&self.tunnel, Tunnel::Up(up) if up.was_heard_since(round.started))
    }

    fn set_decide_at(&mut self, at: Option<Instant>) {
        if let Effort::Round(round) = &mut self.effort {
            round.decide_at = at;
        }
    }
}
