//! The relay: when it is wanted, what binds to it, when it is used and when it is left.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, Keepalive, State};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const OTHER: &str = "198.51.100.8:51820";
const RELAY: &str = "203.0.113.1:3479";

fn offered(mut driver: Driver) -> Driver {
    let candidates = vec![remote(PUNCHED, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver
}

fn wanted(driver: &Driver) -> bool {
    driver.scheduler.relay_wanted(&PEER)
}

fn relayed(driver: Driver) -> Driver {
    let mut driver = offered(driver.begun());
    driver.pass(ms(200));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.handshake(RELAY);
    assert_eq!(driver.status().state, State::Relayed);
    driver
}

#[test]
fn better_paths_have_a_head_start_of_three_round_trips() {
    for (server, expected) in [(ms(0), ms(150)), (ms(50), ms(300))] {
        let mut driver = Driver::initiator().begun();
        driver.take(Input::ServerRoundTrip(server));
        driver.pass(ms(500));
        assert!(!wanted(&driver), "nobody is there");
        let before = driver.scheduler.demand().relays;
        let mut driver = offered(driver);
        driver.pass(expected.saturating_sub(ms(1)));
        assert!(!wanted(&driver));
        driver.pass(ms(1));
        assert!(wanted(&driver) && driver.scheduler.demand().relays != before);
    }
}

#[test]
fn only_what_can_be_tried_begins_the_head_start_anew() {
    let two = [remote(PUNCHED, "hole-punch", Tier::Punched), remote(OTHER, "direct", Tier::Direct)];
    for (then, at_once) in [(&two[..0], true), (&two[..1], true), (&two[1..], false), (&two[..], false)] {
        let mut driver = offered(Driver::initiator().begun());
        driver.pass(ms(140));
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, then.to_vec()) });
        driver.pass(ms(10));
        assert_eq!(wanted(&driver), at_once, "{then:?}");
        driver.pass(ms(140));
        assert!(wanted(&driver), "{then:?}");
    }
}

#[test]
fn a_pair_that_is_connected_at_once_wants_no_relay() {
    let mut driver = offered(Driver::initiator().begun());
    driver.pass(ms(100));
    driver.answer(PUNCHED);
    driver.handshake(PUNCHED);
    driver.pass_looking(Duration::from_secs(30));
    assert_eq!(driver.scheduler.demand().relays, 0);
}

#[test]
fn who_is_called_to_the_relay_wants_it_at_once_and_uses_it_after_the_head_start() {
    let mut driver = offered(Driver::initiator().begun());
    driver.take(Input::RelayCalled { peer: PEER });
    assert!(wanted(&driver));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    assert_eq!(driver.applied(), []);
    driver.pass(ms(150));
    assert_eq!(driver.applied(), [endpoint(RELAY)]);
}

#[test]
fn neither_a_peers_offer_nor_its_check_can_name_a_relay() {
    let mut driver = Driver::initiator().begun();
    let candidates = vec![remote(RELAY, "relay", Tier::Relay)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.asked("203.0.113.9:7", Tier::RelayTls, true);
    driver.pass(Duration::from_secs(5));
    assert!(driver.checks.is_empty() && driver.answers.is_empty());
}

#[test]
fn what_is_proven_while_relayed_is_used_at_once_and_the_relay_kept_for_a_while() {
    let mut driver = relayed(Driver::initiator());
    driver.answer(PUNCHED);
    assert_eq!(driver.applied(), [endpoint(RELAY), endpoint(PUNCHED)]);
    driver.pass_looking(Duration::from_secs(29));
    assert!(wanted(&driver));
    driver.pass_looking(Duration::from_secs(2));
    assert!(!wanted(&driver));
}

/// After our clock was set back the peer refuses our handshakes, and its own comes 15 s after it sent in vain.
#[test]
fn a_relay_over_which_a_handshake_failed_is_kept_for_the_peers_own() {
    let mut driver = offered(Driver::initiator().begun());
    driver.pass(ms(200));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.pass_looking(Duration::from_secs(17));
    assert_eq!(driver.status().state, State::Unreachable);
    assert!(wanted(&driver));
    driver.pass_looking(Duration::from_secs(1));
    driver.handshake(RELAY);
    assert_eq!(driver.status().state, State::Relayed);
}

#[test]
fn on_a_relay_something_better_is_searched_for_with_pauses_that_grow() {
    let mut driver = relayed(Driver::initiator());
    let mut rounds = Vec::new();
    let mut before = true;
    for second in 0..1200 {
        driver.view.rx_bytes += 32;
        driver.pass_looking(Duration::from_secs(1));
        driver.renewed();
        let works = driver.scheduler.demand().working;
        if works && !before {
            rounds.push(second);
            driver.answer(RELAY);
        }
        before = works;
    }
    let pauses: Vec<_> = rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((4..8).contains(&rounds.len()) && pauses.is_sorted(), "{rounds:?}");
}

#[test]
fn a_direct_path_that_fails_its_checks_is_left_for_the_relay_and_needs_patience_to_be_used_again() {
    let mut driver = offered(Driver::initiator().begun());
    driver.answer(PUNCHED);
    driver.handshake(PUNCHED);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(10));
    driver.updates.clear();
    for _ in 0..5 {
        driver.view.tx_bytes += 1000;
        driver.pass_looking(Duration::from_secs(1));
    }
    driver.pass_looking(ms(1000));
    assert!(wanted(&driver), "a doubt that no answer ends");
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.pass_looking(Duration::from_secs(2));
    assert_eq!(driver.applied(), [endpoint(RELAY)], "some seven checks had no answer");
    driver.answer(PUNCHED);
    driver.pass_looking(ms(500));
    assert_eq!(driver.applied(), [endpoint(RELAY)], "one answer is not enough of a path that has just died");
}

#[test]
fn a_silent_path_that_never_answered_a_check_is_left_by_wireguards_own_silence_only() {
    let mut driver = Driver::initiator();
    driver.handshake(PUNCHED);
    let mut driver = offered(driver);
    driver.take(Input::ServerUp);
    driver.pass_looking(Duration::from_secs(5));
    driver.take(Input::RelayCalled { peer: PEER });
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    for _ in 0..12 {
        driver.view.tx_bytes += 1000;
        driver.pass_looking(Duration::from_secs(1));
    }
    assert_eq!(driver.applied(), []);
}

/// Its own slowness says nothing of the peer, and a pair for which there is nothing to check has nothing to wait for.
#[test]
fn a_server_that_takes_its_time_is_asked_before_the_round_is_over() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::ServerRoundTrip(Duration::from_secs(4)));
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, vec![]) });
    driver.pass(Duration::from_secs(2));
    assert!(wanted(&driver));
    driver.pass(Duration::from_secs(4));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.pass(ms(100));
    driver.answer(RELAY);
    assert_eq!(driver.applied(), [endpoint(RELAY)]);
}
