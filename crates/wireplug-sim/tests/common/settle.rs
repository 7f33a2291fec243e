//! Pairs of many kinds that have found each other, and how long a fault parts them.

use wireplug_sim::nat::{Behaviour, Filtering, Ports};
use wireplug_sim::oracle::{Possible, direct_path};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::{Shared, Site, V6};
use wireplug_sim::world::World;
use wireplug_sim::{Time, ms, secs};

use super::judge::{both_connected, both_relayed, both_up, for_seeds, only_proven};
use super::{FULL_CONE, PORT_RESTRICTED, SYMMETRIC, behind, public};

/// Behind a NAT that gives another port than the inner one.
const MOVING: Behaviour = Behaviour { ports: Ports::Random, ..PORT_RESTRICTED };
/// Behind one that lets in whoever was sent to, from any port.
const RESTRICTED: Behaviour = Behaviour { filtering: Filtering::AddressDependent, ..MOVING };

/// How many pairs there are.
pub(crate) const PAIRS: u64 = 7 * 7 * 2;

fn kind(number: u64) -> Site {
    let v6 = |site: Site| Site { v6: V6::Firewalled(secs(60)), ..site };
    match number {
        0 => public(),
        1 => behind(PORT_RESTRICTED),
        2 => behind(MOVING),
        3 => behind(RESTRICTED),
        4 => behind(FULL_CONE),
        5 => behind(SYMMETRIC),
        _ => v6(behind(PORT_RESTRICTED)),
    }
}

/// A pair by number: every kind with every other, either side with the lower key, and a server that relays, for all of
/// them or for those that need it not.
pub(crate) fn pair(seed: u64) -> Scenario {
    let sites = [kind(seed % 7), kind(seed / 7 % 7)];
    let mut scenario =
        Scenario { seed, first_is_lower: (seed / 49).is_multiple_of(2), ..Scenario::of(sites) };
    for (host, every) in scenario.hosts.iter_mut().zip([390, 430]) {
        host.ping_every = Some(ms(every));
    }
    let direct = direct_path(&scenario.sites[0], &scenario.sites[1], Shared::Nothing) == Possible::Yes;
    if direct && seed.is_multiple_of(3) { scenario } else { scenario.relayed() }
}

/// Runs a fault on every pair: it parts a settled one for at most so long, and then all is as the oracle says.
pub(crate) fn survives(test: &str, longest: Time, fault: impl Fn(&Scenario, &mut World)) {
    let worst = std::cell::Cell::new(Time::ZERO);
    for_seeds(test, PAIRS, pair, |scenario, world| {
        settle(world)?;
        // Not all pairs are hit at the same moment of their pings and looks.
        world.run_until(world.now() + ms(scenario.seed * 37 % 2000));
        let took = parted(world, |world| fault(scenario, world), longest + secs(60))?;
        worst.set(worst.get().max(took));
        if took > longest {
            return Err(format!("parted for {took:?}"));
        }
        ends_well(world)
    });
    println!("{test}: parted for at most {:?}", worst.get());
}

/// Waits until a pair is as good as it can be.
pub(crate) fn settle(world: &mut World) -> Result<(), String> {
    if !world.run(secs(30), both_up) {
        return Err(format!("not up: {:?} {:?}", world.status(0), world.status(1)));
    }
    world.run_until(world.now() + secs(60));
    Ok(())
}

/// Lets something happen, and gives how long it takes until pings of both sides that were sent after it are answered.
pub(crate) fn parted(world: &mut World, fault: impl FnOnce(&mut World), limit: Time) -> Result<Time, String> {
    fault(world);
    let began = world.now();
    let sent = [0, 1].map(|index| world.host(index).pings());
    let back =
        |w: &World| (0..2).all(|i| w.host(i).pongs().last().is_some_and(|(_, number)| *number > sent[i]));
    if world.run(began + limit, back) {
        return Ok(world.now().saturating_sub(began));
    }
    Err(format!("parted for {limit:?}: {:?} {:?}", world.status(0), world.status(1)))
}

/// Nobody is parted for longer than this in all that time.
pub(crate) fn unparted(world: &mut World, time: Time, longest: Time) -> Result<(), String> {
    let end = world.now() + time;
    while world.now() < end {
        parted(world, |_| {}, longest)?;
    }
    Ok(())
}

/// Some minutes later it is as the oracle says, and nothing unproven was set.
pub(crate) fn ends_well(world: &mut World) -> Result<(), String> {
    let [one, other] = [0, 1].map(|index| world.site(index));
    let as_it_should = match direct_path(&one, &other, Shared::Nothing) {
        Possible::Yes => both_connected,
        Possible::No => both_relayed,
        Possible::Told => both_up,
    };
    if !world.run(world.now() + secs(600), as_it_should) {
        return Err(format!("{one}\n{other}\n{:?} {:?}", world.status(0), world.status(1)));
    }
    let took = parted(world, |_| {}, secs(5))?;
    if took > secs(2) {
        return Err(format!("a ping took {took:?} in the end"));
    }
    only_proven(world)
}
