//! What the daemon was told, so that only what differs is told again.

use std::collections::BTreeSet;

use wireplug_core::{Endpoint, PublicKey, Reach, RemoteCandidate, Tier};
use wireplug_strategy::{Context, Situation};

use crate::file::Hints;

/// What was told in the current generation.
#[derive(Debug, Default)]
pub(crate) struct Told {
    generation: u32,
    places: BTreeSet<(PublicKey, Endpoint)>,
    note: String,
}

impl Told {
    /// Tells what differs.
    pub(crate) fn update(&mut self, situation: &Situation, hints: &Hints, context: &Context) {
        let generation = situation.generation;
        if self.generation != generation {
            // The daemon has dropped all that was told for another network.
            *self = Self { generation, ..Self::default() };
        }
        let is_peer = |key: &PublicKey| situation.peers.iter().any(|peer| peer.public_key == *key);
        let places: BTreeSet<_> = hints.places.iter().filter(|(peer, _)| is_peer(peer)).copied().collect();
        for (peer, endpoint) in self.places.difference(&places) {
            context.withdraw(generation, *peer, *endpoint);
        }
        for (peer, endpoint) in places.difference(&self.places) {
            let candidate = RemoteCandidate {
                endpoint: *endpoint,
                strategy: context.name().clone(),
                tier: Tier::Direct,
                // Whether strangers can send to it, the file does not know.
                reach: Reach::Filtered,
            };
            context.suggest(generation, *peer, candidate);
        }
        self.places = places;
        self.note(situation, hints, context);
    }

    /// Says how it goes, once for each way in which it goes.
    fn note(&mut self, situation: &Situation, hints: &Hints, context: &Context) {
        let known: BTreeSet<_> = self.places.iter().map(|(peer, _)| peer).collect();
        let (known, peers) = (known.len(), situation.peers.len());
        let mut words = format!("knows where {known} of {peers} peers may be");
        if let Some(wrong) = &hints.wrong {
            words = format!("{words}; {wrong}");
        }
        if self.note != words {
            context.note(situation.generation, words.clone());
            self.note = words;
        }
    }
}
