//! The offer as numbered fields: later versions add fields, older ones skip them.
//!
//! ```text
//! message Offer     { fixed64 instance = 1; uint32 generation = 2; uint32 revision = 3; uint32 mapping = 4;
//!                     repeated Candidate candidates = 5; }
//! message Candidate { bytes ip = 1; uint32 port = 2; string strategy = 3;
//!                     optional uint32 tier = 4; optional uint32 reach = 5; }
//! ```
//!
//! `ip` has 4 or 16 bytes in network order. Tier, reach and mapping are the numbers of the core's types. A
//! candidate that this version cannot use (an unknown tier, a loopback address) is skipped, the rest is kept.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;
use wireplug_core::{Endpoint, MAX_CANDIDATES, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, Tier};

/// The longest encoding of an offer in bytes: 9 + 6 + 6 + 2 of its own fields, and for each candidate 2 of
/// framing, 18 of an IPv6 address, 4 of the port, 34 of the longest strategy name, 2 of tier and 2 of reach.
pub(crate) const MAX_ENCODED: usize = 23 + MAX_CANDIDATES * 62;

pub(crate) fn encode(offer: &Offer) -> Vec<u8> {
    OfferFields {
        instance: offer.version.instance,
        generation: offer.version.generation,
        revision: offer.version.revision,
        mapping: u32::from(offer.mapping as u8),
        candidates: offer.candidates.iter().take(MAX_CANDIDATES).map(CandidateFields::from).collect(),
    }
    .encode_to_vec()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Offer, prost::DecodeError> {
    let fields = OfferFields::decode(bytes)?;
    Ok(Offer {
        version: OfferVersion {
            instance: fields.instance,
            generation: fields.generation,
            revision: fields.revision,
        },
        candidates: fields
            .candidates
            .into_iter()
            .filter_map(CandidateFields::parse)
            .take(MAX_CANDIDATES)
            .collect(),
        mapping: u8::try_from(fields.mapping).map_or(Mapping::Unknown, Mapping::from_number),
    })
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfferFields {
    #[prost(fixed64, tag = "1")]
    instance: u64,
    #[prost(uint32, tag = "2")]
    generation: u32,
    #[prost(uint32, tag = "3")]
    revision: u32,
    #[prost(uint32, tag = "4")]
    mapping: u32,
    #[prost(message, repeated, tag = "5")]
    candidates: Vec<CandidateFields>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CandidateFields {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, tag = "3")]
    strategy: String,
    #[prost(uint32, optional, tag = "4")]
    tier: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    reach: Option<u32>,
}

impl From<&RemoteCandidate> for CandidateFields {
    fn from(candidate: &RemoteCandidate) -> Self {
        Self {
            ip: ip_bytes(candidate.endpoint.ip()),
            port: u32::from(candidate.endpoint.port()),
            strategy: candidate.strategy.as_str().to_owned(),
            tier: Some(u32::from(candidate.tier as u8)),
            reach: Some(u32::from(candidate.reach as u8)),
        }
    }
}

impl CandidateFields {
    fn parse(self) -> Option<RemoteCandidate> {
        Some(RemoteCandidate {
            endpoint: Endpoint::new(socket_addr(&self.ip, self.port)?).ok()?,
            strategy: self.strategy.parse().ok()?,
            tier: Tier::from_number(u8::try_from(self.tier?).ok()?)?,
            reach: Reach::from_number(u8::try_from(self.reach?).ok()?)?,
        })
    }
}

/// An address as 4 or 16 bytes in network order.
pub(crate) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The reverse of [`ip_bytes`], with the port beside it.
pub(crate) fn socket_addr(ip: &[u8], port: u32) -> Option<SocketAddr> {
    let ip = <[u8; 4]>::try_from(ip)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(ip).map(IpAddr::from))
        .ok()?;
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}
