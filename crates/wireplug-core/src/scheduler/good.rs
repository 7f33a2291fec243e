//! The last good candidates of a peer: where it answered last. They are kept over a restart, and tried when no server is
//! there to bring the peer's offer.
//!
//! They are targets of checks like any others. Where the tunnel is down and nothing answers any check, because a peer
//! whose tunnel is settled listens for none, and WireGuard has no session that could come back by itself, they are among the
//! endpoints that are set unproven, one in each round: WireGuard itself answers an initiation at any time. Connecting to a
//! server may take seconds, so they are set only when it is known that none is there.

use super::io::Command;
use super::peer::Peer;
use super::tuning::MAX_GOOD;
use super::world::{Server, World};
use crate::{Endpoint, Reach, RemoteCandidate};

impl Peer {
    /// What an earlier run found of this peer.
    pub(super) fn recall_good(&mut self, world: &World<'_>, mut candidates: Vec<RemoteCandidate>) {
        candidates.truncate(MAX_GOOD);
        self.good = candidates;
        self.set_targets(world);
    }

    /// Those that are checked while no server is connected, also while it is not known yet whether one will be.
    pub(super) fn remembered(&self, server: &Server) -> impl Iterator<Item = &RemoteCandidate> {
        let all = if server.is_up() { &[][..] } else { &self.good };
        all.iter().filter(|one| self.is_enabled(one))
    }

    /// The round ended with a tunnel: what answered in it is the best that is known, the path in use first, and what was
    /// not of use for the longest time gives way. It is to be kept if it is another set or begins with another one, and
    /// once in each run, which shows that it is still of use.
    pub(super) fn keep_good(&mut self, world: &mut World<'_>) {
        let mut proven: Vec<_> =
            self.paths.proven(world.now, &self.ranking).filter(|path| !path.relayed).collect();
        proven.sort_by_key(|path| (Some(path.endpoint) != self.endpoint(), path.score));
        let found = proven.iter().filter_map(|path| self.as_candidate(path.endpoint));
        let mut good: Vec<_> = found.take(MAX_GOOD).collect();
        if good.is_empty() {
            return;
        }
        let among = |one: &RemoteCandidate, all: &[RemoteCandidate]| {
            all.iter().any(|other| other.endpoint == one.endpoint)
        };
        let others: Vec<_> = self.good.iter().filter(|old| !among(old, &good)).cloned().collect();
        good.extend(others);
        good.truncate(MAX_GOOD);
        let first = |all: &[RemoteCandidate]| all.first().map(|one| one.endpoint);
        let same = first(&good) == first(&self.good) && good.iter().all(|one| among(one, &self.good));
        self.good.clone_from(&good);
        if !(same && self.has_kept) {
            self.has_kept = true;
            world.commands.push_back(Command::Keep { peer: self.key, candidates: good });
        }
    }

    /// The peer's end of a path as a candidate, if it means anything in another network and its strategy is known.
    fn as_candidate(&self, endpoint: Endpoint) -> Option<RemoteCandidate> {
        let (strategy, tier) = self.paths.get(endpoint)?.lasting_end()?;
        let strategy = strategy.or_else(|| self.ranking.strategy_of(tier))?.clone();
        Some(RemoteCandidate { endpoint, strategy, tier, reach: Reach::Filtered })
    }
}
