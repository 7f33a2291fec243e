//! What people are told is being tried.

use std::time::Duration;

use wireplug_core::Tier;
use wireplug_core::scheduler::{Input, Keepalive};

use crate::driver::{Driver, PEER, offer, remote};

const PUNCHED: &str = "198.51.100.7:51820";
const ALSO_PUNCHED: &str = "198.51.100.9:51820";
const DIRECT: &str = "198.51.100.8:51820";

impl Driver {
    fn tries(&self) -> Option<String> {
        self.status().trying.words(self.now)
    }
}

#[test]
fn what_is_tried_is_told_from_the_first_look_to_the_pause() {
    let mut driver = Driver::initiator();
    driver.look();
    assert_eq!(driver.tries().unwrap(), "waiting for a server");
    driver.take(Input::ServerUp);
    assert_eq!(driver.tries().unwrap(), "waiting for the peer's offer");
    let candidates = vec![
        remote(DIRECT, "direct", Tier::Direct),
        remote(PUNCHED, "hole-punch", Tier::Punched),
        remote(ALSO_PUNCHED, "hole-punch", Tier::Punched),
    ];
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, candidates) });
    assert_eq!(driver.tries().unwrap(), "checking 3 candidates: 2 by hole-punch, 1 by direct");
    driver.take(Input::ServerDown { why: "a test".to_owned() });
    assert!(driver.tries().unwrap().ends_with("1 by direct, without a server"));
    driver.pass_looking(Duration::from_secs(9));
    let pause = driver.tries().unwrap();
    let seconds: f64 =
        pause.strip_prefix("next round in ").unwrap().strip_suffix(" s").unwrap().parse().unwrap();
    assert!((1.0..=6.0).contains(&seconds), "{pause}");
    assert!(driver.status().trying.next().is_some_and(|at| at > driver.now));
}

#[test]
fn a_settled_tunnel_has_nothing_to_tell_and_a_relayed_one_when_it_looks_again() {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived {
        peer: PEER,
        offer: offer(1, 1, vec![remote(DIRECT, "direct", Tier::Direct)]),
    });
    driver.answer(DIRECT);
    assert_eq!(driver.tries().unwrap(), "waiting for WireGuard's handshake");
    driver.handshake(DIRECT);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(Duration::from_secs(6));
    assert_eq!(driver.tries(), None);

    let mut driver = Driver::initiator().begun();
    driver.take(Input::OfferArrived { peer: PEER, offer: offer(1, 1, vec![]) });
    driver.pass(Duration::from_secs(1));
    driver.suggest("192.0.2.1:3479", "relay", Tier::Relay);
    driver.answer("192.0.2.1:3479");
    driver.handshake("192.0.2.1:3479");
    driver.pass_looking(Duration::from_secs(12));
    let words = driver.tries().unwrap();
    assert!(words.starts_with("looking for a better path in "), "{words}");
}
