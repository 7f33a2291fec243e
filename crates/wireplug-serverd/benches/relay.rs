//! What the server does for each datagram: where a packet goes that comes to a relay port, requests to bind, STUN.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "in a bench, to fail is to panic")]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wireplug_core::TransactionId;
use wireplug_proto::relay::{Credential, CredentialId, CredentialKey};
use wireplug_proto::stun::binding::{self, Change};
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};
use wireplug_proto::{Side, Topic, wireguard};
use wireplug_serverd::limits::Rate;
use wireplug_serverd::relay::fuzzing::{Driver, Went};
use wireplug_serverd::relay::{Ask, Asker, Settings};
use wireplug_serverd::stun::{Datagram, Others, Place, Public, Responder};

/// Pairs that are bound: a household, a busy server, and more than its cache holds.
const PAIRS: [u32; 3] = [4, 1_000, 50_000];
/// A full packet of a tunnel with the usual MTU of 1420.
const FULL: usize = 1452;
/// A place of the relay.
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 3479);

const ID: TransactionId = TransactionId::from_bytes([5; 12]);

/// A number that is as good as random, and the same in each run.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

fn source(pair: u32, side: Side) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0000 + 2 * pair + side as u32), 51820).into()
}

/// A side with a place.
fn allocate(driver: &Driver, now: Instant, pair: u32, side: Side) -> Credential {
    let mut topic = [0; 32];
    topic[..4].copy_from_slice(&pair.to_be_bytes());
    let number = 2 * pair + side as u32;
    let mut id = [0; 16];
    id[..4].copy_from_slice(&scattered(number).to_be_bytes());
    let ask = Ask {
        topic: Topic::from_bytes(topic),
        side,
        asker: Asker(u64::from(number)),
        address: source(pair, side).ip(),
    };
    let fresh = Credential { id: CredentialId::from_bytes(id), key: CredentialKey::from_bytes([9; 32]) };
    driver.relay.allocate(now, ask, fresh).unwrap().credential
}

/// Binds it: once for the nonce, once with it. Returns the request that bound it.
fn bind(driver: &mut Driver, now: Instant, from: SocketAddr, credential: &Credential) -> Vec<u8> {
    let mut nonce = None;
    for order in 1..=2 {
        let question = request(credential, ID, order, nonce.as_ref());
        let answer = driver.hear(now, from, RELAY, &question).unwrap();
        match parse_answer(&answer, &credential.key).unwrap() {
            (_, BindAnswer::Challenge { nonce: said }) => nonce = Some(said),
            (_, BindAnswer::Bound { .. }) => return question,
            other => panic!("{other:?}"),
        }
    }
    panic!("not bound")
}

fn relay(pairs: u32) -> (Driver, Instant) {
    let mut now = Instant::now();
    // Each side has an address of its own, and binds no faster than strangers may.
    let settings = Settings { sources: 1 << 20, idle: Duration::from_hours(24), ..Settings::default() };
    let mut driver = Driver::new(settings, now);
    for pair in 0..pairs {
        for side in [Side::Low, Side::High] {
            now += Duration::from_millis(20);
            let credential = allocate(&driver, now, pair, side);
            bind(&mut driver, now, source(pair, side), &credential);
        }
    }
    (driver, now)
}

fn forwarding(criterion: &mut Criterion) {
    let mut packet = vec![0; FULL];
    packet[0] = wireguard::Kind::Data as u8;
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    for pairs in PAIRS {
        let (driver, now) = relay(pairs);
        let mut turn = 0;
        let mut next = |from: fn(u32, Side) -> SocketAddr| {
            turn += 1;
            from(scattered(turn) % pairs, Side::Low)
        };
        group.bench_function(BenchmarkId::new("forward", pairs), |bencher| {
            bencher.iter(|| {
                let from = next(source);
                assert!(wireguard::kind(black_box(&packet)).is_some());
                assert!(matches!(driver.packet(now, from, RELAY, packet.len()), Went::Udp(..)));
            });
        });
        group.bench_function(BenchmarkId::new("strangers", pairs), |bencher| {
            bencher.iter(|| {
                let from = next(|pair, _| (Ipv4Addr::from(0x0b00_0000 + pair), 9).into());
                assert!(matches!(driver.packet(now, from, RELAY, FULL), Went::Nowhere(_)));
            });
        });
    }
    group.finish();
}

fn binding_anew(criterion: &mut Criterion) {
    let (mut driver, now) = relay(1_000);
    let credential = allocate(&driver, now, 1_000, Side::Low);
    let from = source(1_000, Side::Low);
    let question = bind(&mut driver, now, from, &credential);
    let mut forged = question.clone();
    let last = forged.len() - 9;
    forged[last] ^= 1;
    let mut group = criterion.benchmark_group("bind");
    // A replay costs what a fresh request costs, but for the change.
    for (what, question) in [("replayed", &question), ("forged", &forged)] {
        group.bench_function(what, |bencher| {
            bencher.iter(|| driver.hear(now, from, RELAY, black_box(question)));
        });
    }
    group.finish();
}

fn stun(criterion: &mut Criterion) {
    let others = Some(Others { port: 2, address: 1, both: 3 });
    let places =
        [(1, 3478), (2, 3478), (1, 3477), (2, 3477)].map(|(host, port)| ([203, 0, 113, host], port).into());
    let places = places.map(|local| Place { local, others });
    let rate = Rate { burst: u32::MAX, every: Duration::from_nanos(1) };
    let mut responder = Responder::new(places.to_vec(), Public::default(), rate, 16_384);
    let question = binding::request(ID, Some(&[7; 16]), Change::None);
    let mut turn = 0;
    criterion.bench_function("stun/answer", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let from = source(scattered(turn) % 10_000, Side::Low);
            let to = Some(places[0].local.ip());
            let datagram = Datagram { socket: 0, from, to, payload: black_box(&question) };
            responder.handle(Instant::now(), datagram).1.unwrap()
        });
    });
}

criterion_group!(benches, forwarding, binding_anew, stun);
criterion_main!(benches);
