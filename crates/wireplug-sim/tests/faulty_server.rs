//! A server that is killed, cut off, slow or out of its mind: tunnels go on, and what needs it is there soon after it is.

mod common;

use common::judge::{both_connected, both_up, for_seeds, only_proven};
use common::settle::{PAIRS, ends_well, pair, parted, settle, unparted};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::server::Temper;
use wireplug_sim::world::World;
use wireplug_sim::{Time, ms, secs};

/// How long after the server is back a pair that needs it may be parted: it is found after some seconds.
const AFTER_THE_SERVER: Time = secs(15);

/// Direct tunnels notice nothing of a server that breaks; relayed ones are there again soon after it.
fn outlived(test: &str, breaks: impl Fn(&mut World), mends: impl Fn(&mut World)) {
    for_seeds(test, PAIRS, pair, |scenario, world| {
        settle(world)?;
        let direct = both_connected(world);
        breaks(world);
        let end = world.now() + secs(60 + 10 * (scenario.seed % 60));
        if direct {
            unparted(world, end.saturating_sub(world.now()), ms(600))?;
        }
        world.run_until(end);
        mends(world);
        parted(world, |_| {}, if direct { ms(600) } else { AFTER_THE_SERVER })?;
        ends_well(world)
    });
}

#[test]
fn a_server_may_be_killed() {
    outlived("a_server_may_be_killed", World::stop_server, World::start_server);
}

#[test]
fn a_server_may_be_cut_off() {
    outlived("a_server_may_be_cut_off", World::cut_off_server, World::start_server);
}

#[test]
fn a_server_may_answer_garbage() {
    let restart = |world: &mut World| {
        world.stop_server();
        world.turn_server(Temper::Honest);
        world.start_server();
    };
    outlived("a_server_may_answer_garbage", |world| world.turn_server(Temper::Garbage), restart);
}

/// Nothing is set, and nobody is told a lie.
#[test]
fn garbage_from_the_beginning_sets_nothing() {
    let draw = |seed| Scenario { temper: Temper::Garbage, ..pair(seed) };
    for_seeds("garbage_from_the_beginning_sets_nothing", PAIRS, draw, |_, world| {
        world.run_until(secs(120));
        match world.record().applications() {
            [] => Ok(()),
            applied => Err(format!("{applied:?}")),
        }
    });
}

/// Every word of it comes two seconds late, the answers of its STUN and what it relays too.
#[test]
fn a_server_may_be_slow() {
    for_seeds("a_server_may_be_slow", PAIRS, pair, |_, world| {
        world.slow_server(secs(2));
        if !world.run(secs(40), both_up) {
            return Err(format!("not up: {:?} {:?}", world.status(0), world.status(1)));
        }
        parted(world, |_| {}, secs(15))?;
        world.run_until(world.now() + secs(600));
        parted(world, |_| {}, secs(15))?;
        only_proven(world)
    });
}
