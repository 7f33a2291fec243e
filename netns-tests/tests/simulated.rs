//! Every cell of the matrix in the simulator, with the real scheduler, judged by the same oracle as in namespaces.

use std::time::Duration;

use wireplug_core::scheduler::{PeerStatus, State};
use wireplug_lab::{Cell, Nat, PathEnd, Tier, WIREGUARD_PORT};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::V4;
use wireplug_sim::world::World;
use wireplug_sim::{ms, secs};

/// How long a pair may take to carry its first ping and to come to its path.
const LIMIT: Duration = secs(20);

/// How long it must stay there: longer than a round, and than the one that follows on a relay.
const STAY: Duration = secs(120);

#[test]
fn every_cell_comes_to_its_path_and_stays() {
    let failed: Vec<String> = Cell::all()
        .into_iter()
        .flat_map(|cell| [true, false].map(|first_is_lower| (cell, first_is_lower)))
        .filter_map(|(cell, first_is_lower)| {
            let error = judge(cell, first_is_lower).err()?;
            let initiator = if first_is_lower { "first" } else { "second" };
            Some(format!("{cell}, the {initiator} calls: {error}"))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn judge(cell: Cell, first_is_lower: bool) -> Result<(), String> {
    let sites = cell.nats().map(Nat::place);
    let mut scenario = Scenario { shared: cell.shared(), first_is_lower, ..Scenario::of(sites) }.relayed();
    for host in &mut scenario.hosts {
        host.ping_every = Some(ms(100));
    }
    let world = &mut World::new(&scenario, false);
    let (expected, show) = (cell.expected(), |world: &World| [0, 1].map(|index| world.status(index)));
    if !world.run(LIMIT, |world| (0..2).all(|index| !world.host(index).pongs().is_empty())) {
        return Err(format!("no ping was answered: {:?}", show(world)));
    }
    if !world.run(LIMIT, |world| path(cell, world) == Some(expected)) {
        return Err(format!("{:?} instead of {expected:?}: {:?}", path(cell, world), show(world)));
    }
    world.run_until(world.now() + STAY);
    if path(cell, world) != Some(expected) {
        return Err(format!("{:?} after {expected:?}: {:?}", path(cell, world), show(world)));
    }
    let late = world.now();
    world.run_until(late + secs(2));
    if (0..2).any(|index| world.host(index).pongs_since(late) < 15) {
        return Err("pings are lost".to_owned());
    }
    Ok(())
}

/// The path in use, once both sides say that there is one.
fn path(cell: Cell, world: &World) -> Option<Tier> {
    let [a, b] = cell.nats();
    Some(cell.path([end(b, &world.status(0)?)?, end(a, &world.status(1)?)?]))
}

/// Where a side sends to that says this of its peer, which is at that kind of place.
fn end(there: Nat, status: &PeerStatus) -> Option<PathEnd> {
    let settled = status.proven && matches!(status.state, State::Connected | State::Relayed);
    let endpoint = status.endpoint.filter(|_| settled)?;
    let (ip, port) = (endpoint.ip(), endpoint.addr().port());
    let own = ip.is_ipv6() || there.place().v4 == V4::Public;
    Some(match status.state {
        State::Relayed if endpoint.is_on_this_host() => PathEnd::RelayTls,
        State::Relayed => PathEnd::Relay,
        _ if status.strategy.as_ref().is_some_and(|name| name.as_str() == "lan-mdns") => PathEnd::Lan,
        _ if own => PathEnd::Host,
        _ if there.gateway().is_some() && port == WIREGUARD_PORT => PathEnd::Mapped,
        _ => PathEnd::Nat,
    })
}
