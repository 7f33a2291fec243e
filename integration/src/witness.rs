//! Which endpoints were applied, and that no other was.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use wireplug_lab::{Daemon, End, LabError, Nat, Pair, Process, Result};

/// Between two looks at an interface: `wg` is a process of its own.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the daemon logs, at debug, with every endpoint that it sets.
const APPLIED: &str = "endpoint set to";

/// Every endpoint that a daemon has set, in order, by its own log: none is too short-lived for it.
pub fn applied(process: &Process) -> Vec<SocketAddr> {
    let log = process.log();
    let lines = log.lines().filter(|line| line.contains(APPLIED));
    let field =
        |line: &str| line.split_whitespace().find_map(|word| word.strip_prefix("endpoint=")?.parse().ok());
    lines.filter_map(field).collect()
}

/// Where the internet finds a side's WireGuard.
///
/// # Errors
/// When every peer finds it elsewhere.
pub fn true_endpoint(end: &End) -> Result<SocketAddr> {
    let nat: Nat = end.host.nat();
    let port = nat.outer_port();
    let port = port.ok_or_else(|| LabError::unexpected(format!("{nat} has no outer port of its own")))?;
    Ok(SocketAddr::new(end.host.public_addresses()[0], port))
}

/// Watches both interfaces for `time`: no endpoint may be set, and no daemon may end.
///
/// # Errors
/// Naming the endpoint, or how the daemon ended.
pub fn stays_unset(pair: &Pair, daemons: &[Daemon], time: Duration) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        for (here, there) in pair.both_ways() {
            if let Some(endpoint) = here.wireguard.endpoint(there.wireguard.public_key())? {
                let label = here.host.label();
                return Err(LabError::unexpected(format!(
                    "{label} was given {endpoint}, which nobody proved"
                )));
            }
        }
        alive(daemons)?;
        thread::sleep(LOOK_EVERY);
    }
    let set: Vec<_> = daemons.iter().flat_map(|daemon| applied(daemon.process())).collect();
    if set.is_empty() {
        return Ok(());
    }
    Err(LabError::unexpected(format!("the daemons set {set:?}, which nobody proved")))
}

/// Checks that the daemons of `a` and `b` have set the other's true endpoint, and never another one.
///
/// # Errors
/// Naming what was set.
pub fn only_the_truth(pair: &Pair, daemons: &[Daemon; 2]) -> Result<()> {
    alive(daemons)?;
    let mut all = 0;
    for (daemon, (here, there)) in daemons.iter().zip(pair.both_ways()) {
        let (set, truth) = (applied(daemon.process()), true_endpoint(there)?);
        all += set.len();
        if let Some(wrong) = set.iter().find(|endpoint| **endpoint != truth) {
            let label = here.host.label();
            return Err(LabError::unexpected(format!("{label} set {wrong}; its peer is at {truth}")));
        }
    }
    if all == 0 {
        return Err(LabError::unexpected(format!(
            "no log says {APPLIED:?}: does the daemon say it otherwise?"
        )));
    }
    Ok(())
}

/// Checks that every daemon still runs.
///
/// # Errors
/// How one ended, with its last words.
pub fn alive(daemons: &[Daemon]) -> Result<()> {
    for daemon in daemons {
        let process = daemon.process();
        if let Some(status) = process.exited() {
            let (name, log) = (process.name(), process.log());
            return Err(LabError::unexpected(format!("{name} ended with {status}: {log}")));
        }
    }
    Ok(())
}

/// Resident memory of a daemon in KiB.
///
/// # Errors
/// When it is gone.
pub fn memory(daemon: &Daemon) -> Result<u64> {
    let gone = || LabError::unexpected(format!("{} is gone", daemon.process().name()));
    daemon.resident_kib().ok_or_else(gone)
}
