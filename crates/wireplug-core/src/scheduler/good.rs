//! The last good candidates of a peer: where it answered last. They are kept over a restart, and tried when no server is
//! there to bring the peer's offer.
//!
//! They are targets of checks like any others. Where the tunnel is down and nothing answers any check, because a peer
//! whose tunnel is settled listens for none, and WireGuard has no session that could come back by itself, they are among the
//! endpoints that are set unproven, one in each round: WireGuard itself answers an initiation at any time.

use std::time::Instant;

use super::io::Command;
use super::local::Local;
use super::peer::Peer;
use super::tuning::MAX_GOOD;
use super::world::World;
use crate::{Endpoint, Reach, RemoteCandidate, Tier};

impl Peer {
    /// What an earlier run found of this peer.
    pub(super) fn recall_good(&mut self, now: Instant, mut candidates: Vec<RemoteCandidate>) {
        candidates.truncate(MAX_GOOD);
        self.good = candidates;
        self.set_targets(now);
    }

    /// Whether a server is there or not makes the last good ones targets or not.
    pub(super) fn note_server(&mut self, world: &World<'_>) {
        let away = world.server_is_away();
        if std::mem::replace(&mut self.server_away, away) != away && !self.good.is_empty() {
            self.set_targets(world.now);
        }
    }

    /// Those that are tried now.
    pub(super) fn remembered(&self) -> &[RemoteCandidate] {
        if self.server_away { &self.good } else { &[] }
    }

    /// The round ended with a tunnel: what answered in it is to be kept, if there is anything new in it.
    pub(super) fn keep_good(&mut self, world: &mut World<'_>) {
        let mut proven: Vec<_> =
            self.paths.proven(world.now, &self.ranking).filter(|path| !path.relayed).collect();
        proven.sort_by_key(|path| (Some(path.endpoint) != self.endpoint(), path.score));
        let found = proven.iter().filter_map(|path| self.as_candidate(world.local, path.endpoint));
        let mut good: Vec<_> = found.take(MAX_GOOD).collect();
        let is_new = |one: &RemoteCandidate| self.good.iter().all(|known| known.endpoint != one.endpoint);
        if !good.iter().any(is_new) {
            return;
        }
        let others: Vec<_> = self
            .good
            .iter()
            .filter(|old| good.iter().all(|one| one.endpoint != old.endpoint))
            .cloned()
            .collect();
        good.extend(others);
        good.truncate(MAX_GOOD);
        self.good.clone_from(&good);
        world.commands.push_back(Command::Keep { peer: self.key, candidates: good });
    }

    /// A proven path's end as a candidate, if it means anything in another network and its strategy is known.
    fn as_candidate(&self, local: &Local, endpoint: Endpoint) -> Option<RemoteCandidate> {
        let (strategy, tier) = self.paths.get(endpoint)?.kind()?;
        let strategy = strategy.or_else(|| local.strategy_of(tier))?.clone();
        (tier != Tier::Lan).then_some(RemoteCandidate { endpoint, strategy, tier, reach: Reach::Filtered })
    }
}
