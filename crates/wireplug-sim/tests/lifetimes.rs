//! NATs that forget a mapping sooner than our keepalive comes: what is learnt of them, and what is left alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::judge::both_connected;
use common::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC, behind, public};
use wireplug_sim::nat::{Behaviour, Ports};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::Site;
use wireplug_sim::world::{Cut, World};
use wireplug_sim::{Time, ms, secs};

const HOUR: u64 = 3600;

/// The same NAT with other lifetimes.
fn living(nat: Behaviour, lifetime: u64) -> Behaviour {
    Behaviour { timeout: secs(lifetime), ..nat }
}

/// Two connected hosts that say nothing to each other.
fn idle(sites: [Site; 2], first_is_lower: bool) -> World {
    let mut scenario = Scenario { first_is_lower, ..Scenario::of(sites) };
    for host in &mut scenario.hosts {
        host.ping_every = None;
    }
    let mut world = World::new(&scenario, std::env::var("WIREPLUG_SIM_TRACE").is_ok());
    world.run_until(secs(60));
    assert!(both_connected(&world), "{}", show(&world));
    world
}

fn show(world: &World) -> String {
    format!("{:?}\n{:?}\n{}", world.status(0), world.status(1), world.trace())
}

fn keepalive(world: &World, index: usize) -> u16 {
    world.host(index).device().peers().next().unwrap().1.keepalive
}

/// Every quarter of an hour, and at another moment between two keepalives each time, `caller` pings for twenty seconds.
/// Gives how long each time it had to wait for the first answer.
fn calls(world: &mut World, caller: usize, hours: u64) -> Vec<Time> {
    let call = |call: u64| {
        let began = world.now();
        let first = world.host(caller).pings();
        for second in 1..=20 {
            world.ping(caller);
            world.run_until(began + secs(second));
        }
        let mut pongs = world.host(caller).pongs().iter().filter(|(_, number)| *number > first);
        let wait = pongs.next().map_or(Time::MAX, |(at, _)| at.saturating_sub(began));
        world.run_until(began + secs(HOUR / 4) + ms(call * 7919 % 25_000));
        wait
    };
    (0..hours * 4).map(call).collect()
}

/// Those of the calls that had to wait for longer than the third ping.
fn deaf(waits: &[Time]) -> Vec<usize> {
    (0..waits.len()).filter(|call| waits[*call] > ms(2500)).collect()
}

#[test]
fn a_short_lifetime_is_learnt_and_the_tunnel_is_deaf_no_more() {
    for lifetime in [10, 12, 16] {
        for nat in [PORT_RESTRICTED, FULL_CONE, SYMMETRIC] {
            for first_is_lower in [true, false] {
                let mut world = idle([behind(living(nat, lifetime)), public()], first_is_lower);
                let told = format!("{nat}, {lifetime} s, {first_is_lower}");
                let learning = deaf(&calls(&mut world, 1, 2));
                assert!(matches!(learning.len(), 1..=3), "{told}: {learning:?}\n{}", show(&world));
                assert!(keepalive(&world, 0) <= 12, "{told}\n{}", show(&world));
                assert_eq!(keepalive(&world, 1), 25, "{told}: the other network is a good one");
                assert_eq!(deaf(&calls(&mut world, 1, 1)), [0_usize; 0], "{told}\n{}", show(&world));
                // Now and then the longer one is tried again, and costs a call or two each time; untaught, it is 40 of 96.
                let day = deaf(&calls(&mut world, 1, 24));
                assert!(day.len() <= 8, "{told}: {day:?}\n{}", show(&world));
            }
        }
    }
}

#[test]
fn where_both_forget_ports_and_nobody_calls_both_learn_it_from_the_handshakes() {
    let random = Behaviour { ports: Ports::Random, ..PORT_RESTRICTED };
    for lifetime in [10, 20] {
        let nat = living(random, lifetime);
        let mut world = idle([behind(nat), behind(nat)], true);
        world.run_until(secs(HOUR));
        assert!(keepalive(&world, 0) <= 12 && keepalive(&world, 1) <= 12, "{lifetime}\n{}", show(&world));
        assert_eq!(deaf(&calls(&mut world, 1, 1)), [0_usize; 0], "{lifetime}\n{}", show(&world));
    }
}

/// What hardly outlives the pause is seldom met, and then mended by the next keepalive.
#[test]
fn a_lifetime_a_little_too_short_costs_seconds_at_most() {
    for nat in [PORT_RESTRICTED, FULL_CONE, SYMMETRIC] {
        let mut world = idle([behind(living(nat, 20)), public()], true);
        let waits = calls(&mut world, 1, 24);
        let longest = waits.iter().max().unwrap();
        assert!(*longest <= secs(6), "{nat}: {longest:?}\n{}", show(&world));
    }
}

#[test]
fn good_networks_keep_the_usual_keepalive() {
    for lifetime in [30, 60, 120] {
        for nat in [PORT_RESTRICTED, FULL_CONE, SYMMETRIC] {
            let mut world = idle([behind(living(nat, lifetime)), public()], true);
            for hour in 0..24 {
                assert_eq!(deaf(&calls(&mut world, hour % 2, 1)), [0_usize; 0], "{}", show(&world));
            }
            // A router that restarts once in a while is no sign of short lifetimes.
            for _ in 0..3 {
                world.reboot_routers(0);
                calls(&mut world, 1, 8);
                assert_eq!((keepalive(&world, 0), keepalive(&world, 1)), (25, 25), "{nat}\n{}", show(&world));
            }
        }
    }
}

/// A way that is lost and comes back teaches nothing of NATs.
#[test]
fn outages_are_not_mistaken_for_expired_mappings() {
    let mut world = idle([behind(PORT_RESTRICTED), behind(FULL_CONE)], true);
    for call in 0..20 {
        world.cut(Cut::Both);
        let began = world.now();
        for second in 1..=30 {
            world.ping(call % 2);
            world.run_until(began + secs(second));
            if second == 9 {
                world.cut(Cut::Nothing);
            }
        }
        world.run_until(began + secs(900));
        assert!(both_connected(&world), "{}", show(&world));
        assert_eq!((keepalive(&world, 0), keepalive(&world, 1)), (25, 25), "call {call}\n{}", show(&world));
    }
}

#[test]
fn a_better_network_gets_the_usual_keepalive_at_once_and_a_better_router_by_and_by() {
    let learnt = || {
        let mut world = idle([behind(living(PORT_RESTRICTED, 12)), public()], true);
        calls(&mut world, 1, 2);
        assert!(keepalive(&world, 0) <= 12, "{}", show(&world));
        world
    };
    let mut world = learnt();
    world.move_host(0, &behind(FULL_CONE));
    world.run_until(world.now() + secs(10));
    assert_eq!(keepalive(&world, 0), 25, "{}", show(&world));
    let mut world = learnt();
    world.set_lifetime(0, secs(120));
    assert_eq!(deaf(&calls(&mut world, 1, 12)), [0_usize; 0], "{}", show(&world));
    assert_eq!(keepalive(&world, 0), 25, "{}", show(&world));
}

#[test]
fn the_persons_keepalive_is_never_touched() {
    let mut scenario = Scenario::of([behind(living(PORT_RESTRICTED, 10)), public()]);
    for host in &mut scenario.hosts {
        (host.ping_every, host.keepalive) = (None, 25);
    }
    let mut world = World::new(&scenario, std::env::var("WIREPLUG_SIM_TRACE").is_ok());
    world.run_until(secs(60));
    let day = deaf(&calls(&mut world, 1, 24));
    assert!(day.len() > 30, "it is as bad as the person has it: {day:?}");
    assert_eq!((keepalive(&world, 0), keepalive(&world, 1)), (25, 25));
}
