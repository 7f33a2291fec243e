//! Programs that are killed, started again, started twice, or come late.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::thread;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use wireplug_lab::{CONNECT_LIMIT, Daemon, End, LabError, Nat, Pair, PairOptions, Ping, Result, wait_for};

const NATS: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long a program may take to end when it is asked to, or refuses to start.
const END: Duration = Duration::from_secs(5);

/// How long the daemons may take to find a server again that was away: they wait longer each time they try.
const SERVER_BACK: Duration = Duration::from_secs(60);

fn connected(label: &str, nats: [Nat; 2], work: impl FnOnce(&Pair, [Daemon; 2]) -> Result<()>) {
    Pair::with(label, nats, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        work(pair, daemons)
    })
    .unwrap();
}

#[test]
fn a_tunnel_outlives_its_killed_daemon_and_the_next_one_takes_over() {
    connected("kill-daemon", NATS, |pair, [a, b]| {
        // Pings all along: nothing may interrupt them.
        let count = 600;
        let pings = thread::scope(|scope| {
            let pinging = scope.spawn(|| pair.a.host.ping(Ping::fast(pair.b.wireguard.address(), count)));
            a.process().kill();
            thread::sleep(Duration::from_secs(1));
            let again = pair.a.wireplug()?;
            again.wait_state(pair.b.wireguard.public_key(), "connected", Duration::from_secs(10))?;
            let pings = pinging.join().unwrap()?;
            pair.check_direct(&[again, b])?;
            Ok::<_, LabError>(pings)
        })?;
        assert_eq!(pings.answers.len(), usize::from(count), "the restart cost pings");
        Ok(())
    });
}

#[test]
fn daemons_killed_on_both_sides_connect_again_when_the_tunnel_is_dead_too() {
    connected("kill-both", NATS, |pair, daemons| {
        for daemon in &daemons {
            daemon.process().kill();
        }
        pair.check_pings(50)?;
        pair.a.forget_endpoint(&pair.b)?;
        pair.b.forget_endpoint(&pair.a)?;
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)
    });
}

/// How long a pair may be apart after one of its daemons was killed in the midst of something: a round in which the other side
/// was not there, the pause after it, and WireGuard's limiter.
const RECOVERED: Duration = Duration::from_secs(30);

/// What a daemon is doing when it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Connecting,
    Moving,
    Settling,
}

/// A repetition has the seed in `WIREPLUG_LAB_SEED`, which a failure prints.
#[test]
fn a_daemon_killed_at_any_moment_leaves_nothing_broken() {
    const KILLS: u32 = 12;
    let seed = std::env::var("WIREPLUG_LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("WIREPLUG_LAB_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // The router of `a` is asked for a mapping, and `b` has a keepalive of the person's.
    Pair::new("kills", [Nat::SymmetricUpnpIgd, Nat::Symmetric], &PairOptions::default())
        .and_then(|pair| pair.finish_mut(|pair| kill_again_and_again(pair, &mut random, KILLS)))
        .unwrap_or_else(|error| panic!("WIREPLUG_LAB_SEED={seed}: {error}"));
}

fn kill_again_and_again(pair: &mut Pair, random: &mut ChaCha8Rng, kills: u32) -> Result<()> {
    const PERSONS: u16 = 33;
    pair.b.wireguard.set(&[
        "peer",
        pair.a.wireguard.public_key(),
        "persistent-keepalive",
        &PERSONS.to_string(),
    ])?;
    let keepalives = |pair: &Pair| {
        let of = |here: &End, there: &End| Ok(here.wireguard.state(there.wireguard.public_key())?.keepalive);
        Ok::<_, LabError>([of(&pair.a, &pair.b)?, of(&pair.b, &pair.a)?])
    };
    let mut daemons = pair.connect()?;
    for number in 1..=kills {
        let moments = [Moment::Connecting, Moment::Moving, Moment::Settling];
        let (moment, index) = (*moments.choose(random).unwrap_or(&Moment::Moving), random.random_range(0..2));
        let wait = Duration::from_millis(random.random_range(0..900));
        println!("kill {number}: daemon {index} {wait:?} after it began with {moment:?}");
        match moment {
            Moment::Connecting => {
                for daemon in &daemons {
                    daemon.process().kill();
                }
                pair.a.forget_endpoint(&pair.b)?;
                daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
            }
            Moment::Moving => pair.a.host = pair.a.host.readdress()?,
            Moment::Settling => {}
        }
        thread::sleep(wait);
        daemons[index].process().kill();
        let end = if index == 0 { &pair.a } else { &pair.b };
        daemons[index] = end.wireplug()?;
        pair.wait_for_ping(RECOVERED)?;
        assert_eq!(keepalives(pair)?[1], Some(PERSONS), "it is the person's");
    }
    // By which port of the router is not to be known: an address of before may have the usual one.
    for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
        daemon.wait_state(there.wireguard.public_key(), "connected", CONNECT_LIMIT)?;
    }
    pair.check_pings(20)?;
    assert_eq!(keepalives(pair)?, [Some(25), Some(PERSONS)]);
    pair.settle(&daemons)?;
    for daemon in &daemons {
        daemon.process().terminate();
        let status = daemon.process().wait(END)?;
        assert!(status.success(), "{status}: {}", daemon.process().log());
    }
    assert_eq!(keepalives(pair)?, [None, Some(PERSONS)], "ours is given back, the person's left");
    pair.check_pings(20)?;
    let mappings = pair.sites[0].mappings()?;
    let own = pair.a.host.v4()?.to_string();
    assert!(!mappings.iter().any(|rule| rule.contains(&own)), "the mapping is given back: {mappings:?}");
    Ok(())
}

#[test]
fn a_daemon_gives_its_keepalive_back_also_after_it_was_killed_once() {
    connected("keepalive", NATS, |pair, [a, b]| {
        let keepalive =
            || Ok::<_, LabError>(pair.a.wireguard.state(pair.b.wireguard.public_key())?.keepalive);
        a.process().kill();
        let again = pair.a.wireplug()?;
        again.wait_state(pair.b.wireguard.public_key(), "connected", Duration::from_secs(10))?;
        again.process().terminate();
        let status = again.process().wait(END)?;
        assert!(status.success(), "{status}: {}", again.process().log());
        assert_eq!(keepalive()?, None, "the person had set none");
        pair.check_pings(20)?;
        pair.a.check_endpoint(&pair.b)?;
        drop(b);
        Ok(())
    });
}

/// It is asked to end while it waits for what WireGuard says of itself.
#[test]
fn a_daemon_gives_its_keepalive_back_also_while_it_reads_the_device() {
    connected("keepalive-read", NATS, |pair, [a, b]| {
        let wireguard = &pair.a.wireguard;
        let process = wireguard.process();
        if let Some(process) = process {
            process.pause();
            // The daemon's own socket has the same name elsewhere.
            let socket = format!("/wireguard/{}.sock", wireguard.device());
            wait_for("a read to wait for its answer", Duration::from_secs(15), || {
                let listening = pair.a.host.run(&["ss", "-x", "-l", "-H"])?;
                let line = listening.lines().find(|line| line.contains(&socket));
                // Netid, State, Recv-Q: connections that nobody has taken yet.
                let waiting = line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok());
                Ok(waiting.filter(|waiting| *waiting > 0))
            })?;
        }
        a.process().terminate();
        a.process().wait_log("stopping", END)?;
        if let Some(process) = process {
            process.resume();
        }
        assert!(a.process().wait(END)?.success(), "{}", a.process().log());
        assert_eq!(
            wireguard.state(pair.b.wireguard.public_key())?.keepalive,
            None,
            "the person had set none"
        );
        drop(b);
        Ok(())
    });
}

#[test]
fn a_persons_keepalive_stays_as_it_is() {
    let options = PairOptions { keepalive: Some(33), ..PairOptions::default() };
    Pair::with("own-keepalive", NATS, &options, |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        for (daemon, (here, there)) in daemons.iter().zip(pair.both_ways()) {
            let keepalive =
                || Ok::<_, LabError>(here.wireguard.state(there.wireguard.public_key())?.keepalive);
            assert_eq!(keepalive()?, Some(33));
            daemon.process().terminate();
            assert!(daemon.process().wait(END)?.success());
            assert_eq!(keepalive()?, Some(33));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_tunnel_outlives_the_killed_server_and_the_next_one_serves_again() {
    connected("kill-server", NATS, |pair, daemons| {
        pair.server.kill();
        pair.check_pings(300)?;
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            let status = daemon.peer(there.wireguard.public_key())?;
            assert_eq!(status.map(|peer| peer.state).as_deref(), Some("connected"), "without the server");
        }
        pair.server.start()?;
        pair.a.forget_endpoint(&pair.b)?;
        pair.b.forget_endpoint(&pair.a)?;
        pair.wait_for_ping(SERVER_BACK)?;
        pair.check_direct(&daemons)
    });
}

/// As after a restart of the machine: no session and no endpoint, and nobody says where the peer is.
#[test]
fn a_peer_is_found_where_it_was_while_the_server_is_away() {
    connected("server-away", NATS, |pair, [a, b]| {
        // What answered is kept when the round is over.
        wait_for("the round to end", Duration::from_secs(15), || Ok((!a.raw_socket_open()).then_some(())))?;
        a.process().terminate();
        assert!(a.process().wait(END)?.success());
        pair.server.kill();
        pair.a.forget_endpoint(&pair.b)?;
        let again = pair.a.wireplug()?;
        pair.wait_for_ping(Duration::from_secs(15))?;
        pair.a.check_endpoint(&pair.b)?;
        drop((again, b));
        Ok(())
    });
}

#[test]
fn one_of_two_servers_may_be_down() {
    let nobody = "[[server]]\nurl = \"wss://192.0.2.1\"\npin = \"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n";
    let options = PairOptions { configs: [nobody.to_owned(), nobody.to_owned()], ..PairOptions::default() };
    Pair::with("two-servers", NATS, &options, |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let status = daemons[0].status()?.expect("it runs");
        let up: Vec<_> = status.servers.iter().map(|server| server.connected).collect();
        assert_eq!(up, [true, false], "{:?}", status.servers);
        Ok(())
    })
    .unwrap();
}

#[test]
fn daemons_wait_for_a_server_that_comes_late() {
    Pair::with("late-server", NATS, &PairOptions::default(), |pair| {
        pair.server.kill();
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        thread::sleep(Duration::from_secs(4));
        for ((here, there), daemon) in pair.both_ways().into_iter().zip(&daemons) {
            assert_eq!(daemon.process().exited(), None, "it keeps trying: {}", daemon.process().log());
            assert_eq!(here.wireguard.endpoint(there.wireguard.public_key())?, None);
        }
        pair.server.start()?;
        pair.wait_for_ping(SERVER_BACK)?;
        pair.check_direct(&daemons)
    })
    .unwrap();
}

#[test]
fn a_second_daemon_on_the_interface_is_refused_with_the_firsts_pid() {
    connected("second", NATS, |pair, daemons| {
        let second = pair.a.wireplug()?;
        let status = second.process().wait(END)?;
        assert!(!status.success(), "the second must not run");
        let (log, pid) = (second.process().log(), daemons[0].process().pid());
        assert!(log.contains(&pid.to_string()), "{log:?} names the first, pid {pid}");
        pair.check_direct(&daemons)
    });
}
