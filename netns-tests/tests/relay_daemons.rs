//! The relay and what happens to daemons: no right to raw sockets, a stop and a start.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::path::Path;
use std::thread;
use std::time::Duration;

use wireplug_lab::{Binaries, End, Nat, Pair, PairOptions, Ping, Process, Result, wait_for};

/// Without raw sockets, unproven endpoints come first, one after another, each for some seconds.
const LIMIT: Duration = Duration::from_secs(40);

fn without_raw_sockets(end: &End) -> Result<Process> {
    let program = Binaries::find()?.path("wireplug")?.display().to_string();
    let config = end.config.display().to_string();
    let arguments =
        ["--bounding-set", "-net_raw", "--", &program, end.wireguard.device(), "--config", &config];
    end.host.spawn("wireplug", Path::new("setpriv"), &arguments, &[])
}

/// It cannot bind WireGuard's port, so it goes over TLS.
#[test]
fn without_raw_sockets_the_relay_is_reached_over_tls() {
    let nats = [Nat::Symmetric, Nat::PortPreserving];
    Pair::with("relay-rights", nats, &PairOptions::default(), |pair| {
        without_raw_sockets(&pair.a)?;
        pair.b.wireplug()?;
        pair.wait_for_ping(LIMIT)?;
        let there = pair.b.wireguard.public_key();
        wait_for("the endpoint to be on this host", Duration::from_secs(10), || {
            let endpoint = pair.a.wireguard.endpoint(there)?;
            Ok(endpoint.filter(|endpoint| endpoint.ip().is_loopback()).map(drop))
        })?;
        pair.check_pings(20)
    })
    .unwrap();
}

/// A relayed tunnel goes on while the daemon is away, and the next one binds to the same relay port.
#[test]
fn a_daemon_that_starts_again_leaves_a_relayed_tunnel_alone() {
    let nats = [Nat::Symmetric, Nat::Symmetric];
    Pair::with("relay-daemon", nats, &PairOptions::default(), |pair| {
        let [a, b] = pair.connect()?;
        pair.check_relayed(&[a.clone(), b.clone()])?;
        let there = pair.b.wireguard.public_key();
        let before = pair.a.wireguard.endpoint(there)?;
        let ping =
            Ping { interval: Duration::from_millis(50), ..Ping::fast(pair.b.wireguard.address(), 1000) };
        let pinging = pair.a.host.keep_pinging(ping)?;
        a.process().terminate();
        a.process().wait(Duration::from_secs(5))?;
        thread::sleep(Duration::from_secs(2));
        let a = pair.a.wireplug()?;
        thread::sleep(Duration::from_secs(3));
        let pings = pinging.stop()?;
        assert_eq!(pings.lost(), 0, "the longest gap: {}", pings.longest_gap());
        pair.check_relayed(&[a, b])?;
        assert_eq!(pair.a.wireguard.endpoint(there)?, before);
        Ok(())
    })
    .unwrap();
}
