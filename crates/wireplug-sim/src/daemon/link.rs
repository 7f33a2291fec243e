//! Neighbours and the router, on the daemon's side.

use wireplug_core::scheduler::Input;

use super::{Daemon, Effect};
use crate::Time;
use crate::strategies::name;
use crate::strategies::near::{FromLink, OnLink, mapped};
use crate::strategies::relay::suggested;

impl Daemon {
    /// Something was heard on the link.
    pub fn on_link(&mut self, now: Time, what: FromLink) {
        let generation = self.scheduler.generation();
        match what {
            FromLink::Neighbour(peer, _) if peer == self.config.own => {}
            FromLink::Neighbour(peer, at) => {
                let (new, gone) = self.near.neighbour(peer, &at);
                let strategy = || name("lan-mdns");
                let gone = gone.into_iter().map(|endpoint| Input::Withdrawn {
                    generation,
                    peer,
                    strategy: strategy(),
                    endpoint,
                });
                let new = new.into_iter().map(|candidate| suggested(generation, peer, candidate));
                self.inputs(now, gone.chain(new).collect::<Vec<_>>());
            }
            // Else it was another network's router.
            FromLink::Mapped(_) if !self.near.asked_for_mapping() => {}
            FromLink::Mapped(external) => {
                let found = mapped(external).map(|candidate| Input::Found { generation, candidate });
                self.inputs(now, found);
            }
        }
    }

    /// Asks the router, once a mapping is wanted.
    pub(super) fn follow_router(&mut self) {
        if self.near.wants_mapping(self.scheduler.demand().mapping) {
            self.effects.push(Effect::OnLink(OnLink::MapPort));
        }
    }
}
