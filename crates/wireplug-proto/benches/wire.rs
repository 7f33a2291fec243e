//! What a daemon does for each datagram and each offer: sorting by looks, checks, offers.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "in a bench, to fail is to panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{high, high_public, low, private};
use wireplug_core::{
    Endpoint, MAX_CANDIDATES, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, Tier, TransactionId,
};
use wireplug_proto::Pair;
use wireplug_proto::stun::binding::{self, Change};
use wireplug_proto::stun::{classify, probe};

/// Bytes of a full packet of a tunnel with the usual MTU of 1420, which the raw socket's filter may let through if it
/// has the magic cookie by chance.
const FULL: usize = 1452;

const ID: TransactionId = TransactionId::from_bytes([7; 12]);

/// An offer of so many candidates.
fn offer(candidates: usize) -> Offer {
    let candidate = |number: usize| RemoteCandidate {
        endpoint: Endpoint::new(format!("203.0.113.{number}:51820").parse().unwrap()).unwrap(),
        strategy: "hole-punch".parse().unwrap(),
        tier: Tier::Punched,
        reach: Reach::Filtered,
    };
    Offer {
        version: OfferVersion { instance: 1, generation: 2, revision: 3 },
        candidates: (1..=candidates).map(candidate).collect(),
        doubts: false,
        mapping: Mapping::Fixed,
    }
}

fn sorting(criterion: &mut Criterion) {
    let low = low();
    let mut junk = vec![0x5a; FULL];
    junk[..8].copy_from_slice(&[4, 0, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(1));
    for (what, datagram) in [
        ("check", low.check_request(ID, Tier::Punched, true)),
        ("answer", low.check_response(ID, "203.0.113.7:51820".parse().unwrap())),
        ("probe", probe::probe(ID, &[9; 16])),
        ("request", binding::request(ID, Some(&[9; 16]), Change::None)),
        ("junk", junk),
    ] {
        group.bench_function(what, |bencher| bencher.iter(|| classify(black_box(&datagram))));
    }
    group.finish();
}

fn checks(criterion: &mut Criterion) {
    let (low, high) = (low(), high());
    let seen = "203.0.113.7:51820".parse().unwrap();
    let request = low.check_request(ID, Tier::Punched, false);
    let response = high.check_response(ID, seen);
    let mut forged = request.clone();
    let last = forged.len() - 9;
    forged[last] ^= 1;
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("build", |bencher| {
        bencher.iter(|| low.check_request(black_box(ID), Tier::Punched, false));
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| high.open_check_request(black_box(&request)).unwrap());
    });
    group.bench_function("refuse", |bencher| {
        bencher.iter(|| high.open_check_request(black_box(&forged)).unwrap_err());
    });
    group.bench_function("answer", |bencher| bencher.iter(|| high.check_response(black_box(ID), seen)));
    group.bench_function("verify-answer", |bencher| {
        bencher.iter(|| low.open_check_response(black_box(&response)).unwrap());
    });
    group.finish();
}

fn offers(criterion: &mut Criterion) {
    let (low, high) = (low(), high());
    let mut group = criterion.benchmark_group("offer");
    group.throughput(Throughput::Elements(1));
    for count in [3, MAX_CANDIDATES] {
        let offer = offer(count);
        let sealed = low.seal(&offer, [5; 24]);
        group.bench_function(format!("seal-{count}"), |bencher| {
            bencher.iter(|| low.seal(black_box(&offer), [5; 24]));
        });
        group.bench_function(format!("open-{count}"), |bencher| {
            bencher.iter(|| high.open(black_box(&sealed)).unwrap());
        });
    }
    group.finish();
}

fn pairs(criterion: &mut Criterion) {
    let (own, peer) = (private(1), high_public());
    criterion.bench_function("pair/derive", |bencher| {
        bencher.iter(|| Pair::derive(black_box(&own), black_box(&peer)).unwrap());
    });
}

criterion_group!(benches, sorting, checks, offers, pairs);
criterion_main!(benches);
