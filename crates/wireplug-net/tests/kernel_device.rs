//! The device against the kernel's own WireGuard. Ignored, and said to be, where the kernel has no module: there
//! `cargo xtask vm` runs them in a virtual machine.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, either is an assertion

mod common;

use std::fmt::Write as _; // writing to a String cannot fail
use std::net::SocketAddrV6;
use std::process::Command;

use common::wireguard::WireGuard;
use common::{Namespace, pair, promises};
use libtest_mimic::{Arguments, Trial};
use wireplug_core::{Endpoint, PublicKey};
use wireplug_net::{Backend, Device, DeviceError, PeerUpdate};

/// A test of a device.
type Promise = fn(Backend);

fn main() {
    let module = has_module();
    let trial = |(name, promise): (&str, Promise)| {
        let run = move || {
            promise(Backend::Kernel);
            Ok(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!module);
        if module { trial } else { trial.with_kind("no kernel module") }
    };
    let trials = SHARED.into_iter().chain(OWN).map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// What wireguard-go must do as well.
const SHARED: [(&str, Promise); 9] = [
    ("a_device_is_read_as_wg_shows_it", promises::a_device_is_read_as_wg_shows_it),
    (
        "an_update_changes_what_it_says_and_nothing_else",
        promises::an_update_changes_what_it_says_and_nothing_else,
    ),
    ("a_peer_that_was_removed_does_not_come_back", promises::a_peer_that_was_removed_does_not_come_back),
    (
        "a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update",
        promises::a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update,
    ),
    ("a_nudge_into_the_tunnel_starts_a_handshake", promises::a_nudge_into_the_tunnel_starts_a_handshake),
    ("a_device_of_another_namespace_is_not_ours", promises::a_device_of_another_namespace_is_not_ours),
    ("a_device_without_a_key_says_what_to_do", promises::a_device_without_a_key_says_what_to_do),
    (
        "a_device_that_went_away_is_told_and_not_made_again",
        promises::a_device_that_went_away_is_told_and_not_made_again,
    ),
    ("a_handshake_shows_in_time_and_bytes", promises::a_handshake_shows_in_time_and_bytes),
];

/// What only the kernel's device can show.
const OWN: [(&str, Promise); 4] = [
    ("a_link_local_endpoint_keeps_its_scope", a_link_local_endpoint_keeps_its_scope),
    ("a_peer_that_fills_many_messages_is_one_peer", a_peer_that_fills_many_messages_is_one_peer),
    ("many_peers_are_all_read_and_one_is_updated", many_peers_are_all_read_and_one_is_updated),
    ("another_kind_of_interface_is_not_wireguard", another_kind_of_interface_is_not_wireguard),
];

/// Whether this kernel can make a WireGuard interface: loads the module if there is one.
fn has_module() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    Namespace::new().run(|| {
        let added = Command::new("ip").args(["link", "add", "wpnprobe", "type", "wireguard"]).output();
        added.is_ok_and(|output| output.status.success())
    })
}

/// Older wireguard-go keeps it too, and does not tell it.
fn a_link_local_endpoint_keeps_its_scope(backend: Backend) {
    let (here, _there) = pair();
    let wireguard = WireGuard::start(backend, &here, "l");
    let key = promises::new_key(&here);
    here.sh(&format!("wg set {} peer {key}", wireguard.name));
    let scope = here.run(|| nix::net::if_::if_nametoindex("up0").unwrap());
    let to = Endpoint::new(SocketAddrV6::new("fe80::5".parse().unwrap(), 9, 0, scope).into()).unwrap();
    promises::update(&here, &wireguard.name, key, PeerUpdate { endpoint: Some(to), keepalive: None });
    assert_eq!(promises::read(&here, &wireguard.name).peers[0].endpoint, Some(to));
}

fn a_peer_that_fills_many_messages_is_one_peer(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "s");
    let keys = [promises::new_key(&host), promises::new_key(&host)];
    // 24 bytes each in an answer, which holds 32 KiB at most.
    let prefixes = |key: usize| (0..3000).map(move |n| format!("10.{}.{}.{}/32", key + 1, n / 256, n % 256));
    let mut config = String::new();
    for (index, key) in keys.iter().enumerate() {
        let all: Vec<String> = prefixes(index).collect();
        let _ = writeln!(config, "[Peer]\nPublicKey = {key}\nPersistentKeepalive = 25");
        let _ = writeln!(config, "AllowedIPs = {}", all.join(","));
    }
    add_config(&host, &wireguard, &config);

    let state = promises::read(&host, &wireguard.name);
    assert_eq!(state.peers.len(), 2, "each peer once");
    for (index, key) in keys.into_iter().enumerate() {
        let peer = state.peers.iter().find(|peer| peer.public_key == key).unwrap();
        assert_eq!(peer.keepalive, Some(25));
        let mut found: Vec<String> =
            peer.allowed_ips.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        let mut expected: Vec<String> = prefixes(index).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

fn many_peers_are_all_read_and_one_is_updated(backend: Backend) {
    const COUNT: u16 = 500;
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "m");
    let key = |n: u16| {
        // Any 32 bytes are a public key, but for the few of small order.
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey::from_bytes(bytes)
    };
    let mut config = String::new();
    for n in 0..COUNT {
        let _ = writeln!(config, "[Peer]\nPublicKey = {}\nPresharedKey = {}", key(n), key(n));
        let _ = writeln!(config, "AllowedIPs = 10.1.{}.{}/32, fd77::{n:x}/128", n / 256, n % 256);
    }
    add_config(&host, &wireguard, &config);

    let before = promises::read(&host, &wireguard.name);
    assert_eq!(before.peers.len(), usize::from(COUNT));
    assert!(before.peers.iter().all(|peer| peer.allowed_ips.len() == 2));
    let to = Endpoint::new("192.0.2.1:9".parse().unwrap()).unwrap();
    let chosen = key(COUNT / 2);
    promises::update(&host, &wireguard.name, chosen, PeerUpdate { endpoint: Some(to), keepalive: None });
    let mut expected = before;
    expected.peers.iter_mut().find(|peer| peer.public_key == chosen).unwrap().endpoint = Some(to);
    assert_eq!(promises::read(&host, &wireguard.name), expected);
}

fn another_kind_of_interface_is_not_wireguard(_: Backend) {
    let error = Namespace::new().block_on(async || Device::find("lo").await.unwrap_err());
    assert!(matches!(error, DeviceError::NotWireGuard(_)), "{error}");
}

/// `wg` takes an argument of 128 KiB at most; a file may be longer.
fn add_config(host: &Namespace, wireguard: &WireGuard, config: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    host.sh(&format!("wg addconf {} {}", wireguard.name, file.path().display()));
}
