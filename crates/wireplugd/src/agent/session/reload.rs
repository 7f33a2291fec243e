//! The config says something else: what changed is done, and nothing else is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use wireplug_core::scheduler::{Input, Ranking};
use wireplug_core::{PublicKey, StrategyName, Tier};

use super::{Session, now};
use crate::config::InterfaceConfig;

/// How an interface ranks strategies, and how for single peers.
pub(super) fn rankings(interface: &InterfaceConfig) -> (Ranking, BTreeMap<PublicKey, Ranking>) {
    let enabled: Vec<(StrategyName, Tier)> = interface
        .strategies
        .iter()
        .filter_map(|(registration, _)| Some((registration.name.parse().ok()?, registration.tier)))
        .collect();
    let ranking = |order: Vec<(StrategyName, Tier)>| {
        let known = wireplug_strategy::registered().into_iter().filter_map(|one| one.name.parse().ok());
        let refused = known.filter(|name: &StrategyName| order.iter().all(|(on, _)| on != name)).collect();
        Ranking::new(order, refused)
    };
    let peers = interface.peers.iter().filter_map(|(key, peer)| {
        let wanted = peer.strategies.as_ref()?;
        let order = wanted.iter().filter_map(|name| enabled.iter().find(|(on, _)| on == name).cloned());
        Some((*key, ranking(order.collect())))
    });
    let peers = peers.collect();
    (ranking(enabled.clone()), peers)
}

impl Session<'_> {
    /// Takes the config as it is now.
    pub(super) fn follow_config(&mut self) {
        let next = Arc::clone(&self.configs.borrow_and_update());
        let before = std::mem::replace(&mut self.settings, next);
        self.follow_servers();
        // Before strategies end: what they take back says no more whose path was in use.
        let (ranking, peers) = rankings(&self.settings);
        self.scheduler.handle(now(), Input::Ranked { ranking, peers });
        self.runner.follow(&self.settings.strategies);
        let settings = Arc::clone(&self.settings);
        let enabled = |name: &StrategyName| {
            settings.strategies.iter().any(|(registration, _)| registration.name == name.as_str())
        };
        self.notes.retain(|name, _| enabled(name));
        let endpoint = |config: &InterfaceConfig, peer: &PublicKey| {
            config.peers.get(peer).and_then(|peer| peer.endpoint.clone())
        };
        for peer in self.state.peers.iter().map(|peer| peer.public_key).collect::<Vec<_>>() {
            if endpoint(&before, &peer) != endpoint(&settings, &peer) {
                self.scheduler.handle(now(), Input::Reconsider { peer });
            }
        }
        self.view += 1;
    }

    fn follow_servers(&mut self) {
        let was_up = self.servers.any_up();
        for server in self.servers.follow(&self.config.servers, &self.pairs) {
            self.verifications.forget_server(server);
            self.refused.retain(|(of, ..)| *of != server);
            for about in self.relays.all().into_iter().filter(|about| about.1 == server) {
                self.legs.close(about);
                self.relays.release(about);
            }
        }
        let gone = was_up && !self.servers.any_up();
        let others = || gone.then(|| "the config names others now; connecting".to_owned());
        if let Some(why) = self.servers.why_none().or_else(others) {
            self.scheduler.handle(now(), Input::ServerDown { why });
        }
    }
}
