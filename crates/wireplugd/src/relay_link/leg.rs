//! One leg's UDP socket on this host. WireGuard sends to it as to any endpoint.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;
use wireplug_core::Endpoint;
use wireplug_proto::wireguard;

use super::Shared;

/// The longest UDP payload over IPv4, in bytes.
const MAX_PACKET: usize = 65507;

/// A leg. Its socket closes when it is dropped and the channel is closed.
pub(super) struct Leg {
    socket: Arc<UdpSocket>,
    endpoint: Endpoint,
    _reader: AbortOnDropHandle<()>,
}

impl Leg {
    /// Opens it at any port, for packets of WireGuard at `listen_port`.
    pub(super) fn open(channel: u16, listen_port: u16, shared: Arc<Shared>) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let port = NonZeroU16::new(socket.local_addr()?.port()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reader = tokio::spawn(read(Arc::clone(&socket), channel, listen_port, shared));
        let reader = AbortOnDropHandle::new(reader);
        Ok(Self { socket, endpoint: Endpoint::on_this_host(port), _reader: reader })
    }

    /// Where it begins.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The socket, to give WireGuard what arrives.
    pub(super) fn socket(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.socket)
    }
}

/// Takes WireGuard's packets, and nobody else's: any program of this host may send here.
async fn read(socket: Arc<UdpSocket>, channel: u16, listen_port: u16, shared: Arc<Shared>) {
    let wireguard = SocketAddr::from((Ipv4Addr::LOCALHOST, listen_port));
    let mut packet = vec![0; MAX_PACKET];
    loop {
        // An error is what an earlier packet met (nobody listens at WireGuard's port): the next one may do better.
        let Ok((length, from)) = socket.recv_from(&mut packet).await else { continue };
        if from == wireguard && wireguard::kind(&packet[..length]).is_some() {
            shared.channels().packet(channel, &packet[..length]);
            shared.work.notify_one();
        }
    }
}
