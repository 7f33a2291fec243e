//! What stands around the tunnel on real machines: firewalls, full tunnels, routes into the tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::thread;
use std::time::{Duration, Instant};

use wireplug_lab::{LabError, Nat, Pair, PairOptions, Peer, Ping, Result};

/// How long an endpoint is watched for going wrong.
const WATCH: Duration = Duration::from_secs(6);

/// Connects the pair after `prepare` has changed its surroundings, and checks that it is direct.
fn connects(label: &str, nats: [Nat; 2], prepare: impl FnOnce(&Pair) -> Result<()>) {
    Pair::with(label, nats, &PairOptions::default(), |pair| {
        prepare(pair)?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)
    })
    .unwrap();
}

fn close_both(pair: &Pair) -> Result<()> {
    pair.a.host.close_firewall()?;
    pair.b.host.close_firewall()
}

#[test]
fn public_hosts_with_closed_firewalls() {
    connects("closed-none", [Nat::None, Nat::None], close_both);
}

#[test]
fn a_public_host_with_a_closed_firewall_and_a_nat() {
    connects("closed-nat", [Nat::None, Nat::PortPreserving], close_both);
}

#[test]
fn natted_hosts_with_closed_firewalls() {
    connects("closed-nats", [Nat::PortPreserving, Nat::Fixed], close_both);
}

#[test]
fn ipv6_with_closed_firewalls() {
    connects("closed-ipv6", [Nat::Ipv6Firewall, Nat::Ipv6Firewall], close_both);
}

/// Everything of `b` goes into the tunnel, as with wg-quick: only packets with WireGuard's mark do not.
#[test]
fn full_tunnel() {
    connects("full-tunnel", [Nat::PortPreserving, Nat::PortPreserving], |pair| {
        pair.b.wireguard.peer(&Peer::new(pair.a.wireguard.public_key(), "0.0.0.0/0"))?;
        pair.b.wireguard.route_everything()
    });
}

/// The full tunnel is dead, so the system's own way out is too, when the daemon starts.
#[test]
fn full_tunnel_with_a_stale_endpoint() {
    let options = PairOptions { stale_endpoints: true, ..PairOptions::default() };
    Pair::with("full-stale", [Nat::PortPreserving, Nat::None], &options, |pair| {
        pair.b.wireguard.peer(&Peer::new(pair.a.wireguard.public_key(), "0.0.0.0/0"))?;
        pair.b.wireguard.route_everything()?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)
    })
    .unwrap();
}

/// Each side's LAN is routed into the tunnel. A check to an address there would arrive, through the tunnel
/// itself, and rank first; applying it would loop the tunnel.
#[test]
fn the_peers_lan_inside_allowed_ips() {
    Pair::with("lan", [Nat::PortPreserving, Nat::Fixed], &PairOptions::default(), |pair| {
        for (here, there) in pair.both_ways() {
            let lan = there.host.addresses()[0];
            let allowed = format!("{}/32,{lan}/32", there.wireguard.address());
            here.wireguard.peer(&Peer::new(there.wireguard.public_key(), &allowed))?;
            here.wireguard.route(&format!("{lan}/32"))?;
        }
        let daemons = pair.connect()?;
        let started = Instant::now();
        while started.elapsed() < WATCH {
            pair.check_direct(&daemons)?;
            let lan = pair.b.host.addresses()[0];
            let pings = pair.a.host.ping(Ping::fast(lan, 5))?;
            if pings.answers.len() != 5 {
                return Err(LabError::unexpected(format!(
                    "the LAN does not answer through the tunnel: {pings:?}"
                )));
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })
    .unwrap();
}
