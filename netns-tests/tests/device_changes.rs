//! The device changes under a settled daemon, which looks at it every 2 s: it follows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use wireplug_lab::{
    BLACKHOLE, Daemon, End, Nat, Pair, PairOptions, Peer, Ping, Pings, Result, WIREGUARD_PORT, wait_for,
    wireguard_at,
};

const NATS: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long it may take until a change is noticed: the 2 s of a settled daemon, and a machine that does much else.
const NOTICED: Duration = Duration::from_secs(6);

/// How long until a tunnel carries again after a change that broke it: to notice it, and a round.
const MENDED: Duration = Duration::from_secs(15);

fn settled(label: &str, nats: [Nat; 2], work: impl FnOnce(&mut Pair, &[Daemon; 2]) -> Result<()>) {
    let result = Pair::new(label, nats, &PairOptions::default()).and_then(|pair| {
        pair.finish_mut(|pair| {
            let daemons = pair.connect()?;
            pair.check_direct(&daemons)?;
            pair.settle(&daemons)?;
            let pids = [daemons[0].process().pid(), daemons[1].process().pid()];
            work(pair, &daemons)?;
            assert_eq!(
                daemons.each_ref().map(|daemon| daemon.process().exited()),
                [None, None],
                "{pids:?} still run"
            );
            Ok(())
        })
    });
    result.unwrap();
}

/// Pings every 10 ms while `work` breaks and mends the tunnel; says how long it was without an answer.
fn outage(pair: &Pair, work: impl FnOnce() -> Result<()>) -> Result<(Pings, Duration)> {
    let pinging = pair.a.host.keep_pinging(Ping::fast(pair.b.wireguard.address(), u16::MAX))?;
    thread::sleep(Duration::from_millis(500));
    work()?;
    let pings = pinging.stop()?;
    let gap = Duration::from_millis(10) * u32::from(pings.longest_gap());
    eprintln!("{gap:?} without an answer");
    Ok((pings, gap))
}

/// A peer as the lab sets it up, with or without a place.
fn peer_of<'a>(there: &'a End, allowed: &'a str, endpoint: Option<SocketAddr>) -> Peer<'a> {
    Peer { endpoint, ..Peer::new(there.wireguard.public_key(), allowed) }
}

#[test]
fn an_interface_that_is_deleted_is_awaited_and_looked_after_again() {
    settled("device-anew", NATS, |pair, daemons| {
        let deleted = Instant::now();
        pair.a.wireguard.delete()?;
        wait_for("the daemon to say that it waits", NOTICED, || {
            let status = daemons[0].status()?;
            Ok(status.and_then(|status| status.waiting).filter(|why| why.contains("no interface")))
        })?;
        eprintln!("noticed after {:?}", deleted.elapsed());
        pair.a.wireguard = pair.a.host.wireguard_again(&pair.a.wireguard)?;
        let up = Instant::now();
        let allowed = format!("{}/32", pair.b.wireguard.address());
        pair.a.wireguard.peer(&peer_of(&pair.b, &allowed, None))?;
        pair.wait_for_ping(MENDED)?;
        eprintln!("connected {:?} after it was there again", up.elapsed());
        pair.check_direct(daemons)
    });
}

/// As `wg-quick down` and `up` do it, before anybody looks.
#[test]
fn an_interface_that_is_made_anew_at_once_is_another_one() {
    settled("device-quick", NATS, |pair, daemons| {
        pair.a.wireguard.delete()?;
        pair.a.wireguard = pair.a.host.wireguard_again(&pair.a.wireguard)?;
        let allowed = format!("{}/32", pair.b.wireguard.address());
        pair.a.wireguard.peer(&peer_of(&pair.b, &allowed, None))?;
        pair.wait_for_ping(MENDED)?;
        pair.check_direct(daemons)
    });
}

#[test]
fn another_port_is_offered_and_the_tunnel_goes_on() {
    settled("device-port", NATS, |pair, daemons| {
        let key = pair.a.wireguard.public_key().to_owned();
        let (_, gap) = outage(pair, || {
            pair.a.wireguard.set(&["listen-port", "51999"])?;
            wait_for("the peer to send to the other port", MENDED, || {
                let endpoint = pair.b.wireguard.endpoint(&key)?;
                Ok(endpoint.filter(|endpoint| endpoint.port() == 51999))
            })?;
            thread::sleep(Duration::from_secs(3));
            Ok(())
        })?;
        assert!(gap < MENDED, "{gap:?}");
        pair.check_pings(50)?;
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            daemon.wait_state(there.wireguard.public_key(), "connected", NOTICED)?;
        }
        Ok(())
    });
}

#[test]
fn another_key_makes_another_pair() {
    settled("device-key", NATS, |pair, daemons| {
        let before = pair.a.wireguard.public_key().to_owned();
        pair.a.wireguard.change_key(&pair.a.host)?;
        pair.b.wireguard.set(&["peer", &before, "remove"])?;
        let allowed = format!("{}/32", pair.a.wireguard.address());
        pair.b.wireguard.peer(&peer_of(&pair.a, &allowed, None))?;
        pair.wait_for_ping(MENDED)?;
        pair.check_direct(daemons)?;
        assert!(daemons[1].peer(&before)?.is_none(), "the peer that was removed is gone");
        Ok(())
    });
}

#[test]
fn another_mark_is_carried_by_all_that_is_sent_and_the_tunnel_goes_on() {
    settled("device-mark", NATS, |pair, daemons| {
        let connection = || pair.a.host.run(&["ss", "-tnH", "state", "established"]);
        let before = connection()?;
        let (pings, _) = outage(pair, || {
            pair.a.wireguard.set(&["fwmark", "4242"])?;
            wait_for("another connection to the server", MENDED, || {
                let now = connection()?;
                Ok((!now.trim().is_empty() && now != before).then_some(()))
            })
        })?;
        assert_eq!(pings.lost(), 0, "of {} pings", pings.sent);
        pair.check_direct(daemons)
    });
}

/// A peer is added, as with `wg syncconf`, from a file that has a stale endpoint for the one that is connected.
#[test]
fn a_stale_endpoint_of_a_file_is_put_right_and_a_peer_that_it_adds_is_looked_after() {
    const ADDED: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    settled("device-sync", NATS, |pair, daemons| {
        let a = &pair.a;
        let key = fs::read_to_string(pair.lab.dir().join(format!("{}.key", a.wireguard.device()))).unwrap();
        let file = pair.lab.dir().join("sync.conf");
        let stale = wireguard_at(BLACKHOLE.into());
        let text = format!(
            "[Interface]\nPrivateKey = {key}\nListenPort = {WIREGUARD_PORT}\n[Peer]\nPublicKey = {}\nAllowedIPs = \
             {}/32\nEndpoint = {stale}\n[Peer]\nPublicKey = {ADDED}\nAllowedIPs = 10.77.0.9/32\n",
            pair.b.wireguard.public_key(),
            pair.b.wireguard.address(),
        );
        fs::write(&file, text).unwrap();
        let (_, gap) = outage(pair, || {
            a.host.run(&["wg", "syncconf", a.wireguard.device(), &file.display().to_string()])?;
            wait_for("the added peer in status", NOTICED, || daemons[0].peer(ADDED))?;
            wait_for("the endpoint to be put right", MENDED, || {
                let endpoint = a.wireguard.endpoint(pair.b.wireguard.public_key())?;
                Ok(endpoint.filter(|endpoint| *endpoint != stale))
            })?;
            thread::sleep(Duration::from_secs(1));
            Ok(())
        })?;
        assert!(gap < MENDED, "{gap:?}");
        pair.check_direct(daemons)?;
        a.wireguard.set(&["peer", ADDED, "remove"])?;
        wait_for("the removed peer to go from status", NOTICED, || {
            Ok(daemons[0].peer(ADDED)?.is_none().then_some(()))
        })
    });
}
