//! Random pairs of networks and a server that relays: every pair connects, and what can be direct ends direct.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::cell::Cell;
use std::net::SocketAddr;

use common::judge::{both_connected, both_relayed, both_up, carries_data, for_seeds, is_calm, only_proven};
use rand::{RngExt as _, SeedableRng as _};
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::server::RELAY_PORT;
use wireplug_sim::site::Shared;
use wireplug_sim::world::{Cut, World};
use wireplug_sim::{Chance, Time, ms, secs};

fn draw(seed: u64) -> Scenario {
    Scenario::draw(seed).relayed()
}

/// No stale endpoint and no keepalive: WireGuard's limiter is fresh; and nothing is lost.
fn is_clean(scenario: &Scenario) -> bool {
    scenario.loss() == 0 && scenario.hosts.iter().all(|host| !host.stale_endpoint && host.keepalive == 0)
}

fn wait(world: &mut World, limit: Time, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
    if world.run(limit, done) {
        return Ok(());
    }
    Err(format!("not {what} at {limit:?}: {:?} {:?}", world.status(0), world.status(1)))
}

#[test]
fn every_pair_connects_and_the_possible_ends_direct() {
    let worst = [const { Cell::new(Time::ZERO) }; 3];
    for_seeds("every_pair_connects_and_the_possible_ends_direct", 500, draw, |scenario, world| {
        let start = scenario.both_run();
        wait(world, start + secs(30), "up", both_up)?;
        let took = world.now().saturating_sub(start);
        let kind = usize::from(!is_clean(scenario));
        worst[kind].set(worst[kind].get().max(took));
        let rtt = 2 * scenario.sites.iter().map(|s| s.line.latency + s.line.jitter).sum::<Time>();
        if is_clean(scenario) && took > ms(2500) + 12 * rtt {
            return Err(format!("took {took:?} at a round trip of {rtt:?}"));
        }
        carries_data(world, secs(20))?;
        let possible = direct_path(&scenario.sites[0], &scenario.sites[1], scenario.shared);
        match possible {
            Possible::Yes => wait(world, start + secs(60), "direct", both_connected)?,
            Possible::No => wait(world, start + secs(60), "relayed", both_relayed)?,
            Possible::Told => world.run_until(start + secs(60)),
        }
        if possible == Possible::Yes {
            worst[2].set(worst[2].get().max(world.now().saturating_sub(start)));
        }
        let settled = world.now() + secs(60);
        world.run_until(settled + secs(600));
        is_calm(world, settled)?;
        let stayed = match possible {
            Possible::Yes => both_connected(world),
            Possible::No => both_relayed(world),
            Possible::Told => both_up(world),
        };
        if !stayed {
            return Err(format!("did not stay: {:?} {:?}", world.status(0), world.status(1)));
        }
        only_proven(world)?;
        carries_data(world, secs(20))
    });
    let [clean, other, direct] = worst.map(|time: Cell<Time>| time.get());
    println!(
        "up after at most {clean:?}, with loss or spent initiations {other:?}; direct after at most {direct:?}"
    );
}

/// The way between the two comes and goes, as the seed has it; then it stays, and so does the session on it.
#[test]
fn a_way_that_comes_and_goes_does_not_take_the_session_along() {
    let draw = |seed| {
        let mut scenario = draw(seed);
        scenario.shared = Shared::Nothing;
        for host in &mut scenario.hosts {
            host.ping_every = Some(ms(500));
        }
        scenario
    };
    let worst = Cell::new(0);
    let longest = Cell::new(Time::ZERO);
    for_seeds("a_way_that_comes_and_goes_does_not_take_the_session_along", 60, draw, |scenario, world| {
        if direct_path(&scenario.sites[0], &scenario.sites[1], scenario.shared) != Possible::Yes {
            return Ok(());
        }
        wait(world, scenario.both_run() + secs(60), "direct", both_connected)?;
        let chance = &mut Chance::seed_from_u64(scenario.seed);
        let began = world.now();
        let cuts = [Cut::Both, Cut::Towards(0), Cut::Towards(1)];
        let (up, down) = (chance.random_range(5..60), chance.random_range(15..60));
        while world.now() < began + secs(1800) {
            world.cut(cuts[chance.random_range(0..3)]);
            world.run_until(world.now() + secs(down));
            world.cut(Cut::Nothing);
            world.run_until(world.now() + secs(up));
        }
        let falls = falls_since(world, began);
        worst.set(worst.get().max(falls));
        if falls > 12 {
            return Err(format!("{falls} falls to the relay"));
        }
        wait(world, world.now() + secs(1300), "direct again", both_connected)?;
        longest.set(longest.get().max(world.now().saturating_sub(began + secs(1800))));
        let settled = world.now() + secs(30);
        world.run_until(settled + secs(300));
        is_calm(world, settled)?;
        only_proven(world)
    });
    println!(
        "at most {} falls to the relay in half an hour, direct again after at most {:?}",
        worst.get(),
        longest.get()
    );
}

/// How often a daemon had to take the session from a direct path to the relay; what it puts right is part of one fall.
fn falls_since(world: &World, began: Time) -> usize {
    let relayed = |endpoint: SocketAddr| endpoint.port() == RELAY_PORT || endpoint.ip().is_loopback();
    let mut last = Time::ZERO;
    let applications = world.record().applications().iter().filter(|applied| applied.at >= began);
    let down =
        applications.filter(|applied| relayed(applied.endpoint) && !applied.before.is_some_and(relayed));
    down.filter(|applied| applied.at > std::mem::replace(&mut last, applied.at) + secs(8)).count()
}

/// Relayed tunnels pause for at most 10 s; direct ones do not notice.
#[test]
fn a_server_that_restarts_is_found_and_bound_to_again() {
    let draw = |seed| {
        let mut scenario = draw(seed);
        // Not at the same pace: two WireGuards whose every packet meets at the same moments can go on crossing for ever.
        for ((host, site), every) in scenario.hosts.iter_mut().zip(&mut scenario.sites).zip([190, 230]) {
            host.ping_every = Some(ms(every));
            site.line.loss = 0;
        }
        scenario
    };
    let worst = Cell::new(Time::ZERO);
    for_seeds("a_server_that_restarts_is_found_and_bound_to_again", 150, draw, |scenario, world| {
        world.run_until(scenario.both_run() + secs(90));
        let relayed = both_relayed(world);
        if !relayed && !both_connected(world) {
            return Err(format!("not up: {:?} {:?}", world.status(0), world.status(1)));
        }
        let stopped = world.now();
        world.stop_server();
        world.run_until(stopped + secs(1));
        world.start_server();
        let started = world.now();
        let pinged = |w: &World| (0..2).all(|i| w.host(i).pongs_since(started + ms(400)) > 0);
        wait(world, started + secs(30), "answered", pinged)?;
        let pause = world.now().saturating_sub(stopped);
        if relayed {
            worst.set(worst.get().max(pause));
        }
        let limit = if relayed { secs(10) } else { secs(3) };
        if pause > limit {
            return Err(format!("a pause of {pause:?}, relayed: {relayed}"));
        }
        world.run_until(world.now() + secs(200));
        carries_data(world, secs(5))
    });
    println!("a pause of at most {:?}", worst.get());
}

#[test]
fn a_host_that_moves_anywhere_is_found_again() {
    let worst = Cell::new(Time::ZERO);
    for_seeds("a_host_that_moves_anywhere_is_found_again", 300, draw, |scenario, world| {
        let index = usize::try_from(scenario.seed % 2).unwrap();
        let place = Scenario::draw_place(scenario.seed);
        if scenario.shared != Shared::Nothing {
            return Ok(());
        }
        world.run_until(scenario.both_run() + secs(20));
        world.move_host(index, &place);
        let moved = world.now();
        wait(world, moved + secs(60), "up again", |w| both_up(w) && w.now() > moved + secs(1))?;
        carries_data(world, secs(60))?;
        worst.set(worst.get().max(world.now().saturating_sub(moved)));
        world.run_until(moved + secs(120));
        let possible = direct_path(&place, &scenario.sites[1 - index], Shared::Nothing);
        let there = match possible {
            Possible::Yes => both_connected(world),
            Possible::No => both_relayed(world),
            Possible::Told => both_up(world),
        };
        if !there {
            return Err(format!("{possible:?}: {:?} {:?}", world.status(0), world.status(1)));
        }
        only_proven(world)?;
        carries_data(world, secs(20))
    });
    println!("found again after at most {:?}", worst.get());
}
