//! One host: its device, its daemon, its owner's traffic.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::PublicKey;
use wireplug_core::scheduler::State;

use super::NOWHERE;
use crate::daemon::{Config, Daemon};
use crate::link::Link;
use crate::net::{HostId, RouterId};
use crate::scenario::Start;
use crate::server::Addresses;
use crate::wireguard::{Body, Device};
use crate::{Chance, Time, earlier};

/// One host.
#[derive(Debug)]
pub struct Host {
    pub(super) id: HostId,
    pub(super) routers: Vec<RouterId>,
    pub(super) own: PublicKey,
    pub(super) other: PublicKey,
    pub(super) device: Device,
    pub(super) daemon: Option<Daemon>,
    pub(super) daemon_at: Option<Time>,
    pub(super) connect_at: Option<Time>,
    pub(super) connected: bool,
    pub(super) line: Link,
    pub(super) state: Option<State>,
    ping_every: Option<Time>,
    next_ping: Time,
    /// The person's keepalive that is still to be set.
    keepalive: Option<(Time, u16)>,
    pings: u64,
    pongs: Vec<(Time, u64)>,
    chance: Chance,
    epoch: Instant,
}

impl Host {
    pub(super) fn new(
        id: HostId,
        [own, other]: [PublicKey; 2],
        start: &Start,
        line: Link,
        seed: u64,
        epoch: Instant,
    ) -> Self {
        let mut chance = Chance::seed_from_u64(seed);
        let mut device = Device::new(own, start.port, chance.random());
        device.add_peer(other);
        let stale = start.stale_endpoint.then_some(NOWHERE);
        device.set(Time::ZERO, other, stale, None);
        Self {
            id,
            routers: Vec::new(),
            own,
            other,
            device,
            daemon: None,
            daemon_at: start.daemon_at,
            connect_at: None,
            connected: false,
            line,
            state: None,
            ping_every: start.ping_every,
            next_ping: start.ping_at,
            keepalive: (start.keepalive > 0).then_some((start.keepalive_at, start.keepalive)),
            pings: 0,
            pongs: Vec::new(),
            chance,
            epoch,
        }
    }

    /// Its WireGuard device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its daemon, if it runs.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// Its key.
    pub fn key(&self) -> PublicKey {
        self.own
    }

    /// How many pings were sent.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// The pings that were answered: when, and which.
    pub fn pongs(&self) -> &[(Time, u64)] {
        &self.pongs
    }

    /// How many pings were answered since then.
    pub fn pongs_since(&self, since: Time) -> usize {
        self.pongs.iter().filter(|(at, _)| *at >= since).count()
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        let pings = self.ping_every.map(|_| self.next_ping);
        let keepalive = self.keepalive.map(|(at, _)| at);
        let daemon = self.daemon.as_ref().map(|d| earlier(d.next_event(), Some(d.next_look())));
        [self.device.next_event(), pings, keepalive, self.daemon_at, self.connect_at, daemon.flatten()]
            .into_iter()
            .fold(None, earlier)
    }

    pub(super) fn step(&mut self, now: Time, addresses: &[IpAddr], servers: &[Addresses]) {
        if self.daemon_at.is_some_and(|at| at <= now) {
            self.daemon_at = None;
            let config = Config {
                own: self.own,
                port: self.device.port(),
                host: self.id,
                servers: servers.to_vec(),
                seed: self.chance.random(),
                epoch: self.epoch,
            };
            self.daemon = Some(Daemon::new(now, config, addresses.to_vec()));
            self.connect_at = Some(now + self.line.latency * 8);
        }
        if let Some((_, seconds)) = self.keepalive.take_if(|(at, _)| *at <= now) {
            self.device.set(now, self.other, None, Some(seconds));
        }
        if self.ping_every.is_some() && self.next_ping <= now {
            self.next_ping = now + self.ping_every.unwrap_or_default();
            self.ping(now);
        }
        if self.device.next_event().is_some_and(|at| at <= now) {
            self.device.on_timer(now);
        }
        if let Some(daemon) = &mut self.daemon {
            if daemon.next_look() <= now {
                daemon.on_device(now, &self.device);
            }
            if daemon.next_event().is_some_and(|at| at <= now) {
                daemon.on_time(now);
            }
        }
    }

    pub(super) fn ping(&mut self, now: Time) -> u64 {
        self.pings += 1;
        self.device.send(now, self.other, Body::Ping(self.pings));
        self.pings
    }

    pub(super) fn take_wireguard(
        &mut self,
        now: Time,
        source: SocketAddr,
        message: &crate::wireguard::Message,
    ) {
        match self.device.receive(now, source, message) {
            Some((from, Body::Ping(number))) => {
                self.device.send(now, from, Body::Pong(number));
            }
            Some((_, Body::Pong(number))) => self.pongs.push((now, number)),
            Some((_, Body::Keepalive | Body::Stream(_))) | None => {}
        }
    }
}
