//! A server in this process, and a client that speaks to it over real TLS and WebSocket.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses a part of it
#![allow(clippy::unwrap_used)] // it is tests that fail here

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, ServerMessage};
use wireplug_serverd::config::Config;
use wireplug_serverd::limits::Limits;
use wireplug_serverd::server::Server;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A running server; it stops when this is dropped.
pub struct Running {
    pub https: SocketAddr,
    pub udp: Vec<SocketAddr>,
    pub pin: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    state: tempfile::TempDir,
}

impl Running {
    pub fn start(text: &str, limits: Limits) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut config = Config::parse("test.toml".as_ref(), text).unwrap();
        state.path().clone_into(&mut config.state_dir);
        // Its ports are fixed, and other tests run beside this one: who wants a relay chooses an address for it.
        config.relay.enabled &= !config.relay.addresses.is_empty();
        let server = Server::bind(&config, limits).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (https, udp) = (server.https(), server.udp());
        let pin = server.pin().map(|pin| pin.to_string()).unwrap_or_default();
        let task = tokio::spawn(server.run(async {
            stopped.await.ok();
        }));
        Self { https, udp, pin, stop: Some(stop), task, state }
    }

    /// On loopback, with two UDP addresses.
    pub fn on_loopback(limits: Limits) -> Self {
        Self::start("listen = \"127.0.0.1:0\"\nudp = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n", limits)
    }

    /// On loopback, with a relay at an address that no other test uses.
    pub fn with_relay(limits: Limits) -> Self {
        Self::with_relay_and("", limits)
    }

    /// The same with more lines of config.
    pub fn with_relay_and(more: &str, limits: Limits) -> Self {
        static RELAYS: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, RELAYS.fetch_add(1, Ordering::Relaxed), high, low);
        let listen = "listen = \"127.0.0.1:0\"\nudp = [\"127.0.0.1:0\"]\n";
        Self::start(&format!("{listen}{more}[relay]\naddresses = [\"{address}\"]\n"), limits)
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        soon("the server stops", &mut self.task).await.unwrap();
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.https, &[]).await
    }
}

/// A client that was greeted.
pub struct Client {
    pub socket: WebSocketStream<TlsStream<TcpStream>>,
    pub token: [u8; 16],
    pub stun: Vec<SocketAddr>,
}

impl Client {
    pub async fn connect(https: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        let (socket, _) = open(https, "/", Some("wireplug.v1"), headers).await.unwrap();
        let mut client = Self { socket, token: [0; 16], stun: Vec::new() };
        match client.next().await {
            ServerMessage::Hello { token, stun, offer_ttl } => {
                assert_eq!(offer_ttl, Duration::from_secs(120));
                (client.token, client.stun) = (token, stun);
            }
            other => panic!("not greeted: {other:?}"),
        }
        client
    }

    pub async fn say(&mut self, message: &ClientMessage) {
        soon("saying", self.socket.send(Message::Binary(message.encode().into()))).await.unwrap();
    }

    /// The next message; pings of the WebSocket are passed over.
    pub async fn next(&mut self) -> ServerMessage {
        loop {
            match soon("a message", self.socket.next()).await.unwrap().unwrap() {
                Message::Binary(frame) => return ServerMessage::decode(&frame).unwrap(),
                Message::Ping(_) => {}
                other => panic!("not a message: {other:?}"),
            }
        }
    }

    /// All that the server has said by now.
    pub async fn said(&mut self) -> Vec<ServerMessage> {
        self.say(&ClientMessage::Ping { id: 77 }).await;
        let mut said = Vec::new();
        loop {
            match self.next().await {
                ServerMessage::Pong { id: 77 } => return said,
                message => said.push(message),
            }
        }
    }

    /// The code that the server closes with, whatever it says before; `None` if it just hangs up.
    pub async fn closed(&mut self) -> Option<CloseCode> {
        loop {
            match soon("a close", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

pub fn refused(message: &ServerMessage) -> Option<(About, Reason, Option<Duration>)> {
    match message {
        ServerMessage::Refused { about, reason, retry_after, .. } => Some((*about, *reason, *retry_after)),
        _ => None,
    }
}

pub async fn open(
    https: SocketAddr,
    path: &str,
    subprotocol: Option<&str>,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TlsStream<TcpStream>>, Response), Error> {
    let mut request = format!("wss://{https}{path}").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = tls(https).await;
    soon("a WebSocket", Box::pin(client_async(request, stream))).await
}

pub async fn tls(https: SocketAddr) -> TlsStream<TcpStream> {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    let stream = soon("TCP", TcpStream::connect(https)).await.unwrap();
    let name = ServerName::IpAddress(https.ip().into());
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    soon("TLS", Box::pin(connector.connect(name, stream))).await.unwrap()
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
