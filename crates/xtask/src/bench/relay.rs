//! `cargo xtask bench relay`: what forwarding costs, side by side with coturn and the kernel.

mod figures;
mod page;

use std::time::Duration;

use anyhow::Result;
use wireplug_lab::{Binaries, Cutting, HighestRate, LoadLab, LoadReport, Priority, Through, Traffic};

use crate::bench::page::Section;
use crate::bench::{self, machine};
use crate::{cargo, packages};
use figures::{Each, Figures, Row, Shape, Way};

/// What `bench relay` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayArguments {
    /// Windows for each figure; the median is printed.
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// A few seconds with a part of the figures, each from one short window; writes nothing.
    #[arg(long)]
    quick: bool,
    /// Measures only these, and writes nothing.
    #[arg(value_enum)]
    ways: Vec<Way>,
}

impl Default for RelayArguments {
    fn default() -> Self {
        Self { runs: RUNS, quick: false, ways: Vec::new() }
    }
}

/// Windows for each figure.
const RUNS: usize = 3;

/// Datagrams a second that all are offered; none: as many as the load can send.
const RATES: [Option<f64>; 3] = [Some(10_000.0), Some(100_000.0), None];
/// Bytes of each datagram.
const SIZES: [usize; 2] = [1400, 100];
/// Bytes of each datagram on links like network cards.
const CARD_SIZE: usize = 1400;
/// Pairs that send, one after another.
const PAIRS: [usize; 2] = [1, 50];
/// Datagrams a second at which latency is measured: each finds an idle server.
const LOW_RATE: f64 = 1000.0;

/// How long each window of traffic is.
const WINDOW: Duration = Duration::from_millis(1000);
/// How long each window of the search for the highest rate is.
const SEARCH_WINDOW: Duration = Duration::from_millis(500);
/// All windows of a quick run.
const QUICK_WINDOW: Duration = Duration::from_millis(200);

/// The section of docs/BENCHMARKS.md.
pub(crate) const SECTION: Section = Section {
    name: "relay",
    title: "Relay",
    about: include_str!("relay/about.md"),
    measure: || figures(&RelayArguments::default()),
};

/// Measures what was asked for; the whole of it is published.
pub(crate) fn run(arguments: &RelayArguments) -> Result<()> {
    let whole = !arguments.quick && arguments.ways.is_empty();
    figures(arguments)?.conclude(whole.then_some(&SECTION))
}

fn figures(arguments: &RelayArguments) -> Result<bench::Figures> {
    packages::ensure()?;
    let version = machine::version();
    let binaries = binaries()?;
    let mut lab = LoadLab::new(binaries, Priority::First)?;
    let ways: Vec<Way> = Way::ALL
        .into_iter()
        .filter(|way| arguments.ways.is_empty() || arguments.ways.contains(way))
        .collect();
    for way in &ways {
        match way {
            Way::Wireplug => lab.start_serverd()?,
            Way::Coturn => lab.start_coturn()?,
            Way::Kernel => {}
        }
    }
    let runs = if arguments.quick { 1 } else { arguments.runs.max(1) };
    let mut bench = Bench { lab, ways, version, runs, quick: arguments.quick };
    let result = bench.measure();
    if let Err(error) = &result {
        bench.lab.lab().fail(&format!("{error:#}"));
    }
    Ok(bench::Figures::complete(page::render(&result?)?))
}

/// The release builds of the server and of the load.
fn binaries() -> Result<Binaries> {
    let dir = if let Some(dir) = std::env::var_os("WIREPLUG_LAB_BINARIES") {
        dir.into()
    } else {
        let programs = ["--bin", "wireplug-serverd", "--bin", "wireplug-load"];
        let packages = ["build", "--quiet", "--release", "-p", "wireplug-serverd", "-p", "wireplug-lab"];
        cargo::run(&[&packages[..], &programs].concat(), &[])?;
        cargo::target_dir()?.join("release")
    };
    Ok(Binaries::in_dir(dir).logging("warn"))
}

struct Bench {
    lab: LoadLab,
    ways: Vec<Way>,
    version: String,
    runs: usize,
    quick: bool,
}

impl Bench {
    fn measure(&mut self) -> Result<Figures> {
        let sizes = if self.quick { &SIZES[..1] } else { &SIZES[..] };
        let shapes: Vec<Shape> =
            PAIRS.iter().flat_map(|&pairs| sizes.iter().map(move |&size| Shape { pairs, size })).collect();
        let mut figures = Figures {
            ways: self.ways.clone(),
            version: self.version.clone(),
            runs: self.runs,
            ..Figures::default()
        };
        for &shape in &shapes {
            for rate in RATES {
                eprintln!("{shape}, {}", figures::rate(rate));
                figures.rows.push(self.row(shape, rate)?);
            }
        }
        for &shape in &shapes {
            eprintln!("{shape}, {}", figures::rate(Some(LOW_RATE)));
            figures.low.push(self.row(shape, Some(LOW_RATE))?);
        }
        if !self.quick {
            for &shape in &shapes {
                eprintln!("{shape}, highest rate without loss");
                figures.highest.push((shape, self.highest(shape)?));
            }
        }
        if !self.quick && self.ways.contains(&Way::Wireplug) {
            eprintln!("{IDLE_ALLOCATIONS} idle allocations");
            figures.idle = Some(self.lab.idle(IDLE_ALLOCATIONS)?);
        }
        for cutting in [Cutting::Card, Cutting::Kernel] {
            eprintln!("links like network cards, {}", figures::cut_by(cutting));
            figures.cards.push((cutting, self.cards(cutting)?));
        }
        Ok(figures)
    }

    /// What servers cost on links that receive like network cards. Last of all: the links stay so.
    fn cards(&self, cutting: Cutting) -> Result<Vec<Row>> {
        self.lab.receive_like_cards(cutting)?;
        let mut rows = Vec::new();
        for pairs in PAIRS {
            for rate in RATES {
                let mut row = Row {
                    shape: Shape { pairs, size: CARD_SIZE },
                    rate,
                    ways: Vec::new(),
                    cable: Vec::new(),
                };
                // The kernel's own forwarding now runs in threads of its own, which no send call pays.
                row.ways.extend(
                    self.ways.iter().filter(|way| **way != Way::Kernel).map(|way| (*way, Vec::new())),
                );
                for _ in 0..self.runs {
                    for (way, reports) in &mut row.ways {
                        reports.push(self.window(way.through(), row.shape, rate)?);
                    }
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// What each way costs at this rate. The ways take turns, so that whatever else the machine does meets all of them.
    fn row(&self, shape: Shape, rate: Option<f64>) -> Result<Row> {
        let mut row = Row {
            shape,
            rate,
            ways: self.ways.iter().map(|way| (*way, Vec::new())).collect(),
            cable: Vec::new(),
        };
        for _ in 0..self.runs {
            for (way, reports) in &mut row.ways {
                reports.push(self.window(way.through(), shape, rate)?);
            }
            row.cable.push(self.window(Through::Cable, shape, rate)?);
        }
        Ok(row)
    }

    fn highest(&self, shape: Shape) -> Result<Each<HighestRate>> {
        let search = |way: Way| Ok((way, self.lab.search(shape.through(way.through()), SEARCH_WINDOW)?));
        self.ways.iter().copied().map(search).collect()
    }

    fn window(&self, through: Through, shape: Shape, rate: Option<f64>) -> Result<LoadReport> {
        let window = if self.quick { QUICK_WINDOW } else { WINDOW };
        Ok(self.lab.rate(shape.through(through), rate, window)?)
    }
}

/// Allocations whose memory is measured.
const IDLE_ALLOCATIONS: usize = 100_000;

impl Shape {
    fn through(self, through: Through) -> Traffic {
        Traffic { through, pairs: self.pairs, size: self.size }
    }
}
