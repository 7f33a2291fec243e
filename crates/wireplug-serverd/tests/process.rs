//! The program itself: what it prints, how it stops, and what it says when it cannot start.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(20);

fn program(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wireplug-serverd"));
    command.arg("--config").arg(config).env_remove("WIREPLUG_LOG");
    command
}

/// A configuration on free ports, with what else is given.
fn configure(dir: &Path, more: &str) -> std::path::PathBuf {
    let path = dir.join("serverd.toml");
    let state = dir.join("state").display().to_string();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nudp = [\"127.0.0.1:0\"]\nstate-dir = \"{state}\"\n{more}\n[relay]\nenabled = false\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

struct Running {
    child: Child,
    ready: String,
    pin: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the program, and waits until it says that it is ready.
fn start(config: &Path) -> Running {
    let mut child = program(config).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let (say, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            say.send(line).ok();
        }
    });
    let mut pin = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut pin).unwrap();
    let mut running = Running { child, ready: String::new(), pin };
    while !running.ready.contains(" ready ") {
        running.ready = heard.recv_timeout(PATIENCE).expect("the program gets ready");
    }
    running
}

fn stop(mut running: Running, signal: Signal) {
    let begun = Instant::now();
    kill(Pid::from_raw(i32::try_from(running.child.id()).unwrap()), signal).unwrap();
    let status = running.child.wait().unwrap();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(2), "{status} {:?}", begun.elapsed());
}

fn fails(config: &Path) -> String {
    let Output { status, stdout, stderr } = program(config).output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(stdout.is_empty());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn the_pin_is_printed_and_stays_over_restarts_and_signals_stop_it_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), "");
    let printed = program(&config).arg("pin").output().unwrap();
    let pin = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.status.success() && pin.starts_with("sha256/") && pin.ends_with("=\n"), "{pin}");

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let running = start(&config);
        assert_eq!(running.pin, format!("pin = \"{}\"\n", pin.trim()));
        stop(running, signal);
    }
}

#[test]
fn a_killed_server_starts_again_with_the_same_pin() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), "");
    let mut first = start(&config);
    first.child.kill().unwrap();
    assert_eq!(start(&config).pin, first.pin);
}

#[test]
fn given_certificate_files_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let own = configure(dir.path(), "");
    let own_pin = program(&own).arg("pin").output().unwrap().stdout;
    let pem = dir.path().join("given.pem");
    std::fs::rename(dir.path().join("state/certificate.pem"), &pem).unwrap();
    let config = configure(dir.path(), &format!("certificate = {pem:?}\nkey = {pem:?}\n"));
    assert_eq!(program(&config).arg("pin").output().unwrap().stdout, own_pin);
    stop(start(&config), Signal::SIGTERM);

    std::fs::write(&pem, "junk").unwrap();
    let error = fails(&config);
    assert!(error.contains("given.pem") && error.contains("PEM"), "{error}");
}

#[test]
fn what_keeps_it_from_starting_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = fails(&dir.path().join("none.toml"));
    assert!(error.contains("none.toml") && error.contains("No such file"), "{error}");

    let error = fails(&configure(dir.path(), "lisen = 1\n"));
    assert!(error.contains("serverd.toml:4:1:") && error.contains("`listen`"), "{error}");

    std::fs::write(dir.path().join("file"), "").unwrap();
    let config = dir.path().join("blocked.toml");
    std::fs::write(&config, format!("state-dir = {:?}\n", dir.path().join("file/state"))).unwrap();
    assert!(fails(&config).contains("file/state"));

    let running = start(&configure(dir.path(), ""));
    let (_, https) = running.ready.split_once("https=").unwrap();
    let https = https.split_whitespace().next().unwrap();
    let text = format!("listen = {https:?}\nstate-dir = {:?}\n", dir.path().join("state"));
    std::fs::write(&config, text).unwrap();
    let error = fails(&config);
    assert!(error.contains("another program") && error.matches("in use").count() == 1, "{error}");

    std::fs::write(&config, "listen = \"192.0.2.55:443\"\ntls = false\n").unwrap();
    assert!(fails(&config).contains("does not have this address"));
}
