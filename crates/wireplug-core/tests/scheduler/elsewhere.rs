//! One side is in another network: the other side's WireGuard is to follow soon, by its own roaming where it can.

use std::time::Duration;

use wireplug_core::scheduler::{Input, Keepalive, State, Stimulus};
use wireplug_core::{Offer, Tier};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const ELSEWHERE: &str = "203.0.113.9:9";
const RELAY: &str = "192.0.2.1:3479";

/// A tunnel at rest over one path, with a keepalive of this kind.
fn settled(driver: Driver, keepalive: Keepalive) -> Driver {
    let mut driver = driver.begun();
    driver.take(Input::OfferArrived { peer: PEER, offer: at(PUNCHED, 1) });
    driver.answer(PUNCHED);
    driver.view.keepalive = keepalive;
    driver.handshake(PUNCHED);
    driver.view.keepalive = keepalive;
    driver.look();
    driver.pass_looking(Duration::from_secs(10));
    assert!(!driver.scheduler.demand().working);
    driver.updates.clear();
    driver
}

/// The peer's offer from a place, the `generation`th.
fn at(place: &str, generation: u32) -> Offer {
    let mut offer = offer(1, generation, vec![remote(place, "hole-punch", Tier::Punched)]);
    offer.version.generation = generation;
    offer
}

#[test]
fn who_moved_sends_at_once_and_again_when_the_path_in_use_is_proven() {
    for (keepalive, stimulus) in
        [(Keepalive::Ours(25), Stimulus::Restart(25)), (Keepalive::Theirs(33), Stimulus::Packet)]
    {
        for driver in [Driver::initiator(), Driver::follower()] {
            let mut driver = settled(driver, keepalive);
            driver.take(Input::NetworkChanged);
            assert_eq!(driver.updates, [(None, stimulus)], "a peer that anyone may send to follows that");
            driver.pass(ms(300));
            driver.answer(PUNCHED);
            assert_eq!(driver.updates, [(None, stimulus); 2], "and one behind a NAT follows this");
            driver.pass_looking(Duration::from_secs(10));
            assert_eq!(driver.updates.len(), 2);
        }
    }
}

#[test]
fn the_path_in_use_is_proven_also_when_it_is_offered_no_more() {
    let mut driver = settled(Driver::initiator(), Keepalive::Ours(25));
    driver.take(Input::NetworkChanged);
    driver.pass(ms(10));
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, vec![]) });
    driver.answer(PUNCHED);
    assert!(driver.status().proven);
}

#[test]
fn where_nothing_is_kept_alive_nothing_is_sent_for_it() {
    let mut driver = settled(Driver::initiator(), Keepalive::Off);
    driver.take(Input::NetworkChanged);
    assert_eq!(driver.updates, []);
}

#[test]
fn who_stays_follows_soon_to_where_the_peer_says_it_is() {
    for (driver, by) in [(Driver::initiator(), ms(110)), (Driver::follower(), ms(220))] {
        let mut driver = settled(driver, Keepalive::Ours(25));
        driver.take(Input::OfferArrived { peer: PEER, offer: at(ELSEWHERE, 2) });
        driver.pass(ms(20));
        driver.answer(ELSEWHERE);
        driver.pass(by);
        assert_eq!(driver.applied(), [endpoint(ELSEWHERE)]);
    }
}

/// The server is found again in the midst of it, which is a reason for a round by itself.
#[test]
fn who_moved_leaves_the_path_of_before_soon_also_when_the_server_is_back_meanwhile() {
    let mut driver = settled(Driver::initiator(), Keepalive::Ours(25));
    driver.take(Input::ServerDown { why: "the network has changed".to_owned() });
    driver.take(Input::NetworkChanged);
    driver.pass(ms(300));
    driver.take(Input::ServerUp);
    let mut both = at(PUNCHED, 1);
    both.version.revision = 2;
    both.candidates.push(remote(ELSEWHERE, "hole-punch", Tier::Punched));
    driver.take(Input::OfferArrived { peer: PEER, offer: both });
    driver.pass(ms(20));
    driver.answer(ELSEWHERE);
    driver.pass(ms(110));
    assert_eq!(driver.applied(), [endpoint(ELSEWHERE)]);
}

#[test]
fn a_path_that_still_answers_is_not_left_because_the_peer_has_another_network_too() {
    let mut driver = settled(Driver::initiator(), Keepalive::Ours(25));
    let mut both = at(PUNCHED, 2);
    both.candidates.push(remote(ELSEWHERE, "hole-punch", Tier::Punched));
    driver.take(Input::OfferArrived { peer: PEER, offer: both });
    driver.pass(ms(20));
    driver.answer(ELSEWHERE);
    driver.answer(PUNCHED);
    driver.pass(Duration::from_secs(8));
    assert_eq!(driver.applied(), []);
}

/// It is the longer way, as it was before.
#[test]
fn a_path_whose_answers_take_longer_is_waited_for() {
    for first in [Driver::initiator(), Driver::follower()] {
        let mut driver = first.begun();
        let mut used = offer(1, 1, vec![remote(PUNCHED, "direct", Tier::Direct)]);
        driver.take(Input::OfferArrived { peer: PEER, offer: used.clone() });
        let answer_the_first = |driver: &mut Driver| {
            let transaction = driver.checks[0].transaction;
            driver.take(Input::CheckAnswered { peer: PEER, from: endpoint(PUNCHED), transaction });
        };
        driver.pass(ms(300));
        answer_the_first(&mut driver);
        driver.handshake(PUNCHED);
        driver.pass_looking(Duration::from_secs(10));
        (driver.checks, driver.updates) = (vec![], vec![]);
        used.candidates.push(remote(ELSEWHERE, "hole-punch", Tier::Punched));
        used.version.generation = 2;
        driver.take(Input::OfferArrived { peer: PEER, offer: used });
        driver.checks.retain(|check| check.to == endpoint(PUNCHED));
        driver.pass(ms(60));
        driver.answer(ELSEWHERE);
        driver.pass(ms(240));
        answer_the_first(&mut driver);
        driver.pass_looking(Duration::from_secs(8));
        assert_eq!(driver.applied(), []);
    }
}

/// Its WireGuard has sent over the new path by then.
#[test]
fn a_move_of_our_own_tells_the_peer_where_we_are_now() {
    let mut driver = settled(Driver::initiator(), Keepalive::Ours(25));
    driver.take(Input::NetworkChanged);
    driver.take(Input::OfferArrived { peer: PEER, offer: at(ELSEWHERE, 2) });
    driver.pass(ms(20));
    driver.answer(ELSEWHERE);
    driver.pass(ms(110));
    driver.answer(ELSEWHERE);
    let stimulus = Stimulus::Restart(25);
    assert_eq!(driver.updates, [(None, stimulus), (Some(endpoint(ELSEWHERE)), stimulus)]);
}

#[test]
fn a_relay_that_bridges_a_move_is_left_as_soon_as_there_is_better() {
    let mut driver = settled(Driver::initiator(), Keepalive::Ours(25));
    driver.take(Input::OfferArrived { peer: PEER, offer: at(ELSEWHERE, 2) });
    driver.pass(ms(200));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.pass_looking(ms(400));
    assert_eq!(driver.status().state, State::Relayed);
    driver.answer(ELSEWHERE);
    assert_eq!(driver.applied(), [endpoint(RELAY), endpoint(ELSEWHERE)], "nothing was flapping");
}

#[test]
fn nobody_holds_on_to_a_path_of_before_the_move() {
    for ours in [true, false] {
        let mut driver = settled(Driver::follower(), Keepalive::Ours(25));
        // The initiator has just moved the session to a better path.
        driver.take(Input::OfferArrived { peer: PEER, offer: at(PUNCHED, 2) });
        driver.suggest(RELAY, "relay", Tier::Relay);
        driver.pass(ms(20));
        driver.answer(RELAY);
        driver.answer(PUNCHED);
        driver.asked(PUNCHED, Tier::Punched, true);
        // Then one of both moves, and the initiator falls back to the relay.
        if ours {
            driver.take(Input::NetworkChanged);
        } else {
            driver.take(Input::OfferArrived { peer: PEER, offer: at(ELSEWHERE, 3) });
        }
        driver.suggest(RELAY, "relay", Tier::Relay);
        driver.pass(ms(20));
        driver.answer(RELAY);
        driver.view.endpoint = Some(endpoint(RELAY));
        driver.view.rx_bytes += 32;
        driver.look();
        driver.updates.clear();
        driver.pass_looking(ms(100));
        assert_eq!(driver.applied(), [], "ours: {ours}");
        assert_eq!(driver.status().state, State::Relayed);
    }
}
