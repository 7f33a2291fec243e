//! What happens to a tunnel that works: restarts, roaming, a server that goes, a peer without wireplug.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::judge::{both_connected, carries_data, only_proven};
use common::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC, behind, public, site};
use wireplug_core::scheduler::State;
use wireplug_sim::nat::{Behaviour, Ports};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{Site, V4, V6};
use wireplug_sim::wireguard::Body;
use wireplug_sim::world::World;
use wireplug_sim::{Time, ms, secs};

/// A world whose two hosts have found each other.
fn connected(sites: [Site; 2]) -> World {
    connected_as(&Scenario::of(sites))
}

fn connected_as(scenario: &Scenario) -> World {
    let mut world = World::new(scenario, std::env::var("WIREPLUG_SIM_TRACE").is_ok());
    assert!(world.run(secs(3), both_connected), "{scenario}");
    world.run_until(secs(30));
    world
}

fn show(world: &World) -> String {
    format!("{:?}\n{:?}\n{}", world.status(0), world.status(1), world.trace())
}

/// All pings but the last two of each side, which may be under way, have been answered.
fn no_ping_lost(world: &World, since: Time) {
    for index in 0..2 {
        let host = world.host(index);
        let answered = host.pongs_since(since) as u64;
        let sent = world.now().saturating_sub(since).as_secs();
        assert!(
            answered + 2 >= sent,
            "host {index}: {answered} of {sent} answered since {since:?}\n{}",
            show(world)
        );
    }
}

fn nothing_moved(world: &World, since: Time) {
    for index in 0..2 {
        assert_eq!(world.record().moved_since(index, since), 0, "host {index}\n{}", show(world));
    }
}

#[test]
fn a_settled_tunnel_rests() {
    let mut world = connected([behind(PORT_RESTRICTED), behind(FULL_CONE)]);
    for index in 0..2 {
        let demand = world.host(index).daemon().unwrap().demand();
        assert!(!demand.working && demand.device_poll >= secs(2), "{demand:?}");
    }
    let since = world.now();
    world.run_until(secs(1800));
    no_ping_lost(&world, since);
    nothing_moved(&world, since);
}

/// Without traffic there are keepalives only, and of one side perhaps: no reason for doubt.
#[test]
fn an_idle_tunnel_rests_too() {
    for keepalive in [0, 25] {
        let mut scenario = Scenario::of([behind(PORT_RESTRICTED), behind(FULL_CONE)]);
        for host in &mut scenario.hosts {
            host.ping_every = None;
            host.keepalive = keepalive;
        }
        let mut world = World::new(&scenario, true);
        world.run_until(secs(60));
        assert!(both_connected(&world), "{}", show(&world));
        let working = |w: &World| (0..2).any(|i| w.host(i).daemon().unwrap().demand().working);
        assert!(!world.run(secs(1800), working), "at {:?}\n{}", world.now(), show(&world));
        nothing_moved(&world, secs(60));
        carries_data(&mut world, secs(1)).unwrap();
    }
}

#[test]
fn an_idle_tunnel_whose_path_died_is_mended() {
    for index in 0..2 {
        let mut scenario = Scenario::of([behind(PORT_RESTRICTED), behind(FULL_CONE)]);
        for host in &mut scenario.hosts {
            host.ping_every = None;
        }
        let mut world = connected_as(&scenario);
        world.reboot_routers(index);
        world.run_until(world.now() + secs(300));
        assert!(both_connected(&world), "{}", show(&world));
        carries_data(&mut world, secs(1)).unwrap();
    }
}

#[test]
fn a_killed_daemon_leaves_the_tunnel_and_takes_it_over_again() {
    for who in [&[0][..], &[1], &[0, 1]] {
        let mut world = connected([behind(PORT_RESTRICTED), behind(FULL_CONE)]);
        let since = world.now();
        for &index in who {
            world.kill_daemon(index);
            world.start_daemon(index, secs(200));
        }
        world.run_until(secs(400));
        no_ping_lost(&world, since);
        nothing_moved(&world, since);
        assert!(both_connected(&world), "{}", show(&world));
    }
}

#[test]
fn a_server_that_goes_and_comes_back_changes_nothing() {
    let mut world = connected([behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)]);
    let since = world.now();
    world.stop_server();
    world.run_until(secs(600));
    world.start_server();
    world.run_until(secs(700));
    no_ping_lost(&world, since);
    nothing_moved(&world, since);
}

#[test]
fn a_server_that_comes_late_is_waited_for() {
    let mut world = World::new(&Scenario::of([behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)]), false);
    world.stop_server();
    world.run_until(secs(400));
    assert!(
        world.status(0).is_some_and(|s| s.state == State::Unreachable && s.reason.is_some()),
        "{}",
        show(&world)
    );
    world.start_server();
    assert!(world.run(secs(406), both_connected), "{}", show(&world));
}

#[test]
fn a_host_that_roams_is_found_again() {
    let mut world = connected([behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)]);
    let places = [public(), behind(FULL_CONE), behind(Behaviour { ports: Ports::Random, ..PORT_RESTRICTED })];
    for (turn, place) in places.iter().enumerate() {
        for index in 0..2 {
            let moved = world.now();
            world.move_host(index, place);
            let answered = world.run(moved + secs(5), |w| w.host(index).pongs_since(moved + ms(100)) > 0);
            assert!(answered, "turn {turn}, host {index}\n{}", show(&world));
            world.run_until(moved + secs(30));
        }
    }
    only_proven(&world).unwrap();
}

#[test]
fn a_router_that_forgets_is_overcome() {
    for nat in [PORT_RESTRICTED, FULL_CONE, Behaviour { ports: Ports::Random, ..PORT_RESTRICTED }] {
        for index in 0..2 {
            let mut world = connected([behind(nat), behind(nat)]);
            let since = world.now();
            world.reboot_routers(index);
            let answered =
                world.run(since + secs(60), |w| (0..2).all(|i| w.host(i).pongs_since(since + secs(2)) > 0));
            assert!(answered, "{nat}, host {index}\n{}", show(&world));
            only_proven(&world).unwrap();
        }
    }
}

/// The peer is plain WireGuard with a public address: all works as without us.
#[test]
fn a_peer_without_wireplug_is_left_alone() {
    for keepalive in [0, 25] {
        let mut scenario = Scenario::of([behind(SYMMETRIC), public()]);
        scenario.hosts[1].daemon_at = None;
        scenario.hosts[1].ping_every = None;
        let mut world = World::new(&scenario, true);
        let endpoint = "5.0.1.1:51820".parse().unwrap();
        world.set_by_hand(0, Some(endpoint), Some(keepalive));
        world.run_until(secs(900));
        assert!(world.host(0).pongs().len() >= 895, "{}", show(&world));
        assert!(world.record().applications().is_empty());
        let device = world.host(0).device();
        let (_, peer) = device.peers().next().unwrap();
        assert_eq!((peer.endpoint, peer.keepalive), (Some(endpoint), keepalive), "{}", show(&world));
    }
}

/// One direction only: the sender hears a keepalive every 10 s and nothing else, and that is enough. The first time, it
/// has the path checked; then it knows.
#[test]
fn a_stream_in_one_direction_is_checked_once_and_stays() {
    for sender in 0..2 {
        let mut scenario = Scenario::of([behind(PORT_RESTRICTED), behind(FULL_CONE)]);
        for host in &mut scenario.hosts {
            host.ping_every = None;
        }
        let mut world = connected_as(&scenario);
        let since = world.now();
        for step in 0..6000 {
            world.send(sender, Body::Stream(step));
            world.run_until(since + ms(100 * (step + 1)));
            let working = world.host(0).daemon().unwrap().demand().working;
            assert!(!working || step < 150, "at {:?}\n{}", world.now(), show(&world));
            assert!(both_connected(&world), "at {:?}\n{}", world.now(), show(&world));
        }
        nothing_moved(&world, since);
    }
}

/// A tunnel set up by hand, then both daemons start: they may find something better, and lose nothing.
#[test]
fn daemons_that_start_on_a_live_tunnel_lose_nothing() {
    let v6 = |site: Site| Site { v6: V6::Firewalled(secs(60)), ..site };
    for sites in [
        [behind(PORT_RESTRICTED), public()],
        [v6(behind(SYMMETRIC)), v6(public())],
        [v6(site(V4::Behind(vec![PORT_RESTRICTED, PORT_RESTRICTED]), ms(80))), v6(public())],
    ] {
        for first_is_lower in [true, false] {
            let mut scenario = Scenario { first_is_lower, ..Scenario::of(sites.clone()) };
            scenario.hosts[0].daemon_at = Some(secs(7));
            scenario.hosts[1].daemon_at = Some(ms(9_300));
            let mut world = World::new(&scenario, true);
            world.set_by_hand(0, Some("5.0.1.1:51820".parse().unwrap()), None);
            world.run_until(secs(5));
            world.run_until(secs(120));
            no_ping_lost(&world, secs(5));
            assert!(both_connected(&world), "{}", show(&world));
            only_proven(&world).unwrap();
        }
    }
}

/// Nothing helps between two such NATs; both are told why.
#[test]
fn the_impossible_is_explained() {
    let mut world = World::new(&Scenario::of([behind(SYMMETRIC), behind(SYMMETRIC)]), false);
    let told =
        |w: &World, i| w.status(i).is_some_and(|s| s.state == State::Unreachable && s.reason.is_some());
    assert!(world.run(secs(30), |w| told(w, 0) && told(w, 1)), "{}", show(&world));
    let reason = world.status(0).and_then(|s| s.reason).unwrap().to_string();
    assert!(reason.contains("both NATs"), "{reason}");
}
