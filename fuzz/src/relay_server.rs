//! The relay's state, with whatever its clients and strangers may do in any order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wireplug_core::TransactionId;
use wireplug_proto::relay::{Bound, Credential, CredentialId, CredentialKey};
use wireplug_proto::stun::relay::{BindAnswer, parse_answer, request};
use wireplug_proto::{Side, Topic};
use wireplug_serverd::relay::fuzzing::{Driver, Went};
use wireplug_serverd::relay::{Ask, Asker, Gauges, Settings, TlsBinding, TlsLeg, TlsQueue};

/// The most steps of one run.
const MAX_STEPS: usize = 300;
/// Pairs that ask, and those that there is room for.
const PAIRS: u8 = 3;
const PLACES: usize = 2;
/// Connections that may ask for each side.
const ASKERS: u8 = 3;
const SOURCES: [&str; 5] =
    ["192.0.2.1:51820", "192.0.2.2:51820", "192.0.2.2:51821", "[2001:db8::1]:51820", "[2001:db8::2]:51820"];
const RELAYS: [&str; 4] =
    ["203.0.113.1:3479", "203.0.113.1:3480", "[2001:db8:9::1]:3479", "[2001:db8:9::1]:3480"];

const ID: TransactionId = TransactionId::from_bytes([5; 12]);

/// A pair's number, and whether it is its high side.
type End = (u8, bool);
/// A source, and the address of the relay that it sends to.
type Path = (SocketAddr, SocketAddr);

/// Somebody with a credential.
struct Client {
    end: End,
    credential: Credential,
    order: u64,
    /// The last request that was accepted, and its path.
    recorded: Option<(Vec<u8>, Path)>,
}

struct World {
    driver: Driver,
    now: Instant,
    fresh: u8,
    clients: Vec<Client>,
    /// The last leg of each side, for IPv4 and for IPv6.
    udp: BTreeMap<(End, bool), Path>,
    /// The last leg of each side over TLS, with its channel.
    tls: BTreeMap<End, (u16, TlsBinding)>,
    /// All that there ever were.
    bindings: Vec<(End, TlsBinding)>,
    channels: u16,
}

/// Each four bytes are a step.
pub(crate) fn relay_server(data: &[u8]) {
    let start = Instant::now();
    let mut world = World {
        driver: Driver::new(Settings { allocations: PLACES, ..Settings::default() }, start),
        now: start + Duration::from_secs(1000),
        fresh: 0,
        clients: Vec::new(),
        udp: BTreeMap::new(),
        tls: BTreeMap::new(),
        bindings: Vec::new(),
        channels: 0,
    };
    for step in data.as_chunks::<4>().0.iter().take(MAX_STEPS) {
        world.step(*step);
        let gauges = world.driver.relay.gauges();
        assert!(gauges.allocations <= PLACES);
        assert!((gauges.allocations..=2 * gauges.allocations).contains(&gauges.sides));
        assert!(gauges.udp_bindings <= 2 * gauges.sides && gauges.tls_bindings <= gauges.sides);
    }
    world.end();
}

impl World {
    fn step(&mut self, [kind, who, from, to]: [u8; 4]) {
        let end = (who % PAIRS, who & 0x10 != 0);
        let asker = asker(end, from % ASKERS);
        let path = path(from, to);
        match kind % 16 {
            0..3 => self.ask(end, asker),
            3 => self.driver.relay.release(self.now, &topic(end.0), side(end.1), asker),
            4 => self.driver.relay.leave(self.now, &topic(end.0), side(end.1), asker),
            5..9 => self.bind(who, path),
            9 => self.forge(who, path, to),
            10 => self.bind_tls(who),
            11 => self.unbind_tls(who),
            12..15 => self.send(path),
            _ => self.pass(Duration::from_secs(u64::from(who) * 4)),
        }
    }

    fn ask(&mut self, end: End, asker: Asker) {
        self.fresh = self.fresh.wrapping_add(1);
        let fresh = Credential {
            id: CredentialId::from_bytes([self.fresh; 16]),
            key: CredentialKey::from_bytes([!self.fresh; 32]),
        };
        if self.clients.iter().any(|client| client.credential.id == fresh.id) {
            return;
        }
        let address = [198, 51, 100, 1].into();
        let ask = Ask { topic: topic(end.0), side: side(end.1), asker, address };
        let Ok(grant) = self.driver.relay.allocate(self.now, ask, fresh) else { return };
        match self.clients.iter().find(|client| client.credential == grant.credential) {
            Some(known) => assert_eq!(known.end, end, "somebody else's credential"),
            None => self.clients.push(Client { end, credential: grant.credential, order: 0, recorded: None }),
        }
    }

    /// A client asks as it should: once for the nonce, once with it.
    fn bind(&mut self, which: u8, path: Path) {
        let Some(index) = index(which, self.clients.len()) else { return };
        let mut nonce = None;
        for _ in 0..2 {
            let client = &mut self.clients[index];
            client.order += 1;
            let question = request(&client.credential, ID, client.order, nonce.as_ref());
            let Some(answer) = self.driver.hear(self.now, path.0, path.1, &question) else { return };
            assert!(answer.len() <= question.len());
            match parse_answer(&answer, &client.credential.key) {
                Ok((ID, BindAnswer::Challenge { nonce: said })) => nonce = Some(said),
                Ok((ID, BindAnswer::Refused(_))) => return,
                Ok((ID, BindAnswer::Bound { mapped, bound })) => {
                    assert!(nonce.is_some() && mapped == path.0);
                    client.recorded = Some((question, path));
                    let end = client.end;
                    return self.is_bound(end, path, bound);
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("a nonce that was just given is not taken");
    }

    fn is_bound(&mut self, end: End, path: Path, bound: Bound) {
        self.udp.retain(|_, other| *other != path);
        self.udp.insert((end, path.0.is_ipv4()), path);
        let went = self.driver.packet(self.now, path.0, path.1, 100);
        self.check(end, went);
        assert_eq!(matches!(went, Went::Nowhere(_)), !bound.other_side, "{went:?}");
    }

    /// Somebody sends a request that was accepted once: as it was, from elsewhere, or else altered.
    fn forge(&mut self, which: u8, path: Path, at: u8) {
        let Some(index) = index(which, self.clients.len()) else { return };
        let Some((mut question, from)) = self.clients[index].recorded.clone() else { return };
        if path == from {
            let at = usize::from(at) % question.len();
            question[at] ^= 1;
        }
        let before = self.driver.relay.gauges();
        if let Some(answer) = self.driver.hear(self.now, path.0, path.1, &question) {
            assert!(answer.len() <= question.len());
            let read = parse_answer(&answer, &self.clients[index].credential.key);
            assert!(!matches!(read, Ok((_, BindAnswer::Bound { .. }))), "bound by a stranger");
        }
        assert_eq!(self.driver.relay.gauges(), before);
    }

    fn bind_tls(&mut self, which: u8) {
        let Some(index) = index(which, self.clients.len()) else { return };
        let Client { end, credential, .. } = &self.clients[index];
        self.channels += 1;
        let leg = TlsLeg { queue: Arc::new(TlsQueue::new(1, 1)), channel: self.channels };
        let Ok((binding, bound)) = self.driver.relay.bind_tls(self.now, credential, leg) else { return };
        let end = *end;
        self.tls.insert(end, (self.channels, binding));
        self.bindings.push((end, binding));
        let went = self.driver.tls_packet(self.now, binding, 100);
        self.check(end, went);
        assert_eq!(matches!(went, Went::Nowhere(_)), !bound.other_side, "{went:?}");
    }

    fn unbind_tls(&mut self, which: u8) {
        let Some(index) = index(which, self.bindings.len()) else { return };
        let (_, binding) = self.bindings[index];
        self.driver.relay.unbind_tls(self.now, binding);
        let went = self.driver.tls_packet(self.now, binding, 100);
        assert!(matches!(went, Went::Nowhere(_)), "an ended binding forwards: {went:?}");
    }

    /// A packet on a path, and one on each binding over TLS that there ever was.
    fn send(&self, path: Path) {
        let went = self.driver.packet(self.now, path.0, path.1, 100);
        match self.udp.iter().find(|(_, bound)| **bound == path) {
            Some(((end, _), _)) => self.check(*end, went),
            None => assert!(matches!(went, Went::Nowhere(_)), "from nobody to {went:?}"),
        }
        for (end, binding) in &self.bindings {
            let went = self.driver.tls_packet(self.now, *binding, 100);
            let is_last = self.tls.get(end).is_some_and(|(_, last)| last == binding);
            assert!(is_last || matches!(went, Went::Nowhere(_)), "a binding that was replaced forwards");
            self.check(*end, went);
        }
    }

    /// What a side sends goes only to the last leg of a kind of the other side.
    fn check(&self, (pair, high): End, went: Went) {
        let other = (pair, !high);
        match went {
            Went::Nowhere(_) => {}
            Went::Udp(from, to) => assert_eq!(self.udp.get(&(other, to.is_ipv4())), Some(&(to, from))),
            Went::Tls(channel) => assert_eq!(self.tls.get(&other).map(|last| last.0), Some(channel)),
        }
    }

    /// Lets time pass as the server does.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.driver.relay.tick(self.now)
            && due <= end
        {
            assert!(due > self.now, "it wants to be woken in the past");
            self.now = due;
        }
        self.now = end;
    }

    /// Everybody goes.
    fn end(&mut self) {
        for pair in 0..PAIRS {
            for high in [false, true] {
                for number in 0..ASKERS {
                    let asker = asker((pair, high), number);
                    self.driver.relay.leave(self.now, &topic(pair), side(high), asker);
                }
            }
        }
        self.pass(Duration::from_secs(1000));
        assert_eq!(self.driver.relay.gauges(), Gauges::default(), "nothing stays for ever");
    }
}

fn topic(pair: u8) -> Topic {
    Topic::from_bytes([pair; 32])
}

fn side(high: bool) -> Side {
    if high { Side::High } else { Side::Low }
}

/// A connection that has joined the pair's topic as this side.
fn asker((pair, high): End, number: u8) -> Asker {
    Asker(u64::from(pair) << 16 | u64::from(high) << 8 | u64::from(number))
}

fn index(which: u8, length: usize) -> Option<usize> {
    usize::from(which).checked_rem(length)
}

/// A source and an address of the relay, of one family.
#[expect(clippy::expect_used, reason = "the addresses above can be read")]
fn path(source: u8, relay: u8) -> Path {
    let source: SocketAddr = SOURCES[usize::from(source) % SOURCES.len()].parse().expect("an address");
    let relays = if source.is_ipv4() { &RELAYS[..2] } else { &RELAYS[2..] };
    (source, relays[usize::from(relay) % 2].parse().expect("an address"))
}
