//! A tunnel that is up is watched, doubted when it is silent, and never given up for silence alone.

use std::time::Duration;

use wireplug_core::scheduler::{Input, Keepalive, State, Stimulus};
use wireplug_core::{Offer, Tier};

use crate::driver::{Driver, PEER, endpoint, offer, remote};

const PUBLIC: &str = "198.51.100.7:51820";

/// Connected and settled, with our keepalive.
fn settled() -> Driver {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(5));
    assert!(!driver.scheduler.demand().working);
    driver.checks.clear();
    driver.updates.clear();
    driver
}

#[test]
fn a_tunnel_that_is_heard_costs_nothing() {
    let mut driver = settled();
    let said = driver.offers.len();
    for _ in 0..10 {
        driver.view.rx_bytes += 32;
        driver.view.tx_bytes += 32;
        driver.renewed();
        driver.pass_looking(Duration::from_secs(25));
    }
    assert_eq!((driver.checks.len(), driver.updates.len(), driver.offers.len()), (0, 0, said));
}

#[test]
fn silence_begins_a_check_of_the_path_and_an_answer_ends_the_doubt() {
    let mut driver = settled();
    driver.view.tx_bytes += 1000;
    driver.pass_looking(Duration::from_secs(20));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)));
    assert_eq!(driver.status().state, State::Connected, "silence alone demotes nothing");
    driver.answer(PUBLIC);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.status().state, State::Connected);
    assert_eq!(driver.applied(), []);
}

#[test]
fn a_path_that_is_silent_and_does_not_answer_is_given_up_but_its_endpoint_stays() {
    let mut driver = settled();
    driver.view.tx_bytes += 1000;
    driver.pass_looking(Duration::from_secs(40));
    assert_ne!(driver.status().state, State::Connected);
    assert_eq!(driver.updates, []);
}

#[test]
fn when_the_path_in_use_is_dead_another_proven_one_replaces_it() {
    let mut driver = settled();
    driver.view.tx_bytes += 1000;
    driver.pass_looking(Duration::from_secs(19));
    let moved = vec![remote("198.51.100.99:7", "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, moved) });
    driver.answer("198.51.100.99:7");
    driver.pass_looking(Duration::from_secs(2));
    assert_eq!(driver.updates, [(Some(endpoint("198.51.100.99:7")), Stimulus::Restart(25))]);
}

#[test]
fn a_tunnel_that_worked_before_the_start_is_connected_and_left_alone() {
    let mut driver = Driver::initiator();
    driver.handshake(PUBLIC);
    driver.take(Input::ServerUp);
    assert_eq!(driver.status().state, State::Connected);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.updates, []);
    assert!(!driver.scheduler.demand().working, "and the port is closed");
}

#[test]
fn an_idle_peer_without_wireplug_stays_idle_with_its_endpoint() {
    let mut driver = Driver::initiator();
    driver.view.endpoint = Some(endpoint(PUBLIC));
    let mut driver = driver.begun();
    driver.pass_looking(Duration::from_secs(120));
    assert_eq!(driver.status().state, State::Idle);
    assert_eq!(driver.updates, []);
    driver.handshake(PUBLIC);
    assert_eq!(driver.status().state, State::Connected);
    assert_eq!(driver.updates, [], "its keepalive is none of our business");
}

#[test]
fn keepalives_that_only_one_side_sends_are_no_reason_for_doubt() {
    let mut driver = settled();
    for _ in 0..5 {
        driver.view.tx_bytes += 32;
        driver.pass_looking(Duration::from_secs(25));
    }
    assert!(driver.checks.is_empty() && driver.updates.is_empty());
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn a_session_that_ends_while_it_is_kept_alive_is_looked_after() {
    let mut driver = settled();
    driver.pass_looking(Duration::from_secs(220));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)));
    assert_ne!(driver.status().state, State::Connected);
}

/// WireGuard tells when its last handshake was by the wall clock, which NTP sets by years on machines without a battery.
#[test]
fn a_wall_clock_that_is_set_ends_no_tunnel_and_keeps_no_dead_one() {
    for age in [Duration::ZERO, Duration::from_secs(100_000_000)] {
        let mut driver = settled();
        driver.view.handshake.as_mut().unwrap().age = age;
        driver.look();
        assert_eq!(driver.status().state, State::Connected, "{age:?}");
        assert!(!driver.scheduler.demand().working, "{age:?}");
        for _ in 0..240 {
            driver.pass_looking(Duration::from_secs(1));
            driver.view.handshake.as_mut().unwrap().age = age;
        }
        assert_ne!(driver.status().state, State::Connected, "it was not renewed in 240 s: {age:?}");
    }
}

/// `wg-quick down` and `up` between two looks: the peer has no endpoint, no session and no keepalive, and nothing happens
/// by itself any more.
#[test]
fn a_device_that_was_made_anew_is_connected_again() {
    let mut driver = settled();
    driver.view.endpoint = None;
    driver.view.handshake = None;
    driver.view.keepalive = Keepalive::Off;
    (driver.view.rx_bytes, driver.view.tx_bytes) = (0, 0);
    driver.pass_looking(Duration::from_secs(2));
    assert!(driver.scheduler.demand().working);
    driver.answer(PUBLIC);
    assert_eq!(driver.updates, [(Some(endpoint(PUBLIC)), Stimulus::TurnOn(25))]);
}

/// The side that should renew a session cannot if its clock was set back: WireGuard takes no initiation that is older
/// than one before. It calls, and the other side has to begin, whose session is as dead.
#[test]
fn a_session_that_is_over_on_a_path_that_answers_is_begun_anew() {
    let mut driver = settled();
    driver.pass_looking(Duration::from_secs(185));
    assert_eq!(driver.updates, [], "it may be renewed by itself yet");
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 2, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.answer(PUBLIC);
    driver.pass_looking(Duration::from_secs(2));
    assert_eq!(driver.updates, [(None, Stimulus::Restart(25))], "once");
}

/// A machine that starts without a right clock has no session, and its peer refuses its initiations. The peer's own session
/// looks well; a packet that stays without an answer makes its WireGuard begin anew.
#[test]
fn a_peer_that_calls_and_says_nothing_is_sent_a_packet_that_wants_an_answer() {
    for heard in [false, true] {
        let mut driver = settled();
        driver.pass_looking(Duration::from_secs(60));
        driver.take(Input::OfferArrived {
            peer: PEER,
            offer: offer(1, 2, vec![remote(PUBLIC, "direct", Tier::Direct)]),
        });
        driver.answer(PUBLIC);
        driver.pass_looking(Duration::from_secs(1));
        driver.view.rx_bytes += if heard { 32 } else { 0 };
        driver.pass_looking(Duration::from_secs(20));
        let expected: &[_] = if heard { &[] } else { &[(None, Stimulus::Packet)] };
        assert_eq!(driver.updates, expected, "{heard}");
    }
}

/// The first packet of a session is the initiator's, and the other side sends nothing before it: where that one is lost, the
/// other side doubts. One packet may be lost, too.
#[test]
fn a_peer_that_doubts_a_path_that_works_is_sent_a_packet_at_once_and_another_in_the_end() {
    let mut driver = settled();
    driver.pass_looking(Duration::from_secs(60));
    let offer = offer(1, 2, vec![remote(PUBLIC, "direct", Tier::Direct)]);
    driver.take(Input::OfferArrived { peer: PEER, offer: Offer { doubts: true, ..offer } });
    driver.pass_looking(Duration::from_secs(1));
    assert_eq!(driver.updates, [], "the path is not known to work yet");
    driver.answer(PUBLIC);
    assert_eq!(driver.updates, [(None, Stimulus::Packet)]);
    driver.pass_looking(Duration::from_secs(20));
    assert_eq!(driver.updates, [(None, Stimulus::Packet); 2]);
}

/// A peer that cannot begin a session calls again and again, and each call makes the round longer.
#[test]
fn a_peer_that_goes_on_calling_is_sent_a_packet_before_the_round_is_over() {
    let mut driver = settled();
    driver.pass_looking(Duration::from_secs(60));
    let said = |revision| offer(1, revision, vec![remote(PUBLIC, "direct", Tier::Direct)]);
    driver.take(Input::OfferArrived { peer: PEER, offer: said(2) });
    driver.answer(PUBLIC);
    for revision in 3..7 {
        driver.pass_looking(Duration::from_secs(1));
        driver.take(Input::OfferArrived { peer: PEER, offer: said(revision) });
    }
    assert!(driver.scheduler.demand().working);
    assert_eq!(driver.updates, [(None, Stimulus::Packet)]);
}
