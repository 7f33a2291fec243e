//! The device against a real wireguard-go, and against a process that does not answer. The kernel's device keeps the
//! same promises in `kernel_device.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, either is an assertion

mod common;

use std::io::Read as _;
use std::os::unix::net::UnixListener;

use common::{Namespace, promises};
use wireplug_net::{Backend, Device, DeviceError};

#[test]
fn a_device_is_read_as_wg_shows_it() {
    promises::a_device_is_read_as_wg_shows_it(Backend::Userspace);
}

#[test]
fn an_update_changes_what_it_says_and_nothing_else() {
    promises::an_update_changes_what_it_says_and_nothing_else(Backend::Userspace);
}

#[test]
fn a_peer_that_was_removed_does_not_come_back() {
    promises::a_peer_that_was_removed_does_not_come_back(Backend::Userspace);
}

#[test]
fn a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update() {
    promises::a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update(Backend::Userspace);
}

#[test]
fn a_nudge_into_the_tunnel_starts_a_handshake() {
    promises::a_nudge_into_the_tunnel_starts_a_handshake(Backend::Userspace);
}

#[test]
fn a_device_of_another_namespace_is_not_ours() {
    promises::a_device_of_another_namespace_is_not_ours(Backend::Userspace);
}

#[test]
fn a_device_without_a_key_says_what_to_do() {
    promises::a_device_without_a_key_says_what_to_do(Backend::Userspace);
}

#[test]
fn a_device_that_went_away_is_told_and_not_made_again() {
    promises::a_device_that_went_away_is_told_and_not_made_again(Backend::Userspace);
}

#[test]
fn a_handshake_shows_in_time_and_bytes() {
    promises::a_handshake_shows_in_time_and_bytes(Backend::Userspace);
}

#[test]
fn a_process_that_does_not_answer_is_given_up() {
    let host = Namespace::new();
    let name = format!("wpns{}", std::process::id());
    host.sh(&format!("ip link add {name} type veth peer name other"));
    let path = format!("/var/run/wireguard/{name}.sock");
    std::fs::create_dir_all("/var/run/wireguard").unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    // Accepts, reads, and says nothing until the other side has closed.
    let silent = std::thread::spawn(move || {
        for _ in 0..2 {
            let _ = listener.accept().unwrap().0.read_to_end(&mut Vec::new());
        }
    });
    let error = host.block_on(async move || {
        let device = Device::find(&name).await.unwrap();
        tokio::time::pause(); // time passes when nothing else happens
        device.read().await.unwrap_err()
    });
    std::fs::remove_file(path).unwrap();
    silent.join().unwrap();
    assert!(matches!(error, DeviceError::Timeout { action: "read", .. }), "{error}");
}
