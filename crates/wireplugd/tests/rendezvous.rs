//! The rendezvous client against a small server of this test's own, over real TLS on loopback.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::PublicKeyData as _;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::Message;
use wireplug_core::{Endpoint, PrivateKey, PublicKey};
use wireplug_proto::rendezvous::{ClientMessage, SUBPROTOCOL, ServerMessage};
use wireplug_proto::{Pair, Topic};
use wireplugd::config::{Pin, ServerConfig};
use wireplugd::rendezvous::{Event, Events, Handle, Membership, Pool};
use wireplugd::state::State;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    pin: Pin,
}

struct Client {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Server {
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

    fn url(&self) -> String {
        format!("wss://127.0.0.1:{}", self.listener.local_addr().unwrap().port())
    }

    fn config(&self) -> ServerConfig {
        ServerConfig::parse(&self.url(), Some(&self.pin.to_string())).unwrap()
    }

    /// A daemon's end, which begins to connect. The directory is where it keeps its state.
    fn connects(&self) -> (tempfile::TempDir, Handle, Events) {
        let (directory, state) = state();
        let handle = Handle::spawn(self.config(), 0, state, 1);
        let events = handle.subscribe();
        (directory, handle, events)
    }

    async fn accept_tcp(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("a client").unwrap().0
    }

    async fn accept_tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls.accept(self.accept_tcp().await).await
    }

    async fn accept_over(&self, tcp: TcpStream) -> Client {
        let tls = self.tls.accept(tcp).await.unwrap();
        // The callback's type is the library's.
        #[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
        let with_subprotocol =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
                response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
                Ok(response)
            };
        Client { socket: tokio_tungstenite::accept_hdr_async(tls, with_subprotocol).await.unwrap() }
    }

    /// Accepts a client and says hello.
    async fn welcome(&self) -> Client {
        self.welcome_over(self.accept_tcp().await).await
    }

    async fn welcome_over(&self, tcp: TcpStream) -> Client {
        let mut client = self.accept_over(tcp).await;
        let stun = vec!["0.0.0.0:3478".parse().unwrap(), "0.0.0.0:3479".parse().unwrap()];
        client.say(&ServerMessage::Hello { token: [7; 16], stun, offer_ttl: Duration::from_secs(120) }).await;
        client
    }
}

impl Client {
    async fn say(&mut self, message: &ServerMessage) {
        self.socket.send(Message::binary(message.encode())).await.unwrap();
    }

    /// The client's next message; `None` at the end of the connection.
    async fn hear(&mut self) -> Option<ClientMessage> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a message") {
                Some(Ok(Message::Binary(bytes))) => return Some(ClientMessage::decode(&bytes).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_) | Err(_)) | None => return None,
            }
        }
    }
}

fn state() -> (tempfile::TempDir, Arc<State>) {
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(directory.path()));
    (directory, state)
}

fn membership() -> Membership {
    let mut base_point = [0; 32];
    base_point[0] = 9;
    let peer = PublicKey::from_bytes(base_point);
    Membership::of(&Pair::derive(&PrivateKey::from_bytes([1; 32]), &peer).unwrap())
}

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.recv()).await.expect("an event")
}

/// Waits until the server can be used.
async fn up(events: &mut Events) -> Event {
    loop {
        match next(events).await {
            event @ Event::Up { .. } => return event,
            Event::Down { .. } => {}
            event => panic!("{event:?} before the server is up"),
        }
    }
}

/// Waits for the first reason that is one.
async fn down(events: &mut Events) -> String {
    loop {
        match next(events).await {
            Event::Down { why, .. } if why == "connecting" => {}
            Event::Down { why, .. } => return why,
            event => panic!("{event:?} instead of a reason"),
        }
    }
}

/// The reason that a client gives for not being connected to what `serve` makes of each connection.
async fn why_not(server: Server, config: ServerConfig) -> String {
    let (_directory, state) = state();
    let handle = Handle::spawn(config, 0, state, 1);
    let mut events = handle.subscribe();
    let server = tokio::spawn(async move {
        loop {
            let _ = server.accept_tls().await;
        }
    });
    let why = down(&mut events).await;
    server.abort();
    why
}

fn is_join(message: Option<&ClientMessage>, of: Topic) -> bool {
    matches!(message, Some(ClientMessage::Join { topic, .. }) if *topic == of)
}

#[tokio::test]
async fn a_session_from_hello_to_goodbye() {
    let server = Server::start().await;
    let (_directory, state) = state();
    let pool = Pool::new(vec![server.config()], Arc::clone(&state), 1);
    let handle = pool.connect(0).remove(0);
    let mut events = handle.subscribe();
    let topic = membership().topic();
    handle.join(membership());
    handle.publish(topic, vec![1]);
    let mut client = server.welcome().await;
    assert!(is_join(client.hear().await.as_ref(), topic));
    assert_eq!(client.hear().await, Some(ClientMessage::Publish { topic, sealed: vec![1] }));

    let Event::Up { token, stun } = up(&mut events).await else { unreachable!() };
    assert_eq!(token, [7; 16]);
    assert_eq!(stun.len(), 1);
    assert_eq!(stun[0].primary, "127.0.0.1:3478".parse().unwrap());
    assert_eq!(stun[0].secondary, Some("127.0.0.1:3479".parse().unwrap()));
    assert_eq!(state.addresses(handle.url()), ["127.0.0.1".parse::<IpAddr>().unwrap()]);

    client.say(&ServerMessage::Offer { topic, sealed: vec![9] }).await;
    assert_eq!(next(&mut events).await, Event::Offer { topic, sealed: vec![9] });
    let mut late = handle.subscribe();
    assert!(matches!(next(&mut late).await, Event::Up { .. }), "who comes late hears how it stands");

    let endpoint = Endpoint::new("198.51.100.1:9".parse().unwrap()).unwrap();
    handle.verify(handle.new_id(), endpoint, [3; 16]);
    assert_eq!(client.hear().await, Some(ClientMessage::Verify { id: 1, endpoint, nonce: [3; 16] }));
    client.say(&ServerMessage::Probed { id: 1 }).await;
    assert_eq!(next(&mut events).await, Event::Probed { id: 1 });

    handle.leave(topic);
    drop(handle);
    assert_eq!(client.hear().await, Some(ClientMessage::Leave { topic }));
    assert_eq!(client.hear().await, None);
    timeout(PATIENCE, pool.finished()).await.expect("the connection's task has ended");
}

#[tokio::test]
async fn a_lost_connection_is_made_again_with_all_that_was_said() {
    let server = Server::start().await;
    let (_directory, handle, mut events) = server.connects();
    let topic = membership().topic();
    handle.join(membership());
    handle.publish(topic, vec![1]);
    let mut client = server.welcome().await;
    up(&mut events).await;
    assert!(is_join(client.hear().await.as_ref(), topic));
    drop(client);
    assert!(down(&mut events).await.contains("the connection was lost"));
    handle.publish(topic, vec![2]);
    let mut client = server.welcome().await;
    up(&mut events).await;
    assert!(is_join(client.hear().await.as_ref(), topic));
    assert_eq!(client.hear().await, Some(ClientMessage::Publish { topic, sealed: vec![2] }));
}

#[tokio::test]
async fn a_kick_asks_whether_the_connection_works_and_makes_another_one_beside_it() {
    let server = Server::start().await;
    let (_directory, handle, mut events) = server.connects();
    let mut client = server.welcome().await;
    let before = up(&mut events).await;
    handle.kick();
    let Some(ClientMessage::Ping { id }) = client.hear().await else { panic!("no ping") };
    client.say(&ServerMessage::Pong { id }).await;
    // It is answered: all stays as it is.
    let other = timeout(Duration::from_millis(600), server.listener.accept()).await;
    assert!(other.is_err(), "another connection beside one that works");

    handle.kick();
    assert!(matches!(client.hear().await, Some(ClientMessage::Ping { .. })));
    // It is not answered: the connection stays until there is a new one.
    let mut second = server.welcome().await;
    assert_eq!(client.hear().await, None);
    assert_eq!(up(&mut events).await, before);
    handle.kick();
    assert!(matches!(second.hear().await, Some(ClientMessage::Ping { .. })));
}

/// A way to the server that is so slow is not begun from nothing because time is up for the former connection.
#[tokio::test]
async fn a_connection_that_is_under_way_when_the_former_is_given_up_goes_on() {
    let server = Server::start().await;
    let (_directory, handle, mut events) = server.connects();
    let mut client = server.welcome().await;
    let before = up(&mut events).await;
    handle.kick();
    assert!(matches!(client.hear().await, Some(ClientMessage::Ping { .. })));
    let tcp = server.accept_tcp().await;
    assert_eq!(client.hear().await, None, "the former is given up");
    let mut client = server.welcome_over(tcp).await;
    assert_eq!(up(&mut events).await, before);
    handle.kick();
    assert!(matches!(client.hear().await, Some(ClientMessage::Ping { .. })));
}

#[tokio::test]
async fn a_connection_that_works_on_is_kept_while_no_other_comes_about() {
    let server = Server::start().await;
    let (_directory, handle, mut events) = server.connects();
    let mut client = server.welcome().await;
    up(&mut events).await;
    handle.kick();
    let Some(ClientMessage::Ping { id }) = client.hear().await else { panic!("no ping") };
    let tcp = server.accept_tcp().await;
    drop(tcp);
    client.say(&ServerMessage::Pong { id }).await;
    let topic = membership().topic();
    handle.join(membership());
    assert!(is_join(client.hear().await.as_ref(), topic));
    assert_eq!(events.try_recv(), None, "it was never down");
}

#[tokio::test]
async fn a_wrong_pin_shows_both_and_says_what_to_do() {
    let server = Server::start().await;
    let shown = server.pin.to_string();
    let expected = Pin::of_public_key(b"another").to_string();
    let config = ServerConfig::parse(&server.url(), Some(&expected)).unwrap();
    let why = why_not(server, config).await;
    for part in [shown.as_str(), &expected, "`wireplug-serverd pin`"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
}

#[tokio::test]
async fn a_certificate_of_ones_own_without_a_pin_says_what_to_do() {
    let server = Server::start().await;
    let config = ServerConfig::parse(&server.url(), None).unwrap();
    let why = why_not(server, config).await;
    assert!(why.contains("cannot be trusted") && why.contains("`wireplug-serverd pin`"), "{why}");
}

#[tokio::test]
async fn nobody_listening_says_what_to_look_at() {
    let server = Server::start().await;
    let (_directory, state) = state();
    let config = server.config();
    drop(server);
    let why = down(&mut Handle::spawn(config, 0, state, 1).subscribe()).await;
    assert!(why.contains("is the server running") && why.contains("refused"), "{why}");
    assert!(
        !why.contains("127.0.0.1:") || why.contains("wss://127.0.0.1:"),
        "no address beside the URL: {why}"
    );
}

#[tokio::test]
async fn another_web_server_is_told() {
    for (answer, words) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "it answered 404"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "is it a wireplug-serverd"),
    ] {
        let server = Server::start().await;
        let (_directory, state) = state();
        let handle = Handle::spawn(server.config(), 0, state, 1);
        let mut events = handle.subscribe();
        let mut tls = server.accept_tls().await.unwrap();
        tls.write_all(answer.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        let why = down(&mut events).await;
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_and_nothing_else() {
    for frame in [Message::binary(vec![0xff; 50]), Message::binary(vec![0; 5000]), Message::text("hello")] {
        let server = Server::start().await;
        let (_directory, state) = state();
        let handle = Handle::spawn(server.config(), 0, state, 1);
        let mut events = handle.subscribe();
        let mut client = server.welcome().await;
        up(&mut events).await;
        client.socket.send(frame).await.unwrap();
        assert!(down(&mut events).await.contains("the connection was lost"));
        let _again = server.welcome().await;
        up(&mut events).await;
    }
}

#[tokio::test]
async fn without_a_resolver_the_last_good_address_is_used() {
    let server = Server::start().await;
    let (_directory, state) = state();
    let port = server.listener.local_addr().unwrap().port();
    let url = format!("wss://nowhere.invalid:{port}");
    let config = ServerConfig::parse(&url, Some(&server.pin.to_string())).unwrap();
    state.remember(&config.url, [127, 0, 0, 1].into(), &[]);
    let handle = Handle::spawn(config, 0, state, 1);
    let mut events = handle.subscribe();
    let _client = server.welcome().await;
    assert!(matches!(up(&mut events).await, Event::Up { .. }));
}
