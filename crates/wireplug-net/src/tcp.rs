//! TCP connections that carry the device's mark, so that a full tunnel does not swallow them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

/// Why a TCP connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time.
    #[error("no answer from {to} within {} ms", .after.as_millis())]
    Timeout {
        /// Where to.
        to: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The mark could not be set.
    #[error(
        "cannot mark a connection to {to} with the device's fwmark: {source}; run as root or grant CAP_NET_ADMIN"
    )]
    Mark {
        /// Where to.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Refused, unreachable and the like.
    #[error("cannot connect to {to}: {source}")]
    Io {
        /// Where to.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Connects with this mark (0 for none), without delaying small writes.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(to: SocketAddr, fwmark: u32, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Io { to, source };
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(failed)?;
    if fwmark != 0 {
        socket2::SockRef::from(&socket)
            .set_mark(fwmark)
            .map_err(|source| ConnectError::Mark { to, source })?;
    }
    socket.set_nodelay(true).map_err(failed)?;
    match tokio::time::timeout(timeout, socket.connect(to)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(ConnectError::Timeout { to, after: timeout }),
    }
}

/// The address that the kernel would send from now to reach this place with this mark (0 for none). Sends nothing.
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
        socket2::SockRef::from(&socket).set_mark(fwmark)?;
    }
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Lets at most about so many bytes wait unsent in the kernel: what the network does not take yet waits with us,
/// where the oldest of it can be dropped.
///
/// # Errors
/// What the system says.
pub fn keep_unsent_short(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes)
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

    #[tokio::test]
    async fn connects_without_delay_and_says_where_it_could_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let stream = connect(to, 0, Duration::from_secs(5)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        drop((stream, listener));
        let error = connect(to, 0, Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().contains(&to.to_string()), "{error}");
    }
}
