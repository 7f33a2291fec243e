//! The control socket between a server and the client of `wireplug status`.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use wireplugd::control::{
    ControlError, ControlServer, ReloadReport, Reloaded, Request, ask, ask_all, ask_all_strategies,
    ask_reload, ask_strategies, reload_all,
};
use wireplugd::interface::InterfaceName;
use wireplugd::status::{InterfaceStatus, StrategyInfo};

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn status(interface: &str) -> InterfaceStatus {
    InterfaceStatus {
        interface: interface.to_owned(),
        listen_port: 51820,
        waiting: None,
        servers: vec![],
        strategies: vec![],
        peers: vec![],
    }
}

fn strategies() -> Vec<StrategyInfo> {
    wireplug_strategy::registered().into_iter().map(StrategyInfo::of).collect()
}

/// One daemon looks after wg0 and wg1.
fn reloaded(interface: &str) -> ReloadReport {
    let names = if interface == "wg2" { vec!["wg2"] } else { vec!["wg0", "wg1"] };
    let one =
        |name: &str| Reloaded { interface: name.to_owned(), changes: vec![format!("asked {interface}")] };
    ReloadReport { interfaces: names.into_iter().map(one).collect(), refused: None }
}

fn answer(interface: &'static str, mut requests: mpsc::Receiver<Request>) {
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Status(sender) => drop(sender.send(status(interface))),
                Request::Strategies(sender) => drop(sender.send(strategies())),
                Request::Reload(sender) => drop(sender.send(reloaded(interface))),
            }
        }
    });
}

async fn asked(directory: &Path, interface: &'static str) -> Result<InterfaceStatus, ControlError> {
    let directory = directory.to_owned();
    spawn_blocking(move || ask(&directory, &name(interface))).await.unwrap()
}

async fn all(directory: &Path) -> Result<Vec<InterfaceStatus>, ControlError> {
    let directory = directory.to_owned();
    spawn_blocking(move || ask_all(&directory)).await.unwrap().map(|(all, silent)| {
        assert!(silent.is_empty(), "{silent:?}");
        all
    })
}

/// Says something to a socket and returns the answer's line.
async fn say(path: PathBuf, words: &'static [u8]) -> String {
    spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(words).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn all_interfaces_of_the_namespace_answer_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (_second, requests) = ControlServer::open(path, &name("wg1")).unwrap();
    answer("wg1", requests);
    let (_first, requests) = ControlServer::open(path, &name("wg0")).unwrap();
    answer("wg0", requests);
    // One that was killed left its socket.
    drop(UnixListener::bind(path.join("wg2.sock")).unwrap());
    assert_eq!(all(path).await.unwrap(), [status("wg0"), status("wg1")]);
    assert_eq!(asked(path, "wg1").await.unwrap(), status("wg1"));
}

#[tokio::test]
async fn strategies_are_told_by_each_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let (_first, requests) = ControlServer::open(&path, &name("wg0")).unwrap();
    answer("wg0", requests);
    let (_second, requests) = ControlServer::open(&path, &name("wg1")).unwrap();
    answer("wg1", requests);
    let asked = spawn_blocking(move || {
        (ask_strategies(&path, &name("wg1")), ask_strategies(&path, &name("wg2")), ask_all_strategies(&path))
    });
    let (one, none, all) = asked.await.unwrap();
    assert_eq!(one.unwrap(), strategies());
    assert!(matches!(none, Err(ControlError::NotRunning(_))));
    let (all, silent) = all.unwrap();
    assert!(silent.is_empty());
    assert_eq!(all, [strategies(), strategies()].concat());
}

#[tokio::test]
async fn each_daemon_reloads_once_however_many_interfaces_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let mut servers = Vec::new();
    for interface in ["wg0", "wg1", "wg2"] {
        let (server, requests) = ControlServer::open(&path, &name(interface)).unwrap();
        answer(interface, requests);
        servers.push(server);
    }
    let asked =
        spawn_blocking(move || (reload_all(&path).unwrap(), ask_reload(&path, &name("wg1")).unwrap()));
    let ((all, silent), one) = asked.await.unwrap();
    assert!(silent.is_empty());
    assert_eq!(all, [reloaded("wg0"), reloaded("wg2")]);
    assert_eq!(one, reloaded("wg1"));
}

#[tokio::test]
async fn one_that_gives_no_answer_does_not_hide_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, requests) = ControlServer::open(directory.path(), &name("wg0")).unwrap();
    answer("wg0", requests);
    let hangs_up = UnixListener::bind(directory.path().join("wg1.sock")).unwrap();
    std::thread::spawn(move || drop(hangs_up.accept()));
    let path = directory.path().to_owned();
    let (all, silent) = spawn_blocking(move || ask_all(&path)).await.unwrap().unwrap();
    assert_eq!(all, [status("wg0")]);
    assert!(matches!(silent[..], [ControlError::BadAnswer { .. } | ControlError::Io { .. }]), "{silent:?}");
}

#[tokio::test]
async fn nobody_there_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = asked(path, "wg0").await.unwrap_err().to_string();
    assert!(error.contains("no wireplug runs for wg0") && error.contains("`wireplug wg0`"), "{error}");
    assert!(matches!(all(path).await, Err(ControlError::NoneRunning)));
    assert!(matches!(all(&path.join("missing")).await, Err(ControlError::NoneRunning)));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(UnixListener::bind(path.join("wg0.sock")).unwrap());
    let (server, requests) = ControlServer::open(path, &name("wg0")).unwrap();
    answer("wg0", requests);
    assert!(matches!(ControlServer::open(path, &name("wg0")), Err(ControlError::AlreadyRunning(_))));
    assert_eq!(asked(path, "wg0").await.unwrap(), status("wg0"));
    drop(server);
    assert!(!path.join("wg0.sock").exists());
}

#[tokio::test]
async fn only_root_can_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/deep");
    let (_server, _requests) = ControlServer::open(&path, &name("wg0")).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("wg0.sock"))), (0o700, 0o600));
}

#[tokio::test]
async fn what_has_no_meaning_is_answered_so() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, requests) = ControlServer::open(directory.path(), &name("wg0")).unwrap();
    answer("wg0", requests);
    let path = directory.path().join("wg0.sock");
    assert!(say(path.clone(), b"\"reboot\"\n").await.contains("unknown question"));
    assert!(say(path.clone(), &[b'x'; 1024]).await.contains("too long"));
    assert!(say(path, b"\"status\"\n").await.starts_with("{\"status\":{\"interface\":\"wg0\""));
}

#[tokio::test]
async fn a_daemon_that_is_stopping_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, requests) = ControlServer::open(directory.path(), &name("wg0")).unwrap();
    drop(requests);
    let error = asked(directory.path(), "wg0").await.unwrap_err().to_string();
    assert!(error.contains("the daemon is stopping"), "{error}");
}
