//! `wireplug` on a host, and what it says of itself.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::cmd::{output, wait_for};
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::process::Process;
use crate::server::Server;
use crate::wireguard::Wireguard;

/// A running `wireplug INTERFACE`.
#[derive(Clone, Debug)]
pub struct Daemon {
    host: Host,
    device: String,
    program: PathBuf,
    process: Process,
}

/// One interface in `wireplug status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct InterfaceStatus {
    /// The interface's name.
    pub interface: String,
    /// Why nothing can be done: the interface is not there.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Its peers.
    pub peers: Vec<PeerStatus>,
    /// The rendezvous servers, in the order of the config.
    #[serde(default)]
    pub servers: Vec<ServerStatus>,
}

/// One server in `wireplug status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerStatus {
    /// Where it is.
    pub url: String,
    /// Whether it is connected.
    pub connected: bool,
}

/// One peer in `wireplug status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerStatus {
    /// Its public key, base64.
    pub public_key: String,
    /// `idle`, `gathering`, `checking`, `connected`, `relayed` or `unreachable`.
    pub state: String,
    /// Which strategy found the path in use.
    pub strategy: Option<String>,
    /// The endpoint in use.
    pub endpoint: Option<String>,
    /// The round-trip time of the path, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether that endpoint was proven before it was applied.
    #[serde(default)]
    pub proven: bool,
    /// Whether somebody else has set that endpoint.
    #[serde(default)]
    pub by_hand: bool,
    /// What is being tried now.
    #[serde(default)]
    pub trying: Option<String>,
    /// Why the peer cannot be reached.
    pub reason: Option<String>,
}

impl Host {
    /// Writes a configuration for `wireguard` with the server's address and pin, and `more` after it.
    ///
    /// # Errors
    /// When the file cannot be written, or the pin not be had.
    pub fn wireplug_config(&self, wireguard: &Wireguard, server: &Server, more: &str) -> Result<PathBuf> {
        self.wireplug_config_at(&server.url(self.nat()), wireguard, server, more)
    }

    /// As [`Self::wireplug_config`], with another URL of the server.
    ///
    /// # Errors
    /// When the file cannot be written, or the pin not be had.
    pub fn wireplug_config_at(
        &self,
        url: &str,
        wireguard: &Wireguard,
        server: &Server,
        more: &str,
    ) -> Result<PathBuf> {
        let text = format!("[[server]]\nurl = \"{url}\"\npin = \"{}\"\n{more}", server.pin()?);
        self.shared.write(&format!("{}.toml", wireguard.device()), &text)
    }

    /// Starts `wireplug INTERFACE --config FILE`, without waiting for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wireplug(&self, wireguard: &Wireguard, config: &std::path::Path) -> Result<Daemon> {
        let program = self.shared.binaries.path("wireplug")?;
        let args = [wireguard.device(), "--config", &config.display().to_string()];
        let state = self.shared.file("state").display().to_string();
        let [log] = self.shared.binaries.environment();
        let environment = [log, ("WIREPLUG_STATE_DIR", &*state)];
        let process = self.spawn("wireplug", &program, &args, &environment)?;
        Ok(Daemon { host: self.clone(), device: wireguard.device().to_owned(), program, process })
    }
}

impl Host {
    /// Starts `wireplugd --config FILE` for all interfaces of the config, without waiting for anything. What it gives
    /// are views of one process, one for each of `wireguards`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wireplugd(&self, wireguards: &[Wireguard], config: &std::path::Path) -> Result<Vec<Daemon>> {
        let program = self.shared.binaries.path("wireplugd")?;
        let state = self.shared.file("state").display().to_string();
        let [log] = self.shared.binaries.environment();
        let environment = [log, ("WIREPLUG_STATE_DIR", &*state)];
        let config = config.display().to_string();
        let process = self.spawn("wireplugd", &program, &["--config", &config], &environment)?;
        let program = self.shared.binaries.path("wireplug")?;
        let view = |wireguard: &Wireguard| Daemon {
            host: self.clone(),
            device: wireguard.device().to_owned(),
            program: program.clone(),
            process: process.clone(),
        };
        Ok(wireguards.iter().map(view).collect())
    }
}

impl Daemon {
    /// The running program.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What `wireplug status INTERFACE --json` says; none while it does not answer.
    ///
    /// # Errors
    /// When it prints something that is no status.
    pub fn status(&self) -> Result<Option<InterfaceStatus>> {
        let program = self.program.display().to_string();
        let name = self.host.namespace().name();
        let output = output(&["ip", "netns", "exec", name, &program, "status", &self.device, "--json"], "")?;
        if !output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let all: Vec<InterfaceStatus> = serde_json::from_str(&text).map_err(|_| LabError::Parse {
            what: "an array of interfaces in `wireplug status --json`",
            text,
        })?;
        Ok(all.into_iter().find(|interface| interface.interface == self.device))
    }

    /// What status says of one peer; none while the daemon does not answer or know it.
    ///
    /// # Errors
    /// When status is unreadable.
    pub fn peer(&self, public_key: &str) -> Result<Option<PeerStatus>> {
        let found = self.status()?;
        Ok(found.and_then(|status| status.peers.into_iter().find(|peer| peer.public_key == public_key)))
    }

    /// Waits until status gives the peer this state.
    ///
    /// # Errors
    /// When it does not in `limit`: says what it was instead. When the daemon has ended.
    pub fn wait_state(&self, public_key: &str, state: &str, limit: Duration) -> Result<PeerStatus> {
        let mut last = None;
        let result = wait_for("state", limit, || {
            if let Some(status) = self.process.exited() {
                return Err(LabError::unexpected(format!(
                    "wireplug ended with {status}: {}",
                    self.process.log()
                )));
            }
            last = self.peer(public_key)?;
            Ok(last.clone().filter(|peer| peer.state == state))
        });
        result.map_err(|error| match error {
            LabError::Timeout { after, .. } => LabError::Timeout {
                what: format!("state {state:?} on {}; status is {last:?}", self.host.label()),
                after,
            },
            other => other,
        })
    }

    /// Waits until each of its servers is connected or not, in the order of its configuration.
    ///
    /// # Errors
    /// When they are not in `limit`: says what they were instead.
    pub fn wait_servers(&self, expected: &[bool], limit: Duration) -> Result<()> {
        let mut last = None;
        let result = wait_for("servers", limit, || {
            let Some(status) = self.status()? else { return Ok(None) };
            let connected: Vec<bool> = status.servers.iter().map(|server| server.connected).collect();
            let fits = connected == expected;
            last = Some(connected);
            Ok(fits.then_some(()))
        });
        result.map_err(|error| match error {
            LabError::Timeout { after, .. } => LabError::Timeout {
                what: format!("servers {expected:?} on {}; they are {last:?}", self.host.label()),
                after,
            },
            other => other,
        })
    }

    /// Whether the daemon's namespace has a raw socket open.
    pub fn raw_socket_open(&self) -> bool {
        ["raw", "raw6"].iter().any(|table| {
            let path = format!("/proc/{}/net/{table}", self.process.pid());
            fs::read_to_string(path).is_ok_and(|text| text.lines().count() > 1)
        })
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// How many file descriptors it has open, sockets among them.
    pub fn open_files(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.process.pid())).ok()?.count())
    }

    /// How many threads it has.
    pub fn threads(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/task", self.process.pid())).ok()?.count())
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Option<Duration> {
        /// `/proc/PID/schedstat` counts nanoseconds on the CPU, exactly.
        fn nanoseconds(path: &std::path::Path) -> Option<u64> {
            fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
        }
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.pid())).ok()?;
        let sum = threads.flatten().filter_map(|thread| nanoseconds(&thread.path().join("schedstat"))).sum();
        Some(Duration::from_nanos(sum))
    }

    /// How often its threads have gone to sleep so far, and so been woken.
    pub fn wakeups(&self) -> Option<u64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.pid())).ok()?;
        let sleeps = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        let each = threads.flatten().filter_map(|one| fs::read_to_string(one.path().join("status")).ok());
        Some(each.filter_map(sleeps).sum())
    }
}
