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

/// A [`Tally`] that several threads add to.
#[derive(Debug, Default)]
pub(super) struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    pub(super) fn add(&self, tally: Tally) {
        if tally.packets > 0 {
            self.packets.fetch_add(tally.packets, Ordering::Relaxed);
            self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> Tally {
        Tally { packets: self.packets.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}
