//! The WireGuard device: read, and updated without ever creating, adding or removing anything.

mod kernel;
mod userspace;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use wireguard_control::{InterfaceName, Key};
use wireplug_core::{Endpoint, PrivateKey, PublicKey};

/// How long one request to a device may take. Generous: the kernel answers in microseconds, wireguard-go
/// takes its device lock, which a long configuration may hold.
const DEADLINE: Duration = Duration::from_secs(5);

/// A WireGuard interface of this network namespace that someone else made.
#[derive(Debug, Clone)]
pub struct Device {
    name: InterfaceName,
    backend: Backend,
}

/// Who runs the device's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernel module, by generic netlink.
    Kernel,
    /// A process such as wireguard-go, by its control socket.
    Userspace,
}

/// What a device says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// The interface's own secret.
    pub private_key: PrivateKey,
    /// Its public half, derived here when the device does not tell it.
    pub public_key: PublicKey,
    /// The UDP port, host order; 0 while the interface is down and none is bound.
    pub listen_port: u16,
    /// The mark of the device's own packets, 0 for none.
    pub fwmark: u32,
    /// The interface's index in this network namespace.
    pub ifindex: u32,
    /// All peers, each once, in the device's order.
    pub peers: Vec<PeerState>,
}

/// What a device says of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where its packets go now; `None` also for an address nobody could send to.
    pub endpoint: Option<Endpoint>,
    /// Persistent keepalive in seconds, `None` when off.
    pub keepalive: Option<u16>,
    /// Wall-clock time of the last completed handshake.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from it, in authenticated packets.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Prefixes routed to it: address and prefix length in bits.
    pub allowed_ips: Vec<(IpAddr, u8)>,
}

/// What to change of one peer. What is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerUpdate {
    /// Where its packets shall go.
    pub endpoint: Option<Endpoint>,
    /// Persistent keepalive in seconds; 0 turns it off. From 0 to more sends one keepalive at once, to
    /// the endpoint of the same update.
    pub keepalive: Option<u16>,
}

/// Why a device could not be found, read or updated.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name cannot name an interface.
    #[error("{0:?} cannot name an interface: use 1 to 15 characters without spaces or \"/\"")]
    BadName(String),
    /// No interface of that name here.
    #[error(
        "there is no interface {0} in this network namespace: `ip link` lists them, `wg-quick up {0}` makes one"
    )]
    NoSuchInterface(String),
    /// The interface is something else.
    #[error("{0} is not a WireGuard interface: `wg show interfaces` lists those")]
    NotWireGuard(String),
    /// The device has no private key yet.
    #[error("{0} has no private key yet: set one with `wg set {0} private-key FILE`")]
    NoPrivateKey(String),
    /// The system forbids it.
    #[error("no permission to {action} WireGuard interface {name}: run as root or grant CAP_NET_ADMIN")]
    NotPermitted {
        /// `read` or `update`.
        action: &'static str,
        /// Which interface.
        name: String,
    },
    /// The device did not answer.
    #[error("WireGuard interface {name} did not answer a request to {action} it within {} s: is its process stuck?", DEADLINE.as_secs())]
    Timeout {
        /// `read` or `update`.
        action: &'static str,
        /// Which interface.
        name: String,
    },
    /// Anything else that the system or the device's process said.
    #[error("cannot {action} WireGuard interface {name}: {source}")]
    Io {
        /// `read` or `update`.
        action: &'static str,
        /// Which interface.
        name: String,
        /// What was said.
        source: io::Error,
    },
}

impl Device {
    /// The WireGuard device of that name: a userspace one if its control socket answers, else the kernel's.
    ///
    /// # Errors
    /// [`DeviceError`] says whether the name, the interface or the permission is missing.
    pub async fn find(name: &str) -> Result<Self, DeviceError> {
        let parsed: InterfaceName = name.parse().map_err(|_| DeviceError::BadName(name.to_owned()))?;
        // Control sockets are shared by all network namespaces, so that the interface is ours comes first.
        ifindex(name)?;
        let found = tokio::time::timeout(DEADLINE, userspace::connect(name)).await;
        let backend = match found {
            Ok(Ok(_)) => Backend::Userspace,
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(failed(error, "read", name));
            }
            Ok(Err(_)) => Backend::Kernel,
            Err(_) => return Err(DeviceError::Timeout { action: "read", name: name.to_owned() }),
        };
        let device = Self { name: parsed, backend };
        if backend == Backend::Kernel {
            kernel::read(parsed).await?;
        }
        Ok(device)
    }

    /// The interface's name.
    pub fn name(&self) -> String {
        self.name.as_str_lossy().into_owned()
    }

    /// Who runs the protocol.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// All that the device says of itself now.
    ///
    /// # Errors
    /// [`DeviceError`]; an interface that was removed meanwhile is [`DeviceError::NoSuchInterface`].
    pub async fn read(&self) -> Result<DeviceState, DeviceError> {
        let ifindex = ifindex(&self.name())?;
        let raw = match self.backend {
            Backend::Kernel => kernel::read(self.name).await?,
            Backend::Userspace => self.within("read", userspace::read(&self.name())).await?,
        };
        raw.into_state(&self.name(), ifindex)
    }

    /// Changes endpoint or keepalive of a peer that the device has. A key that it does not have (any
    /// more) is ignored, as both implementations do: nothing is ever added.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn update_peer(&self, key: PublicKey, update: PeerUpdate) -> Result<(), DeviceError> {
        let name = self.name();
        ifindex(&name)?;
        match self.backend {
            Backend::Kernel => self.within("update", kernel::update(&name, key, update)).await,
            Backend::Userspace => self.within("update", userspace::update(&name, key, update)).await,
        }
    }

    async fn within<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DeviceError> {
        match tokio::time::timeout(DEADLINE, request).await {
            Ok(result) => result.map_err(|error| failed(error, action, &self.name())),
            Err(_) => Err(DeviceError::Timeout { action, name: self.name() }),
        }
    }
}

/// What a backend read, before it is known to be usable.
struct RawState {
    private_key: Option<PrivateKey>,
    listen_port: u16,
    fwmark: u32,
    peers: Vec<PeerState>,
}

impl RawState {
    fn into_state(self, name: &str, ifindex: u32) -> Result<DeviceState, DeviceError> {
        // A cleared key is all zeros in the kernel's answer and absent in the other.
        let private_key = self
            .private_key
            .filter(|key| *key != PrivateKey::from_bytes([0; 32]))
            .ok_or_else(|| DeviceError::NoPrivateKey(name.to_owned()))?;
        Ok(DeviceState {
            public_key: public_of(&private_key),
            private_key,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            ifindex,
            peers: self.peers,
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

fn public_of(private: &PrivateKey) -> PublicKey {
    let mut copy = Key(*private.expose());
    let public = copy.get_public();
    wipe(&mut copy);
    PublicKey::from_bytes(public.0)
}

/// Overwrites a key of wireguard-control, which does not do so itself.
fn wipe(key: &mut Key) {
    zeroize::Zeroize::zeroize(&mut key.0);
}

fn ifindex(name: &str) -> Result<u32, DeviceError> {
    nix::net::if_::if_nametoindex(name).map_err(|errno| match errno {
        nix::Error::ENODEV | nix::Error::ENXIO => DeviceError::NoSuchInterface(name.to_owned()),
        other => failed(other.into(), "read", name),
    })
}

fn failed(source: io::Error, action: &'static str, name: &str) -> DeviceError {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => DeviceError::NotPermitted { action, name },
        Some(libc::ENODEV) => DeviceError::NoSuchInterface(name),
        Some(libc::EOPNOTSUPP) => DeviceError::NotWireGuard(name),
        _ => DeviceError::Io { action, name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_absent_interfaces_are_told_apart() {
        for bad in ["", "a name", "sixteen-letters-", "a/b"] {
            assert!(matches!(Device::find(bad).await, Err(DeviceError::BadName(_))), "{bad:?}");
        }
        let error = Device::find("wpabsent0").await.unwrap_err();
        assert!(matches!(error, DeviceError::NoSuchInterface(_)));
        assert!(error.to_string().contains("wg-quick up wpabsent0"), "{error}");
    }

    #[tokio::test]
    async fn another_kind_of_interface_is_not_wireguard() {
        let error = Device::find("lo").await.unwrap_err();
        assert!(matches!(error, DeviceError::NotWireGuard(_) | DeviceError::NotPermitted { .. }), "{error}");
    }

    #[test]
    fn a_device_without_a_key_says_so() {
        let raw = RawState {
            private_key: Some(PrivateKey::from_bytes([0; 32])),
            listen_port: 1,
            fwmark: 0,
            peers: vec![],
        };
        assert!(matches!(raw.into_state("wg0", 1), Err(DeviceError::NoPrivateKey(_))));
    }
}
