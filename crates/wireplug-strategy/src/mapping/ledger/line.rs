//! One mapping: what is known of it, and what it waits for.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::mapping::{Ask, Site};

/// One place for a mapping.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) site: Site,
    pub(super) port: u16,
    pub(super) nonce: [u8; 12],
    /// Whether there was a mapping, in this run or the one before it: it may carry a tunnel, and is kept up although
    /// nobody asks for one any more.
    pub(super) committed: bool,
    /// What we have or had.
    pub(super) external: Option<SocketAddr>,
    /// In a row.
    pub(super) failures: u32,
    /// Whether it was deleted and made anew in this generation because nothing came in through it.
    pub(super) remade: bool,
    pub(super) state: State,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    /// Nothing is held, nothing is under way.
    Idle,
    /// A call is under way; what is held until then.
    Busy { id: u64, work: Work, held: Option<Held> },
    /// A mapping stands.
    Held(Held),
    /// The router failed and is left alone.
    Resting { until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Map,
    Check,
}

/// A mapping that stands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) external: SocketAddr,
    pub(super) granted: Instant,
    pub(super) lease: Option<Duration>,
    pub(super) expires: Option<Instant>,
    pub(super) renew_at: Instant,
    pub(super) check_at: Instant,
    /// Renewals that failed since it was granted.
    pub(super) failed: u32,
    pub(super) version: String,
    /// Whether the daemon was told, in this generation and of this lease.
    pub(super) said: bool,
}

impl Line {
    pub(super) fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Held(held) | State::Busy { held: Some(held), .. } => Some(held),
            State::Idle | State::Busy { held: None, .. } | State::Resting { .. } => None,
        }
    }

    pub(super) fn held_mut(&mut self) -> Option<&mut Held> {
        match &mut self.state {
            State::Held(held) | State::Busy { held: Some(held), .. } => Some(held),
            State::Idle | State::Busy { held: None, .. } | State::Resting { .. } => None,
        }
    }

    /// Whether the router may hold something for it.
    pub(super) fn is_on_router(&self) -> bool {
        let asking = matches!(self.state, State::Busy { work: Work::Map, .. });
        asking || self.committed || self.held().is_some()
    }

    pub(super) fn is_for(&self, ask: &Ask) -> bool {
        self.site.is_same(&ask.site) && self.port == ask.port
    }

    /// When it is to be looked at again.
    pub(super) fn due(&self, asked: bool) -> Option<Instant> {
        match &self.state {
            State::Held(held) => {
                let next = held.renew_at.min(held.check_at);
                Some(held.expires.map_or(next, |at| at.min(next)))
            }
            State::Resting { until } => asked.then_some(*until),
            // What is under way ends by itself, and nothing happens to what is idle.
            State::Idle | State::Busy { .. } => None,
        }
    }
}
