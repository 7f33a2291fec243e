//! How long to wait before the next try.

use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

/// The first wait: short, because most servers that are away are being restarted.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: a server that was away for long is found again within a minute.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait that a server can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Over so long the first tries are spread of all who lost their connections at one moment, because the server was
/// restarted: longer spares the server, shorter the tunnel that it relayed over TLS.
const SPREAD: Duration = Duration::from_secs(2);

/// Waits that double, each shortened by up to a half at random, so that the clients of a server that comes
/// back do not all come at once.
pub(crate) struct Backoff {
    next: Duration,
    /// Whether the next wait is [`SPREAD`] in its stead, as it is.
    in_row: bool,
    random: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: FIRST, in_row: false, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next wait after a try that failed, at least as long as the server asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let in_row = std::mem::take(&mut self.in_row);
        let whole = if in_row { SPREAD } else { self.next };
        self.next = (whole * 2).min(LONGEST);
        let wait = if in_row { whole } else { whole.mul_f64(self.random.random_range(0.5..=1.0)) };
        // It asks the same of all, and they shall not come back together either.
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        wait.max(asked.mul_f64(self.random.random_range(1.0..=1.25)))
    }

    /// The wait after a connection was lost: others may have lost theirs at the same moment. Who then comes too early
    /// comes again in the same order, so that they stay as far apart as they were spread. Where one connection after
    /// another is lost, waits double all the same.
    pub(crate) fn lost(&mut self, asked: Option<Duration>) -> Duration {
        let first = self.next == FIRST;
        self.in_row = false;
        let wait = self.next(asked) + SPREAD.mul_f64(self.random.random_range(0.0..=1.0));
        self.in_row = first;
        wait
    }

    /// Begins with short waits again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
        self.in_row = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew() {
        let mut backoff = Backoff::new(1);
        for whole in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = backoff.next(None).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{wait} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn connections_that_are_made_and_lost_again_and_again_are_made_ever_more_rarely() {
        let mut backoff = Backoff::new(1);
        let waits: Vec<_> = (0..12).map(|_| backoff.lost(None)).collect();
        assert!(waits[8..].iter().all(|wait| *wait >= LONGEST / 2), "{waits:?}");
    }

    #[test]
    fn daemons_differ() {
        assert_ne!(Backoff::new(1).next(None), Backoff::new(2).next(None));
    }

    #[test]
    fn a_server_may_ask_for_more_but_not_for_ever() {
        let mut backoff = Backoff::new(1);
        for (asked, granted) in [(30, 30), (86_400, 600)] {
            let wait = backoff.next(Some(Duration::from_secs(asked)));
            let granted = Duration::from_secs(granted);
            assert!((granted..=granted * 5 / 4).contains(&wait), "{wait:?} of {granted:?}");
        }
    }

    const CLIENTS: u64 = 1000;

    /// The most clients in any window of so many milliseconds, of those that come at these times.
    fn peak(mut times: Vec<Duration>, window: u64) -> usize {
        times.sort_unstable();
        let window = Duration::from_millis(window);
        (0..times.len())
            .map(|first| times.partition_point(|at| *at < times[first] + window) - first)
            .max()
            .unwrap_or(0)
    }

    /// When each of a thousand clients is connected again, all of which lost a good connection at time zero, to a server
    /// that refuses until `back`.
    fn comebacks(back: Duration) -> Vec<Duration> {
        let comeback = |seed| {
            let mut backoff = Backoff::new(seed);
            let mut at = backoff.lost(None);
            while at < back {
                at += backoff.next(None);
            }
            at
        };
        (0..CLIENTS).map(comeback).collect()
    }

    #[test]
    fn a_thousand_do_not_come_at_once_and_none_comes_late() {
        for back_ms in [
            0, 250, 500, 750, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000, 10_000, 30_000, 60_000, 600_000,
        ] {
            let back = Duration::from_millis(back_ms);
            let times = comebacks(back);
            let latest = times.iter().max().unwrap().saturating_sub(back);
            let (second, tenth) = (peak(times.clone(), 1000), peak(times, 100));
            let told = format!(
                "back after {back:?}: {second} in a second, {tenth} in 0.1 s, the last after {latest:?}"
            );
            // If all waits were spread evenly, 400 would come in a second; without any spread it was all of them.
            assert!(second <= 600 && tenth <= 120, "{told}");
            // A short outage ends soon for everybody, a long one within the longest wait.
            let patience = Duration::from_millis(2500).max(back * 8 / 5 + FIRST).min(LONGEST);
            assert!(latest <= patience, "{told}");
        }
    }
}
