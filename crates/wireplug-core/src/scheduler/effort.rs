//! What is being done for a peer, and why.

use std::time::Instant;

use super::expiry::Watch;

/// What we are doing for a peer.
#[derive(Debug)]
pub(super) enum Effort {
    /// Nothing: it is settled, or nothing is wanted.
    Rest,
    /// Gathering, offering and checking.
    Round(Round),
    /// Waiting after a round that failed.
    Pause { until: Instant },
}

/// One round of checks.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) started: Instant,
    /// When the peer called last without saying anything new.
    pub(super) called: Instant,
    /// Since when both sides can check: the peer's offer is here.
    pub(super) met: Option<Instant>,
    /// Our network or the peer's is another one: what carried the session may not any more.
    pub(super) elsewhere: bool,
    /// The tunnel was up and is doubted since then.
    pub(super) doubting: bool,
    /// What it may show of our NAT.
    pub(super) watch: Watch,
    /// When the choice is to be looked at again.
    pub(super) decide_at: Option<Instant>,
    /// Why it began.
    pub(super) cause: Cause,
    /// When WireGuard was made to send something over the path in use, which works: the first packet of a new session, or
    /// one for a peer that calls.
    pub(super) nudged: Option<Instant>,
    /// The next of the endpoints that are tried unproven, where nothing can be proven.
    pub(super) unproven: usize,
    pub(super) unproven_until: Option<Instant>,
}

/// Why a round begins, and so whether the peer must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// We want to reach the peer: our offer is sent again, so that it listens.
    Own,
    /// Our network is another one.
    Roamed,
    /// The peer wants to reach us: it listens already, and an answer to every offer would never end.
    Called,
    /// The peer's tunnel to us is silent.
    Doubted,
    /// The peer wants to reach us, from another network than before.
    Moved,
    /// The tunnel is silent.
    Doubt,
}

impl Cause {
    /// Whether the peer wants something.
    pub(super) const fn is_the_peers(self) -> bool {
        matches!(self, Self::Called | Self::Doubted | Self::Moved)
    }
}
