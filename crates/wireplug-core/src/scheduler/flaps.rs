//! A way straight to the peer that comes and goes: each return to it from a relay needs more patience.

use std::time::{Duration, Instant};

use super::tuning::{FLAPS_FORGOTTEN, PROBATION, flap_pause};

/// How often the session had to leave a direct path for a relay.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    deaths: u32,
    last: Option<Instant>,
}

impl Flaps {
    /// The direct path in use carries nothing any more, and the session left it for a relay.
    pub(super) fn died(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now - last > FLAPS_FORGOTTEN) {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        self.last = Some(now);
    }

    /// The network is another one, and with it the paths.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether direct paths must prove more than one answer.
    pub(super) fn any(&self) -> bool {
        self.deaths > 0
    }

    /// From when on a direct path that was proven then may be returned to, if it goes on answering.
    pub(super) fn trusted_at(&self, proven: Instant) -> Instant {
        let Some(last) = self.last else { return proven };
        (last + flap_pause(self.deaths)).max(proven + PROBATION * self.deaths.min(4))
    }
}

/// How long a proof holds while a path is asked again and again.
pub(super) const LAPSE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_asks_for_more_patience_and_a_long_calm_forgets() {
        let start = Instant::now();
        let mut flaps = Flaps::default();
        assert_eq!(flaps.trusted_at(start), start);
        let mut now = start;
        let mut before = Duration::ZERO;
        for _ in 0..6 {
            flaps.died(now);
            let wait = flaps.trusted_at(now) - now;
            assert!(wait > before, "{wait:?} after {before:?}");
            (before, now) = (wait, now + wait);
        }
        flaps.died(now + FLAPS_FORGOTTEN + Duration::from_secs(1));
        assert!(flaps.trusted_at(now) - (now + FLAPS_FORGOTTEN) < before);
        flaps.forget();
        assert!(!flaps.any());
    }
}
