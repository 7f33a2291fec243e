//! What shows that our NAT's mapping expired between two keepalives, and nothing else happened.
//!
//! Whoever sends opens its own NAT by sending. So a tunnel that was quiet and turns out to be dead when one side sends is
//! dead at the *other* side's NAT, and that side hears of it from the peer's offer, which says that it doubts. Then:
//! - we listen for a moment before we send anything. If the peer's checks come in, our mapping is there, and it was the
//!   peer or the way between that failed. If they do not, and the very same path works as soon as we have sent,
//!   then nothing but our mapping was missing;
//! - or the servers see our port mapped elsewhere than before, in the same network.
//!
//! What was silent for longer than the keepalive lets it be, because the machine slept, would have died under a shorter one
//! as well, and shows nothing.
//!
//! Through a relay no check comes in by itself, so there only the second counts. What it makes of our keepalive,
//! `keepalive` says.

use std::time::{Duration, Instant};

use super::effort::{Cause, Effort};
use super::io::{Keepalive, PeerView, Stimulus};
use super::peer::Peer;
use super::tuning::{LISTEN_FIRST, OPENED_WITHIN, POLL_SETTLED};
use super::tunnel::Tunnel;
use super::world::World;
use crate::Endpoint;

/// What a round about a quiet tunnel may show. `age`: how long ago at most the last packet had gone through when the peer
/// told of its doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Watch {
    /// The tunnel was not quiet, or was not kept by our keepalive: it shows nothing.
    #[default]
    Nothing,
    /// Whether our mapping is another one than before.
    Mapping,
    /// Also whether the peer's checks come in before we have sent anything: until then.
    Listening { until: Instant, age: Duration },
    /// They did not come, and now we have sent: also whether this path answers at once.
    Opened { at: Instant, path: Endpoint, age: Duration },
}

impl Peer {
    /// Has our own keepalive be that of this network.
    pub(super) fn use_keepalive(&mut self, world: &mut World<'_>) {
        self.keepalive = world.lifetimes.seconds();
        if let Some(PeerView { keepalive: Keepalive::Ours(seconds), .. }) = &mut self.view
            && *seconds != self.keepalive
        {
            *seconds = self.keepalive;
            self.update(world, None, Stimulus::Adjust(self.keepalive));
        }
    }

    /// What a round that begins now may show.
    pub(super) fn watch(&self, now: Instant, cause: Cause) -> Watch {
        let called = match cause {
            Cause::Doubt => false,
            Cause::Doubted => true,
            Cause::Own | Cause::Roamed | Cause::Called | Cause::Moved => return Watch::Nothing,
        };
        let kept_by_us =
            |view: &PeerView| matches!(view.keepalive, Keepalive::Ours(seconds) if seconds <= self.keepalive);
        let Tunnel::Up(up) = &self.tunnel else { return Watch::Nothing };
        let quiet = if called { Some(up.quiet()) } else { up.quiet_before_asking() };
        let (age, keepalive) = (now - up.passed(), Duration::from_secs(self.keepalive.into()));
        // Less could not have let a mapping expire that the keepalive is too long for.
        let long = quiet.is_some_and(|quiet| quiet >= keepalive / 2);
        // As looks tell it, it is one of them older than it is; another one may be late.
        let too_long = age > keepalive + 2 * POLL_SETTLED;
        if !long || too_long || !self.view.as_ref().is_some_and(kept_by_us) {
            Watch::Nothing
        } else if called && !self.tier_in_use_is_relayed() {
            Watch::Listening { until: now + LISTEN_FIRST, age }
        } else {
            Watch::Mapping
        }
    }

    /// Whether we only listen now.
    pub(super) fn is_listening(&self) -> bool {
        matches!(&self.effort, Effort::Round(round) if matches!(round.watch, Watch::Listening { .. }))
    }

    /// Ends the listening when its time is over; says when that will be.
    pub(super) fn listen(&mut self, now: Instant) -> Option<Instant> {
        let Effort::Round(round) = &self.effort else { return None };
        let Watch::Listening { until, age } = round.watch else { return None };
        let heard = matches!(&self.tunnel, Tunnel::Up(up) if up.was_heard_since(round.started));
        if !heard && now < until {
            return Some(until);
        }
        let path = self.endpoint().filter(|_| !heard);
        self.open(now, path.map_or(Watch::Mapping, |path| Watch::Opened { at: now, path, age }));
        None
    }

    /// Something came in, or the peer has news: there is no more to be learnt by listening.
    pub(super) fn stop_listening(&mut self, now: Instant) {
        if self.is_listening() {
            self.open(now, Watch::Mapping);
        }
    }

    /// Something else may have let a mapping expire: what this round shows is no sign of it.
    pub(super) fn watch_no_more(&mut self, now: Instant) {
        if self.is_listening() {
            self.open(now, Watch::Nothing);
        } else if let Effort::Round(round) = &mut self.effort {
            round.watch = Watch::Nothing;
        }
    }

    fn open(&mut self, now: Instant, watch: Watch) {
        if let Effort::Round(round) = &mut self.effort {
            round.watch = watch;
            self.paths.check_all(now);
        }
    }

    /// A path answered our check.
    pub(super) fn note_opened(&mut self, world: &mut World<'_>, from: Endpoint) {
        let Effort::Round(round) = &mut self.effort else { return };
        let Watch::Opened { at, path, age } = round.watch else { return };
        if path == from {
            round.watch = Watch::Mapping;
            // One that comes back later was not missing its mapping.
            if world.now < at + OPENED_WITHIN {
                world.lifetimes.expired(world.now, Some(age));
            }
        }
    }

    /// The servers see our port mapped elsewhere than before, in the same network.
    pub(super) fn note_remapped(&mut self, world: &mut World<'_>) {
        if matches!(&self.effort, Effort::Round(round) if round.watch != Watch::Nothing) {
            world.lifetimes.expired(world.now, None);
        }
    }
}
