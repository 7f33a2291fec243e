//! Our offers to one peer: when the next one is due, and what it says.

use std::time::Instant;

use super::io::Command;
use super::ranking::Ranking;
use super::tuning::{OFFER_GAP, OFFER_PATIENCE};
use super::world::{Server, World};
use crate::{Mapping, Offer, OfferVersion, PublicKey, RemoteCandidate};

/// What was said, and whether there is more to say.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    marked: bool,
    last: Option<Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    generation: u32,
    candidates: Vec<RemoteCandidate>,
    mapping: Mapping,
}

impl Outbox {
    /// The peer is to be told, whether or not there is anything new.
    pub(super) fn mark(&mut self) {
        self.marked = true;
    }

    /// Whether the peer has been told anything in this generation.
    pub(super) fn has_told(&self, generation: u32) -> bool {
        self.last.as_ref().is_some_and(|said| said.generation == generation)
    }

    /// Publishes if that is due; else says when it will be.
    pub(super) fn advance(
        &mut self,
        world: &mut World<'_>,
        peer: PublicKey,
        ranking: &Ranking,
        round_started: Instant,
        doubts: bool,
    ) -> Option<Instant> {
        let Server::Up { since } = world.server else { return None };
        let candidates = world.local.offered(ranking);
        let mapping = world.local.mapping();
        let new = self.last.as_ref().is_none_or(|said| {
            said.generation != world.generation || said.candidates != candidates || said.mapping != mapping
        });
        if !(new || self.marked) {
            return None;
        }
        let mut due = self.last.as_ref().map_or(world.now, |said| said.at + OFFER_GAP);
        // What was said of this network and is taken back, is news like any other.
        if candidates.is_empty() && !self.has_told(world.generation) {
            due = due.max(round_started.max(*since) + OFFER_PATIENCE);
        }
        if due > world.now {
            return Some(due);
        }
        self.marked = false;
        // One count for all peers: one that was removed and is added again remembers what it heard.
        *world.revision += 1;
        let version = OfferVersion {
            instance: world.instance,
            generation: world.generation,
            revision: *world.revision,
        };
        let offer = Offer { version, candidates: candidates.clone(), mapping, doubts };
        world.commands.push_back(Command::Publish { peer, offer });
        self.last = Some(Said { at: world.now, generation: world.generation, candidates, mapping });
        None
    }
}
