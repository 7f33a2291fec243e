//! What the daemon is told.

use std::net::SocketAddr;

use tokio::time::Instant;
use wireplug_core::{Candidate, Endpoint, Evidence, Proof, Tier};

use super::Ledger;
use super::line::Held;
use crate::event::Event;

impl Ledger {
    /// Says what a line holds, if that was not said yet.
    pub(super) fn say_again(&mut self, now: Instant, index: usize) {
        let line = &mut self.lines[index];
        let (gateway, strategy) = (line.site.gateway.ip, self.name.clone());
        let inside = SocketAddr::new(line.site.source, line.port);
        let Some(held) = line.held_mut().filter(|held| !held.said) else { return };
        held.said = true;
        let lifetime = held.expires.map(|at| at.saturating_duration_since(now));
        let lease =
            held.lease.map_or_else(|| "for good".to_owned(), |lease| format!("for {} s", lease.as_secs()));
        let words = format!("router {gateway} maps {} to us {lease}", held.external);
        let evidence = Evidence::new(format!("{}: {words}", held.version))
            .with("gateway", gateway)
            .with("protocol", &held.version)
            .with("inside", inside);
        let Ok(endpoint) = Endpoint::new(held.external) else { return };
        let candidate =
            Candidate { endpoint, strategy, tier: Tier::Mapped, proof: Proof::Server, lifetime, evidence };
        self.says.push((self.situation.generation, Event::Found(candidate)));
        self.tell(format!("{}: {words}", self.title));
    }

    /// Takes back what was said of a mapping.
    pub(super) fn lose(&mut self, held: &Held) {
        if let (true, Ok(endpoint)) = (held.said, Endpoint::new(held.external)) {
            self.says.push((self.situation.generation, Event::Lost(endpoint)));
        }
    }

    /// A note, unless it was the last one.
    pub(super) fn tell(&mut self, words: String) {
        if self.note.as_ref() != Some(&words) {
            self.says.push((self.situation.generation, Event::Note(words.clone())));
            self.note = Some(words);
        }
    }
}
