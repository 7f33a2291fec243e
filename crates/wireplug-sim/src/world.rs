//! Hosts with WireGuard and a daemon, a server and the network between them, run event by event.

mod carry;
mod faults;
mod hands;
mod host;
mod near;
mod post;
mod record;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::PublicKey;
use wireplug_core::scheduler::PeerStatus;

pub use self::host::Host;
use self::near::Links;
use self::post::Post;
pub use self::record::{Applied, Moved, Record};
use crate::firewall::Firewall;
use crate::link::Link;
use crate::net::{Attachment, Net, RealmId};
use crate::payload::Payload;
use crate::scenario::Scenario;
use crate::server::{Addresses, Output, STUN_PORT, Server};
use crate::site;
use crate::trace::Trace;
use crate::{Chance, Time, earlier, secs};

/// Where stale endpoints lead: nobody is there.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(5, 9, 9, 9)), 51820);

/// How long a daemon waits for the server to take a connection.
const CONNECT_WITHIN: Time = secs(10);

/// More steps than this at one moment are an endless loop.
const STEPS_AT_ONCE: u32 = 100_000;

/// What is broken on the way between the two hosts; the way to the server is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// Nothing.
    #[default]
    Nothing,
    /// No datagram of the other arrives at this host.
    Towards(usize),
    /// Neither hears the other.
    Both,
}

/// How the server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// As it should.
    Runs,
    /// Its machine runs, its process does not: connections are refused.
    Stopped,
    /// Nothing arrives there, and nobody says so.
    Unreachable,
    /// All that it says comes so much later.
    Slow(Time),
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    now: Time,
    net: Net<Payload>,
    server: Server,
    server_host: crate::net::HostId,
    service: Service,
    /// What a slow server is still to say.
    unsaid: VecDeque<(Time, Output)>,
    cut: Cut,
    hosts: [Host; 2],
    post: Post,
    links: Links,
    trace: Trace,
    record: Record,
    chance: Chance,
}

impl Cut {
    fn stops(self, towards: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Towards(host) => host == towards,
            Self::Both => true,
        }
    }
}

impl World {
    /// A world at its first moment. Its trace is kept only if it is wanted.
    pub fn new(scenario: &Scenario, traced: bool) -> Self {
        let mut chance = Chance::seed_from_u64(scenario.seed.wrapping_add(0x0031_d0e5));
        let mut net = Net::new(chance.random());
        let servers = server_addresses();
        let server_host = net.add_host();
        net.attach(
            server_host,
            Attachment {
                realm: RealmId::Internet,
                addresses: servers.iter().flat_map(|a| [a.primary.ip(), a.secondary.ip()]).collect(),
                firewall: Firewall::default(),
                link: Link::default(),
            },
        );
        let server = Server::new(servers, scenario.temper, scenario.relaying, chance.random());
        let [first, second] = &scenario.sites;
        let places = site::build(&mut net, [first, second], scenario.shared, chance.random());
        let epoch = Instant::now();
        let mut index = 0;
        let hosts = places.map(|(attachment, routers)| {
            let lower = (index == 0) == scenario.first_is_lower;
            let keys = if lower { [1, 2] } else { [2, 1] };
            let mut host = Host::new(
                net.add_host(),
                keys.map(|byte| PublicKey::from_bytes([byte; 32])),
                &scenario.hosts[index],
                attachment.link,
                chance.random(),
                epoch,
            );
            host.routers = routers;
            host.site = scenario.sites[index].clone();
            host.place = Some(attachment.clone());
            net.attach(host.id, attachment);
            index += 1;
            host
        });
        Self {
            now: Time::ZERO,
            net,
            server,
            server_host,
            service: Service::Runs,
            unsaid: VecDeque::new(),
            cut: Cut::Nothing,
            hosts,
            post: Post::default(),
            links: Links::of(scenario.shared),
            trace: Trace::new(traced),
            record: Record::default(),
            chance,
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What happened, if it was wanted.
    pub fn trace(&self) -> &str {
        self.trace.text()
    }

    /// What was applied and moved.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// One host.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// What a host's daemon says of the other.
    pub fn status(&self, index: usize) -> Option<PeerStatus> {
        self.hosts[index].daemon.as_ref()?.status().into_iter().next()
    }

    /// Runs until this time.
    pub fn run_until(&mut self, end: Time) {
        self.run(end, |_| false);
    }

    /// Runs until something is so, at most until this time; says whether it is.
    pub fn run(&mut self, end: Time, done: impl Fn(&Self) -> bool) -> bool {
        let mut steps = 0;
        self.pump();
        loop {
            if done(self) {
                return true;
            }
            let Some(next) = self.next_event().filter(|at| *at <= end) else {
                self.now = self.now.max(end);
                return done(self);
            };
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(steps < STEPS_AT_ONCE, "endless at {:?}\n{}", self.now, self.trace.text());
            self.now = next.max(self.now);
            self.step();
            self.pump();
        }
    }

    fn next_event(&self) -> Option<Time> {
        let shared = earlier(self.net.next_event(), self.post.next_event());
        let unsaid = self.unsaid.front().map(|(at, _)| *at);
        let shared = earlier(earlier(shared, unsaid), self.links.next_event());
        self.hosts.iter().map(Host::next_event).fold(shared, earlier)
    }

    /// Does one thing that is due.
    fn step(&mut self) {
        let now = self.now;
        if self.net.next_event().is_some_and(|at| at <= now) {
            if let Some((id, datagram)) = self.net.step(now) {
                if id == self.server_host {
                    if self.server_hears() {
                        let outputs = self.server.on_datagram(now, &datagram);
                        self.serve(outputs);
                    }
                } else if let Some(index) = self.hosts.iter().position(|h| h.id == id) {
                    let direct = !self.is_servers(datagram.source);
                    if !self.hosts[index].is_asleep() && (!direct || !self.cut.stops(index)) {
                        self.arrive(index, datagram.source, datagram.destination, datagram.payload);
                    }
                }
            }
            return;
        }
        if let Some(to) = self.post.take_due(now) {
            self.deliver(to);
            return;
        }
        if let Some((index, what)) = self.links.take_due(now) {
            self.hear(index, what);
            return;
        }
        if self.unsaid.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, output)) = self.unsaid.pop_front() {
                self.say(output);
            }
            return;
        }
        for index in 0..self.hosts.len() {
            self.hosts[index].step(now, self.server.addresses());
            self.wake_if_due(index);
            self.notice_if_due(index);
            self.connect_if_due(index);
        }
    }

    fn server_hears(&self) -> bool {
        matches!(self.service, Service::Runs | Service::Slow(_))
    }

    fn is_servers(&self, source: SocketAddr) -> bool {
        let mut addresses = self.server.addresses().iter();
        addresses.any(|a| [a.primary.ip(), a.secondary.ip()].contains(&source.ip()))
    }

    fn connect_if_due(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.is_asleep() || host.connect_at.is_none_or(|at| at > self.now) {
            return;
        }
        host.connect_at = None;
        let in_vain = host.addresses().is_empty() || self.service == Service::Stopped;
        if in_vain || self.service == Service::Unreachable {
            // Nobody refuses what does not arrive.
            host.notice_at = Some(self.now + if in_vain { Time::ZERO } else { CONNECT_WITHIN });
            return;
        }
        (host.connected, host.broken) = (true, false);
        let (key, id) = (host.own, host.id);
        if let Some(daemon) = &mut host.daemon {
            daemon.server_up(self.now);
        }
        let outputs = self.server.connect(key, id);
        self.serve(outputs);
    }

    fn disconnect(&mut self, index: usize) {
        if self.hosts[index].is_asleep() {
            // Nobody is there to be told; it is found out at wake.
            return self.break_connection(index);
        }
        let hears = self.server_hears();
        let host = &mut self.hosts[index];
        let was = std::mem::take(&mut host.connected);
        (host.broken, host.notice_at) = (false, None);
        if let Some(daemon) = host.daemon.as_mut().filter(|_| was) {
            daemon.server_down(self.now);
        }
        // Reconnecting takes the handshakes of TCP, TLS and WebSocket.
        if hears && host.daemon.is_some() && !host.addresses().is_empty() {
            host.connect_at = Some(self.now + host.line.latency * 8);
        }
    }
}

/// The server's two addresses in each family.
pub fn server_addresses() -> Vec<Addresses> {
    let v4 = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(9, 9, 9, last)), STUN_PORT);
    let v6 = |last| SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2a09, 9, 0, 0, 0, 0, 0, last)), STUN_PORT);
    vec![Addresses { primary: v4(1), secondary: v4(2) }, Addresses { primary: v6(1), secondary: v6(2) }]
}
