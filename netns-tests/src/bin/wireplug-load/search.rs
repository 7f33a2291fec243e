//! The search for the highest rate without loss.

use anyhow::Result;
use wireplug_lab::{HighestRate, LoadReport};

/// Where the search begins, in datagrams a second.
const LOWEST: f64 = 5_000.0;
/// The first steps: from one rate to the next.
const STEP: f64 = 1.6;
/// The search ends when what passed and what failed are closer than this.
const CLOSE: f64 = 1.05;
/// A rate passes if one of so many windows loses nothing: other processes of the machine lose some too.
const TRIES: usize = 3;

/// Searches; `measure` runs a window at a rate.
pub(crate) fn highest_rate(mut measure: impl FnMut(f64) -> Result<LoadReport>) -> Result<HighestRate> {
    let mut best = None;
    let mut limited_by_load = false;
    let (mut passed, mut failed) = (None, f64::INFINITY);
    let mut rate = LOWEST;
    loop {
        match passes(rate, &mut measure)? {
            Trial::Passed(report) => {
                passed = Some(rate);
                best = Some(report);
            }
            Trial::Lost => (failed, limited_by_load) = (rate, false),
            Trial::NotOffered => (failed, limited_by_load) = (rate, true),
        }
        rate = match passed {
            Some(passed) if failed / passed < CLOSE => break,
            Some(passed) if failed.is_infinite() => passed * STEP,
            Some(passed) => (passed * failed).sqrt(),
            None if rate < LOWEST / 10.0 => break,
            None => rate / STEP,
        };
    }
    Ok(HighestRate { best, limited_by_load })
}

enum Trial {
    /// A window without loss.
    Passed(LoadReport),
    /// All windows lost some.
    Lost,
    /// Nothing was lost, but the load could not send as much as it should.
    NotOffered,
}

fn passes(rate: f64, measure: &mut impl FnMut(f64) -> Result<LoadReport>) -> Result<Trial> {
    let mut trial = Trial::Lost;
    for _ in 0..TRIES {
        let report = measure(rate)?;
        if report.lost() > 0 {
            continue;
        }
        if report.kept_up() {
            return Ok(Trial::Passed(report));
        }
        trial = Trial::NotOffered;
    }
    Ok(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rate: f64, sent: f64, received: f64) -> LoadReport {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = |number: f64| number as u64;
        LoadReport {
            offered: Some(rate),
            seconds: 1.0,
            sent: whole(sent),
            unsent: whole(rate - sent),
            received: whole(received),
            reordered: 0,
            server_cpu_ns: None,
            sending_ns: None,
            latency_ns: None,
            latency_p99_ns: None,
        }
    }

    #[test]
    fn finds_what_a_server_forwards() {
        let found = highest_rate(|rate| Ok(report(rate, rate, rate.min(163_000.0)))).unwrap();
        let best = found.best.unwrap().rate();
        assert!((163_000.0 / CLOSE..=163_000.0).contains(&best), "{best}");
        assert!(!found.limited_by_load);
    }

    #[test]
    fn says_that_the_load_was_the_limit() {
        let found = highest_rate(|rate| Ok(report(rate, rate.min(90_000.0), rate.min(90_000.0)))).unwrap();
        assert!(found.limited_by_load);
        assert!(found.best.unwrap().rate() <= 91_000.0);
    }

    #[test]
    fn one_window_without_loss_is_enough() {
        let mut windows = 0;
        let found = highest_rate(|rate| {
            windows += 1;
            let received = if windows % TRIES == 0 { rate } else { 0.0 };
            Ok(report(rate, rate, if rate > 50_000.0 { 0.0 } else { received }))
        });
        assert!(found.unwrap().best.unwrap().rate() > 45_000.0);
    }

    #[test]
    fn ends_where_everything_is_lost() {
        assert_eq!(highest_rate(|rate| Ok(report(rate, rate, 0.0))).unwrap().best, None);
    }
}
