//! What `lan-mdns` announces, whom it hears, and what it costs.

use std::collections::BTreeSet;
use std::time::Duration;

use wireplug_core::{PublicKey, Reach, Tier};
use wireplug_strategy::kit::{Place, Run, address};
use wireplug_strategy::{PeerSituation, Situation};

use crate::fake::{REGISTRATION, ether, name_of};

const US: PublicKey = PublicKey::from_bytes([9; 32]);
const PEER: PublicKey = PublicKey::from_bytes([1; 32]);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

fn start(wanted: bool) -> Run {
    let situation = Situation {
        generation: 1,
        interface: "wg0".to_owned(),
        public_key: Some(US),
        listen_port: 51820,
        addresses: vec![address("192.168.1.5".parse().unwrap(), 24)],
        peers: vec![PeerSituation { public_key: PEER, endpoint: None }],
        wanted,
        ..Situation::default()
    };
    Run::start(&REGISTRATION, &toml::Table::new(), Place::new(situation)).unwrap()
}

fn suggested(run: &Run) -> Vec<String> {
    run.host.standing().suggestions.keys().map(|(_, endpoint)| endpoint.to_string()).collect()
}

fn want(run: &Run, wanted: bool) {
    run.change(|place| place.situation.wanted = wanted);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_is_suggested_as_one_that_a_check_must_prove() {
    let run = start(true);
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["192.168.1.7"]);
    run.after(SECOND).await;
    let standing = run.host.standing();
    let ((peer, endpoint), candidate) = standing.suggestions.first_key_value().unwrap();
    assert_eq!((*peer, endpoint.to_string().as_str()), (PEER, "192.168.1.7:4500"));
    assert_eq!((candidate.tier, candidate.reach), (Tier::Lan, Reach::Filtered));
    assert_eq!(run.host.notes().last().unwrap(), "announced on eth0; hears 1 of 1 peers");
}

#[tokio::test(start_paused = true)]
async fn one_service_is_announced_whatever_the_number_of_peers() {
    let run = start(true);
    run.change(|place| {
        place.situation.peers = (1..=200)
            .map(|n| PeerSituation { public_key: PublicKey::from_bytes([n; 32]), endpoint: None })
            .collect();
    });
    run.after(SECOND).await;
    let announced = ether().announced("eth0");
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].port, 51820);
    assert!(announced[0].name.is_of(&US));
}

#[tokio::test(start_paused = true)]
async fn the_name_is_another_one_in_every_network_and_every_day_and_the_host_is_too() {
    let run = start(false);
    run.after(SECOND).await;
    for generation in 2..=4 {
        run.change(|place| place.situation.generation = generation);
        run.after(SECOND).await;
        assert_eq!(ether().history("eth0").len(), generation as usize);
    }
    run.after(10 * 24 * HOUR).await;
    let history = ether().history("eth0");
    assert!((4 + 10..=4 + 14).contains(&history.len()), "{}", history.len());
    assert_eq!(ether().announced("eth0").len(), 1);
    let names: BTreeSet<_> = history.iter().map(|service| service.name).collect();
    let hosts: BTreeSet<_> = history.iter().map(|service| &service.host).collect();
    assert_eq!((names.len(), hosts.len()), (history.len(), history.len()));
    assert!(history.iter().all(|service| service.name.is_of(&US) && service.host.len() == 16));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_while_nothing_is_wanted_but_who_comes_is_heard() {
    let run = start(false);
    run.after(HOUR).await;
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["192.168.1.7"]);
    run.after(HOUR).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500"]);
    assert_eq!(ether().questions("eth0"), 0);
    want(&run, true);
    run.after(SECOND).await;
    assert_eq!(ether().questions("eth0"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_went_is_withdrawn() {
    let run = start(true);
    let (one, two) = (name_of(&PEER, 1), name_of(&PEER, 2));
    ether().comes("eth0", one, 4500, &["192.168.1.7"]);
    ether().comes("eth0", two, 4500, &["192.168.1.7", "192.168.1.8"]);
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500", "192.168.1.8:4500"]);
    ether().goes("eth0", two);
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500"], "the other name still says so");
    ether().goes("eth0", one);
    run.after(SECOND).await;
    assert!(suggested(&run).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_vanished_while_all_was_settled_is_withdrawn_when_it_matters() {
    let run = start(true);
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["192.168.1.7"]);
    run.after(SECOND).await;
    want(&run, false);
    run.after(HOUR).await;
    ether().vanishes("eth0", name_of(&PEER, 1));
    run.after(HOUR).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500"], "nobody was asked");
    want(&run, true);
    run.after(SECOND).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500"], "the answer may be late");
    run.after(5 * SECOND).await;
    assert!(suggested(&run).is_empty());
}

#[tokio::test(start_paused = true)]
async fn strangers_and_addresses_elsewhere_are_nothing_to_us() {
    let run = start(true);
    ether().comes("eth0", name_of(&PublicKey::from_bytes([2; 32]), 1), 4500, &["192.168.1.7"]);
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["5.6.7.8", "10.0.0.1", "192.168.1.5", "127.0.0.1"]);
    ether().comes("eth0", name_of(&PEER, 2), 0, &["192.168.1.8"]);
    ether().comes("eth0", name_of(&US, 3), 4500, &["192.168.1.9"]);
    run.after(HOUR).await;
    assert!(run.host.standing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_says_too_much_is_left_alone_for_a_minute() {
    let run = start(true);
    run.after(SECOND).await;
    ether().overflows("eth0");
    run.after(SECOND).await;
    assert!(ether().announced("eth0").is_empty());
    assert!(run.host.notes().last().unwrap().contains("does not work on eth0"), "{:?}", run.host.notes());
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["192.168.1.7"]);
    run.after(60 * SECOND).await;
    assert_eq!(ether().announced("eth0").len(), 1);
    assert_eq!(suggested(&run), ["192.168.1.7:4500"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_neighbours_says_so_and_a_broken_link_fails() {
    ether().has_no_neighbours("eth0");
    let run = start(true);
    run.after(HOUR).await;
    assert_eq!(run.host.notes(), ["this host is on no LAN"]);
    assert!(!run.has_ended());

    run.change(|place| {
        place.situation.generation = 2;
        place.situation.addresses[0].interface = "eth1".to_owned();
    });
    run.after(SECOND).await;
    ether().breaks("eth1");
    run.after(HOUR).await;
    assert!(!run.has_ended(), "it was joined before it broke");
    run.change(|place| place.situation.generation = 3);
    run.after(SECOND).await;
    assert!(run.has_ended(), "the daemon starts it again after a pause");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strangers_does_not_hide_a_peer() {
    let run = start(true);
    run.change(|place| {
        let strangers =
            (10..=250).map(|n| PeerSituation { public_key: PublicKey::from_bytes([n; 32]), endpoint: None });
        place.situation.peers.extend(strangers);
    });
    run.after(SECOND).await;
    for n in 0..=255 {
        ether().comes("eth0", name_of(&PublicKey::from_bytes([3; 32]), n), 4500, &["192.168.1.66"]);
    }
    ether().comes("eth0", name_of(&PEER, 1), 4500, &["192.168.1.7"]);
    run.after(SECOND).await;
    assert!(suggested(&run).is_empty(), "there was no time for so many names");
    for n in 0..=255 {
        ether().vanishes("eth0", name_of(&PublicKey::from_bytes([3; 32]), n));
    }
    run.after(20 * SECOND).await;
    assert_eq!(suggested(&run), ["192.168.1.7:4500"]);
}
