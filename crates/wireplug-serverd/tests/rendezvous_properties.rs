//! Whatever clients do, in whatever order: offers reach the other side of their own pair and nobody else, and
//! memory stays within the limits.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

mod common;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::pairs;
use proptest::prelude::*;
use wireplug_core::Endpoint;
use wireplug_proto::rendezvous::{ClientMessage, FrameError};
use wireplug_proto::{Pair, Side, Topic};
use wireplug_serverd::limits::{Limits, Rate, Rates};
use wireplug_serverd::rendezvous::{ConnectionId, Output, ProbeSource, Rendezvous};

const PAIRS: usize = 4;
static KEYS: LazyLock<Vec<[Pair; 2]>> = LazyLock::new(|| (0..4).map(pairs).collect());

#[derive(Debug, Clone)]
enum Act {
    Connect {
        address: u8,
    },
    Disconnect {
        who: usize,
    },
    Join {
        who: usize,
        pair: usize,
        side: usize,
    },
    /// With one pair's tokens into another's topic.
    Intrude {
        who: usize,
        pair: usize,
        side: usize,
        topic: usize,
    },
    Leave {
        who: usize,
        pair: usize,
    },
    Publish {
        who: usize,
        pair: usize,
        len: usize,
    },
    Verify {
        who: usize,
        address: u8,
    },
    Stun {
        address: u8,
        token: u8,
    },
    Junk {
        who: usize,
    },
    Pass {
        seconds: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..6_usize;
    let pair = 0..PAIRS;
    let side = 0..2_usize;
    prop_oneof![
        3 => any::<u8>().prop_map(|address| Act::Connect { address: address % 5 }),
        1 => who.clone().prop_map(|who| Act::Disconnect { who }),
        6 => (who.clone(), pair.clone(), side.clone()).prop_map(|(who, pair, side)| Act::Join { who, pair, side }),
        1 => (who.clone(), pair.clone(), side, pair.clone())
            .prop_map(|(who, pair, side, topic)| Act::Intrude { who, pair, side, topic }),
        1 => (who.clone(), pair.clone()).prop_map(|(who, pair)| Act::Leave { who, pair }),
        6 => (who.clone(), pair, 3..100_usize).prop_map(|(who, pair, len)| Act::Publish { who, pair, len }),
        1 => (who.clone(), 0..5_u8).prop_map(|(who, address)| Act::Verify { who, address }),
        1 => (0..50_u8, any::<u8>()).prop_map(|(address, token)| Act::Stun { address, token }),
        1 => who.prop_map(|who| Act::Junk { who }),
        2 => (0..100_u64).prop_map(|seconds| Act::Pass { seconds }),
    ]
}

fn ip(address: u8) -> IpAddr {
    [198, 51, 100, address].into()
}

fn endpoint(address: u8) -> Endpoint {
    Endpoint::new((ip(address), 51820).into()).unwrap()
}

const fn index(side: Side) -> usize {
    side as usize
}

/// What should be so, kept in the plainest way.
#[derive(Default)]
struct Model {
    holders: HashMap<(Topic, usize), ConnectionId>,
    offers: HashMap<(Topic, usize), (Vec<u8>, Option<Instant>)>,
}

impl Model {
    fn let_go(&mut self, now: Instant, who: ConnectionId, only: Option<Topic>) {
        let ttl = Limits::default().offer_ttl;
        let held: Vec<_> = self
            .holders
            .iter()
            .filter(|((topic, _), holder)| **holder == who && only.is_none_or(|only| only == *topic))
            .map(|(seat, _)| *seat)
            .collect();
        for seat in held {
            self.holders.remove(&seat);
            if let Some((_, until)) = self.offers.get_mut(&seat) {
                until.get_or_insert(now + ttl);
            }
        }
    }

    fn side_of(&self, who: ConnectionId, topic: Topic) -> Option<usize> {
        (0..2).find(|side| self.holders.get(&(topic, *side)) == Some(&who))
    }

    fn offer(&self, now: Instant, topic: Topic, side: usize) -> Option<Vec<u8>> {
        let (sealed, until) = self.offers.get(&(topic, side))?;
        until.is_none_or(|until| until > now).then(|| sealed.clone())
    }
}

fn sources() -> Vec<ProbeSource> {
    vec![ProbeSource { socket: 1, local: "192.0.2.2:4001".parse().unwrap() }]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn offers_reach_the_other_side_of_their_pair_and_nobody_else(acts in prop::collection::vec(act(), 1..120)) {
        let plenty = Rate { burst: 100_000, every: Duration::from_nanos(1) };
        let rates = Rates { messages: plenty, joins: plenty, publishes: plenty, verifies: plenty, allocates: plenty };
        let limits = Limits {
            connects: plenty, strikes: plenty, per_connection: rates.clone(), per_address: rates, ..Limits::default()
        };
        let mut rendezvous = Rendezvous::new(limits, Vec::new(), sources());
        let (mut model, mut now, mut slots) = (Model::default(), Instant::now(), [None; 6]);
        let mut serial = 0_u32;
        for act in acts {
            let mut expected: Vec<(ConnectionId, Topic, Vec<u8>)> = Vec::new();
            match act {
                Act::Connect { address } => {
                    if let Some(slot) = slots.iter_mut().find(|slot| slot.is_none()) {
                        serial += 1;
                        let mut token = [0; 16];
                        token[..4].copy_from_slice(&serial.to_be_bytes());
                        *slot = Some(rendezvous.connect(now, ip(address), token).unwrap());
                    }
                }
                Act::Disconnect { who } => if let Some(id) = slots[who].take() {
                    rendezvous.disconnect(now, id);
                    model.let_go(now, id, None);
                },
                Act::Join { who, pair, side } => if let Some(id) = slots[who] {
                    let pair = &KEYS[pair][side];
                    let (topic, side) = (pair.topic(), index(pair.side()));
                    rendezvous.message(now, id, ClientMessage::join(pair));
                    if model.side_of(id, topic).is_none_or(|held| held == side) {
                        if let Some(old) = model.holders.get(&(topic, side)).copied().filter(|old| *old != id) {
                            model.let_go(now, old, Some(topic));
                        }
                        model.holders.insert((topic, side), id);
                        expected.extend(model.offer(now, topic, 1 - side).map(|sealed| (id, topic, sealed)));
                    }
                },
                Act::Intrude { who, pair, side, topic } => if let Some(id) = slots[who] {
                    let forged = match ClientMessage::join(&KEYS[pair][side]) {
                        ClientMessage::Join { side, token, other_commitment, .. } if topic != pair => {
                            ClientMessage::Join { topic: KEYS[topic][0].topic(), side, token, other_commitment }
                        }
                        ClientMessage::Join { topic, side, token, other_commitment } => {
                            ClientMessage::Join { topic, side: side.other(), token, other_commitment }
                        }
                        other => other,
                    };
                    rendezvous.message(now, id, forged);
                },
                Act::Leave { who, pair } => if let Some(id) = slots[who] {
                    let topic = KEYS[pair][0].topic();
                    rendezvous.message(now, id, ClientMessage::Leave { topic });
                    if let Some(side) = model.side_of(id, topic) {
                        model.holders.remove(&(topic, side));
                        model.offers.remove(&(topic, side));
                    }
                },
                Act::Publish { who, pair, len } => if let Some(id) = slots[who] {
                    let topic = KEYS[pair][0].topic();
                    serial += 1;
                    let mut sealed = serial.to_be_bytes().to_vec();
                    sealed.resize(len.max(4), 0);
                    rendezvous.message(now, id, ClientMessage::Publish { topic, sealed: sealed.clone() });
                    if let Some(side) = model.side_of(id, topic) {
                        model.offers.insert((topic, side), (sealed.clone(), None));
                        expected.extend(model.holders.get(&(topic, 1 - side)).map(|to| (*to, topic, sealed)));
                    }
                },
                Act::Verify { who, address } => if let Some(id) = slots[who] {
                    let verify = ClientMessage::Verify { id: 1, endpoint: endpoint(address), nonce: [0; 16] };
                    rendezvous.message(now, id, verify);
                },
                Act::Stun { address, token } => {
                    let mut shown = [0; 16];
                    shown[3] = token;
                    rendezvous.heard(now, endpoint(address).addr(), "192.0.2.1:3478".parse().unwrap(), Some(shown));
                }
                Act::Junk { who } => if let Some(id) = slots[who] {
                    rendezvous.malformed(now, id, &FrameError::Malformed(String::new()));
                },
                Act::Pass { seconds } => {
                    now += Duration::from_secs(seconds);
                    rendezvous.handle_timeout(now);
                }
            }
            let delivered: Vec<_> = std::iter::from_fn(|| rendezvous.poll_output())
                .filter_map(|output| match output {
                    Output::Offer { to, topic, sealed } => Some((to, topic, sealed.to_vec())),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(delivered, expected);
            prop_assert_eq!(rendezvous.counts().topics > 0, rendezvous.counts().seats > 0);
        }
    }

    #[test]
    fn memory_stays_within_the_limits_and_is_given_back(acts in prop::collection::vec(act(), 1..300)) {
        let few = Rate { burst: 20, every: Duration::from_secs(1) };
        let rates = Rates { messages: few, joins: few, publishes: few, verifies: few, allocates: few };
        let limits = Limits {
            connections: 4,
            connections_per_address: 2,
            addresses: 4,
            topics: 2,
            topics_per_connection: 2,
            topics_per_address: 3,
            offer_bytes: 150,
            sources: 8,
            per_connection: rates.clone(),
            per_address: rates,
            connects: few,
            ..Limits::default()
        };
        let mut rendezvous = Rendezvous::new(limits.clone(), Vec::new(), sources());
        let (mut now, mut slots, mut serial) = (Instant::now(), [None; 6], 0_u8);
        for act in acts {
            match act {
                Act::Connect { address } => {
                    serial = serial.wrapping_add(1);
                    let slot = usize::from(serial % 6);
                    if slots[slot].is_none() {
                        slots[slot] = rendezvous.connect(now, ip(address), [serial; 16]).ok();
                    }
                }
                Act::Disconnect { who } => if let Some(id) = slots[who].take() { rendezvous.disconnect(now, id) },
                Act::Join { who, pair, side } | Act::Intrude { who, pair, side, .. } => {
                    if let Some(id) = slots[who] {
                        rendezvous.message(now, id, ClientMessage::join(&KEYS[pair][side]));
                    }
                }
                Act::Leave { who, pair } => if let Some(id) = slots[who] {
                    rendezvous.message(now, id, ClientMessage::Leave { topic: KEYS[pair][0].topic() });
                },
                Act::Publish { who, pair, len } => if let Some(id) = slots[who] {
                    let topic = KEYS[pair][0].topic();
                    rendezvous.message(now, id, ClientMessage::Publish { topic, sealed: vec![0; len] });
                },
                Act::Verify { who, address } => if let Some(id) = slots[who] {
                    let verify = ClientMessage::Verify { id: 1, endpoint: endpoint(address), nonce: [0; 16] };
                    rendezvous.message(now, id, verify);
                },
                Act::Stun { address, token } => {
                    let to = "192.0.2.1:3478".parse().unwrap();
                    rendezvous.heard(now, endpoint(address).addr(), to, Some([token; 16]));
                }
                Act::Junk { who } => if let Some(id) = slots[who] {
                    rendezvous.malformed(now, id, &FrameError::TooLarge(9999));
                },
                Act::Pass { seconds } => {
                    now += Duration::from_secs(seconds);
                    rendezvous.handle_timeout(now);
                }
            }
            while let Some(output) = rendezvous.poll_output() {
                if let Output::Close { connection, .. } = output {
                    slots.iter_mut().filter(|slot| **slot == Some(connection)).for_each(|slot| *slot = None);
                }
            }
            let counts = rendezvous.counts();
            prop_assert!(counts.connections <= limits.connections);
            prop_assert!(counts.accounts <= limits.addresses);
            prop_assert!(counts.topics <= limits.topics);
            prop_assert!(counts.seats <= 2 * counts.topics);
            prop_assert!(counts.expiring <= 2 * counts.topics);
            prop_assert!(counts.offer_bytes <= limits.offer_bytes);
            prop_assert!(counts.contacts <= limits.sources);
        }
        for id in slots.into_iter().flatten() {
            rendezvous.disconnect(now, id);
        }
        while let Some((at, _)) = rendezvous.poll_timeout() {
            now = now.max(at);
            rendezvous.handle_timeout(now);
        }
        let counts = rendezvous.counts();
        prop_assert_eq!(
            (counts.connections, counts.topics, counts.seats, counts.offer_bytes, counts.expiring, counts.accounts),
            (0, 0, 0, 0, 0, 0)
        );
    }
}
