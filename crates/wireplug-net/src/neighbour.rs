//! Sockets to devices on one of the host's links, bound to that link and to our address on it. What they send is not
//! forwarded by any router: its hop limit ends on the link.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::router::{OnLink, on_link};

/// The last hop is the first.
const HOPS: u32 = 1;

/// A UDP socket that speaks with anybody on a link, multicast groups included.
#[derive(Debug)]
pub struct LinkSocket(UdpSocket);

impl LinkSocket {
    /// A socket from our address `source` on a link, with the mark of the device's own packets (0 for none).
    ///
    /// # Errors
    /// What the system says, such as that the address is not ours any more.
    pub fn bind(source: IpAddr, link: OnLink<'_>, mark: u32) -> io::Result<Self> {
        let socket = open(Type::DGRAM, Protocol::UDP, source, link, mark)?;
        match source {
            IpAddr::V4(source) => {
                socket.set_multicast_if_v4(&source)?;
                socket.set_multicast_ttl_v4(HOPS)?;
            }
            IpAddr::V6(_) => {
                socket.set_multicast_if_v6(link.ifindex)?;
                socket.set_multicast_hops_v6(HOPS)?;
            }
        }
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Sends one datagram. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.0.send_to(datagram, to).await.map(drop)
    }

    /// Waits for the next datagram and tells its length and sender; what does not fit is lost. Cancel-safe.
    ///
    /// # Errors
    /// What the system says.
    pub async fn receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }
}

/// Connects from our address `source` to a device on a link, with the mark of the device's own packets (0 for none).
/// It gives up when the system does, which takes minutes.
///
/// # Errors
/// What the system says: refused, unreachable, or that the address is not ours any more.
pub async fn connect_on_link(
    to: SocketAddr,
    source: IpAddr,
    link: OnLink<'_>,
    mark: u32,
) -> io::Result<TcpStream> {
    let socket = open(Type::STREAM, Protocol::TCP, source, link, mark)?;
    socket.set_tcp_nodelay(true)?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

fn open(kind: Type, protocol: Protocol, source: IpAddr, link: OnLink<'_>, mark: u32) -> io::Result<Socket> {
    let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(HOPS)?;
    } else {
        socket.set_ttl_v4(HOPS)?;
    }
    // A second default route, or a tunnel that takes everything, must not carry it elsewhere.
    socket.bind_device(Some(link.name.as_bytes()))?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    socket.bind(&on_link(source, 0, link).into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LOOPBACK: OnLink<'_> = OnLink { ifindex: 1, name: "lo" };
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test]
    async fn letters_come_from_our_address_and_anybody_may_answer() {
        let device = UdpSocket::bind((THERE, 0)).await.unwrap();
        let socket = LinkSocket::bind(HERE, LOOPBACK, 0).unwrap();
        socket.send_to(b"who", device.local_addr().unwrap()).await.unwrap();
        let mut buffer = [0; 16];
        let (_, from) = device.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from.ip(), HERE);
        let other = UdpSocket::bind((THERE, 0)).await.unwrap();
        other.send_to(b"me", from).await.unwrap();
        let (length, from) = socket.receive_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"me"[..], other.local_addr().unwrap()));
    }

    #[tokio::test]
    async fn connections_come_from_our_address() {
        let device = TcpListener::bind((THERE, 0)).await.unwrap();
        let to = device.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(connect_on_link(to, HERE, LOOPBACK, 0), device.accept());
        let (mut theirs, from) = theirs.unwrap();
        assert_eq!(from.ip(), HERE);
        theirs.write_all(b"hello").await.unwrap();
        drop(theirs);
        let mut text = String::new();
        ours.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_refused() {
        let source = [192, 0, 2, 77].into();
        assert!(LinkSocket::bind(source, LOOPBACK, 0).is_err());
        assert!(connect_on_link((THERE, 1).into(), source, LOOPBACK, 0).await.is_err());
    }
}
