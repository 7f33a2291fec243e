//! `cargo xtask demo`: two NATed WireGuard peers find each other, told step by step.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use wireplug_lab::{
    CONNECT_LIMIT, Daemon, End, Nat, Pair, PairOptions, PeerStatus, Ping, Tier, UNREACHABLE_LIMIT, expected,
};

use crate::story::{LOG_FILTER, Story};
use crate::{cargo, packages};

/// How often the daemons' logs and status are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the demonstration with what the two peers are behind, and the round trip in milliseconds.
pub(crate) fn run(nats: [Nat; 2], delay: u64) -> Result<()> {
    packages::ensure()?;
    let binaries = cargo::release_binaries()?.logging(LOG_FILTER);
    let options = PairOptions { binaries: Some(binaries), ..PairOptions::with_round_trip(delay) };
    println!("Making an internet of network namespaces; nothing in it reaches the network outside.");
    let pair = Pair::new("demo", nats, &options)?;
    introduce(&pair)?;
    let result = tell(&pair, expected(nats[0], nats[1]));
    match &result {
        Ok(()) => println!("\nDone; the lab is removed."),
        Err(error) => pair.lab.fail(&format!("{error:#}")),
    }
    result
}

fn introduce(pair: &Pair) -> Result<()> {
    println!("\n  server  {} and {}", pair.server.v4(0), pair.server.v4(1));
    println!("          runs wireplug-serverd, pin {}", pair.server.pin()?);
    for (here, there) in pair.both_ways() {
        let nat = here.host.nat();
        let own = list(here.host.addresses());
        let place = match nat {
            Nat::None => format!("{own}, a public host"),
            Nat::ClosedHost => format!("{own}, a public host whose firewall lets nothing new in"),
            Nat::Ipv6Firewall => format!("{own}, behind a firewall that lets nothing new in"),
            _ => format!("{own}, seen from outside as {} ({nat})", list(here.host.public_addresses())),
        };
        println!("\n  {}       {place}", here.host.label());
        println!(
            "          wireguard-go on {}, {} in the tunnel",
            here.wireguard.device(),
            here.wireguard.address()
        );
        let endpoint = here.wireguard.endpoint(there.wireguard.public_key())?;
        let endpoint = endpoint.map_or_else(|| "(none)".to_owned(), |endpoint| endpoint.to_string());
        println!("          peer {} has endpoint {endpoint}", there.host.label());
    }
    Ok(())
}

/// Starts the daemons and reports what they do, until the path is there.
fn tell(pair: &Pair, path: Tier) -> Result<()> {
    println!("\nStarting `wireplug` on a, then on b:\n");
    let ping = Ping { count: u16::MAX, ..Ping::fast(pair.b.wireguard.address(), 1) };
    let pinging = pair.a.host.ping_until_answered(ping, Some(&pair.a.wireguard))?;
    let started = Instant::now();
    let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
    let mut story = Story::new(daemons[0].process().started());
    let limit = if path.is_relayed() { UNREACHABLE_LIMIT } else { CONNECT_LIMIT };
    let ends = loop {
        story.go_on(pair, &daemons);
        let states = states(pair, &daemons)?;
        let all =
            |state: &str| states.iter().all(|peer| peer.as_ref().is_some_and(|peer| peer.state == state));
        let connected = all("connected") || all("relayed") && path.is_relayed();
        if pinging.is_done() && connected || all("unreachable") {
            // What was logged while the states were asked for.
            story.go_on(pair, &daemons);
            break states;
        }
        if started.elapsed() > limit {
            bail!("after {limit:?} the daemons say {states:?}");
        }
        thread::sleep(LOOK_EVERY);
    };
    let pings = pinging.stop()?;
    let first = pings.first_answer().and_then(|at| at.duration_since(daemons[1].process().started()).ok());
    println!();
    for ((here, there), status) in pair.both_ways().into_iter().zip(&ends) {
        conclude(here, there, status.as_ref())?;
    }
    let Some(first) = first else {
        println!("\nNo path is possible between these two, and no endpoint was touched.");
        return Ok(());
    };
    println!("\nThe first ping over the tunnel was answered {first:.0?} after the second daemon's start.");
    show_pings(pair)?;
    println!("Packets of the tunnel that crossed the server: {}", pair.server.wireguard_packets()?);
    Ok(())
}

/// What both daemons say of their peer.
fn states(pair: &Pair, daemons: &[Daemon; 2]) -> Result<[Option<PeerStatus>; 2]> {
    let mut states = [None, None];
    for (index, (here, there)) in pair.both_ways().into_iter().enumerate() {
        states[index] = daemons[index].peer(there.wireguard.public_key())?;
        if let Some(status) = daemons[index].process().exited() {
            bail!("wireplug on {} ended with {status}", here.host.label());
        }
    }
    Ok(states)
}

fn conclude(here: &End, there: &End, status: Option<&PeerStatus>) -> Result<()> {
    let (from, to) = (here.host.label(), there.host.label());
    let Some(status) = status else { bail!("wireplug on {from} says nothing of {to}") };
    let endpoint = here.wireguard.endpoint(there.wireguard.public_key())?;
    match (&status.reason, endpoint) {
        (_, Some(endpoint)) => {
            let strategy = status.strategy.as_deref().unwrap_or("no strategy");
            let proven = if status.proven { "proven, then applied" } else { "applied unproven" };
            let round_trip = status.rtt_ms.map(|ms| format!(", round trip {ms:.1} ms")).unwrap_or_default();
            println!("  {from} is {} to {to}: {endpoint} by {strategy}, {proven}{round_trip}", status.state);
        }
        (Some(reason), None) => println!("  {from} calls {to} {}: {reason}", status.state),
        (None, None) => println!("  {from} calls {to} {}", status.state),
    }
    Ok(())
}

/// Shows the tunnel at work with the system's own ping.
fn show_pings(pair: &Pair) -> Result<()> {
    let to = pair.b.wireguard.address().to_string();
    println!("\n  a$ ping -c 5 {to}");
    let output = Command::new("ip")
        .args(["netns", "exec", pair.a.host.namespace().name(), "ping", "-n", "-c", "5", "-i", "0.2", &to])
        .output()
        .context("cannot start ping")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("  {line}");
    }
    println!();
    if output.status.success() { Ok(()) } else { bail!("pings over the tunnel were not answered") }
}

fn list(addresses: &[std::net::IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
