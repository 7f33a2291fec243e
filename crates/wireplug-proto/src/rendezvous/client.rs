//! The client's messages as numbered fields.
//!
//! ```text
//! message Client  { oneof kind { Join join = 1; Leave leave = 2; Publish publish = 3; Verify verify = 4; Ping ping = 5;
//!                   Allocate allocate = 6; Release release = 7; } }
//! message Join    { bytes topic = 1; uint32 side = 2; bytes token = 3; bytes other_commitment = 4; }
//! message Leave   { bytes topic = 1; }
//! message Publish { bytes topic = 1; bytes sealed = 2; }
//! message Verify  { uint64 id = 1; Address endpoint = 2; bytes nonce = 3; }
//! message Ping    { uint64 id = 1; }
//! message Allocate { bytes topic = 1; string access = 2; }
//! message Release { bytes topic = 1; }
//! ```

use prost::Message as _;
use wireplug_core::Endpoint;
use zeroize::Zeroize as _;

use super::{AccessToken, AddressFields, ClientMessage, Fields, FrameError};
use crate::pair::{Commitment, JoinToken, Side};

pub(super) fn encode(message: &ClientMessage) -> Vec<u8> {
    let kind = match message {
        ClientMessage::Join { topic, side, token, other_commitment } => Some(Kind::Join(Join {
            topic: topic.as_bytes().to_vec(),
            side: u32::from(*side as u8),
            token: token.expose().to_vec(),
            other_commitment: other_commitment.as_bytes().to_vec(),
        })),
        ClientMessage::Leave { topic } => Some(Kind::Leave(Leave { topic: topic.as_bytes().to_vec() })),
        ClientMessage::Publish { topic, sealed } => {
            Some(Kind::Publish(Publish { topic: topic.as_bytes().to_vec(), sealed: sealed.clone() }))
        }
        ClientMessage::Verify { id, endpoint, nonce } => Some(Kind::Verify(Verify {
            id: *id,
            endpoint: Some(endpoint.addr().into()),
            nonce: nonce.to_vec(),
        })),
        ClientMessage::Ping { id } => Some(Kind::Ping(Ping { id: *id })),
        ClientMessage::Allocate { topic, access } => Some(Kind::Allocate(Allocate {
            topic: topic.as_bytes().to_vec(),
            access: access.as_ref().map(|access| access.expose().to_owned()).unwrap_or_default(),
        })),
        ClientMessage::Release { topic } => Some(Kind::Release(Release { topic: topic.as_bytes().to_vec() })),
        ClientMessage::Unknown => None,
    };
    Client { kind }.encode_to_vec()
}

pub(super) fn decode(frame: &[u8]) -> Result<ClientMessage, FrameError> {
    let client = Client::decode(frame).map_err(|error| FrameError::Malformed(error.to_string()))?;
    match client.kind {
        Some(Kind::Join(join)) => join.parse(),
        Some(Kind::Leave(leave)) => Ok(ClientMessage::Leave { topic: Fields("Leave").topic(&leave.topic)? }),
        Some(Kind::Publish(publish)) => {
            let fields = Fields("Publish");
            Ok(ClientMessage::Publish {
                topic: fields.topic(&publish.topic)?,
                sealed: fields.sealed(publish.sealed)?,
            })
        }
        Some(Kind::Verify(verify)) => verify.parse(),
        Some(Kind::Ping(ping)) => Ok(ClientMessage::Ping { id: ping.id }),
        Some(Kind::Allocate(mut allocate)) => allocate.parse(),
        Some(Kind::Release(release)) => {
            Ok(ClientMessage::Release { topic: Fields("Release").topic(&release.topic)? })
        }
        None => Ok(ClientMessage::Unknown),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Client {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Join(Join),
    #[prost(message, tag = "2")]
    Leave(Leave),
    #[prost(message, tag = "3")]
    Publish(Publish),
    #[prost(message, tag = "4")]
    Verify(Verify),
    #[prost(message, tag = "5")]
    Ping(Ping),
    #[prost(message, tag = "6")]
    Allocate(Allocate),
    #[prost(message, tag = "7")]
    Release(Release),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Join {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(uint32, tag = "2")]
    side: u32,
    #[prost(bytes = "vec", tag = "3")]
    token: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    other_commitment: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Leave {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Publish {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Verify {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    endpoint: Option<AddressFields>,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ping {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Allocate {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(string, tag = "2")]
    access: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Release {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
}

impl Allocate {
    fn parse(&mut self) -> Result<ClientMessage, FrameError> {
        let fields = Fields("Allocate");
        let topic = fields.topic(&self.topic)?;
        if self.access.is_empty() {
            return Ok(ClientMessage::Allocate { topic, access: None });
        }
        let access = AccessToken::new(std::mem::take(&mut self.access));
        let access = access.map_err(|_| fields.wrong("access", "must have 1 to 128 visible characters"))?;
        Ok(ClientMessage::Allocate { topic, access: Some(access) })
    }
}

impl Drop for Allocate {
    fn drop(&mut self) {
        self.access.zeroize();
    }
}

impl Join {
    fn parse(&self) -> Result<ClientMessage, FrameError> {
        let fields = Fields("Join");
        Ok(ClientMessage::Join {
            topic: fields.topic(&self.topic)?,
            side: u8::try_from(self.side)
                .ok()
                .and_then(Side::from_number)
                .ok_or_else(|| fields.wrong("side", "must be 0 or 1"))?,
            token: JoinToken::from_bytes(fields.bytes32("token", &self.token)?),
            other_commitment: Commitment::from_bytes(
                fields.bytes32("other_commitment", &self.other_commitment)?,
            ),
        })
    }
}

impl Drop for Join {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl Verify {
    fn parse(&self) -> Result<ClientMessage, FrameError> {
        let fields = Fields("Verify");
        let addr = self.endpoint.as_ref().and_then(AddressFields::parse);
        Ok(ClientMessage::Verify {
            id: self.id,
            endpoint: addr
                .and_then(|addr| Endpoint::new(addr).ok())
                .ok_or_else(|| fields.wrong("endpoint", "must be a unicast address with a port"))?,
            nonce: fields.bytes16("nonce", &self.nonce)?,
        })
    }
}
