//! Candidates: where a WireGuard port may be reached, who found it, and how that was proven.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Endpoint;
use crate::evidence::Evidence;

/// The name of a strategy: 1 to 32 of `a-z`, `0-9` and `-`, such as `hole-punch`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StrategyName(Arc<str>);

/// Why a text cannot name a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a strategy: use 1 to 32 of a-z, 0-9 and \"-\"")]
pub struct BadStrategyName(String);

impl StrategyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StrategyName {
    type Err = BadStrategyName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(BadStrategyName(text.chars().take(64).collect())) }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of path a candidate gives, best first. It travels in checks and offers as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// Both on one link.
    Lan = 0,
    /// An address of the host itself.
    Direct = 1,
    /// A NAT's mapping made by our own packets.
    Punched = 2,
    /// A mapping that a router was asked for.
    Mapped = 3,
    /// Forwarded by a server over UDP.
    Relay = 4,
    /// Forwarded by a server over TLS.
    RelayTls = 5,
}

impl Tier {
    /// All tiers, best first.
    pub const ALL: [Self; 6] =
        [Self::Lan, Self::Direct, Self::Punched, Self::Mapped, Self::Relay, Self::RelayTls];

    /// The tier of a number on the wire, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether a server carries the packets.
    pub const fn is_relayed(self) -> bool {
        matches!(self, Self::Relay | Self::RelayTls)
    }
}

/// What is known of who can send to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reach {
    /// Anyone may send to it: a stranger's packet arrived.
    Open = 0,
    /// It is ours, but only those that we sent to get through, as far as is known.
    Filtered = 1,
}

impl Reach {
    /// The reach of a number on the wire, if there is one.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Open),
            1 => Some(Self::Filtered),
            _ => None,
        }
    }
}

/// What must happen before a candidate of ours is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The server must send to it from an address that this host never sent to.
    Server,
    /// Its strategy has already proven this reach.
    Done(Reach),
}

/// One address where our own WireGuard port may be reached, as a strategy found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub endpoint: Endpoint,
    /// Who found it.
    pub strategy: StrategyName,
    /// What kind of path it gives.
    pub tier: Tier,
    /// What it still needs before it is offered.
    pub proof: Proof,
    /// How long it holds from now on, if that is known; a strategy emits it again to prolong it.
    pub lifetime: Option<Duration>,
    /// How it was found, for status.
    pub evidence: Evidence,
}

/// One address where a peer may be reached: from its offer, or from a strategy on this side
/// (a configured name, an announcement on the link).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Where.
    pub endpoint: Endpoint,
    /// Who found it, on either side.
    pub strategy: StrategyName,
    /// What kind of path it gives.
    pub tier: Tier,
    /// Whether a stranger can send to it, as far as its finder knows.
    pub reach: Reach,
}

/// How a NAT chooses the mapping of one inner address and port for several destinations
/// (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Mapping {
    /// Not known, or not known yet.
    #[default]
    Unknown = 0,
    /// No NAT: the mapping is the host's own address and port.
    None = 1,
    /// One mapping for all destinations (endpoint-independent).
    Fixed = 2,
    /// Another mapping for another destination (address- or address-and-port-dependent).
    DestinationDependent = 3,
}

impl Mapping {
    /// The behaviour of a number on the wire; what is not known yet is [`Mapping::Unknown`].
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::None,
            2 => Self::Fixed,
            3 => Self::DestinationDependent,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_order_best_first_and_number_back() {
        assert!(Tier::Lan < Tier::Direct && Tier::Relay < Tier::RelayTls);
        for tier in Tier::ALL {
            assert_eq!(Tier::from_number(tier as u8), Some(tier));
        }
        assert_eq!(Tier::from_number(6), None);
    }

    #[test]
    fn strategy_names_are_short_and_plain() {
        assert!("hole-punch".parse::<StrategyName>().is_ok());
        for bad in ["", "Hole", "a b", "ä", &"x".repeat(33)] {
            assert!(bad.parse::<StrategyName>().is_err(), "{bad:?}");
        }
    }
}
