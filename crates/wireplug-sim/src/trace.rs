//! What happened in a run, for people: kept only when asked for, printed only when a test fails.

use std::fmt::Write as _;

use crate::Time;

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Trace {
    from: Option<Time>,
    text: String,
}

impl Trace {
    /// A trace that keeps its lines, or drops them.
    pub fn new(wanted: bool) -> Self {
        Self { from: wanted.then_some(Time::ZERO), text: String::new() }
    }

    /// Keeps lines from then on only.
    pub fn keep_from(&mut self, from: Time) {
        self.from = Some(from);
    }

    /// Whether lines of this time are kept.
    pub fn is_kept(&self, now: Time) -> bool {
        self.from.is_some_and(|from| from <= now)
    }

    /// Adds a line, which is only made if it is kept.
    pub fn line(&mut self, now: Time, words: impl FnOnce() -> String) {
        if self.is_kept(now) {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{:10.4} {}", now.as_secs_f64(), words());
        }
    }

    /// All lines.
    pub fn text(&self) -> &str {
        &self.text
    }
}
