//! What is applied, by whom, when.

use std::time::Duration;

use wireplug_core::scheduler::{Input, Keepalive, Reason, State, Stimulus, Unsendable};
use wireplug_core::{Tier, TransactionId};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUBLIC: &str = "198.51.100.7:51820";
const OTHER: &str = "198.51.100.8:40001";

fn offered(mut driver: Driver) -> Driver {
    let candidates = vec![remote(PUBLIC, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver
}

#[test]
fn nothing_is_applied_before_an_answer() {
    let mut driver = offered(Driver::initiator().begun());
    driver.pass(Duration::from_secs(60));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)), "it was checked");
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().state, State::Unreachable);
    assert_eq!(driver.status().reason, Some(Reason::NoAnswer(1)));
}

#[test]
fn an_answer_counts_only_from_where_the_check_went_and_for_its_transaction() {
    let mut driver = offered(Driver::initiator().begun());
    let check = driver.checks[0];
    let (peer, from) = (PEER, endpoint(OTHER));
    driver.take(Input::CheckAnswered { peer, from, transaction: check.transaction });
    let transaction = TransactionId::from_bytes([0; 12]);
    driver.take(Input::CheckAnswered { peer, from: check.to, transaction });
    driver.pass(Duration::from_secs(2));
    assert_eq!(driver.applied(), []);
}

#[test]
fn the_initiator_applies_at_once_and_makes_wireguard_begin() {
    let mut driver = offered(Driver::initiator().begun());
    driver.pass(ms(20));
    driver.answer(PUBLIC);
    assert_eq!(driver.updates, [(Some(endpoint(PUBLIC)), Stimulus::TurnOn(25))]);
    let nominated = driver.checks.last().unwrap();
    assert!(nominated.nominate && nominated.to == endpoint(PUBLIC));
    driver.handshake(PUBLIC);
    let status = driver.status();
    assert_eq!((status.state, status.proven), (State::Connected, true));
    assert_eq!(status.strategy.unwrap().as_str(), "hole-punch");
    assert_eq!(status.rtt, Some(ms(20)));
}

#[test]
fn the_follower_waits_for_the_handshake_so_that_initiations_do_not_cross() {
    for (rtt, patience) in [(ms(10), ms(1000)), (ms(400), ms(1600))] {
        let mut driver = offered(Driver::follower().begun());
        driver.pass(rtt);
        // The answer to the first check, though others were sent since.
        let first = driver.checks[0];
        driver.take(Input::CheckAnswered { peer: PEER, from: first.to, transaction: first.transaction });
        driver.pass(patience.saturating_sub(ms(1)));
        assert_eq!(driver.applied(), []);
        driver.pass(ms(1));
        assert_eq!(driver.applied(), [endpoint(PUBLIC)]);
    }
}

#[test]
fn the_follower_takes_its_endpoint_from_the_initiation() {
    let mut driver = offered(Driver::follower().begun());
    driver.pass(ms(20));
    driver.answer(PUBLIC);
    driver.pass(ms(30));
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), []);
    assert_eq!(
        driver.updates,
        [(None, Stimulus::TurnOn(25))],
        "only the keepalive that holds our NAT's mapping"
    );
}

#[test]
fn the_persons_keepalive_is_not_touched() {
    let mut driver = offered(Driver::initiator());
    driver.view.keepalive = Keepalive::Theirs(40);
    let mut driver = offered(driver.begun());
    driver.pass(ms(20));
    driver.answer(PUBLIC);
    assert_eq!(driver.updates, [(Some(endpoint(PUBLIC)), Stimulus::Packet)]);
}

#[test]
fn a_path_without_handshake_fails_and_the_next_is_tried() {
    let mut driver = Driver::initiator().begun();
    let candidates = vec![remote(PUBLIC, "direct", Tier::Direct), remote(OTHER, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.answer(PUBLIC);
    driver.answer(OTHER);
    assert_eq!(driver.applied(), [endpoint(PUBLIC)]);
    driver.pass_looking(Duration::from_secs(8));
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint(OTHER)]);
    driver.pass_looking(Duration::from_secs(20));
    assert_eq!(driver.status().reason, Some(Reason::NoHandshake));
    assert_eq!(driver.status().state, State::Unreachable);
}

/// Its session may be there already, and only the first packet over it missing.
#[test]
fn an_attempt_goes_on_where_the_peers_initiation_came_from() {
    for called in [false, true] {
        let mut driver = Driver::initiator().begun();
        let candidates = [PUBLIC, OTHER].map(|at| remote(at, "direct", Tier::Direct)).to_vec();
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
        driver.answer(PUBLIC);
        driver.answer(OTHER);
        driver.view.endpoint = Some(endpoint(PUBLIC));
        driver.pass_looking(Duration::from_secs(5));
        if called {
            driver.roams("203.0.113.77:7");
        }
        driver.pass_looking(Duration::from_secs(4));
        let second = if called { PUBLIC } else { OTHER };
        assert_eq!(driver.applied().len(), if called { 1 } else { 2 }, "it has its time");
        driver.pass_looking(Duration::from_secs(4));
        assert_eq!(driver.applied(), [PUBLIC, second].map(endpoint), "and not more");
    }
}

#[test]
fn a_live_session_moves_only_to_what_is_better() {
    let mut driver = offered(Driver::initiator().begun());
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    let more =
        vec![remote(PUBLIC, "hole-punch", Tier::Punched), remote("192.168.1.9:51820", "lan-mdns", Tier::Lan)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, more) });
    driver.suggest(OTHER, "relay", Tier::Relay);
    driver.answer(OTHER);
    driver.pass_looking(ms(1000));
    assert_eq!(driver.applied(), [endpoint(PUBLIC)], "worse");
    driver.answer("192.168.1.9:51820");
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint("192.168.1.9:51820")], "better");
    assert_eq!(driver.status().state, State::Connected);
}

#[test]
fn the_follower_follows_a_nomination_once_it_has_proven_the_path_itself() {
    let mut driver = offered(Driver::follower().begun());
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.asked(OTHER, Tier::Direct, true);
    driver.pass_looking(ms(500));
    assert_eq!(driver.applied(), [], "not by the peer's word alone");
    driver.answer(OTHER);
    assert_eq!(driver.updates.last(), Some(&(Some(endpoint(OTHER)), Stimulus::None)));
}

#[test]
fn a_late_packet_that_pulls_the_endpoint_back_is_put_right_and_a_later_one_believed() {
    let mut driver = offered(Driver::initiator().begun());
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    let lan = "192.168.1.9:51820";
    let more = vec![remote(PUBLIC, "hole-punch", Tier::Punched), remote(lan, "lan-mdns", Tier::Lan)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 2, more) });
    driver.answer(lan);
    driver.pass(ms(100));
    driver.view.endpoint = Some(endpoint(PUBLIC));
    driver.look();
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint(lan), endpoint(lan)]);
    driver.pass_looking(Duration::from_secs(5));
    let applied = driver.applied().len();
    assert!(applied < 150, "and for a round trip, what is under way is put right again and again");
    driver.view.endpoint = Some(endpoint(PUBLIC));
    driver.view.rx_bytes += 32;
    driver.pass_looking(Duration::from_secs(5));
    assert_eq!(driver.applied().len(), applied, "the peer itself moved");
    assert_eq!(driver.status().endpoint, Some(endpoint(PUBLIC)));
}

#[test]
fn what_is_reached_through_a_tunnel_is_never_applied() {
    let mut driver = offered(Driver::initiator().begun());
    let (peer, to) = (PEER, endpoint(PUBLIC));
    driver.take(Input::Unsendable { peer, to, why: Unsendable::ThroughTunnel });
    let sent = driver.checks.len();
    driver.pass(Duration::from_secs(9));
    assert_eq!(driver.checks.len(), sent, "and not checked again");
    assert_eq!(driver.applied(), []);
    assert_eq!(driver.status().reason, Some(Reason::CannotSend(Unsendable::ThroughTunnel)));
}

#[test]
fn a_configured_endpoint_is_tried_unproven_only_when_the_tunnel_is_dead_and_nothing_answers() {
    let suggestion = |driver: &mut Driver| {
        let generation = driver.scheduler.generation();
        let candidate = remote(PUBLIC, "direct", Tier::Direct);
        driver.take(Input::Suggested { generation, peer: PEER, candidate });
    };
    let mut dead = Driver::initiator().begun();
    suggestion(&mut dead);
    dead.pass(ms(1900));
    assert_eq!(dead.updates, []);
    dead.pass(ms(200));
    assert_eq!(dead.updates, [(Some(endpoint(PUBLIC)), Stimulus::None)], "as WireGuard itself would have it");
    dead.pass(Duration::from_secs(20));
    assert_eq!(dead.status().reason, Some(Reason::Unproven));
    assert!(!dead.status().proven);

    let mut alive = Driver::initiator();
    alive.handshake(OTHER);
    alive.take(Input::ServerUp);
    suggestion(&mut alive);
    alive.pass_looking(Duration::from_secs(10));
    assert_eq!(alive.applied(), [], "a tunnel that works is not risked");
}

#[test]
fn without_raw_sockets_endpoints_are_tried_one_at_a_time() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::PortSharing(false));
    let candidates = vec![remote(PUBLIC, "direct", Tier::Direct), remote(OTHER, "hole-punch", Tier::Punched)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), [endpoint(PUBLIC)]);
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint(OTHER)]);
    assert_eq!(driver.checks.len(), 0);
}
