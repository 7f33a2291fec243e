//! A bench for servers that forward datagrams: two hosts, and the server between them.
//!
//! ```text
//!  left ──veth── server ──veth── right
//!    └────────────veth────────────┘
//! ```
//!
//! The server's namespace forwards, so that plain kernel forwarding can be measured there too; the cable from left
//! to right is what all are compared with. The load runs on [`LOAD_CORE`], servers on [`SERVER_CORE`], so that on a machine
//! with two cores the one does not take the other's time.

mod card;
mod report;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::binaries::Binaries;
use crate::cmd::wait_for;
use crate::coturn;
use crate::error::{LabError, Result};
use crate::internet::OUTER_INDEX;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::server::{STUN_PORT, listens};

pub use card::Cutting;
pub use report::{HighestRate, IdleReport, LoadReport};

/// The core that servers run on.
pub const SERVER_CORE: usize = 0;
/// The core that the load runs on, senders and receivers alike.
pub const LOAD_CORE: usize = 1;

/// How servers and the load share the machine with what else runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// They run before all else, as if they had the machine for themselves (`SCHED_FIFO`): for measuring. Everything
    /// else nearly stops meanwhile, another load too.
    First,
    /// As everybody: for tests of what arrives, beside other tests.
    Shared,
}

impl Priority {
    /// What goes before a command.
    fn prefix(self) -> &'static [&'static str] {
        match self {
            Self::First => &["chrt", "--fifo", "1"],
            Self::Shared => &[],
        }
    }
}

/// The server's addresses towards both sides, and theirs.
const SERVER_LEFT: Ipv4Addr = Ipv4Addr::new(62, 77, 1, 1);
const SERVER_RIGHT: Ipv4Addr = Ipv4Addr::new(62, 77, 2, 1);
const LEFT: Ipv4Addr = Ipv4Addr::new(62, 77, 1, 2);
const RIGHT: Ipv4Addr = Ipv4Addr::new(62, 77, 2, 2);
/// The two ends of the cable.
const LEFT_CABLE: Ipv4Addr = Ipv4Addr::new(62, 77, 3, 1);
const RIGHT_CABLE: Ipv4Addr = Ipv4Addr::new(62, 77, 3, 2);

/// The first addresses of both sides for many allocations, and their networks: an address may ask for only so many.
const MANY: [(Ipv4Addr, &str); 2] =
    [(Ipv4Addr::new(62, 78, 0, 1), "62.78.0.0/16"), (Ipv4Addr::new(62, 79, 0, 1), "62.79.0.0/16")];

/// Where coturn listens. Not on STUN's own port, which `wireplug-serverd` has.
const TURN: SocketAddrV4 = SocketAddrV4::new(SERVER_LEFT, 13478);

/// Where `wireplug-serverd` takes connections, without TLS: it costs nothing that is measured, and saves a certificate.
const SERVERD: SocketAddrV4 = SocketAddrV4::new(SERVER_LEFT, 8080);

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What the datagrams go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// A cable: nothing.
    Cable,
    /// The kernel of the server's namespace, which forwards by its routing table.
    Kernel,
    /// coturn, as channel data on the way in.
    Coturn,
    /// coturn, as channel data on the way out.
    CoturnFromPeer,
    /// The relay of `wireplug-serverd`.
    Wireplug,
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// What it goes through.
    pub through: Through,
    /// How many pairs send, one after another.
    pub pairs: usize,
    /// Bytes of each datagram.
    pub size: usize,
}

/// The bench.
#[derive(Debug)]
pub struct LoadLab {
    lab: Lab,
    priority: Priority,
    server: Namespace,
    left: Namespace,
    right: Namespace,
    coturn: Option<Process>,
    serverd: Option<Process>,
}

impl LoadLab {
    /// The three hosts, with no server yet. `binaries` must have `wireplug-load`.
    ///
    /// # Errors
    /// When not root, with less than two cores, or when namespaces cannot be made.
    pub fn new(binaries: Binaries, priority: Priority) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores <= LOAD_CORE {
            return Err(LabError::unexpected("a load needs two cores: one for the server, one for itself"));
        }
        let lab = Lab::with_binaries("load", binaries)?;
        let (server, left, right) = {
            let shared = lab.shared();
            (shared.router("server")?, shared.namespace("left")?, shared.namespace("right")?)
        };
        connect(&server, "left0", SERVER_LEFT, 0, (&left, "up0", LEFT))?;
        connect(&server, "right0", SERVER_RIGHT, 1, (&right, "up0", RIGHT))?;
        connect(&left, "cable0", LEFT_CABLE, 2, (&right, "cable0", RIGHT_CABLE))?;
        left.ip(&[format!("route add default via {SERVER_LEFT}")])?;
        right.ip(&[format!("route add default via {SERVER_RIGHT}")])?;
        for ((_, network), (host, gateway)) in MANY.iter().zip([(&left, LEFT), (&right, RIGHT)]) {
            host.ip(&[format!("route add local {network} dev lo")])?;
            server.ip(&[format!("route add {network} via {gateway}")])?;
        }
        Ok(Self { lab, priority, server, left, right, coturn: None, serverd: None })
    }

    /// Starts coturn, without authentication: what it would cost is not in the packets that are measured.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn start_coturn(&mut self) -> Result<()> {
        let args = coturn::server(self.lab.shared(), &[(*TURN.ip()).into()], TURN.port());
        let args: Vec<&str> = std::iter::once("turnserver").chain(args.iter().map(String::as_str)).collect();
        let process = self.spawn("coturn", &args, &[])?;
        process.wait_log(coturn::READY, coturn::START_LIMIT)?;
        self.coturn = Some(process);
        Ok(())
    }

    /// Starts `wireplug-serverd`, with as many allocations as are asked for.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn start_serverd(&mut self) -> Result<()> {
        let shared = self.lab.shared();
        let text = format!(
            "listen = \"{SERVERD}\"\ntls = false\nudp = [\"{SERVER_LEFT}:{STUN_PORT}\"]\nstate-dir = {:?}\n\
             [relay]\nallocations = 1000000\nallocations-per-address = 1000000\n",
            shared.file("serverd-state").display().to_string()
        );
        let config = shared.write("serverd.toml", &text)?.display().to_string();
        let program = shared.binaries.path("wireplug-serverd")?.display().to_string();
        let env = shared.binaries.environment();
        let process = self.spawn("serverd", &[&program, "--config", &config], &env)?;
        wait_for("wireplug-serverd to listen", START_LIMIT, || {
            running(Some(&process), "wireplug-serverd")?;
            Ok(listens(&process, SERVERD.port()).then_some(()))
        })?;
        self.serverd = Some(process);
        Ok(())
    }

    /// One window of traffic at `rate` datagrams a second, or at as many as the load can send.
    ///
    /// # Errors
    /// When the load cannot be set up, or what it goes through was not started.
    pub fn rate(&self, traffic: Traffic, rate: Option<f64>, duration: Duration) -> Result<LoadReport> {
        let milliseconds = duration.as_millis().to_string();
        let rate = rate.map(|rate| rate.to_string());
        let mut args = vec!["--milliseconds", &milliseconds];
        if let Some(rate) = &rate {
            args.extend(["--rate", rate]);
        }
        if matches!(traffic.through, Through::Cable | Through::Kernel) {
            args.push("--time-sending");
        }
        self.load("rate", traffic, &args)
    }

    /// The highest rate without loss, in windows of `duration`.
    ///
    /// # Errors
    /// As [`Self::rate`].
    pub fn search(&self, traffic: Traffic, duration: Duration) -> Result<HighestRate> {
        let milliseconds = duration.as_millis().to_string();
        self.load("search", traffic, &["--milliseconds", &milliseconds])
    }

    /// Starts `wireplug-serverd` anew, and measures its memory with so many idle allocations.
    ///
    /// # Errors
    /// As [`Self::start_serverd`]; when the server refuses an allocation.
    pub fn idle(&mut self, allocations: usize) -> Result<IdleReport> {
        if let Some(serverd) = self.serverd.take() {
            serverd.kill();
        }
        self.start_serverd()?;
        let traffic = Traffic { through: Through::Wireplug, pairs: allocations, size: 0 };
        let [left, right] = MANY.map(|(address, _)| address);
        self.load_between([left, right], "idle", traffic, &[])
    }

    /// The lab that it is made of.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    fn load<T: DeserializeOwned>(&self, task: &str, traffic: Traffic, more: &[&str]) -> Result<T> {
        let ends = if traffic.through == Through::Cable { [LEFT_CABLE, RIGHT_CABLE] } else { [LEFT, RIGHT] };
        self.load_between(ends, task, traffic, more)
    }

    fn load_between<T: DeserializeOwned>(
        &self,
        [left, right]: [Ipv4Addr; 2],
        task: &str,
        traffic: Traffic,
        more: &[&str],
    ) -> Result<T> {
        let program = self.lab.shared().binaries.path("wireplug-load")?.display().to_string();
        let mut args: Vec<String> =
            self.priority.prefix().iter().copied().chain([&*program, task]).map(str::to_owned).collect();
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        option("--left", format!("{}={left}", self.left.name()));
        option("--right", format!("{}={right}", self.right.name()));
        option("--pairs", traffic.pairs.to_string());
        option("--size", traffic.size.to_string());
        option("--core", LOAD_CORE.to_string());
        match traffic.through {
            Through::Cable | Through::Kernel => {}
            Through::Coturn | Through::CoturnFromPeer => {
                option("--turn", TURN.to_string());
                option("--server-pid", running(self.coturn.as_ref(), "coturn")?.pid().to_string());
            }
            Through::Wireplug => {
                option("--wireplug", SERVERD.to_string());
                let serverd = running(self.serverd.as_ref(), "wireplug-serverd")?;
                option("--server-pid", serverd.pid().to_string());
            }
        }
        if traffic.through == Through::CoturnFromPeer {
            args.push("--from-peer".to_owned());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let text = self.left.run(&args)?;
        serde_json::from_str(&text).map_err(|_| LabError::Parse { what: "the report of wireplug-load", text })
    }

    /// Starts a program on the server's host, on the server's core.
    fn spawn(&self, label: &str, command: &[&str], env: &[(&str, &str)]) -> Result<Process> {
        let core = SERVER_CORE.to_string();
        let args = [&["--cpu-list", &core], self.priority.prefix(), command].concat();
        self.lab.shared().spawn(&self.server, label, Path::new("taskset"), &args, env)
    }
}

/// Links two hosts.
fn connect(
    here: &Namespace,
    device: &str,
    address: Ipv4Addr,
    number: u16,
    (there, their_device, their_address): (&Namespace, &str, Ipv4Addr),
) -> Result<()> {
    let index = OUTER_INDEX + number;
    here.ip(&[
        format!("link add {device} index {index} type veth peer name {their_device} netns {}", there.name()),
        format!("addr add {address}/24 dev {device}"),
        format!("link set {device} up"),
    ])?;
    there.ip(&[
        format!("addr add {their_address}/24 dev {their_device}"),
        format!("link set {their_device} up"),
    ])
}

fn running<'a>(process: Option<&'a Process>, name: &str) -> Result<&'a Process> {
    let process = process.ok_or_else(|| LabError::unexpected(format!("{name} was not started")))?;
    match process.exited() {
        None => Ok(process),
        Some(status) => Err(LabError::unexpected(format!("{name} ended with {status}: {}", process.log()))),
    }
}
