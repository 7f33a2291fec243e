//! Lengths of time in the config: `"20s"`, `"5m"`, `"1h"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

/// The units, with their lengths in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time: write a whole number with its unit (ms, s, m, h, d), such as \"20s\"")]
pub struct BadDuration(String);

/// Reads a length of time: a whole number, then its unit, with nothing between or around.
///
/// # Errors
/// [`BadDuration`] shows what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.chars().take(32).collect());
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit);
    let (_, millis) = UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(bad)
}

/// For serde: `#[serde(deserialize_with = "wireplug_strategy::options::duration")]`.
///
/// # Errors
/// What [`parse_duration`] says, or that the value is no text.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same within bounds, for a `deserialize_with` function of the strategy's own.
///
/// # Errors
/// What [`duration`] says, or what the bounds are.
pub fn duration_within<'de, D: Deserializer<'de>>(
    deserializer: D,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, D::Error> {
    let read = duration(deserializer)?;
    if bounds.contains(&read) {
        return Ok(read);
    }
    let (from, to) = (bounds.start().as_secs_f64(), bounds.end().as_secs_f64());
    Err(D::Error::custom(format_args!("{} s is not within {from} s and {to} s", read.as_secs_f64())))
}
