//! What WireGuard says of a peer, and what follows from it.

use super::effort::{Cause, Effort};
use super::io::{Keepalive, PeerView, Stimulus};
use super::peer::Peer;
use super::tuning::{DOUBT_GAP, UPGRADE_WINDOW};
use super::tunnel::{Seen, Tunnel};
use super::world::World;

/// How long a peer has said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Unusual,
    TooLong,
}

impl Peer {
    /// The device was read.
    pub(super) fn see(&mut self, world: &mut World<'_>, mut view: PeerView) {
        view.handshake = self.handshakes.see(world.now, view.handshake);
        view.endpoint = view.endpoint.map(|endpoint| self.paths.with_scope(endpoint));
        let before = self.view.take();
        if before.is_none() {
            self.hand.first_seen(view.endpoint);
        }
        let others = before.as_ref().is_some_and(|before| self.see_what_others_did(before, &view));
        let was_up = self.tunnel.is_up().then(|| self.endpoint());
        let seen = self.tunnel.see(world.now, before.as_ref(), &view);
        self.view = Some(view);
        if let Some(before) = was_up.filter(|before| self.tunnel.is_up() && *before != self.endpoint()) {
            self.roamed(world.now, before);
        }
        match seen {
            Seen::Nothing => {}
            Seen::CameUp => self.came_up(world),
            Seen::WentDown => self.went_down(world),
            Seen::PulledBack { to } => self.pulled_back(world, to),
            Seen::Silent => self.doubt(world, Silence::Unusual),
            Seen::SilentForLong => self.doubt(world, Silence::TooLong),
        }
        if before.is_none() {
            self.begin_round(world, Cause::Own);
        } else if others {
            self.try_what_others_did(world);
        }
    }

    fn came_up(&mut self, world: &mut World<'_>) {
        self.failures = 0;
        self.reason = None;
        self.note_whether_it_answers();
        if matches!(self.effort, Effort::Pause { .. }) {
            self.effort = Effort::Rest;
        }
        let off = self.view.as_ref().is_some_and(|view| view.keepalive == Keepalive::Off);
        if self.runs_wireplug() && off {
            self.update(world, None, Stimulus::TurnOn(self.keepalive));
        }
    }

    /// The session ended. One that is kept alive renews itself, so its path is dead; another was just not used.
    fn went_down(&mut self, world: &mut World<'_>) {
        self.tunnel = Tunnel::Down;
        self.reason = None;
        let kept_alive = self.view.as_ref().is_some_and(|view| view.keepalive != Keepalive::Off);
        if kept_alive && matches!(self.effort, Effort::Rest) {
            self.begin_round(world, Cause::Own);
        }
    }

    /// Silence gives up nothing: it has the path in use checked. An unusual one only with a peer that can answer checks.
    fn doubt(&mut self, world: &mut World<'_>, silence: Silence) {
        let can_begin = match &self.effort {
            Effort::Rest => true,
            // What was proven at its beginning may have died since; what was not is being checked already.
            Effort::Round(round) => self.works_in(round) && world.now >= round.started + UPGRADE_WINDOW,
            Effort::Pause { .. } => false,
        };
        let worth_it = match silence {
            Silence::Unusual => self.runs_wireplug(),
            Silence::TooLong => self.doubted.is_none_or(|at| world.now >= at + DOUBT_GAP),
        };
        if let Effort::Round(round) = &mut self.effort {
            round.doubting |= worth_it;
        }
        if can_begin && worth_it {
            if silence == Silence::TooLong {
                self.doubted = Some(world.now);
            }
            self.begin_round(world, Cause::Doubt);
        }
    }
}
