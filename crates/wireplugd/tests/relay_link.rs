//! A leg over TLS against a small relay of this test's own, over real sockets on loopback.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::PublicKeyData as _;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::Message;
use wireplug_core::TransactionId;
use wireplug_proto::relay::{Bound, Credential, CredentialId, CredentialKey, Frame, PATH, SUBPROTOCOL};
use wireplugd::config::{Pin, ServerConfig};
use wireplugd::relay_link::{RelayEvent, RelayLink};
use wireplugd::state::State;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// A data message with nothing in it, as short as they are.
const PACKET: [u8; 32] = {
    let mut packet = [7; 32];
    (packet[0], packet[1], packet[2], packet[3]) = (4, 0, 0, 0);
    packet
};

struct Relay {
    listener: TcpListener,
    tls: TlsAcceptor,
    pin: Pin,
}

struct Client(WebSocketStream<TlsStream<TcpStream>>);

/// A link to a relay, and a socket in the place of WireGuard's.
struct Scene {
    relay: Relay,
    link: RelayLink,
    events: mpsc::Receiver<(usize, RelayEvent)>,
    wireguard: UdpSocket,
    _directory: tempfile::TempDir,
}

impl Relay {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["server.example".to_owned()]).unwrap();
        let pin = Pin::of_public_key(&made.signing_key.subject_public_key_info());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls: Arc::new(config).into(), pin }
    }

    async fn accept(&self) -> Client {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a client").unwrap();
        let tls = self.tls.accept(tcp).await.unwrap();
        // The callback's type is the library's.
        #[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
        let with_subprotocol =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                assert_eq!(request.uri().path(), PATH);
                assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
                response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
                Ok(response)
            };
        Client(tokio_tungstenite::accept_hdr_async(tls, with_subprotocol).await.unwrap())
    }
}

impl Client {
    async fn say(&mut self, frame: &Frame<'_>) {
        self.0.send(Message::binary(frame.encode())).await.unwrap();
    }

    /// The client's next frame; `None` at the end of the connection.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a frame") {
                Some(Ok(Message::Binary(frame))) => return Some(frame.to_vec()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_) | Err(_)) | None => return None,
            }
        }
    }

    /// Takes a bind and grants it.
    async fn grant(&mut self, number: u8) {
        let channel = 3;
        let expected = Frame::Bind { channel, credential: credential(number) }.encode();
        assert_eq!(self.hear().await, Some(expected));
        let bound = Bound { other_side: true, lifetime: Duration::from_secs(300) };
        self.say(&Frame::Bound { channel, bound }).await;
    }
}

impl Scene {
    async fn new() -> Self {
        let relay = Relay::start().await;
        let directory = tempfile::tempdir().unwrap();
        let url = format!("wss://{}", relay.listener.local_addr().unwrap());
        let config = ServerConfig::parse(&url, Some(&relay.pin.to_string())).unwrap();
        let (sender, events) = mpsc::channel(16);
        let state = Arc::new(State::open(directory.path()));
        let (link, task) = RelayLink::new(config, 0, state, 1, 5, sender);
        tokio::spawn(task);
        let wireguard = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { relay, link, events, wireguard, _directory: directory }
    }

    fn open(&mut self) -> SocketAddr {
        let port = self.wireguard.local_addr().unwrap().port();
        self.link.open(3, credential(1), port).unwrap().addr()
    }

    async fn event(&mut self) -> RelayEvent {
        let (server, event) = timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap();
        assert_eq!(server, 5);
        event
    }
}

fn credential(number: u8) -> Credential {
    Credential { id: CredentialId::from_bytes([number; 16]), key: CredentialKey::from_bytes([number; 32]) }
}

fn bound(checks: &[TransactionId]) -> RelayEvent {
    RelayEvent::Bound { channel: 3, checks: checks.to_vec(), other_side: true }
}

#[tokio::test]
async fn packets_go_both_ways_and_only_wireguards() {
    let mut scene = Scene::new().await;
    let leg = scene.open();
    let mut client = scene.relay.accept().await;
    client.grant(1).await;
    assert_eq!(scene.event().await, bound(&[]));

    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&PACKET, leg).await.unwrap();
    scene.wireguard.send_to(b"not WireGuard's", leg).await.unwrap();
    scene.wireguard.send_to(&PACKET, leg).await.unwrap();
    let data = Frame::Data { channel: 3, packet: &PACKET };
    assert_eq!(client.hear().await, Some(data.encode()), "nothing came before it");

    client.say(&Frame::Data { channel: 9, packet: b"nobody's" }).await;
    client.say(&data).await;
    let mut buffer = [0; 64];
    let (length, from) = timeout(PATIENCE, scene.wireguard.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..length], from), (&PACKET[..], leg));

    let check = TransactionId::from_bytes([1; 12]);
    scene.link.bind(3, check);
    client.grant(1).await;
    assert_eq!(scene.event().await, bound(&[check]));
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_again_and_bound_with_the_latest_credential() {
    let mut scene = Scene::new().await;
    scene.open();
    let mut client = scene.relay.accept().await;
    client.grant(1).await;
    assert_eq!(scene.event().await, bound(&[]));
    drop(client);
    scene.link.credential(3, credential(2));
    let mut client = scene.relay.accept().await;
    client.grant(2).await;
    assert_eq!(scene.event().await, bound(&[]));
}

#[tokio::test]
async fn the_connection_ends_with_the_last_leg_and_begins_with_the_next() {
    let mut scene = Scene::new().await;
    scene.open();
    let mut client = scene.relay.accept().await;
    client.grant(1).await;
    scene.link.close(3);
    assert_eq!(client.hear().await, Some(Frame::Unbind { channel: 3 }.encode()));
    assert_eq!(client.hear().await, None);
    scene.open();
    scene.relay.accept().await.grant(1).await;
}
