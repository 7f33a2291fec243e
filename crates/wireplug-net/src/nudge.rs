//! One small packet into a tunnel, which makes WireGuard begin a handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

/// The discard port (RFC 863): a host that answers there at all answers with nothing.
const DISCARD: u16 = 9;

/// Sends one empty UDP datagram to `to` out of an interface, whatever routing says. Never waits.
///
/// # Errors
/// Of the system; without an address on the interface there is none to send from.
pub fn nudge(interface: &str, to: IpAddr) -> io::Result<()> {
    let (domain, any): (_, IpAddr) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    UdpSocket::from(socket).send_to(&[], SocketAddr::new(to, DISCARD))?;
    Ok(())
}
