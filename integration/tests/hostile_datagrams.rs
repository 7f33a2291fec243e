//! What strangers send to the WireGuard port and to the server's UDP port is ignored, costs bounded work, and is never
//! answered with more than was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use wireplug_core::{Tier, TransactionId};
use wireplug_integration::secrets::pair_of;
use wireplug_integration::witness::{alive, memory, only_the_truth, stays_unset};
use wireplug_lab::{Daemon, Host, Nat, Pair, PairOptions, Result, STUN_PORT, wait_for, wireguard_at};
use wireplug_proto::stun::binding::{Change, REQUEST_LEN, request};
use wireplug_proto::stun::{MAGIC_COOKIE, MAGIC_COOKIE_OFFSET, probe::probe};

/// Datagrams of each kind.
const EACH: usize = 1500;

/// How long answers may take in the lab.
const ANSWER: Duration = Duration::from_millis(60);

/// How much a daemon may grow under a flood, in KiB.
const GROWTH: u64 = 8 * 1024;

/// The answer to a check: header 20, address 12, integrity 36, fingerprint 8.
const CHECK_RESPONSE: usize = 76;

/// What a daemon lets one replayed check cost: so many answers at once, and so many a second.
const ANSWERS: (usize, usize) = (64, 32);

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn transaction() -> TransactionId {
    TransactionId::from_bytes(random())
}

/// Random bytes that pass the socket's filter.
fn junk(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = std::iter::repeat_with(random::<64>).take(length / 64 + 1).flatten().collect();
    bytes.truncate(length);
    let cookie = MAGIC_COOKIE_OFFSET..MAGIC_COOKIE_OFFSET + MAGIC_COOKIE.len();
    if let Some(place) = bytes.get_mut(cookie) {
        place.copy_from_slice(&MAGIC_COOKIE);
    }
    bytes
}

/// A STUN message with a header and whatever follows it.
fn stun(kind: [u8; 2], length: u16, body: &[u8]) -> Vec<u8> {
    [&kind[..], &length.to_be_bytes(), &MAGIC_COOKIE, &random::<12>(), body].concat()
}

/// Attributes that are larger than the message, empty ones without end, and messages that lie about their length.
fn giants() -> Vec<Vec<u8>> {
    let attribute = |number: u16, length: u16| [number.to_be_bytes(), length.to_be_bytes()].concat();
    let username = attribute(6, 0xffff);
    vec![
        stun([0, 1], 0xfffc, &[]),
        stun([0, 1], 4, &username),
        stun([0, 1], 1204, &[&username[..], &[b'a'; 1200]].concat()),
        stun([0, 1], 1200, &attribute(0x8022, 0).repeat(300)),
        stun([1, 1], 8, &[attribute(0x20, 4), vec![0; 4]].concat()),
        stun([0, 0x11], 20, &[attribute(0xe0d2, 0x8000), vec![0; 16]].concat()),
        junk(1400),
        junk(8),
    ]
}

#[test]
fn junk_on_the_wireguard_port_is_ignored() {
    Pair::with("junk", [Nat::None, Nat::PortPreserving], &PairOptions::default(), |pair| {
        let stranger = pair.lab.site("c", Nat::None)?.host()?;
        let a = pair.a.wireplug()?;
        wait_for("the shared port to open", Duration::from_secs(10), || {
            Ok(a.raw_socket_open().then_some(()))
        })?;
        let (at, target) = (socket_on(&stranger)?, wireguard_at(pair.a.host.addresses()[0]));
        let genuine = pair_of(&pair.b, &pair.a)?;
        let (before, worked) = (memory(&a)?, cpu(&a));

        let send = |payload: &[u8]| at.send_to(payload, target).map(drop).unwrap();
        for number in 0..EACH {
            send(&junk(20 + number % 1300));
            // The right tag, as a listener on the way would know it, under a wrong key.
            let mut wrong = genuine.check_request(transaction(), Tier::Direct, true);
            let mac = wrong.len() - 20;
            wrong[mac] ^= 1;
            send(&wrong);
            send(&genuine.check_response(transaction(), target));
            send(&probe(transaction(), &random()));
            send(&request(transaction(), None, Change::None));
        }
        for giant in giants() {
            send(&giant);
        }
        let (answers, bytes) = received(&at);
        assert_eq!((answers, bytes), (0, 0), "strangers are not answered");

        // A genuine check, recorded on its way and repeated from elsewhere: the path to that place is not proven by it.
        let (recorded, began) = (genuine.check_request(transaction(), Tier::Direct, true), Instant::now());
        for _ in 0..EACH {
            send(&recorded);
        }
        stays_unset(pair, std::slice::from_ref(&a), Duration::from_secs(4))?;
        let (answers, bytes) = received(&at);
        let most = ANSWERS.0 + ANSWERS.1 * (usize::try_from(began.elapsed().as_secs()).unwrap() + 1);
        println!("{EACH} repeated checks: {answers} answers and checks back, {bytes} bytes");
        // Beside the answers, the place is checked as any other would be: a few datagrams a second.
        assert!(answers > 0 && answers <= most + 40, "{answers} answers, at most {most} and some checks");
        assert!(bytes <= EACH * recorded.len() && recorded.len() >= CHECK_RESPONSE);

        println!("resident {before} KiB, then {} KiB; CPU {:?}", memory(&a)?, cpu(&a).saturating_sub(worked));
        assert!(memory(&a)? < before + GROWTH);
        let daemons = [a, pair.b.wireplug()?];
        pair.wait_for_ping(Duration::from_secs(60))?;
        pair.check_direct(&daemons)?;
        only_the_truth(pair, &daemons)
    })
    .unwrap();
}

#[test]
fn the_server_answers_nobody_with_more_than_was_sent_but_a_bare_request() {
    Pair::with("reflect", [Nat::None, Nat::DualStack], &PairOptions::default(), |pair| {
        let server = pair.server.process().unwrap();
        // A bare request is answered with two addresses: its source, and the server's other one (RFC 5780 section 7.4).
        let places = [
            (&pair.a.host, SocketAddr::new(pair.server.v4(0).into(), STUN_PORT), 44),
            (&pair.b.host, SocketAddr::new(pair.server.v6(0).into(), STUN_PORT), 68),
        ];
        for (host, target, shortest) in places {
            let at = socket_on(host)?;
            let mut answered = 0;
            for payload in requests() {
                at.send_to(&payload, target).unwrap();
                let (_, bytes) = received_within(&at, ANSWER);
                let most = payload.len().max(shortest);
                assert!(bytes <= most, "{} bytes were answered with {bytes}: {payload:02x?}", payload.len());
                answered += usize::from(bytes > 0);
            }
            assert!(answered > 5, "{answered} answers: was the server reached at all?");

            let flood: usize = (0..EACH)
                .map(|_| at.send_to(&request(transaction(), None, Change::None), target).unwrap())
                .sum();
            let (answers, bytes) = received(&at);
            println!("{EACH} requests to {target}: {answers} answers");
            assert!(bytes < flood / 2, "a source is limited: {answers} of {EACH} were answered");
        }
        assert_eq!(server.exited(), None, "{}", server.log());
        // Strangers' floods cost others nothing.
        let daemons = [pair.a.wireplug()?, pair.b.wireplug()?];
        alive(&daemons)
    })
    .unwrap();
}

/// Requests of all shapes, from the shortest on, and what is none.
fn requests() -> Vec<Vec<u8>> {
    let change = |flags: u8| stun([0, 1], 8, &[0, 3, 0, 4, 0, 0, 0, flags]);
    let unknown = |count: usize| {
        let attributes: Vec<u8> = (0..count).flat_map(|n| [0x7f, u8::try_from(n).unwrap(), 0, 0]).collect();
        stun([0, 1], u16::try_from(attributes.len()).unwrap(), &attributes)
    };
    let mut all = vec![stun([0, 1], 0, &[]), change(2), change(4), change(6), change(0xff)];
    all.extend([1, 2, 3, 8, 50].map(unknown));
    all.extend([Change::None, Change::Port, Change::Address, Change::AddressAndPort].map(|change| {
        let whole = request(transaction(), Some(&random()), change);
        assert_eq!(whole.len(), REQUEST_LEN);
        whole
    }));
    all.extend(giants());
    all.push(stun([0, 1], 4, &[0x80, 0x22, 0, 0]));
    all.push(stun([0, 3], 0, &[])); // Allocate (RFC 8656 section 5): this is no TURN server
    all.push(vec![0; 148]); // a WireGuard initiation's length
    all
}

fn socket_on(host: &Host) -> Result<UdpSocket> {
    let any = SocketAddr::new(host.addresses()[0], 0);
    let v6 = host.addresses().iter().find(|address| address.is_ipv6()).map(|v6| SocketAddr::new(*v6, 0));
    host.udp(v6.unwrap_or(any))
}

/// How many datagrams have come and how many bytes they have, until nothing comes any more.
fn received(at: &UdpSocket) -> (usize, usize) {
    received_within(at, 3 * ANSWER)
}

fn received_within(at: &UdpSocket, quiet: Duration) -> (usize, usize) {
    at.set_read_timeout(Some(quiet)).unwrap();
    let (mut count, mut bytes, mut buffer) = (0, 0, [0; 2048]);
    while let Ok((length, _)) = at.recv_from(&mut buffer) {
        count += 1;
        bytes += length;
    }
    (count, bytes)
}

fn cpu(daemon: &Daemon) -> Duration {
    daemon.cpu_time().unwrap_or_default()
}
