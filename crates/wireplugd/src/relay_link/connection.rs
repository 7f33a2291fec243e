//! The task behind a link: connects while there are legs, writes, reads, and begins again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wireplug_net::keep_unsent_short;
use wireplug_proto::relay::Frame;

use super::{RelayEvents, Shared};
use crate::config::{ServerConfig, ServerUrl};
use crate::rendezvous::backoff::Backoff;
use crate::rendezvous::connect::{Connection, Connector, Outlook, Service, Socket};
use crate::rendezvous::race::race;
use crate::state::State;

/// Frames that are written before a flush, so that small packets share segments.
const BATCH: usize = 32;
/// Bytes that may wait unsent in the kernel: about as much as waits with us.
const UNSENT: u32 = 128 << 10;
/// How long one frame may wait for room.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long the server may say nothing: it pings every half minute.
const SILENT: Duration = Duration::from_secs(75);
/// A connection that lasted so long was a good one: the waits begin anew.
const GOOD: Duration = Duration::from_secs(10);
/// Why a connection ended that cannot have survived: the next one is tried at once.
const MOVED: &str = "the network has changed";

/// See the module.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) events: RelayEvents,
    pub(super) stop: CancellationToken,
}

impl Task {
    /// Runs until it is stopped.
    pub(super) async fn run(self, server: ServerConfig, fwmark: u32, state: Arc<State>, seed: u64) {
        let url = server.url.clone();
        let connector = match Connector::new(Service::Relay, server, fwmark, state) {
            Ok(connector) => connector,
            Err(error) => return warn!(server = %url, %error, "the relay cannot be used over TLS"),
        };
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep(&connector, &url, seed) => {}
        }
    }

    async fn keep(&self, connector: &Connector, url: &ServerUrl, seed: u64) {
        let mut backoff = Backoff::new(seed);
        let mut said = String::new();
        loop {
            while self.shared.channels().is_empty() {
                self.shared.work.notified().await;
            }
            let (why, lost) = match race(&self.shared.kicked, connector.begin(), || connector.begin()).await {
                Err(error) => (error.to_string(), false),
                Ok(connection) => {
                    info!(server = %url, "connected to the relay over TLS");
                    let began = Instant::now();
                    let ended = self.serve(connection).await;
                    let dropped = self.shared.channels().disconnected();
                    debug!(server = %url, dropped, ended, "no longer connected to the relay over TLS");
                    if began.elapsed() >= GOOD {
                        said.clear();
                        backoff.reset();
                    }
                    if ended == MOVED {
                        continue;
                    }
                    (ended.to_owned(), true)
                }
            };
            if self.shared.channels().is_empty() {
                continue;
            }
            if why != said {
                warn!(server = %url, why, "no relay over TLS; trying again until it answers");
                said = why;
            }
            let wait = if lost { backoff.lost(None) } else { backoff.next(None) };
            tokio::select! {
                () = self.shared.kicked.notified() => backoff.reset(),
                () = sleep(wait) => {}
            }
        }
    }

    /// Moves frames until the connection or the need for it ends; says why it did.
    async fn serve(&self, connection: Connection) -> &'static str {
        let ends = connection.ends();
        let Connection { socket, .. } = connection;
        if let Err(error) = keep_unsent_short(socket.get_ref().get_ref().0, UNSENT) {
            debug!(%error, "more than wanted may wait in the kernel");
        }
        self.shared.channels().connected();
        let (sink, stream) = socket.split();
        let moved = async {
            loop {
                self.shared.kicked.notified().await;
                match ends.outlook() {
                    Outlook::Dead | Outlook::Doubtful => return MOVED,
                    // If it is dead all the same, the next bind is not answered.
                    Outlook::Fair => {}
                }
            }
        };
        tokio::select! {
            why = self.write(sink) => why,
            why = self.read(stream) => why,
            why = self.watch() => why,
            why = moved => why,
        }
    }

    async fn write(&self, mut sink: SplitSink<Socket, Message>) -> &'static str {
        let failed = "the connection was lost: nothing can be sent";
        loop {
            let (mut written, empty) = (0, self.shared.channels().is_empty());
            // Not in a `while let`: its lock would be held over the await.
            loop {
                let next = self.shared.channels().next(Instant::now().into_std());
                let Some(frame) = next else { break };
                let frame = Message::Binary(frame.into());
                if !matches!(timeout(WRITE_WITHIN, sink.feed(frame)).await, Ok(Ok(()))) {
                    return failed;
                }
                written += 1;
                if written % BATCH == 0 && !matches!(timeout(WRITE_WITHIN, sink.flush()).await, Ok(Ok(()))) {
                    return failed;
                }
            }
            if written > 0 && !matches!(timeout(WRITE_WITHIN, sink.flush()).await, Ok(Ok(()))) {
                return failed;
            }
            if empty {
                let _ = timeout(WRITE_WITHIN, sink.close()).await;
                return "nothing is relayed over TLS any more";
            }
            self.shared.work.notified().await;
        }
    }

    async fn read(&self, mut stream: SplitStream<Socket>) -> &'static str {
        loop {
            let message = match timeout(SILENT, stream.next()).await {
                Err(_) => return "the relay says nothing any more",
                Ok(None | Some(Err(_))) => return "the connection was lost",
                Ok(Some(Ok(message))) => message,
            };
            let Message::Binary(message) = message else { continue };
            let Some(frame) = Frame::parse(&message) else { continue };
            let event = self.shared.channels().heard(&frame);
            if let Some(event) = event
                && self.events.send((self.number, event)).await.is_err()
            {
                return "nobody listens any more";
            }
        }
    }

    /// Waits until a bind was not answered in time.
    async fn watch(&self) -> &'static str {
        loop {
            let dead_at = self.shared.channels().dead_at();
            match dead_at {
                Some(at) if at <= Instant::now().into_std() => return "the relay does not answer any more",
                // A bind may be answered and the next one asked meanwhile.
                Some(at) => sleep_until(at.into()).await,
                None => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}
