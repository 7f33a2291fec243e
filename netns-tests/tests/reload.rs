//! The config becomes another while tunnels are up: what changed is done, and nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::thread;
use std::time::Duration;

use wireplug_lab::{Binaries, Daemon, End, LabError, Nat, Pair, PairOptions, Ping, Result, wait_for};

const NATS: [Nat; 2] = [Nat::PortPreserving, Nat::Fixed];

/// How long what a reload begins may take: a round of checks, on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// What `wireplug` prints when it is run on a side's computer, and whether it succeeded.
fn wireplug(end: &End, arguments: &[&str]) -> Result<(bool, String)> {
    let program = Binaries::find()?.path("wireplug")?.display().to_string();
    let line = format!("{program} {} 2>&1; echo $?", arguments.join(" "));
    let text = end.host.run(&["sh", "-c", &line])?;
    let text = text.trim_end();
    let (said, status) = text.rsplit_once('\n').unwrap_or(("", text));
    Ok((status == "0", said.to_owned()))
}

/// Replaces a side's config as editors do, by what `change` makes of it.
fn replace(end: &End, change: impl FnOnce(String) -> String) {
    let new = end.config.with_extension("new");
    fs::write(&new, change(fs::read_to_string(&end.config).unwrap())).unwrap();
    fs::rename(new, &end.config).unwrap();
}

/// The config with another list of strategies, or with none.
fn with_strategies(end: &End, list: &str) {
    let head = format!("[interface.{}]\n", end.wireguard.device());
    replace(end, |text| {
        let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("strategies")).collect();
        let without = kept.join("\n") + "\n";
        let without = without.replace(&head, "");
        format!("{without}{head}strategies = [{list}]\n")
    });
}

/// Reloads; fails unless it succeeds and says all of these words.
fn reload(end: &End, words: &[&str]) -> Result<()> {
    let (success, said) = wireplug(end, &["reload"])?;
    if success && words.iter().all(|word| said.contains(word)) {
        return Ok(());
    }
    Err(LabError::unexpected(format!("`wireplug reload` said {said:?} (success: {success}), not {words:?}")))
}

/// The host's TCP connections: those to servers.
fn connections(end: &End) -> Result<Vec<String>> {
    let text = end.host.run(&["ss", "-tnH", "state", "established"])?;
    let mut all: Vec<_> =
        text.lines().map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")).collect();
    all.sort();
    Ok(all)
}

/// How often a strategy was started, and what it does.
fn strategy(end: &End, name: &str) -> Result<(u64, String)> {
    let (_, text) = wireplug(end, &["strategies", end.wireguard.device(), "--json"])?;
    let all: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| LabError::Parse { what: "strategies", text })?;
    let one = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == name)).unwrap();
    let here = &one["interfaces"][0];
    Ok((here["starts"].as_u64().unwrap(), here["state"].as_str().unwrap().to_owned()))
}

fn connected(label: &str, work: impl FnOnce(&Pair, [Daemon; 2]) -> Result<()>) {
    Pair::with(label, NATS, &PairOptions::default(), |pair| {
        let daemons = pair.connect()?;
        pair.check_direct(&daemons)?;
        work(pair, daemons)
    })
    .unwrap();
}

#[test]
fn only_what_changed_is_touched() {
    connected("reload-calm", |pair, daemons| {
        let a = &pair.a;
        let before = connections(a)?;
        assert_eq!(before.len(), 1, "{before:?}");
        let pinging = a.host.keep_pinging(Ping::fast(pair.b.wireguard.address(), u16::MAX))?;

        // A strategy that is in nobody's way, options of another, a name, a second server.
        replace(a, |text| {
            let (servers, peers) = text.split_once("[interface").unwrap();
            let device = a.wireguard.device();
            format!(
                "{servers}[[server]]\nurl = \"wss://127.0.0.1:1\"\n[interface.{device}]\nstrategies = [\"lan-mdns\", \
                 \"direct\", \"hole-punch\", \"nat-pmp\", \"relay\"]\n[interface.{device}.strategy.nat-pmp]\nlease = \
                 \"30m\"\n[interface{}",
                peers.replace(&format!("name = \"{}\"", pair.b.host.label()), "name = \"attic\"")
            )
        });
        let words = ["strategy pcp disabled", "strategy nat-pmp started anew", "wss://127.0.0.1:1/ added"];
        // The watch of the file may be quicker than we are: then the log has it.
        let log = daemons[0].process().clone();
        if reload(a, &words).is_err() {
            for word in words {
                log.wait_log(word, SOON)?;
            }
        }
        wait_for("the second server in status", SOON, || {
            let (_, text) = wireplug(a, &["status"])?;
            Ok((text.contains("wss://127.0.0.1:1/ not connected") && text.contains("attic")).then_some(()))
        })?;
        wait_for("a strategy to be started anew", SOON, || {
            Ok((strategy(a, "nat-pmp")?.1 == "running").then_some(()))
        })?;
        assert_eq!(strategy(a, "pcp")?.1, "off");
        assert_eq!(strategy(a, "hole-punch")?, (1, "running".to_owned()));
        assert_eq!(connections(a)?, before, "the connection to the server is the same");

        // A wrong file, by whatever way, changes nothing.
        let good = fs::read_to_string(&a.config).unwrap();
        replace(a, |text| text.replace("\"hole-punch\"", "\"carrier-pigeon\""));
        let (success, said) = wireplug(a, &["reload"])?;
        let line = 1 + good.lines().position(|line| line.starts_with("strategies")).unwrap();
        let place = format!("{}:{line}: ", a.config.display());
        assert!(!success && said.contains(&place) && said.contains("carrier-pigeon"), "{said}");
        log.wait_log("the one before stays in force", SOON)?;
        a.host.run(&["kill", "-HUP", &daemons[0].process().pid().to_string()])?;
        assert_eq!(strategy(a, "hole-punch")?, (1, "running".to_owned()));

        replace(a, |_| good);
        reload(a, &["nothing changed"])?;
        thread::sleep(Duration::from_secs(1));
        let pings = pinging.stop()?;
        assert_eq!(pings.lost(), 0, "of {} pings", pings.sent);
        assert_eq!(connections(a)?, before);
        assert_eq!(daemons[0].process().exited(), None);
        pair.check_direct(&daemons)
    });
}

#[test]
fn a_strategy_that_is_disabled_while_in_use_is_left_and_comes_back_when_it_is_enabled() {
    left_and_taken_again("reload-disable-a", |pair| &pair.a);
}

/// The side with the higher public key does not choose the path, or the other way round.
#[test]
fn so_it_is_when_the_other_side_disables_it() {
    left_and_taken_again("reload-disable-b", |pair| &pair.b);
}

/// On one side only: the other's config still allows the path that is left.
fn left_and_taken_again(label: &str, which: fn(&Pair) -> &End) {
    connected(label, |pair, daemons| {
        let end = which(pair);
        let pinging = pair.a.host.keep_pinging(Ping::fast(pair.b.wireguard.address(), u16::MAX))?;
        with_strategies(end, "\"direct\", \"relay\"");
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            daemon.wait_state(there.wireguard.public_key(), "relayed", SOON)?;
        }
        pair.check_relayed(&daemons)?;
        // The other side may use the path that was left, and must not lead the session back to it.
        thread::sleep(Duration::from_secs(5));
        pair.check_relayed(&daemons)?;
        with_strategies(end, "\"direct\", \"hole-punch\", \"relay\"");
        for (daemon, (_, there)) in daemons.iter().zip(pair.both_ways()) {
            daemon.wait_state(there.wireguard.public_key(), "connected", SOON)?;
        }
        let pings = pinging.stop()?;
        eprintln!("disabled on {}: {} of {} pings lost", end.host.label(), pings.lost(), pings.sent);
        assert!(pings.longest_gap() < 100, "a second without an answer: {}", pings.longest_gap());
        pair.check_direct(&daemons)?;
        Ok(())
    });
}

#[test]
fn a_server_with_another_pin_is_another_server() {
    connected("reload-pin", |pair, daemons| {
        let before = connections(&pair.a)?;
        let right = fs::read_to_string(&pair.a.config).unwrap();
        let wrong = format!("pin = \"sha256/{}=\"", "A".repeat(43));
        replace(&pair.a, |text| {
            let line = text.lines().find(|line| line.starts_with("pin")).unwrap().to_owned();
            text.replace(&line, &wrong)
        });
        daemons[0].process().wait_log("has another pin", SOON)?;
        wait_for("the connection to end", SOON, || Ok((connections(&pair.a)?.is_empty()).then_some(())))?;
        pair.check_pings(100)?;
        replace(&pair.a, |_| right);
        wait_for("another connection", SOON, || {
            let now = connections(&pair.a)?;
            Ok((now.len() == 1 && now != before).then_some(()))
        })?;
        // What was said to the server before is said to it again.
        pair.a.forget_endpoint(&pair.b)?;
        pair.b.forget_endpoint(&pair.a)?;
        pair.wait_for_ping(SOON)?;
        pair.check_direct(&daemons)
    });
}
