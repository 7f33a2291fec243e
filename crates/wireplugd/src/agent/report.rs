//! Status, from what the event loop knows.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use wireplug_core::StrategyName;
use wireplug_core::scheduler::{PeerStatus, Scheduler};

use super::servers::{Servers, Standing};
use crate::config::InterfaceConfig;
use crate::interface::InterfaceName;
use crate::status;

/// One interface's status as it is now.
pub(super) fn interface(
    name: &InterfaceName,
    listen_port: u16,
    config: &InterfaceConfig,
    scheduler: &Scheduler,
    servers: &Servers,
    notes: &BTreeMap<StrategyName, String>,
    now: Instant,
) -> status::InterfaceStatus {
    let servers = servers.standing().map(|(url, standing)| status::ServerStatus {
        url: url.to_string(),
        connected: matches!(standing, Standing::Up { .. }),
        reason: match standing {
            Standing::Up { .. } => None,
            Standing::Down { why, .. } => Some(why.clone()),
        },
    });
    let strategies = config.strategies.iter().map(|(registration, _)| status::StrategyStatus {
        name: registration.name.to_owned(),
        note: notes.iter().find(|(name, _)| name.as_str() == registration.name).map(|(_, note)| note.clone()),
    });
    let wall = SystemTime::now();
    let peers = scheduler.status().into_iter().map(|peer| {
        let name = config.peers.get(&peer.peer).and_then(|peer| peer.name.clone());
        one(peer, name, now, wall)
    });
    status::InterfaceStatus {
        interface: name.to_string(),
        listen_port,
        waiting: None,
        servers: servers.collect(),
        strategies: strategies.collect(),
        peers: peers.collect(),
    }
}

fn one(peer: PeerStatus, name: Option<String>, now: Instant, wall: SystemTime) -> status::PeerStatus {
    status::PeerStatus {
        public_key: peer.peer,
        name,
        state: peer.state,
        strategy: peer.strategy.map(|strategy| strategy.to_string()),
        endpoint: peer.endpoint.map(|endpoint| endpoint.addr()),
        rtt_ms: peer.rtt.map(|rtt| (rtt.as_secs_f64() * 100_000.0).round() / 100.0),
        since: (wall - now.saturating_duration_since(peer.since)).into(),
        proven: peer.proven,
        by_hand: peer.by_hand,
        trying: peer.trying.words(now),
        next: peer.trying.next().map(|at| (wall + at.saturating_duration_since(now)).into()),
        reason: peer.reason.map(|reason| reason.to_string()),
    }
}
