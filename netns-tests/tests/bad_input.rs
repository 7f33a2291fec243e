//! What cannot work says so, and what to do; what may work later is tried again, and said once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::path::Path;
use std::thread;
use std::time::Duration;

use wireplug_lab::{Binaries, Lab, Nat, Pair, PairOptions, Process, Result};

/// How long a program may take to refuse.
const END: Duration = Duration::from_secs(5);

/// Long enough for a message that is repeated with every retry to show.
const RETRIES: Duration = Duration::from_secs(8);

fn pair(label: &str, work: impl FnOnce(&Pair) -> Result<()>) {
    Pair::with(label, [Nat::PortPreserving, Nat::None], &PairOptions::default(), work).unwrap();
}

/// The program must end without success, and its last words contain all of `words`.
fn refuses(process: &Process, words: &[&str]) -> Result<()> {
    let status = process.wait(END)?;
    let log = process.log();
    assert!(!status.success(), "{log}");
    for word in words {
        assert!(log.contains(word), "{log:?} lacks {word:?}");
    }
    Ok(())
}

/// How many lines of a log contain a word.
fn lines_with(process: &Process, word: &str) -> usize {
    process.log().lines().filter(|line| line.contains(word)).count()
}

fn wireplug() -> Result<std::path::PathBuf> {
    Binaries::beside_current_exe()?.path("wireplug")
}

#[test]
fn a_missing_interface_is_named() {
    Lab::with("no-device", |lab| {
        let host = lab.site("a", Nat::None)?.host()?;
        refuses(&host.spawn("wireplug", &wireplug()?, &["wgnone0"], &[])?, &["wgnone0"])
    })
    .unwrap();
}

#[test]
fn an_interface_that_is_no_wireguard_is_refused() {
    Lab::with("other-device", |lab| {
        let host = lab.site("a", Nat::None)?.host()?;
        refuses(&host.spawn("wireplug", &wireplug()?, &["eth0"], &[])?, &["eth0", "WireGuard"])
    })
    .unwrap();
}

#[test]
fn without_permission_it_says_what_is_missing() {
    pair("no-permission", |pair| {
        let program = wireplug()?.display().to_string();
        let arguments = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        let arguments = [&arguments[..], &[&program, pair.a.wireguard.device()]].concat();
        refuses(&pair.a.host.spawn("nobody", Path::new("setpriv"), &arguments, &[])?, &["root"])
    });
}

#[test]
fn a_wrong_config_is_refused_with_file_line_and_what_is_accepted() {
    pair("bad-config", |pair| {
        for (more, words) in [
            ("[interface.DEVICE]\nstrategys = []\n", &[".toml:5", "strategys", "strategies"][..]),
            ("[interface.DEVICE]\nstrategies = [\"teleport\"]\n", &[".toml:5", "teleport", "hole-punch"]),
            ("[interface.DEVICE.peer.\"short=\"]\n", &[".toml:4", "short="]),
        ] {
            let more = more.replace("DEVICE", pair.a.wireguard.device());
            let config = pair.a.host.wireplug_config(&pair.a.wireguard, &pair.server, &more)?;
            refuses(pair.a.host.wireplug(&pair.a.wireguard, &config)?.process(), words)?;
        }
        Ok(())
    });
}

#[test]
fn without_the_right_to_raw_sockets_it_says_so_once_and_goes_on() {
    pair("no-raw", |pair| {
        let program = wireplug()?.display().to_string();
        let config = pair.a.config.display().to_string();
        let arguments =
            ["--bounding-set", "-net_raw", "--", &program, pair.a.wireguard.device(), "--config", &config];
        let process = pair.a.host.spawn("wireplug", Path::new("setpriv"), &arguments, &[])?;
        process.wait_log("CAP_NET_RAW", RETRIES)?;
        thread::sleep(RETRIES);
        assert_eq!(process.exited(), None, "{}", process.log());
        assert_eq!(lines_with(&process, "CAP_NET_RAW"), 1, "{}", process.log());
        Ok(())
    });
}

#[test]
fn a_wrong_pin_is_refused_said_once_and_tried_again() {
    pair("bad-pin", |pair| {
        let text = std::fs::read_to_string(&pair.a.config).unwrap();
        let pin = pair.server.pin()?;
        let wrong = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        std::fs::write(&pair.a.config, text.replace(&pin, wrong)).unwrap();
        let daemon = pair.a.wireplug()?;
        daemon.process().wait_log("pin", RETRIES)?;
        thread::sleep(RETRIES);
        let process = daemon.process();
        assert_eq!(process.exited(), None, "{}", process.log());
        let warnings =
            process.log().lines().filter(|line| line.contains("WARN") && line.contains("pin")).count();
        assert_eq!(warnings, 1, "{}", process.log());
        assert!(process.log().contains(&pin), "it says which pin the server has: {}", process.log());
        assert_eq!(pair.a.wireguard.endpoint(pair.b.wireguard.public_key())?, None);
        Ok(())
    });
}

#[test]
fn an_unreachable_server_is_said_once_and_tried_again() {
    pair("no-server", |pair| {
        pair.server.kill();
        let daemon = pair.a.wireplug()?;
        thread::sleep(RETRIES);
        let process = daemon.process();
        assert_eq!(process.exited(), None, "{}", process.log());
        let url = pair.server.url(Nat::PortPreserving);
        let warnings =
            process.log().lines().filter(|line| line.contains("WARN") && line.contains(&url)).count();
        assert_eq!(warnings, 1, "{}", process.log());
        Ok(())
    });
}
