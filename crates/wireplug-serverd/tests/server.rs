//! The whole server on loopback, over real TLS and WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

#[path = "common/client.rs"]
mod client;
mod common;

use std::net::IpAddr;
use std::time::Duration;

use client::{Client, Running, open, refused, soon, tls};
use common::pairs;
use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use wireplug_core::{Endpoint, TransactionId};
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, ServerMessage};
use wireplug_proto::stun::binding::{Change, request};
use wireplug_serverd::limits::{Limits, Rate};

const ID: TransactionId = TransactionId::from_bytes([3; 12]);

fn publish(pair: &wireplug_proto::Pair, sealed: &[u8]) -> ClientMessage {
    ClientMessage::Publish { topic: pair.topic(), sealed: sealed.to_vec() }
}

#[tokio::test]
async fn two_daemons_exchange_offers() {
    let server = Running::on_loopback(Limits::default());
    let [low, high] = pairs(1);
    let mut a = server.client().await;
    a.say(&ClientMessage::join(&low)).await;
    assert_eq!(a.next().await, ServerMessage::Joined { topic: low.topic() });
    a.say(&publish(&low, b"one")).await;
    assert_eq!(a.said().await, []);

    let mut b = server.client().await;
    assert_ne!(a.token, b.token);
    b.say(&ClientMessage::join(&high)).await;
    assert_eq!(b.next().await, ServerMessage::Joined { topic: low.topic() });
    assert_eq!(b.next().await, ServerMessage::Offer { topic: low.topic(), sealed: b"one".to_vec() });
    a.say(&publish(&low, b"two")).await;
    assert_eq!(b.next().await, ServerMessage::Offer { topic: low.topic(), sealed: b"two".to_vec() });
    b.say(&publish(&high, b"back")).await;
    assert_eq!(a.next().await, ServerMessage::Offer { topic: low.topic(), sealed: b"back".to_vec() });

    // The daemon comes back on a new connection, and the old one is told.
    let mut again = server.client().await;
    again.say(&ClientMessage::join(&low)).await;
    assert_eq!(again.next().await, ServerMessage::Joined { topic: low.topic() });
    assert_eq!(again.next().await, ServerMessage::Offer { topic: low.topic(), sealed: b"back".to_vec() });
    let told = a.next().await;
    assert_eq!(refused(&told), Some((About::Join(low.topic()), Reason::NotMember, None)), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_offer_waits_for_a_peer_when_its_publisher_is_gone() {
    let server = Running::on_loopback(Limits::default());
    let [low, high] = pairs(1);
    let mut a = server.client().await;
    a.say(&ClientMessage::join(&low)).await;
    a.say(&publish(&low, &[5; wireplug_proto::MAX_SEALED])).await;
    a.said().await;
    drop(a);
    let mut b = server.client().await;
    b.say(&ClientMessage::join(&high)).await;
    b.next().await;
    let sealed = vec![5; wireplug_proto::MAX_SEALED];
    assert_eq!(b.next().await, ServerMessage::Offer { topic: low.topic(), sealed });
    server.stop().await;
}

#[tokio::test]
async fn only_its_own_subprotocol_is_spoken() {
    let server = Running::on_loopback(Limits::default());
    for subprotocol in [None, Some("chat"), Some("wireplug.v2")] {
        match open(server.https, "/", subprotocol, &[]).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), 400);
                let body = String::from_utf8(response.into_body().unwrap()).unwrap();
                assert!(body.contains("wireplug.v1"), "{body}");
            }
            other => panic!("{subprotocol:?}: {other:?}"),
        }
    }
    let (_, response) = open(server.https, "/v1", Some("chat, wireplug.v1"), &[]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "wireplug.v1");
    assert!(matches!(open(server.https, "/other", Some("wireplug.v1"), &[]).await, Err(Error::Http(_))));
    server.stop().await;
}

async fn get(server: &Running, path: &str, header: &str) -> String {
    let mut stream = tls(server.https).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn plain_requests_are_answered() {
    let server = Running::on_loopback(Limits::default());
    let _client = server.client().await;
    let health = get(&server, "/healthz", "").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\nok"), "{health}");
    assert!(get(&server, "/", "").await.starts_with("HTTP/1.1 426"));
    assert!(get(&server, "/nothing", "").await.starts_with("HTTP/1.1 404"));
    assert!(get(&server, "/metrics", "").await.contains("\nwireplug_connections 1\n"));
    assert!(get(&server, "/metrics", "X-Forwarded-For: 127.0.0.1\r\n").await.starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[tokio::test]
async fn bad_frames_end_the_connection_that_sends_them_and_no_other() {
    let server = Running::on_loopback(Limits::default());
    let mut good = server.client().await;

    let mut text = server.client().await;
    text.socket.send(Message::Text("hello".into())).await.unwrap();
    assert_eq!(text.closed().await, Some(CloseCode::Unsupported));

    let mut long = server.client().await;
    long.socket.send(Message::Binary(vec![0; 4097].into())).await.unwrap();
    assert!(matches!(long.closed().await, Some(CloseCode::Size) | None));

    let mut junk = server.client().await;
    for _ in 0..20 {
        junk.socket.feed(Message::Binary(vec![0xff; 100].into())).await.unwrap();
    }
    junk.socket.flush().await.ok();
    let first = junk.next().await;
    assert_eq!(refused(&first), Some((About::Connection, Reason::Malformed, None)), "{first:?}");
    assert_eq!(junk.closed().await, Some(CloseCode::Policy));

    assert_eq!(good.said().await, []);
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_much_is_told_with_a_time() {
    let mut limits = Limits { connections_per_address: 2, ..Limits::default() };
    limits.per_connection.joins = Rate { burst: 2, every: Duration::from_secs(60) };
    let server = Running::on_loopback(limits);
    let mut a = server.client().await;
    for seed in 0..3 {
        a.say(&ClientMessage::join(&pairs(seed)[0])).await;
    }
    let said = a.said().await;
    let (about, reason, retry_after) = refused(&said[2]).unwrap();
    assert_eq!((about, reason), (About::Join(pairs(2)[0].topic()), Reason::RateLimited));
    let wait = retry_after.unwrap();
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");

    let _b = server.client().await;
    let (socket, _) = open(server.https, "/", Some("wireplug.v1"), &[]).await.unwrap();
    let mut c = Client { socket, token: [0; 16], stun: Vec::new() };
    let told = c.next().await;
    assert!(matches!(refused(&told), Some((About::Connection, Reason::Full, Some(_)))), "{told:?}");
    assert_eq!(c.closed().await, Some(CloseCode::Again));
    server.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_s_clients_are_counted_apart() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let udp = "udp = [\"127.0.0.1:0\"]\nlisten = \"127.0.0.1:0\"\n";
    let server = Running::start(&format!("{udp}trusted-proxies = [\"127.0.0.1\"]"), limits.clone());
    let mut clients = Vec::new();
    for last in 0..5 {
        let forwarded = format!("198.51.100.{last}");
        clients.push(Client::connect(server.https, &[("x-forwarded-for", &forwarded)]).await);
    }
    let (socket, _) =
        open(server.https, "/", Some("wireplug.v1"), &[("x-forwarded-for", "198.51.100.1")]).await.unwrap();
    let mut one_more = Client { socket, token: [0; 16], stun: Vec::new() };
    assert!(refused(&one_more.next().await).is_some());
    server.stop().await;

    let server = Running::start(udp, limits);
    let _a = Client::connect(server.https, &[("x-forwarded-for", "198.51.100.1")]).await;
    let (socket, _) =
        open(server.https, "/", Some("wireplug.v1"), &[("x-forwarded-for", "198.51.100.2")]).await.unwrap();
    let mut b = Client { socket, token: [0; 16], stun: Vec::new() };
    assert!(refused(&b.next().await).is_some(), "a stranger cannot say that it is another");
    server.stop().await;
}

#[tokio::test]
async fn a_verification_of_an_address_that_was_not_shown_is_refused() {
    let server = Running::on_loopback(Limits::default());
    let mut a = server.client().await;
    let endpoint = Endpoint::new("198.51.100.7:51820".parse().unwrap()).unwrap();
    let wireguard = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    wireguard.send_to(&request(ID, Some(&a.token), Change::None), server.udp[0]).await.unwrap();
    soon("an answer", wireguard.recv_from(&mut [0; 1500])).await.unwrap();
    a.say(&ClientMessage::Verify { id: 4, endpoint, nonce: [1; 16] }).await;
    let told = a.next().await;
    assert_eq!(refused(&told), Some((About::Verify(4), Reason::NotYours, None)), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_says_goodbye() {
    let server = Running::on_loopback(Limits::default());
    let (mut a, https) = (server.client().await, server.https);
    let begun = std::time::Instant::now();
    let ((), code) = tokio::join!(server.stop(), a.closed());
    assert_eq!(code, Some(CloseCode::Away));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(tokio::net::TcpStream::connect(https).await.is_err());
}

#[tokio::test]
async fn without_tls_a_reverse_proxy_can_stand_before_it() {
    let config = "listen = \"127.0.0.1:0\"\nudp = [\"127.0.0.1:0\"]\ntls = false\n";
    let server = Running::start(config, Limits::default());
    assert_eq!(server.pin, "");
    let mut stream = tokio::net::TcpStream::connect(server.https).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn the_relay_has_a_websocket_of_its_own_and_numbers() {
    let server = Running::with_relay(Limits::default());
    let (_, response) = open(server.https, "/relay", Some("wireplug.relay.v1"), &[]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "wireplug.relay.v1");
    match open(server.https, "/relay", Some("wireplug.v1"), &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 400),
        other => panic!("{other:?}"),
    }
    assert!(get(&server, "/relay", "").await.starts_with("HTTP/1.1 426"));
    let metrics = get(&server, "/metrics", "").await;
    assert!(metrics.contains("\nwireplug_relay_allocations 0\n"), "{metrics}");

    let [low, _] = pairs(1);
    let mut a = server.client().await;
    a.say(&ClientMessage::join(&low)).await;
    a.next().await;
    a.say(&ClientMessage::Allocate { topic: low.topic(), access: None }).await;
    match a.next().await {
        ServerMessage::Allocated { topic, allocation } => {
            assert_eq!((topic, allocation.ports), (low.topic(), 3479..=3510));
            assert_eq!(allocation.relays, [IpAddr::from([0, 0, 0, 0])], "the host that it is connected to");
        }
        other => panic!("{other:?}"),
    }
    assert!(get(&server, "/metrics", "").await.contains("\nwireplug_relay_allocations 1\n"));
    server.stop().await;
}

#[tokio::test]
async fn relay_connections_of_one_address_are_limited_also_behind_a_proxy() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let server = Running::with_relay_and("trusted-proxies = [\"127.0.0.1\"]\n", limits);
    let from = async |address| {
        open(server.https, "/relay", Some("wireplug.relay.v1"), &[("x-forwarded-for", address)]).await
    };
    let held = (from("198.51.100.1").await.unwrap(), from("198.51.100.1").await.unwrap());
    match from("198.51.100.1").await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "60");
        }
        other => panic!("{other:?}"),
    }
    let _other = from("198.51.100.2").await.unwrap();
    drop(held);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_a_relay_has_none_of_it() {
    let server = Running::on_loopback(Limits::default());
    match open(server.https, "/relay", Some("wireplug.relay.v1"), &[]).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 404);
            let body = String::from_utf8(response.into_body().unwrap()).unwrap();
            assert!(body.contains("does not relay"), "{body}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!get(&server, "/metrics", "").await.contains("relay"));
    server.stop().await;
}
