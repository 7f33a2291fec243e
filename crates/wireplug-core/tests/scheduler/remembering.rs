//! Where a peer was reached is kept, and tried when no server is there.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, State, Stimulus};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUBLIC: &str = "198.51.100.7:51820";
const OTHER: &str = "198.51.100.8:40001";
const PERSONS: &str = "203.0.113.9:51820";

fn recalling(mut driver: Driver) -> Driver {
    driver.look();
    let candidates = vec![remote(PUBLIC, "direct", Tier::Direct), remote(OTHER, "hole-punch", Tier::Punched)];
    driver.take(Input::LastGood { peer: PEER, candidates });
    driver
}

#[test]
fn what_answered_is_kept_once() {
    let mut driver = Driver::initiator().begun();
    let candidates =
        || vec![remote(PUBLIC, "direct", Tier::Direct), remote(OTHER, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates()) });
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.kept, [[remote(PUBLIC, "direct", Tier::Direct)]]);
    for revision in 2..5 {
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, revision, candidates()) });
        driver.answer(PUBLIC);
        driver.pass_looking(Duration::from_secs(10));
    }
    assert_eq!(driver.kept.len(), 1, "nothing is new");
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 5, candidates()) });
    driver.answer(OTHER);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.kept[1].len(), 2, "what was good before is kept too");
}

#[test]
fn without_a_server_it_is_checked_and_what_answers_is_applied() {
    let mut driver = recalling(Driver::initiator());
    driver.pass(ms(500));
    driver.answer(OTHER);
    assert_eq!(driver.applied(), [endpoint(OTHER)]);
}

#[test]
fn with_a_server_the_peers_offer_says_where_it_is() {
    let mut driver = recalling(Driver::initiator());
    driver.take(Input::ServerUp);
    driver.checks.clear();
    driver.pass(Duration::from_secs(60));
    assert!(driver.checks.is_empty() && driver.updates.is_empty());
    driver.take(Input::ServerDown { why: "a test".to_owned() });
    driver.pass(Duration::from_secs(60));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)), "it has gone");
}

/// A peer whose tunnel is settled does not listen for checks. WireGuard answers at any time.
#[test]
fn what_answers_no_check_is_set_when_all_else_failed_one_in_a_round() {
    let mut driver = recalling(Driver::initiator());
    driver.pass(ms(1900));
    assert_eq!(driver.updates, []);
    driver.pass(ms(200));
    assert_eq!(driver.updates, [(Some(endpoint(PUBLIC)), Stimulus::TurnOn(25))]);
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.updates.len(), 1);
    driver.pass_looking(Duration::from_secs(20));
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint(OTHER)]);
    driver.handshake(OTHER);
    assert_eq!(driver.status().state, State::Connected);
}

#[test]
fn the_follower_leaves_the_initiator_time_to_begin() {
    let mut driver = recalling(Driver::follower());
    driver.pass(ms(2900));
    assert_eq!(driver.updates, []);
    driver.pass(ms(200));
    assert_eq!(driver.applied(), [endpoint(PUBLIC)]);
}

#[test]
fn a_tunnel_that_works_is_not_moved_to_what_was_good_once() {
    let mut driver = Driver::initiator();
    driver.handshake(PUBLIC);
    let mut driver = recalling(driver);
    driver.pass_looking(Duration::from_secs(60));
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().state, State::Connected);
}

/// Its path may come back by itself, and then nothing was lost.
#[test]
fn a_session_that_may_still_be_good_is_left_where_it_is() {
    let mut driver = recalling(Driver::initiator());
    driver.handshake(OTHER);
    driver.view.tx_bytes += 1000;
    driver.updates.clear();
    driver.pass_looking(Duration::from_secs(100));
    assert_ne!(driver.status().state, State::Connected, "it is silent, and nothing answers");
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)), "all are checked");
    assert_eq!(driver.applied(), []);
    driver.pass_looking(Duration::from_secs(300));
    assert!(driver.applied().contains(&endpoint(PUBLIC)), "now there is nothing to lose");
}

/// What is remembered is set over it, or it would have nothing to be lost by.
#[test]
fn the_endpoint_that_the_person_set_is_the_first_to_be_tried_and_comes_back() {
    for late in [false, true] {
        let mut driver = Driver::initiator();
        if late {
            driver = recalling(driver);
            driver.pass_looking(Duration::from_secs(20));
            assert!(driver.applied().contains(&endpoint(PUBLIC)));
        }
        driver.view.endpoint = Some(endpoint(PERSONS));
        let mut driver = recalling(driver);
        driver.updates.clear();
        driver.pass_looking(Duration::from_secs(8));
        assert_eq!(driver.updates, [], "it has its turn: {late}");
        driver.pass_looking(Duration::from_secs(120));
        assert_eq!(driver.applied(), [PUBLIC, OTHER, PERSONS, PUBLIC].map(endpoint), "{late}");
        assert_eq!(driver.updates[2], (Some(endpoint(PERSONS)), Stimulus::None), "as it was configured");
    }
}
