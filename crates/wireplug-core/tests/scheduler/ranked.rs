//! Strategies that are enabled, disabled and ranked otherwise while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, Keepalive, Ranking, Reason, State};

use crate::driver::{Driver, PEER, endpoint, ms, name, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const DIRECT: &str = "198.51.100.8:51820";
const RELAY: &str = "192.0.2.1:3479";

/// A ranking in which what is not named is disabled.
fn only(names: &[&str]) -> Ranking {
    let all = [("direct", Tier::Direct), ("hole-punch", Tier::Punched), ("relay", Tier::Relay)];
    let tier = |one: &str| all.iter().find(|(known, _)| *known == one).unwrap().1;
    let order = names.iter().map(|one| (name(one), tier(one))).collect();
    let refused = all.iter().filter(|(known, _)| !names.contains(known)).map(|(known, _)| name(known));
    Ranking::new(order, refused.collect())
}

impl Driver {
    fn rank(&mut self, names: &[&str]) {
        self.take(Input::Ranked { ranking: only(names), peers: BTreeMap::new() });
    }

    /// What was there before is of no interest.
    fn forget(&mut self) {
        (self.checks, self.updates, self.offers, self.answers) = (vec![], vec![], vec![], vec![]);
    }

    /// Something is received, as from a tunnel that works.
    fn hear(&mut self) {
        self.view.rx_bytes += 100;
        self.look();
    }
}

/// Settled on one of two paths that the peer offers.
fn settled(mut driver: Driver, on: &str) -> Driver {
    driver.rank(&["direct", "hole-punch", "relay"]);
    driver = driver.begun();
    let candidates =
        vec![remote(PUNCHED, "hole-punch", Tier::Punched), remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(on);
    driver.handshake(on);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(6));
    assert!(!driver.scheduler.demand().working);
    driver.forget();
    driver
}

#[test]
fn the_same_ranking_again_does_nothing() {
    let mut driver = settled(Driver::initiator(), PUNCHED);
    driver.rank(&["direct", "hole-punch", "relay"]);
    driver.pass_looking(Duration::from_secs(5));
    assert!(!driver.scheduler.demand().working);
    assert_eq!((driver.checks.len(), driver.updates.len(), driver.offers.len()), (0, 0, 0));
}

#[test]
fn a_path_that_ranks_better_now_is_moved_to_once_it_is_proven() {
    let mut driver = settled(Driver::initiator(), DIRECT);
    driver.rank(&["hole-punch", "direct", "relay"]);
    assert!(driver.scheduler.demand().working);
    driver.answer(DIRECT);
    assert_eq!(driver.applied(), [], "what is in use still ranks, and works");
    driver.answer(PUNCHED);
    assert_eq!(driver.applied(), [endpoint(PUNCHED)]);
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUNCHED) && check.nominate));
}

#[test]
fn what_is_added_behind_the_path_in_use_leaves_it_alone() {
    let mut driver = settled(Driver::initiator(), DIRECT);
    driver.rank(&["direct", "relay"]);
    driver.answer(DIRECT);
    driver.rank(&["direct", "hole-punch", "relay"]);
    driver.answer(DIRECT);
    driver.answer(PUNCHED);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().state, State::Connected);
}

/// Also by the follower, which moves nothing that works in any other case.
#[test]
fn a_path_whose_strategy_is_disabled_is_left_for_one_that_is_enabled() {
    for driver in [Driver::initiator(), Driver::follower()] {
        let mut driver = settled(driver, PUNCHED);
        driver.rank(&["direct", "relay"]);
        driver.hear();
        driver.answer(PUNCHED);
        driver.pass(ms(10));
        assert_eq!(driver.applied(), [], "not before another is proven");
        driver.answer(DIRECT);
        assert_eq!(driver.applied(), [endpoint(DIRECT)]);
        driver.pass_looking(Duration::from_secs(10));
        assert_eq!(driver.status().state, State::Connected);
        assert_eq!(driver.status().reason, None);
    }
}

/// The peer, which may use it, must not be led to choose it again.
#[test]
fn checks_over_a_disabled_path_are_not_answered_nor_its_nomination_followed() {
    let mut driver = settled(Driver::follower(), PUNCHED);
    driver.rank(&["direct", "relay"]);
    driver.asked(PUNCHED, Tier::Punched, true);
    assert_eq!(driver.answers, []);
    driver.asked(DIRECT, Tier::Direct, false);
    assert_eq!(driver.answers.len(), 1);
    driver.answer(DIRECT);
    driver.asked(PUNCHED, Tier::Punched, true);
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.applied(), [endpoint(DIRECT)]);
}

#[test]
fn a_disabled_path_straight_to_the_peer_stays_where_nothing_else_is_proven() {
    let mut driver = settled(Driver::initiator(), PUNCHED);
    driver.rank(&["direct"]);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().state, State::Connected);
    assert_eq!(driver.status().reason, Some(Reason::Disabled));
    // It is looked for again and again, and found at last.
    driver.forget();
    driver.pass_looking(Duration::from_secs(29));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(DIRECT)));
    driver.answer(DIRECT);
    driver.pass(ms(10));
    assert_eq!(driver.applied(), [endpoint(DIRECT)]);
    assert_eq!(driver.status().reason, None);
}

#[test]
fn one_that_is_enabled_again_is_as_good_as_ever() {
    let mut driver = settled(Driver::initiator(), PUNCHED);
    driver.rank(&["direct", "relay"]);
    driver.pass_looking(Duration::from_secs(2));
    driver.rank(&["hole-punch", "direct", "relay"]);
    driver.answer(PUNCHED);
    driver.answer(DIRECT);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().reason, None);
}

fn relayed() -> Driver {
    let mut driver = Driver::initiator();
    driver.rank(&["direct", "relay"]);
    driver = driver.begun();
    let candidates = vec![remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.pass(Duration::from_secs(1));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.handshake(RELAY);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(12));
    assert_eq!(driver.status().state, State::Relayed);
    driver.forget();
    driver
}

#[test]
fn a_disabled_relay_is_kept_while_another_path_is_looked_for() {
    let mut driver = relayed();
    driver.rank(&["direct"]);
    assert!(driver.scheduler.relay_wanted(&PEER));
    driver.answer(DIRECT);
    assert_eq!(driver.applied(), [endpoint(DIRECT)]);
    driver.pass_looking(Duration::from_secs(1));
    assert_eq!(driver.status().state, State::Connected);
    assert!(!driver.scheduler.relay_wanted(&PEER), "it is not kept for a while, as one that is enabled");
}

#[test]
fn a_disabled_relay_is_given_up_where_nothing_else_is_proven() {
    let mut driver = relayed();
    let generation = driver.scheduler.generation();
    driver.rank(&["direct"]);
    let (strategy, at) = (name("relay"), endpoint(RELAY));
    driver.take(Input::Withdrawn { generation, peer: PEER, strategy, endpoint: at });
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.status().state, State::Relayed);
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.status().state, State::Unreachable);
    assert_eq!(driver.status().reason, Some(Reason::RelayDisabled));
    assert!(!driver.scheduler.relay_wanted(&PEER));
}

/// As when its strategy is started anew with another table, or its server is gone from the config.
#[test]
fn a_session_stays_on_a_relay_that_is_suggested_no_more_and_looks_for_another() {
    const OTHER: &str = "192.0.2.2:3479";
    let mut driver = relayed();
    let generation = driver.scheduler.generation();
    let (strategy, at) = (name("relay"), endpoint(RELAY));
    driver.take(Input::Withdrawn { generation, peer: PEER, strategy, endpoint: at });
    assert_eq!(driver.status().state, State::Relayed);
    assert!(driver.scheduler.relay_wanted(&PEER) && driver.scheduler.demand().working);
    driver.suggest(OTHER, "relay", Tier::Relay);
    driver.answer(OTHER);
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.applied(), [endpoint(OTHER)]);
    assert_eq!(driver.status().state, State::Relayed);
}

/// The side whose config still allows the path: it takes the other's call to the relay for what it is, also while the
/// round runs in which it proved that path.
#[test]
fn a_call_to_the_relay_counts_for_more_than_what_was_proven_before_it() {
    let mut driver = Driver::initiator();
    driver.rank(&["direct", "hole-punch", "relay"]);
    driver = driver.begun();
    let candidates = vec![remote(PUNCHED, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(PUNCHED);
    driver.handshake(PUNCHED);
    driver.pass_looking(Duration::from_secs(1));
    assert!(!driver.scheduler.relay_wanted(&PEER));
    driver.forget();
    driver.take(Input::RelayCalled { peer: PEER });
    assert!(driver.scheduler.relay_wanted(&PEER));
    driver.hear();
    assert_eq!(driver.applied(), [], "it moves when the other side does");
    driver.answer(PUNCHED);
    assert!(!driver.scheduler.relay_wanted(&PEER), "the path does work after all");
}

#[test]
fn a_ranking_for_one_peer_goes_before_the_interfaces() {
    let mut driver = settled(Driver::initiator(), PUNCHED);
    let peers = BTreeMap::from([(PEER, only(&["direct", "hole-punch", "relay"]))]);
    driver.take(Input::Ranked { ranking: only(&["direct"]), peers });
    assert!(!driver.scheduler.demand().working, "nothing is another for it");
    driver.rank(&["direct"]);
    assert!(driver.scheduler.demand().working);
}
