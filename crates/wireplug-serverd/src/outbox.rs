//! What waits to be sent on one connection. Bounded: of each topic only the latest offer waits, and a client
//! that does not read what it is told is closed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wireplug_proto::Topic;
use wireplug_proto::rendezvous::ServerMessage;

/// The queue of one connection: filled by the hub, emptied by the connection's own task.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
    capacity: usize,
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// One binary frame.
    Frame(Vec<u8>),
    /// The connection's end, and why.
    Close(&'static str),
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    offers: HashMap<Topic, Arc<[u8]>>,
    close: Option<&'static str>,
}

#[derive(Debug)]
enum Item {
    Message(ServerMessage),
    Offer(Topic),
}

impl Outbox {
    /// An empty outbox for at most `capacity` messages.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), capacity }
    }

    /// Queues a message.
    pub(crate) fn push(&self, message: ServerMessage) {
        self.add(|queue| queue.items.push_back(Item::Message(message)));
    }

    /// Queues an offer in place of one of the same topic that still waits.
    pub(crate) fn push_offer(&self, topic: Topic, sealed: Arc<[u8]>) {
        self.add(|queue| {
            if queue.offers.insert(topic, sealed).is_none() {
                queue.items.push_back(Item::Offer(topic));
            }
        });
    }

    /// Queues the end; nothing is queued after it.
    pub(crate) fn close(&self, why: &'static str) {
        self.add(|queue| queue.close = Some(why));
    }

    /// Waits for the next thing to send. Cancel-safe.
    pub(crate) async fn next(&self) -> Outgoing {
        loop {
            if let Some(next) = self.lock().pop() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    fn add(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        if queue.close.is_some() {
            return;
        }
        change(&mut queue);
        if queue.items.len() > self.capacity {
            *queue = Queue { close: Some("too slow: what was told was not read"), ..Queue::default() };
        }
        drop(queue);
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Outgoing> {
        let Some(item) = self.items.pop_front() else { return self.close.map(Outgoing::Close) };
        let message = match item {
            Item::Message(message) => message,
            Item::Offer(topic) => {
                let sealed = self.offers.remove(&topic).unwrap_or_default();
                ServerMessage::Offer { topic, sealed: sealed.to_vec() }
            }
        };
        Some(Outgoing::Frame(message.encode()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::from_bytes([1; 32]);

    #[tokio::test]
    async fn only_the_latest_offer_of_a_topic_waits() {
        let outbox = Outbox::new(2);
        for last in 0..100 {
            outbox.push_offer(TOPIC, vec![last].into());
        }
        outbox.push(ServerMessage::Pong { id: 1 });
        let offer = ServerMessage::Offer { topic: TOPIC, sealed: vec![99] };
        assert_eq!(outbox.next().await, Outgoing::Frame(offer.encode()));
        assert_eq!(outbox.next().await, Outgoing::Frame(ServerMessage::Pong { id: 1 }.encode()));
    }

    #[tokio::test]
    async fn who_does_not_read_is_closed() {
        let outbox = Outbox::new(2);
        for id in 0..3 {
            outbox.push(ServerMessage::Pong { id });
        }
        assert!(matches!(outbox.next().await, Outgoing::Close(_)));
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_said_before() {
        let outbox = Outbox::new(2);
        outbox.push(ServerMessage::Pong { id: 1 });
        outbox.close("enough");
        outbox.push(ServerMessage::Pong { id: 2 });
        assert!(matches!(outbox.next().await, Outgoing::Frame(_)));
        assert_eq!(outbox.next().await, Outgoing::Close("enough"));
        assert_eq!(outbox.next().await, Outgoing::Close("enough"));
    }
}
