//! What a strategy says.

use wireplug_core::{Candidate, Endpoint, Mapping, PublicKey, RemoteCandidate};

/// What a strategy found or lost. All of it belongs to the generation it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Our port may be reached here. Said again for the same endpoint, it replaces what was said before.
    Found(Candidate),
    /// Our port can no longer be reached here by this strategy.
    Lost(Endpoint),
    /// A peer may be reached here.
    Suggested {
        /// Whom.
        peer: PublicKey,
        /// Where, and why.
        candidate: RemoteCandidate,
    },
    /// A peer can no longer be reached here by this strategy.
    Withdrawn {
        /// Whom.
        peer: PublicKey,
        /// Where.
        endpoint: Endpoint,
    },
    /// How the IPv4 NAT in front of us maps.
    Mapping(Mapping),
    /// How it goes, in words for status and log: "no answer from 203.0.113.7:3478 after 3 tries".
    Note(String),
}
