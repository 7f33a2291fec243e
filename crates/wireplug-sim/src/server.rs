//! The rendezvous server: mailboxes, STUN on two addresses, verification probes, the relay.
//!
//! A state machine: what reaches it goes in, what it sends comes out. Its [`Temper`] says how it lies.

mod relay;
mod temper;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rand::{RngExt as _, SeedableRng as _};
use wireplug_core::{Endpoint, Offer, PublicKey, TransactionId};

pub use self::relay::RELAY_PORT;
use self::relay::{Relay, Way, answer_bind};
pub use self::temper::Temper;
use crate::net::{Datagram, HostId};
use crate::payload::{Bound, Payload};
use crate::{Chance, Time, wireguard};

/// The UDP port of the server's STUN (RFC 8489 section 14.1 names 3478).
pub const STUN_PORT: u16 = 3478;

/// How many old offers a hostile server keeps.
const MAX_HISTORY: usize = 1000;

/// An offer as the server sees it: it cannot look inside, nor change it, nor pass one pair's off as another's;
/// who receives it knows by the seal whose it is and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Who wrote it.
    pub from: PublicKey,
    /// For whom.
    pub to: PublicKey,
    /// What it says.
    pub offer: Offer,
}

/// What a daemon says to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer {
    /// Leave this for its receiver; it replaces the one before.
    Publish(Sealed),
    /// Send a probe with this nonce there.
    Verify {
        /// Where to.
        endpoint: Endpoint,
        /// What the probe carries.
        nonce: u64,
    },
    /// Give a place on the relay for this pair.
    Allocate {
        /// Who asks.
        own: PublicKey,
        /// Whom it leads to.
        other: PublicKey,
    },
    /// The place is needed no more.
    Release {
        /// Whose it was.
        own: PublicKey,
        /// Whom it led to.
        other: PublicKey,
    },
    /// Over the relay's own connection, which breaks and comes back with this one.
    Frame(Frame),
}

/// What goes over the relay's TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bind to this place.
    Bind {
        /// Which.
        credential: u64,
        /// Its id.
        transaction: TransactionId,
    },
    /// The answer.
    Bound {
        /// The bind's id.
        transaction: TransactionId,
        /// What it says.
        bound: Bound,
    },
    /// A packet of WireGuard's.
    Data(wireguard::Message),
}

/// What the server says to a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// Somebody left this.
    Offer(Sealed),
    /// The probe with this nonce was sent.
    Probed(u64),
    /// The probe with this nonce was not sent: the address is another's.
    Refused(u64),
    /// A place on the relay.
    Allocated {
        /// Whom it leads to.
        peer: PublicKey,
        /// What shows that it is ours.
        credential: u64,
    },
    /// The other side has asked for a place.
    RelayCalled {
        /// Who.
        from: PublicKey,
    },
    /// Over the relay's own connection.
    Frame(Frame),
}

/// The server's two addresses in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Where to ask first.
    pub primary: SocketAddr,
    /// Where to ask for the comparison, and where probes come from.
    pub secondary: SocketAddr,
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Over a daemon's connection.
    Tell(HostId, FromServer),
    /// Over UDP.
    Send {
        /// From which of its addresses.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// What.
        payload: Payload,
    },
}

/// Whether a server relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relaying {
    /// It does not.
    #[default]
    Off,
    /// It does.
    On,
}

/// The server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Addresses>,
    temper: Temper,
    chance: Chance,
    connected: BTreeMap<PublicKey, HostId>,
    /// The latest of each direction.
    offers: BTreeMap<(PublicKey, PublicKey), Sealed>,
    /// The last ones that there were: what a hostile server keeps.
    history: Vec<Sealed>,
    /// What a server that reorders holds back.
    held: Option<Sealed>,
    /// Which address a connection has proven, by family (IPv4 is `true`).
    owned: BTreeMap<(HostId, bool), IpAddr>,
    relay: Option<Relay>,
}

impl Server {
    /// A server with these addresses, one entry for each family, that relays or does not.
    pub fn new(addresses: Vec<Addresses>, temper: Temper, relaying: Relaying, seed: u64) -> Self {
        Self {
            addresses,
            temper,
            chance: Chance::seed_from_u64(seed),
            connected: BTreeMap::new(),
            offers: BTreeMap::new(),
            history: Vec::new(),
            held: None,
            owned: BTreeMap::new(),
            relay: (relaying == Relaying::On).then(Relay::default),
        }
    }

    /// How many packets it has relayed.
    pub fn relayed(&self) -> u64 {
        self.relay.as_ref().map_or(0, Relay::forwarded)
    }

    /// Whether anybody has a place on its relay.
    pub fn is_relaying(&self) -> bool {
        self.relay.as_ref().is_some_and(Relay::is_used)
    }

    /// It changes its ways.
    pub fn turn(&mut self, temper: Temper) {
        self.temper = temper;
    }

    /// Where its STUN is, by family.
    pub fn addresses(&self) -> &[Addresses] {
        &self.addresses
    }

    /// A daemon's connection is made: it is told what waits for it.
    pub fn connect(&mut self, key: PublicKey, host: HostId) -> Vec<Output> {
        self.connected.insert(key, host);
        let waiting: Vec<_> =
            self.offers.iter().filter(|((_, to), _)| *to == key).map(|(_, offer)| offer.clone()).collect();
        let mut outputs: Vec<_> = waiting.into_iter().flat_map(|offer| self.deliver(offer)).collect();
        if let Some(relay) = &mut self.relay {
            relay.disconnected(host);
            let called = relay.callers(key).map(|from| Output::Tell(host, FromServer::RelayCalled { from }));
            outputs.extend(called);
        }
        outputs
    }

    /// Everything is forgotten and every connection gone.
    pub fn crash(&mut self) {
        self.connected.clear();
        self.offers.clear();
        self.owned.clear();
        self.held = None;
        if let Some(relay) = &mut self.relay {
            relay.forget();
        }
    }

    /// Takes a message of a daemon.
    pub fn on_message(&mut self, now: Time, host: HostId, message: ToServer) -> Vec<Output> {
        if let Some(nonsense) = self.temper.nonsense(&mut self.chance, host) {
            return nonsense;
        }
        match message {
            ToServer::Publish(sealed) => {
                self.offers.insert((sealed.from, sealed.to), sealed.clone());
                if self.history.len() >= MAX_HISTORY {
                    self.history.remove(0);
                }
                self.history.push(sealed.clone());
                self.deliver(sealed)
            }
            ToServer::Verify { endpoint, nonce } => self.verify(host, endpoint, nonce),
            ToServer::Allocate { own, other } => self.allocate(host, own, other),
            ToServer::Release { own, other } => {
                if let Some(relay) = &mut self.relay {
                    relay.release(own, other);
                }
                Vec::new()
            }
            ToServer::Frame(frame) => self.on_frame(now, host, frame),
        }
    }

    fn allocate(&mut self, host: HostId, own: PublicKey, other: PublicKey) -> Vec<Output> {
        let Some(relay) = &mut self.relay else { return Vec::new() };
        let allocated = Output::Tell(host, relay.allocate(&mut self.chance, host, own, other));
        let called = self.connected.get(&other);
        let called = called.map(|other| Output::Tell(*other, FromServer::RelayCalled { from: own }));
        [Some(allocated), called].into_iter().flatten().collect()
    }

    fn on_frame(&mut self, now: Time, host: HostId, frame: Frame) -> Vec<Output> {
        let Some(relay) = &mut self.relay else { return Vec::new() };
        match frame {
            Frame::Bind { credential, transaction } => {
                let bound = relay.bind(now, Way::Tls(host), credential);
                vec![Output::Tell(host, FromServer::Frame(Frame::Bound { transaction, bound }))]
            }
            Frame::Data(message) => relay.forward(now, Way::Tls(host), message).into_iter().collect(),
            Frame::Bound { .. } => Vec::new(),
        }
    }

    /// Takes a datagram.
    pub fn on_datagram(&mut self, now: Time, datagram: &Datagram<Payload>) -> Vec<Output> {
        if self.temper == Temper::Garbage {
            let id = self.chance.random();
            let payload = Payload::Bound { id, mapped: datagram.source };
            return vec![Output::Send { from: datagram.destination, to: datagram.source, payload }];
        }
        if datagram.destination.port() == RELAY_PORT {
            return self.on_relay(now, datagram).into_iter().collect();
        }
        let Payload::Binding { id, token } = datagram.payload else { return Vec::new() };
        if let Some(host) = token {
            self.owned.insert((host, datagram.source.is_ipv4()), datagram.source.ip());
        }
        let mapped = self.temper.mapped(datagram.source);
        vec![Output::Send {
            from: datagram.destination,
            to: datagram.source,
            payload: Payload::Bound { id, mapped },
        }]
    }

    fn on_relay(&mut self, now: Time, datagram: &Datagram<Payload>) -> Option<Output> {
        let relay = self.relay.as_mut()?;
        let (source, at) = (datagram.source, datagram.destination);
        let way = Way::Udp { source, relay: at };
        match &datagram.payload {
            Payload::Bind { credential, transaction, nonce } => {
                let payload = answer_bind(relay, now, way, *credential, *transaction, *nonce);
                Some(Output::Send { from: at, to: source, payload })
            }
            Payload::WireGuard(message) => relay.forward(now, way, message.clone()),
            Payload::Check { .. }
            | Payload::Answer { .. }
            | Payload::Binding { .. }
            | Payload::Bound { .. }
            | Payload::BindAnswer { .. }
            | Payload::Probe { .. } => None,
        }
    }

    fn verify(&mut self, host: HostId, endpoint: Endpoint, nonce: u64) -> Vec<Output> {
        let is_v4 = endpoint.ip().is_ipv4();
        let Some(addresses) = self.addresses.iter().find(|a| a.primary.is_ipv4() == is_v4) else {
            return vec![Output::Tell(host, FromServer::Refused(nonce))];
        };
        let owned = self.owned.get(&(host, is_v4)).is_some_and(|ip| *ip == endpoint.ip());
        self.temper.verify(host, owned, *addresses, endpoint, nonce)
    }

    fn deliver(&mut self, sealed: Sealed) -> Vec<Output> {
        let pushed = self.temper.push(&mut self.chance, &self.history, &mut self.held, sealed);
        pushed
            .into_iter()
            .filter_map(|(to, sealed)| {
                Some(Output::Tell(*self.connected.get(&to)?, FromServer::Offer(sealed)))
            })
            .collect()
    }
}
