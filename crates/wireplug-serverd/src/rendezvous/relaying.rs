//! Asking for a place on the relay: who may, what the relay is told, and whom it is told to.

use std::time::{Duration, Instant};

use wireplug_proto::rendezvous::{About, AccessToken, Allocation, Reason, ServerMessage};
use wireplug_proto::{Side, Topic};

use super::actions::Refusal;
use super::{ConnectionId, Kind, Output, Rendezvous};
use crate::access::Denied;

/// One connection's part in a pair's place on the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The pair's mailbox.
    pub topic: Topic,
    /// Which side the connection is.
    pub side: Side,
    /// The connection. It has a credential of its own.
    pub connection: ConnectionId,
}

/// Why the relay gives no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlace {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub detail: &'static str,
    /// When asking again may help.
    pub retry_after: Option<Duration>,
}

impl Rendezvous {
    pub(super) fn allocate(
        &mut self,
        now: Instant,
        from: ConnectionId,
        topic: Topic,
        access: Option<&AccessToken>,
    ) -> Result<(), Refusal> {
        self.take(now, from, Kind::Allocate)?;
        let Some(list) = &self.relay else {
            return Err(Refusal::new(Reason::Unsupported, "the relay of this server is turned off"));
        };
        list.admit(access).map_err(|denied| {
            self.counts.denied += 1;
            Refusal::new(
                Reason::Denied,
                match denied {
                    Denied::NoToken => "the relay of this server is private: it asks for a token",
                    Denied::WrongToken => "the relay of this server does not know the token",
                },
            )
        })?;
        let Some(connection) = self.connections.get(&from) else { return Ok(()) };
        let Some(side) = connection.topics.get(&topic).copied() else {
            return Err(Refusal::new(Reason::NotMember, "join the topic first"));
        };
        let address = connection.account;
        self.outputs.push_back(Output::Allocate { seat: Seat { topic, side, connection: from }, address });
        Ok(())
    }

    /// What the relay said to an [`Output::Allocate`]. The other side is told that it is needed there, unless it
    /// has asked already.
    pub fn allocated(&mut self, now: Instant, seat: Seat, answer: Result<Allocation, NoPlace>) {
        let Seat { topic, side, connection } = seat;
        let allocation = match answer {
            Ok(allocation) => allocation,
            Err(NoPlace { reason, detail, retry_after }) => {
                let refusal = Refusal { retry_after, ..Refusal::new(reason, detail) };
                return self.refuse(now, connection, About::Allocate(topic), refusal, 1);
            }
        };
        let called = self.topics.place(topic, side, connection);
        self.send(connection, ServerMessage::Allocated { topic, allocation });
        if let Some(other) = called {
            self.send(other, ServerMessage::RelayCalled { topic });
        }
    }

    pub(super) fn release(&mut self, from: ConnectionId, topic: Topic) {
        let side = self.connections.get(&from).and_then(|connection| connection.topics.get(&topic)).copied();
        if let Some(side) = side
            && self.topics.unplace(topic, side, from)
        {
            let seat = Seat { topic, side, connection: from };
            self.outputs.push_back(Output::Release { seat });
        }
    }

    /// A connection no longer holds a side: the relay is told, if it has given it a place.
    pub(super) fn abandon(&mut self, topic: Topic, side: Side, connection: ConnectionId) {
        if self.topics.is_placed(&topic, side, connection) {
            self.outputs.push_back(Output::Abandon { seat: Seat { topic, side, connection } });
        }
    }
}
