//! What the config lets a peer use, when that becomes another: ranked anew, and a path that is left because its
//! strategy was disabled.

use std::time::Instant;

use super::effort::{Cause, Effort, Round};
use super::paths::{Choice, End};
use super::peer::Peer;
use super::ranking::Ranking;
use super::status::Reason;
use super::tunnel::Tunnel;
use super::world::World;
use crate::Endpoint;

impl Peer {
    /// Strategies were enabled, disabled or ranked otherwise for this peer. All paths are proven anew in a round, and the
    /// session moves as in any other; off a path whose strategy was disabled it moves to whatever is enabled.
    pub(super) fn rank_anew(&mut self, world: &mut World<'_>, ranking: &Ranking) {
        if self.ranking == *ranking {
            return;
        }
        let in_use = self.endpoint().filter(|_| !matches!(self.tunnel, Tunnel::Down));
        let known = in_use.and_then(|endpoint| Some((endpoint, self.paths.get(endpoint)?.ends())));
        let barred_before = self.barred.take().filter(|barred| Some(barred.0) == in_use);
        self.ranking.clone_from(ranking);
        let refused = |(_, ends): &Barred| !ends.is_empty() && !ends.iter().any(|end| end.is_wanted(ranking));
        self.barred = barred_before.or(known).filter(refused);
        self.hand.forget();
        self.flaps.forget();
        self.carry_over_relay();
        self.set_targets(world);
        self.relay.expect_better();
        self.failures = 0;
        self.reason = None;
        self.begin_round(world, Cause::Own);
    }

    /// There is something new to try. A session that works is left alone.
    pub(super) fn reconsider(&mut self, world: &mut World<'_>) {
        if matches!(self.tunnel, Tunnel::Down) {
            self.failures = 0;
            self.reason = None;
            self.begin_round(world, Cause::Own);
        }
    }

    /// Whether a path may not be used though the session may be on it.
    pub(super) fn is_barred(&self, endpoint: Endpoint) -> bool {
        let is_it = self.barred.as_ref().is_some_and(|(barred, _)| *barred == endpoint);
        is_it && !self.paths.get(endpoint).is_some_and(|path| path.is_wanted(&self.ranking))
    }

    /// Whether the session is on a path that it may not use.
    pub(super) fn uses_what_is_barred(&self) -> bool {
        let in_use = self.endpoint().filter(|_| !matches!(self.tunnel, Tunnel::Down));
        in_use.is_some_and(|endpoint| self.is_barred(endpoint))
    }

    /// The session is where it may be again.
    pub(super) fn forget_what_was_disabled(&mut self) {
        if self.reason == Some(Reason::Disabled) && !self.uses_what_is_barred() {
            self.reason = None;
        }
    }

    /// When the session leaves a path that it may not use: at once, but for a relay only when better paths have had their
    /// head start.
    pub(super) fn leave_at(&self, world: &World<'_>, round: &Round, best: Choice) -> Instant {
        let head_start = self.head_start(world, round).filter(|_| best.relayed);
        head_start.map_or(best.proof.at, |at| at.max(best.proof.at))
    }

    /// Nothing enabled was proven. A path straight to the peer stays as it is: WireGuard forgets no endpoint, and what
    /// works is not cut. A relay is given back: that is a server's help, which is not wanted any more.
    pub(super) fn gives_up_what_is_barred(&self) -> bool {
        matches!(self.effort, Effort::Round(_)) && self.uses_what_is_barred() && self.tier_in_use_is_relayed()
    }
}

/// A path, and what its two ends were found by.
pub(super) type Barred = (Endpoint, Vec<End>);
