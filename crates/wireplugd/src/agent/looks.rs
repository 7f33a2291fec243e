//! When the network is looked at after the kernel's notices of changes. Without IO.
//!
//! The first notice after a quiet time is acted on at once: it would be felt as an outage to wait when roaming. A link
//! that comes up changes several things one after another, so the next look follows a little later; where changes go on and
//! on, as on a host that starts containers all the time, looks become rare.

use std::time::{Duration, Instant};

/// Between the first look and the next: what a script changes in one go is done by then, and nobody feels it.
const FIRST_GAP: Duration = Duration::from_millis(20);
/// The gap doubles with each look, up to this: what endless changes of others may cost, and how late a change that
/// concerns us is seen among them.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// The looks at one network.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: Option<Instant>,
    gap: Duration,
    due: Option<Instant>,
}

impl Looks {
    /// The kernel said that something changed.
    pub(super) fn noticed(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        if self.last.is_none_or(|last| now >= last + LONGEST_GAP) {
            self.gap = Duration::ZERO;
        }
        self.due = Some(self.last.map_or(now, |last| now.max(last + self.gap)));
    }

    /// When to look next, if anything was noticed since the last look.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The network is looked at now.
    pub(super) fn look(&mut self, now: Instant) {
        self.due = None;
        self.last = Some(now);
        self.gap = (self.gap * 2).clamp(FIRST_GAP, LONGEST_GAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Looks whenever one is due until nothing is, with notices at these times in milliseconds.
    fn looks(notices: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let start = Instant::now();
        let (mut looks, mut seen) = (Looks::default(), Vec::new());
        let mut look_until = |looks: &mut Looks, until: Option<Instant>| {
            while let Some(due) = looks.due().filter(|due| until.is_none_or(|until| *due < until)) {
                looks.look(due);
                seen.push((due - start).as_millis());
            }
        };
        for notice in notices {
            let now = at(start, notice);
            look_until(&mut looks, Some(now));
            looks.noticed(now);
        }
        look_until(&mut looks, None);
        seen
    }

    #[test]
    fn the_first_notice_is_acted_on_at_once_and_what_follows_soon() {
        assert_eq!(looks([1000]), [1000]);
        // A link goes, another comes with an address, and a moment later there is a route.
        assert_eq!(looks([1000, 1001, 1002, 1015]), [1000, 1020]);
        assert_eq!(looks([1000, 1700, 1701]), [1000, 1700, 1740]);
        assert_eq!(looks([1000, 5000, 5001]), [1000, 5000, 5020]);
    }

    #[test]
    fn endless_changes_are_looked_at_once_a_second() {
        let seen = looks((0..60_000).step_by(5));
        assert!(seen.len() < 70, "{}", seen.len());
        let gaps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= 1005) && gaps[10..].iter().all(|gap| *gap >= 995), "{gaps:?}");
    }

    #[test]
    fn no_notice_is_forgotten() {
        for last in 1001..1100 {
            let seen = looks([1000, 1001, last]);
            assert!(seen.last().is_some_and(|look| *look >= u128::from(last)), "{last}: {seen:?}");
        }
    }
}
