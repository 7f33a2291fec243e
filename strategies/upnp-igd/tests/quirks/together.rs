//! With others, after a crash, at the end.

use wireplug_strategy::Mapped;

use crate::HERE;
use crate::common::{OTHER, Upnp, addr};
use wireplug_strategy::kit::home::{GATEWAY, Home, OUTSIDE, SOURCE, candidates, seconds, start};

#[tokio::test(start_paused = true)]
async fn a1_another_strategys_proven_mapping_releases_ours() {
    let lab = Home::default();
    let run = lab.mapped().await;
    run.change(|place| {
        let endpoint = addr("5.6.7.8:40000").try_into().unwrap();
        place.situation.mapped = Some(Mapped { strategy: "pcp".parse().unwrap(), endpoint });
    });
    run.after(seconds(2)).await;
    assert!(candidates(&run).is_empty() && lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a2_two_hosts_with_one_port_get_two_outer_ports() {
    let first = Home::default();
    let running = first.mapped().await;
    let mut second = Home::at(GATEWAY, "192.168.1.6", OUTSIDE);
    second.router = first.router.clone();
    let run = second.ran().await;
    let ours = candidates(&run);
    assert!(ours.len() == 1 && ours != candidates(&running), "{ours:?}");
    assert_eq!(first.router.mappings().len(), 2);
    // Each takes back its own only.
    run.stop(seconds(1)).await.unwrap();
    assert_eq!(first.mapping().inside, addr("192.168.1.5:51820"));
}

#[tokio::test(start_paused = true)]
async fn a4_a_killed_runs_mapping_is_taken_over_or_back() {
    let lab = Home::with(|upnp| upnp.refuses_leases = Some(725));
    let killed = lab.mapped().await;
    let mut place = lab.place();
    place.memory = killed.host.memory();
    drop(killed);
    assert_eq!(lab.router.mappings().len(), 1, "it stays for ever on this router");
    let again = start(place.clone(), &toml::Table::new());
    again.after(seconds(3)).await;
    assert_eq!((candidates(&again), lab.router.mappings().len()), (vec![HERE.to_owned()], 1));
    drop(again);
    // WireGuard listens elsewhere now: the old mapping is of no use.
    place.situation.listen_port = 4500;
    let moved = start(place, &toml::Table::new());
    moved.after(seconds(4)).await;
    assert_eq!(lab.mapping().inside, addr("192.168.1.5:4500"));
    moved.stop(seconds(1)).await.unwrap();
    assert!(lab.router.mappings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a5_after_sleep_the_mapping_is_asked_for_again() {
    let lab = Home::default();
    let run = lab.mapped().await;
    // The lease ended while the machine slept; the daemon takes that for a new generation.
    lab.router.wipe();
    run.change(|place| place.situation.generation = 2);
    run.after(seconds(1)).await;
    assert_eq!((candidates(&run), lab.mapping().outside), (vec![HERE.to_owned()], addr(HERE)));
}

#[tokio::test(start_paused = true)]
async fn stopped_while_it_asks_it_leaves_nothing() {
    for millis in [10, 45, 85, 125, 165, 205, 245] {
        let lab = Home::with(|upnp| upnp.refuses_leases = Some(725));
        let run = lab.start();
        run.after(std::time::Duration::from_millis(millis)).await;
        run.stop(seconds(1)).await.unwrap();
        assert!(lab.router.mappings().is_empty(), "{millis} ms: {:?}", lab.router.mappings());
    }
}

#[tokio::test(start_paused = true)]
async fn a_mapping_of_somebody_else_is_not_deleted_on_stop() {
    let lab = Home::default();
    let run = lab.mapped().await;
    lab.upnp(|upnp| upnp.lists_client = Some(OTHER.parse().unwrap()));
    run.stop(seconds(1)).await.unwrap();
    assert!(lab.requests("DeletePortMapping").is_empty());
    assert_eq!(SOURCE, lab.mapping().inside.ip().to_string());
}
