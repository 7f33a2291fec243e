//! What is being done for a peer at this moment, for people.

use std::collections::BTreeMap;
use std::time::Instant;

use super::effort::Effort;
use super::local::Local;
use super::paths::Path;
use super::peer::Peer;
use super::tunnel::Tunnel;
use super::world::Server;
use crate::Tier;

/// What is being tried for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trying {
    /// Nothing: it is settled, or nothing is wanted.
    Nothing,
    /// There is nothing to check: the peer's offer is awaited, and that of a server before it.
    Offer {
        /// Whether a server is connected by which it may come.
        server: bool,
    },
    /// Candidates are checked.
    Checking {
        /// How many by each strategy, or of each tier where nobody named one; the most first.
        candidates: Vec<(String, usize)>,
        /// Whether a server is connected.
        server: bool,
    },
    /// WireGuard's handshake is awaited over a path.
    Handshake,
    /// A round failed; the next one begins by itself.
    Pause {
        /// When.
        until: Instant,
    },
    /// What is in use is not the best that may be; something better is looked for again.
    Better {
        /// When.
        at: Instant,
    },
}

impl Trying {
    /// The same in words, if there is something to say.
    pub fn words(&self, now: Instant) -> Option<String> {
        let seconds = |at: &Instant| at.saturating_duration_since(now).as_secs_f64().ceil();
        Some(match self {
            Self::Nothing => return None,
            Self::Offer { server: true } => "waiting for the peer's offer".to_owned(),
            Self::Offer { server: false } => "waiting for a server".to_owned(),
            Self::Checking { candidates, server } => {
                let total: usize = candidates.iter().map(|(_, count)| count).sum();
                let each: Vec<_> = candidates.iter().map(|(by, count)| format!("{count} by {by}")).collect();
                let plural = if total == 1 { "" } else { "s" };
                let away = if *server { "" } else { ", without a server" };
                format!("checking {total} candidate{plural}: {}{away}", each.join(", "))
            }
            Self::Handshake => "waiting for WireGuard's handshake".to_owned(),
            Self::Pause { until } => format!("next round in {} s", seconds(until)),
            Self::Better { at } => format!("looking for a better path in {} s", seconds(at)),
        })
    }

    /// When something begins by itself.
    pub const fn next(&self) -> Option<Instant> {
        match self {
            Self::Pause { until } => Some(*until),
            Self::Better { at } => Some(*at),
            Self::Nothing | Self::Offer { .. } | Self::Checking { .. } | Self::Handshake => None,
        }
    }
}

impl Peer {
    /// What is being tried.
    pub(super) fn trying(&self, local: &Local, server: &Server) -> Trying {
        match &self.effort {
            _ if matches!(self.tunnel, Tunnel::Trying(_)) => Trying::Handshake,
            Effort::Rest => self.relay.next_search().map_or(Trying::Nothing, |at| Trying::Better { at }),
            Effort::Pause { until } => Trying::Pause { until: *until },
            Effort::Round(_) => {
                let server = server.is_up();
                let candidates = self.being_checked(local);
                match (candidates.is_empty(), &self.tunnel) {
                    (false, _) => Trying::Checking { candidates, server },
                    (true, Tunnel::Up(_)) => Trying::Nothing,
                    (true, Tunnel::Down | Tunnel::Trying(_)) => Trying::Offer { server },
                }
            }
        }
    }

    fn being_checked(&self, local: &Local) -> Vec<(String, usize)> {
        let mut by = BTreeMap::<String, usize>::new();
        for (_, path) in self.paths.iter().filter(|(_, path)| path.is_being_checked()) {
            *by.entry(self.called(path, local)).or_default() += 1;
        }
        let mut counted: Vec<_> = by.into_iter().collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counted
    }

    /// The strategy of a path, or else what kind of path it is.
    fn called(&self, path: &Path, local: &Local) -> String {
        let Some((_, tier)) = path.kind() else { return "the device's endpoint".to_owned() };
        self.strategy_of(path, local).map_or_else(|| tier_word(tier).to_owned(), ToString::to_string)
    }
}

const fn tier_word(tier: Tier) -> &'static str {
    match tier {
        Tier::Lan => "LAN",
        Tier::Direct => "a direct address",
        Tier::Punched => "punching",
        Tier::Mapped => "a mapping",
        Tier::Relay | Tier::RelayTls => "a relay",
    }
}
