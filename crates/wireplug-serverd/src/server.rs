//! The server as a whole: binds everything, serves, and stops.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{AccessError, AccessList};
use crate::certificate::{CertificateError, Identity, Pin};
use crate::config::{Config, is_dual_stack};
use crate::gate::Gate;
use crate::hub::Hub;
use crate::limits::Limits;
use crate::places::{self, Places};
use crate::proxy::TrustedProxies;
use crate::random;
use crate::relay::{ForwardError, Forwarder, Relay};
use crate::stun::Public;
use crate::tls::Tls;
use crate::udp::{UdpSockets, has_no_ipv6};
use crate::web::{self, Web};

/// How long connections may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_millis(1500);
/// TCP connections that wait to be accepted: all of a server's clients come back at once after its restart.
const BACKLOG: u32 = 1024;

/// A server that is bound and ready to [`run`](Server::run).
pub struct Server {
    listener: TcpListener,
    https: SocketAddr,
    hub: Arc<Hub>,
    web: Web,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no certificate to serve.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// rustls does not take the certificate.
    #[error("the certificate cannot be served: {0}")]
    Tls(#[from] rustls::Error),
    /// The relay's access list cannot be had.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The relay's threads cannot be started.
    #[error(transparent)]
    Forward(ForwardError),
    /// The system gives no randomness, without which the relay's nonces could be guessed.
    #[error("the system gives no randomness ({0}): the relay cannot start without")]
    Random(#[from] getrandom::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {protocol} {address}: {source}; {}", remedy(.source))]
    Listen {
        /// "TCP" or "UDP", and what for.
        protocol: &'static str,
        /// The address, from `listen`, `udp` or `[relay]`.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The certificate that a configuration asks for; `None` where TLS is left to a reverse proxy.
///
/// # Errors
/// [`CertificateError`] if there is none to be had.
pub fn identity(config: &Config, now: SystemTime) -> Result<Option<Identity>, CertificateError> {
    match (&config.certificate, &config.key) {
        _ if !config.tls => Ok(None),
        (Some(certificate), Some(key)) => Identity::given(certificate, key, now).map(Some),
        _ => Identity::own(&config.state_dir, now).map(Some),
    }
}

impl Server {
    /// Binds all addresses of the configuration. From then on clients can connect; they are served by
    /// [`run`](Server::run).
    ///
    /// # Errors
    /// [`ServerError`] says which address or file is the trouble, and what to do.
    pub fn bind(config: &Config, limits: Limits) -> Result<Self, ServerError> {
        let files = config.certificate.clone().zip(config.key.clone());
        let tls = match identity(config, SystemTime::now())? {
            Some(identity) => Some(Arc::new(Tls::new(&identity, files)?)),
            None => None,
        };
        let failed = |protocol, address, source| ServerError::Listen { protocol, address, source };
        let listener = listen(config.listen).map_err(|source| failed("TCP", config.listen, source))?;
        let https = listener.local_addr().map_err(|source| failed("TCP", config.listen, source))?;
        let udp =
            UdpSockets::bind(&config.udp).map_err(|error| failed("UDP", error.address, error.source))?;
        let (gate, relay_gate) = (Arc::new(Gate::wide(&limits)), Arc::new(Gate::new(&limits)));
        // Bound addresses, so that ports chosen by the system are right; the order is the configuration's.
        let public = Public::new(&udp.configured(), &config.public);
        let relay = if config.relay.enabled { Some(relay(config, &public)?) } else { None };
        let limits = Limits { topics: limits.topics.max(config.relay.allocations), ..limits };
        let hub = Arc::new(Hub::new(limits, udp, public, relay));
        let web = Web {
            hub: hub.clone(),
            proxies: TrustedProxies::new(&config.trusted_proxies),
            gate,
            relay_gate,
            tls,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Ok(Self { listener, https, hub, web })
    }

    /// Where HTTPS is served.
    pub const fn https(&self) -> SocketAddr {
        self.https
    }

    /// Where STUN is answered, in the order of the configuration.
    pub fn udp(&self) -> Vec<SocketAddr> {
        self.hub.udp().configured()
    }

    /// The pin of the certificate; `None` without TLS.
    pub fn pin(&self) -> Option<Pin> {
        self.web.tls.as_ref().map(|tls| tls.pin())
    }

    /// Serves until `stop` completes, then tells all clients, and returns within 2 seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (cancel, tasks) = (self.web.stop.clone(), self.web.tasks.clone());
        let mut loops = tokio::task::JoinSet::new();
        for index in 0..self.hub.udp().places().len() {
            let hub = self.hub.clone();
            loops.spawn(async move { hub.serve_stun(index).await });
        }
        let hub = self.hub.clone();
        loops.spawn(async move { hub.serve_time().await });
        let hub = self.hub.clone();
        loops.spawn(async move {
            if let Some(places) = hub.places() {
                places.forwarder().serve_time().await;
            }
        });
        if let Some(tls) = self.web.tls.clone() {
            loops.spawn(async move { tls.serve_renewals().await });
        }
        loops.spawn(web::serve(self.listener, Arc::new(self.web)));
        stop.await;
        tracing::info!("stopping");
        cancel.cancel();
        tasks.close();
        if tokio::time::timeout(GOODBYE, tasks.wait()).await.is_err() {
            tracing::info!("some clients did not say goodbye");
        }
        loops.shutdown().await;
    }
}

/// Starts the relay of a configuration.
fn relay(config: &Config, public: &Public) -> Result<(Places, AccessList), ServerError> {
    let access = AccessList::of(&config.relay)?;
    let now = tokio::time::Instant::now().into_std();
    let relay = Arc::new(Relay::new(places::settings(config), random()?, now));
    let (addresses, ports) = (config.relay_addresses(), config.relay.ports.clone());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let started = Forwarder::start(relay, &addresses, ports.clone(), threads);
    let forwarder = started.map_err(|error| match error {
        ForwardError::Bind { address, source } => {
            ServerError::Listen { protocol: "UDP (the relay's)", address, source }
        }
        ForwardError::Start(_) => ServerError::Forward(error),
    })?;
    let announced = places::announce(public, &addresses);
    Ok((Places::new(forwarder, announced, ports), access))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let open = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?; // a restart need not wait for connections in TIME_WAIT
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    match open(address) {
        Err(error) if is_dual_stack(address) && has_no_ipv6(&error) => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        opened => opened,
    }
}

/// What to do about an address that cannot be had.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has this port (ss -lntup tells which): stop it, or set another port in serverd.toml"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE: start as root, under systemd with \
             AmbientCapabilities=CAP_NET_BIND_SERVICE, or set another port in serverd.toml"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have this address (ip addr tells which it has): correct serverd.toml, and \
             name the outer address of a NAT under public instead"
        }
        _ => "check listen, udp and [relay] in serverd.toml",
    }
}
