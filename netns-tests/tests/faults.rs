//! What else can go wrong: a server that cannot be reached or is slow, a full disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wireplug_lab::{Nat, Pair, PairOptions};

const EASY: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long daemons may take to notice that a server does not answer any more.
const SERVER_LOST: Duration = Duration::from_secs(45);

/// How long daemons may take to find a server again.
const SERVER_BACK: Duration = Duration::from_secs(60);

/// Packets to and from the server vanish: no connection is refused, nothing says so.
const UNREACHABLE: &str =
    "table inet away { chain in { type filter hook input priority -20; policy drop; }; }";

#[test]
fn a_server_that_cannot_be_reached_stops_no_tunnel_and_is_found_again() {
    Pair::with("unreachable", EASY, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        pair.server.namespace().nft(UNREACHABLE)?;
        pair.check_pings(200)?;
        // A change of the network has both sides look for the server, in vain.
        for (here, _) in pair.both_ways() {
            here.host.namespace().ip(&["addr add 192.168.200.1/24 dev eth0"])?;
        }
        pair.check_pings(400)?;
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            daemon.wait_servers(&[false], SERVER_LOST)?;
            daemon.wait_state(there.wireguard.public_key(), "connected", Duration::from_secs(10))?;
        }
        pair.server.namespace().nft("delete table inet away")?;
        pair.a.forget_endpoint(&pair.b)?;
        pair.b.forget_endpoint(&pair.a)?;
        pair.wait_for_ping(SERVER_BACK)?;
        pair.check_direct(&daemons)
    })
    .unwrap();
}

/// It stands still for most of the time, so that everything it does is late.
#[test]
fn a_slow_server_is_slow_and_no_more() {
    Pair::with("slow", EASY, &PairOptions::default(), |pair| {
        let pid = pair.server.process().unwrap().pid().to_string();
        let signal =
            |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    signal("-STOP");
                    thread::sleep(Duration::from_millis(700));
                    signal("-CONT");
                    thread::sleep(Duration::from_millis(50));
                }
            });
            let _end = OnDrop(|| done.store(true, Ordering::Relaxed));
            let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
            pair.wait_for_ping(SERVER_BACK)?;
            pair.check_direct(&daemons)
        })
    })
    .unwrap();
}

#[test]
fn a_full_disk_costs_what_would_have_been_kept_and_nothing_else() {
    Pair::with("full-disk", EASY, &PairOptions::default(), |pair| {
        let disk = FullDisk::at(&pair.lab.dir().join("state"));
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        let logs = daemons.each_ref().map(|daemon| daemon.process().log());
        for log in &logs {
            let told = log.lines().filter(|line| line.contains("WARN") && line.contains("No space left"));
            let count = told.count();
            assert!((1..=3).contains(&count), "it is said, and not again and again: {count} times in {log}");
        }
        // Nothing half written is left, and with room again it is kept.
        let kept = std::fs::read_dir(&disk.path).unwrap().flatten().map(|entry| entry.file_name());
        assert_eq!(kept.collect::<Vec<_>>(), [FILLER], "only what fills the disk is there");
        std::fs::remove_file(disk.path.join(FILLER)).unwrap();
        daemons[0].process().terminate();
        daemons[0].process().wait(Duration::from_secs(5))?;
        let again = pair.a.wireplug()?;
        again.wait_state(pair.b.wireguard.public_key(), "connected", Duration::from_secs(15))?;
        let servers = disk.path.join("servers.json");
        wireplug_lab::wait_for("the file of servers", Duration::from_secs(15), || {
            Ok(servers.exists().then_some(()))
        })?;
        let [_, b] = daemons;
        pair.check_direct(&[again, b])
    })
    .unwrap();
}

/// Calls this in the end.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What takes all the room.
const FILLER: &str = "filler";

/// A small file system that is full, until it is dropped.
struct FullDisk {
    path: PathBuf,
}

impl FullDisk {
    fn at(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(path).status();
        assert!(mount.unwrap().success(), "mount a tmpfs");
        let disk = Self { path: path.to_owned() };
        let filled = std::fs::write(disk.path.join(FILLER), vec![0; 128 << 10]);
        assert!(filled.is_err(), "it has room for more");
        disk
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.path).status();
    }
}
