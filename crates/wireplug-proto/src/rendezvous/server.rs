//! The server's messages as numbered fields.
//!
//! ```text
//! message Server  { oneof kind { Hello hello = 1; Joined joined = 2; Offer offer = 3; Probed probed = 4;
//!                                Refused refused = 5; Pong pong = 6; Allocated allocated = 7;
//!                                RelayCalled relay_called = 8; } }
//! message Hello   { bytes token = 1; repeated Address stun = 2; uint32 offer_ttl_seconds = 3; }
//! message Joined  { bytes topic = 1; }
//! message Offer   { bytes topic = 1; bytes sealed = 2; }
//! message Probed  { uint64 id = 1; }
//! message Refused { oneof about { bytes join = 1; bytes publish = 2; uint64 verify = 3; Empty connection = 4;
//!                                 bytes allocate = 5; }
//!                   uint32 reason = 8; string detail = 9; optional uint32 retry_after_milliseconds = 10; }
//! message Pong    { uint64 id = 1; }
//! message Allocated { bytes topic = 1; bytes id = 2; bytes key = 3; repeated bytes relays = 4; uint32 first_port = 5;
//!                     uint32 last_port = 6; uint32 lifetime_seconds = 7; }
//! message RelayCalled { bytes topic = 1; }
//! ```
//!
//! Times have 32 bits, so no server can name one that overflows a clock.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use prost::Message as _;
use wireplug_core::Endpoint;
use zeroize::Zeroize as _;

use super::{
    About, AddressFields, Allocation, Fields, FrameError, MAX_DETAIL, MAX_RELAYS, MAX_STUN, Reason,
    ServerMessage,
};
use crate::offer::ip_bytes;
use crate::pair::Topic;
use crate::relay::{Credential, CredentialId, CredentialKey};

pub(super) fn encode(message: &ServerMessage) -> Vec<u8> {
    let kind = match message {
        ServerMessage::Hello { token, stun, offer_ttl } => Some(Kind::Hello(Hello {
            token: token.to_vec(),
            stun: stun.iter().take(MAX_STUN).map(|addr| (*addr).into()).collect(),
            offer_ttl_seconds: u32::try_from(offer_ttl.as_secs()).unwrap_or(u32::MAX),
        })),
        ServerMessage::Joined { topic } => Some(Kind::Joined(Joined { topic: topic.as_bytes().to_vec() })),
        ServerMessage::Offer { topic, sealed } => {
            Some(Kind::Offer(Offer { topic: topic.as_bytes().to_vec(), sealed: sealed.clone() }))
        }
        ServerMessage::Probed { id } => Some(Kind::Probed(Id { id: *id })),
        ServerMessage::Refused { about, reason, detail, retry_after } => Some(Kind::Refused(Refused {
            about: Some(about.into()),
            reason: u32::from(*reason as u8),
            detail: printable(detail),
            retry_after_milliseconds: retry_after
                .map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
        })),
        ServerMessage::Pong { id } => Some(Kind::Pong(Id { id: *id })),
        ServerMessage::Allocated { topic, allocation } => {
            Some(Kind::Allocated(Allocated::new(topic, allocation)))
        }
        ServerMessage::RelayCalled { topic } => {
            Some(Kind::RelayCalled(RelayCalled { topic: topic.as_bytes().to_vec() }))
        }
        ServerMessage::Unknown => None,
    };
    Server { kind }.encode_to_vec()
}

pub(super) fn decode(frame: &[u8]) -> Result<ServerMessage, FrameError> {
    let server = Server::decode(frame).map_err(|error| FrameError::Malformed(error.to_string()))?;
    match server.kind {
        Some(Kind::Hello(hello)) => Ok(ServerMessage::Hello {
            token: Fields("Hello").bytes16("token", &hello.token)?,
            stun: hello.stun.iter().filter_map(stun_addr).take(MAX_STUN).collect(),
            offer_ttl: Duration::from_secs(u64::from(hello.offer_ttl_seconds)),
        }),
        Some(Kind::Joined(joined)) => {
            Ok(ServerMessage::Joined { topic: Fields("Joined").topic(&joined.topic)? })
        }
        Some(Kind::Offer(offer)) => {
            let fields = Fields("Offer");
            Ok(ServerMessage::Offer {
                topic: fields.topic(&offer.topic)?,
                sealed: fields.sealed(offer.sealed)?,
            })
        }
        Some(Kind::Probed(probed)) => Ok(ServerMessage::Probed { id: probed.id }),
        Some(Kind::Refused(refused)) => refused.parse(),
        Some(Kind::Pong(pong)) => Ok(ServerMessage::Pong { id: pong.id }),
        Some(Kind::Allocated(allocated)) => allocated.parse(),
        Some(Kind::RelayCalled(called)) => {
            Ok(ServerMessage::RelayCalled { topic: Fields("RelayCalled").topic(&called.topic)? })
        }
        None => Ok(ServerMessage::Unknown),
    }
}

/// An address to send STUN to: what nobody can send to is left out, an unspecified IP is kept.
fn stun_addr(fields: &AddressFields) -> Option<SocketAddr> {
    let addr = fields.parse()?;
    let usable = if addr.ip().is_unspecified() { addr.port() != 0 } else { Endpoint::new(addr).is_ok() };
    usable.then_some(addr)
}

/// What is safe to print and to log.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect()
}

#[derive(Clone, PartialEq, prost::Message)]
struct Server {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Joined(Joined),
    #[prost(message, tag = "3")]
    Offer(Offer),
    #[prost(message, tag = "4")]
    Probed(Id),
    #[prost(message, tag = "5")]
    Refused(Refused),
    #[prost(message, tag = "6")]
    Pong(Id),
    #[prost(message, tag = "7")]
    Allocated(Allocated),
    #[prost(message, tag = "8")]
    RelayCalled(RelayCalled),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Hello {
    #[prost(bytes = "vec", tag = "1")]
    token: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    stun: Vec<AddressFields>,
    #[prost(uint32, tag = "3")]
    offer_ttl_seconds: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Joined {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Offer {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Allocated {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    relays: Vec<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    first_port: u32,
    #[prost(uint32, tag = "6")]
    last_port: u32,
    #[prost(uint32, tag = "7")]
    lifetime_seconds: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RelayCalled {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
}

impl Allocated {
    fn new(topic: &Topic, allocation: &Allocation) -> Self {
        Self {
            topic: topic.as_bytes().to_vec(),
            id: allocation.credential.id.as_bytes().to_vec(),
            key: allocation.credential.key.expose().to_vec(),
            relays: allocation.relays.iter().take(MAX_RELAYS).map(|ip| ip_bytes(*ip)).collect(),
            first_port: u32::from(*allocation.ports.start()),
            last_port: u32::from(*allocation.ports.end()),
            lifetime_seconds: u32::try_from(allocation.lifetime.as_secs()).unwrap_or(u32::MAX),
        }
    }

    fn parse(&self) -> Result<ServerMessage, FrameError> {
        let fields = Fields("Allocated");
        let port = |number: u32| u16::try_from(number).ok().filter(|port| *port != 0);
        let ports = port(self.first_port).zip(port(self.last_port)).filter(|(first, last)| first <= last);
        let (first, last) = ports.ok_or_else(|| fields.wrong("first_port", "must be 1 to last_port"))?;
        Ok(ServerMessage::Allocated {
            topic: fields.topic(&self.topic)?,
            allocation: Allocation {
                credential: Credential {
                    id: CredentialId::from_bytes(fields.bytes16("id", &self.id)?),
                    key: CredentialKey::from_bytes(fields.bytes32("key", &self.key)?),
                },
                relays: self
                    .relays
                    .iter()
                    .filter_map(|bytes| relay_ip(bytes, first))
                    .take(MAX_RELAYS)
                    .collect(),
                ports: first..=last,
                lifetime: Duration::from_secs(u64::from(self.lifetime_seconds)),
            },
        })
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// An address to relay through: what nobody can send to is left out, an unspecified IP is kept.
fn relay_ip(bytes: &[u8], port: u16) -> Option<IpAddr> {
    stun_addr(&AddressFields { ip: bytes.to_vec(), port: port.into() }).map(|addr| addr.ip())
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refused {
    #[prost(oneof = "AboutFields", tags = "1, 2, 3, 4, 5")]
    about: Option<AboutFields>,
    #[prost(uint32, tag = "8")]
    reason: u32,
    #[prost(string, tag = "9")]
    detail: String,
    #[prost(uint32, optional, tag = "10")]
    retry_after_milliseconds: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AboutFields {
    #[prost(bytes, tag = "1")]
    Join(Vec<u8>),
    #[prost(bytes, tag = "2")]
    Publish(Vec<u8>),
    #[prost(uint64, tag = "3")]
    Verify(u64),
    #[prost(message, tag = "4")]
    Connection(Empty),
    #[prost(bytes, tag = "5")]
    Allocate(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

impl Refused {
    fn parse(&self) -> Result<ServerMessage, FrameError> {
        let fields = Fields("Refused");
        let about = match &self.about {
            Some(AboutFields::Join(topic)) => About::Join(fields.topic(topic)?),
            Some(AboutFields::Publish(topic)) => About::Publish(fields.topic(topic)?),
            Some(AboutFields::Verify(id)) => About::Verify(*id),
            Some(AboutFields::Connection(Empty {})) => About::Connection,
            Some(AboutFields::Allocate(topic)) => About::Allocate(fields.topic(topic)?),
            None => return Ok(ServerMessage::Unknown),
        };
        Ok(ServerMessage::Refused {
            about,
            reason: Reason::from_number(self.reason),
            detail: printable(&self.detail),
            retry_after: self.retry_after_milliseconds.map(|after| Duration::from_millis(u64::from(after))),
        })
    }
}

impl From<&About> for AboutFields {
    fn from(about: &About) -> Self {
        match about {
            About::Join(topic) => Self::Join(topic.as_bytes().to_vec()),
            About::Publish(topic) => Self::Publish(topic.as_bytes().to_vec()),
            About::Verify(id) => Self::Verify(*id),
            About::Connection => Self::Connection(Empty {}),
            About::Allocate(topic) => Self::Allocate(topic.as_bytes().to_vec()),
        }
    }
}
