//! A relay leg over TLS.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use wireplug_lab::{LabError, Namespace, Result};
use wireplug_proto::relay::{BindRefusal, Bound, Credential, Frame, PATH, SUBPROTOCOL};

use super::wire::{Way, Wire, within};

/// How long silence must last to be taken as such.
const SILENCE: Duration = Duration::from_millis(300);

/// A connection to the relay over TLS.
pub struct Leg {
    wire: Wire,
}

/// A frame of the relay's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A channel is bound.
    Bound(u16, Bound),
    /// A channel is not bound.
    Refused(u16, BindRefusal),
    /// A packet came.
    Packet(u16, Vec<u8>),
}

impl Leg {
    /// Connects.
    ///
    /// # Errors
    /// When the server does not take the connection.
    pub fn connect(from: &Namespace, way: Way) -> Result<Self> {
        Ok(Self { wire: Wire::open(from, way, PATH, SUBPROTOCOL)? })
    }

    /// Says a frame.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn say(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.say_raw(frame.encode())
    }

    /// Sends a packet on a channel.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn send(&mut self, channel: u16, packet: &[u8]) -> Result<()> {
        self.say(&Frame::Data { channel, packet })
    }

    /// Says bytes that may be no frame.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn say_raw(&mut self, bytes: Vec<u8>) -> Result<()> {
        let Wire { runtime, socket } = &mut self.wire;
        runtime.block_on(within("the relay to read", async {
            let sent = socket.send(Message::Binary(bytes.into())).await;
            sent.map_err(|error| LabError::unexpected(format!("the relay does not listen: {error}")))
        }))
    }

    /// Binds a channel, and gives the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn bind(&mut self, channel: u16, credential: &Credential) -> Result<Said> {
        self.say(&Frame::Bind { channel, credential: credential.clone() })?;
        loop {
            match self.hear()? {
                Said::Packet(..) => {}
                answer => return Ok(answer),
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// When none comes, or the connection ends.
    pub fn hear(&mut self) -> Result<Said> {
        let Wire { runtime, socket } = &mut self.wire;
        runtime.block_on(within("the relay to speak", next(socket)))
    }

    /// All that has come, once nothing more comes.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn drain(&mut self) -> Result<Vec<Said>> {
        let Wire { runtime, socket } = &mut self.wire;
        let mut said = Vec::new();
        runtime.block_on(async {
            while let Ok(came) = tokio::time::timeout(SILENCE, next(socket)).await {
                said.push(came?);
            }
            Ok(said)
        })
    }
}

async fn next<S>(socket: &mut S) -> Result<Said>
where
    S: futures_util::Stream<Item = std::result::Result<Message, tokio_tungstenite::tungstenite::Error>>
        + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(frame))) => {
                return match Frame::parse(&frame) {
                    Some(Frame::Bound { channel, bound }) => Ok(Said::Bound(channel, bound)),
                    Some(Frame::Refused { channel, refusal }) => Ok(Said::Refused(channel, refusal)),
                    Some(Frame::Data { channel, packet }) => Ok(Said::Packet(channel, packet.to_vec())),
                    other => Err(LabError::unexpected(format!("the relay says what clients say: {other:?}"))),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return Err(LabError::unexpected(format!("the relay connection ended: {other:?}"))),
        }
    }
}
