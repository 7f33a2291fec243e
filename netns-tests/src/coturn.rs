//! coturn: somebody else's STUN server, and clients that find out about NATs.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::Result;
use crate::host::Host;
use crate::lab::Shared;
use crate::process::Process;
use crate::server::Server;

/// How long the server may take to start.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(10);

/// What it says once it answers.
pub(crate) const READY: &str = "Relay ports initialization done";

/// The command line of a server at these addresses.
pub(crate) fn server(shared: &Shared, addresses: &[IpAddr], port: u16) -> Vec<String> {
    let fixed =
        "-n --no-auth --no-cli --no-tls --no-dtls --no-tcp --no-tcp-relay --log-file stdout --simple-log";
    let mut args: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    args.extend(["--listening-port".to_owned(), port.to_string()]);
    for (option, file) in [("--userdb", "turndb"), ("--pidfile", "turnserver.pid")] {
        args.extend([option.to_owned(), shared.file(file).display().to_string()]);
    }
    for address in addresses {
        args.extend(["--listening-ip".to_owned(), address.to_string()]);
        args.extend(["--relay-ip".to_owned(), address.to_string()]);
    }
    args
}

impl Server {
    /// Starts `turnserver` on this host, at both of its IPv4 addresses and this port; the next one is its alternative.
    ///
    /// # Errors
    /// When it does not start.
    pub fn coturn(&self, port: u16) -> Result<Process> {
        let addresses = [self.v4(0).into(), self.v4(1).into()];
        let mut args = server(self.shared(), &addresses, port);
        args.extend(["--alt-listening-port".to_owned(), (port + 1).to_string()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let coturn =
            self.shared().spawn(self.namespace(), "turnserver", Path::new("turnserver"), &args, &[])?;
        // It says that it is ready before it is.
        wait_for("turnserver to listen at both addresses and ports", START_LIMIT, || {
            Ok((places(&coturn, [port, port + 1]).len() == 4).then_some(()))
        })?;
        Ok(coturn)
    }
}

/// The local addresses with these ports that UDP sockets in the process's namespace are bound to, as the kernel writes
/// them.
fn places(process: &Process, ports: [u16; 2]) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{}/net/udp", process.pid())).unwrap_or_default();
    let local = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let wanted = ports.map(|port| format!(":{port:04X}"));
    local.filter(|place| wanted.iter().any(|port| place.ends_with(port))).map(str::to_owned).collect()
}

impl Host {
    /// Starts `turnutils_stunclient` towards a STUN server. What it learns is in its log; behind a NAT it does not end,
    /// because it waits for answers from elsewhere for ever.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn stun_client(&self, server: SocketAddr) -> Result<Process> {
        let (ip, port) = (server.ip().to_string(), server.port().to_string());
        let client = ["-oL", "turnutils_stunclient", "-p", &port, &ip];
        self.spawn("stunclient", Path::new("stdbuf"), &client, &[])
    }

    /// What `turnutils_natdiscovery` prints when it asks from this port: about the mapping (`-m`), then about the
    /// filtering (`-f`).
    ///
    /// # Errors
    /// When it fails.
    pub fn nat_discovery(&self, server: SocketAddr, port: u16) -> Result<[String; 2]> {
        let (own, port) = (self.v4()?.to_string(), port.to_string());
        let (ip, at) = (server.ip().to_string(), server.port().to_string());
        let ask = |what| {
            let client = ["timeout", "30", "turnutils_natdiscovery", what];
            self.run(&[&client[..], &["-L", &own, "-l", &port, "-p", &at, &ip]].concat())
        };
        Ok([ask("-m")?, ask("-f")?])
    }
}
