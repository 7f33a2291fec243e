//! The link's side of SSDP (UPnP Device Architecture 1.1, section 1.3): who answers a search.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::FakeGateway;
use crate::kit::host::FakeHost;
use crate::nearby::{Letters, Nearby};
use crate::registry::BoxFuture;

/// UDA 1.1 section 1.3.2.
const SSDP_PORT: u16 = 1900;

/// A socket in memory, to everybody in a place.
#[derive(Debug)]
pub(in crate::kit) struct FakeLetters {
    host: FakeHost,
    source: IpAddr,
    arriving: Mutex<VecDeque<Letter>>,
    sent: Notify,
}

#[derive(Debug)]
struct Letter {
    at: Instant,
    from: SocketAddr,
    datagram: Vec<u8>,
}

impl FakeLetters {
    pub(in crate::kit) fn new(host: FakeHost, nearby: &Nearby) -> Self {
        Self { host, source: nearby.source, arriving: Mutex::default(), sent: Notify::new() }
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let multicast = to.ip().is_multicast();
        let (devices, latency) = self.host.devices(self.source, to)?;
        let Some(latency) = latency else { return Ok(()) };
        let at = Instant::now() + latency;
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        for (ip, device) in devices {
            for (port, datagram) in device.searched(self.source, ip, to.port(), multicast, datagram) {
                arriving.push_back(Letter { at, from: SocketAddr::new(ip, port), datagram });
            }
        }
        self.sent.notify_one();
        Ok(())
    }

    async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        loop {
            let due = {
                let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
                if arriving.front().is_some_and(|letter| letter.at <= Instant::now())
                    && let Some(letter) = arriving.pop_front()
                {
                    return (letter.datagram, letter.from);
                }
                arriving.front().map(|letter| letter.at)
            };
            match due {
                Some(due) => sleep_until(due).await,
                None => self.sent.notified().await,
            }
        }
    }
}

impl Letters for FakeLetters {
    fn send_to<'a>(&'a self, datagram: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { self.send(datagram, to) })
    }

    fn receive_from(&self) -> BoxFuture<'_, io::Result<(Vec<u8>, SocketAddr)>> {
        Box::pin(async move { Ok(self.receive().await) })
    }
}

impl FakeGateway {
    /// What it answers to a datagram, and from which ports.
    fn searched(
        &self,
        from: IpAddr,
        at: IpAddr,
        port: u16,
        multicast: bool,
        datagram: &[u8],
    ) -> Vec<(u16, Vec<u8>)> {
        let mut inner = self.lock();
        inner.note(from, port, datagram);
        let script = &inner.script.upnp;
        let hears = if multicast { script.hears_multicast } else { script.hears_unicast };
        let text = String::from_utf8_lossy(datagram);
        let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(target), Some("\"ssdp:discover\"")) = (header("ST:"), header("MAN:")) else {
            return Vec::new();
        };
        if port != SSDP_PORT || !hears || !script.targets.iter().any(|known| target.ends_with(known.as_str()))
        {
            return Vec::new();
        }
        let at = if at.is_ipv6() { format!("[{at}]") } else { at.to_string() };
        let answers = script.answers.iter();
        let answers = answers.map(|answer| answer.replace("{at}", &at).replace("{target}", target));
        answers.map(|answer| (script.answers_from, answer.into_bytes())).collect()
    }
}
