//! A connection to `wireplug-serverd`, as far as it takes to be given places on its relay.
//!
//! Without TLS, which the server leaves to a reverse proxy if it is told to: what the connection costs is not measured.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};
use wireplug_core::{PrivateKey, PublicKey};
use wireplug_proto::rendezvous::{Allocation, ClientMessage, SUBPROTOCOL, ServerMessage};
use wireplug_proto::{Pair, Topic};

use crate::ends::Place;
use crate::machine::in_namespace;

/// How long the server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection. What it was given is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    socket: WebSocket<TcpStream>,
    given: Vec<Topic>,
}

impl Rendezvous {
    /// Connects from `address` in the namespace of `place`.
    pub(crate) fn connect(place: &Place, address: Ipv4Addr, server: SocketAddrV4) -> Result<Self> {
        let stream = in_namespace(&place.namespace, || connect_from(address, server))
            .with_context(|| format!("cannot connect from {address} to wireplug-serverd at {server}"))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{server}/").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
        let (socket, _) = client(request, stream)
            .map_err(|error| anyhow::anyhow!("wireplug-serverd at {server} takes no WebSocket: {error}"))?;
        Ok(Self { socket, given: Vec::new() })
    }

    /// Joins the pair's topic.
    pub(crate) fn join(&mut self, pair: &Pair) -> Result<()> {
        self.say(&ClientMessage::join(pair))?;
        self.until("Join", |message| match message {
            ServerMessage::Joined { topic } if topic == pair.topic() => Some(()),
            _ => None,
        })
    }

    /// Asks for the side's place on the relay; its topic was joined.
    pub(crate) fn allocate(&mut self, pair: &Pair) -> Result<Allocation> {
        let asked = pair.topic();
        self.say(&ClientMessage::Allocate { topic: asked, access: None })?;
        let allocation = self.until("Allocate", |message| match message {
            ServerMessage::Allocated { topic, allocation } if topic == asked => Some(allocation),
            _ => None,
        })?;
        self.given.push(asked);
        Ok(allocation)
    }

    /// Goes, and keeps what it was given for as long as the server lets it.
    pub(crate) fn leave(mut self) {
        self.given.clear();
    }

    fn say(&mut self, message: &ClientMessage) -> Result<()> {
        self.socket.send(Message::Binary(message.encode().into())).context("wireplug-serverd hung up")
    }

    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(ServerMessage) -> Option<T>) -> Result<T> {
        loop {
            let message = self.socket.read();
            let message = message.with_context(|| format!("wireplug-serverd does not answer {what}"))?;
            let Message::Binary(frame) = message else { continue };
            match ServerMessage::decode(&frame)? {
                ServerMessage::Refused { about, reason, detail, .. } => {
                    bail!("wireplug-serverd refuses {about:?}: {reason:?}, {detail}")
                }
                message => {
                    if let Some(found) = wanted(message) {
                        return Ok(found);
                    }
                }
            }
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        for topic in std::mem::take(&mut self.given) {
            // Without it the server keeps the place until it expires.
            let _ = self.say(&ClientMessage::Release { topic });
        }
        // The server sees an orderly end or a hang-up; both are well.
        let _ = self.socket.close(None);
    }
}

/// A pair with keys that nobody else has, seen from both sides.
pub(crate) fn new_pair() -> Result<[Pair; 2]> {
    let secrets = [random()?, random()?];
    let publics = secrets.each_ref().map(|secret: &[u8; 32]| {
        let secret = x25519_dalek::StaticSecret::from(*secret);
        PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes())
    });
    let [a, b] = secrets.map(PrivateKey::from_bytes);
    Ok([Pair::derive(&a, &publics[1])?, Pair::derive(&b, &publics[0])?])
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("no random bytes from the system")?;
    Ok(bytes)
}

fn connect_from(address: Ipv4Addr, server: SocketAddrV4) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect_timeout(&SocketAddr::V4(server).into(), ANSWER_LIMIT)?;
    Ok(socket.into())
}
