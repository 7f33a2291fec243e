//! How many checks may be sent to the places that one peer names. Without IO.
//!
//! Where checks go is the peer's word, or that of whoever took its key. One that names ever new places of a stranger's
//! must not make us flood the stranger.

use std::time::{Duration, Instant};

/// Checks at once: the first six of each of the scheduler's forty paths, which is all that an honest peer needs
/// until the first of them are due once a second only.
const BURST: u32 = 256;
/// The gap in the long run: three times what forty paths need then.
const EVERY: Duration = Duration::from_millis(8);

/// A token bucket, kept as the instant at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    full_at: Option<Instant>,
}

impl Pace {
    /// Whether one more may be sent now; then it counts as sent.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + EVERY;
        let fits = full_at - now <= BURST * EVERY;
        if fits {
            self.full_at = Some(full_at);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_and_then_one_at_a_time() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let sent = |pace: &mut Pace, at| (0..10_000).filter(|_| pace.take(at)).count();
        assert_eq!(sent(&mut pace, start), 256);
        assert_eq!(sent(&mut pace, start + EVERY), 1);
        assert_eq!(sent(&mut pace, start + Duration::from_secs(1)), 124);
        assert_eq!(sent(&mut pace, start + Duration::from_secs(60)), 256, "never more at once");
    }
}
