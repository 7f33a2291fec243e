//! What is offered to the peer, and what of its offers is believed.

use std::time::Duration;

use wireplug_core::scheduler::{DeviceView, Input, Verdict};
use wireplug_core::{Mapping, OfferVersion, Proof, Reach, Tier};

use crate::driver::{Driver, PEER, endpoint, ms, name, offer, own, remote};

const OURS: &str = "203.0.113.9:51820";
const PUBLIC: &str = "198.51.100.7:51820";

fn found(driver: &mut Driver, at: &str, strategy: &str, tier: Tier, proof: Proof) {
    let generation = driver.scheduler.generation();
    driver.take(Input::Found { generation, candidate: own(at, strategy, tier, proof) });
}

fn judged(driver: &mut Driver, at: &str, verdict: Verdict) {
    let generation = driver.scheduler.generation();
    driver.take(Input::Verdict { generation, endpoint: endpoint(at), verdict });
}

#[test]
fn a_candidate_is_offered_only_when_the_server_has_proven_it() {
    for (verdict, reach) in [
        (Verdict::Open, Some(Reach::Open)),
        (Verdict::Filtered, Some(Reach::Filtered)),
        (Verdict::Wrong { why: "not ours".to_owned() }, None),
        (Verdict::Unknown, None),
    ] {
        let mut driver = Driver::initiator().begun();
        found(&mut driver, OURS, "direct", Tier::Direct, Proof::Server);
        assert_eq!(driver.verifications, [endpoint(OURS)]);
        driver.pass(ms(100));
        assert!(driver.offers.is_empty(), "not before the verdict");
        judged(&mut driver, OURS, verdict);
        driver.pass(ms(400));
        let offered: Vec<_> = driver.offers.last().unwrap().candidates.iter().map(|c| c.reach).collect();
        assert_eq!(offered, Vec::from_iter(reach));
    }
}

#[test]
fn a_mapping_that_lets_nothing_in_is_not_offered_and_judged_again_when_renewed() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "nat-pmp", Tier::Mapped, Proof::Server);
    judged(&mut driver, OURS, Verdict::Filtered);
    driver.pass(ms(400));
    assert!(driver.offers.last().unwrap().candidates.is_empty());
    found(&mut driver, OURS, "nat-pmp", Tier::Mapped, Proof::Server);
    assert_eq!(driver.verifications, [endpoint(OURS), endpoint(OURS)]);
    judged(&mut driver, OURS, Verdict::Open);
    driver.pass(ms(400));
    assert_eq!(driver.offers.last().unwrap().candidates[0].reach, Reach::Open);
}

#[test]
fn what_no_server_could_judge_is_asked_again_when_one_is_there() {
    let mut driver = Driver::initiator();
    driver.look();
    found(&mut driver, OURS, "direct", Tier::Direct, Proof::Server);
    judged(&mut driver, OURS, Verdict::Unknown);
    driver.take(Input::ServerUp);
    assert_eq!(driver.verifications, [endpoint(OURS), endpoint(OURS)]);
}

#[test]
fn what_nobody_could_judge_is_asked_again_after_a_while_and_rests_with_the_tunnel() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "direct", Tier::Direct, Proof::Server);
    judged(&mut driver, OURS, Verdict::Unknown);
    driver.pass(ms(900));
    assert_eq!(driver.verifications.len(), 1);
    driver.pass(ms(200));
    assert_eq!(driver.verifications.len(), 2);
    judged(&mut driver, OURS, Verdict::Filtered);
    driver.pass(ms(50));
    assert_eq!(driver.offers.last().unwrap().candidates.len(), 1);
    driver.pass(Duration::from_secs(100));
    assert_eq!(driver.verifications.len(), 2, "decided");

    let mut settled = Driver::initiator();
    settled.handshake(PUBLIC);
    settled.take(Input::ServerUp);
    found(&mut settled, OURS, "direct", Tier::Direct, Proof::Server);
    settled.pass_looking(Duration::from_secs(10));
    judged(&mut settled, OURS, Verdict::Unknown);
    settled.pass_looking(Duration::from_secs(30));
    assert_eq!(settled.verifications.len(), 1, "nobody to offer it to");
    assert_eq!(settled.scheduler.poll_timeout(), None);
}

#[test]
fn even_without_candidates_the_peer_is_told_so_that_it_listens() {
    let mut driver = Driver::initiator().begun();
    driver.pass(ms(299));
    assert!(driver.offers.is_empty());
    driver.pass(ms(2));
    assert_eq!(driver.offers.len(), 1);
    assert!(driver.offers[0].candidates.is_empty());
}

#[test]
fn candidates_found_and_lost_make_new_offers_best_first() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    assert_eq!(driver.offers.len(), 1, "at once");
    found(&mut driver, "203.0.113.8:9", "direct", Tier::Direct, Proof::Done(Reach::Open));
    driver.pass(ms(50));
    let last = driver.offers.last().unwrap();
    let tiers: Vec<_> = last.candidates.iter().map(|candidate| candidate.tier).collect();
    assert_eq!(tiers, [Tier::Direct, Tier::Punched]);
    assert!(last.version.replaces(&driver.offers[0].version));

    let generation = driver.scheduler.generation();
    driver.take(Input::Lost { generation, strategy: name("hole-punch"), endpoint: endpoint(OURS) });
    driver.take(Input::Mapping { generation, mapping: Mapping::DestinationDependent });
    driver.pass(ms(50));
    let last = driver.offers.last().unwrap();
    assert_eq!(last.candidates.len(), 1);
    assert_eq!(last.mapping, Mapping::DestinationDependent);
}

#[test]
fn what_is_taken_back_is_told_at_once_also_when_nothing_is_left() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    let generation = driver.scheduler.generation();
    driver.take(Input::Lost { generation, strategy: name("hole-punch"), endpoint: endpoint(OURS) });
    driver.take(Input::Mapping { generation, mapping: Mapping::DestinationDependent });
    driver.pass(ms(20));
    assert_eq!(driver.offers.len(), 2);
    assert!(driver.offers[1].candidates.is_empty());
}

#[test]
fn a_candidate_is_forgotten_at_the_end_of_its_life() {
    let mut driver = Driver::initiator().begun();
    let mut candidate = own(OURS, "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    candidate.lifetime = Some(Duration::from_secs(2));
    driver.take(Input::Found { generation: 1, candidate });
    driver.pass(Duration::from_secs(2) + ms(50));
    assert!(driver.offers.last().unwrap().candidates.is_empty());
}

#[test]
fn another_network_voids_what_was_found_in_the_last_one() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    driver.take(Input::NetworkChanged);
    let late = own("203.0.113.7:1", "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    driver.take(Input::Found { generation: 1, candidate: late });
    driver.pass(ms(400));
    let last = driver.offers.last().unwrap();
    assert_eq!((last.version.generation, last.candidates.len()), (2, 0));
}

#[test]
fn old_and_repeated_offers_are_ignored() {
    let mut driver = Driver::initiator().begun();
    let at = |generation, revision| {
        let mut offer = offer(1, revision, vec![remote(PUBLIC, "direct", Tier::Direct)]);
        offer.version = OfferVersion { instance: 1, generation, revision };
        Input::OfferArrived { peer: PEER, offer }
    };
    driver.take(at(2, 5));
    let mut empty = offer(1, 9, vec![]);
    for (generation, revision) in [(1, 9), (2, 5), (2, 4)] {
        empty.version = OfferVersion { instance: 1, generation, revision };
        driver.take(Input::OfferArrived { peer: PEER, offer: empty.clone() });
    }
    let sent = driver.checks.len();
    driver.pass(ms(300));
    assert!(driver.checks.len() > sent, "the candidate is still there");
    empty.version = OfferVersion { instance: 1, generation: 2, revision: 6 };
    driver.take(Input::OfferArrived { peer: PEER, offer: empty });
    let sent = driver.checks.len();
    driver.pass(ms(300));
    assert_eq!(driver.checks.len(), sent, "a newer offer takes it back");
}

#[test]
fn an_old_offer_that_is_replayed_cannot_push_the_true_one_out() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(2, 1, vec![remote("203.0.113.66:1", "direct", Tier::Direct)]),
    });
    driver.checks.clear();
    driver.pass(ms(300));
    assert!(driver.checks.iter().any(|check| check.to == endpoint(PUBLIC)));
}

#[test]
fn a_peer_that_floods_offers_cannot_make_us_flood_whom_it_names() {
    let mut driver = Driver::initiator().begun();
    let strangers = ["203.0.113.66:1", "203.0.113.67:1", "203.0.113.68:1"];
    for revision in 1..=200 {
        let candidates = strangers.map(|at| remote(at, "direct", Tier::Direct));
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, revision, candidates.to_vec()) });
        driver.pass(ms(50));
    }
    // Ten seconds: at most eight quick checks of each, each second.
    assert!(driver.checks.len() <= 3 * 10 * 8, "{}", driver.checks.len());
}

#[test]
fn strategies_that_are_not_enabled_are_neither_offered_nor_tried() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "pcp", Tier::Mapped, Proof::Done(Reach::Open));
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "pcp", Tier::Mapped)]),
    });
    driver.pass(Duration::from_secs(2));
    assert!(driver.offers.iter().all(|offer| offer.candidates.is_empty()));
    assert!(driver.checks.is_empty());
}

#[test]
fn a_peer_that_is_removed_and_added_again_takes_what_it_is_offered_then_for_newer() {
    let mut driver = Driver::initiator().begun();
    found(&mut driver, OURS, "direct", Tier::Direct, Proof::Done(Reach::Open));
    let before = driver.offers.last().unwrap().version;
    driver.take(Input::Device(DeviceView { listen_port: 51820, peers: vec![] }));
    driver.look();
    let after = driver.offers.last().unwrap().version;
    assert!(after.replaces(&before), "{after:?} is no newer than {before:?}");
}

/// A lease of a minute, of which the machine sleeps through the last half.
#[test]
fn what_was_slept_counts_against_a_lifetime() {
    let mut driver = Driver::initiator().begun();
    let generation = driver.scheduler.generation();
    let proof = Proof::Done(Reach::Open);
    let mut candidate = own("203.0.113.7:9", "hole-punch", Tier::Punched, proof);
    candidate.lifetime = Some(Duration::from_secs(60));
    driver.take(Input::Found { generation, candidate });
    let held = |driver: &Driver| driver.scheduler.candidates().count();
    driver.pass(Duration::from_secs(30));
    driver.take(Input::Slept(Duration::from_secs(15)));
    driver.pass(Duration::from_secs(14));
    assert_eq!(held(&driver), 1);
    driver.take(Input::Slept(Duration::from_secs(1)));
    assert_eq!(held(&driver), 0, "it is lost at once, not when it fails");
}
