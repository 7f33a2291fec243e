//! How the runs of strategies go: since when, how often they failed, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use wireplug_core::StrategyName;

/// The lives of all strategies of one interface. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lives(Arc<Mutex<BTreeMap<StrategyName, Life>>>);

/// One strategy's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// How often it was started.
    pub starts: u32,
    /// How often it failed.
    pub failures: u32,
    /// Whether it runs now.
    pub phase: Phase,
    /// Why it failed last, and when.
    pub last_failure: Option<(String, Instant)>,
}

/// What it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs.
    Running {
        /// Since then.
        since: Instant,
    },
    /// It failed, and is started again.
    Resting {
        /// When.
        until: Instant,
    },
}

impl Lives {
    /// How it goes with a strategy, once it was started.
    pub fn of(&self, strategy: &StrategyName) -> Option<Life> {
        self.lock().get(strategy).cloned()
    }

    pub(super) fn began(&self, strategy: &StrategyName, now: Instant) {
        let phase = Phase::Running { since: now };
        let mut lives = self.lock();
        let life = lives.entry(strategy.clone()).or_insert(Life {
            starts: 0,
            failures: 0,
            phase,
            last_failure: None,
        });
        life.starts = life.starts.saturating_add(1);
        life.phase = phase;
    }

    pub(super) fn failed(&self, strategy: &StrategyName, now: Instant, why: &str, until: Instant) {
        if let Some(life) = self.lock().get_mut(strategy) {
            life.failures = life.failures.saturating_add(1);
            life.phase = Phase::Resting { until };
            life.last_failure = Some((why.to_owned(), now));
        }
    }

    /// It is not run any more.
    pub(super) fn forget(&self, strategy: &StrategyName) {
        self.lock().remove(strategy);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StrategyName, Life>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
