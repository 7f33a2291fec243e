//! The relay: a bridge for every pair that reaches the server, and left as soon as something better is proven.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::judge::{both_connected, both_relayed, carries_data, only_proven};
use common::{PORT_RESTRICTED, SYMMETRIC, behind, public};
use wireplug_core::scheduler::State;
use wireplug_sim::link::Link;
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{Site, V4, V6};
use wireplug_sim::world::{Cut, World};
use wireplug_sim::{Time, ms, secs};

fn world(sites: [Site; 2], first_is_lower: bool) -> World {
    let mut scenario = Scenario { first_is_lower, ..Scenario::of(sites) }.relayed();
    for host in &mut scenario.hosts {
        host.ping_every = Some(ms(100));
    }
    World::new(&scenario, std::env::var("WIREPLUG_SIM_TRACE").is_ok())
}

fn show(world: &World) -> String {
    format!("{:?}\n{:?}\n{}", world.status(0), world.status(1), world.trace())
}

fn without_udp(site: Site) -> Site {
    Site { no_udp: true, ..site }
}

fn only_v6() -> Site {
    Site { v4: V4::None, v6: V6::Open, ..public() }
}

/// 50 ms of round trip between the two, all of it on their lines.
fn at_fifty(site: Site) -> Site {
    Site { line: Link::of(Time::from_micros(12_500)), ..site }
}

/// When the first ping of either side was answered.
fn first_pong(world: &mut World, limit: Time) -> Time {
    let answered = |w: &World| (0..2).any(|i| !w.host(i).pongs().is_empty());
    assert!(world.run(limit, answered), "{}", show(world));
    world.now()
}

#[test]
fn no_pair_is_left_unreachable() {
    let sites = [
        ("symmetric, symmetric", behind(SYMMETRIC), behind(SYMMETRIC), ms(700)),
        ("symmetric, port restricted", behind(SYMMETRIC), behind(PORT_RESTRICTED), ms(700)),
        ("IPv4 only, IPv6 only", behind(PORT_RESTRICTED), only_v6(), ms(700)),
        ("no UDP, public", without_udp(behind(PORT_RESTRICTED)), public(), ms(3000)),
        ("no UDP, symmetric", without_udp(public()), behind(SYMMETRIC), ms(3000)),
        ("no UDP, no UDP", without_udp(public()), without_udp(behind(SYMMETRIC)), ms(3000)),
    ];
    for (what, one, other, patience) in sites {
        for first_is_lower in [true, false] {
            let mut world = world([at_fifty(one.clone()), at_fifty(other.clone())], first_is_lower);
            let took = first_pong(&mut world, secs(10));
            println!("{what}: first ping after {took:?}");
            assert!(took <= patience, "{what}: {took:?}\n{}", show(&world));
            let limit = world.now() + secs(2);
            assert!(world.run(limit, both_relayed), "{what}\n{}", show(&world));
            world.run_until(secs(600));
            assert!(both_relayed(&world), "{what}\n{}", show(&world));
            carries_data(&mut world, secs(1)).unwrap();
            only_proven(&world).unwrap();
        }
    }
}

#[test]
fn a_pair_that_connects_directly_never_asks_the_server() {
    for sites in [
        [behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)],
        [behind(SYMMETRIC), public()],
        [public(), public()],
    ] {
        for first_is_lower in [true, false] {
            let mut world = world(sites.clone().map(at_fifty), first_is_lower);
            let took = first_pong(&mut world, secs(5));
            println!("direct: first ping after {took:?}");
            let asked = |w: &World| w.server().is_relaying();
            assert!(!world.run(secs(600), asked), "at {:?}\n{}", world.now(), show(&world));
            assert!(both_connected(&world), "{}", show(&world));
        }
    }
}

/// How many pings of both sides, from that time on, were not answered; the last ones are under way.
fn lost(world: &World, from: [u64; 2]) -> u64 {
    let lost = |index: usize| {
        let host = world.host(index);
        let answered: BTreeSet<u64> = host.pongs().iter().map(|(_, number)| *number).collect();
        (from[index] + 1..host.pings().saturating_sub(20)).filter(|number| !answered.contains(number)).count()
    };
    (lost(0) + lost(1)) as u64
}

fn pings(world: &World) -> [u64; 2] {
    [0, 1].map(|index| world.host(index).pings())
}

#[test]
fn what_becomes_possible_is_used_and_nothing_is_lost_in_the_move() {
    for first_is_lower in [true, false] {
        let mut scenario = Scenario {
            first_is_lower,
            ..Scenario::of([behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)].map(at_fifty))
        };
        // Without a little jitter, every packet would be sent at the very moment at which one arrives.
        for (host, site) in scenario.hosts.iter_mut().zip(&mut scenario.sites) {
            host.ping_every = Some(ms(5));
            site.line.jitter = ms(2);
        }
        let mut world = World::new(&scenario.relayed(), std::env::var("WIREPLUG_SIM_TRACE").is_ok());
        world.cut(Cut::Both);
        assert!(world.run(secs(5), both_relayed), "{}", show(&world));
        world.run_until(secs(20));
        world.cut(Cut::Nothing);
        let before = pings(&world);
        let moved = |w: &World| (0..2).any(|i| w.status(i).is_some_and(|s| s.state == State::Connected));
        assert!(world.run(secs(60), moved), "{}", show(&world));
        let first = world.now();
        assert!(world.run(secs(65), both_connected), "{}", show(&world));
        println!("moved up at {first:?}, both after {:?}", world.now().saturating_sub(first));
        assert!(world.now().saturating_sub(first) <= ms(400), "{}", show(&world));
        world.run_until(world.now() + secs(29));
        assert!(world.server().is_relaying(), "it is kept for a while");
        world.run_until(world.now() + secs(60));
        assert!(!world.server().is_relaying(), "and then released\n{}", show(&world));
        println!("lost {}", lost(&world, before));
        assert!(lost(&world, before) <= 5, "{} lost\n{}", lost(&world, before), show(&world));
        assert!(both_connected(&world));
    }
}

/// Whoever sends, and whatever direction is cut, within ten seconds it goes on by the relay.
#[test]
fn a_direct_path_that_dies_under_traffic_is_left_within_ten_seconds() {
    let mut worst = Time::ZERO;
    for cut in [Cut::Both, Cut::Towards(0), Cut::Towards(1)] {
        for first_is_lower in [true, false] {
            for (ping, who) in [(ms(100), [true, true]), (secs(1), [true, true]), (secs(1), [true, false])] {
                for phase in 0..6 {
                    let mut scenario = Scenario {
                        first_is_lower,
                        ..Scenario::of([behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)].map(at_fifty))
                    };
                    for (host, speaks) in scenario.hosts.iter_mut().zip(who) {
                        host.ping_every = speaks.then_some(ping);
                    }
                    let mut world =
                        World::new(&scenario.relayed(), std::env::var("WIREPLUG_SIM_TRACE").is_ok());
                    assert!(world.run(secs(5), both_connected), "{}", show(&world));
                    world.run_until(secs(100) + ms(370 * phase));
                    world.cut(cut);
                    let died = world.now();
                    let speakers: Vec<_> = (0..2).filter(|i| who[*i]).collect();
                    let back = |w: &World| speakers.iter().all(|i| w.host(*i).pongs_since(died + ms(60)) > 0);
                    let is_back = world.run(died + secs(30), back);
                    let took = world.now().saturating_sub(died);
                    worst = worst.max(took);
                    let case = format!("{cut:?} {first_is_lower} {ping:?} {who:?} {phase}: {took:?}");
                    assert!(is_back && took <= secs(10), "{case}\n{}", show(&world));
                    world.run_until(died + secs(120));
                    assert!(both_relayed(&world), "{case}\n{}", show(&world));
                    only_proven(&world).unwrap();
                }
            }
        }
    }
    println!("back on the relay after at most {worst:?}");
}
