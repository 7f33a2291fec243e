//! Endpoints of live sessions: late packets, the peer's own moves, and what is no reason for doubt.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, State, Stimulus};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const DIRECT: &str = "198.51.100.8:51820";
const ELSEWHERE: &str = "203.0.113.9:9";

/// A follower with a session over one path, to which the initiator has just sent over another, better one.
fn moved_by_the_initiator() -> Driver {
    let mut driver = Driver::follower().begun();
    let candidates =
        vec![remote(PUNCHED, "hole-punch", Tier::Punched), remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(PUNCHED);
    driver.answer(DIRECT);
    driver.handshake(PUNCHED);
    driver.updates.clear();
    driver.roams(DIRECT);
    driver.look();
    driver.asked(DIRECT, Tier::Direct, true);
    driver
}

#[test]
fn the_follower_holds_on_to_a_path_that_it_was_moved_to() {
    let mut driver = moved_by_the_initiator();
    assert_eq!(driver.applied(), [], "it is there already");
    assert!(driver.scheduler.demand().device_poll <= ms(100), "and looks closely for a while");
    driver.roams(PUNCHED);
    driver.pass_looking(ms(100));
    assert_eq!(driver.updates, [(Some(endpoint(DIRECT)), Stimulus::None)], "a late packet is put right");
    driver.pass_looking(Duration::from_secs(5));
    assert!(driver.scheduler.demand().device_poll > ms(100));
}

#[test]
fn a_peer_that_roams_right_after_a_move_is_not_pulled_back() {
    let mut driver = moved_by_the_initiator();
    driver.roams(ELSEWHERE);
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().endpoint, Some(endpoint(ELSEWHERE)));
}

#[test]
fn what_was_proven_of_a_peers_old_network_is_not_chosen_in_its_new_one() {
    let mut driver = moved_by_the_initiator();
    let mut from_elsewhere = offer(1, 1, vec![remote(ELSEWHERE, "direct", Tier::Direct)]);
    from_elsewhere.version.generation = 2;
    driver.take(Input::OfferArrived { peer: PEER, offer: from_elsewhere });
    driver.roams(ELSEWHERE);
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.applied(), []);
}

#[test]
fn a_round_outlasts_a_late_session_so_that_a_move_is_heard_of() {
    let mut driver = Driver::follower().begun();
    let candidates = vec![remote(PUNCHED, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(PUNCHED);
    driver.pass_looking(Duration::from_secs(6));
    driver.handshake(PUNCHED);
    driver.pass_looking(ms(500));
    assert!(driver.scheduler.demand().working);
    driver.pass_looking(Duration::from_secs(4));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn a_handshake_that_was_lost_on_its_only_path_is_asked_for_again() {
    let mut driver = Driver::initiator().begun();
    let candidates = vec![remote(PUNCHED, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(PUNCHED);
    driver.pass_looking(Duration::from_secs(8));
    assert_eq!(
        driver.updates,
        [(Some(endpoint(PUNCHED)), Stimulus::TurnOn(25)), (None, Stimulus::Restart(25))],
        "WireGuard's limiter has let go by then"
    );
    driver.handshake(PUNCHED);
    assert!(driver.status().proven);
}

#[test]
fn to_begin_to_send_after_a_long_silence_is_no_reason_for_doubt() {
    let mut driver = Driver::initiator();
    driver.handshake(PUNCHED);
    driver.take(Input::ServerUp);
    driver.pass_looking(Duration::from_secs(60));
    driver.view.tx_bytes += 100_000;
    driver.pass_looking(Duration::from_secs(9));
    assert!(!driver.scheduler.demand().working, "the answer is due after ten seconds");
    driver.view.rx_bytes += 32;
    driver.pass_looking(Duration::from_secs(30));
    assert!(!driver.scheduler.demand().working);
}

/// What a strategy suggested is void in another network, until it suggests it again: the relay that carries the session
/// is not given back meanwhile, also where a better path is proven first.
#[test]
fn a_relay_in_use_is_kept_when_the_network_changes() {
    const RELAY: &str = "192.0.2.1:3479";
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, vec![]) });
    driver.pass(Duration::from_secs(1));
    driver.suggest(RELAY, "relay", Tier::Relay);
    driver.answer(RELAY);
    driver.handshake(RELAY);
    assert_eq!(driver.status().state, State::Relayed);

    driver.take(Input::NetworkChanged);
    let direct = vec![remote(DIRECT, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, direct) });
    driver.pass(ms(20));
    driver.answer(RELAY);
    assert!(driver.scheduler.relay_wanted(&PEER));
    assert_eq!(driver.status().state, State::Relayed);
    driver.answer(DIRECT);
    driver.pass(ms(20));
    assert!(driver.scheduler.relay_wanted(&PEER), "kept for a while after the move");
}
