//! Clocks that the machine's sleep tells apart.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, sleep included (`CLOCK_BOOTTIME`).
pub fn boottime() -> Duration {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Time since boot, sleep left out (`CLOCK_MONOTONIC`): the clock of [`std::time::Instant`] and of tokio's timers.
pub fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Tells how long the machine slept between two readings of the clocks.
#[derive(Debug, Clone)]
pub struct Sleeps {
    offset: Duration,
}

impl Sleeps {
    /// Less than this between two readings is no sleep but the time that reading both clocks takes.
    pub const SHORTEST: Duration = Duration::from_millis(100);

    /// Starts from readings of [`boottime`] and [`monotonic`].
    pub fn new(boottime: Duration, monotonic: Duration) -> Self {
        Self { offset: boottime.saturating_sub(monotonic) }
    }

    /// How long the machine slept since the last call (or `new`), if it did, from readings made now.
    pub fn slept(&mut self, boottime: Duration, monotonic: Duration) -> Option<Duration> {
        let offset = boottime.saturating_sub(monotonic);
        let slept = offset.saturating_sub(self.offset);
        if slept < Self::SHORTEST {
            return None;
        }
        self.offset = offset;
        Some(slept)
    }
}

fn read(clock: ClockId) -> Duration {
    // Both clocks exist since Linux 2.6.39, and reading an existing clock cannot fail; they start at 0.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clock_that_counts_sleep_shows_it() {
        let at = Duration::from_millis;
        let mut sleeps = Sleeps::new(at(5_000), at(4_000));
        assert_eq!(sleeps.slept(at(6_000), at(5_000)), None);
        assert_eq!(sleeps.slept(at(6_050), at(5_000)), None);
        assert_eq!(sleeps.slept(at(67_000), at(6_000)), Some(at(60_000)));
        assert_eq!(sleeps.slept(at(68_000), at(7_000)), None);
    }

    #[test]
    fn the_real_clocks_go_forward() {
        assert!(monotonic() > Duration::ZERO && boottime() + Sleeps::SHORTEST >= monotonic());
    }
}
