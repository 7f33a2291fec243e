//! What a peer says: its offers, its checks, and its answers to ours.

use super::effort::{Cause, Effort};
use super::io::Command;
use super::paths::Path;
use super::peer::Peer;
use super::tuning::MAX_INSTANCES;
use super::tunnel::Tunnel;
use super::world::World;
use crate::{Endpoint, MAX_CANDIDATES, Mapping, Offer, RemoteCandidate, Tier, TransactionId};

impl Peer {
    /// A peer's offer came. Older ones of the same run, and the same one again, are ignored.
    pub(super) fn offered(&mut self, world: &mut World<'_>, mut offer: Offer) {
        offer.candidates.truncate(MAX_CANDIDATES);
        let same_run = self.offers.iter().position(|known| known.version.instance == offer.version.instance);
        let replaced = match same_run {
            Some(index) if offer.version.replaces(&self.offers[index].version) => {
                Some(self.offers.remove(index))
            }
            Some(_) => return,
            None if self.offers.len() >= MAX_INSTANCES => {
                self.offers.remove(0);
                None
            }
            None => None,
        };
        self.spoke = Some(world.now);
        let elsewhere =
            replaced.as_ref().is_some_and(|old| old.version.generation != offer.version.generation);
        let news = replaced
            .as_ref()
            .is_none_or(|old| (&old.candidates, old.mapping) != (&offer.candidates, offer.mapping));
        let more = replaced.is_none_or(|old| {
            let new =
                |one: &RemoteCandidate| old.candidates.iter().all(|known| known.endpoint != one.endpoint);
            elsewhere || offer.candidates.iter().any(new)
        });
        if news {
            self.hand.doubt(|_| true);
            self.relay.expect_better();
            self.failures = 0;
            self.reason = None;
        }
        let doubts = offer.doubts;
        if elsewhere {
            self.let_go();
            self.flaps.forget();
            self.paths.void_proofs(world.now);
            self.nominated = None;
        }
        self.offers.push(offer);
        self.set_targets(world);
        match &mut self.effort {
            Effort::Round(round) => {
                // A call without news makes sure that both listen for a while; it must not keep a hopeless round
                // going for as long as the peer calls.
                if news {
                    round.started = world.now;
                } else {
                    round.called = world.now;
                }
                // What only takes back, or says how the peer's NAT maps, gives nothing more to wait for.
                if more || round.met.is_none() {
                    round.met = Some(world.now);
                }
                round.elsewhere |= elsewhere;
                self.paths.hurry(world.now);
            }
            Effort::Rest | Effort::Pause { .. } => {
                self.begin_round(
                    world,
                    match (elsewhere, doubts) {
                        (true, _) => Cause::Moved,
                        (false, true) => Cause::Doubted,
                        (false, false) => Cause::Called,
                    },
                );
            }
        }
        if news {
            self.stop_listening(world.now);
        }
    }

    /// What the peer said last, if it said anything.
    pub(super) fn newest_offer(&self) -> Option<&Offer> {
        self.offers.last()
    }

    pub(super) fn their_mapping(&self) -> Mapping {
        self.newest_offer().map_or(Mapping::Unknown, |offer| offer.mapping)
    }

    pub(super) fn set_targets(&mut self, world: &World<'_>) {
        // Each side binds to a relay of its own accord: what the other names as one would be somebody's address.
        let offered = self.offers.iter().rev().flat_map(|offer| &offer.candidates);
        let offered = offered.filter(|candidate| !candidate.tier.is_relayed());
        let wanted: Vec<_> = self
            .suggested
            .iter()
            .chain(offered)
            .filter(|candidate| self.is_enabled(candidate))
            .chain(self.remembered(world.server))
            .cloned()
            .collect();
        // What is in use is checked whatever is offered, the person's own endpoint too.
        let in_use = self.endpoint();
        self.paths.set_targets(world.now, &wanted, in_use);
    }

    pub(super) fn is_enabled(&self, candidate: &RemoteCandidate) -> bool {
        self.ranking.place(Some(&candidate.strategy), candidate.tier).is_some()
    }

    /// The peer's check arrived: it is answered, and the path checked back.
    pub(super) fn asked(
        &mut self,
        world: &mut World<'_>,
        from: Endpoint,
        transaction: TransactionId,
        tier: Tier,
        nominated: bool,
    ) {
        let known = self.paths.get(from).is_some() && !self.is_barred(from);
        if tier.is_relayed()
            || self.hides_from(world.now, from)
            || !known && self.ranking.place(None, tier).is_none()
            || !self.answers.take(world.now)
        {
            return;
        }
        self.spoke = Some(world.now);
        self.hand.doubt(|at| at == from);
        world.commands.push_back(Command::Answer { peer: self.key, to: from, transaction });
        if matches!(self.effort, Effort::Pause { .. }) {
            self.begin_round(world, Cause::Called);
        }
        self.stop_listening(world.now);
        if matches!(self.effort, Effort::Round(_)) && self.paths.asked(world.now, from, tier) && nominated {
            self.nominated = Some(from);
        }
    }

    pub(super) fn answered(&mut self, world: &mut World<'_>, from: Endpoint, transaction: TransactionId) {
        if !matches!(self.effort, Effort::Round(_)) || !self.paths.answered(world.now, from, transaction) {
            return;
        }
        let path = self.paths.get(from);
        let Some(rtt) = path.and_then(Path::proof).map(|proof| proof.rtt) else { return };
        if !path.is_some_and(Path::is_relayed) {
            self.round_trip = Some(rtt);
        }
        if let Tunnel::Up(up) = &mut self.tunnel
            && up.endpoint == Some(from)
        {
            up.reassure(rtt);
            if up.take_unannounced() {
                self.announce(world);
            }
        }
        self.note_opened(world, from);
    }
}
