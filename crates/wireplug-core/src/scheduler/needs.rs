//! What each peer needs of the event loop, and what all of them together do: counted, so that nobody has to ask each peer
//! after each event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::effort::Effort;
use super::peer::Peer;
use super::tuning::{POLL_CONFIRMING, POLL_SETTLED, POLL_WORKING};
use super::tunnel::Tunnel;
use crate::{Mapping, PublicKey};

/// When a peer is to be looked at again, and why.
pub(super) type Due = (Instant, &'static str);

/// What one peer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    round: Option<Round>,
    /// A round is under way, and the peer's NAT is destination-dependent.
    mapping: bool,
    /// How long to wait between two looks at the device.
    device_poll: Duration,
}

/// A round that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Working,
    /// Nothing is sent yet.
    Listening,
}

/// What all peers need.
#[derive(Debug, Default)]
pub(super) struct AllNeeds {
    due: BTreeSet<(Instant, PublicKey)>,
    working: usize,
    listening: usize,
    mapping: usize,
    /// How many peers want each pause. It has one of a few values.
    device_polls: BTreeMap<Duration, usize>,
}

impl Needs {
    /// Those of a peer of which nothing is known yet.
    pub(super) const NONE: Self = Self { round: None, mapping: false, device_poll: POLL_SETTLED };
}

impl Peer {
    pub(super) fn needs(&self) -> Needs {
        let round = match self.effort {
            Effort::Round(_) if self.is_listening() => Some(Round::Listening),
            Effort::Round(_) => Some(Round::Working),
            Effort::Rest | Effort::Pause { .. } => None,
        };
        let (awaiting, at_most) = match &self.tunnel {
            Tunnel::Trying(_) => (true, POLL_SETTLED),
            Tunnel::Down => (round.is_some() && self.paths.any_is_proven(), POLL_SETTLED),
            Tunnel::Up(up) => (up.is_holding(), up.poll()),
        };
        let poll = match (awaiting, round) {
            (true, _) => POLL_CONFIRMING,
            (false, Some(_)) => POLL_WORKING,
            (false, None) => POLL_SETTLED,
        };
        Needs {
            round,
            mapping: round.is_some() && self.their_mapping() == Mapping::DestinationDependent,
            device_poll: poll.min(at_most),
        }
    }
}

impl AllNeeds {
    /// A peer came.
    pub(super) fn add(&mut self, needs: Needs) {
        self.working += usize::from(needs.round == Some(Round::Working));
        self.listening += usize::from(needs.round == Some(Round::Listening));
        self.mapping += usize::from(needs.mapping);
        *self.device_polls.entry(needs.device_poll).or_default() += 1;
    }

    /// A peer went that was to be looked at then.
    pub(super) fn remove(&mut self, key: PublicKey, needs: Needs, due: Option<Due>) {
        self.subtract(needs);
        self.reschedule(key, due, None);
    }

    /// A peer needs something else.
    pub(super) fn change(&mut self, before: Needs, now: Needs) {
        if before != now {
            self.subtract(before);
            self.add(now);
        }
    }

    /// A peer is to be looked at another time.
    pub(super) fn reschedule(&mut self, key: PublicKey, before: Option<Due>, now: Option<Due>) {
        let (before, now) = (before.map(|(at, _)| at), now.map(|(at, _)| at));
        if before == now {
            return;
        }
        if let Some(at) = before {
            self.due.remove(&(at, key));
        }
        if let Some(at) = now {
            self.due.insert((at, key));
        }
    }

    /// The peers that are to be looked at by `now`, the most overdue first.
    pub(super) fn due(&self, now: Instant) -> Vec<PublicKey> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }

    /// The peer that is to be looked at first.
    pub(super) fn first_due(&self) -> Option<PublicKey> {
        self.due.first().map(|(_, key)| *key)
    }

    /// Whether a round is under way with any peer.
    pub(super) fn any_round(&self) -> bool {
        self.working() || self.listening()
    }

    /// Whether one is in which something is sent.
    pub(super) fn working(&self) -> bool {
        self.working > 0
    }

    /// Whether one is that only listens yet.
    pub(super) fn listening(&self) -> bool {
        self.listening > 0
    }

    /// Whether a round is under way with any peer whose NAT is destination-dependent.
    pub(super) fn mapping(&self) -> bool {
        self.mapping > 0
    }

    /// How long to wait between two looks at the device.
    pub(super) fn device_poll(&self) -> Duration {
        self.device_polls.first_key_value().map_or(POLL_SETTLED, |(pause, _)| *pause)
    }

    fn subtract(&mut self, needs: Needs) {
        self.working -= usize::from(needs.round == Some(Round::Working));
        self.listening -= usize::from(needs.round == Some(Round::Listening));
        self.mapping -= usize::from(needs.mapping);
        if let Some(count) = self.device_polls.get_mut(&needs.device_poll) {
            *count -= 1;
            if *count == 0 {
                self.device_polls.remove(&needs.device_poll);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// What one peer needs, and when it is due.
    type One = (Needs, Option<Due>);

    fn random(rng: &mut ChaCha8Rng, start: Instant) -> One {
        let device_poll = [POLL_CONFIRMING, POLL_WORKING, POLL_SETTLED][rng.random_range(0..3)];
        let round = [None, Some(Round::Working), Some(Round::Listening)][rng.random_range(0..3)];
        let needs = Needs { round, mapping: rng.random(), device_poll };
        let at = start + Duration::from_millis(rng.random_range(0..50));
        (needs, rng.random::<bool>().then_some((at, "a test")))
    }

    #[test]
    fn what_is_counted_is_what_asking_each_would_give() {
        let (mut rng, start) = (ChaCha8Rng::from_seed([4; 32]), Instant::now());
        let (mut all, mut each) = (AllNeeds::default(), BTreeMap::<PublicKey, One>::new());
        for _ in 0..5_000 {
            let key = PublicKey::from_bytes([rng.random_range(0..20); 32]);
            let (needs, due) = random(&mut rng, start);
            match each.remove(&key) {
                Some((before, was_due)) if rng.random_bool(0.3) => all.remove(key, before, was_due),
                before => {
                    let (before, was_due) = before.unwrap_or_else(|| {
                        all.add(Needs::NONE);
                        (Needs::NONE, None)
                    });
                    all.change(before, needs);
                    all.reschedule(key, was_due, due);
                    each.insert(key, (needs, due));
                }
            }
            for (counted, round) in [(all.working(), Round::Working), (all.listening(), Round::Listening)] {
                assert_eq!(counted, each.values().any(|(needs, _)| needs.round == Some(round)));
            }
            assert_eq!(all.mapping(), each.values().any(|(needs, _)| needs.mapping));
            let polls = each.values().map(|(needs, _)| needs.device_poll).min();
            assert_eq!(all.device_poll(), polls.unwrap_or(POLL_SETTLED));
            let mut order: Vec<_> =
                each.iter().filter_map(|(key, (_, due))| due.map(|(at, _)| (at, *key))).collect();
            order.sort_unstable();
            assert_eq!(all.first_due(), order.first().map(|(_, key)| *key));
            let now = start + Duration::from_millis(25);
            let due: Vec<_> = order.into_iter().filter(|(at, _)| *at <= now).map(|(_, key)| key).collect();
            assert_eq!(all.due(now), due);
        }
    }
}
