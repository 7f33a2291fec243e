//! HTTPS: accepts connections, and serves `/healthz`, `/metrics`, the WebSocket at `/` and `/v1`, and
//! the relay's at `/relay`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State, WebSocketUpgrade};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wireplug_proto::relay::{self, PATH};
use wireplug_proto::rendezvous::{MAX_FRAME, SUBPROTOCOL};

use crate::gate::{Gate, Permit};
use crate::hub::Hub;
use crate::metrics;
use crate::proxy::TrustedProxies;
use crate::tls::Tls;
use crate::{relay_session, session};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the headers of a request may take, and the pause before the next request.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a connection may be without becoming a WebSocket.
const PLAIN_HTTP: Duration = Duration::from_secs(60);
/// A pause after a failed accept: when it fails for want of file descriptors, it does so at once again.
const RETRY_ACCEPT: Duration = Duration::from_millis(100);
/// Bytes for the head of a request, and of read-ahead per connection: enough for the headers that proxies add.
const HTTP_BUFFER: usize = 16 * 1024;
/// Bytes that wait in the WebSocket library for the TCP connection to take them.
const MAX_WRITE_BUFFER: usize = 8 * MAX_FRAME;
/// Bytes that a relay's connection gathers before it hands them to TCP: a TLS record (RFC 8446 section 5.1).
const RELAY_WRITE_BUFFER: usize = 16 * 1024;
/// Bytes of a TCP connection that the system holds although the client has no window for them. More would be
/// delay: what is relayed had better be dropped.
const NOT_SENT: u32 = 64 * 1024;

/// All that serving needs.
pub(crate) struct Web {
    pub(crate) hub: Arc<Hub>,
    pub(crate) proxies: TrustedProxies,
    /// For TCP connections, by who connects.
    pub(crate) gate: Arc<Gate>,
    /// For the relay's connections over TLS, by whom they are from; as many are left to the rendezvous.
    pub(crate) relay_gate: Arc<Gate>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The TCP peer of a request, and its right to be here, which a WebSocket takes over.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    permit: Arc<Permit>,
}

/// Accepts and serves until the server stops.
pub(crate) async fn serve(listener: TcpListener, web: Arc<Web>) {
    let router = Router::new()
        .route("/", get(websocket))
        .route("/v1", get(websocket))
        .route(PATH, get(relay_websocket))
        .route("/healthz", get(|| async { "ok" }))
        .route("/metrics", get(metrics::serve))
        .with_state(web.clone());
    loop {
        let accepted = tokio::select! {
            () = web.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; if it stays, allow more files (ulimit -n)");
                tokio::time::sleep(RETRY_ACCEPT).await;
                continue;
            }
        };
        let is_proxy = web.proxies.contains(peer.ip());
        let Some(permit) = web.gate.enter(Instant::now().into_std(), peer.ip(), is_proxy) else {
            tracing::debug!(%peer, "no room for a connection");
            continue;
        };
        let (web, router) = (web.clone(), router.clone());
        web.tasks.clone().spawn(async move {
            let stop = web.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(stream, peer, permit, &web, router) => {}
            }
        });
    }
}

/// One TCP connection, until it ends or becomes a WebSocket, which has a task of its own.
async fn connection(stream: TcpStream, peer: SocketAddr, permit: Permit, web: &Web, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT) {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
    let peer = Peer { ip: peer.ip().to_canonical(), permit: Arc::new(permit) };
    let Some(tls) = &web.tls else { return http(stream, peer, router).await };
    match tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => http(stream, peer, router).await,
        Ok(Err(error)) => tracing::debug!(peer = %peer.ip, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = %peer.ip, "TLS handshake took too long"),
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer, router: Router) {
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(PLAIN_HTTP, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP failed"),
        Err(_) => tracing::debug!("HTTP took too long"),
    }
}

async fn websocket(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([SUBPROTOCOL]),
        Err(_) => return (StatusCode::UPGRADE_REQUIRED, NOT_A_WEBSOCKET).into_response(),
    };
    if upgrade.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, WRONG_SUBPROTOCOL).into_response();
    }
    let client = web.proxies.client(peer.ip, &headers);
    let on_failed = |error| tracing::debug!(%error, "a WebSocket could not be opened");
    upgrade
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .read_buffer_size(MAX_FRAME)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .on_failed_upgrade(on_failed)
        .on_upgrade(move |socket| {
            let tasks = web.tasks.clone();
            tasks.track_future(async move {
                session::run(socket, &web.hub, client, &web.stop).await;
                drop(peer.permit);
            })
        })
}

async fn relay_websocket(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if web.hub.places().is_none() {
        return (StatusCode::NOT_FOUND, NO_RELAY).into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([relay::SUBPROTOCOL]),
        Err(_) => return (StatusCode::UPGRADE_REQUIRED, NOT_A_WEBSOCKET).into_response(),
    };
    if upgrade.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, WRONG_RELAY_SUBPROTOCOL).into_response();
    }
    let client = web.proxies.client(peer.ip, &headers);
    let Some(permit) = web.relay_gate.enter(Instant::now().into_std(), client, false) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")], RELAY_FULL).into_response();
    };
    let on_failed = |error| tracing::debug!(%error, "a relay WebSocket could not be opened");
    upgrade
        .max_frame_size(relay::MAX_FRAME)
        .max_message_size(relay::MAX_FRAME)
        .read_buffer_size(RELAY_WRITE_BUFFER)
        .write_buffer_size(RELAY_WRITE_BUFFER)
        .max_write_buffer_size(RELAY_WRITE_BUFFER + 2 * relay::MAX_FRAME)
        .on_failed_upgrade(on_failed)
        .on_upgrade(move |socket| {
            let tasks = web.tasks.clone();
            tasks.track_future(async move {
                if let Some(places) = web.hub.places() {
                    relay_session::run(socket, places, client, &web.stop).await;
                }
                drop((permit, peer.permit));
            })
        })
}

const RELAY_FULL: &str =
    "There are too many relay connections of this address, or in total: ask again later.\n";
const NO_RELAY: &str = "This wireplug server does not relay.\n";
const WRONG_RELAY_SUBPROTOCOL: &str = "The relay speaks the WebSocket subprotocol wireplug.relay.v1 only: the \
client is for another version, or for another server.\n";
const NOT_A_WEBSOCKET: &str = "This is a wireplug server. Daemons connect to it as a WebSocket; put its URL, \
with wss:// instead of https://, into [[server]] of wireplug.toml.\n";
const WRONG_SUBPROTOCOL: &str = "This server speaks the WebSocket subprotocol wireplug.v1 only: the client is \
for another version, or for another server.\n";
