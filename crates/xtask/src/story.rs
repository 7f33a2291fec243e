//! The daemons' log lines as a story: what was found, offered, proven, applied and confirmed, and when.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wireplug_lab::{Daemon, End, Pair};

/// What the daemons log for the story: addresses are told at `debug` only.
pub(crate) const LOG_FILTER: &str = "info,wireplug=debug,wireplugd=debug,wireplug_core=debug";

/// Beginnings of log lines that are steps on the way, and the step's name. What is not listed is told as it
/// is, if it is not `DEBUG`.
const STEPS: [(&str, &str); 10] = [
    ("looking after", "start"),
    ("connected to the server", "server"),
    ("candidate found", "found"),
    ("the NAT's kind", "found"),
    ("offer sent", "offered"),
    ("offer received", "heard"),
    ("path proven", "proven"),
    ("endpoint set to", "applied"),
    ("the endpoint in use", "confirmed"),
    ("peer", "state"),
];

/// Lines that say what another one says better.
const LESS: [&str; 2] = ["connected server", "endpoint set peer"];

/// A day, in which log lines have their times.
const DAY: Duration = Duration::from_secs(86_400);

/// What has been told of each daemon so far.
pub(crate) struct Story {
    started: SystemTime,
    told: BTreeMap<String, usize>,
    last: BTreeMap<String, String>,
}

impl Story {
    pub(crate) fn new(started: SystemTime) -> Self {
        Self { started, told: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Prints the steps that the daemons have logged since the last time, in the order in which they were made.
    pub(crate) fn go_on(&mut self, pair: &Pair, daemons: &[Daemon; 2]) {
        let mut lines = Vec::new();
        for ((here, there), daemon) in pair.both_ways().into_iter().zip(daemons) {
            let log = daemon.process().log();
            // A line that is still being written is left for the next time.
            let complete = log.rfind('\n').map_or("", |end| &log[..end]);
            let told = self.told.entry(here.host.label().to_owned()).or_default();
            for line in complete.lines().skip(*told) {
                *told += 1;
                lines.push((
                    at(line, self.started),
                    here.host.label().to_owned(),
                    named(line, [here, there]),
                ));
            }
        }
        lines.sort();
        for (at, who, line) in lines {
            if let Some(step) = step(&line)
                && self.last.get(&who) != Some(&step)
            {
                println!("  {:>6.3} s  {who}  {step}", at.as_secs_f64());
                self.last.insert(who, step);
            }
        }
    }
}

/// When a line was logged, after the start: its time of day is UTC, as in `2026-01-02T03:04:05.678901Z`.
fn at(line: &str, started: SystemTime) -> Duration {
    let time = || {
        let (_, time) = line.split_whitespace().next()?.split_once('T')?;
        let mut parts = time.trim_end_matches('Z').split(':');
        let (hours, minutes) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
        let seconds: f64 = parts.next()?.parse().ok()?;
        Some(
            Duration::from_secs(u64::from(hours * 3600 + minutes * 60))
                + Duration::try_from_secs_f64(seconds).ok()?,
        )
    };
    let start = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Duration::new(start.as_secs() % DAY.as_secs(), start.subsec_nanos());
    let time = time().unwrap_or(start);
    // Midnight may lie between.
    time.checked_sub(start).unwrap_or_else(|| (time + DAY).saturating_sub(start))
}

/// A line with the names of the lab instead of keys, and without its time.
fn named(line: &str, ends: [&End; 2]) -> String {
    let message = line.trim_start().split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
    ends.into_iter()
        .fold(message.to_owned(), |text, end| text.replace(end.wireguard.public_key(), end.host.label()))
}

/// The step that a line tells of; none if it is not worth telling.
fn step(line: &str) -> Option<String> {
    let (level, message) = line.split_once(' ')?;
    let message = message.trim_start();
    if LESS.iter().any(|less| message.starts_with(less)) {
        return None;
    }
    let known = STEPS.iter().find(|(start, _)| message.starts_with(start));
    match (known, level) {
        (Some((start, name)), _) => {
            Some(format!("{name:<10} {}", plain(message[start.len()..].trim_start())))
        }
        (None, "DEBUG" | "TRACE") => None,
        (None, _) => Some(format!("{:<10} {message}", level.to_lowercase())),
    }
}

/// The fields of a line with less punctuation.
fn plain(fields: &str) -> String {
    let fields = match fields.split_once("endpoint=Some(") {
        Some((before, after)) => format!("{before}endpoint={}", after.replacen(')', "", 1)),
        None => fields.to_owned(),
    };
    [
        ("RemoteCandidate { endpoint: ", ""),
        (", tier: ", ", "),
        (", strategy: ", " by "),
        (", reach: ", ", "),
        (" }", ""),
    ]
    .into_iter()
    .fold(fields, |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_by_its_name_and_a_warning_as_it_is() {
        assert_eq!(
            step("DEBUG path proven peer=b from=5.6.7.8:9").unwrap(),
            "proven     peer=b from=5.6.7.8:9"
        );
        assert_eq!(
            step("DEBUG the endpoint in use endpoint=Some(5.6.7.8:9)").unwrap(),
            "confirmed  endpoint=5.6.7.8:9"
        );
        assert_eq!(step("WARN no server").unwrap(), "warn       no server");
        assert_eq!(step("DEBUG note words=x"), None);
        assert_eq!(step("INFO connected server=wss://x/"), None);
    }

    #[test]
    fn times_of_day_count_from_the_start_also_over_midnight() {
        let start = UNIX_EPOCH + DAY * 3 - Duration::from_secs(1);
        assert_eq!(at("1970-01-03T23:59:59.500000Z  INFO x", start), Duration::from_millis(500));
        assert_eq!(at("1970-01-04T00:00:01.250000Z  INFO x", start), Duration::from_millis(2250));
        assert_eq!(at("no time", start), Duration::ZERO);
    }
}
