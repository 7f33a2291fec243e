//! The relay's decisions on a clock of the tests' own, with whole messages as they come from the network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_proto::relay::{BindRefusal, Bound, Credential, CredentialId, CredentialKey};
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};
use wireplug_proto::{Side, Topic};

use super::state::{Binding, UdpBind};
use super::stun::{Answerer, Request};
use super::table::{Hop, Path};
use super::*;
use crate::limits::Rate;

mod limits;
mod properties;

const RELAY: &str = "203.0.113.1:3479";
const RELAY_V6: &str = "[2001:db8::1]:3479";
const IDLE: Duration = Duration::from_secs(300);

/// A relay and its clock.
struct World {
    relay: Relay,
    answerer: Answerer,
    now: Instant,
    fresh: u32,
}

/// A side with its credential.
#[derive(Clone)]
struct Client {
    credential: Credential,
    order: u64,
}

/// Where a packet went.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    /// From and to.
    Udp(SocketAddr, SocketAddr),
    Tls(u16),
    Nowhere(Dropped),
}

impl World {
    fn new(settings: Settings) -> Self {
        let start = Instant::now();
        let relay = Relay::new(settings, [3; 32], start);
        Self { relay, answerer: Answerer::new(), now: start + Duration::from_secs(1000), fresh: 0 }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass as the server does.
    fn live(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.relay.tick(self.now)
            && due <= end
        {
            self.now = due;
        }
        self.now = end;
    }

    fn ask(&mut self, pair: u32, side: Side, asker: u64, address: &str) -> Result<Grant, Refusal> {
        self.fresh += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.fresh.to_be_bytes());
        let mut key = [7; 32];
        key[..4].copy_from_slice(&self.fresh.to_be_bytes());
        let fresh = Credential { id: CredentialId::from_bytes(id), key: CredentialKey::from_bytes(key) };
        let ask = Ask { topic: topic(pair), side, asker: Asker(asker), address: address.parse().unwrap() };
        self.relay.allocate(self.now, ask, fresh)
    }

    fn client(&mut self, pair: u32, side: Side) -> Client {
        let asker = u64::from(pair) * 2 + side as u64;
        let grant = self.ask(pair, side, asker, "198.51.100.1").unwrap();
        Client { credential: grant.credential, order: 0 }
    }

    /// A datagram comes from a source to an address of the relay.
    fn hear(&mut self, payload: &[u8], source: &str, at: &str) -> Option<Vec<u8>> {
        let request = Request { source: addr(source), relay: addr(at), socket: 0, payload };
        self.answerer.answer(&self.relay, self.relay.own_counts(), self.now, request)
    }

    fn nonce(&self, source: &str, at: &str) -> [u8; 16] {
        self.relay.nonce(self.now, addr(source), addr(at))
    }

    /// One request with a right nonce: its bytes, and the answer.
    fn try_bind(&mut self, client: &mut Client, source: &str, at: &str) -> (Vec<u8>, Option<BindAnswer>) {
        client.order += 1;
        let nonce = self.nonce(source, at);
        let request = request(&client.credential, ID, client.order, Some(&nonce));
        let answer = self.hear(&request, source, at);
        (request, answer.map(|answer| parse_answer(&answer, &client.credential.key).unwrap().1))
    }

    fn bind(&mut self, client: &mut Client, source: &str, at: &str) -> Bound {
        match self.try_bind(client, source, at).1 {
            Some(BindAnswer::Bound { mapped, bound }) if mapped == addr(source) => bound,
            other => panic!("{other:?}"),
        }
    }

    /// Two bound sides, at .1 and .2 port 51820.
    fn pair(&mut self, pair: u32) -> (Client, Client) {
        let (mut low, mut high) = (self.client(pair, Side::Low), self.client(pair, Side::High));
        self.bind(&mut low, LOW, RELAY);
        self.bind(&mut high, HIGH, RELAY);
        (low, high)
    }

    fn packet(&self, source: &str, at: &str) -> Went {
        self.sized(source, at, 1000)
    }

    fn sized(&self, source: &str, at: &str, bytes: usize) -> Went {
        let (path, now) = (Path::new(addr(source), addr(at)), self.relay.since(self.now));
        went(&self.relay.table().route(&path, bytes, now, self.relay.meter()))
    }

    fn tls_packet(&self, binding: TlsBinding) -> Went {
        let now = self.relay.since(self.now);
        went(&self.relay.table().route_tls(binding.end, binding.number, 1000, now, self.relay.meter()))
    }
}

const ID: TransactionId = TransactionId::from_bytes([5; 12]);
const LOW: &str = "192.0.2.1:51820";
const HIGH: &str = "192.0.2.2:51820";
const UNBOUND: Went = Went::Nowhere(Dropped::Unbound);
const ALONE: Went = Went::Nowhere(Dropped::Alone);

fn went(hop: &Result<Hop<'_>, Dropped>) -> Went {
    match hop {
        Ok(Hop::Udp(hop)) => Went::Udp(hop.path.relay(), hop.path.source()),
        Ok(Hop::Tls(leg)) => Went::Tls(leg.channel),
        Err(why) => Went::Nowhere(*why),
    }
}

fn to(from: &str, to: &str) -> Went {
    Went::Udp(addr(from), addr(to))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn topic(pair: u32) -> Topic {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&pair.to_be_bytes());
    Topic::from_bytes(bytes)
}

fn leg(channel: u16) -> TlsLeg {
    TlsLeg { queue: Arc::new(TlsQueue::new(4, 4)), channel }
}

const REFUSED_UNKNOWN: Option<BindAnswer> = Some(BindAnswer::Refused(BindRefusal::Unknown));

#[test]
fn two_sides_are_bound_and_meet() {
    let mut world = World::new(Settings::default());
    let mut low = world.client(1, Side::Low);
    assert_eq!(world.relay.gauges().sides, 1);
    assert!(!world.bind(&mut low, LOW, RELAY).other_side);
    assert_eq!(world.packet(LOW, RELAY), ALONE);
    let mut high = world.client(1, Side::High);
    assert_eq!(world.relay.gauges().sides, 2);
    let bound = world.bind(&mut high, HIGH, "203.0.113.1:3480");
    assert_eq!(bound, Bound { other_side: true, lifetime: IDLE });
    assert!(world.bind(&mut low, LOW, RELAY).other_side);
    assert_eq!(world.packet(LOW, RELAY), to("203.0.113.1:3480", HIGH));
    assert_eq!(world.packet(HIGH, "203.0.113.1:3480"), to(RELAY, LOW));
    assert_eq!(world.packet(HIGH, RELAY), UNBOUND, "bound to another port");
    assert_eq!(world.packet("192.0.2.1:51821", RELAY), UNBOUND, "a third address");
}

#[test]
fn the_same_place_is_given_however_they_race_and_the_same_credential_to_the_same_connection() {
    let mut world = World::new(Settings::default());
    let first = world.ask(1, Side::Low, 1, "198.51.100.1").unwrap();
    assert_eq!(first.lifetime, IDLE);
    let other = world.ask(1, Side::High, 2, "198.51.100.2").unwrap();
    assert_ne!(other.credential, first.credential);
    let again = world.ask(1, Side::Low, 1, "198.51.100.1").unwrap();
    assert_eq!(again.credential, first.credential);
    let later = world.ask(1, Side::Low, 3, "198.51.100.1").unwrap();
    assert_ne!(later.credential, first.credential, "another connection");
    assert_eq!(world.relay.gauges(), Gauges { allocations: 1, sides: 2, ..Gauges::default() });
}

#[test]
fn nobody_binds_an_address_that_it_does_not_receive_at() {
    let mut world = World::new(Settings::default());
    let mut low = world.client(1, Side::Low);
    let victim = "192.0.2.99:51820";
    let bare = request(&low.credential, ID, 1, None);
    let challenge = world.hear(&bare, victim, RELAY).unwrap();
    assert!(challenge.len() <= bare.len());
    let answer = parse_answer(&challenge, &low.credential.key).unwrap().1;
    assert_eq!(answer, BindAnswer::Challenge { nonce: world.nonce(victim, RELAY) });
    // The nonce of one's own address, of another port, of another relay port, of a while ago.
    let old = world.nonce(victim, RELAY);
    world.wait(Duration::from_secs(121));
    let wrong = [
        world.nonce(LOW, RELAY),
        world.nonce("192.0.2.99:51821", RELAY),
        world.nonce(victim, "203.0.113.1:3480"),
        old,
    ];
    for (nonce, order) in wrong.into_iter().zip(2..) {
        let spoofed = request(&low.credential, ID, order, Some(&nonce));
        let answer = world.hear(&spoofed, victim, RELAY).unwrap();
        assert!(matches!(
            parse_answer(&answer, &low.credential.key).unwrap().1,
            BindAnswer::Challenge { .. }
        ));
    }
    assert_eq!(world.relay.gauges().udp_bindings, 0);
    low.order = 10;
    world.bind(&mut low, LOW, RELAY);
}

#[test]
fn forged_and_unknown_requests_bind_nothing() {
    let mut world = World::new(Settings::default());
    let low = world.client(1, Side::Low);
    let mut thief = low.clone();
    thief.credential.key = CredentialKey::from_bytes([0; 32]);
    let nonce = world.nonce(LOW, RELAY);
    let forged = request(&thief.credential, ID, 1, Some(&nonce));
    assert_eq!(world.hear(&forged, LOW, RELAY), None);
    let right = request(&low.credential, ID, 1, Some(&nonce));
    for index in 0..right.len() {
        let mut altered = right.clone();
        altered[index] ^= 1;
        world.hear(&altered, LOW, RELAY);
    }
    thief.credential.id = CredentialId::from_bytes([9; 16]);
    assert_eq!(world.try_bind(&mut thief, LOW, RELAY).1, REFUSED_UNKNOWN);
    assert_eq!(world.relay.gauges().udp_bindings, 0);
    let counters = world.relay.counters();
    assert!(counters.forged >= 1 && counters.unknown >= 1 && counters.bound == 0, "{counters:?}");
}

#[test]
fn a_recorded_request_is_worth_nothing() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    let (recorded, _) = world.try_bind(&mut low, LOW, RELAY);
    assert_eq!(world.hear(&recorded, "192.0.2.66:1", RELAY).map(|it| it.len() <= recorded.len()), Some(true));
    let at_other_port = world.hear(&recorded, LOW, "203.0.113.1:3480").unwrap();
    let answer = parse_answer(&at_other_port, &low.credential.key).unwrap().1;
    assert!(matches!(answer, BindAnswer::Challenge { .. }), "the nonce is of one relay port");
    // The client roams; its former request, from its former address, does not bring the binding back.
    let moved = "192.0.2.77:51820";
    world.bind(&mut low, moved, RELAY);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, moved));
    assert_eq!(world.hear(&recorded, LOW, RELAY), None);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, moved));
    assert_eq!(world.packet(LOW, RELAY), UNBOUND);
    assert_eq!(world.relay.counters().replayed, 1);
    // Nor does a repeated request keep a binding alive.
    let (last, _) = world.try_bind(&mut low, moved, RELAY);
    for _ in 0..4 {
        world.live(IDLE / 5);
        world.hear(&last, moved, RELAY);
    }
    world.live(IDLE / 2);
    assert_eq!(world.relay.gauges().udp_bindings, 0);
}

#[test]
fn a_repeated_request_is_answered_again() {
    let mut world = World::new(Settings::default());
    let mut low = world.client(1, Side::Low);
    let (request, answer) = world.try_bind(&mut low, LOW, RELAY);
    let again = world.hear(&request, LOW, RELAY).unwrap();
    assert_eq!(Some(parse_answer(&again, &low.credential.key).unwrap().1), answer);
    assert_eq!(world.relay.counters().bound, 1);
}

#[test]
fn one_source_needs_another_port_for_another_pair() {
    let mut world = World::new(Settings::default());
    let (_, mut high) = world.pair(1);
    let mut second = world.client(2, Side::Low);
    let taken = Some(BindAnswer::Refused(BindRefusal::Taken));
    assert_eq!(world.try_bind(&mut second, LOW, RELAY).1, taken);
    assert_eq!(world.try_bind(&mut high, LOW, RELAY).1, taken, "nor may the other side take it");
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW), "nothing has changed for the first");
    world.bind(&mut second, LOW, "203.0.113.1:3480");
    // More pairs than ports: those beyond are told so, each time.
    for pair in 3..35 {
        let mut more = world.client(pair, Side::Low);
        let at = if pair < 33 { format!("203.0.113.1:{}", 3478 + pair) } else { RELAY.to_owned() };
        let (_, answer) = world.try_bind(&mut more, LOW, &at);
        assert_eq!(answer == taken, pair >= 33, "{pair} {answer:?}");
    }
    assert_eq!(world.relay.counters().taken, 4);
}

#[test]
fn a_new_connection_takes_the_place_over_when_it_binds() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    world.relay.leave(world.now, &topic(1), Side::Low, Asker(2));
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW), "a binding outlives the connection");
    let grant = world.ask(1, Side::Low, 99, "198.51.100.1").unwrap();
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW), "and the next one's credential");
    world.bind(&mut low, LOW, RELAY);
    let mut next = Client { credential: grant.credential, order: 0 };
    world.bind(&mut next, LOW, RELAY);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW));
    assert_eq!(world.try_bind(&mut low, LOW, RELAY).1, REFUSED_UNKNOWN, "the former credential has ended");
    world.relay.release(world.now, &topic(1), Side::Low, Asker(2));
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW), "only the last connection may release it");
    world.relay.release(world.now, &topic(1), Side::Low, Asker(99));
    assert_eq!(world.packet(HIGH, RELAY), ALONE);
    assert_eq!(world.packet(LOW, RELAY), UNBOUND);
    assert_eq!(world.try_bind(&mut next, LOW, RELAY).1, REFUSED_UNKNOWN);
    assert_eq!(world.relay.gauges().sides, 1, "the other side still waits");
}

#[test]
fn packets_take_the_leg_that_spoke_last_in_both_families_and_over_tls() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    let v6 = "[2001:db8::77]:51820";
    world.bind(&mut low, v6, RELAY_V6);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW), "the first, until another speaks");
    assert_eq!(world.packet(v6, RELAY_V6), to(RELAY, HIGH));
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY_V6, v6), "from IPv4 to IPv6");
    let (tls, bound) = world.relay.bind_tls(world.now, &low.credential, leg(5)).unwrap();
    assert!(bound.other_side);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY_V6, v6));
    assert_eq!(world.tls_packet(tls), to(RELAY, HIGH));
    assert_eq!(world.packet(HIGH, RELAY), Went::Tls(5));
    world.bind(&mut low, LOW, RELAY);
    world.bind(&mut low, "192.0.2.8:1", RELAY);
    world.relay.unbind_tls(world.now, tls);
    assert_eq!(world.packet(HIGH, RELAY), to(RELAY, "192.0.2.8:1"), "the most recently bound of the others");
    assert_eq!(world.tls_packet(tls), UNBOUND);
    assert_eq!(world.relay.gauges().tls_bindings, 0);
}

#[test]
fn a_side_has_one_leg_of_each_kind() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    world.packet(LOW, RELAY);
    let second = "192.0.2.1:40000";
    world.bind(&mut low, second, "203.0.113.1:3490");
    assert_eq!(world.packet(HIGH, RELAY), to("203.0.113.1:3490", second), "in place of the former");
    assert_eq!(world.packet(LOW, RELAY), UNBOUND);
    let (first, _) = world.relay.bind_tls(world.now, &low.credential, leg(1)).unwrap();
    let same = leg(2);
    let (later, _) = world.relay.bind_tls(world.now, &low.credential, same.clone()).unwrap();
    assert_eq!(world.tls_packet(first), UNBOUND);
    assert_eq!(world.relay.bind_tls(world.now, &low.credential, same).unwrap().0, later, "the same, again");
    world.relay.unbind_tls(world.now, first);
    assert_eq!(world.tls_packet(later), to(RELAY, HIGH), "an end that comes late ends nothing else");
    assert_eq!(world.relay.gauges().tls_bindings, 1);
    let wrong = Credential { id: low.credential.id, key: CredentialKey::from_bytes([1; 32]) };
    let refused = world.relay.bind_tls(world.now, &wrong, leg(3)).unwrap_err();
    assert_eq!(refused, BindRefusal::Unknown);
}

#[test]
fn what_is_silent_ends_and_then_the_place() {
    let mut world = World::new(Settings::default());
    let (mut low, _) = world.pair(1);
    for _ in 0..10 {
        world.live(IDLE / 2);
        assert_eq!(world.packet(HIGH, RELAY), to(RELAY, LOW));
        world.bind(&mut low, LOW, RELAY);
    }
    world.live(IDLE / 2);
    world.packet(LOW, RELAY);
    world.live(IDLE * 3 / 4);
    assert_eq!(world.packet(LOW, RELAY), ALONE, "the other side said nothing for five quarters of the time");
    world.live(IDLE * 2);
    assert_eq!(world.relay.gauges(), Gauges { allocations: 1, sides: 2, ..Gauges::default() });
    for (side, asker) in [(Side::Low, 2), (Side::High, 3)] {
        world.relay.leave(world.now, &topic(1), side, Asker(asker));
    }
    world.live(IDLE * 2);
    assert_eq!(world.relay.gauges(), Gauges::default());
    assert_eq!(world.relay.tick(world.now), None, "nothing is left to look at");
    assert_eq!(world.try_bind(&mut low, LOW, RELAY).1, REFUSED_UNKNOWN);
}
