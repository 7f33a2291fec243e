//! What routers and neighbours say in datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wireplug_core::PublicKey;
use wireplug_lan_mdns::Name;
use wireplug_nat_pmp::fuzzing as nat_pmp;
use wireplug_pcp::fuzzing as pcp;

/// The longest words of an error, in bytes: they are shown and logged.
const MAX_WORDS: usize = 200;

pub(crate) fn nat_pmp(data: &[u8]) {
    // The same again, from the tables of RFC 6886 sections 3.2 and 3.3.
    let long = |at: usize| u32::from_be_bytes(std::array::from_fn(|n| data[at + n]));
    let short = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let good = match data {
        [0, 0x80, 0, 0, ..] if data.len() >= 12 => {
            Some(nat_pmp::Said::Outside(long(4), Ipv4Addr::from_bits(long(8))))
        }
        [0, 0x81, 0, 0, ..] if data.len() >= 16 => {
            Some(nat_pmp::Said::Mapped(long(4), short(8), short(10), u64::from(long(12))))
        }
        _ => None,
    };
    match nat_pmp::answer(data) {
        Some(nat_pmp::Said::Refused | nat_pmp::Said::Tcp) | None => assert_eq!(good, None),
        said => assert_eq!(said, good),
    }
    if let Some(epoch) = nat_pmp::announced(data) {
        assert_eq!(nat_pmp::answer(data), Some(nat_pmp::Said::Outside(epoch, Ipv4Addr::from_bits(long(8)))));
    }
}

pub(crate) fn pcp(data: &[u8]) {
    if let Some((epoch, lifetime, said)) = pcp::response(data) {
        assert!(data.len() <= 1100, "RFC 6887 section 7");
        match said {
            pcp::Said::NatPmp => assert_eq!(data[0], 0),
            pcp::Said::Announce => assert_eq!((data[0], data[1], data[3]), (2, 0x80, 0)),
            pcp::Said::Error(opcode, words, of) => {
                assert!(data[1] == opcode | 0x80 && data[3] != 0 && words.len() <= MAX_WORDS);
                assert!(of.is_none_or(|(nonce, _)| data[24..36] == nonce));
            }
            pcp::Said::Mapped(nonce, port, outer) => {
                // Asked for again, and the request made a response: the same.
                let client = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                let mut again = pcp::request(client, lifetime, nonce, port, outer);
                again[1] |= 0x80;
                again[8..12].copy_from_slice(&epoch.to_be_bytes());
                assert_eq!(pcp::response(&again), pcp::response(data));
                assert_eq!(again[36..60], [&[17, 0, 0, 0], &data[40..60]].concat()[..]);
            }
        }
    }
    // No request is a response.
    if let Some((nonce, rest)) = data.split_first_chunk() {
        let outer: SocketAddr = crate::stun::socket_addr(rest);
        assert_eq!(pcp::response(&pcp::request(outer.ip(), 7200, *nonce, outer.port(), outer)), None);
    }
}

pub(crate) fn mdns_name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.to_string(), text.to_lowercase());
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    if let Some((key, rest)) = data.split_first_chunk::<32>()
        && let Some(nonce) = rest.first_chunk()
    {
        let name = Name::new(&PublicKey::from_bytes(*key), *nonce);
        assert!(name.is_of(&PublicKey::from_bytes(*key)) && name.to_string().parse() == Ok(name));
    }
}
