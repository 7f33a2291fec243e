//! Real WireGuard on a host, as a person would set it up with `wg`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cmd::{run, wait_for};
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::namespace::Namespace;
use crate::nat::WIREGUARD_PORT;
use crate::process::Process;

/// How long wireguard-go may take to open its control socket.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How long a control socket may be there before anybody listens.
const NEWBORN: Duration = Duration::from_secs(30);

/// Where wireguard-go keeps its control sockets: one directory for all namespaces.
const CONTROL_DIR: &str = "/var/run/wireguard";

/// A WireGuard interface on a host.
#[derive(Clone, Debug)]
pub struct Wireguard {
    namespace: Namespace,
    device: String,
    public_key: String,
    address: Ipv4Addr,
    /// The running wireguard-go; none where the kernel's module does the work.
    process: Option<Process>,
}

/// A peer as it stands in a configuration file.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its public key, base64.
    pub public_key: &'a str,
    /// What `AllowedIPs` says.
    pub allowed_ips: &'a str,
    /// Where it is, if the person said so.
    pub endpoint: Option<SocketAddr>,
    /// The person's keepalive, in seconds.
    pub keepalive: Option<u16>,
}

impl<'a> Peer<'a> {
    /// A peer without endpoint or keepalive that has just its tunnel address.
    pub fn new(public_key: &'a str, allowed_ips: &'a str) -> Self {
        Self { public_key, allowed_ips, endpoint: None, keepalive: None }
    }
}

/// What `wg` knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Where WireGuard would send.
    pub endpoint: Option<SocketAddr>,
    /// The last handshake in seconds since 1970; none before the first.
    pub latest_handshake: Option<u64>,
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
    /// The keepalive in seconds, if on.
    pub keepalive: Option<u16>,
}

impl Host {
    /// Makes a WireGuard interface with a fresh key, `address`/24 and no peers: by the kernel's module where
    /// `WIREPLUG_LAB_WIREGUARD=kernel` says so, else by wireguard-go.
    ///
    /// # Errors
    /// When the kernel has no module or wireguard-go does not start, or when `wg` fails.
    pub fn wireguard(&self, address: Ipv4Addr) -> Result<Wireguard> {
        let private = run(&["wg", "genkey"], "")?;
        let public_key = run(&["wg", "pubkey"], &private)?.trim().to_owned();
        self.wireguard_with_keys(address, &private, &public_key)
    }

    /// As [`Self::wireguard`], with given keys (base64).
    ///
    /// # Errors
    /// When the kernel has no module or wireguard-go does not start, or when `wg` fails.
    pub fn wireguard_with_keys(
        &self,
        address: Ipv4Addr,
        private: &str,
        public_key: &str,
    ) -> Result<Wireguard> {
        let device = self.shared.next_device(&self.namespace);
        self.shared.write(&format!("{device}.key"), private)?;
        self.bring_up(device, address, public_key)
    }

    /// Makes an interface again that was [deleted](Wireguard::delete), under the same name, with the same keys and
    /// without peers: `wg-quick up`.
    ///
    /// # Errors
    /// As [`Self::wireguard`].
    pub fn wireguard_again(&self, deleted: &Wireguard) -> Result<Wireguard> {
        self.bring_up(deleted.device.clone(), deleted.address, &deleted.public_key)
    }

    fn bring_up(&self, device: String, address: Ipv4Addr, public_key: &str) -> Result<Wireguard> {
        let process = if by_kernel() {
            self.namespace.ip(&[format!("link add {device} type wireguard")])?;
            None
        } else {
            Some(self.wireguard_go(&device)?)
        };
        let key_file = self.shared.file(&format!("{device}.key"));
        let wireguard = Wireguard {
            namespace: self.namespace.clone(),
            device,
            public_key: public_key.to_owned(),
            address,
            process,
        };
        let port = WIREGUARD_PORT.to_string();
        wireguard.set(&["listen-port", &port, "private-key", &key_file.display().to_string()])?;
        let device = &wireguard.device;
        self.namespace
            .ip(&[format!("addr add {address}/24 dev {device}"), format!("link set {device} mtu 1420 up")])?;
        Ok(wireguard)
    }

    fn wireguard_go(&self, device: &str) -> Result<Process> {
        let process = self.spawn("wireguard", Path::new("wireguard-go"), &["-f", device], &[])?;
        let socket = control_socket(device);
        wait_for("wireguard-go to open its control socket", START_LIMIT, || {
            if let Some(status) = process.exited() {
                return Err(LabError::unexpected(format!(
                    "wireguard-go ended with {status}: {}",
                    process.log()
                )));
            }
            Ok(socket.exists().then_some(()))
        })?;
        Ok(process)
    }
}

/// Whether the environment wants WireGuard by the kernel's module.
pub fn by_kernel() -> bool {
    std::env::var_os("WIREPLUG_LAB_WIREGUARD").is_some_and(|choice| choice == "kernel")
}

impl Wireguard {
    /// The interface's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its public key, base64.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Its address in the tunnel.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The running wireguard-go; none where the kernel's module does the work.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Runs `wg set` with the interface's name and `args`.
    ///
    /// # Errors
    /// When `wg` refuses.
    pub fn set(&self, args: &[&str]) -> Result<()> {
        self.namespace.run(&[&["wg", "set", &self.device], args].concat()).map(drop)
    }

    /// Deletes the interface: `wg-quick down`.
    ///
    /// # Errors
    /// When it does not go.
    pub fn delete(&self) -> Result<()> {
        match &self.process {
            None => self.namespace.ip(&[format!("link del {}", self.device)]),
            Some(process) => {
                process.terminate();
                process.wait(START_LIMIT).map(drop)
            }
        }
    }

    /// Gives it another key.
    ///
    /// # Errors
    /// When `wg` refuses.
    pub fn change_key(&mut self, host: &Host) -> Result<()> {
        let private = run(&["wg", "genkey"], "")?;
        run(&["wg", "pubkey"], &private)?.trim().clone_into(&mut self.public_key);
        let file = host.shared.write(&format!("{}.key", self.device), &private)?;
        self.set(&["private-key", &file.display().to_string()])
    }

    /// Adds or changes a peer.
    ///
    /// # Errors
    /// When `wg` refuses.
    pub fn peer(&self, peer: &Peer<'_>) -> Result<()> {
        let mut args = vec!["peer".to_owned(), peer.public_key.to_owned(), "allowed-ips".to_owned()];
        args.push(peer.allowed_ips.to_owned());
        if let Some(endpoint) = peer.endpoint {
            args.extend(["endpoint".to_owned(), endpoint.to_string()]);
        }
        if let Some(seconds) = peer.keepalive {
            args.extend(["persistent-keepalive".to_owned(), seconds.to_string()]);
        }
        self.set(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Adds many peers at once, each without endpoint or keepalive and with an address of its own, from 10.128.0.0 on.
    ///
    /// # Errors
    /// When `wg` refuses.
    pub fn add_peers(&self, public_keys: &[String]) -> Result<()> {
        let peers = public_keys.iter().zip(0..).map(|(key, number): (_, u32)| {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number);
            format!("[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32\n")
        });
        let text: String = peers.collect();
        self.namespace.run_with(&["wg", "addconf", &self.device, "/dev/stdin"], &text).map(drop)
    }

    /// What `wg show` says of a peer.
    ///
    /// # Errors
    /// When `wg` fails or does not know the peer.
    pub fn state(&self, public_key: &str) -> Result<PeerState> {
        let dump = self.namespace.run(&["wg", "show", &self.device, "dump"])?;
        let unread = || LabError::Parse { what: "the peer in `wg show dump`", text: dump.clone() };
        let line = dump.lines().skip(1).find(|line| line.starts_with(public_key)).ok_or_else(unread)?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, _, endpoint, _, handshake, rx, tx, keepalive] = fields[..] else { return Err(unread()) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| unread());
        Ok(PeerState {
            endpoint: if endpoint == "(none)" { None } else { Some(endpoint.parse().map_err(|_| unread())?) },
            latest_handshake: Some(number(handshake)?).filter(|at| *at != 0),
            rx: number(rx)?,
            tx: number(tx)?,
            keepalive: keepalive.parse().ok(),
        })
    }

    /// Where WireGuard would send to this peer.
    ///
    /// # Errors
    /// When `wg` fails or does not know the peer.
    pub fn endpoint(&self, public_key: &str) -> Result<Option<SocketAddr>> {
        Ok(self.state(public_key)?.endpoint)
    }

    /// Whether any peer has an endpoint.
    pub fn has_endpoint(&self) -> bool {
        self.first_endpoint().is_some()
    }

    /// The endpoint of the first peer that has one. Of wireguard-go asked over its control socket: cheap enough for each
    /// 10 ms.
    pub fn first_endpoint(&self) -> Option<SocketAddr> {
        if self.process.is_none() {
            let endpoints = self.namespace.run(&["wg", "show", &self.device, "endpoints"]).ok()?;
            return endpoints.split_whitespace().find_map(|word| word.parse().ok());
        }
        let ask = || {
            let mut stream = UnixStream::connect(control_socket(&self.device))?;
            stream.set_read_timeout(Some(START_LIMIT))?;
            stream.write_all(b"get=1\n\n")?;
            let (mut text, mut part) = (Vec::new(), [0; 4096]);
            while !text.ends_with(b"\n\n") {
                let count = stream.read(&mut part)?;
                if count == 0 {
                    break;
                }
                text.extend_from_slice(&part[..count]);
            }
            Ok::<_, std::io::Error>(text)
        };
        let text = String::from_utf8(ask().ok()?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("endpoint=")?.parse().ok())
    }

    /// Routes everything into the tunnel the way `wg-quick` does for `AllowedIPs = 0.0.0.0/0`: packets
    /// without WireGuard's own mark leave by the tunnel, unless a more specific route stands in `main`.
    ///
    /// # Errors
    /// When a rule is refused.
    pub fn route_everything(&self) -> Result<()> {
        self.set(&["fwmark", "51820"])?;
        self.namespace.sysctl(&[("net.ipv4.conf.all.src_valid_mark", "1")])?;
        self.namespace.ip(&[
            &format!("route add default dev {} table 51820", self.device),
            "rule add not fwmark 51820 table 51820",
            "rule add table main suppress_prefixlength 0",
        ])
    }

    /// Routes a network into the tunnel.
    ///
    /// # Errors
    /// When the route is refused.
    pub fn route(&self, network: &str) -> Result<()> {
        self.namespace.ip(&[format!("route add {network} dev {}", self.device)])
    }
}

/// The control socket of a wireguard-go device.
pub(crate) fn control_socket(device: &str) -> PathBuf {
    Path::new(CONTROL_DIR).join(format!("{device}.sock"))
}

/// Removes the control sockets of labs that were killed: named as the lab names devices, and nobody answers. A new one may
/// be another lab's that does not listen yet.
pub(crate) fn sweep() {
    for entry in fs::read_dir(CONTROL_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix('w').and_then(|rest| rest.strip_suffix(".sock"));
        let age = entry.metadata().and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
        let ours =
            number.is_some_and(|hex| hex.len() > 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if ours && age.is_some_and(|age| age > NEWBORN) && UnixStream::connect(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The port of WireGuard at an address.
pub fn wireguard_at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, WIREGUARD_PORT)
}
