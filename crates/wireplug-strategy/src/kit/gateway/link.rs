//! What a strategy holds as its socket to a fake router.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as Waiting, Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::{FakeGateway, Reaction};
use crate::kit::host::FakeHost;
use crate::registry::BoxFuture;
use crate::router::{Datagrams, Dial, Listen};

/// A socket in memory.
#[derive(Debug)]
pub(in crate::kit) enum FakeLink {
    /// To a router's port.
    Dialled(Dialled),
    /// For what it tells everybody; `None` where nobody is there to tell anything.
    Ear(Option<Waiting<mpsc::UnboundedReceiver<Vec<u8>>>>),
}

#[derive(Debug)]
pub(in crate::kit) struct Dialled {
    host: FakeHost,
    gateway: IpAddr,
    source: IpAddr,
    port: u16,
    arriving: Mutex<VecDeque<(Instant, io::Result<Vec<u8>>)>>,
    sent: Notify,
}

impl FakeLink {
    pub(in crate::kit) fn dial(host: FakeHost, dial: &Dial) -> Self {
        Self::Dialled(Dialled {
            host,
            gateway: dial.gateway.ip,
            source: dial.source,
            port: dial.port,
            arriving: Mutex::default(),
            sent: Notify::new(),
        })
    }

    pub(in crate::kit) fn listen(router: Option<&FakeGateway>, listen: &Listen) -> Self {
        Self::Ear(router.map(|router| Waiting::new(router.ear(listen.group, listen.port))))
    }
}

impl Datagrams for FakeLink {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            match self {
                Self::Dialled(dialled) => dialled.send(datagram),
                Self::Ear(_) => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }

    fn receive(&self) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            match self {
                Self::Dialled(dialled) => dialled.receive().await,
                Self::Ear(Some(ear)) => match ear.lock().await.recv().await {
                    Some(datagram) => Ok(datagram),
                    None => std::future::pending().await,
                },
                Self::Ear(None) => std::future::pending().await,
            }
        })
    }
}

impl Dialled {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        // The router of where the host is now, which may be another network than when this was opened.
        let (router, latency) = self.host.router(self.gateway, self.source)?;
        let Some(router) = router else { return Ok(()) };
        let junk = router.change(|script| script.natpmp.junk.clone());
        let answer = match router.hear(self.source, self.port, datagram) {
            Reaction::Silence => return Ok(()),
            Reaction::Unreachable => Err(io::ErrorKind::ConnectionRefused.into()),
            Reaction::Answer(answer) => Ok(answer),
        };
        let Some(latency) = latency else { return Ok(()) };
        let at = Instant::now() + latency;
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.extend(junk.map(|junk| (at, Ok(junk))));
        arriving.push_back((at, answer));
        self.sent.notify_one();
        Ok(())
    }

    async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let next = {
                let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
                match arriving.front().map(|(at, _)| *at) {
                    Some(at) if at <= Instant::now() => {
                        if let Some((_, datagram)) = arriving.pop_front() {
                            return datagram;
                        }
                        None
                    }
                    other => other,
                }
            };
            match next {
                Some(at) => sleep_until(at).await,
                None => self.sent.notified().await,
            }
        }
    }
}
