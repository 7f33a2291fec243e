//! `cargo xtask bench roam`: how long a tunnel stands still when one side moves to another network.

mod moves;
mod page;

use std::time::Duration;

use anyhow::Result;
use wireplug_lab::{Binaries, Outage};

use crate::bench::page::Section;
use crate::bench::{Figures, machine};
use crate::{cargo, packages};
use moves::Move;

/// Runs for each figure.
const RUNS: usize = 3;

/// Round-trip times between any two hosts, in milliseconds, one after another.
const DELAYS: [u64; 2] = [0, 50];

/// What `bench roam` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RoamArguments {
    /// Runs for each figure; the median is printed.
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// Only with this round-trip time between any two hosts, in milliseconds; writes nothing.
    #[arg(long, value_name = "MS")]
    delay: Option<u64>,
    /// Shows logs and states of each run that took longer than a second, or did not get where it belongs; writes nothing.
    #[arg(long)]
    explain: bool,
    /// Only these moves, as FROM/TO/PEER, three kinds of NAT, with /cable or /address for how, and /back where the peer
    /// pings; writes nothing.
    moves: Vec<Move>,
}

impl Default for RoamArguments {
    fn default() -> Self {
        Self { runs: RUNS, delay: None, explain: false, moves: Vec::new() }
    }
}

impl RoamArguments {
    fn is_whole(&self) -> bool {
        self.delay.is_none() && !self.explain && self.moves.is_empty()
    }
}

/// The section of docs/BENCHMARKS.md.
pub(crate) const SECTION: Section = Section {
    name: "roam",
    title: "Roam",
    about: include_str!("roam/about.md"),
    measure: || figures(&RoamArguments::default()),
};

/// A slow run is worth an explanation.
const SLOW: Duration = Duration::from_secs(1);

/// One row: what was measured for each delay, run by run; none where the pair did not get where it belongs.
pub(crate) struct Measured {
    what: Move,
    by_delay: Vec<Vec<Option<Outage>>>,
}

/// Measures what was asked for; the whole of it is published.
pub(crate) fn run(arguments: &RoamArguments) -> Result<()> {
    figures(arguments)?.conclude(arguments.is_whole().then_some(&SECTION))
}

fn figures(arguments: &RoamArguments) -> Result<Figures> {
    packages::ensure()?;
    let version = machine::version();
    let log = if arguments.explain { "debug" } else { "info" };
    let binaries = cargo::release_binaries()?.logging(log);
    let delays = arguments.delay.map_or_else(|| DELAYS.to_vec(), |delay| vec![delay]);
    let bench = Bench { binaries, delays, runs: arguments.runs.max(1), explain: arguments.explain };
    let measure = |moves: Vec<Move>| moves.into_iter().map(|one| bench.measure(one)).collect::<Vec<_>>();
    let (table, list) = if arguments.moves.is_empty() {
        (measure(moves::table()), measure(moves::list()))
    } else {
        (Vec::new(), measure(arguments.moves.clone()))
    };
    page::render(&version, bench.runs, &bench.delays, &table, &list)
}

struct Bench {
    binaries: Binaries,
    delays: Vec<u64>,
    runs: usize,
    explain: bool,
}

impl Bench {
    fn measure(&self, what: Move) -> Measured {
        let by_delay = self.delays.iter().map(|&delay| {
            let runs: Vec<_> = (0..self.runs).map(|_| self.once(what, delay)).collect();
            eprintln!("{what}, {delay} ms: {}", page::cell(&runs));
            runs
        });
        Measured { what, by_delay: by_delay.collect() }
    }

    fn once(&self, what: Move, delay: u64) -> Option<Outage> {
        let slow = |outage: &wireplug_lab::Result<Outage>| {
            self.explain && !outage.as_ref().is_ok_and(|outage| outage.silent <= SLOW)
        };
        what.measure(&self.binaries, delay, slow).inspect_err(|error| eprintln!("{what}: {error}")).ok()
    }
}
