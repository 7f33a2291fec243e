//! Asking for a place on the relay, on virtual time: who gets one, and who is told of it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::pairs;
use proptest::prelude::*;
use wireplug_proto::Pair;
use wireplug_proto::relay::{Credential, CredentialId, CredentialKey};
use wireplug_proto::rendezvous::{About, AccessToken, Allocation, ClientMessage, Reason, ServerMessage};
use wireplug_serverd::access::AccessList;
use wireplug_serverd::config::RelayConfig;
use wireplug_serverd::limits::{Limits, Rate};
use wireplug_serverd::rendezvous::{ConnectionId, NoPlace, Output, Rendezvous, Seat};

const TOKEN: &str = "correct-horse-battery";

/// A rendezvous, and a relay that gives everybody a place unless `full`.
struct World {
    rendezvous: Rendezvous,
    now: Instant,
    connects: u8,
    full: Option<NoPlace>,
    placed: HashSet<Seat>,
}

fn allocation() -> Allocation {
    Allocation {
        credential: Credential {
            id: CredentialId::from_bytes([1; 16]),
            key: CredentialKey::from_bytes([2; 32]),
        },
        relays: vec!["192.0.2.1".parse().unwrap()],
        ports: 3479..=3510,
        lifetime: Duration::from_secs(300),
    }
}

fn open() -> AccessList {
    AccessList::of(&RelayConfig::default()).unwrap()
}

fn private() -> AccessList {
    let tokens = Some(vec![TOKEN.parse().unwrap()]);
    AccessList::of(&RelayConfig { tokens, ..RelayConfig::default() }).unwrap()
}

impl World {
    fn new(relay: Option<AccessList>, limits: Limits) -> Self {
        let rendezvous = Rendezvous::new(limits, Vec::new(), Vec::new());
        let rendezvous = match relay {
            Some(access) => rendezvous.with_relay(access),
            None => rendezvous,
        };
        Self { rendezvous, now: Instant::now(), connects: 0, full: None, placed: HashSet::new() }
    }

    fn connect(&mut self) -> ConnectionId {
        self.connects += 1;
        let id = self.rendezvous.connect(self.now, [198, 51, 100, self.connects].into(), [self.connects; 16]);
        self.told();
        id.unwrap()
    }

    fn joined(&mut self, pair: &Pair) -> ConnectionId {
        let id = self.connect();
        self.say(id, ClientMessage::join(pair));
        id
    }

    fn say(&mut self, from: ConnectionId, message: ClientMessage) -> Vec<(ConnectionId, ServerMessage)> {
        self.rendezvous.message(self.now, from, message);
        self.told()
    }

    fn allocate(&mut self, from: ConnectionId, pair: &Pair) -> Vec<(ConnectionId, ServerMessage)> {
        self.say(from, ClientMessage::Allocate { topic: pair.topic(), access: None })
    }

    fn disconnect(&mut self, id: ConnectionId) {
        self.rendezvous.disconnect(self.now, id);
        self.told();
    }

    /// Plays the relay, and gives what clients are told.
    fn told(&mut self) -> Vec<(ConnectionId, ServerMessage)> {
        let mut told = Vec::new();
        while let Some(output) = self.rendezvous.poll_output() {
            match output {
                Output::Send { to, message } => told.push((to, message)),
                Output::Allocate { seat, .. } => {
                    let answer = self.full.map_or_else(|| Ok(allocation()), Err);
                    if answer.is_ok() {
                        self.placed.insert(seat);
                    }
                    self.rendezvous.allocated(self.now, seat, answer);
                }
                Output::Release { seat } | Output::Abandon { seat } => {
                    assert!(
                        self.placed.remove(&seat),
                        "told of a place that it never gave, or twice: {seat:?}"
                    );
                }
                Output::Offer { .. } | Output::Probe { .. } | Output::Close { .. } => {}
            }
        }
        told
    }
}

fn allocated(pair: &Pair) -> ServerMessage {
    ServerMessage::Allocated { topic: pair.topic(), allocation: allocation() }
}

fn called(pair: &Pair) -> ServerMessage {
    ServerMessage::RelayCalled { topic: pair.topic() }
}

fn reason(told: &[(ConnectionId, ServerMessage)]) -> Option<(About, Reason, Option<Duration>)> {
    told.iter().find_map(|(_, message)| match message {
        ServerMessage::Refused { about, reason, retry_after, .. } => Some((*about, *reason, *retry_after)),
        _ => None,
    })
}

#[test]
fn the_other_side_is_called_until_it_has_a_place_too() {
    let (mut world, [low, high]) = (World::new(Some(open()), Limits::default()), pairs(1));
    let (a, b) = (world.joined(&low), world.joined(&high));
    assert_eq!(world.allocate(a, &low), [(a, allocated(&low)), (b, called(&low))]);
    assert_eq!(
        world.allocate(a, &low),
        [(a, allocated(&low)), (b, called(&low))],
        "a place is asked for again"
    );
    assert_eq!(world.allocate(b, &high), [(b, allocated(&high))]);
    assert_eq!(world.allocate(a, &low), [(a, allocated(&low))]);
    world.say(b, ClientMessage::Release { topic: low.topic() });
    assert_eq!(world.placed.len(), 1);
    assert_eq!(world.allocate(a, &low), [(a, allocated(&low)), (b, called(&low))], "it has none any more");
}

#[test]
fn who_joins_later_is_called_and_who_comes_back_too() {
    let (mut world, [low, high]) = (World::new(Some(open()), Limits::default()), pairs(1));
    let a = world.joined(&low);
    assert_eq!(world.allocate(a, &low), [(a, allocated(&low))]);
    let b = world.connect();
    let joined = ServerMessage::Joined { topic: low.topic() };
    assert_eq!(world.say(b, ClientMessage::join(&high)), [(b, joined.clone()), (b, called(&high))]);
    world.allocate(b, &high);
    assert_eq!(world.say(b, ClientMessage::join(&high)), [(b, joined.clone())], "it has a place");

    let again = world.connect();
    let told = world.say(again, ClientMessage::join(&high));
    assert!(
        told.contains(&(again, called(&high))),
        "a new connection needs a credential of its own: {told:?}"
    );
    assert_eq!(world.placed.len(), 1, "the relay knows that the old one is gone");
    world.disconnect(a);
    assert!(world.placed.is_empty());
}

#[test]
fn only_a_member_gets_a_place() {
    let (mut world, [low, high]) = (World::new(Some(open()), Limits::default()), pairs(1));
    let (a, b) = (world.connect(), world.joined(&high));
    let refused = world.allocate(a, &low);
    assert_eq!(reason(&refused), Some((About::Allocate(low.topic()), Reason::NotMember, None)));
    assert_eq!(refused.len(), 1, "nobody else hears of it");
    world.say(a, ClientMessage::Release { topic: low.topic() });
    assert_eq!(world.allocate(b, &high), [(b, allocated(&high))]);
    world.say(b, ClientMessage::Leave { topic: low.topic() });
    assert!(world.placed.is_empty(), "leaving gives the place back");
}

#[test]
fn a_relay_that_is_off_or_full_says_so() {
    let [low, _] = pairs(1);
    let mut off = World::new(None, Limits::default());
    let a = off.joined(&low);
    let told = off.allocate(a, &low);
    assert_eq!(reason(&told), Some((About::Allocate(low.topic()), Reason::Unsupported, None)));

    let mut full = World::new(Some(open()), Limits::default());
    let retry_after = Some(Duration::from_secs(7));
    full.full = Some(NoPlace { reason: Reason::Full, detail: "full", retry_after });
    let a = full.joined(&low);
    let told = full.allocate(a, &low);
    assert_eq!(reason(&told), Some((About::Allocate(low.topic()), Reason::Full, retry_after)));
}

#[test]
fn a_private_relay_asks_for_its_token() {
    let (mut world, [low, _]) = (World::new(Some(private()), Limits::default()), pairs(1));
    let a = world.joined(&low);
    let mut ask = |text: Option<&str>| {
        let access = text.map(|text| AccessToken::new(text.to_owned()).unwrap());
        world.say(a, ClientMessage::Allocate { topic: low.topic(), access })
    };
    let denied = Some((About::Allocate(low.topic()), Reason::Denied, None));
    assert_eq!(reason(&ask(None)), denied);
    assert_eq!(reason(&ask(Some("wrong"))), denied);
    assert_eq!(ask(Some(TOKEN)), [(a, allocated(&low))]);
}

#[test]
fn asking_too_often_is_told_with_a_time() {
    let mut limits = Limits::default();
    limits.per_address.allocates = Rate { burst: 2, every: Duration::from_secs(9) };
    let (mut world, [low, _]) = (World::new(Some(open()), limits), pairs(1));
    let a = world.joined(&low);
    assert_eq!(reason(&world.allocate(a, &low)), None);
    assert_eq!(reason(&world.allocate(a, &low)), None);
    let (about, reason_told, retry) = reason(&world.allocate(a, &low)).unwrap();
    assert_eq!((about, reason_told), (About::Allocate(low.topic()), Reason::RateLimited));
    world.now += retry.unwrap();
    assert_eq!(reason(&world.allocate(a, &low)), None);
}

#[derive(Debug, Clone)]
enum Act {
    Connect,
    Disconnect(usize),
    Join(usize, usize, usize),
    Leave(usize, usize),
    Publish(usize, usize),
    Allocate(usize, usize),
    Release(usize, usize),
    Full(bool),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let (who, pair) = (0..5_usize, 0..3_usize);
    prop_oneof![
        2 => Just(Act::Connect),
        1 => who.clone().prop_map(Act::Disconnect),
        6 => (who.clone(), pair.clone(), 0..2_usize).prop_map(|(who, pair, side)| Act::Join(who, pair, side)),
        1 => (who.clone(), pair.clone()).prop_map(|(who, pair)| Act::Leave(who, pair)),
        1 => (who.clone(), pair.clone()).prop_map(|(who, pair)| Act::Publish(who, pair)),
        6 => (who.clone(), pair.clone()).prop_map(|(who, pair)| Act::Allocate(who, pair)),
        1 => (who, pair).prop_map(|(who, pair)| Act::Release(who, pair)),
        1 => any::<bool>().prop_map(Act::Full),
        1 => (0..100_u64).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_relay_is_told_of_each_end_once_and_only_members_have_places(acts in prop::collection::vec(act(), 1..150)) {
        let keys: Vec<_> = (0..3).map(pairs).collect();
        let plenty = Rate { burst: 100_000, every: Duration::from_nanos(1) };
        let mut world = World::new(Some(open()), Limits { strikes: plenty, ..Limits::default() });
        let mut slots: [Option<ConnectionId>; 5] = [None; 5];
        let full = NoPlace { reason: Reason::Full, detail: "full", retry_after: None };
        for act in acts {
            let told = match act {
                Act::Connect => {
                    if world.connects < 250 && let Some(slot) = slots.iter().position(Option::is_none) {
                        slots[slot] = Some(world.connect());
                    }
                    Vec::new()
                }
                Act::Disconnect(who) => {
                    if let Some(id) = slots[who].take() { world.disconnect(id) }
                    Vec::new()
                }
                Act::Join(who, pair, side) => {
                    slots[who].map(|id| world.say(id, ClientMessage::join(&keys[pair][side]))).unwrap_or_default()
                }
                Act::Leave(who, pair) => {
                    let leave = ClientMessage::Leave { topic: keys[pair][0].topic() };
                    slots[who].map(|id| world.say(id, leave)).unwrap_or_default()
                }
                Act::Publish(who, pair) => {
                    let publish = ClientMessage::Publish { topic: keys[pair][0].topic(), sealed: vec![1] };
                    slots[who].map(|id| world.say(id, publish)).unwrap_or_default()
                }
                Act::Allocate(who, pair) => {
                    slots[who].map(|id| world.allocate(id, &keys[pair][0])).unwrap_or_default()
                }
                Act::Release(who, pair) => {
                    let release = ClientMessage::Release { topic: keys[pair][0].topic() };
                    slots[who].map(|id| world.say(id, release)).unwrap_or_default()
                }
                Act::Full(is) => {
                    world.full = is.then_some(full);
                    Vec::new()
                }
                Act::Pass(seconds) => {
                    world.now += Duration::from_secs(seconds);
                    world.rendezvous.handle_timeout(world.now);
                    world.told()
                }
            };
            for (to, message) in told {
                if let ServerMessage::RelayCalled { topic } = message {
                    let placed = world.placed.iter().any(|seat| seat.connection == to && seat.topic == topic);
                    prop_assert!(!placed, "called where it is already");
                }
            }
            let seats: HashSet<_> = world.placed.iter().map(|seat| (seat.topic, seat.side)).collect();
            prop_assert_eq!(seats.len(), world.placed.len(), "one connection for each side");
            prop_assert!(world.placed.iter().all(|seat| slots.contains(&Some(seat.connection))));
        }
        for id in slots.into_iter().flatten() {
            world.disconnect(id);
        }
        prop_assert!(world.placed.is_empty());
    }
}
