//! One daemon with many peers, whose other ends a [`Crowd`] plays.
//!
//! ```text
//!  host ── router with a NAT ── internet ── crowd, public
//!                                  └── server
//! ```

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::binaries::Binaries;
use crate::crowd::{Crowd, CrowdPlan, CrowdReport};
use crate::daemon::Daemon;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::lab::Lab;
use crate::nat::{Nat, WIREGUARD_PORT};
use crate::server::Server;
use crate::wireguard::Wireguard;

/// The first member's port.
const FIRST_PORT: u16 = 20_000;

/// An interface with many peers, all waiting for its daemon.
#[derive(Debug)]
pub struct Many {
    /// Where the interface is.
    pub host: Host,
    /// The interface.
    pub wireguard: Wireguard,
    /// Its peers.
    pub crowd: Crowd,
    /// The server, running.
    pub server: Server,
    config: PathBuf,
    /// Dropping this ends everything.
    pub lab: Lab,
}

/// Several interfaces of one host, each with peers of its own.
#[derive(Debug)]
pub struct ManyInterfaces {
    /// Where the interfaces are.
    pub host: Host,
    /// The interfaces, each with its peers.
    pub all: Vec<(Wireguard, Crowd)>,
    /// The server, running.
    pub server: Server,
    config: PathBuf,
    /// Dropping this ends everything.
    pub lab: Lab,
}

/// Host, interfaces, server and config.
type Built = (Host, Vec<(Wireguard, Crowd)>, Server, PathBuf);

/// How it went from the daemon's start until the last peer was connected.
#[derive(Clone, Debug)]
pub struct ManyReport {
    /// The time until half of the peers were connected.
    pub median: Duration,
    /// The time until all were.
    pub all: Duration,
    /// The daemon's CPU time until then.
    pub cpu: Duration,
    /// What the crowd saw.
    pub crowd: CrowdReport,
}

impl Many {
    /// An interface behind `nat` with `peers` peers, and one more that floods it with so many checks a second if `flood`
    /// says so.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub fn new(nat: Nat, peers: usize, flood: Option<u32>, binaries: Option<Binaries>) -> Result<Self> {
        let lab = match binaries {
            Some(binaries) => Lab::with_binaries("many", binaries)?,
            None => Lab::new("many")?,
        };
        match Self::build(&lab, nat, CrowdPlan { members: peers, first_port: FIRST_PORT, flood }) {
            Ok((host, wireguard, crowd, server, config)) => {
                Ok(Self { host, wireguard, crowd, server, config, lab })
            }
            Err(error) => {
                lab.fail(&error.to_string());
                Err(error)
            }
        }
    }

    fn build(lab: &Lab, nat: Nat, plan: CrowdPlan) -> Result<(Host, Wireguard, Crowd, Server, PathBuf)> {
        let server = lab.server()?;
        server.start()?;
        let host = lab.site("a", nat)?.host()?;
        let others = lab.site("crowd", Nat::None)?.host()?;
        let wireguard = host.wireguard(Ipv4Addr::new(10, 77, 0, 1))?;
        let config = host.wireplug_config(&wireguard, &server, "")?;
        let crowd = others.crowd(plan, &wireguard, &server)?;
        Ok((host, wireguard, crowd, server, config))
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wireplug(&self) -> Result<Daemon> {
        self.host.wireplug(&self.wireguard, &self.config)
    }

    /// Starts the daemon and waits until every peer is connected.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn connect(&self, limit: Duration) -> Result<(Daemon, ManyReport)> {
        let daemon = self.wireplug()?;
        let crowd = self.crowd.wait_connected(limit)?;
        let start = daemon.process().started();
        let after = |share| {
            let none = || LabError::unexpected("a crowd of nobody");
            crowd.after(start, share).ok_or_else(none)
        };
        let cpu = daemon.cpu_time().ok_or_else(|| LabError::unexpected("wireplug has ended"))?;
        let report = ManyReport { median: after(0.5)?, all: after(1.0)?, cpu, crowd };
        Ok((daemon, report))
    }

    /// Runs `work`; its error prints the lab's digest.
    ///
    /// # Errors
    /// That of `work`.
    pub fn finish<T>(self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let result = work(&self);
        if let Err(error) = &result {
            self.lab.fail(&error.to_string());
        }
        result
    }
}

impl ManyInterfaces {
    /// So many interfaces behind `nat`, with `peers` peers each.
    ///
    /// # Errors
    /// When something cannot be set up.
    pub fn new(nat: Nat, interfaces: u16, peers: u16) -> Result<Self> {
        let lab = Lab::new("many")?;
        match Self::build(&lab, nat, interfaces, peers) {
            Ok((host, all, server, config)) => Ok(Self { host, all, server, config, lab }),
            Err(error) => {
                lab.fail(&error.to_string());
                Err(error)
            }
        }
    }

    fn build(lab: &Lab, nat: Nat, interfaces: u16, peers: u16) -> Result<Built> {
        let server = lab.server()?;
        server.start()?;
        let host = lab.site("a", nat)?.host()?;
        let others = lab.site("crowd", Nat::None)?.host()?;
        let mut all = Vec::new();
        for number in 0..interfaces {
            let [_, network] = number.to_be_bytes();
            let wireguard = host.wireguard(Ipv4Addr::new(10, 77, network, 1))?;
            // Each begins at the usual port, which must be free for the next one.
            wireguard.set(&["listen-port", &(WIREGUARD_PORT + 1 + number).to_string()])?;
            let first_port = FIRST_PORT + number * peers;
            let plan = CrowdPlan { members: usize::from(peers), first_port, flood: None };
            let crowd = others.crowd(plan, &wireguard, &server)?;
            all.push((wireguard, crowd));
        }
        let tables = all.iter().map(|(wireguard, _)| ["[interface.", wireguard.device(), "]\n"]);
        let tables: String = tables.flatten().collect();
        let config = host.wireplug_config(&all[0].0, &server, &tables)?;
        Ok((host, all, server, config))
    }

    /// Starts the daemon; gives a view of it for each interface.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wireplugd(&self) -> Result<Vec<Daemon>> {
        let wireguards: Vec<_> = self.all.iter().map(|(wireguard, _)| wireguard.clone()).collect();
        self.host.wireplugd(&wireguards, &self.config)
    }

    /// Runs `work`; its error prints the lab's digest.
    ///
    /// # Errors
    /// That of `work`.
    pub fn finish<T>(self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let result = work(&self);
        if let Err(error) = &result {
            self.lab.fail(&error.to_string());
        }
        result
    }
}
