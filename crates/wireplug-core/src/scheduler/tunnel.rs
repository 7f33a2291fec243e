//! What WireGuard itself does with one peer: whether a session lives, and over which endpoint.

use std::time::Instant;

use super::io::{Handshake, PeerView};
use super::tuning::{LATE_PACKETS, REASSERTIONS, RENEWAL, SENDING, SESSION_LIFE, SILENCE_WHEN_SENDING};
use crate::Endpoint;

/// The state of a peer's tunnel.
#[derive(Debug)]
pub(super) enum Tunnel {
    /// No session, as far as can be seen.
    Down,
    /// An endpoint was applied, and its handshake is awaited.
    Trying(Attempt),
    /// There is a session.
    Up(Up),
}

/// An endpoint that was applied while there was no session.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: Endpoint,
    pub(super) until: Instant,
    /// WireGuard was made to send a second time.
    pub(super) repeated: bool,
    /// The last handshake before it.
    handshake: Option<u128>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) since: Instant,
    pub(super) endpoint: Option<Endpoint>,
    /// When something was last received, as far as our looks at the device tell.
    pub(super) heard: Instant,
    rx: u64,
    tx_when_heard: u64,
    /// Since when we send more than keepalives and hear nothing.
    asking: Option<Instant>,
    /// Our last move of it, while late packets may still undo it.
    moved: Option<Move>,
}

#[derive(Debug)]
struct Move {
    at: Instant,
    to: Endpoint,
    reasserted: u8,
    over: bool,
}

/// What a look at the device means for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing to act on.
    Nothing,
    /// A session is there that was not there before.
    CameUp,
    /// The session is over.
    WentDown,
    /// Soon after a move the endpoint is another one: a late packet may have pulled it back.
    PulledBack {
        /// Where it was moved to.
        from: Endpoint,
        /// Where it is now.
        to: Option<Endpoint>,
    },
    /// The peer is silent for longer than it should be.
    Silent,
}

impl Attempt {
    pub(super) fn new(endpoint: Endpoint, until: Instant, view: Option<&PeerView>) -> Self {
        Self { endpoint, until, repeated: false, handshake: view.and_then(stamp) }
    }
}

impl Up {
    pub(super) fn new(now: Instant, view: &PeerView) -> Self {
        Self {
            since: now,
            endpoint: view.endpoint,
            heard: now,
            rx: view.rx_bytes,
            tx_when_heard: view.tx_bytes,
            asking: None,
            moved: None,
        }
    }

    /// We move it to another endpoint.
    pub(super) fn move_to(&mut self, now: Instant, to: Endpoint) {
        self.endpoint = Some(to);
        self.moved = Some(Move { at: now, to, reasserted: 0, over: false });
    }

    /// The peer moves it to the endpoint where it is now. Each side must hold on to it while packets of both
    /// cross: with only one that does, each side's old path pulls the other's endpoint back, for as long as
    /// both send.
    pub(super) fn hold(&mut self, now: Instant, to: Endpoint) {
        if self.moved.as_ref().is_none_or(|moved| moved.to != to) {
            self.move_to(now, to);
        }
    }

    /// The endpoint is where it was seen because the peer itself went there.
    pub(super) fn follow(&mut self, to: Option<Endpoint>) {
        self.endpoint = to;
        self.moved = None;
    }

    /// Whether late packets may still undo a move.
    pub(super) fn is_holding(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| !moved.over)
    }

    /// Whether something was received after this time.
    pub(super) fn was_heard_since(&self, since: Instant) -> bool {
        self.heard > since
    }

    fn see(&mut self, now: Instant, view: &PeerView) -> Seen {
        if view.rx_bytes < self.rx {
            // The device or the peer was made anew: its counters and its session are other ones.
            *self = Self::new(now, view);
        }
        if view.rx_bytes > self.rx {
            self.rx = view.rx_bytes;
            self.tx_when_heard = view.tx_bytes;
            self.heard = now;
            self.asking = None;
        } else if view.tx_bytes.saturating_sub(self.tx_when_heard) > SENDING {
            self.asking.get_or_insert(now);
        }
        if let Some(from) = self.pulled_back(now, view.endpoint) {
            return Seen::PulledBack { from, to: view.endpoint };
        }
        self.endpoint = view.endpoint;
        let unanswered = self.asking.is_some_and(|since| now - since > SILENCE_WHEN_SENDING);
        if unanswered {
            return Seen::Silent;
        }
        if has_session(view) { Seen::Nothing } else { Seen::WentDown }
    }

    fn pulled_back(&mut self, now: Instant, seen: Option<Endpoint>) -> Option<Endpoint> {
        let moved = self.moved.as_mut()?;
        moved.over |= now - moved.at > LATE_PACKETS || moved.reasserted >= REASSERTIONS;
        if seen == Some(moved.to) {
            return None;
        }
        if moved.over {
            self.moved = None;
            return None;
        }
        moved.reasserted += 1;
        Some(moved.to)
    }
}

impl Tunnel {
    /// Takes a look at the device.
    pub(super) fn see(&mut self, now: Instant, before: Option<&PeerView>, view: &PeerView) -> Seen {
        match self {
            Self::Down => {
                let news = before
                    .is_none_or(|before| stamp(before) != stamp(view) || view.rx_bytes > before.rx_bytes);
                if !(news && has_session(view)) {
                    return Seen::Nothing;
                }
            }
            Self::Trying(attempt) => {
                if stamp(view) == attempt.handshake || !has_session(view) {
                    return Seen::Nothing;
                }
            }
            Self::Up(up) => return up.see(now, view),
        }
        *self = Self::Up(Up::new(now, view));
        Seen::CameUp
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

fn stamp(view: &PeerView) -> Option<u128> {
    view.handshake.map(|handshake| handshake.stamp)
}

fn has_session(view: &PeerView) -> bool {
    matches!(view.handshake, Some(Handshake { age, .. }) if age < SESSION_LIFE + RENEWAL)
}
