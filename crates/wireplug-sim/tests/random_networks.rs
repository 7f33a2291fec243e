//! The real scheduler over random pairs of networks: what the oracle calls possible becomes a direct tunnel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::judge::{both_connected, carries_data, for_seeds, is_calm, only_proven};
use wireplug_core::scheduler::State;
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::{Scenario, Start};
use wireplug_sim::site::{Shared, V4};
use wireplug_sim::world::World;
use wireplug_sim::{Time, ms, secs};

#[test]
fn the_possible_connects_and_stays() {
    for_seeds("the_possible_connects_and_stays", 1000, Scenario::draw, |scenario, world| {
        let possible = direct_path(&scenario.sites[0], &scenario.sites[1], scenario.shared);
        match possible {
            Possible::Yes => connects(scenario, world),
            Possible::No => is_told(scenario, world),
            Possible::Told => {
                world.run_until(scenario.both_run() + secs(60));
                Ok(())
            }
        }?;
        only_proven(world)
    });
}

fn connects(scenario: &Scenario, world: &mut World) -> Result<(), String> {
    // Twenty seconds, and WireGuard's limiter twice: with loss, stale endpoints and keepalives it rules.
    let limit = scenario.both_run() + secs(30);
    if !world.run(limit, both_connected) {
        return Err(format!("not connected at {limit:?}: {:?} {:?}", world.status(0), world.status(1)));
    }
    note_time(scenario, world);
    is_quick(scenario, world)?;
    carries_data(world, secs(20))?;
    let settled = world.now() + secs(15);
    world.run_until(settled + secs(600));
    is_calm(world, settled)?;
    if !both_connected(world) {
        return Err(format!("did not stay: {:?} {:?}", world.status(0), world.status(1)));
    }
    carries_data(world, secs(20))
}

fn is_told(scenario: &Scenario, world: &mut World) -> Result<(), String> {
    let limit = scenario.both_run() + secs(60);
    for index in 0..2 {
        let told = world.run(limit, |w| {
            w.status(index).is_some_and(|s| s.state == State::Unreachable && s.reason.is_some())
        });
        if !told {
            return Err(format!("host {index} was told nothing: {:?}", world.status(index)));
        }
    }
    Ok(())
}

/// A tunnel set up by hand works; then both daemons start, and may find something better. Nothing is lost, so every
/// ping that is not answered is a tunnel risked.
#[test]
fn a_live_tunnel_is_never_risked() {
    let draw = |seed| {
        let mut scenario = Scenario::draw(seed);
        scenario.shared = Shared::Nothing;
        let [one, other] = &mut scenario.sites;
        (one.line.loss, other.line.loss) = (0, 0);
        (other.v4, other.host_firewall, other.no_udp) = (V4::Public, None, false);
        scenario.hosts = scenario.hosts.map(|host| Start {
            port: 51820,
            daemon_at: host.daemon_at.map(|at| at + secs(6)),
            stale_endpoint: false,
            ping_every: Some(secs(1)),
            ..host
        });
        scenario
    };
    for_seeds("a_live_tunnel_is_never_risked", 300, draw, |scenario, world| {
        let one = &scenario.sites[0];
        if one.no_udp || one.v4 == V4::None {
            return Ok(());
        }
        world.set_by_hand(0, Some(SocketAddr::from(([5, 0, 1, 1], 51820))), None);
        world.run_until(secs(120));
        only_proven(world)?;
        for index in 0..2 {
            // The first pings meet the first handshake, the last ones are under way.
            let answered: BTreeSet<u64> =
                world.host(index).pongs().iter().map(|(_, number)| *number).collect();
            let lost = (6..world.host(index).pings() - 2).find(|number| !answered.contains(number));
            if let Some(number) = lost {
                return Err(format!("host {index}: ping {number} was lost"));
            }
        }
        Ok(())
    });
}

/// Where nothing is lost and no initiation was spent beforehand: 0.4 s and 8 round trips.
fn is_quick(scenario: &Scenario, world: &World) -> Result<(), String> {
    let took = world.now().saturating_sub(scenario.both_run());
    let rtt = 2 * scenario.sites.iter().map(|s| s.line.latency + s.line.jitter).sum::<Time>();
    let quick = took <= ms(400) + 8 * rtt;
    if is_clean(scenario) && scenario.loss() == 0 && !quick {
        return Err(format!("took {took:?} at a round trip of {rtt:?}"));
    }
    Ok(())
}

/// No stale endpoint and no keepalive: WireGuard's limiter is fresh.
fn is_clean(scenario: &Scenario) -> bool {
    scenario.hosts.iter().all(|host| !host.stale_endpoint && host.keepalive == 0)
}

/// With `WIREPLUG_SIM_TIMES` set, a line for each tunnel: how long it took, and what from.
fn note_time(scenario: &Scenario, world: &World) {
    if std::env::var("WIREPLUG_SIM_TIMES").is_ok() {
        let took = world.now().saturating_sub(scenario.both_run()).as_secs_f64();
        let rtt: f64 =
            scenario.sites.iter().map(|s| 2.0 * (s.line.latency + s.line.jitter / 2).as_secs_f64()).sum();
        let clean = is_clean(scenario);
        println!("TIME {took:.3} rtt {rtt:.3} loss {} clean {clean} seed {}", scenario.loss(), scenario.seed);
    }
}

/// After a move, the pair is another one, and the oracle is asked anew.
#[test]
fn a_host_that_moves_anywhere_possible_is_found_again() {
    for_seeds(
        "a_host_that_moves_anywhere_possible_is_found_again",
        300,
        Scenario::draw,
        |scenario, world| {
            let index = usize::try_from(scenario.seed % 2).unwrap();
            let place = Scenario::draw_place(scenario.seed);
            let stays = &scenario.sites[1 - index];
            // Who stays behind a carrier's NAT alone is where it was; a guest's home is the host's.
            let alone = scenario.shared == Shared::Nothing;
            if !alone || direct_path(&place, stays, Shared::Nothing) != Possible::Yes {
                return Ok(());
            }
            world.run_until(scenario.both_run() + secs(20));
            world.move_host(index, &place);
            let moved = world.now();
            let limit = moved + secs(60);
            if !world.run(limit, |w| both_connected(w) && w.now() > moved + secs(1)) {
                return Err(format!(
                    "not connected at {limit:?}: {:?} {:?}",
                    world.status(0),
                    world.status(1)
                ));
            }
            carries_data(world, secs(60))?;
            let settled = world.now() + secs(20);
            world.run_until(settled + secs(300));
            is_calm(world, settled)?;
            only_proven(world)?;
            carries_data(world, secs(20))
        },
    );
}
