//! What waits to be sent on one relay WebSocket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wireplug_proto::relay::{HEADER, data_header};

/// The frames of one relay WebSocket: filled by whoever forwards, emptied by the connection's own task. Bounded:
/// of the packets, the oldest is dropped for a new one; answers are few, because the client waits for them.
#[derive(Debug)]
pub struct TlsQueue {
    queue: Mutex<Queue>,
    ready: Notify,
    packets: usize,
    answers: usize,
}

/// One side's end of an allocation on a relay WebSocket.
#[derive(Debug, Clone)]
pub struct TlsLeg {
    /// The connection's queue.
    pub queue: Arc<TlsQueue>,
    /// The client's number for the pair.
    pub channel: u16,
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum TlsOutgoing {
    /// One binary frame.
    Frame(Vec<u8>),
    /// The connection's end, and why.
    Close(&'static str),
}

#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<Vec<u8>>,
    packets: VecDeque<Vec<u8>>,
    close: Option<&'static str>,
}

impl TlsQueue {
    /// An empty queue for at most so many packets and so many answers.
    pub fn new(packets: usize, answers: usize) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), packets: packets.max(1), answers }
    }

    /// Queues a packet for a channel. Returns the length of the packet that was dropped for it, if one was.
    pub fn push_packet(&self, channel: u16, packet: &[u8]) -> Option<usize> {
        let mut frame = Vec::with_capacity(HEADER + packet.len());
        frame.extend_from_slice(&data_header(channel));
        frame.extend_from_slice(packet);
        let mut queue = self.lock();
        if queue.close.is_some() {
            return Some(packet.len());
        }
        let full = queue.packets.len() >= self.packets;
        let oldest = if full { queue.packets.pop_front() } else { None };
        queue.packets.push_back(frame);
        drop(queue);
        self.ready.notify_one();
        oldest.map(|frame| frame.len() - HEADER)
    }

    /// Queues a frame that is not a packet, before all packets. A client that does not read its answers is closed.
    pub fn push_answer(&self, frame: Vec<u8>) {
        let mut queue = self.lock();
        if queue.close.is_some() {
            return;
        }
        if queue.answers.len() >= self.answers {
            *queue = Queue { close: Some("too slow: answers were not read"), ..Queue::default() };
        } else {
            queue.answers.push_back(frame);
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Ends the connection; what is queued is dropped.
    pub fn close(&self, why: &'static str) {
        *self.lock() = Queue { close: Some(why), ..Queue::default() };
        self.ready.notify_one();
    }

    /// Waits for the next thing to send. Cancel-safe. One waiter at a time.
    pub async fn next(&self) -> TlsOutgoing {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    /// The next thing to send, if there is one now: to send several before a flush.
    pub fn try_next(&self) -> Option<TlsOutgoing> {
        let mut queue = self.lock();
        let frame = queue.answers.pop_front().or_else(|| queue.packets.pop_front());
        frame.map(TlsOutgoing::Frame).or_else(|| queue.close.map(TlsOutgoing::Close))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: u16, packet: &[u8]) -> TlsOutgoing {
        TlsOutgoing::Frame([&data_header(channel), packet].concat())
    }

    #[tokio::test]
    async fn the_oldest_packet_makes_room() {
        let queue = TlsQueue::new(2, 1);
        assert_eq!(queue.push_packet(1, b"one"), None);
        assert_eq!(queue.push_packet(1, b"second"), None);
        assert_eq!(queue.push_packet(2, b"third"), Some(3));
        queue.push_answer(vec![9]);
        assert_eq!(queue.next().await, TlsOutgoing::Frame(vec![9]), "answers go first");
        assert_eq!(queue.next().await, frame(1, b"second"));
        assert_eq!(queue.next().await, frame(2, b"third"));
        assert_eq!(queue.try_next(), None);
    }

    #[tokio::test]
    async fn who_does_not_read_answers_is_closed_and_gets_nothing_more() {
        let queue = TlsQueue::new(2, 1);
        queue.push_answer(vec![1]);
        queue.push_answer(vec![2]);
        assert_eq!(queue.push_packet(1, b"late"), Some(4));
        assert!(matches!(queue.next().await, TlsOutgoing::Close(_)));
    }
}
