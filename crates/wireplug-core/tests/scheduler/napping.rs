//! The machine sleeps for a moment, which its clock leaves out: what is silent was silent for longer than it seems.

use std::time::Duration;

use wireplug_core::scheduler::{Input, Keepalive, Learnt, Stimulus};
use wireplug_core::{Mapping, Offer, Proof, Reach, Tier};

use crate::driver::{Driver, PEER, ms, offer, own, remote};

const PUNCHED: &str = "198.51.100.7:51820";
/// Where our NAT maps us, before and after.
const MAPPED: [&str; 2] = ["203.0.113.2:40001", "203.0.113.2:40002"];

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Connected and settled, with our keepalive and a mapping that servers have seen.
fn settled() -> Driver {
    let mut driver = Driver::initiator().begun();
    driver.take(Input::Mapping { generation: 1, mapping: Mapping::Fixed });
    mapped(&mut driver, MAPPED[0]);
    driver.take(Input::OfferArrived { peer: PEER, offer: said(1) });
    driver.answer(PUNCHED);
    driver.handshake(PUNCHED);
    driver.view.keepalive = Keepalive::Ours(25);
    driver.pass_looking(secs(10));
    assert!(!driver.scheduler.demand().working);
    driver.updates.clear();
    driver
}

fn mapped(driver: &mut Driver, at: &str) {
    let candidate = own(at, "hole-punch", Tier::Punched, Proof::Done(Reach::Filtered));
    driver.take(Input::Found { generation: 1, candidate });
}

fn said(revision: u32) -> Offer {
    offer(1, revision, vec![remote(PUNCHED, "hole-punch", Tier::Punched)])
}

/// The session sends and receives something now.
fn exchange(driver: &mut Driver) {
    driver.renewed();
    (driver.view.rx_bytes, driver.view.tx_bytes) = (driver.view.rx_bytes + 999, driver.view.tx_bytes + 999);
    driver.look();
}

fn sleep(driver: &mut Driver, seconds: u64) {
    if seconds > 0 {
        driver.take(Input::Slept(secs(seconds)));
    }
}

/// The peer says that it hears nothing; its checks do not come in, and ours are answered at once.
fn doubted(driver: &mut Driver, revision: u32, nap: u64) -> Option<Learnt> {
    driver.take(Input::OfferArrived { peer: PEER, offer: Offer { doubts: true, ..said(revision) } });
    driver.pass(ms(100));
    sleep(driver, nap);
    driver.pass(ms(500));
    driver.answer(PUNCHED);
    driver.pass_looking(secs(10));
    driver.scheduler.take_learnt()
}

#[test]
fn a_session_is_as_old_as_it_is() {
    let mut driver = settled();
    driver.pass_looking(secs(160));
    sleep(&mut driver, 15);
    driver.take(Input::OfferArrived { peer: PEER, offer: said(2) });
    driver.answer(PUNCHED);
    driver.pass_looking(secs(2));
    assert_eq!(driver.updates, [(None, Stimulus::Restart(25))], "it is over, and begun anew");
}

#[test]
fn a_mapping_that_expired_under_a_nap_tells_nothing_of_our_keepalive() {
    for (awake, nap, tells) in [(18, 0, true), (18, 19, false), (3, 19, true), (3, 0, false), (18, 5, true)] {
        let mut driver = settled();
        exchange(&mut driver);
        driver.pass_looking(secs(awake));
        sleep(&mut driver, nap);
        let learnt = doubted(&mut driver, 2, 0);
        assert_eq!(learnt.is_some_and(|learnt| learnt.suspected), tells, "{awake} s, and {nap} s asleep");
    }
    let mut driver = settled();
    driver.pass_looking(secs(18));
    assert_eq!(doubted(&mut driver, 2, 19), None, "it sleeps while it listens");
}

#[test]
fn the_nap_counts_for_the_step_that_would_have_held_the_mapping() {
    let mut driver = settled();
    for revision in [2, 3] {
        exchange(&mut driver);
        driver.pass_looking(secs(8));
        sleep(&mut driver, 8);
        let learnt = doubted(&mut driver, revision, 0).unwrap();
        assert_eq!(learnt.keepalive, if revision == 2 { 25 } else { 12 }, "16 s is more than 12");
        driver.pass_looking(secs(60));
    }
}

#[test]
fn a_mapping_that_is_another_one_after_a_nap_tells_nothing_either() {
    for nap in [0, 5] {
        let mut driver = settled();
        exchange(&mut driver);
        driver.pass_looking(secs(16));
        sleep(&mut driver, nap);
        for _ in 0..8 {
            driver.view.tx_bytes += 999;
            driver.pass_looking(secs(1));
        }
        assert!(driver.scheduler.demand().working, "it is doubted");
        mapped(&mut driver, MAPPED[1]);
        assert_eq!(driver.scheduler.take_learnt().is_some(), nap == 0, "{nap} s");
    }
}
