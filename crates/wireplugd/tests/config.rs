//! Every complaint about a config names file, line, what is wrong and what is accepted.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use wireplug_core::{PublicKey, Tier};
use wireplug_strategy::inventory;
use wireplug_strategy::options::{self, OptionDoc};
use wireplug_strategy::{BoxFuture, ConfigError as OptionError, Context, Failure, Registration, Strategy};
use wireplugd::config::{Config, ConfigError};

const OPTIONS: &[OptionDoc] = &[OptionDoc {
    key: "lease",
    accepts: "seconds, 60 to 86400",
    default: "3600",
    about: "how long",
    secret: false,
}];

struct Test;

#[derive(serde::Deserialize)]
struct TestOptions {
    #[serde(rename = "lease")]
    _lease: Option<u32>,
}

impl Strategy for Test {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            context.cancelled().await;
            Ok(())
        })
    }
}

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, OptionError> {
    options::parse::<TestOptions>(table, OPTIONS)?;
    Ok(Box::new(Test))
}

inventory::submit! {
    Registration { name: "test", tier: Tier::Mapped, about: "Tests.", options: OPTIONS, build }
}

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const PIN: &str = "sha256/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn error(text: &str) -> String {
    match Config::parse(text, "w.toml") {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

/// Asserts that a text is refused at a line, with all of these words.
#[track_caller]
fn refused(text: &str, line: usize, words: &[&str]) {
    let text = text.replace("KEY=", KEY);
    let error = error(&text);
    assert!(error.starts_with(&format!("w.toml:{line}: ")), "line {line}: {error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert!(!error.contains('\n'), "one line: {error:?}");
}

#[test]
fn an_empty_config_runs_all_strategies_by_tier() {
    let config = Config::parse("", "w.toml").unwrap();
    assert!(config.servers.is_empty());
    let interface = config.interface(&"wg0".parse().unwrap());
    let names: Vec<_> = interface.strategies.iter().map(|(one, _)| one.name).collect();
    for one in ["direct", "hole-punch", "test"] {
        assert!(names.contains(&one), "{names:?}");
    }
    assert!(interface.strategies.is_sorted_by_key(|(one, _)| one.tier), "{names:?}");
}

#[test]
fn all_that_can_be_said_is_read() {
    let text = format!(
        r#"
        [[server]]
        url = "wss://wireplug.example"
        pin = "{PIN}"
        [[server]]
        url = "wss://203.0.113.7:8443"
        [interface.wg0]
        strategies = ["hole-punch", "test"]
        [interface.wg0.strategy.test]
        lease = 60
        [interface.wg0.peer."{KEY}"]
        name = "nas"
        strategies = ["test"]
        endpoint = "home.example.org:51820"
        [interface.wg1]
        "#
    );
    let config = Config::parse(&text, "w.toml").unwrap();
    let urls: Vec<_> = config.servers.iter().map(|server| server.url.to_string()).collect();
    assert_eq!(urls, ["wss://wireplug.example/", "wss://203.0.113.7:8443/"]);
    assert_eq!(config.servers[0].pin.map(|pin| pin.to_string()).as_deref(), Some(PIN));
    assert_eq!(config.interfaces.len(), 2);
    let wg0 = config.interface(&"wg0".parse().unwrap());
    let run: Vec<_> = wg0.strategies.iter().map(|(one, table)| (one.name, table.len())).collect();
    assert_eq!(run, [("hole-punch", 0), ("test", 1)]);
    let peer = &wg0.peers[&PublicKey::from_bytes([7; 32])];
    assert_eq!(peer.name.as_deref(), Some("nas"));
    assert_eq!(peer.endpoint.as_deref(), Some("home.example.org:51820"));
    assert_eq!(peer.strategies.as_deref(), Some(&["test".parse().unwrap()][..]));
}

#[test]
fn toml_that_cannot_be_read_is_located() {
    refused("\n[[server\n", 2, &[]);
    refused("a = 1\na = 2\n", 2, &["duplicate"]);
}

#[test]
fn unknown_keys_are_refused_with_the_known_ones() {
    refused("\nservers = 1", 2, &["unknown key \"servers\"", "accepted: server, interface"]);
    refused("[[server]]\nurl = \"wss://a\"\nport = 1", 3, &["\"port\"", "url, pin"]);
    refused("[interface.wg0]\nkeys = 1", 2, &["\"keys\"", "[interface.wg0]", "strategies, strategy, peer"]);
    refused("[interface.wg0.peer.\"KEY=\"]\nnick = 1", 2, &["\"nick\"", "name, strategies, endpoint"]);
}

#[test]
fn wrong_types_are_refused_with_the_right_ones() {
    refused("server = \"x\"", 1, &["server is a string", "expected [[server]] tables"]);
    refused("[[server]]\nurl = 1", 2, &["url is an integer", "expected a string"]);
    refused("[[server]]\nurl = \"wss://a\"\npin = []", 3, &["pin is a list", "sha256/BASE64"]);
    refused("interface = 1", 1, &["interface is an integer", "a table"]);
    refused("[interface]\nwg0 = true", 2, &["wg0 is a boolean", "a table"]);
    refused("[interface.wg0]\nstrategies = \"direct\"", 2, &["a list of names of strategies"]);
    refused("[interface.wg0]\nstrategies = [\n\"direct\",\n2]", 4, &["is an integer", "names of strategies"]);
    refused("[interface.wg0.peer.\"KEY=\"]\nname = 1.5", 2, &["name is a float", "a string"]);
    refused("[interface.wg0.peer.\"KEY=\"]\nendpoint = 2020-01-01", 2, &["endpoint is a date"]);
}

#[test]
fn bad_servers_are_refused() {
    refused("[[server]]\npin = \"x\"", 1, &["no url", "wss://HOST"]);
    refused("[[server]]\nurl = \"ws://a\"", 2, &["does not begin with wss://", "expected wss://HOST"]);
    refused("[[server]]\nurl = \"wss://a\"\npin = \"abc\"", 3, &["is not a pin", "wireplug-serverd pin"]);
    let twice = "[[server]]\nurl = \"wss://a\"\n[[server]]\nurl = \"wss://a:443/\"";
    refused(twice, 4, &["configured twice"]);
}

#[test]
fn bad_interfaces_and_peers_are_refused() {
    refused("[interface.\"a/b\"]", 1, &["cannot name an interface", "1 to 15 characters"]);
    refused("\n[interface.wg0.peer.short]\nname = \"x\"", 2, &["not a WireGuard key", "44 characters"]);
    refused("[interface.wg0.peer.\"KEY=\"]\nname = \"\"", 2, &["1 to 64 printable"]);
    refused("[interface.wg0.peer.\"KEY=\"]\nname = \"a\\u001b[1m\"", 2, &["1 to 64 printable"]);
}

#[test]
fn bad_endpoints_are_refused() {
    for (endpoint, why) in [
        ("home.example.org", "has no port"),
        ("home.example.org:0", "1 to 65535"),
        ("home.example.org:wg", "1 to 65535"),
        (":51820", "neither a name nor an address"),
        ("a b:1", "neither a name nor an address"),
        ("2a00::1:51820", "without brackets"),
        ("2a00::1", "without brackets"),
        ("127.0.0.1:51820", "is no use"),
        ("5.6.7.8:0", "port 0"),
    ] {
        let text = format!("[interface.wg0.peer.\"KEY=\"]\nendpoint = \"{endpoint}\"");
        refused(&text, 2, &[why, "\"NAME:PORT\", \"IPV4:PORT\" or \"[IPV6]:PORT\""]);
    }
}

#[test]
fn unknown_strategies_are_refused_with_those_compiled_in() {
    let names: Vec<_> = wireplug_strategy::registered().iter().map(|one| one.name).collect();
    assert!(names.contains(&"direct") && names.contains(&"test"), "{names:?}");
    let known = format!("compiled in: {}", names.join(", "));
    let known = known.as_str();
    refused("[interface.wg0]\nstrategies = [\"direct\", \"magic\"]", 2, &["\"magic\"", known]);
    refused("[interface.wg0.strategy.magic]", 1, &["\"magic\"", known]);
    refused("[interface.wg0.peer.\"KEY=\"]\nstrategies = [\"magic\"]", 2, &["\"magic\"", known]);
    refused("[interface.wg0]\nstrategies = [\"test\", \"test\"]", 2, &["twice"]);
    let narrowed =
        "[interface.wg0]\nstrategies = [\"test\"]\n[interface.wg0.peer.\"KEY=\"]\nstrategies = [\"direct\"]";
    refused(narrowed, 4, &["not run on this interface", "its strategies are test"]);
}

#[test]
fn a_strategys_own_complaint_is_located_at_its_key() {
    let table = "[interface.wg0.strategy.test]\n\n";
    refused(&format!("{table}leese = 60"), 3, &["strategy test", "unknown key \"leese\"", "it knows lease"]);
    refused(&format!("{table}lease = \"1\""), 3, &["strategy test", "it accepts seconds, 60 to 86400"]);
    refused(&format!("{table}lease = 99999999999999999999"), 3, &["out of range"]);
}

#[test]
fn a_missing_default_is_the_default_but_a_missing_file_is_told() {
    let error = Config::load(Some(Path::new("/nonexistent/w.toml"))).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().contains("cannot read the config /nonexistent/w.toml"), "{error}");
}
