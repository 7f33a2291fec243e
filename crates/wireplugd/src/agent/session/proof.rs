//! A path was proven.

use tracing::debug;
use wireplug_core::scheduler::{Input, Stimulus};
use wireplug_core::{Endpoint, PublicKey, TransactionId};

use super::super::device::Job;
use super::{Session, now};

impl Session<'_> {
    /// Tells the scheduler of an answer to a check.
    pub(super) fn proven(&mut self, peer: PublicKey, from: Endpoint, transaction: TransactionId) {
        self.scheduler.handle(now(), Input::CheckAnswered { peer, from, transaction });
        self.refresh(peer, from);
    }

    /// Sets the endpoint in use once more, as it is, when it is proven for the first time in another network. WireGuard
    /// remembers the address that it sends from with its endpoint; wireguard-go keeps one that this host has no
    /// longer, and sends nothing until the peer is heard, which at a relay may be never.
    fn refresh(&mut self, peer: PublicKey, from: Endpoint) {
        if !self.stale.contains(&peer) {
            return;
        }
        if self.scheduler.endpoint(&peer) != Some(from) {
            return;
        }
        self.stale.remove(&peer);
        debug!(peer = %self.peer_name(&peer), "the endpoint is set once more: the network is another one");
        let update = Job::Update { peer, endpoint: Some(from), stimulus: Stimulus::None };
        if self.jobs.try_send(update).is_err() {
            debug!("the device's task is busy or gone");
        }
    }
}
