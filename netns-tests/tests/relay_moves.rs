//! A relayed tunnel moves up, back, with its host, and outlives its server; what is lost on the way is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::thread;
use std::time::{Duration, Instant};

use wireplug_lab::{Daemon, Nat, Pair, PairOptions, Ping, Pinging, Pings, Result, wait_for};

/// Two that can be direct, if their routers let them.
const EASY: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// Two that cannot.
const HARD: [Nat; 2] = [Nat::Symmetric, Nat::Symmetric];

/// How long a relayed tunnel may stand still when its server or its direct path dies.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a move may take to begin: a round that looks for something better, and slow machines.
const MOVE: Duration = Duration::from_secs(45);

/// How often a tunnel is pinged whose pause is measured.
const TICK: Duration = Duration::from_millis(10);

fn pinging(pair: &Pair, interval: Duration) -> Result<Pinging> {
    let to = pair.b.wireguard.address().into();
    pair.a.host.keep_pinging(Ping { to, count: u16::MAX, interval, linger: Duration::from_secs(1) })
}

/// The longest time without an answer.
fn pause(pings: &Pings) -> Duration {
    TICK * u32::from(pings.longest_gap())
}

fn wait_both(pair: &Pair, daemons: &[Daemon; 2], state: &str, limit: Duration) -> Result<()> {
    for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
        daemon.wait_state(there.wireguard.public_key(), state, limit)?;
    }
    Ok(())
}

/// The direct way opens under a TCP stream and a ping each millisecond.
#[test]
fn moving_up_loses_next_to_nothing() {
    Pair::with("relay-up", EASY, &PairOptions::default(), |pair| {
        pair.sites[0].block_udp(pair.b.host.public_addresses())?;
        let daemons = pair.connect()?;
        pair.check_relayed(&daemons)?;

        let pinging = pinging(pair, Duration::from_millis(1))?;
        let stream = pair.stream(Duration::from_secs(10))?;
        thread::sleep(Duration::from_secs(1));
        pair.sites[0].unblock_udp()?;
        // A change of the network makes both look again.
        pair.a.host.namespace().ip(&["addr add 192.168.200.1/24 dev eth0"])?;
        let opened = Instant::now();
        wait_both(pair, &daemons, "connected", MOVE)?;
        let took = opened.elapsed();
        // What comes late on the old path must not pull it back.
        thread::sleep(Duration::from_secs(2));
        let pings = pinging.stop()?;
        stream.finish()?;
        pair.check_direct(&daemons)?;
        eprintln!("direct {took:.1?} after it was possible; {} of {} pings lost", pings.lost(), pings.sent);
        assert!(pings.lost() <= 5, "{} of {} pings were lost", pings.lost(), pings.sent);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_direct_path_that_dies_is_replaced_soon() {
    Pair::with("relay-down", EASY, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let pinging = pinging(pair, TICK)?;
        thread::sleep(Duration::from_secs(1));
        pair.sites[0].block_udp(pair.b.host.public_addresses())?;
        wait_both(pair, &daemons, "relayed", MOVE)?;
        pair.check_relayed(&daemons)?;
        let pings = pinging.stop()?;
        eprintln!("on the relay after {:.1?} without an answer", pause(&pings));
        assert!(pause(&pings) <= PAUSE, "{:?}", pause(&pings));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_server_killed_and_started_again_relays_on() {
    Pair::with("relay-restart", HARD, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_relayed(&daemons)?;
        let pinging = pinging(pair, TICK)?;
        thread::sleep(Duration::from_secs(1));
        pair.server.kill();
        pair.server.start()?;
        let started = Instant::now();
        wait_for("packets on the relay that was started again", MOVE, || {
            Ok((pair.server.metric("relay_forwarded_packets_total")? > 20).then_some(()))
        })?;
        thread::sleep(Duration::from_secs(1));
        let pings = pinging.stop()?;
        eprintln!("relayed again after {:.1?}, without an answer {:.1?}", started.elapsed(), pause(&pings));
        pair.check_relayed(&daemons)?;
        assert!(pause(&pings) <= PAUSE, "{:?}", pause(&pings));
        Ok(())
    })
    .unwrap();
}

/// One side moves to another network, from which the pair cannot be direct either.
#[test]
fn roaming_while_relayed() {
    let roam = |pair: &mut Pair| {
        let mut elsewhere = pair.lab.site("c", Nat::Symmetric)?;
        let daemons = pair.connect()?;
        pair.check_relayed(&daemons)?;
        let pinging = pinging(pair, TICK)?;
        thread::sleep(Duration::from_secs(1));
        pair.a.host = pair.a.host.roam_to(&mut elsewhere)?;
        let moved = Instant::now();
        pair.wait_for_ping(PAUSE)?;
        let took = moved.elapsed();
        thread::sleep(Duration::from_secs(1));
        let pings = pinging.stop()?;
        eprintln!("answered {took:.1?} after the move, without an answer {:.1?}", pause(&pings));
        pair.check_relayed(&daemons)
    };
    Pair::new("relay-roam", HARD, &PairOptions::default()).and_then(|pair| pair.finish_mut(roam)).unwrap();
}
