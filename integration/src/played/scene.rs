//! A server with a relay, hosts on its internet, and pairs between them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use wireplug_lab::{Host, Lab, LabError, Nat, Result, Server};
use wireplug_proto::Pair;
use wireplug_proto::relay::{Bound, Credential};
use wireplug_proto::rendezvous::Allocation;
use wireplug_proto::stun::relay::BindAnswer;

use super::{Member, Port, Way, packet};
use crate::failed;

/// The WireGuard port of hosts in a scene.
const WIREGUARD: u16 = 51820;
/// Where the server listens for HTTPS.
const HTTPS: u16 = 443;

/// A running server and hosts.
#[derive(Debug)]
pub struct Scene {
    /// The server, running.
    pub server: Server,
    /// The hosts, in the order of their NATs.
    pub hosts: Vec<Host>,
}

/// One side of a pair that is bound to the relay over UDP.
pub struct Relayed {
    /// The pair, as this side sees it.
    pub pair: Pair,
    /// Its connection to the rendezvous.
    pub member: Member,
    /// Its place.
    pub allocation: Allocation,
    /// In its WireGuard port's place.
    pub port: Port,
    /// Where it is bound.
    pub relay: SocketAddr,
}

impl Scene {
    /// Runs `work` in a lab with a host behind each of `nats`, and a server with these lines in its config's
    /// `[relay]`.
    ///
    /// # Errors
    /// When the lab cannot be set up, or those of `work`.
    pub fn with(
        label: &str,
        nats: &[Nat],
        relay: &str,
        work: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        Self::with_config(label, nats, &format!("[relay]\n{relay}"), work)
    }

    /// The same with these lines at the end of the server's config.
    ///
    /// # Errors
    /// As [`Scene::with`].
    pub fn with_config(
        label: &str,
        nats: &[Nat],
        more: &str,
        work: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        Lab::with(label, |lab| {
            let server = lab.server()?;
            let config = OpenOptions::new().append(true).open(server.config());
            let written = config.and_then(|mut file| writeln!(file, "{more}"));
            written.map_err(failed("add to the server's config"))?;
            let names = ["a", "b", "c", "d"];
            let hosts = nats.iter().zip(names).map(|(nat, name)| lab.site(name, *nat)?.host());
            let scene = Self { hosts: hosts.collect::<Result<_>>()?, server };
            scene.server.start()?;
            work(&scene)
        })
    }

    /// Where a host reaches the server's HTTPS.
    pub fn way(&self, host: usize) -> Way {
        Way::Tls(SocketAddr::new(self.address(host), HTTPS))
    }

    /// The relay port `number` (from 0) of an allocation, as a host reaches it.
    pub fn relay(&self, host: usize, allocation: &Allocation, number: u16) -> SocketAddr {
        SocketAddr::new(self.address(host), allocation.ports.start() + number)
    }

    /// A host's socket at a port; 0 is any.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn port(&self, host: usize, port: u16) -> Result<Port> {
        let host = &self.hosts[host];
        Ok(Port::new(host.udp(SocketAddr::new(host.addresses()[0], port))?))
    }

    /// A host's daemon joins a pair and gets a place on the relay.
    ///
    /// # Errors
    /// When it gets none.
    pub fn member(&self, host: usize, pair: &Pair) -> Result<(Member, Allocation)> {
        let mut member = Member::join(self.hosts[host].namespace(), self.way(host), pair)?;
        let allocation = member.allocate(pair)?;
        Ok((member, allocation))
    }

    /// A side on a host, bound from a port of its own to the relay's port `number`.
    ///
    /// # Errors
    /// When it is not bound.
    pub fn relayed(&self, host: usize, pair: Pair, number: u16) -> Result<Relayed> {
        let (member, allocation) = self.member(host, &pair)?;
        let port = self.port(host, WIREGUARD + number)?;
        let relay = self.relay(host, &allocation, number);
        let mut side = Relayed { pair, member, allocation, port, relay };
        side.bind()?;
        Ok(side)
    }

    /// A pair between the first two hosts, both sides bound to the relay's port `number`, and proven to work.
    ///
    /// # Errors
    /// When it does not.
    pub fn pair(&self, number: u16) -> Result<[Relayed; 2]> {
        let [low, high] = super::pair()?;
        let mut sides = [self.relayed(0, low, number)?, self.relayed(1, high, number)?];
        pass(&mut sides)?;
        Ok(sides)
    }

    fn address(&self, host: usize) -> IpAddr {
        if self.hosts[host].addresses()[0].is_ipv4() {
            self.server.v4(0).into()
        } else {
            self.server.v6(0).into()
        }
    }
}

impl Relayed {
    /// Binds, or binds again.
    ///
    /// # Errors
    /// When the relay refuses.
    pub fn bind(&mut self) -> Result<Bound> {
        match self.port.bind(self.relay, &self.allocation.credential)? {
            BindAnswer::Bound { bound, .. } => Ok(bound),
            other => Err(LabError::unexpected(format!("not bound: {other:?}"))),
        }
    }

    /// Its credential.
    pub const fn credential(&self) -> &Credential {
        &self.allocation.credential
    }

    /// Sends a packet to the relay.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        self.port.send(self.relay, packet)
    }
}

/// Packets pass in both directions, each from the relay port that its receiver is bound to, and nothing else comes.
///
/// # Errors
/// When they do not.
pub fn pass([a, b]: &mut [Relayed; 2]) -> Result<()> {
    one_way(a, b)?;
    one_way(b, a)
}

/// Packets pass in one direction, and nothing else comes.
///
/// # Errors
/// When they do not.
pub fn one_way(from: &Relayed, to: &mut Relayed) -> Result<()> {
    let number = u32::from_be_bytes(crate::random());
    from.send(&packet(number))?;
    let came = to.port.receive()?;
    if came != (to.relay, packet(number)) {
        return Err(LabError::unexpected(format!("something else came: {came:?}")));
    }
    Ok(())
}
