//! What a daemon and its server tell each other.
//!
//! Over a secure WebSocket with the subprotocol [`SUBPROTOCOL`]; one binary frame is one message, at most
//! [`MAX_FRAME`] bytes. The encoding has numbered fields (Protocol Buffers, declared beside each codec), so
//! that later versions can add fields and kinds: an unknown field is skipped, an unknown kind decodes to
//! `Unknown` and is to be ignored.

mod access;
mod client;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use wireplug_core::Endpoint;

use crate::offer::{ip_bytes, socket_addr};
use crate::pair::{Commitment, JoinToken, Side, Topic};
use crate::relay::Credential;

pub use access::{AccessToken, BadAccessToken};

/// The WebSocket subprotocol (RFC 6455 section 1.9) of this version.
pub const SUBPROTOCOL: &str = "wireplug.v1";
/// The longest frame in bytes, in both directions: the longest sealed offer and its envelope, twice over.
pub const MAX_FRAME: usize = 4096;
/// The most addresses of a `Hello`: two, for each of two families, and room for as many again.
pub const MAX_STUN: usize = 8;
/// The most addresses of an `Allocated`.
pub const MAX_RELAYS: usize = 8;
/// The longest explanation of a refusal, in characters.
pub const MAX_DETAIL: usize = 200;

/// What a daemon says to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Wants the offers of a topic, now and as they come; answered by [`ServerMessage::Joined`].
    Join {
        /// The pair's mailbox.
        topic: Topic,
        /// Which side the sender is.
        side: Side,
        /// Shows that the sender knows the pair's secret ([`crate::verify_join`]).
        token: JoinToken,
        /// The other side's token, hashed.
        other_commitment: Commitment,
    },
    /// Wants no more of a topic, and its own offer there forgotten.
    Leave {
        /// The pair's mailbox.
        topic: Topic,
    },
    /// Replaces the sender's offer in a topic that it joined.
    Publish {
        /// The pair's mailbox.
        topic: Topic,
        /// At most [`crate::MAX_SEALED`] bytes, from [`crate::Pair::seal`].
        sealed: Vec<u8>,
    },
    /// Asks for one probe ([`crate::stun::probe`]) to an address of the sender's.
    Verify {
        /// Chosen by the sender, comes back in the answer.
        id: u64,
        /// Where to send it.
        endpoint: Endpoint,
        /// What to send.
        nonce: [u8; 16],
    },
    /// Answered by [`ServerMessage::Pong`].
    Ping {
        /// Comes back in the answer.
        id: u64,
    },
    /// Wants a place on the relay for a pair whose topic was joined; answered by [`ServerMessage::Allocated`].
    /// Asked again on the same connection, it gets the same credential.
    Allocate {
        /// The pair's mailbox.
        topic: Topic,
        /// What the server's access list asks for, if it has one.
        access: Option<AccessToken>,
    },
    /// Needs the place on the relay no more: this side's bindings end at once.
    Release {
        /// The pair's mailbox.
        topic: Topic,
    },
    /// A kind of a later version: to be ignored, or refused as [`Reason::Unsupported`].
    Unknown,
}

/// What the server says to a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// First of all, once.
    Hello {
        /// Shown in a STUN request from the WireGuard port, it makes that address this connection's own.
        token: [u8; 16],
        /// Where the server answers STUN: for each family the primary address first, then, if there is
        /// one, the secondary. An unspecified IP stands for the host that the daemon is connected to.
        /// At most [`MAX_STUN`]; never port 0 or an address that UDP cannot be sent to.
        stun: Vec<SocketAddr>,
        /// How long an offer is kept unless it is published again; whole seconds.
        offer_ttl: Duration,
    },
    /// A [`ClientMessage::Join`] was accepted; the other side's offer follows if there is one.
    Joined {
        /// The pair's mailbox.
        topic: Topic,
    },
    /// The other side's offer, when joining and whenever it changes.
    Offer {
        /// The pair's mailbox.
        topic: Topic,
        /// For [`crate::Pair::open`]; at most [`crate::MAX_SEALED`] bytes.
        sealed: Vec<u8>,
    },
    /// The probe that was asked for is on its way.
    Probed {
        /// Of the [`ClientMessage::Verify`].
        id: u64,
    },
    /// Something was not done.
    Refused {
        /// What was not done.
        about: About,
        /// Why.
        reason: Reason,
        /// The same for people: at most [`MAX_DETAIL`] characters, none of them a control character.
        detail: String,
        /// When asking again may help; whole milliseconds, at most 49 days.
        retry_after: Option<Duration>,
    },
    /// The answer to a [`ClientMessage::Ping`].
    Pong {
        /// Of the ping.
        id: u64,
    },
    /// A place on the relay.
    Allocated {
        /// The pair's mailbox.
        topic: Topic,
        /// The place.
        allocation: Allocation,
    },
    /// The other side has asked for a place on the relay: it takes both to use it.
    RelayCalled {
        /// The pair's mailbox.
        topic: Topic,
    },
    /// A kind of a later version: to be ignored.
    Unknown,
}

/// A pair's place on the relay, as one side is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// To bind with ([`crate::stun::relay`], [`crate::relay`]).
    pub credential: Credential,
    /// Where the relay is. An unspecified IP stands for the host that the daemon is connected to. At most
    /// [`MAX_RELAYS`]; never an address that UDP cannot be sent to.
    pub relays: Vec<IpAddr>,
    /// The relay's UDP ports at each of these addresses; the client binds to one that it does not use for another
    /// pair.
    pub ports: RangeInclusive<u16>,
    /// How long it is kept without any packet; whole seconds.
    pub lifetime: Duration,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum About {
    /// The join of a topic.
    Join(Topic),
    /// An offer to a topic.
    Publish(Topic),
    /// The verification with this id.
    Verify(u64),
    /// The connection as a whole, which the server may close.
    Connection,
    /// A place on the relay.
    Allocate(Topic),
}

/// Why the server did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A reason of a later version.
    Other = 0,
    /// Too often; `retry_after` says when.
    RateLimited = 1,
    /// The topic was not joined, or the token does not belong to it.
    NotMember = 2,
    /// The address has not been shown to be this connection's.
    NotYours = 3,
    /// Longer than the server takes.
    TooLarge = 4,
    /// The server has no room left.
    Full = 5,
    /// A kind of message that this server does not know, or has turned off.
    Unsupported = 6,
    /// Not to be understood.
    Malformed = 7,
    /// The server's access list does not have the token, or there was none.
    Denied = 8,
}

/// Why a frame is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is too long: at most {MAX_FRAME}")]
    TooLarge(usize),
    /// Not the encoding of any message.
    #[error("the frame is not a {SUBPROTOCOL} message: {0}")]
    Malformed(String),
    /// A field with a value that it cannot have.
    #[error("{message}.{field} {problem}")]
    Field {
        /// The kind of message.
        message: &'static str,
        /// Its field.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
}

impl ClientMessage {
    /// The join of a pair's topic.
    pub fn join(pair: &crate::Pair) -> Self {
        Self::Join {
            topic: pair.topic(),
            side: pair.side(),
            token: pair.token().clone(),
            other_commitment: pair.other_commitment(),
        }
    }

    /// The message as one binary frame.
    pub fn encode(&self) -> Vec<u8> {
        client::encode(self)
    }

    /// The message of one binary frame.
    ///
    /// # Errors
    /// [`FrameError`] names what is wrong; a kind that is not known is not an error.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        client::decode(bounded(frame)?)
    }
}

impl ServerMessage {
    /// The message as one binary frame. Of more than [`MAX_STUN`] addresses or [`MAX_DETAIL`] characters the
    /// rest is left out.
    pub fn encode(&self) -> Vec<u8> {
        server::encode(self)
    }

    /// The message of one binary frame.
    ///
    /// # Errors
    /// [`FrameError`] names what is wrong; a kind that is not known is not an error.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        server::decode(bounded(frame)?)
    }
}

impl Reason {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::RateLimited,
            2 => Self::NotMember,
            3 => Self::NotYours,
            4 => Self::TooLarge,
            5 => Self::Full,
            6 => Self::Unsupported,
            7 => Self::Malformed,
            8 => Self::Denied,
            _ => Self::Other,
        }
    }
}

fn bounded(frame: &[u8]) -> Result<&[u8], FrameError> {
    if frame.len() > MAX_FRAME { Err(FrameError::TooLarge(frame.len())) } else { Ok(frame) }
}

/// Reads the fields of one kind of message.
#[derive(Clone, Copy)]
struct Fields(&'static str);

impl Fields {
    fn wrong(self, field: &'static str, problem: &'static str) -> FrameError {
        FrameError::Field { message: self.0, field, problem }
    }

    fn topic(self, bytes: &[u8]) -> Result<Topic, FrameError> {
        self.bytes32("topic", bytes).map(Topic::from_bytes)
    }

    fn bytes32(self, field: &'static str, bytes: &[u8]) -> Result<[u8; 32], FrameError> {
        bytes.try_into().map_err(|_| self.wrong(field, "must have 32 bytes"))
    }

    fn bytes16(self, field: &'static str, bytes: &[u8]) -> Result<[u8; 16], FrameError> {
        bytes.try_into().map_err(|_| self.wrong(field, "must have 16 bytes"))
    }

    fn sealed(self, bytes: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        if bytes.len() > crate::MAX_SEALED {
            Err(self.wrong("sealed", "is longer than any sealed offer"))
        } else {
            Ok(bytes)
        }
    }
}

/// `message Address { bytes ip = 1; uint32 port = 2; }`, the IP of 4 or 16 bytes in network order.
#[derive(Clone, PartialEq, prost::Message)]
struct AddressFields {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    port: u32,
}

impl From<SocketAddr> for AddressFields {
    fn from(addr: SocketAddr) -> Self {
        Self { ip: ip_bytes(addr.ip()), port: u32::from(addr.port()) }
    }
}

impl AddressFields {
    fn parse(&self) -> Option<SocketAddr> {
        socket_addr(&self.ip, self.port)
    }
}
