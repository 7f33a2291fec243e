//! What the scheduler and the strategies want, carried out.

use std::net::IpAddr;

use wireplug_core::Endpoint;
use wireplug_core::PublicKey;
use wireplug_core::scheduler::{Command, Stimulus};

use super::verify::Wants;
use super::{Daemon, Effect, Work};
use crate::payload::Payload;
use crate::server::{Sealed, ToServer};
use crate::{Time, secs};

impl Daemon {
    /// Carries out what the scheduler and the strategies want, until they want nothing more.
    pub(super) fn turn(&mut self, now: Time) {
        loop {
            while let Some(command) = self.scheduler.poll_command() {
                self.execute(now, command);
            }
            self.follow_relays(now);
            self.follow_router();
            let demand = self.scheduler.demand();
            let wanted = demand.working;
            if self.work == Work::Search && !wanted {
                self.verifier.start_over(now, &mut self.chance);
                self.punch.rest();
            }
            self.work = match (wanted, demand.listening) {
                (true, _) => Work::Search,
                (false, true) => Work::Listen,
                (false, false) => Work::Rest,
            };
            if let Some(learnt) = self.scheduler.take_learnt() {
                self.disk.learnt.insert(self.addresses.clone(), learnt);
            }
            if !(wanted && self.run_strategies(now)) {
                return;
            }
        }
    }

    /// One step of what works while it is wanted; says whether anything was done.
    fn run_strategies(&mut self, now: Time) -> bool {
        let generation = self.scheduler.generation();
        let has_v4 = self.addresses.iter().any(IpAddr::is_ipv4);
        if let Some(servers) = self.servers(true).filter(|_| has_v4) {
            let probing = self.verifier.is_probing_v4();
            if let Some((to, id)) = self.punch.poll(now, &mut self.chance, probing, servers) {
                self.note_asked(now, id);
                self.effects.push(Effect::Send { to, payload: Payload::Binding { id, token: None } });
                return true;
            }
        }
        match self.verifier.poll(now, self.server_up, generation) {
            Some(Wants::Ask { to, id }) => {
                let token = Some(self.config.host);
                self.note_asked(now, id);
                self.effects.push(Effect::Send { to, payload: Payload::Binding { id, token } });
                true
            }
            Some(Wants::Probe { endpoint, nonce }) => {
                self.effects.push(Effect::Tell(ToServer::Verify { endpoint, nonce }));
                true
            }
            Some(Wants::Say(input)) => {
                self.scheduler.handle(self.instant(now), input);
                true
            }
            None => false,
        }
    }

    /// What is never answered must not be kept for ever.
    fn note_asked(&mut self, now: Time, id: u64) {
        self.asked.retain(|_, at| *at + secs(30) > now);
        self.asked.insert(id, now);
    }

    fn execute(&mut self, now: Time, command: Command) {
        let own = self.config.own;
        match command {
            Command::Check { peer, to, transaction, tier, .. } if tier.is_relayed() => {
                self.bind(peer, to, transaction);
            }
            Command::Check { peer, to, transaction, tier, nominate } => self.effects.push(Effect::Send {
                to: to.addr(),
                payload: Payload::Check { from: own, to: peer, transaction, tier, nominated: nominate },
            }),
            Command::Answer { peer, to, transaction } => self.effects.push(Effect::Send {
                to: to.addr(),
                payload: Payload::Answer { from: own, to: peer, transaction },
            }),
            Command::Verify { generation, endpoint } => {
                let servers = self.servers(endpoint.ip().is_ipv4());
                self.verifier.begin(now, &mut self.chance, generation, endpoint, servers);
            }
            Command::Publish { peer, offer } => {
                self.offers.insert(peer, offer.clone());
                if self.server_up {
                    let sealed = Sealed { from: own, to: peer, offer };
                    self.effects.push(Effect::Tell(ToServer::Publish(sealed)));
                }
            }
            Command::Keep { peer, candidates } => drop(self.disk.good.insert(peer, candidates)),
            Command::Update { peer, endpoint, stimulus } => self.update(peer, endpoint, stimulus),
        }
    }

    fn update(&mut self, peer: PublicKey, endpoint: Option<Endpoint>, stimulus: Stimulus) {
        let keepalive = match stimulus {
            Stimulus::None | Stimulus::Packet => None,
            Stimulus::TurnOn(seconds) | Stimulus::Adjust(seconds) => Some(seconds),
            Stimulus::Restart(seconds) => {
                self.effects.push(Effect::Set { peer, endpoint: None, keepalive: Some(0) });
                Some(seconds)
            }
        };
        if let Some(seconds) = keepalive {
            self.keepalives.insert(peer, seconds);
        }
        self.effects.push(Effect::Set { peer, endpoint, keepalive });
        if stimulus == Stimulus::Packet {
            self.effects.push(Effect::Packet(peer));
        }
    }
}
