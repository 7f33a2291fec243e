//! Development tasks: `cargo xtask demo | test | matrix | bench | fuzz | vm`.

mod bench;
mod cargo;
mod demo;
mod docs;
mod fuzz;
mod hygiene;
mod matrix;
mod packages;
mod signals;
mod story;
mod suite;
mod vm;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bench::connect::ConnectArguments;
use bench::relay::RelayArguments;
use bench::roam::RoamArguments;
use clap::{Parser, Subcommand};
use wireplug_lab::Nat;

/// Development tasks of wireplug.
///
/// All but `fuzz`, `bench hot-paths` and `bench words` need root, because they make network namespaces; nothing that they do
/// reaches the network outside, save that missing system packages are installed with apt-get on Debian and Ubuntu.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows two WireGuard peers behind NATs find each other, step by step.
    Demo {
        /// What the first peer is behind: none, full-cone, port-preserving, fixed, symmetric, cgnat, symmetric-upnp-igd,
        /// symmetric-nat-pmp, symmetric-pcp, udp-blocked, closed-host, ipv6-firewall or dual-stack.
        #[arg(default_value = "port-preserving")]
        first: Nat,
        /// What the second peer is behind.
        #[arg(default_value = "port-preserving")]
        second: Nat,
        /// Round-trip time between any two hosts, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 0)]
        delay: u64,
    },
    /// Checks format, lints, documentation, builds without a strategy and dependencies, and runs all tests, also those in
    /// network namespaces, and first those of `vm` where its packages can be had and `WIREPLUG_SKIP_VM` is not 1.
    Test {
        /// Runs property tests on far more random cases than usual, and after them each fuzz target for a short time.
        #[arg(long)]
        fuzz: bool,
        /// Runs only tests whose names contain one of these, and no other checks.
        filters: Vec<String>,
    },
    /// Runs the fuzz targets of fuzz/ under libFuzzer; what they find is kept for the next run.
    ///
    /// Needs no root. Installs cargo-fuzz where there is none.
    Fuzz {
        /// How long it takes in all, not counting the build.
        minutes: u64,
        /// Only these targets.
        targets: Vec<String>,
        /// Afterwards keeps, of all inputs that were ever found, only those that reach something of their own.
        #[arg(long)]
        minimise: bool,
    },
    /// Runs every kind of place against every other, and writes which path they come to and how long that takes as
    /// docs/MATRIX.md and docs/matrix.svg.
    Matrix(matrix::MatrixArguments),
    /// Measures, prints tables, and writes docs/BENCHMARKS.md; everything, if not told what.
    Bench(BenchArguments),
    /// Runs a part of the tests against the kernel's own WireGuard, in a virtual machine with Debian's kernel.
    ///
    /// Nothing is installed but the emulator and small tools; the kernel is unpacked below target/vm. Emulated by
    /// default, so that it works everywhere; the host's tree is read-only in there.
    Vm(VmArguments),
}

#[derive(Debug, Default, clap::Args)]
struct VmArguments {
    /// Uses the processor's support (/dev/kvm) instead of emulation.
    #[arg(long)]
    kvm: bool,
    /// How long the virtual machine may run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = vm::LIMIT)]
    limit: u64,
    /// After the tests, measures connecting at 50 ms of round trip, so many times for each pair of NATs.
    #[arg(long, value_name = "RUNS", default_value_t = 0)]
    measure: usize,
    /// Measures the unoptimised programs that the tests use, and builds no others.
    #[arg(long, requires = "measure")]
    unoptimised: bool,
    /// Runs this shell command in the virtual machine, and no tests.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["filters", "measure"])]
    shell: Option<String>,
    /// Runs the tests whose names contain one of these, instead of those that are proven on the module.
    filters: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct BenchArguments {
    #[command(subcommand)]
    what: Option<Bench>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Time from the second daemon's start to the first answered ping over the tunnel, for pairs of each kind of path;
    /// and what a settled daemon costs. Takes about twenty minutes. Writes its section of docs/BENCHMARKS.md.
    Connect(ConnectArguments),
    /// How long a tunnel stands still when one side moves to another network, by what it was behind, what it is behind then,
    /// and what the peer is behind. Takes about half an hour. Writes its section of docs/BENCHMARKS.md.
    Roam(RoamArguments),
    /// What the relay's forwarding costs, side by side with coturn and the kernel's own forwarding: packets for each
    /// CPU-second, the highest rate without loss, added latency, and memory of idle allocations. Takes about ten minutes, and
    /// both of the machine's first two cores. Writes its section of docs/BENCHMARKS.md.
    Relay(RelayArguments),
    /// One daemon with 1, 50 and 500 peers, whose other ends one program plays: how soon all are connected from its start on,
    /// and what it costs once all are settled. Takes about seven minutes. Writes its section of docs/BENCHMARKS.md.
    Many(bench::many::ManyArguments),
    /// What runs for each datagram, offer or event, without IO: Criterion's medians. Writes its section of
    /// docs/BENCHMARKS.md.
    HotPaths,
    /// Measures nothing: writes docs/BENCHMARKS.md anew with the figures that it has, after a change to its words.
    Words,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    signals::clean_up_when_ended()?;
    match &arguments.task {
        Task::Demo { first, second, delay } => demo::run([*first, *second], *delay),
        Task::Test { fuzz, filters } => suite::run(*fuzz, filters),
        Task::Fuzz { minutes, targets, minimise } => {
            fuzz::within(Duration::from_secs(60 * minutes), targets, *minimise)
        }
        Task::Matrix(arguments) => matrix::run(arguments),
        Task::Bench(BenchArguments { what: None }) => bench::all(),
        Task::Bench(BenchArguments { what: Some(Bench::Connect(arguments)) }) => {
            bench::connect::run(arguments)
        }
        Task::Bench(BenchArguments { what: Some(Bench::Roam(arguments)) }) => bench::roam::run(arguments),
        Task::Bench(BenchArguments { what: Some(Bench::Relay(arguments)) }) => bench::relay::run(arguments),
        Task::Bench(BenchArguments { what: Some(Bench::Many(arguments)) }) => bench::many::run(arguments),
        Task::Bench(BenchArguments { what: Some(Bench::HotPaths) }) => bench::hot_paths::run(),
        Task::Bench(BenchArguments { what: Some(Bench::Words) }) => bench::words(),
        Task::Vm(arguments) => {
            packages::ensure()?;
            vm::Vm::prepare()?.run(arguments)
        }
    }
}
