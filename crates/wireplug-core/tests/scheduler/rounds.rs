//! When work begins, how it goes on, and when it ends.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{DeviceView, Input, Reason, State, Trying, Unsendable};

use crate::driver::{Driver, PEER, endpoint, ms, offer, remote};

const PUBLIC: &str = "198.51.100.7:51820";

#[test]
fn checks_come_quickly_at_first_and_once_a_second_later() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.pass(ms(500));
    assert!((5..=7).contains(&driver.checks.len()), "{}", driver.checks.len());
    driver.pass(ms(2500));
    driver.checks.clear();
    driver.pass(Duration::from_secs(4));
    assert!((3..=5).contains(&driver.checks.len()), "{}", driver.checks.len());
}

#[test]
fn a_settled_tunnel_wants_nothing() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    assert!(driver.scheduler.demand().working);
    driver.answer(PUBLIC);
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(4));
    let demand = driver.scheduler.demand();
    assert!(!demand.working);
    assert_eq!(demand.device_poll, Duration::from_secs(2));
    assert_eq!(driver.scheduler.poll_timeout(), None);
}

#[test]
fn what_the_peer_proved_and_uses_is_proven_here_too_when_answers_take_seconds() {
    let mut driver = Driver::follower().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.asked(PUBLIC, Tier::Direct, true);
    driver.handshake(PUBLIC);
    driver.pass_looking(Duration::from_secs(5));
    assert!(driver.scheduler.demand().working, "or the answer would come to a closed port");
    driver.answer(PUBLIC);
    assert!(driver.status().proven);
    driver.pass_looking(Duration::from_secs(10));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn a_round_does_not_wait_for_answers_to_what_cannot_be_sent() {
    let mut driver = Driver::follower().begun();
    let candidates = vec![remote(PUBLIC, "direct", Tier::Direct)];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    driver.asked(PUBLIC, Tier::Direct, true);
    driver.handshake(PUBLIC);
    let why = Unsendable::NoRoute;
    driver.take(Input::Unsendable { peer: PEER, to: endpoint(PUBLIC), why });
    driver.pass_looking(Duration::from_secs(4));
    assert!(!driver.scheduler.demand().working);
}

#[test]
fn failed_rounds_are_repeated_after_pauses_that_grow() {
    let mut driver = Driver::initiator().begun();
    let mut begun = Vec::new();
    while begun.len() < 5 {
        let before = driver.offers.len();
        driver.pass(Duration::from_secs(1));
        if driver.offers.len() > before {
            begun.push(driver.now);
        }
    }
    let gaps: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0].mul_f64(1.2)), "{gaps:?}");
    assert_eq!(driver.status().state, State::Unreachable);
    assert_eq!(driver.status().reason, Some(Reason::NoOffer));
}

/// The longest that a pause had before it, from one minute to another, with a peer that calls every 25 s up to some minute.
fn longest_pause(from: u64, to: u64, calls_until: u64) -> Duration {
    let mut driver = Driver::initiator().begun();
    let mut longest = Duration::ZERO;
    for second in 0..60 * to {
        if second % 25 == 0 && second < 60 * calls_until {
            let candidates = vec![remote(PUBLIC, "direct", Tier::Direct)];
            let revision = u32::try_from(second + 1).unwrap();
            driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, revision, candidates) });
        }
        driver.pass(Duration::from_secs(1));
        if let Trying::Pause { until } = driver.status().trying
            && second >= 60 * from
        {
            longest = longest.max(until - driver.now);
        }
    }
    longest
}

/// Whatever keeps the two apart may go without anybody's word; but not for ever is that hoped for.
#[test]
fn pauses_stay_short_for_an_hour_while_the_peer_looks_for_us_too() {
    assert!(longest_pause(0, 40, 40) <= Duration::from_secs(18));
    assert!(longest_pause(10, 40, 2) > Duration::from_secs(230), "it is off for the night");
    assert!(longest_pause(90, 120, 120) > Duration::from_secs(230), "nobody waits any more");
}

#[test]
fn the_peers_offer_ends_a_pause_and_is_not_answered_for_its_own_sake() {
    let mut driver = Driver::initiator().begun();
    driver.pass(Duration::from_secs(4));
    assert!(!driver.scheduler.demand().working, "a pause");
    let said = driver.offers.len();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    assert!(driver.scheduler.demand().working);
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.offers.len(), said, "or two daemons would call each other for ever");
}

#[test]
fn a_peer_that_calls_again_and_again_does_not_keep_a_hopeless_round_going() {
    let mut driver = Driver::initiator().begun();
    let candidates = vec![remote(PUBLIC, "direct", Tier::Direct)];
    for revision in 1..8 {
        driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, revision, candidates.clone()) });
        driver.pass(ms(3500));
        if driver.status().state == State::Unreachable {
            return;
        }
    }
    panic!("it never ended: {:?}", driver.status());
}

#[test]
fn a_path_that_only_the_peers_check_told_of_is_answered_and_checked_back() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, vec![]) });
    driver.asked("198.51.100.9:61000", Tier::Punched, false);
    assert_eq!(driver.answers.len(), 1);
    assert_eq!(driver.checks.last().unwrap().to, endpoint("198.51.100.9:61000"));
    driver.answer("198.51.100.9:61000");
    assert_eq!(driver.applied(), [endpoint("198.51.100.9:61000")]);
}

#[test]
fn a_flood_of_genuine_checks_costs_a_bounded_number_of_answers_and_paths() {
    let mut driver = Driver::initiator().begun();
    for port in 1..5000 {
        driver.asked(&format!("198.51.100.9:{port}"), Tier::Punched, false);
    }
    assert!(driver.answers.len() <= 64, "{}", driver.answers.len());
    driver.checks.clear();
    driver.pass(ms(1));
    driver.pass(Duration::from_secs(1));
    assert!(driver.checks.len() <= 8 * 8, "{}", driver.checks.len());
}

#[test]
fn without_a_listen_port_it_waits_quietly_and_says_why() {
    let mut driver = Driver::initiator();
    driver.take(Input::Device(DeviceView { listen_port: 0, peers: vec![driver.view.clone()] }));
    driver.take(Input::ServerUp);
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(PUBLIC, "direct", Tier::Direct)]),
    });
    driver.pass(Duration::from_secs(10));
    assert!(driver.checks.is_empty());
    assert_eq!(driver.status().reason, Some(Reason::NoListenPort));
}

#[test]
fn a_server_that_cannot_be_reached_is_the_reason_and_its_return_begins_anew() {
    let mut driver = Driver::initiator();
    driver.look();
    driver.take(Input::ServerDown { why: "refused".to_owned() });
    driver.pass(Duration::from_secs(4));
    assert_eq!(driver.status().reason, Some(Reason::NoServer("refused".to_owned())));
    driver.take(Input::ServerUp);
    assert!(driver.scheduler.demand().working);
}

#[test]
fn a_peer_that_is_removed_is_forgotten() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::Device(DeviceView { listen_port: 51820, peers: vec![] }));
    assert!(driver.scheduler.status().is_empty());
    assert!(!driver.scheduler.demand().working);
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, vec![]) });
    assert!(driver.scheduler.status().is_empty());
}
