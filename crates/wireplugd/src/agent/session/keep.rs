//! What is kept over restarts: told to the scheduler, and taken from it. Which network we are in.

use std::time::{Duration, Instant};

use tracing::{debug, info};
use wireplug_core::scheduler::{Input, Learnt};
use wireplug_core::{PublicKey, RemoteCandidate};
use wireplug_proto::kept::NetworkId;

use super::super::network::Features;
use super::{Session, now};

/// A router that the kernel has not spoken with yet has no link-layer address in its table: that is looked for again after
/// so long, so often. Then the network is told by the router's address alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOKS: u8 = 3;

/// Which network we are in, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    network: Option<NetworkId>,
    looks: u8,
    look_at: Option<Instant>,
}

impl Whereabouts {
    pub(super) const fn next(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Session<'_> {
    /// Finds out which network we are in, and recalls what was learnt of it.
    pub(super) async fn find_whereabouts(&mut self) {
        self.whereabouts = Whereabouts { network: self.whereabouts.network, ..Whereabouts::default() };
        self.look_around().await;
    }

    async fn look_around(&mut self) {
        let features = match self.network.features(&self.place).await {
            Features::Whole(features) => Some(features),
            Features::Partial(features) => {
                self.whereabouts.looks += 1;
                if self.whereabouts.looks < LOOKS {
                    self.whereabouts.look_at = Some(now() + LOOK_AGAIN);
                    return;
                }
                Some(features)
            }
            Features::None => None,
        };
        let network = features.map(|features| self.keeper.network(&features));
        if network == self.whereabouts.network {
            return;
        }
        self.whereabouts.network = network;
        let learnt = network.map(|network| self.keeper.learnt(&network)).unwrap_or_default();
        if let Some(network) = network {
            self.keeper.is_in(now(), network);
        }
        if learnt != Learnt::default() {
            debug!(?learnt, "this network is known");
        }
        self.scheduler.handle(now(), Input::Recalled(learnt));
    }

    /// Tells the scheduler where these peers were last reached.
    pub(super) fn recall_candidates(&mut self, peers: &[PublicKey]) {
        for peer in peers {
            let (peer, candidates) = (*peer, self.keeper.candidates(peer));
            if !candidates.is_empty() {
                self.scheduler.handle(now(), Input::LastGood { peer, candidates: candidates.to_vec() });
            }
        }
    }

    pub(super) fn keep_candidates(&mut self, peer: PublicKey, candidates: Vec<RemoteCandidate>) {
        debug!(peer = %self.peer_name(&peer), ?candidates, "kept for a time without server");
        self.keeper.keep_candidates(now(), peer, candidates);
    }

    /// Keeps what the scheduler has learnt.
    pub(super) fn keep_learnt(&mut self) {
        let Some(learnt) = self.scheduler.take_learnt() else { return };
        info!(
            keepalive_s = learnt.keepalive,
            suspected = learnt.suspected,
            on_trial = learnt.on_trial,
            "learnt of this network's NATs"
        );
        if let Some(network) = self.whereabouts.network {
            self.keeper.keep_learnt(now(), network, learnt);
        }
    }

    /// Does what is due.
    pub(super) async fn keep(&mut self, at: Instant) {
        if self.whereabouts.look_at.take_if(|due| *due <= at).is_some() {
            self.look_around().await;
        }
        if let Some(writing) = self.keeper.take(Some(at))
            && self.writings.try_send(writing).is_err()
        {
            // The disk hangs.
            self.keeper.later(at);
        }
    }

    /// Has written what was not written yet.
    pub(super) fn keep_the_rest(&mut self) {
        if let Some(writing) = self.keeper.take(None) {
            let _ = self.writings.try_send(writing);
        }
    }
}
