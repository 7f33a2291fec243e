//! Offers: all candidates of one side for one pair.

use crate::candidate::{Mapping, RemoteCandidate};

/// The most candidates that one offer carries, and that one side keeps of another.
pub const MAX_CANDIDATES: usize = 16;

/// All that one side says of itself to one peer. It is sealed before it leaves the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which offers it replaces.
    pub version: OfferVersion,
    /// At most [`MAX_CANDIDATES`], best first.
    pub candidates: Vec<RemoteCandidate>,
    /// How the sender's IPv4 NAT maps.
    pub mapping: Mapping,
    /// The sender has a tunnel to the receiver that has fallen silent, and checks its path.
    pub doubts: bool,
}

/// Orders the offers of one run of one daemon: of the same instance, the higher one replaces the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferVersion {
    /// Random, chosen anew at each start of the daemon.
    pub instance: u64,
    /// Rises whenever the local network changes.
    pub generation: u32,
    /// Rises with every change of the candidates within a generation.
    pub revision: u32,
}

impl OfferVersion {
    /// Whether this offer makes `older` void: the same run, and said later.
    pub fn replaces(&self, older: &Self) -> bool {
        self.instance == older.instance
            && (self.generation, self.revision) > (older.generation, older.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_ones_of_the_same_run_replace() {
        let at = |instance, generation, revision| OfferVersion { instance, generation, revision };
        assert!(at(1, 2, 0).replaces(&at(1, 1, 9)));
        assert!(at(1, 1, 1).replaces(&at(1, 1, 0)));
        assert!(!at(1, 1, 1).replaces(&at(1, 1, 1)));
        assert!(!at(2, 9, 9).replaces(&at(1, 1, 1)));
    }
}
