//! What sleeps of the machine mean for what was found before them. Without IO; the clock is the one that stands still
//! while the machine sleeps.

use std::time::{Duration, Instant};

/// After so long a sleep nothing is taken to hold that was found before it, even where all looks the same: NATs drop
/// mappings after 30 s of silence (RFC 4787 section 4.3 tells of such), and leases run on while we sleep.
const LONG: Duration = Duration::from_secs(20);

/// Awake for so long, everything that wants to be kept alive has been: keepalives are 25 s apart. Sleeps that follow each
/// other sooner are one silence, as of a machine that dozes between wake-ups.
const AWAKE: Duration = Duration::from_secs(30);

/// The sleeps since the machine was last awake for a while.
#[derive(Debug, Default)]
pub struct Naps {
    slept: Duration,
    last: Option<Instant>,
}

/// What a sleep means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// What has a lifetime is so much older.
    Older(Duration),
    /// Nothing of before holds.
    Anew,
}

impl Naps {
    /// The machine slept so long, and woke up now.
    pub fn slept(&mut self, now: Instant, time: Duration) -> Woken {
        if self.last.is_none_or(|last| now >= last + AWAKE) {
            self.slept = Duration::ZERO;
        }
        self.last = Some(now);
        self.slept += time;
        if self.slept < LONG {
            return Woken::Older(time);
        }
        self.slept = Duration::ZERO;
        Woken::Anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_long_sleep_voids_everything_and_a_short_one_ages_it() {
        let now = Instant::now();
        let mut naps = Naps::default();
        assert_eq!(naps.slept(now, at(19)), Woken::Older(at(19)));
        assert_eq!(naps.slept(now + AWAKE, at(19)), Woken::Older(at(19)), "it was awake in between");
        assert_eq!(naps.slept(now + 3 * AWAKE, at(20)), Woken::Anew);
        assert_eq!(naps.slept(now + 3 * AWAKE, at(3600)), Woken::Anew);
    }

    #[test]
    fn a_machine_that_dozes_is_silent_for_as_long_as_one_that_sleeps() {
        let mut now = Instant::now();
        let mut naps = Naps::default();
        let mut woken = Vec::new();
        for _ in 0..6 {
            now += at(1);
            woken.push(naps.slept(now, at(8)) == Woken::Anew);
        }
        assert_eq!(woken, [false, false, true, false, false, true]);
    }
}
