//! From one connection to many listeners, none of which can hold up the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::Event;

/// How many answers to verifications wait for a slow listener, and how many refusals.
const MAX_ANSWERS: usize = 64;
/// How many offers wait for a slow listener: one for each peer of a large interface. Each is at most a few
/// kilobytes. As many calls to the relay wait, and places on it.
const MAX_OFFERS: usize = 1024;

/// One listener's view of a server.
pub struct Events {
    queue: Arc<Queue>,
}

/// All listeners of a server.
#[derive(Default)]
pub(super) struct Subscribers {
    queues: Mutex<Vec<Weak<Queue>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Event>>,
    arrived: Notify,
}

impl Events {
    /// Waits for the next event. Safe to drop at any await. What is still in the queue when something newer
    /// replaces it (an offer of the same topic, up by down) is not told.
    pub async fn recv(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_recv() {
                return event;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Subscribers {
    pub(super) fn add(&self, first: Event) -> Events {
        let queue = Arc::new(Queue::default());
        queue.push(first);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&queue));
        Events { queue }
    }

    pub(super) fn tell(&self, event: &Event) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(event.clone());
                true
            }
            None => false,
        });
    }
}

impl Queue {
    fn push(&self, event: Event) {
        add(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner), event);
        self.arrived.notify_one();
    }
}

/// Adds an event to those that wait, in place of what it makes void.
fn add(waiting: &mut VecDeque<Event>, event: Event) {
    match &event {
        // A new session voids answers of the old one; offers hold longer than sessions.
        Event::Up { .. } | Event::Down { .. } => waiting.retain(|old| matches!(old, Event::Offer { .. })),
        Event::Offer { topic, .. } => {
            waiting.retain(|old| !matches!(old, Event::Offer { topic: of, .. } if of == topic));
            make_room(waiting, MAX_OFFERS, |old| matches!(old, Event::Offer { .. }));
        }
        Event::Allocated { topic, .. } => {
            waiting.retain(|old| !matches!(old, Event::Allocated { topic: of, .. } if of == topic));
            make_room(waiting, MAX_OFFERS, |old| matches!(old, Event::Allocated { .. }));
        }
        Event::RelayCalled { topic } => {
            waiting.retain(|old| !matches!(old, Event::RelayCalled { topic: of } if of == topic));
            make_room(waiting, MAX_OFFERS, |old| matches!(old, Event::RelayCalled { .. }));
        }
        Event::Probed { .. } => make_room(waiting, MAX_ANSWERS, |old| matches!(old, Event::Probed { .. })),
        Event::Refused { .. } => make_room(waiting, MAX_ANSWERS, |old| matches!(old, Event::Refused { .. })),
    }
    waiting.push_back(event);
}

/// Drops the oldest of a kind where there are too many of it.
fn make_room(waiting: &mut VecDeque<Event>, most: usize, of_kind: impl Fn(&Event) -> bool) {
    if waiting.iter().filter(|old| of_kind(old)).count() >= most
        && let Some(oldest) = waiting.iter().position(of_kind)
    {
        waiting.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use wireplug_proto::Topic;

    use super::*;

    fn offer(topic: usize, sealed: u8) -> Event {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&topic.to_be_bytes());
        Event::Offer { topic: Topic::from_bytes(bytes), sealed: vec![sealed] }
    }

    fn down(why: &str) -> Event {
        Event::Down { why: why.to_owned(), moved: false }
    }

    fn drain(events: &mut Events) -> Vec<Event> {
        std::iter::from_fn(|| events.try_recv()).collect()
    }

    #[test]
    fn newer_news_replaces_older() {
        let subscribers = Subscribers::default();
        let mut events = subscribers.add(down("first"));
        for event in [offer(1, 1), Event::Probed { id: 7 }, offer(2, 1), offer(1, 2), down("second")] {
            subscribers.tell(&event);
        }
        assert_eq!(drain(&mut events), [offer(2, 1), offer(1, 2), down("second")]);
    }

    #[test]
    fn a_stuck_listener_holds_a_bounded_queue_and_nobody_up() {
        let subscribers = Subscribers::default();
        let mut stuck = subscribers.add(down(""));
        let mut brisk = subscribers.add(down(""));
        brisk.try_recv();
        for number in 0..5000 {
            for event in [offer(number, 0), Event::Probed { id: number as u64 }] {
                subscribers.tell(&event);
                assert_eq!(brisk.try_recv(), Some(event));
            }
        }
        let left = drain(&mut stuck);
        assert_eq!(left.len(), 1 + MAX_OFFERS + MAX_ANSWERS);
        assert_eq!(left.last(), Some(&Event::Probed { id: 4999 }));
    }

    #[test]
    fn one_who_left_is_forgotten() {
        let subscribers = Subscribers::default();
        drop(subscribers.add(down("")));
        subscribers.tell(&down("again"));
        assert!(subscribers.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_next_event() {
        let subscribers = Subscribers::default();
        let mut events = subscribers.add(down("now"));
        assert_eq!(events.recv().await, down("now"));
        let (event, ()) = tokio::join!(events.recv(), async { subscribers.tell(&Event::Probed { id: 1 }) });
        assert_eq!(event, Event::Probed { id: 1 });
    }
}
