//! A host that answers from a script and writes down what it was told and asked.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wireplug_core::{Candidate, Endpoint, Mapping, PublicKey, RemoteCandidate, StrategyName};

use super::gateway::{FakeConnection, FakeGateway, FakeLetters, FakeLink};
use super::place::{Answers, Nat, Place};
use super::relay;
use crate::context::{Binding, Host, MemoryError, PortError, ResolveError, Resolved};
use crate::event::Event;
use crate::nearby::{Connection, Letters, Nearby};
use crate::registry::BoxFuture;
use crate::relay::RelayWish;
use crate::router::{Datagrams, Dial, Listen};
use crate::situation::Situation;

/// How long a request to a silent server takes to fail, about as in the daemon.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Devices with their addresses.
type Devices = Vec<(IpAddr, FakeGateway)>;

/// A fake daemon; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct FakeHost(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    place: Place,
    /// In the order of their first request: a destination-dependent NAT counts its mappings so.
    destinations: Vec<SocketAddr>,
    said: Vec<Said>,
    asked: Vec<Asked>,
    reached: BTreeSet<SocketAddr>,
    in_flight: usize,
    announce: Option<watch::Sender<Situation>>,
}

/// Something that a strategy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When.
    pub at: Instant,
    /// Under which name.
    pub strategy: StrategyName,
    /// For which generation.
    pub generation: u32,
    /// In which generation.
    pub during: u32,
    /// What.
    pub event: Event,
}

/// Something that a strategy asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// What.
    pub question: Question,
}

/// What a strategy can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A STUN binding request from the WireGuard port to this server.
    Binding(SocketAddr),
    /// The addresses of this name.
    Name(String),
    /// A place for a peer at the relay of the server with this URL.
    Relay(PublicKey, String),
}

/// What the daemon would hold for true: the last word on every endpoint, of the current generation only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Where we may be reached.
    pub candidates: BTreeMap<Endpoint, Candidate>,
    /// Where peers may be reached.
    pub suggestions: BTreeMap<(PublicKey, Endpoint), RemoteCandidate>,
    /// How our NAT maps.
    pub mapping: Mapping,
}

impl Standing {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.suggestions.is_empty()
    }

    /// The endpoints alone: what two runs in the same place must agree on.
    pub fn endpoints(&self) -> (BTreeSet<Endpoint>, BTreeSet<(PublicKey, Endpoint)>, Mapping) {
        (self.candidates.keys().copied().collect(), self.suggestions.keys().copied().collect(), self.mapping)
    }
}

impl FakeHost {
    /// A host in this place.
    pub fn new(place: Place) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            place,
            destinations: Vec::new(),
            said: Vec::new(),
            asked: Vec::new(),
            reached: BTreeSet::new(),
            in_flight: 0,
            announce: None,
        })))
    }

    /// Tells of changes of the situation that are answers to what a strategy asked for.
    pub(super) fn announce_to(&self, announce: watch::Sender<Situation>) {
        self.lock().announce = Some(announce);
    }

    /// Changes the place; requests under way are answered as they would have been before.
    pub fn change<T>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        change(&mut self.lock().place)
    }

    /// All that was said, in order.
    pub fn said(&self) -> Vec<Said> {
        self.lock().said.clone()
    }

    /// The words of all notes, in order.
    pub fn notes(&self) -> Vec<String> {
        let said = self.said().into_iter();
        said.filter_map(|said| if let Event::Note(words) = said.event { Some(words) } else { None }).collect()
    }

    /// All that was asked for, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// How many requests are neither answered nor given up.
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// What strategies have on disk, by their names.
    pub fn memory(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().place.memory.clone()
    }

    /// The router at this address, as our own address reaches it, and how long it takes to answer; `None` is for ever.
    pub(super) fn router(
        &self,
        gateway: IpAddr,
        source: IpAddr,
    ) -> io::Result<(Option<FakeGateway>, Option<Duration>)> {
        let inner = self.lock();
        let Place { routers, situation, latency, hangs, .. } = &inner.place;
        if !situation.addresses.iter().any(|own| own.ip == source) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok((routers.get(&gateway).cloned(), (!hangs).then_some(*latency)))
    }

    /// Everywhere that was spoken to by UDP letter or TCP, or tried to.
    pub fn reached(&self) -> BTreeSet<SocketAddr> {
        self.lock().reached.clone()
    }

    /// Who is there: one device, or for a multicast group all of its family; and how long an answer takes.
    pub(super) fn devices(&self, source: IpAddr, to: SocketAddr) -> io::Result<(Devices, Option<Duration>)> {
        let mut inner = self.lock();
        inner.reached.insert(to);
        let Place { routers, situation, latency, hangs, .. } = &inner.place;
        if !situation.addresses.iter().any(|own| own.ip == source) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let there = |ip: IpAddr| {
            if to.ip().is_multicast() { ip.is_ipv4() == to.is_ipv4() } else { ip == to.ip() }
        };
        let devices = routers.iter().filter(|(ip, _)| there(**ip));
        Ok((devices.map(|(ip, device)| (*ip, device.clone())).collect(), (!hangs).then_some(*latency)))
    }

    /// What the daemon would hold for true now.
    pub fn standing(&self) -> Standing {
        let inner = self.lock();
        let current = inner.place.situation.generation;
        let mut standing = Standing::default();
        // What was said for a generation before it began, or after it ended, is void as in the daemon.
        for said in inner.said.iter().filter(|said| said.generation == current && said.during == current) {
            match said.event.clone() {
                Event::Found(candidate) => {
                    standing.candidates.insert(candidate.endpoint, candidate);
                }
                Event::Lost(endpoint) => {
                    standing.candidates.remove(&endpoint);
                }
                Event::Suggested { peer, candidate } => {
                    standing.suggestions.insert((peer, candidate.endpoint), candidate);
                }
                Event::Withdrawn { peer, endpoint } => {
                    standing.suggestions.remove(&(peer, endpoint));
                }
                Event::Mapping(mapping) => standing.mapping = mapping,
                Event::Note(_) => {}
            }
        }
        standing
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the question; the request is under way until the guard is dropped.
    fn ask(&self, question: Question) -> InFlight {
        let mut inner = self.lock();
        inner.asked.push(Asked { at: Instant::now(), question });
        inner.in_flight += 1;
        InFlight(self.clone())
    }
}

impl Host for FakeHost {
    fn emit(&self, strategy: &StrategyName, generation: u32, event: Event) {
        let mut inner = self.lock();
        let during = inner.place.situation.generation;
        if let Event::Suggested { peer, candidate } = &event
            && relay::suggested(&mut inner.place, *peer, candidate)
        {
            inner.tell();
        }
        inner.said.push(Said { at: Instant::now(), strategy: strategy.clone(), generation, during, event });
    }

    fn relay(&self, peer: PublicKey, server: &str, wish: Option<RelayWish>) {
        let mut inner = self.lock();
        if wish.is_some() {
            let question = Question::Relay(peer, server.to_owned());
            inner.asked.push(Asked { at: Instant::now(), question });
        }
        relay::asked(&mut inner.place, peer, server, wish.as_ref());
        inner.tell();
    }

    fn binding(&self, server: SocketAddr) -> BoxFuture<'static, Result<Binding, PortError>> {
        let host = self.clone();
        Box::pin(async move {
            let _in_flight = host.ask(Question::Binding(server));
            let (outcome, after) = host.lock().stun(server);
            sleep_or_hang(after).await;
            outcome
        })
    }

    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>> {
        let host = self.clone();
        Box::pin(async move {
            let _in_flight = host.ask(Question::Name(name.clone()));
            let (outcome, after) = host.lock().dns(name);
            sleep_or_hang(after).await;
            outcome
        })
    }

    fn dial(&self, dial: &Dial) -> io::Result<Arc<dyn Datagrams>> {
        Ok(Arc::new(FakeLink::dial(self.clone(), dial)))
    }

    fn listen(&self, listen: &Listen) -> io::Result<Arc<dyn Datagrams>> {
        Ok(Arc::new(FakeLink::listen(self.lock().place.routers.get(&listen.gateway.ip), listen)))
    }

    fn letters(&self, nearby: &Nearby) -> io::Result<Arc<dyn Letters>> {
        Ok(Arc::new(FakeLetters::new(self.clone(), nearby)))
    }

    fn connect(
        &self,
        nearby: &Nearby,
        to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let (host, source) = (self.clone(), nearby.source);
        Box::pin(async move {
            let (devices, latency) = host.devices(source, to)?;
            host.lock().in_flight += 1;
            let in_flight = InFlight(host.clone());
            sleep_or_hang(latency).await;
            let Some((at, device)) = devices.into_iter().next() else { return pending().await };
            if !device.accepts(to.port()) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let connection = FakeConnection::new(device, source, at, latency, in_flight);
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn remember(
        &self,
        strategy: &StrategyName,
        memory: Vec<u8>,
    ) -> BoxFuture<'static, Result<(), MemoryError>> {
        let mut inner = self.lock();
        let outcome = if inner.place.forgets {
            Err(MemoryError::NotKept("the disk is full".to_owned()))
        } else {
            inner.place.memory.insert(strategy.to_string(), memory);
            Ok(())
        };
        Box::pin(async { outcome })
    }

    fn recall(&self, strategy: &StrategyName) -> BoxFuture<'static, Option<Vec<u8>>> {
        let memory = self.lock().place.memory.get(strategy.as_str()).cloned();
        Box::pin(async { memory })
    }
}

impl Inner {
    /// Announces the situation as it is now.
    fn tell(&self) {
        if let Some(announce) = &self.announce {
            announce.send_replace(self.place.situation.clone());
        }
    }

    /// The outcome of a request sent now, and when it is known; `None` is never.
    fn stun(&mut self, server: SocketAddr) -> (Result<Binding, PortError>, Option<Duration>) {
        let Some(own) = self.place.own(server.ip()) else {
            let why = "network is unreachable".to_owned();
            return (Err(PortError::NoRoute { server, why }), Some(Duration::ZERO));
        };
        let order = self.destinations.iter().position(|known| *known == server).unwrap_or_else(|| {
            self.destinations.push(server);
            self.destinations.len() - 1
        });
        let mapped = match if server.is_ipv4() { self.place.nat } else { self.place.nat6 } {
            Nat::None => Some(own),
            Nat::Fixed(outside) => Some(outside),
            Nat::DestinationDependent(first) => {
                let step = u16::try_from(order).unwrap_or(u16::MAX);
                Some(SocketAddr::new(first.ip(), first.port().wrapping_add(step)))
            }
            Nat::Silent => None,
        };
        let rtt = match self.place.stun.get(&server) {
            None => Some(self.place.latency),
            Some(Answers::After(rtt)) => Some(*rtt),
            Some(Answers::Never | Answers::Hangs) => None,
        };
        let (outcome, after) = match (mapped, rtt) {
            (Some(mapped), Some(rtt)) if rtt < TIME_LIMIT => (Ok(Binding { mapped, rtt }), rtt),
            _ => (Err(PortError::Timeout { server, after: TIME_LIMIT }), TIME_LIMIT),
        };
        let hangs = self.place.hangs || self.place.stun.get(&server) == Some(&Answers::Hangs);
        (outcome, (!hangs).then_some(after))
    }

    /// The same for a name.
    fn dns(&self, name: String) -> (Result<Resolved, ResolveError>, Option<Duration>) {
        let outcome = match self.place.names.get(&name) {
            Some(Ok(resolved)) => Ok(resolved.clone()),
            Some(Err(why)) => Err(ResolveError { name, why: why.clone() }),
            None => Err(ResolveError { name, why: "no such name".to_owned() }),
        };
        (outcome, (!self.place.hangs).then_some(self.place.latency))
    }
}

async fn sleep_or_hang(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => pending().await,
    }
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(FakeHost);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}
