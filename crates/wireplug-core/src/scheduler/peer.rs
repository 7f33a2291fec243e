//! One peer: what it told us, what its tunnel does, and what we do about it.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::allowed::Barred;
use super::answers::Answers;
use super::effort::{Cause, Effort, Round};
use super::flaps::Flaps;
use super::hand::Hand;
use super::handshakes::Handshakes;
use super::io::{Command, Keepalive, PeerView, Stimulus, Unsendable};
use super::outbox::Outbox;
use super::paths::{Path, Paths};
use super::ranking::Ranking;
use super::relay::Relay;
use super::status::{Reason, State};
use super::tuning::{KEEPALIVE, pause};
use super::tunnel::Tunnel;
use super::world::World;
use crate::{Endpoint, Offer, PublicKey, RemoteCandidate};

/// Who applies first when there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The side with the lower public key: it chooses the path, applies it, and so begins the handshake.
    Initiator,
    /// The other side: it takes its endpoint from the authentic initiation.
    Follower,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) role: Role,
    pub(super) ranking: Ranking,
    pub(super) view: Option<PeerView>,
    /// Our keepalive in this network, in seconds.
    pub(super) keepalive: u16,
    pub(super) offers: Vec<Offer>,
    /// When it last said something: an offer, or a check.
    pub(super) spoke: Option<Instant>,
    pub(super) suggested: Vec<RemoteCandidate>,
    /// Where it was reached, in this run and in earlier ones.
    pub(super) good: Vec<RemoteCandidate>,
    /// That was told to be kept in this run.
    pub(super) has_kept: bool,
    pub(super) paths: Paths,
    pub(super) tunnel: Tunnel,
    pub(super) effort: Effort,
    pub(super) outbox: Outbox,
    pub(super) failures: u32,
    pub(super) reason: Option<Reason>,
    /// The path that the initiator, whoever that is, has chosen last.
    pub(super) nominated: Option<Endpoint>,
    /// The path that was in use when its strategy was disabled.
    pub(super) barred: Option<Barred>,
    pub(super) hand: Hand,
    pub(super) relay: Relay,
    pub(super) flaps: Flaps,
    /// The round trip of the last path that was proven straight to the peer.
    pub(super) round_trip: Option<Duration>,
    pub(super) state: (State, Instant),
    pub(super) doubted: Option<Instant>,
    pub(super) answers: Answers,
    pub(super) handshakes: Handshakes,
}

impl Peer {
    pub(super) fn new(now: Instant, key: PublicKey, role: Role, ranking: Ranking) -> Self {
        Self {
            key,
            role,
            ranking,
            view: None,
            keepalive: KEEPALIVE,
            offers: Vec::new(),
            spoke: None,
            suggested: Vec::new(),
            good: Vec::new(),
            has_kept: false,
            paths: Paths::default(),
            tunnel: Tunnel::Down,
            effort: Effort::Rest,
            outbox: Outbox::default(),
            failures: 0,
            reason: None,
            nominated: None,
            barred: None,
            hand: Hand::default(),
            relay: Relay::default(),
            flaps: Flaps::default(),
            round_trip: None,
            state: (State::Idle, now),
            doubted: None,
            answers: Answers::new(now),
            handshakes: Handshakes::default(),
        }
    }

    /// Has WireGuard send something over the path in use from where we are now: the peer's WireGuard follows by itself.
    pub(super) fn announce(&mut self, world: &mut World<'_>) {
        if self.view.as_ref().is_some_and(|view| view.keepalive != Keepalive::Off) {
            self.update(world, None, self.stimulus());
        }
    }

    pub(super) fn cannot_send(&mut self, to: Endpoint, why: Unsendable) {
        self.paths.cannot_send(to, why);
    }

    /// The network is another one: what was proven is void, and so are suggestions made in it.
    pub(super) fn network_changed(&mut self, world: &mut World<'_>) {
        self.handshakes.doubt();
        self.relay.carry_over(self.endpoint().filter(|_| self.uses_relay()));
        self.suggested.clear();
        self.set_targets(world);
        self.let_go();
        self.failures = 0;
        self.flaps.forget();
        self.relay.expect_better();
        self.begin_round(world, Cause::Roamed);
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.roams();
            // Where anyone may send to the peer, nothing more is needed.
            self.announce(world);
        }
    }

    /// The machine slept for so long, which our own clock does not count.
    pub(super) fn slept(&mut self, now: Instant, time: Duration) {
        self.handshakes.slept(time);
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.slept(time);
        }
        self.watch_no_more(now);
    }

    pub(super) fn let_go(&mut self) {
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.let_go();
        }
    }

    /// A server is there again. Peers that have not heard of us in this generation are told, and a relay that is used may
    /// have forgotten us.
    pub(super) fn server_up(&mut self, world: &mut World<'_>) {
        self.set_targets(world);
        if !self.tunnel.is_up() || self.tier_in_use_is_relayed() || !self.outbox.has_told(world.generation) {
            self.begin_round(world, Cause::Own);
        }
    }

    /// No server is there: what is remembered may be tried.
    pub(super) fn server_down(&mut self, world: &mut World<'_>) {
        self.set_targets(world);
    }

    pub(super) fn begin_round(&mut self, world: &mut World<'_>, cause: Cause) {
        if self.view.is_none() {
            return;
        }
        let watch = self.watch(world.now, cause);
        // Until it works again, a move is a reason for haste, whatever else begins a round meanwhile: our server is there
        // again, or the peer calls.
        let still_elsewhere =
            matches!(&self.effort, Effort::Round(round) if round.elsewhere && !self.works_in(round));
        self.paths.begin_round(world.now, self.flaps.any());
        self.nominated = None;
        if let Some(endpoint) = self.view.as_ref().and_then(|view| view.endpoint) {
            self.paths.add_in_use(world.now, endpoint);
        }
        if !cause.is_the_peers() || !self.outbox.has_told(world.generation) {
            self.outbox.mark();
        }
        self.effort = Effort::Round(Round {
            started: world.now,
            called: world.now,
            met: (!self.offers.is_empty()).then_some(world.now),
            elsewhere: still_elsewhere || matches!(cause, Cause::Roamed | Cause::Moved),
            doubting: cause == Cause::Doubt,
            watch,
            decide_at: None,
            cause,
            nudged: None,
            unproven: 0,
            unproven_until: None,
        });
    }

    pub(super) fn rest(&mut self, now: Instant) {
        self.paths.end_round();
        self.plan_search(now);
        if self.uses_what_is_barred() {
            self.reason = Some(Reason::Disabled);
        }
        self.effort = Effort::Rest;
        self.failures = 0;
    }

    /// Waits, longer each time, with jitter so that not all peers of the world meet in one second.
    pub(super) fn pause(&mut self, world: &mut World<'_>, reason: Reason) {
        self.paths.end_round();
        let silence = self.spoke.map(|at| world.now - at);
        let wait = pause(self.failures, silence).mul_f64(world.rng.random_range(0.8..1.2));
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(reason);
        self.effort = Effort::Pause { until: world.now + wait };
    }

    pub(super) fn update(&mut self, world: &mut World<'_>, endpoint: Option<Endpoint>, stimulus: Stimulus) {
        if let Some(endpoint) = endpoint {
            self.hand.we_set(endpoint);
        }
        world.commands.push_back(Command::Update { peer: self.key, endpoint, stimulus });
    }

    /// What makes WireGuard send to a new endpoint at once.
    pub(super) fn stimulus(&self) -> Stimulus {
        match self.view.as_ref().map(|view| view.keepalive) {
            Some(Keepalive::Off) | None => Stimulus::TurnOn(self.keepalive),
            Some(Keepalive::Ours(seconds)) => Stimulus::Restart(seconds),
            Some(Keepalive::Theirs(_)) => Stimulus::Packet,
        }
    }

    /// Whether the peer runs wireplug, as far as is known: it has said something, now or in an earlier run.
    pub(super) fn runs_wireplug(&self) -> bool {
        !self.offers.is_empty() || !self.good.is_empty()
    }

    /// The endpoint that WireGuard has now.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match &self.tunnel {
            Tunnel::Up(up) => up.endpoint,
            Tunnel::Trying(attempt) => Some(attempt.endpoint),
            Tunnel::Down => self.view.as_ref().and_then(|view| view.endpoint),
        }
    }

    /// Whether an answer over the path in use is to be expected still.
    pub(super) fn path_in_use_awaits_proof(&self) -> bool {
        self.endpoint().and_then(|endpoint| self.paths.get(endpoint)).is_some_and(Path::awaits_proof)
    }

    pub(super) fn path_in_use_is_proven(&self) -> bool {
        let path = self.endpoint().and_then(|endpoint| self.paths.get(endpoint));
        path.is_some_and(|path| path.proof().is_some())
    }
}
