//! Checks between two daemons.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use support::*;
use wireplug_core::{Tier, TransactionId};
use wireplug_proto::stun::check::{CheckError, CheckRequest, CheckResponse};
use wireplug_proto::stun::{Incoming, MAGIC_COOKIE, MAGIC_COOKIE_OFFSET, MAX_MESSAGE, classify};

const REQUEST: &str = "
0001004c2112a442a0a1a2a3a4a5a6a7a8a9aaab0006001038393836333630383766396566363363002400045affffff0025
0000001c0020fa5691b89a974bcb697050d019784894a5254d1942a5c6025180b0534566b6c58028000438937b83";
const RESPONSE: &str = "
010100382112a442a0a1a2a3a4a5a6a7a8a9aaab002000080001eb7eea12d545001c0020ebae372dec3a7ac877c6330adec3
49bb0700e039684c69bf85a70dc7300e806f8028000406f258de";

fn seen() -> SocketAddr {
    "203.0.113.7:51820".parse().unwrap()
}

/// The high side's answer to the low side; the golden one is the low side's.
fn response() -> Vec<u8> {
    high().check_response(transaction(), seen())
}

#[test]
fn golden_bytes() {
    assert_eq!(hex(&low().check_request(transaction(), Tier::Punched, true)), hex(&bytes(REQUEST)));
    assert_eq!(hex(&low().check_response(transaction(), seen())), hex(&bytes(RESPONSE)));
    assert_eq!(
        high().open_check_request(&bytes(REQUEST)),
        Ok(CheckRequest { transaction: transaction(), tier: Tier::Punched, nominate: true })
    );
    assert_eq!(
        high().open_check_response(&bytes(RESPONSE)),
        Ok(CheckResponse { transaction: transaction(), mapped: seen() })
    );
}

#[test]
fn the_cookie_is_where_the_filter_looks() {
    for message in [bytes(REQUEST), bytes(RESPONSE)] {
        assert_eq!(message[MAGIC_COOKIE_OFFSET..][..4], MAGIC_COOKIE);
    }
}

#[test]
fn requests_carry_tier_and_nomination() {
    for tier in Tier::ALL {
        for nominate in [false, true] {
            let request = low().check_request(transaction(), tier, nominate);
            let opened = high().open_check_request(&request);
            assert_eq!(opened, Ok(CheckRequest { transaction: transaction(), tier, nominate }));
        }
    }
}

#[test]
fn classify_finds_the_pair_without_a_key() {
    let tag = high().tag_in();
    let request = low().check_request(transaction(), Tier::Direct, false);
    assert_eq!(classify(&request), Incoming::CheckRequest { transaction: transaction(), tag });
    assert_eq!(classify(&response()), Incoming::Response { transaction: transaction() });
}

#[test]
fn a_username_of_another_form_is_not_ours() {
    let genuine = low().check_request(transaction(), Tier::Direct, false);
    for digit in [b'A', b'g', b'/', b':', b'`', 0x00, 0xff] {
        let mut other = genuine[..84].to_vec(); // without the fingerprint
        other[3] -= 8;
        assert!(matches!(classify(&other), Incoming::CheckRequest { .. }));
        other[39] = digit;
        assert_eq!(classify(&other), Incoming::Other, "{digit:#04x}");
    }
}

#[test]
fn a_reflected_request_names_nobody_and_is_refused() {
    let low = low();
    let request = low.check_request(transaction(), Tier::Direct, false);
    let Incoming::CheckRequest { tag, .. } = classify(&request) else { panic!("a check") };
    assert_ne!(tag, low.tag_in());
    assert_eq!(low.open_check_request(&request), Err(CheckError::WrongTag));
}

#[test]
fn a_request_is_no_response() {
    let request = low().check_request(transaction(), Tier::Direct, false);
    assert_eq!(high().open_check_response(&request), Err(CheckError::NotACheck));
    assert_eq!(low().open_check_request(&response()), Err(CheckError::NotACheck));
}

#[test]
fn another_pairs_messages_are_refused() {
    let request = stranger().check_request(transaction(), Tier::Direct, false);
    assert_eq!(high().open_check_request(&request), Err(CheckError::WrongTag));
    let response = stranger().check_response(transaction(), seen());
    assert_eq!(high().open_check_response(&response), Err(CheckError::Forged));
}

#[test]
fn the_right_tag_alone_is_not_enough() {
    // The tag is seen on the wire: a stranger puts it into its own request, with a right fingerprint.
    let mut forged = stranger().check_request(transaction(), Tier::Direct, false);
    let genuine = low().check_request(transaction(), Tier::Direct, false);
    forged[24..40].copy_from_slice(&genuine[24..40]);
    let end = forged.len() - 4;
    let crc = stun_types::attribute::Fingerprint::compute(&[&forged[..end - 4]]);
    for (at, mask) in b"STUN".iter().enumerate() {
        forged[end + at] = crc[at] ^ mask;
    }
    assert!(matches!(classify(&forged), Incoming::CheckRequest { tag, .. } if tag == high().tag_in()));
    assert_eq!(high().open_check_request(&forged), Err(CheckError::Forged));
}

#[test]
fn every_byte_is_authenticated() {
    let (low, high) = (low(), high());
    let request = low.check_request(transaction(), Tier::Direct, true);
    for changed in mutations(&request) {
        assert!(high.open_check_request(&changed).is_err(), "{}", hex(&changed));
    }
    for changed in mutations(&response()) {
        assert!(low.open_check_response(&changed).is_err(), "{}", hex(&changed));
    }
}

#[test]
fn every_other_length_is_refused() {
    let request = low().check_request(transaction(), Tier::Direct, true);
    for shorter in 0..request.len() {
        assert_eq!(classify(&request[..shorter]), Incoming::Other);
    }
    let mut longer = request;
    longer.extend([0x80, 0x22, 0, 0]); // an empty SOFTWARE after the end
    assert_eq!(classify(&longer), Incoming::Other);
    longer[3] += 4; // and inside the message, after the fingerprint
    assert_eq!(classify(&longer), Incoming::Other);
    longer.resize(MAX_MESSAGE + 4, 0);
    assert_eq!(classify(&longer), Incoming::Other);
}

/// A request of the low side without its integrity (offset 56, 36 bytes) and fingerprint (8 bytes).
fn stripped(integrity: &[u8]) -> Vec<u8> {
    let mut request = low().check_request(transaction(), Tier::Direct, false);
    assert_eq!(request.len(), 92);
    request.truncate(48);
    request.extend_from_slice(integrity);
    request[3] = u8::try_from(request.len() - 20 + 8).unwrap();
    let crc = stun_types::attribute::Fingerprint::compute(&[&request]);
    request.extend([0x80, 0x28, 0, 4]);
    request.extend(crc.iter().zip(b"STUN").map(|(crc, mask)| crc ^ mask));
    request
}

#[test]
fn missing_weaker_and_shortened_integrity_are_refused() {
    let high = high();
    let genuine = low().check_request(transaction(), Tier::Direct, false);
    assert_eq!(genuine[48..52], [0x00, 0x1c, 0, 32]);
    assert_eq!(stripped(&genuine[48..84]), genuine, "the helper is right");
    assert_eq!(high.open_check_request(&stripped(&[])), Err(CheckError::NotACheck));
    let mut sha1 = vec![0x00, 0x08, 0, 20];
    sha1.extend([0; 20]);
    assert_eq!(high.open_check_request(&stripped(&sha1)), Err(CheckError::NotACheck));
    let mut short = vec![0x00, 0x1c, 0, 16];
    short.extend(&genuine[52..68]);
    assert_eq!(high.open_check_request(&stripped(&short)), Err(CheckError::NotACheck));
}

#[test]
fn what_is_inserted_after_the_integrity_is_refused() {
    let genuine = low().check_request(transaction(), Tier::Direct, false);
    let mut inserted = genuine[48..84].to_vec();
    inserted.extend([0x00, 0x25, 0, 0]); // USE-CANDIDATE, not covered by the MAC
    assert_eq!(high().open_check_request(&stripped(&inserted)), Err(CheckError::NotACheck));
}

#[test]
fn answers_are_no_longer_than_requests() {
    let request = low().check_request(transaction(), Tier::Direct, false).len();
    for seen in ["203.0.113.7:51820", "[2a00::7]:51820"] {
        assert!(high().check_response(transaction(), seen.parse().unwrap()).len() <= request);
    }
}

#[test]
fn a_mapped_source_is_answered_as_ipv4() {
    let response = high().check_response(transaction(), "[::ffff:203.0.113.7]:51820".parse().unwrap());
    assert_eq!(low().open_check_response(&response).unwrap().mapped, seen());
}

proptest! {
    #[test]
    fn responses_round_trip(id: [u8; 12], ip: std::net::Ipv6Addr, v4: std::net::Ipv4Addr, port: u16) {
        let transaction = TransactionId::from_bytes(id);
        for ip in [ip.to_canonical(), v4.into()] {
            let mapped = SocketAddr::new(ip, port);
            let response = high().check_response(transaction, mapped);
            prop_assert_eq!(low().open_check_response(&response), Ok(CheckResponse { transaction, mapped }));
        }
    }

    #[test]
    fn no_bytes_panic(junk in vec(any::<u8>(), 0..200), kind in 0..4usize) {
        let _ = classify(&junk);
        // The same with a sound header before it.
        let mut message = vec![[0, 0, 1, 1][kind], [1, 0x11, 1, 0x11][kind]];
        message.extend(u16::try_from(junk.len()).unwrap().to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([7; 12]);
        message.extend(junk);
        let _ = classify(&message);
        prop_assert!(high().open_check_request(&message).is_err());
        prop_assert!(high().open_check_response(&message).is_err());
    }

    #[test]
    fn no_mutation_panics(at in 0..92usize, value: u8, at2 in 0..92usize, value2: u8) {
        let genuine = low().check_request(transaction(), Tier::Direct, false);
        let mut changed = genuine.clone();
        changed[at] = value;
        changed[at2] = value2;
        let _ = classify(&changed);
        prop_assert_eq!(high().open_check_request(&changed).is_ok(), changed == genuine);
    }
}
