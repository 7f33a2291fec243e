//! WireGuard goes where authentic packets come from: what that means, and what is put right.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::effort::Effort;
use super::io::Stimulus;
use super::paths::Path;
use super::peer::Peer;
use super::tuning::put_right_for;
use super::tunnel::Tunnel;
use super::world::World;
use crate::Endpoint;

impl Peer {
    /// WireGuard went after the peer's packets, and not because of a move of ours: the peer chose this path.
    pub(super) fn roamed(&mut self, now: Instant, before: Option<Endpoint>) {
        let relayed = |endpoint: Endpoint| self.paths.get(endpoint).is_some_and(Path::is_relayed);
        let (from, to) = (before.is_some_and(relayed), self.endpoint().is_some_and(relayed));
        self.note_whether_it_answers();
        match (from, to) {
            (false, true) if !self.never_settled(before) => self.left_for_a_relay(now, before),
            (true, false) => self.relay.leave(now),
            (false, false | true) | (true, true) => {}
        }
        if matches!(self.effort, Effort::Rest) && !self.relay.plans_search() {
            self.plan_search(now);
        }
    }

    /// The path in use is another one than before.
    pub(super) fn note_whether_it_answers(&mut self) {
        let proof = self.endpoint().and_then(|endpoint| self.paths.get(endpoint)?.proof());
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.note_answers(proof.map(|proof| proof.rtt));
        }
    }

    fn never_settled(&self, left: Option<Endpoint>) -> bool {
        matches!(&self.tunnel, Tunnel::Up(up) if up.never_settled(left))
    }

    /// The session left a direct path for a relay: that path is dead, whatever was proven of it before. Where somebody has
    /// moved that says nothing of the paths between the places where both are now.
    pub(super) fn left_for_a_relay(&mut self, now: Instant, before: Option<Endpoint>) {
        let Some(before) = before else { return };
        if !matches!(&self.effort, Effort::Round(round) if round.elsewhere) {
            self.flaps.died(now);
        }
        self.paths.doubt(now, before);
        if self.nominated == Some(before) {
            self.nominated = None;
        }
    }

    /// Late packets come over the path that was left, or over others that are known and proven, or by our own relay. From
    /// anywhere else it is the peer that moved, and to put its old place there again would cut it off.
    pub(super) fn pulled_back(&mut self, world: &mut World<'_>, to: Option<Endpoint>) {
        let left = if let Tunnel::Up(up) = &self.tunnel { up.left() } else { None };
        let known = |endpoint| {
            let path = self.paths.get(endpoint);
            left == Some(endpoint) || path.is_some_and(|path| path.proof().is_some() || path.is_relayed())
        };
        if to.is_none_or(known) {
            let old = to.and_then(|to| self.paths.get(to)?.proof());
            // By a relay it is as far to us as to the peer, or so.
            let under_way = old.map_or(Duration::from_millis(200), |proof| 2 * proof.rtt);
            if let Tunnel::Up(up) = &mut self.tunnel {
                up.put_right_for(world.now, put_right_for(under_way));
            }
            return;
        }
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.follow(to);
        }
        self.paths.void_proofs(world.now);
        self.nominated = None;
        if let Some(to) = to {
            self.paths.add_in_use(world.now, to);
        }
    }

    /// Puts the endpoint right while late packets may undo it; says when it does so again.
    pub(super) fn put_right(&mut self, world: &mut World<'_>) -> Option<(Instant, &'static str)> {
        let Tunnel::Up(up) = &mut self.tunnel else { return None };
        let to = up.put_right(world.now, world.rng.random_range(0.75..1.25));
        let again = up.put_right_at();
        if to.is_some() {
            self.update(world, to, Stimulus::None);
        }
        again.map(|at| (at, "late packets"))
    }
}
