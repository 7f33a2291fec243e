//! One peer: what it told us, what its tunnel does, and what we do about it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;

use super::allowed::Barred;
use super::answers::Answers;
use super::expiry::Watch;
use super::flaps::Flaps;
use super::hand::Hand;
use super::handshakes::Handshakes;
use super::io::{Command, Keepalive, PeerView, Stimulus, Unsendable};
use super::keepalive::Lifetimes;
use super::local::Local;
use super::outbox::Outbox;
use super::paths::{By, Path, Paths};
use super::ranking::Ranking;
use super::relay::Relay;
use super::status::{Reason, State};
use super::tuning::{DOUBT_GAP, KEEPALIVE, MAX_INSTANCES, UPGRADE_WINDOW, pause};
use super::tunnel::{Seen, Tunnel};
use crate::{Endpoint, MAX_CANDIDATES, Mapping, Offer, PublicKey, RemoteCandidate, Tier, TransactionId};

/// What all peers of an interface share, for the length of one call.
pub(super) struct World<'a> {
    pub(super) now: Instant,
    pub(super) instance: u64,
    pub(super) generation: u32,
    pub(super) revision: &'a mut u32,
    pub(super) local: &'a Local,
    pub(super) lifetimes: &'a mut Lifetimes,
    pub(super) server: &'a Server,
    pub(super) server_round_trip: Duration,
    pub(super) listening: bool,
    pub(super) port_sharing: bool,
    pub(super) rng: &'a mut ChaCha8Rng,
    pub(super) commands: &'a mut VecDeque<Command>,
}

impl World<'_> {
    pub(super) fn checks_by(&self) -> By {
        if self.port_sharing { By::SharedPort } else { By::TlsAlone }
    }

    pub(super) fn server_is_away(&self) -> bool {
        matches!(self.server, Server::Down { .. })
    }

    pub(super) fn transaction(rng: &mut ChaCha8Rng) -> TransactionId {
        TransactionId::from_bytes(rng.random())
    }
}

/// Whether a rendezvous server is connected.
#[derive(Debug, Clone)]
pub(super) enum Server {
    Up { since: Instant },
    Down { why: String },
}

/// Who applies first when there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The side with the lower public key: it chooses the path, applies it, and so begins the handshake.
    Initiator,
    /// The other side: it takes its endpoint from the authentic initiation.
    Follower,
}

/// What we are doing for a peer.
#[derive(Debug)]
pub(super) enum Effort {
    /// Nothing: it is settled, or nothing is wanted.
    Rest,
    /// Gathering, offering and checking.
    Round(Round),
    /// Waiting after a round that failed.
    Pause { until: Instant },
}

/// One round of checks.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) started: Instant,
    /// When the peer called last without saying anything new.
    pub(super) called: Instant,
    /// Since when both sides can check: the peer's offer is here.
    pub(super) met: Option<Instant>,
    /// Our network or the peer's is another one: what carried the session may not any more.
    pub(super) elsewhere: bool,
    /// The tunnel was up and is doubted since then.
    pub(super) doubting: bool,
    /// What it may show of our NAT.
    pub(super) watch: Watch,
    /// When the choice is to be looked at again.
    pub(super) decide_at: Option<Instant>,
    /// Why it began.
    pub(super) cause: Cause,
    /// A session that is over was begun anew.
    pub(super) renewed: bool,
    /// The next of the endpoints that are tried unproven, where nothing can be proven.
    pub(super) unproven: usize,
    pub(super) unproven_until: Option<Instant>,
}

/// How long a peer has said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Unusual,
    TooLong,
}

/// Why a round begins, and so whether the peer must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// We want to reach the peer: our offer is sent again, so that it listens.
    Own,
    /// Our network is another one.
    Roamed,
    /// The peer wants to reach us: it listens already, and an answer to every offer would never end.
    Called,
    /// The peer's tunnel to us is silent.
    Doubted,
    /// The peer wants to reach us, from another network than before.
    Moved,
    /// The tunnel is silent.
    Doubt,
}

impl Cause {
    /// Whether the peer wants something.
    pub(super) const fn is_the_peers(self) -> bool {
        matches!(self, Self::Called | Self::Doubted | Self::Moved)
    }
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
    pub(super) suggested: Vec<RemoteCandidate>,
    /// Where it was reached, in this run and in earlier ones.
    pub(super) good: Vec<RemoteCandidate>,
    pub(super) server_away: bool,
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
    doubted: Option<Instant>,
    /// Our network is another one, and the peer's WireGuard may not have heard of us from here yet.
    unannounced: bool,
    answers: Answers,
    handshakes: Handshakes,
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
            suggested: Vec::new(),
            good: Vec::new(),
            server_away: false,
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
            unannounced: false,
            answers: Answers::new(now),
            handshakes: Handshakes::default(),
        }
    }

    /// The device was read.
    pub(super) fn see(&mut self, world: &mut World<'_>, mut view: PeerView) {
        view.handshake = self.handshakes.see(world.now, view.handshake);
        view.endpoint = view.endpoint.map(|endpoint| self.paths.with_scope(endpoint));
        let before = self.view.take();
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
        let runs_wireplug = !self.offers.is_empty() || !self.good.is_empty();
        let off = self.view.as_ref().is_some_and(|view| view.keepalive == Keepalive::Off);
        if runs_wireplug && off {
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
            Silence::Unusual => !self.offers.is_empty(),
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

    /// A peer's offer came. Older ones of the same run, and the same one again, are ignored.
    pub(super) fn offered(&mut self, world: &mut World<'_>, mut offer: Offer) {
        offer.candidates.truncate(MAX_CANDIDATES);
        let same_run = self.offers.iter().position(|known| known.version.instance == offer.version.instance);
        let replaced = match same_run {
            Some(index) if offer.version.replaces(&self.offers[index].version) => {
                Some(self.offers.remove(index))
            }
            Some(_) => return,
            None if self.offers.len() >= MAX_INSTANCES => {
                self.offers.remove(0);
                None
            }
            None => None,
        };
        let elsewhere =
            replaced.as_ref().is_some_and(|old| old.version.generation != offer.version.generation);
        let news =
            replaced.is_none_or(|old| (&old.candidates, old.mapping) != (&offer.candidates, offer.mapping));
        if news {
            self.hand.doubt(|_| true);
            self.relay.expect_better();
            self.failures = 0;
            self.reason = None;
        }
        let doubts = offer.doubts;
        if elsewhere {
            self.let_go();
            self.flaps.forget();
            self.paths.void_proofs(world.now);
            self.nominated = None;
        }
        self.offers.push(offer);
        self.set_targets(world.now);
        match &mut self.effort {
            Effort::Round(round) => {
                // A call without news makes sure that both listen for a while; it must not keep a hopeless round
                // going for as long as the peer calls.
                if news {
                    round.started = world.now;
                    round.met = Some(world.now);
                } else {
                    round.called = world.now;
                    round.met.get_or_insert(world.now);
                }
                round.elsewhere |= elsewhere;
                self.paths.hurry(world.now);
            }
            Effort::Rest | Effort::Pause { .. } => {
                self.begin_round(
                    world,
                    match (elsewhere, doubts) {
                        (true, _) => Cause::Moved,
                        (false, true) => Cause::Doubted,
                        (false, false) => Cause::Called,
                    },
                );
            }
        }
        if news {
            self.stop_listening(world.now);
        }
    }

    /// What the peer said last, if it said anything.
    pub(super) fn newest_offer(&self) -> Option<&Offer> {
        self.offers.last()
    }

    pub(super) fn their_mapping(&self) -> Mapping {
        self.newest_offer().map_or(Mapping::Unknown, |offer| offer.mapping)
    }

    pub(super) fn set_targets(&mut self, now: Instant) {
        // Each side binds to a relay of its own accord: what the other names as one would be somebody's address.
        let offered = self.offers.iter().rev().flat_map(|offer| &offer.candidates);
        let offered = offered.filter(|candidate| !candidate.tier.is_relayed());
        let wanted: Vec<_> = self
            .suggested
            .iter()
            .chain(offered)
            .chain(self.remembered())
            .filter(|candidate| self.ranking.place(Some(&candidate.strategy), candidate.tier).is_some())
            .cloned()
            .collect();
        // What is in use is checked whatever is offered, the person's own endpoint too.
        let in_use = self.endpoint();
        self.paths.set_targets(now, &wanted, in_use);
    }

    /// The peer's check arrived: it is answered, and the path checked back.
    pub(super) fn asked(
        &mut self,
        world: &mut World<'_>,
        from: Endpoint,
        transaction: TransactionId,
        tier: Tier,
        nominated: bool,
    ) {
        let known = self.paths.get(from).is_some() && !self.is_barred(from);
        if tier.is_relayed()
            || self.hides_from(world.now, from)
            || !known && self.ranking.place(None, tier).is_none()
            || !self.answers.take(world.now)
        {
            return;
        }
        self.hand.doubt(|at| at == from);
        world.commands.push_back(Command::Answer { peer: self.key, to: from, transaction });
        if matches!(self.effort, Effort::Pause { .. }) {
            self.begin_round(world, Cause::Called);
        }
        self.stop_listening(world.now);
        if matches!(self.effort, Effort::Round(_)) && self.paths.asked(world.now, from, tier) && nominated {
            self.nominated = Some(from);
        }
    }

    pub(super) fn answered(&mut self, world: &mut World<'_>, from: Endpoint, transaction: TransactionId) {
        if !matches!(self.effort, Effort::Round(_)) || !self.paths.answered(world.now, from, transaction) {
            return;
        }
        let path = self.paths.get(from).filter(|path| !path.is_relayed());
        self.round_trip = path.and_then(Path::proof).map(|proof| proof.rtt).or(self.round_trip);
        if let Tunnel::Up(up) = &mut self.tunnel
            && up.endpoint == Some(from)
        {
            up.reassure();
            if std::mem::take(&mut self.unannounced) {
                self.announce(world);
            }
        }
        self.note_opened(world, from);
    }

    /// Has WireGuard send something over the path in use from where we are now: the peer's WireGuard follows by itself.
    fn announce(&mut self, world: &mut World<'_>) {
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
        self.set_targets(world.now);
        self.let_go();
        self.failures = 0;
        self.flaps.forget();
        self.relay.expect_better();
        self.begin_round(world, Cause::Roamed);
        // Where anyone may send to the peer, nothing more is needed.
        self.unannounced = self.tunnel.is_up();
        if self.unannounced {
            self.announce(world);
        }
    }

    fn let_go(&mut self) {
        if let Tunnel::Up(up) = &mut self.tunnel {
            up.let_go();
        }
    }

    /// A server is there again. Peers that have not heard of us in this generation are told, and a relay that is used may
    /// have forgotten us.
    pub(super) fn server_up(&mut self, world: &mut World<'_>) {
        if !self.tunnel.is_up() || self.tier_in_use_is_relayed() || !self.outbox.has_told(world.generation) {
            self.begin_round(world, Cause::Own);
        }
    }

    pub(super) fn begin_round(&mut self, world: &mut World<'_>, cause: Cause) {
        if self.view.is_none() {
            return;
        }
        let watch = self.watch(world.now, cause);
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
            elsewhere: matches!(cause, Cause::Roamed | Cause::Moved),
            doubting: cause == Cause::Doubt,
            watch,
            decide_at: None,
            cause,
            renewed: false,
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
        let wait = pause(self.failures).mul_f64(world.rng.random_range(0.8..1.2));
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
