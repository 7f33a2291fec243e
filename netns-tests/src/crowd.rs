//! A crowd: the other ends of many tunnels, all played by one program.
//!
//! `wireplug-crowd` speaks as that many daemons and interfaces would: a key, a UDP port and a topic for each. It says on
//! its standard output, one JSON object on a line, what [`CrowdSays`].

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::process::Process;
use crate::server::{HTTPS_PORT, Server};
use crate::wireguard::Wireguard;

/// How long it may take to make keys and to join.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What a crowd is to be.
#[derive(Clone, Copy, Debug)]
pub struct CrowdPlan {
    /// How many it is.
    pub members: usize,
    /// The UDP port of the first one; the others have the ports after it.
    pub first_port: u16,
    /// Genuine checks a second that one more member floods the interface with, once it knows where that is.
    pub flood: Option<u32>,
}

/// What `wireplug-crowd` says, each once and in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CrowdSays {
    /// The members' public keys, base64; the one that floods is the last.
    Keys(Vec<String>),
    /// All have joined their topics and published their offers.
    Joined,
    /// Every member but the one that floods has a WireGuard session.
    Connected(CrowdReport),
}

/// When the members of a crowd were connected, and what it took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrowdReport {
    /// When each of them had its session, in milliseconds since 1970, the first one first.
    pub connected_ms: Vec<u64>,
    /// Offers that came.
    pub offers: u64,
    /// Checks that came.
    pub checks: u64,
    /// Checks that the members sent themselves.
    pub checked: u64,
    /// Times that a server called a member to a relay.
    pub calls: u64,
}

/// A running crowd.
#[derive(Clone, Debug)]
pub struct Crowd {
    process: Process,
    keys: Vec<String>,
}

impl Host {
    /// Starts a crowd on this host whose members are peers of `wireguard`, makes them peers there, and waits until it has
    /// joined at the server.
    ///
    /// # Errors
    /// When the program cannot be started, does not join, or when `wg` refuses.
    pub fn crowd(&self, plan: CrowdPlan, wireguard: &Wireguard, server: &Server) -> Result<Crowd> {
        let program = self.shared.binaries.path("wireplug-crowd")?;
        let address = self.addresses[0];
        let https = if address.is_ipv4() { server.v4(0).into() } else { server.v6(0).into() };
        let mut args = vec![
            "--of".to_owned(),
            wireguard.public_key().to_owned(),
            "--members".to_owned(),
            plan.members.to_string(),
            "--address".to_owned(),
            SocketAddr::new(address, plan.first_port).to_string(),
            "--server".to_owned(),
            SocketAddr::new(https, HTTPS_PORT).to_string(),
        ];
        if let Some(rate) = plan.flood {
            args.extend(["--flood".to_owned(), rate.to_string()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = self.spawn("crowd", &program, &args, &[])?;
        let keys = await_said(&process, "its keys", START_LIMIT, |says| match says {
            CrowdSays::Keys(keys) => Some(keys),
            CrowdSays::Joined | CrowdSays::Connected(_) => None,
        })?;
        wireguard.add_peers(&keys)?;
        await_said(&process, "that it has joined", START_LIMIT, |says| {
            matches!(says, CrowdSays::Joined).then_some(())
        })?;
        Ok(Crowd { process, keys })
    }
}

impl Crowd {
    /// The running program.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The members' public keys, base64; the one that floods is the last.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Waits until every member has a session.
    ///
    /// # Errors
    /// When not all have one after `limit`, or the program has ended.
    pub fn wait_connected(&self, limit: Duration) -> Result<CrowdReport> {
        await_said(&self.process, "that all are connected", limit, |says| match says {
            CrowdSays::Connected(report) => Some(report),
            CrowdSays::Keys(_) | CrowdSays::Joined => None,
        })
    }
}

impl CrowdReport {
    /// What was said, in a line.
    pub fn summary(&self) -> String {
        let Self { offers, checks, checked, calls, .. } = self;
        format!("{offers} offers and {checks} checks came, {checked} were sent, {calls} calls to relays")
    }

    /// The time from `start` until this share of the members was connected: 0.5 is the median, 1.0 all of them.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some hundred
    pub fn after(&self, start: SystemTime, share: f64) -> Option<Duration> {
        let last = (self.connected_ms.len() as f64 * share).ceil() as usize;
        let at = self.connected_ms.get(last.max(1) - 1)?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(*at);
        Some(at.duration_since(start).unwrap_or_default())
    }
}

fn await_said<T>(
    process: &Process,
    what: &str,
    limit: Duration,
    mut wanted: impl FnMut(CrowdSays) -> Option<T>,
) -> Result<T> {
    wait_for(&format!("the crowd to say {what}"), limit, || {
        let ended = process.exited();
        let log = process.log();
        let mut said = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        match (said.find_map(&mut wanted), ended) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(status)) => {
                Err(LabError::unexpected(format!("the crowd ended with {status}: {}", process.log())))
            }
            (None, None) => Ok(None),
        }
    })
}
