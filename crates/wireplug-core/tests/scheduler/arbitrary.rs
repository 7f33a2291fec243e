//! Whatever arrives in whatever order: no panic, bounded work, and nothing applied that no answer proved.

use proptest::prelude::*;

use super::driver::Driver;
use super::steps::{play, steps};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_unproven_is_applied_and_nothing_spins(initiator: bool, server: bool, steps in steps()) {
        let driver = if initiator { Driver::initiator() } else { Driver::follower() };
        play(if server { driver.begun() } else { driver }, steps)?;
    }
}
