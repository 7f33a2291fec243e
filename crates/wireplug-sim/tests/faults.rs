//! What breaks on hosts and networks, one fault a test, on every kind of pair: how long it parts them at most.

mod common;

use common::judge::{both_up, for_seeds, only_proven};
use common::settle::{PAIRS, ends_well, pair, parted, settle, survives, unparted};
use common::{PORT_RESTRICTED, behind};
use wireplug_sim::daemon::Daemon;
use wireplug_sim::link::Link;
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{Site, V6};
use wireplug_sim::wireguard::REJECT_AFTER;
use wireplug_sim::world::World;
use wireplug_sim::{Time, ms, secs};

/// What both ends notice at once, and repair over a server that is there.
const NOTICED: Time = secs(8);

/// What nobody is told of: some seconds of silence, then checks, and WireGuard's own handshake where that is spent.
const SILENT: Time = secs(20);

fn first(scenario: &Scenario) -> usize {
    usize::from(scenario.seed % 2 == 1)
}

/// On a bad line the pair comes up in this time, and is never parted for longer than that one.
fn lives_on(test: &str, line: impl Fn(Link) -> Link, up: Time, longest: Time) {
    let draw = |seed| {
        let mut scenario = pair(seed);
        let line = line(scenario.sites[0].line);
        scenario.sites[0].line = line;
        scenario
    };
    let worst = std::cell::Cell::new([Time::ZERO; 2]);
    for_seeds(test, PAIRS, draw, |_, world| {
        if !world.run(up, both_up) {
            return Err(format!("not up after {up:?}: {:?} {:?}", world.status(0), world.status(1)));
        }
        let [slowest, _] = worst.get();
        worst.set([slowest.max(world.now()), worst.get()[1]]);
        let end = world.now() + secs(300);
        while world.now() < end {
            let took = parted(world, |_| {}, longest)?;
            worst.set([worst.get()[0], worst.get()[1].max(took)]);
        }
        only_proven(world)
    });
    let [slowest, parted] = worst.get();
    println!("{test}: up after at most {slowest:?}, then parted for at most {parted:?}");
}

/// A handshake over such a line needs two packets to arrive, which half of them do, and is tried every 5 s.
#[test]
fn a_third_of_the_packets_may_be_lost() {
    let lossy = |line| Link { loss: 300, ..line };
    lives_on("a_third_of_the_packets_may_be_lost", lossy, secs(60), secs(30));
}

#[test]
fn packets_may_arrive_twice() {
    let doubling = |line| Link { doubled: 500, ..line };
    lives_on("packets_may_arrive_twice", doubling, secs(5), secs(2));
}

#[test]
fn packets_may_overtake_each_other_by_half_a_second() {
    let late = |line| Link { late: 300, ..line };
    lives_on("packets_may_overtake_each_other_by_half_a_second", late, secs(15), secs(8));
}

#[test]
fn all_of_that_may_be_at_once() {
    let bad = |line| Link { loss: 200, doubled: 200, late: 200, jitter: ms(50), ..line };
    lives_on("all_of_that_may_be_at_once", bad, secs(60), secs(30));
}

/// The wall clock is nowhere in what is decided; only WireGuard's time stamps are made from it. Forward, they go on
/// rising, and nothing is noticed at all.
#[test]
fn a_clock_may_be_set_forward() {
    for_seeds("a_clock_may_be_set_forward", PAIRS, pair, |scenario, world| {
        settle(world)?;
        world.step_clock(first(scenario), 86_400 * 365);
        unparted(world, secs(500), ms(600))?;
        ends_well(world)
    });
}

/// Back, WireGuard's initiations of that side are refused (whitepaper section 5.1) until it has caught up: the other side
/// makes the next session, when this one is over.
#[test]
fn a_clock_may_be_set_back() {
    for_seeds("a_clock_may_be_set_back", PAIRS, pair, |scenario, world| {
        settle(world)?;
        world.step_clock(first(scenario), -3600);
        unparted(world, 3 * REJECT_AFTER, SILENT)?;
        ends_well(world)
    });
}

#[test]
fn a_router_may_forget_its_mappings() {
    survives("a_router_may_forget_its_mappings", SILENT, |scenario, world| {
        world.reboot_routers(first(scenario));
    });
}

#[test]
fn a_router_may_come_back_with_another_address() {
    survives("a_router_may_come_back_with_another_address", SILENT, |scenario, world| {
        world.renumber_router(first(scenario));
    });
}

#[test]
fn an_address_may_change_on_the_same_link() {
    survives("an_address_may_change_on_the_same_link", NOTICED, |scenario, world| {
        world.readdress(first(scenario), std::net::IpAddr::is_ipv4);
    });
}

/// Two sites with IPv6, which is the path in use.
fn with_v6(seed: u64) -> Scenario {
    let mut scenario = pair(seed);
    for site in &mut scenario.sites {
        site.v6 = if seed.is_multiple_of(2) { V6::Open } else { V6::Firewalled(secs(60)) };
    }
    scenario
}

#[test]
fn ipv6_may_be_renumbered() {
    for_seeds("ipv6_may_be_renumbered", PAIRS, with_v6, |scenario, world| {
        settle(world)?;
        parted(world, |world| world.readdress(first(scenario), std::net::IpAddr::is_ipv6), NOTICED)?;
        ends_well(world)
    });
}

#[test]
fn ipv4_may_go_and_come_while_ipv6_stays() {
    for_seeds("ipv4_may_go_and_come_while_ipv6_stays", PAIRS, with_v6, |scenario, world| {
        settle(world)?;
        for without in [true, false] {
            parted(world, |world| world.without_v4(first(scenario), without), NOTICED)?;
            world.run_until(world.now() + secs(60));
        }
        ends_well(world)
    });
}

/// The other family than before is all that is left to one side.
#[test]
fn a_host_with_both_families_may_keep_only_ipv6() {
    let draw = |seed| {
        let mut scenario = pair(seed).relayed();
        scenario.sites[0] = Site { v6: V6::Firewalled(secs(60)), ..behind(PORT_RESTRICTED) };
        scenario
    };
    for_seeds("a_host_with_both_families_may_keep_only_ipv6", PAIRS, draw, |_, world| {
        settle(world)?;
        for without in [true, false] {
            parted(world, |world| world.without_v4(0, without), NOTICED)?;
            world.run_until(world.now() + secs(60));
        }
        ends_well(world)
    });
}

#[test]
fn both_may_roam_at_the_same_moment() {
    let draw = |seed| pair(seed).relayed();
    for_seeds("both_may_roam_at_the_same_moment", PAIRS, draw, |scenario, world| {
        settle(world)?;
        let places = pair(scenario.seed * 31 + 5).sites;
        let roam = |world: &mut World| {
            for (index, place) in places.iter().enumerate() {
                world.move_host(index, place);
            }
        };
        parted(world, roam, NOTICED)?;
        ends_well(world)
    });
}

#[test]
fn a_link_may_go_down_and_up() {
    survives("a_link_may_go_down_and_up", NOTICED, |scenario, world| {
        world.link(first(scenario), false);
        world.run_until(world.now() + secs(2 + scenario.seed % 300));
        world.link(first(scenario), true);
    });
}

#[test]
fn a_host_may_sleep() {
    survives("a_host_may_sleep", NOTICED, |scenario, world| {
        let time = [secs(10), secs(100), secs(4000)][usize::try_from(scenario.seed % 3).unwrap_or(0)];
        world.sleep(first(scenario), time);
        world.run_until(world.now() + time);
    });
}

/// It has no session and no endpoint, and its peer knows nothing of that.
#[test]
fn a_host_may_crash_and_start_again() {
    survives("a_host_may_crash_and_start_again", SILENT, |scenario, world| {
        world.reboot_host(first(scenario), secs(30));
        world.run_until(world.now() + secs(30));
    });
}

#[test]
fn a_device_may_be_made_anew() {
    survives("a_device_may_be_made_anew", SILENT, |scenario, world| {
        world.new_device(first(scenario), (scenario.seed % 4 < 2).then_some(40_404));
    });
}

/// A hundred times, to and fro: every time it is there again at once, and neither scheduler nor daemon holds more in the
/// end than in the beginning.
#[test]
fn a_hundred_roams_leave_nothing_behind() {
    for_seeds(
        "a_hundred_roams_leave_nothing_behind",
        14,
        |seed| pair(seed * 7).relayed(),
        |scenario, world| {
            settle(world)?;
            let mut heaviest = [0; 2];
            for roam in 0..100 {
                let place = pair(scenario.seed * 131 + roam * 5).sites[0].clone();
                let took =
                    parted(world, |world| world.move_host(usize::from(roam % 3 == 0), &place), NOTICED);
                took.map_err(|why| format!("roam {roam} to {place}: {why}"))?;
                world.run_until(world.now() + secs(20));
                let weight: usize = (0..2).filter_map(|i| world.host(i).daemon()).map(Daemon::weight).sum();
                let part = usize::from(roam >= 50);
                heaviest[part] = heaviest[part].max(weight);
            }
            if heaviest[1] > heaviest[0] * 5 / 4 {
                return Err(format!("heavier and heavier: {heaviest:?}"));
            }
            ends_well(world)
        },
    );
}
