//! The one exception: endpoints that are set unproven, where the tunnel is down and nothing can be proven.

use std::time::Instant;

use super::effort::{Effort, Round};
use super::io::Stimulus;
use super::peer::{Peer, Role};
use super::status::Reason;
use super::tuning::{SESSION_LIFE, UNPROVEN_AFTER, UNPROVEN_EACH, follower_patience};
use super::tunnel::Tunnel;
use super::world::World;
use crate::{Endpoint, Tier};

impl Peer {
    /// The one exception: a dead tunnel, and nothing that can be proven. A configured endpoint is then set
    /// as WireGuard itself would have had it; without raw sockets, all there are, one after another.
    pub(super) fn consider_unproven(&mut self, world: &mut World<'_>) {
        let Effort::Round(round) = &self.effort else { return };
        if !matches!(self.tunnel, Tunnel::Down) {
            return;
        }
        let candidates = self.unproven(world);
        let index = if world.port_sharing { self.failures as usize } else { round.unproven };
        let next = if world.port_sharing {
            candidates.get(index % candidates.len().max(1)).copied().filter(|_| round.unproven == 0)
        } else {
            candidates.get(index).copied()
        };
        let Some(endpoint) = next else { return };
        let at = round.unproven_until.unwrap_or_else(|| self.unproven_at(world, round, endpoint));
        if at > world.now {
            self.decide_by(Some(at));
            return;
        }
        let left_alone = world.port_sharing && !self.is_remembered(world, endpoint);
        let stimulus = if left_alone { Stimulus::None } else { self.stimulus() };
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

    /// The endpoints that may be tried unproven, best first. A peer that runs wireplug proves its own paths, so that
    /// while checks are possible only configured ones are tried; and without a server, the last good ones, as a
    /// peer whose tunnel is settled listens for no checks. These would overwrite the endpoint that the person has set on
    /// the device, so it takes its turn with them, as the first.
    pub(super) fn unproven(&self, world: &World<'_>) -> Vec<Endpoint> {
        // Anybody on the link can announce a neighbour, so it is not configured.
        // To a relay that is not bound, nothing passes.
        let suggested = self
            .suggested
            .iter()
            .filter(|known| !known.tier.is_relayed() && (!world.port_sharing || known.tier != Tier::Lan));
        let mut endpoints: Vec<_> = suggested.map(|candidate| candidate.endpoint).collect();
        if !world.port_sharing {
            endpoints.extend(self.newest_offer().iter().flat_map(|o| &o.candidates).map(|c| c.endpoint));
        }
        if world.server.down_since().is_some() && !self.may_have_session(world.now) {
            let mut remembered = self.remembered(world.server).map(|one| one.endpoint).peekable();
            if remembered.peek().is_some() {
                endpoints.splice(0..0, self.hand.persons());
            }
            endpoints.extend(remembered);
        }
        let mut seen = Vec::new();
        endpoints.retain(|endpoint| {
            let new = !seen.contains(endpoint);
            seen.push(*endpoint);
            let path = self.paths.get(*endpoint);
            new && path.is_none_or(|path| path.unsendable().is_none())
        });
        endpoints
    }

    /// When an endpoint may be set unproven; a remembered one only when no server has been there for as long. Both sides
    /// may remember one, and initiations that cross cost five seconds: so the follower waits for the initiator's.
    fn unproven_at(&self, world: &World<'_>, round: &Round, endpoint: Endpoint) -> Instant {
        if !self.is_remembered(world, endpoint) {
            return round.started + UNPROVEN_AFTER;
        }
        let since = world.server.down_since().unwrap_or(world.now);
        let at = round.started.max(since) + UNPROVEN_AFTER;
        match self.role {
            Role::Follower => at + follower_patience(self.round_trip.unwrap_or_default()),
            Role::Initiator => at,
        }
    }

    /// Whether only the memory of an earlier run names this endpoint.
    fn is_remembered(&self, world: &World<'_>, endpoint: Endpoint) -> bool {
        self.suggested.iter().all(|known| known.endpoint != endpoint)
            && self.remembered(world.server).any(|known| known.endpoint == endpoint)
    }

    /// Whether WireGuard has a session that may still be good, though nothing is heard over its path.
    pub(super) fn may_have_session(&self, now: Instant) -> bool {
        self.handshakes.age(now).is_some_and(|age| age < SESSION_LIFE)
    }
}
