//! What a pair is checked for: that it is direct, or says why it cannot be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wireplug_core::Tier;

use crate::cmd::wait_for;
use crate::daemon::{Daemon, PeerStatus};
use crate::error::{LabError, Result};
use crate::nat::{Nat, WIREGUARD_PORT};
use crate::pair::{End, Pair};
use crate::ping::Ping;
use crate::place::{End as PathEnd, between, needs_mapping};

/// How long a daemon may take to say that a peer is unreachable.
pub const UNREACHABLE_LIMIT: Duration = Duration::from_secs(45);

/// How long status may lag behind the tunnel, and one side behind the other.
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// How a side reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    /// From WireGuard's own port.
    Udp,
    /// Through the daemon, over the server's HTTPS port.
    Tls,
}

impl Leg {
    fn of(nat: Nat) -> Self {
        if nat == Nat::UdpBlocked { Self::Tls } else { Self::Udp }
    }
}

impl Pair {
    /// Checks that a connected pair has come to this path: what is true of all such paths ([`Self::check_direct`],
    /// [`Self::check_relayed`], [`Self::check_neighbours`]), and where both sides send to ([`Self::path`]).
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn check_path(&self, daemons: &[Daemon; 2], expected: Tier) -> Result<()> {
        match expected {
            Tier::Lan => self.check_neighbours(daemons)?,
            Tier::Direct | Tier::Punched | Tier::Mapped => self.check_direct(daemons)?,
            Tier::Relay | Tier::RelayTls => self.check_relayed(daemons)?,
        }
        let path = self.path()?;
        if path == expected {
            return Ok(());
        }
        Err(LabError::unexpected(format!("the path is {path:?}, but must be {expected:?}")))
    }

    /// The path in use, by where WireGuard on both sides sends to.
    ///
    /// # Errors
    /// When a side sends nowhere, or to where the other is not.
    pub fn path(&self) -> Result<Tier> {
        let [a, b] = self.both_ways();
        let ends = [self.path_end(a)?, self.path_end(b)?];
        Ok(between([self.a.host.nat(), self.b.host.nat()], ends))
    }

    fn path_end(&self, (here, there): (&End, &End)) -> Result<PathEnd> {
        let endpoint = here.wireguard.endpoint(there.wireguard.public_key())?;
        let end = endpoint.and_then(|endpoint| {
            let (ip, port) = (endpoint.ip(), endpoint.port());
            let nat = there.host.nat();
            match () {
                () if ip.is_loopback() => Some(PathEnd::RelayTls),
                () if self.server.is_relay(endpoint) => Some(PathEnd::Relay),
                () if there.host.addresses().contains(&ip) && self.sites.len() == 1 => Some(PathEnd::Lan),
                () if there.host.addresses().contains(&ip) => Some(PathEnd::Host),
                () if !there.host.public_addresses().contains(&ip) => None,
                () if nat.gateway().is_some() && port == WIREGUARD_PORT => Some(PathEnd::Mapped),
                () => Some(PathEnd::Nat),
            }
        });
        end.ok_or_else(|| {
            let (here, there) = (here.host.label(), there.host.label());
            LabError::unexpected(format!("WireGuard of {here} sends to {endpoint:?}, where {there} is not"))
        })
    }

    /// Checks that the tunnel carries `count` pings at 10 ms without a gap.
    ///
    /// # Errors
    /// When one is not answered.
    pub fn check_pings(&self, count: u16) -> Result<()> {
        let pings = self.a.host.ping(Ping::fast(self.b.wireguard.address(), count))?;
        if pings.answers.len() == usize::from(count) {
            return Ok(());
        }
        Err(LabError::unexpected(format!("{} of {count} pings were answered", pings.answers.len())))
    }

    /// Checks that a connected pair is direct: soon WireGuard on both sides sends to where the other side's NAT shows it,
    /// or its router maps it where nothing else can be, and status says so; every ping is answered, none crosses the
    /// server.
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn check_direct(&self, daemons: &[Daemon; 2]) -> Result<()> {
        for ((here, there), daemon) in self.both_ways().into_iter().zip(daemons) {
            here.wait_path(there, daemon, "connected", None, |_| here.check_endpoint(there).map(drop))?;
        }
        let before = self.server.wireguard_packets()?;
        self.check_pings(20)?;
        let crossed = self.server.wireguard_packets()? - before;
        // What was on the way to the relay when the path moved.
        if crossed > 2 {
            return Err(LabError::unexpected(format!("{crossed} packets of the tunnel went to the server")));
        }
        Ok(())
    }

    /// Checks that a connected pair goes over the relay: soon WireGuard on both sides sends to the server's relay ports,
    /// or where UDP is blocked to the daemon itself, which takes it on by TLS, status says so, every ping is answered, and the server's
    /// counters have seen them.
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn check_relayed(&self, daemons: &[Daemon; 2]) -> Result<()> {
        for ((here, there), daemon) in self.both_ways().into_iter().zip(daemons) {
            let leg = Leg::of(here.host.nat());
            here.wait_path(there, daemon, "relayed", Some("relay"), |endpoint| {
                let fits = match leg {
                    Leg::Udp => self.server.is_relay(endpoint),
                    Leg::Tls => endpoint.ip().is_loopback(),
                };
                if fits {
                    return Ok(());
                }
                Err(LabError::unexpected(format!("{endpoint} is no {leg:?} leg of the relay")))
            })?;
        }
        let before = self.server.metric("relay_forwarded_packets_total")?;
        let count = 20;
        self.check_pings(count)?;
        let crossed = self.server.metric("relay_forwarded_packets_total")? - before;
        if crossed < u64::from(count) * 2 {
            return Err(LabError::unexpected(format!(
                "{count} pings and answers, but {crossed} packets relayed"
            )));
        }
        Ok(())
    }

    /// Checks that a connected pair of [`Self::neighbours`] goes over the LAN: soon WireGuard on both sides sends to
    /// the other's own address, status says that lan-mdns found it, and every ping is answered.
    ///
    /// # Errors
    /// Naming what is not as it must be.
    pub fn check_neighbours(&self, daemons: &[Daemon; 2]) -> Result<()> {
        for ((here, there), daemon) in self.both_ways().into_iter().zip(daemons) {
            here.wait_path(there, daemon, "connected", Some("lan-mdns"), |endpoint| {
                let on_lan = there.host.addresses().contains(&endpoint.ip());
                if on_lan && endpoint.port() == WIREGUARD_PORT {
                    return Ok(());
                }
                Err(LabError::unexpected(format!("{endpoint} is no address of {}", there.host.label())))
            })?;
        }
        self.check_pings(20)
    }

    /// Waits until both daemons call the other side unreachable, gives their reasons, and checks that no
    /// endpoint was set at any moment that was looked at.
    ///
    /// # Errors
    /// When status does not say so in time or gives no reason, or when an endpoint was set.
    pub fn check_unreachable(&self, daemons: &[Daemon; 2]) -> Result<[String; 2]> {
        let mut reasons = [String::new(), String::new()];
        for (index, (_, there)) in self.both_ways().into_iter().enumerate() {
            let key = there.wireguard.public_key();
            let status = daemons[index].wait_state(key, "unreachable", UNREACHABLE_LIMIT)?;
            reasons[index] = reason(&status)?;
        }
        for (here, there) in self.both_ways() {
            if let Some(endpoint) = here.wireguard.endpoint(there.wireguard.public_key())? {
                return Err(LabError::unexpected(format!(
                    "{} was given the unproven endpoint {endpoint}",
                    here.host.label()
                )));
            }
        }
        Ok(reasons)
    }
}

impl End {
    /// Checks that this side's WireGuard sends to where the internet sees `there`; returns that.
    ///
    /// # Errors
    /// When it sends somewhere else, or nowhere.
    pub fn check_endpoint(&self, there: &Self) -> Result<SocketAddr> {
        let endpoint = self.wireguard.endpoint(there.wireguard.public_key())?;
        // The preferred one of those that this side has the family of.
        let reached = there
            .host
            .public_addresses()
            .iter()
            .find(|address| self.host.addresses().iter().any(|own| own.is_ipv4() == address.is_ipv4()));
        let address = *reached.ok_or_else(|| LabError::unexpected("the two have no family in common"))?;
        let (here, beyond) = (self.host.nat(), there.host.nat());
        // A mapping has the port that it was asked for: WireGuard's own, which nobody else wants here.
        let mapped = needs_mapping(here, beyond).then_some(WIREGUARD_PORT);
        // This side's router may show a peer under another port that comes in by a mapping after it was sent to without.
        let shown = here.gateway().is_none();
        // Of dual stack, IPv6 keeps its port.
        let steady = beyond.outer_port().filter(|_| beyond != Nat::DualStack || address.is_ipv6());
        let port = steady.or(mapped).filter(|_| shown);
        match endpoint {
            Some(endpoint) if fits(endpoint, address, port) => Ok(endpoint),
            other => Err(LabError::unexpected(format!(
                "WireGuard of {} sends to {other:?}, but {} is at {address} port {port:?}",
                self.host.label(),
                there.host.label()
            ))),
        }
    }

    /// Waits until WireGuard sends to an endpoint that `fits`, and status says the same, in this state, proven, and by
    /// this strategy if it is known. One side may be a moment behind the other, and a better path may be found just now.
    fn wait_path(
        &self,
        there: &Self,
        daemon: &Daemon,
        state: &str,
        strategy: Option<&str>,
        fits: impl Fn(SocketAddr) -> Result<()>,
    ) -> Result<()> {
        let key = there.wireguard.public_key();
        let look = || {
            let Some(endpoint) = self.wireguard.endpoint(key)? else {
                return Err(LabError::unexpected("WireGuard has no endpoint"));
            };
            fits(endpoint)?;
            let status = daemon.peer(key)?;
            let said = status.as_ref().is_some_and(|status| {
                status.state == state
                    && status.proven
                    && status.endpoint == Some(endpoint.to_string())
                    && strategy.is_none_or(|strategy| status.strategy.as_deref() == Some(strategy))
            });
            if said {
                return Ok(());
            }
            Err(LabError::unexpected(format!(
                "WireGuard sends to {endpoint}, by {}, but status says {status:?}",
                strategy.unwrap_or("any strategy")
            )))
        };
        let mut last = None;
        let waited = wait_for("the path", STATUS_LIMIT, || match look() {
            Ok(()) => Ok(Some(())),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        });
        waited.map_err(|late| {
            let seen = last.map_or_else(|| late.to_string(), |error| error.to_string());
            LabError::unexpected(format!("{}, still after {STATUS_LIMIT:?}: {seen}", self.host.label()))
        })
    }
}

fn fits(endpoint: SocketAddr, address: IpAddr, port: Option<u16>) -> bool {
    endpoint.ip() == address && port.is_none_or(|port| endpoint.port() == port)
}

fn reason(status: &PeerStatus) -> Result<String> {
    match &status.reason {
        Some(reason) if !reason.trim().is_empty() => Ok(reason.clone()),
        _ => {
            Err(LabError::unexpected(format!("status calls a peer unreachable without a reason: {status:?}")))
        }
    }
}
