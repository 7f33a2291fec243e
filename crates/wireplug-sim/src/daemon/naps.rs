//! What sleeps of the machine mean for what was found before them, as `wireplugd` has it.

use std::time::Instant;

use crate::{Time, secs};

/// After so long a sleep nothing of before holds.
const LONG: Time = secs(20);

/// Sleeps with less than this between them are one.
const AWAKE: Time = secs(30);

/// The sleeps since the machine was last awake for a while.
#[derive(Debug, Default)]
pub(super) struct Naps {
    slept: Time,
    last: Option<Instant>,
}

/// What a sleep means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// All is so much older.
    Older,
    /// Nothing of before holds.
    Anew,
}

impl Naps {
    /// The machine slept so long, and woke up now, by the clock that stands still meanwhile.
    pub(super) fn slept(&mut self, now: Instant, time: Time) -> Woken {
        if self.last.is_none_or(|last| now >= last + AWAKE) {
            self.slept = Time::ZERO;
        }
        self.last = Some(now);
        self.slept += time;
        if self.slept < LONG {
            return Woken::Older;
        }
        self.slept = Time::ZERO;
        Woken::Anew
    }
}
