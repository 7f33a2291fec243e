//! One host: its device, its daemon, its owner's traffic.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::PublicKey;
use wireplug_core::scheduler::State;

use super::NOWHERE;
use crate::daemon::{Config, Daemon, Disk};
use crate::link::Link;
use crate::net::{Attachment, HostId, RouterId};
use crate::scenario::Start;
use crate::server::{Addresses, Frame, ToServer};
use crate::site::Site;
use crate::wireguard::{Body, Device};
use crate::{Chance, Time, earlier, secs};

/// How long a daemon waits for the server to confirm what it was told, and a bind over TLS.
const ANSWER_WITHIN: Time = secs(2);
const BIND_WITHIN: Time = secs(4);

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
    /// The connection carries nothing any more, which the daemon has not noticed.
    pub(super) broken: bool,
    /// When the daemon notices that, or that it cannot connect.
    pub(super) notice_at: Option<Time>,
    /// Since when it sleeps, and until when.
    pub(super) asleep: Option<(Time, Time)>,
    pub(super) site: Site,
    /// Where it is attached, or was before its link went down.
    pub(super) place: Option<Attachment>,
    pub(super) linked: bool,
    /// What the person's own file says.
    pub(super) persons_keepalive: u16,
    /// What else outlives a daemon, and the machine's restart too.
    pub(super) disk: Disk,
    /// The record of keepalives that outlives a daemon.
    pub(super) keepalives: BTreeMap<PublicKey, u16>,
    pub(super) line: Link,
    pub(super) state: Option<State>,
    ping_every: Option<Time>,
    next_ping: Time,
    /// The person's keepalive that is still to be set.
    keepalive: Option<(Time, u16)>,
    pings: u64,
    pongs: Vec<(Time, u64)>,
    pub(super) chance: Chance,
    pub(super) epoch: Instant,
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
            broken: false,
            notice_at: None,
            asleep: None,
            site: Site::nowhere(),
            place: None,
            linked: true,
            persons_keepalive: start.keepalive,
            disk: Disk::default(),
            keepalives: BTreeMap::new(),
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

    /// The addresses that it has now.
    pub fn addresses(&self) -> &[IpAddr] {
        self.place.as_ref().filter(|_| self.linked).map_or(&[], |place| &place.addresses)
    }

    /// Where it lives.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Whether it sleeps.
    pub fn is_asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// Whether its daemon has a connection to the server that works.
    pub fn is_connected(&self) -> bool {
        self.connected && !self.broken && self.daemon.is_some()
    }

    /// When a ping was last answered.
    pub fn last_pong(&self) -> Option<Time> {
        self.pongs.last().map(|(at, _)| *at)
    }

    /// Its owner begins to ping so often, or ends.
    pub(super) fn ping_every(&mut self, now: Time, every: Option<Time>) {
        self.ping_every = every;
        self.next_ping = now;
        self.pongs.clear();
    }

    /// It slept: what would have been sent meanwhile was not.
    pub(super) fn wakes(&mut self, now: Time) {
        self.next_ping = self.next_ping.max(now);
    }

    /// Something was said on a connection that is broken: that it is not answered is noticed sooner than a missing
    /// answer to the connection's own pings.
    pub(super) fn hurry_to_notice(&mut self, now: Time, message: &ToServer) {
        let within = match message {
            ToServer::Publish(_)
            | ToServer::Verify { .. }
            | ToServer::Allocate { .. }
            | ToServer::Release { .. } => ANSWER_WITHIN,
            ToServer::Frame(Frame::Bind { .. }) => BIND_WITHIN,
            ToServer::Frame(Frame::Bound { .. } | Frame::Data(_)) => return,
        };
        self.notice_at = earlier(self.notice_at, Some(now + within));
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        if let Some((_, until)) = self.asleep {
            return Some(until);
        }
        let pings = self.ping_every.map(|_| self.next_ping);
        let keepalive = self.keepalive.map(|(at, _)| at);
        let daemon = self.daemon.as_ref().map(|d| earlier(d.next_event(), Some(d.next_look())));
        let connection = earlier(self.connect_at, self.notice_at);
        [self.device.next_event(), pings, keepalive, self.daemon_at, connection, daemon.flatten()]
            .into_iter()
            .fold(None, earlier)
    }

    pub(super) fn step(&mut self, now: Time, servers: &[Addresses]) {
        if self.asleep.is_some() {
            return;
        }
        if self.daemon_at.is_some_and(|at| at <= now) {
            self.daemon_at = None;
            let config = Config {
                own: self.own,
                port: self.device.port(),
                host: self.id,
                servers: servers.to_vec(),
                seed: self.chance.random(),
                epoch: self.epoch,
                keepalives: self.keepalives.clone(),
                disk: self.disk.clone(),
            };
            self.daemon = Some(Daemon::new(now, config, self.addresses().to_vec()));
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
