//! Reading a strategy's own table.

#![allow(clippy::expect_used, reason = "helpers of tests are tests too")]

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use wireplug_strategy::ConfigError;
use wireplug_strategy::options::{OptionDoc, duration_within, parse, parse_duration};

const OPTIONS: &[OptionDoc] = &[
    OptionDoc {
        key: "lease",
        accepts: "a length of time from \"1m\" to \"1d\"",
        default: "1h",
        about: "how long",
        secret: false,
    },
    OptionDoc {
        key: "retries",
        accepts: "a number from 0 to 255",
        default: "3",
        about: "how often",
        secret: false,
    },
    OptionDoc { key: "routers", accepts: "a list of addresses", default: "[]", about: "whom", secret: false },
];

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mine {
    #[serde(deserialize_with = "lease")]
    lease: Duration,
    retries: u8,
    routers: Vec<std::net::IpAddr>,
}

impl Default for Mine {
    fn default() -> Self {
        Self { lease: Duration::from_hours(1), retries: 3, routers: Vec::new() }
    }
}

fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_within(deserializer, Duration::from_mins(1)..=Duration::from_hours(24))
}

fn read(text: &str) -> Result<Mine, ConfigError> {
    parse(&text.parse().expect("the test's own TOML"), OPTIONS)
}

#[test]
fn what_is_left_out_has_its_default() {
    assert_eq!(read(""), Ok(Mine::default()));
    assert_eq!(read("retries = 5"), Ok(Mine { retries: 5, ..Mine::default() }));
}

#[test]
fn all_keys_are_read() {
    let mine = read("lease = \"90m\"\nretries = 0\nrouters = [\"192.168.1.1\", \"fe80::1\"]");
    let routers = ["192.168.1.1", "fe80::1"].map(|ip| ip.parse().unwrap()).to_vec();
    assert_eq!(mine, Ok(Mine { lease: Duration::from_mins(90), retries: 0, routers }));
}

#[test]
fn an_unknown_key_is_named_beside_the_known_ones() {
    let error = read("retries = 5\nleese = \"1h\"").unwrap_err();
    assert_eq!(error.key.as_deref(), Some("leese"));
    assert_eq!(error.to_string(), "unknown key \"leese\": it knows lease, retries, routers");

    let error = parse::<Mine>(&"lease = \"1h\"".parse().unwrap(), &[]).unwrap_err();
    assert_eq!(error.to_string(), "unknown key \"lease\": it has no options");
}

#[test]
fn a_wrong_value_is_told_with_its_key_and_what_is_accepted() {
    for (key, value) in [
        ("lease", "3600"),
        ("lease", "\"1 h\""),
        ("lease", "\"1s\""),
        ("lease", "\"2d\""),
        ("retries", "\"3\""),
        ("retries", "256"),
        ("retries", "-1"),
        ("routers", "\"192.168.1.1\""),
        ("routers", "[\"router\"]"),
    ] {
        // Among right ones, in any place.
        let right = if key == "retries" { "lease = \"2h\"" } else { "retries = 1" };
        for text in [format!("{key} = {value}\n{right}"), format!("{right}\n{key} = {value}")] {
            let error = read(&text).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{text}: {error}");
            let accepts = OPTIONS.iter().find(|option| option.key == key).unwrap().accepts;
            let told = error.to_string();
            assert!(told.starts_with(&format!("{key}: ")) && told.contains(accepts), "{text}: {told}");
            assert!(!told.contains('\n'), "{text}: {told:?}");
        }
    }
}

#[test]
fn bounds_are_told_in_seconds() {
    let error = read("lease = \"500ms\"").unwrap_err();
    assert!(error.message.contains("0.5 s is not within 60 s and 86400 s"), "{error}");
}

#[test]
fn lengths_of_time_have_a_unit() {
    for (text, millis) in
        [("250ms", 250), ("20s", 20_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000), ("0s", 0)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "20",
        "s",
        "-1s",
        "+1s",
        "1.5h",
        "1h30m",
        " 1s",
        "1s ",
        "1 s",
        "1S",
        "1w",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        let error = parse_duration(text).unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("\"20s\""), "{text}: {error}");
    }
}

#[test]
fn a_long_wrong_length_is_not_repeated_in_full() {
    let error = parse_duration(&"x".repeat(10_000)).unwrap_err().to_string();
    assert!(error.len() < 200, "{error}");
}
