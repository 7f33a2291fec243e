//! The rendezvous by itself, on virtual time: what each message does, and what limits do.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::pairs;
use wireplug_core::Endpoint;
use wireplug_proto::Pair;
use wireplug_proto::rendezvous::{About, ClientMessage, FrameError, Reason, ServerMessage};
use wireplug_serverd::limits::{Limits, Rate};
use wireplug_serverd::rendezvous::{ConnectError, ConnectionId, Counts, Output, ProbeSource, Rendezvous};

const HOME: &str = "198.51.100.7";
const OFFICE: &str = "203.0.113.9";

struct World {
    rendezvous: Rendezvous,
    now: Instant,
    tokens: u8,
}

impl World {
    fn new(limits: Limits) -> Self {
        let source = |socket, local: &str| ProbeSource { socket, local: local.parse().unwrap() };
        let sources = vec![source(4, "192.0.2.1:4000"), source(5, "192.0.2.2:4001")];
        let stun = vec!["192.0.2.1:3478".parse().unwrap()];
        Self { rendezvous: Rendezvous::new(limits, stun, sources), now: Instant::now(), tokens: 0 }
    }

    fn try_connect(&mut self, ip: &str) -> Result<ConnectionId, ConnectError> {
        self.tokens += 1;
        let id = self.rendezvous.connect(self.now, ip.parse().unwrap(), [self.tokens; 16])?;
        let hello = self.outputs();
        assert!(
            matches!(&hello[..], [Output::Send { to, message: ServerMessage::Hello { .. } }] if *to == id),
            "{hello:?}"
        );
        Ok(id)
    }

    fn connect(&mut self, ip: &str) -> ConnectionId {
        self.try_connect(ip).unwrap()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.rendezvous.poll_output()).collect()
    }

    fn say(&mut self, from: ConnectionId, message: ClientMessage) -> Vec<Output> {
        self.rendezvous.message(self.now, from, message);
        self.outputs()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.rendezvous.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.rendezvous.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn counts(&self) -> Counts {
        self.rendezvous.counts()
    }
}

fn publish(pair: &Pair, sealed: &[u8]) -> ClientMessage {
    ClientMessage::Publish { topic: pair.topic(), sealed: sealed.to_vec() }
}

fn joined(to: ConnectionId, pair: &Pair) -> Output {
    Output::Send { to, message: ServerMessage::Joined { topic: pair.topic() } }
}

fn offer(to: ConnectionId, pair: &Pair, sealed: &[u8]) -> Output {
    Output::Offer { to, topic: pair.topic(), sealed: sealed.into() }
}

fn refusal(outputs: &[Output]) -> Option<(ConnectionId, About, Reason, Option<Duration>)> {
    outputs.iter().find_map(|output| match output {
        Output::Send { to, message: ServerMessage::Refused { about, reason, retry_after, .. } } => {
            Some((*to, *about, *reason, *retry_after))
        }
        _ => None,
    })
}

#[test]
fn an_offer_is_pushed_at_once_and_to_who_joins_later() {
    let (mut world, [low, high]) = (World::new(Limits::default()), pairs(1));
    let (a, b) = (world.connect(HOME), world.connect(OFFICE));
    assert_eq!(world.say(a, ClientMessage::join(&low)), [joined(a, &low)]);
    assert_eq!(world.say(a, publish(&low, b"one")), []);
    assert_eq!(world.say(b, ClientMessage::join(&high)), [joined(b, &high), offer(b, &high, b"one")]);
    assert_eq!(world.say(a, publish(&low, b"two")), [offer(b, &high, b"two")]);
    assert_eq!(world.say(b, publish(&high, b"back")), [offer(a, &low, b"back")]);
}

#[test]
fn an_offer_outlives_its_connection_for_a_while_and_a_leave_not_at_all() {
    let (mut world, [low, high]) = (World::new(Limits::default()), pairs(1));
    let (a, b) = (world.connect(HOME), world.connect(OFFICE));
    world.say(a, ClientMessage::join(&low));
    world.say(a, publish(&low, b"one"));
    world.pass(Duration::from_secs(3600));
    world.rendezvous.disconnect(world.now, a);
    world.pass(Duration::from_secs(119));
    assert_eq!(world.say(b, ClientMessage::join(&high)).len(), 2, "still there");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.say(b, ClientMessage::join(&high)), [joined(b, &high)], "expired");

    let a = world.connect(HOME);
    world.say(a, ClientMessage::join(&low));
    world.say(a, publish(&low, b"two"));
    world.say(a, ClientMessage::Leave { topic: low.topic() });
    assert_eq!(world.say(b, ClientMessage::join(&high)), [joined(b, &high)], "withdrawn");
    let gone = world.say(a, publish(&low, b"three"));
    assert_eq!(refusal(&gone).map(|it| it.2), Some(Reason::NotMember));
}

#[test]
fn a_newer_connection_takes_a_side_over_with_what_it_said() {
    let (mut world, [low, high]) = (World::new(Limits::default()), pairs(1));
    let (old, new, b) = (world.connect(HOME), world.connect(OFFICE), world.connect(OFFICE));
    world.say(old, ClientMessage::join(&low));
    world.say(old, publish(&low, b"one"));
    let outputs = world.say(new, ClientMessage::join(&low));
    assert_eq!(refusal(&outputs), Some((old, About::Join(low.topic()), Reason::NotMember, None)));
    assert!(outputs.contains(&joined(new, &low)));
    assert_eq!(refusal(&world.say(old, publish(&low, b"late"))).map(|it| it.2), Some(Reason::NotMember));
    assert_eq!(world.say(b, ClientMessage::join(&high)), [joined(b, &high), offer(b, &high, b"one")]);
    world.rendezvous.disconnect(world.now, old);
    assert_eq!(
        world.say(b, publish(&high, b"back")),
        [offer(new, &low, b"back")],
        "the old one's end changes nothing"
    );
    world.pass(Duration::from_secs(121));
    assert_eq!(world.say(b, ClientMessage::join(&high)), [joined(b, &high)], "said by one that is gone");
}

#[test]
fn only_who_knows_the_secret_may_join() {
    let (mut world, [low, high]) = (World::new(Limits::default()), pairs(1));
    let [other, _] = pairs(2);
    let a = world.connect(HOME);
    let ClientMessage::Join { topic, side, token, other_commitment } = ClientMessage::join(&low) else {
        unreachable!()
    };
    for forged in [
        ClientMessage::Join { topic: other.topic(), side, token: token.clone(), other_commitment },
        ClientMessage::Join { topic, side: side.other(), token: token.clone(), other_commitment },
        ClientMessage::Join { topic, side, token: other.token().clone(), other_commitment },
        ClientMessage::Join { topic, side, token, other_commitment: other.other_commitment() },
    ] {
        assert_eq!(refusal(&world.say(a, forged)).map(|it| it.2), Some(Reason::NotMember));
    }
    assert_eq!(refusal(&world.say(a, publish(&low, b"x"))).map(|it| it.2), Some(Reason::NotMember));
    assert_eq!(world.counts().topics, 0);
    world.say(a, ClientMessage::join(&low));
    let both = world.say(a, ClientMessage::join(&high));
    assert_eq!(refusal(&both).map(|it| it.2), Some(Reason::Unsupported), "one connection, one side");
}

#[test]
fn a_probe_needs_the_address_and_comes_from_elsewhere() {
    let mut world = World::new(Limits::default());
    let a = world.connect(HOME);
    let endpoint = Endpoint::new(format!("{HOME}:51820").parse().unwrap()).unwrap();
    let verify = |endpoint| ClientMessage::Verify { id: 3, endpoint, nonce: [8; 16] };
    assert_eq!(refusal(&world.say(a, verify(endpoint))), Some((a, About::Verify(3), Reason::NotYours, None)));

    let stun = "192.0.2.1:3478".parse().unwrap();
    world.rendezvous.heard(world.now, endpoint.addr(), stun, Some([99; 16]));
    assert!(refusal(&world.say(a, verify(endpoint))).is_some(), "another's token");
    world.rendezvous.heard(world.now, endpoint.addr(), stun, Some([world.tokens; 16]));
    let outputs = world.say(a, verify(endpoint));
    let [Output::Probe { by, id: 3, endpoint: to, nonce, from }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((*by, *to, *nonce), (a, endpoint, [8; 16]));
    assert_eq!((from.socket, from.source), (5, "192.0.2.2".parse().unwrap()), "never sent to");

    let elsewhere = Endpoint::new(format!("{OFFICE}:51820").parse().unwrap()).unwrap();
    assert_eq!(refusal(&world.say(a, verify(elsewhere))).map(|it| it.2), Some(Reason::NotYours));

    // Now it sends to the second address too, without its token: only a port is left to vary.
    world.rendezvous.heard(world.now, endpoint.addr(), "192.0.2.2:3478".parse().unwrap(), None);
    let outputs = world.say(a, verify(endpoint));
    assert!(matches!(outputs[..], [Output::Probe { from, .. }] if from.socket == 4), "{outputs:?}");
}

#[test]
fn what_is_too_much_is_told_with_a_time_and_then_closed() {
    let mut limits = Limits::default();
    limits.per_connection.joins = Rate { burst: 2, every: Duration::from_secs(10) };
    limits.strikes = Rate { burst: 3, every: Duration::from_secs(100) };
    let mut world = World::new(limits);
    let a = world.connect(HOME);
    let joins: Vec<_> = (0..6).map(|n| ClientMessage::join(&pairs(n)[0])).collect();
    assert!(refusal(&world.say(a, joins[0].clone())).is_none());
    assert!(refusal(&world.say(a, joins[1].clone())).is_none());
    let (_, about, reason, retry) = refusal(&world.say(a, joins[2].clone())).unwrap();
    assert_eq!((about, reason), (About::Join(pairs(2)[0].topic()), Reason::RateLimited));
    world.now += retry.unwrap();
    assert!(refusal(&world.say(a, joins[2].clone())).is_none(), "after the time told it works");
    world.say(a, joins[3].clone());
    world.say(a, joins[4].clone());
    let outputs = world.say(a, joins[5].clone());
    assert!(outputs.iter().any(|it| matches!(it, Output::Close { connection, .. } if *connection == a)));
    assert_eq!(world.say(a, joins[5].clone()), [], "it is gone");
    assert_eq!(world.counts().connections, 0);
}

#[test]
fn an_address_cannot_escape_its_limits_by_connecting_again() {
    let limits = Limits {
        connections_per_address: 3,
        topics_per_address: 2,
        connects: Rate { burst: 4, every: Duration::from_secs(60) },
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let v6 = |last: u8| format!("2a00:1:2:3::{last}");
    let ids: Vec<_> = (0..3).map(|last| world.connect(&v6(last))).collect();
    assert_eq!(world.try_connect(&v6(9)), Err(ConnectError::Full { own: true }));
    world.connect(HOME);
    for (n, id) in ids.iter().enumerate() {
        let outputs = world.say(*id, ClientMessage::join(&pairs(u8::try_from(n).unwrap())[0]));
        assert_eq!(refusal(&outputs).map(|it| it.2), (n == 2).then_some(Reason::Full));
    }
    world.rendezvous.disconnect(world.now, ids[0]);
    world.connect(&v6(9));
    world.rendezvous.disconnect(world.now, ids[1]);
    assert!(matches!(world.try_connect(&v6(9)), Err(ConnectError::TooOften { .. })));
}

#[test]
fn junk_is_told_a_few_times_and_then_closed() {
    let mut world = World::new(Limits::default());
    let a = world.connect(HOME);
    let error = FrameError::Malformed("junk".into());
    let closed = (0..100).position(|_| {
        world.rendezvous.malformed(world.now, a, &error);
        let outputs = world.outputs();
        assert_eq!(refusal(&outputs).map(|it| it.2), Some(Reason::Malformed));
        outputs.iter().any(|it| matches!(it, Output::Close { .. }))
    });
    assert!(closed.is_some_and(|at| at <= 10), "{closed:?}");
}

#[test]
fn kinds_of_later_versions_are_told_to_be_unsupported_and_pings_are_answered() {
    let mut world = World::new(Limits::default());
    let a = world.connect(HOME);
    assert_eq!(refusal(&world.say(a, ClientMessage::Unknown)).map(|it| it.2), Some(Reason::Unsupported));
    let pong = Output::Send { to: a, message: ServerMessage::Pong { id: 5 } };
    assert_eq!(world.say(a, ClientMessage::Ping { id: 5 }), [pong]);
}

#[test]
fn when_all_are_gone_nothing_is_left() {
    let (mut world, [low, high]) = (World::new(Limits::default()), pairs(1));
    let (a, b) = (world.connect(HOME), world.connect(OFFICE));
    for (id, pair) in [(a, &low), (b, &high)] {
        world.say(id, ClientMessage::join(pair));
        world.say(id, publish(pair, b"offer"));
        let from = (IpAddr::from([192, 0, 2, 77]), 9).into();
        world.rendezvous.heard(world.now, from, "192.0.2.1:3478".parse().unwrap(), None);
    }
    world.rendezvous.disconnect(world.now, a);
    world.rendezvous.disconnect(world.now, b);
    assert_eq!((world.counts().topics, world.counts().expiring), (1, 2));
    world.pass(Duration::from_secs(3600));
    let counts = world.counts();
    assert_eq!(Counts { published: 0, refused: 0, probes: 0, ..counts }, Counts::default());
    assert_eq!(world.rendezvous.poll_timeout(), None, "nothing to wake up for");
}
