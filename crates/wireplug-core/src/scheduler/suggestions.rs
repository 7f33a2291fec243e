//! What strategies on this side know of where a peer may be.

use super::effort::{Cause, Effort};
use super::peer::Peer;
use super::tunnel::Tunnel;
use super::world::World;
use crate::{Endpoint, MAX_CANDIDATES, RemoteCandidate, StrategyName, Tier};

impl Peer {
    /// A strategy on this side knows where the peer may be. A neighbour that was not known before is a reason to
    /// listen at once: it hears of us at the same time, no server tells us so, and there is hardly a better path.
    /// A relay is suggested when it can be bound to, and again when it must be bound to anew.
    pub(super) fn suggested(&mut self, world: &mut World<'_>, candidate: RemoteCandidate) {
        let known = self.suggested.iter().any(|known| known.endpoint == candidate.endpoint);
        let relay = candidate.tier.is_relayed().then_some(candidate.endpoint);
        let neighbour = !known && candidate.tier == Tier::Lan && self.would_improve(&candidate);
        self.forget_suggestion(&candidate.strategy, candidate.endpoint);
        if self.suggested.len() < MAX_CANDIDATES {
            self.suggested.push(candidate);
        }
        self.set_targets(world);
        if let Some(relay) = relay {
            return self.relay_suggested(world, relay);
        }
        if !neighbour {
            return;
        }
        match &mut self.effort {
            Effort::Round(round) => {
                round.called = world.now;
                self.paths.hurry(world.now);
            }
            Effort::Rest | Effort::Pause { .. } => self.begin_round(world, Cause::Called),
        }
    }

    /// Whether a path to a candidate would be better than the one that carries the session, if there is one.
    fn would_improve(&self, candidate: &RemoteCandidate) -> bool {
        let Some(place) = self.ranking.place(Some(&candidate.strategy), candidate.tier) else { return false };
        match &self.tunnel {
            Tunnel::Up(up) => {
                up.endpoint.is_none_or(|endpoint| place < self.paths.place(endpoint, &self.ranking))
            }
            Tunnel::Down | Tunnel::Trying(_) => true,
        }
    }

    /// A strategy takes a suggestion back. A session that is on that relay stays there for now and looks for another path.
    pub(super) fn withdrawn(&mut self, world: &mut World<'_>, strategy: &StrategyName, endpoint: Endpoint) {
        let in_use = self.uses_relay() && self.endpoint() == Some(endpoint);
        self.carry_over_relay();
        self.forget_suggestion(strategy, endpoint);
        self.set_targets(world);
        if in_use && matches!(self.effort, Effort::Rest) {
            self.begin_round(world, Cause::Own);
        }
    }

    fn forget_suggestion(&mut self, strategy: &StrategyName, endpoint: Endpoint) {
        self.suggested.retain(|known| known.strategy != *strategy || known.endpoint != endpoint);
    }
}
