//! The scheduler: gather → verify → offer → check → apply → confirm → watch, for all peers of one interface.
//!
//! It is a state machine without IO, clock or global randomness. Its methods are of four kinds:
//! - [`Scheduler::handle`] takes what happened, and [`Scheduler::handle_timeout`] that time has passed;
//! - [`Scheduler::poll_command`] gives what is to be done: call it until it gives `None`, after each of the above;
//! - [`Scheduler::poll_timeout`] says when it wants to be called again, and why;
//! - the others ([`Scheduler::demand`], [`Scheduler::status`], ...) only look.
//!
//! `now` never goes back. It is the time at which the input was taken, not the time at which it was made.
//!
//! What it promises:
//! - an endpoint is applied only when it answered a check of this pair over that very path, in this round; the one
//!   exception is [`Reason::Unproven`];
//! - a session that works is moved only to a path that is proven and better, by the side with the lower public key; the
//!   other side follows;
//! - memory and work for each peer are bounded, whatever arrives.

mod allowed;
mod answers;
mod effort;
mod expiry;
mod explain;
mod flaps;
mod good;
mod hand;
mod handshakes;
mod hearing;
mod io;
mod keepalive;
mod local;
mod needs;
mod outbox;
mod paths;
mod peer;
mod questions;
mod ranking;
mod relay;
mod roaming;
mod round;
mod seeing;
mod status;
mod suggestions;
mod trying;
mod tuning;
mod tunnel;
mod unproven;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::ChaCha8Rng;

pub use io::{
    Command, Demand, DeviceView, Handshake, Input, Keepalive, PeerView, Stimulus, Unsendable, Verdict,
};
pub use keepalive::Learnt;
pub use ranking::Ranking;
pub use status::{PeerStatus, Reason, State};
pub use trying::Trying;
pub use tuning::MAX_GOOD;

use crate::{Candidate, Endpoint, Mapping, PublicKey, TransactionId};
use keepalive::Lifetimes;
use local::Local;
use needs::{AllNeeds, Due, Needs};
use peer::{Peer, Role};
use questions::Questions;
use world::{Server, World};

/// What a scheduler is made from.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// The interface's own public key: with a peer's it decides who applies first.
    pub own: PublicKey,
    /// A random number that no other run of the daemon has.
    pub instance: u64,
    /// For transaction ids and jitter; from a real source of randomness in the daemon.
    pub seed: [u8; 32],
    /// The rank of the strategies, for peers that have none of their own.
    pub ranking: Ranking,
    /// The rank of the strategies for single peers.
    pub peers: BTreeMap<PublicKey, Ranking>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    generation: u32,
    /// How many offers there were.
    revision: u32,
    local: Local,
    lifetimes: Lifetimes,
    server: Server,
    server_round_trip: Duration,
    port_sharing: bool,
    listen_port: u16,
    peers: BTreeMap<PublicKey, Slot>,
    needs: AllNeeds,
    questions: Questions,
    rng: ChaCha8Rng,
    commands: VecDeque<Command>,
    changed: BTreeSet<PublicKey>,
    /// See [`Demand::relays`].
    relays: u64,
}

#[derive(Debug)]
struct Slot {
    peer: Peer,
    timeout: Option<Due>,
    needs: Needs,
    /// The reason that was there when the peer changed last.
    told: Option<Reason>,
}

impl Scheduler {
    /// A scheduler that knows no peers yet: they come with the first [`Input::Device`].
    pub fn new(config: SchedulerConfig) -> Self {
        let rng = ChaCha8Rng::from_seed(config.seed);
        Self {
            config,
            generation: 1,
            revision: 0,
            local: Local::default(),
            lifetimes: Lifetimes::default(),
            server: Server::Connecting,
            server_round_trip: Duration::ZERO,
            port_sharing: true,
            listen_port: 0,
            peers: BTreeMap::new(),
            needs: AllNeeds::default(),
            questions: Questions::default(),
            rng,
            commands: VecDeque::new(),
            changed: BTreeSet::new(),
            relays: 0,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let keepalive = self.lifetimes.seconds();
        self.take(now, input);
        self.verify_what_is_due(now);
        self.adjust_keepalives(now, keepalive);
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Device(view) => return self.see_device(now, view),
            Input::NetworkChanged => {
                self.generation += 1;
                self.local = Local::default();
                return self.for_all(now, Peer::network_changed);
            }
            Input::Found { generation, candidate } if generation == self.generation => {
                let remapped = self.local.is_remapped(&candidate);
                let command = self.local.found(now, generation, candidate);
                self.commands.extend(command);
                if remapped {
                    self.for_all(now, Peer::note_remapped);
                }
            }
            Input::Lost { generation, strategy, endpoint } if generation == self.generation => {
                self.local.lost(&strategy, endpoint);
            }
            Input::Mapping { generation, mapping } if generation == self.generation => {
                self.local.set_mapping(mapping);
            }
            Input::Verdict { generation, endpoint, verdict } if generation == self.generation => {
                self.local.judged(now, endpoint, &verdict);
            }
            Input::Suggested { generation, peer, candidate } if generation == self.generation => {
                return self.for_one(now, peer, |peer, world| peer.suggested(world, candidate));
            }
            Input::Withdrawn { generation, peer, strategy, endpoint } if generation == self.generation => {
                return self.for_one(now, peer, |peer, world| peer.withdrawn(world, &strategy, endpoint));
            }
            Input::Found { .. }
            | Input::Lost { .. }
            | Input::Mapping { .. }
            | Input::Verdict { .. }
            | Input::Suggested { .. }
            | Input::Withdrawn { .. } => return,
            Input::ServerUp => {
                self.server = Server::Up { since: now };
                let generation = self.generation;
                self.commands.extend(self.local.verify_again(generation));
                return self.for_all(now, Peer::server_up);
            }
            Input::ServerDown { why } => {
                let before = self.server.down_since();
                self.server = Server::Down { since: before.unwrap_or(now), why };
                // It is said after each attempt in vain: only the first is work for the peers.
                if before.is_none() {
                    self.for_all(now, Peer::server_down);
                }
                return;
            }
            Input::ServerRoundTrip(time) => {
                self.server_round_trip = time;
                return;
            }
            Input::RelayCalled { peer } => return self.for_one(now, peer, Peer::relay_called),
            Input::OfferArrived { peer, offer } => {
                return self.for_one(now, peer, |peer, world| peer.offered(world, offer));
            }
            Input::CheckRequested { peer, from, transaction, tier, nominated } => {
                return self.for_one(now, peer, |peer, world| {
                    peer.asked(world, from, transaction, tier, nominated);
                });
            }
            Input::CheckAnswered { peer, from, transaction } => {
                return self.for_one(now, peer, |peer, world| peer.answered(world, from, transaction));
            }
            Input::Unsendable { peer, to, why } => {
                return self.for_one(now, peer, |peer, _| peer.cannot_send(to, why));
            }
            Input::LastGood { peer, candidates } => {
                return self.for_one(now, peer, |peer, world| peer.recall_good(world, candidates));
            }
            Input::Slept(time) => {
                self.local.slept(time);
                self.local.expire(now);
                return self.for_all(now, |peer, world| peer.slept(world.now, time));
            }
            Input::Recalled(learnt) => return self.lifetimes.recall(now, learnt),
            // Said with every event by a loop that may not share the port: only the change is work for the peers.
            Input::PortSharing(possible) if possible == self.port_sharing => return,
            Input::PortSharing(possible) => self.port_sharing = possible,
            Input::Reconsider { peer } => return self.for_one(now, peer, Peer::reconsider),
            Input::Ranked { ranking, peers } => return self.rank_anew(now, ranking, peers),
        }
        self.for_all(now, |_, _| {});
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let keepalive = self.lifetimes.seconds();
        self.lifetimes.handle_timeout(now);
        self.do_what_is_due(now);
        self.verify_what_is_due(now);
        self.adjust_keepalives(now, keepalive);
    }

    /// Has every peer use the keepalive of this network, if it is another than before.
    fn adjust_keepalives(&mut self, now: Instant, before: u16) {
        if self.lifetimes.seconds() != before {
            self.for_all(now, |_, _| {});
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if self.local.expire(now) {
            return self.for_all(now, |_, _| {});
        }
        for key in self.needs.due(now) {
            self.for_one(now, key, |_, _| {});
        }
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Scheduler::handle_timeout`] wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let peer = self.needs.first_due().and_then(|key| self.peers.get(&key)?.timeout);
        peer.into_iter()
            .chain(self.local.next_expiry().map(|at| (at, "the end of a candidate's life")))
            .chain(self.lifetimes.next().map(|at| (at, "what was learnt of keepalives")))
            .chain(self.next_verification().map(|at| (at, "a verification that nobody could decide")))
            .min()
    }

    fn verify_what_is_due(&mut self, now: Instant) {
        if self.next_verification().is_some_and(|at| at <= now) {
            let due = self.local.verify_due(now, self.generation);
            self.commands.extend(due);
        }
    }

    /// When a candidate is to be verified once more: while there is a server and somebody to offer it to.
    fn next_verification(&self) -> Option<Instant> {
        self.local.next_verification().filter(|_| self.server.is_up() && self.needs.any_round())
    }

    /// What the event loop should have ready now.
    pub fn demand(&self) -> Demand {
        let ours_dependent = self.local.mapping() == Mapping::DestinationDependent;
        Demand {
            working: self.needs.working(),
            listening: self.needs.listening(),
            mapping: ours_dependent && self.needs.any_round() || self.needs.mapping(),
            device_poll: self.needs.device_poll(),
            relays: self.relays,
        }
    }

    /// Whether a server should relay for this peer: ask for an allocation and suggest the relay's address as a
    /// candidate of tier [`Tier::Relay`](crate::Tier::Relay) or [`Tier::RelayTls`](crate::Tier::RelayTls). Once it is
    /// not wanted any more, withdraw and release it.
    ///
    /// A [`Command::Check`] to such a candidate is carried out as a bind; the server's word that both sides are bound is
    /// its [`Input::CheckAnswered`]. [`Demand::relays`] tells when to look again.
    pub fn relay_wanted(&self, peer: &PublicKey) -> bool {
        self.peers.get(peer).is_some_and(|slot| slot.peer.relay.is_wanted())
    }

    /// Where WireGuard sends to for a peer, or soon will.
    pub fn endpoint(&self, peer: &PublicKey) -> Option<Endpoint> {
        self.peers.get(peer)?.peer.endpoint()
    }

    /// How it stands with every peer, by public key.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.values().map(|slot| slot.peer.status(&self.local, &self.server)).collect()
    }

    /// How it stands with the peers whose state or reason is another one since this was called last.
    pub fn take_changed(&mut self) -> Vec<PeerStatus> {
        let changed = std::mem::take(&mut self.changed);
        let slots = changed.iter().filter_map(|key| self.peers.get(key));
        slots.map(|slot| slot.peer.status(&self.local, &self.server)).collect()
    }

    /// Whose check an answer with this transaction from this address would answer. Whether it does, the pair's
    /// integrity tells; then it is an [`Input::CheckAnswered`].
    pub fn asked(&self, transaction: &TransactionId, from: Endpoint) -> Option<PublicKey> {
        let key = self.questions.whose(transaction)?;
        self.peers.get(&key)?.peer.paths.awaits(from, transaction).then_some(key)
    }

    /// The generation that strategies are to find candidates for.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// What was learnt of the network that we are in, if it is another than at the last call: to be kept, and told by
    /// [`Input::Recalled`] when we are there again.
    pub fn take_learnt(&mut self) -> Option<Learnt> {
        self.lifetimes.take_news()
    }

    /// Our own candidates, each with the server's verdict if there is one.
    pub fn candidates(&self) -> impl Iterator<Item = (&Candidate, Option<&Verdict>)> {
        self.local.standing()
    }

    /// How our IPv4 NAT maps, as far as is known.
    pub fn mapping(&self) -> Mapping {
        self.local.mapping()
    }

    fn see_device(&mut self, now: Instant, view: DeviceView) {
        self.listen_port = view.listen_port;
        let there: BTreeSet<_> = view.peers.iter().map(|peer| peer.public_key).collect();
        for (key, slot) in self.peers.extract_if(.., |key, _| !there.contains(key)) {
            self.needs.remove(key, slot.needs, slot.timeout);
        }
        for peer_view in view.peers {
            let key = peer_view.public_key;
            let (config, needs) = (&self.config, &mut self.needs);
            self.peers.entry(key).or_insert_with(|| {
                needs.add(Needs::NONE);
                let role = if config.own < key { Role::Initiator } else { Role::Follower };
                let ranking = config.peers.get(&key).unwrap_or(&config.ranking).clone();
                Slot {
                    peer: Peer::new(now, key, role, ranking),
                    timeout: None,
                    needs: Needs::NONE,
                    told: None,
                }
            });
            self.for_one(now, key, |peer, world| peer.see(world, peer_view));
        }
    }

    fn rank_anew(&mut self, now: Instant, ranking: Ranking, peers: BTreeMap<PublicKey, Ranking>) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            let ranking = peers.get(&key).unwrap_or(&ranking);
            self.for_one(now, key, |peer, world| peer.rank_anew(world, ranking));
        }
        self.config.ranking = ranking;
        self.config.peers = peers;
    }

    fn for_all(&mut self, now: Instant, act: impl Fn(&mut Peer, &mut World<'_>)) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            self.for_one(now, key, &act);
        }
    }

    /// Lets a peer take something, and then do all that is due for it.
    fn for_one(&mut self, now: Instant, key: PublicKey, act: impl FnOnce(&mut Peer, &mut World<'_>)) {
        let Some(slot) = self.peers.get_mut(&key) else { return };
        let mut world = World {
            now,
            instance: self.config.instance,
            generation: self.generation,
            revision: &mut self.revision,
            local: &self.local,
            lifetimes: &mut self.lifetimes,
            server: &self.server,
            server_round_trip: self.server_round_trip,
            listening: self.listen_port != 0,
            port_sharing: self.port_sharing,
            rng: &mut self.rng,
            commands: &mut self.commands,
        };
        slot.peer.use_keepalive(&mut world);
        let relay_before = slot.peer.relay.is_wanted();
        let commands_before = world.commands.len();
        act(&mut slot.peer, &mut world);
        let round = slot.peer.advance(&mut world);
        let relay = slot.peer.wish_for_relay(&world);
        let late = slot.peer.put_right(&mut world);
        let timeout = [round, relay, late].into_iter().flatten().min();
        self.needs.reschedule(key, slot.timeout, timeout);
        slot.timeout = timeout;
        let needs = slot.peer.needs();
        self.needs.change(slot.needs, needs);
        slot.needs = needs;
        for command in self.commands.range(commands_before..) {
            if let Command::Check { transaction, .. } = command {
                self.questions.note(now, *transaction, key);
            }
        }
        if !self.needs.any_round() {
            self.questions.forget();
        }
        self.relays += u64::from(slot.peer.relay.is_wanted() != relay_before);
        let state = slot.peer.current_state();
        if state != slot.peer.state.0 {
            slot.peer.state = (state, now);
            self.changed.insert(key);
        }
        if slot.peer.reason != slot.told {
            slot.told.clone_from(&slot.peer.reason);
            self.changed.insert(key);
        }
    }
}
