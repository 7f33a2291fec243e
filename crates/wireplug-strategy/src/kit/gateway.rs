//! A scripted fake router: it maps ports in memory, by every protocol there is a file for, and plays the quirks of
//! real ones. Without sockets and tasks: on paused time it answers exactly when its place says so.
//!
//! Put one at the address of a [`crate::Gateway`] into [`super::Place::routers`]; change its [`Script`] while a
//! strategy runs; look at [`FakeGateway::mappings`] and [`FakeGateway::heard`].

mod http;
mod link;
mod natpmp;
mod pcp;
mod soap;
mod ssdp;
mod upnp;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(super) use http::FakeConnection;
pub(super) use link::FakeLink;
pub use natpmp::NatPmpScript;
pub use pcp::PcpScript;
pub(super) use ssdp::FakeLetters;
pub use upnp::{FakeService, Page, Renewal, UpnpScript};

/// Where NAT-PMP and PCP are served: RFC 6886 section 3.1, RFC 6887 section 19.1.
pub const SERVICE_PORT: u16 = 5351;
/// Where their notices go: RFC 6886 section 3.2.1, RFC 6887 section 14.1.2.
pub const NOTICE_PORT: u16 = 5350;

/// The most that is kept of what was heard.
const MAX_HEARD: usize = 10_000;

/// A fake router; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct FakeGateway(Arc<Mutex<Inner>>);

/// How it behaves. Plain data: tests change what they like.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its outer IPv4 address.
    pub outside: IpAddr,
    /// The outer ports that others have.
    pub taken: Vec<u16>,
    /// Grants no longer leases than this, in seconds.
    pub longest_lease: u32,
    /// Gives this outer port to everybody, whatever is asked for.
    pub assigns: Option<u16>,
    /// NAT-PMP.
    pub natpmp: NatPmpScript,
    /// PCP.
    pub pcp: PcpScript,
    /// UPnP.
    pub upnp: UpnpScript,
}

/// What a service does with what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// It answers.
    #[default]
    Answers,
    /// It does not exist, and a firewall drops the question.
    Silent,
    /// It does not exist, and ICMP says so.
    Refuses,
}

/// One mapping of UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeMapping {
    /// How it was asked for.
    pub by: Speech,
    /// Whose.
    pub inside: SocketAddr,
    /// The outer address and port; for IPv6, where nothing is translated, the inner one.
    pub outside: SocketAddr,
    /// Until when.
    pub expires: Instant,
    /// PCP's secret.
    pub nonce: Option<[u8; 12]>,
}

/// A protocol for mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// NAT-PMP, RFC 6886.
    NatPmp,
    /// PCP, RFC 6887.
    Pcp,
    /// UPnP IGD.
    Upnp,
}

/// A datagram, or a request over HTTP, that it heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// From whom; the port is not told.
    pub from: IpAddr,
    /// On which of its ports.
    pub port: u16,
    /// What.
    pub datagram: Vec<u8>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reaction {
    Silence,
    Unreachable,
    Answer(Vec<u8>),
}

#[derive(Debug)]
struct Inner {
    script: Script,
    mappings: Vec<FakeMapping>,
    /// UPnP's pinholes; their numbers are their places here.
    pinholes: Vec<SocketAddr>,
    /// When its table was new.
    born: Instant,
    heard: Vec<Heard>,
    ears: BTreeMap<(IpAddr, u16), Vec<mpsc::UnboundedSender<Vec<u8>>>>,
}

impl FakeGateway {
    /// A router with this outer address, which speaks all it can.
    pub fn new(outside: IpAddr) -> Self {
        let script = Script {
            outside,
            taken: Vec::new(),
            longest_lease: 86_400,
            assigns: None,
            natpmp: NatPmpScript::default(),
            pcp: PcpScript::default(),
            upnp: UpnpScript::default(),
        };
        let inner = Inner {
            script,
            mappings: Vec::new(),
            pinholes: Vec::new(),
            born: now().checked_sub(Duration::from_secs(1000)).unwrap_or_else(now),
            heard: Vec::new(),
            ears: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Changes how it behaves from now on.
    pub fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.lock().script)
    }

    /// The mappings that stand now.
    pub fn mappings(&self) -> Vec<FakeMapping> {
        let mut inner = self.lock();
        inner.expire();
        inner.mappings.clone()
    }

    /// All that it heard, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    /// Loses all mappings and counts its seconds anew.
    pub fn reboot(&self) {
        let mut inner = self.lock();
        inner.mappings.clear();
        inner.born = now();
    }

    /// Loses all mappings, and does not say so.
    pub fn wipe(&self) {
        self.lock().mappings.clear();
    }

    /// Counts its seconds as if its table were this old.
    pub fn set_age(&self, age: Duration) {
        self.lock().born = now().checked_sub(age).unwrap_or_else(now);
    }

    /// Tells everybody on the link something.
    pub fn tell_all(&self, group: IpAddr, port: u16, datagram: &[u8]) {
        if let Some(ears) = self.lock().ears.get_mut(&(group, port)) {
            ears.retain(|ear| ear.send(datagram.to_vec()).is_ok());
        }
    }

    /// Tells everybody on the link its seconds by PCP's ANNOUNCE (RFC 6887 section 14.1.3).
    pub fn announce(&self, group: IpAddr) {
        let announcement = self.lock().announcement();
        self.tell_all(group, NOTICE_PORT, &announcement);
    }

    pub(super) fn hear(&self, from: IpAddr, port: u16, datagram: &[u8]) -> Reaction {
        let mut inner = self.lock();
        inner.expire();
        inner.note(from, port, datagram);
        if port != SERVICE_PORT {
            return Reaction::Unreachable;
        }
        match datagram.first() {
            Some(0) => inner.natpmp(from, datagram),
            _ => inner.pcp(from, datagram),
        }
    }

    pub(super) fn ear(&self, group: IpAddr, port: u16) -> mpsc::UnboundedReceiver<Vec<u8>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().ears.entry((group, port)).or_default().push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Instant {
    Instant::now()
}

impl Inner {
    fn note(&mut self, from: IpAddr, port: u16, datagram: &[u8]) {
        if self.heard.len() < MAX_HEARD {
            self.heard.push(Heard { at: now(), from, port, datagram: datagram.to_vec() });
        }
    }

    fn expire(&mut self) {
        self.mappings.retain(|mapping| mapping.expires > now());
    }

    /// Seconds since its table was new.
    fn seconds(&self) -> u32 {
        u32::try_from(now().duration_since(self.born).as_secs()).unwrap_or(u32::MAX)
    }

    fn is_free(&self, port: u16) -> bool {
        !self.script.taken.contains(&port) && self.mappings.iter().all(|other| other.outside.port() != port)
    }

    /// Makes or prolongs a mapping; the outer port is the wanted one if it is free, else one above it.
    fn put(
        &mut self,
        by: Speech,
        inside: SocketAddr,
        wanted: u16,
        seconds: u32,
        nonce: Option<[u8; 12]>,
    ) -> (SocketAddr, u32) {
        let seconds = seconds.min(self.script.longest_lease);
        let expires = now() + Duration::from_secs(seconds.into());
        if let Some(known) = self.mappings.iter_mut().find(|known| known.by == by && known.inside == inside) {
            known.expires = expires;
            return (known.outside, seconds);
        }
        let outside = match inside {
            SocketAddr::V6(_) => inside,
            SocketAddr::V4(_) => {
                let ports = (wanted.max(1024)..=u16::MAX).chain(1024..wanted.max(1024));
                let free = ports.into_iter().find(|port| self.is_free(*port)).unwrap_or(1024);
                SocketAddr::new(self.script.outside, self.script.assigns.unwrap_or(free))
            }
        };
        self.mappings.push(FakeMapping { by, inside, outside, expires, nonce });
        (outside, seconds)
    }
}
