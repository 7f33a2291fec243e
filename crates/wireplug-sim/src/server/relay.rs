//! The server's relay: what a bound side sends goes to the other bound side, and nothing else goes anywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rand::RngExt as _;
use wireplug_core::{PublicKey, TransactionId};

use super::{Frame, FromServer, Output};
use crate::net::HostId;
use crate::payload::{Bound, Payload};
use crate::{Chance, Time, secs, wireguard};

/// The server's one relay port: no host here has more than one peer.
pub const RELAY_PORT: u16 = 3479;

/// How long a binding lives without a packet of its own.
const IDLE: Time = secs(300);

/// All places on the relay, by whose they are and whom they lead to.
#[derive(Debug, Default)]
pub(super) struct Relay {
    sides: BTreeMap<(PublicKey, PublicKey), Side>,
    forwarded: u64,
}

#[derive(Debug)]
struct Side {
    host: HostId,
    credential: u64,
    legs: Vec<Leg>,
}

#[derive(Debug)]
struct Leg {
    way: Way,
    credential: u64,
    used: Time,
    /// When it last brought a packet of WireGuard's.
    sent: Option<Time>,
}

/// How a side is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Udp { source: SocketAddr, relay: SocketAddr },
    Tls(HostId),
}

impl Relay {
    pub(super) fn allocate(
        &mut self,
        chance: &mut Chance,
        host: HostId,
        own: PublicKey,
        other: PublicKey,
    ) -> FromServer {
        let credential = chance.random();
        let side = self.sides.entry((own, other)).or_insert(Side { host, credential, legs: Vec::new() });
        (side.host, side.credential) = (host, credential);
        FromServer::Allocated { peer: other, credential }
    }

    pub(super) fn release(&mut self, own: PublicKey, other: PublicKey) {
        self.sides.remove(&(own, other));
    }

    /// Whom a side that has just come is called to the relay by.
    pub(super) fn callers(&self, own: PublicKey) -> impl Iterator<Item = PublicKey> {
        self.sides.keys().filter(move |(_, other)| *other == own).map(|(from, _)| *from)
    }

    /// A connection is another one: what it carried is gone.
    pub(super) fn disconnected(&mut self, host: HostId) {
        for side in self.sides.values_mut() {
            side.legs.retain(|leg| leg.way != Way::Tls(host));
        }
    }

    pub(super) fn forget(&mut self) {
        self.sides.clear();
    }

    pub(super) fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// Whether anybody has a place.
    pub(super) fn is_used(&self) -> bool {
        !self.sides.is_empty()
    }

    pub(super) fn bind(&mut self, now: Time, way: Way, credential: u64) -> Bound {
        let named = self.sides.iter_mut().find(|(_, side)| side.credential == credential);
        let Some((&(own, other), side)) = named else { return Bound::Unknown };
        side.legs.retain(|leg| leg.used + IDLE > now && leg.credential == credential);
        let same = |leg: &Leg| match (leg.way, way) {
            (Way::Udp { relay: a, .. }, Way::Udp { relay: b, .. }) => a == b,
            (Way::Tls(_), Way::Tls(_)) => true,
            (Way::Udp { .. }, Way::Tls(_)) | (Way::Tls(_), Way::Udp { .. }) => false,
        };
        match side.legs.iter_mut().find(|leg| same(leg)) {
            Some(leg) => (leg.way, leg.used) = (way, now),
            None => side.legs.push(Leg { way, credential, used: now, sent: None }),
        }
        let both = self
            .sides
            .get(&(other, own))
            .is_some_and(|side| side.legs.iter().any(|leg| leg.used + IDLE > now));
        Bound::Here { both }
    }

    /// Takes WireGuard's packet from a leg to the other side's active one.
    pub(super) fn forward(&mut self, now: Time, from: Way, message: wireguard::Message) -> Option<Output> {
        let (&(own, other), side) =
            self.sides.iter_mut().find(|(_, side)| side.legs.iter().any(|leg| leg.way == from))?;
        let leg = side.legs.iter_mut().find(|leg| leg.way == from && leg.used + IDLE > now)?;
        (leg.used, leg.sent) = (now, Some(now));
        let target = self.sides.get_mut(&(other, own))?;
        target.legs.retain(|leg| leg.used + IDLE > now);
        let speaking = target.legs.iter().filter(|leg| leg.sent.is_some()).max_by_key(|leg| leg.sent);
        let leg = speaking.or(target.legs.first())?;
        self.forwarded += 1;
        Some(match leg.way {
            Way::Udp { source, relay } => {
                Output::Send { from: relay, to: source, payload: Payload::WireGuard(message) }
            }
            Way::Tls(host) => Output::Tell(host, FromServer::Frame(Frame::Data(message))),
        })
    }
}

/// The answer to a bind over UDP: one without a nonce proves no return path.
pub(super) fn answer_bind(
    relay: &mut Relay,
    now: Time,
    way: Way,
    credential: u64,
    transaction: TransactionId,
    nonce: bool,
) -> Payload {
    let bound = if nonce { relay.bind(now, way, credential) } else { Bound::Again };
    Payload::BindAnswer { transaction, bound }
}
