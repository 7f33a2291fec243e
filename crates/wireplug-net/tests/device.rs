//! The device against a real wireguard-go, and against a process that does not answer.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, either is an assertion

mod common;

use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Namespace, pair};
use wireplug_core::{Endpoint, PublicKey};
use wireplug_net::{Backend, Device, DeviceError, DeviceState, PeerUpdate};

/// wireguard-go in the foreground, with a private key, port 51820, fwmark 7, and ended with the test.
struct WireGuard {
    name: String,
    child: Child,
}

impl WireGuard {
    /// `tag` tells this test's device from others: control sockets are shared by all namespaces.
    fn start(host: &Namespace, tag: &str) -> Self {
        let name = format!("wpn{tag}{}", std::process::id());
        let child = {
            let name = name.clone();
            host.run(move || {
                Command::new("wireguard-go")
                    .args(["-f", &name])
                    .env("LOG_LEVEL", "error")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("wireguard-go is installed")
            })
        };
        let wireguard = Self { name, child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !wireguard.socket().exists() {
            assert!(Instant::now() < deadline, "wireguard-go does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        host.sh(&format!(
            "wg genkey | wg set {0} private-key /dev/stdin listen-port 51820 fwmark 7
             ip addr add 10.77.0.1/24 dev {0}
             ip link set {0} up",
            wireguard.name
        ));
        wireguard
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/var/run/wireguard/{}.sock", self.name))
    }

    fn show(&self, host: &Namespace, what: &str) -> String {
        host.sh(&format!("wg show {} {what}", self.name)).trim().to_owned()
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.socket());
    }
}

fn new_key(host: &Namespace) -> PublicKey {
    host.sh("wg genkey | wg pubkey").trim().parse().unwrap()
}

fn read(host: &Namespace, name: &str) -> DeviceState {
    let name = name.to_owned();
    host.block_on(async move || Device::find(&name).await.unwrap().read().await.unwrap())
}

fn update(host: &Namespace, name: &str, key: PublicKey, update: PeerUpdate) {
    let name = name.to_owned();
    host.block_on(async move || {
        Device::find(&name).await.unwrap().update_peer(key, update).await.unwrap();
    });
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}

#[test]
fn a_device_is_read_as_wg_shows_it() {
    let host = Namespace::new();
    let wireguard = WireGuard::start(&host, "r");
    let (one, two) = (new_key(&host), new_key(&host));
    host.sh(&format!(
        "wg set {0} peer {one} endpoint 192.0.2.1:9 persistent-keepalive 25 allowed-ips 10.77.1.0/24,fd77::/64
         wg set {0} peer {two} endpoint [2001:db8::1]:9 allowed-ips 10.77.2.0/24",
        wireguard.name
    ));
    let state = read(&host, &wireguard.name);
    assert_eq!(state.public_key.to_string(), wireguard.show(&host, "public-key"));
    assert_eq!((state.listen_port, state.fwmark), (51820, 7));
    let link = host.sh(&format!("ip -o link show {}", wireguard.name));
    assert!(link.starts_with(&format!("{}:", state.ifindex)), "{link}");
    let peer = |key| state.peers.iter().find(|peer| peer.public_key == key).unwrap();
    assert_eq!(state.peers.len(), 2);
    assert_eq!(peer(one).endpoint, Some(endpoint("192.0.2.1:9")));
    assert_eq!((peer(one).keepalive, peer(one).last_handshake), (Some(25), None));
    let mut prefixes = peer(one).allowed_ips.clone();
    prefixes.sort();
    assert_eq!(prefixes, [("10.77.1.0".parse().unwrap(), 24), ("fd77::".parse().unwrap(), 64)]);
    assert_eq!((peer(two).endpoint, peer(two).keepalive), (Some(endpoint("[2001:db8::1]:9")), None));

    let name = wireguard.name.clone();
    let found = host.block_on(async move || Device::find(&name).await.unwrap());
    assert_eq!((found.backend(), found.name()), (Backend::Userspace, wireguard.name.clone()));
}

#[test]
fn an_update_changes_what_it_says_and_nothing_else() {
    let host = Namespace::new();
    let wireguard = WireGuard::start(&host, "u");
    let key = new_key(&host);
    host.sh(&format!(
        "wg set {0} peer {key} persistent-keepalive 21 allowed-ips 10.77.1.0/24,10.77.9.0/24",
        wireguard.name
    ));
    let before = read(&host, &wireguard.name);

    let only_endpoint = PeerUpdate { endpoint: Some(endpoint("[2001:db8::7]:4000")), keepalive: None };
    update(&host, &wireguard.name, key, only_endpoint);
    let mut expected = before.clone();
    expected.peers[0].endpoint = only_endpoint.endpoint;
    let ignore_traffic = |mut state: DeviceState| {
        state.peers.iter_mut().for_each(|peer| (peer.tx_bytes, peer.rx_bytes) = (0, 0));
        state
    };
    assert_eq!(ignore_traffic(read(&host, &wireguard.name)), ignore_traffic(expected.clone()));

    update(&host, &wireguard.name, key, PeerUpdate { endpoint: None, keepalive: Some(0) });
    expected.peers[0].keepalive = None;
    assert_eq!(ignore_traffic(read(&host, &wireguard.name)), ignore_traffic(expected));
}

#[test]
fn a_peer_that_was_removed_does_not_come_back() {
    let host = Namespace::new();
    let wireguard = WireGuard::start(&host, "x");
    let (stays, goes) = (new_key(&host), new_key(&host));
    host.sh(&format!("wg set {0} peer {stays} peer {goes}; wg set {0} peer {goes} remove", wireguard.name));
    let all = PeerUpdate { endpoint: Some(endpoint("192.0.2.1:9")), keepalive: Some(25) };
    update(&host, &wireguard.name, goes, all);
    assert_eq!(wireguard.show(&host, "peers"), stays.to_string());
}

#[test]
fn a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update() {
    let (here, there) = pair();
    let wireguard = WireGuard::start(&here, "k");
    let key = new_key(&here);
    here.sh(&format!("wg set {} peer {key} endpoint 10.9.0.2:1111", wireguard.name));
    let (old, new) = (there.udp("10.9.0.2:1111"), there.udp("10.9.0.2:2222"));
    let both = PeerUpdate { endpoint: Some(endpoint("10.9.0.2:2222")), keepalive: Some(25) };
    update(&here, &wireguard.name, key, both);
    let mut buffer = [0; 256];
    let (length, from) = new.recv_from(&mut buffer).unwrap();
    // A handshake initiation (the WireGuard paper, section 5.4.2): 148 bytes of type 1.
    assert_eq!((length, buffer[0]), (148, 1));
    assert_eq!(from, "10.9.0.1:51820".parse().unwrap());
    old.set_nonblocking(true).unwrap();
    assert!(old.recv_from(&mut buffer).is_err(), "nothing goes to the old endpoint");
}

#[test]
fn a_nudge_into_the_tunnel_starts_a_handshake() {
    let (here, there) = pair();
    let wireguard = WireGuard::start(&here, "t");
    let key = new_key(&here);
    let peer = there.udp("10.9.0.2:1111");
    here.sh(&format!(
        "wg set {} peer {key} endpoint 10.9.0.2:1111 allowed-ips 10.77.1.0/24,fd77::/64",
        wireguard.name
    ));
    let name = wireguard.name.clone();
    here.run(move || wireplug_net::nudge(&name, "10.77.1.9".parse().unwrap()).unwrap());
    let mut buffer = [0; 256];
    assert_eq!((peer.recv_from(&mut buffer).unwrap().0, buffer[0]), (148, 1));
}

#[test]
fn a_device_of_another_namespace_is_not_ours() {
    let (host, other) = (Namespace::new(), Namespace::new());
    let wireguard = WireGuard::start(&host, "n");
    let name = wireguard.name.clone();
    let error = other.block_on(async move || Device::find(&name).await.unwrap_err());
    assert!(matches!(error, DeviceError::NoSuchInterface(_)), "{error}");
}

#[test]
fn a_device_without_a_key_says_what_to_do() {
    let host = Namespace::new();
    let wireguard = WireGuard::start(&host, "e");
    host.sh(&format!("wg set {} private-key /dev/null", wireguard.name));
    let name = wireguard.name.clone();
    let error = host.block_on(async move || Device::find(&name).await.unwrap().read().await.unwrap_err());
    assert!(matches!(error, DeviceError::NoPrivateKey(_)), "{error}");
}

#[test]
fn a_device_that_went_away_is_told() {
    let host = Namespace::new();
    let wireguard = WireGuard::start(&host, "g");
    let name = wireguard.name.clone();
    let device = host.block_on(async move || Device::find(&name).await.unwrap());
    drop(wireguard);
    let error = host.block_on(async move || device.read().await.unwrap_err());
    assert!(matches!(error, DeviceError::NoSuchInterface(_)), "{error}");
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
