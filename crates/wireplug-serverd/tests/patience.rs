//! How long the server waits for clients that say nothing. The clock is stopped once a connection is there and
//! then runs only while everyone waits, so minutes pass at once.

#[path = "common/client.rs"]
mod client;
mod common;

use std::time::Duration;

use client::{Running, open, tls};
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause, timeout};
use wireplug_serverd::limits::Limits;

/// Stops the clock, and tells after how long the server hangs up on someone who only listens.
async fn hangs_up_after(mut stream: impl AsyncRead + Unpin) -> u64 {
    pause();
    let begun = Instant::now();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.ok();
    begun.elapsed().as_secs()
}

#[tokio::test]
async fn a_silent_tcp_connection_is_closed() {
    let server = Running::on_loopback(Limits::default());
    let stream = TcpStream::connect(server.https).await.unwrap();
    let waited = hangs_up_after(stream).await;
    assert!((9..=11).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_silent_https_connection_is_closed() {
    let server = Running::on_loopback(Limits::default());
    let stream = tls(server.https).await;
    let waited = hangs_up_after(stream).await;
    assert!((9..=11).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_websocket_that_answers_no_ping_is_closed() {
    let server = Running::on_loopback(Limits::default());
    let client = server.client().await;
    let waited = hangs_up_after(client.socket.into_inner()).await;
    assert!((90..=125).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_websocket_that_answers_pings_stays() {
    let server = Running::on_loopback(Limits::default());
    let mut client = server.client().await;
    pause();
    let mut pings = 0;
    let listening = async {
        while let Some(Ok(message)) = client.socket.next().await {
            assert!(message.is_ping(), "{message:?}");
            pings += 1;
        }
    };
    assert!(timeout(Duration::from_secs(600), listening).await.is_err(), "it was closed");
    assert!((18..=20).contains(&pings), "{pings}");
}

/// A client that has nothing to relay does not keep a connection open.
#[tokio::test]
async fn a_relay_websocket_without_a_pair_is_closed() {
    let server = Running::with_relay(Limits::default());
    let (socket, _) = open(server.https, "/relay", Some("wireplug.relay.v1"), &[]).await.unwrap();
    let waited = hangs_up_after(socket.into_inner()).await;
    assert!((59..=63).contains(&waited), "{waited}");
}
