//! Relays: what strategies want of them, what servers give, and binds in place of checks.

use std::time::Duration;

use tracing::debug;
use wireplug_core::scheduler::Input;
use wireplug_core::{Endpoint, PublicKey, TransactionId};
use wireplug_proto::Topic;
use wireplug_proto::relay::BindRefusal;
use wireplug_proto::rendezvous::{AccessToken, Allocation, Reason};
use wireplug_strategy::Relaying;

use super::super::legs::LinkEvent;
use super::super::relays::{About, Answered};
use super::super::wishes::Wish;
use super::{Session, now, random};
use crate::relay_link::RelayEvent;

impl Session<'_> {
    /// A strategy wants a place at a relay, or no more.
    pub(super) fn wished(&mut self, (peer, url, wish): Wish) {
        let Some(server) = self.servers.number_of(&url) else { return };
        let about = (peer, server);
        let Some(topic) = self.pairs.get(&peer).map(wireplug_proto::Pair::topic) else { return };
        match wish {
            Some(wish) => {
                if self.relays.want(about, wish) {
                    debug!(peer = %self.peer_name(&peer), server = url, "asking for a place on the relay");
                    self.ask_for_place(about);
                }
                self.follow_leg(about);
            }
            None => {
                if self.relays.release(about) {
                    debug!(peer = %self.peer_name(&peer), server = url, "the place on the relay is given back");
                    self.servers.release(server, topic);
                    self.legs.close(about);
                }
            }
        }
    }

    fn ask_for_place(&self, about: About) {
        let (peer, server) = about;
        let (Some(pair), Some((wish, _))) = (self.pairs.get(&peer), self.relays.wish(about)) else { return };
        let token = wish.access.as_ref().and_then(|secret| AccessToken::new(secret.expose().to_owned()).ok());
        self.servers.allocate(server, pair.topic(), token);
    }

    pub(super) fn allocated(&mut self, server: usize, topic: &Topic, allocation: Allocation) {
        let Some((peer, _)) = self.pairs.of_topic(topic) else { return };
        debug!(peer = %self.peer_name(&peer), relays = ?allocation.relays, "a place on the relay");
        self.relays.allocated(now(), (peer, server), allocation);
        self.follow_leg((peer, server));
    }

    pub(super) fn place_refused(
        &mut self,
        server: usize,
        topic: &Topic,
        reason: Reason,
        detail: &str,
        retry_after: Option<Duration>,
    ) {
        let Some((peer, _)) = self.pairs.of_topic(topic) else { return };
        self.relays.refused((peer, server), reason, detail.to_owned(), retry_after);
        self.follow_leg((peer, server));
    }

    /// Has a leg over TLS where one is wanted and there is a place, and nowhere else.
    fn follow_leg(&mut self, about: About) {
        let port = self.port.number();
        match self.relays.wish(about) {
            Some((wish, Some(credential))) if wish.tls && port != 0 => {
                self.legs.have(about, credential, port);
            }
            Some(_) | None => {
                self.legs.close(about);
                self.relays.set_local(about, None);
            }
        }
    }

    /// What the legs over TLS stand on has changed: WireGuard's port, or the peers.
    pub(super) fn follow_legs(&mut self) {
        for about in self.legs.all() {
            self.follow_leg(about);
        }
    }

    /// A relay said something over TLS.
    pub(super) fn link_said(&mut self, (server, event): LinkEvent) {
        match event {
            RelayEvent::Bound { channel, checks, other_side } => {
                let Some((about, from)) = self.legs.of_channel(server, channel) else { return };
                // It is suggested only once it is bound: without raw sockets nothing else proves it.
                self.relays.set_local(about, Some(from));
                let peer = about.0;
                debug!(peer = %self.peer_name(&peer), other_side, "bound to the relay over TLS");
                for transaction in checks.into_iter().filter(|_| other_side) {
                    self.scheduler.handle(now(), Input::CheckAnswered { peer, from, transaction });
                }
            }
            RelayEvent::Refused { channel, refusal } => {
                let Some((about, _)) = self.legs.of_channel(server, channel) else { return };
                debug!(peer = %self.peer_name(&about.0), ?refusal, "not bound to the relay over TLS");
                if refusal == BindRefusal::Unknown
                    && let Answered::Ask(about) = self.relays.unknown_over_tls(now(), about)
                {
                    self.ask_for_place(about);
                }
            }
        }
    }

    pub(super) fn relay_called(&mut self, topic: &Topic) {
        let Some((peer, _)) = self.pairs.of_topic(topic) else { return };
        debug!(peer = %self.peer_name(&peer), "the other side calls to the relay");
        self.scheduler.handle(now(), Input::RelayCalled { peer });
    }

    /// Whether checks to this endpoint are carried out by a relay.
    pub(super) fn is_relayed(&self, peer: &PublicKey, to: Endpoint) -> bool {
        to.is_on_this_host() || self.relays.is_relay(peer, to)
    }

    /// Carries out a check towards a relay: a bind.
    pub(super) async fn bind(&mut self, peer: PublicKey, to: Endpoint, transaction: TransactionId) {
        if let Some(about) = self.relays.over_tls(&peer, to) {
            self.legs.bind(about, transaction);
        } else if let Some(payload) = self.relays.check(now(), &peer, to, transaction) {
            self.send_bind(peer, to, payload).await;
        }
    }

    async fn send_bind(&mut self, peer: PublicKey, to: Endpoint, payload: Vec<u8>) {
        if let Err(error) = self.port.send(&self.network.routes, to, payload).await {
            debug!(%to, %error, "bind not sent");
            if let Some(why) = error.for_path() {
                self.relays.unsendable(&peer, to);
                self.scheduler.handle(now(), Input::Unsendable { peer, to, why });
            }
        }
    }

    /// Takes an answer of a relay; says whether it was one.
    pub(super) async fn relay_answered(
        &mut self,
        from: Endpoint,
        transaction: TransactionId,
        payload: &[u8],
    ) -> bool {
        let fresh = TransactionId::from_bytes(random());
        match self.relays.answered(now(), from, transaction, payload, fresh) {
            Answered::NotOurs => return false,
            Answered::Nothing => {}
            Answered::Proven { peer, transaction } => {
                debug!(peer = %self.peer_name(&peer), %from, "path through the relay proven");
                self.scheduler.handle(now(), Input::CheckAnswered { peer, from, transaction });
            }
            Answered::Again { payload } => {
                if let Err(error) = self.port.send(&self.network.routes, from, payload).await {
                    debug!(%from, %error, "bind not sent again");
                }
            }
            Answered::Ask(about) => {
                debug!(%from, "the relay does not know us; asking the server for a place again");
                self.ask_for_place(about);
            }
        }
        true
    }

    /// Binds what was bound with a credential of before.
    pub(super) async fn bind_anew(&mut self) -> bool {
        let mut any = false;
        while let Some((peer, to, payload)) =
            self.relays.poll_bind(now(), || TransactionId::from_bytes(random()))
        {
            any = true;
            debug!(peer = %self.peer_name(&peer), %to, "binding anew");
            self.send_bind(peer, to, payload).await;
        }
        any
    }

    /// Gives back what nobody is there to give back: the strategy that wanted it is not enabled any more.
    pub(super) fn release_what_is_disabled(&mut self) {
        if self.settings.strategies.iter().any(|(one, _)| one.tier.is_relayed()) {
            return;
        }
        for about in self.relays.all() {
            if !self.scheduler.relay_wanted(&about.0)
                && let Some(url) = self.servers.url(about.1)
            {
                self.wished((about.0, url.to_string(), None));
            }
        }
    }

    /// Relays as strategies see them.
    pub(super) fn relaying(&self) -> Relaying {
        let peers = self.state.peers.iter().map(|peer| peer.public_key);
        let mut wanted: Vec<_> = peers.filter(|peer| self.scheduler.relay_wanted(peer)).collect();
        wanted.sort_unstable();
        let url = |server| self.servers.url(server).map(ToString::to_string).unwrap_or_default();
        Relaying {
            servers: self.servers.standing().map(|(url, _)| url.to_string()).collect(),
            udp: self.port.is_possible(),
            wanted,
            places: self.relays.for_strategies(url),
        }
    }
}
