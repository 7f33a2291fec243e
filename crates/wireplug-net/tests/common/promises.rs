//! What a device must do, whoever runs its protocol.

use std::time::SystemTime;

use wireplug_core::{Endpoint, PublicKey};
use wireplug_net::{Backend, Device, DeviceError, DeviceState, PeerUpdate};

use super::wireguard::WireGuard;
use super::{Namespace, pair};

pub(crate) fn a_device_is_read_as_wg_shows_it(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "r");
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
    assert_eq!((found.backend(), found.name()), (backend, wireguard.name.clone()));
}

pub(crate) fn an_update_changes_what_it_says_and_nothing_else(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "u");
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

pub(crate) fn a_peer_that_was_removed_does_not_come_back(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "x");
    let (stays, goes) = (new_key(&host), new_key(&host));
    host.sh(&format!("wg set {0} peer {stays} peer {goes}; wg set {0} peer {goes} remove", wireguard.name));
    let all = PeerUpdate { endpoint: Some(endpoint("192.0.2.1:9")), keepalive: Some(25) };
    update(&host, &wireguard.name, goes, all);
    assert_eq!(wireguard.show(&host, "peers"), stays.to_string());
}

pub(crate) fn a_new_keepalive_starts_a_handshake_at_the_endpoint_of_the_same_update(backend: Backend) {
    let (here, there) = pair();
    let wireguard = WireGuard::start(backend, &here, "k");
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

pub(crate) fn a_nudge_into_the_tunnel_starts_a_handshake(backend: Backend) {
    let (here, there) = pair();
    let wireguard = WireGuard::start(backend, &here, "t");
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

pub(crate) fn a_device_of_another_namespace_is_not_ours(backend: Backend) {
    let (host, other) = (Namespace::new(), Namespace::new());
    let wireguard = WireGuard::start(backend, &host, "n");
    let name = wireguard.name.clone();
    let error = other.block_on(async move || Device::find(&name).await.unwrap_err());
    assert!(matches!(error, DeviceError::NoSuchInterface(_)), "{error}");
}

pub(crate) fn a_device_without_a_key_says_what_to_do(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "e");
    host.sh(&format!("wg set {} private-key /dev/null", wireguard.name));
    let name = wireguard.name.clone();
    let error = host.block_on(async move || Device::find(&name).await.unwrap().read().await.unwrap_err());
    assert!(matches!(error, DeviceError::NoPrivateKey(_)), "{error}");
}

pub(crate) fn a_device_that_went_away_is_told_and_not_made_again(backend: Backend) {
    let host = Namespace::new();
    let wireguard = WireGuard::start(backend, &host, "g");
    let name = wireguard.name.clone();
    let key = new_key(&host);
    let device = host.block_on(async move || Device::find(&name).await.unwrap());
    wireguard.remove(&host);
    let all = PeerUpdate { endpoint: Some(endpoint("192.0.2.1:9")), keepalive: Some(25) };
    let (read, updated) =
        host.block_on(async move || (device.read().await.unwrap_err(), device.update_peer(key, all).await));
    assert!(matches!(read, DeviceError::NoSuchInterface(_)), "{read}");
    assert!(matches!(updated, Err(DeviceError::NoSuchInterface(_))), "{updated:?}");
    assert_eq!(host.sh("ip -o link show").lines().count(), 1, "only loopback is left");
}

pub(crate) fn a_handshake_shows_in_time_and_bytes(backend: Backend) {
    let (here, there) = pair();
    let (ours, theirs) = (WireGuard::start(backend, &here, "h"), WireGuard::start(backend, &there, "i"));
    there.sh(&format!("ip addr flush dev {0}; ip addr add 10.77.0.2/24 dev {0}", theirs.name));
    let (our_key, their_key) = (ours.show(&here, "public-key"), theirs.show(&there, "public-key"));
    there.sh(&format!("wg set {} peer {our_key} allowed-ips 10.77.0.1/32", theirs.name));
    here.sh(&format!("wg set {} peer {their_key} allowed-ips 10.77.0.2/32", ours.name));
    let started = SystemTime::now();
    let to = PeerUpdate { endpoint: Some(endpoint("10.9.0.2:51820")), keepalive: None };
    update(&here, &ours.name, their_key.parse().unwrap(), to);
    here.sh("ping -q -n -c 2 -i 0.1 -W 5 10.77.0.2");

    for (host, device) in [(&here, &ours), (&there, &theirs)] {
        let state = read(host, &device.name);
        let peer = &state.peers[0];
        let at = peer.last_handshake.unwrap();
        assert!(at >= started && at <= SystemTime::now(), "{at:?}");
        assert_ne!(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos(), 0, "not whole seconds");
        assert!(peer.rx_bytes > 0 && peer.tx_bytes > 0, "{peer:?}");
        let shown = device.show(host, "latest-handshakes");
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(shown.ends_with(&format!("\t{seconds}")), "{shown} is not {seconds}");
    }
    let learned = read(&there, &theirs.name).peers[0].endpoint;
    assert_eq!(learned, Some(endpoint("10.9.0.1:51820")), "from the initiation");
}

pub(crate) fn new_key(host: &Namespace) -> PublicKey {
    host.sh("wg genkey | wg pubkey").trim().parse().unwrap()
}

pub(crate) fn read(host: &Namespace, name: &str) -> DeviceState {
    let name = name.to_owned();
    host.block_on(async move || Device::find(&name).await.unwrap().read().await.unwrap())
}

pub(crate) fn update(host: &Namespace, name: &str, key: PublicKey, update: PeerUpdate) {
    let name = name.to_owned();
    host.block_on(async move || {
        Device::find(&name).await.unwrap().update_peer(key, update).await.unwrap();
    });
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap()).unwrap()
}
