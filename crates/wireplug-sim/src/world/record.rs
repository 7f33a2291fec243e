//! What tests ask about a run: who applied what and with what proof, and when endpoints moved.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Time;
use crate::payload::Payload;
use crate::wireguard::{self, Body, PeerStatus};

/// The record of one run.
#[derive(Debug, Default)]
pub struct Record {
    applied: Vec<Applied>,
    moved: Vec<Moved>,
    /// The last answer to a check from an address, by host.
    answered: BTreeMap<(usize, SocketAddr), Time>,
    endpoints: BTreeMap<usize, Option<SocketAddr>>,
    places: u16,
}

/// A daemon set an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// When.
    pub at: Time,
    /// On which host.
    pub host: usize,
    /// Which.
    pub endpoint: SocketAddr,
    /// When the other daemon last answered a check from there, on this network.
    pub answered: Option<Time>,
    /// What the device had before.
    pub before: Option<SocketAddr>,
    /// When the device last completed a handshake.
    pub last_handshake: Option<Time>,
    /// Whether the daemon had no server, and the endpoint was kept of a time when it had one.
    pub remembered: bool,
}

/// An endpoint on a device became another, whoever did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// When.
    pub at: Time,
    /// On which host.
    pub host: usize,
    /// Where to.
    pub to: Option<SocketAddr>,
}

impl Record {
    /// All endpoints that daemons set.
    pub fn applications(&self) -> &[Applied] {
        &self.applied
    }

    /// All changes of endpoints on devices.
    pub fn movements(&self) -> &[Moved] {
        &self.moved
    }

    /// How often a host's endpoint became another since then.
    pub fn moved_since(&self, host: usize, since: Time) -> usize {
        self.moved.iter().filter(|m| m.host == host && m.at >= since).count()
    }

    pub(super) fn answered(&mut self, now: Time, host: usize, from: SocketAddr) {
        self.answered.insert((host, from), now);
    }

    pub(super) fn applied(
        &mut self,
        now: Time,
        host: usize,
        endpoint: SocketAddr,
        peer: Option<PeerStatus>,
        remembered: bool,
    ) {
        self.applied.push(Applied {
            at: now,
            host,
            endpoint,
            answered: self.answered.get(&(host, endpoint)).copied(),
            before: peer.and_then(|p| p.endpoint),
            last_handshake: peer.and_then(|p| p.last_handshake),
            remembered,
        });
    }

    /// Says whether it is another than before.
    pub(super) fn endpoint(&mut self, now: Time, host: usize, endpoint: Option<SocketAddr>) -> bool {
        let before = self.endpoints.insert(host, endpoint);
        let moved = before.is_some_and(|before| before != endpoint);
        if moved {
            self.moved.push(Moved { at: now, host, to: endpoint });
        }
        moved
    }

    /// What was proven on another network is worth nothing.
    pub(super) fn network_changed(&mut self) {
        self.answered.clear();
    }

    /// The number of a place of the internet where nobody has been yet; the first ones are the scenario's.
    pub(super) fn new_place(&mut self) -> u16 {
        self.places += 1;
        9 + self.places
    }
}

/// A payload in a few words.
pub(super) fn words(payload: &Payload) -> String {
    match payload {
        Payload::WireGuard(message) => match message {
            wireguard::Message::Initiation { id, .. } => format!("initiation {:04x}", id & 0xffff),
            wireguard::Message::Response { answers, .. } => format!("response to {:04x}", answers & 0xffff),
            wireguard::Message::Data { body: Body::Keepalive, .. } => "keepalive".to_owned(),
            wireguard::Message::Data { body, .. } => format!("{body:?}"),
        },
        Payload::Check { transaction, tier, nominated, .. } => {
            format!("check {transaction:?} {tier:?}{}", if *nominated { " nominated" } else { "" })
        }
        Payload::Answer { transaction, .. } => format!("answer {transaction:?}"),
        Payload::Binding { id, token } => {
            format!("binding {:04x}{}", id & 0xffff, if token.is_some() { " with token" } else { "" })
        }
        Payload::Bound { id, mapped } => format!("bound {:04x} {mapped}", id & 0xffff),
        Payload::Bind { transaction, nonce, .. } => {
            format!("bind {transaction:?}{}", if *nonce { "" } else { " without nonce" })
        }
        Payload::BindAnswer { transaction, bound } => format!("bound to the relay {transaction:?} {bound:?}"),
        Payload::Probe { .. } => "probe".to_owned(),
    }
}
