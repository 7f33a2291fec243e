//! The decisions alone, without any protocol.

use std::time::Duration;

use wireplug_core::{Candidate, Endpoint};

use super::*;
use crate::event::Event;
use crate::kit::address;
use crate::mapping::{Checked, Grant, MapError};
use crate::situation::Mapped;

const SECOND: Duration = Duration::from_secs(1);

fn situation() -> Situation {
    let (ip, source) = ([192, 168, 1, 1].into(), [192, 168, 1, 5].into());
    Situation {
        generation: 1,
        listen_port: 51820,
        addresses: vec![address(source, 24)],
        gateways: vec![Gateway { ip, source, ifindex: 2, interface: "eth0".to_owned() }],
        wanted: true,
        mapping_wanted: true,
        ..Situation::default()
    }
}

fn sites(situation: &Situation) -> Vec<Site> {
    let gateways = situation.gateways.iter();
    gateways.map(|gateway| Site { source: gateway.source, gateway: gateway.clone() }).collect()
}

fn ledger() -> Ledger {
    let name = "test".parse().unwrap();
    Ledger::new(name, "TEST", EpochRule::Pcp, Settings::default(), [7; 32], Record::default())
}

fn see(ledger: &mut Ledger, now: Instant, situation: &Situation) {
    ledger.situation(now, situation, sites(situation));
}

fn grant(external: &str, seconds: u64) -> Grant {
    let lease = Some(Duration::from_secs(seconds));
    Grant { external: external.parse().unwrap(), lease, epoch: None, version: "TEST 1".to_owned() }
}

fn only_map(ledger: &mut Ledger) -> (u64, Ask) {
    match &ledger.take_jobs()[..] {
        [Job::Map { id, ask }] => (*id, ask.clone()),
        other => panic!("{other:?}"),
    }
}

/// A ledger that holds 5.6.7.8:51820 for an hour from `now` on.
fn holding(now: Instant) -> Ledger {
    let mut ledger = ledger();
    see(&mut ledger, now, &situation());
    let (id, ask) = only_map(&mut ledger);
    ledger.mapped(now, id, &ask, Ok(grant("5.6.7.8:51820", 3600)));
    assert!(matches!(&ledger.take_says()[..], [(1, Event::Found(_)), (1, Event::Note(_))]));
    assert!(ledger.take_jobs().is_empty());
    ledger
}

fn found(says: &[(u32, Event)]) -> Vec<&Candidate> {
    let candidates = says.iter().filter_map(|(_, event)| match event {
        Event::Found(candidate) => Some(candidate),
        _ => None,
    });
    candidates.collect()
}

#[test]
fn the_secret_is_to_be_on_disk_before_the_first_request() {
    let mut ledger = ledger();
    see(&mut ledger, Instant::now(), &situation());
    let record = Record::from_bytes(&ledger.take_record().unwrap());
    let (_, ask) = only_map(&mut ledger);
    assert_eq!(record.find(&ask.site, ask.port).unwrap().nonce, ask.nonce);
    assert_eq!(ledger.take_record(), None, "written once");
}

#[test]
fn a_grant_that_nobody_waits_for_any_more_is_given_back() {
    let now = Instant::now();
    let mut ledger = ledger();
    see(&mut ledger, now, &situation());
    let (id, ask) = only_map(&mut ledger);
    let mut other = situation();
    other.listen_port = 4500;
    see(&mut ledger, now, &other);
    let jobs = ledger.take_jobs();
    assert!(matches!(&jobs[..], [Job::Unmap { .. }, Job::Map { .. }]), "{jobs:?}");
    // The router made it after it was asked to delete it.
    ledger.mapped(now + SECOND, id, &ask, Ok(grant("5.6.7.8:51820", 3600)));
    let jobs = ledger.take_jobs();
    assert!(matches!(&jobs[..], [Job::Unmap { ask }] if ask.port == 51820), "{jobs:?}");
    assert!(ledger.take_says().is_empty());
}

#[test]
fn it_sleeps_until_the_next_check_renewal_or_end() {
    let now = Instant::now();
    let mut ledger = holding(now);
    let check = ledger.due().unwrap() - now;
    assert!((108..=132).contains(&check.as_secs()), "{check:?}");
    ledger.handle_timeout(now + check);
    let jobs = ledger.take_jobs();
    let [Job::Check { id, .. }] = jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(ledger.due(), None, "the answer is waited for");
    ledger.checked(now + check, id, &Ok(Checked { holds: true, external: None, epoch: None }));
    assert!(ledger.take_jobs().is_empty() && ledger.take_says().is_empty());
    // Renewed between 30 and 37.5 minutes, and found again with its new lifetime.
    ledger.handle_timeout(now + Duration::from_secs(2251));
    let (id, ask) = only_map(&mut ledger);
    assert_eq!(ask.external, Some("5.6.7.8:51820".parse().unwrap()));
    ledger.mapped(now + Duration::from_secs(2252), id, &ask, Ok(grant("5.6.7.8:51820", 3600)));
    let says = ledger.take_says();
    assert_eq!(found(&says)[0].lifetime, Some(Duration::from_hours(1)));
}

#[test]
fn what_the_router_no_longer_holds_or_moved_is_asked_for_at_once() {
    let now = Instant::now();
    let gone = Checked { holds: false, external: None, epoch: None };
    let moved = Checked { holds: true, external: Some([9, 9, 9, 9].into()), epoch: None };
    for checked in [gone, moved] {
        let mut ledger = holding(now);
        ledger.handle_timeout(now + Duration::from_secs(140));
        let jobs = ledger.take_jobs();
        let [Job::Check { id, .. }] = jobs[..] else { panic!("{jobs:?}") };
        ledger.checked(now + Duration::from_secs(141), id, &Ok(checked));
        let (id, ask) = only_map(&mut ledger);
        ledger.mapped(now + Duration::from_secs(142), id, &ask, Ok(grant("9.9.9.9:40000", 3600)));
        let says = ledger.take_says();
        assert!(matches!(says[0].1, Event::Lost(_)), "{says:?}");
        assert_eq!(found(&says)[0].endpoint.to_string(), "9.9.9.9:40000");
    }
}

#[test]
fn a_failed_remapping_after_a_restart_is_tried_again_soon() {
    let now = Instant::now();
    let mut ledger = holding(now);
    let gateway = situation().gateways.remove(0);
    ledger.noticed(now + SECOND, &gateway, 1000);
    ledger.noticed(now + 2 * SECOND, &gateway, 3);
    let (id, ask) = only_map(&mut ledger);
    let silent = MapError::Silent { gateway: gateway.ip, service: "TEST" };
    ledger.mapped(now + 5 * SECOND, id, &ask, Err(silent));
    assert!(ledger.take_says().iter().all(|(_, event)| !matches!(event, Event::Lost(_))));
    let again = ledger.due().unwrap() - now;
    assert!(again <= Duration::from_secs(130), "{again:?}");
    ledger.handle_timeout(now + Duration::from_secs(130));
    assert!(!ledger.take_jobs().is_empty());
}

#[test]
fn a_permanent_mapping_has_no_lifetime_and_is_still_renewed() {
    let now = Instant::now();
    let mut ledger = ledger();
    see(&mut ledger, now, &situation());
    let (id, ask) = only_map(&mut ledger);
    let forever = Grant { lease: None, ..grant("5.6.7.8:51820", 1) };
    ledger.mapped(now, id, &ask, Ok(forever));
    assert_eq!(found(&ledger.take_says())[0].lifetime, None);
    ledger.handle_timeout(now + Duration::from_secs(2251));
    only_map(&mut ledger);
    assert!(matches!(&ledger.stop()[..], [Job::Unmap { .. }]));
}

#[test]
fn the_winner_of_all_makes_the_others_release_and_stay_quiet() {
    let now = Instant::now();
    let mut ledger = holding(now);
    let mut with_winner = situation();
    let winner = Endpoint::new("5.6.7.8:4000".parse().unwrap()).unwrap();
    with_winner.mapped = Some(Mapped { strategy: "other".parse().unwrap(), endpoint: winner });
    see(&mut ledger, now + SECOND, &with_winner);
    let jobs = ledger.take_jobs();
    let [Job::Unmap { ask }] = &jobs[..] else { panic!("{jobs:?}") };
    ledger.unmapped(ask, &Ok(()));
    assert_eq!(ledger.take_record().unwrap(), b"", "nothing is left to know");
    assert!(matches!(ledger.take_says()[0].1, Event::Lost(_)));
    assert_eq!(ledger.due(), None);
    ledger.handle_timeout(now + Duration::from_hours(5));
    assert!(ledger.take_jobs().is_empty() && ledger.stop().is_empty());
}

#[test]
fn what_could_not_be_taken_back_is_remembered() {
    let now = Instant::now();
    let mut ledger = holding(now);
    ledger.take_record();
    let jobs = ledger.stop();
    let [Job::Unmap { ask }] = &jobs[..] else { panic!("{jobs:?}") };
    let silent = MapError::Silent { gateway: ask.site.gateway.ip, service: "TEST" };
    ledger.unmapped(ask, &Err(silent));
    assert_eq!(ledger.take_record(), None);
    ledger.unmapped(ask, &Ok(()));
    assert_eq!(ledger.take_record().unwrap(), b"");
}

#[test]
fn a_network_that_is_gone_leaves_its_mapping_to_its_lease() {
    let now = Instant::now();
    let mut ledger = holding(now);
    let mut elsewhere = situation();
    elsewhere.generation = 2;
    elsewhere.gateways.clear();
    elsewhere.addresses = vec![address([10, 0, 0, 5].into(), 24)];
    see(&mut ledger, now + SECOND, &elsewhere);
    assert!(ledger.take_jobs().is_empty() && ledger.take_says().is_empty());
    // Back again: it is taken up with its secret.
    let mut back = situation();
    back.generation = 3;
    see(&mut ledger, now + 2 * SECOND, &back);
    let (_, ask) = only_map(&mut ledger);
    assert_eq!(ask.external, Some("5.6.7.8:51820".parse().unwrap()));
}
