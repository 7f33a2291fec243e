//! A scheduler with one peer, and a hand that moves time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wireplug_core::scheduler::{
    Command, DeviceView, Handshake, Input, Keepalive, PeerStatus, PeerView, Ranking, Scheduler,
    SchedulerConfig, Stimulus,
};
use wireplug_core::{
    Candidate, Endpoint, Mapping, Offer, OfferVersion, Proof, PublicKey, Reach, RemoteCandidate,
    StrategyName, Tier, TransactionId,
};

pub(crate) const PEER: PublicKey = PublicKey::from_bytes([5; 32]);
const LOWER: PublicKey = PublicKey::from_bytes([1; 32]);
const HIGHER: PublicKey = PublicKey::from_bytes([9; 32]);

pub(crate) fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

pub(crate) fn name(text: &str) -> StrategyName {
    text.parse().unwrap()
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn ranking() -> Ranking {
    let order = vec![
        (name("lan-mdns"), Tier::Lan),
        (name("direct"), Tier::Direct),
        (name("hole-punch"), Tier::Punched),
        (name("relay"), Tier::Relay),
    ];
    Ranking::new(order, vec![name("pcp")])
}

pub(crate) fn remote(at: &str, strategy: &str, tier: Tier) -> RemoteCandidate {
    RemoteCandidate { endpoint: endpoint(at), strategy: name(strategy), tier, reach: Reach::Filtered }
}

pub(crate) fn own(at: &str, strategy: &str, tier: Tier, proof: Proof) -> Candidate {
    Candidate {
        endpoint: endpoint(at),
        strategy: name(strategy),
        tier,
        proof,
        lifetime: None,
        evidence: "a test".into(),
    }
}

pub(crate) fn offer(instance: u64, revision: u32, candidates: Vec<RemoteCandidate>) -> Offer {
    let version = OfferVersion { instance, generation: 1, revision };
    Offer { version, candidates, mapping: Mapping::Fixed, doubts: false }
}

/// A check that the scheduler sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) to: Endpoint,
    pub(crate) transaction: TransactionId,
    pub(crate) nominate: bool,
}

pub(crate) struct Driver {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) view: PeerView,
    pub(crate) checks: Vec<Check>,
    pub(crate) updates: Vec<(Option<Endpoint>, Stimulus)>,
    pub(crate) offers: Vec<Offer>,
    pub(crate) answers: Vec<(Endpoint, TransactionId)>,
    pub(crate) verifications: Vec<Endpoint>,
    pub(crate) kept: Vec<Vec<RemoteCandidate>>,
}

impl Driver {
    /// The side that applies first.
    pub(crate) fn initiator() -> Self {
        Self::new(LOWER)
    }

    /// The side that waits for the other's handshake.
    pub(crate) fn follower() -> Self {
        Self::new(HIGHER)
    }

    fn new(own: PublicKey) -> Self {
        let start = Instant::now();
        let config =
            SchedulerConfig { own, instance: 7, seed: [3; 32], ranking: ranking(), peers: BTreeMap::new() };
        let view = PeerView {
            public_key: PEER,
            endpoint: None,
            keepalive: Keepalive::Off,
            handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        Self {
            scheduler: Scheduler::new(config),
            now: start,
            start,
            view,
            checks: Vec::new(),
            updates: Vec::new(),
            offers: Vec::new(),
            answers: Vec::new(),
            verifications: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// The device is read and a server is there: where every test begins.
    pub(crate) fn begun(mut self) -> Self {
        self.look();
        self.take(Input::ServerUp);
        self
    }

    pub(crate) fn take(&mut self, input: Input) {
        self.scheduler.handle(self.now, input);
        self.collect();
    }

    /// Reads the device as `view` has it.
    pub(crate) fn look(&mut self) {
        self.take(Input::Device(DeviceView { listen_port: 51820, peers: vec![self.view.clone()] }));
    }

    /// An authentic packet came from there, and WireGuard went after it.
    pub(crate) fn roams(&mut self, to: &str) {
        self.view.endpoint = Some(endpoint(to));
        self.view.rx_bytes += 32;
    }

    /// WireGuard completed a handshake now, from this endpoint.
    pub(crate) fn handshake(&mut self, from: &str) {
        let stamp = (self.now - self.start).as_nanos() + 1;
        self.view.handshake = Some(Handshake { stamp, age: Duration::ZERO });
        self.view.endpoint = Some(endpoint(from));
        self.view.rx_bytes += 148;
        self.view.tx_bytes += 148;
        self.look();
    }

    /// WireGuard has made another handshake for its session, seen with the next look.
    pub(crate) fn renewed(&mut self) {
        let stamp = (self.now - self.start).as_nanos() + 1;
        self.view.handshake = Some(Handshake { stamp, age: Duration::ZERO });
    }

    /// Lets time pass, step by step as the scheduler wants it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, why)) = self.scheduler.poll_timeout().filter(|(at, _)| *at <= end) {
            assert!(at > self.now, "it wants to be woken in the past, for {why}");
            self.now = at;
            self.scheduler.handle_timeout(at);
            self.collect();
        }
        self.now = end;
    }

    /// Lets time pass with looks at the device on the way, the last handshake growing old with it.
    pub(crate) fn pass_looking(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let step = self.scheduler.demand().device_poll.min(end - self.now);
            self.pass(step);
            if let Some(handshake) = &mut self.view.handshake {
                handshake.age += step;
            }
            self.look();
        }
    }

    /// The peer answers the last check that was sent there.
    pub(crate) fn answer(&mut self, from: &str) {
        let from = endpoint(from);
        let check = *self.checks.iter().rev().find(|check| check.to == from).expect("a check was sent there");
        self.take(Input::CheckAnswered { peer: PEER, from, transaction: check.transaction });
    }

    /// A strategy on this side knows of this.
    pub(crate) fn suggest(&mut self, at: &str, strategy: &str, tier: Tier) {
        let generation = self.scheduler.generation();
        self.take(Input::Suggested { generation, peer: PEER, candidate: remote(at, strategy, tier) });
    }

    /// The peer's check comes from there.
    pub(crate) fn asked(&mut self, from: &str, tier: Tier, nominated: bool) {
        let transaction = TransactionId::from_bytes([u8::try_from(self.answers.len() % 250).unwrap(); 12]);
        self.take(Input::CheckRequested { peer: PEER, from: endpoint(from), transaction, tier, nominated });
    }

    pub(crate) fn status(&self) -> PeerStatus {
        self.scheduler.status().remove(0)
    }

    /// The endpoints that were applied, in order.
    pub(crate) fn applied(&self) -> Vec<Endpoint> {
        self.updates.iter().filter_map(|(endpoint, _)| *endpoint).collect()
    }

    fn collect(&mut self) {
        while let Some(command) = self.scheduler.poll_command() {
            match command {
                Command::Check { to, transaction, nominate, .. } => {
                    self.checks.push(Check { to, transaction, nominate });
                }
                Command::Answer { to, transaction, .. } => self.answers.push((to, transaction)),
                Command::Verify { endpoint, .. } => self.verifications.push(endpoint),
                Command::Keep { candidates, .. } => self.kept.push(candidates),
                Command::Publish { offer, .. } => self.offers.push(offer),
                Command::Update { endpoint, stimulus, .. } => {
                    self.updates.push((endpoint, stimulus));
                    self.view.endpoint = endpoint.or(self.view.endpoint);
                    if let Stimulus::TurnOn(seconds) | Stimulus::Adjust(seconds) = stimulus {
                        self.view.keepalive = Keepalive::Ours(seconds);
                    }
                }
            }
        }
    }
}
