//! The thinnest event loop around the real scheduler: what `wireplugd` does, without the operating system.

mod execute;
mod link;
mod relays;
mod verify;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::scheduler::{
    Demand, DeviceView, Handshake, Input, Keepalive, Learnt, PeerStatus, PeerView, Ranking, Scheduler,
    SchedulerConfig, Unsendable,
};
use wireplug_core::{Endpoint, Naps, Offer, PublicKey, RemoteCandidate, Tier, Woken};

use self::verify::Verifier;
use crate::net::HostId;
use crate::payload::Payload;
use crate::server::{Addresses, Frame, FromServer, Sealed, ToServer};
use crate::strategies::near::{Near, OnLink};
use crate::strategies::relay::{Places, suggested, tls_endpoint};
use crate::strategies::{HolePunch, Said, direct, name};
use crate::wireguard::Device;
use crate::{Chance, Time, earlier};

/// What the daemon wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send from the WireGuard port.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        payload: Payload,
    },
    /// Say to the server, if it is there.
    Tell(ToServer),
    /// Change a peer on the device.
    Set {
        /// Which.
        peer: PublicKey,
        /// The new endpoint, if it is to change.
        endpoint: Option<Endpoint>,
        /// The new keepalive, seconds, if it is to change.
        keepalive: Option<u16>,
    },
    /// Say something on the own link.
    OnLink(OnLink),
    /// Send one small packet into the tunnel.
    Packet(PublicKey),
}

/// What a daemon is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its interface's key.
    pub own: PublicKey,
    /// WireGuard's port, host order.
    pub port: u16,
    /// Its host.
    pub host: HostId,
    /// The server's STUN addresses.
    pub servers: Vec<Addresses>,
    /// For everything that is by chance.
    pub seed: u64,
    /// The instant of virtual time zero; only differences count.
    pub epoch: Instant,
    /// The keepalives that a daemon before set.
    pub keepalives: BTreeMap<PublicKey, u16>,
    /// What a daemon before kept.
    pub disk: Disk,
}

/// What a daemon keeps for its next run.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Where each peer was reached.
    pub good: BTreeMap<PublicKey, Vec<RemoteCandidate>>,
    /// What was learnt of each network, which our addresses tell apart.
    pub learnt: BTreeMap<Vec<IpAddr>, Learnt>,
}

/// What a daemon does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nothing; the shared port is closed.
    Rest,
    /// It hears what arrives at the shared port.
    Listen,
    /// Strategies look for candidates, too.
    Search,
}

/// One daemon.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    scheduler: Scheduler,
    chance: Chance,
    addresses: Vec<IpAddr>,
    server_up: bool,
    /// The server tells its STUN addresses when it is first connected.
    stun: Vec<Addresses>,
    work: Work,
    last_look: Option<Time>,
    punch: HolePunch,
    verifier: Verifier,
    places: Places,
    near: Near,
    /// The relay addresses that have given us a nonce.
    nonces: BTreeSet<SocketAddr>,
    /// When STUN questions were last asked, by their ids.
    asked: BTreeMap<u64, Time>,
    /// Our last offer to each peer, for a server that forgot.
    offers: BTreeMap<PublicKey, Offer>,
    disk: Disk,
    naps: Naps,
    /// What its clock last showed.
    latest: Cell<Instant>,
    /// The keepalives that we set.
    keepalives: BTreeMap<PublicKey, u16>,
    /// The device's.
    peers: Vec<PublicKey>,
    effects: Vec<Effect>,
}

impl Daemon {
    /// A daemon that has just started on a host with these addresses.
    pub fn new(now: Time, mut config: Config, addresses: Vec<IpAddr>) -> Self {
        let mut chance = Chance::seed_from_u64(config.seed);
        let epoch = config.epoch;
        let (keepalives, disk) = (std::mem::take(&mut config.keepalives), std::mem::take(&mut config.disk));
        let order = vec![
            (name("lan-mdns"), Tier::Lan),
            (name("direct"), Tier::Direct),
            (name("hole-punch"), Tier::Punched),
            (name("pcp"), Tier::Mapped),
            (name("relay"), Tier::Relay),
        ];
        let scheduler = Scheduler::new(SchedulerConfig {
            own: config.own,
            instance: chance.random(),
            seed: chance.random(),
            ranking: Ranking::new(order, Vec::new()),
            peers: BTreeMap::new(),
        });
        let mut daemon = Self {
            config,
            scheduler,
            chance,
            addresses,
            server_up: false,
            stun: Vec::new(),
            work: Work::Rest,
            last_look: None,
            punch: HolePunch::default(),
            verifier: Verifier::default(),
            places: Places::default(),
            near: Near::default(),
            nonces: BTreeSet::new(),
            asked: BTreeMap::new(),
            offers: BTreeMap::new(),
            disk,
            naps: Naps::default(),
            latest: Cell::new(epoch),
            keepalives,
            peers: Vec::new(),
            effects: Vec::new(),
        };
        daemon.find_direct(now);
        daemon.recall_network(now);
        daemon
    }

    /// What the scheduler says of its peers.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.scheduler.status()
    }

    /// How much the scheduler and the daemon hold, in the bytes that it takes to write it down: it must not grow for ever.
    pub fn weight(&self) -> usize {
        let Self { scheduler, addresses, punch, verifier, places, nonces, asked, offers, keepalives, .. } =
            self;
        let own = (addresses, punch, verifier, places, nonces, asked, offers, keepalives);
        format!("{scheduler:?}{own:?}{:?}", self.disk.good).len()
    }

    /// The keepalives that are ours.
    pub fn keepalives(&self) -> &BTreeMap<PublicKey, u16> {
        &self.keepalives
    }

    /// What it has kept.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    fn recall_network(&mut self, now: Time) {
        let learnt = self.disk.learnt.get(&self.addresses).copied().unwrap_or_default();
        self.input(now, Input::Recalled(learnt));
    }

    /// What the scheduler wants ready.
    pub fn demand(&self) -> Demand {
        self.scheduler.demand()
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When the daemon wants to do something by itself: [`Daemon::on_time`].
    pub fn next_event(&self) -> Option<Time> {
        let scheduler =
            self.scheduler.poll_timeout().map(|(at, _)| at.saturating_duration_since(self.config.epoch));
        let relay = earlier(scheduler, self.places.next_event());
        if self.work != Work::Search {
            return relay;
        }
        [relay, self.punch.next_event(), self.verifier.next_event()].into_iter().fold(None, earlier)
    }

    /// When the daemon wants to look at the device: [`Daemon::on_device`].
    pub fn next_look(&self) -> Time {
        self.last_look.map_or(Time::ZERO, |at| at + self.scheduler.demand().device_poll)
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Time) {
        if self.scheduler.poll_timeout().is_some_and(|(at, _)| at <= self.instant(now)) {
            self.scheduler.handle_timeout(self.instant(now));
        }
        while let Some((peer, candidate)) = self.places.due(now) {
            let generation = self.scheduler.generation();
            self.input(now, suggested(generation, peer, candidate));
        }
        self.turn(now);
    }

    /// Looks at the device.
    pub fn on_device(&mut self, now: Time, device: &Device) {
        let first = self.last_look.replace(now).is_none();
        if device.port() != self.config.port {
            self.renumber(now, device.port());
        }
        let wall = device.wall(now);
        self.peers.clear();
        self.peers.extend(device.peers().map(|(key, _)| key));
        let peers = device.peers().map(|(key, status)| PeerView {
            public_key: key,
            endpoint: status.endpoint.and_then(|addr| Endpoint::of_device(addr).ok()),
            keepalive: match status.keepalive {
                0 => Keepalive::Off,
                seconds if self.keepalives.get(&key) == Some(&seconds) => Keepalive::Ours(seconds),
                seconds => Keepalive::Theirs(seconds),
            },
            handshake: status
                .handshake_stamp
                .map(|at| Handshake { stamp: at.as_nanos(), age: wall.saturating_sub(at) }),
            rx_bytes: status.rx_bytes,
            tx_bytes: status.tx_bytes,
        });
        let view = DeviceView { listen_port: device.port(), peers: peers.collect() };
        self.input(now, Input::Device(view));
        if first {
            let remembered = self.disk.good.clone().into_iter();
            self.inputs(now, remembered.map(|(peer, candidates)| Input::LastGood { peer, candidates }));
        }
    }

    /// The machine slept for so long, which the daemon's own clock leaves out, and is awake now. `addresses`: where it is.
    pub fn slept(&mut self, now: Time, time: Time, addresses: Vec<IpAddr>) {
        self.config.epoch -= time;
        match self.naps.slept(self.instant(now), time) {
            Woken::Older(time) => self.input(now, Input::Slept(time)),
            Woken::Anew => self.network_changed(now, addresses),
        }
    }

    /// The server's connection is made; what it may have forgotten is said again.
    pub fn server_up(&mut self, now: Time) {
        self.server_up = true;
        self.stun.clone_from(&self.config.servers);
        for (&to, offer) in &self.offers {
            let sealed = Sealed { from: self.config.own, to, offer: offer.clone() };
            self.effects.push(Effect::Tell(ToServer::Publish(sealed)));
        }
        self.places.ask_again(now, None);
        self.input(now, Input::ServerUp);
    }

    /// The server's connection is gone.
    pub fn server_down(&mut self, now: Time) {
        self.server_up = false;
        let verdicts = self.verifier.give_up();
        self.inputs(now, verdicts);
        self.input(now, Input::ServerDown { why: "connection refused".to_owned() });
    }

    /// The host has other addresses, or other routers before it.
    pub fn network_changed(&mut self, now: Time, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        self.punch = HolePunch::default();
        self.verifier = Verifier::default();
        self.nonces.clear();
        self.near = Near::default();
        self.recall_network(now);
        self.input(now, Input::NetworkChanged);
        let generation = self.scheduler.generation();
        let again = self.places.network_changed(now, &self.addresses, &self.config.servers);
        self.inputs(now, again.into_iter().map(|(peer, candidate)| suggested(generation, peer, candidate)));
        self.find_direct(now);
    }

    /// The server said something.
    pub fn on_server(&mut self, now: Time, message: FromServer) {
        match message {
            FromServer::Offer(Sealed { from, to, offer }) => {
                // What was sealed for another, or by another than a peer, does not open.
                if to == self.config.own && from != self.config.own {
                    self.input(now, Input::OfferArrived { peer: from, offer });
                }
            }
            FromServer::Probed(nonce) => self.verifier.on_probed(now, nonce),
            FromServer::Refused(nonce) => {
                let verdict = self.verifier.on_refused(nonce);
                self.inputs(now, verdict);
            }
            FromServer::RelayCalled { from } => self.input(now, Input::RelayCalled { peer: from }),
            FromServer::Allocated { peer, credential } => {
                let generation = self.scheduler.generation();
                let places =
                    self.places.allocated(now, peer, credential, &self.addresses, &self.config.servers);
                self.inputs(now, places.into_iter().map(|candidate| suggested(generation, peer, candidate)));
            }
            FromServer::Frame(Frame::Bound { transaction, bound }) => {
                self.on_relay_bound(now, tls_endpoint(), transaction, bound);
            }
            FromServer::Frame(Frame::Bind { .. } | Frame::Data(_)) => {}
        }
        self.turn(now);
    }

    /// A datagram that is not WireGuard's arrived on its port; while the port is closed, nobody sees it.
    pub fn on_datagram(&mut self, now: Time, source: SocketAddr, payload: &Payload) {
        let Ok(from) = Endpoint::new(source) else { return };
        if self.work == Work::Rest {
            return;
        }
        match *payload {
            Payload::Check { from: peer, to, transaction, tier, nominated } if to == self.config.own => {
                self.input(now, Input::CheckRequested { peer, from, transaction, tier, nominated });
            }
            Payload::Answer { from: peer, to, transaction } if to == self.config.own => {
                self.input(now, Input::CheckAnswered { peer, from, transaction });
            }
            Payload::WireGuard(_)
            | Payload::Binding { .. }
            | Payload::Bind { .. }
            | Payload::Check { .. }
            | Payload::Answer { .. } => {}
            Payload::Bound { id, mapped } => self.on_bound(now, id, mapped),
            Payload::BindAnswer { transaction, bound } => self.on_relay_bound(now, from, transaction, bound),
            Payload::Probe { nonce } => {
                let verdict = self.verifier.on_probe(nonce);
                self.inputs(now, verdict);
            }
        }
    }

    /// A datagram could not be sent.
    pub fn on_unsendable(&mut self, now: Time, to: SocketAddr, payload: &Payload) {
        if let (Payload::Check { to: peer, .. }, Ok(to)) = (payload, Endpoint::new(to)) {
            self.input(now, Input::Unsendable { peer: *peer, to, why: Unsendable::NoRoute });
        }
    }

    fn on_bound(&mut self, now: Time, id: u64, mapped: SocketAddr) {
        self.verifier.on_bound(now, id);
        if let Some(asked) = self.asked.remove(&id) {
            self.scheduler.handle(self.instant(now), Input::ServerRoundTrip(now.saturating_sub(asked)));
        }
        let generation = self.scheduler.generation();
        if let Some(servers) = self.servers(true) {
            let said = self.punch.on_bound(now, &mut self.chance, id, mapped, &self.addresses, servers);
            let inputs = said.into_iter().map(|said| match said {
                Said::Found(candidate) => Input::Found { generation, candidate },
                Said::Lost(endpoint) => Input::Lost { generation, strategy: name("hole-punch"), endpoint },
                Said::Mapping(mapping) => Input::Mapping { generation, mapping },
            });
            let inputs: Vec<_> = inputs.collect();
            self.inputs(now, inputs);
        }
        self.turn(now);
    }

    /// WireGuard has another port: what led to the old one is void.
    fn renumber(&mut self, now: Time, port: u16) {
        let generation = self.scheduler.generation();
        let old: Vec<_> = self.scheduler.candidates().map(|(candidate, _)| candidate.clone()).collect();
        self.config.port = port;
        self.punch = HolePunch::default();
        self.inputs(
            now,
            old.into_iter().map(|candidate| Input::Lost {
                generation,
                strategy: candidate.strategy,
                endpoint: candidate.endpoint,
            }),
        );
        self.find_direct(now);
    }

    fn find_direct(&mut self, now: Time) {
        self.effects.push(Effect::OnLink(OnLink::Announce));
        let generation = self.scheduler.generation();
        let found = direct(&self.addresses, self.config.port);
        self.inputs(now, found.into_iter().map(|candidate| Input::Found { generation, candidate }));
    }

    fn inputs(&mut self, now: Time, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.input(now, input);
        }
    }

    fn input(&mut self, now: Time, input: Input) {
        self.scheduler.handle(self.instant(now), input);
        self.turn(now);
    }

    fn servers(&self, v4: bool) -> Option<Addresses> {
        self.stun.iter().copied().find(|a| a.primary.is_ipv4() == v4)
    }

    /// The daemon's own clock. It stands still while the machine sleeps, and nothing can happen to the daemon then.
    fn instant(&self, now: Time) -> Instant {
        let instant = self.config.epoch + now;
        let before = self.latest.replace(instant);
        assert!(before <= instant, "the daemon's clock goes back by {:?}", before - instant);
        instant
    }
}
