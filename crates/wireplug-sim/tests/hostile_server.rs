//! A hostile server can delay; it cannot have an endpoint applied that the peer did not prove, nor end a tunnel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::judge::{both_connected, carries_data, for_seeds, is_calm, only_proven};
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::secs;
use wireplug_sim::server::Temper;
use wireplug_sim::world::World;

const VICTIM: &str = "5.5.5.5:53";

fn tempers() -> [Temper; 10] {
    Temper::all(VICTIM.parse().unwrap())
}

fn draw(seed: u64) -> Scenario {
    let tempers = tempers();
    let count = tempers.len() as u64;
    let index = usize::try_from(seed % count).unwrap();
    Scenario { temper: tempers[index], ..Scenario::draw(seed / count) }
}

#[test]
fn nothing_unproven_is_applied_for_a_hostile_server() {
    for_seeds("nothing_unproven_is_applied_for_a_hostile_server", 500, draw, |scenario, world| {
        world.run_until(scenario.both_run() + secs(90));
        only_proven(world)?;
        let victim = VICTIM.parse().unwrap();
        match world.record().applications().iter().find(|a| a.endpoint == victim) {
            Some(applied) => Err(format!("the victim was applied: {applied:?}")),
            None => Ok(()),
        }
    });
}

/// What only repeats or misdelivers cannot even delay much.
#[test]
fn repeated_and_misdelivered_offers_do_not_prevent_a_tunnel() {
    let harmless = [Temper::Replays, Temper::Swaps, Temper::Doubles];
    let draw = |seed: u64| {
        let temper = harmless[usize::try_from(seed % 3).unwrap()];
        Scenario { temper, ..Scenario::draw(seed) }
    };
    for_seeds("repeated_and_misdelivered_offers_do_not_prevent_a_tunnel", 150, draw, |scenario, world| {
        let [one, other] = &scenario.sites;
        if direct_path(one, other, scenario.shared) != Possible::Yes {
            return Ok(());
        }
        let limit = scenario.both_run() + secs(60);
        if world.run(limit, both_connected) {
            carries_data(world, secs(20))
        } else {
            Err("not connected".to_owned())
        }
    });
}

#[test]
fn a_server_that_turns_hostile_does_not_end_a_tunnel() {
    for_seeds("a_server_that_turns_hostile_does_not_end_a_tunnel", 150, Scenario::draw, |scenario, world| {
        if !world.run(scenario.both_run() + secs(60), both_connected) {
            return Ok(());
        }
        carries_data(world, secs(30))?;
        let settled = world.now() + secs(15);
        world.run_until(settled);
        let tempers = tempers();
        world.turn_server(tempers[usize::try_from(scenario.seed).unwrap() % tempers.len()]);
        restart_one(world, scenario);
        world.run_until(settled + secs(120));
        is_calm(world, settled)?;
        only_proven(world)?;
        carries_data(world, secs(20))
    });
}

/// A restart makes both talk to the server again.
fn restart_one(world: &mut World, scenario: &Scenario) {
    let index = usize::try_from(scenario.seed % 2).unwrap();
    world.kill_daemon(index);
    world.start_daemon(index, world.now() + secs(1));
}
