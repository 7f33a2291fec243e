//! The thinnest event loop around the real scheduler: what `wireplugd` does, without the operating system.

mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::scheduler::{
    Command, Demand, DeviceView, Handshake, Input, Keepalive, PeerStatus, PeerView, Ranking, Scheduler,
    SchedulerConfig, Stimulus, Unsendable,
};
use wireplug_core::{Endpoint, Offer, PublicKey, Tier, TransactionId};

use self::verify::{Verifier, Wants};
use crate::net::HostId;
use crate::payload::{Bound, Payload};
use crate::server::{Addresses, Frame, FromServer, Sealed, ToServer};
use crate::strategies::relay::{Places, Wish, suggested, tls_endpoint};
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
    knows_stun: bool,
    port_open: bool,
    last_look: Option<Time>,
    punch: HolePunch,
    verifier: Verifier,
    places: Places,
    /// The relay addresses that have given us a nonce.
    nonces: BTreeSet<SocketAddr>,
    /// When STUN questions were last asked, by their ids.
    asked: BTreeMap<u64, Time>,
    /// Our last offer to each peer, for a server that forgot.
    offers: BTreeMap<PublicKey, Offer>,
    /// The keepalives that we set.
    keepalives: BTreeMap<PublicKey, u16>,
    effects: Vec<Effect>,
}

impl Daemon {
    /// A daemon that has just started on a host with these addresses.
    pub fn new(now: Time, config: Config, addresses: Vec<IpAddr>) -> Self {
        let mut chance = Chance::seed_from_u64(config.seed);
        let order = vec![
            (name("direct"), Tier::Direct),
            (name("hole-punch"), Tier::Punched),
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
            knows_stun: false,
            port_open: false,
            last_look: None,
            punch: HolePunch::default(),
            verifier: Verifier::default(),
            places: Places::default(),
            nonces: BTreeSet::new(),
            asked: BTreeMap::new(),
            offers: BTreeMap::new(),
            keepalives: BTreeMap::new(),
            effects: Vec::new(),
        };
        daemon.find_direct(now);
        daemon
    }

    /// What the scheduler says of its peers.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.scheduler.status()
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
        if !self.port_open {
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
        self.last_look = Some(now);
        let peers = device.peers().map(|(key, status)| PeerView {
            public_key: key,
            endpoint: status.endpoint.and_then(|addr| Endpoint::of_device(addr).ok()),
            keepalive: match status.keepalive {
                0 => Keepalive::Off,
                seconds if self.keepalives.get(&key) == Some(&seconds) => Keepalive::Ours(seconds),
                seconds => Keepalive::Theirs(seconds),
            },
            handshake: status
                .last_handshake
                .map(|at| Handshake { stamp: at.as_nanos(), age: now.saturating_sub(at) }),
            rx_bytes: status.rx_bytes,
            tx_bytes: status.tx_bytes,
        });
        let view = DeviceView { listen_port: device.port(), peers: peers.collect() };
        self.input(now, Input::Device(view));
    }

    /// The server's connection is made; what it may have forgotten is said again.
    pub fn server_up(&mut self, now: Time) {
        self.server_up = true;
        self.knows_stun = true;
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
        if !self.port_open {
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

    /// A relay answered a bind, which is its check.
    fn on_relay_bound(&mut self, now: Time, from: Endpoint, transaction: TransactionId, bound: Bound) {
        let Some(peer) = self.places.peer_at(from) else { return };
        if !from.is_on_this_host() {
            self.places.udp_answers(peer);
        }
        match bound {
            Bound::Again => {
                self.nonces.insert(from.addr());
                self.bind(peer, from, transaction);
            }
            Bound::Unknown => self.places.ask_again(now, Some(peer)),
            Bound::Here { both: true } => {
                self.input(now, Input::CheckAnswered { peer, from, transaction });
            }
            Bound::Here { both: false } => {}
        }
        self.turn(now);
    }

    fn bind(&mut self, peer: PublicKey, to: Endpoint, transaction: TransactionId) {
        let Some(credential) = self.places.credential(peer) else { return };
        self.effects.push(if to.is_on_this_host() {
            Effect::Tell(ToServer::Frame(Frame::Bind { credential, transaction }))
        } else {
            let nonce = self.nonces.contains(&to.addr());
            Effect::Send { to: to.addr(), payload: Payload::Bind { credential, transaction, nonce } }
        });
    }

    /// Asks the server for places, and gives them back, as the scheduler wants.
    fn follow_relays(&mut self, now: Time) {
        let own = self.config.own;
        let peers: Vec<_> = self.scheduler.status().into_iter().map(|status| status.peer).collect();
        for other in peers {
            let wanted = self.scheduler.relay_wanted(&other);
            match self.places.want(now, other, wanted, self.server_up) {
                Wish::Nothing => {}
                Wish::Ask => self.effects.push(Effect::Tell(ToServer::Allocate { own, other })),
                Wish::Release(endpoints) => {
                    self.effects.push(Effect::Tell(ToServer::Release { own, other }));
                    let generation = self.scheduler.generation();
                    for endpoint in endpoints {
                        let strategy = name("relay");
                        let withdrawn = Input::Withdrawn { generation, peer: other, strategy, endpoint };
                        self.scheduler.handle(self.instant(now), withdrawn);
                    }
                }
            }
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

    fn find_direct(&mut self, now: Time) {
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

    /// Carries out what the scheduler and the strategies want, until they want nothing more.
    fn turn(&mut self, now: Time) {
        loop {
            while let Some(command) = self.scheduler.poll_command() {
                self.execute(now, command);
            }
            self.follow_relays(now);
            let wanted = self.scheduler.demand().working;
            if self.port_open && !wanted {
                self.verifier.start_over(now, &mut self.chance);
                self.punch.rest();
            }
            self.port_open = wanted;
            if !(wanted && self.run_strategies(now)) {
                return;
            }
        }
    }

    /// One step of what works while it is wanted; says whether anything was done.
    fn run_strategies(&mut self, now: Time) -> bool {
        let generation = self.scheduler.generation();
        let has_v4 = self.addresses.iter().any(IpAddr::is_ipv4);
        if let Some(servers) = self.servers(true).filter(|_| has_v4) {
            let probing = self.verifier.is_probing_v4();
            if let Some((to, id)) = self.punch.poll(now, &mut self.chance, probing, servers) {
                self.asked.insert(id, now);
                self.effects.push(Effect::Send { to, payload: Payload::Binding { id, token: None } });
                return true;
            }
        }
        match self.verifier.poll(now, self.server_up, generation) {
            Some(Wants::Ask { to, id }) => {
                let token = Some(self.config.host);
                self.asked.insert(id, now);
                self.effects.push(Effect::Send { to, payload: Payload::Binding { id, token } });
                true
            }
            Some(Wants::Probe { endpoint, nonce }) => {
                self.effects.push(Effect::Tell(ToServer::Verify { endpoint, nonce }));
                true
            }
            Some(Wants::Say(input)) => {
                self.scheduler.handle(self.instant(now), input);
                true
            }
            None => false,
        }
    }

    fn execute(&mut self, now: Time, command: Command) {
        let own = self.config.own;
        match command {
            Command::Check { peer, to, transaction, tier, .. } if tier.is_relayed() => {
                self.bind(peer, to, transaction);
            }
            Command::Check { peer, to, transaction, tier, nominate } => self.effects.push(Effect::Send {
                to: to.addr(),
                payload: Payload::Check { from: own, to: peer, transaction, tier, nominated: nominate },
            }),
            Command::Answer { peer, to, transaction } => self.effects.push(Effect::Send {
                to: to.addr(),
                payload: Payload::Answer { from: own, to: peer, transaction },
            }),
            Command::Verify { generation, endpoint } => {
                let servers = self.servers(endpoint.ip().is_ipv4());
                self.verifier.begin(now, &mut self.chance, generation, endpoint, servers);
            }
            Command::Publish { peer, offer } => {
                self.offers.insert(peer, offer.clone());
                if self.server_up {
                    let sealed = Sealed { from: own, to: peer, offer };
                    self.effects.push(Effect::Tell(ToServer::Publish(sealed)));
                }
            }
            Command::Update { peer, endpoint, stimulus } => self.update(peer, endpoint, stimulus),
        }
    }

    fn update(&mut self, peer: PublicKey, endpoint: Option<Endpoint>, stimulus: Stimulus) {
        let keepalive = match stimulus {
            Stimulus::None | Stimulus::Packet => None,
            Stimulus::TurnOn(seconds) => Some(seconds),
            Stimulus::Restart(seconds) => {
                self.effects.push(Effect::Set { peer, endpoint: None, keepalive: Some(0) });
                Some(seconds)
            }
        };
        if let Some(seconds) = keepalive {
            self.keepalives.insert(peer, seconds);
        }
        self.effects.push(Effect::Set { peer, endpoint, keepalive });
        if stimulus == Stimulus::Packet {
            self.effects.push(Effect::Packet(peer));
        }
    }

    fn servers(&self, v4: bool) -> Option<Addresses> {
        self.config.servers.iter().copied().find(|a| self.knows_stun && a.primary.is_ipv4() == v4)
    }

    fn instant(&self, now: Time) -> Instant {
        self.config.epoch + now
    }
}
