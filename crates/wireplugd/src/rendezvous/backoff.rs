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

/// Waits that double, each shortened by up to a half at random, so that the clients of a server that comes
/// back do not all come at once.
pub(crate) struct Backoff {
    next: Duration,
    random: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: FIRST, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next wait, at least as long as the server asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let wait = whole.mul_f64(self.random.random_range(0.5..=1.0));
        wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// Begins with short waits again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
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
    fn daemons_differ() {
        assert_ne!(Backoff::new(1).next(None), Backoff::new(2).next(None));
    }

    #[test]
    fn a_server_may_ask_for_more_but_not_for_ever() {
        let mut backoff = Backoff::new(1);
        assert_eq!(backoff.next(Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400))), LONGEST_ASKED);
    }
}
