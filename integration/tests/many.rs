//! One daemon and many peers, whose other ends one program plays with real handshakes over real sockets.

#![allow(clippy::unwrap_used)] // in a test it is an assertion

use std::time::Duration;

use wireplug_lab::{Daemon, Host, Many, ManyInterfaces, Nat, PeerStatus, Result, wait_for};

/// Peers in the normal run; `cargo xtask bench many` has 500.
const PEERS: usize = 50;
/// How soon all must be connected: far more than it takes, because other tests run beside.
const LIMIT: Duration = Duration::from_secs(10);
/// How soon the raw socket must be closed after that: rounds look for better paths for some seconds.
const COME_TO_REST: Duration = Duration::from_secs(20);

/// Waits until status says that all peers of an interface are connected over proven paths.
fn all_connected(daemon: &Daemon, peers: usize) -> Result<Vec<PeerStatus>> {
    wait_for("all peers to be connected in status", LIMIT, || {
        let status = daemon.status()?.map(|status| status.peers).unwrap_or_default();
        let all = status.iter().all(|peer| peer.state == "connected" && peer.proven);
        Ok((all && status.len() == peers).then_some(status))
    })
}

#[test]
fn fifty_peers_connect_at_once_and_then_nothing_is_left_open() -> Result<()> {
    Many::new(Nat::PortPreserving, PEERS, None, None)?.finish(|many| {
        let (daemon, report) = many.connect(LIMIT)?;
        println!("half after {:.2?}, all after {:.2?}, {:.2?} of CPU", report.median, report.all, report.cpu);
        for peer in all_connected(&daemon, PEERS)? {
            assert!(many.crowd.keys().contains(&peer.public_key), "{peer:?} is nobody of the crowd");
            assert!(peer.rtt_ms.is_some(), "{peer:?}");
        }
        wait_for(
            "the raw socket to be closed",
            COME_TO_REST,
            || Ok((!daemon.raw_socket_open()).then_some(())),
        )
    })
}

/// UDP datagrams that have come to a host so far.
fn datagrams(host: &Host) -> Result<u64> {
    let text = host.run(&["cat", "/proc/net/snmp"])?;
    let counters = text.lines().filter(|line| line.starts_with("Udp:")).nth(1);
    Ok(counters.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap())
}

#[test]
fn a_peer_that_floods_us_with_checks_delays_no_other() -> Result<()> {
    let peers = 20;
    Many::new(Nat::PortPreserving, peers, Some(2000), None)?.finish(|many| {
        let (daemon, _) = many.connect(LIMIT)?;
        // From now on the flood is there; a new daemon has to prove every path in the midst of it.
        daemon.process().kill();
        let before = datagrams(&many.host)?;
        let daemon = many.wireplug()?;
        all_connected(&daemon, peers + 1)?;
        wait_for("more of the flood", LIMIT, || Ok((datagrams(&many.host)? > before + 2000).then_some(())))
    })
}

#[test]
fn eight_interfaces_have_one_daemon_and_none_waits_for_another() -> Result<()> {
    let peers = 4;
    ManyInterfaces::new(Nat::PortPreserving, 8, peers)?.finish(|many| {
        let Some(((stuck, last_crowd), others)) = many.all.split_last() else { unreachable!("eight") };
        // The last interface's process hangs from the beginning: every read of it and update waits.
        stuck.process().unwrap().pause();
        let daemons = many.wireplugd()?;
        for (_, crowd) in others {
            crowd.wait_connected(LIMIT)?;
        }
        for daemon in &daemons[..7] {
            all_connected(daemon, usize::from(peers))?;
        }
        stuck.process().unwrap().resume();
        last_crowd.wait_connected(2 * LIMIT)?;
        all_connected(&daemons[7], usize::from(peers))?;

        // Now it hangs again, and another interface's peers are lost and found.
        stuck.process().unwrap().pause();
        let (first, crowd) = &many.all[0];
        for key in crowd.keys() {
            first.set(&["peer", key, "remove"])?;
        }
        wait_for("the peers to be gone from status", LIMIT, || {
            Ok(daemons[0].status()?.filter(|status| status.peers.is_empty()).map(drop))
        })?;
        first.add_peers(crowd.keys())?;
        all_connected(&daemons[0], usize::from(peers))?;
        stuck.process().unwrap().resume();

        let connections = ["ss", "-Htn", "state", "established", "dport", "=", ":443"];
        let connections = many.host.run(&connections)?;
        assert_eq!(connections.lines().count(), 1, "one connection for all interfaces: {connections}");
        Ok(())
    })
}
