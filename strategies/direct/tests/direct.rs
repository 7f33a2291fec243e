//! What `direct` finds, and when it looks again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::net::IpAddr;
use std::time::Duration;

use wireplug_core::{PublicKey, Reach, Tier};
use wireplug_direct as _;
use wireplug_strategy::kit::{Place, Question, Run, address};
use wireplug_strategy::{Event, PeerSituation, Resolved, Situation, find};

const PEER: PublicKey = PublicKey::from_bytes([1; 32]);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn place(own: &[&str], endpoint: Option<&str>) -> Place {
    Place::new(Situation {
        generation: 1,
        interface: "wg0".to_owned(),
        listen_port: 51820,
        addresses: own.iter().map(|own| address(ip(own), 24)).collect(),
        peers: vec![PeerSituation { public_key: PEER, endpoint: endpoint.map(str::to_owned) }],
        wanted: true,
        ..Situation::default()
    })
}

fn start(place: Place) -> Run {
    Run::start(find("direct").unwrap(), &toml::Table::new(), place).unwrap()
}

fn suggested(run: &Run) -> Vec<String> {
    run.host.standing().suggestions.keys().map(|(_, endpoint)| endpoint.to_string()).collect()
}

fn look_ups(run: &Run) -> usize {
    run.host.asked().iter().filter(|asked| matches!(asked.question, Question::Name(_))).count()
}

fn name_is(place: &mut Place, at: &str, ttl: Duration) {
    place.names.insert("nas".to_owned(), Ok(Resolved { addresses: vec![ip(at)], ttl }));
}

#[tokio::test(start_paused = true)]
async fn public_addresses_need_the_servers_proof() {
    let run = start(place(&["192.168.1.5", "5.6.7.8", "2a00::5"], None));
    run.after(SECOND).await;
    let standing = run.host.standing();
    let found: Vec<_> = standing.candidates.keys().map(ToString::to_string).collect();
    assert_eq!(found, ["5.6.7.8:51820", "[2a00::5]:51820"]);
    for candidate in standing.candidates.values() {
        assert_eq!(candidate.tier, Tier::Direct);
        assert_eq!(candidate.proof, wireplug_core::Proof::Server);
        assert_eq!(candidate.evidence.words(), "address of eth0");
    }
    assert!(run.host.notes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_with_private_addresses_only_says_so_once() {
    let run = start(place(&["192.168.1.5", "fe80::5"], None));
    run.after(SECOND).await;
    run.change(|place| place.situation.generation = 2);
    run.after(SECOND).await;
    assert!(run.host.standing().is_empty());
    let notes = run.host.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("only private addresses"), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_literal_endpoint_asks_no_resolver() {
    let run = start(place(&["192.168.1.5"], Some("203.0.113.7:51820")));
    run.after(HOUR).await;
    assert_eq!(suggested(&run), ["203.0.113.7:51820"]);
    assert_eq!(look_ups(&run), 0);
    let standing = run.host.standing();
    let candidate = standing.suggestions.values().next().unwrap();
    assert_eq!((candidate.tier, candidate.reach), (Tier::Direct, Reach::Open));
}

#[tokio::test(start_paused = true)]
async fn a_bad_endpoint_is_told_with_what_is_accepted() {
    let run = start(place(&["5.6.7.8"], Some("nas")));
    run.after(HOUR).await;
    let notes = run.host.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("\"nas\"") && notes[0].contains("home.example.org:51820"), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_followed_at_its_ttl() {
    let run = start(place(&[], Some("nas:9")));
    run.change(|place| name_is(place, "203.0.113.1", MINUTE));
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"]);

    run.change(|place| name_is(place, "203.0.113.2", MINUTE));
    run.after(50 * SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"], "the ttl is not over");
    run.after(15 * SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.2:9"]);
    assert_eq!(look_ups(&run), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_nothing_or_of_a_week_is_clamped() {
    for (ttl, per_hour) in [(Duration::ZERO, 116..=118), (168 * HOUR, 1..=1)] {
        let mut at = place(&[], Some("nas:9"));
        name_is(&mut at, "203.0.113.1", ttl);
        let run = start(at);
        run.after(59 * MINUTE).await;
        assert!(per_hour.contains(&look_ups(&run)), "{ttl:?}: {}", look_ups(&run));
        run.after(HOUR).await;
        assert!(look_ups(&run) >= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_address_is_kept_while_the_resolver_fails() {
    let mut at = place(&[], Some("nas:9"));
    name_is(&mut at, "203.0.113.1", MINUTE);
    let run = start(at);
    run.after(SECOND).await;
    run.change(|place| {
        place.names.insert("nas".to_owned(), Err("server failure".to_owned()));
    });
    run.after(HOUR).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"]);
    let notes = run.host.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("server failure") && notes[0].contains("kept"), "{notes:?}");

    run.change(|place| name_is(place, "127.0.0.1", MINUTE));
    run.after(HOUR).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"], "an address of nobody is no answer");

    run.change(|place| name_is(place, "203.0.113.5", MINUTE));
    run.after(61 * SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.5:9"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_failure_is_retried_soon_and_then_seldom() {
    let run = start(place(&[], Some("nas:9")));
    run.after(MINUTE).await;
    let asked: Vec<_> = run.host.asked().windows(2).map(|two| (two[1].at - two[0].at).as_secs()).collect();
    assert_eq!(asked, [2, 4, 8, 16]);
    run.change(|place| name_is(place, "203.0.113.1", MINUTE));
    run.after(MINUTE).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"]);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_hangs_is_given_up_and_asked_again() {
    let mut at = place(&[], Some("nas:9"));
    name_is(&mut at, "203.0.113.1", MINUTE);
    at.hangs = true;
    let run = start(at);
    run.after(11 * SECOND).await;
    assert_eq!(run.host.notes(), ["cannot resolve nas: no answer within 10 s"]);
    run.change(|place| place.hangs = false);
    run.after(11 * SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_network_keeps_the_last_address_until_the_answer() {
    let mut at = place(&[], Some("nas:9"));
    name_is(&mut at, "203.0.113.1", HOUR);
    let run = start(at);
    run.after(MINUTE).await;
    run.change(|place| {
        place.situation.generation = 2;
        place.latency = SECOND;
        name_is(place, "203.0.113.2", HOUR);
    });
    run.after(SECOND / 2).await;
    assert_eq!(suggested(&run), ["203.0.113.1:9"]);
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.2:9"]);
    let withdrawn = |event: &Event| matches!(event, Event::Withdrawn { .. });
    assert_eq!(run.host.said().iter().filter(|said| withdrawn(&said.event)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_settled_tunnel_hardly_asks_and_a_dead_one_asks_at_once() {
    let mut at = place(&[], Some("nas:9"));
    name_is(&mut at, "203.0.113.1", MINUTE);
    at.situation.wanted = false;
    let run = start(at);
    run.after(HOUR).await;
    let quiet = look_ups(&run);
    assert!((10..=13).contains(&quiet), "{quiet}");

    run.after(100 * SECOND).await;
    run.change(|place| {
        place.situation.wanted = true;
        name_is(place, "203.0.113.2", MINUTE);
    });
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["203.0.113.2:9"]);

    // Flapping does not ask each time.
    let before = look_ups(&run);
    for n in 0..20 {
        run.change(|place| place.situation.wanted = n % 2 == 1);
        run.after(SECOND / 2).await;
    }
    assert_eq!(look_ups(&run), before);
}
