//! What to do about a mapping that its router lists, but that lets nothing in.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Ledger;
use super::line::State;
use crate::mapping::Patience;

/// How long a router has to delete a mapping before it is asked for it again: more than deleting may take.
const ANEW: Duration = Duration::from_secs(1);

impl Ledger {
    /// Looks whether the server found one of our mappings closed. The first time it is deleted and made anew, which
    /// some routers need; then it is said. It stays: each renewal has the server look again.
    pub(super) fn doubt(&mut self, now: Instant) {
        let own = self.situation.closed.iter().filter(|closed| closed.strategy == self.name);
        let closed: Vec<SocketAddr> = own.map(|closed| closed.endpoint.into()).collect();
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            let State::Held(held) = &line.state else { continue };
            if !held.said || !closed.contains(&held.external) {
                continue;
            }
            if line.remade {
                let (gateway, external) = (line.site.gateway.ip, held.external);
                self.tell(format!(
                    "{}: router {gateway} lists the mapping {external}, but nothing comes in through it: look at its \
                     firewall, and whether another router is before it",
                    self.title
                ));
                continue;
            }
            let held = held.clone();
            line.remade = true;
            line.state = State::Resting { until: now + ANEW };
            let line = line.clone();
            self.lose(&held);
            let ask = self.ask(&line.site, line.port, line.nonce, Some(held.external), Patience::Last);
            self.unmap(ask);
            self.tell(format!(
                "{}: nothing comes in through {}, deleting it and asking anew",
                self.title, held.external
            ));
        }
    }
}
