//! What strategies found, on its way to the event loop: bounded, and only the latest of each thing.
//!
//! It holds what each strategy says now and what the listener has been told, and tells the difference. So a
//! strategy that says a thing a thousand times fills one place, and taking all back needs no memory of it. What it holds
//! of a strategy now can be looked at ([`Standing`]).

mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;
use wireplug_core::{Candidate, Endpoint, MAX_CANDIDATES, Mapping, PublicKey, RemoteCandidate, StrategyName};
use wireplug_strategy::Event;

/// The most candidates of one strategy, and of one strategy for one peer: as many as one offer carries.
const MAX_OF_ONE: usize = MAX_CANDIDATES;
/// The most suggestions of one strategy, for all peers: four for each peer of a large interface.
const MAX_SUGGESTIONS: usize = 4096;
/// The longest note, in characters: a line of status.
const MAX_NOTE: usize = 300;

pub use standing::{Held, Standing};

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
    now: BTreeMap<Topic, Held<Saying>>,
    told: BTreeMap<Topic, Saying>,
    too_many: bool,
    /// The last one of any generation: a strategy may have nothing to add in a new one.
    note: Option<Held<String>>,
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
        self.state().push(Instant::now(), strategy, generation, event);
        self.shared.arrived.notify_one();
    }

    /// Takes back all that a strategy found in its latest generation.
    pub fn retract(&self, strategy: &StrategyName) {
        self.state().retract(Instant::now(), strategy);
        self.shared.arrived.notify_one();
    }

    /// The same, and its last words are not true any more either.
    pub fn forget(&self, strategy: &StrategyName) {
        let mut state = self.state();
        state.retract(Instant::now(), strategy);
        if let Some(sayings) = state.strategies.get_mut(strategy) {
            sayings.note = None;
            sayings.now.remove(&Topic::Note);
            state.news.retain(|(of, about)| of != strategy || *about != Topic::Note);
        }
        drop(state);
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

    /// What a strategy holds for true now, if it ever said something.
    pub fn standing(&self, strategy: &StrategyName) -> Option<Standing> {
        self.state().strategies.get(strategy).map(Standing::of)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, now: Instant, strategy: &StrategyName, generation: u32, event: Event) {
        let sayings = self.strategies.entry(strategy.clone()).or_default();
        if generation < sayings.generation {
            return;
        }
        if generation > sayings.generation {
            // The listener has dropped all of the older one by itself.
            *sayings = Sayings { generation, note: sayings.note.take(), ..Sayings::default() };
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
            Event::Note(words) => (Topic::Note, Some(Saying::Note(line(&words)))),
        };
        match saying {
            Some(_) if sayings.is_full_for(topic) => {
                if !std::mem::replace(&mut sayings.too_many, true) {
                    warn!(%strategy, most = MAX_OF_ONE, "the strategy finds too many candidates; the rest is dropped");
                    let words = format!("finds more than {MAX_OF_ONE} candidates; the rest is dropped");
                    self.say(now, strategy, Topic::Note, Some(Saying::Note(words)));
                }
            }
            saying => self.say(now, strategy, topic, saying),
        }
    }

    fn retract(&mut self, now: Instant, strategy: &StrategyName) {
        let Some(sayings) = self.strategies.get(strategy) else { return };
        let all: Vec<_> = sayings.now.keys().chain(sayings.told.keys()).copied().collect();
        for topic in all {
            match topic {
                Topic::Ours(_) | Topic::Theirs(..) => self.say(now, strategy, topic, None),
                Topic::Mapping => self.say(now, strategy, topic, Some(Saying::Mapping(Mapping::Unknown))),
                Topic::Note => {}
            }
        }
    }

    fn say(&mut self, now: Instant, strategy: &StrategyName, topic: Topic, saying: Option<Saying>) {
        let Some(sayings) = self.strategies.get_mut(strategy) else { return };
        match saying {
            Some(saying) => sayings.hold(now, topic, saying),
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
                Some(held) => {
                    sayings.told.insert(topic, held.what.clone());
                    topic.said(held.what.clone())
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
    /// Takes the newest about a topic. An endpoint that is said again has been there since it was first said.
    fn hold(&mut self, now: Instant, topic: Topic, saying: Saying) {
        if let Saying::Note(words) = &saying {
            let since = self.note.as_ref().filter(|note| note.what == *words).map_or(now, |note| note.since);
            self.note = Some(Held { what: words.clone(), since, said: now });
        }
        let since = self.now.get(&topic).map_or(now, |held| held.since);
        self.now.insert(topic, Held { what: saying, since, said: now });
    }

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

/// One line that a terminal may show: what strategies say can come from a router.
fn line(words: &str) -> String {
    words.chars().take(MAX_NOTE).map(|c| if c.is_control() { ' ' } else { c }).collect()
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
