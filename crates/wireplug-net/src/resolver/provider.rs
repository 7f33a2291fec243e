//! Sockets for hickory that carry a mark before they send anything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

/// How long a name server may take to accept a TCP connection when hickory names no time.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);

/// hickory's tokio runtime with marked sockets.
#[derive(Clone)]
pub(super) struct Marked {
    fwmark: u32,
    handle: TokioHandle,
}

impl Marked {
    pub(super) fn new(fwmark: u32) -> Self {
        Self { fwmark, handle: TokioHandle::default() }
    }
}

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Marked {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>, // only a configuration that we do not write names one
        wait: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let fwmark = self.fwmark;
        Box::pin(async move {
            match crate::tcp::connect(server, fwmark, wait.unwrap_or(TCP_TIMEOUT)).await {
                Ok(stream) => Ok(AsyncIoTokioAsStd(stream)),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }

    fn bind_udp(&self, local: SocketAddr, _server: SocketAddr) -> Opening<Self::Udp> {
        let fwmark = self.fwmark;
        Box::pin(async move {
            let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            if fwmark != 0 {
                socket.set_mark(fwmark)?;
            }
            socket.bind(&local.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}
