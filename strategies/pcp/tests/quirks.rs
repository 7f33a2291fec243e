//! What real routers do with PCP, each played by the fake one. Tests are named after the rows of the quirk tables in
//! docs/STRATEGIES.md.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::time::Instant;
use wireplug_core::{Endpoint, Proof, Tier};
use wireplug_pcp as _;
use wireplug_strategy::kit::gateway::{FakeGateway, Heard, Manner};
use wireplug_strategy::kit::home::{
    GATEWAY, Home, OUTSIDE, PORT, SOURCE, candidates, last_note, seconds, start,
};
use wireplug_strategy::kit::{Place, address};
use wireplug_strategy::{Event, Gateway, HostAddress, Mapped};

const ALL_V4: &str = "224.0.0.1";
const ALL_V6: &str = "ff02::1";

/// A MAP request as RFC 6887 sections 7.1 and 11.1 lay it out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Map {
    seconds: u32,
    client: IpAddr,
    nonce: Vec<u8>,
    inner: u16,
    outer: u16,
    address: [u8; 16],
}

fn map_requests(heard: &[Heard]) -> Vec<Map> {
    let requests = heard.iter().filter(|heard| heard.datagram.get(1) == Some(&1));
    requests
        .map(|Heard { datagram, from, .. }| {
            assert_eq!(datagram.len(), 60, "no options: THIRD_PARTY is never sent");
            assert_eq!((datagram[0], datagram[36]), (2, 17), "version 2, UDP");
            let port = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
            let client: [u8; 16] = datagram[8..24].try_into().unwrap();
            let client = IpAddr::from(client).to_canonical();
            assert_eq!(client, *from, "the address in the header is the one that it came from");
            Map {
                seconds: u32::from_be_bytes(datagram[4..8].try_into().unwrap()),
                client,
                nonce: datagram[24..36].to_vec(),
                inner: port(40),
                outer: port(42),
                address: datagram[44..60].try_into().unwrap(),
            }
        })
        .collect()
}

fn nonces(heard: &[Heard]) -> BTreeSet<Vec<u8>> {
    map_requests(heard).into_iter().map(|map| map.nonce).collect()
}

#[tokio::test(start_paused = true)]
async fn a_mapping_is_a_candidate_for_the_server_to_prove() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let candidate = run.host.standing().candidates.into_values().next().unwrap();
    assert_eq!(candidate.endpoint.to_string(), "5.6.7.8:51820");
    assert_eq!((candidate.tier, candidate.proof), (Tier::Mapped, Proof::Server));
    assert_eq!(candidate.lifetime, Some(seconds(3600)));
    assert_eq!(candidate.evidence.words(), "PCP 2: router 192.168.1.1 maps 5.6.7.8:51820 to us for 3600 s");
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty(), "deleted on stop");
}

#[tokio::test(start_paused = true)]
async fn p1_one_nonce_for_renewal_and_deletion_over_a_restart_too() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.after(seconds(4000)).await;
    let memory = run.host.memory();
    drop(run);
    let mut place = lab.place();
    place.memory = memory;
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty(), "the server takes the deletion for the owner's");
    let heard = lab.router.heard();
    assert_eq!(nonces(&heard).len(), 1);
    assert!(map_requests(&heard).len() >= 4);
    // Another mapping has another one.
    let other = Home::default();
    other.mapped().await;
    assert!(nonces(&other.router.heard()).is_disjoint(&nonces(&heard)));
}

#[tokio::test(start_paused = true)]
async fn p1_the_nonce_is_on_disk_before_it_is_sent() {
    let lab = Home::default();
    lab.router.change(|script| script.pcp.manner = Manner::Silent);
    let run = lab.start();
    run.after(seconds(0)).await;
    while lab.router.heard().is_empty() {
        run.after(std::time::Duration::from_millis(1)).await;
    }
    let memory = run.host.memory().remove("pcp").unwrap();
    let nonce = &map_requests(&lab.router.heard())[0].nonce;
    let numbers: Vec<_> = nonce.iter().map(u8::to_string).collect();
    assert!(String::from_utf8(memory).unwrap().contains(&numbers.join(", ")));
}

#[tokio::test(start_paused = true)]
async fn p2_epochs_that_jump_either_way_map_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    // Further than its clock can be: section 8.5 takes that for a restart as well.
    for age in [seconds(90_000), seconds(3), seconds(1000)] {
        lab.router.wipe();
        lab.router.set_age(age);
        run.after(seconds(140)).await;
        assert_eq!(lab.router.mappings().len(), 1, "{age:?}");
    }
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    // A clock that is as it should be does not.
    let before = lab.router.heard().len();
    run.after(seconds(1200)).await;
    assert!(map_requests(&lab.heard_since(before)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn p3_address_mismatch_is_double_nat() {
    let lab = Home::default();
    lab.router.change(|script| script.pcp.sees = Some([10, 0, 0, 7].into()));
    let run = lab.start();
    run.after(seconds(60)).await;
    assert!(candidates(&run).is_empty());
    assert!(last_note(&run).contains("double NAT / CGNAT"), "{}", last_note(&run));
}

#[tokio::test(start_paused = true)]
async fn p3_a_private_outer_address_is_double_nat_and_released() {
    let lab = Home::at(GATEWAY, SOURCE, "100.64.9.9");
    let run = lab.start();
    run.after(seconds(60)).await;
    assert!(candidates(&run).is_empty());
    assert!(last_note(&run).contains("double NAT / CGNAT"), "{}", last_note(&run));
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn p4_the_lifetime_of_an_error_is_respected() {
    for (code, words) in [(8, "NO_RESOURCES"), (10, "USER_EX_QUOTA"), (2, "NOT_AUTHORIZED")] {
        let lab = Home::default();
        lab.router.change(|script| script.pcp.denies = Some((code, 300)));
        let started = Instant::now();
        let run = lab.start();
        run.after(seconds(1000)).await;
        assert!(last_note(&run).contains(words), "{}", last_note(&run));
        let heard = lab.router.heard();
        let at: Vec<_> = heard.iter().map(|heard| (heard.at - started).as_secs()).collect();
        assert!((3..=4).contains(&at.len()), "{at:?}");
        assert!(at.windows(2).all(|pair| (300..=340).contains(&(pair[1] - pair[0]))), "{at:?}");
    }
    // No time, or a hundred years, is not believed.
    for lifetime in [0, u32::MAX] {
        let lab = Home::default();
        lab.router.change(|script| script.pcp.denies = Some((8, lifetime)));
        let run = lab.start();
        run.after(seconds(3000)).await;
        assert!((2..=100).contains(&lab.router.heard().len()), "{}", lab.router.heard().len());
    }
}

#[tokio::test(start_paused = true)]
async fn p5_no_preference_for_ipv4_is_a_mapped_zero() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let first = &map_requests(&lab.router.heard())[0];
    assert_eq!((first.inner, first.outer), (PORT, PORT));
    assert_eq!(first.address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]);
    // Afterwards it prefers what it has.
    run.after(seconds(2400)).await;
    let renewal = map_requests(&lab.router.heard()).pop().unwrap();
    assert_eq!(renewal.address[12..], [5, 6, 7, 8]);
}

/// A home with IPv6 alone: a router by its link-local address, and these addresses of ours.
fn v6_place(router: &FakeGateway, own: &[&str]) -> Place {
    let gateway: IpAddr = "fe80::1".parse().unwrap();
    let mut situation = Home::default().situation;
    situation.addresses =
        own.iter().map(|ip| HostAddress { temporary: true, ..address(ip.parse().unwrap(), 64) }).collect();
    situation.gateways = vec![Gateway {
        ip: gateway,
        source: own[0].parse().unwrap(),
        ifindex: 2,
        interface: "eth0".to_owned(),
    }];
    Place::new(situation).with_router(gateway, router)
}

#[tokio::test(start_paused = true)]
async fn p6_each_ipv6_address_in_use_gets_its_pinhole() {
    let router = FakeGateway::new(OUTSIDE.parse().unwrap());
    let run = start(v6_place(&router, &["2a00::5", "2a00::6"]), &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["[2a00::5]:51820", "[2a00::6]:51820"]);
    let requests = map_requests(&router.heard());
    assert_eq!(requests[0].address, [0; 16], "no preference for IPv6 is ::");
    assert_eq!(nonces(&router.heard()).len(), 2);
    // A new privacy address takes over from the oldest.
    run.change(|place| {
        let memory = place.memory.clone();
        *place = v6_place(&router, &["2a00::6", "2a00::7"]);
        place.memory = memory;
        place.situation.generation = 2;
    });
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["[2a00::6]:51820", "[2a00::7]:51820"]);
    // After a restart of the router all of them come back, though each answer tells of it.
    router.reboot();
    run.after(seconds(140)).await;
    let inside: BTreeSet<_> = router.mappings().iter().map(|mapping| mapping.inside.to_string()).collect();
    assert_eq!(inside, ["[2a00::6]:51820", "[2a00::7]:51820"].map(str::to_owned).into());
    run.stop(seconds(1)).await.unwrap();
    assert!(router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn p7_announce_after_a_reboot_maps_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.after(seconds(15)).await;
    lab.router.reboot();
    lab.router.announce(ALL_V4.parse().unwrap());
    run.after(seconds(1)).await;
    assert_eq!(lab.router.mappings().len(), 1);
    let said = run.host.said().into_iter();
    assert_eq!(said.filter(|said| matches!(said.event, Event::Lost(_))).count(), 0);

    let router = FakeGateway::new(OUTSIDE.parse().unwrap());
    let run = start(v6_place(&router, &["2a00::5", "2a00::6"]), &toml::Table::new());
    run.after(seconds(15)).await;
    router.reboot();
    router.announce(ALL_V6.parse().unwrap());
    run.after(seconds(1)).await;
    assert_eq!(router.mappings().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn p8_what_is_given_is_taken_and_renewed_at_half_life_jittered() {
    let mut first_renewals = BTreeSet::new();
    for _ in 0..8 {
        let lab = Home::default();
        lab.router.change(|script| {
            script.assigns = Some(40_001);
            script.longest_lease = 1000;
        });
        let run = lab.mapped().await;
        assert_eq!(candidates(&run), ["5.6.7.8:40001"]);
        let started = lab.router.heard()[0].at;
        run.after(seconds(700)).await;
        let maps: Vec<_> = lab
            .router
            .heard()
            .into_iter()
            .filter(|heard| heard.datagram[1] == 1)
            .map(|heard| heard.at)
            .collect();
        let renewed = (maps[1] - started).as_millis();
        assert!((500_000..=626_000).contains(&renewed), "{renewed}");
        first_renewals.insert(renewed);
        let candidate = run.host.standing().candidates.into_values().next().unwrap();
        assert_eq!(candidate.lifetime, Some(seconds(1000)));
    }
    assert!(first_renewals.len() > 4, "jittered: {first_renewals:?}");
}

#[tokio::test(start_paused = true)]
async fn p8_a_router_that_went_away_is_asked_until_the_lease_is_over() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.router.change(|script| script.pcp.manner = Manner::Silent);
    run.after(seconds(3500)).await;
    assert_eq!(candidates(&run).len(), 1);
    run.after(seconds(200)).await;
    assert!(candidates(&run).is_empty());
    lab.router.change(|script| script.pcp.manner = Manner::Answers);
    run.after(seconds(2100)).await;
    assert_eq!(candidates(&run).len(), 1, "and found again, since a tunnel may have used it");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_speaks_nat_pmp_is_left_to_nat_pmp() {
    let lab = Home::default();
    lab.router.change(|script| script.pcp.only_natpmp = true);
    let run = lab.start();
    run.after(seconds(1200)).await;
    assert!(last_note(&run).contains("leave it to the strategy nat-pmp"), "{}", last_note(&run));
    assert_eq!(lab.router.heard().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_and_silent_routers_cost_a_second_at_most() {
    for (manner, tries, after) in [(Manner::Refuses, 1, 20), (Manner::Silent, 3, 1000)] {
        let lab = Home::default();
        lab.router.change(|script| script.pcp.manner = manner);
        let started = Instant::now();
        let run = lab.start();
        run.after(seconds(30)).await;
        assert_eq!(lab.router.heard().len(), tries);
        assert_eq!((run.host.said()[0].at - started).as_millis(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_for_another_mapping_are_not_ours() {
    let lab = Home::default();
    lab.router.change(|script| script.pcp.wrong_nonce = true);
    let run = lab.start();
    run.after(seconds(30)).await;
    assert!(candidates(&run).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a1_another_proven_mapping_makes_this_one_go_but_not_the_other_family() {
    let lab = Home::default();
    let mut place = lab.place();
    let v6 = v6_place(&lab.router, &["2a00::5"]);
    place.situation.addresses.extend(v6.situation.addresses);
    place.situation.gateways.extend(v6.situation.gateways);
    place.routers.extend(v6.routers);
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820", "[2a00::5]:51820"]);
    run.change(|place| {
        let endpoint = Endpoint::new("5.6.7.8:50000".parse().unwrap()).unwrap();
        place.situation.mapped = Some(Mapped { strategy: "nat-pmp".parse().unwrap(), endpoint });
    });
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["[2a00::5]:51820"]);
    assert_eq!(lab.router.mappings().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a2_two_hosts_with_one_port_get_two_outer_ports() {
    let first = Home::default();
    let second = Home { router: first.router.clone(), ..Home::at(GATEWAY, "192.168.1.6", OUTSIDE) };
    let (one, other) = (first.start(), second.start());
    one.after(seconds(1)).await;
    assert_eq!((candidates(&one).len(), candidates(&other).len()), (1, 1));
    assert_ne!(candidates(&one), candidates(&other));
}

#[tokio::test(start_paused = true)]
async fn a4_killed_without_cleanup_the_next_start_takes_it_over() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let memory = run.host.memory();
    drop(run);
    let mut place = lab.place();
    place.memory = memory;
    place.situation.mapping_wanted = false;
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"], "the server knows the nonce");
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a5_after_sleep_the_mapping_is_asked_for_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.router.wipe();
    run.change(|place| place.situation.generation += 1);
    run.after(seconds(1)).await;
    assert_eq!((lab.router.mappings().len(), candidates(&run).len()), (1, 1));
}
