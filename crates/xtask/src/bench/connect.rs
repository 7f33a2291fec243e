//! `cargo xtask bench connect`: how long the first ping takes, and what a settled daemon costs.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wireplug_lab::{Binaries, Nat, Pair, PairOptions, expected};

use crate::{cargo, packages};

/// What `bench connect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArguments {
    /// Runs for each figure; the median is printed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Round-trip time between any two hosts, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Only the column of clean peers.
    #[arg(long)]
    clean: bool,
    /// For how long a settled daemon is watched, in seconds; 0 leaves that out.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    rest: u64,
    /// Only these pairs, as KIND/KIND; all that can be direct if none is given.
    pairs: Vec<String>,
}

/// How long the first daemon has before the second starts: it has found its candidates by then.
const SETTLE: Duration = Duration::from_secs(2);

/// How long a connected pair is left alone before it counts as at rest.
const COME_TO_REST: Duration = Duration::from_secs(30);

/// How the peers are set up: a column of the table.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// No endpoint, no keepalive, no traffic before.
    Clean,
    /// `PersistentKeepalive = 25` on both, no endpoint.
    Keepalive,
    /// An endpoint where nobody answers on both, and pings all the time.
    Stale,
}

impl Start {
    fn title(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Keepalive => "keepalive",
            Self::Stale => "stale+traffic",
        }
    }

    fn traffic(self) -> bool {
        matches!(self, Self::Stale)
    }
}

pub(crate) fn run(arguments: &ConnectArguments) -> Result<()> {
    packages::ensure()?;
    let binaries = cargo::release_binaries()?.logging("info");
    let one_way_delay = (arguments.delay > 0).then(|| Duration::from_micros(arguments.delay * 1000 / 2));
    let columns: &[Start] =
        if arguments.clean { &[Start::Clean] } else { &[Start::Clean, Start::Keepalive, Start::Stale] };
    println!("first answered ping after the second daemon's start, median of {} runs,", arguments.runs);
    println!("{} ms of round trip between any two hosts\n", arguments.delay);
    print!("{:<34}", "first peer/second peer");
    for column in columns {
        print!("{:>15}", column.title());
    }
    println!();
    for [a, b] in pairs(&arguments.pairs)? {
        print!("{:<34}", format!("{a}/{b}"));
        for column in columns {
            let options = PairOptions {
                keepalive: matches!(column, Start::Keepalive).then_some(25),
                stale_endpoints: matches!(column, Start::Stale),
                one_way_delay,
                binaries: Some(binaries.clone()),
                ..PairOptions::default()
            };
            print!("{:>15}", figure(&measure([a, b], &options, column.traffic(), arguments.runs)));
            // The table grows before the reader's eyes; a closed pipe ends it.
            std::io::Write::flush(&mut std::io::stdout()).context("cannot print the table")?;
        }
        println!();
    }
    if arguments.rest > 0 { at_rest(&binaries, Duration::from_secs(arguments.rest)) } else { Ok(()) }
}

/// The pairs that were asked for, or all that can be direct.
fn pairs(asked: &[String]) -> Result<Vec<[Nat; 2]>> {
    if asked.is_empty() {
        let squared = Nat::PLAIN.into_iter().flat_map(|a| Nat::PLAIN.map(|b| [a, b]));
        let ipv6 = [Nat::Ipv6Firewall; 2];
        return Ok(squared.chain([ipv6]).filter(|[a, b]| !expected(*a, *b).is_relayed()).collect());
    }
    let parse = |text: &String| {
        let (a, b) =
            text.split_once('/').with_context(|| format!("{text:?} is no pair such as none/fixed"))?;
        Ok([a.parse().map_err(anyhow::Error::msg)?, b.parse().map_err(anyhow::Error::msg)?])
    };
    asked.iter().map(parse).collect()
}

/// The times of all runs; none for one that did not connect.
fn measure(nats: [Nat; 2], options: &PairOptions, traffic: bool, runs: usize) -> Vec<Option<Duration>> {
    let run = |_| {
        let measured =
            Pair::new("bench", nats, options).and_then(|pair| pair.measure_connect(SETTLE, traffic));
        measured.inspect_err(|error| eprintln!("{}/{}: {error}", nats[0], nats[1])).ok()
    };
    (0..runs).map(run).collect()
}

/// The median in milliseconds. A run that did not connect is slower than all others.
fn figure(times: &[Option<Duration>]) -> String {
    let mut sorted: Vec<Duration> = times.iter().map(|time| time.unwrap_or(Duration::MAX)).collect();
    sorted.sort_unstable();
    match sorted.get(sorted.len() / 2) {
        Some(&Duration::MAX) | None => "-".to_owned(),
        Some(median) => format!("{} ms", median.as_millis()),
    }
}

/// Memory, CPU time and sockets of two daemons whose tunnel has worked for a while.
fn at_rest(binaries: &Binaries, watch: Duration) -> Result<()> {
    let options = PairOptions { binaries: Some(binaries.clone()), ..PairOptions::default() };
    let pair = Pair::new("rest", [Nat::PortPreserving; 2], &options)?;
    let daemons = pair.connect()?;
    thread::sleep(COME_TO_REST);
    println!(
        "\nat rest, {} s after the first ping, watched for {} s",
        COME_TO_REST.as_secs(),
        watch.as_secs()
    );
    let cpu = || daemons.each_ref().map(wireplug_lab::Daemon::cpu_time);
    let before = cpu();
    thread::sleep(watch);
    let after = cpu();
    for (index, daemon) in daemons.iter().enumerate() {
        let name = if index == 0 { "a" } else { "b" };
        let resident = daemon.resident_kib().with_context(|| format!("wireplug on {name} has ended"))?;
        let used = after[index].zip(before[index]).map(|(after, before)| after.saturating_sub(before));
        let used = used.with_context(|| format!("wireplug on {name} has ended"))?;
        let percent = used.as_secs_f64() / watch.as_secs_f64() * 100.0;
        let raw = if daemon.raw_socket_open() { "open" } else { "closed" };
        let mib = resident / 1024;
        println!("  {name}: {mib} MiB resident, {percent:.3} % of a CPU ({used:.1?}), raw socket {raw}");
    }
    Ok(())
}
