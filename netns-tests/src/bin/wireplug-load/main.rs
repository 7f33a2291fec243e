//! `wireplug-load`: sends WireGuard-shaped datagrams over many pairs at a rate, and counts what arrives.
//!
//! Part of the lab; `cargo xtask bench relay` runs it in a namespace with its two ends in others. It reports on
//! standard output, one JSON object on a line.

mod ends;
mod idle;
mod machine;
mod packet;
mod relay;
mod rendezvous;
mod search;
mod traffic;
mod turn;

use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::ends::Place;
use crate::rendezvous::Rendezvous;
use crate::traffic::{Traffic, Window};

/// Sends WireGuard-shaped datagrams over many pairs at a rate, and counts what arrives.
#[derive(Debug, Parser)]
#[command(name = "wireplug-load")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// One window at a rate.
    Rate {
        #[command(flatten)]
        pairs: Pairs,
        /// Datagrams a second over all pairs; as many as can be sent if not given.
        #[arg(long)]
        rate: Option<f64>,
        /// How long, in milliseconds.
        #[arg(long, default_value_t = 2000)]
        milliseconds: u64,
        /// Measures the CPU time of sending too.
        #[arg(long)]
        time_sending: bool,
    },
    /// The highest rate without loss.
    Search {
        #[command(flatten)]
        pairs: Pairs,
        /// How long each window is, in milliseconds.
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
    },
    /// Memory of the server with idle allocations; the addresses of the ends are the first of many.
    Idle {
        #[command(flatten)]
        pairs: Pairs,
    },
}

#[derive(Debug, Args)]
struct Pairs {
    /// Where the left ends are, as NAMESPACE=ADDRESS.
    #[arg(long)]
    left: Place,
    /// Where the right ends are.
    #[arg(long)]
    right: Place,
    /// How many pairs.
    #[arg(long = "pairs", default_value_t = 1)]
    count: usize,
    /// Bytes of each datagram, without what a relay puts before it.
    #[arg(long, default_value_t = 1400)]
    size: usize,
    /// A TURN server that relays; without one the ends send to each other.
    #[arg(long)]
    turn: Option<SocketAddrV4>,
    /// The WebSocket (without TLS) of a wireplug-serverd that relays.
    #[arg(long, conflicts_with = "turn")]
    wireplug: Option<SocketAddrV4>,
    /// With --turn: the plain peer sends, instead of the TURN client.
    #[arg(long, requires = "turn")]
    from_peer: bool,
    /// The server's process, whose CPU time counts.
    #[arg(long)]
    server_pid: Option<i32>,
    /// The core that the load runs on.
    #[arg(long)]
    core: Option<usize>,
}

impl Pairs {
    /// Makes the pairs; the connections keep their places on a relay.
    fn traffic(&self) -> Result<(Traffic, Option<[Rendezvous; 2]>)> {
        if let Some(core) = self.core {
            machine::stay_on(core)?;
        }
        let places = [&self.left, &self.right];
        let (ways, connections) = if let Some(server) = self.wireplug {
            let (ways, connections) = relay::pairs(server, places, self.count)?;
            (ways, Some(connections))
        } else if let Some(server) = self.turn {
            let sender = if self.from_peer { turn::Sender::Peer } else { turn::Sender::Client };
            (turn::pairs(server, places, self.count, self.size, sender)?, None)
        } else {
            (ends::plain(places, self.count)?, None)
        };
        Ok((Traffic::new(ways, self.size)?, connections))
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse().task) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<String> {
    let report = match task {
        Task::Rate { pairs, rate, milliseconds, time_sending } => {
            let window = Window {
                rate: *rate,
                duration: Duration::from_millis(*milliseconds),
                server: pairs.server_pid,
                time_sending: *time_sending,
            };
            let (mut traffic, _places) = pairs.traffic()?;
            serde_json::to_string(&traffic.measure(&window)?)
        }
        Task::Search { pairs, milliseconds } => {
            let (mut traffic, _places) = pairs.traffic()?;
            let duration = Duration::from_millis(*milliseconds);
            let found = search::highest_rate(|rate| {
                traffic.measure(&Window {
                    rate: Some(rate),
                    duration,
                    server: pairs.server_pid,
                    time_sending: false,
                })
            })?;
            serde_json::to_string(&found)
        }
        Task::Idle { pairs } => {
            let server = pairs.wireplug.context("--wireplug is missing")?;
            let pid = pairs.server_pid.context("--server-pid is missing")?;
            serde_json::to_string(&idle::measure(server, [&pairs.left, &pairs.right], pairs.count, pid)?)
        }
    };
    report.context("cannot write the report")
}
