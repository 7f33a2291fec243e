//! The server is away while machines restart: peers are found where they were.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::judge::{both_connected, only_proven};
use common::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC, behind, public};
use wireplug_core::scheduler::{Reason, State};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::secs;
use wireplug_sim::site::Site;
use wireplug_sim::world::World;

/// Two hosts that were connected for a minute before the server went.
fn abandoned(sites: [Site; 2], first_is_lower: bool) -> World {
    let scenario = Scenario { first_is_lower, ..Scenario::of(sites) };
    let mut world = World::new(&scenario, std::env::var("WIREPLUG_SIM_TRACE").is_ok());
    world.run_until(secs(60));
    assert!(both_connected(&world), "{}", show(&world));
    world.stop_server();
    world.run_until(secs(70));
    world
}

fn show(world: &World) -> String {
    format!("{:?}\n{:?}\n{}", world.status(0), world.status(1), world.trace())
}

#[test]
fn a_machine_that_restarts_finds_its_peer_where_it_was() {
    for sites in [
        [behind(PORT_RESTRICTED), behind(PORT_RESTRICTED)],
        [behind(PORT_RESTRICTED), public()],
        [public(), behind(FULL_CONE)],
        [behind(SYMMETRIC), public()],
    ] {
        // Away for a moment, and for longer than the NATs keep their mappings.
        for (who, away) in [(&[0][..], 5), (&[1], 5), (&[0, 1], 5), (&[0], 120), (&[1], 120), (&[0, 1], 120)]
        {
            for first_is_lower in [true, false] {
                let mut world = abandoned(sites.clone(), first_is_lower);
                for index in who {
                    world.reboot_host(*index, secs(away));
                }
                let up = world.now() + secs(away);
                let answered = world.run(up + secs(10), |w| (0..2).all(|i| w.host(i).pongs_since(up) > 0));
                assert!(answered, "{} / {} {who:?} {away} s\n{}", sites[0], sites[1], show(&world));
                only_proven(&world).unwrap();
            }
        }
    }
}

/// Both sides' NATs give other ports than before: without a server there is nothing to be done, and that is said.
#[test]
fn what_cannot_be_found_is_told() {
    let mut world = abandoned([behind(SYMMETRIC), behind(FULL_CONE)], true);
    for index in 0..2 {
        world.reboot_host(index, secs(120));
    }
    world.run_until(world.now() + secs(200));
    for index in 0..2 {
        let status = world.status(index).unwrap();
        let told = matches!(status.reason, Some(Reason::NoServer(_) | Reason::Unproven));
        assert!(status.state == State::Unreachable && told, "{}", show(&world));
    }
    only_proven(&world).unwrap();
    world.start_server();
    assert!(world.run(world.now() + secs(20), both_connected), "{}", show(&world));
}
