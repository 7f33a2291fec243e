//! Bandwidth: token buckets in bytes that many threads take from without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a second's bandwidth may pass at once: enough for the bursts of TCP at usual round trips, little
/// enough that others notice none of it.
const BURST: u64 = NANOS / 5;
/// Bits that may pass at once whatever the bandwidth is: the largest burst that the kernel hands over.
const LEAST_BURST: u64 = 2 * 65_536 * 8;
const NANOS: u64 = 1_000_000_000;

/// A bandwidth, as time that a bit takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bandwidth {
    bits_per_second: u64,
    /// Nanoseconds.
    burst: u64,
}

/// A token bucket, kept as the moment at which it is full again (the generic cell rate algorithm), in
/// nanoseconds since the relay's start.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Bandwidth {
    pub(super) fn new(bits_per_second: u64) -> Self {
        let bits_per_second = bits_per_second.max(1);
        let least = LEAST_BURST.saturating_mul(NANOS) / bits_per_second;
        Self { bits_per_second, burst: BURST.max(least) }
    }

    fn time(self, bytes: usize) -> u64 {
        (bytes as u64 * 8).saturating_mul(NANOS) / self.bits_per_second
    }
}

impl Budget {
    /// Takes that many bytes if there are.
    pub(super) fn take(&self, bandwidth: Bandwidth, bytes: usize, now: u64) -> bool {
        let time = bandwidth.time(bytes);
        let next = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(time);
            (full_at - now <= bandwidth.burst).then_some(full_at)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_passes_its_bandwidth_and_one_burst() {
        let (budget, bandwidth) = (Budget::default(), Bandwidth::new(100_000_000));
        let mut passed = 0;
        for micros in 0..1_000_000 {
            if budget.take(bandwidth, 1400, 7 * NANOS + micros * 1000) {
                passed += 1400 * 8;
            }
        }
        assert!((119_900_000..=120_100_000).contains(&passed), "100 Mbit and a fifth of it: {passed}");
    }

    #[test]
    fn a_narrow_bandwidth_passes_the_largest_burst_of_the_kernel() {
        let (budget, bandwidth) = (Budget::default(), Bandwidth::new(64_000));
        assert!(budget.take(bandwidth, 65_536, 0));
        assert!(budget.take(bandwidth, 65_536, 0));
        assert!(!budget.take(bandwidth, 1, 0));
        assert!(budget.take(bandwidth, 8000, NANOS), "a second later there are 64 kbit more");
        assert!(!budget.take(bandwidth, 8000, NANOS));
    }
}
