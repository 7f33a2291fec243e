//! Several servers: all are used at once, and any of them may be down.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use wireplug_lab::{End, Nat, Pair, PairOptions, Result, Server, wait_for};

const EASY: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// Where nothing but a relay is left.
const HARD: [Nat; 2] = [Nat::Symmetric, Nat::Symmetric];

/// How long a daemon may take to find a server, or to notice that one is gone.
const NOTICED: Duration = Duration::from_secs(45);

/// How long a pair may take to connect anew over the server that is left.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a tunnel may stand still when the relay that it goes over dies: a silent path is noticed by what
/// WireGuard's own counters say.
const OTHER_RELAY: Duration = Duration::from_secs(40);

/// A pair with a second server, which the given sides know too.
fn with_second(
    label: &str,
    nats: [Nat; 2],
    knowing: &[fn(&Pair) -> &End],
    work: impl FnOnce(&Pair, &Server) -> Result<()>,
) {
    let work = |pair: &Pair| {
        let second = pair.lab.server_called("second")?;
        second.start()?;
        for side in knowing {
            add_server(side(pair), &second);
        }
        work(pair, &second)
    };
    Pair::with(label, nats, &PairOptions::default(), work).unwrap();
}

fn a(pair: &Pair) -> &End {
    &pair.a
}

fn b(pair: &Pair) -> &End {
    &pair.b
}

/// Adds a server to a side's configuration.
fn add_server(side: &End, server: &Server) {
    let text = fs::read_to_string(&side.config).unwrap();
    let (url, pin) = (server.url(side.host.nat()), server.pin().unwrap());
    fs::write(&side.config, format!("{text}\n[[server]]\nurl = \"{url}\"\npin = \"{pin}\"\n")).unwrap();
}

/// Neither side knows any more where the other is: only offers can tell.
fn forget(pair: &Pair) -> Result<()> {
    pair.a.forget_endpoint(&pair.b)?;
    pair.b.forget_endpoint(&pair.a)
}

#[test]
fn a_server_that_dies_is_not_missed_and_the_other_tells_where_peers_are() {
    with_second("servers-die", EASY, &[a, b], |pair, second| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        for daemon in &daemons {
            daemon.wait_servers(&[true, true], NOTICED)?;
        }
        pair.server.kill();
        pair.check_pings(100)?;
        for daemon in &daemons {
            daemon.wait_servers(&[false, true], NOTICED)?;
        }
        forget(pair)?;
        pair.wait_for_ping(CONNECT)?;
        pair.check_direct(&daemons)?;
        // The one comes back, then the other dies.
        pair.server.start()?;
        for daemon in &daemons {
            daemon.wait_servers(&[true, true], NOTICED)?;
        }
        second.kill();
        for daemon in &daemons {
            daemon.wait_servers(&[true, false], NOTICED)?;
        }
        forget(pair)?;
        pair.wait_for_ping(CONNECT)?;
        pair.check_direct(&daemons)
    });
}

/// One side knows a server that the other does not know: they meet at the one that both know.
#[test]
fn one_server_in_common_is_enough() {
    with_second("servers-common", EASY, &[a], |pair, _| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        daemons[0].wait_servers(&[true, true], NOTICED)?;
        daemons[1].wait_servers(&[true], NOTICED)
    });
}

#[test]
fn a_tunnel_moves_to_the_other_servers_relay_when_its_own_dies() {
    with_second("servers-relay", HARD, &[a, b], |pair, second| {
        let daemons = pair.connect()?;
        for daemon in &daemons {
            daemon.wait_servers(&[true, true], NOTICED)?;
        }
        let servers = [&pair.server, second];
        let both = || pair.both_ways().map(|(here, _)| here.wireguard.first_endpoint());
        let relay_of = |server: &Server, at: Option<SocketAddr>| at.is_some_and(|at| server.is_relay(at));
        let mut used = None;
        wait_for("one relay for both sides", CONNECT, || {
            let ends = both();
            used = servers.iter().position(|server| ends.iter().all(|at| relay_of(server, *at)));
            Ok(used)
        })?;
        let (dies, left) = if used == Some(0) { (servers[0], servers[1]) } else { (servers[1], servers[0]) };
        dies.kill();
        // As people have it: something is sent all the time.
        pair.wait_for_ping(OTHER_RELAY)?;
        wait_for("the other relay for both sides", OTHER_RELAY, || {
            Ok(both().iter().all(|at| relay_of(left, *at)).then_some(()))
        })?;
        pair.check_pings(100)?;
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            daemon.wait_state(there.wireguard.public_key(), "relayed", CONNECT)?;
        }
        Ok(())
    });
}
