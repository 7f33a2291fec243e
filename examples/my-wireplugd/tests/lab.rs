//! The build with somebody else's strategy, in network namespaces: two peers find each other by nothing but their
//! files of hints.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::os::unix::fs::symlink;
use std::path::Path;

use wireplug_lab::{Binaries, CONNECT_LIMIT, End, Lab, Nat, Peer, WIREGUARD_PORT};

const PROGRAM: &str = env!("CARGO_BIN_EXE_my-wireplugd");

/// Programs for the lab: this build in the place of `wireplug`, and the server as it is.
fn programs(dir: &Path) -> Binaries {
    let server = Binaries::find().unwrap().path("wireplug-serverd").unwrap();
    symlink(PROGRAM, dir.join("wireplug")).unwrap();
    symlink(server, dir.join("wireplug-serverd")).unwrap();
    Binaries::in_dir(dir)
}

#[test]
fn it_connects_by_hints_alone() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::with_binaries("hints", programs(dir.path())).unwrap();
    let server = lab.server().unwrap();
    server.start().unwrap();
    let hosts = ["a", "b"].map(|label| lab.site(label, Nat::None).unwrap().host().unwrap());
    let wireguards =
        [(1, 0), (2, 1)].map(|(number, at)| hosts[at].wireguard([10, 77, 0, number].into()).unwrap());
    let ends = [(0, 1), (1, 0)].map(|(here, there)| {
        let (wireguard, peer) = (&wireguards[here], &wireguards[there]);
        wireguard.peer(&Peer::new(peer.public_key(), &format!("{}/32", peer.address()))).unwrap();
        let file = dir.path().join(format!("hints-{here}"));
        let place = format!("{}:{WIREGUARD_PORT}", hosts[there].public_addresses()[0]);
        std::fs::write(&file, format!("{} {place}\n", peer.public_key())).unwrap();
        let device = wireguard.device();
        let config = format!(
            "[interface.{device}]\nstrategies = [\"static-hints\"]\n\
             [interface.{device}.strategy.static-hints]\nfile = {file:?}\n"
        );
        let config = hosts[here].wireplug_config(wireguard, &server, &config).unwrap();
        End { host: hosts[here].clone(), wireguard: wireguard.clone(), config }
    });
    let daemons = [ends[0].wireplug().unwrap(), ends[1].wireplug().unwrap()];
    for (index, daemon) in daemons.iter().enumerate() {
        let there = &ends[1 - index];
        let status = daemon.wait_state(there.wireguard.public_key(), "connected", CONNECT_LIMIT).unwrap();
        let place = format!("{}:{WIREGUARD_PORT}", there.host.public_addresses()[0]);
        assert_eq!((status.endpoint, status.proven), (Some(place.clone()), true));
        assert_eq!(status.strategy.as_deref(), Some("static-hints"));

        let device = ends[index].wireguard.device();
        let text = ends[index].host.run(&[PROGRAM, "strategies", device, "--json"]).unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let hints = all.as_array().unwrap().iter().find(|one| one["name"] == "static-hints").unwrap();
        let on = &hints["interfaces"][0];
        assert_eq!((&on["state"], &on["suggested"][0]["endpoint"]), (&"running".into(), &place.into()));
        assert_eq!(on["note"]["text"], "knows where 1 of 1 peers may be");
    }
}

#[test]
fn it_lists_the_strategy() {
    let output = std::process::Command::new(PROGRAM).arg("strategies").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("static-hints  places of peers"), "{text}");
}
