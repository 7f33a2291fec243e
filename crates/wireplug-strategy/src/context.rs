//! What a strategy can do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wireplug_core::{Candidate, Endpoint, Mapping, PublicKey, RemoteCandidate, StrategyName};

use crate::event::Event;
use crate::nearby::{Connection, Letters, Nearby};
use crate::registry::BoxFuture;
use crate::relay::RelayWish;
use crate::router::{Datagrams, Dial, Listen};
use crate::situation::Situation;

/// What the daemon does for strategies. Strategies use it through [`Context`]; tests bring their own.
pub trait Host: Send + Sync + 'static {
    /// Takes an event of a strategy, found for a generation. Never waits; too many at once are dropped.
    fn emit(&self, strategy: &StrategyName, generation: u32, event: Event);

    /// Asks a STUN server from the WireGuard port, with retransmissions and a time limit.
    fn binding(&self, server: SocketAddr) -> BoxFuture<'static, Result<Binding, PortError>>;

    /// Wants a place for a peer at the relay of a server, in this way, or no more. Never waits.
    fn relay(&self, peer: PublicKey, server: &str, wish: Option<RelayWish>);

    /// Resolves a name beside the tunnel.
    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Resolved, ResolveError>>;

    /// Opens a socket to a router.
    ///
    /// # Errors
    /// What the system says.
    fn dial(&self, _dial: &Dial) -> io::Result<Arc<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a socket that hears what a router tells everybody.
    ///
    /// # Errors
    /// What the system says.
    fn listen(&self, _listen: &Listen) -> io::Result<Arc<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a socket to speak with anybody on a router's link.
    ///
    /// # Errors
    /// What the system says.
    fn letters(&self, _nearby: &Nearby) -> io::Result<Arc<dyn Letters>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Connects over TCP to a device on a router's link, which no router forwards.
    fn connect(
        &self,
        _nearby: &Nearby,
        _to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Keeps bytes for the next run of this strategy on this interface, also after a crash: once this has
    /// returned, they are on disk. They replace those before; none at all remove them.
    fn remember(
        &self,
        _strategy: &StrategyName,
        _memory: Vec<u8>,
    ) -> BoxFuture<'static, Result<(), MemoryError>> {
        Box::pin(async { Ok(()) })
    }

    /// What was remembered last.
    fn recall(&self, _strategy: &StrategyName) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async { None })
    }
}

/// The most bytes that a strategy may keep for its next run.
pub const MAX_MEMORY: usize = 16 << 10;

/// Why bytes could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// They are too many.
    #[error("a strategy may keep {MAX_MEMORY} bytes, not {0}")]
    TooLarge(usize),
    /// The disk does not take them.
    #[error("cannot keep what the next start would need: {0}")]
    NotKept(String),
}

/// A STUN server's answer to a request from the WireGuard port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Our address as the server saw it.
    pub mapped: SocketAddr,
    /// From the last request to its answer.
    pub rtt: Duration,
}

/// Why the WireGuard port could not be used for a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nobody answered.
    #[error("{server} did not answer within {} ms: is UDP blocked on the way?", after.as_millis())]
    Timeout {
        /// Who was asked.
        server: SocketAddr,
        /// For how long.
        after: Duration,
    },
    /// There is no way there outside of the tunnels.
    #[error("no route to {server} beside the tunnel: {why}")]
    NoRoute {
        /// Who was to be asked.
        server: SocketAddr,
        /// What the look-up said.
        why: String,
    },
    /// Raw sockets are not to be had.
    #[error("no raw socket to share the WireGuard port with: grant CAP_NET_RAW")]
    NotPermitted,
    /// The daemon is stopping, or the device is gone.
    #[error("the WireGuard port is closed")]
    Closed,
}

/// Addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
}

/// Why a name has no address: what was asked, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot resolve {name}: {why}")]
pub struct ResolveError {
    /// The name.
    pub name: String,
    /// The reason.
    pub why: String,
}

/// One strategy's view of the daemon, for one run.
#[derive(Clone)]
pub struct Context {
    host: Arc<dyn Host>,
    name: StrategyName,
    situation: watch::Receiver<Situation>,
    cancelled: CancellationToken,
}

impl Context {
    /// A context for a strategy of this name.
    pub fn new(
        host: Arc<dyn Host>,
        name: StrategyName,
        situation: watch::Receiver<Situation>,
        cancelled: CancellationToken,
    ) -> Self {
        Self { host, name, situation, cancelled }
    }

    /// The strategy's own name, for its candidates.
    pub fn name(&self) -> &StrategyName {
        &self.name
    }

    /// The world as it is now; marks it as seen.
    pub fn situation(&mut self) -> Situation {
        self.situation.borrow_and_update().clone()
    }

    /// Waits until the situation differs from the one last seen. Safe to drop at any await.
    /// After the daemon has gone it never returns: wait for [`Context::cancelled`] beside it.
    pub async fn changed(&mut self) {
        if self.situation.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this run is to end.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Says any of what the methods below say.
    pub(crate) fn emit(&self, generation: u32, event: Event) {
        self.host.emit(&self.name, generation, event);
    }

    /// Our port may be reached here, found for this generation.
    pub fn found(&self, generation: u32, candidate: Candidate) {
        self.host.emit(&self.name, generation, Event::Found(candidate));
    }

    /// Our port can no longer be reached here.
    pub fn lost(&self, generation: u32, endpoint: Endpoint) {
        self.host.emit(&self.name, generation, Event::Lost(endpoint));
    }

    /// A peer may be reached here.
    pub fn suggest(&self, generation: u32, peer: PublicKey, candidate: RemoteCandidate) {
        self.host.emit(&self.name, generation, Event::Suggested { peer, candidate });
    }

    /// A peer can no longer be reached here.
    pub fn withdraw(&self, generation: u32, peer: PublicKey, endpoint: Endpoint) {
        self.host.emit(&self.name, generation, Event::Withdrawn { peer, endpoint });
    }

    /// How the IPv4 NAT in front of us maps.
    pub fn mapping(&self, generation: u32, mapping: Mapping) {
        self.host.emit(&self.name, generation, Event::Mapping(mapping));
    }

    /// How it goes, in words for status and log.
    pub fn note(&self, generation: u32, words: impl Into<String>) {
        self.host.emit(&self.name, generation, Event::Note(words.into()));
    }

    /// Asks a STUN server from the WireGuard port, with retransmissions and a time limit.
    ///
    /// # Errors
    /// [`PortError`] says whether nobody answered or nothing could be sent.
    pub async fn binding(&self, server: SocketAddr) -> Result<Binding, PortError> {
        self.host.binding(server).await
    }

    /// Wants a place for a peer at the relay of a server ([`crate::Relaying::servers`]), in this way; said again, it
    /// replaces what was wanted before. What comes of it is in [`crate::Relaying::places`]. The daemon asks again by
    /// itself after a refusal that may pass, and whenever the server forgot.
    pub fn relay(&self, peer: PublicKey, server: &str, wish: RelayWish) {
        self.host.relay(peer, server, Some(wish));
    }

    /// Wants that place no more: the pair's packets are no longer relayed there. A run that ends without saying so
    /// leaves its places to the next one.
    pub fn release(&self, peer: PublicKey, server: &str) {
        self.host.relay(peer, server, None);
    }

    /// Resolves a name beside the tunnel.
    ///
    /// # Errors
    /// [`ResolveError`] says what the resolver said.
    pub async fn resolve(&self, name: &str) -> Result<Resolved, ResolveError> {
        self.host.resolve(name.to_owned()).await
    }

    /// Opens a socket to a router, bound to its link and to our address there.
    ///
    /// # Errors
    /// What the system says.
    pub fn dial(&self, dial: &Dial) -> io::Result<Arc<dyn Datagrams>> {
        self.host.dial(dial)
    }

    /// Opens a socket that hears what a router tells everybody on its link.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(&self, listen: &Listen) -> io::Result<Arc<dyn Datagrams>> {
        self.host.listen(listen)
    }

    /// Opens a socket to speak with anybody on a router's link, bound to that and to our address there.
    ///
    /// # Errors
    /// What the system says.
    pub fn letters(&self, nearby: &Nearby) -> io::Result<Arc<dyn Letters>> {
        self.host.letters(nearby)
    }

    /// Connects over TCP to a device on a router's link. It does not give up by itself: bring a time limit.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(&self, nearby: &Nearby, to: SocketAddr) -> io::Result<Box<dyn Connection>> {
        self.host.connect(nearby, to).await
    }

    /// Keeps at most [`MAX_MEMORY`] bytes for the next run of this strategy on this interface, also after a
    /// crash: once this has returned, they are on disk. They replace those before; none at all remove them.
    ///
    /// # Errors
    /// [`MemoryError`]: too many bytes, or what the disk said.
    pub async fn remember(&self, memory: Vec<u8>) -> Result<(), MemoryError> {
        if memory.len() > MAX_MEMORY {
            return Err(MemoryError::TooLarge(memory.len()));
        }
        self.host.remember(&self.name, memory).await
    }

    /// What was remembered last, by this run or one before it.
    pub async fn recall(&self) -> Option<Vec<u8>> {
        self.host.recall(&self.name).await
    }
}
