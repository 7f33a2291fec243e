//! The host of the server, and `wireplug-serverd` on it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cmd::wait_for;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::internet::{Stack, Uplink};
use crate::lab::{Lab, Shared};
use crate::namespace::Namespace;
use crate::nat::Nat;
use crate::process::Process;
use crate::site::wait_for_ipv6;

/// Where the server listens for HTTPS.
pub(crate) const HTTPS_PORT: u16 = 443;
/// Where the server answers STUN (RFC 8489 section 18.6).
pub const STUN_PORT: u16 = 3478;

/// What it is called where it has a name.
const NAME: &str = "rendezvous.example";

/// Where the server relays, unless its configuration says else.
const RELAY_PORTS: RangeInclusive<u16> = 3479..=3510;

/// How long the server may take to listen: it makes a certificate on its first start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Counts WireGuard's data messages (type 4, three zero bytes; WireGuard paper section 5.4.6) that reach the host.
const COUNTER: &str = "table inet lab {
    counter wireguard { }
    chain in {
        type filter hook prerouting priority raw; policy accept
        meta l4proto udp @th,64,32 0x04000000 counter name wireguard
    }
}\n";

/// A public host with two addresses per family, where `wireplug-serverd` can run.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    namespace: Namespace,
    uplink: Uplink,
    /// Where it keeps its state, with its certificate.
    state_dir: PathBuf,
    config: PathBuf,
    process: Mutex<Option<Process>>,
    /// Where its numbers are asked for on its own host.
    local_url: Mutex<String>,
}

impl Lab {
    /// The server's host, with its configuration; [`Server::start`] starts the program.
    ///
    /// # Errors
    /// When the host cannot be set up.
    pub fn server(&self) -> Result<Server> {
        self.server_called("server")
    }

    /// The same under a name of its own, where there are several.
    ///
    /// # Errors
    /// When the host cannot be set up.
    pub fn server_called(&self, name: &str) -> Result<Server> {
        let shared = Arc::clone(self.shared());
        let namespace = shared.namespace(name)?;
        let uplink = shared.attach(&namespace, "eth0", Stack::Dual, 2)?;
        namespace.nft(COUNTER)?;
        for index in 0..2 {
            wait_for_ipv6(&shared.internet(), uplink.v6(index))?;
        }
        let udp: Vec<String> =
            [IpAddr::V4(uplink.v4(0)), uplink.v4(1).into(), uplink.v6(0).into(), uplink.v6(1).into()]
                .iter()
                .map(|address| format!("{:?}", SocketAddr::new(*address, STUN_PORT).to_string()))
                .collect();
        let state_dir = shared.file(&format!("{name}-state"));
        let config = shared.write(
            &format!("{name}.toml"),
            &format!(
                "listen = \"[::]:{HTTPS_PORT}\"\nudp = [{}]\nstate-dir = {:?}\n",
                udp.join(", "),
                state_dir.display().to_string()
            ),
        )?;
        Ok(Server {
            shared,
            namespace,
            uplink,
            state_dir,
            config,
            process: Mutex::default(),
            local_url: Mutex::default(),
        })
    }
}

impl Host {
    /// Lets programs that are started on this host from now on know the server's name and both its addresses.
    ///
    /// # Errors
    /// When its hosts file cannot be written.
    pub fn knows(&self, server: &Server) -> Result<()> {
        let lines = format!("{} {NAME}\n{} {NAME}\n", server.v6(0), server.v4(0));
        self.shared.overlay_etc(self.namespace(), "hosts", &lines)
    }
}

impl Server {
    /// Its public IPv4 address number 0 or 1.
    pub fn v4(&self, index: u8) -> Ipv4Addr {
        self.uplink.v4(index)
    }

    /// Its public IPv6 address number 0 or 1.
    pub fn v6(&self, index: u16) -> Ipv6Addr {
        self.uplink.v6(index)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its configuration file; a test may add to it before the start.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Its certificate and key in PEM, once it was started.
    pub fn certificate(&self) -> PathBuf {
        self.state_dir.join("certificate.pem")
    }

    /// Adds to its configuration, which ends in the main table.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add_config(&self, more: &str) -> Result<()> {
        let mut text = fs::read_to_string(&self.config)
            .map_err(LabError::io(format!("read {}", self.config.display())))?;
        text.push_str(more);
        fs::write(&self.config, text).map_err(LabError::io(format!("write {}", self.config.display())))
    }

    /// Whether this is one of its relay's addresses and ports.
    pub fn is_relay(&self, endpoint: SocketAddr) -> bool {
        let address = match endpoint.ip() {
            IpAddr::V4(ip) => [self.v4(0), self.v4(1)].contains(&ip),
            IpAddr::V6(ip) => [self.v6(0), self.v6(1)].contains(&ip),
        };
        address && RELAY_PORTS.contains(&endpoint.port())
    }

    /// Its URL by name, for hosts that know the name by [`Host::knows`].
    pub fn url_by_name() -> String {
        format!("wss://{NAME}")
    }

    /// The URL under which a host behind `nat` reaches it.
    pub fn url(&self, nat: Nat) -> String {
        if nat.stack().v4() { format!("wss://{}", self.v4(0)) } else { format!("wss://[{}]", self.v6(0)) }
    }

    /// Starts `wireplug-serverd` and waits until it listens.
    ///
    /// # Errors
    /// When it ends or does not listen in time.
    pub fn start(&self) -> Result<Process> {
        self.start_on(HTTPS_PORT, &format!("https://127.0.0.1:{HTTPS_PORT}"))
    }

    pub(crate) fn start_on(&self, port: u16, local_url: &str) -> Result<Process> {
        let program = self.shared.binaries.path("wireplug-serverd")?;
        let config = self.config.display().to_string();
        let env = self.shared.binaries.environment();
        let process =
            self.shared.spawn(&self.namespace, "serverd", &program, &["--config", &config], &env)?;
        wait_for("wireplug-serverd to listen", START_LIMIT, || {
            if let Some(status) = process.exited() {
                return Err(LabError::unexpected(format!(
                    "wireplug-serverd ended with {status}: {}",
                    process.log()
                )));
            }
            Ok(listens(&process, port).then_some(()))
        })?;
        *self.slot() = Some(process.clone());
        local_url.clone_into(&mut self.local_url.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(process)
    }

    /// The running program.
    pub fn process(&self) -> Option<Process> {
        self.slot().clone()
    }

    /// Kills the program at once (SIGKILL).
    pub fn kill(&self) {
        if let Some(process) = self.slot().take() {
            process.kill();
        }
    }

    /// The pin of its certificate, as `wireplug-serverd pin` prints it.
    ///
    /// # Errors
    /// When the program fails or prints something else.
    pub fn pin(&self) -> Result<String> {
        let program = self.shared.binaries.path("wireplug-serverd")?;
        let (program, config) = (program.display().to_string(), self.config.display().to_string());
        let text = self.namespace.run(&[&program, "pin", "--config", &config])?;
        let pin = text.trim().to_owned();
        if pin.starts_with("sha256/") && pin.lines().count() == 1 {
            return Ok(pin);
        }
        Err(LabError::Parse { what: "the pin that `wireplug-serverd pin` prints", text })
    }

    /// How many WireGuard data messages have reached this host: none, unless it relays.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn wireguard_packets(&self) -> Result<u64> {
        let text = self.namespace.run(&["nft", "list", "counter", "inet", "lab", "wireguard"])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|number| number.parse().ok())
            .ok_or(LabError::Parse { what: "the counter of WireGuard packets", text: text.clone() })
    }

    /// The sum of one of its numbers over all labels, as it tells programs on its own host under `/metrics`.
    ///
    /// # Errors
    /// When it cannot be asked, or does not know the number.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let url = format!("{}/metrics", self.local_url.lock().unwrap_or_else(PoisonError::into_inner));
        let text = self.namespace.run(&["curl", "--silent", "--show-error", "--fail", "--insecure", &url])?;
        let unread = || LabError::Parse { what: "the server's metrics", text: text.clone() };
        let full = format!("wireplug_{name}");
        let values = text.lines().filter_map(|line| {
            let (this, value) = line.rsplit_once(' ')?;
            (this.split('{').next() == Some(&full)).then(|| value.parse::<u64>())
        });
        let values: Vec<u64> = values.collect::<Result<_, _>>().map_err(|_| unread())?;
        if values.is_empty() { Err(unread()) } else { Ok(values.iter().sum()) }
    }

    /// A UDP socket on this host.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn udp(&self, bind: SocketAddr) -> Result<UdpSocket> {
        self.namespace
            .enter(|| UdpSocket::bind(bind).map_err(LabError::io(format!("bind UDP {bind} on the server"))))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anything listens on a TCP port in the process's namespace.
pub(crate) fn listens(process: &Process, port: u16) -> bool {
    /// `TCP_LISTEN` in /proc/net/tcp.
    const LISTEN: &str = "0A";
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{}/net/{table}", process.pid())).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some(LISTEN)
        })
    })
}
