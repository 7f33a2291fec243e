//! UDP sockets towards a router on one of the host's links: bound to that link and to our address on it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A link of this host.
#[derive(Debug, Clone, Copy)]
pub struct OnLink<'a> {
    /// Its number.
    pub ifindex: u32,
    /// Its name, such as `eth0`.
    pub name: &'a str,
}

/// A socket that speaks with one router only.
#[derive(Debug)]
pub struct RouterSocket {
    socket: UdpSocket,
    /// Who is heard: the kernel sees to it where the socket is connected.
    only: Option<IpAddr>,
}

impl RouterSocket {
    /// A socket from our address `source` to a port (host order) of a router on a link, with the mark of the
    /// device's own packets (0 for none).
    ///
    /// # Errors
    /// What the system says, such as that the address is not ours any more.
    pub fn connect(
        router: IpAddr,
        port: u16,
        source: IpAddr,
        link: OnLink<'_>,
        mark: u32,
    ) -> io::Result<Self> {
        let socket = Self::open(router, link)?;
        if mark != 0 {
            socket.set_mark(mark)?;
        }
        socket.bind(&on_link(source, 0, link).into())?;
        socket.connect(&on_link(router, port, link).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, only: None })
    }

    /// A socket that hears what a router tells a multicast group on a link at this port (host order). Others on this
    /// host may hear it as well.
    ///
    /// # Errors
    /// What the system says, such as that a program has the port for itself.
    pub fn listen(router: IpAddr, group: IpAddr, port: u16, link: OnLink<'_>) -> io::Result<Self> {
        let socket = Self::open(group, link)?;
        socket.set_reuse_address(true)?;
        // Bound to the group, it hears nothing else.
        socket.bind(&on_link(group, port, link).into())?;
        match group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(link.ifindex))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, link.ifindex)?,
        }
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, only: Some(router) })
    }

    fn open(like: IpAddr, link: OnLink<'_>) -> io::Result<Socket> {
        let domain = if like.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        // A second default route, or a tunnel that takes everything, must not carry it elsewhere.
        socket.bind_device(Some(link.name.as_bytes()))?;
        Ok(socket)
    }

    /// Sends one datagram. Cancel-safe.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::ConnectionRefused`] where ICMP said so.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(drop)
    }

    /// Waits for the router's next datagram and tells its length; what does not fit is lost. Cancel-safe.
    ///
    /// # Errors
    /// As [`RouterSocket::send`].
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (length, from) = self.socket.recv_from(buffer).await?;
            if self.only.is_none_or(|only| only == from.ip()) {
                return Ok(length);
            }
        }
    }
}

/// An address on a link: IPv6 addresses that are of their link only need to say which.
pub(crate) fn on_link(ip: IpAddr, port: u16, link: OnLink<'_>) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => (ip, port).into(),
        IpAddr::V6(ip) if needs_scope(ip) => SocketAddrV6::new(ip, port, 0, link.ifindex).into(),
        IpAddr::V6(ip) => (ip, port).into(),
    }
}

fn needs_scope(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: OnLink<'_> = OnLink { ifindex: 1, name: "lo" };
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test]
    async fn it_comes_from_our_address_and_hears_the_router_only() {
        let router = UdpSocket::bind((THERE, 0)).await.unwrap();
        let port = router.local_addr().unwrap().port();
        let socket = RouterSocket::connect(THERE, port, HERE, LOOPBACK, 0).unwrap();
        socket.send(b"question").await.unwrap();
        let mut buffer = [0; 16];
        let (length, from) = router.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"question"[..], HERE));
        let stranger = UdpSocket::bind((HERE, 0)).await.unwrap();
        stranger.send_to(b"forged", from).await.unwrap();
        router.send_to(b"answer", from).await.unwrap();
        let length = socket.receive(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"answer");
    }

    #[tokio::test]
    async fn nobody_there_is_told_at_once() {
        let gone = UdpSocket::bind((THERE, 0)).await.unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        let socket = RouterSocket::connect(THERE, port, HERE, LOOPBACK, 0).unwrap();
        socket.send(b"question").await.unwrap();
        let error = socket.receive(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_refused() {
        let source = [192, 0, 2, 77].into();
        assert!(RouterSocket::connect(THERE, 5351, source, LOOPBACK, 0).is_err());
    }

    #[tokio::test]
    async fn several_hear_what_the_router_tells_the_group() {
        let group = [224, 0, 0, 1].into();
        let ears: Vec<_> =
            (0..2).map(|_| RouterSocket::listen(HERE, group, 45350, LOOPBACK).unwrap()).collect();
        let deaf = RouterSocket::listen(THERE, group, 45350, LOOPBACK).unwrap();
        let router = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        router.bind(&SocketAddr::from((HERE, 0)).into()).unwrap();
        router.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        router.send_to(b"restarted", &SocketAddr::from((group, 45350)).into()).unwrap();
        let mut buffer = [0; 16];
        for ear in &ears {
            let length = ear.receive(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"restarted");
        }
        let heard =
            tokio::time::timeout(std::time::Duration::from_millis(20), deaf.receive(&mut buffer)).await;
        assert!(heard.is_err(), "another host told that");
    }
}
