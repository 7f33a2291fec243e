//! The programs as a person meets them: what goes wrong is said in words that help, and the exit status
//! tells it to scripts.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WIREPLUG: &str = env!("CARGO_BIN_EXE_wireplug");
const WIREPLUGD: &str = env!("CARGO_BIN_EXE_wireplugd");

/// Its own directories in place of the system's.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn config(&self, text: &str) -> PathBuf {
        let path = self.path().join("wireplug.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("WIREPLUG_RUN_DIR", self.path().join("run"))
            .env("WIREPLUG_STATE_DIR", self.path().join("state"))
            .env_remove("WIREPLUG_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end. Returns success, standard output and standard error.
    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String, String) {
        let Output { status, stdout, stderr } = self.command(program, arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.success(), text(stdout), text(stderr))
    }

    /// Asserts that it fails with all of these words on standard error, and says nothing else.
    #[track_caller]
    fn fails(&self, program: &str, arguments: &[&str], words: &[&str]) {
        let (success, stdout, stderr) = self.run(program, arguments);
        assert!(!success && stdout.is_empty(), "{arguments:?}: {stdout}{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
        }
    }
}

#[test]
fn an_interface_that_is_not_there_says_how_to_get_one() {
    Home::new().fails(WIREPLUG, &["wpnone0"], &["no interface wpnone0", "wg-quick up wpnone0"]);
}

#[test]
fn an_interface_that_is_no_wireguard_is_told() {
    Home::new().fails(WIREPLUG, &["lo"], &["lo is not a WireGuard interface", "wg show interfaces"]);
}

#[test]
fn a_config_that_is_wrong_is_told_with_its_line() {
    let home = Home::new();
    let path = home.config("\n[interface.wg0]\nstrategy = 1\n");
    let path = path.to_str().unwrap();
    for (program, arguments) in
        [(WIREPLUG, vec!["wg0", "--config", path]), (WIREPLUGD, vec!["--config", path])]
    {
        home.fails(program, &arguments, &[&format!("{path}:3: "), "strategy is an integer", "a table"]);
    }
}

#[test]
fn a_config_that_was_asked_for_must_be_there() {
    Home::new().fails(
        WIREPLUG,
        &["wg0", "--config", "/nonexistent"],
        &["cannot read the config /nonexistent"],
    );
}

#[test]
fn arguments_without_meaning_are_refused() {
    let home = Home::new();
    home.fails(WIREPLUG, &[], &["Usage", "INTERFACE"]);
    home.fails(WIREPLUG, &["a/b"], &["cannot name an interface"]);
    home.fails(WIREPLUG, &["wg0", "--server", "http://a"], &["--server", "expected wss://HOST"]);
    home.fails(WIREPLUG, &["wg0", "--server", "wss://a", "--pin", "b"], &["--pin", "wireplug-serverd pin"]);
    home.fails(WIREPLUG, &["wg0", "--pin", "b"], &["--server"]);
}

#[test]
fn status_without_a_daemon_fails_and_says_how_to_start_one() {
    let home = Home::new();
    home.fails(WIREPLUG, &["status"], &["no wireplug runs", "`wireplug INTERFACE`"]);
    home.fails(WIREPLUG, &["status", "wg0", "--json"], &["no wireplug runs for wg0", "`wireplug wg0`"]);
    home.fails(WIREPLUG, &["reload"], &["no wireplug runs", "`wireplug INTERFACE`"]);
}

#[test]
fn strategies_are_listed_for_people_and_for_scripts() {
    let home = Home::new();
    let (success, table, _) = home.run(WIREPLUG, &["strategies"]);
    assert!(success && table.contains("hole-punch"), "{table}");
    assert!(
        table.ends_with("no wireplug runs in this network namespace: start it with `wireplug INTERFACE`\n")
    );
    let (success, json, _) = home.run(WIREPLUG, &["strategies", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    let direct = list.as_array().unwrap().iter().find(|one| one["name"] == "direct").unwrap();
    assert!(success && direct["interfaces"] == serde_json::json!([]), "{json}");
    home.fails(WIREPLUG, &["strategies", "wg0"], &["no wireplug runs for wg0", "`wireplug wg0`"]);
}

#[test]
fn wireplugd_without_interfaces_has_nothing_to_do() {
    let home = Home::new();
    let path = home.config("");
    home.fails(WIREPLUGD, &["--config", path.to_str().unwrap()], &["names no interface", "[interface.NAME]"]);
}

#[test]
fn wireplugd_waits_for_an_interface_says_so_once_and_stops_cleanly() {
    let home = Home::new();
    let path = home.config("[[server]]\nurl = \"wss://127.0.0.1:1\"\n[interface.wpnone0]\n");
    let mut command = home.command(WIREPLUGD, &["--config", path.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said =
        lines.by_ref().find(|line| line.contains("wpnone0")).expect("it says that the interface is missing");
    assert!(said.contains("waiting for the interface") && said.contains("wg-quick up wpnone0"), "{said}");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(lines.all(|line| !line.contains("waiting for")));
}
