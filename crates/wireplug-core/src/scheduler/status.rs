//! What people are told of a peer.

use std::fmt;
use std::time::{Duration, Instant};

use super::io::Unsendable;
use super::trying::Trying;
use crate::{Endpoint, PublicKey, StrategyName};

/// How it stands with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whom.
    pub peer: PublicKey,
    /// In one word.
    pub state: State,
    /// By which strategy the path in use was found, if it is known.
    pub strategy: Option<StrategyName>,
    /// Where WireGuard sends to.
    pub endpoint: Option<Endpoint>,
    /// The round-trip time of the path's check.
    pub rtt: Option<Duration>,
    /// Since when the state is what it is.
    pub since: Instant,
    /// Whether the path in use answered a check.
    pub proven: bool,
    /// Whether somebody else has set the endpoint in use, and it is left there while it works.
    pub by_hand: bool,
    /// What is being tried now.
    pub trying: Trying,
    /// Why it is not connected, or not as it should be.
    pub reason: Option<Reason>,
}

/// A peer's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is wanted of us: WireGuard is on its own.
    Idle,
    /// Looking for candidates and waiting for the peer's offer.
    Gathering,
    /// Proving paths, or waiting for WireGuard's handshake over a proven one.
    Checking,
    /// There is a session, straight to the peer.
    Connected,
    /// There is a session, forwarded by a server.
    Relayed,
    /// No path was found; tried again after a pause, and at once when the peer or the network changes.
    Unreachable,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Gathering, Self::Checking, Self::Connected, Self::Relayed, Self::Unreachable];

    /// The word that scripts rely on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Gathering => "gathering",
            Self::Checking => "checking",
            Self::Connected => "connected",
            Self::Relayed => "relayed",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a peer is not connected, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The device has no port.
    #[error("the interface has no listen port: bring it up")]
    NoListenPort,
    /// No server is connected.
    #[error("no rendezvous server is reachable: {0}")]
    NoServer(String),
    /// The peer left no offer.
    #[error("nothing was heard of the peer: start wireplug there, with the same server")]
    NoOffer,
    /// Both NATs are of the kind that cannot be punched together.
    #[error(
        "both NATs give each destination another mapping, which cannot be punched: one side needs a port forwarding, or both a server that relays (strategy relay says why there is none)"
    )]
    BothDestinationDependent,
    /// Ours cannot be punched, and theirs filters.
    #[error(
        "our NAT gives each destination another mapping, and the peer accepts only those that it sent to: one side needs a port forwarding, or both a server that relays (strategy relay says why there is none)"
    )]
    OursDestinationDependent,
    /// Theirs cannot be punched, and ours filters.
    #[error(
        "the peer's NAT gives each destination another mapping, and ours accepts only those that we sent to: one side needs a port forwarding, or both a server that relays (strategy relay says why there is none)"
    )]
    TheirsDestinationDependent,
    /// The peer has nothing that we could send to.
    #[error("the peer offers no address that can be tried from here")]
    NoCandidates,
    /// Nothing could be sent.
    #[error("no candidate of the peer can be sent to: {0}")]
    CannotSend(Unsendable),
    /// Nothing came back.
    #[error(
        "none of the peer's {0} candidates answers: a firewall on the way drops UDP, or the peer is gone"
    )]
    NoAnswer(usize),
    /// The path is there, but not the handshake.
    #[error(
        "a path was proven, but WireGuard completed no handshake over it: compare public keys and preshared keys of both sides"
    )]
    NoHandshake,
    /// The design's one exception.
    #[error("the peer answers no checks; its endpoint was set unproven")]
    Unproven,
    /// The config does not allow the path in use any more.
    #[error("the path in use is by a strategy that is disabled; it stays until an enabled one has a path")]
    Disabled,
    /// The config does not allow the relay that was in use any more.
    #[error("the relay is disabled, and no other strategy that is enabled has a path")]
    RelayDisabled,
    /// No right to raw sockets.
    #[error(
        "paths cannot be proven without raw sockets (grant CAP_NET_RAW): endpoints are tried one at a time"
    )]
    NoPortSharing,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThroughTunnel => "the route leads through a tunnel",
            Self::NoRoute => "there is no route",
        })
    }
}
