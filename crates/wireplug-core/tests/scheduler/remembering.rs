//! Where a peer was reached is kept, and tried when no server is there.

use std::time::Duration;

use wireplug_core::scheduler::{Input, State, Stimulus, Unsendable};
use wireplug_core::{Proof, Reach, Tier};

use crate::driver::{Driver, PEER, endpoint, ms, offer, own, remote};

const PUBLIC: &str = "198.51.100.7:51820";
const OTHER: &str = "198.51.100.8:40001";
const PERSONS: &str = "203.0.113.9:51820";

/// With no server, as was found out at once.
fn recalling(driver: Driver) -> Driver {
    let mut driver = connecting(driver);
    driver.take(Input::ServerDown { why: "a test".to_owned() });
    driver
}

/// It is not known yet whether a server will be there.
fn connecting(mut driver: Driver) -> Driver {
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

/// What is used stays the latest in the file, and what is used every day is not what a new place pushes out.
#[test]
fn what_is_in_use_is_the_first_of_what_is_kept_and_said_once_in_each_run() {
    let places = ["198.51.100.1:1", "198.51.100.2:2", "198.51.100.3:3", PUBLIC];
    let direct = |at: &str| remote(at, "direct", Tier::Direct);
    let mut driver = Driver::initiator().begun();
    driver.take(Input::LastGood { peer: PEER, candidates: places.map(direct).into() });
    for revision in [1, 2] {
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, revision, vec![direct(PUBLIC)]) });
        driver.answer(PUBLIC);
        driver.handshake(PUBLIC);
        driver.pass_looking(Duration::from_secs(10));
        assert_eq!(driver.kept, [[PUBLIC, places[0], places[1], places[2]].map(direct)]);
    }
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 3, vec![direct(OTHER)]) });
    driver.answer(OTHER);
    driver.handshake(OTHER);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.kept[1], [OTHER, PUBLIC, places[0], places[1]].map(direct));
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 4, vec![direct(PUBLIC)]) });
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.kept[2..], [[PUBLIC, OTHER, places[0], places[1]].map(direct)], "another is first");
}

/// The path is ranked by the better of its two ends, which may be ours; only the other one is of use another time.
#[test]
fn what_is_kept_is_the_peers_end_of_a_path() {
    let kept = |offered: Vec<_>, tier: Tier| {
        let mut driver = Driver::initiator().begun();
        for (at, strategy, tier) in
            [("192.168.1.2:51820", "lan-mdns", Tier::Lan), ("203.0.113.2:51820", "direct", Tier::Direct)]
        {
            let candidate = own(at, strategy, tier, Proof::Done(Reach::Open));
            driver.take(Input::Found { generation: 1, candidate });
        }
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, offered) });
        driver.asked(OTHER, tier, false);
        driver.answer(OTHER);
        driver.handshake(OTHER);
        driver.pass_looking(Duration::from_secs(10));
        driver.kept
    };
    let punched = || remote(OTHER, "hole-punch", Tier::Punched);
    assert_eq!(kept(vec![punched()], Tier::Direct), [[punched()]]);
    assert_eq!(kept(vec![punched()], Tier::Lan), [[punched()]]);
    assert_eq!(kept(vec![], Tier::Direct), [[punched()]], "some mapping");
    assert_eq!(kept(vec![], Tier::Lan), [[]; 0], "of this link");
    assert_eq!(kept(vec![remote(OTHER, "lan-mdns", Tier::Lan)], Tier::Direct), [[]; 0]);
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

/// Connecting may take longer than a round's patience, and then the peer says itself where it is.
#[test]
fn it_is_checked_at_once_but_set_only_when_no_server_was_there_for_a_while() {
    let mut driver = connecting(Driver::initiator());
    driver.pass(ms(500));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)));
    driver.pass_looking(Duration::from_secs(60));
    assert_eq!(driver.updates, []);
    driver.take(Input::ServerUp);
    driver.take(Input::ServerDown { why: "a test".to_owned() });
    driver.take(Input::Reconsider { peer: PEER });
    driver.pass(ms(1900));
    driver.take(Input::ServerDown { why: "tried again in vain".to_owned() });
    assert_eq!(driver.updates, []);
    driver.pass(ms(200));
    assert_eq!(driver.applied(), [endpoint(PUBLIC)]);

    let mut driver = connecting(Driver::initiator());
    driver.pass(ms(4000));
    driver.take(Input::ServerDown { why: "a test".to_owned() });
    driver.pass(ms(1900));
    assert_eq!(driver.updates, []);
    driver.pass(ms(200));
    assert_eq!(driver.applied(), [endpoint(PUBLIC)], "in the same round");
}

/// To set it would have WireGuard's packets go where the checks may not.
#[test]
fn what_cannot_be_sent_to_is_not_set() {
    let mut driver = recalling(Driver::initiator());
    let why = Unsendable::ThroughTunnel;
    driver.take(Input::Unsendable { peer: PEER, to: endpoint(PUBLIC), why });
    driver.pass(ms(2100));
    assert_eq!(driver.applied(), [endpoint(OTHER)]);
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

/// It can answer checks, as it did in an earlier run.
#[test]
fn a_peer_that_is_remembered_is_doubted_as_soon_as_one_that_speaks() {
    let mut driver = recalling(Driver::initiator());
    driver.handshake(PUBLIC);
    driver.answer(PUBLIC);
    driver.pass_looking(Duration::from_secs(10));
    assert!(!driver.scheduler.demand().working);
    for _ in 0..7 {
        driver.view.tx_bytes += 1000;
        driver.pass_looking(Duration::from_secs(1));
    }
    assert!(driver.scheduler.demand().working);
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
