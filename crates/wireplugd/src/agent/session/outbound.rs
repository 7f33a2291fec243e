//! What the scheduler and verification decided is done.

use tracing::{debug, info, warn};
use wireplug_core::scheduler::{Command, Input, Stimulus, Unsendable, Verdict};
use wireplug_core::{Endpoint, Family, PublicKey};

use super::super::device::Job;
use super::super::verify::Act;
use super::stun::Ticket;
use super::{FreshFrom, Session, now, random};

impl Session<'_> {
    pub(super) async fn perform(&mut self, command: Command) {
        match command {
            Command::Check { peer, to, transaction, tier, nominate } => {
                if !self.pairs.may_check(now(), &peer) {
                    return; // as if it were lost: a path that is worth it is asked again
                }
                if tier.is_relayed() || self.is_relayed(&peer, to) {
                    return self.bind(peer, to, transaction).await;
                }
                let Some(pair) = self.pairs.get(&peer) else { return };
                let payload = pair.check_request(transaction, tier, nominate);
                if let Err(error) = self.port.send(&self.network.routes, to, payload).await {
                    debug!(%to, %error, "check not sent");
                    if let Some(why) = error.for_path() {
                        self.scheduler.handle(now(), Input::Unsendable { peer, to, why });
                    }
                }
            }
            Command::Answer { peer, to, transaction } => {
                let Some(pair) = self.pairs.get(&peer) else { return };
                let payload = pair.check_response(transaction, to.addr());
                if let Err(error) = self.port.send(&self.network.routes, to, payload).await {
                    debug!(%to, %error, "answer not sent");
                }
            }
            Command::Verify { generation, endpoint } => {
                let server = self.servers.first_up(endpoint.family());
                let fresh = &mut FreshFrom(&self.servers);
                self.verifications.begin(now(), generation, endpoint, server, fresh);
            }
            Command::Publish { peer, offer } => {
                let Some(pair) = self.pairs.get(&peer) else { return };
                debug!(peer = %self.peer_name(&peer), candidates = ?offer.candidates, mapping = ?offer.mapping, "offer sent");
                self.servers.publish(pair.topic(), &pair.seal(&offer, random()));
            }
            Command::Keep { peer, candidates } => self.keep_candidates(peer, candidates),
            Command::Update { peer, endpoint, stimulus } => self.apply(peer, endpoint, stimulus).await,
        }
    }

    /// Has the device changed. The route is looked up again just before: a path through a tunnel loops it.
    pub(super) async fn apply(&mut self, peer: PublicKey, endpoint: Option<Endpoint>, stimulus: Stimulus) {
        if let Some(to) = endpoint {
            let route = self.network.routes.lookup_endpoint(to, self.state.fwmark).await;
            if route.is_ok_and(|route| route.tunnel) {
                warn!(peer = %self.peer_name(&peer), "an endpoint that is reached through a tunnel is not set");
                let why = Unsendable::ThroughTunnel;
                self.scheduler.handle(now(), Input::Unsendable { peer, to, why });
                return;
            }
            // Where WireGuard is only to be kept from going back, that is done many times in a moment.
            if stimulus != Stimulus::None {
                info!(peer = %self.peer_name(&peer), "endpoint set");
            }
            debug!(peer = %self.peer_name(&peer), endpoint = %to, ?stimulus, "endpoint set to");
        }
        // A device that is stuck must not keep the others' checks from being answered: it is as if this had failed.
        if self.jobs.try_send(Job::Update { peer, endpoint, stimulus }).is_err() {
            warn!(peer = %self.peer_name(&peer), "the device is stuck or gone: the endpoint was not set");
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Own { server, address } => {
                let family = Family::of(address.ip());
                self.ask(address, Ticket::Ownership { server, family });
            }
            Act::Ask { server, id, endpoint, nonce } => {
                debug!(%endpoint, "asking the server for a probe");
                self.servers.verify(server, id, endpoint, nonce);
            }
            Act::Tell { generation, endpoint, verdict } => {
                match &verdict {
                    Verdict::Wrong { why } => {
                        info!("a candidate is not ours, and is not offered");
                        debug!(%endpoint, %why, "not ours");
                    }
                    verdict => debug!(%endpoint, ?verdict, "candidate verified"),
                }
                self.scheduler.handle(now(), Input::Verdict { generation, endpoint, verdict });
            }
        }
    }
}
