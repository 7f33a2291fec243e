//! The real scheduler over random pairs of networks: what the oracle calls possible becomes a direct tunnel.

mod common;

use common::judge::{both_connected, carries_data, for_seeds, is_calm, only_proven};
use wireplug_core::scheduler::State;
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::world::World;
use wireplug_sim::{secs};

#[test]
fn the_possible_connects_and_stays() {
    for_seeds("the_possible_connects_and_stays", 500, Scenario::draw, |scenario, world| {
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
    let limit = scenario.both_run() + secs(30);
    if !world.run(limit, both_connected) {
        return Err(format!("not connected at {limit:?}: {:?} {:?}", world.status(0), world.status(1)));
    }
    if std::env::var("WIREPLUG_SIM_TIMES").is_ok() { println!("TIME {:?} {}", world.now().saturating_sub(scenario.both_run()).as_secs_f64(), scenario.seed); }
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
