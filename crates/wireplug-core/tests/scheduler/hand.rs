//! The device changes under us: an endpoint that is set by hand, a peer that is removed and added again.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, Keepalive, State, Stimulus};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const DIRECT: &str = "198.51.100.8:51820";
const BY_HAND: &str = "203.0.113.9:51820";

/// What the promise is: a settled device is looked at as often.
const PROMISE: Duration = Duration::from_secs(2);

/// Settled on the better of two paths.
fn settled(mut driver: Driver) -> Driver {
    driver = driver.begun();
    let candidates =
        vec![remote(PUNCHED, "hole-punch", Tier::Punched), remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(DIRECT);
    driver.handshake(DIRECT);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(6));
    assert!(!driver.scheduler.demand().working);
    forget(&mut driver);
    driver
}

fn forget(driver: &mut Driver) {
    (driver.checks, driver.updates, driver.offers, driver.answers) = (vec![], vec![], vec![], vec![]);
}

fn both_sides() -> [Driver; 2] {
    [settled(Driver::initiator()), settled(Driver::follower())]
}

#[test]
fn an_endpoint_set_by_hand_is_tried_at_once_and_kept_while_it_works() {
    for mut driver in both_sides() {
        driver.view.endpoint = Some(endpoint(BY_HAND));
        driver.pass_looking(PROMISE);
        assert!(driver.scheduler.demand().working, "it is noticed");
        assert_eq!(driver.updates, [(None, Stimulus::Packet)], "WireGuard is made to use it");
        driver.pass(ms(400));
        assert_eq!(driver.offers.len(), 1, "and the peer is made to listen");
        driver.answer(DIRECT);
        driver.answer(PUNCHED);
        driver.answer(BY_HAND);
        driver.pass_looking(Duration::from_secs(120));
        assert_eq!(driver.applied(), []);
        assert_eq!(driver.status().endpoint, Some(endpoint(BY_HAND)));
        assert_eq!(driver.status().state, State::Connected);
    }
}

/// A host with two addresses answers checks from one of them only, but WireGuard from that which it was spoken to at.
#[test]
fn what_is_received_over_it_shows_that_it_works_too() {
    for mut driver in both_sides() {
        driver.view.endpoint = Some(endpoint(BY_HAND));
        driver.pass_looking(PROMISE);
        driver.answer(DIRECT);
        driver.view.rx_bytes += 96;
        driver.pass_looking(Duration::from_secs(30));
        assert_eq!(driver.applied(), []);
    }
}

/// With traffic it cannot be told from the peer's own move, until the peer says where it is.
#[test]
fn where_traffic_goes_on_over_it_it_is_kept_unless_the_peer_says_that_it_moved() {
    for peer_says in [false, true] {
        let mut driver = settled(Driver::initiator());
        driver.roams(BY_HAND);
        driver.pass_looking(PROMISE);
        assert!(!driver.scheduler.demand().working);
        let mut candidates = vec![remote(DIRECT, "direct", Tier::Direct)];
        if peer_says {
            candidates.push(remote(PUNCHED, "direct", Tier::Direct));
        } else {
            candidates.insert(0, remote(PUNCHED, "hole-punch", Tier::Punched));
        }
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, candidates) });
        driver.view.rx_bytes += 100;
        driver.pass_looking(ms(500));
        driver.answer(DIRECT);
        driver.pass_looking(Duration::from_secs(3));
        let expected = if peer_says { vec![endpoint(DIRECT)] } else { vec![] };
        assert_eq!(driver.applied(), expected);
    }
}

#[test]
fn one_that_does_not_work_is_left_for_a_path_that_does() {
    for mut driver in both_sides() {
        driver.view.endpoint = Some(endpoint(BY_HAND));
        driver.pass_looking(PROMISE);
        driver.answer(DIRECT);
        driver.pass_looking(Duration::from_secs(4));
        assert_eq!(driver.applied(), [endpoint(DIRECT)]);
    }
}

#[test]
fn one_that_fails_later_is_left_then() {
    let mut driver = settled(Driver::initiator());
    driver.view.endpoint = Some(endpoint(BY_HAND));
    driver.pass_looking(PROMISE);
    driver.answer(BY_HAND);
    driver.pass_looking(Duration::from_secs(30));
    driver.view.tx_bytes += 10_000;
    driver.pass_looking(Duration::from_secs(7));
    forget(&mut driver);
    driver.view.tx_bytes += 10_000;
    driver.pass_looking(Duration::from_secs(20));
    assert!(driver.scheduler.demand().working, "it is doubted");
    driver.answer(DIRECT);
    driver.pass_looking(Duration::from_secs(3));
    assert_eq!(driver.applied(), [endpoint(DIRECT)]);
}

/// Or the peer, if it is the one to choose, would lead the session away at once.
#[test]
fn the_peers_checks_over_other_paths_are_not_answered_meanwhile() {
    let mut driver = settled(Driver::follower());
    driver.view.endpoint = Some(endpoint(BY_HAND));
    driver.pass_looking(PROMISE);
    driver.asked(DIRECT, Tier::Direct, true);
    assert_eq!(driver.answers, []);
    driver.asked(BY_HAND, Tier::Direct, false);
    assert_eq!(driver.answers.len(), 1);
    driver.answer(DIRECT);
    driver.pass_looking(Duration::from_secs(3));
    driver.asked(DIRECT, Tier::Direct, false);
    assert_eq!(driver.answers.len(), 2, "it does not work: then the others count again");
}

#[test]
fn where_there_is_no_session_it_is_tried_before_the_others() {
    let mut driver = Driver::initiator().begun();
    driver.view.endpoint = Some(endpoint(BY_HAND));
    driver.pass_looking(PROMISE);
    let candidates = vec![remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(DIRECT);
    driver.answer(BY_HAND);
    driver.pass(ms(10));
    assert_eq!(driver.applied(), [endpoint(BY_HAND)]);
}

#[test]
fn what_we_set_ourselves_is_not_by_hand_however_late_it_is_seen() {
    let mut driver = settled(Driver::initiator());
    let direct_again = vec![remote(BY_HAND, "lan-mdns", Tier::Lan), remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, direct_again) });
    driver.answer(DIRECT);
    driver.answer(BY_HAND);
    assert_eq!(driver.applied(), [endpoint(BY_HAND)]);
    driver.view.endpoint = Some(endpoint(DIRECT));
    driver.look();
    assert!(!driver.status().by_hand);
    driver.view.endpoint = Some(endpoint(BY_HAND));
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.status().endpoint, Some(endpoint(BY_HAND)));
    assert!(!driver.status().by_hand);
}

/// `wg set wg0 peer KEY remove`, and added again before anybody looked.
#[test]
fn a_peer_that_was_made_anew_is_worked_on_again() {
    for mut driver in both_sides() {
        driver.view.endpoint = None;
        driver.view.handshake = None;
        driver.view.keepalive = Keepalive::Off;
        (driver.view.rx_bytes, driver.view.tx_bytes) = (0, 0);
        driver.pass_looking(PROMISE);
        assert!(driver.scheduler.demand().working);
        driver.answer(DIRECT);
        driver.pass_looking(Duration::from_secs(2));
        assert_eq!(driver.applied(), [endpoint(DIRECT)]);
        driver.handshake(DIRECT);
        assert_eq!(driver.status().state, State::Connected);
    }
}
