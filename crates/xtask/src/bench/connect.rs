//! `cargo xtask bench connect`: how long the first ping takes, and what a settled daemon costs.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wireplug_lab::{Binaries, Nat, Pair, PairOptions, SETTLE};

use crate::bench::page::Section;
use crate::bench::{Figures, machine, median};
use crate::{cargo, packages};

/// The section of docs/BENCHMARKS.md.
pub(crate) const SECTION: Section = Section {
    name: "connect",
    title: "Connect",
    about: include_str!("connect/about.md"),
    measure: || figures(&ConnectArguments::default()),
};

/// What `bench connect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArguments {
    /// Runs for each figure; the median is printed.
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// Round-trip time between any two hosts, in milliseconds; 0 and then 50 if not given.
    #[arg(long, value_name = "MS")]
    delay: Option<u64>,
    /// Only the column of clean peers.
    #[arg(long)]
    clean: bool,
    /// For how long a settled daemon is watched, in seconds; 0 leaves that out.
    #[arg(long, value_name = "SECONDS", default_value_t = REST)]
    rest: u64,
    /// Only these pairs, as KIND/KIND; one for each kind of path if none is given.
    pairs: Vec<String>,
}

impl Default for ConnectArguments {
    fn default() -> Self {
        Self { runs: RUNS, delay: None, clean: false, rest: REST, pairs: Vec::new() }
    }
}

/// Runs for each figure.
const RUNS: usize = 5;
/// For how long a settled daemon is watched, in seconds.
const REST: u64 = 30;
/// Round trips, in milliseconds.
const DELAYS: [u64; 2] = [0, 50];
/// The pairs: the two commonest, two NATs that are less easy, IPv6, a router that is asked, and both ways by the relay.
const PAIRS: [[Nat; 2]; 8] = [
    [Nat::None, Nat::None],
    [Nat::PortPreserving, Nat::PortPreserving],
    [Nat::Fixed, Nat::Cgnat],
    [Nat::FullCone, Nat::Symmetric],
    [Nat::Ipv6Firewall, Nat::Ipv6Firewall],
    [Nat::PortPreserving, Nat::SymmetricPcp],
    [Nat::PortPreserving, Nat::Symmetric],
    [Nat::PortPreserving, Nat::UdpBlocked],
];

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
            Self::Stale => "stale",
        }
    }

    fn traffic(self) -> bool {
        matches!(self, Self::Stale)
    }
}

/// Measures what was asked for; the whole of it is published.
pub(crate) fn run(arguments: &ConnectArguments) -> Result<()> {
    let whole =
        arguments.delay.is_none() && !arguments.clean && arguments.rest > 0 && arguments.pairs.is_empty();
    figures(arguments)?.conclude(whole.then_some(&SECTION))
}

fn figures(arguments: &ConnectArguments) -> Result<Figures> {
    packages::ensure()?;
    let machine = machine::lab_line(&machine::version())?;
    let binaries = cargo::release_binaries()?.logging("info");
    let pairs = pairs(&arguments.pairs)?;
    let text = format!("{machine} Medians of {} runs; first peer / second peer.\n", arguments.runs);
    let mut figures = Figures::complete(text);
    let delays = arguments.delay.map_or(DELAYS.to_vec(), |delay| vec![delay]);
    for delay in delays {
        first_pings(&mut figures, arguments, &binaries, &pairs, delay)?;
    }
    if arguments.rest > 0 {
        at_rest(&mut figures.text, &binaries, Duration::from_secs(arguments.rest))?;
    }
    Ok(figures)
}

/// The table of first pings at one round trip.
fn first_pings(
    figures: &mut Figures,
    arguments: &ConnectArguments,
    binaries: &Binaries,
    pairs: &[[Nat; 2]],
    delay: u64,
) -> Result<()> {
    let Figures { text, missing } = figures;
    let columns: &[Start] =
        if arguments.clean { &[Start::Clean] } else { &[Start::Clean, Start::Keepalive, Start::Stale] };
    let titles: Vec<&str> = columns.iter().map(|column| column.title()).collect();
    writeln!(
        text,
        "\nFirst answered ping at {delay} ms of round trip:\n\n| pair | {} |",
        titles.join(" | ")
    )?;
    writeln!(text, "|---|{}", "--:|".repeat(columns.len()))?;
    for &[a, b] in pairs {
        write!(text, "| {a} / {b} |")?;
        for column in columns {
            eprintln!("{a}/{b}, {delay} ms, {}", column.title());
            let options = PairOptions {
                keepalive: matches!(column, Start::Keepalive).then_some(25),
                stale_endpoints: matches!(column, Start::Stale),
                binaries: Some(binaries.clone()),
                ..PairOptions::with_round_trip(delay)
            };
            let median = median(measure([a, b], &options, column.traffic(), arguments.runs));
            if median.is_none() {
                missing.push(format!("{a}/{b} at {delay} ms ({})", column.title()));
            }
            let figure = median.map_or_else(|| "-".to_owned(), |median| format!("{} ms", median.as_millis()));
            write!(text, " {figure} |")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// The pairs that were asked for, or those of the page.
fn pairs(asked: &[String]) -> Result<Vec<[Nat; 2]>> {
    if asked.is_empty() {
        return Ok(PAIRS.to_vec());
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

/// Memory, CPU time and sockets of two daemons whose tunnel has worked for a while.
fn at_rest(text: &mut String, binaries: &Binaries, watch: Duration) -> Result<()> {
    eprintln!("at rest");
    let options = PairOptions { binaries: Some(binaries.clone()), ..PairOptions::default() };
    let pair = Pair::new("rest", [Nat::PortPreserving; 2], &options)?;
    let daemons = pair.connect()?;
    thread::sleep(COME_TO_REST);
    let cpu = || daemons.each_ref().map(wireplug_lab::Daemon::cpu_time);
    let before = cpu();
    thread::sleep(watch);
    let after = cpu();
    let (rest, watch) = (COME_TO_REST.as_secs(), watch.as_secs_f64());
    writeln!(text, "\nAt rest, {rest} s after the first ping, watched for {watch:.0} s:\n")?;
    writeln!(text, "| daemon | resident | CPU | raw socket |\n|---|--:|--:|--:|")?;
    for (index, daemon) in daemons.iter().enumerate() {
        let name = if index == 0 { "first" } else { "second" };
        let resident = daemon.resident_kib().with_context(|| format!("the {name} wireplug has ended"))?;
        let used = after[index].zip(before[index]).map(|(after, before)| after.saturating_sub(before));
        let used = used.with_context(|| format!("the {name} wireplug has ended"))?;
        let percent = used.as_secs_f64() / watch * 100.0;
        let raw = if daemon.raw_socket_open() { "open" } else { "closed" };
        writeln!(text, "| {name} | {} MiB | {percent:.3} % ({used:.1?}) | {raw} |", resident / 1024)?;
    }
    Ok(())
}
