//! Binding between daemon and server, and the server's probe.

#![allow(clippy::unwrap_used, reason = "in a test, to fail is to panic")]

mod support;

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use support::*;
use wireplug_core::TransactionId;
use wireplug_proto::stun::binding::{
    BindingError, BindingRequest, BindingResponse, Change, REQUEST_LEN, Received, parse_response, receive,
    request,
};
use wireplug_proto::stun::probe::{PROBE_LEN, parse_probe, probe};
use wireplug_proto::stun::{Incoming, MAGIC_COOKIE, classify};

const REQUEST: &str = "
000100502112a442a0a1a2a3a4a5a6a7a8a9aaab0003000400000006e0d1001077777777777777777777777777777777e0d3
0028000000000000000000000000000000000000000000000000000000000000000000000000000000008028000413fb36dd";
const RESPONSE: &str = "
010100382112a442a0a1a2a3a4a5a6a7a8a9aaab002000140002eb7e0b12a442a0a1a2a3a4a5a6a7a8a9aaac802b00080001
0d96c6336401802c000800010d97c633640280280004dd1216d1";
const PROBE: &str =
    "0011001c2112a442a0a1a2a3a4a5a6a7a8a9aaabe0d20010888888888888888888888888888888888028000447080bb6";

const CHANGES: [Change; 4] = [Change::None, Change::Port, Change::Address, Change::AddressAndPort];

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A request with these attributes and nothing else.
fn with_attributes(attributes: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1];
    message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    message.extend(MAGIC_COOKIE);
    message.extend(transaction().as_bytes());
    message.extend(attributes);
    message
}

fn received(payload: &[u8]) -> BindingRequest {
    match receive(payload) {
        Received::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn golden_bytes() {
    let sent = request(transaction(), Some(&[0x77; 16]), Change::AddressAndPort);
    assert_eq!(hex(&sent), hex(&bytes(REQUEST)));
    let request = received(&bytes(REQUEST));
    assert_eq!(request.transaction, transaction());
    assert_eq!(request.token, Some([0x77; 16]));
    assert_eq!(request.change, Change::AddressAndPort);
    let (mapped, origin, other) =
        (addr("[2a00::7]:51820"), addr("198.51.100.1:3478"), addr("198.51.100.2:3479"));
    assert_eq!(hex(&request.response(mapped, Some(origin), Some(other))), hex(&bytes(RESPONSE)));
    assert_eq!(
        parse_response(&bytes(RESPONSE)),
        Ok(BindingResponse {
            transaction: transaction(),
            mapped,
            other_address: Some(other),
            response_origin: Some(origin),
        })
    );
    assert_eq!(hex(&probe(transaction(), &[0x88; 16])), PROBE);
    assert_eq!(parse_probe(&bytes(PROBE)), Some([0x88; 16]));
    assert_eq!(PROBE_LEN, bytes(PROBE).len());
}

#[test]
fn requests_have_one_length_and_their_longest_answer_fits() {
    for token in [None, Some(&[1; 16])] {
        for change in CHANGES {
            let sent = request(transaction(), token, change);
            assert_eq!(sent.len(), REQUEST_LEN);
            let request = received(&sent);
            assert_eq!((request.token, request.change), (token.copied(), change));
            let v6 = addr("[2a00::7]:51820");
            let answer = request.response(v6, Some(v6), Some(v6));
            assert_eq!(answer.len(), REQUEST_LEN);
            let answer = parse_response(&answer).unwrap();
            assert_eq!((answer.other_address, answer.response_origin), (Some(v6), Some(v6)));
        }
    }
}

/// Other clients of RFC 5780 begin with one, and look for the server's other address in the answer.
#[test]
fn a_bare_request_gets_its_address_and_the_servers_other_one() {
    let request = received(&with_attributes(&[]));
    assert_eq!((request.token, request.change), (None, Change::None));
    let v4 = ("203.0.113.7:51820", "198.51.100.1:3478", "198.51.100.2:3479");
    let v6 = ("[2a00::7]:51820", "[2a00::1]:3478", "[2a00::2]:3479");
    for ((mapped, origin, other), [alone, both]) in [(v4, [32, 44]), (v6, [44, 68])] {
        for (other, length) in [(None, alone), (Some(addr(other)), both)] {
            let answer = request.response(addr(mapped), Some(addr(origin)), other);
            assert_eq!(answer.len(), length);
            let answer = parse_response(&answer).unwrap();
            assert_eq!((answer.mapped, answer.other_address), (addr(mapped), other));
            assert_eq!(answer.response_origin, None);
        }
    }
}

#[test]
fn answers_never_exceed_a_request_that_has_room_for_both_addresses() {
    for filler in (8..120).step_by(4) {
        let mut attribute = vec![0xe0, 0xd3, 0, filler];
        attribute.resize(4 + usize::from(filler), 0);
        let sent = with_attributes(&attribute);
        for ip in ["203.0.113.7:51820", "[2a00::7]:51820"] {
            let answer = received(&sent).response(addr(ip), Some(addr(ip)), Some(addr(ip)));
            let least = if addr(ip).is_ipv4() { 44 } else { 68 };
            assert!(answer.len() <= sent.len().max(least), "{} for {}", answer.len(), sent.len());
            assert_eq!(parse_response(&answer).unwrap().mapped, addr(ip));
        }
    }
}

#[test]
fn what_must_be_understood_and_is_not_is_refused_by_name() {
    // RESPONSE-PORT and PADDING (RFC 5780), and room for the refusal.
    let sent = with_attributes(&[0x00, 0x27, 0, 4, 0, 1, 0, 0, 0x00, 0x26, 0, 4, 0, 0, 0, 0]);
    let Received::Refuse(answer) = receive(&sent) else { panic!("a refusal") };
    assert!(answer.len() <= sent.len());
    assert_eq!(parse_response(&answer), Err(BindingError::Refused { transaction: transaction(), code: 420 }));
    assert_eq!(answer[28..36], [0x00, 0x0a, 0, 4, 0x00, 0x27, 0x00, 0x26]);
    // Without room for it: nothing, rather than more than was sent.
    assert_eq!(receive(&with_attributes(&[0x00, 0x27, 0, 4, 0, 1, 0, 0])), Received::Ignore);
}

#[test]
fn no_refusal_is_longer_than_its_request() {
    for count in 0..250_u16 {
        let attributes: Vec<u8> = (0..count).flat_map(|i| [0x7f, u8::try_from(i).unwrap(), 0, 0]).collect();
        let sent = with_attributes(&attributes);
        match receive(&sent) {
            Received::Refuse(answer) => assert!(answer.len() <= sent.len(), "{count}"),
            Received::Request(_) => assert_eq!(count, 0),
            Received::Ignore => assert!(count < 4, "{count}"),
        }
    }
}

#[test]
fn optional_attributes_of_others_are_passed_over() {
    let software = [0x80, 0x22, 0, 4, b't', b'e', b's', b't'];
    assert_eq!(received(&with_attributes(&software)).change, Change::None);
}

#[test]
fn a_server_without_another_address_says_so() {
    let request = received(&request(transaction(), None, Change::AddressAndPort));
    let refusal = request.refuse_change().unwrap();
    assert!(refusal.len() <= REQUEST_LEN);
    assert_eq!(
        parse_response(&refusal),
        Err(BindingError::Refused { transaction: transaction(), code: 420 })
    );
    assert_eq!(refusal[28..34], [0x00, 0x0a, 0, 2, 0x00, 0x03]);
}

#[test]
fn the_server_answers_requests_only() {
    for other in [RESPONSE, PROBE] {
        assert_eq!(receive(&bytes(other)), Received::Ignore);
    }
    assert_eq!(receive(b""), Received::Ignore);
    let mut allocate = with_attributes(&[]);
    allocate[1] = 3; // TURN's Allocate
    assert_eq!(receive(&allocate), Received::Ignore);
    // A CHANGE-REQUEST of the wrong length.
    assert_eq!(receive(&with_attributes(&[0x00, 0x03, 0, 2, 0, 0, 0, 0])), Received::Ignore);
}

#[test]
fn a_response_without_an_address_or_with_secrets_of_its_own_is_none() {
    let mut empty = with_attributes(&[]);
    empty[0] = 1;
    assert_eq!(parse_response(&empty), Err(BindingError::NotAResponse));
    let mut required = with_attributes(&[0, 0x20, 0, 8, 0, 1, 0, 1, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
    required[0] = 1;
    assert_eq!(parse_response(&required), Err(BindingError::NotAResponse));
}

#[test]
fn classify_tells_probes_and_answers() {
    assert_eq!(classify(&bytes(PROBE)), Incoming::Probe { nonce: [0x88; 16] });
    assert_eq!(classify(&bytes(RESPONSE)), Incoming::Response { transaction: transaction() });
    assert_eq!(classify(&bytes(REQUEST)), Incoming::Other, "a server's request has no USERNAME");
}

#[test]
fn an_altered_probe_is_none() {
    for changed in mutations(&bytes(PROBE)) {
        assert_eq!(parse_probe(&changed), None);
    }
    let bare = &bytes(PROBE)[..40];
    let mut bare = bare.to_vec();
    bare[3] -= 8;
    assert_eq!(parse_probe(&bare), None, "without its fingerprint");
}

proptest! {
    #[test]
    fn requests_and_probes_round_trip(id: [u8; 12], token: Option<[u8; 16]>, change in 0..4usize, nonce: [u8; 16]) {
        let transaction = TransactionId::from_bytes(id);
        let change = CHANGES[change];
        let request = received(&request(transaction, token.as_ref(), change));
        prop_assert_eq!((request.transaction, request.token, request.change), (transaction, token, change));
        prop_assert_eq!(parse_probe(&probe(transaction, &nonce)), Some(nonce));
    }

    #[test]
    fn no_bytes_panic_and_no_answer_multiplies(attributes in vec(any::<u32>(), 0..40), class in 0..4usize) {
        let attributes: Vec<u8> = attributes.into_iter().flat_map(u32::to_be_bytes).collect();
        let mut message = with_attributes(&attributes);
        message[..2].copy_from_slice(&[[0, 1], [0, 0x11], [1, 1], [1, 0x11]][class]);
        let _ = parse_response(&message);
        let _ = parse_probe(&message);
        match receive(&message) {
            Received::Refuse(answer) => prop_assert!(answer.len() <= message.len()),
            Received::Request(request) => {
                let seen = Some(addr("[2a00::7]:51820"));
                prop_assert!(request.response(addr("[2a00::7]:51820"), seen, seen).len() <= message.len().max(68));
            }
            Received::Ignore => {}
        }
    }

    #[test]
    fn no_mutation_panics(at in 0..48usize, value: u8) {
        for golden in [REQUEST, RESPONSE, PROBE] {
            let mut changed = bytes(golden);
            changed[at] = value;
            let _ = (receive(&changed), parse_response(&changed), parse_probe(&changed), classify(&changed));
        }
    }
}
