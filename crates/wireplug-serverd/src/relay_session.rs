//! One relay WebSocket: the packets of a client whose network lets no UDP through.
//!
//! Reading and writing go on side by side, because a client that is slow to read may still have much to say. What
//! waits to be written is bounded by the [`TlsQueue`], which drops the oldest packets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use wireplug_proto::relay::{BindRefusal, Bound, Credential, Frame};

use crate::limits::{Bucket, Rate};
use crate::places::Places;
use crate::relay::{TlsBinding, TlsLeg, TlsOutgoing, TlsQueue};
use crate::session::{IDLE, LINGER, PING_EVERY, SEND, is_too_long};

/// Packets that wait for one connection: some 10 ms at 100 Mbit/s; more would be delay rather than throughput.
const QUEUED_PACKETS: usize = 128;
/// Answers that wait for one connection: as many as there are pairs.
const QUEUED_ANSWERS: usize = CHANNELS + 64;
/// Pairs of one connection: as many as one rendezvous connection can have topics.
const CHANNELS: usize = 1024;
/// Frames that are written before a flush, so that small packets share segments.
const BATCH: usize = 32;
/// How long a connection may be without its first pair.
const UNBOUND: Duration = Duration::from_secs(60);
/// Binds of one connection: all pairs at once, and then each as often as a client checks.
const BINDS: Rate = Rate { burst: 2048, every: Duration::from_millis(10) };
/// Frames that are none, and data for channels that are not bound. A client may send some before it knows that
/// a binding has ended.
const STRAYS: Rate = Rate { burst: 4096, every: Duration::from_millis(1) };

/// Why a connection ends; `None` if there is nobody left to tell.
type End = Option<(u16, &'static str)>;

/// The reading half of one connection and what it knows.
struct Reader<'a> {
    places: &'a Places,
    queue: Arc<TlsQueue>,
    channels: HashMap<u16, TlsBinding>,
    binds: Bucket,
    strays: Bucket,
    was_bound: bool,
    heard: Instant,
}

/// Serves one connection until either side ends it, or `stop` is cancelled.
pub(crate) async fn run(socket: WebSocket, places: &Places, client: IpAddr, stop: &CancellationToken) {
    tracing::debug!(%client, "relay connected");
    let queue = Arc::new(TlsQueue::new(QUEUED_PACKETS, QUEUED_ANSWERS));
    let (mut sink, mut stream) = socket.split();
    let mut reader = Reader {
        places,
        queue: queue.clone(),
        channels: HashMap::new(),
        binds: Bucket::default(),
        strays: Bucket::default(),
        was_bound: false,
        heard: Instant::now(),
    };
    let end = tokio::select! {
        () = stop.cancelled() => Some((close_code::AWAY, "the server stops")),
        end = write(&mut sink, &queue) => end,
        end = reader.read(&mut stream) => end,
    };
    reader.unbind_all();
    tracing::debug!(%client, ?end, "relay disconnected");
    if let Some((code, why)) = end {
        close(sink, stream, code, why).await;
    }
}

/// Writes what is queued, and a ping now and then.
async fn write(sink: &mut SplitSink<WebSocket, Message>, queue: &TlsQueue) -> End {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        let first = tokio::select! {
            outgoing = queue.next() => outgoing,
            _ = ticks.tick() => {
                send(sink, Message::Ping(Vec::new().into())).await?;
                continue;
            }
        };
        let mut next = Some(first);
        for _ in 0..BATCH {
            match next {
                Some(TlsOutgoing::Frame(frame)) => feed(sink, Message::Binary(frame.into())).await?,
                Some(TlsOutgoing::Close(why)) => return Some((close_code::POLICY, why)),
                None => break,
            }
            next = queue.try_next();
        }
        match next {
            Some(TlsOutgoing::Frame(frame)) => send(sink, Message::Binary(frame.into())).await?,
            Some(TlsOutgoing::Close(why)) => return Some((close_code::POLICY, why)),
            None => flush(sink).await?,
        }
    }
}

async fn feed(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Option<()> {
    timeout(SEND, sink.feed(message)).await.ok()?.ok()
}

async fn flush(sink: &mut SplitSink<WebSocket, Message>) -> Option<()> {
    timeout(SEND, sink.flush()).await.ok()?.ok()
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Option<()> {
    timeout(SEND, sink.send(message)).await.ok()?.ok()
}

impl Reader<'_> {
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>) -> End {
        let opened = Instant::now();
        loop {
            let due = if self.was_bound { self.heard + IDLE } else { opened + UNBOUND };
            let incoming = match tokio::time::timeout_at(due, stream.next()).await {
                Ok(incoming) => incoming?,
                Err(_) if self.was_bound => return Some((close_code::AWAY, "silent for too long")),
                Err(_) => return Some((close_code::POLICY, "no pair was bound")),
            };
            self.heard = Instant::now();
            match incoming {
                Ok(Message::Binary(frame)) => {
                    if let Err(end) = self.frame(&frame) {
                        return Some(end);
                    }
                }
                Ok(Message::Text(_)) => return Some((close_code::UNSUPPORTED, "binary frames only")),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) => return None,
                Err(error) if is_too_long(&error) => {
                    return Some((close_code::SIZE, "longer than any packet"));
                }
                Err(error) => {
                    tracing::debug!(%error, "a relay connection broke");
                    return None;
                }
            }
        }
    }
    fn frame(&mut self, frame: &[u8]) -> Result<(), (u16, &'static str)> {
        let now = Instant::now().into_std();
        match Frame::parse(frame) {
            Some(Frame::Data { channel, packet }) => match self.channels.get(&channel) {
                Some(binding) => self.places.forwarder().from_tls(now, *binding, packet),
                None => return self.stray(now),
            },
            Some(Frame::Bind { channel, credential }) => {
                let answer = match self.bind(now, channel, &credential) {
                    Ok(bound) => Frame::Bound { channel, bound },
                    Err(refusal) => Frame::Refused { channel, refusal },
                };
                self.queue.push_answer(answer.encode());
            }
            Some(Frame::Unbind { channel }) => {
                if let Some(binding) = self.channels.remove(&channel) {
                    self.places.relay().unbind_tls(now, binding);
                }
            }
            Some(Frame::Bound { .. } | Frame::Refused { .. }) | None => return self.stray(now),
        }
        Ok(())
    }

    fn bind(
        &mut self,
        now: std::time::Instant,
        channel: u16,
        credential: &Credential,
    ) -> Result<Bound, BindRefusal> {
        self.binds.take(BINDS, now).map_err(|_| BindRefusal::Full)?;
        if self.channels.len() >= CHANNELS && !self.channels.contains_key(&channel) {
            return Err(BindRefusal::Full);
        }
        let leg = TlsLeg { queue: self.queue.clone(), channel };
        let bound = self.places.relay().bind_tls(now, credential, leg);
        let former = match &bound {
            Ok((binding, _)) => self.channels.insert(channel, *binding).filter(|former| former != binding),
            Err(_) => self.channels.remove(&channel),
        };
        if let Some(former) = former {
            self.places.relay().unbind_tls(now, former);
        }
        self.was_bound |= bound.is_ok();
        bound.map(|(_, bound)| bound)
    }

    fn stray(&mut self, now: std::time::Instant) -> Result<(), (u16, &'static str)> {
        let many = self.strays.take(STRAYS, now).is_err();
        if many { Err((close_code::POLICY, "too many frames that are for nobody")) } else { Ok(()) }
    }

    fn unbind_all(&mut self) {
        let now = Instant::now().into_std();
        for (_, binding) in self.channels.drain() {
            self.places.relay().unbind_tls(now, binding);
        }
    }
}

/// Closes in the way of RFC 6455 section 7.1: says why, and waits a little for the client to hang up.
async fn close(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    code: u16,
    why: &'static str,
) {
    let frame = CloseFrame { code, reason: why.into() };
    let goodbye = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    timeout(LINGER, goodbye).await.ok();
}
