//! The kernel's WireGuard. Read by wireguard-control; updated by netlink-packet-wireguard, because
//! wireguard-control's `apply` creates a missing interface and cannot say update-only.

use std::io;

use futures_util::StreamExt as _;
use genetlink::GenetlinkError;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute,
    WireguardPeerFlags,
};
use tokio::sync::Semaphore;
use wireguard_control::{InterfaceName, PeerInfo};
use wireplug_core::{Endpoint, PrivateKey, PublicKey};

use super::{DEADLINE, DeviceError, PeerState, PeerUpdate, RawState, failed, wipe};

/// One read at a time, so that reads do not pile up on the blocking pool behind one that hangs.
static READING: Semaphore = Semaphore::const_new(1);

/// Reads a device of the kernel.
pub(super) async fn read(name: InterfaceName) -> Result<RawState, DeviceError> {
    let text = name.as_str_lossy().into_owned();
    let reading = async {
        // The permit goes with the blocking call, which goes on when nobody waits for it any more.
        let permit = READING.acquire().await.map_err(io::Error::other)?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            wireguard_control::Device::get(&name, wireguard_control::Backend::Kernel).map(convert)
        });
        task.await.map_err(io::Error::other)?
    };
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(result) => result.map_err(|error| not_wireguard(error, &text)),
        Err(_) => Err(DeviceError::Timeout { action: "read", name: text }),
    }
}

/// Changes one peer of a device of the kernel.
pub(super) async fn update(name: &str, key: PublicKey, update: PeerUpdate) -> io::Result<()> {
    let (mut connection, mut handle, _) = genetlink::new_connection()?;
    // Else an acknowledgement looks the same as a connection that has ended.
    connection.set_forward_ack(true);
    tokio::spawn(connection);
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(set_peer(name, key, update)));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut answers = handle.request(message).await.map_err(request_failed)?;
    while let Some(answer) = answers.next().await {
        match answer.map_err(io::Error::other)?.payload {
            // An "error" without a code is the acknowledgement (netlink(7), NLMSG_ERROR).
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel did not acknowledge"))
}

/// The message that changes one peer and can neither make a device nor add a peer.
fn set_peer(name: &str, key: PublicKey, update: PeerUpdate) -> WireguardMessage {
    let mut peer = vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
    ];
    if let Some(endpoint) = update.endpoint {
        peer.push(WireguardPeerAttribute::Endpoint(endpoint.addr()));
    }
    if let Some(seconds) = update.keepalive {
        peer.push(WireguardPeerAttribute::PersistentKeepalive(seconds));
    }
    WireguardMessage {
        cmd: WireguardCmd::SetDevice,
        attributes: vec![
            WireguardAttribute::IfName(name.to_owned()),
            WireguardAttribute::Peers(vec![WireguardPeer(peer)]),
        ],
    }
}

fn request_failed(error: GenetlinkError) -> io::Error {
    match error {
        GenetlinkError::NetlinkError(error) => error,
        other => io::Error::other(other),
    }
}

/// Without the module there is no generic netlink family, so no interface is a WireGuard one.
fn not_wireguard(error: io::Error, name: &str) -> DeviceError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => DeviceError::NotWireGuard(name.to_owned()),
        _ if error.kind() == io::ErrorKind::NotFound => DeviceError::NotWireGuard(name.to_owned()),
        _ => failed(error, "read", name),
    }
}

fn convert(mut device: wireguard_control::Device) -> RawState {
    let private_key = device.private_key.as_mut().map(|key| {
        let copy = PrivateKey::from_bytes(key.0);
        wipe(key);
        copy
    });
    for peer in &mut device.peers {
        if let Some(key) = &mut peer.config.preshared_key {
            wipe(key);
        }
    }
    RawState {
        private_key,
        listen_port: device.listen_port.unwrap_or(0),
        fwmark: device.fwmark.unwrap_or(0),
        peers: join(device.peers),
    }
}

/// Peers, each once. The kernel splits a peer with many AllowedIPs over messages, the later parts with
/// nothing but key and prefixes, and wireguard-control takes each part for a peer.
fn join(parts: Vec<PeerInfo>) -> Vec<PeerState> {
    let mut peers: Vec<PeerState> = Vec::with_capacity(parts.len());
    for part in parts {
        let state = peer_state(part);
        match peers.last_mut() {
            Some(last) if last.public_key == state.public_key => last.allowed_ips.extend(state.allowed_ips),
            _ => peers.push(state),
        }
    }
    peers
}

fn peer_state(info: PeerInfo) -> PeerState {
    PeerState {
        public_key: PublicKey::from_bytes(info.config.public_key.0),
        endpoint: info.config.endpoint.and_then(|addr| Endpoint::of_device(addr).ok()),
        keepalive: info.config.persistent_keepalive_interval.filter(|seconds| *seconds > 0),
        last_handshake: info.stats.last_handshake_time,
        rx_bytes: info.stats.rx_bytes,
        tx_bytes: info.stats.tx_bytes,
        allowed_ips: info.config.allowed_ips.into_iter().map(|ip| (ip.address, ip.cidr)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;
    use wireguard_control::{AllowedIp, Key};

    use super::*;

    fn bytes_of(update: PeerUpdate) -> Vec<u8> {
        let message = set_peer("wg0", PublicKey::from_bytes([0xab; 32]), update);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[cfg(target_endian = "little")] // netlink is in host order
    #[test]
    fn the_bytes_say_update_only_and_nothing_else() {
        let endpoint = Endpoint::new("203.0.113.7:51820".parse().unwrap()).unwrap();
        let bytes = bytes_of(PeerUpdate { endpoint: Some(endpoint), keepalive: Some(25) });
        // include/uapi/linux/wireguard.h: each attribute is length, type (0x8000: nested), value, padding.
        let mut expected = vec![8, 0, 2, 0, b'w', b'g', b'0', 0]; // WGDEVICE_A_IFNAME
        expected.extend([80, 0, 8, 0x80]); // WGDEVICE_A_PEERS
        expected.extend([76, 0, 0, 0x80]); // one peer: a header of 4, then 36 + 8 + 20 + 8
        expected.extend([36, 0, 1, 0]); // WGPEER_A_PUBLIC_KEY
        expected.extend([0xab; 32]);
        expected.extend([8, 0, 3, 0, 4, 0, 0, 0]); // WGPEER_A_FLAGS: WGPEER_F_UPDATE_ONLY
        expected.extend([20, 0, 4, 0, 2, 0, 0xca, 0x6c, 203, 0, 113, 7]); // WGPEER_A_ENDPOINT, sockaddr_in
        expected.extend([0; 8]);
        expected.extend([6, 0, 5, 0, 25, 0, 0, 0]); // WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_not_asked_for_is_not_sent() {
        let whole = bytes_of(PeerUpdate { keepalive: Some(0), endpoint: None });
        assert_eq!(whole.len(), 8 + 4 + 4 + 36 + 8 + 8);
    }

    #[test]
    fn parts_of_a_split_peer_are_joined() {
        let part = |key: u8, prefix: &str| {
            let mut info = PeerInfo::from_public_key(Key([key; 32]));
            info.config.allowed_ips.push(prefix.parse::<AllowedIp>().unwrap());
            info
        };
        let mut first = part(1, "10.0.0.0/8");
        first.stats.rx_bytes = 9;
        first.config.persistent_keepalive_interval = Some(25);
        let peers = join(vec![first, part(1, "fd00::/8"), part(2, "0.0.0.0/0")]);
        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].rx_bytes, peers[0].keepalive), (9, Some(25)));
        assert_eq!(peers[0].allowed_ips, [("10.0.0.0".parse().unwrap(), 8), ("fd00::".parse().unwrap(), 8)]);
    }
}
