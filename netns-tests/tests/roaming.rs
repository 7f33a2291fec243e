//! Networks that change under a tunnel, and changes that do not concern it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::thread;
use std::time::Duration;

use wireplug_lab::{Daemon, Left, Nat, Pair, PairOptions, Result, Track, wait_for};

const EASY: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long a tunnel may stand still when a host moves, on a machine that does other things too. The benchmark measures how
/// long it does.
const PAUSE: Duration = Duration::from_secs(4);

/// How long a tunnel may stand still to which nothing happens.
const UNTOUCHED: Duration = Duration::from_millis(100);

/// How long a pair may take to get where it belongs.
const LIMIT: Duration = Duration::from_secs(30);

/// Longer than a daemon takes to look at what changed.
const LOOKED: Duration = Duration::from_millis(1500);

/// A pair that is direct and settled.
fn settled(label: &str, nats: [Nat; 2], work: impl FnOnce(&mut Pair, [Daemon; 2]) -> Result<()>) {
    let options = PairOptions { server_by_name: true, ..PairOptions::default() };
    let outcome = Pair::new(label, nats, &options).and_then(|pair| {
        pair.finish_mut(|pair| {
            let daemons = pair.connect()?;
            pair.check_direct(&daemons)?;
            pair.settle(&daemons)?;
            work(pair, daemons)
        })
    });
    outcome.unwrap();
}

/// What happens to the pair keeps it apart for no longer than this, as one of them sees it, and it is direct in the end.
fn bridged(
    pair: &mut Pair,
    by: Sender,
    longest: Duration,
    happens: impl FnOnce(&mut Pair) -> Result<()>,
) -> Result<()> {
    let outage = pair.outage(by == Sender::Stayer, Track::Direct, LIMIT, happens)?;
    eprintln!("{outage:?}");
    assert!(outage.silent <= longest, "{outage:?}");
    Ok(())
}

/// Who sends all the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// The side to which it happens.
    Mover,
    /// The side that stays.
    Stayer,
}

/// How often a daemon has found that its network is another one.
fn changes(daemon: &Daemon) -> usize {
    daemon.process().log().matches("the network changed").count()
}

#[test]
fn what_no_tunnel_uses_may_change_and_nothing_is_done() {
    settled("unused", EASY, |pair, daemons| {
        let host = pair.a.host.namespace();
        let before = daemons.each_ref().map(changes);
        host.run(&["ip", "tuntap", "add", "tun9", "mode", "tun"])?;
        host.ip(&[
            // Containers.
            "link add docker0 type bridge",
            "addr add 172.17.0.1/16 dev docker0",
            "link set docker0 up",
            "link add vethab12 type veth peer name vethcd34",
            "link set vethab12 master docker0",
            "link set vethab12 up",
            "link set vethcd34 up",
            "addr add 172.17.0.2/16 dev vethcd34",
            "addr del 172.17.0.2/16 dev vethcd34",
            // Another tunnel.
            "link set tun9 up",
            "addr add 10.99.0.1/24 dev tun9",
            "route add 10.98.0.0/16 dev tun9",
            // A link that is down.
            "link add idle9 type bridge",
            "addr add 10.97.0.1/24 dev idle9",
            // Routes and rules for what is not the rest of the internet.
            "route add 10.96.0.0/16 dev docker0",
            "rule add to 10.95.0.0/16 table 95",
            "route add unreachable 10.95.0.0/16 table 95",
        ])?;
        thread::sleep(LOOKED);
        host.ip(&["link del docker0", "link del tun9", "rule del to 10.95.0.0/16 table 95"])?;
        thread::sleep(LOOKED);
        assert_eq!(daemons.each_ref().map(changes), before);
        assert!(daemons.iter().all(|daemon| !daemon.raw_socket_open()), "nobody was asked anything");

        // What it does use is seen at once.
        host.ip(&["addr add 192.168.200.1/24 dev eth0"])?;
        wait_for("the daemon to notice", LOOKED, || Ok((changes(&daemons[0]) > before[0]).then_some(())))?;
        pair.check_direct(&daemons)
    });
}

/// Another Wi-Fi with the same addresses, or the same one again: who is behind them nobody can tell without asking.
#[test]
fn a_link_that_was_down_for_a_moment_may_lead_elsewhere() {
    settled("flap", EASY, |pair, daemons| {
        let before = changes(&daemons[0]);
        let router =
            pair.sites[0].router().unwrap().run(&["ip", "-4", "-o", "addr", "show", "dev", "lan0"])?;
        let gateway = router.split_whitespace().nth(3).and_then(|word| word.split('/').next()).unwrap();
        pair.a.host.namespace().ip(&[
            "link set eth0 down",
            "link set eth0 up",
            &format!("route add default via {gateway}"),
        ])?;
        wait_for("the daemon to notice", LOOKED, || Ok((changes(&daemons[0]) > before).then_some(())))?;
        pair.check_direct(&daemons)
    });
}

/// Only the side that stays sends, and it cannot know where the other one is.
#[test]
fn a_peer_that_moved_is_followed_by_who_only_sends() {
    settled("followed", EASY, |pair, daemons| {
        let mut elsewhere = pair.lab.site("c", Nat::PortPreserving)?;
        bridged(pair, Sender::Stayer, PAUSE, |pair| {
            pair.a.host = pair.a.host.roam_leaving(&mut elsewhere, Left::Down)?;
            Ok(())
        })?;
        pair.check_direct(&daemons)
    });
}

#[test]
fn both_peers_move_at_the_same_moment() {
    settled("both", EASY, |pair, daemons| {
        let mut places = [pair.lab.site("c", Nat::Fixed)?, pair.lab.site("d", Nat::PortPreserving)?];
        bridged(pair, Sender::Mover, PAUSE, |pair| {
            let [c, d] = &mut places;
            let (a, b) = (pair.a.host.clone(), pair.b.host.clone());
            let (a, b) = thread::scope(|scope| {
                let a = scope.spawn(|| a.roam_to(c));
                let b = b.roam_to(d);
                (a.join().unwrap(), b)
            });
            (pair.a.host, pair.b.host) = (a?, b?);
            Ok(())
        })?;
        pair.check_direct(&daemons)
    });
}

#[test]
fn an_address_changes_under_the_same_link() {
    settled("readdress", EASY, |pair, daemons| {
        bridged(pair, Sender::Mover, PAUSE, |pair| {
            pair.a.host = pair.a.host.readdress()?;
            Ok(())
        })?;
        // The NAT may have kept the old address's port for it, so which one it is now nobody knows.
        daemons[1].wait_state(pair.a.wireguard.public_key(), "connected", LIMIT)?;
        pair.check_pings(20)
    });
}

#[test]
fn the_provider_gives_another_ipv6_prefix() {
    settled("renumber", [Nat::Ipv6Firewall; 2], |pair, daemons| {
        bridged(pair, Sender::Mover, PAUSE, |pair| {
            pair.a.host = pair.sites[0].renumber(&pair.a.host)?;
            Ok(())
        })?;
        pair.check_direct(&daemons)
    });
}

/// A tunnel over IPv6 does not stand still because IPv4 goes and comes back.
#[test]
fn ipv4_is_lost_but_not_ipv6_and_comes_back() {
    settled("lose-v4", [Nat::DualStack; 2], |pair, daemons| {
        for lose in [true, false] {
            let before = changes(&daemons[0]);
            bridged(pair, Sender::Mover, UNTOUCHED, |pair| {
                if lose { pair.a.host.lose_v4() } else { pair.a.host.regain_v4() }
            })?;
            assert!(changes(&daemons[0]) > before, "it was noticed");
            assert!(pair.a.wireguard.first_endpoint().is_some_and(|endpoint| endpoint.is_ipv6()));
        }
        pair.settle(&daemons)?;
        pair.check_direct(&daemons)
    });
}

/// Nothing tells the host: the tunnel's own silence does.
#[test]
fn a_router_is_rebooted_and_comes_back_with_another_address() {
    settled("reboot", EASY, |pair, daemons| {
        bridged(pair, Sender::Mover, Duration::from_secs(12), |pair| {
            pair.a.host = pair.sites[0].reboot(&pair.a.host)?;
            Ok(())
        })?;
        pair.check_direct(&daemons)
    });
}

/// Half of the moves are to another address and half to another network, most before the last one is over.
#[test]
fn a_hundred_moves_leave_nothing_behind() {
    const MOVES: u32 = 100;
    /// Moves after which everything that a daemon keeps is there once.
    const WARM: u32 = 12;
    /// Sockets to servers and routers that may be open at one look and not at another. A leak would be 88 or more.
    const FILES: usize = 8;
    /// KiB that the allocator may keep for itself, debug build.
    const GROWTH: u64 = 6 * 1024;

    settled("hundred", [Nat::SymmetricUpnpIgd, Nat::Symmetric], |pair, daemons| {
        let mut elsewhere = pair.lab.site("c", Nat::SymmetricUpnpIgd)?;
        let mut home = pair.sites.remove(0);
        let mut before = None;
        for number in 1..=MOVES {
            let host = &pair.a.host;
            pair.a.host = match number % 4 {
                0 => host.roam_to(&mut home)?,
                2 => host.roam_to(&mut elsewhere)?,
                _ => host.readdress()?,
            };
            let last = [WARM, MOVES].contains(&number);
            if last || number % 20 == 0 {
                pair.wait_for_ping(LIMIT)?;
            } else {
                thread::sleep(Duration::from_millis(u64::from(number * 37 % 300)));
            }
            if last {
                // By which port of the router is not to be known: an address of before may have the usual one.
                for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
                    daemon.wait_state(there.wireguard.public_key(), "connected", LIMIT)?;
                }
                pair.settle(&daemons)?;
                let costs = daemons.each_ref().map(costs);
                eprintln!("after {number} moves: {costs:?}");
                before = before.or(Some(costs));
            }
        }
        let (before, after) = (before.unwrap(), daemons.each_ref().map(costs));
        for (before, after) in before.iter().zip(&after) {
            assert!(after.files <= before.files + FILES, "{before:?}, {after:?}");
            assert!(after.threads <= before.threads + FILES, "{before:?}, {after:?}");
            assert!(after.resident_kib <= before.resident_kib + GROWTH, "{before:?}, {after:?}");
        }
        // Each place had at most two addresses at a time, and a mapping ends with its address or its lease.
        for site in [&home, &elsewhere] {
            let mappings = site.mappings()?;
            eprintln!("{} mappings on a router", mappings.len());
            assert!(mappings.len() <= 2, "{mappings:?}");
        }
        pair.sites.insert(0, home);
        Ok(())
    });
}

#[derive(Debug)]
struct Costs {
    files: usize,
    threads: usize,
    resident_kib: u64,
}

fn costs(daemon: &Daemon) -> Costs {
    Costs {
        files: daemon.open_files().unwrap(),
        threads: daemon.threads().unwrap(),
        resident_kib: daemon.resident_kib().unwrap(),
    }
}
