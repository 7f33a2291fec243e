//! What real routers do with NAT-PMP, each played by the fake one. Tests are named after the rows of the quirk tables in
//! docs/STRATEGIES.md.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::time::Duration;

use tokio::time::Instant;
use wireplug_core::{Endpoint, Proof, Tier};
use wireplug_nat_pmp as _;
use wireplug_strategy::Mapped;
use wireplug_strategy::kit::gateway::{Heard, Manner, NOTICE_PORT};
use wireplug_strategy::kit::home::{
    GATEWAY, Home, OUTSIDE, PORT, SOURCE, candidates, last_note, seconds, start,
};

/// The mapping requests: inner port, outer port, lifetime.
fn map_requests(heard: &[Heard]) -> Vec<(u16, u16, u32)> {
    let requests = heard.iter().map(|heard| &heard.datagram).filter(|bytes| bytes.len() == 12);
    requests
        .map(|bytes| {
            assert_eq!(bytes[..4], [0, 1, 0, 0], "version 0, UDP");
            let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            (port(4), port(6), u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_mapping_is_a_candidate_for_the_server_to_prove() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let candidate = run.host.standing().candidates.into_values().next().unwrap();
    assert_eq!(candidate.endpoint.to_string(), "5.6.7.8:51820");
    assert_eq!((candidate.tier, candidate.proof), (Tier::Mapped, Proof::Server));
    assert_eq!(candidate.lifetime, Some(seconds(3600)));
    assert_eq!(candidate.evidence.words(), "NAT-PMP: router 192.168.1.1 maps 5.6.7.8:51820 to us for 3600 s");
    assert_eq!(map_requests(&lab.router.heard()), [(PORT, PORT, 3600)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_while_no_mapping_is_needed() {
    let lab = Home::default();
    let mut place = lab.place();
    place.situation.mapping_wanted = false;
    let run = start(place.clone(), &toml::Table::new());
    run.after(seconds(600)).await;
    assert!(lab.router.heard().is_empty());
    // Unless the config says so.
    place.situation.wanted = false;
    let always = toml::Table::from_iter([("when".to_owned(), "always".into())]);
    let run = start(place, &always);
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_tunnel_settled_on_stays_when_nobody_asks_any_more() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.change(|place| (place.situation.wanted, place.situation.mapping_wanted) = (false, false));
    run.after(Duration::from_hours(30)).await;
    assert_eq!(lab.router.mappings().len(), 1);
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty(), "deleted on stop");
}

#[tokio::test(start_paused = true)]
async fn n1_suggested_port_zero_is_never_sent_and_a_refused_one_replaced_by_a_random_one() {
    let lab = Home::default();
    lab.router.change(|script| {
        script.natpmp.refuses_port_zero = true;
        script.natpmp.refuses = vec![PORT];
    });
    let run = lab.mapped().await;
    let requests = map_requests(&lab.router.heard());
    assert_eq!(requests[0], (PORT, PORT, 3600));
    let (_, other, _) = requests[1];
    assert!(other >= 49152, "{other}");
    assert_eq!(candidates(&run), [format!("5.6.7.8:{other}")]);
    // Renewals ask for what was given.
    run.after(seconds(2400)).await;
    assert_eq!(map_requests(&lab.router.heard())[2..], [(PORT, other, 3600)]);
}

#[tokio::test(start_paused = true)]
async fn n2_private_outer_address_is_said_and_nothing_is_mapped() {
    for outside in ["192.168.100.2", "100.64.3.4", "0.0.0.0", "10.1.2.3", "127.0.0.1"] {
        let lab = Home::at(GATEWAY, SOURCE, outside);
        let run = lab.start();
        run.after(seconds(60)).await;
        assert!(candidates(&run).is_empty());
        let note = last_note(&run);
        assert!(note.contains("double NAT / CGNAT") && note.contains(outside), "{note}");
        assert!(map_requests(&lab.router.heard()).is_empty(), "nothing is left behind");
        // It is looked at again, seldom.
        lab.router.change(|script| script.outside = OUTSIDE.parse().unwrap());
        run.after(seconds(720)).await;
        assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    }
}

#[tokio::test(start_paused = true)]
async fn n3_a_refusal_is_reported_with_its_reason_and_retried_slowly() {
    for (result, words) in [(2, "not authorized"), (3, "no outer address"), (4, "out of resources")] {
        let lab = Home::default();
        lab.router.change(|script| script.natpmp.denies = Some(result));
        let run = lab.start();
        run.after(seconds(3600)).await;
        assert!(last_note(&run).contains(words), "{}", last_note(&run));
        assert!(candidates(&run).is_empty());
        let times = map_requests(&lab.router.heard()).len();
        assert!((3..=12).contains(&times), "{times} in an hour");
        lab.router.change(|script| script.natpmp.denies = None);
        run.after(seconds(2100)).await;
        assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    }
}

#[tokio::test(start_paused = true)]
async fn n4_deletion_has_port_zero_lifetime_zero_and_is_for_udp() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.stop(seconds(1)).await.unwrap();
    assert_eq!(map_requests(&lab.router.heard())[1..], [(PORT, 0, 0)]);
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn n5_rebooted_gateway_is_mapped_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.router.reboot();
    run.after(seconds(140)).await;
    assert_eq!(lab.router.mappings().len(), 1, "found at the next check");
    // Its notice to everybody makes it faster (RFC 6886 section 3.2.1).
    run.after(seconds(3600)).await;
    lab.router.reboot();
    lab.router.tell_all("224.0.0.1".parse().unwrap(), NOTICE_PORT, &[0, 128, 0, 0, 0, 0, 0, 0, 5, 6, 7, 8]);
    run.after(seconds(1)).await;
    assert_eq!(lab.router.mappings().len(), 1, "mapped at once");
    assert_eq!(candidates(&run), ["5.6.7.8:51820"], "and never taken back");
    let lost =
        run.host.said().into_iter().any(|said| matches!(said.event, wireplug_strategy::Event::Lost(_)));
    assert!(!lost);
}

#[tokio::test(start_paused = true)]
async fn n5_a_new_outer_address_replaces_the_old_one() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.router.change(|script| script.outside = "9.8.7.6".parse().unwrap());
    lab.router.wipe();
    run.after(seconds(140)).await;
    assert_eq!(candidates(&run), ["9.8.7.6:51820"]);
}

#[tokio::test(start_paused = true)]
async fn n6_a_router_that_speaks_pcp_is_left_to_pcp() {
    let lab = Home::default();
    lab.router.change(|script| script.natpmp.only_version = Some(2));
    let run = lab.start();
    run.after(seconds(3600)).await;
    assert!(last_note(&run).contains("leave it to the strategy pcp"), "{}", last_note(&run));
    assert!(lab.router.heard().len() <= 2, "{}", lab.router.heard().len());
}

#[tokio::test(start_paused = true)]
async fn n7_icmp_refused_fails_at_once() {
    let lab = Home::default();
    lab.router.change(|script| script.natpmp.manner = Manner::Refuses);
    let started = Instant::now();
    let run = lab.start();
    run.after(seconds(1)).await;
    assert_eq!(lab.router.heard().len(), 1, "asked once");
    let said = run.host.said();
    assert!(said[0].at - started < Duration::from_millis(50), "{said:?}");
    assert!(last_note(&run).contains("has no NAT-PMP"), "{}", last_note(&run));
}

#[tokio::test(start_paused = true)]
async fn n7_a_silent_router_costs_a_second_and_then_next_to_nothing() {
    let lab = Home::default();
    lab.router.change(|script| script.natpmp.manner = Manner::Silent);
    let started = Instant::now();
    let run = lab.start();
    run.after(seconds(10)).await;
    let heard = lab.router.heard();
    let at: Vec<_> = heard.iter().map(|heard| (heard.at - started).as_millis()).collect();
    assert_eq!(at, [0, 250, 750]);
    assert_eq!(run.host.said()[0].at - started, seconds(1));
    assert!(last_note(&run).contains("does not answer NAT-PMP"), "{}", last_note(&run));
    // In the next hour: after 1, 2, 4 ... minutes.
    run.after(seconds(3600)).await;
    assert!((12..=18).contains(&lab.heard_since(3).len()), "{}", lab.heard_since(3).len());
    // A need that comes and goes does not ask more often.
    let before = lab.router.heard().len();
    for wanted in [false, true, false, true] {
        run.change(|place| place.situation.mapping_wanted = wanted);
        run.after(seconds(1)).await;
    }
    assert!(lab.heard_since(before).len() <= 3);
}

#[tokio::test(start_paused = true)]
async fn p8_a_shorter_lease_and_another_port_are_taken_as_they_come() {
    let lab = Home::default();
    lab.router.change(|script| {
        script.longest_lease = 120;
        script.taken = vec![PORT];
    });
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    let before = lab.router.heard().len();
    run.after(seconds(600)).await;
    let renewals = map_requests(&lab.heard_since(before));
    assert!((8..=10).contains(&renewals.len()), "renewed between 1/2 and 5/8: {}", renewals.len());
    assert!(renewals.iter().all(|renewal| *renewal == (PORT, 51821, 3600)));
}

#[tokio::test(start_paused = true)]
async fn a1_another_proven_mapping_makes_this_one_go() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let proven = |endpoint: &str| {
        let strategy = "upnp-igd".parse().unwrap();
        Some(Mapped { strategy, endpoint: Endpoint::new(endpoint.parse().unwrap()).unwrap() })
    };
    // One of the other family is no rival.
    run.change(|place| place.situation.mapped = proven("[2a00::5]:51820"));
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run).len(), 1);
    run.change(|place| place.situation.mapped = proven("5.6.7.8:50000"));
    run.after(seconds(1)).await;
    assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty());
    // When that is gone, it is asked again.
    run.change(|place| place.situation.mapped = None);
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
    run.change(|place| place.situation.mapped = None);
}

#[tokio::test(start_paused = true)]
async fn a1_the_winners_own_entry_is_let_go_but_not_deleted() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.change(|place| {
        let endpoint = Endpoint::new("5.6.7.8:51820".parse().unwrap()).unwrap();
        place.situation.mapped = Some(Mapped { strategy: "pcp".parse().unwrap(), endpoint });
    });
    run.after(seconds(1)).await;
    assert!(candidates(&run).is_empty());
    assert_eq!(lab.router.mappings().len(), 1, "one table for all protocols: it is the winner's too");
    run.stop(seconds(1)).await.unwrap();
    assert_eq!(lab.router.mappings().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a2_two_hosts_with_one_port_get_two_outer_ports() {
    let first = Home::default();
    let second = Home { router: first.router.clone(), ..Home::at(GATEWAY, "192.168.1.6", OUTSIDE) };
    let (one, other) = (first.start(), second.start());
    one.after(seconds(1)).await;
    assert_ne!(candidates(&one), candidates(&other));
    assert_eq!(first.router.mappings().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a4_killed_without_cleanup_the_next_start_takes_it_over() {
    let lab = Home::default();
    lab.router.change(|script| script.taken = vec![PORT]);
    let run = lab.mapped().await;
    let memory = run.host.memory();
    drop(run);
    // Nobody asks for a mapping: a tunnel may be using it.
    let mut place = lab.place();
    place.memory = memory.clone();
    place.situation.mapping_wanted = false;
    let before = lab.router.heard().len();
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(map_requests(&lab.heard_since(before)), [(PORT, 51821, 3600)]);
    assert_eq!(candidates(&run), ["5.6.7.8:51821"]);
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());

    // Nothing is remembered after a clean stop.
    let run = lab.mapped().await;
    let host = run.host.clone();
    run.stop(seconds(1)).await.unwrap();
    assert_eq!(host.memory().values().map(Vec::len).sum::<usize>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a4_the_leftover_of_another_port_is_removed() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let mut place = lab.place();
    place.memory = run.host.memory();
    place.situation.listen_port = 4500;
    drop(run);
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:4500"]);
    assert_eq!(lab.router.mappings().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a5_after_sleep_the_mapping_is_asked_for_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    // The machine slept past the lease; the daemon takes it for a new network.
    lab.router.wipe();
    run.change(|place| place.situation.generation += 1);
    run.after(seconds(1)).await;
    assert_eq!(lab.router.mappings().len(), 1);
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
}

#[tokio::test(start_paused = true)]
async fn a_lying_router_costs_nothing() {
    // Maps another port than ours: no answer to us.
    let lab = Home::default();
    lab.router.change(|script| script.natpmp.wrong_port = true);
    let run = lab.start();
    run.after(seconds(600)).await;
    assert!(candidates(&run).is_empty());
    assert!(last_note(&run).contains("does not answer"), "{}", last_note(&run));

    // Promises no time at all, or for ever.
    for (lease, stands) in [(0, 0), (3, 0), (u32::MAX, 1)] {
        let lab = Home::default();
        lab.router.change(|script| script.longest_lease = lease);
        let run = lab.start();
        run.after(seconds(600)).await;
        assert_eq!(candidates(&run).len(), stands, "{lease}");
        assert!(lab.router.heard().len() < 20, "{lease}: {}", lab.router.heard().len());
    }

    // Sends junk before every answer.
    let lab = Home::default();
    lab.router.change(|script| script.natpmp.junk = Some(vec![0, 0x80, 0]));
    let run = lab.mapped().await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_notices_costs_next_to_nothing() {
    let lab = Home::default();
    let run = lab.mapped().await;
    let before = lab.router.heard().len();
    for epoch in 0..1000u32 {
        // Back and forth: each looks like a restart.
        let told = (if epoch % 2 == 0 { 5u32 } else { 500_000 }).to_be_bytes();
        let notice = [&[0, 128, 0, 0], &told[..], &[6, 6, 6, 6]].concat();
        lab.router.tell_all("224.0.0.1".parse().unwrap(), NOTICE_PORT, &notice);
        run.after(Duration::from_millis(10)).await;
    }
    // Two datagrams for each mapping request.
    assert!(lab.heard_since(before).len() <= 8, "{}", lab.heard_since(before).len());
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_stop_it() {
    let lab = Home::default();
    let mut place = lab.place();
    place.forgets = true;
    let run = start(place, &toml::Table::new());
    run.after(seconds(1)).await;
    assert_eq!(candidates(&run), ["5.6.7.8:51820"]);
}
