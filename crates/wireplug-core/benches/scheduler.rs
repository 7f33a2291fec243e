//! What the scheduler does for each event, with one peer and with 500: what concerns one peer must not cost more for the
//! others.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "in a bench, to fail is to panic")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use wireplug_core::scheduler::{
    Command, DeviceView, Handshake, Input, Keepalive, PeerView, Ranking, Scheduler, SchedulerConfig,
};
use wireplug_core::{
    Candidate, Endpoint, Mapping, Offer, OfferVersion, Proof, PublicKey, Reach, RemoteCandidate, Tier,
    TransactionId,
};

const PEERS: [u16; 2] = [1, 500];
const STEP: Duration = Duration::from_micros(10);

/// A scheduler, and the time of its world.
struct World {
    scheduler: Scheduler,
    now: Instant,
    view: DeviceView,
    /// The last check to each peer.
    checks: BTreeMap<PublicKey, (Endpoint, TransactionId)>,
}

fn key(number: u16) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// Where a peer is.
fn place(number: u16) -> Endpoint {
    let ip = Ipv4Addr::new(203, 0, 113, 7);
    Endpoint::new(SocketAddr::new(IpAddr::V4(ip), 20_000 + number)).unwrap()
}

fn offer(number: u16, revision: u32) -> Offer {
    let candidate = RemoteCandidate {
        endpoint: place(number),
        strategy: "direct".parse().unwrap(),
        tier: Tier::Direct,
        reach: Reach::Open,
    };
    let version = OfferVersion { instance: 1, generation: 1, revision };
    Offer { version, candidates: vec![candidate], mapping: Mapping::None, doubts: false }
}

fn candidate(port: u16) -> Candidate {
    Candidate {
        endpoint: Endpoint::new(SocketAddr::new(Ipv4Addr::new(198, 51, 100, 3).into(), port)).unwrap(),
        strategy: "hole-punch".parse().unwrap(),
        tier: Tier::Punched,
        proof: Proof::Done(Reach::Filtered),
        lifetime: None,
        evidence: "a bench".into(),
    }
}

impl World {
    /// One that knows its peers, and nothing of them.
    fn new(peers: u16) -> Self {
        let order =
            vec![("direct".parse().unwrap(), Tier::Direct), ("hole-punch".parse().unwrap(), Tier::Punched)];
        let config = SchedulerConfig {
            own: PublicKey::from_bytes([0; 32]),
            instance: 7,
            seed: [3; 32],
            ranking: Ranking::new(order, vec![]),
            peers: BTreeMap::new(),
        };
        let peer = |number| PeerView {
            public_key: key(number),
            endpoint: None,
            keepalive: Keepalive::Off,
            handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let view = DeviceView { listen_port: 51820, peers: (0..peers).map(peer).collect() };
        let mut world =
            Self { scheduler: Scheduler::new(config), now: Instant::now(), view, checks: BTreeMap::new() };
        world.look();
        world
    }

    /// One whose peers are all being checked.
    fn checking(peers: u16) -> Self {
        let mut world = Self::new(peers);
        world.take(Input::ServerUp);
        world.take(Input::Found { generation: 1, candidate: candidate(51820) });
        for number in 0..peers {
            world.take(Input::OfferArrived { peer: key(number), offer: offer(number, 1) });
        }
        world
    }

    /// One whose peers are all connected and at rest.
    fn settled(peers: u16) -> Self {
        let mut world = Self::checking(peers);
        for (peer, (from, transaction)) in std::mem::take(&mut world.checks) {
            world.take(Input::CheckAnswered { peer, from, transaction });
        }
        for (number, peer) in (0..).zip(&mut world.view.peers) {
            peer.endpoint = Some(place(number));
            peer.keepalive = Keepalive::Theirs(25);
            peer.handshake = Some(Handshake { stamp: 1, age: Duration::ZERO });
        }
        world.look();
        let end = world.now + Duration::from_secs(60);
        while let Some((at, _)) = world.scheduler.poll_timeout().filter(|(at, _)| *at <= end) {
            world.now = at;
            world.scheduler.handle_timeout(at);
            world.collect();
        }
        world.now = end;
        assert!(!world.scheduler.demand().working, "all are at rest");
        world
    }

    fn look(&mut self) {
        self.take(Input::Device(self.view.clone()));
    }

    /// What the event loop does for each event.
    fn take(&mut self, input: Input) {
        self.now += STEP;
        self.scheduler.handle(self.now, input);
        self.collect();
        black_box((self.scheduler.demand(), self.scheduler.poll_timeout()));
    }

    fn collect(&mut self) {
        while let Some(command) = self.scheduler.poll_command() {
            if let Command::Check { peer, to, transaction, .. } = command {
                self.checks.insert(peer, (to, transaction));
            }
        }
    }
}

fn one_peer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler/one-of");
    for peers in PEERS {
        let middle = peers / 2;
        group.bench_function(BenchmarkId::new("offer", peers), |bencher| {
            let (mut world, mut revision) = (World::checking(peers), 1);
            bencher.iter(|| {
                revision += 1;
                world.take(Input::OfferArrived { peer: key(middle), offer: offer(middle, revision) });
            });
        });
        group.bench_function(BenchmarkId::new("check", peers), |bencher| {
            let mut world = World::checking(peers);
            bencher.iter(|| {
                world.take(Input::CheckRequested {
                    peer: key(middle),
                    from: place(middle),
                    transaction: TransactionId::from_bytes([1; 12]),
                    tier: Tier::Punched,
                    nominated: false,
                });
            });
        });
        group.bench_function(BenchmarkId::new("answer", peers), |bencher| {
            let world = World::checking(peers);
            let (from, transaction) = world.checks[&key(middle)];
            bencher.iter(|| world.scheduler.asked(black_box(&transaction), from).unwrap());
        });
    }
    group.finish();
}

fn all_peers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler/all-of");
    for peers in PEERS {
        group.bench_function(BenchmarkId::new("look-settled", peers), |bencher| {
            let mut world = World::settled(peers);
            bencher.iter(|| world.look());
        });
        group.bench_function(BenchmarkId::new("look-checking", peers), |bencher| {
            let mut world = World::checking(peers);
            bencher.iter(|| world.look());
        });
        group.bench_function(BenchmarkId::new("start", peers), |bencher| {
            bencher.iter_batched(|| (), |()| World::checking(peers), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("network-changed", peers), |bencher| {
            let setup = || World::settled(peers);
            bencher.iter_batched_ref(
                setup,
                |world| world.take(Input::NetworkChanged),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, one_peer, all_peers);
criterion_main!(benches);
