//! TCP, TLS and WebSocket to a server, from inside a namespace.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use wireplug_lab::{LabError, Namespace, Result};

use crate::failed;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// TLS, whatever the certificate says: the tests of pins are elsewhere.
    Tls(SocketAddr),
    /// Plain HTTP, as a reverse proxy speaks it.
    Plain(SocketAddr),
}

/// A byte stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A WebSocket to a server.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// An open WebSocket, and what runs it.
pub(super) struct Wire {
    pub(super) runtime: Runtime,
    pub(super) socket: Socket,
}

impl Wire {
    /// Opens a WebSocket from a namespace.
    pub(super) fn open(from: &Namespace, way: Way, path: &str, subprotocol: &'static str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("start a runtime for a daemon played by hand"))?;
        let (Way::Tls(server) | Way::Plain(server)) = way;
        let tcp = from.enter(|| {
            let tcp = std::net::TcpStream::connect_timeout(&server, PATIENCE)
                .map_err(failed(&format!("connect to {server}")))?;
            tcp.set_nonblocking(true).map_err(failed("make a connection non-blocking"))?;
            Ok(tcp)
        })?;
        let socket = runtime.block_on(open(tcp, way, path, subprotocol))?;
        Ok(Self { runtime, socket })
    }
}

/// Opens a WebSocket on a TCP connection, which must be non-blocking.
///
/// # Errors
/// When the server does not take it in time.
pub async fn open(
    tcp: std::net::TcpStream,
    way: Way,
    path: &str,
    subprotocol: &'static str,
) -> Result<Socket> {
    let (Way::Tls(server) | Way::Plain(server)) = way;
    within("a WebSocket", async {
        let tcp = TcpStream::from_std(tcp).map_err(failed("hand a connection to the runtime"))?;
        tcp.set_nodelay(true).map_err(failed("set TCP_NODELAY"))?;
        let stream: Box<dyn Stream> = match way {
            Way::Plain(_) => Box::new(tcp),
            Way::Tls(_) => Box::new(tls(tcp, server).await?),
        };
        let mut request = format!("ws://{server}{path}")
            .into_client_request()
            .map_err(|error| LabError::unexpected(format!("no request for {server}{path}: {error}")))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
        let opened = tokio_tungstenite::client_async(request, stream).await;
        let (socket, _) =
            opened.map_err(|error| LabError::unexpected(format!("no WebSocket at {path}: {error}")))?;
        Ok(socket)
    })
    .await
}

/// The result of `work`, which must come in time.
pub(super) async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(LabError::unexpected(format!("waited {PATIENCE:?} in vain for {what}"))))
}

async fn tls(tcp: TcpStream, server: SocketAddr) -> Result<impl Stream> {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| LabError::unexpected(format!("rustls has no versions: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::IpAddress(server.ip().into());
    connector.connect(name, tcp).await.map_err(failed("shake hands over TLS"))
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
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
