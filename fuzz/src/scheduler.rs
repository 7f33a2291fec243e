//! The scheduler, with whatever can happen to it in any order.

#[allow(dead_code, clippy::expect_used, clippy::unwrap_used)]
#[path = "../../crates/wireplug-core/tests/scheduler/driver.rs"]
mod driver;
#[allow(dead_code, clippy::expect_used, clippy::unwrap_used)]
#[path = "../../crates/wireplug-core/tests/scheduler/steps.rs"]
mod steps;

use driver::Driver;
use steps::{Step, Written, play};

/// The most steps of one run.
const MAX_STEPS: usize = 200;

/// Plays the steps of the scheduler's own test with arbitrary inputs: the first byte says which side we are and whether a
/// server is there to begin with, and each six after it are a step.
pub(crate) fn scheduler(data: &[u8]) {
    let Some((side, rest)) = data.split_first() else { return };
    let (written, _) = rest.as_chunks::<{ size_of::<Written>() }>();
    let steps = written.iter().take(MAX_STEPS).copied().map(Step::read).collect();
    let driver = if side % 2 == 0 { Driver::initiator() } else { Driver::follower() };
    let driver = if side / 2 % 2 == 0 { driver.begun() } else { driver };
    if let Err(error) = play(driver, steps) {
        panic!("{error}");
    }
}
