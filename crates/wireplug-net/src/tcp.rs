//! TCP connections that carry the device's mark, so that a full tunnel does not swallow them.

use std::io;
use std::net::SocketAddr;
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
