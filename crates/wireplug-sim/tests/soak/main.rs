//! A simulated month in which everything happens to two hosts that can happen: a pair that could be connected is never
//! without a tunnel for more than half a minute.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod events;
mod month;

use common::judge::without_instants;
use common::setting;
use month::{Month, Violation};
use wireplug_sim::scenario::Scenario;
use wireplug_sim::site::Shared;
use wireplug_sim::{Time, secs};

const DAY: Time = secs(24 * 3600);

/// Where the month begins: two drawn places that share nothing, and a server that relays, mostly.
fn draw(seed: u64) -> Scenario {
    let mut scenario = Scenario::draw(seed);
    scenario.shared = Shared::Nothing;
    for host in &mut scenario.hosts {
        host.ping_every = None;
        host.stale_endpoint = false;
    }
    if seed % 4 == 3 { scenario } else { scenario.relayed() }
}

/// In how many tests the months are played, side by side.
const TESTS: u64 = 4;

#[test]
fn a_month_of_everything_never_parts_a_pair_for_long() {
    months(0);
}

#[test]
fn another_month_of_everything_never_parts_a_pair_for_long() {
    months(1);
}

#[test]
fn a_third_month_of_everything_never_parts_a_pair_for_long() {
    months(2);
}

#[test]
fn a_month_with_a_server_that_does_not_relay_never_parts_a_pair_for_long() {
    months(3);
}

/// Plays a test's part of `WIREPLUG_SIM_CASES` seeds, one each if that is not set, for `WIREPLUG_SIM_DAYS` days each; or
/// the one seed that `WIREPLUG_SIM_SEED` says.
fn months(test: u64) {
    let days = u32::try_from(setting("WIREPLUG_SIM_DAYS", 30)).unwrap();
    let only = std::env::var("WIREPLUG_SIM_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..setting("WIREPLUG_SIM_CASES", TESTS),
    };
    let mut failures = Vec::new();
    for seed in seeds.filter(|seed| seed % TESTS == test) {
        let scenario = draw(seed);
        let mut month = Month::new(&scenario);
        match month.play(DAY * days) {
            Ok(()) => println!("seed {seed}: {}", month.told()),
            Err(violation) => failures.push((seed, violation)),
        }
    }
    let Some((seed, violation)) = failures.first() else { return };
    let said = |violation: &Violation| without_instants(&violation.to_string());
    let scenario = draw(*seed);
    let mut again = Month::new(&scenario);
    again.keep_from(violation.began.saturating_sub(secs(setting("WIREPLUG_SIM_BEFORE", 60))));
    let repeated = again.play(DAY * days);
    let others: Vec<_> = failures.iter().map(|(seed, violation)| format!("{seed}: {violation}")).collect();
    panic!(
        "{violation}\n{scenario}{}\nall {} failures:\n{}\n\nrepeat: WIREPLUG_SIM_SEED={seed} cargo nextest run -p wireplug-sim --test soak{}",
        again.trace(),
        others.len(),
        others.join("\n"),
        if repeated.err().is_some_and(|again| said(&again) == said(violation)) {
            ""
        } else {
            " (NOT the same when repeated)"
        },
    );
}
