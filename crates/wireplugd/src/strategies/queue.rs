//! What strategies found, on its way to the event loop: bounded, and only the latest of each thing.
//!
//! It holds what each strategy says now and what the listener has been told, and tells the difference. So a
//! strategy that says a thing a thousand times fills one place, and taking all back needs no memory of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::warn;
use wireplug_core::{Candidate, Endpoint, MAX_CANDIDATES, Mapping, PublicKey, RemoteCandidate, StrategyName};
use wireplug_strategy::Event;

/// The most candidates of one strategy, and of one strategy for one peer: as many as one offer carries.
const MAX_OF_ONE: usize = MAX_CANDIDATES;
/// The most suggestions of one strategy, for all peers: four for each peer of a large interface.
const MAX_SUGGESTIONS: usize = 4096;
/// The longest note, in characters: a line of status.
const MAX_NOTE: usize = 300;

/// The events of all strategies of one interface. Cheap to clone.
#[derive(Clone, Default)]
pub struct EventQueue {
    shared: Arc<Shared>,
}

/// One event, with who said it and for which generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub strategy: StrategyName,
    /// The generation that it was found in.
    pub generation: u32,
    /// What.
    pub event: Event,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    strategies: BTreeMap<StrategyName, Sayings>,
    /// What is to be told, oldest first; nothing is in it twice.
    news: VecDeque<(StrategyName, Topic)>,
}

/// All that one strategy says in one generation.
#[derive(Default)]
struct Sayings {
    generation: u32,
    now: BTreeMap<Topic, Saying>,
    told: BTreeMap<Topic, Saying>,
    too_many: bool,
}

/// What a saying is about: a later one about the same replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Ours(Endpoint),
    Theirs(PublicKey, Endpoint),
    Mapping,
    Note,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Saying {
    Ours(Candidate),
    Theirs(RemoteCandidate),
    Mapping(Mapping),
    Note(String),
}

impl EventQueue {
    /// Takes an event of a strategy. Never waits. What belongs to an older generation is dropped, and so is what
    /// is too much, which is said once.
    pub fn push(&self, strategy: &StrategyName, generation: u32, event: Event) {
        self.state().push(strategy, generation, event);
        self.shared.arrived.notify_one();
    }

    /// Takes back all that a strategy found in its latest generation.
    pub fn retract(&self, strategy: &StrategyName) {
        self.state().retract(strategy);
        self.shared.arrived.notify_one();
    }

    /// Waits for the next event. Safe to drop at any await; one listener only.
    pub async fn recv(&self) -> Found {
        loop {
            if let Some(found) = self.try_recv() {
                return found;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// The next event, if there is one.
    pub fn try_recv(&self) -> Option<Found> {
        self.state().next()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, strategy: &StrategyName, generation: u32, event: Event) {
        let sayings = self.strategies.entry(strategy.clone()).or_default();
        if generation < sayings.generation {
            return;
        }
        if generation > sayings.generation {
            // The listener has dropped all of the older one by itself.
            *sayings = Sayings { generation, ..Sayings::default() };
            self.news.retain(|(of, _)| of != strategy);
        }
        let (topic, saying) = match event {
            Event::Found(candidate) => (Topic::Ours(candidate.endpoint), Some(Saying::Ours(candidate))),
            Event::Lost(endpoint) => (Topic::Ours(endpoint), None),
            Event::Suggested { peer, candidate } => {
                (Topic::Theirs(peer, candidate.endpoint), Some(Saying::Theirs(candidate)))
            }
            Event::Withdrawn { peer, endpoint } => (Topic::Theirs(peer, endpoint), None),
            Event::Mapping(mapping) => (Topic::Mapping, Some(Saying::Mapping(mapping))),
            Event::Note(words) => (Topic::Note, Some(Saying::Note(words.chars().take(MAX_NOTE).collect()))),
        };
        match saying {
            Some(_) if sayings.is_full_for(topic) => {
                if !std::mem::replace(&mut sayings.too_many, true) {
                    warn!(%strategy, most = MAX_OF_ONE, "the strategy finds too many candidates; the rest is dropped");
                    let words = format!("finds more than {MAX_OF_ONE} candidates; the rest is dropped");
                    self.say(strategy, Topic::Note, Some(Saying::Note(words)));
                }
            }
            saying => self.say(strategy, topic, saying),
        }
    }

    fn retract(&mut self, strategy: &StrategyName) {
        let Some(sayings) = self.strategies.get(strategy) else { return };
        let all: Vec<_> = sayings.now.keys().chain(sayings.told.keys()).copied().collect();
        for topic in all {
            match topic {
                Topic::Ours(_) | Topic::Theirs(..) => self.say(strategy, topic, None),
                Topic::Mapping => self.say(strategy, topic, Some(Saying::Mapping(Mapping::Unknown))),
                Topic::Note => {}
            }
        }
    }

    fn say(&mut self, strategy: &StrategyName, topic: Topic, saying: Option<Saying>) {
        let Some(sayings) = self.strategies.get_mut(strategy) else { return };
        match saying {
            Some(saying) => {
                sayings.now.insert(topic, saying);
            }
            None => {
                sayings.now.remove(&topic);
            }
        }
        let worth_telling = sayings.now.contains_key(&topic) || sayings.told.contains_key(&topic);
        let waiting = self.news.iter().position(|(of, about)| of == strategy && *about == topic);
        match (worth_telling, waiting) {
            (true, None) => self.news.push_back((strategy.clone(), topic)),
            (false, Some(place)) => {
                self.news.remove(place);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn next(&mut self) -> Option<Found> {
        loop {
            let (strategy, topic) = self.news.pop_front()?;
            let Some(sayings) = self.strategies.get_mut(&strategy) else { continue };
            let event = match sayings.now.get(&topic) {
                Some(saying) => {
                    sayings.told.insert(topic, saying.clone());
                    topic.said(saying.clone())
                }
                None => sayings.told.remove(&topic).and_then(|_| topic.unsaid()),
            };
            if let Some(event) = event {
                return Some(Found { generation: sayings.generation, strategy, event });
            }
        }
    }
}

impl Sayings {
    /// Whether one more about something new is too much.
    fn is_full_for(&self, topic: Topic) -> bool {
        if self.now.contains_key(&topic) {
            return false;
        }
        let count = |of: &dyn Fn(&Topic) -> bool| self.now.keys().filter(|about| of(about)).count();
        match topic {
            Topic::Ours(_) => count(&|about| matches!(about, Topic::Ours(_))) >= MAX_OF_ONE,
            Topic::Theirs(peer, _) => {
                count(&|about| matches!(about, Topic::Theirs(of, _) if *of == peer)) >= MAX_OF_ONE
                    || count(&|about| matches!(about, Topic::Theirs(..))) >= MAX_SUGGESTIONS
            }
            Topic::Mapping | Topic::Note => false,
        }
    }
}

impl Topic {
    fn said(self, saying: Saying) -> Option<Event> {
        match (self, saying) {
            (_, Saying::Ours(candidate)) => Some(Event::Found(candidate)),
            (Self::Theirs(peer, _), Saying::Theirs(candidate)) => Some(Event::Suggested { peer, candidate }),
            (_, Saying::Theirs(_)) => None,
            (_, Saying::Mapping(mapping)) => Some(Event::Mapping(mapping)),
            (_, Saying::Note(words)) => Some(Event::Note(words)),
        }
    }

    fn unsaid(self) -> Option<Event> {
        match self {
            Self::Ours(endpoint) => Some(Event::Lost(endpoint)),
            Self::Theirs(peer, endpoint) => Some(Event::Withdrawn { peer, endpoint }),
            Self::Mapping | Self::Note => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use wireplug_core::{Proof, Reach, Tier};

    use super::*;

    fn name() -> StrategyName {
        "test".parse().unwrap()
    }

    fn endpoint(number: u16) -> Endpoint {
        Endpoint::new(([203, 0, 113, 7], number).into()).unwrap()
    }

    fn found(number: u16, evidence: &str) -> Event {
        Event::Found(Candidate {
            endpoint: endpoint(number),
            strategy: name(),
            tier: Tier::Direct,
            proof: Proof::Server,
            lifetime: None,
            evidence: evidence.into(),
        })
    }

    fn suggested(peer: u8, number: u16) -> Event {
        let candidate = RemoteCandidate {
            endpoint: endpoint(number),
            strategy: name(),
            tier: Tier::Direct,
            reach: Reach::Open,
        };
        Event::Suggested { peer: PublicKey::from_bytes([peer; 32]), candidate }
    }

    fn drain(queue: &EventQueue) -> Vec<Event> {
        std::iter::from_fn(|| queue.try_recv()).map(|found| found.event).collect()
    }

    #[test]
    fn the_newest_about_an_endpoint_wins() {
        let queue = EventQueue::default();
        for event in [found(1, "old"), found(2, ""), found(1, "new")] {
            queue.push(&name(), 0, event);
        }
        assert_eq!(drain(&queue), [found(1, "new"), found(2, "")]);
        queue.push(&name(), 0, found(1, "new"));
        assert_eq!(drain(&queue), [found(1, "new")], "said again, it is prolonged");
    }

    #[test]
    fn what_was_never_told_need_not_be_taken_back() {
        let queue = EventQueue::default();
        queue.push(&name(), 0, found(1, ""));
        queue.push(&name(), 0, Event::Lost(endpoint(1)));
        queue.push(&name(), 0, Event::Lost(endpoint(9)));
        assert_eq!(drain(&queue), []);
        queue.push(&name(), 0, found(1, ""));
        drain(&queue);
        queue.push(&name(), 0, Event::Lost(endpoint(1)));
        assert_eq!(drain(&queue), [Event::Lost(endpoint(1))]);
    }

    #[test]
    fn a_flood_is_bounded_and_said_once() {
        let queue = EventQueue::default();
        for round in 0..100 {
            for number in 1..=200 {
                queue.push(&name(), 0, found(number, &round.to_string()));
                queue.push(&name(), 0, suggested(1, number));
            }
            queue.push(&name(), 0, Event::Mapping(Mapping::Fixed));
        }
        let events = drain(&queue);
        let of = |kind: fn(&Event) -> bool| events.iter().filter(|event| kind(event)).count();
        assert_eq!(of(|event| matches!(event, Event::Found(_))), MAX_OF_ONE);
        assert_eq!(of(|event| matches!(event, Event::Suggested { .. })), MAX_OF_ONE);
        assert_eq!(of(|event| matches!(event, Event::Note(words) if words.contains("more than 16"))), 1);
        assert_eq!(events.len(), 2 * MAX_OF_ONE + 2);
    }

    #[test]
    fn coming_and_going_fills_nothing() {
        let queue = EventQueue::default();
        for number in 1..=60_000 {
            queue.push(&name(), 0, found(number, ""));
            queue.push(&name(), 0, Event::Lost(endpoint(number)));
        }
        let state = queue.state();
        assert!(state.news.is_empty() && state.strategies[&name()].now.is_empty());
    }

    #[test]
    fn one_flooding_takes_no_place_of_another() {
        let queue = EventQueue::default();
        let other: StrategyName = "other".parse().unwrap();
        for number in 1..=200 {
            queue.push(&name(), 0, found(number, ""));
        }
        queue.push(&other, 0, found(9, "mine"));
        assert!(std::iter::from_fn(|| queue.try_recv()).any(|found| found.strategy == other));
    }

    #[test]
    fn a_higher_generation_voids_the_lower() {
        let queue = EventQueue::default();
        queue.push(&name(), 1, found(1, ""));
        queue.push(&name(), 2, found(2, ""));
        queue.push(&name(), 1, found(3, "late"));
        let found_now = queue.try_recv().unwrap();
        assert_eq!((found_now.generation, found_now.event), (2, found(2, "")));
        assert_eq!(drain(&queue), []);
    }

    #[test]
    fn all_of_one_can_be_taken_back() {
        let queue = EventQueue::default();
        for event in [found(1, ""), suggested(1, 2), Event::Mapping(Mapping::Fixed)] {
            queue.push(&name(), 3, event);
        }
        drain(&queue);
        queue.push(&name(), 3, found(4, "not told yet"));
        queue.retract(&name());
        let withdrawn = Event::Withdrawn { peer: PublicKey::from_bytes([1; 32]), endpoint: endpoint(2) };
        let mut events = drain(&queue);
        for expected in [Event::Lost(endpoint(1)), withdrawn, Event::Mapping(Mapping::Unknown)] {
            let place = events.iter().position(|event| *event == expected);
            events.remove(place.unwrap_or_else(|| panic!("{expected:?} is missing")));
        }
        assert_eq!(events, []);
    }
}
