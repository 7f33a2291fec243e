//! For the fuzz targets: what reads a router's bytes, without a router. Not an interface to build upon.

use std::io;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use natpmp::{Response, new_natpmp_async_with};
use wireplug_strategy::{BoxFuture, Datagrams};

use crate::client;
use crate::socket::Socket;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Epoch and outer address.
    Outside(u32, Ipv4Addr),
    /// Epoch, inner and outer port, and lifetime in seconds, of UDP.
    Mapped(u32, u16, u16, u64),
    /// A mapping of TCP.
    Tcp,
    /// An error.
    Refused,
}

/// A router's one datagram, as the client reads it; `None` where it waits for another one.
pub fn answer(datagram: &[u8]) -> Option<Said> {
    let socket = Socket::new(Arc::new(Once(Mutex::new(Some(datagram.to_vec())))));
    let natpmp = new_natpmp_async_with(socket, Ipv4Addr::LOCALHOST);
    let reading = pin!(natpmp.read_response_or_retry());
    let Poll::Ready(read) = reading.poll(&mut Context::from_waker(Waker::noop())) else { return None };
    Some(match read {
        Ok(Response::Gateway(answer)) => Said::Outside(answer.epoch(), *answer.public_address()),
        Ok(Response::UDP(answer)) => Said::Mapped(
            answer.epoch(),
            answer.private_port(),
            answer.public_port(),
            answer.lifetime().as_secs(),
        ),
        Ok(Response::TCP(_)) => Said::Tcp,
        Err(_) => Said::Refused,
    })
}

/// The seconds that a router's notice tells.
pub fn announced(datagram: &[u8]) -> Option<u32> {
    client::announced(datagram)
}

/// A socket on which one datagram arrives.
#[derive(Debug)]
struct Once(Mutex<Option<Vec<u8>>>);

impl Datagrams for Once {
    fn send<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn receive(&self) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async {
            let datagram = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            match datagram {
                Some(datagram) => Ok(datagram),
                None => std::future::pending().await,
            }
        })
    }
}
