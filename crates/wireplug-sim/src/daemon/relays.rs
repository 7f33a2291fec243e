//! The relay, on the daemon's side: places at the server, and binds to them.

use wireplug_core::scheduler::Input;
use wireplug_core::{Endpoint, PublicKey, TransactionId};

use super::{Daemon, Effect};
use crate::Time;
use crate::payload::{Bound, Payload};
use crate::server::{Frame, ToServer};
use crate::strategies::name;
use crate::strategies::relay::Wish;

impl Daemon {
    /// A relay answered a bind, which is its check.
    pub(super) fn on_relay_bound(
        &mut self,
        now: Time,
        from: Endpoint,
        transaction: TransactionId,
        bound: Bound,
    ) {
        let Some(peer) = self.places.peer_at(from) else { return };
        if !from.is_on_this_host() {
            self.places.udp_answers(peer);
        }
        match bound {
            Bound::Again => {
                self.nonces.insert(from.addr());
                self.bind(peer, from, transaction);
            }
            Bound::Unknown => self.places.ask_again(now, Some(peer)),
            Bound::Here { both: true } => {
                self.input(now, Input::CheckAnswered { peer, from, transaction });
            }
            Bound::Here { both: false } => {}
        }
        self.turn(now);
    }

    pub(super) fn bind(&mut self, peer: PublicKey, to: Endpoint, transaction: TransactionId) {
        let Some(credential) = self.places.credential(peer) else { return };
        self.effects.push(if to.is_on_this_host() {
            Effect::Tell(ToServer::Frame(Frame::Bind { credential, transaction }))
        } else {
            let nonce = self.nonces.contains(&to.addr());
            Effect::Send { to: to.addr(), payload: Payload::Bind { credential, transaction, nonce } }
        });
    }

    /// Asks the server for places, and gives them back, as the scheduler wants.
    pub(super) fn follow_relays(&mut self, now: Time) {
        let own = self.config.own;
        for index in 0..self.peers.len() {
            let other = self.peers[index];
            let wanted = self.scheduler.relay_wanted(&other);
            match self.places.want(now, other, wanted, self.server_up) {
                Wish::Nothing => {}
                Wish::Ask => self.effects.push(Effect::Tell(ToServer::Allocate { own, other })),
                Wish::Release(endpoints) => {
                    self.effects.push(Effect::Tell(ToServer::Release { own, other }));
                    let generation = self.scheduler.generation();
                    for endpoint in endpoints {
                        let strategy = name("relay");
                        let withdrawn = Input::Withdrawn { generation, peer: other, strategy, endpoint };
                        self.scheduler.handle(self.instant(now), withdrawn);
                    }
                }
            }
        }
    }
}
