//! `cargo xtask bench many`: one daemon with many peers, at its start and at rest.

mod page;

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wireplug_lab::{Binaries, Daemon, Many, ManyReport, Nat, wait_for};

use super::page::Section;
use super::{Figures, machine};
use crate::{cargo, packages};

/// Numbers of peers: what each costs shows by the difference.
const PEERS: [usize; 3] = [1, 50, 500];
/// What takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(120);
/// How long rounds go on to look for something better, and some seconds more: then all are at rest.
const COME_TO_REST: Duration = Duration::from_secs(45);

/// Starts for each number of peers.
const RUNS: usize = 3;
/// For how long the settled daemon is watched, in seconds.
const REST: u64 = 60;

/// What `bench many` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ManyArguments {
    /// Starts for each number of peers; the median is printed.
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// For how long the settled daemon is watched, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = REST)]
    rest: u64,
    /// Only these numbers of peers; then nothing is written.
    peers: Vec<usize>,
}

impl Default for ManyArguments {
    fn default() -> Self {
        Self { runs: RUNS, rest: REST, peers: Vec::new() }
    }
}

/// What was measured with so many peers.
struct Row {
    peers: usize,
    /// One for each run.
    starts: Vec<ManyReport>,
    rest: Rest,
}

/// A daemon whose peers are all settled.
struct Rest {
    /// Share of one core.
    cpu: f64,
    resident_kib: u64,
    /// How often a second its threads go to sleep and are woken.
    wakeups: f64,
    raw_socket_open: bool,
}

/// This benchmark on the page.
pub(crate) const SECTION: Section = Section {
    name: "many",
    title: "Many peers",
    about: include_str!("many/about.md"),
    measure: || figures(&ManyArguments::default()),
};

/// Measures what was asked for; the whole of it is published.
pub(crate) fn run(arguments: &ManyArguments) -> Result<()> {
    figures(arguments)?.conclude(arguments.peers.is_empty().then_some(&SECTION))
}

fn figures(arguments: &ManyArguments) -> Result<Figures> {
    packages::ensure()?;
    let version = machine::version();
    let binaries = binaries()?;
    let numbers = if arguments.peers.is_empty() { &PEERS[..] } else { &arguments.peers[..] };
    let watch = Duration::from_secs(arguments.rest);
    let mut rows = Vec::new();
    for &peers in numbers {
        rows.push(measure(&binaries, peers, arguments.runs.max(1), watch)?);
    }
    Ok(Figures::complete(page::render(&rows, &version, watch)?))
}

/// The release builds of daemon, server and crowd.
fn binaries() -> Result<Binaries> {
    let dir = cargo::release_dir()?;
    if std::env::var_os("WIREPLUG_LAB_BINARIES").is_none() {
        let crowd = ["-p", "wireplug-integration", "--bin", "wireplug-crowd"];
        cargo::run(&[&["build", "--quiet", "--release"][..], &crowd].concat(), &[])?;
    }
    Ok(Binaries::in_dir(dir).logging("info"))
}

fn measure(binaries: &Binaries, peers: usize, runs: usize, watch: Duration) -> Result<Row> {
    let mut starts = Vec::new();
    loop {
        let many = Many::new(Nat::PortPreserving, peers, None, Some(binaries.clone()))?;
        let rest = many.finish(|many| {
            let (daemon, report) = many.connect(LIMIT)?;
            wait_for("all peers to be connected in status", LIMIT, || {
                let status = daemon.status()?;
                let all = |peer: &wireplug_lab::PeerStatus| peer.state == "connected" && peer.proven;
                Ok(status.filter(|status| status.peers.iter().all(all)).map(drop))
            })?;
            eprintln!(
                "{peers} peers: {:.2?}, {:.2?} of CPU, {}",
                report.all,
                report.cpu,
                report.crowd.summary()
            );
            starts.push(report);
            Ok((starts.len() == runs).then(|| rest(&daemon, watch)))
        })?;
        if let Some(rest) = rest {
            return Ok(Row { peers, starts, rest: rest? });
        }
    }
}

fn rest(daemon: &Daemon, watch: Duration) -> Result<Rest> {
    let ended = "wireplug has ended";
    thread::sleep(COME_TO_REST);
    let used = || Some((daemon.cpu_time()?, daemon.wakeups()?));
    let (cpu_before, wakeups_before) = used().context(ended)?;
    thread::sleep(watch);
    let (cpu, wakeups) = used().context(ended)?;
    let seconds = watch.as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let wakeups = wakeups.saturating_sub(wakeups_before) as f64 / seconds;
    Ok(Rest {
        cpu: cpu.saturating_sub(cpu_before).as_secs_f64() / seconds,
        resident_kib: daemon.resident_kib().context(ended)?,
        wakeups,
        raw_socket_open: daemon.raw_socket_open(),
    })
}
