//! One WebSocket connection, from its greeting to its end.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use wireplug_proto::rendezvous::{About, Reason, ServerMessage};

use crate::hub::Hub;
use crate::outbox::{Outbox, Outgoing};
use crate::rendezvous::{ConnectError, ConnectionId};

/// How often a client is asked for a sign of life: often enough to keep a NAT's TCP mapping (RFC 5382 section 5
/// lets it forget one after two hours, but many do after minutes).
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that was silent for so long is gone: it missed two pings and had time for a third.
pub(crate) const IDLE: Duration = Duration::from_secs(90);
/// How long a client may take to read one message.
pub(crate) const SEND: Duration = Duration::from_secs(20);
/// How long a client may take to answer a close.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// "Try again later", registered with IANA for RFC 6455 section 11.7.
const TRY_AGAIN_LATER: u16 = 1013;

/// Serves one connection until either side ends it, or `stop` is cancelled.
pub(crate) async fn run(mut socket: WebSocket, hub: &Hub, client: IpAddr, stop: &CancellationToken) {
    let (id, outbox) = match hub.connect(client) {
        Ok(connected) => connected,
        Err(error) => return refuse(socket, error).await,
    };
    tracing::debug!(?id, %client, "connected");
    let end = serve(&mut socket, hub, id, &outbox, stop).await;
    hub.disconnect(id);
    tracing::debug!(?id, ?end, "disconnected");
    if let Some((code, why)) = end {
        close(socket, code, why).await;
    }
}

/// Gives the code to close with; `None` if there is nobody left to tell.
async fn serve(
    socket: &mut WebSocket,
    hub: &Hub,
    id: ConnectionId,
    outbox: &Outbox,
    stop: &CancellationToken,
) -> Option<(u16, &'static str)> {
    let mut heard = Instant::now();
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        // What is to be told goes first: a client that does not read is not read either.
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return Some((close_code::AWAY, "the server stops")),
            outgoing = outbox.next() => match outgoing {
                Outgoing::Frame(frame) => Message::Binary(frame.into()),
                Outgoing::Close(why) => return Some((close_code::POLICY, why)),
            },
            incoming = socket.recv() => {
                heard = Instant::now();
                match incoming? {
                    Ok(Message::Binary(frame)) => hub.frame(id, &frame),
                    Ok(Message::Text(_)) => return Some((close_code::UNSUPPORTED, "binary frames only")),
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(Message::Close(_)) => return None,
                    Err(error) if is_too_long(&error) => {
                        return Some((close_code::SIZE, "a frame has at most 4096 bytes"));
                    }
                    Err(error) => {
                        tracing::debug!(?id, %error, "a connection broke");
                        return None;
                    }
                }
                continue;
            },
            _ = ticks.tick() => {
                if heard.elapsed() >= IDLE {
                    return Some((close_code::AWAY, "silent for too long"));
                }
                Message::Ping(Vec::new().into())
            },
        };
        match timeout(SEND, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

/// Tells a client that there is no room for it.
async fn refuse(mut socket: WebSocket, error: ConnectError) {
    let (reason, retry_after) = match error {
        ConnectError::Full { .. } => (Reason::Full, Duration::from_secs(60)),
        ConnectError::TooOften { retry_after } => (Reason::RateLimited, retry_after),
    };
    let refused = ServerMessage::Refused {
        about: About::Connection,
        reason,
        detail: error.to_string(),
        retry_after: Some(retry_after),
    };
    let sent = timeout(SEND, socket.send(Message::Binary(refused.encode().into()))).await;
    if matches!(sent, Ok(Ok(()))) {
        close(socket, TRY_AGAIN_LATER, "no room").await;
    }
}

/// Closes in the way of RFC 6455 section 7.1: says why, and waits a little for the client to hang up.
async fn close(mut socket: WebSocket, code: u16, why: &'static str) {
    let frame = CloseFrame { code, reason: why.into() };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    timeout(LINGER, goodbye).await.ok();
}

/// Whether the WebSocket library refused a frame for its length.
pub(crate) fn is_too_long(error: &axum::Error) -> bool {
    // axum hides the library's own type; its message is what is left.
    error.to_string().contains("too long")
}
