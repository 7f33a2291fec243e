//! The rules of every strategy, and what this one promises besides. Virtual time.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::io::Write as _;
use std::time::Duration;

use static_hints as _;
use tempfile::NamedTempFile;
use wireplug_core::PublicKey;
use wireplug_strategy::kit::{Place, Run, Scenario, address};
use wireplug_strategy::{PeerSituation, Situation, find};

/// A host with two peers.
fn place() -> Place {
    let peers = [1, 2].map(|number| PeerSituation { public_key: key(number), endpoint: None });
    Place::new(Situation {
        listen_port: 51820,
        addresses: vec![address([192, 168, 1, 5].into(), 24)],
        peers: peers.into(),
        ..Situation::default()
    })
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

/// A file of hints for both peers and for somebody else.
fn hints() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for (number, places) in [(1, "10.0.0.9:51820"), (2, "10.0.0.9:51821 [2a00::9]:51820"), (3, "10.0.0.7:1")]
    {
        writeln!(file, "{} {places}", key(number)).unwrap();
    }
    file
}

fn table(file: &NamedTempFile) -> toml::Table {
    toml::Table::from_iter([("file".to_owned(), file.path().to_str().unwrap().into())])
}

fn scenario() -> Scenario {
    Scenario::new(place(), place()).changing("a peer is removed", |place| {
        place.situation.peers.pop();
    })
}

// Each test has a file of its own, which goes with it.
mod rules {
    use super::*;

    thread_local! {
        static FILE: NamedTempFile = hints();
    }

    wireplug_strategy::conformance!(find("static-hints").unwrap(), FILE.with(table), scenario());
}

/// The places that are suggested now, in words.
fn suggested(run: &Run) -> Vec<String> {
    run.host.standing().suggestions.keys().map(|(_, place)| place.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_file_is_followed_while_a_peer_is_worked_on() {
    let mut home = place();
    home.situation.generation = 1;
    home.situation.wanted = true;
    let file = hints();
    let run = Run::start(find("static-hints").unwrap(), &table(&file), home).unwrap();
    run.after(Duration::from_secs(1)).await;
    assert_eq!(suggested(&run), ["10.0.0.9:51820", "10.0.0.9:51821", "[2a00::9]:51820"]);
    assert_eq!(run.host.notes(), ["knows where 2 of 2 peers may be"]);

    std::fs::write(file.path(), format!("{} 10.0.0.8:51820\n", key(1))).unwrap();
    run.after(Duration::from_secs(31)).await;
    assert_eq!(suggested(&run), ["10.0.0.8:51820"]);

    run.change(|place| place.situation.wanted = false);
    std::fs::write(file.path(), "").unwrap();
    run.after(Duration::from_hours(1)).await;
    assert_eq!(suggested(&run), ["10.0.0.8:51820"], "nobody looks while all is settled");

    run.change(|place| place.situation.wanted = true);
    run.after(Duration::from_secs(1)).await;
    assert_eq!(suggested(&run), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_there_is_said() {
    let mut home = place();
    home.situation.wanted = true;
    let table = toml::toml! { file = "/nonexistent/hints" };
    let run = Run::start(find("static-hints").unwrap(), &table, home).unwrap();
    run.after(Duration::from_secs(1)).await;
    let note = run.host.notes().pop().unwrap();
    assert!(note.contains("cannot read /nonexistent/hints: No such file"), "{note}");
}
