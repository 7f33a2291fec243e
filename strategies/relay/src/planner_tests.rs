//! The planner, step by step.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use wireplug_strategy::kit::address;
use wireplug_strategy::{RelayLeg, RelayRefusal, Relaying, Secret};

use super::*;

const SERVER: &str = "wss://relay.example";
const PEER: PublicKey = PublicKey::from_bytes([7; 32]);

fn planner(config: Relay) -> Planner {
    Planner::new(config, "relay".parse().unwrap())
}

fn situation() -> Situation {
    let ip = |text: &str| text.parse().unwrap();
    Situation {
        generation: 1,
        listen_port: 51820,
        addresses: vec![address(ip("192.168.1.5"), 24), address(ip("2a00::5"), 64)],
        relaying: Relaying {
            servers: vec![SERVER.to_owned()],
            udp: true,
            wanted: vec![PEER],
            places: Vec::new(),
        },
        ..Situation::default()
    }
}

fn open() -> RelayStanding {
    let addresses = ["203.0.113.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec();
    RelayStanding::Open { addresses, ports: 3479..=3510 }
}

fn with_place(standing: RelayStanding) -> Situation {
    let mut situation = situation();
    let place = RelayPlace { peer: PEER, server: SERVER.to_owned(), standing, legs: Vec::new(), local: None };
    situation.relaying.places.push(place);
    situation
}

fn suggested(acts: &[Act]) -> Vec<(Endpoint, Tier)> {
    let suggested = acts.iter().filter_map(|act| match act {
        Act::Suggest { candidate, .. } => Some((candidate.endpoint, candidate.tier)),
        _ => None,
    });
    suggested.collect()
}

fn withdrawn(acts: &[Act]) -> Vec<Endpoint> {
    let withdrawn = acts.iter().filter_map(|act| match act {
        Act::Withdraw { endpoint, .. } => Some(*endpoint),
        _ => None,
    });
    withdrawn.collect()
}

fn wishes(acts: &[Act]) -> Vec<bool> {
    let wishes = acts.iter().filter_map(|act| match act {
        Act::Want { wish, .. } => Some(wish.tls),
        _ => None,
    });
    wishes.collect()
}

fn note_of(acts: &[Act]) -> &str {
    acts.iter().find_map(|act| if let Act::Note(words) = act { Some(words) } else { None }).unwrap()
}

fn set_legs(situation: &mut Situation, endpoints: &[Endpoint], standing: LegStanding) {
    situation.relaying.places[0].legs =
        endpoints.iter().map(|endpoint| RelayLeg { endpoint: *endpoint, standing }).collect();
}

#[test]
fn a_wanted_place_is_asked_for_once_and_then_suggested_in_both_families() {
    let mut planner = planner(Relay { token: Some(Secret::new("t")), ..Relay::default() });
    let acts = planner.update(&situation());
    let wish = RelayWish { access: Some(Secret::new("t")), tls: false };
    assert_eq!(acts[0], Act::Want { peer: PEER, server: SERVER.to_owned(), wish });
    assert_eq!(suggested(&acts), []);
    assert_eq!(wishes(&planner.update(&situation())), [] as [bool; 0], "it was asked already");

    let acts = planner.update(&with_place(open()));
    let endpoints = suggested(&acts);
    assert_eq!(endpoints.len(), 2);
    assert!(
        endpoints
            .iter()
            .all(|(endpoint, tier)| { *tier == Tier::Relay && (3479..=3510).contains(&endpoint.port()) })
    );
    assert_eq!(planner.update(&with_place(open())), [], "nothing changed");
}

#[test]
fn what_is_not_wanted_any_more_is_taken_back() {
    let mut planner = planner(Relay::default());
    planner.update(&situation());
    let endpoints = suggested(&planner.update(&with_place(open())));
    let mut over = with_place(open());
    over.relaying.wanted.clear();
    let acts = planner.update(&over);
    assert!(acts.contains(&Act::Release { peer: PEER, server: SERVER.to_owned() }));
    assert_eq!(withdrawn(&acts), endpoints.iter().map(|(endpoint, _)| *endpoint).collect::<Vec<_>>());
    assert_eq!(note_of(&acts), "no peer needs a relay now");
}

#[test]
fn a_place_that_a_run_before_left_is_released_if_nobody_wants_it() {
    let mut left = with_place(open());
    left.relaying.wanted.clear();
    let acts = planner(Relay::default()).update(&left);
    assert!(acts.contains(&Act::Release { peer: PEER, server: SERVER.to_owned() }));
}

#[test]
fn a_place_that_the_daemon_lost_is_asked_for_again() {
    let mut planner = planner(Relay::default());
    planner.update(&situation());
    planner.update(&with_place(open()));
    assert_eq!(wishes(&planner.update(&situation())), [false]);
}

#[test]
fn tls_comes_when_all_of_udp_is_silent_and_stays() {
    let mut planner = planner(Relay::default());
    planner.update(&situation());
    let mut now = with_place(open());
    let endpoints: Vec<_> = suggested(&planner.update(&now)).into_iter().map(|(one, _)| one).collect();
    set_legs(&mut now, &endpoints[..1], LegStanding::Silent);
    assert_eq!(wishes(&planner.update(&now)), [] as [bool; 0], "the other family may answer yet");
    set_legs(&mut now, &endpoints, LegStanding::Silent);
    assert_eq!(wishes(&planner.update(&now)), [true]);

    let local = Endpoint::on_this_host(NonZeroU16::new(40_000).unwrap());
    now.relaying.places[0].local = Some(local);
    let acts = planner.update(&now);
    assert_eq!(suggested(&acts), [(local, Tier::RelayTls)]);
    assert!(note_of(&acts).contains("over TLS"));
    set_legs(&mut now, &endpoints, LegStanding::Bound);
    let acts = planner.update(&now);
    assert_eq!((wishes(&acts), withdrawn(&acts)), (vec![], vec![]), "it may be in use");
}

#[test]
fn without_udp_tls_is_asked_for_at_once() {
    let without_rights = |situation: &mut Situation| situation.relaying.udp = false;
    let other_family = |situation: &mut Situation| {
        situation.relaying.places[0].standing =
            RelayStanding::Open { addresses: vec!["2001:db8::1".parse().unwrap()], ports: 1..=9 };
        situation.addresses.pop();
    };
    let turned_off = Relay { udp: false, ..Relay::default() };
    let as_it_is = |_: &mut Situation| {};
    for (config, change) in [
        (turned_off, as_it_is as fn(&mut Situation)),
        (Relay::default(), without_rights),
        (Relay::default(), other_family),
    ] {
        let mut planner = planner(config);
        planner.update(&situation());
        let mut now = with_place(open());
        change(&mut now);
        let acts = planner.update(&now);
        assert_eq!((wishes(&acts), suggested(&acts)), (vec![true], vec![]));
    }
}

#[test]
fn tls_can_be_turned_off() {
    let mut planner = planner(Relay { tls: false, ..Relay::default() });
    planner.update(&situation());
    let mut now = with_place(open());
    let endpoints: Vec<_> = suggested(&planner.update(&now)).into_iter().map(|(one, _)| one).collect();
    set_legs(&mut now, &endpoints, LegStanding::Silent);
    let acts = planner.update(&now);
    assert_eq!(wishes(&acts), [] as [bool; 0]);
    assert!(note_of(&acts).contains("blocked"));
}

#[test]
fn another_port_is_suggested_where_one_is_taken() {
    let mut planner = planner(Relay::default());
    planner.update(&situation());
    let mut now = with_place(open());
    let before: Vec<_> = suggested(&planner.update(&now)).into_iter().map(|(one, _)| one).collect();
    set_legs(&mut now, &before[..1], LegStanding::Taken);
    let acts = planner.update(&now);
    let [(instead, Tier::Relay)] = suggested(&acts)[..] else { panic!("{acts:?}") };
    assert_eq!((instead.ip(), withdrawn(&acts)), (before[0].ip(), vec![before[0]]));
    assert_ne!(instead, before[0]);
    assert_eq!(planner.update(&now), [], "and stays");
}

#[test]
fn a_new_network_hears_everything_again_with_the_same_ports() {
    let mut planner = planner(Relay::default());
    planner.update(&situation());
    let before = suggested(&planner.update(&with_place(open())));
    let mut moved = with_place(open());
    moved.generation = 2;
    let acts = planner.update(&moved);
    assert_eq!((suggested(&acts), wishes(&acts)), (before, vec![]));
}

#[test]
fn refusals_are_told_in_words_that_help() {
    let refused = |why| {
        let detail = "3 are enough".to_owned();
        with_place(RelayStanding::Refused { why, detail, retry_after: Some(Duration::from_secs(5)) })
    };
    let token = Relay { token: Some(Secret::new("hush")), ..Relay::default() };
    for (config, why, part) in [
        (Relay::default(), RelayRefusal::Off, "does not relay"),
        (Relay::default(), RelayRefusal::Denied, "set the `token`"),
        (token.clone(), RelayRefusal::Denied, "does not know our `token`"),
        (token, RelayRefusal::Limit, "3 are enough"),
    ] {
        let mut planner = planner(config);
        let acts = planner.update(&refused(why));
        let words = note_of(&acts);
        assert!(words.contains(part) && words.contains(SERVER), "{words}");
        assert!(!format!("{planner:?}{acts:?}").contains("hush"));
        // The peer is unreachable, the round over: what stood in the way is still said.
        let mut over = situation();
        over.relaying.wanted.clear();
        let acts = planner.update(&over);
        assert!(note_of(&acts).contains(part), "{acts:?}");
        planner.update(&with_place(open()));
        assert_eq!(note_of(&planner.update(&over)), "no peer needs a relay now");
    }
}

#[test]
fn every_peer_gets_a_port_of_its_own() {
    let mut planner = planner(Relay::default());
    let mut now = situation();
    now.relaying.wanted = (1..=40).map(|number| PublicKey::from_bytes([number; 32])).collect();
    now.relaying.places = now
        .relaying
        .wanted
        .iter()
        .map(|peer| RelayPlace {
            peer: *peer,
            server: SERVER.to_owned(),
            standing: open(),
            legs: Vec::new(),
            local: None,
        })
        .collect();
    let acts = planner.update(&now);
    let endpoints = suggested(&acts);
    let different: BTreeSet<SocketAddr> = endpoints.iter().map(|(endpoint, _)| endpoint.addr()).collect();
    assert_eq!((endpoints.len(), different.len()), (64, 64), "32 ports in two families");
    assert_eq!(wishes(&acts).into_iter().filter(|tls| *tls).count(), 8, "the rest goes over TLS");
}
