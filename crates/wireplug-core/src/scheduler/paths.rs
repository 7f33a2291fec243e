//! The paths to one peer: which there are, what was asked over them, and which are proven.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::flaps::LAPSE;
use super::io::Unsendable;
use super::ranking::{Address, Place, Ranking, Score};
use super::tuning::{FAILED_FOR, HURRY_GAP, MAX_PATHS, MAX_REFLEXIVE, PROBATION_GAP, check_gap};
use crate::{Endpoint, RemoteCandidate, StrategyName, Tier, TransactionId};

/// Checks of one path whose answers are still awaited. At one a second and less than ten seconds of
/// round trip, eight are enough.
const MAX_PENDING: usize = 8;

/// The paths to one peer by the peer's end. Our own end is wherever routing sends from, as for WireGuard.
#[derive(Debug, Default)]
pub(super) struct Paths {
    all: BTreeMap<Endpoint, Path>,
    hurried: Option<Instant>,
    /// Direct paths are asked again after they have answered, and a proof lapses.
    on_probation: bool,
}

/// One end of a path: the strategy that found it, where that is known, and its tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End(Option<StrategyName>, Tier);

impl End {
    /// Whether such paths are wanted.
    pub(super) fn is_wanted(&self, ranking: &Ranking) -> bool {
        ranking.place(self.0.as_ref(), self.1).is_some()
    }
}

/// One path.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// The candidate it leads to, if the peer's offer or a strategy names one.
    target: Option<(StrategyName, Tier)>,
    /// The tier of our candidate at the other end, as the peer's own checks name it.
    asked: Option<Tier>,
    sent: u32,
    next: Option<Instant>,
    pending: VecDeque<(TransactionId, Instant)>,
    proof: Option<PathProof>,
    failed_until: Option<Instant>,
    unsendable: Option<Unsendable>,
}

/// What checks can be sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The WireGuard port is shared: all can be asked.
    SharedPort,
    /// It is not: only a relay over TLS can, which needs no raw socket.
    TlsAlone,
}

impl By {
    fn may_ask(self, path: &Path) -> bool {
        match self {
            Self::SharedPort => true,
            Self::TlsAlone => path.kind().is_some_and(|(_, tier)| tier == Tier::RelayTls),
        }
    }
}

/// That a path carries, there and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathProof {
    pub(super) at: Instant,
    /// When it was last shown.
    pub(super) last: Instant,
    pub(super) rtt: Duration,
}

/// A proven path, as a choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) endpoint: Endpoint,
    pub(super) score: Score,
    pub(super) proof: PathProof,
    /// A server carries it.
    pub(super) relayed: bool,
}

impl Path {
    /// The strategy and tier it is ranked and named by: the better of the two ends.
    pub(super) fn kind(&self) -> Option<(Option<&StrategyName>, Tier)> {
        match (&self.target, self.asked) {
            (Some((_, tier)), Some(asked)) if asked < *tier => Some((None, asked)),
            (Some((strategy, tier)), _) => Some((Some(strategy), *tier)),
            (None, Some(asked)) => Some((None, asked)),
            (None, None) => None,
        }
    }

    /// The peer's end alone, as it may be found again another time. One that only a check told of is some mapping that the
    /// peer's packets made, whatever our own end is. `None` if it says nothing in another network.
    pub(super) fn lasting_end(&self) -> Option<(Option<&StrategyName>, Tier)> {
        match (&self.target, self.asked) {
            (Some((_, Tier::Lan | Tier::Relay | Tier::RelayTls)), _) | (None, None | Some(Tier::Lan)) => None,
            (Some((strategy, tier)), _) => Some((Some(strategy), *tier)),
            (None, Some(_)) => Some((None, Tier::Punched)),
        }
    }

    /// What is known of its two ends.
    pub(super) fn ends(&self) -> Vec<End> {
        let theirs = self.target.iter().map(|(strategy, tier)| End(Some(strategy.clone()), *tier));
        theirs.chain(self.asked.map(|tier| End(None, tier))).collect()
    }

    /// Whether either end vouches for it.
    pub(super) fn is_wanted(&self, ranking: &Ranking) -> bool {
        self.ends().iter().any(|end| end.is_wanted(ranking))
    }

    /// The tier that our checks name: that of the candidate they are sent to.
    pub(super) fn told_tier(&self) -> Tier {
        self.target.as_ref().map(|(_, tier)| *tier).or(self.asked).unwrap_or(Tier::Punched)
    }

    pub(super) fn proof(&self) -> Option<PathProof> {
        self.proof
    }

    /// Whether a server carries it.
    pub(super) fn is_relayed(&self) -> bool {
        self.kind().is_some_and(|(_, tier)| tier.is_relayed())
    }

    pub(super) fn unsendable(&self) -> Option<Unsendable> {
        self.unsendable
    }

    /// Whether it is asked in this round and has not answered.
    pub(super) fn is_being_checked(&self) -> bool {
        self.proof.is_none() && self.unsendable.is_none() && (self.next.is_some() || !self.pending.is_empty())
    }

    /// How many checks this round has sent over it.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// Whether the peer checks it, which shows that it can answer, and our own checks of it wait for an answer.
    pub(super) fn awaits_proof(&self) -> bool {
        self.asked.is_some() && self.is_being_checked()
    }

    /// Whether only a check told of it.
    fn is_reflexive(&self) -> bool {
        self.target.is_none() && self.asked.is_some()
    }

    fn place(&self, ranking: &Ranking) -> Place {
        let place = self.kind().and_then(|(strategy, tier)| ranking.place(strategy, tier));
        place.unwrap_or(ranking.last())
    }

    /// Sends the next check now, and the ones after it quickly again.
    fn start_over(&mut self, now: Instant) {
        self.sent = 0;
        self.next = Some(now);
        self.unsendable = None;
    }
}

impl Paths {
    pub(super) fn get(&self, endpoint: Endpoint) -> Option<&Path> {
        self.all.get(&endpoint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Endpoint, &Path)> {
        self.all.iter()
    }

    pub(super) fn any_is_proven(&self) -> bool {
        self.all.values().any(|path| path.proof.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Makes the targets these candidates, best first where one endpoint is named twice. A path that is no
    /// target any more goes, unless the peer itself sent checks over it, or it is the one to keep.
    pub(super) fn set_targets(
        &mut self,
        now: Instant,
        candidates: &[RemoteCandidate],
        keep: Option<Endpoint>,
    ) {
        for path in self.all.values_mut() {
            path.target = None;
        }
        for candidate in candidates {
            if !self.all.contains_key(&candidate.endpoint) && self.all.len() >= MAX_PATHS {
                continue;
            }
            let path = self.all.entry(candidate.endpoint).or_default();
            if path.target.as_ref().is_none_or(|(_, tier)| candidate.tier < *tier) {
                path.target = Some((candidate.strategy.clone(), candidate.tier));
            }
            if path.sent == 0 && path.next.is_none() {
                path.next = Some(now);
            }
        }
        self.all.retain(|endpoint, path| {
            let known = path.target.is_some() || path.asked.is_some() || path.proof.is_some();
            known || Some(*endpoint) == keep
        });
    }

    /// Adds the endpoint in use, so that it is checked like any other.
    pub(super) fn add_in_use(&mut self, now: Instant, endpoint: Endpoint) {
        self.all.entry(endpoint).or_insert_with(|| Path { next: Some(now), ..Path::default() });
    }

    /// Begins a round: nothing is proven, everything is to be checked at once; direct paths again and again if they are
    /// on probation.
    pub(super) fn begin_round(&mut self, now: Instant, on_probation: bool) {
        self.on_probation = on_probation;
        self.all.retain(|_, path| path.target.is_some());
        for path in self.all.values_mut() {
            path.proof = None;
            path.asked = None;
            path.pending.clear();
            path.start_over(now);
        }
    }

    /// Checks the unproven quickly again: the peer has said something. Once in a while only, or a hostile peer
    /// could name strangers' addresses and have us send to them at the pace of its offers.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.hurried.is_some_and(|last| now < last + HURRY_GAP) {
            return;
        }
        self.hurried = Some(now);
        for path in self.all.values_mut().filter(|path| path.proof.is_none()) {
            path.start_over(now);
        }
    }

    /// The peer's network is another one: what was proven was proven of the old one.
    pub(super) fn void_proofs(&mut self, now: Instant) {
        for path in self.all.values_mut() {
            path.proof = None;
            path.pending.clear();
            path.start_over(now);
        }
    }

    /// Checks all, quickly.
    pub(super) fn check_all(&mut self, now: Instant) {
        for path in self.all.values_mut() {
            path.start_over(now);
        }
    }

    /// Ends the checks and keeps what was learnt, for status.
    pub(super) fn end_round(&mut self) {
        for path in self.all.values_mut() {
            path.next = None;
            path.pending.clear();
        }
    }

    /// The peer's check came from here. A path that is not yet proven is checked back at once. `false` if
    /// there are too many paths already.
    pub(super) fn asked(&mut self, now: Instant, from: Endpoint, tier: Tier) -> bool {
        if !self.all.contains_key(&from) {
            let reflexive = self.all.values().filter(|path| path.is_reflexive()).count();
            if reflexive >= MAX_REFLEXIVE && !self.drop_one_unproven_reflexive() {
                return false;
            }
        }
        let path = self.all.entry(from).or_default();
        path.asked = Some(path.asked.map_or(tier, |before| before.min(tier)));
        if path.proof.is_none() && path.pending.is_empty() {
            path.start_over(now);
        } else if path.proof.is_none() {
            let soon = now + check_gap(0);
            path.next = Some(path.next.map_or(soon, |next| next.min(soon)));
        }
        true
    }

    fn drop_one_unproven_reflexive(&mut self) -> bool {
        let oldest = self.all.iter().find(|(_, path)| path.is_reflexive() && path.proof.is_none());
        match oldest.map(|(endpoint, _)| *endpoint) {
            Some(endpoint) => self.all.remove(&endpoint).is_some(),
            None => false,
        }
    }

    /// The next path whose check is due, noted as sent with the transaction that `id` makes.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        by: By,
        mut id: impl FnMut() -> TransactionId,
    ) -> Option<(Endpoint, TransactionId, Tier)> {
        let mut askable = self.all.iter_mut().filter(|(_, path)| by.may_ask(path));
        let (endpoint, path) = askable.find(|(_, path)| path.next.is_some_and(|at| at <= now))?;
        let transaction = id();
        if path.pending.len() >= MAX_PENDING {
            path.pending.pop_front();
        }
        path.pending.push_back((transaction, now));
        let watched = self.on_probation && !path.is_relayed();
        if watched && path.proof.is_some_and(|proof| now > proof.last + LAPSE) {
            path.proof = None;
        }
        path.next = Some(now + check_gap(path.sent));
        path.sent += 1;
        Some((*endpoint, transaction, path.told_tier()))
    }

    pub(super) fn next_due(&self, by: By) -> Option<Instant> {
        self.all.values().filter(|path| by.may_ask(path)).filter_map(|path| path.next).min()
    }

    /// Whether a check with this transaction was sent there and has no answer yet.
    pub(super) fn awaits(&self, endpoint: Endpoint, transaction: &TransactionId) -> bool {
        let path = self.all.get(&endpoint);
        path.is_some_and(|path| path.pending.iter().any(|(id, _)| id == transaction))
    }

    /// An answer came: the path is proven if we asked that over it. Says whether it answers anything.
    pub(super) fn answered(&mut self, now: Instant, from: Endpoint, transaction: TransactionId) -> bool {
        let Some(path) = self.all.get_mut(&from) else { return false };
        let Some(index) = path.pending.iter().position(|(id, _)| *id == transaction) else { return false };
        let rtt = path.pending.remove(index).map_or(Duration::ZERO, |(_, sent)| now - sent);
        let first = path.proof.map_or(now, |proof| proof.at);
        let rtt = path.proof.map_or(rtt, |proof| proof.rtt.min(rtt));
        path.proof = Some(PathProof { at: first, last: now, rtt });
        path.next = (self.on_probation && !path.is_relayed()).then_some(now + PROBATION_GAP);
        true
    }

    /// The session left it because it carries nothing: what was proven of it is past.
    pub(super) fn doubt(&mut self, now: Instant, endpoint: Endpoint) {
        if let Some(path) = self.all.get_mut(&endpoint) {
            path.proof = None;
            path.pending.clear();
            path.start_over(now);
        }
    }

    /// One more check over a path, now: it carries our nomination, or there is something new to bind to.
    pub(super) fn check_again(&mut self, now: Instant, endpoint: Endpoint) {
        if let Some(path) = self.all.get_mut(&endpoint) {
            path.start_over(now);
        }
    }

    pub(super) fn cannot_send(&mut self, to: Endpoint, why: Unsendable) {
        if let Some(path) = self.all.get_mut(&to) {
            path.unsendable = Some(why);
            path.proof = None;
            path.pending.clear();
            if why == Unsendable::ThroughTunnel {
                path.next = None;
            }
        }
    }

    /// WireGuard could not complete a handshake over it.
    pub(super) fn failed(&mut self, now: Instant, endpoint: Endpoint) {
        if let Some(path) = self.all.get_mut(&endpoint) {
            path.failed_until = Some(now + FAILED_FOR);
        }
    }

    /// All proven paths.
    pub(super) fn proven<'a>(
        &'a self,
        now: Instant,
        ranking: &'a Ranking,
    ) -> impl Iterator<Item = Choice> + 'a {
        let usable =
            self.all.iter().filter(move |(_, path)| path.failed_until.is_none_or(|until| until <= now));
        usable.filter_map(|(endpoint, path)| {
            let proof = path.proof?;
            let score = Score::new(path.place(ranking), Address::of(*endpoint), proof.rtt);
            Some(Choice { endpoint: *endpoint, score, proof, relayed: path.is_relayed() })
        })
    }

    /// An endpoint as we know it: wireguard-go tells link-local ones without their scope.
    pub(super) fn with_scope(&self, endpoint: Endpoint) -> Endpoint {
        let same = |known: &&Endpoint| (known.ip(), known.port()) == (endpoint.ip(), endpoint.port());
        if self.all.contains_key(&endpoint) {
            return endpoint;
        }
        self.all.keys().find(same).copied().unwrap_or(endpoint)
    }

    /// Whether another path than this one could be chosen.
    pub(super) fn has_another(&self, now: Instant, than: Endpoint) -> bool {
        self.all.iter().any(|(endpoint, path)| {
            *endpoint != than && path.proof.is_some() && path.failed_until.is_none_or(|until| until <= now)
        })
    }

    /// The score of one path: with its own round-trip time if it is proven, else as if it had none.
    pub(super) fn score(&self, endpoint: Endpoint, ranking: &Ranking) -> Score {
        let proof = self.all.get(&endpoint).and_then(|path| path.proof);
        let rtt = proof.map_or(Duration::ZERO, |proof| proof.rtt);
        Score::new(self.place(endpoint, ranking), Address::of(endpoint), rtt)
    }

    /// The rank of one path, proven or not.
    pub(super) fn place(&self, endpoint: Endpoint, ranking: &Ranking) -> Place {
        self.all.get(&endpoint).map_or(ranking.last(), |path| path.place(ranking))
    }
}
