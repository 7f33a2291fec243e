//! The computers of a lab.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use crate::error::{LabError, Result};
use crate::lab::Shared;
use crate::namespace::Namespace;
use crate::nat::{CLOSED_HOST, Nat};
use crate::process::Process;

/// A computer in the lab. A handle: the lab owns what it names.
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
    pub(crate) label: String,
    /// What its link to its site is called.
    pub(crate) uplink: String,
    pub(crate) nat: Nat,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) public: Vec<IpAddr>,
}

impl Host {
    /// Its name in the lab.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What stands between it and the internet.
    pub fn nat(&self) -> Nat {
        self.nat
    }

    /// Its own addresses, the preferred family first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The addresses under which the internet sees it, the preferred family first.
    pub fn public_addresses(&self) -> &[IpAddr] {
        &self.public
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Runs a program to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.namespace.run(argv)
    }

    /// Starts a program that ends with the lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Process> {
        self.shared.spawn(&self.namespace, &format!("{}-{name}", self.label), program, args, env)
    }

    /// Drops everything that comes in and is not an answer (or a ping).
    ///
    /// # Errors
    /// When nft refuses.
    pub fn close_firewall(&self) -> Result<()> {
        self.namespace.nft(CLOSED_HOST)
    }

    /// An ordinary UDP socket of this host.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn udp(&self, bind: SocketAddr) -> Result<UdpSocket> {
        self.namespace.enter(|| {
            UdpSocket::bind(bind).map_err(LabError::io(format!("bind UDP {bind} on {}", self.label)))
        })
    }
}
