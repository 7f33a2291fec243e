//! Whatever can happen to a scheduler, as a list of steps, and what must hold after each. The fuzz target `scheduler`
//! plays such lists too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use wireplug_core::scheduler::{Input, Keepalive, Ranking, Unsendable, Verdict};
use wireplug_core::{Endpoint, Mapping, Proof, Reach, Tier};

use super::driver::{Driver, PEER, endpoint, name, offer, own, remote};

const PLACES: [&str; 4] =
    ["198.51.100.7:51820", "198.51.100.8:40001", "192.168.1.9:51820", "[2a00::7]:51820"];

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Pass(u64),
    Look {
        keepalive: u8,
        endpoint: Option<usize>,
        rx: u16,
        tx: u16,
    },
    Handshake(usize),
    Offer {
        instance: u64,
        revision: u32,
        places: Vec<usize>,
    },
    Asked {
        place: usize,
        tier: u8,
        nominated: bool,
    },
    Answer(usize),
    Found {
        place: usize,
        proven: bool,
    },
    Lost(usize),
    Suggested(usize),
    Withdrawn(usize),
    Judged(usize, u8),
    Unsendable(usize, bool),
    NetworkChanged,
    Server(bool),
    RoundTrip(u16),
    RelayCalled,
    Mapping(u8),
    /// Which strategies are enabled, one bit each.
    Ranked(u8),
    LastGood(Vec<usize>),
    Slept(u16),
}

/// A step as it is written: what happens, and five bytes more to say how.
pub(crate) type Written = [u8; 6];

/// Any list of steps.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<Written>().prop_map(Step::read), 1..60)
}

impl Step {
    /// Any six bytes are a step; the widths of the ranges say how often each kind comes.
    pub(crate) fn read([kind, at, how, x, y, z]: Written) -> Self {
        let place = usize::from(at) % PLACES.len();
        let any_place = |byte: u8| usize::from(byte) % PLACES.len();
        match kind % 40 {
            0..6 => Self::Pass(u64::from(u16::from_be_bytes([at, how])) % 20_000),
            6..9 => Self::Look {
                keepalive: how % 3,
                endpoint: (at < 200).then_some(place),
                rx: u16::from_be_bytes([x, y]),
                tx: u16::from_be_bytes([y, z]),
            },
            9 => Self::Handshake(place),
            10..13 => Self::Offer {
                instance: u64::from(at % 4),
                revision: u32::from(at / 4 % 8),
                places: [x, y, z].into_iter().take(usize::from(how % 4)).map(any_place).collect(),
            },
            13..16 => Self::Asked { place, tier: how % 6, nominated: x % 2 == 1 },
            16..21 => Self::Answer(place),
            21..23 => Self::Found { place, proven: how % 2 == 1 },
            23 => Self::Lost(place),
            24 => Self::Judged(place, how % 4),
            25 => Self::Unsendable(place, how % 2 == 1),
            26 => Self::NetworkChanged,
            27..29 => Self::Server(at % 2 == 1),
            29 => Self::RelayCalled,
            30..33 => Self::Suggested(place),
            33 => Self::Withdrawn(place),
            34 => Self::RoundTrip(u16::from_be_bytes([at, how])),
            35 => Self::Mapping(at % 4),
            36 => Self::Ranked(at),
            37..39 => {
                Self::LastGood([x, y, z].into_iter().take(usize::from(how % 4)).map(any_place).collect())
            }
            _ => Self::Slept(u16::from_be_bytes([at, how]) % 20_000),
        }
    }
}

/// What may be set: what was proven, and while no server is there, as was said, what is remembered and what the device had.
#[derive(Debug, Default)]
struct Allowed {
    proven: BTreeSet<Endpoint>,
    remembered: BTreeSet<Endpoint>,
    server_is_away: bool,
}

impl Allowed {
    fn note(&mut self, step: &Step, driver: &Driver) {
        if let Step::Server(up) = step {
            self.server_is_away = !up;
        }
        if let Step::LastGood(places) = step {
            self.remembered.extend(places.iter().map(|place| endpoint(PLACES[*place])));
        }
        if let Step::Look { endpoint: Some(place), .. } = step {
            self.remembered.insert(endpoint(PLACES[*place]));
        }
        if let Step::Answer(place) = step {
            let asked = driver.checks.iter().map(|check| check.to);
            self.proven.extend(asked.filter(|to| *to == endpoint(PLACES[*place])));
        }
    }

    fn allows(&self, applied: Endpoint) -> bool {
        self.proven.contains(&applied) || self.server_is_away && self.remembered.contains(&applied)
    }
}

/// Plays steps, and says what did not hold: nothing unproven is applied but what is remembered when no server is there, and
/// nothing spins.
pub(crate) fn play(mut driver: Driver, steps: Vec<Step>) -> Result<(), TestCaseError> {
    driver.look();
    let mut allowed = Allowed::default();
    for step in steps {
        let before = driver.applied().len();
        let checks = driver.checks.len();
        let passed = if let Step::Pass(ms) = &step { *ms } else { 0 };
        allowed.note(&step, &driver);
        take(&mut driver, step);
        for applied in &driver.applied()[before..] {
            prop_assert!(allowed.allows(*applied), "{applied} was never proven");
        }
        // Four places, at most 20 checks a second each at the very quickest.
        let sent = (driver.checks.len() - checks) as u64;
        prop_assert!(sent <= 12 + 4 * (8 + passed / 50), "{sent} checks in {passed} ms");
        if let Some((at, why)) = driver.scheduler.poll_timeout() {
            prop_assert!(at > driver.now, "it wants to be woken in the past, for {why}");
        }
    }
    Ok(())
}

fn take(driver: &mut Driver, step: Step) {
    let generation = driver.scheduler.generation();
    let tiers = [
        ("lan-mdns", Tier::Lan),
        ("direct", Tier::Direct),
        ("hole-punch", Tier::Punched),
        ("relay", Tier::Relay),
    ];
    match step {
        Step::Pass(ms) => driver.pass(Duration::from_millis(ms)),
        Step::Look { keepalive, endpoint: at, rx, tx } => {
            driver.view.keepalive = match keepalive {
                0 => Keepalive::Off,
                1 => Keepalive::Ours(25),
                _ => Keepalive::Theirs(25),
            };
            driver.view.endpoint = at.map(|place| endpoint(PLACES[place]));
            driver.view.rx_bytes = u64::from(rx);
            driver.view.tx_bytes = u64::from(tx);
            driver.look();
        }
        Step::Handshake(place) => driver.handshake(PLACES[place]),
        Step::Offer { instance, revision, places } => {
            let candidates =
                places.iter().map(|place| remote(PLACES[*place], tiers[*place].0, tiers[*place].1));
            driver.take(Input::OfferArrived {
                peer: PEER,
                offer: offer(instance, revision, candidates.collect()),
            });
        }
        Step::Asked { place, tier, nominated } => {
            driver.asked(PLACES[place], Tier::from_number(tier).unwrap(), nominated);
        }
        Step::Answer(place) => {
            let at = endpoint(PLACES[place]);
            if driver.checks.iter().any(|check| check.to == at) {
                driver.answer(PLACES[place]);
            }
        }
        Step::Found { place, proven } => {
            let proof = if proven { Proof::Done(Reach::Filtered) } else { Proof::Server };
            let candidate = own(PLACES[place], tiers[place].0, tiers[place].1, proof);
            driver.take(Input::Found { generation, candidate });
        }
        Step::Lost(place) => {
            let strategy = name(tiers[place].0);
            driver.take(Input::Lost { generation, strategy, endpoint: endpoint(PLACES[place]) });
        }
        // The strategy that knows places of peers and never has one tried unproven.
        Step::Suggested(place) => {
            let candidate = remote(PLACES[place], "relay", Tier::Relay);
            driver.take(Input::Suggested { generation, peer: PEER, candidate });
        }
        Step::Withdrawn(place) => {
            let endpoint = endpoint(PLACES[place]);
            driver.take(Input::Withdrawn { generation, peer: PEER, strategy: name("relay"), endpoint });
        }
        Step::RelayCalled => driver.take(Input::RelayCalled { peer: PEER }),
        Step::RoundTrip(ms) => driver.take(Input::ServerRoundTrip(Duration::from_millis(ms.into()))),
        Step::Judged(place, verdict) => {
            let verdict = match verdict {
                0 => Verdict::Open,
                1 => Verdict::Filtered,
                2 => Verdict::Unknown,
                _ => Verdict::Wrong { why: "a test".to_owned() },
            };
            driver.take(Input::Verdict { generation, endpoint: endpoint(PLACES[place]), verdict });
        }
        Step::Unsendable(place, tunnel) => {
            let why = if tunnel { Unsendable::ThroughTunnel } else { Unsendable::NoRoute };
            driver.take(Input::Unsendable { peer: PEER, to: endpoint(PLACES[place]), why });
        }
        Step::NetworkChanged => driver.take(Input::NetworkChanged),
        Step::Server(true) => driver.take(Input::ServerUp),
        Step::Server(false) => driver.take(Input::ServerDown { why: "a test".to_owned() }),
        Step::Ranked(enabled) => {
            let is_on = |number: usize| enabled & 1 << number != 0;
            let all = tiers.iter().map(|(one, tier)| (name(one), *tier)).enumerate();
            let (on, off): (Vec<_>, Vec<_>) = all.partition(|(number, _)| is_on(*number));
            let order = on.into_iter().map(|(_, one)| one).collect();
            let ranking = Ranking::new(order, off.into_iter().map(|(_, (one, _))| one).collect());
            driver.take(Input::Ranked { ranking, peers: BTreeMap::new() });
        }
        Step::LastGood(places) => {
            let candidates =
                places.iter().map(|place| remote(PLACES[*place], tiers[*place].0, tiers[*place].1));
            driver.take(Input::LastGood { peer: PEER, candidates: candidates.collect() });
        }
        Step::Slept(ms) => driver.take(Input::Slept(Duration::from_millis(ms.into()))),
        Step::Mapping(mapping) => {
            driver.take(Input::Mapping { generation, mapping: Mapping::from_number(mapping) });
        }
    }
}
