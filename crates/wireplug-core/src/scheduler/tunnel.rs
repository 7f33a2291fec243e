//! What WireGuard itself does with one peer: whether a session lives, and over which endpoint.

use std::time::{Duration, Instant};

use super::io::{Handshake, PeerView};
use super::tuning::{
    LATE_PACKETS, REASSERTIONS, SENDING, SESSION_LIFE, SILENCE_WHEN_KEPT_ALIVE, SILENCE_WHEN_SENDING,
};
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
    /// The last handshake before it.
    handshake: Option<u128>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) endpoint: Option<Endpoint>,
    /// When something was last received, as far as our looks at the device tell.
    pub(super) heard: Instant,
    rx: u64,
    tx_when_heard: u64,
    /// Our last move of it, while late packets may still undo it.
    moved: Option<Move>,
}

#[derive(Debug)]
struct Move {
    at: Instant,
    to: Endpoint,
    reasserted: u8,
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
    /// A late packet pulled the endpoint back after our move: put this one there again.
    PulledBack(Endpoint),
    /// The peer is silent for longer than it should be.
    Silent,
}

impl Attempt {
    pub(super) fn new(endpoint: Endpoint, until: Instant, view: Option<&PeerView>) -> Self {
        Self { endpoint, until, handshake: view.and_then(stamp) }
    }
}

impl Up {
    pub(super) fn new(now: Instant, view: &PeerView) -> Self {
        Self {
            endpoint: view.endpoint,
            heard: now,
            rx: view.rx_bytes,
            tx_when_heard: view.tx_bytes,
            moved: None,
        }
    }

    /// We move it to another endpoint.
    pub(super) fn move_to(&mut self, now: Instant, to: Endpoint) {
        self.endpoint = Some(to);
        self.moved = Some(Move { at: now, to, reasserted: 0 });
    }

    fn see(&mut self, now: Instant, view: &PeerView, kept_alive: bool) -> Seen {
        if view.rx_bytes < self.rx {
            // The device or the peer was made anew: its counters and its session are other ones.
            *self = Self::new(now, view);
        }
        if view.rx_bytes > self.rx {
            self.rx = view.rx_bytes;
            self.tx_when_heard = view.tx_bytes;
            self.heard = now;
        }
        if let Some(to) = self.pulled_back(now, view.endpoint) {
            return Seen::PulledBack(to);
        }
        self.endpoint = view.endpoint;
        let silence = now - self.heard;
        let sent = view.tx_bytes.saturating_sub(self.tx_when_heard);
        let sending = sent > SENDING && silence > SILENCE_WHEN_SENDING;
        let expected = kept_alive && silence > SILENCE_WHEN_KEPT_ALIVE;
        if sending || expected {
            return Seen::Silent;
        }
        if has_session(view) { Seen::Nothing } else { Seen::WentDown }
    }

    fn pulled_back(&mut self, now: Instant, seen: Option<Endpoint>) -> Option<Endpoint> {
        let moved = self.moved.as_mut()?;
        if now - moved.at > LATE_PACKETS || moved.reasserted >= REASSERTIONS {
            self.moved = None;
            return None;
        }
        if seen == Some(moved.to) {
            return None;
        }
        moved.reasserted += 1;
        Some(moved.to)
    }
}

impl Tunnel {
    /// Takes a look at the device. `kept_alive`: both sides send keepalives, so that silence means something.
    pub(super) fn see(
        &mut self,
        now: Instant,
        before: Option<&PeerView>,
        view: &PeerView,
        kept_alive: bool,
    ) -> Seen {
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
            Self::Up(up) => return up.see(now, view, kept_alive),
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
    matches!(view.handshake, Some(Handshake { age, .. }) if age < SESSION_LIFE + Duration::from_secs(10))
}
