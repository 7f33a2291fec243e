//! One connection of a daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;
use wireplug_core::TransactionId;
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, SUBPROTOCOL, ServerMessage};
use wireplug_proto::stun::probe::probe;

use super::Shared;
use super::stun::send;
use super::temper::{Babble, Temper};
use crate::random;

/// What `Hello` says.
const OFFER_TTL: Duration = Duration::from_secs(120);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Serves a connection as the server's temper says, until either side ends it.
pub(super) async fn run(shared: Arc<Shared>, tcp: TcpStream, tls: TlsAcceptor, probes: Arc<UdpSocket>) {
    let babble = shared.mailboxes().next_babble();
    if babble == Some(Babble::HangsUp) {
        return;
    }
    if babble == Some(Babble::HoldsOff) {
        let (outbox, mut outgoing) = mpsc::unbounded_channel();
        shared.mailboxes().connect(outbox);
        while outgoing.recv().await.is_some() {}
        return;
    }
    let Ok(mut tls) = tls.accept(tcp).await else { return };
    if babble == Some(Babble::IsSomethingElse) {
        let _ = tls.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = tls.shutdown().await;
        return;
    }
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(tls, with_subprotocol).await else { return };
    if babble != Some(Babble::IsSilent) {
        let stun = shared.stun.to_vec();
        let hello = ServerMessage::Hello { token: random(), stun, offer_ttl: OFFER_TTL };
        if say(&mut socket, &hello).await.is_err() {
            return;
        }
    }
    for word in babble.map(Babble::words).unwrap_or_default() {
        if socket.send(word).await.is_err() {
            return;
        }
    }
    match babble {
        None | Some(Babble::IsSilent) => serve(&shared, &mut socket, &probes, babble.is_some()).await,
        // What was said is to be read, so the client may hang up first.
        Some(_) if socket.close(None).await.is_ok() => while let Some(Ok(_)) = socket.next().await {},
        Some(_) => {}
    }
}

/// The callback's type is the library's.
#[expect(clippy::result_large_err, clippy::unnecessary_wraps)]
fn with_subprotocol(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

async fn serve(shared: &Shared, socket: &mut Socket, probes: &UdpSocket, deaf: bool) {
    let (outbox, mut outgoing) = mpsc::unbounded_channel();
    let id = shared.mailboxes().connect(outbox);
    loop {
        let done = tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => say(socket, &message).await.is_err(),
                None => true,
            },
            frame = socket.next() => match frame {
                Some(Ok(Message::Binary(_))) if deaf => false,
                Some(Ok(Message::Binary(frame))) => {
                    match ClientMessage::decode(&frame) {
                        Ok(message) => hear(shared, id, message, socket, probes).await.is_err(),
                        Err(_) => true,
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => false,
                Some(Ok(_) | Err(_)) | None => true,
            },
        };
        if done {
            break;
        }
    }
    shared.mailboxes().disconnect(id);
}

/// The other end is gone.
struct Gone;

async fn hear(
    shared: &Shared,
    id: usize,
    message: ClientMessage,
    socket: &mut Socket,
    probes: &UdpSocket,
) -> Result<(), Gone> {
    match message {
        ClientMessage::Join { topic, side, .. } => shared.mailboxes().join(id, topic, side),
        ClientMessage::Leave { topic } => shared.mailboxes().leave(id, topic),
        ClientMessage::Publish { topic, sealed } => shared.mailboxes().publish(id, topic, sealed),
        ClientMessage::Verify { id, endpoint, nonce } => {
            let lies = matches!(shared.mailboxes().temper(), Temper::LiesInStun(_));
            if !lies {
                send(probes, &probe(TransactionId::from_bytes(random()), &nonce), endpoint.addr()).await;
            }
            return say(socket, &ServerMessage::Probed { id }).await;
        }
        ClientMessage::Ping { id } => return say(socket, &ServerMessage::Pong { id }).await,
        ClientMessage::Allocate { topic, .. } => {
            let (about, reason) = (About::Allocate(topic), Reason::Unsupported);
            let detail = "this server does not relay".to_owned();
            return say(socket, &ServerMessage::Refused { about, reason, detail, retry_after: None }).await;
        }
        ClientMessage::Release { .. } | ClientMessage::Unknown => {}
    }
    Ok(())
}

async fn say(socket: &mut Socket, message: &ServerMessage) -> Result<(), Gone> {
    socket.send(Message::binary(message.encode())).await.map_err(|_| Gone)
}
