//! Rank: the order of the strategies in the config, then the kind of address, then the round-trip time.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Endpoint, StrategyName, Tier};

/// Which strategies are wanted for a peer, and in what order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranking {
    order: Vec<(StrategyName, Tier)>,
    refused: Vec<StrategyName>,
}

/// Where a path stands in a [`Ranking`], and whether it is a relay's over TLS, which the same strategy finds as the one
/// over UDP; lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(usize, bool);

/// The score of a proven path; lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    place: Place,
    address: Address,
    rtt: Duration,
}

/// The kinds of address within a tier, the preferred first.
///
/// IPv6 comes before IPv4, save link-local addresses: they say less than IPv4 ones (a scope that changes with
/// each interface, which some WireGuard tools do not even print), and appear a second or two after an interface
/// is up, when IPv4 works already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    V6,
    V4,
    LinkLocal,
}

impl Ranking {
    /// A ranking from the enabled strategies, best first, and those that are known here but not enabled.
    /// Candidates of a peer's strategy that is neither are ranked by their tier.
    pub fn new(order: Vec<(StrategyName, Tier)>, refused: Vec<StrategyName>) -> Self {
        Self { order, refused }
    }

    /// The place of a path by the strategy that found it (if anybody did: a peer-reflexive one has none) and
    /// its tier; `None` if such paths are not wanted.
    pub(super) fn place(&self, strategy: Option<&StrategyName>, tier: Tier) -> Option<Place> {
        let tls = tier == Tier::RelayTls;
        if let Some(index) = self.order.iter().position(|(name, _)| Some(name) == strategy) {
            return Some(Place(2 * index, tls));
        }
        if strategy.is_some_and(|name| self.refused.contains(name)) {
            return None;
        }
        if let Some(index) = self.order.iter().rposition(|(_, of)| *of == tier) {
            return Some(Place(2 * index, tls));
        }
        strategy?;
        let worse = self.order.iter().position(|(_, of)| *of > tier).unwrap_or(self.order.len());
        Some(Place((2 * worse).saturating_sub(1), tls))
    }

    /// The first enabled strategy of a tier: names a path that the peer found by sending to us where we offer nothing of
    /// that tier, as on a link where only one side heard the other's name.
    pub(super) fn strategy_of(&self, tier: Tier) -> Option<&StrategyName> {
        self.order.iter().find(|(_, of)| *of == tier).map(|(name, _)| name)
    }

    /// Whether a server may relay at all.
    pub(super) fn relays(&self) -> bool {
        self.order.iter().any(|(_, tier)| tier.is_relayed())
    }

    /// The place behind all others: a path that is in use, but that nobody vouches for.
    pub(super) fn last(&self) -> Place {
        Place(2 * self.order.len() + 1, false)
    }
}

impl Score {
    pub(super) const fn new(place: Place, address: Address, rtt: Duration) -> Self {
        Self { place, address, rtt }
    }

    /// Whether a path with this score is worth a move from one with `current`. A shorter round trip
    /// alone must be shorter by a third and by 10 ms, or two like paths would take turns.
    pub(super) fn is_worth_a_move_from(self, current: Self) -> bool {
        let kind = (self.place, self.address).cmp(&(current.place, current.address));
        kind.then_with(|| (self.rtt * 3 / 2 + Duration::from_millis(10)).cmp(&current.rtt)).is_lt()
    }
}

impl Address {
    pub(super) const fn of(endpoint: Endpoint) -> Self {
        match endpoint.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(_) => Self::V6,
            IpAddr::V4(_) => Self::V4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StrategyName {
        text.parse().unwrap()
    }

    fn ranking() -> Ranking {
        Ranking::new(
            vec![(name("lan-mdns"), Tier::Lan), (name("direct"), Tier::Direct), (name("relay"), Tier::Relay)],
            vec![name("pcp")],
        )
    }

    #[test]
    fn the_order_of_the_config_is_the_rank() {
        let turned = Ranking::new(vec![(name("relay"), Tier::Relay), (name("direct"), Tier::Direct)], vec![]);
        assert!(
            turned.place(Some(&name("relay")), Tier::Relay)
                < turned.place(Some(&name("direct")), Tier::Direct)
        );
    }

    #[test]
    fn a_strategy_that_is_not_enabled_is_refused_and_a_strangers_goes_by_tier() {
        let ranking = ranking();
        assert_eq!(ranking.place(Some(&name("pcp")), Tier::Mapped), None);
        let theirs = ranking.place(Some(&name("theirs")), Tier::Mapped);
        assert!(ranking.place(Some(&name("direct")), Tier::Direct) < theirs);
        assert!(theirs < ranking.place(Some(&name("relay")), Tier::Relay));
        assert_eq!(ranking.place(None, Tier::Direct), ranking.place(Some(&name("direct")), Tier::Direct));
        assert_eq!(ranking.place(None, Tier::Mapped), None, "nothing of ours offers that");
    }

    #[test]
    fn a_relay_over_tls_ranks_behind_the_same_over_udp() {
        let ranking = ranking();
        let relay = name("relay");
        assert!(ranking.place(Some(&relay), Tier::Relay) < ranking.place(Some(&relay), Tier::RelayTls));
    }

    #[test]
    fn a_little_less_delay_is_not_worth_a_move() {
        let score = |place, address, ms| Score::new(Place(place, false), address, Duration::from_millis(ms));
        assert!(!score(1, Address::V4, 40).is_worth_a_move_from(score(1, Address::V4, 50)));
        assert!(score(1, Address::V4, 20).is_worth_a_move_from(score(1, Address::V4, 80)));
        assert!(score(1, Address::V6, 90).is_worth_a_move_from(score(1, Address::V4, 20)));
        assert!(score(0, Address::V4, 90).is_worth_a_move_from(score(1, Address::V6, 20)));
        assert!(score(1, Address::V4, 90).is_worth_a_move_from(score(1, Address::LinkLocal, 20)));
        assert!(!score(1, Address::LinkLocal, 1).is_worth_a_move_from(score(1, Address::V4, 99)));
        assert!(!score(2, Address::V6, 1).is_worth_a_move_from(score(1, Address::V4, 99)));
    }
}
