//! Links: how long a packet takes, and whether it arrives once, twice or never.

use rand::RngExt as _;

use crate::{Chance, Time, ms};

/// How much later a late packet arrives: others overtake it.
pub const LATE_BY: Time = ms(500);

/// One link, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The least time on the way.
    pub latency: Time,
    /// Up to this is added by chance, to each packet for itself: packets overtake each other.
    pub jitter: Time,
    /// How many of 1,000 packets are lost.
    pub loss: u32,
    /// How many of 1,000 packets arrive twice.
    pub doubled: u32,
    /// How many of 1,000 packets, or copies, arrive later by [`LATE_BY`].
    pub late: u32,
}

impl Link {
    /// A link that only takes time.
    pub const fn of(latency: Time) -> Self {
        Self { latency, jitter: Time::ZERO, loss: 0, doubled: 0, late: 0 }
    }

    /// The delays of the copies of one packet: none, one or two.
    pub fn carry(&self, chance: &mut Chance) -> Vec<Time> {
        if self.loss > 0 && chance.random_ratio(self.loss.min(1000), 1000) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.doubled > 0 && chance.random_ratio(self.doubled.min(1000), 1000));
        (0..copies)
            .map(|_| {
                let jitter = if self.jitter.is_zero() {
                    Time::ZERO
                } else {
                    chance.random_range(Time::ZERO..=self.jitter)
                };
                let late = self.late > 0 && chance.random_ratio(self.late.min(1000), 1000);
                self.latency + jitter + if late { LATE_BY } else { Time::ZERO }
            })
            .collect()
    }
}
