//! A daemon's connection to the rendezvous.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use wireplug_lab::{LabError, Namespace, Result};
use wireplug_proto::Pair;
use wireplug_proto::rendezvous::{
    About, AccessToken, Allocation, ClientMessage, Reason, SUBPROTOCOL, ServerMessage,
};

use super::wire::{Way, Wire, within};

/// A connection to the rendezvous.
pub struct Member {
    wire: Wire,
}

/// What the server said to a request for a place on the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A place.
    Allocated(Allocation),
    /// None.
    Refused {
        /// Why.
        reason: Reason,
        /// The same for people.
        detail: String,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

impl Member {
    /// Connects and is greeted.
    ///
    /// # Errors
    /// When the server does not take the connection.
    pub fn connect(from: &Namespace, way: Way) -> Result<Self> {
        let mut member = Self { wire: Wire::open(from, way, "/", SUBPROTOCOL)? };
        match member.hear()? {
            ServerMessage::Hello { .. } => Ok(member),
            other => Err(LabError::unexpected(format!("not greeted: {other:?}"))),
        }
    }

    /// Connects and joins a pair's topic.
    ///
    /// # Errors
    /// As [`Member::connect`].
    pub fn join(from: &Namespace, way: Way, pair: &Pair) -> Result<Self> {
        let mut member = Self::connect(from, way)?;
        member.say(&ClientMessage::join(pair))?;
        Ok(member)
    }

    /// Says something.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn say(&mut self, message: &ClientMessage) -> Result<()> {
        let Wire { runtime, socket } = &mut self.wire;
        runtime.block_on(within("the server to read", async {
            let sent = socket.send(Message::Binary(message.encode().into())).await;
            sent.map_err(|error| LabError::unexpected(format!("the server does not listen: {error}")))
        }))
    }

    /// The next message.
    ///
    /// # Errors
    /// When none comes, or the connection ends.
    pub fn hear(&mut self) -> Result<ServerMessage> {
        let Wire { runtime, socket } = &mut self.wire;
        runtime.block_on(within("the server to speak", async {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Binary(frame))) => {
                        return ServerMessage::decode(&frame)
                            .map_err(|error| LabError::unexpected(format!("the server babbles: {error}")));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return Err(LabError::unexpected(format!("the connection ended: {other:?}"))),
                }
            }
        }))
    }

    /// All that the server has said by now.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn said(&mut self) -> Result<Vec<ServerMessage>> {
        self.say(&ClientMessage::Ping { id: 77 })?;
        let mut said = Vec::new();
        loop {
            match self.hear()? {
                ServerMessage::Pong { id: 77 } => return Ok(said),
                message => said.push(message),
            }
        }
    }

    /// Asks for a place on the relay, and waits for the answer; what else the server says meanwhile is lost.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&mut self, pair: &Pair, token: Option<&str>) -> Result<Answer> {
        let access = token
            .map(|token| AccessToken::new(token.to_owned()))
            .transpose()
            .map_err(|error| LabError::unexpected(error.to_string()))?;
        self.say(&ClientMessage::Allocate { topic: pair.topic(), access })?;
        loop {
            match self.hear()? {
                ServerMessage::Allocated { topic, allocation } if topic == pair.topic() => {
                    return Ok(Answer::Allocated(allocation));
                }
                ServerMessage::Refused { about: About::Allocate(topic), reason, detail, retry_after }
                    if topic == pair.topic() =>
                {
                    return Ok(Answer::Refused { reason, detail, retry_after });
                }
                _ => {}
            }
        }
    }

    /// A place on the relay.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn allocate(&mut self, pair: &Pair) -> Result<Allocation> {
        match self.ask(pair, None)? {
            Answer::Allocated(allocation) => Ok(allocation),
            refused @ Answer::Refused { .. } => Err(LabError::unexpected(format!("no place: {refused:?}"))),
        }
    }
}
