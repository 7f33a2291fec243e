//! An endpoint that somebody else has set, with `wg set` or `wg syncconf`: noticed, tried, and respected while it works.

use std::collections::VecDeque;
use std::time::Instant;

use super::effort::{Cause, Effort, Round};
use super::io::{PeerView, Stimulus};
use super::peer::Peer;
use super::tuning::HAND_PATIENCE;
use super::tunnel::Tunnel;
use super::world::World;
use crate::Endpoint;

/// The most endpoints of ours that are not seen on the device yet: more than are set between two looks.
const MAX_OURS: usize = 8;

/// Who has set the endpoint.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// What we have set and not seen yet, the latest last.
    ours: VecDeque<Endpoint>,
    /// Where somebody else has set it.
    at: Option<(Endpoint, Sign)>,
    /// Where a person wants it, wherever it went since: what they set last, or what was there before us.
    persons: Option<Endpoint>,
}

/// How sure it is that somebody else has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Nothing was received: WireGuard itself goes after authentic packets only, and counts them.
    Certain,
    /// Something was, but a settled session went where nobody vouches for: or the peer moved, and will say so.
    Likely,
}

impl Hand {
    /// The peer is new on the device. An endpoint that it has already is its config's, unless we were quicker.
    pub(super) fn first_seen(&mut self, endpoint: Option<Endpoint>) {
        let persons = endpoint.filter(|endpoint| !self.ours.contains(endpoint));
        *self = Self { persons, ..Self::default() };
    }

    /// The endpoint that a person wants.
    pub(super) fn persons(&self) -> Option<Endpoint> {
        self.persons
    }

    pub(super) fn we_set(&mut self, endpoint: Endpoint) {
        if self.ours.len() >= MAX_OURS {
            self.ours.pop_front();
        }
        if self.ours.back() != Some(&endpoint) {
            self.ours.push_back(endpoint);
        }
    }

    /// The device was read. Says whether somebody else has certainly set the endpoint since the last look; `strange`: if
    /// it is another, it is where a settled session has no reason to go.
    fn see(&mut self, before: &PeerView, view: &PeerView, strange: bool) -> bool {
        if let Some(index) = self.ours.iter().position(|ours| Some(*ours) == view.endpoint) {
            self.ours.drain(..=index);
            self.at = self.at.filter(|(at, _)| Some(*at) == view.endpoint);
            return false;
        }
        if view.endpoint == before.endpoint {
            return false;
        }
        let sign = match (view.rx_bytes == before.rx_bytes, strange) {
            (true, _) => Some(Sign::Certain),
            (false, true) => Some(Sign::Likely),
            (false, false) => None,
        };
        self.at = view.endpoint.zip(sign);
        let certain = matches!(self.at, Some((_, Sign::Certain)));
        if certain {
            self.persons = view.endpoint;
        }
        certain
    }

    /// The peer says where it is: if it was it that moved, nobody else has set the endpoint.
    pub(super) fn doubt(&mut self, it_is: impl Fn(Endpoint) -> bool) {
        self.at = self.at.filter(|(at, sign)| *sign == Sign::Certain || !it_is(*at));
    }

    pub(super) fn forget(&mut self) {
        self.at = None;
    }
}

/// The interface or the peer was removed and made again between two looks: what there was of endpoint, session and
/// keepalive is gone, and nobody but us knows that there was any.
fn is_made_anew(before: &PeerView, view: &PeerView) -> bool {
    let fewer = view.rx_bytes < before.rx_bytes || view.tx_bytes < before.tx_bytes;
    fewer || (before.handshake.is_some() && view.handshake.is_none())
}

impl Peer {
    /// Looks whether somebody changed the peer on the device: made it anew, or set its endpoint. Then a round begins, with
    /// what is there now.
    pub(super) fn see_what_others_did(&mut self, before: &PeerView, view: &PeerView) -> bool {
        if is_made_anew(before, view) {
            self.hand.first_seen(view.endpoint);
            self.tunnel = Tunnel::Down;
            return true;
        }
        let strange = view.endpoint.is_some_and(|to| self.paths.get(to).is_none())
            && self.tunnel.is_up()
            && matches!(self.effort, Effort::Rest);
        if !self.hand.see(before, view, strange) {
            return false;
        }
        match &mut self.tunnel {
            // Not a late packet that is to be put right.
            Tunnel::Up(up) => up.follow(view.endpoint),
            Tunnel::Trying(_) => self.tunnel = Tunnel::Down,
            Tunnel::Down => {}
        }
        true
    }

    /// Begins the round. The peer must listen, and WireGuard send, or nothing is learnt of the endpoint.
    pub(super) fn try_what_others_did(&mut self, world: &mut World<'_>) {
        self.failures = 0;
        self.reason = None;
        self.begin_round(world, Cause::Own);
        self.note_whether_it_answers();
        if self.is_set_by_hand() && self.tunnel.is_up() {
            self.update(world, None, Stimulus::Packet);
        }
    }

    /// The endpoint in use, where somebody else has set it, or it is likely so.
    pub(super) fn set_by_hand(&self) -> Option<Endpoint> {
        let (at, _) = self.hand.at?;
        self.view.as_ref().is_some_and(|view| view.endpoint == Some(at)).then_some(at)
    }

    /// Whether that is certain.
    pub(super) fn is_set_by_hand(&self) -> bool {
        self.set_by_hand().is_some() && matches!(self.hand.at, Some((_, Sign::Certain)))
    }

    /// Until when such an endpoint is left where it is, if it is: for a while in any case, and while it works for ever.
    pub(super) fn held_by_hand(&self, round: &Round) -> Option<Held> {
        self.set_by_hand()?;
        let works = !matches!(self.tunnel, Tunnel::Down) && self.works_in(round);
        Some(if works { Held::WhileItWorks } else { Held::Until(round.started + HAND_PATIENCE) })
    }

    /// Whether a check from elsewhere is left without an answer, so that the peer does not choose another path.
    pub(super) fn hides_from(&self, now: Instant, from: Endpoint) -> bool {
        if !self.is_set_by_hand() || self.set_by_hand() == Some(from) || !self.tunnel.is_up() {
            return false;
        }
        let Effort::Round(round) = &self.effort else { return true };
        match self.held_by_hand(round) {
            Some(Held::WhileItWorks) => true,
            Some(Held::Until(until)) => now < until,
            None => false,
        }
    }
}

/// How long an endpoint that was set by hand is left where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    WhileItWorks,
    Until(Instant),
}
