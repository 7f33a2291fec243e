//! WireGuard as the scheduler meets it: one endpoint for each peer, a limiter of handshakes, initiations that
//! cross and undo each other, roaming to the last authentic source, keepalives.

mod constants;
mod message;
mod peer;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rand::SeedableRng as _;
use wireplug_core::PublicKey;

pub use self::constants::{
    CONSUME_GAP, JITTER, KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, MAX_STAGED, REJECT_AFTER, REKEY_AFTER,
    REKEY_TIMEOUT, REKEY_WHEN_RECEIVING,
};
pub use self::message::{Body, Message};
use self::peer::{Peer, Step};
use crate::{Chance, Time, earlier};

/// When virtual time begins, since 1970.
pub const EPOCH: Time = Time::from_secs(1_800_000_000);

/// A WireGuard interface.
#[derive(Debug)]
pub struct Device {
    own: PublicKey,
    port: u16,
    /// What the machine's clock is ahead of [`EPOCH`] and virtual time, in nanoseconds.
    ahead: i128,
    chance: Chance,
    peers: BTreeMap<PublicKey, Peer>,
    out: Vec<(SocketAddr, Message)>,
}

/// What `wg show` tells of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// Where it sends to.
    pub endpoint: Option<SocketAddr>,
    /// Persistent keepalive, seconds; 0 is off.
    pub keepalive: u16,
    /// When the last handshake was complete, on this side.
    pub last_handshake: Option<Time>,
    /// The same as the machine's clock said it then, since 1970: all that WireGuard itself tells.
    pub handshake_stamp: Option<Time>,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
}

impl Device {
    /// A device with this key and UDP port; jitter and session numbers come from the seed.
    pub fn new(own: PublicKey, port: u16, seed: u64) -> Self {
        Self {
            own,
            port,
            ahead: 0,
            chance: Chance::seed_from_u64(seed),
            peers: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Its UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the machine's clock says, since 1970.
    pub fn wall(&self, now: Time) -> Time {
        wall(now, self.ahead)
    }

    /// How far its clock is ahead of the right time, nanoseconds.
    pub(crate) fn ahead(&self) -> i128 {
        self.ahead
    }

    /// The machine's clock is set.
    pub(crate) fn set_ahead(&mut self, nanoseconds: i128) {
        self.ahead = nanoseconds;
    }

    /// Adds a peer without endpoint.
    pub fn add_peer(&mut self, key: PublicKey) {
        self.peers.insert(key, Peer::new(key));
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (PublicKey, PeerStatus)> {
        self.peers.values().map(|p| (p.key, status_of(p)))
    }

    /// One peer, if the device has it.
    pub fn peer(&self, key: PublicKey) -> Option<PeerStatus> {
        self.peers.get(&key).map(status_of)
    }

    /// Whether an initiation that a peer makes at this time of its own clock would be taken: it is not older than those
    /// before (section 5.1).
    pub fn would_take(&self, key: PublicKey, wall: Time) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.greatest_stamp() < wall.as_nanos())
    }

    /// Changes a peer that the device has, as an update-only `set` does; another is ignored.
    pub fn set(&mut self, now: Time, key: PublicKey, endpoint: Option<SocketAddr>, keepalive: Option<u16>) {
        self.with(now, key, |peer, step| peer.set(step, endpoint, keepalive));
    }

    /// Sends a packet into the tunnel; false if the peer has no endpoint, and then it is refused.
    pub fn send(&mut self, now: Time, key: PublicKey, body: Body) -> bool {
        self.with(now, key, |peer, step| peer.send(step, body)).unwrap_or(false)
    }

    /// Takes a message from the network, and returns who sent what if it was authentic data.
    pub fn receive(&mut self, now: Time, source: SocketAddr, message: &Message) -> Option<(PublicKey, Body)> {
        let own = self.own;
        let length = message.length();
        let (from, body) = match *message {
            Message::Initiation { from, to, .. } if to == own => (from, None),
            Message::Initiation { .. } => return None,
            Message::Response { from, .. } => (from, None),
            Message::Data { from, body, .. } => (from, Some(body)),
        };
        let accepted = self.with(now, from, |peer, step| {
            let accepted = match *message {
                Message::Initiation { id, stamp, .. } => peer.on_initiation(step, source, id, stamp),
                Message::Response { answers, session, .. } => {
                    peer.on_response(step, source, answers, session)
                }
                Message::Data { session, body, .. } => peer.on_data(step, source, session, body),
            };
            if accepted {
                peer.rx_bytes += length;
            }
            accepted
        });
        body.filter(|_| accepted == Some(true)).map(|body| (from, body))
    }

    /// When a timer is due.
    pub fn next_event(&self) -> Option<Time> {
        self.peers.values().map(Peer::next_timer).fold(None, earlier)
    }

    /// Runs the timers that are due.
    pub fn on_timer(&mut self, now: Time) {
        let due: Vec<_> = self
            .peers
            .values()
            .filter(|p| p.next_timer().is_some_and(|at| at <= now))
            .map(|p| p.key)
            .collect();
        for key in due {
            self.with(now, key, Peer::on_timer);
        }
    }

    /// What is to be sent since the last call, and where to.
    pub fn take_out(&mut self) -> Vec<(SocketAddr, Message)> {
        std::mem::take(&mut self.out)
    }

    fn with<T>(
        &mut self,
        now: Time,
        key: PublicKey,
        act: impl FnOnce(&mut Peer, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let peer = self.peers.get_mut(&key)?;
        let wall = wall(now, self.ahead);
        let mut step = Step { now, wall, own: self.own, chance: &mut self.chance, out: &mut self.out };
        Some(act(peer, &mut step))
    }
}

/// What a clock says that is right but for this.
fn wall(now: Time, ahead: i128) -> Time {
    let right = i128::try_from((EPOCH + now).as_nanos()).unwrap_or(i128::MAX);
    let nanoseconds = u64::try_from((right + ahead).max(0)).unwrap_or(u64::MAX);
    Time::from_nanos(nanoseconds)
}

fn status_of(peer: &Peer) -> PeerStatus {
    PeerStatus {
        endpoint: peer.endpoint,
        keepalive: peer.keepalive(),
        last_handshake: peer.last_handshake,
        handshake_stamp: peer.handshake_stamp,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
    }
}
