//! Where the event loops meet: feeds what arrives to the state machines and carries out what they say.
//!
//! One lock around both. The server runs on one thread, so nobody waits for it; it is never held over an
//! `await`, and it is what keeps the order of messages to one connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wireplug_core::{Endpoint, TransactionId};
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, ServerMessage};
use wireplug_proto::stun::{MAX_MESSAGE, probe};

use crate::access::AccessList;
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::places::Places;
use crate::random;
use crate::rendezvous::{ConnectError, ConnectionId, Counts, Departure, Output, Rendezvous};
use crate::stun::{Datagram, Public, Responder};
use crate::udp::UdpSockets;

/// A pause after an error of a UDP socket, so that one that stays costs no CPU.
const RETRY_RECEIVE: Duration = Duration::from_millis(100);
/// When a probe that the system did not take may be asked for again.
const RETRY_PROBE: Duration = Duration::from_secs(1);

/// All that the server knows, and its UDP sockets.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    udp: UdpSockets,
    places: Option<Places>,
    timer: Notify,
    outbox_capacity: usize,
}

#[derive(Debug)]
struct State {
    rendezvous: Rendezvous,
    responder: Responder,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    /// What the timer waits for.
    timer: Option<Instant>,
}

impl Hub {
    /// `relay` is the relay, if there is one, and who may use it.
    pub(crate) fn new(
        limits: Limits,
        udp: UdpSockets,
        public: Public,
        relay: Option<(Places, AccessList)>,
    ) -> Self {
        let stun = public.announce(&udp.configured());
        let responder = Responder::new(udp.places().to_vec(), public, limits.stun, limits.sources);
        // One offer for each topic, one notice that it was taken over, and answers to what is being read.
        let outbox_capacity = 2 * limits.topics_per_connection + 64;
        let rendezvous = Rendezvous::new(limits, stun, udp.probe_sources());
        let (places, rendezvous) = match relay {
            Some((places, access)) => (Some(places), rendezvous.with_relay(access)),
            None => (None, rendezvous),
        };
        let state = State { rendezvous, responder, outboxes: HashMap::new(), timer: None };
        Self { state: Mutex::new(state), udp, places, timer: Notify::new(), outbox_capacity }
    }

    /// The UDP sockets.
    pub(crate) const fn udp(&self) -> &UdpSockets {
        &self.udp
    }

    /// The relay, if there is one.
    pub(crate) const fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// How much there is.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().rendezvous.counts()
    }

    /// A WebSocket was opened.
    pub(crate) fn connect(&self, address: IpAddr) -> Result<(ConnectionId, Arc<Outbox>), ConnectError> {
        let token = random().map_err(|_| ConnectError::Full { own: false })?;
        let mut state = self.lock();
        let id = state.rendezvous.connect(now(), address, token)?;
        let outbox = Arc::new(Outbox::new(self.outbox_capacity));
        state.outboxes.insert(id, outbox.clone());
        self.pump(&mut state);
        Ok((id, outbox))
    }

    /// A binary frame arrived.
    pub(crate) fn frame(&self, from: ConnectionId, frame: &[u8]) {
        let decoded = ClientMessage::decode(frame);
        let mut state = self.lock();
        match decoded {
            Ok(message) => state.rendezvous.message(now(), from, message),
            Err(error) => state.rendezvous.malformed(now(), from, &error),
        }
        self.pump(&mut state);
    }

    /// A WebSocket has ended.
    pub(crate) fn disconnect(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.outboxes.remove(&id);
        state.rendezvous.disconnect(now(), id);
        self.pump(&mut state);
    }

    /// Receives and answers on one of the STUN sockets, for ever.
    pub(crate) async fn serve_stun(&self, index: usize) {
        let Some(socket) = self.udp.get(index) else { return };
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            let received = match socket.recv_from(&mut buffer).await {
                Ok(received) if received.truncated => continue,
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "receiving UDP failed");
                    tokio::time::sleep(RETRY_RECEIVE).await;
                    continue;
                }
            };
            let payload = &buffer[..received.length];
            self.datagram(Datagram { socket: index, from: received.from, to: received.to, payload });
        }
    }

    /// Lets expire what expires, for ever.
    pub(crate) async fn serve_time(&self) {
        loop {
            let due = {
                let mut state = self.lock();
                state.rendezvous.handle_timeout(now());
                self.pump(&mut state);
                state.timer = state.rendezvous.poll_timeout().map(|(at, _)| at);
                state.timer
            };
            match due {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.timer.notified() => {}
                },
                None => self.timer.notified().await,
            }
        }
    }

    fn datagram(&self, datagram: Datagram<'_>) {
        let now = now();
        let mut state = self.lock();
        let (heard, reply) = state.responder.handle(now, datagram);
        if let Some(heard) = heard {
            state.rendezvous.heard(now, datagram.from, heard.to, heard.token);
            self.pump(&mut state);
        }
        drop(state);
        let Some(reply) = reply else { return };
        let Some(socket) = self.udp.get(reply.socket) else { return };
        // A full buffer loses the answer, as a network may; the client asks again.
        if let Err(error) = socket.try_send_to(&reply.payload, datagram.from, reply.source) {
            tracing::debug!(%error, "a STUN answer could not be sent");
        }
    }

    /// Carries out what the rendezvous says.
    fn pump(&self, state: &mut State) {
        while let Some(output) = state.rendezvous.poll_output() {
            match output {
                Output::Send { to, message } => state.push(to, message),
                Output::Offer { to, topic, sealed } => {
                    if let Some(outbox) = state.outboxes.get(&to) {
                        outbox.push_offer(topic, sealed);
                    }
                }
                Output::Probe { by, id, endpoint, nonce, from } => {
                    state.push(by, self.probe(id, endpoint, nonce, from));
                }
                Output::Allocate { seat, address } => {
                    let Some(places) = &self.places else { continue };
                    let now = now();
                    let answer = places.allocate(now, seat, address);
                    state.rendezvous.allocated(now, seat, answer);
                }
                Output::Release { seat } => {
                    if let Some(places) = &self.places {
                        places.release(now(), seat);
                    }
                }
                Output::Abandon { seat } => {
                    if let Some(places) = &self.places {
                        places.abandon(now(), seat);
                    }
                }
                Output::Close { connection, why } => {
                    tracing::info!(?connection, why, "closing a connection");
                    if let Some(outbox) = state.outboxes.remove(&connection) {
                        outbox.close(why);
                    }
                }
            }
        }
        let due = state.rendezvous.poll_timeout().map(|(at, _)| at);
        if due.is_some_and(|due| state.timer.is_none_or(|timer| due < timer)) {
            self.timer.notify_one();
        }
    }

    /// Sends one probe, and says what to tell who asked for it.
    fn probe(&self, id: u64, endpoint: Endpoint, nonce: [u8; 16], from: Departure) -> ServerMessage {
        let sent = random().map_err(std::io::Error::other).and_then(|transaction| {
            let payload = probe::probe(TransactionId::from_bytes(transaction), &nonce);
            let socket = self.udp.get(from.socket).ok_or(std::io::ErrorKind::NotFound)?;
            socket.try_send_to(&payload, endpoint.addr(), Some(from.source))
        });
        match sent {
            Ok(()) => ServerMessage::Probed { id },
            Err(error) => {
                tracing::debug!(%error, %endpoint, "a probe could not be sent");
                ServerMessage::Refused {
                    about: About::Verify(id),
                    reason: Reason::Other,
                    detail: format!("the probe could not be sent: {error}"),
                    retry_after: Some(RETRY_PROBE),
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&self, to: ConnectionId, message: ServerMessage) {
        if let Some(outbox) = self.outboxes.get(&to) {
            outbox.push(message);
        }
    }
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
