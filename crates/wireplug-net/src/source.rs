//! The address that the kernel would send from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::SockRef;

/// The address that the kernel would send from now to reach this place with this mark (0 for none): what a connected UDP
/// socket says. Sends nothing.
///
/// # Errors
/// What the system says: there is no route, or sockets cannot be marked.
pub fn source_towards(to: SocketAddr, fwmark: u32) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    if fwmark != 0 {
        SockRef::from(&socket).set_mark(fwmark).map_err(|error| cannot_mark(&error))?;
    }
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Says what failed, and hides the code, which for a send would mean the firewall.
pub(crate) fn cannot_mark(error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("the device's fwmark cannot be set, it needs CAP_NET_ADMIN: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_where_it_would_send_from() {
        for (to, from) in [("127.0.0.1:9", "127.0.0.1"), ("[::1]:9", "::1")] {
            let source = source_towards(to.parse().unwrap(), 0);
            assert!(source.as_ref().is_ok_and(|ip| ip.to_string() == from), "{to}: {source:?}");
        }
    }
}
