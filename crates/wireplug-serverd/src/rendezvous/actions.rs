//! What each message of a client does, and why it is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wireplug_core::Endpoint;
use wireplug_proto::rendezvous::{About, ClientMessage, Reason, ServerMessage};
use wireplug_proto::{Commitment, JoinToken, Side, Topic, verify_join};

use super::{ConnectionId, Kind, Output, Rendezvous, Seat, ownership};
use crate::limits::AddressKey;

/// When it may help to ask again where the server or a connection is full.
const RETRY_FULL: Duration = Duration::from_secs(60);

/// Why one message is refused.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) detail: &'static str,
    pub(super) retry_after: Option<Duration>,
}

impl Rendezvous {
    pub(super) fn act(
        &mut self,
        now: Instant,
        from: ConnectionId,
        message: ClientMessage,
    ) -> Result<(), Refusal> {
        self.take(now, from, Kind::Any)?;
        match message {
            ClientMessage::Join { topic, side, token, other_commitment } => {
                self.join(now, from, topic, side, &token, &other_commitment)
            }
            ClientMessage::Leave { topic } => {
                self.leave(from, topic);
                Ok(())
            }
            ClientMessage::Publish { topic, sealed } => self.publish(now, from, topic, sealed),
            ClientMessage::Verify { id, endpoint, nonce } => self.verify(now, from, id, endpoint, nonce),
            ClientMessage::Ping { id } => {
                self.send(from, ServerMessage::Pong { id });
                Ok(())
            }
            ClientMessage::Allocate { topic, access } => self.allocate(now, from, topic, access.as_ref()),
            ClientMessage::Release { topic } => {
                self.release(from, topic);
                Ok(())
            }
            ClientMessage::Unknown => {
                Err(Refusal::new(Reason::Unsupported, "this server does not know this kind of message"))
            }
        }
    }

    fn join(
        &mut self,
        now: Instant,
        from: ConnectionId,
        topic: Topic,
        side: Side,
        token: &JoinToken,
        other: &Commitment,
    ) -> Result<(), Refusal> {
        self.take(now, from, Kind::Join)?;
        if !verify_join(&topic, side, token, other) {
            return Err(Refusal::new(Reason::NotMember, "the token does not belong to this topic"));
        }
        let Some(connection) = self.connections.get(&from) else { return Ok(()) };
        match connection.topics.get(&topic) {
            Some(held) if *held != side => {
                return Err(Refusal::new(
                    Reason::Unsupported,
                    "one connection cannot be both sides of a topic",
                ));
            }
            None if connection.topics.len() >= self.limits.topics_per_connection => {
                return Err(Refusal::full("this connection has joined as many topics as it may"));
            }
            None if !self.topics.contains(&topic) && self.topics.len() >= self.limits.topics => {
                return Err(Refusal::full("the server has no room for more topics"));
            }
            Some(_) | None => {}
        }
        let key = connection.account;
        let seats = self.accounts.get(key).map_or(0, |account| account.seats);
        let charged = self.topics.account(&topic, side) == Some(key);
        if !charged && seats >= self.limits.topics_per_address {
            return Err(Refusal::full("this address has joined as many topics as it may"));
        }
        self.accounts.charge(key);
        let seated = self.topics.seat(topic, side, from, key, now + self.limits.offer_ttl);
        self.accounts.relieve(seated.released);
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.topics.insert(topic, side);
        }
        if let Some(old) = seated.replaced.filter(|old| *old != from) {
            if seated.placed == Some(old) {
                self.outputs.push_back(Output::Abandon { seat: Seat { topic, side, connection: old } });
            }
            if let Some(connection) = self.connections.get_mut(&old) {
                connection.topics.remove(&topic);
            }
            let detail = "a newer connection has taken this side of the topic over";
            self.send(old, Refusal::new(Reason::NotMember, detail).message(About::Join(topic)));
        }
        self.send(from, ServerMessage::Joined { topic });
        if let Some(sealed) = seated.offer {
            self.outputs.push_back(Output::Offer { to: from, topic, sealed });
        }
        if seated.called {
            self.send(from, ServerMessage::RelayCalled { topic });
        }
        Ok(())
    }

    fn leave(&mut self, from: ConnectionId, topic: Topic) {
        self.release(from, topic);
        let held = self.connections.get_mut(&from).and_then(|connection| connection.topics.remove(&topic));
        if let Some(side) = held {
            let relieved = self.topics.vacate(topic, side, None);
            self.accounts.relieve(relieved);
        }
    }

    fn publish(
        &mut self,
        now: Instant,
        from: ConnectionId,
        topic: Topic,
        sealed: Vec<u8>,
    ) -> Result<(), Refusal> {
        self.take(now, from, Kind::Publish)?;
        let held = self.connections.get(&from).and_then(|connection| connection.topics.get(&topic));
        let Some(side) = held.copied() else {
            return Err(Refusal::new(Reason::NotMember, "join the topic first"));
        };
        if sealed.len() > wireplug_proto::MAX_SEALED {
            return Err(Refusal::new(Reason::TooLarge, "the offer is longer than any offer"));
        }
        let bytes = self.topics.offer_bytes() - self.topics.offer_len(&topic, side) + sealed.len();
        if bytes > self.limits.offer_bytes {
            return Err(Refusal::full("the server has no room for more offers"));
        }
        let sealed: Arc<[u8]> = sealed.into();
        self.counts.published += 1;
        if let Some(to) = self.topics.publish(topic, side, sealed.clone()) {
            self.outputs.push_back(Output::Offer { to, topic, sealed });
        }
        Ok(())
    }

    fn verify(
        &mut self,
        now: Instant,
        from: ConnectionId,
        id: u64,
        endpoint: Endpoint,
        nonce: [u8; 16],
    ) -> Result<(), Refusal> {
        self.take(now, from, Kind::Verify)?;
        let owned = self.connections.get(&from).and_then(|connection| connection.owned.owns(endpoint, now));
        let Some(heard) = owned else {
            let detail = "send a STUN request with this connection's token from that address first";
            return Err(Refusal::new(Reason::NotYours, detail));
        };
        let contacts = self.contacts.of(endpoint.ip());
        let Some(departure) = ownership::departure(&self.sources, endpoint, heard, contacts) else {
            let detail = "the server has no address left that this one never sent to";
            return Err(Refusal::new(Reason::Unsupported, detail));
        };
        self.targets.take(AddressKey::of(endpoint.ip()), now).map_err(Refusal::too_often)?;
        self.counts.probes += 1;
        self.outputs.push_back(Output::Probe { by: from, id, endpoint, nonce, from: departure });
        Ok(())
    }

    /// Takes one message of a kind from the connection's share and from its address's.
    pub(super) fn take(&mut self, now: Instant, from: ConnectionId, kind: Kind) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get_mut(&from) else { return Ok(()) };
        connection.buckets.take(kind, &self.limits.per_connection, now).map_err(Refusal::too_often)?;
        let Some(account) = self.accounts.get(connection.account) else { return Ok(()) };
        account.buckets.take(kind, &self.limits.per_address, now).map_err(Refusal::too_often)
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        to: ConnectionId,
        about: About,
        refusal: Refusal,
        strikes: usize,
    ) {
        let Some(connection) = self.connections.get_mut(&to) else { return };
        let out = (0..strikes).any(|_| connection.strikes.take(self.limits.strikes, now).is_err());
        self.counts.refused += 1;
        self.send(to, refusal.message(about));
        if out {
            self.disconnect(now, to);
            self.outputs.push_back(Output::Close { connection: to, why: "refused too often" });
        }
    }
}

impl Refusal {
    pub(super) const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail, retry_after: None }
    }

    const fn full(detail: &'static str) -> Self {
        Self { reason: Reason::Full, detail, retry_after: Some(RETRY_FULL) }
    }

    const fn too_often(retry_after: Duration) -> Self {
        Self { reason: Reason::RateLimited, detail: "too often", retry_after: Some(retry_after) }
    }

    fn message(self, about: About) -> ServerMessage {
        let Self { reason, detail, retry_after } = self;
        ServerMessage::Refused { about, reason, detail: detail.to_owned(), retry_after }
    }
}
