//! The task behind a connection: connects, moves messages, waits, and begins again.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wireplug_proto::rendezvous::{About, ServerMessage};

use super::backoff::Backoff;
use super::connect::{ConnectError, Connection, Connector, Outlook, Service, Socket};
use super::race::{Try, race};
use super::{Event, Shared};
use crate::config::{ServerConfig, ServerUrl};
use crate::state::State;

/// How long one message may wait for room in the socket.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long the end of a connection may take: what is left is to leave topics.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// A connection that lasted so long was a good one: the waits begin anew.
const GOOD: Duration = Duration::from_secs(30);
/// How long a connection whose address is still right has to show that it works on another network, before a new one is
/// begun beside it: longer than most servers are away, so that a change that concerns nothing costs one ping.
const RIVAL_AFTER: Duration = Duration::from_millis(250);
/// How long after this host moved a server that it does not reach yet is likely there all the same.
const LIKELY: Duration = Duration::from_secs(10);
/// How many different reasons are remembered as said.
const MAX_SAID: usize = 16;

/// Runs until it is stopped; then leaves what it was told to leave and closes.
pub(super) async fn run(
    shared: Arc<Shared>,
    server: ServerConfig,
    fwmark: u32,
    state: Arc<State>,
    seed: u64,
    stop: CancellationToken,
) {
    let url = server.url.clone();
    let connector = match Connector::new(Service::Rendezvous, server, fwmark, state) {
        Ok(connector) => connector,
        Err(error) => {
            warn!(server = %url, %error, "the server cannot be used");
            shared.close(error.to_string(), false);
            return;
        }
    };
    let mut backoff = Backoff::new(seed);
    let mut said = Said { url, reasons: BTreeSet::new() };
    // Of networks that change while a rival is under way.
    let again = Notify::new();
    let mut rival: Option<Rival<'_>> = None;
    let mut moved: Option<Instant> = None;
    loop {
        let first = rival.take().unwrap_or_else(|| connector.begin());
        let connected = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            connected = race(&shared.kicked, first, || connector.begin()) => connected,
        };
        let (why, wait) = match connected {
            Err(error) => (error.to_string(), backoff.next(None)),
            Ok(connection) => {
                moved = None;
                let mut asked = None;
                let began = Instant::now();
                let ended =
                    serve(&shared, connection, (&connector, &again), &stop, &mut said, &mut asked).await;
                if began.elapsed() >= GOOD {
                    backoff.reset();
                }
                match ended {
                    Ended::Stopped => return,
                    Ended::Moved => {
                        moved = Some(Instant::now());
                        shared.close("the network has changed; connecting again".to_owned(), true);
                        continue;
                    }
                    Ended::Replaced(by) => {
                        moved = Some(Instant::now());
                        shared.close("the network has changed; connecting again".to_owned(), true);
                        rival = Some(by);
                        continue;
                    }
                    Ended::Lost(why) => (why, backoff.lost(asked)),
                }
            }
        };
        said.say(&why, wait);
        shared.close(why, moved.is_some_and(|at| at.elapsed() < LIKELY));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.kicked.notified() => backoff.reset(),
            () = sleep(wait) => {}
        }
    }
}

/// Why a connection is no more.
enum Ended<'a> {
    Stopped,
    Moved,
    /// It did not show that it works on the new network before this one did, or in time: this one may go on.
    Replaced(Rival<'a>),
    Lost(String),
}

async fn serve<'a>(
    shared: &Shared,
    connection: Connection,
    (connector, again): (&'a Connector, &'a Notify),
    stop: &CancellationToken,
    said: &mut Said,
    asked: &mut Option<Duration>,
) -> Ended<'a> {
    let ends = connection.ends();
    let Connection { mut socket, server, .. } = connection;
    let mut rival: Option<Rival<'a>> = None;
    let lost = |why: &dyn std::fmt::Display| Ended::Lost(format!("the connection was lost: {why}"));
    shared.session().opened(now(), server);
    loop {
        if let Err(why) = flush(shared, &mut socket).await {
            return lost(&why);
        }
        let due = shared.session().poll_timeout();
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                let _ = timeout(CLOSE_WITHIN, goodbye(shared, &mut socket)).await;
                return Ended::Stopped;
            }
            () = shared.kicked.notified() => {
                let head_start = match ends.outlook() {
                    Outlook::Dead => return Ended::Moved,
                    Outlook::Doubtful => Duration::ZERO,
                    Outlook::Fair => RIVAL_AFTER,
                };
                shared.session().kick(now());
                if rival.is_some() {
                    again.notify_one();
                } else {
                    rival = Some(Box::pin(async move {
                        sleep(head_start).await;
                        race(again, connector.begin(), || connector.begin()).await
                    }));
                }
            }
            connected = finished(&mut rival) => match connected {
                Ok(connection) => return Ended::Replaced(Box::pin(ready(Ok(connection)))),
                Err(error) => debug!(server = %said.url, %error, "no connection beside the one on trial"),
            },
            () = shared.work.notified() => {}
            frame = socket.next() => match message(frame) {
                Err(why) => return lost(&why),
                Ok(None) => {}
                Ok(Some(message)) => {
                    let event = shared.session().handle(now(), message);
                    rival = rival.filter(|_| shared.session().is_on_trial());
                    if let Some(event) = event {
                        note(&event, said, asked);
                        shared.subscribers.tell(&event);
                    }
                }
            },
            () = until(due) => {
                let result = shared.session().handle_timeout(now());
                match (result, rival.take()) {
                    (Ok(()), running) => rival = running,
                    (Err(_), Some(running)) => return Ended::Replaced(running),
                    (Err(why), None) => return lost(&why),
                }
            }
        }
    }
}

/// Says everything that is to be said now, in as few packets as it fits.
async fn flush(shared: &Shared, socket: &mut Socket) -> Result<(), String> {
    let mut any = false;
    loop {
        let Some(message) = shared.session().poll_send(now()) else { break };
        any = true;
        in_time(socket.feed(Message::binary(message.encode()))).await?;
    }
    if any { in_time(socket.flush()).await } else { Ok(()) }
}

async fn in_time(write: impl Future<Output = Result<(), WsError>>) -> Result<(), String> {
    match timeout(WRITE_WITHIN, write).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing could be sent for {} s", WRITE_WITHIN.as_secs())),
    }
}

async fn goodbye(shared: &Shared, socket: &mut Socket) {
    if flush(shared, socket).await.is_ok() {
        // The server will notice anyhow.
        let _ = socket.close(None).await;
    }
}

/// What a frame says; `None` for those of the WebSocket's own.
fn message(frame: Option<Result<Message, WsError>>) -> Result<Option<ServerMessage>, String> {
    match frame {
        None => Err("it was closed".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(Message::Binary(bytes))) => {
            ServerMessage::decode(&bytes).map(Some).map_err(|error| error.to_string())
        }
        Some(Ok(Message::Close(frame))) => Err(match frame {
            Some(frame) if !frame.reason.is_empty() => {
                let reason: String = frame.reason.chars().filter(|c| !c.is_control()).take(200).collect();
                format!("the server closed it: {reason}")
            }
            _ => "the server closed it".to_owned(),
        }),
        Some(Ok(Message::Text(_))) => Err("the server sent text, which has no meaning here".to_owned()),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
    }
}

/// Logs an event and notes how long the server wants us to stay away.
fn note(event: &Event, said: &mut Said, asked: &mut Option<Duration>) {
    match event {
        Event::Up { stun, .. } => said.up(stun.len()),
        Event::Refused { about: About::Connection, detail, retry_after, .. } => {
            *asked = *retry_after;
            said.say(&format!("the server refuses us: {detail}"), retry_after.unwrap_or_default());
        }
        Event::Refused { about, reason, detail, retry_after } => {
            debug!(server = %said.url, ?about, ?reason, detail, ?retry_after, "refused");
        }
        Event::Down { .. }
        | Event::Offer { .. }
        | Event::Probed { .. }
        | Event::Allocated { .. }
        | Event::RelayCalled { .. } => {}
    }
}

/// A connection that is made beside one that may not live.
type Rival<'a> = Try<'a, Connection, ConnectError>;

/// What came of a rival, if there is one; then there is none any more.
async fn finished(rival: &mut Option<Rival<'_>>) -> Result<Connection, ConnectError> {
    let Some(running) = rival else { return std::future::pending().await };
    let connected = running.await;
    *rival = None;
    connected
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn until(due: Option<(std::time::Instant, &'static str)>) {
    match due {
        Some((at, _)) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn close(&self, why: String, moved: bool) {
        let event = self.session().closed(why, moved);
        if let Some(event) = event {
            self.subscribers.tell(&event);
        }
    }
}

/// Says each reason once, until it works again.
struct Said {
    url: ServerUrl,
    reasons: BTreeSet<String>,
}

impl Said {
    fn say(&mut self, why: &str, wait: Duration) {
        let retry_ms = wait.as_millis();
        if self.reasons.contains(why) || self.reasons.len() >= MAX_SAID {
            debug!(server = %self.url, why, retry_ms, "still no server");
        } else {
            warn!(server = %self.url, why, "no server; trying again until it answers");
            self.reasons.insert(why.to_owned());
        }
    }

    fn up(&mut self, stun: usize) {
        info!(server = %self.url, stun_families = stun, "connected to the server");
        self.reasons.clear();
    }
}
