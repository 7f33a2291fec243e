//! Real daemons whose config becomes another: by the file, by SIGHUP, by `wireplug reload`. Their interface is not there,
//! so nothing but the config is at work; what a reload does to tunnels is seen in the lab.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WIREPLUG: &str = env!("CARGO_BIN_EXE_wireplug");
const WIREPLUGD: &str = env!("CARGO_BIN_EXE_wireplugd");

/// How long a line of the log may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with directories of its own in place of the system's.
struct Daemon {
    directory: tempfile::TempDir,
    child: Child,
    log: Receiver<String>,
}

impl Daemon {
    /// Starts it with this config and waits until it looks for its interface.
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("w.toml"), text).unwrap();
        let arguments = ["--config".to_owned(), directory.path().join("w.toml").display().to_string()];
        let mut child =
            command(directory.path(), WIREPLUGD, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let daemon = Self { directory, child, log };
        daemon.says(&["waiting for the interface"]);
        daemon
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("w.toml")
    }

    /// Replaces the config as editors do.
    fn replace(&self, text: &str) {
        let new = self.directory.path().join("w.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config()).unwrap();
    }

    /// Waits for a line of the log with all of these words.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it never says {words:?}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Runs `wireplug` with these arguments; returns success, standard output and standard error.
    fn wireplug(&self, arguments: &[&str]) -> (bool, String, String) {
        let output = command(self.directory.path(), WIREPLUG, arguments).output().unwrap();
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.success(), text(stdout), text(stderr))
    }

    /// The interfaces that answer, and why each can do nothing now.
    fn interfaces(&self) -> Vec<String> {
        let (_, json, _) = self.wireplug(&["status", "--json"]);
        let all: serde_json::Value = serde_json::from_str(&json).unwrap();
        let all = all.as_array().unwrap();
        assert!(all.iter().all(|one| one["waiting"].as_str().unwrap().contains("no interface")), "{json}");
        all.iter().map(|one| one["interface"].as_str().unwrap().to_owned()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path, program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("WIREPLUG_RUN_DIR", directory.join("run"))
        .env("WIREPLUG_STATE_DIR", directory.join("state"))
        .env_remove("WIREPLUG_LOG")
        .stdin(Stdio::null());
    command
}

const BEFORE: &str = "[interface.wpnone0]\nstrategies = [\"direct\", \"relay\"]\n";
const AFTER: &str = "[interface.wpnone0]\nstrategies = [\"direct\"]\n";

#[test]
fn a_file_that_is_replaced_is_read_again() {
    let daemon = Daemon::start(BEFORE);
    daemon.replace(AFTER);
    let line = daemon.says(&["config reloaded", "strategy relay disabled"]);
    assert!(line.contains("wpnone0") && line.contains("the file changed"), "{line}");
    let (success, stdout, stderr) = daemon.wireplug(&["reload"]);
    assert!(success && stdout == "wpnone0: nothing changed\n", "{stdout}{stderr}");
}

#[test]
fn a_hangup_has_it_read_again_and_ends_nothing() {
    let mut daemon = Daemon::start(BEFORE);
    // In place: the watch of the file and the signal may both have it read, and one of them finds nothing new.
    std::fs::write(daemon.config(), AFTER).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.says(&["config reloaded", "strategy relay disabled"]);
    assert_eq!(daemon.interfaces(), ["wpnone0"]);
    assert!(daemon.child.try_wait().unwrap().is_none());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn a_wrong_file_is_refused_whole_with_its_line_and_the_old_one_stays() {
    let daemon = Daemon::start(BEFORE);
    let wrong = "[interface.wpnone0]\nstrategies = [\"direct\"]\n[interface.wpnone1]\nstrategies = [\"carrier-pigeon\"]\n";
    daemon.replace(wrong);
    let place = format!("{}:4: ", daemon.config().display());
    daemon.says(&["refused", &place, "carrier-pigeon"]);
    let (success, stdout, stderr) = daemon.wireplug(&["reload"]);
    assert!(!success && stderr.contains("the one before stays in force"), "{stderr}");
    assert!(stdout.starts_with("wpnone0: not reloaded: ") && stdout.contains(&place), "{stdout}");
    assert_eq!(daemon.interfaces(), ["wpnone0"], "nothing of it is done");
    daemon.replace(BEFORE);
    let (success, stdout, _) = daemon.wireplug(&["reload", "wpnone0"]);
    assert!(success && stdout == "wpnone0: nothing changed\n", "it is what it was before: {stdout}");
    daemon.replace("");
    let (success, stdout, _) = daemon.wireplug(&["reload"]);
    assert!(!success && stdout.contains("names no interface"), "{stdout}");
}

#[test]
fn interfaces_come_and_go() {
    let daemon = Daemon::start(BEFORE);
    daemon.replace("[interface.wpnone1]\n[interface.wpnone2]\n");
    let (success, stdout, stderr) = daemon.wireplug(&["reload"]);
    assert!(success, "{stderr}");
    // The watch of the file may have been quicker.
    assert!(stdout.contains("wpnone1: ") && stdout.contains("wpnone2: "), "{stdout}");
    let limit = std::time::Instant::now() + PATIENCE;
    while daemon.interfaces() != ["wpnone1", "wpnone2"] {
        assert!(std::time::Instant::now() < limit, "{:?}", daemon.interfaces());
        std::thread::sleep(Duration::from_millis(20));
    }
    // One that had ended, or is ending still, can be looked after again.
    daemon.replace(BEFORE);
    daemon.wireplug(&["reload"]);
    while daemon.interfaces() != ["wpnone0"] {
        assert!(std::time::Instant::now() < limit, "{:?}", daemon.interfaces());
        std::thread::sleep(Duration::from_millis(20));
    }
}
