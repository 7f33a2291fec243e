//! One try to reach a server: resolve, TCP, TLS, WebSocket.

use std::collections::VecDeque;
use std::future::ready;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FusedFuture as _;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::debug;
use wireplug_net::Resolver;
use wireplug_proto::{relay, rendezvous};

use super::race::Try;
use crate::config::{ServerConfig, ServerUrl};
use crate::state::State;
use crate::tls::{self, WrongPin};

/// How long the resolver may take before addresses kept from before are tried: longer than it needs in most networks,
/// and what a dead one costs each time that this host comes to another network.
const RESOLVER_HEAD_START: Duration = Duration::from_millis(200);
/// How long the resolver may take where there is nothing else.
const RESOLVE_WITHIN: Duration = Duration::from_secs(15);
/// When the next address is tried beside the former (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How long one address may take.
const TCP_WITHIN: Duration = Duration::from_secs(10);
/// How long TLS and the WebSocket's opening may take together.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// The WebSocket's buffers, in bytes. Most frames are small, and their default of 128 KiB would be the larger part of a
/// daemon's memory.
const BUFFER: usize = 2 * rendezvous::MAX_FRAME;

pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// An open connection to a server.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// The server's addresses, the one connected to first.
    pub(super) server: Vec<IpAddr>,
    ends: Ends,
}

/// Where a connection begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
    fwmark: u32,
}

/// What a change of the network means for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Its address is not this host's any more: it is dead.
    Dead,
    /// Its address still is, but packets to the server would be sent from elsewhere now: likely dead.
    Doubtful,
    /// Nothing speaks against it; but the network behind the same address may be another one.
    Fair,
}

impl Connection {
    /// Where it begins and ends.
    pub(crate) fn ends(&self) -> Ends {
        self.ends
    }
}

impl Ends {
    /// What is to be thought of the connection after the network changed. The kernel says so without a packet being sent.
    pub(crate) fn outlook(&self) -> Outlook {
        let local = self.local.ip();
        if matches!(local, IpAddr::V6(ip) if wireplug_core::is_link_local(ip)) {
            return Outlook::Fair;
        }
        // An address that was bound to is not on trial.
        if UdpSocket::bind((local, 0)).is_err() {
            return Outlook::Dead;
        }
        match wireplug_net::source_towards(self.remote, self.fwmark) {
            // A host changes its addresses within an IPv6 network every day, and those of before still work.
            Ok(source) if !wireplug_core::same_host(source, local) => Outlook::Doubtful,
            // Without a route now, the one of before may come back in a moment.
            Ok(_) | Err(_) => Outlook::Fair,
        }
    }
}

/// Why a server could not be reached: what was tried, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error("cannot reach {url}: {why}")]
    Resolve {
        /// Which server.
        url: ServerUrl,
        /// What the resolver said.
        why: String,
    },
    /// None of its addresses took a TCP connection.
    #[error(
        "cannot reach {url}: {why} (addresses tried: {tried}); is the server running, and is TCP port {} open on the way?",
        url.port()
    )]
    Tcp {
        /// Which server.
        url: ServerUrl,
        /// How many addresses were tried.
        tried: usize,
        /// What happened at the last of them.
        why: String,
    },
    /// It showed another key than the pinned one.
    #[error("{url}: {source}")]
    WrongPin {
        /// Which server.
        url: ServerUrl,
        /// Both pins.
        source: WrongPin,
    },
    /// Its certificate is not good for the web, and there is no pin.
    #[error(
        "{url} shows a certificate that cannot be trusted: {why}. If it is your own server, run \
         `wireplug-serverd pin` there and set the server's `pin` in the config (or --pin)"
    )]
    Untrusted {
        /// Which server.
        url: ServerUrl,
        /// What is wrong with it.
        why: String,
    },
    /// TLS failed otherwise.
    #[error("{url} does not speak TLS with us: {why}; is it a wireplug-serverd, and is the port right?")]
    Tls {
        /// Which server.
        url: ServerUrl,
        /// What happened.
        why: String,
    },
    /// It is no rendezvous server.
    #[error(
        "{url} does not speak {subprotocol}: {why}; is it a wireplug-serverd, and is the URL's path right?"
    )]
    WebSocket {
        /// Which server.
        url: ServerUrl,
        /// What it was asked for.
        subprotocol: &'static str,
        /// What it answered.
        why: String,
    },
}

/// What a server is connected to for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Topics, offers and the rest.
    Rendezvous,
    /// Relayed packets.
    Relay,
}

impl Service {
    const fn subprotocol(self) -> &'static str {
        match self {
            Self::Rendezvous => rendezvous::SUBPROTOCOL,
            Self::Relay => relay::SUBPROTOCOL,
        }
    }

    const fn max_frame(self) -> usize {
        match self {
            Self::Rendezvous => rendezvous::MAX_FRAME,
            Self::Relay => relay::MAX_FRAME,
        }
    }
}

/// What connecting to one server takes.
pub(crate) struct Connector {
    service: Service,
    server: ServerConfig,
    fwmark: u32,
    tls: TlsConnector,
    resolver: Resolver,
    state: Arc<State>,
}

impl Connector {
    pub(crate) fn new(
        service: Service,
        server: ServerConfig,
        fwmark: u32,
        state: Arc<State>,
    ) -> Result<Self, tls::TlsError> {
        let tls: Arc<ClientConfig> = Arc::new(tls::client_config(server.pin)?);
        Ok(Self { service, server, fwmark, tls: tls.into(), resolver: Resolver::new(fwmark), state })
    }

    /// Tries once. Ends within a minute.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        let (tcp, others) = self.reach().await?;
        let url = &self.server.url;
        let Ok(opened) = timeout(OPEN_WITHIN, self.open(tcp)).await else {
            let why = format!("no answer within {} s", OPEN_WITHIN.as_secs());
            return Err(ConnectError::Tls { url: url.clone(), why });
        };
        let socket = opened?;
        let tcp = socket.get_ref().get_ref().0;
        let lost =
            |error: std::io::Error| ConnectError::Tcp { url: url.clone(), tried: 1, why: error.to_string() };
        let (local, remote) = (tcp.local_addr().map_err(lost)?, tcp.peer_addr().map_err(lost)?);
        let connected = remote.ip().to_canonical();
        if self.state.remember(url, connected, &others) {
            let state = Arc::clone(&self.state);
            tokio::task::spawn_blocking(move || state.save());
        }
        let others = others.into_iter().filter(|ip| *ip != connected);
        let ends = Ends { local, remote, fwmark: self.fwmark };
        Ok(Connection { socket, server: std::iter::once(connected).chain(others).collect(), ends })
    }

    /// Begins a try of [`Connector::connect`].
    pub(crate) fn begin(&self) -> Try<'_, Connection, ConnectError> {
        Box::pin(self.connect())
    }

    /// A TCP connection, and all addresses known.
    async fn reach(&self) -> Result<(TcpStream, Vec<IpAddr>), ConnectError> {
        let url = &self.server.url;
        let host = url.host().to_str();
        let unresolved = |why: String| ConnectError::Resolve { url: url.clone(), why };
        let lookup = timeout(RESOLVE_WITHIN, self.resolver.lookup(&host));
        let mut lookup = std::pin::pin!(async {
            match lookup.await {
                Ok(Ok(resolved)) => Ok(resolved.addresses),
                Ok(Err(error)) => Err(unresolved(error.to_string())),
                Err(_) => Err(unresolved(format!(
                    "{host} was not resolved within {} s; is there a network?",
                    RESOLVE_WITHIN.as_secs()
                ))),
            }
        });
        let kept = self.state.addresses(url);
        if kept.is_empty() {
            let resolved = lookup.await?;
            return self.dial(resolved, ready(Vec::new())).await;
        }
        match timeout(RESOLVER_HEAD_START, lookup.as_mut()).await {
            Ok(Ok(resolved)) => self.dial(resolved, ready(Vec::new())).await,
            Ok(Err(error)) => {
                debug!(%error, "trying the last good addresses");
                self.dial(kept, ready(Vec::new())).await
            }
            Err(_) => {
                debug!(%url, "the name is not resolved yet; trying the last good addresses");
                self.dial(kept, async { lookup.await.unwrap_or_default() }).await
            }
        }
    }

    /// The first connection to come about, the next address being tried when one fails or is slow (RFC 8305, without its
    /// finer points); and all addresses known. Those that come `later` are tried after the others, without waiting for
    /// their end: what was kept may be where nobody answers any more.
    async fn dial(
        &self,
        mut known: Vec<IpAddr>,
        later: impl Future<Output = Vec<IpAddr>>,
    ) -> Result<(TcpStream, Vec<IpAddr>), ConnectError> {
        let mut left = VecDeque::from(interleaved(&known));
        let mut later = std::pin::pin!(later.fuse());
        let mut attempts = FuturesUnordered::new();
        let (mut tried, mut why) = (0, "it has no address".to_owned());
        loop {
            if let Some(ip) = left.pop_front() {
                tried += 1;
                let to = SocketAddr::new(ip, self.server.url.port());
                attempts.push(wireplug_net::connect(to, self.fwmark, TCP_WITHIN));
            }
            let patience = if left.is_empty() { 2 * TCP_WITHIN } else { STAGGER };
            tokio::select! {
                biased;
                done = attempts.next(), if !attempts.is_empty() => match done {
                    Some(Ok(tcp)) => return Ok((tcp, known)),
                    Some(Err(error)) => {
                        debug!(server = %self.server.url, %error, "an address did not answer");
                        why = without_address(&error);
                    }
                    None => {}
                },
                found = later.as_mut(), if !later.is_terminated() => {
                    let new: Vec<_> = found.into_iter().filter(|ip| !known.contains(ip)).collect();
                    left.extend(interleaved(&new));
                    known.extend(new);
                }
                () = sleep(patience), if !attempts.is_empty() => {}
                else => {
                    return Err(ConnectError::Tcp { url: self.server.url.clone(), tried, why });
                }
            }
        }
    }

    async fn open(&self, tcp: TcpStream) -> Result<Socket, ConnectError> {
        let url = &self.server.url;
        let tls = self.tls.connect(url.host().clone(), tcp).await.map_err(|error| tls_error(url, &error))?;
        let subprotocol = self.service.subprotocol();
        let bad = |why: String| ConnectError::WebSocket { url: url.clone(), subprotocol, why };
        let asked = match self.service {
            Service::Rendezvous => url.to_string(),
            Service::Relay => url.relay(),
        };
        let uri = asked.parse().map_err(|error| bad(format!("the URL cannot be asked for: {error}")))?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(subprotocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * self.service.max_frame() + 4 * BUFFER)
            .max_message_size(Some(self.service.max_frame()))
            .max_frame_size(Some(self.service.max_frame()));
        match tokio_tungstenite::client_async_with_config(request, tls, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            // With TLS 1.3 the server's alert about our handshake arrives only now.
            Err(WsError::Io(error)) => Err(tls_error(url, &error)),
            Err(WsError::Http(response)) => Err(bad(format!("it answered {}", response.status()))),
            Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
                Err(bad("it is a WebSocket of something else".to_owned()))
            }
            Err(error) => Err(bad(error.to_string())),
        }
    }
}

/// IPv6 and IPv4 in turn, each in its own order, IPv6 first.
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut v6 = addresses.iter().copied().filter(IpAddr::is_ipv6);
    let mut v4 = addresses.iter().copied().filter(IpAddr::is_ipv4);
    let mut order = Vec::new();
    loop {
        let (six, four) = (v6.next(), v4.next());
        if six.is_none() && four.is_none() {
            order.truncate(MAX_ADDRESSES);
            return order;
        }
        order.extend(six.into_iter().chain(four));
    }
}

/// The reason alone: what is logged by default tells no addresses.
fn without_address(error: &wireplug_net::ConnectError) -> String {
    match error {
        wireplug_net::ConnectError::Timeout { after, .. } => {
            format!("no answer within {} s", after.as_secs())
        }
        wireplug_net::ConnectError::Mark { source, .. } => {
            format!("sockets cannot be marked: {source}; run as root or grant CAP_NET_ADMIN")
        }
        wireplug_net::ConnectError::Io { source, .. } => source.to_string(),
    }
}

fn tls_error(url: &ServerUrl, error: &std::io::Error) -> ConnectError {
    let url = url.clone();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::Other(other)) => match other.0.downcast_ref::<WrongPin>() {
            Some(wrong) => ConnectError::WrongPin { url, source: *wrong },
            None => ConnectError::Tls { url, why: error.to_string() },
        },
        Some(rustls::Error::InvalidCertificate(why)) => ConnectError::Untrusted { url, why: why.to_string() },
        _ => ConnectError::Tls { url, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_thought_of_by_its_address_here() {
        let outlook = |local: &str, remote: &str| {
            Ends { local: local.parse().unwrap(), remote: remote.parse().unwrap(), fwmark: 0 }.outlook()
        };
        assert_eq!(outlook("127.0.0.1:1", "127.0.0.1:2"), Outlook::Fair);
        // To itself, a host sends from the address that it sends to.
        assert_eq!(outlook("127.0.0.2:1", "127.0.0.1:2"), Outlook::Doubtful);
        assert_eq!(outlook("192.0.2.1:1", "127.0.0.1:2"), Outlook::Dead);
        assert_eq!(outlook("[fe80::1]:1", "[fe80::2]:2"), Outlook::Fair);
    }

    /// A socket that takes no connection any more, as where a packet filter drops them all.
    #[tokio::test]
    async fn an_address_where_nobody_answers_holds_up_none_that_is_found_later() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, good): (IpAddr, IpAddr) = ([127, 0, 0, 9].into(), [127, 0, 0, 1].into());
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((silent, port).into()).unwrap();
        let full = socket.listen(0).unwrap();
        let _waiting = TcpStream::connect(full.local_addr().unwrap()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = ServerConfig::parse(&format!("wss://127.0.0.1:{port}"), None).unwrap();
        let state = Arc::new(State::open(directory.path()));
        let connector = Connector::new(Service::Rendezvous, server, 0, state).unwrap();
        let later = async {
            sleep(Duration::from_millis(50)).await;
            vec![silent, good]
        };
        let dialled = timeout(TCP_WITHIN / 2, connector.dial(vec![silent], later)).await;
        let (tcp, known) = dialled.expect("the silent one was waited for").unwrap();
        assert_eq!((tcp.peer_addr().unwrap().ip(), known), (good, vec![silent, good]));

        drop((listener, full));
        let refused = connector.dial(vec![good], ready(Vec::new())).await;
        assert!(matches!(refused, Err(ConnectError::Tcp { tried: 1, .. })), "{refused:?}");
    }

    #[test]
    fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let given = ["1.1.1.1", "1.1.1.2", "2a00::1", "1.1.1.3"].map(ip);
        assert_eq!(interleaved(&given), ["2a00::1", "1.1.1.1", "1.1.1.2", "1.1.1.3"].map(ip));
        assert_eq!(interleaved(&[ip("1.1.1.1"); 20]).len(), MAX_ADDRESSES);
    }
}
