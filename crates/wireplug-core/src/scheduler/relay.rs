//! When a server is asked to relay for a peer, and for how long it is kept.

use std::time::{Duration, Instant};

use super::effort::{Cause, Effort, Round};
use super::peer::{Peer, Role};
use super::tuning::{
    CALL_GAP, CALLED_FOR, RELAY_DOUBT_HEAD_START, RELAY_KEPT, UNPROVEN_EACH, UPGRADE_WINDOW,
    relay_head_start, upgrade_pause,
};
use super::tunnel::Tunnel;
use super::world::World;
use crate::Endpoint;

/// What one peer needs of a relay.
#[derive(Debug, Default)]
pub(super) struct Relay {
    wanted: bool,
    /// When the other side last had the server call us to the relay.
    called: Option<Instant>,
    /// The endpoint that was a relay's in the network before: it still is one, whoever suggests it again or not.
    before: Option<Endpoint>,
    /// When the session was last moved off a relay, or a handshake over one given up.
    left: Option<Instant>,
    /// While it is used: when something better is searched for again, and how often that was in vain.
    upgrade_at: Option<Instant>,
    upgrades: u32,
}

impl Relay {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The session has a better path now; it may not last.
    pub(super) fn leave(&mut self, now: Instant) {
        self.left = Some(now);
        self.expect_better();
    }

    /// A handshake over it was not answered. The peer's WireGuard may begin one of its own, 15 s after it sent in vain
    /// (`REKEY_TIMEOUT` and `KEEPALIVE_TIMEOUT`), where ours are refused: after our clock was set back they are.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.left = Some(now);
    }

    /// What strategies suggested is void now, but the session stays where it is.
    pub(super) fn carry_over(&mut self, in_use: Option<Endpoint>) {
        self.before = in_use;
    }

    /// Whether this was a relay's endpoint when the session was last carried over.
    pub(super) fn was_at(&self, endpoint: Endpoint) -> bool {
        self.before == Some(endpoint)
    }

    /// Whether something better is searched for by and by.
    pub(super) fn plans_search(&self) -> bool {
        self.upgrade_at.is_some()
    }

    /// When that is.
    pub(super) fn next_search(&self) -> Option<Instant> {
        self.upgrade_at
    }

    /// There is news: something better is likely soon.
    pub(super) fn expect_better(&mut self) {
        self.upgrades = 0;
    }
}

impl Peer {
    /// The other side asked the server for a relay: it cannot reach us, so it is a reason to listen, too.
    pub(super) fn relay_called(&mut self, world: &mut World<'_>) {
        let lately = self.relay.called.is_some_and(|at| world.now < at + CALL_GAP);
        self.relay.called = Some(world.now);
        let settled = lately || self.uses_relay();
        match &mut self.effort {
            Effort::Round(round) if settled || world.now < round.started + UPGRADE_WINDOW => {
                round.called = world.now;
                // The other side has a session, too, and does not use its path: it is proven no more until it answers.
                if let Tunnel::Up(up) = &self.tunnel
                    && let Some(endpoint) = up.endpoint.filter(|_| !settled)
                {
                    self.paths.doubt(world.now, endpoint);
                }
            }
            Effort::Rest | Effort::Pause { .. } if settled => {}
            Effort::Rest | Effort::Pause { .. } | Effort::Round(_) => self.begin_round(world, Cause::Called),
        }
    }

    /// A relay can be bound to: that is done at once, and the round waits for it.
    pub(super) fn relay_suggested(&mut self, world: &mut World<'_>, endpoint: Endpoint) {
        let in_use = self.uses_relay();
        match &mut self.effort {
            Effort::Round(round) => {
                round.called = world.now;
                self.paths.check_again(world.now, endpoint);
            }
            Effort::Rest if in_use => self.begin_round(world, Cause::Called),
            Effort::Rest | Effort::Pause { .. } => {}
        }
    }

    /// Decides whether the relay is wanted, and says when that is to be looked at again.
    pub(super) fn wish_for_relay(&mut self, world: &World<'_>) -> Option<(Instant, &'static str)> {
        let (wanted, again) = self.relay_wish(world);
        self.relay.wanted = wanted;
        again.filter(|at| *at > world.now).map(|at| (at, "the end or beginning of a relay"))
    }

    fn relay_wish(&self, world: &World<'_>) -> (bool, Option<Instant>) {
        let Effort::Round(round) = &self.effort else { return self.kept(world.now) };
        if !self.ranking.relays() {
            // One that was disabled while it is used goes with the round that looks for another path.
            return (self.uses_relay(), None);
        }
        if self.uses_relay() {
            return (true, None);
        }
        let proven = match &self.tunnel {
            Tunnel::Trying(_) => false,
            Tunnel::Up(_) => self.path_in_use_is_proven() && !self.uses_what_is_barred(),
            Tunnel::Down => self.choice(world.now).is_some_and(|best| !best.relayed),
        };
        if proven {
            return self.kept(world.now);
        }
        // The other side may hear nothing of us though we hear all of it.
        let called_until = self.relay.called.map(|at| at + CALLED_FOR);
        if called_until.is_some_and(|until| until > world.now) {
            return (true, called_until);
        }
        let needed = match &self.tunnel {
            Tunnel::Trying(_) => false,
            Tunnel::Up(_) => {
                (round.doubting || round.elsewhere) && !self.works_in(round) || self.uses_what_is_barred()
            }
            Tunnel::Down => true,
        };
        if !needed {
            return self.kept(world.now);
        }
        match self.head_start(world, round) {
            // News begins the head start anew, but does not take back what may be in use by the time it is heard of.
            Some(at) if at > world.now => (self.relay.wanted || self.kept(world.now).0, Some(at)),
            Some(_) => (true, None),
            None => self.kept(world.now),
        }
    }

    /// Until when better paths alone are tried in this round; `None` while the peer has said nothing to try.
    pub(super) fn head_start(&self, world: &World<'_>, round: &Round) -> Option<Instant> {
        let met = round.met?;
        let tries = relay_head_start(self.expected_round_trip(world));
        Some(match &self.tunnel {
            // Nothing can be proven but a relay, and what is tried instead takes its time.
            _ if !world.port_sharing && !self.unproven(world).is_empty() => met + UNPROVEN_EACH,
            Tunnel::Up(_) if round.doubting => round.started + RELAY_DOUBT_HEAD_START.max(tries),
            Tunnel::Up(_) | Tunnel::Trying(_) | Tunnel::Down => met + tries,
        })
    }

    /// On a relay, what is to be done at rest: to search for something better now and then. The side that chooses is the
    /// one to begin; the other only if it hears nothing of it.
    pub(super) fn search_again(&mut self, world: &mut World<'_>) -> Option<Instant> {
        let at = self.relay.upgrade_at.filter(|_| world.server.is_up())?;
        if at > world.now {
            return Some(at);
        }
        self.relay.upgrade_at = None;
        if self.uses_relay() || self.uses_what_is_barred() {
            self.begin_round(world, Cause::Own);
        }
        None
    }

    /// The round is over and the session, if there is one, stays where it is.
    pub(super) fn plan_search(&mut self, now: Instant) {
        self.relay.upgrade_at = None;
        if !self.uses_relay() && !self.uses_what_is_barred() {
            return;
        }
        let pause = upgrade_pause(self.relay.upgrades);
        self.relay.upgrades = self.relay.upgrades.saturating_add(1);
        self.relay.upgrade_at = Some(match self.role {
            Role::Initiator => now + pause,
            Role::Follower => now + pause * 3 / 2,
        });
    }

    /// How long a packet to the peer and back takes, as far as can be told before one has.
    fn expected_round_trip(&self, world: &World<'_>) -> Duration {
        // The peer is about as far from the server as we are: half of the ways do not go by it.
        self.round_trip.unwrap_or(2 * world.server_round_trip)
    }

    pub(super) fn uses_relay(&self) -> bool {
        !matches!(self.tunnel, Tunnel::Down) && self.tier_in_use_is_relayed()
    }

    /// The session stays on its relay, though no strategy suggests it any more.
    pub(super) fn carry_over_relay(&mut self) {
        if let Some(endpoint) = self.endpoint().filter(|_| self.uses_relay()) {
            self.relay.carry_over(Some(endpoint));
        }
    }

    /// What holds outside of rounds: a relay in use stays, and one that was left or given up stays for a while.
    fn kept(&self, now: Instant) -> (bool, Option<Instant>) {
        if !self.ranking.relays() {
            return (false, None);
        }
        let until = self.relay.left.map(|at| at + RELAY_KEPT).filter(|until| *until > now);
        (self.uses_relay() || until.is_some(), until)
    }
}
