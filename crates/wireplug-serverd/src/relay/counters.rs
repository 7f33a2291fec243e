//! What the relay has done, counted without locks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a packet was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dropped {
    /// Its source has no binding at the relay address that it was sent to.
    Unbound,
    /// It does not look like a WireGuard message.
    Shape,
    /// The other side has no binding.
    Alone,
    /// The allocation's bandwidth is used up.
    Bandwidth,
    /// The relay's bandwidth is used up.
    TotalBandwidth,
    /// The other side's TLS connection is too slow: this is the oldest packet of its queue.
    TlsQueue,
    /// The system did not take it.
    System,
}

/// Packets and their bytes (UDP payload).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub packets: u64,
    /// How many bytes together.
    pub bytes: u64,
}

/// All counters since the start, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sent on to a UDP address.
    pub forwarded_udp: Tally,
    /// Queued for a TLS connection.
    pub forwarded_tls: Tally,
    /// Not forwarded, by [`Dropped::ALL`].
    pub dropped: [Tally; Dropped::ALL.len()],
    /// Credentials given.
    pub granted: u64,
    /// Asks refused.
    pub refused: u64,
    /// Binds accepted that changed a binding.
    pub bound: u64,
    /// Binds accepted that changed nothing.
    pub refreshed: u64,
    /// Binds that were told to come again with a nonce.
    pub challenged: u64,
    /// Binds with a credential that is not known.
    pub unknown: u64,
    /// Binds that were not made with the credential's key.
    pub forged: u64,
    /// Binds older than one that was accepted.
    pub replayed: u64,
    /// Binds from a source that has another pair's binding at that relay address.
    pub taken: u64,
    /// Binds that came too often.
    pub too_often: u64,
}

impl Dropped {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Unbound,
        Self::Shape,
        Self::Alone,
        Self::Bandwidth,
        Self::TotalBandwidth,
        Self::TlsQueue,
        Self::System,
    ];

    /// A word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Shape => "not_wireguard",
            Self::Alone => "other_side_not_bound",
            Self::Bandwidth => "bandwidth",
            Self::TotalBandwidth => "total_bandwidth",
            Self::TlsQueue => "tls_queue",
            Self::System => "system",
        }
    }
}

impl Counters {
    /// What was not forwarded for a reason.
    pub const fn dropped(&self, why: Dropped) -> Tally {
        self.dropped[why as usize]
    }
}

/// The counters of one thread, which others may read.
#[derive(Debug, Default)]
pub(super) struct Counts {
    forwarded_udp: Count,
    forwarded_tls: Count,
    dropped: [Count; Dropped::ALL.len()],
    events: [AtomicU64; EVENTS],
}

/// What is counted beside packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Event {
    Granted,
    Refused,
    Bound,
    Refreshed,
    Challenged,
    Unknown,
    Forged,
    Replayed,
    Taken,
    TooOften,
}

/// How many kinds of events there are.
const EVENTS: usize = Event::TooOften as usize + 1;

#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// One packet more.
    pub(super) const fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    pub(super) const fn append(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl Counts {
    pub(super) fn forwarded_udp(&self, tally: Tally) {
        self.forwarded_udp.add(tally);
    }

    pub(super) fn forwarded_tls(&self, tally: Tally) {
        self.forwarded_tls.add(tally);
    }

    pub(super) fn dropped(&self, why: Dropped, tally: Tally) {
        self.dropped[why as usize].add(tally);
    }

    /// Something happened.
    pub(super) fn event(&self, event: Event) {
        self.events[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds these to a sum.
    pub(super) fn add_to(&self, sum: &mut Counters) {
        self.forwarded_udp.add_to(&mut sum.forwarded_udp);
        self.forwarded_tls.add_to(&mut sum.forwarded_tls);
        for (count, sum) in self.dropped.iter().zip(&mut sum.dropped) {
            count.add_to(sum);
        }
        let event = |event: Event| self.events[event as usize].load(Ordering::Relaxed);
        sum.granted += event(Event::Granted);
        sum.refused += event(Event::Refused);
        sum.bound += event(Event::Bound);
        sum.refreshed += event(Event::Refreshed);
        sum.challenged += event(Event::Challenged);
        sum.unknown += event(Event::Unknown);
        sum.forged += event(Event::Forged);
        sum.replayed += event(Event::Replayed);
        sum.taken += event(Event::Taken);
        sum.too_often += event(Event::TooOften);
    }
}

impl Count {
    fn add(&self, tally: Tally) {
        if tally.packets > 0 {
            self.packets.fetch_add(tally.packets, Ordering::Relaxed);
            self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        }
    }

    fn add_to(&self, sum: &mut Tally) {
        sum.packets += self.packets.load(Ordering::Relaxed);
        sum.bytes += self.bytes.load(Ordering::Relaxed);
    }
}
