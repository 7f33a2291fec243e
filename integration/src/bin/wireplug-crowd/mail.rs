//! A connection to the rendezvous that many members share.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use wireplug_integration::played::{Socket, Way, open};
use wireplug_lab::{LabError, Result};
use wireplug_proto::Topic;
use wireplug_proto::rendezvous::{ClientMessage, SUBPROTOCOL, ServerMessage};

use crate::member::Member;
use crate::tally::Tally;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server hears that the connection lives, as from a daemon.
const PING_EVERY: Duration = Duration::from_secs(25);

/// A member's topic, and where its offers go.
pub(crate) struct Letterbox {
    topic: Topic,
    join: ClientMessage,
    publish: ClientMessage,
    letters: mpsc::UnboundedSender<Vec<u8>>,
}

/// An open connection whose topics are joined.
pub(crate) struct Mail {
    socket: Socket,
    boxes: HashMap<Topic, mpsc::UnboundedSender<Vec<u8>>>,
    /// What came before all was joined.
    early: Vec<ServerMessage>,
}

impl Letterbox {
    pub(crate) fn of(member: &Member, letters: mpsc::UnboundedSender<Vec<u8>>) -> Self {
        let topic = member.pair().topic();
        let publish = ClientMessage::Publish { topic, sealed: member.offer() };
        Self { topic, join: ClientMessage::join(member.pair()), publish, letters }
    }
}

impl Mail {
    /// Connects, joins all topics and publishes all offers.
    pub(crate) async fn open(server: SocketAddr, boxes: Vec<Letterbox>) -> Result<Self> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| LabError::Io { what, source }
        };
        let tcp = TcpStream::connect_timeout(&server, PATIENCE).map_err(io("connect to the server"))?;
        tcp.set_nonblocking(true).map_err(io("make a connection non-blocking"))?;
        let mut socket = open(tcp, Way::Tls(server), "/", SUBPROTOCOL).await?;
        let mut waiting = boxes.len();
        for letterbox in &boxes {
            for message in [&letterbox.join, &letterbox.publish] {
                socket.feed(Message::Binary(message.encode().into())).await.map_err(|error| ended(&error))?;
            }
        }
        socket.flush().await.map_err(|error| ended(&error))?;
        let boxes = boxes.into_iter().map(|letterbox| (letterbox.topic, letterbox.letters)).collect();
        let mut mail = Self { socket, boxes, early: Vec::new() };
        while waiting > 0 {
            match mail.hear().await? {
                ServerMessage::Joined { .. } => waiting -= 1,
                ServerMessage::Refused { about, detail, .. } => {
                    return Err(LabError::unexpected(format!("the server refuses {about:?}: {detail}")));
                }
                other => mail.early.push(other),
            }
        }
        Ok(mail)
    }

    /// Hands out what comes; returns why that ended.
    pub(crate) async fn run(mut self, tally: Tally) -> LabError {
        for message in std::mem::take(&mut self.early) {
            self.deliver(message, &tally);
        }
        let mut pings = tokio::time::interval(PING_EVERY);
        loop {
            tokio::select! {
                _ = pings.tick() => {
                    let ping = ClientMessage::Ping { id: 1 }.encode();
                    if let Err(error) = self.socket.send(Message::Binary(ping.into())).await {
                        return ended(&error);
                    }
                }
                message = self.hear() => match message {
                    Ok(message) => self.deliver(message, &tally),
                    Err(error) => return error,
                },
            }
        }
    }

    fn deliver(&self, message: ServerMessage, tally: &Tally) {
        match message {
            ServerMessage::Offer { topic, sealed } => {
                tally.report().offers += 1;
                if let Some(letters) = self.boxes.get(&topic) {
                    // The port has failed, which is told elsewhere.
                    let _ = letters.send(sealed);
                }
            }
            ServerMessage::RelayCalled { .. } => tally.report().calls += 1,
            _ => {}
        }
    }

    /// The next message. Cancel-safe.
    async fn hear(&mut self) -> Result<ServerMessage> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(frame))) => {
                    return ServerMessage::decode(&frame)
                        .map_err(|error| LabError::unexpected(format!("the server babbles: {error}")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(LabError::unexpected(format!("the connection ended: {other:?}"))),
            }
        }
    }
}

fn ended(error: &tokio_tungstenite::tungstenite::Error) -> LabError {
    LabError::unexpected(format!("the server does not listen: {error}"))
}
