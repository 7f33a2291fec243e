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

#[tokio::test(start_paused = true)]
async fn what_stands_is_known_with_its_times() {
    let queue = EventQueue::default();
    assert_eq!(queue.standing(&name()), None);
    let first = Instant::now();
    for event in [found(1, "old"), found(2, ""), suggested(1, 2), Event::Mapping(Mapping::Fixed)] {
        queue.push(&name(), 3, event);
    }
    queue.push(&name(), 3, Event::Note("well".to_owned()));
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    queue.push(&name(), 3, found(1, "new"));
    queue.push(&name(), 3, Event::Lost(endpoint(2)));
    queue.push(&name(), 3, Event::Note("well".to_owned()));
    let standing = queue.standing(&name()).unwrap();
    assert_eq!((standing.generation, standing.mapping), (3, Some(Mapping::Fixed)));
    let [held] = &standing.found[..] else { panic!("{standing:?}") };
    assert_eq!((held.what.evidence.words(), held.since), ("new", first));
    assert_eq!(held.said, Instant::now());
    assert_eq!(standing.suggested.len(), 1);
    assert_eq!(standing.note.as_ref().map(|note| (note.what.as_str(), note.since)), Some(("well", first)));

    // In another network nothing of it stands but the last words.
    queue.push(&name(), 4, Event::Mapping(Mapping::Unknown));
    let moved = queue.standing(&name()).unwrap();
    assert_eq!((moved.generation, moved.found.len(), moved.suggested.len()), (4, 0, 0));
    assert_eq!(moved.note, standing.note);
}
