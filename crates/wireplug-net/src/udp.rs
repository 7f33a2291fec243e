//! A server's UDP socket: it tells which of the host's addresses a datagram came to, and answers from that one.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness::watch;

/// A bound UDP socket for a host with several addresses.
#[derive(Debug)]
pub struct ServerSocket {
    socket: AsyncFd<Socket>,
    local: SocketAddr,
}

/// One datagram as it arrived; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Who sent it. IPv4 is IPv4, on a dual-stack socket too.
    pub from: SocketAddr,
    /// The address of this host that it was sent to.
    pub to: Option<IpAddr>,
    /// Whether it was larger than the buffer, and the rest is lost.
    pub truncated: bool,
}

impl ServerSocket {
    /// Binds. `[::]` serves IPv4 too where the host has it; any other IPv6 address serves IPv6 only.
    ///
    /// # Errors
    /// What the system says, such as a port in use.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        match addr {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(v6) => {
                socket.set_only_v6(!v6.ip().is_unspecified())?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(addr);
        Ok(Self { socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?, local })
    }

    /// The address that it is bound to, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Asks for a receive buffer of that many bytes; the system may give less.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        self.socket.get_ref().set_recv_buffer_size(bytes)
    }

    /// Waits for the next datagram. Cancel-safe.
    ///
    /// # Errors
    /// What the system says; the socket stays usable.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, |socket| recv(socket, buffer)).await
    }

    /// Sends one datagram, from that address of this host if one is given, waiting for room in the buffers.
    ///
    /// # Errors
    /// What the system says, such as no route; the socket stays usable.
    pub async fn send_to(&self, payload: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket, self.local, payload, to, from)).await
    }

    /// Sends one datagram now, or fails with [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// As [`ServerSocket::send_to`].
    pub fn try_send_to(&self, payload: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        send(self.socket.get_ref(), self.local, payload, to, from)
    }
}

/// Sends one datagram on a socket that is bound to `local`, from that address of this host if one is given.
pub(crate) fn send(
    socket: &Socket,
    local: SocketAddr,
    payload: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let (fd, parts) = (socket.as_raw_fd(), [IoSlice::new(payload)]);
    if let (SocketAddr::V4(_), SocketAddr::V4(to)) = (local, to) {
        let info = match from {
            Some(IpAddr::V4(from)) => Some(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            _ => None,
        };
        let control = info.as_ref().map(ControlMessage::Ipv4PacketInfo);
        sendmsg(fd, &parts, control.as_slice(), MsgFlags::empty(), Some(&SockaddrIn::from(to)))?;
        return Ok(());
    }
    // A dual-stack socket speaks IPv4 by mapped addresses, for the source as for the destination.
    let to = match to {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    };
    let info = from.map(|from| libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: mapped(from).octets() },
        ipi6_ifindex: to.scope_id(),
    });
    let control = info.as_ref().map(ControlMessage::Ipv6PacketInfo);
    sendmsg(fd, &parts, control.as_slice(), MsgFlags::empty(), Some(&SockaddrIn6::from(to)))?;
    Ok(())
}

fn recv(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let to = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical())
        }
        _ => None,
    });
    let from = message.address.as_ref().and_then(canonical);
    let from =
        from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender"))?;
    Ok(Received { length: message.bytes, from, to, truncated: message.flags.contains(MsgFlags::MSG_TRUNC) })
}

fn canonical(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(match v6.ip().to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), v6.port()),
        None => SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    })
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered_from(server: &str, ask: &str, client: &str) {
        let server = ServerSocket::bind(server.parse().unwrap()).unwrap();
        let client = tokio::net::UdpSocket::bind(client).await.unwrap();
        let ask = SocketAddr::new(ask.parse().unwrap(), server.local_addr().port());
        client.send_to(b"hello", ask).await.unwrap();
        let mut buffer = [0; 16];
        let got = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..got.length], got.to, got.truncated), (&b"hello"[..], Some(ask.ip()), false));
        assert_eq!(got.from, client.local_addr().unwrap());
        server.send_to(b"back", got.from, got.to).await.unwrap();
        let (length, from) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"back"[..], ask));
    }

    #[tokio::test]
    async fn answers_come_from_the_address_that_was_asked() {
        answered_from("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0").await;
        answered_from("127.0.0.3:0", "127.0.0.3", "127.0.0.1:0").await;
    }

    #[tokio::test]
    async fn a_wildcard_serves_both_families() {
        if std::net::UdpSocket::bind("[::1]:0").is_err() {
            return; // a host without IPv6
        }
        answered_from("[::]:0", "127.0.0.2", "127.0.0.1:0").await;
        answered_from("[::]:0", "::1", "[::1]:0").await;
        answered_from("[::1]:0", "::1", "[::1]:0").await;
    }

    #[tokio::test]
    async fn a_datagram_larger_than_the_buffer_is_marked() {
        let server = ServerSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = ServerSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        client.try_send_to(&[7; 9], server.local_addr(), None).unwrap();
        let got = server.recv_from(&mut [0; 8]).await.unwrap();
        assert!(got.truncated && got.length == 8);
    }
}
