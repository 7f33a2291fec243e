//! How many checks of one peer are answered.

use std::time::Instant;

use super::tuning::{ANSWER_BURST, ANSWERS_PER_SECOND};

/// Answers to checks that may still be given: a bucket that fills with time.
#[derive(Debug)]
pub(super) struct Answers {
    left: u32,
    filled: Instant,
}

impl Answers {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: ANSWER_BURST, filled: now }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ms = u32::try_from((now - self.filled).as_millis()).unwrap_or(u32::MAX);
        let more = ms.saturating_mul(ANSWERS_PER_SECOND) / 1000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(ANSWER_BURST);
            self.filled = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}
