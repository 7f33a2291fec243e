//! Peers that a strategy finds on the same link, with or without a server.

use std::time::Duration;

use wireplug_core::scheduler::{Input, State};
use wireplug_core::{RemoteCandidate, Tier};

use crate::driver::{Driver, PEER, endpoint, ms, name, offer, remote};

const PUBLIC: &str = "198.51.100.7:51820";
const NEIGHBOUR: &str = "192.168.1.7:51820";

fn neighbour(at: &str) -> RemoteCandidate {
    remote(at, "lan-mdns", Tier::Lan)
}

fn suggest(driver: &mut Driver, candidate: RemoteCandidate) {
    driver.take(Input::Suggested { generation: 1, peer: PEER, candidate });
}

/// Settled over a path of the internet.
fn settled() -> Driver {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(5));
    assert!(!driver.scheduler.demand().working);
    driver
}

#[test]
fn a_new_neighbour_ends_a_pause() {
    let mut driver = Driver::initiator();
    driver.look();
    driver.pass(Duration::from_secs(4));
    assert_eq!(driver.status().state, State::Unreachable);
    suggest(&mut driver, neighbour(NEIGHBOUR));
    driver.answer(NEIGHBOUR);
    driver.handshake(NEIGHBOUR);
    assert_eq!(driver.applied(), [endpoint(NEIGHBOUR)]);
    assert_eq!(driver.status().state, State::Connected);
}

#[test]
fn a_neighbour_that_heard_us_first_has_a_name_too() {
    let mut driver = Driver::follower().begun();
    driver.asked(NEIGHBOUR, Tier::Lan, true);
    driver.answer(NEIGHBOUR);
    driver.handshake(NEIGHBOUR);
    let status = driver.status();
    assert_eq!((status.state, status.strategy), (State::Connected, Some(name("lan-mdns"))));
}

#[test]
fn a_settled_tunnel_moves_to_a_new_neighbour() {
    let mut driver = settled();
    suggest(&mut driver, neighbour(NEIGHBOUR));
    assert!(driver.scheduler.demand().working);
    driver.answer(PUBLIC);
    driver.answer(NEIGHBOUR);
    assert_eq!(driver.applied(), [endpoint(PUBLIC), endpoint(NEIGHBOUR)]);
}

#[test]
fn a_neighbour_that_does_not_answer_costs_one_short_round() {
    let mut driver = settled();
    suggest(&mut driver, neighbour(NEIGHBOUR));
    driver.answer(PUBLIC);
    driver.pass_looking(Duration::from_secs(4));
    assert!(!driver.scheduler.demand().working);
    assert_eq!(driver.applied(), [endpoint(PUBLIC)]);
    // Said again, it is no news.
    suggest(&mut driver, neighbour(NEIGHBOUR));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn a_tunnel_over_the_link_is_left_alone() {
    let mut driver = settled();
    suggest(&mut driver, neighbour(NEIGHBOUR));
    driver.answer(NEIGHBOUR);
    driver.handshake(NEIGHBOUR);
    driver.pass_looking(Duration::from_secs(10));
    assert!(!driver.scheduler.demand().working);
    suggest(&mut driver, neighbour("192.168.1.8:51820"));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn what_is_not_wanted_or_not_on_the_link_starts_nothing() {
    let mut driver = settled();
    suggest(&mut driver, RemoteCandidate { strategy: name("pcp"), ..neighbour(NEIGHBOUR) });
    suggest(&mut driver, remote("203.0.113.9:51820", "direct", Tier::Direct));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn a_neighbour_is_never_tried_unproven_where_it_can_be_proven() {
    let mut driver = Driver::initiator();
    driver.look();
    suggest(&mut driver, neighbour(NEIGHBOUR));
    driver.pass(Duration::from_secs(60));
    assert!(driver.checks.len() > 8);
    assert_eq!(driver.applied(), []);

    // Without raw sockets WireGuard's own handshake is the only proof there is.
    driver.take(Input::PortSharing(false));
    driver.pass(Duration::from_secs(60));
    assert!(driver.applied().contains(&endpoint(NEIGHBOUR)));
}

#[test]
fn a_round_goes_on_a_while_for_a_neighbour_that_comes_late() {
    let mut driver = Driver::initiator().begun();
    suggest(&mut driver, remote("203.0.113.9:51820", "direct", Tier::Direct));
    driver.pass(ms(7500));
    suggest(&mut driver, neighbour(NEIGHBOUR));
    driver.pass(ms(2000));
    assert!(driver.scheduler.demand().working);
}

#[test]
fn a_link_local_endpoint_that_is_read_without_its_scope_is_the_one_that_was_set() {
    const SCOPED: &str = "[fe80::7%2]:51820";
    let mut driver = Driver::initiator();
    driver.look();
    suggest(&mut driver, neighbour(SCOPED));
    driver.answer(SCOPED);
    driver.handshake("[fe80::7]:51820");
    driver.pass_looking(Duration::from_secs(10));
    assert_eq!(driver.applied(), [endpoint(SCOPED)], "it was not pulled back");
    let status = driver.status();
    assert_eq!((status.endpoint, status.strategy), (Some(endpoint(SCOPED)), Some(name("lan-mdns"))));
}
