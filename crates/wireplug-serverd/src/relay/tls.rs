//! What waits to be sent on one relay WebSocket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wireplug_proto::relay::{HEADER, data_header};

use super::counters::Tally;

/// Bytes of a packet of the usual size, in its frame: an Ethernet frame's payload.
const PACKET: usize = 1500 + HEADER;

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
    /// Bytes of all packets.
    bytes: usize,
    close: Option<&'static str>,
}

impl Queue {
    fn pop_packet(&mut self) -> Option<Vec<u8>> {
        let frame = self.packets.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

impl TlsQueue {
    /// An empty queue for at most so many packets of usual size, or as many bytes, and so many answers.
    pub fn new(packets: usize, answers: usize) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), packets: packets.max(1), answers }
    }

    /// Queues a packet for a channel. Returns what was dropped: the oldest packets where there is no room, or this
    /// one where the connection ends.
    pub fn push_packet(&self, channel: u16, packet: &[u8]) -> Tally {
        let mut dropped = Tally::default();
        let mut frame = Vec::with_capacity(HEADER + packet.len());
        frame.extend_from_slice(&data_header(channel));
        frame.extend_from_slice(packet);
        let mut queue = self.lock();
        if queue.close.is_some() {
            dropped.add(packet.len());
            return dropped;
        }
        while queue.packets.len() >= self.packets || queue.bytes + frame.len() > self.packets * PACKET {
            let Some(oldest) = queue.pop_packet() else { break };
            dropped.add(oldest.len() - HEADER);
        }
        queue.bytes += frame.len();
        queue.packets.push_back(frame);
        drop(queue);
        self.ready.notify_one();
        dropped
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
        let frame = queue.answers.pop_front().or_else(|| queue.pop_packet());
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
        assert_eq!(queue.push_packet(1, b"one"), Tally::default());
        assert_eq!(queue.push_packet(1, b"second"), Tally::default());
        assert_eq!(queue.push_packet(2, b"third"), Tally { packets: 1, bytes: 3 });
        queue.push_answer(vec![9]);
        assert_eq!(queue.next().await, TlsOutgoing::Frame(vec![9]), "answers go first");
        assert_eq!(queue.next().await, frame(1, b"second"));
        assert_eq!(queue.next().await, frame(2, b"third"));
        assert_eq!(queue.try_next(), None);
    }

    #[test]
    fn large_packets_have_no_more_room_than_usual_ones() {
        let queue = TlsQueue::new(4, 1);
        for _ in 0..2 {
            assert_eq!(queue.push_packet(1, &[0; 3000]), Tally::default());
        }
        assert_eq!(queue.push_packet(1, &[0; 3000]), Tally { packets: 1, bytes: 3000 });
        assert_eq!(queue.push_packet(1, &[0; 16_000]), Tally { packets: 2, bytes: 6000 });
        assert!(queue.try_next().is_some() && queue.try_next().is_none(), "one always fits");
        assert_eq!(queue.push_packet(1, &[0; 1500]), Tally::default());
    }

    #[tokio::test]
    async fn who_does_not_read_answers_is_closed_and_gets_nothing_more() {
        let queue = TlsQueue::new(2, 1);
        queue.push_answer(vec![1]);
        queue.push_answer(vec![2]);
        assert_eq!(queue.push_packet(1, b"late"), Tally { packets: 1, bytes: 4 });
        assert!(matches!(queue.next().await, TlsOutgoing::Close(_)));
    }
}
