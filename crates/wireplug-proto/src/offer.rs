//! The offer as numbered fields: later versions add fields, older ones skip them.
//!
//! ```text
//! message Offer     { fixed64 instance = 1; uint32 generation = 2; uint32 revision = 3; uint32 mapping = 4;
//!                     repeated Candidate candidates = 5; bool doubts = 6; }
//! message Candidate { bytes ip = 1; uint32 port = 2; string strategy = 3;
//!                     optional uint32 tier = 4; optional uint32 reach = 5; }
//! ```
//!
//! `ip` has 4 or 16 bytes in network order. Tier, reach and mapping are the numbers of the core's types. A
//! candidate that this version cannot use (an unknown tier, a loopback address) is skipped, the rest is kept.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;
use wireplug_core::{Endpoint, MAX_CANDIDATES, Mapping, Offer, OfferVersion, Reach, RemoteCandidate, Tier};

/// The longest encoding of an offer in bytes: 9 + 6 + 6 + 2 + 2 of its own fields, and for each candidate 2 of
/// framing, 18 of an IPv6 address, 4 of the port, 34 of the longest strategy name, 2 of tier and 2 of reach.
pub(crate) const MAX_ENCODED: usize = 25 + MAX_CANDIDATES * 62;

pub(crate) fn encode(offer: &Offer) -> Vec<u8> {
    OfferFields {
        instance: offer.version.instance,
        generation: offer.version.generation,
        revision: offer.version.revision,
        mapping: u32::from(offer.mapping as u8),
        candidates: offer.candidates.iter().take(MAX_CANDIDATES).map(CandidateFields::from).collect(),
        doubts: offer.doubts,
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
        doubts: fields.doubts,
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
    #[prost(bool, tag = "6")]
    doubts: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CandidateFields {
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
    pub(crate) fn parse(self) -> Option<RemoteCandidate> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(endpoint: &str) -> CandidateFields {
        let addr: SocketAddr = endpoint.parse().unwrap();
        CandidateFields {
            ip: ip_bytes(addr.ip()),
            port: u32::from(addr.port()),
            strategy: "direct".to_owned(),
            tier: Some(1),
            reach: Some(0),
        }
    }

    fn decoded(candidates: Vec<CandidateFields>) -> Vec<String> {
        let bytes = OfferFields { candidates, ..OfferFields::default() }.encode_to_vec();
        decode(&bytes).unwrap().candidates.iter().map(|c| c.endpoint.to_string()).collect()
    }

    #[test]
    fn more_candidates_than_allowed_are_cut() {
        assert_eq!(decoded(vec![fields("203.0.113.7:9"); 17]).len(), MAX_CANDIDATES);
        assert_eq!(decoded(vec![CandidateFields::default(); 1000]).len(), 0);
    }

    #[test]
    fn what_cannot_be_used_is_skipped_and_the_rest_is_kept() {
        let good = fields("203.0.113.7:9");
        let mut candidates: Vec<_> =
            ["127.0.0.1:9", "[::1]:9", "0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9", "203.0.113.7:0"]
                .map(fields)
                .into();
        candidates.extend([
            CandidateFields { tier: Some(6), ..good.clone() },
            CandidateFields { tier: Some(257), ..good.clone() },
            CandidateFields { tier: None, ..good.clone() },
            CandidateFields { reach: Some(2), ..good.clone() },
            CandidateFields { reach: None, ..good.clone() },
            CandidateFields { port: 65536 + 9, ..good.clone() },
            CandidateFields { ip: vec![1, 2, 3], ..good.clone() },
            CandidateFields { ip: vec![1; 17], ..good.clone() },
            CandidateFields { strategy: "Not A Name".to_owned(), ..good.clone() },
            CandidateFields { strategy: "x".repeat(33), ..good.clone() },
            good,
        ]);
        assert_eq!(decoded(candidates), ["203.0.113.7:9"]);
    }

    #[test]
    fn a_mapped_loopback_is_no_way_around() {
        assert_eq!(decoded(vec![fields("[::ffff:127.0.0.1]:9")]), [""; 0]);
        assert_eq!(decoded(vec![fields("[::ffff:203.0.113.7]:9")]), ["203.0.113.7:9"]);
    }

    #[test]
    fn a_doubt_is_one_field_and_none_is_none() {
        let with = |doubts| OfferFields { doubts, ..OfferFields::default() }.encode_to_vec();
        assert_eq!((with(false), with(true)), (vec![], vec![0x30, 1]));
        assert!(decode(&with(true)).unwrap().doubts && !decode(&with(false)).unwrap().doubts);
    }

    #[test]
    fn fields_and_mappings_of_later_versions_are_skipped() {
        let mut bytes = OfferFields { mapping: 900, revision: 5, ..OfferFields::default() }.encode_to_vec();
        bytes.extend([0xfa, 0x01, 2, 7, 7]); // field 31, two bytes
        let offer = decode(&bytes).unwrap();
        assert_eq!((offer.mapping, offer.version.revision), (Mapping::Unknown, 5));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        // Field 5 of 4 GiB, of 2^63 bytes, and one that ends early.
        for bytes in [
            &[0x2a, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x2a, 3, 0x0a],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_an_offer_within_bounds_or_an_error(bytes: Vec<u8>) {
            if let Ok(offer) = decode(&bytes) {
                proptest::prop_assert!(offer.candidates.len() <= MAX_CANDIDATES);
            }
        }
    }
}
